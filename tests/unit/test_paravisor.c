/* SPDX-License-Identifier: BSD-2-Clause */
/* ROOMS: lib mm rt hv arch/x86_64 (ghcb.c, tdx.c) fake_arch */
/*
 * hv/ in a machine that is isolated by the processor, with a paravisor between it and the host. Both are played here:
 * the paravisor serves ordinary registers and hypercalls, the host sees nothing but the GHCB page or the registers of a
 * TDVMCALL, and reads them by the offsets of the papers. Who was told what, in which order, is one line of text.
 */
#include "arch/x86_64/ghcb.h"
#include "arch/x86_64/tdx.h"
#include "hv/hv_internal.h"
#include "hv/isolation.h"
#include "hv/shmem.h"
#include "tests/fake_arch/fake_hv.h"
#include "tests/unit/child.h"

#define RAM_BYTES (64ull << 20)
#define BOUNDARY  (1ull << 38)
#define OS_ID     0x8043000000010000ull

static char tdx_too[1];                  /* argument of a test: not SNP */
static uint8_t page[4096] __attribute__((aligned(4096)));      /* the GHCB */
static struct ghcb ghcb;
static bool tdx;
static enum { HOST_GOOD, HOST_REFUSES, HOST_NO_OS_ID } host_mood;

static char story[4096];
static uint64_t host_registers[0x100], paravisor_registers[0x100], hypercall_register;
static uint64_t host_os_id, paravisor_os_id;
static paddr_t message_frame, event_frame;
static struct { uint64_t control, gpa; uint8_t input[256]; } posted, signalled;
static uint16_t host_status;
static unsigned pages_visible;

static void tell(const char *who, uint32_t reg, uint64_t value)
{
    size_t n = strlen(story);

    snprintf(story + n, sizeof(story) - n, "%s %x=%llx\n", who, reg, (unsigned long long)value);
}

/* ---- the host ---- */

static bool host_register(uint32_t reg, bool write, uint64_t *value)
{
    bool synic = reg >= 0x40000080 && reg <= 0x4000009F;

    if (host_mood == HOST_REFUSES || (host_mood == HOST_NO_OS_ID && !synic))
        return false;
    if (!synic && reg != HV_X64_MSR_GUEST_OS_ID)
        return false;                        /* nothing else may come to it */
    uint64_t *r = synic ? &host_registers[reg & 0xFF] : &host_os_id;
    if (write) {
        tell("host", reg, *value);
        *r = *value;
    } else {
        *value = *r;
    }
    return true;
}

static uint64_t host_call(uint64_t control, uint64_t gpa, const void *input)
{
    if ((control & 0xFFFF) == 0x5C) {
        posted.control = control;
        posted.gpa = gpa;
        memcpy(posted.input, input, 256);
    } else if ((control & 0xFFFF) == 0x5D) {
        signalled.control = control;
        memcpy(signalled.input, input, 8);
    } else {
        return 2;
    }
    return host_status;
}

static void host_at_exit(void)
{
    uint64_t value = 0, error = 1, which, a, d;
    uint32_t usage;

    memcpy(&usage, page + 0xFFC, 4);
    if (usage == 1) {
        memcpy(&value, page + 0xFF0, 8);
        value = host_call(value, 0, page);
        memcpy(page + 0xFF0, &value, 8);
        return;
    }
    memcpy(&value, page + 0x390, 8);
    memcpy(&which, page + 0x398, 8);
    if (usage == 0 && value == 0x7C) {
        uint64_t reg;
        memcpy(&reg, page + 0x308, 8);
        memcpy(&a, page + 0x1F8, 8);
        memcpy(&d, page + 0x310, 8);
        value = a | d << 32;
        error = !host_register((uint32_t)reg, which == 1, &value);
        a = (uint32_t)value, d = value >> 32;
        memcpy(page + 0x1F8, &a, 8);
        memcpy(page + 0x310, &d, 8);
    }
    memcpy(page + 0x398, &error, 8);
}

static uint64_t register_ghcb;
static uint64_t read_msr(void) { return register_ghcb; }
static void write_msr(uint64_t value) { register_ghcb = value; }
static void vmgexit(void)
{
    if (register_ghcb == 2)
        register_ghcb = host_mood == HOST_REFUSES ? 0x0009000300000001 : 0x0002000100000001;
    else if (register_ghcb == ghcb.msr)
        host_at_exit();
}
static const struct ghcb_machine machine = {read_msr, write_msr, vmgexit, NULL};

static bool tdcall(struct tdx_registers *r)
{
    uint64_t value = r->r13, signal = r->rdx;

    r->rax = 0;
    if (r->rcx == 0xFC00 && r->r10 == 0 && (r->r11 == 31 || r->r11 == 32)) {
        r->r10 = !host_register((uint32_t)r->r12, r->r11 == 32, &value);
        r->r11 = value;
    } else if (r->rcx == 0x0D04 && (r->r10 & 0xFFFF) == 0x5C) {
        r->r11 = host_call(r->r10, r->rdx, fake_phys(r->rdx));
    } else if (r->rcx == 0x0D04) {
        r->r11 = host_call(r->r10, 0, &signal);
    } else {
        r->rax = ~0ull;
    }
    return true;
}

/* ---- what arch/x86_64/isolation.c would do with it ---- */

static struct arch_isolation kind_seen;
static struct { void *memory; gpa_t gpa; } message_page;

static const char *isolation_init(const struct arch_isolation *kind, struct arch_isolation_rules *rules)
{
    kind_seen = *kind;
    rules->two_listeners = true;
    rules->message_page = tdx;
    ghcb = (struct ghcb){.machine = &machine, .page = page, .msr = BOUNDARY + 0x5000};
    register_ghcb = ghcb.msr;
    if (tdx || ghcb_negotiate(&ghcb))
        return NULL;
    *rules = (struct arch_isolation_rules){0};
    return "by a host that speaks no version of the GHCB protocol known here";
}

static void take_message_page(void *memory, gpa_t gpa)
{
    message_page.memory = memory;
    message_page.gpa = gpa;
}

static bool host_reg_read(uint32_t reg, uint64_t *value)
{
    return tdx ? tdx_msr_read(tdcall, reg, value) : ghcb_msr_read(&ghcb, reg, value);
}

static bool host_reg_write(uint32_t reg, uint64_t value)
{
    return tdx ? tdx_msr_write(tdcall, reg, value) : ghcb_msr_write(&ghcb, reg, value);
}

static uint64_t host_hypercall(uint64_t control, uint64_t in0, uint64_t in1)
{
    bool post = hv_control_code(control) == HVCALL_POST_MESSAGE;

    if (!tdx)
        return post ? ghcb_hypercall(&ghcb, control, fake_phys(in0), 256, (gpa_t){0})
                    : ghcb_hypercall(&ghcb, control, &in0, 8, (gpa_t){0});
    if (post) {
        KASSERT(message_page.memory);
        memcpy(message_page.memory, fake_phys(in0), 256);
        in0 = message_page.gpa.v;
    }
    return tdx_hypercall(tdcall, control, in0, in1);
}

/* ---- the paravisor ---- */

static bool discover(struct arch_hv_features *f)
{
    f->features[0] = HV_ACCESS_HYPERCALL | HV_ACCESS_SYNIC | HV_ACCESS_STIMER | HV_ACCESS_REFERENCE_COUNTER |
                     HV_ACCESS_REFERENCE_TSC;
    f->features[1] = HV_PRIV_ISOLATION;
    f->hints[0] = HV_RECOMMEND_NO_AUTO_EOI;
    f->isolation[0] = HV_ISOLATION_EAX_PARAVISOR;
    f->isolation[1] = (tdx ? HV_ISOLATION_TDX : HV_ISOLATION_SNP) | HV_ISOLATION_EBX_BOUNDARY_ACTIVE |
                      38u << HV_ISOLATION_EBX_BOUNDARY_SHIFT;
    return true;
}

static bool reg_read(uint32_t reg, uint64_t *value)
{
    if (reg == HV_X64_MSR_TIME_REF_COUNT)
        *value = fake_counter() / (FAKE_COUNTER_HZ / 10000000);
    else
        *value = reg == HV_X64_MSR_HYPERCALL ? hypercall_register : paravisor_registers[reg & 0xFF];
    return true;
}

static bool reg_write(uint32_t reg, uint64_t value)
{
    tell("paravisor", reg, value);
    if (reg == HV_X64_MSR_HYPERCALL)
        hypercall_register = value;
    else if (reg == HV_X64_MSR_GUEST_OS_ID)
        paravisor_os_id = value;
    else
        paravisor_registers[reg & 0xFF] = value;
    return true;
}

static uint64_t hypercall(uint64_t control, uint64_t in, uint64_t out UNUSED)
{
    const struct hv_modify_visibility *head = fake_phys(in);
    const uint64_t *list = (const uint64_t *)(const void *)(head + 1);
    unsigned count = hv_control_rep_count(control);

    if (hv_control_code(control) != HVCALL_MODIFY_HOST_VISIBILITY)
        return HV_STATUS_INVALID_HYPERCALL_CODE;
    for (unsigned i = hv_control_rep_start(control); i < count; i++) {
        fake_page_visible(list[i], head->visibility != 0);
        pages_visible += head->visibility ? 1u : -1u;
    }
    return hv_result(HV_STATUS_SUCCESS, (uint16_t)count);
}

static void boot(bool is_tdx)
{
    fake_arch_boot(RAM_BYTES);
    fake_pt_format.phys_bits = 40;
    tdx = is_tdx;
    fake_isolate(BOUNDARY);
    message_frame = page_alloc_zeroed(0);
    event_frame = page_alloc_zeroed(0);
    fake_page_visible(message_frame.v >> PAGE_SHIFT, true);
    fake_page_visible(event_frame.v >> PAGE_SHIFT, true);
    host_registers[0x83] = (BOUNDARY + message_frame.v) | 0x22;
    host_registers[0x82] = BOUNDARY + event_frame.v;
    host_registers[0x92] = 0x10000;
    fake_hv_ops = (struct fake_hv_ops){
        .discover = discover, .reg_read = reg_read, .reg_write = reg_write, .hypercall = hypercall,
        .isolation_init = isolation_init, .message_page = take_message_page, .host_reg_read = host_reg_read,
        .host_reg_write = host_reg_write, .host_hypercall = host_hypercall,
    };
}

/* ---- the tests, each for both kinds ---- */

static const struct hv_message *seen_message;
static struct hv_message message_copy;
static void take_message(const struct hv_message *m)
{
    message_copy = *m;
    seen_message = &message_copy;
}
static unsigned events;
static void take_event(void *arg UNUSED) { events++; }

static bool told_in_order(const char *const *lines, unsigned n)
{
    const char *at = story;

    for (unsigned i = 0; i < n; i++) {
        const char *found = strstr(at, lines[i]);
        if (!found) {
            printf("not told after the lines before it: %s\n%s", lines[i], story);
            return false;
        }
        at = found + strlen(lines[i]);
    }
    return true;
}

static void who_is_told(void *arg)
{
    char simp_on[40], siefp_on[40], simp_off[40], siefp_off[40], sint_host[40], sint_paravisor[40];
    char masked_host[40], masked_paravisor[40];
    unsigned vector = arch_irq_number(ARCH_IRQ_VMBUS);

    boot(arg != NULL);
    CHECK(hv_init());
    CHECK(hv_can_vmbus());
    CHECK_EQ(kind_seen.boundary, BOUNDARY);
    CHECK(kind_seen.paravisor && kind_seen.type == (tdx ? HV_ISOLATION_TDX : HV_ISOLATION_SNP));
    CHECK_EQ(paravisor_os_id >> 48, OS_ID >> 48);
    CHECK_EQ(host_os_id, paravisor_os_id);
    hv_clock_init();
    CHECK(fake_log_contains("time: reference counter; timer: local") ||
          fake_log_contains("time: reference counter, "));          /* no page of the host's tells the time */
    CHECK(!strstr(story, "40000021="));
    CHECK_EQ(hv_synic_init(), 0);
    CHECK(!strstr(story, "400000b0="));                              /* no timer that would send messages */
    hv_shutdown();
    CHECK_EQ(host_os_id | paravisor_os_id, 0);
    snprintf(simp_on, sizeof(simp_on), "host 40000083=%llx\n", (unsigned long long)(BOUNDARY + message_frame.v) | 0x23);
    snprintf(siefp_on, sizeof(siefp_on), "host 40000082=%llx\n", (unsigned long long)(BOUNDARY + event_frame.v) | 1);
    snprintf(sint_host, sizeof(sint_host), "host 40000092=%x\n", vector);
    snprintf(sint_paravisor, sizeof(sint_paravisor), "paravisor 40000092=%x\n", vector | 0x100000);
    snprintf(masked_host, sizeof(masked_host), "host 40000092=%x\n", vector | 0x10000);
    snprintf(masked_paravisor, sizeof(masked_paravisor), "paravisor 40000092=%x\n", vector | 0x110000);
    snprintf(simp_off, sizeof(simp_off), "host 40000083=%llx\n", (unsigned long long)(BOUNDARY + message_frame.v) | 0x22);
    snprintf(siefp_off, sizeof(siefp_off), "host 40000082=%llx\n", (unsigned long long)(BOUNDARY + event_frame.v));
    const char *const lines[] = {
        "paravisor 40000000=80430000", "host 40000000=80430000", "paravisor 40000001=", simp_on, siefp_on, sint_host,
        sint_paravisor, "host 40000080=1\n", masked_host, masked_paravisor, simp_off, siefp_off, "host 40000080=0\n",
        "paravisor 40000000=0\n", "host 40000000=0\n",
    };
    CHECK(told_in_order(lines, ARRAY_SIZE(lines)));
    CHECK_EQ(pages_visible, 0);
    CHECK_EQ(shmem_stats.pages_leaked, 0);
}

TEST(paravisor_snp_who_is_told) { CHECK_EQ(in_child(who_is_told, NULL), FAKE_RETURNED); }
TEST(paravisor_tdx_who_is_told) { CHECK_EQ(in_child(who_is_told, tdx_too), FAKE_RETURNED); }

static void messages(void *arg)
{
    uint8_t payload[60];
    struct hv_message_page *slots;

    boot(arg != NULL);
    CHECK(hv_init());
    hv_clock_init();
    hv_set_message_handler(take_message);
    hv_set_event_handler(5, take_event, NULL);
    CHECK_EQ(hv_synic_init(), 0);

    /* to the host: the whole block, nothing of other messages behind it */
    memset(payload, 0x5A, sizeof(payload));
    for (unsigned i = 0; i < 2; i++) {
        unsigned bytes = i ? 12 : 60;
        CHECK_EQ(hv_post_message(0x123456, 1, payload, bytes), HV_STATUS_SUCCESS);
        CHECK_EQ(posted.control, 0x5C);
        CHECK(!memcmp(posted.input, "\x56\x34\x12\0\0\0\0\0\1\0\0\0", 12));
        CHECK_EQ(posted.input[12], bytes);
        CHECK(posted.input[15 + bytes] == 0x5A && posted.input[16 + bytes] == 0 && posted.input[255] == 0);
        if (tdx)
            CHECK(posted.gpa < BOUNDARY && posted.gpa % 4096 == 0 && posted.gpa != 0);
    }
    CHECK_EQ(hv_signal_event(0x10004, 3), HV_STATUS_SUCCESS);
    CHECK_EQ(signalled.control, tdx ? 0x1005D : 0x5D);
    CHECK(!memcmp(signalled.input, "\4\0\1\0\3\0\0\0", 8));
    host_status = HV_STATUS_INSUFFICIENT_BUFFERS;
    CHECK_EQ(hv_post_message(1, 1, payload, 12), HV_STATUS_INSUFFICIENT_BUFFERS);
    host_status = HV_STATUS_INVALID_CONNECTION_ID;
    CHECK_EQ(hv_signal_event(1, 0), HV_STATUS_INVALID_CONNECTION_ID);

    /* from the host, in the paravisor's pages */
    slots = fake_phys(message_frame.v);
    slots->sint[2] = (struct hv_message){.message_type = 1, .payload_size = 40, .message_flags = 1};
    slots->sint[2].payload[39] = 0x77;
    ((uint64_t *)fake_phys(event_frame.v))[2 * 32] = 1 << 5;
    story[0] = '\0';
    fake_irq_raise(ARCH_IRQ_VMBUS);
    CHECK_EQ(events, 1);
    task_sleep_us(1000);
    CHECK(seen_message && seen_message->payload[39] == 0x77);
    CHECK(strstr(story, "host 40000084=0\n"));
    CHECK(!strstr(story, "paravisor 40000084"));
    hv_shutdown();
}

TEST(paravisor_snp_messages) { CHECK_EQ(in_child(messages, NULL), FAKE_RETURNED); }
TEST(paravisor_tdx_messages) { CHECK_EQ(in_child(messages, tdx_too), FAKE_RETURNED); }

/* Plain addresses mean the same pages; what cannot be a page of the paravisor's is refused in one line. */
static void odd_pages(void *arg)
{
    static const uint64_t bad[] = {0, 0xFFF, BOUNDARY, 2 * BOUNDARY, 3 * BOUNDARY + 0x5000, ~0ull << 12};

    boot(arg != NULL);
    CHECK(hv_init());
    hv_clock_init();
    uint64_t good = host_registers[0x83];
    for (unsigned reg = 0x82; reg <= 0x83; reg++) {
        uint64_t was = host_registers[reg];
        for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
            host_registers[reg] = bad[i];
            fake_log_clear();
            CHECK_EQ(hv_synic_init(), -E_REFUSED);
            CHECK(fake_log_contains("should hold a page of the paravisor's"));
        }
        host_registers[reg] = was;
    }
    host_registers[0x83] = good & ~BOUNDARY;
    CHECK_EQ(hv_synic_init(), 0);
    CHECK_EQ(fake_wrong_sides(), 0);
    CHECK_EQ(host_registers[0x83], (good & ~BOUNDARY) | 1);
    hv_synic_stop();
    CHECK_EQ(host_registers[0x83], good & ~BOUNDARY);
    hv_shutdown();
}

TEST(paravisor_snp_odd_pages) { CHECK_EQ(in_child(odd_pages, NULL), FAKE_RETURNED); }
TEST(paravisor_tdx_odd_pages) { CHECK_EQ(in_child(odd_pages, tdx_too), FAKE_RETURNED); }

static void no_introduction(void *arg)
{
    boot(arg != NULL);
    host_mood = HOST_NO_OS_ID;
    CHECK(hv_init());
    CHECK(!hv_can_vmbus());
    CHECK(fake_log_contains("the host refused the guest OS id: no VMBus devices"));
    hv_shutdown();
    CHECK_EQ(pages_visible, 0);
}

TEST(paravisor_snp_no_introduction) { CHECK_EQ(in_child(no_introduction, NULL), FAKE_RETURNED); }
TEST(paravisor_tdx_no_introduction) { CHECK_EQ(in_child(no_introduction, tdx_too), FAKE_RETURNED); }

TEST(paravisor_snp_no_version)
{
    boot(false);
    host_mood = HOST_REFUSES;
    CHECK(hv_init());
    CHECK(!hv_can_vmbus() && hv_isolated());
    CHECK(fake_log_contains("isolated by SNP (type 2) by a host that speaks no version of the GHCB protocol known here: "
                            "no VMBus devices"));
    CHECK_EQ(host_os_id, 0);
    hv_shutdown();
}

/* ---- pages that change hands without a hypercall ---- */

static unsigned changes, fail_at;

static bool change_page(paddr_t p, bool shared)
{
    if (++changes == fail_at)
        return false;
    fake_page_visible(p.v >> PAGE_SHIFT, shared);
    pages_visible += shared ? 1u : -1u;
    return true;
}

static const char *init_alone(const struct arch_isolation *kind UNUSED, struct arch_isolation_rules *rules)
{
    rules->own_pages = true;
    return NULL;
}

static uint64_t free_pages(void)
{
    struct mm_stats stats;

    mm_get_stats(&stats);
    return stats.free_pages;
}

TEST(isolated_pages_by_instruction)
{
    struct shmem s;

    boot(false);
    fake_hv_ops.isolation_init = init_alone;
    fake_hv_ops.page = change_page;
    fake_hv_ops.host_reg_read = NULL;
    fake_hv_ops.host_reg_write = NULL;
    CHECK(hv_init());
    uint64_t calls = hv_counters.hypercalls, before = pages_visible;
    changes = 0;
    CHECK_EQ(shmem_alloc(&s, 600, SHMEM_LINEAR, 0), 0);
    CHECK_EQ(changes, 600);
    CHECK_EQ(pages_visible, before + 600);
    shmem_free(&s);
    CHECK_EQ(changes, 1200);
    CHECK_EQ(pages_visible, before);
    CHECK_EQ(hv_counters.hypercalls, calls);
    CHECK_EQ(shmem_stats.pages_leaked, 0);

    /* Not done at the 300th of 600: that page is lost, those before it come back, those behind it never went. */
    uint64_t free_before = free_pages();
    changes = 0;
    fail_at = 300;
    CHECK_EQ(shmem_alloc(&s, 600, SHMEM_LINEAR, 0), -E_REFUSED);
    CHECK_EQ(changes, 300 + 299);
    CHECK_EQ(pages_visible, before);
    CHECK_EQ(shmem_stats.pages_leaked, 1);
    CHECK_EQ(free_pages(), free_before - 1);

    /* And on the way back: one is lost, and stays visible. */
    fail_at = 0;
    CHECK_EQ(shmem_alloc(&s, 600, SHMEM_LINEAR, 0), 0);
    changes = 0;
    fail_at = 300;
    shmem_free(&s);
    CHECK_EQ(changes, 600);
    CHECK_EQ(pages_visible, before + 1);
    CHECK_EQ(shmem_stats.pages_leaked, 2);
    CHECK_EQ(free_pages(), free_before - 2);
    fail_at = 0;
    hv_shutdown();
}

TEST_MAIN()
