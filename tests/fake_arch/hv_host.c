/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Transport between the fake machine and the model of the host: see hv_host.h.
 *
 * Interrupts that the model raises are delivered when it has returned, because a handler may call into it again. Each
 * call into the model is followed by its poll, as it wants; its timers run off the idle hook and off every entry.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "hv/hv_wire.h"
#include "tests/fake_arch/guarded.h"
#include "tests/fake_arch/hv_host.h"
#include "tests/fake_arch/internal.h"

#define MAX_RAISED 64u
#define AUDIT_100NS S_100NS(1)

struct hv_host hv_host;
void *(*hv_host_calloc)(size_t count, size_t bytes) = calloc;
void (*hv_host_free)(void *p) = free;

static unsigned raised[MAX_RAISED], raised_count;
static uint64_t deadline[HOST_MAX_VPS + 1];      /* the last one is the model's own */
static uint32_t vp_count;
static uint64_t next_audit;
static bool inside;                              /* the model is being called */

/* The processors the model has, then its own. */
#define EACH_DEADLINE(i) (uint32_t i = 0; i <= HOST_MAX_VPS; i = i + 1 == vp_count ? HOST_MAX_VPS : i + 1)

static uint64_t *deadline_of(uint32_t vp) { return &deadline[vp == HOST_NO_VP ? HOST_MAX_VPS : vp]; }

/* ---- what the model asks of us ---- */

static void *ops_alloc(void *ctx UNUSED, size_t bytes)
{
    return hv_host_calloc(1, bytes);
}

static void ops_free(void *ctx UNUSED, void *p, size_t bytes UNUSED)
{
    hv_host_free(p);
}

static void *ops_gpa_map(void *ctx UNUSED, uint64_t gpa, size_t len, bool write)
{
    unsigned n;
    const struct mm_region *map = fake_memory_map(&n);

    for (unsigned i = 0; i < n; i++) {
        if (map[i].type == MM_RAM && gpa >= map[i].start.v && gpa - map[i].start.v < map[i].bytes &&
            len <= map[i].bytes - (gpa - map[i].start.v))
            return fake_page_withdrawn(gpa / PAGE_BYTES) ? NULL : guarded_open(gpa, write);
    }
    return NULL;
}

static void ops_gpa_unmap(void *ctx UNUSED, uint64_t gpa, size_t len UNUSED, bool write)
{
    guarded_close(gpa, write);
}

static void ops_raise(void *ctx UNUSED, uint32_t vp, uint32_t vector, bool auto_eoi UNUSED)
{
    if (vp != 0)
        return;                                  /* other processors exist for the host only */
    for (unsigned i = 0; i < raised_count; i++) {
        if (raised[i] == vector)
            return;                              /* already requested: one interrupt, as in an IRR */
    }
    KASSERT(raised_count < MAX_RAISED);
    raised[raised_count++] = vector;
}

static uint64_t ops_now(void *ctx UNUSED) { return fake_now_100ns; }
static uint64_t ops_guest_tsc(void *ctx UNUSED) { return fake_counter(); }
static void ops_set_timer(void *ctx UNUSED, uint32_t vp, uint64_t when) { *deadline_of(vp) = when; }

static void ops_log(void *ctx UNUSED, enum host_log_level level, const char *text)
{
    if (getenv("TEST_VERBOSE"))
        fprintf(stderr, "host: %s%s\n", level == HOST_LOG_ERROR ? "error: " : "", text);
}

static void ops_trace(void *ctx UNUSED, enum host_trace category UNUSED, const char *text)
{
    if (getenv("TEST_VERBOSE"))
        fprintf(stderr, "host trace: %s\n", text);
}

static void ops_violation(void *ctx UNUSED, const char *text)
{
    hv_host.violations++;
    snprintf(hv_host.violation, sizeof(hv_host.violation), "%s", text);
    if (hv_host.violations_expected)
        return;
    fprintf(stderr, "%s\nhost: violation: %s\n", fake_log_text(), text);
    abort();
}

static void ops_crash(void *ctx UNUSED, const uint64_t params[5], const char *text)
{
    hv_host.crashed = true;
    memcpy(hv_host.crash_params, params, sizeof(hv_host.crash_params));
    snprintf(hv_host.crash_text, sizeof(hv_host.crash_text), "%s", text ? text : "");
}

static void ops_power(void *ctx UNUSED, enum host_power kind UNUSED)
{
    hv_host.powered = true;
}

static void ops_flush(void *ctx UNUSED, const uint64_t *vps, const uint64_t *ranges, uint32_t count)
{
    hv_host.flushes++;
    memcpy(hv_host.flush_vps, vps, sizeof(hv_host.flush_vps));
    for (uint32_t i = 0; i < count; i++)
        hv_host.flushed_pages += (ranges[i] & HV_PAGE_MASK) + 1;
}

static void ops_visibility(void *ctx UNUSED, uint64_t gpn, uint32_t visibility)
{
    fake_page_visible(gpn, visibility != HV_VISIBILITY_PRIVATE);
    if (hv_host.visibility)
        hv_host.visibility(gpn, visibility != HV_VISIBILITY_PRIVATE);
}

/* The end of the RAM entry that a page lies in; 0: in none. */
static uint64_t memory_until(uint64_t page)
{
    unsigned n;
    const struct mm_region *map = fake_memory_map(&n);

    for (unsigned i = 0; i < n; i++) {
        uint64_t first = map[i].start.v / PAGE_BYTES, end = (map[i].start.v + map[i].bytes) / PAGE_BYTES;
        if (map[i].type == MM_RAM && page >= first && page < end)
            return end;
    }
    return 0;
}

/* Is all of it RAM, not taken before, and not in use by the model? */
static bool can_be_taken(uint64_t first, uint64_t count)
{
    for (uint64_t page = first, until = first; page < first + count; page++) {
        if (page == until && (until = memory_until(page)) == 0)
            return false;
        if (fake_page_withdrawn(page) || guarded_is_open(page * PAGE_BYTES))
            return false;
    }
    return true;
}

static bool ops_pages(void *ctx UNUSED, uint64_t first, uint64_t count, enum host_pages what)
{
    switch (what) {
    case HOST_PAGES_TAKEN:
        if (hv_host.pages_stay)
            return true;
        if (!can_be_taken(first, count))
            return false;
        fake_withdraw(first, count);
        return true;
    case HOST_PAGES_RETURNED:
        if (hv_host.pages_stay)
            return true;
        fake_restore(first, count);
        return true;
    case HOST_PAGES_ADDED:
        return fake_memory_add(pa(first * PAGE_BYTES), count * PAGE_BYTES);
    case HOST_PAGES_REMOVED:
        return true;                             /* the guest said that it won't touch it */
    }
    return false;
}

static enum host_fault_kind ops_fault(void *ctx UNUSED, enum host_fault_point point, uint64_t number)
{
    return hv_host.fault ? hv_host.fault(point, number) : HOST_FAULT_NONE;
}

static const struct host_ops ops = {
    .alloc = ops_alloc,
    .free = ops_free,
    .gpa_map = ops_gpa_map,
    .gpa_unmap = ops_gpa_unmap,
    .raise = ops_raise,
    .now_100ns = ops_now,
    .set_timer = ops_set_timer,
    .log = ops_log,
    .violation = ops_violation,
    .guest_tsc = ops_guest_tsc,
    .crash = ops_crash,
    .power = ops_power,
    .trace = ops_trace,
    .flush = ops_flush,
    .visibility = ops_visibility,
    .pages = ops_pages,
    .fault = ops_fault,
};

/* ---- calling the model ---- */

static void poll_model(void)
{
    while (host_poll(hv_host.host))
        ;
}

static void deliver(void)
{
    while (!inside && raised_count) {
        unsigned vector = raised[0];
        memmove(raised, raised + 1, --raised_count * sizeof(raised[0]));
        fake_irq_raise_number(vector);
    }
}

static void enter(void)
{
    KASSERT(hv_host.host && !inside);
    inside = true;
}

static void leave(void)
{
    poll_model();
    inside = false;
    deliver();
}

static bool run_timers(void)
{
    bool any = false;

    for EACH_DEADLINE(i) {
        if (deadline[i] > fake_now_100ns)
            continue;
        deadline[i] = HOST_NEVER;
        host_timer_fired(hv_host.host, i == HOST_MAX_VPS ? HOST_NO_VP : i);
        any = true;
    }
    if (fake_now_100ns >= next_audit && !hv_host.no_audit) {
        next_audit = fake_now_100ns + AUDIT_100NS;
        host_audit(hv_host.host);
    }
    return any;
}

/* True when the guest has a reason to go on. */
static bool idle(void)
{
    enter();
    bool any = run_timers();
    if (host_poll(hv_host.host))
        any = true;
    poll_model();
    inside = false;
    any = any || raised_count;
    deliver();
    return any;
}

void hv_host_run(void)
{
    enter();
    run_timers();
    leave();
}

static uint64_t next_deadline(void)
{
    uint64_t first = RT_FOREVER;

    for EACH_DEADLINE(i)
        first = MIN(first, deadline[i]);
    return first;
}

/* ---- what the guest does ---- */

static void leaf(uint32_t number, uint32_t out[4])
{
    memset(out, 0, 16);
    host_cpuid(hv_host.host, 0, number, 0, out);
}

static bool guest_discover(struct arch_hv_features *f)
{
    uint32_t r[4];

    leaf(HV_CPUID_VENDOR, r);
    f->max_leaf = r[0];
    memcpy(f->vendor, r + 1, 12);
    leaf(HV_CPUID_INTERFACE, r);
    if (strcmp(f->vendor, "Microsoft Hv") || r[0] != HV_CPUID_INTERFACE_HV1)
        return false;
    leaf(HV_CPUID_VERSION, f->version);
    leaf(HV_CPUID_FEATURES, f->features);
    leaf(HV_CPUID_RECOMMENDATIONS, f->hints);
    leaf(HV_CPUID_LIMITS, f->limits);
    if (f->features[1] & HV_PRIV_ISOLATION)
        leaf(HV_CPUID_ISOLATION, f->isolation);
    return true;
}

static bool guest_reg_read(uint32_t reg, uint64_t *value)
{
    hv_host.reg_reads++;
    enter();
    bool ok = host_rdmsr(hv_host.host, 0, reg, value);
    leave();
    return ok;
}

static bool guest_reg_write(uint32_t reg, uint64_t value)
{
    hv_host.reg_writes++;
    enter();
    bool ok = host_wrmsr(hv_host.host, 0, reg, value);
    run_timers();
    leave();
    return ok;
}

static uint64_t call(uint64_t control, uint64_t in, uint64_t out)
{
    uint64_t regs[HOST_HCALL_REGS] = {in, out}, result, before;

    if (hv_host.intercept && hv_host.intercept(control, in, out, &result))
        return result;
    enter();
    do {
        before = control;
        result = host_hypercall(hv_host.host, 0, &control, regs);
    } while (control != before);                 /* continued: the instruction is executed again */
    run_timers();
    leave();
    return result;
}

struct host *hv_host_start(const struct host_config *cfg)
{
    struct host_config mine = *cfg;

    mine.tsc_hz = FAKE_COUNTER_HZ;
    memset(&hv_host, 0, sizeof(hv_host));
    vp_count = mine.vps;
    for (unsigned i = 0; i <= HOST_MAX_VPS; i++)
        deadline[i] = HOST_NEVER;
    raised_count = 0;
    next_audit = fake_now_100ns + AUDIT_100NS;
    guarded_reset(fake_memory_file(), ARCH_DIRECT_BYTES);
    if (mine.isolation_type != HV_ISOLATION_NONE)
        fake_isolate(mine.boundary_bit ? 1ull << mine.boundary_bit : 0);
    hv_host.host = host_create(&mine, &ops, NULL);
    KASSERT(hv_host.host);
    fake_hv_ops = (struct fake_hv_ops){
        .discover = guest_discover,
        .reg_read = guest_reg_read,
        .reg_write = guest_reg_write,
        .hypercall = call,
        .hypercall_fast = call,
    };
    fake_arch_idle_hook = idle;
    fake_arch_deadline_hook = next_deadline;
    return hv_host.host;
}

void hv_host_stop(void)
{
    fake_hv_ops = (struct fake_hv_ops){0};
    fake_arch_idle_hook = NULL;
    fake_arch_deadline_hook = NULL;
    host_destroy(hv_host.host);
    hv_host.host = NULL;
}
