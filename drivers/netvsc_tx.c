/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Sending, seen from the stack: which way a frame goes, kicks, completions, flow control. How a frame becomes a
 * packet is netvsc_message.c's.
 *
 * Slots and sections come back with the host's completion. A send that finds none, or a full ring, is refused with
 * -E_AGAIN and the stack is told when there is room again.
 */
#define LOG_ROOM "netvsc"
#include <string.h>
#include "drivers/netvsc.h"

#define SLOT_NONE UINT16_MAX

/* ---- slots and sections ---- */

void netvsc_slot_put(struct netvsc *n, struct netvsc_slot *slot)
{
    if (slot->section != NETVSC_SECTION_NONE)
        n->free_sections[n->free_section_count++] = slot->section;
    slot->section = NETVSC_SECTION_NONE;
    if (slot->map.bounce)
        dma_unmap(&slot->map, NULL, 0, DMA_TO_DEVICE);
    slot->tx = NULL;
    slot->busy = false;
    slot->generation = (slot->generation + 1) & INT32_MAX;   /* the ids' top bit marks exchanges */
    slot->next_free = n->first_free;
    n->first_free = (uint16_t)(slot - n->slots);
    n->free_count++;
}

struct netvsc_slot *netvsc_slot_get(struct netvsc *n)
{
    struct netvsc_slot *slot;

    if (n->first_free == SLOT_NONE)
        return NULL;
    slot = &n->slots[n->first_free];
    n->first_free = slot->next_free;
    n->free_count--;
    return slot;
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
        netvsc_slot_put(n, &n->slots[i]);
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
        log_warn_some("%s: %s: %u packets sent, none completed within %u s", n->name, n->nic.name,
                      NETVSC_SLOTS - n->free_count, NETVSC_STALL_S);
        vmbus_dump_channel(n->channel);
        NETVSC_COUNT(n, tx_stalls);
    }
    n->stall_seen = n->counters.tx_completions;
    timer_arm_100ns(&n->stall_timer, rt_now_100ns() + S_100NS(NETVSC_STALL_S));
}

void netvsc_sent(struct netvsc *n, struct netvsc_slot *slot)
{
    slot->busy = true;
    n->unsent = true;
    NETVSC_COUNT(n, tx_packets);
    if (!n->stall_timer.armed) {
        n->stall_seen = n->counters.tx_completions;
        timer_arm_100ns(&n->stall_timer, rt_now_100ns() + S_100NS(NETVSC_STALL_S));
    }
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
    bool copy = fits && (tx->total_bytes <= n->copy_bytes || n->gathers);   /* copied it is in any case then */
    int e;

    if (n->closing)
        return -E_REMOVED;
    KASSERT(tx->piece_count > 0 && tx->piece_count <= NIC_MAX_PIECES);
    e = copy ? netvsc_send_copied(n, tx) : netvsc_send_referenced(n, tx);
    if (e == -E_AGAIN && copy && n->free_section_count == 0) {
        /* All sections are with the host: rather the dearer way than waiting. */
        copy = false;
        e = netvsc_send_referenced(n, tx);
    }
    if (e == -E_INVAL && fits) {
        copy = true;
        e = netvsc_send_copied(n, tx);
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
        netvsc_close_section(n);                /* when the ring is full, "writable" does it */
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
    NETVSC_COUNT(n, tx_completions);
    tx = slot->tx;
    netvsc_slot_put(n, slot);
    if (p->payload_bytes < sizeof(m)) {
        netvsc_lie(n, "a completion too short", p->payload_bytes);
        n->nic.stats.tx_errors++;
    } else {
        memcpy(&m, p->payload, sizeof(m));
        if (m.type != NVSP_SEND_RNDIS_PACKET_COMPLETE) {
            netvsc_lie(n, "a completion of a strange type", m.type);
        } else if (m.body.status != NVSP_STATUS_SUCCESS) {
            if (n->nic.stats.tx_errors == 0)
                log_warn_some("%s: %s: the host refuses a frame, status %u; counted from now on", n->name, n->nic.name,
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
        netvsc_slot_put(n, n->open);
    n->open = NULL;
    for (unsigned i = 0; i < NETVSC_SLOTS; i++) {
        struct nic_tx *tx = n->slots[i].tx;
        if (!n->slots[i].busy)
            continue;
        netvsc_slot_put(n, &n->slots[i]);
        if (tx)
            tx->done(tx);
    }
}
