/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * rndis_host.c: RNDIS control messages: INITIALIZE, QUERY, SET, KEEPALIVE, HALT. Answers travel as received
 * messages.
 *
 * The message is a copy. A false return means that a real host would have stopped serving the adapter.
 */
#include "tests/host/netvsp.h"

#define REPLY_MAX 1024u

/* Sends an answer; a fault overwrites the status at byte 12. */
static void reply(struct host_nic *n, void *message, uint32_t bytes)
{
    struct rndis_set_complete *c = message;          /* all answers have id and status in the same place */
    uint8_t garbage[16];

    if (!malice_rndis_answer(n, message, bytes))
        return;
    switch (host_fault(n->h, HOST_FAULT_RNDIS_REPLY)) {
    case HOST_FAULT_NONE:
        break;
    case HOST_FAULT_DROP:
        return;
    case HOST_FAULT_ERROR:
        c->status = RNDIS_STATUS_FAILURE;
        break;
    case HOST_FAULT_SHORT:
        bytes = sizeof(struct rndis_header);
        break;
    case HOST_FAULT_WRONG_ID:
        c->request_id ^= 0x5A5A;
        break;
    case HOST_FAULT_TWICE:
        netvsp_send_control(n, message, bytes);
        break;
    case HOST_FAULT_GARBAGE:
        memset(garbage, 0xEE, sizeof(garbage));
        netvsp_send_control(n, garbage, sizeof(garbage));
        return;
    }
    netvsp_send_control(n, message, bytes);
}

static bool initialize(struct host_nic *n, const uint8_t *message, uint32_t bytes)
{
    struct rndis_initialize in;
    struct rndis_initialize_complete out = {
        .header = {.type = RNDIS_INITIALIZE | RNDIS_COMPLETE, .length = sizeof(out)},
        .major = RNDIS_VERSION_MAJOR,
        .minor = RNDIS_VERSION_MINOR,
        .device_flags = RNDIS_DEVICE_CONNECTIONLESS,
        .max_packets_per_message = n->cfg.max_packets_per_message,
        .max_transfer_bytes = 0xEFFFFFFF,
        .alignment_factor = n->cfg.alignment_factor,
    };

    if (bytes < sizeof(in) || n->initialized) {
        host_violation(n->h, message, bytes, "rndis: INITIALIZE short or twice");
        return false;
    }
    memcpy(&in, message, sizeof(in));
    if (in.major != RNDIS_VERSION_MAJOR) {
        host_strict(n->h, message, bytes, "rndis: INITIALIZE version %u.%u", in.major, in.minor);
        out.status = RNDIS_STATUS_BAD_VERSION;
    } else {
        n->initialized = true;
    }
    out.request_id = in.request_id;
    reply(n, &out, sizeof(out));
    return true;
}

/* Checks the information buffer of QUERY and SET: inside the message, and where old hosts look for it. */
static bool request_info(struct host_nic *n, const uint8_t *message, uint32_t bytes, struct rndis_request *in,
                         const uint8_t **info)
{
    if (bytes < sizeof(*in)) {
        host_violation(n->h, message, bytes, "rndis: request is short");
        return false;
    }
    memcpy(in, message, sizeof(*in));
    *info = message + sizeof(*in);
    if (in->vc_handle != 0)
        host_strict(n->h, message, bytes, "rndis: VC handle");
    if (in->info_length == 0)
        return true;
    if (in->info_offset > bytes - RNDIS_OFFSET_BASE ||
        in->info_length > bytes - RNDIS_OFFSET_BASE - in->info_offset) {
        host_violation(n->h, message, bytes, "rndis: information buffer outside of the message");
        return false;
    }
    if (in->info_offset != RNDIS_REQUEST_INFO_OFFSET)
        host_strict(n->h, message, bytes, "rndis: information buffer at %u, hosts take it from %u",
                    in->info_offset, RNDIS_REQUEST_INFO_OFFSET);
    *info = message + RNDIS_OFFSET_BASE + in->info_offset;
    return true;
}

static bool query(struct host_nic *n, const uint8_t *message, uint32_t bytes)
{
    struct {
        struct rndis_query_complete head;
        uint8_t info[REPLY_MAX];
    } out = {.head = {.header = {.type = RNDIS_QUERY | RNDIS_COMPLETE}}};
    struct rndis_request in;
    const uint8_t *info;
    uint32_t length = 0;

    if (!request_info(n, message, bytes, &in, &info))
        return false;
    out.head.request_id = in.request_id;
    out.head.status = rndis_oid_query(n, in.oid, info, in.info_length, out.info, sizeof(out.info), &length);
    host_trace(n->h, HOST_TRACE_NETVSP, "query %#x: %#x, %u bytes", in.oid, out.head.status, length);
    if (out.head.status != RNDIS_STATUS_SUCCESS)
        length = 0;
    out.head.info_length = length;
    out.head.info_offset = length != 0 ? RNDIS_QUERY_COMPLETE_INFO_OFFSET : 0;
    out.head.header.length = (uint32_t)sizeof(out.head) + length;
    reply(n, &out, out.head.header.length);
    return true;
}

static bool set(struct host_nic *n, const uint8_t *message, uint32_t bytes)
{
    struct rndis_set_complete out = {.header = {.type = RNDIS_SET | RNDIS_COMPLETE, .length = sizeof(out)}};
    struct rndis_request in;
    const uint8_t *info;

    if (!request_info(n, message, bytes, &in, &info))
        return false;
    out.request_id = in.request_id;
    out.status = rndis_oid_set(n, in.oid, info, in.info_length);
    host_trace(n->h, HOST_TRACE_NETVSP, "set %#x: %#x", in.oid, out.status);
    reply(n, &out, sizeof(out));
    return true;
}

static bool keepalive(struct host_nic *n, const uint8_t *message, uint32_t bytes)
{
    struct rndis_keepalive_complete out = {
        .header = {.type = RNDIS_KEEPALIVE | RNDIS_COMPLETE, .length = sizeof(out)},
    };
    struct rndis_keepalive in;

    if (bytes < sizeof(in)) {
        host_violation(n->h, message, bytes, "rndis: KEEPALIVE is short");
        return false;
    }
    memcpy(&in, message, sizeof(in));
    out.request_id = in.request_id;
    reply(n, &out, sizeof(out));
    return true;
}

bool rndis_host_message(struct host_nic *n, const uint8_t *message, uint32_t bytes)
{
    struct rndis_header head;

    if (bytes < sizeof(head)) {
        host_violation(n->h, message, bytes, "rndis: control message of %u bytes", bytes);
        return false;
    }
    memcpy(&head, message, sizeof(head));
    if (head.length > bytes || head.length < sizeof(head)) {
        host_violation(n->h, message, bytes, "rndis: message length %u of %u bytes", head.length, bytes);
        return false;
    }
    if (head.length != bytes)
        host_strict(n->h, message, bytes, "rndis: message length %u of %u bytes", head.length, bytes);
    if (head.type != RNDIS_INITIALIZE && (!n->initialized || n->halted)) {
        host_violation(n->h, message, bytes, "rndis: message %u before INITIALIZE or after HALT", head.type);
        return false;
    }
    switch (head.type) {
    case RNDIS_INITIALIZE:
        return initialize(n, message, head.length);
    case RNDIS_QUERY:
        return query(n, message, head.length);
    case RNDIS_SET:
        return set(n, message, head.length);
    case RNDIS_KEEPALIVE:
        return keepalive(n, message, head.length);
    case RNDIS_HALT:
        n->halted = true;                        /* no answer but the packet's completion */
        n->filter = 0;
        return true;
    default:
        host_violation(n->h, message, bytes, "rndis: message type %u", head.type);
        return false;
    }
}
