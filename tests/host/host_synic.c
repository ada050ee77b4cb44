/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * host_synic.c: the synthetic interrupt controller: message slots, event flags, SINTs (TLFS: inter-partition
 * communication, virtual interrupts).
 *
 * Whoever has messages keeps them until the slot is free; here is no queue. The rule for a full slot: the
 * pending flag is set in it, and nothing more is tried until the guest writes EOM. A guest that empties the
 * slot and forgets EOM waits for ever, as it would on a real host: host_audit() names it.
 *
 * Shared with the guest: the message type of a slot (the host fills an empty slot and writes the type last;
 * the guest copies and clears it), its flags byte, and the event flags (the host sets, the guest clears).
 */
#include "tests/host/host_internal.h"

static uint32_t *slot_type(struct hv_message *slot)
{
    return (uint32_t *)(void *)slot;
}

static bool enabled(const struct host_vp *v)
{
    return (v->scontrol & HV_SCONTROL_ENABLE) != 0;
}

bool vsynic_ready(const struct host *h, uint32_t vp, uint32_t sint)
{
    const struct host_vp *v = &h->vp[vp];

    return enabled(v) && v->messages != NULL && v->flags != NULL && !(v->sint[sint] & HV_SINT_MASKED);
}

static void raise_sint(struct host *h, uint32_t vp, uint32_t sint)
{
    uint64_t reg = h->vp[vp].sint[sint];
    uint64_t mask = h->cfg.arm64 ? HV_SINT_VECTOR_MASK_ARM64 : HV_SINT_VECTOR_MASK;

    if (reg & (HV_SINT_MASKED | HV_SINT_POLLING))
        return;
    h->counters.interrupts++;
    h->ops.raise(h->ctx, vp, (uint32_t)(reg & mask), (reg & HV_SINT_AUTO_EOI) != 0);
}

enum synic_post vsynic_post_message(struct host *h, uint32_t vp, uint32_t sint, uint32_t type,
                                    uint64_t sender,
                                   const void *payload, uint32_t bytes, bool more)
{
    struct host_vp *v = &h->vp[vp];
    struct hv_message *slot;

    if (!enabled(v) || v->messages == NULL)
        return SYNIC_OFF;
    slot = &v->messages->sint[sint];
    if (v->pending_since[sint] != 0)
        return SYNIC_BUSY;                       /* promised: nothing before EOM */
    if (__atomic_load_n(slot_type(slot), __ATOMIC_ACQUIRE) != HV_MESSAGE_NONE) {
        __atomic_fetch_or(&slot->message_flags, HV_MESSAGE_FLAG_PENDING, __ATOMIC_SEQ_CST);
        /* The guest may have emptied the slot before it could see the flag: then it will write no EOM. */
        if (__atomic_load_n(slot_type(slot), __ATOMIC_SEQ_CST) != HV_MESSAGE_NONE) {
            v->pending_since[sint] = host_now(h) + 1;
            h->counters.messages_delayed++;
            return SYNIC_BUSY;
        }
    }
    memset(slot->payload, 0, sizeof(slot->payload));
    memcpy(slot->payload, payload, bytes);
    slot->payload_size = (uint8_t)bytes;
    slot->message_flags = more ? HV_MESSAGE_FLAG_PENDING : 0;
    slot->sender = sender;
    v->pending_since[sint] = more ? host_now(h) + 1 : 0;
    __atomic_store_n(slot_type(slot), type, __ATOMIC_RELEASE);
    h->counters.messages_out++;
    raise_sint(h, vp, sint);
    return SYNIC_POSTED;
}

bool vsynic_signal_event(struct host *h, uint32_t vp, uint32_t sint, uint32_t flag)
{
    struct host_vp *v = &h->vp[vp];
    uint64_t *words, bit = 1ull << (flag % 64);

    if (!enabled(v) || v->flags == NULL || (v->sint[sint] & HV_SINT_MASKED)) {
        h->counters.events_lost++;
        return false;
    }
    words = (uint64_t *)(void *)&v->flags->sint[sint];
    if (!(__atomic_fetch_or(&words[flag / 64], bit, __ATOMIC_SEQ_CST) & bit)) {
        h->counters.events++;
        raise_sint(h, vp, sint);
    }
    return true;
}

bool vsynic_read(struct host *h, uint32_t vp, uint32_t msr, uint64_t *value)
{
    const struct host_vp *v = &h->vp[vp];

    switch (msr) {
    case HV_X64_MSR_SCONTROL:
        *value = v->scontrol;
        return true;
    case HV_X64_MSR_SVERSION:
        *value = HV_SYNIC_VERSION_1;
        return true;
    case HV_X64_MSR_SIEFP:
        *value = v->siefp;
        return true;
    case HV_X64_MSR_SIMP:
        *value = v->simp;
        return true;
    case HV_X64_MSR_EOM:
        *value = 0;
        return true;
    default:
        break;
    }
    if (msr < HV_X64_MSR_SINT0 || msr > HV_X64_MSR_SINT15)
        return false;
    *value = v->sint[msr - HV_X64_MSR_SINT0];
    return true;
}

static void unmap_page(struct host *h, uint64_t reg, void **page)
{
    if (*page != NULL)
        host_unmap(h, USE_SYNIC_PAGE, reg & HV_MSR_PAGE_GPA_MASK, HV_PAGE_SIZE);
    *page = NULL;
}

/* A page of the SynIC is zeroed when it is switched on, as an overlay page appears. */
static bool write_page(struct host *h, uint64_t *reg, uint64_t value, void **page)
{
    bool was_on = (*reg & HV_MSR_PAGE_ENABLE) != 0;

    if (!host_page_register(h, value, true))
        return false;
    if (was_on && (value & HV_MSR_PAGE_ENABLE) && value != *reg)
        host_strict(h, &value, sizeof(value), "SynIC page moved while enabled");
    if (was_on && value == *reg)
        return true;
    unmap_page(h, *reg, page);
    *reg = value;
    if (value & HV_MSR_PAGE_ENABLE) {
        *page = host_map(h, USE_SYNIC_PAGE, value & HV_MSR_PAGE_GPA_MASK, HV_PAGE_SIZE);
        if (*page != NULL)
            memset(*page, 0, HV_PAGE_SIZE);
    }
    return true;
}

void vsynic_unmap(struct host *h, uint32_t vp)
{
    struct host_vp *v = &h->vp[vp];

    unmap_page(h, v->simp, (void **)&v->messages);
    unmap_page(h, v->siefp, (void **)&v->flags);
}

static bool write_sint(struct host *h, uint32_t vp, uint32_t sint, uint64_t value)
{
    uint64_t mask = h->cfg.arm64 ? HV_SINT_VECTOR_MASK_ARM64 : HV_SINT_VECTOR_MASK;

    if (!(value & HV_SINT_MASKED) && (value & mask) < HV_SINT_VECTOR_MIN) {
        host_violation(h, &value, sizeof(value), "SINT%u: vector below 16 without mask", sint);
        return false;
    }
    if ((value & HV_SINT_AUTO_EOI) && (h->cfg.recommendations & HV_RECOMMEND_NO_AUTO_EOI))
        host_strict(h, &value, sizeof(value), "SINT%u: AutoEOI although it is deprecated", sint);
    h->vp[vp].sint[sint] = value;
    return true;
}

static void write_eom(struct host *h, uint32_t vp)
{
    struct host_vp *v = &h->vp[vp];
    bool needed = false;

    h->counters.eoms++;
    for (uint32_t s = 0; s < HV_SYNIC_SINT_COUNT; s++) {
        if (v->pending_since[s] == 0)
            continue;
        needed = true;
        /* EOM with the slot still full is too early: that message still blocks the next. */
        if (v->messages != NULL && __atomic_load_n(slot_type(&v->messages->sint[s]), __ATOMIC_ACQUIRE) == 0)
            v->pending_since[s] = 0;
    }
    if (!needed)
        h->counters.eoms_unneeded++;
    v->eom = true;
}

bool vsynic_write(struct host *h, uint32_t vp, uint32_t msr, uint64_t value)
{
    struct host_vp *v = &h->vp[vp];

    switch (msr) {
    case HV_X64_MSR_SCONTROL:
        v->scontrol = value;
        v->eom = true;
        return true;
    case HV_X64_MSR_SIEFP:
        return write_page(h, &v->siefp, value, (void **)&v->flags);
    case HV_X64_MSR_SIMP:
        memset(v->pending_since, 0, sizeof(v->pending_since));
        v->eom = true;
        return write_page(h, &v->simp, value, (void **)&v->messages);
    case HV_X64_MSR_EOM:
        write_eom(h, vp);
        return true;
    case HV_X64_MSR_SIRBP:
        return true;
    default:
        break;
    }
    if (msr < HV_X64_MSR_SINT0 || msr > HV_X64_MSR_SINT15) {
        host_strict(h, &value, sizeof(value), "wrmsr %#x: read-only SynIC register", msr);
        return false;
    }
    return write_sint(h, vp, msr - HV_X64_MSR_SINT0, value);
}

void host_eoi(struct host *h, uint32_t vp, uint32_t vector)
{
    /* TLFS lets the APIC EOI of a SINT deliver the next message too. Not done: a guest that relies on it
     * would stop on the hosts that wait for EOM. */
    (void)h;
    (void)vp;
    (void)vector;
}

void vsynic_audit(struct host *h)
{
    uint64_t now = host_now(h);

    for (uint32_t i = 0; i < h->cfg.vps; i++) {
        struct host_vp *v = &h->vp[i];
        for (uint32_t s = 0; s < HV_SYNIC_SINT_COUNT; s++) {
            if (v->pending_since[s] == 0 || now < v->pending_since[s] + HOST_AUDIT_LIMIT ||
                v->messages == NULL)
                continue;
            if (__atomic_load_n(slot_type(&v->messages->sint[s]), __ATOMIC_ACQUIRE) == HV_MESSAGE_NONE)
                host_violation(h, NULL, 0, "vp %u SINT%u: slot emptied with the pending flag, EOM forgotten",
                               i, s);
            else
                host_log(h, HOST_LOG_WARN, "vp %u SINT%u: message not taken for a second", i, s);
            v->pending_since[s] = now;
        }
    }
}
