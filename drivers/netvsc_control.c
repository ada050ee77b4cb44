/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Control exchanges with the host, made by the one task that probes or removes the NIC.
 *
 * An NVSP request is answered by its VMBus completion. An RNDIS request is a page given by reference on the control
 * channel type: its VMBus completion only says that the page was read, the answer comes as a received message with
 * the request's id.
 */
#define LOG_ROOM "netvsc"
#include <string.h>
#include "drivers/netvsc.h"

#define WAIT_SLICE_MS 200

/* The last page of the headers' memory is the control page. */
static void *control_page(struct netvsc *n)
{
    return (char *)n->headers.virt + (n->headers.pages - 1) * PAGE_BYTES;
}

/* Waits in slices, because nobody wakes us when the channel is rescinded meanwhile. */
static void pause_until(struct netvsc *n, uint64_t end_100ns, const char *what)
{
    wait_queue_sleep(&n->wait, MIN(end_100ns, rt_now_100ns() + MS_100NS(WAIT_SLICE_MS)), what);
}

/* Repeats the call while the ring is full; it empties by itself as the host reads. */
#define SEND_WITH_LIMIT(n, e, call)                                                   \
    do {                                                                              \
        uint64_t end_ = rt_now_100ns() + US_100NS(NETVSC_ANSWER_LIMIT_US);            \
        while (((e) = (call)) == -E_AGAIN && rt_now_100ns() < end_)                   \
            pause_until((n), end_, "room on a NIC's channel");                        \
        if ((e) == -E_AGAIN)                                                          \
            (e) = -E_TIMEOUT;                                                         \
    } while (0)

static uint64_t next_id(struct netvsc *n)
{
    return NETVSC_ID_EXCHANGE | ++n->sequence;
}

static int await(struct netvsc *n, const bool *waiting, const char *what)
{
    uint64_t end_100ns = rt_now_100ns() + US_100NS(NETVSC_ANSWER_LIMIT_US);

    while (*waiting && !vmbus_channel_rescinded(n->channel) && rt_now_100ns() < end_100ns)
        pause_until(n, end_100ns, what);
    if (!*waiting)
        return 0;
    if (vmbus_channel_rescinded(n->channel))
        return -E_REMOVED;
    log_err_some("%s: no answer (%s) within %llu s", n->name, what,
                 (unsigned long long)(NETVSC_ANSWER_LIMIT_US / 1000000));
    vmbus_dump_channel(n->channel);
    return -E_TIMEOUT;
}

int netvsc_nvsp(struct netvsc *n, const struct nvsp_message *m, uint32_t answer_type, uint32_t answer_least)
{
    struct vmbus_piece piece = {m, n->message_bytes};
    bool wanted = answer_least > 0;
    uint64_t id = next_id(n);
    int e;

    n->sent_waiting = wanted;
    SEND_WITH_LIMIT(n, e, vmbus_send(n->channel, &piece, 1, id, wanted));
    if (e)
        return e;
    vmbus_kick(n->channel);
    if (!wanted)
        return 0;
    e = await(n, &n->sent_waiting, "NVSP");
    n->sent_waiting = false;
    if (e)
        return e;
    if (n->answer_bytes < answer_least || n->answer.type != answer_type) {
        log_err_some("%s: NVSP message %u is answered by type %u of %u bytes", n->name, m->type, n->answer.type,
                     n->answer_bytes);
        return -E_PROTO;
    }
    return 0;
}

void netvsc_exchange_answered(struct netvsc *n, const struct vmbus_packet *p)
{
    if (!n->sent_waiting || p->transaction_id != (NETVSC_ID_EXCHANGE | n->sequence)) {
        netvsc_lie(n, "an answer to no request", p->transaction_id);
        return;
    }
    memset(&n->answer, 0, sizeof(n->answer));
    n->answer_bytes = MIN(p->payload_bytes, (uint32_t)sizeof(n->answer));
    memcpy(&n->answer, p->payload, n->answer_bytes);
    n->sent_waiting = false;
    wait_queue_wake_all(&n->wait);
}

void netvsc_reply(struct netvsc *n, const struct rndis_header *header, const void *message)
{
    uint32_t id, bytes = MIN(header->length, NETVSC_REPLY_BYTES);

    if (header->length < sizeof(*header) + sizeof(id)) {
        netvsc_lie(n, "an RNDIS answer too short", header->length);
        return;
    }
    if (!n->reply_waiting || header->type != n->reply_type) {
        netvsc_lie(n, "an RNDIS answer to no request", header->type);
        return;
    }
    memcpy(n->reply, header, sizeof(*header));
    copy_once(n->reply + sizeof(*header), (const char *)message + sizeof(*header), bytes - (uint32_t)sizeof(*header));
    memcpy(&id, n->reply + sizeof(*header), sizeof(id));
    if (id != n->request_id) {
        netvsc_lie(n, "an RNDIS answer to no request", id);
        return;
    }
    n->reply_bytes = bytes;
    n->reply_waiting = false;
    wait_queue_wake_all(&n->wait);
}

/* The message lies in the control page. reply_least 0: no answer will come, only the page is awaited. */
static int exchange(struct netvsc *n, uint32_t bytes, uint32_t type, uint32_t reply_least)
{
    struct nvsp_message m = {
        .type = NVSP_SEND_RNDIS_PACKET,
        .rndis = {NVSP_CHANNEL_CONTROL, NVSP_SECTION_NONE, 0},
    };
    uint64_t frame = n->headers.frames[n->headers.pages - 1];
    struct vmbus_gpa_range range = {bytes, 0, &frame, 1};
    uint64_t id = next_id(n);
    int e;

    n->sent_waiting = true;
    n->reply_waiting = reply_least > 0;
    n->reply_type = type | RNDIS_COMPLETE;
    SEND_WITH_LIMIT(n, e, vmbus_send_gpa(n->channel, &range, 1, &m, n->message_bytes, id));
    if (e == 0) {
        vmbus_kick(n->channel);
        e = await(n, &n->sent_waiting, "RNDIS request to be read");
    }
    if (e == 0 && (n->answer_bytes < NVSP_RNDIS_COMPLETE_BYTES || n->answer.type != NVSP_SEND_RNDIS_PACKET_COMPLETE)) {
        log_err_some("%s: an RNDIS request is completed by type %u of %u bytes", n->name, n->answer.type,
                     n->answer_bytes);
        e = -E_PROTO;
    }
    if (e == 0 && n->answer.rndis_complete.status != NVSP_STATUS_SUCCESS) {
        log_err_some("%s: the host refuses an RNDIS request, status %u", n->name, n->answer.rndis_complete.status);
        e = -E_REFUSED;
    }
    if (e == 0 && reply_least)
        e = await(n, &n->reply_waiting, "RNDIS answer");
    n->sent_waiting = n->reply_waiting = false;
    if (e == 0 && n->reply_bytes < reply_least) {
        log_err_some("%s: RNDIS answer 0x%x of only %u bytes", n->name, n->reply_type, n->reply_bytes);
        e = -E_PROTO;
    }
    return e;
}

int netvsc_rndis_initialize(struct netvsc *n, struct rndis_initialize_complete *reply)
{
    uint32_t bytes = rndis_build_initialize(control_page(n), ++n->request_id);
    int e = exchange(n, bytes, RNDIS_INITIALIZE, sizeof(*reply));

    if (e)
        return e;
    memcpy(reply, n->reply, sizeof(*reply));
    if (reply->status != RNDIS_STATUS_SUCCESS) {
        log_err_some("%s: RNDIS initialise refused, status 0x%x", n->name, reply->status);
        return -E_REFUSED;
    }
    return 0;
}

void netvsc_rndis_halt(struct netvsc *n)
{
    exchange(n, rndis_build_halt(control_page(n), ++n->request_id), RNDIS_HALT, 0);
}

int netvsc_query(struct netvsc *n, uint32_t oid, const void *input, uint32_t input_bytes, void *info, uint32_t room,
                 uint32_t *got)
{
    uint32_t bytes = rndis_build_request(control_page(n), RNDIS_QUERY, ++n->request_id, oid, input, input_bytes);
    struct rndis_query_complete c;
    const void *from;
    int e = exchange(n, bytes, RNDIS_QUERY, sizeof(c));

    *got = 0;
    memset(info, 0, room);
    if (e)
        return e;
    memcpy(&c, n->reply, sizeof(c));
    if (c.status != RNDIS_STATUS_SUCCESS) {
        log_debug("%s: query of OID 0x%x refused, status 0x%x", n->name, oid, c.status);
        return -E_REFUSED;
    }
    from = rndis_query_info(n->reply, n->reply_bytes, got);
    if (!from) {
        log_warn_some("%s: the answer to OID 0x%x points outside itself", n->name, oid);
        *got = 0;
        return -E_PROTO;
    }
    *got = MIN(*got, room);
    memcpy(info, from, *got);
    return 0;
}

int netvsc_set(struct netvsc *n, uint32_t oid, const void *info, uint32_t info_bytes)
{
    uint32_t bytes = rndis_build_request(control_page(n), RNDIS_SET, ++n->request_id, oid, info, info_bytes);
    struct rndis_set_complete c;
    int e = exchange(n, bytes, RNDIS_SET, sizeof(c));

    if (e)
        return e;
    memcpy(&c, n->reply, sizeof(c));
    if (c.status != RNDIS_STATUS_SUCCESS) {
        log_debug("%s: setting OID 0x%x refused, status 0x%x", n->name, oid, c.status);
        return -E_REFUSED;
    }
    return 0;
}
