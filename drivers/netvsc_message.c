/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * How frames become packets.
 *
 * Copied: a frame goes into a section of the send buffer and is done at once; frames that follow before the kick join
 * it in the same section, as many as the host takes in one packet, so that a burst of small frames costs one packet,
 * one completion and one signal.
 *
 * By page frames: the slot's own header memory holds the RNDIS header and the frame's first piece (hosts want the
 * header whole in the first range), then come the caller's pages; or, where the host can't read them, one run of bounce
 * memory with all of the rest.
 *
 * Order is kept: an open section is sent before anything else.
 */
#include <string.h>
#include "drivers/netvsc.h"

static uint64_t slot_id(const struct netvsc *n, const struct netvsc_slot *slot)
{
    return (uint64_t)slot->generation << 32 | (uint64_t)(slot - n->slots + 1);
}

static char *slot_header(const struct netvsc *n, const struct netvsc_slot *slot)
{
    return (char *)n->headers.virt + (size_t)(slot - n->slots) * NETVSC_HEADER_BYTES;
}

/* ---- copies ---- */

/* Sends the open section. False: the ring is full, it stays open. */
bool netvsc_close_section(struct netvsc *n)
{
    struct netvsc_slot *slot = n->open;
    struct nvsp_message m = {
        .type = NVSP_SEND_RNDIS_PACKET,
        .rndis = {NVSP_CHANNEL_DATA, slot->section, n->open_bytes},
    };
    struct vmbus_piece piece = {&m, n->message_bytes};
    int e = vmbus_send(n->channel, &piece, 1, slot_id(n, slot), true);

    if (e == -E_AGAIN)
        return false;
    n->open = NULL;
    if (e)
        netvsc_slot_put(n, slot);               /* the channel is going: the frames go with it */
    else
        netvsc_sent(n, slot);
    return true;
}

static char *section(const struct netvsc *n, const struct netvsc_slot *slot)
{
    return (char *)n->send.virt + (size_t)slot->section * n->section_bytes;
}

static bool open_section(struct netvsc *n)
{
    struct netvsc_slot *slot;

    if (n->free_section_count == 0)
        return false;
    slot = netvsc_slot_get(n);
    if (!slot)
        return false;
    slot->section = n->free_sections[--n->free_section_count];
    n->open = slot;
    n->open_bytes = n->open_last = n->open_count = 0;
    return true;
}

/* Makes room for bytes more in the open section, if it can take another message: each but the last is padded, and the
 * padding counts in its length. */
static bool join_section(struct netvsc *n, uint32_t bytes)
{
    uint32_t start = ALIGN_UP(n->open_bytes, n->alignment), length;

    if (n->open_count >= n->max_packets || start > n->section_bytes || bytes > n->section_bytes - start)
        return false;
    length = start - n->open_last;
    memcpy(section(n, n->open) + n->open_last + offsetof(struct rndis_header, length), &length, sizeof(length));
    n->open_bytes = start;
    return true;
}

static void copy_pieces(char *to, const struct nic_tx *tx)
{
    for (unsigned i = 0; i < tx->piece_count; i++) {
        memcpy(to, tx->pieces[i].addr, tx->pieces[i].bytes);
        to += tx->pieces[i].bytes;
    }
}

int netvsc_send_copied(struct netvsc *n, struct nic_tx *tx)
{
    uint32_t bytes = rndis_tx_header_bytes(tx) + tx->total_bytes;
    char *at;

    if (n->open && !join_section(n, bytes) && !netvsc_close_section(n))
        return -E_AGAIN;
    if (!n->open && !open_section(n))
        return -E_AGAIN;
    at = section(n, n->open) + n->open_bytes;
    at += rndis_tx_header(at, tx);
    copy_pieces(at, tx);
    if (tx->flags & NIC_TX_LSO)
        rndis_lso_prepare((uint8_t *)at, tx);
    n->open_last = n->open_bytes;
    n->open_bytes += bytes;
    n->open_count++;
    n->unsent = true;
    n->nic.stats.tx_copied++;
    return 0;
}

/* ---- by page frames ---- */

struct tx_plan {
    unsigned ranges, frames;
    struct vmbus_gpa_range range[NETVSC_TX_RANGES];
    uint64_t frame[NETVSC_TX_FRAMES];
};

/* 0, -E_INVAL: the frame has too many pages to go this way. */
static int plan_piece(struct tx_plan *plan, const void *addr, uint32_t bytes)
{
    struct dma_span span = {addr, bytes};
    struct dma_mapping map;
    uint64_t *frames = &plan->frame[plan->frames];

    if (dma_map(&map, &span, 1, DMA_TO_DEVICE, frames, NETVSC_TX_FRAMES - plan->frames))
        return -E_INVAL;
    plan->range[plan->ranges++] = (struct vmbus_gpa_range){bytes, map.offset, frames, map.frames};
    plan->frames += map.frames;
    return 0;
}

/* What is behind the first bytes of the frame, in one range. -E_AGAIN: n->bounce_room will tell. */
static int plan_gathered(struct netvsc *n, struct netvsc_slot *slot, const struct nic_tx *tx, uint32_t skip,
                         struct tx_plan *plan)
{
    struct dma_span pieces[NIC_MAX_PIECES];
    uint64_t *frames = &plan->frame[plan->frames];
    unsigned count = 0;
    int e;

    for (unsigned i = 0; i < tx->piece_count; i++, skip = 0) {
        const struct nic_piece *piece = &tx->pieces[i];
        if (piece->bytes > skip)
            pieces[count++] = (struct dma_span){(const char *)piece->addr + skip, piece->bytes - skip};
    }
    if (count == 0)
        return 0;
    e = dma_gather(&slot->map, pieces, count, frames, NETVSC_TX_FRAMES - plan->frames);
    if (e == -E_AGAIN)
        dma_wait(&n->bounce_room);
    if (e)
        return e;
    plan->range[plan->ranges++] = (struct vmbus_gpa_range){slot->map.bytes, 0, frames, slot->map.frames};
    plan->frames += slot->map.frames;
    return 0;
}

/* The slot's header memory gets the RNDIS header and, when they fit, the frame's headers. */
static int plan_frame(struct netvsc *n, struct netvsc_slot *slot, const struct nic_tx *tx, struct tx_plan *plan)
{
    char *header = slot_header(n, slot);
    uint32_t bytes = rndis_tx_header(header, tx);
    size_t offset = (size_t)(header - (char *)n->headers.virt);
    uint32_t room = NETVSC_HEADER_BYTES - bytes;
    uint32_t copied = tx->pieces[0].bytes <= room ? tx->pieces[0].bytes : tx->flags & NIC_TX_LSO ? room : 0;

    memcpy(header + bytes, tx->pieces[0].addr, copied);
    if (tx->flags & NIC_TX_LSO)
        rndis_lso_prepare((uint8_t *)header + bytes, tx);
    plan->frame[0] = n->headers.frames[offset / PAGE_BYTES];
    plan->range[0] = (struct vmbus_gpa_range){bytes + copied, (uint32_t)(offset % PAGE_BYTES), &plan->frame[0], 1};
    plan->ranges = plan->frames = 1;
    if (n->gathers)
        return plan_gathered(n, slot, tx, copied, plan);
    for (unsigned i = 0; i < tx->piece_count; i++, copied = 0) {
        const struct nic_piece *piece = &tx->pieces[i];
        if (piece->bytes > copied && plan_piece(plan, (const char *)piece->addr + copied, piece->bytes - copied))
            return -E_INVAL;
    }
    return 0;
}

int netvsc_send_referenced(struct netvsc *n, struct nic_tx *tx)
{
    struct nvsp_message m = {
        .type = NVSP_SEND_RNDIS_PACKET,
        .rndis = {NVSP_CHANNEL_DATA, NVSP_SECTION_NONE, 0},
    };
    struct netvsc_slot *slot;
    struct tx_plan plan;
    int e;

    if (n->open && !netvsc_close_section(n))
        return -E_AGAIN;
    slot = netvsc_slot_get(n);
    if (!slot)
        return -E_AGAIN;
    e = plan_frame(n, slot, tx, &plan);
    if (e == 0)
        e = vmbus_send_gpa(n->channel, plan.range, plan.ranges, &m, n->message_bytes, slot_id(n, slot));
    if (e) {
        netvsc_slot_put(n, slot);
        return e;
    }
    slot->tx = tx;
    netvsc_sent(n, slot);
    n->nic.stats.tx_referenced++;
    return 0;
}
