/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tlfs_msr.c: the synthetic MSRs of x86_64. Those of the SynIC are in host_synic.c, of the timers in
 * host_stimer.c.
 *
 * A register whose privilege bit is clear, an unknown one, a write to a read-only one: #GP, as TLFS says. The
 * hypercall page has no memory of its own here: its code is written into the guest's page.
 */
#include "tests/host/host_internal.h"

/* Hosts of arm64 guests exist that announce nothing and serve what VMBus needs: OpenVMM on macOS. */
#define UNANNOUNCED (HV_ACCESS_HYPERCALL | HV_ACCESS_SYNIC | HV_ACCESS_VP_INDEX | HV_ACCESS_REFERENCE_COUNTER)

static bool allowed(const struct host *h, uint32_t access)
{
    uint32_t served = h->cfg.arm64 && !h->cfg.enforce_privileges ? UNANNOUNCED : 0;
    return ((h->cfg.access | served) & access) == access;
}

static bool frequencies(const struct host *h)
{
    return allowed(h, HV_ACCESS_FREQUENCY) && (h->cfg.features & HV_FEATURE_FREQUENCY_MSRS);
}

/* A register that enables a page: the page must be RAM, and bits 11:1 zero (or preserved as zero). */
bool host_page_register(struct host *h, uint64_t value, bool reserved_checked)
{
    if (reserved_checked && (value & HV_MSR_PAGE_PRESERVE_MASK)) {
        host_strict(h, &value, sizeof(value), "register: reserved bits set in a page register");
        return false;
    }
    if (!(value & HV_MSR_PAGE_ENABLE))
        return true;
    if (host_map(h, USE_SYNIC_PAGE, value & HV_MSR_PAGE_GPA_MASK, HV_PAGE_SIZE) == NULL) {
        host_violation(h, &value, sizeof(value), "register: page enabled outside of memory");
        return false;
    }
    host_unmap(h, USE_SYNIC_PAGE, value & HV_MSR_PAGE_GPA_MASK, HV_PAGE_SIZE);
    return true;
}

static bool write_hypercall(struct host *h, uint64_t value)
{
    static const uint8_t amd[] = {0x0F, 0x01, 0xD9, 0xC3};      /* vmmcall; ret */
    static const uint8_t intel[] = {0x0F, 0x01, 0xC1, 0xC3};    /* vmcall; ret */
    uint8_t *page;

    if (h->hypercall_msr & HV_MSR_HYPERCALL_LOCKED)
        return false;
    if (h->guest_os_id == 0 && (value & HV_MSR_PAGE_ENABLE)) {
        host_strict(h, &value, sizeof(value), "HYPERCALL enabled before GUEST_OS_ID was set");
        h->hypercall_msr = value & ~HV_MSR_PAGE_ENABLE;
        return true;
    }
    if (!host_page_register(h, value & ~HV_MSR_HYPERCALL_LOCKED, true))
        return false;
    h->hypercall_msr = value;
    if (value & HV_MSR_PAGE_ENABLE) {
        page = host_map(h, USE_HYPERCALL_PAGE, value & HV_MSR_PAGE_GPA_MASK, HV_PAGE_SIZE);
        memset(page, 0xCC, HV_PAGE_SIZE);
        memcpy(page, h->cfg.intel ? intel : amd, sizeof(amd));
        host_unmap(h, USE_HYPERCALL_PAGE, value & HV_MSR_PAGE_GPA_MASK, HV_PAGE_SIZE);
    }
    return true;
}

/* floor((10^7 << 64) / hz), so that tsc * scale >> 64 counts ticks. */
static uint64_t tsc_scale(uint64_t hz)
{
    uint64_t rest = HV_TICKS_PER_SECOND, scale = 0;

    if (hz <= HV_TICKS_PER_SECOND)
        return UINT64_MAX;
    for (int i = 0; i < 64; i++) {
        scale <<= 1;
        rest <<= 1;
        if (rest >= hz) {
            rest -= hz;
            scale |= 1;
        }
    }
    return scale;
}

static void fill_tsc_page(struct host *h)
{
    struct hv_reference_tsc_page *page = h->tsc_page;
    uint32_t *sequence = (uint32_t *)(void *)page;
    uint64_t scale, ticks;

    if (page == NULL)
        return;
    __atomic_store_n(sequence, HV_REFERENCE_TSC_INVALID, __ATOMIC_SEQ_CST);
    if (h->ops.guest_tsc == NULL)
        return;
    scale = tsc_scale(h->cfg.tsc_hz);
    ticks = (uint64_t)(((unsigned __int128)h->ops.guest_tsc(h->ctx) * scale) >> 64);
    page->scale = scale;
    page->offset = (int64_t)(host_now(h) - ticks);
    h->tsc_sequence++;
    if (h->tsc_sequence == HV_REFERENCE_TSC_INVALID || h->tsc_sequence == UINT32_MAX)
        h->tsc_sequence = 1;                     /* some old guests take all ones for invalid too */
    __atomic_store_n(sequence, h->tsc_sequence, __ATOMIC_RELEASE);
}

void host_tsc_changed(struct host *h)
{
    fill_tsc_page(h);
}

static bool write_reference_tsc(struct host *h, uint64_t value)
{
    if (!host_page_register(h, value, true))
        return false;
    if (h->tsc_page != NULL)
        host_unmap(h, USE_TSC_PAGE, h->reference_tsc & HV_MSR_PAGE_GPA_MASK, HV_PAGE_SIZE);
    h->reference_tsc = value;
    h->tsc_page = NULL;
    if (value & HV_MSR_PAGE_ENABLE) {
        h->tsc_page = host_map(h, USE_TSC_PAGE, value & HV_MSR_PAGE_GPA_MASK, HV_PAGE_SIZE);
        fill_tsc_page(h);
    }
    return true;
}

static bool write_crash_ctl(struct host *h, uint64_t value)
{
    static char text[HV_CRASH_MESSAGE_MAX + 1];
    uint64_t gpa = h->crash[3], len = h->crash[4];
    const void *page;

    if (!(value & HV_CRASH_CTL_NOTIFY))
        return true;
    if (!(value & HV_CRASH_CTL_MESSAGE)) {
        if (h->ops.crash != NULL)
            h->ops.crash(h->ctx, h->crash, NULL);
        return true;
    }
    page = len > 0 && len <= HV_CRASH_MESSAGE_MAX ? host_map(h, USE_CRASH_TEXT, gpa, len) : NULL;
    if (page == NULL) {
        host_violation(h, h->crash, sizeof(h->crash), "crash: the message is not inside one page of memory");
        len = 0;
    } else {
        memcpy(text, page, len);
        host_unmap(h, USE_CRASH_TEXT, gpa, len);
    }
    text[len] = 0;
    if (h->ops.crash != NULL)
        h->ops.crash(h->ctx, h->crash, text);
    return true;
}

/* The access bit that a register needs; false: no such register. */
static bool register_exists(const struct host *h, uint32_t msr)
{
    switch (msr) {
    case HV_X64_MSR_GUEST_OS_ID:
    case HV_X64_MSR_HYPERCALL:
        return allowed(h, HV_ACCESS_HYPERCALL);
    case HV_X64_MSR_VP_INDEX:
        return allowed(h, HV_ACCESS_VP_INDEX);
    case HV_X64_MSR_RESET:
        return allowed(h, HV_ACCESS_RESET);
    case HV_X64_MSR_VP_RUNTIME:
        return allowed(h, HV_ACCESS_VP_RUNTIME);
    case HV_X64_MSR_TIME_REF_COUNT:
        return allowed(h, HV_ACCESS_REFERENCE_COUNTER);
    case HV_X64_MSR_REFERENCE_TSC:
        return allowed(h, HV_ACCESS_REFERENCE_TSC);
    case HV_X64_MSR_TSC_FREQUENCY:
    case HV_X64_MSR_APIC_FREQUENCY:
        return frequencies(h);
    case HV_X64_MSR_EOI:
    case HV_X64_MSR_ICR:
    case HV_X64_MSR_TPR:
        return allowed(h, HV_ACCESS_INTR_CTRL) && h->ops.apic_msr != NULL;
    case HV_X64_MSR_VP_ASSIST_PAGE:
        return true;                             /* Linux writes it without looking at the bit */
    case HV_X64_MSR_GUEST_IDLE:
        return allowed(h, HV_ACCESS_GUEST_IDLE);
    case HV_X64_MSR_REENLIGHTENMENT_CTL:
    case HV_X64_MSR_TSC_EMULATION_CTL:
    case HV_X64_MSR_TSC_EMULATION_STATUS:
        return allowed(h, HV_ACCESS_REENLIGHTENMENT);
    case HV_X64_MSR_TSC_INVARIANT_CTL:
        return allowed(h, HV_ACCESS_TSC_INVARIANT);
    default:
        break;
    }
    if (msr >= HV_X64_MSR_SCONTROL && msr <= HV_X64_MSR_SINT15)
        return allowed(h, HV_ACCESS_SYNIC);
    if (msr >= HV_X64_MSR_STIMER0_CONFIG && msr <= HV_X64_MSR_STIMER3_COUNT)
        return allowed(h, HV_ACCESS_STIMER);
    if (msr >= HV_X64_MSR_CRASH_P0 && msr <= HV_X64_MSR_CRASH_CTL)
        return (h->cfg.features & HV_FEATURE_CRASH_MSRS) != 0;
    return false;
}

bool host_rdmsr(struct host *h, uint32_t vp, uint32_t msr, uint64_t *value)
{
    *value = 0;
    if (!register_exists(h, msr)) {
        host_strict(h, NULL, 0, "rdmsr %#x: no such register or no privilege", msr);
        return false;
    }
    if (msr >= HV_X64_MSR_SCONTROL && msr <= HV_X64_MSR_SINT15)
        return vsynic_read(h, vp, msr, value);
    if (msr >= HV_X64_MSR_STIMER0_CONFIG && msr <= HV_X64_MSR_STIMER3_COUNT)
        return vstimer_read(h, vp, msr, value);
    if (msr >= HV_X64_MSR_CRASH_P0 && msr <= HV_X64_MSR_CRASH_P4) {
        *value = h->crash[msr - HV_X64_MSR_CRASH_P0];
        return true;
    }
    switch (msr) {
    case HV_X64_MSR_GUEST_OS_ID:
        *value = h->guest_os_id;
        return true;
    case HV_X64_MSR_HYPERCALL:
        *value = h->hypercall_msr;
        return true;
    case HV_X64_MSR_VP_INDEX:
        *value = vp;
        return true;
    case HV_X64_MSR_VP_RUNTIME:
    case HV_X64_MSR_TIME_REF_COUNT:
        *value = host_now(h);
        return true;
    case HV_X64_MSR_REFERENCE_TSC:
        *value = h->reference_tsc;
        return true;
    case HV_X64_MSR_TSC_FREQUENCY:
        *value = h->cfg.tsc_hz;
        return true;
    case HV_X64_MSR_APIC_FREQUENCY:
        *value = h->cfg.apic_hz;
        return true;
    case HV_X64_MSR_ICR:
    case HV_X64_MSR_TPR:
        return h->ops.apic_msr(h->ctx, vp, msr, false, value);
    case HV_X64_MSR_VP_ASSIST_PAGE:
        *value = h->vp[vp].vp_assist;
        return true;
    case HV_X64_MSR_GUEST_IDLE:
        if (h->ops.idle != NULL)
            h->ops.idle(h->ctx, vp);
        return true;
    case HV_X64_MSR_CRASH_CTL:
        *value = HV_CRASH_CTL_NOTIFY | HV_CRASH_CTL_MESSAGE;
        return true;
    case HV_X64_MSR_REENLIGHTENMENT_CTL:
        *value = h->reenlightenment;
        return true;
    case HV_X64_MSR_TSC_EMULATION_CTL:
        *value = h->tsc_emulation;
        return true;
    case HV_X64_MSR_TSC_INVARIANT_CTL:
        *value = h->tsc_invariant;
        return true;
    case HV_X64_MSR_RESET:
    case HV_X64_MSR_TSC_EMULATION_STATUS:
        return true;
    default:
        return false;                            /* write-only: EOI */
    }
}

static bool write_guest_os_id(struct host *h, uint64_t value)
{
    h->guest_os_id = value;
    if (value == 0)
        h->hypercall_msr &= ~HV_MSR_PAGE_ENABLE;
    host_trace(h, HOST_TRACE_TLFS, "guest OS id %#llx", (unsigned long long)value);
    return true;
}

bool host_wrmsr(struct host *h, uint32_t vp, uint32_t msr, uint64_t value)
{
    if (!register_exists(h, msr)) {
        host_strict(h, &value, sizeof(value), "wrmsr %#x: no such register or no privilege", msr);
        return false;
    }
    if (host_fault(h, HOST_FAULT_REGISTER_WRITE) != HOST_FAULT_NONE)
        return false;
    host_trace(h, HOST_TRACE_TLFS, "vp %u wrmsr %#x = %#llx", vp, msr, (unsigned long long)value);
    if (msr >= HV_X64_MSR_SCONTROL && msr <= HV_X64_MSR_SINT15)
        return vsynic_write(h, vp, msr, value);
    if (msr >= HV_X64_MSR_STIMER0_CONFIG && msr <= HV_X64_MSR_STIMER3_COUNT)
        return vstimer_write(h, vp, msr, value);
    if (msr >= HV_X64_MSR_CRASH_P0 && msr <= HV_X64_MSR_CRASH_P4) {
        h->crash[msr - HV_X64_MSR_CRASH_P0] = value;
        return true;
    }
    switch (msr) {
    case HV_X64_MSR_GUEST_OS_ID:
        return write_guest_os_id(h, value);
    case HV_X64_MSR_HYPERCALL:
        return write_hypercall(h, value);
    case HV_X64_MSR_REFERENCE_TSC:
        return write_reference_tsc(h, value);
    case HV_X64_MSR_CRASH_CTL:
        return write_crash_ctl(h, value);
    case HV_X64_MSR_EOI:
    case HV_X64_MSR_ICR:
    case HV_X64_MSR_TPR:
        return h->ops.apic_msr(h->ctx, vp, msr, true, &value);
    case HV_X64_MSR_VP_ASSIST_PAGE:
        if (!host_page_register(h, value, true))
            return false;
        h->vp[vp].vp_assist = value;
        return true;
    case HV_X64_MSR_RESET:
        if ((value & HV_RESET_NOW) && h->ops.power != NULL)
            h->ops.power(h->ctx, HOST_POWER_RESET);
        return true;
    case HV_X64_MSR_REENLIGHTENMENT_CTL:
        h->reenlightenment = value;
        return true;
    case HV_X64_MSR_TSC_EMULATION_CTL:
        h->tsc_emulation = value;
        return true;
    case HV_X64_MSR_TSC_EMULATION_STATUS:
        return true;
    case HV_X64_MSR_TSC_INVARIANT_CTL:
        h->tsc_invariant |= value & 1;
        return true;
    default:
        host_strict(h, &value, sizeof(value), "wrmsr %#x: read-only", msr);
        return false;
    }
}
