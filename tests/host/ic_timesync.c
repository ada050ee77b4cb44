/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ic_timesync.c: the host tells its time of day. The first sample after the versions says "set your clock", the
 * following ones, every five seconds, are for a clock that is steered; a call can say "set it" again.
 */
#include "tests/host/ic.h"

static const struct guid instance = GUID_INIT(0x2dd1ce17, 0x079e, 0x403c, 0xb352, 0xa1921ee207ee);

static uint64_t period(const struct host_ic *ic)
{
    return ic->h->ics->cfg.timesync_ms * HOST_TICKS_PER_MS;
}

static void ready(struct host_ic *ic)
{
    ic->wanted = true;
}

uint64_t host_ic_time(struct host *h)
{
    return h->ics != NULL ? h->ics->time_base + host_now(h) : 0;
}

static uint32_t next(struct host_ic *ic, uint8_t *body)
{
    uint64_t now = host_now(ic->h);
    uint8_t flags = ic->wanted ? IC_TIMESYNC_SYNC : IC_TIMESYNC_SAMPLE;
    struct ic_timesync_4 new = {
        .host_time = host_ic_time(ic->h), .reference_100ns = now, .flags = flags,
    };
    struct ic_timesync old = {.host_time = new.host_time, .flags = flags};

    if (!ic->wanted && now < ic->due)
        return 0;
    ic->wanted = false;
    ic->due = now + period(ic);
    if (!ic->h->ics->cfg.timesync_answered)
        ic->flags = 0;
    if (ic->seen.message.major < 4) {
        memcpy(body, &old, sizeof(old));
        return sizeof(old);
    }
    memcpy(body, &new, sizeof(new));
    return sizeof(new);
}

static bool answer(struct host_ic *ic, uint32_t status, const uint8_t *body, uint32_t bytes, const uint8_t *sent)
{
    uint32_t asked = ic->asked.header.body_bytes;
    uint64_t time;

    if (bytes < sizeof(time) || memcmp(body, sent, sizeof(time)) != 0)
        return false;
    if (memcmp(body, sent, bytes < asked ? bytes : asked) != 0)
        host_strict(ic->h, body, bytes, "ic timesync: the answer's body is not the request's");
    if (status != IC_STATUS_OK)
        host_strict(ic->h, body, bytes, "ic timesync: status %#x", status);
    return true;
}

static void lost(struct host_ic *ic, bool closed)
{
    if (closed)
        ic->wanted = false;
}

const struct ic_kind ic_timesync = {
    .dev = IC_DEV("timesync", &instance), .interface_type = VMBUS_GUID_TIMESYNC, .type = IC_TIMESYNC,
    .ready = ready, .next = next, .answer = answer, .lost = lost, .limit_100ns = period,
};

void host_ic_set_time(struct host *h, uint64_t time_100ns)
{
    if (h->ics != NULL)
        h->ics->time_base = time_100ns - host_now(h);
}

bool host_ic_time_sync(struct host *h)
{
    struct host_ic *ic = ic_ready(h, HOST_IC_TIMESYNC);

    if (ic == NULL)
        return false;
    ic->wanted = true;
    ic_wake(ic);
    return true;
}
