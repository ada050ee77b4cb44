/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Receiving: transfer-page packets.
 *
 * One packet names any number of ranges of the receive buffer, each an RNDIS message. Frames go up by reference,
 * gathered into batches. The packet's completion gives all its ranges back to the host, so it is sent when the last
 * frame was released; when the ring has no room for it, it waits in order.
 *
 * What the host may change meanwhile is read once: the headers as rndis.c promises, and the frame by a private copy
 * (hv/copies.h), which then goes up in its stead; the packet needs not wait for it.
 */
#define LOG_ROOM "netvsc"
#include <string.h>
#include "drivers/netvsc.h"

/* Of the type-specific header: set id, owner, count; then the ranges. */
#define TRANSFER_HEADER_BYTES ((uint32_t)(sizeof(struct vmbus_transfer_pages) - sizeof(struct vmbus_packet_header)))

int netvsc_rx_init(struct netvsc *n)
{
    /* A packet holds at least one sub-allocation while it is out, so there are never more. */
    uint32_t count = MIN(n->sub_count, NETVSC_RX_PACKETS_MOST);

    n->rx_packets = kcalloc(count, sizeof(n->rx_packets[0]));
    if (!n->rx_packets)
        return -E_NOMEM;
    n->rx_free = NULL;
    for (uint32_t i = count; i-- > 0;) {
        n->rx_packets[i].next = n->rx_free;
        n->rx_free = &n->rx_packets[i];
    }
    n->rx_waiting_first = NULL;
    n->rx_waiting_last = &n->rx_waiting_first;
    return 0;
}

#define FRAME_BEYOND_MTU 18u             /* Ethernet header and VLAN tag */
#define COPIES_SHARE     4               /* of the receive buffer's size */

int netvsc_rx_copies(struct netvsc *n)
{
    size_t bytes = n->nic.mtu + FRAME_BEYOND_MTU;
    size_t count = n->receive.pages * PAGE_BYTES / COPIES_SHARE / bytes;
    int e;

    count = MAX(count, (size_t)NETVSC_RX_COPIES_LEAST);
    count = MIN(count, (size_t)NETVSC_RX_COPIES_MOST);
    e = copies_init(&n->copies, bytes, count);
    if (e)
        log_err_some("%s: no memory for private copies of %zu frames", n->name, count);
    return e;
}

void netvsc_rx_free(struct netvsc *n)
{
    copies_end(&n->copies);
    kfree(n->rx_packets);
    n->rx_packets = NULL;
    n->rx_free = NULL;
}

/* ---- giving back ---- */

static int complete(struct netvsc *n, uint64_t transaction_id, uint32_t status)
{
    struct { uint32_t type; struct nvsp_rndis_packet_complete body; } m = {
        NVSP_SEND_RNDIS_PACKET_COMPLETE, {status},
    };
    int e = vmbus_send_completion(n->channel, &m, sizeof(m), transaction_id);

    if (e == 0)
        n->unsent = true;
    return e;
}

static void give_back(struct netvsc *n, struct netvsc_rx_packet *packet)
{
    if (!n->rx_waiting_first && complete(n, packet->transaction_id, packet->status) != -E_AGAIN) {
        packet->next = n->rx_free;
        n->rx_free = packet;
    } else {
        NETVSC_COUNT(n, rx_completions_delayed);
        packet->next = NULL;
        *n->rx_waiting_last = packet;
        n->rx_waiting_last = &packet->next;
    }
    /* While the ring is being drained one kick follows at the end; outside, one at the end of the turn. */
    if (!n->draining)
        event_raise(&n->kick_event);
}

void netvsc_rx_send_waiting(struct netvsc *n)
{
    struct netvsc_rx_packet *packet;

    while ((packet = n->rx_waiting_first)) {
        if (complete(n, packet->transaction_id, packet->status) == -E_AGAIN)
            return;
        n->rx_waiting_first = packet->next;
        if (!n->rx_waiting_first)
            n->rx_waiting_last = &n->rx_waiting_first;
        packet->next = n->rx_free;
        n->rx_free = packet;
    }
}

static void release_packet(struct netvsc *n, struct netvsc_rx_packet *packet)
{
    KASSERT(packet->frames > 0);
    if (--packet->frames == 0)
        give_back(n, packet);
}

void netvsc_rx_release(struct nic *nic, void *token)
{
    struct netvsc *n = nic->driver;

    if (copies_needed(&n->copies))
        copies_give(&n->copies, token);
    else
        release_packet(n, token);
}

/* ---- messages ---- */

void netvsc_rx_flush(struct netvsc *n)
{
    unsigned count = n->batch_count;

    if (count == 0)
        return;
    n->batch_count = 0;
    nic_receive(&n->nic, n->batch, count);
}

static void data_message(struct netvsc *n, struct netvsc_rx_packet *packet, const struct rndis_header *header,
                         char *message, uint32_t bytes)
{
    struct rndis_rx rx;
    const char *wrong = rndis_rx_parse(message, bytes, header, &rx);
    char *frame;
    void *token = packet;

    if (wrong) {
        netvsc_lie(n, wrong, bytes);
        packet->status = NVSP_STATUS_INVALID_RNDIS_PACKET;
        n->nic.stats.rx_dropped++;
        return;
    }
    if (!n->registered)
        return;
    frame = message + rx.frame_offset;
    if (copies_needed(&n->copies)) {
        token = copies_take(&n->copies, frame, rx.frame_bytes);
        frame = token;
        if (!token) {                    /* the stack holds all it may, or the frame is longer than the MTU allows */
            n->nic.stats.rx_dropped++;
            return;
        }
    } else {
        packet->frames++;
    }
    n->batch[n->batch_count++] = (struct nic_rx){frame, rx.frame_bytes, rx.flags, rx.vlan, token};
    if (n->batch_count == NETVSC_RX_BATCH)
        netvsc_rx_flush(n);
}

static void link_speed(struct netvsc *n, const void *message, const struct rndis_indicate_status *m)
{
    uint32_t speed, body = m->header.length - RNDIS_OFFSET_BASE;

    if (m->buffer_length < sizeof(speed) || m->buffer_offset > body || sizeof(speed) > body - m->buffer_offset)
        return;
    copy_once(&speed, (const char *)message + RNDIS_OFFSET_BASE + m->buffer_offset, sizeof(speed));
    n->nic.link_speed_mbps = speed / 10000;
}

static void indication(struct netvsc *n, const void *message, const struct rndis_header *header)
{
    struct rndis_indicate_status m;

    if (header->length < sizeof(m)) {
        netvsc_lie(n, "a status indication too short", header->length);
        return;
    }
    m.header = *header;                  /* the length that was checked */
    copy_once((char *)&m + sizeof(*header), (const char *)message + sizeof(*header), sizeof(m) - sizeof(*header));
    NETVSC_COUNT(n, indications);
    switch (m.status) {
    case RNDIS_STATUS_MEDIA_CONNECT:
    case RNDIS_STATUS_MEDIA_DISCONNECT:
        if (n->registered)
            nic_link_changed(&n->nic, m.status == RNDIS_STATUS_MEDIA_CONNECT);
        else
            n->nic.link_up = m.status == RNDIS_STATUS_MEDIA_CONNECT;
        break;
    case RNDIS_STATUS_NETWORK_CHANGE:
        /* Another network behind the same link: down and up again makes the stack ask for its address anew. */
        if (n->registered && n->nic.link_up) {
            nic_link_changed(&n->nic, false);
            nic_link_changed(&n->nic, true);
        }
        break;
    case RNDIS_STATUS_LINK_SPEED_CHANGE:
        link_speed(n, message, &m);
        break;
    default:
        log_debug("%s: status indication 0x%x", n->name, m.status);
    }
}

static void message_in(struct netvsc *n, struct netvsc_rx_packet *packet, char *message, uint32_t bytes)
{
    struct rndis_header header = rndis_header_read(message, bytes);
    const char *wrong;

    if (header.type == RNDIS_PACKET) {
        data_message(n, packet, &header, message, bytes);
        return;
    }
    wrong = rndis_header_check(&header, bytes);
    if (wrong) {
        netvsc_lie(n, wrong, bytes);
        packet->status = NVSP_STATUS_INVALID_RNDIS_PACKET;
        return;
    }
    switch (header.type) {
    case RNDIS_INITIALIZE | RNDIS_COMPLETE:
    case RNDIS_QUERY | RNDIS_COMPLETE:
    case RNDIS_SET | RNDIS_COMPLETE:
        netvsc_reply(n, &header, message);
        break;
    case RNDIS_INDICATE_STATUS:
        indication(n, message, &header);
        break;
    default:
        netvsc_lie(n, "an RNDIS message of an unknown type", header.type);
        packet->status = NVSP_STATUS_INVALID_RNDIS_PACKET;
    }
}

/* ---- packets ---- */

static const char *check_packet(const struct netvsc *n, const struct vmbus_packet *p, uint32_t *count)
{
    struct { uint16_t set_id; uint8_t owner, reserved; uint32_t count; } header;
    uint32_t type;

    if (p->header_bytes < sizeof(header) || p->payload_bytes < sizeof(type))
        return "a transfer packet too short";
    memcpy(&type, p->payload, sizeof(type));
    if (type != NVSP_SEND_RNDIS_PACKET)
        return "a transfer packet of a strange NVSP type";
    memcpy(&header, p->header, sizeof(header));
    if (header.set_id != NVSP_RECEIVE_BUFFER_ID || !n->receive_told)
        return "a transfer packet for an unknown buffer";
    if (header.count > (p->header_bytes - TRANSFER_HEADER_BYTES) / sizeof(struct vmbus_transfer_range))
        return "a transfer packet with more ranges than fit";
    if (!p->completion_requested)
        return "a transfer packet that wants no completion";
    *count = header.count;
    return NULL;
}

void netvsc_rx_packet_in(struct netvsc *n, const struct vmbus_packet *p)
{
    const char *ranges = (const char *)p->header + TRANSFER_HEADER_BYTES;
    struct netvsc_rx_packet *packet = n->rx_free;
    uint32_t count = 0;
    const char *wrong = check_packet(n, p, &count);
    const uint32_t buffer_bytes = (uint32_t)(n->receive.pages * PAGE_BYTES);

    NETVSC_COUNT(n, rx_packets);
    if (!packet) {
        /* No place to remember it, so it can't wait for room in the ring either. */
        netvsc_lie(n, "more packets than the buffer has room for", p->header_bytes);
        complete(n, p->transaction_id, NVSP_STATUS_FAILURE);
        return;
    }
    n->rx_free = packet->next;
    packet->transaction_id = p->transaction_id;
    packet->status = NVSP_STATUS_SUCCESS;
    packet->frames = 1;
    if (wrong) {
        netvsc_lie(n, wrong, p->header_bytes);
        packet->status = NVSP_STATUS_FAILURE;
        count = 0;                       /* the ranges, whatever they are, go back */
    }
    for (uint32_t i = 0; i < count; i++) {
        struct vmbus_transfer_range range;
        memcpy(&range, ranges + i * sizeof(range), sizeof(range));
        if (range.byte_offset > buffer_bytes || range.byte_count > buffer_bytes - range.byte_offset) {
            netvsc_lie(n, "a range outside the receive buffer", range.byte_offset);
            packet->status = NVSP_STATUS_FAILURE;
            continue;
        }
        message_in(n, packet, (char *)n->receive.virt + range.byte_offset, range.byte_count);
    }
    release_packet(n, packet);
}
