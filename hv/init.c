/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Finding the hypervisor and introducing ourselves to it; saying goodbye. Source: TLFS, feature discovery.
 *
 * Only the hypercall page and the SynIC are needed by VMBus. Hosts exist that announce no version, no limits and none
 * of the PostMessages / SignalEvents privileges and still serve both calls, so those words decide nothing here.
 */
#define LOG_ROOM "hv"
#include "hv/bounce.h"
#include "hv/isolation.h"

/* Open-source encoding, OS type not allocated, vendor's own id 'C'. Version 0.1, as major << 16 | minor. */
#define CANDELA_OS_ID      0x43
#define CANDELA_OS_VERSION 0x00000001u

struct hv_state hv_state;
static char description[128] = "no Hyper-V";

static void describe(const struct arch_hv_features *f)
{
    ksnprintf(description, sizeof(description),
              "Hyper-V %u.%u.%u, privileges 0x%08x 0x%08x, features 0x%08x, hints 0x%08x", f->version[1] >> 16,
              f->version[1] & 0xFFFF, f->version[0], f->features[0], f->features[1], f->features[3], f->hints[0]);
}

/* Isolated machines only: the first part of the bounce pool, and what messages may take. */
static void prepare_sharing(void)
{
    hv_isolation_announce();
    int rc = hv_isolation_start();
    if (rc == 0)
        rc = bounce_init();
    if (rc)
        log_err("what the host must see cannot be shared: %s; no VMBus devices", error_name(rc));
    hv_state.shareable = rc == 0;
}

/* Nobody serves a guest that did not say who it is; a host behind a paravisor wants to hear it itself. */
static bool introduce(uint64_t guest_os_id)
{
    return arch_hv_reg_write(HV_X64_MSR_GUEST_OS_ID, guest_os_id) &&
           (!hv_two_listeners() || arch_host_reg_write(HV_X64_MSR_GUEST_OS_ID, guest_os_id));
}

/* One line for all that would be used, or that an operator would look for, and is not there. */
static void name_missing(void)
{
    const struct { bool offered; const char *name; } services[] = {
        {hv_access(HV_ACCESS_REFERENCE_COUNTER), "reference counter"},
        {hv_access(HV_ACCESS_REFERENCE_TSC), "reference TSC page"},
        {hv_access(HV_ACCESS_FREQUENCY) && hv_feature(HV_FEATURE_FREQUENCY_MSRS), "frequencies"},
        {hv_access(HV_ACCESS_SYNIC), "synthetic interrupts"},
        {hv_access(HV_ACCESS_STIMER), "synthetic timers"},
        {hv_feature(HV_FEATURE_STIMER_DIRECT), "direct timers"},
        {hv_access(HV_ACCESS_VP_INDEX), "processor index"},
        {hv_access(HV_ACCESS_INTR_CTRL), "interrupt controller registers"},
        {hv_recommends(HV_RECOMMEND_REMOTE_FLUSH), "TLB flush"},
        {hv_access(HV_ACCESS_RESET), "reset"},
        {hv_feature(HV_FEATURE_CRASH_MSRS), "crash reports"},
    };
    char text[256] = "";
    size_t n = 0;

    for (unsigned i = 0; i < ARRAY_SIZE(services); i++)
        if (!services[i].offered)
            n += (size_t)ksnprintf(text + n, sizeof(text) - n, "%s%s", n ? ", " : "", services[i].name);
    if (n)
        log_info("not offered: %s", text);
}

bool hv_init(void)
{
    struct arch_hv_features *f = &hv_state.features;
    bool bearable;

    KASSERT(!hv_state.hypercalls);
    hv_state = (struct hv_state){0};
    if (!arch_hv_discover(f)) {
        log_info("no Hyper-V underneath (%s); no VMBus devices", f->vendor[0] ? f->vendor : "no hypervisor");
        return false;
    }
    hv_state.present = true;
    describe(f);
    log_info("%s", description);
    name_missing();
    bearable = hv_isolation_detect();

    hv_state.guest_os_id = hv_guest_os_id(HV_GUEST_OS_TYPE_UNDEFINED, CANDELA_OS_ID, CANDELA_OS_VERSION, 0);
    if (!hv_access(HV_ACCESS_HYPERCALL)) {
        log_warn("the host grants no hypercalls (privileges 0x%08x): no VMBus devices", f->features[0]);
        return true;
    }
    if (!introduce(hv_state.guest_os_id)) {
        log_warn("the host refused the guest OS id: no VMBus devices");
        return true;
    }
    hv_vp_online(hv_vp_index());       /* not told to strangers, on arm64 */
    int rc = hv_hypercall_init();
    if (rc)
        log_err("no hypercall page: %s; no VMBus devices", error_name(rc));
    else if (!hv_access(HV_ACCESS_SYNIC))
        log_warn("the host grants no synthetic interrupts (privileges 0x%08x): no VMBus devices", f->features[0]);
    else if (bearable)
        prepare_sharing();
    return true;
}

bool hv_present(void) { return hv_state.present; }
bool hv_can_vmbus(void) { return hv_state.hypercalls && hv_state.shareable && hv_access(HV_ACCESS_SYNIC); }
const struct arch_hv_features *hv_features(void) { return &hv_state.features; }
const char *hv_description(void) { return description; }

void hv_shutdown(void)
{
    if (!hv_state.present)
        return;
    hv_timer_stop();
    hv_synic_stop();
    /* Below the overlay the page is zero, so a clock read from now on finds sequence 0 and asks the register. */
    if (hv_access(HV_ACCESS_REFERENCE_TSC))
        arch_hv_reg_write(HV_X64_MSR_REFERENCE_TSC, 0);
    bounce_stop();
    hv_isolation_stop();
    bool introduced = hv_state.hypercalls;
    hv_hypercall_stop();               /* this CPU's page may be there without the hypercall page */
    if (introduced)
        introduce(0);
    hv_state.present = false;
}
