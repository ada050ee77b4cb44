/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ic_heartbeat.c: is the guest alive? Asked every two seconds; a beat that is not answered until the next one is
 * due is missed.
 */
#include "tests/host/ic.h"

static const struct guid instance = GUID_INIT(0xfd149e91, 0x82e0, 0x4a7d, 0xafa6, 0x2a4166cbd7c0);

static uint64_t period(const struct host_ic *ic)
{
    return ic->h->ics->cfg.heartbeat_ms * HOST_TICKS_PER_MS;
}

static void ready(struct host_ic *ic)
{
    ic->due = host_now(ic->h);
}

static uint32_t next(struct host_ic *ic, uint8_t *body)
{
    struct ic_heartbeat beat = {.sequence = ic->sequence};
    uint64_t now = host_now(ic->h);

    if (now < ic->due)
        return 0;
    ic->due = now + period(ic);
    ic->sequence += 2;                            /* the guest's answer is in between */
    memcpy(body, &beat, sizeof(beat));
    return sizeof(beat);
}

static bool answer(struct host_ic *ic, uint32_t status, const uint8_t *body, uint32_t bytes, const uint8_t *sent)
{
    struct ic_heartbeat had, has = {.sequence = 0};

    memcpy(&had, sent, sizeof(had));
    memcpy(&has, body, bytes < sizeof(has) ? bytes : sizeof(has));
    if (has.sequence != had.sequence + 1)
        return false;
    ic->seen.word = has.application_state;
    if (status != IC_STATUS_OK)
        host_strict(ic->h, body, bytes, "ic heartbeat: status %#x", status);
    if (has.application_state > IC_APPLICATION_STOPPED || has.reserved != 0)
        host_strict(ic->h, body, bytes, "ic heartbeat: application state %u, reserved %#x", has.application_state,
                    has.reserved);
    return true;
}

static void lost(struct host_ic *ic, bool closed)
{
    (void)ic;
    (void)closed;
}

const struct ic_kind ic_heartbeat = {
    .dev = IC_DEV("heartbeat", &instance), .interface_type = VMBUS_GUID_HEARTBEAT, .type = IC_HEARTBEAT,
    .ready = ready, .next = next, .answer = answer, .lost = lost, .limit_100ns = period,
};
