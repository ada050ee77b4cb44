/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What all integration components have in common.
 *
 *   probe -> open -> (host) IC_NEGOTIATE -> answer with one version of each list, or none
 *                    (host) request      -> component -> the same packet back, as long as it came, with a status
 *
 * The host may negotiate again at any time; the newest choice counts. It has one request outstanding at a time, so
 * there is one buffer: a message is copied there, changed and sent. When the answer finds no room in the ring, reading
 * stops until it has gone: the host waits for it anyway. Messages that ask for no answer (samples of time, from some
 * hosts) get one only when there is room, for such hosts need not read.
 *
 * A message is decoded completely before a component sees it. One that lies about its lengths, is of no known type or
 * comes before the negotiation is refused with a status, logged once in a while and counted; one too short to be
 * answered is dropped.
 *
 * Source of protocol facts: ic_wire.h.
 */
#define LOG_ROOM "ic"
#include "drivers/ic.h"
#include <string.h>
#include "drivers/drivers.h"
#include "rt/candela.h"

#define BUFFER_LEAST     4096u       /* what other guests read, so hosts may send as much with fields we don't know */
_Static_assert(sizeof(struct ic_message) + sizeof(struct ic_negotiate) + IC_VERSIONS_MAX * sizeof(struct ic_version) <=
               BUFFER_LEAST, "the longest negotiation fits");

struct ic_counters ic_counters;

static const struct ic_version frameworks[] = {IC_FRAMEWORK_3, IC_FRAMEWORK_1};

void ic_lie(struct ic *ic, const char *what, uint64_t value)
{
    ic_counters.lies++;
    ic->lies++;
    log_warn_some("%s: the host sent %s (0x%llx), refused; %llu such so far", ic->name, what, (unsigned long long)value,
             (unsigned long long)ic->lies);
}

/* ---- negotiation ---- */

/* The first of ours that the host lists, or NULL. */
static const struct ic_version *choose(const struct ic_version *ours, unsigned count, const struct ic_version *theirs,
                                       unsigned their_count)
{
    for (unsigned i = 0; i < count; i++) {
        for (unsigned k = 0; k < their_count; k++) {
            if (memcmp(&ours[i], &theirs[k], sizeof(*ours)) == 0)
                return &ours[i];
        }
    }
    return NULL;
}

static uint32_t negotiate(struct ic *ic, struct ic_header *header, uint32_t bytes)
{
    struct ic_negotiate *m = (void *)(header + 1);
    const struct ic_version *framework, *message;

    if (bytes < sizeof(*m)) {
        ic_lie(ic, "a negotiation too short", bytes);
        return IC_STATUS_INVALID_ARGUMENT;
    }
    uint32_t count = (uint32_t)m->framework_count + m->message_count;
    bool fits = count <= IC_VERSIONS_MAX && count * sizeof(struct ic_version) <= bytes - sizeof(*m);
    if (!fits)
        ic_lie(ic, "a negotiation with a number of versions that can't be", count);
    framework = fits ? choose(frameworks, ARRAY_SIZE(frameworks), m->versions, m->framework_count) : NULL;
    message = fits ? choose(ic->component->versions, ic->component->version_count, m->versions + m->framework_count,
                            m->message_count) : NULL;
    ic->negotiated = framework && message;
    if (!ic->negotiated) {
        if (fits && rt_may_log(&ic->lines))
            log_warn("%s: no version in common with the host", ic->name);
        m->framework_count = m->message_count = 0;
        return IC_STATUS_OK;              /* the counts say it: so other guests answer */
    }
    ic->framework = *framework;
    ic->message = *message;
    m->framework_count = m->message_count = 1;
    m->versions[0] = *framework;          /* both came from the list, so there is room for two */
    m->versions[1] = *message;
    header->body_bytes = IC_NEGOTIATED_BYTES;
    log_debug("%s: framework %u.%u, messages %u.%u", ic->name, framework->major, framework->minor, message->major,
              message->minor);
    return IC_STATUS_OK;
}

/* ---- answers ---- */

/* False: no room, it waits. */
static bool send_answer(struct ic *ic)
{
    const struct vmbus_piece piece = {ic->buffer, ic->answer_bytes};
    int e = vmbus_send(ic->channel, &piece, 1, ic->answer_id, false);

    if (e == -E_AGAIN)
        return false;
    ic->answer_bytes = 0;                 /* sent, or there is nobody to send it to */
    return true;
}

/* ---- a message ---- */

static uint32_t handle(struct ic *ic, struct ic_header *header, uint32_t bytes)
{
    if (header->type == IC_NEGOTIATE)
        return negotiate(ic, header, bytes);
    if (header->type != ic->component->type) {
        ic_lie(ic, "a message of another type", header->type);
        return IC_STATUS_FAIL;
    }
    if (!ic->negotiated) {
        ic_lie(ic, "a request before the negotiation", header->type);
        return IC_STATUS_FAIL;
    }
    ic_counters.requests++;
    return ic->component->request(ic, header + 1, bytes);
}

/* Its bytes with all headers when they are what it says, or 0 after one line. */
static uint32_t check_lengths(struct ic *ic, const struct ic_message *m, uint32_t packet_bytes)
{
    uint32_t most = packet_bytes - (uint32_t)sizeof(m->pipe);

    if (m->pipe.type != IC_PIPE_DATA)
        ic_lie(ic, "a pipe message of another type", m->pipe.type);
    else if (m->pipe.bytes < sizeof(m->header) || m->pipe.bytes > most)
        ic_lie(ic, "a message with a length that can't be", m->pipe.bytes);
    else if (m->header.body_bytes > m->pipe.bytes - sizeof(m->header))
        ic_lie(ic, "a body with a length that can't be", m->header.body_bytes);
    else if (m->pipe.bytes > ic->buffer_bytes - sizeof(m->pipe))
        ic_lie(ic, "a message too long", m->pipe.bytes);
    else
        return (uint32_t)sizeof(m->pipe) + m->pipe.bytes;
    return 0;
}

static void take(struct ic *ic, const struct vmbus_packet *p)
{
    struct ic_message *m = (void *)ic->buffer;
    uint32_t copied = MIN(p->payload_bytes, ic->buffer_bytes);

    if (p->type != VMBUS_PACKET_INBAND || p->payload_bytes < sizeof(*m)) {
        ic_lie(ic, p->type != VMBUS_PACKET_INBAND ? "a packet of a strange type" : "a message too short",
               p->type != VMBUS_PACKET_INBAND ? p->type : p->payload_bytes);
        return;
    }
    memcpy(m, p->payload, copied);
    if (m->header.flags & IC_FLAG_RESPONSE) {
        ic_lie(ic, "an answer to nothing", m->header.flags);
        return;
    }
    bool wants_answer = (m->header.flags & IC_FLAGS_REQUEST) != 0;
    uint32_t bytes = check_lengths(ic, m, p->payload_bytes);
    uint32_t status = bytes ? handle(ic, &m->header, m->header.body_bytes) : IC_STATUS_INVALID_ARGUMENT;

    if (status != IC_STATUS_OK)
        ic_counters.refused++;
    m->header.status = status;
    m->header.flags = IC_FLAGS_RESPONSE;
    ic->answer_bytes = bytes ? bytes : copied;
    ic->answer_id = p->transaction_id;
    if (!send_answer(ic) && !wants_answer) {
        ic->answer_bytes = 0;
        ic_counters.answers_dropped++;
    }
}

/* ---- ring callbacks ---- */

static void on_readable(void *arg)
{
    struct ic *ic = arg;
    const struct vmbus_packet *p;

    while (!ic->answer_bytes && (p = vmbus_recv(ic->channel)))
        take(ic, p);
    vmbus_kick(ic->channel);
}

static void on_writable(void *arg)
{
    struct ic *ic = arg;

    if (ic->answer_bytes && send_answer(ic))
        on_readable(ic);
}

/* ---- life ---- */

int ic_probe(struct vmbus_channel *ch, const struct ic_component *component)
{
    uint32_t bytes = MAX((uint32_t)sizeof(struct ic_message) + ALIGN_UP(component->body_max, 8u), BUFFER_LEAST);
    struct ic *ic = kzalloc(sizeof(*ic) + bytes);
    int e;

    if (!ic) {
        log_err_some("%s: no memory for it", vmbus_channel_name(ch));
        return -E_NOMEM;
    }
    ic->component = component;
    ic->channel = ch;
    ic->name = vmbus_channel_name(ch);
    ic->buffer_bytes = bytes;
    vmbus_set_driver_data(ch, ic);
    e = vmbus_open(ch, IC_RING_BYTES, IC_RING_BYTES, NULL, 0, on_readable, on_writable, ic);
    if (e) {
        log_warn_some("%s: channel not opened: %s", ic->name, error_name(e));
        vmbus_set_driver_data(ch, NULL);
        kfree(ic);
    }
    return e;
}

void ic_remove(struct vmbus_channel *ch)
{
    struct ic *ic = vmbus_driver_data(ch);

    vmbus_close(ch);                      /* the callbacks have stopped */
    log_debug("%s: gone", ic->name);
    kfree(ic);
}

/* ---- figures ---- */

#define COUNTER(f, h) {.name = "candela_ic_" #f "_total", .help = (h), .read = metric_read_u64, .arg = &ic_counters.f}
static struct metric metrics[] = {
    COUNTER(requests, "Requests of the host's integration components"),
    COUNTER(refused, "Requests answered with an error"),
    COUNTER(lies, "Messages of integration components that made no sense"),
    COUNTER(answers_dropped, "Answers nobody asked for that found no room"),
    COUNTER(heartbeats, "Heartbeats answered"),
};

void ic_register(void)
{
    for (unsigned i = 0; i < ARRAY_SIZE(metrics); i++)
        metric_register(&metrics[i]);
    ic_shutdown_register();
    ic_heartbeat_register();
    ic_timesync_register();
    ic_kvp_register();
}
