/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Sending.
 *
 * A frame up to copy_bytes is copied into a section of the send buffer and is done at once; frames that follow before
 * the kick join it in the same section, as many as the host takes in one packet, so that a burst of small frames
 * costs one packet, one completion and one signal. Longer frames go by page frames: the slot's own header memory
 * holds the RNDIS header and the frame's first piece (hosts want the header whole in the first range), then come the
 * caller's pages.
 *
 * Sections and slots come back with the host's completion. Order is kept: an open section is sent before anything
 * else.
 */
#define LOG_ROOM "netvsc"
#include <string.h>
#include "drivers/netvsc.h"

#define SLOT_NONE UINT16_MAX

/* ---- slots and sections ---- */

static void slot_put(struct netvsc *n, struct netvsc_slot *slot)
{
    if (slot->section != NETVSC_SECTION_NONE)
        n->free_sections[n->free_section_count++] = slot->section;
    slot->section = NETVSC_SECTION_NONE;
    slot->tx = NULL;
    slot->busy = false;
    slot->generation = (slot->generation + 1) & INT32_MAX;   /* the ids' top bit marks exchanges */
    slot->next_free = n->first_free;
    n->first_free = (uint16_t)(slot - n->slots);
    n->free_count++;
}

static struct netvsc_slot *slot_get(struct netvsc *n)
{
    struct netvsc_slot *slot;

    if (n->first_free == SLOT_NONE)
        return NULL;
    slot = &n->slots[n->first_free];
    n->first_free = slot->next_free;
    n->free_count--;
    return slot;
}

static uint64_t slot_id(const struct netvsc *n, const struct netvsc_slot *slot)
{
    return (uint64_t)slot->generation << 32 | (uint64_t)(slot - n->slots + 1);
}

static char *slot_header(const struct netvsc *n, const struct netvsc_slot *slot)
{
    return (char *)n->headers.virt + (size_t)(slot - n->slots) * NETVSC_HEADER_BYTES;
}

static void stalled(void *arg);
static void kick_run(void *arg);

int netvsc_tx_init(struct netvsc *n)
{
    size_t pages = NETVSC_SLOTS * NETVSC_HEADER_BYTES / PAGE_BYTES + 1;   /* and the control page */
    int e;

    n->kick_event = (struct rt_event)RT_EVENT_INIT(kick_run, n);
    timer_init(&n->stall_timer, stalled, n);
    n->slots = kcalloc(NETVSC_SLOTS, sizeof(n->slots[0]));
    if (!n->slots)
        return -E_NOMEM;
    n->first_free = SLOT_NONE;
    for (unsigned i = NETVSC_SLOTS; i-- > 0;) {
        n->slots[i].section = NETVSC_SECTION_NONE;
        slot_put(n, &n->slots[i]);
    }
    e = shmem_alloc(&n->headers, pages, SHMEM_LINEAR, 0);
    if (e)
        n->headers.pages = 0;
    return e;
}

int netvsc_tx_sections(struct netvsc *n)
{
    n->section_count = (uint32_t)(n->send.pages * PAGE_BYTES) / n->section_bytes;
    n->section_count = MIN(n->section_count, (uint32_t)NETVSC_SECTION_NONE);
    n->free_sections = kcalloc(n->section_count, sizeof(n->free_sections[0]));
    if (!n->free_sections)
        return -E_NOMEM;
    for (uint32_t i = n->section_count; i-- > 0;)
        n->free_sections[n->free_section_count++] = (uint16_t)i;
    return 0;
}

void netvsc_tx_free(struct netvsc *n)
{
    event_cancel(&n->kick_event);
    timer_cancel(&n->stall_timer);
    kfree(n->free_sections);
    n->free_sections = NULL;
    kfree(n->slots);
    n->slots = NULL;
    if (n->headers.pages)
        shmem_free(&n->headers);
    n->headers.pages = 0;
}

bool netvsc_tx_idle(const struct netvsc *n)
{
    return n->free_count == NETVSC_SLOTS;
}

/* ---- stalls ---- */

static void stalled(void *arg)
{
    struct netvsc *n = arg;

    if (netvsc_tx_idle(n))
        return;
    if (n->stall_seen == n->counters.tx_completions) {
        log_warn("%s: %s: %u packets sent, none completed within %u s", n->name, n->nic.name,
                 NETVSC_SLOTS - n->free_count, NETVSC_STALL_S);
        vmbus_dump_channel(n->channel);
        n->counters.tx_stalls++;
    }
    n->stall_seen = n->counters.tx_completions;
    timer_arm_100ns(&n->stall_timer, rt_now_100ns() + S_100NS(NETVSC_STALL_S));
}

static void sent(struct netvsc *n, struct netvsc_slot *slot)
{
    slot->busy = true;
    n->unsent = true;
    n->counters.tx_packets++;
    if (!n->stall_timer.armed) {
        n->stall_seen = n->counters.tx_completions;
        timer_arm_100ns(&n->stall_timer, rt_now_100ns() + S_100NS(NETVSC_STALL_S));
    }
}

/* ---- copies ---- */

/* Sends the open section. False: the ring is full, it stays open. */
static bool close_section(struct netvsc *n)
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
        slot_put(n, slot);               /* the channel is going: the frames go with it */
    else
        sent(n, slot);
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
    slot = slot_get(n);
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

static int send_copied(struct netvsc *n, struct nic_tx *tx)
{
    uint32_t bytes = rndis_tx_header_bytes(tx) + tx->total_bytes;
    char *at;

    if (n->open && !join_section(n, bytes) && !close_section(n))
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

/* 0, -E_INVAL: the pieces can't go this way (too many pages, or they would have to be copied anyway). */
static int plan_piece(struct tx_plan *plan, const void *addr, uint32_t bytes)
{
    struct dma_span span = {addr, bytes};
    struct dma_mapping map;
    uint64_t *frames = &plan->frame[plan->frames];

    if (dma_map(&map, &span, 1, DMA_TO_DEVICE, frames, NETVSC_TX_FRAMES - plan->frames))
        return -E_INVAL;
    if (map.bounce) {
        dma_unmap(&map, &span, 1, DMA_TO_DEVICE);
        return -E_INVAL;
    }
    plan->range[plan->ranges++] = (struct vmbus_gpa_range){bytes, map.offset, frames, map.frames};
    plan->frames += map.frames;
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
    for (unsigned i = 0; i < tx->piece_count; i++, copied = 0) {
        const struct nic_piece *piece = &tx->pieces[i];
        if (piece->bytes > copied && plan_piece(plan, (const char *)piece->addr + copied, piece->bytes - copied))
            return -E_INVAL;
    }
    return 0;
}

static int send_referenced(struct netvsc *n, struct nic_tx *tx)
{
    struct nvsp_message m = {
        .type = NVSP_SEND_RNDIS_PACKET,
        .rndis = {NVSP_CHANNEL_DATA, NVSP_SECTION_NONE, 0},
    };
    struct netvsc_slot *slot;
    struct tx_plan plan;
    int e;

    if (n->open && !close_section(n))
        return -E_AGAIN;
    slot = slot_get(n);
    if (!slot)
        return -E_AGAIN;
    e = plan_frame(n, slot, tx, &plan);
    if (e == 0)
        e = vmbus_send_gpa(n->channel, plan.range, plan.ranges, &m, n->message_bytes, slot_id(n, slot));
    if (e) {
        slot_put(n, slot);
        return e;
    }
    slot->tx = tx;
    sent(n, slot);
    n->nic.stats.tx_referenced++;
    return 0;
}

/* ---- what the stack calls ---- */

static bool fits_section(const struct netvsc *n, const struct nic_tx *tx)
{
    return n->section_count > 0 && tx->total_bytes <= n->section_bytes - MIN(n->section_bytes, RNDIS_TX_HEADER_MAX);
}

int netvsc_tx_send(struct nic *nic, struct nic_tx *tx)
{
    struct netvsc *n = nic->driver;
    bool fits = fits_section(n, tx), was_unsent = n->unsent;
    bool copy = fits && (tx->total_bytes <= n->copy_bytes || !n->by_reference);
    int e;

    if (n->closing)
        return -E_REMOVED;
    KASSERT(tx->piece_count > 0 && tx->piece_count <= NIC_MAX_PIECES);
    e = copy ? send_copied(n, tx) : send_referenced(n, tx);
    if (e == -E_INVAL && fits) {
        copy = true;
        e = send_copied(n, tx);
    }
    if (e) {
        n->want_ready |= e == -E_AGAIN;
        return e;
    }
    nic->stats.tx_frames++;
    nic->stats.tx_bytes += tx->total_bytes;
    if (!was_unsent && !n->draining)
        event_raise(&n->kick_event);
    if (copy)
        tx->done(tx);
    return 0;
}

void netvsc_tx_kick(struct nic *nic)
{
    struct netvsc *n = nic->driver;

    if (!n->unsent)
        return;
    if (n->open)
        close_section(n);                /* when the ring is full, "writable" does it */
    n->unsent = n->open != NULL;
    vmbus_kick(n->channel);
}

static void kick_run(void *arg)
{
    struct netvsc *n = arg;

    netvsc_tx_kick(&n->nic);
}

/* ---- completions ---- */

void netvsc_tx_completed(struct netvsc *n, const struct vmbus_packet *p)
{
    uint32_t index = (uint32_t)p->transaction_id - 1;
    struct netvsc_slot *slot = index < NETVSC_SLOTS ? &n->slots[index] : NULL;
    struct { uint32_t type; struct nvsp_rndis_packet_complete body; } m;
    struct nic_tx *tx;

    if (!slot || !slot->busy || slot->generation != (uint32_t)(p->transaction_id >> 32)) {
        netvsc_lie(n, "a completion of no packet", p->transaction_id);
        return;
    }
    /* Whatever it says, the host is done with the packet. */
    n->counters.tx_completions++;
    tx = slot->tx;
    slot_put(n, slot);
    if (p->payload_bytes < sizeof(m)) {
        netvsc_lie(n, "a completion too short", p->payload_bytes);
        n->nic.stats.tx_errors++;
    } else {
        memcpy(&m, p->payload, sizeof(m));
        if (m.type != NVSP_SEND_RNDIS_PACKET_COMPLETE) {
            netvsc_lie(n, "a completion of a strange type", m.type);
        } else if (m.body.status != NVSP_STATUS_SUCCESS) {
            if (n->nic.stats.tx_errors == 0)
                log_warn("%s: %s: the host refuses a frame, status %u; counted from now on", n->name, n->nic.name,
                         m.body.status);
            n->nic.stats.tx_errors++;
        }
    }
    if (tx)
        tx->done(tx);
}

void netvsc_tx_tell_ready(struct netvsc *n)
{
    if (!n->want_ready || n->free_count == 0 || n->closing)
        return;
    n->want_ready = false;
    nic_tx_ready(&n->nic);
}

void netvsc_tx_end_all(struct netvsc *n)
{
    if (n->open)
        slot_put(n, n->open);
    n->open = NULL;
    for (unsigned i = 0; i < NETVSC_SLOTS; i++) {
        struct nic_tx *tx = n->slots[i].tx;
        if (!n->slots[i].busy)
            continue;
        slot_put(n, &n->slots[i]);
        if (tx)
            tx->done(tx);
    }
}
