/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Shutdown: the host asks the machine to power off or to restart. The runtime is told, which takes the machine down in
 * order (rt/shutdown.c), in a task: the answer is in the ring before that runs.
 *
 * A request while one runs is granted again when it wants the same end, and may then be in more of a hurry; one for the
 * other end, and hibernation, are refused.
 */
#define LOG_ROOM "ic"
#include "drivers/ic.h"
#include "rt/candela.h"

#define TEXT_SHOWN 160u

static const struct ic_version versions[] = {{3, 2}, {3, 1}, {3, 0}, {1, 0}};

/* The host's text as a log line can show it: its beginning, and no byte that a terminal might obey. Hosts differ in the
 * width of the characters; what matters of either is in every word's first byte. */
static void printable(char *to, const uint8_t *text, uint32_t bytes)
{
    uint32_t width = bytes >= 2 && text[0] != 0 && text[1] == 0 ? 2 : 1, n = 0;

    for (uint32_t at = 0; at < bytes && text[at] != 0 && n < TEXT_SHOWN; at += width)
        to[n++] = text[at] >= ' ' && text[at] <= '~' ? (char)text[at] : '?';
    to[n] = '\0';
}

static uint32_t request(struct ic *ic, void *body, uint32_t bytes)
{
    static bool told;
    const struct ic_shutdown *m = body;
    char text[TEXT_SHOWN + 1];

    if (bytes < offsetof(struct ic_shutdown, text)) {
        ic_lie(ic, "a shutdown too short", bytes);
        return IC_STATUS_INVALID_ARGUMENT;
    }
    printable(text, m->text, MIN(bytes, (uint32_t)sizeof(*m)) - (uint32_t)offsetof(struct ic_shutdown, text));
    if (m->flags & ~(IC_SHUTDOWN_FORCE | IC_SHUTDOWN_RESTART)) {
        if (rt_may_log(&ic->lines))
            log_warn("%s: the host asks for %s (flags 0x%x), refused", ic->name,
                     m->flags & IC_SHUTDOWN_HIBERNATE ? "hibernation" : "something unknown", m->flags);
        return IC_STATUS_FAIL;
    }
    enum shutdown_kind kind = m->flags & IC_SHUTDOWN_RESTART ? SHUTDOWN_RESTART : SHUTDOWN_POWER_OFF;
    bool forced = (m->flags & IC_SHUTDOWN_FORCE) != 0;
    bool granted = shutdown_request(kind, forced) == 0;
    if (rt_may_log(&ic->lines) || (granted && !told))      /* why the machine ended stands in the log in any case */
        log_line(granted ? LOG_INFO : LOG_WARN, LOG_ROOM, "%s: the host asks for a %s%s (reason 0x%x)%s%s%s", ic->name,
                 kind == SHUTDOWN_RESTART ? "restart" : "shutdown", forced ? ", forced" : "", m->reason,
                 text[0] ? ": " : "", text, granted ? "" : "; the other kind of end was asked for before, refused");
    told = told || granted;
    return granted ? IC_STATUS_OK : IC_STATUS_FAIL;
}

static const struct ic_component component = {
    .type = IC_SHUTDOWN, .versions = versions, .version_count = ARRAY_SIZE(versions), .request = request,
    .body_max = sizeof(struct ic_shutdown),
};

static int probe(struct vmbus_channel *ch) { return ic_probe(ch, &component); }

void ic_shutdown_register(void)
{
    static struct vmbus_driver driver = {
        .name = "shutdown", .class_id = VMBUS_GUID_SHUTDOWN, .probe = probe, .remove = ic_remove,
    };
    vmbus_register_driver(&driver);
}
