/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A virtio NIC as the back end of a network adapter. No offloads are negotiated: frames are complete in both
 * directions.
 *
 * Sending copies the frame (its pieces are valid only during the call), receiving hands the buffer to the model,
 * which copies. A received frame for which the guest has no section stays in its buffer and is offered again; when
 * all buffers wait so, QEMU holds its traffic back.
 */
#define LOG_ROOM "lab"
#include <string.h>
#include "tests/lab/glue.h"
#include "tests/lab/virtio.h"

#define F_MTU          (1ull << 3)
#define F_MAC          (1ull << 5)
#define F_STATUS       (1ull << 16)
#define CFG_MAC        0
#define CFG_MTU        10

#define QUEUE_RX       0
#define QUEUE_TX       1
#define QUEUE_ENTRIES  256u
#define HEADER_BYTES   12u             /* struct virtio_net_hdr with num_buffers; all zero without offloads */
#define FRAME_EXTRA    18u             /* Ethernet header and a VLAN tag */
#define DEFAULT_MTU    1500u
#define VLAN_TPID      0x8100u
#define MAC_PAIR       12u             /* destination and source; the tag stands behind them */

struct vnet {
    struct virtio dev;
    struct virtq rx, tx;
    uint8_t *rx_buffers[QUEUE_ENTRIES], *tx_buffers[QUEUE_ENTRIES];
    unsigned buffer_bytes;
    uint16_t tx_free[QUEUE_ENTRIES];
    unsigned tx_free_count;
    bool tx_refused;                   /* the model waits for host_net_tx_ready */
    bool rx_waiting;                   /* a received frame that found no room: */
    unsigned rx_slot;
    uint32_t rx_bytes;
    struct lab_nic *nic;
};

static struct vnet *cards[LAB_MAX_NICS];
static unsigned card_count;

static bool vnet_tx(void *backend, const struct host_frame *frame)
{
    struct vnet *c = backend;
    uint32_t tag = frame->has_vlan ? 4 : 0, at = HEADER_BYTES;
    report_once(EVENT_FIRST_FRAME, "first-frame");
    if (!c->nic->link || frame->bytes + tag + HEADER_BYTES > c->buffer_bytes || frame->bytes < MAC_PAIR) {
        lab_count(CNT_FRAMES_DROPPED);
        return true;
    }
    if (c->tx_free_count == 0) {
        c->tx_refused = true;
        return false;
    }
    unsigned slot = c->tx_free[--c->tx_free_count];
    uint8_t *b = c->tx_buffers[slot];
    for (uint32_t i = 0; i < frame->seg_count; i++) {
        memcpy(b + at, frame->segs[i].data, frame->segs[i].bytes);
        at += frame->segs[i].bytes;
    }
    if (tag) {
        uint8_t *type = b + HEADER_BYTES + MAC_PAIR;
        memmove(type + tag, type, at - HEADER_BYTES - MAC_PAIR);
        type[0] = VLAN_TPID >> 8;
        type[1] = VLAN_TPID & 0xFF;
        type[2] = (uint8_t)(frame->vlan_tci >> 8);
        type[3] = (uint8_t)frame->vlan_tci;
    }
    c->tx.desc[slot].bytes = HEADER_BYTES + frame->bytes + tag;
    virtq_publish(&c->tx, slot);
    lab_count(CNT_FRAMES_TX);
    return true;
}

static const struct host_net_ops vnet_ops = {.tx = vnet_tx};

/* True when the buffer may go back to the device. */
static bool deliver(struct vnet *c, unsigned slot, uint32_t bytes)
{
    if (!c->nic->host || !c->nic->link || bytes <= HEADER_BYTES || bytes > c->buffer_bytes) {
        lab_count(CNT_FRAMES_DROPPED);
        return true;
    }
    struct host_seg seg = {.data = c->rx_buffers[slot] + HEADER_BYTES, .bytes = bytes - HEADER_BYTES};
    struct host_frame frame = {.segs = &seg, .seg_count = 1, .bytes = seg.bytes};
    report_once(EVENT_FIRST_FRAME, "first-frame");
    if (!host_net_rx(c->nic->host, &frame, true))   /* QEMU's back ends hand over what arrived by a checked transport */
        return false;
    lab_count(CNT_FRAMES_RX);
    return true;
}

static bool poll_rx(struct vnet *c)
{
    bool any = false;
    for (;;) {
        if (!c->rx_waiting && !virtq_pop(&c->rx, &c->rx_slot, &c->rx_bytes))
            break;
        c->rx_waiting = true;
        if (c->nic->host && any && !host_net_rx_room(c->nic->host))
            break;
        if (!deliver(c, c->rx_slot, c->rx_bytes))
            break;
        c->rx_waiting = false;
        any = true;
        virtq_publish(&c->rx, c->rx_slot);
    }
    return any;
}

static bool poll_tx(struct vnet *c)
{
    unsigned slot;
    uint32_t bytes;
    bool any = false;
    while (virtq_pop(&c->tx, &slot, &bytes)) {
        c->tx_free[c->tx_free_count++] = (uint16_t)slot;
        any = true;
    }
    if (!any || !c->tx_refused)
        return false;
    c->tx_refused = false;
    if (c->nic->host)
        host_net_tx_ready(c->nic->host);
    return true;
}

bool vnet_poll(void)
{
    bool any = false;
    for (unsigned i = 0; i < card_count; i++) {
        any |= poll_rx(cards[i]);
        any |= poll_tx(cards[i]);
    }
    return any;
}

void vnet_kick(void)
{
    for (unsigned i = 0; i < card_count; i++) {
        if (virtq_kick(&cards[i]->tx))
            lab_count(CNT_NET_NOTIFIES);
        virtq_kick(&cards[i]->rx);
    }
}

static bool make_buffers(struct vnet *c, struct virtq *q, uint8_t **buffers, bool device_writes)
{
    for (unsigned i = 0; i < q->size; i++) {
        buffers[i] = kzalloc(c->buffer_bytes);
        if (!buffers[i])
            return false;
        q->desc[i] = (struct virtq_desc){.address = dma_address(buffers[i]), .bytes = c->buffer_bytes,
                                         .flags = device_writes ? VIRTQ_WRITE : 0};
    }
    return true;
}

void vnet_attach(const struct virtio *found)
{
    struct vnet *c = kzalloc(sizeof(*c));
    if (!c || card_count == LAB_MAX_NICS || lab_nic_count == LAB_MAX_NICS) {
        log_err("%s: no room for another NIC", found->place);
        return;
    }
    c->dev = *found;
    if (virtio_open(&c->dev, F_MTU | F_MAC | F_STATUS) || virtio_queue(&c->dev, &c->rx, QUEUE_RX, QUEUE_ENTRIES) ||
        virtio_queue(&c->dev, &c->tx, QUEUE_TX, QUEUE_ENTRIES))
        return;
    struct lab_nic *l = &lab_nics[lab_nic_count];
    for (unsigned i = 0; i < sizeof(l->mac); i++)
        l->mac[i] = cfg8(&c->dev, CFG_MAC + i);
    l->mtu = c->dev.features & F_MTU ? cfg16(&c->dev, CFG_MTU) : 0;
    l->ops = &vnet_ops;
    l->backend = c;
    l->link = true;
    c->nic = l;
    /* A power of two, so that a buffer from the heap never straddles pages that are not neighbours. */
    c->buffer_bytes = 2048;
    while (c->buffer_bytes < (l->mtu ? l->mtu : DEFAULT_MTU) + FRAME_EXTRA + HEADER_BYTES)
        c->buffer_bytes *= 2;
    if (!make_buffers(c, &c->rx, c->rx_buffers, true) || !make_buffers(c, &c->tx, c->tx_buffers, false)) {
        log_err("%s: no memory for the NIC's buffers", found->place);
        return;
    }
    for (unsigned i = c->tx.size; i > 0; i--)
        c->tx_free[c->tx_free_count++] = (uint16_t)(i - 1);
    virtio_start(&c->dev);
    for (unsigned i = 0; i < c->rx.size; i++)
        virtq_publish(&c->rx, i);
    cards[card_count++] = c;
    log_info("nic %u: %s, %02x:%02x:%02x:%02x:%02x:%02x", lab_nic_count, found->place, l->mac[0], l->mac[1],
             l->mac[2], l->mac[3], l->mac[4], l->mac[5]);
    lab_nic_count++;
}
