/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * host_stimer.c: synthetic timers (TLFS: timers). Four per virtual processor, one-shot or periodic, expiring
 * as an interrupt (direct mode) or as a message in the slot of their SINT.
 *
 * Never early. One deadline per processor is kept with the transport: the nearest of the four.
 */
#include "tests/host/host_internal.h"

static void update_deadline(struct host *h, uint32_t vp)
{
    struct host_vp *v = &h->vp[vp];
    uint64_t next = HOST_NEVER;

    for (uint32_t i = 0; i < HV_STIMER_COUNT; i++) {
        if (v->timers[i].expires < next)
            next = v->timers[i].expires;
    }
    if (next == v->deadline)
        return;
    v->deadline = next;
    h->ops.set_timer(h->ctx, vp, next);
}

void vstimer_reset(struct host *h, uint32_t vp)
{
    for (uint32_t i = 0; i < HV_STIMER_COUNT; i++)
        h->vp[vp].timers[i] = (struct host_timer){.expires = HOST_NEVER};
}

/* (Re)computes when the timer is due after its configuration or count changed. */
static void arm(struct host *h, struct host_timer *t)
{
    if (!(t->config & HV_STIMER_ENABLE) || t->count == 0)
        t->expires = HOST_NEVER;
    else if (t->config & HV_STIMER_PERIODIC)
        t->expires = host_now(h) + t->count;
    else
        t->expires = t->count;
}

static bool deliver_message(struct host *h, uint32_t vp, uint32_t index)
{
    struct host_timer *t = &h->vp[vp].timers[index];
    uint32_t sint = (uint32_t)((t->config & HV_STIMER_SINT_MASK) >> HV_STIMER_SINT_SHIFT);
    struct hv_timer_payload payload = {
        .timer_index = index,
        .expiration_time = t->message_due,
        .delivery_time = host_now(h),
    };

    if (vsynic_post_message(h, vp, sint, HV_MESSAGE_TIMER_EXPIRED, 0, &payload, sizeof(payload), false) !=
        SYNIC_POSTED)
        return false;
    h->counters.timer_messages++;
    t->message_due = 0;
    return true;
}

static void expire(struct host *h, uint32_t vp, uint32_t index)
{
    struct host_timer *t = &h->vp[vp].timers[index];
    uint64_t due = t->expires;

    if (t->config & HV_STIMER_PERIODIC) {
        uint64_t now = host_now(h);
        t->expires += t->count * ((now - t->expires) / t->count + 1);
    } else {
        t->expires = HOST_NEVER;
        t->config &= ~HV_STIMER_ENABLE;
    }
    if (t->config & HV_STIMER_DIRECT) {
        h->counters.timer_interrupts++;
        h->counters.interrupts++;
        h->ops.raise(h->ctx, vp, (uint32_t)((t->config & HV_STIMER_VECTOR_MASK) >> HV_STIMER_VECTOR_SHIFT),
                     false);
        return;
    }
    t->message_due = due;
    if (!deliver_message(h, vp, index) && (t->config & HV_STIMER_PERIODIC))
        t->message_due = 0;                      /* a periodic tick that finds the slot full is dropped */
}

void vstimer_fired(struct host *h, uint32_t vp)
{
    uint64_t now = host_now(h);

    h->vp[vp].deadline = HOST_NEVER;
    for (uint32_t i = 0; i < HV_STIMER_COUNT; i++) {
        if (h->vp[vp].timers[i].expires <= now)
            expire(h, vp, i);
    }
    update_deadline(h, vp);
}

void vstimer_retry(struct host *h, uint32_t vp)
{
    for (uint32_t i = 0; i < HV_STIMER_COUNT; i++) {
        if (h->vp[vp].timers[i].message_due != 0 && !deliver_message(h, vp, i))
            return;
    }
}

static bool write_config(struct host *h, uint32_t vp, uint32_t index, uint64_t value)
{
    struct host_timer *t = &h->vp[vp].timers[index];
    uint64_t sint = (value & HV_STIMER_SINT_MASK) >> HV_STIMER_SINT_SHIFT;

    if (value & HV_STIMER_RESERVED_MASK) {
        host_violation(h, &value, sizeof(value), "timer %u: reserved configuration bits", index);
        return false;
    }
    if ((value & HV_STIMER_DIRECT) && !(h->cfg.features & HV_FEATURE_STIMER_DIRECT)) {
        host_violation(h, &value, sizeof(value), "timer %u: direct mode is not announced", index);
        return false;
    }
    if ((value & HV_STIMER_DIRECT) && ((value & HV_STIMER_VECTOR_MASK) >> HV_STIMER_VECTOR_SHIFT) < 16) {
        host_violation(h, &value, sizeof(value), "timer %u: direct mode with a vector below 16", index);
        return false;
    }
    if (!(value & HV_STIMER_DIRECT) && sint == 0)
        value &= ~HV_STIMER_ENABLE;
    t->config = value;
    t->message_due = 0;
    arm(h, t);
    return true;
}

static bool write_count(struct host *h, uint32_t vp, uint32_t index, uint64_t value)
{
    struct host_timer *t = &h->vp[vp].timers[index];

    t->count = value;
    t->message_due = 0;
    if (value == 0)
        t->config &= ~HV_STIMER_ENABLE;
    else if (t->config & HV_STIMER_AUTO_ENABLE)
        t->config |= HV_STIMER_ENABLE;
    arm(h, t);
    return true;
}

bool vstimer_read(struct host *h, uint32_t vp, uint32_t msr, uint64_t *value)
{
    uint32_t n = msr - HV_X64_MSR_STIMER0_CONFIG;
    const struct host_timer *t = &h->vp[vp].timers[n / 2];

    *value = n % 2 ? t->count : t->config;
    return true;
}

bool vstimer_write(struct host *h, uint32_t vp, uint32_t msr, uint64_t value)
{
    uint32_t n = msr - HV_X64_MSR_STIMER0_CONFIG;
    bool ok = n % 2 ? write_count(h, vp, n / 2, value) : write_config(h, vp, n / 2, value);

    /* What is already past fires at once. */
    if (ok)
        vstimer_fired(h, vp);
    return ok;
}
