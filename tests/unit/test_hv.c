/* SPDX-License-Identifier: BSD-2-Clause */
/* ROOMS: lib mm rt hv host fake_arch */
/*
 * The hypervisor room against the model of the host: discovery, hypercalls, SynIC, time, timers, TLB, crash report,
 * and the memory that the host sees.
 */
#include "hv/dma.h"
#include "hv/hv_internal.h"
#include "hv/shmem.h"
#include "tests/fake_arch/hv_host.h"
#include "tests/host/host_internal.h"
#include "tests/unit/test.h"

#define RAM_BYTES (128ull << 20)

static struct host_config cfg;

static void boot(void)
{
    fake_arch_boot(RAM_BYTES);
    host_config_default(&cfg);
}

static struct host *start(void)
{
    struct host *h = hv_host_start(&cfg);
    KASSERT(hv_init());
    hv_clock_init();
    return h;
}

static uint64_t msr(uint32_t reg)
{
    uint64_t v = 0;
    KASSERT(host_rdmsr(hv_host.host, 0, reg, &v));
    return v;
}

/* ---- discovery ---- */

TEST(hv_absent)
{
    fake_arch_boot(RAM_BYTES);
    CHECK(!hv_init());
    CHECK(!hv_present() && !hv_can_vmbus());
    CHECK(fake_log_contains("no Hyper-V underneath"));
    hv_clock_init();                                   /* time works without */
    CHECK(strcmp(rt_clock_name(), "CPU counter") == 0);
    uint64_t t = rt_now_100ns();
    task_sleep_us(5000);
    uint64_t slept = rt_now_100ns() - t;
    CHECK(slept >= 50000 && slept < 51000);
    CHECK_EQ(hv_synic_init(), -E_NOTSUP);
    hv_tlb_init();
    hv_crash_init();
    hv_shutdown();
}

TEST(hv_introduces_itself)
{
    boot();
    struct host *h = start();
    struct host_state state;
    host_get_state(h, &state);
    CHECK_EQ(state.guest_os_id >> 63, 1);              /* open source, and nobody else's number */
    CHECK_EQ((state.guest_os_id >> 56) & 0x7F, 0);
    CHECK(hv_can_vmbus());
    CHECK(strncmp(hv_description(), "Hyper-V 10.0.20348", 18) == 0);
    CHECK_EQ(hv_vp_index(), 0);
    CHECK_EQ(hv_synic_init(), 0);
    hv_shutdown();
    CHECK_EQ(msr(HV_X64_MSR_GUEST_OS_ID), 0);
    CHECK_EQ(msr(HV_X64_MSR_HYPERCALL) & 1, 0);
    CHECK_EQ(msr(HV_X64_MSR_REFERENCE_TSC) & 1, 0);
    CHECK_EQ(msr(HV_X64_MSR_SCONTROL) & 1, 0);
    CHECK_EQ(msr(HV_X64_MSR_SIMP) & 1, 0);
    CHECK_EQ(msr(HV_X64_MSR_SIEFP) & 1, 0);
    CHECK(msr(HV_X64_MSR_SINT(2)) & HV_SINT_MASKED);
    CHECK_EQ(msr(HV_X64_MSR_STIMER0_COUNT), 0);
    CHECK(!hv_can_vmbus());
}

TEST(hv_without_hypercalls)
{
    boot();
    cfg.access &= ~HV_ACCESS_HYPERCALL;
    hv_host_start(&cfg);
    CHECK(hv_init());
    CHECK(!hv_can_vmbus());
    CHECK(fake_log_contains("grants no hypercalls"));
    hv_clock_init();
    CHECK_EQ(hv_synic_init(), -E_NOTSUP);
    hv_shutdown();
}

TEST(hv_register_writes_fault)
{
    /* Every register write fails once, at any point of bring-up: a line, never a crash. */
    for (uint64_t n = 1; n < 30; n++) {
        if (n == 1)
            boot();
        struct host *h = hv_host_start(&cfg);
        hv_host.violations_expected = true;
        host_set_fault(h, HOST_FAULT_REGISTER_WRITE, n, HOST_FAULT_ERROR);
        CHECK(hv_init());
        hv_clock_init();
        hv_synic_init();
        uint64_t t = rt_now_100ns();
        task_sleep_us(100);
        CHECK(rt_now_100ns() - t >= 1000);
        hv_shutdown();
        rt_set_clock(&fake_clock);
        hv_host_stop();
    }
}

/* ---- hypercalls ---- */

TEST(hv_registers_in_batches)
{
    enum { COUNT = 300 };
    uint32_t names[COUNT];
    struct hv_register_value values[COUNT];

    boot();
    struct host *h = start();
    for (unsigned i = 0; i < COUNT; i++)
        names[i] = i % 2 ? HV_REGISTER_VP_INDEX : HV_REGISTER_GUEST_OS_ID;
    uint64_t calls = hv_counters.hypercalls;
    CHECK_EQ(hv_get_vp_registers(HV_VP_INDEX_SELF, 0, names, values, COUNT), 0);
    CHECK_EQ(hv_counters.hypercalls - calls, (COUNT + 127) / 128);
    for (unsigned i = 0; i < COUNT; i++)
        CHECK_EQ(values[i].low, i % 2 ? 0 : hv_state.guest_os_id);
    (void)h;
    hv_shutdown();
}

/* The host stops after a few elements: the call is continued, by it or by us. */
TEST(hv_rep_continuation)
{
    uint32_t names[100];
    struct hv_register_value values[100];

    boot();
    cfg.rep_batch = 7;
    start();
    for (unsigned i = 0; i < 100; i++)
        names[i] = HV_REGISTER_GUEST_OS_ID;
    CHECK_EQ(hv_get_vp_registers(HV_VP_INDEX_SELF, 0, names, values, 100), 0);
    for (unsigned i = 0; i < 100; i++)
        CHECK_EQ(values[i].low, hv_state.guest_os_id);
    hv_shutdown();
}

static unsigned partial_calls, partial_step;
static uint16_t partial_status;
static bool partial(uint64_t control, uint64_t in UNUSED, uint64_t out UNUSED, uint64_t *result)
{
    unsigned start_at = hv_control_rep_start(control), count = hv_control_rep_count(control);
    if (hv_control_code(control) != HVCALL_MODIFY_HOST_VISIBILITY)
        return false;
    partial_calls++;
    unsigned reps = MIN(start_at + partial_step, count);
    *result = hv_result(reps == count ? HV_STATUS_SUCCESS : partial_status, (uint16_t)reps);
    return true;
}

TEST(hv_rep_partial_results)
{
    unsigned done;

    boot();
    start();
    hv_host.intercept = partial;
    partial_step = 10;
    partial_status = HV_STATUS_TIMEOUT;                /* continued by us */
    CHECK_EQ(hv_call_rep(HVCALL_MODIFY_HOST_VISIBILITY, 0, 95, false, &done), HV_STATUS_SUCCESS);
    CHECK_EQ(done, 95);
    CHECK_EQ(partial_calls, 10);
    partial_status = HV_STATUS_OPERATION_DENIED;       /* stopped: how far it came is known */
    CHECK_EQ(hv_call_rep(HVCALL_MODIFY_HOST_VISIBILITY, 0, 95, false, &done), HV_STATUS_OPERATION_DENIED);
    CHECK_EQ(done, 10);
    partial_step = 0;                                  /* no progress: no endless loop */
    partial_status = HV_STATUS_TIMEOUT;
    CHECK_EQ(hv_call_rep(HVCALL_MODIFY_HOST_VISIBILITY, 0, 95, false, &done), HV_STATUS_TIMEOUT);
    CHECK_EQ(done, 0);
    partial_status = HV_STATUS_SUCCESS;                /* success for nothing */
    CHECK_EQ(hv_call_rep(HVCALL_MODIFY_HOST_VISIBILITY, 0, 95, false, &done), HV_STATUS_OPERATION_FAILED);
    CHECK_EQ(done, 0);
    hv_host.intercept = NULL;
    hv_shutdown();
}

TEST(hv_registers_refused)
{
    static const uint32_t names[3] = {HV_REGISTER_GUEST_OS_ID, 0x00FFFFFF, HV_REGISTER_GUEST_OS_ID};
    struct hv_register_value values[3];
    uint8_t vtl = 9;

    boot();
    start();
    CHECK_EQ(hv_get_vp_registers(HV_VP_INDEX_SELF, 0, names, values, 3), -E_REFUSED);
    CHECK_EQ(hv_get_vp_registers(77, 0, names, values, 1), -E_REFUSED);
    CHECK_EQ(hv_current_vtl(&vtl), -E_NOTSUP);
    CHECK_EQ(vtl, 0);
    CHECK(strcmp(hv_status_name(0x12), "invalid connection id") == 0);
    CHECK(strcmp(hv_status_name(0x4444), "unknown status") == 0);
    hv_shutdown();
}

TEST(hv_current_vtl)
{
    uint8_t vtl = 9;

    boot();
    cfg.privileges |= HV_PRIV_ACCESS_VSM;
    start();
    CHECK_EQ(hv_current_vtl(&vtl), 0);
    CHECK_EQ(vtl, 0);
    hv_shutdown();
}

/* ---- time ---- */

/* The guest's clock and the host's agree, over a long time, and never go back. */
static void clock_agrees(const char *name, uint64_t tolerance)
{
    uint64_t last = 0;

    CHECK(strcmp(rt_clock_name(), name) == 0);
    for (unsigned i = 0; i < 2000; i++) {
        uint64_t now = rt_now_100ns();
        CHECK(now >= last);
        uint64_t host = fake_now_100ns;
        CHECK(now <= host + tolerance && host <= now + tolerance);
        last = now;
        fake_now_100ns += i * 1000;
    }
}

TEST(hv_tsc_page)
{
    boot();
    struct host *h = start();
    uint64_t reads = hv_host.reg_reads;
    clock_agrees("reference TSC page", 2);
    CHECK_EQ(hv_host.reg_reads, reads);                /* no exit for a clock reading */
    for (unsigned i = 0; i < 100; i++) {
        host_tsc_changed(h);
        uint64_t now = rt_now_100ns();
        CHECK(now <= fake_now_100ns + 2 && fake_now_100ns <= now + 2);
    }
    hv_shutdown();
    uint64_t now = rt_now_100ns();                     /* still a clock, by the register */
    CHECK(now + 100 >= fake_now_100ns);
}

TEST(hv_tsc_page_invalid_at_times)
{
    boot();
    struct host *h = start();
    struct hv_reference_tsc_page *page = fake_phys(msr(HV_X64_MSR_REFERENCE_TSC) & HV_MSR_PAGE_GPA_MASK);
    for (unsigned i = 0; i < 10; i++) {
        uint32_t sequence = page->sequence;
        page->sequence = HV_REFERENCE_TSC_INVALID;
        uint64_t reads = hv_host.reg_reads, now = rt_now_100ns();
        CHECK_EQ(hv_host.reg_reads, reads + 1);
        CHECK(now <= fake_now_100ns + 2 && fake_now_100ns <= now + 2);
        page->sequence = sequence;
        fake_now_100ns += 12345;
        now = rt_now_100ns();
        CHECK_EQ(hv_host.reg_reads, reads + 1);
        CHECK(now <= fake_now_100ns + 2 && fake_now_100ns <= now + 2);
    }
    (void)h;
    hv_shutdown();
}

/* A page that counts by another of the CPU's counters than the one we read. */
static uint64_t other_counter(void *ctx) { return (void)ctx, fake_counter_advance() + (1ull << 40); }

TEST(hv_tsc_page_of_another_counter)
{
    boot();
    struct host *h = hv_host_start(&cfg);
    h->ops.guest_tsc = other_counter;
    KASSERT(hv_init());
    hv_clock_init();
    CHECK(fake_log_contains("not used"));
    CHECK_EQ(msr(HV_X64_MSR_REFERENCE_TSC) & 1, 0);
    clock_agrees("reference counter", 50);
    hv_shutdown();
}

TEST(hv_reference_counter)
{
    boot();
    cfg.access &= ~HV_ACCESS_REFERENCE_TSC;
    start();
    uint64_t reads = hv_host.reg_reads;
    clock_agrees("reference counter", 50);
    CHECK(hv_host.reg_reads - reads < 500);
    /* between corrections a reading costs no exit */
    reads = hv_host.reg_reads;
    for (unsigned i = 0; i < 1000; i++)
        rt_now_100ns();
    CHECK(hv_host.reg_reads - reads <= 1);
    hv_shutdown();
}

TEST(hv_reference_counter_without_frequency)
{
    boot();
    cfg.access &= ~(HV_ACCESS_REFERENCE_TSC | HV_ACCESS_FREQUENCY);
    start();
    /* measured roughly at first; the first second's correction makes it exact */
    fake_now_100ns += S_100NS(2);
    rt_now_100ns();
    clock_agrees("reference counter", 2000);
    hv_shutdown();
}

/* As after a restore or a move to another host. */
TEST(hv_reference_counter_while_the_cpu_counter_steps_back)
{
    static const uint64_t after_ms[] = {100, 499, 500, 600, 900, 999, 1000, 1001, 1100, 5000, 60000};

    boot();
    cfg.access &= ~HV_ACCESS_REFERENCE_TSC;
    start();
    fake_counter_offset = 1ull << 60;
    rt_now_100ns();
    for (unsigned i = 0; i < 2 * ARRAY_SIZE(after_ms); i++) {
        fake_now_100ns += MS_100NS(after_ms[i / 2]);
        if (i & 1)
            fake_now_100ns += S_100NS(2), rt_now_100ns();
        fake_counter_offset -= 1ull << (30 + i);
        clock_agrees("reference counter", 2000);
    }
    hv_shutdown();
}

TEST(hv_cpu_counter_steps_back)
{
    boot();
    config_parse("hv.tsc_page=0 hv.reference_counter=0");
    fake_counter_offset = 1ull << 60;
    start();
    for (unsigned i = 0; i < 10; i++) {
        fake_now_100ns += S_100NS(3);
        uint64_t t = rt_now_100ns();
        fake_counter_offset -= 1ull << (36 + i);
        uint64_t now = rt_now_100ns();
        CHECK(now >= t && now - t < MS_100NS(1));
        fake_now_100ns += S_100NS(1);
        now = rt_now_100ns();
        CHECK(now - t >= MS_100NS(999) && now - t < MS_100NS(1001));
    }
    hv_shutdown();
}

TEST(hv_clock_by_configuration)
{
    boot();
    config_parse("hv.tsc_page=0 hv.reference_counter=0");
    start();
    CHECK(strcmp(rt_clock_name(), "CPU counter") == 0);
    CHECK(strcmp(hv_timer_name(), "local") == 0);      /* stimers compare with reference time */
    uint64_t t = rt_now_100ns();
    task_sleep_us(700);
    CHECK(rt_now_100ns() - t >= 7000);
    hv_shutdown();
}

/* ---- timers ---- */

static void sleeps_are_right(const char *name)
{
    static const unsigned us[] = {1, 10, 100, 12345, 1000000, 240000000};

    CHECK(strcmp(hv_timer_name(), name) == 0);
    for (unsigned i = 0; i < ARRAY_SIZE(us); i++) {
        uint64_t t = fake_now_100ns;
        task_sleep_us(us[i]);
        uint64_t slept = fake_now_100ns - t;
        CHECK(slept >= US_100NS(us[i]));
        CHECK(slept <= US_100NS(us[i]) + 500);
    }
}

TEST(hv_timer_direct)
{
    boot();
    start();
    sleeps_are_right("synthetic, direct");
    CHECK(msr(HV_X64_MSR_STIMER0_CONFIG) & HV_STIMER_DIRECT);
    hv_shutdown();
}

TEST(hv_timer_by_message)
{
    boot();
    cfg.features &= ~HV_FEATURE_STIMER_DIRECT;
    struct host *h = start();
    sleeps_are_right("local");                         /* no SynIC yet */
    CHECK_EQ(hv_synic_init(), 0);
    sleeps_are_right("synthetic, by message");
    CHECK(host_counters(h)->timer_messages >= 6);
    hv_shutdown();
    sleeps_are_right("local");
}

/* A deadline that is pending when message mode begins moves over. */
static bool woken;
static void sleeper(void *arg UNUSED)
{
    task_sleep_us(3000);
    woken = true;
}

TEST(hv_timer_changes_while_armed)
{
    boot();
    cfg.features &= ~HV_FEATURE_STIMER_DIRECT;
    start();
    task_spawn("sleeper", sleeper, NULL, 0);
    task_sleep_us(10);
    CHECK_EQ(hv_synic_init(), 0);
    task_sleep_us(3100);
    CHECK(woken);
    hv_shutdown();
}

TEST(hv_timer_local)
{
    boot();
    cfg.access &= ~HV_ACCESS_STIMER;
    start();
    CHECK_EQ(hv_synic_init(), 0);
    sleeps_are_right("local");
    hv_shutdown();
}

TEST(hv_timer_is_lazy)
{
    boot();
    start();
    uint64_t now = rt_now_100ns(), writes = hv_host.reg_writes;
    hv_timer_arm(now + 1000);
    CHECK_EQ(hv_host.reg_writes, writes + 1);
    for (unsigned i = 0; i < 100; i++)
        hv_timer_arm(now + 1000 + i);                  /* later or equal: nothing to write */
    hv_timer_arm(RT_FOREVER);
    hv_timer_arm(now + 5000);
    CHECK_EQ(hv_host.reg_writes, writes + 1);
    hv_timer_arm(now + 500);
    CHECK_EQ(hv_host.reg_writes, writes + 2);
    hv_shutdown();
}

/* ---- SynIC ---- */

static unsigned got, wrong;
static void count_message(const struct hv_message *m)
{
    uint32_t n;
    memcpy(&n, m->payload, 4);
    wrong += m->message_type != HV_MESSAGE_VMBUS || m->payload_size != 100 || n != got;
    got++;
}

/* The host has many messages: one slot, the pending flag and EOM carry them all, in order. */
TEST(hv_messages_in_order)
{
    uint8_t payload[100] = {0};

    boot();
    struct host *h = start();
    CHECK_EQ(hv_synic_init(), 0);
    hv_set_message_handler(count_message);
    h->vmbus.target_vp = 0;
    for (uint32_t i = 0; i < 500; i++) {
        memcpy(payload, &i, 4);
        vserver_send(h, payload, sizeof(payload), false);
        if (i % 7 == 0)
            hv_host_run();
    }
    hv_host_run();
    task_sleep_us(10);
    CHECK_EQ(got, 500);
    CHECK_EQ(wrong, 0);
    CHECK(host_counters(h)->eoms > 0);
    CHECK_EQ(host_counters(h)->eoms_unneeded, 0);
    task_sleep_us(3000000);                            /* the audit finds a forgotten EOM */
    hv_shutdown();
}

TEST(hv_messages_polled)
{
    uint8_t payload[100] = {0};

    boot();
    struct host *h = start();
    CHECK_EQ(hv_synic_init(), 0);
    hv_set_message_handler(count_message);
    arch_irq_disable();
    for (uint32_t i = 0; i < 20; i++) {
        memcpy(payload, &i, 4);
        vserver_send(h, payload, sizeof(payload), false);
    }
    hv_host_run();
    CHECK_EQ(got, 0);
    hv_synic_poll();
    CHECK_EQ(got, 20);
    CHECK_EQ(wrong, 0);
    arch_irq_enable();
    hv_shutdown();
}

static unsigned flag_seen[HV_EVENT_FLAGS_COUNT];
static void flag_fn(void *arg) { flag_seen[(uintptr_t)arg]++; }

TEST(hv_event_flags)
{
    static const uint32_t flags[] = {1, 63, 64, 65, 1000, 2047};

    boot();
    struct host *h = start();
    CHECK_EQ(hv_synic_init(), 0);
    for (unsigned i = 0; i < ARRAY_SIZE(flags); i++)
        hv_set_event_handler(flags[i], flag_fn, (void *)(uintptr_t)flags[i]);
    for (unsigned i = 0; i < ARRAY_SIZE(flags); i++) {
        CHECK(vsynic_signal_event(h, 0, HV_SYNIC_SINT_VMBUS, flags[i]));
        CHECK(vsynic_signal_event(h, 0, HV_SYNIC_SINT_VMBUS, flags[i]));
    }
    vsynic_signal_event(h, 0, HV_SYNIC_SINT_VMBUS, 777);   /* nobody's */
    hv_host_run();
    for (unsigned i = 0; i < ARRAY_SIZE(flags); i++)
        CHECK_EQ(flag_seen[flags[i]], 1);
    hv_set_event_handler(64, NULL, NULL);
    vsynic_signal_event(h, 0, HV_SYNIC_SINT_VMBUS, 64);
    vsynic_signal_event(h, 0, HV_SYNIC_SINT_VMBUS, 65);
    hv_host_run();
    CHECK_EQ(flag_seen[64], 1);
    CHECK_EQ(flag_seen[65], 2);
    hv_shutdown();
}

TEST(hv_auto_eoi_where_it_is_wanted)
{
    boot();
    start();
    CHECK_EQ(hv_synic_init(), 0);
    CHECK_EQ(msr(HV_X64_MSR_SINT(2)), arch_irq_number(ARCH_IRQ_VMBUS));
    hv_shutdown();
    rt_set_clock(&fake_clock);
    hv_host_stop();
    cfg.recommendations &= ~HV_RECOMMEND_NO_AUTO_EOI;
    start();
    CHECK_EQ(hv_synic_init(), 0);
    CHECK_EQ(msr(HV_X64_MSR_SINT(2)), arch_irq_number(ARCH_IRQ_VMBUS) | HV_SINT_AUTO_EOI);
    hv_shutdown();
}

/* ---- crash ---- */

static void crash(void *arg UNUSED)
{
    panic("the sky is %s", "falling");
}

static void crash_and_look(void *arg)
{
    panic_set_end((void (*)(void))arg);
    crash(NULL);
}

static NORETURN void look_with_text(void)
{
    bool ok = hv_host.crashed && strstr(hv_host.crash_text, "the sky is falling") &&
              hv_host.crash_params[1] == hv_state.guest_os_id && hv_host.crash_params[0] >> 8 == 0x43414E44 &&
              hv_host.crash_params[4] == strlen(hv_host.crash_text);
    _Exit(ok ? 42 : 1);
}

TEST(hv_crash_with_text)
{
    boot();
    start();
    hv_crash_init();
    CHECK_EQ(fake_run_child(crash_and_look, (void *)look_with_text), 42);
}

static NORETURN void look_without_crash(void)
{
    _Exit(hv_host.crashed ? 1 : 42);
}

TEST(hv_crash_not_wanted)
{
    boot();
    cfg.features &= ~HV_FEATURE_CRASH_MSRS;
    start();
    hv_crash_init();
    CHECK(fake_log_contains("takes no crash reports"));
    CHECK_EQ(fake_run_child(crash_and_look, (void *)look_without_crash), 42);
    CHECK_EQ(hv_host.violations, 0);
}

/* ---- TLB ---- */

TEST(hv_tlb_by_hypercall)
{
    boot();
    cfg.vps = 3;
    cfg.recommendations |= HV_RECOMMEND_REMOTE_FLUSH;
    start();
    hv_tlb_init();
    void *p = vmap_pages((paddr_t[]){pa(0x200000)}, 1, MAP_READ | MAP_WRITE);
    vunmap_pages(p, 1);
    CHECK_EQ(hv_host.flushes, 0);                      /* alone: the CPU's own instruction does it */
    hv_vp_online(2);
    p = vmap_pages((paddr_t[]){pa(0x200000)}, 1, MAP_READ | MAP_WRITE);
    vunmap_pages(p, 1);
    CHECK(hv_host.flushes >= 1);
    CHECK_EQ(hv_host.flush_vps[0], 5);
    hv_shutdown();
}

TEST(hv_tlb_many_pages_and_many_vps)
{
    boot();
    cfg.vps = 200;
    cfg.recommendations |= HV_RECOMMEND_REMOTE_FLUSH | HV_RECOMMEND_EX_PROCESSOR_MASKS;
    cfg.rep_batch = 3;
    start();
    hv_vp_online(1);
    hv_vp_online(70);
    hv_vp_online(199);
    hv_tlb_init();
    vaddr_t at = vmap_reserve(64 << 20, PAGE_BYTES);
    CHECK_EQ(map_range(&kernel_space, at, pa(0), 64 << 20, MAP_READ), 0);
    unmap_range(&kernel_space, at, 64 << 20);
    CHECK(hv_host.flushes >= 1);
    CHECK(hv_host.flushed_pages >= 16384);
    CHECK_EQ(hv_host.flush_vps[0], 3);
    CHECK_EQ(hv_host.flush_vps[1], 1ull << 6);
    CHECK_EQ(hv_host.flush_vps[3], 1ull << 7);
    CHECK(!fake_log_contains("flushing natively"));
    hv_shutdown();
}

static bool refuse_flush(uint64_t control, uint64_t in UNUSED, uint64_t out UNUSED, uint64_t *result)
{
    *result = HV_STATUS_ACCESS_DENIED;
    return hv_control_code(control) == HVCALL_FLUSH_ADDRESS_LIST;
}

TEST(hv_tlb_refused)
{
    boot();
    cfg.vps = 2;
    cfg.recommendations |= HV_RECOMMEND_REMOTE_FLUSH;
    start();
    hv_vp_online(1);
    hv_tlb_init();
    hv_host.intercept = refuse_flush;
    uint8_t *p = vmap_pages((paddr_t[]){pa(0x200000)}, 1, MAP_READ | MAP_WRITE);
    vunmap_pages(p, 1);
    CHECK(fake_log_contains("flushing natively"));
    hv_shutdown();
}

/* ---- shmem ---- */

TEST(hv_shmem_ring_layout)
{
    struct shmem s;

    boot();
    CHECK_EQ(shmem_alloc(&s, 9, SHMEM_RING, 4), 0);
    CHECK_EQ(s.first_pages, 5);
    uint8_t *a = s.virt, *b = s.virt_second;
    for (unsigned i = 1; i < 5; i++)
        a[i * 4096 + 5] = (uint8_t)i;
    for (unsigned i = 1; i < 5; i++) {
        CHECK_EQ(a[(4 + i) * 4096 + 5], i);            /* 0,1,2,3,4,1,2,3,4 */
        CHECK_EQ(((uint8_t *)fake_phys(s.frames[i] << 12))[5], i);
    }
    for (unsigned i = 1; i < 4; i++)
        b[(3 + i) * 4096] = (uint8_t)(0x40 + i);
    for (unsigned i = 1; i < 4; i++) {
        CHECK_EQ(b[i * 4096], 0x40 + i);
        CHECK_EQ(((uint8_t *)fake_phys(s.frames[5 + i] << 12))[0], 0x40 + i);
    }
    for (unsigned i = 0; i < 4096; i++)
        CHECK(a[i] == 0 && b[i] == 0);
    shmem_free(&s);
    CHECK(s.virt == NULL);
    shmem_free(&s);                                    /* twice is harmless */
    CHECK_EQ(shmem_stats.pages_shared, 0);
}

TEST(hv_shmem_linear_zeroed)
{
    struct shmem s;

    boot();
    for (unsigned round = 0; round < 2; round++) {
        CHECK_EQ(shmem_alloc(&s, 700, SHMEM_LINEAR, 0), 0);
        for (size_t i = 0; i < 700 * 4096; i++)
            CHECK(((uint8_t *)s.virt)[i] == 0);
        memset(s.virt, 0xAA, 700 * 4096);
        shmem_free(&s);
    }
}

TEST(hv_shmem_fails_cleanly)
{
    struct mm_stats s0, s1;
    struct shmem s;

    boot();
    CHECK_EQ(shmem_alloc(&s, 40, SHMEM_RING, 20), 0);
    shmem_free(&s);
    mm_get_stats(&s0);
    for (uint64_t n = 1;; n++) {
        mm_fail_nth(n);
        int rc = shmem_alloc(&s, 40, SHMEM_RING, 20);
        mm_fail_nth(0);
        if (rc == 0) {
            CHECK(n > 3);
            break;
        }
        CHECK_EQ(rc, -E_NOMEM);
        CHECK(s.virt == NULL && s.list == NULL);
        mm_get_stats(&s1);
        CHECK_EQ(s1.heap_bytes, s0.heap_bytes);
        CHECK_EQ(s1.free_pages, s0.free_pages);
    }
    shmem_free(&s);
    mm_get_stats(&s1);
    CHECK_EQ(s1.free_pages, s0.free_pages);
}

TEST(hv_shmem_held_pages_are_leaked)
{
    struct mm_stats s0, s1;
    struct shmem s;

    boot();
    CHECK_EQ(shmem_alloc(&s, 10, SHMEM_LINEAR, 0), 0);
    shmem_free(&s);
    mm_get_stats(&s0);
    CHECK_EQ(shmem_alloc(&s, 10, SHMEM_LINEAR, 0), 0);
    shmem_hold(&s);
    shmem_free(&s);
    mm_get_stats(&s1);
    CHECK_EQ(s1.free_pages + 10, s0.free_pages);
    CHECK_EQ(s1.heap_bytes, s0.heap_bytes);
    CHECK_EQ(shmem_stats.pages_leaked, 10);
}

/* ---- DMA ---- */

TEST(hv_dma_direct_map)
{
    struct dma_mapping m;
    uint64_t frames[20];

    boot();
    paddr_t p = page_alloc(4);
    uint8_t *v = arch_phys_to_virt(p);
    struct dma_span one = {v + 100, 10000};
    CHECK_EQ(dma_map(&m, &one, 1, DMA_TO_DEVICE, frames, 20), 0);
    CHECK_EQ(m.offset, 100);
    CHECK_EQ(m.bytes, 10000);
    CHECK_EQ(m.frames, 3);
    for (unsigned i = 0; i < 3; i++)
        CHECK_EQ(frames[i], (p.v >> 12) + i);
    dma_unmap(&m, &one, 1, DMA_TO_DEVICE);
    CHECK_EQ(dma_map(&m, &one, 1, DMA_TO_DEVICE, frames, 2), -E_INVAL);
    struct dma_span spans[3] = {{v + 4096 - 512, 512}, {v + 8 * 4096, 8192}, {v + 4 * 4096, 100}};
    CHECK_EQ(dma_map(&m, spans, 3, DMA_FROM_DEVICE, frames, 20), 0);
    CHECK_EQ(m.offset, 4096 - 512);
    CHECK_EQ(m.bytes, 512 + 8192 + 100);
    CHECK_EQ(m.frames, 4);
    CHECK_EQ(frames[0], p.v >> 12);
    CHECK_EQ(frames[2], (p.v >> 12) + 9);
    CHECK_EQ(frames[3], (p.v >> 12) + 4);
    spans[1].bytes = 8000;                             /* does not end at a page boundary */
    CHECK_EQ(dma_map(&m, spans, 3, DMA_FROM_DEVICE, frames, 20), -E_INVAL);
    spans[1] = (struct dma_span){v + 8 * 4096 + 8, 8184};
    CHECK_EQ(dma_map(&m, spans, 3, DMA_FROM_DEVICE, frames, 20), -E_INVAL);
    spans[1].bytes = 0;
    CHECK_EQ(dma_map(&m, spans, 3, DMA_FROM_DEVICE, frames, 20), -E_INVAL);
    CHECK_EQ(dma_map(&m, spans, 0, DMA_FROM_DEVICE, frames, 20), -E_INVAL);
}

TEST(hv_dma_vmap)
{
    struct dma_mapping m;
    uint64_t frames[20];
    paddr_t pages[6];

    boot();
    for (unsigned i = 0; i < 6; i++)
        pages[5 - i] = page_alloc(0);
    uint8_t *v = vmap_pages(pages, 6, MAP_READ | MAP_WRITE);
    struct dma_span one = {v + 4000, 4 * 4096};
    CHECK_EQ(dma_map(&m, &one, 1, DMA_TO_DEVICE, frames, 20), 0);
    CHECK_EQ(m.frames, 5);
    for (unsigned i = 0; i < 5; i++)
        CHECK_EQ(frames[i], pages[i].v >> 12);
    struct dma_span beyond = {v + 5 * 4096, 8192};
    CHECK_EQ(dma_map(&m, &beyond, 1, DMA_TO_DEVICE, frames, 20), -E_INVAL);
    /* a large block is one extent */
    vaddr_t at = vmap_reserve(4 << 20, 2 << 20);
    CHECK_EQ(map_range(&kernel_space, at, pa(2 << 20), 4 << 20, MAP_READ | MAP_WRITE), 0);
    struct dma_span big = {va_ptr(va_add(at, (2 << 20) - 8192)), 4 * 4096};
    CHECK_EQ(dma_map(&m, &big, 1, DMA_TO_DEVICE, frames, 20), 0);
    CHECK_EQ(m.frames, 4);
    CHECK_EQ(frames[0], (4ull << 20 >> 12) - 2);
    CHECK_EQ(frames[3], (4ull << 20 >> 12) + 1);
}

TEST_MAIN()
