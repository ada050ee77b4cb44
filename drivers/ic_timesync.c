/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Time synchronisation: the host tells the time of day, once with the order to set the clock (after boot, restore and
 * resume) and then every few seconds as a sample. What becomes of them is rt/wall.c's.
 *
 * From 4.0 on the host says at which reference time it looked at its clock, so that the message's way does not count;
 * before, and when our own clock is not the reference time, the moment of arrival must do.
 */
#define LOG_ROOM "ic"
#include "drivers/ic.h"
#include "hv/hv.h"
#include "rt/services.h"

#define UNIX_100NS_MAX (WALL_UNIX_NS_MAX / 100)

static const struct ic_version versions[] = {{4, 0}, {3, 0}, {1, 0}};

static uint32_t request(struct ic *ic, void *body, uint32_t bytes)
{
    bool dated = ic->message.major >= 4;
    const struct ic_timesync *old = body;
    const struct ic_timesync_4 *m = body;
    uint32_t least = dated ? offsetof(struct ic_timesync_4, flags) + 1 : offsetof(struct ic_timesync, flags) + 1;

    if (bytes < least) {
        ic_lie(ic, "a sample of time too short", bytes);
        return IC_STATUS_INVALID_ARGUMENT;
    }
    uint8_t flags = dated ? m->flags : old->flags;
    uint64_t host_time = dated ? m->host_time : old->host_time;
    if (!(flags & (IC_TIMESYNC_SYNC | IC_TIMESYNC_SAMPLE)))
        return IC_STATUS_OK;              /* a probe: the answer is all it wants */
    if (host_time < IC_TIME_UNIX_EPOCH || host_time - IC_TIME_UNIX_EPOCH > UNIX_100NS_MAX) {
        ic_lie(ic, "a time of no age we know", host_time);
        return IC_STATUS_INVALID_ARGUMENT;
    }
    struct wall_sample sample = {
        .unix_ns = (host_time - IC_TIME_UNIX_EPOCH) * 100,
        .at_100ns = dated && hv_clock_is_reference() ? m->reference_100ns : rt_now_100ns(),
        .set = (flags & IC_TIMESYNC_SYNC) != 0,
        .source = "host",
    };
    int e = wall_sample(&sample);
    if (e == -E_RANGE)
        log_debug("%s: a sample of reference time %llu at %llu, ignored", ic->name,
                  (unsigned long long)sample.at_100ns, (unsigned long long)rt_now_100ns());
    return IC_STATUS_OK;
}

static const struct ic_component component = {
    .type = IC_TIMESYNC, .versions = versions, .version_count = ARRAY_SIZE(versions), .request = request,
    .body_max = 256,
};

static int probe(struct vmbus_channel *ch) { return ic_probe(ch, &component); }

void ic_timesync_register(void)
{
    static struct vmbus_driver driver = {
        .name = "timesync", .class_id = VMBUS_GUID_TIMESYNC, .probe = probe, .remove = ic_remove,
    };
    vmbus_register_driver(&driver);
}
