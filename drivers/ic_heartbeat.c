/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Heartbeat: every two seconds the host asks whether the machine lives. The answer counts on by one and, from 3.0 on,
 * tells how the application is. A machine whose event loop stands still does not answer, which is the point.
 */
#define LOG_ROOM "ic"
#include "drivers/ic.h"
#include <string.h>
#include "rt/services.h"

_Static_assert((int)APPLICATION_HEALTHY == IC_APPLICATION_HEALTHY &&
               (int)APPLICATION_CRITICAL == IC_APPLICATION_CRITICAL, "the runtime counts as the protocol does");

static const struct ic_version versions[] = {{3, 0}, {1, 0}};

static uint32_t request(struct ic *ic, void *body, uint32_t bytes)
{
    struct ic_heartbeat *m = body;

    if (bytes < sizeof(m->sequence)) {
        ic_lie(ic, "a heartbeat too short", bytes);
        return IC_STATUS_INVALID_ARGUMENT;
    }
    m->sequence++;
    if (ic->message.major >= 3 && bytes >= offsetof(struct ic_heartbeat, reserved))
        m->application_state = application_health();
    ic_counters.heartbeats++;
    return IC_STATUS_OK;
}

static const struct ic_component component = {
    .type = IC_HEARTBEAT, .versions = versions, .version_count = ARRAY_SIZE(versions), .request = request,
    .body_max = 256,
};

static int probe(struct vmbus_channel *ch) { return ic_probe(ch, &component); }

void ic_heartbeat_register(void)
{
    static struct vmbus_driver driver = {
        .name = "heartbeat", .class_id = VMBUS_GUID_HEARTBEAT, .probe = probe, .remove = ic_remove,
    };
    vmbus_register_driver(&driver);
}
