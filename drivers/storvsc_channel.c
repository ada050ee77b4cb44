/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The channel of a controller in use: the slot table, what the host sends, limits, and exchanges of our own that a
 * task waits for. What an answer to a disk request means is storvsc_answer.c's.
 */
#define LOG_ROOM "storvsc"
#include <string.h>
#include "drivers/storvsc.h"

#define SLOT_NONE     UINT16_MAX
#define WAIT_SLICE_MS 200

/* ---- the slot table ---- */

void storvsc_slots_init(struct storvsc *s)
{
    s->first_free = SLOT_NONE;
    for (unsigned i = STORVSC_SLOTS; i-- > 0;)
        storvsc_slot_free(s, &s->slots[i]);
}

struct storvsc_slot *storvsc_slot_take(struct storvsc *s)
{
    struct storvsc_slot *slot;

    if (s->first_free == SLOT_NONE)
        return NULL;
    slot = &s->slots[s->first_free];
    s->first_free = slot->next_free;
    s->free_count--;
    return slot;
}

void storvsc_slot_free(struct storvsc *s, struct storvsc_slot *slot)
{
    slot->state = SLOT_FREE;
    slot->request = NULL;
    slot->command = NULL;
    slot->generation++;
    slot->next_free = s->first_free;
    s->first_free = (uint16_t)(slot - s->slots);
    s->free_count++;
}

/* With whatever memory an unanswered request left in it. */
static void slot_drop(struct storvsc *s, struct storvsc_slot *slot)
{
    storvsc_unmap(slot, true);
    if (slot->orphan)
        page_free(arch_direct_to_phys(va_of(slot->orphan)), 0);
    slot->orphan = NULL;
    storvsc_slot_free(s, slot);
}

static struct storvsc_slot *find_slot(struct storvsc *s, uint64_t id)
{
    uint32_t index = (uint32_t)id - 1;

    if (index >= STORVSC_SLOTS || s->slots[index].generation != (uint32_t)(id >> 32))
        return NULL;
    return s->slots[index].state == SLOT_FREE ? NULL : &s->slots[index];
}

void storvsc_slot_sent(struct storvsc *s, struct storvsc_slot *slot)
{
    slot->state = SLOT_BUSY;
    slot->tick = s->tick;
    s->in_flight++;
    s->unsent = true;
    if (!s->tick_timer.armed)
        timer_arm_100ns(&s->tick_timer, rt_now_100ns() + S_100NS(STORVSC_TICK_S));
}

/* All counted. */
static void lie(struct storvsc *s, const char *what, uint64_t value)
{
    STORVSC_COUNT(s, lies);
    log_warn_some("%s: the host sent %s (0x%llx), dropped; %llu such so far", s->name, what, (unsigned long long)value,
                  (unsigned long long)s->counters.lies);
}

/* ---- ring callbacks ---- */

static void answered(struct storvsc *s, const struct vmbus_packet *p)
{
    struct vstor_packet answer = {0};
    struct storvsc_slot *slot = find_slot(s, p->transaction_id);

    if (!slot) {
        lie(s, "an answer to no request", p->transaction_id);
        return;
    }
    /* A request stays outstanding when its answer can't be believed: its own limit ends it. */
    if (p->payload_bytes < VSTOR_PACKET_BYTES_WIN7) {
        lie(s, "an answer too short", p->payload_bytes);
        return;
    }
    memcpy(&answer, p->payload, MIN(p->payload_bytes, (uint32_t)sizeof(answer)));
    if (answer.operation != VSTOR_OP_COMPLETE_IO) {
        lie(s, "an answer with a strange operation", answer.operation);
        return;
    }
    if (slot->state == SLOT_BUSY)
        s->in_flight--;
    if (slot->state == SLOT_ABANDONED) {
        log_info_some("%s: a request that was given up has been answered", s->name);
        slot_drop(s, slot);
    } else if (slot->command) {
        struct storvsc_command *command = slot->command;
        storvsc_unmap(slot, false);
        storvsc_slot_free(s, slot);
        command->packet = answer;
        command->done = true;
        wait_queue_wake_all(&s->wait);
    } else {
        storvsc_request_answered(s, slot, &answer);
    }
}

static void told(struct storvsc *s, const struct vmbus_packet *p)
{
    uint32_t operation = 0;

    if (p->payload_bytes < VSTOR_PACKET_HEADER_BYTES) {
        lie(s, "a message too short", p->payload_bytes);
        return;
    }
    memcpy(&operation, p->payload, sizeof(operation));
    switch (operation) {
    case VSTOR_OP_ENUMERATE_BUS:
    case VSTOR_OP_REMOVE_DEVICE:
        log_debug("%s: units came or went", s->name);
        storvsc_rescan(s);
        break;
    case VSTOR_OP_EVENT_NOTIFICATION:
        break;
    default:
        lie(s, "an unknown message", operation);
    }
}

static void flush_ring(struct storvsc *s)
{
    if (!s->unsent)
        return;
    s->unsent = false;
    vmbus_kick(s->channel);
}

void storvsc_on_readable(void *arg)
{
    struct storvsc *s = arg;
    const struct vmbus_packet *p;

    while ((p = vmbus_recv(s->channel))) {
        if (p->type == VMBUS_PACKET_COMPLETION)
            answered(s, p);
        else if (p->type == VMBUS_PACKET_INBAND)
            told(s, p);
        else
            lie(s, "a packet of a strange type", p->type);
    }
    if (!list_empty(&s->queue))
        storvsc_pump(s);
    flush_ring(s);
    if (s->in_flight == 0)
        wait_queue_wake_all(&s->wait);
}

void storvsc_on_writable(void *arg)
{
    struct storvsc *s = arg;

    storvsc_pump(s);
    flush_ring(s);
    wait_queue_wake_all(&s->wait);
}

/* ---- limits ---- */

void storvsc_tick(void *arg)
{
    struct storvsc *s = arg;
    bool dumped = false;

    s->tick++;
    for (unsigned i = 0; i < STORVSC_SLOTS && s->in_flight > 0; i++) {
        struct storvsc_slot *slot = &s->slots[i];
        struct blk_request *r = slot->request;

        /* Strictly more ticks than the limit has: the first one may have been cut short. */
        if (slot->state != SLOT_BUSY || !r || s->tick - slot->tick <= STORVSC_REQUEST_TICKS)
            continue;
        log_err_some("%s: %s: no answer to %s of %u bytes at sector %llu within %u s: given up; the host may still use "
                     "its memory", s->name, r->device->name, scsi_opcode_name(slot->opcode), slot->bytes,
                     (unsigned long long)r->sector, STORVSC_REQUEST_TICKS * STORVSC_TICK_S);
        if (!dumped)
            vmbus_dump_channel(s->channel);
        dumped = true;
        STORVSC_COUNT(s, timeouts);
        slot->state = SLOT_ABANDONED;
        slot->request = NULL;
        s->in_flight--;
        blk_complete(r, -E_TIMEOUT);
    }
    storvsc_expire_queued(s);
    storvsc_pump(s);
    flush_ring(s);
    if (s->in_flight > 0 || !list_empty(&s->queue))
        timer_arm_100ns(&s->tick_timer, rt_now_100ns() + S_100NS(STORVSC_TICK_S));
}

/* ---- our own exchanges ---- */

static int send_command(struct storvsc *s, struct storvsc_command *command)
{
    struct storvsc_slot *slot = storvsc_slot_take(s);
    int e;

    if (!slot)
        return -E_AGAIN;
    slot->map = (struct dma_mapping){0};
    if (command->data_bytes) {
        struct dma_span span = {s->data_page, command->data_bytes};
        e = dma_map(&slot->map, &span, 1, DMA_FROM_DEVICE, s->frames, STORVSC_MAX_FRAMES);
        if (e == 0) {
            struct vmbus_gpa_range range = {slot->map.bytes, slot->map.offset, s->frames, slot->map.frames};
            e = vmbus_send_gpa(s->channel, &range, 1, &command->packet, s->packet_bytes, storvsc_slot_id(s, slot));
            if (e)
                dma_unmap(&slot->map, &span, 1, DMA_TO_DEVICE);
        } else if (e == -E_AGAIN) {
            dma_wait(&s->bounce_room);
        }
    } else {
        struct vmbus_piece piece = {&command->packet, s->packet_bytes};
        e = vmbus_send(s->channel, &piece, 1, storvsc_slot_id(s, slot), true);
    }
    if (e) {
        storvsc_slot_free(s, slot);
        return e;
    }
    slot->command = command;
    slot->bytes = command->data_bytes;
    slot->opcode = 0;
    storvsc_slot_sent(s, slot);
    flush_ring(s);
    return 0;
}

/* The host did not answer in time and may still write the data page: it goes with the slot, and a new one comes. */
static void abandon(struct storvsc *s, struct storvsc_command *command)
{
    for (unsigned i = 0; i < STORVSC_SLOTS; i++) {
        struct storvsc_slot *slot = &s->slots[i];
        if (slot->state != SLOT_BUSY || slot->command != command)
            continue;
        slot->state = SLOT_ABANDONED;
        slot->command = NULL;
        s->in_flight--;
        if (command->data_bytes && !slot->map.bounce) {
            slot->orphan = s->data_page;
            s->data_page = NULL;
        }
    }
}

int storvsc_exchange(struct storvsc *s, struct storvsc_command *command, uint64_t limit_us)
{
    uint64_t end_100ns = rt_now_100ns() + US_100NS(limit_us);
    int e;

    if (command->data_bytes && !s->data_page) {
        paddr_t page = page_alloc(0);
        if (pa_is_none(page))
            return -E_NOMEM;
        s->data_page = arch_phys_to_virt(page);
    }
    command->done = false;
    command->data = s->data_page;
    command->packet.flags = VSTOR_FLAG_REQUEST_COMPLETION;
    for (;;) {
        if (s->closing || vmbus_channel_rescinded(s->channel))
            return -E_REMOVED;
        e = send_command(s, command);
        if (e != -E_AGAIN)
            break;
        /* No slot, no room, or no bounce memory: an answer to something else changes each of them. */
        if (rt_now_100ns() >= end_100ns)
            return -E_TIMEOUT;
        wait_queue_sleep(&s->wait, MIN(end_100ns, rt_now_100ns() + MS_100NS(WAIT_SLICE_MS)), "room on a SCSI channel");
    }
    if (e)
        return e;
    /* In slices, because nobody wakes us when the channel is rescinded meanwhile. */
    while (!command->done && !s->closing && !vmbus_channel_rescinded(s->channel) && rt_now_100ns() < end_100ns)
        wait_queue_sleep(&s->wait, MIN(end_100ns, rt_now_100ns() + MS_100NS(WAIT_SLICE_MS)),
                         "a SCSI controller's answer");
    if (command->done)
        return 0;
    if (!s->closing && !vmbus_channel_rescinded(s->channel)) {
        log_err_some("%s: no answer to operation %u within %llu s", s->name, command->packet.operation,
                     (unsigned long long)(limit_us / 1000000));
        vmbus_dump_channel(s->channel);
        STORVSC_COUNT(s, timeouts);
        abandon(s, command);
        return -E_TIMEOUT;
    }
    abandon(s, command);
    return -E_REMOVED;
}

/* ---- the end ---- */

/* The slot is free; what the host may still write to stays where it is. */
static void slot_leak(struct storvsc *s, struct storvsc_slot *slot)
{
    if (slot->command && slot->command->data_bytes && !slot->map.bounce)
        s->data_page = NULL;
    slot->orphan = NULL;
    storvsc_slot_free(s, slot);
}

void storvsc_end_outstanding(struct storvsc *s, bool let_go)
{
    unsigned leaked = 0;

    for (unsigned i = 0; i < STORVSC_SLOTS; i++) {
        struct storvsc_slot *slot = &s->slots[i];
        struct blk_request *r = slot->request;

        if (slot->state == SLOT_FREE)
            continue;
        if (slot->state == SLOT_BUSY)
            s->in_flight--;
        if (let_go) {
            slot_drop(s, slot);
        } else {
            slot_leak(s, slot);
            leaked++;
        }
        if (r)
            blk_complete(r, let_go ? -E_REMOVED : -E_TIMEOUT);
    }
    if (leaked)
        log_err_some("%s: the host did not end the channel: the memory of %u requests is given up", s->name, leaked);
    storvsc_fail_queued(s, NULL, -E_REMOVED);
}
