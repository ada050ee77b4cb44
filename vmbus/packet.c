/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Packets of an open channel: written straight into the send ring, copied out of the receive ring, and the signals
 * that go with them.
 *
 * The hot path of every device: one test (`usable`) says that the channel may be used, ring.c decides about indices
 * and signals, nothing is allocated and nothing waits. Packets are received in event context or by the driver's task;
 * sends may come from either.
 *
 * No signal is lost, and none comes late. Whenever the host sleeps on a usable channel with something unread, one of
 * these holds, and each ends in a look of the host's:
 *
 *   1. a vmbus_kick is to come: `unsignalled` is not 0. Who sends kicks in the same function, or at the end of the
 *      drain that it is part of, or by an event that was raised with the first packet (blk.c, netvsc_tx.c)
 *   2. the hypervisor has taken a signal since the oldest unread packet was published, and the host has not looked yet
 *   3. the bit on the monitor page is set: the hypervisor looks there within its latency
 *   4. the hypervisor refused the signal: `signal_timer` is armed, and what it calls ends in 2 or in 4
 *
 * A kick that needs no signal keeps that true: the host masks, so it does not sleep before it has looked again
 * (ring.h); or something older is unread, for which 2, 3 or 4 held before. Therefore 4 must be seen to: a refusal that
 * is forgotten would silence the channel for good, since all later packets trust in the first one's signal.
 *
 * How late: a turn of the event loop (rt/task.c) runs each raised event once, so a kick that is due goes out in this
 * turn or the next. What a host sends on other channels makes a turn no longer than VMBUS_RECEIVE_BUDGET packets for
 * each of them, and as many messages and timers as hv/synic.c and rt/timer.c take at once. Only interrupts without a
 * pause take more: a host can take the processor in simpler ways.
 */
#define LOG_ROOM "vmbus"
#include "vmbus/vmbus_internal.h"
#include <string.h>

#define LIKELY(c)   __builtin_expect(!!(c), 1)
#define UNLIKELY(c) __builtin_expect(!!(c), 0)

/* ---- signals ---- */

/* SynIC of the target off, its partition not running, no buffers: hosts have states that pass. */
static __attribute__((noinline)) void signal_refused(struct vmbus_channel *ch, uint16_t status)
{
    static struct refusal refusal;
    uint32_t delay = ch->signal_delay_us ? ch->signal_delay_us : SIGNAL_FIRST_DELAY_US;

    ch->stats.signals_refused++;
    if (refusal_speaks(&refusal))
        log_warn("%s: a signal is refused (%s); it is sent again", ch->name, hv_status_name(status));
    if (ch->signal_timer.armed)
        return;
    timer_arm_100ns(&ch->signal_timer, rt_now_100ns() + US_100NS(delay));
    ch->signal_delay_us = MIN(2 * delay, SIGNAL_LAST_DELAY_US);
}

/* Inline: part of every request. */
static inline __attribute__((always_inline)) void signal_host(struct vmbus_channel *ch)
{
    uint32_t relid = channel_relid(ch);

    ch->stats.signals++;
    if (!(ch->offer.dedicated_interrupt & VMBUS_OFFER_DEDICATED_INTERRUPT) && bus.version < VMBUS_VERSION_WIN10_5_0) {
        uint8_t *bits = (uint8_t *)bus.interrupt_page.virt + VMBUS_INTERRUPT_PAGE_GUEST_TO_HOST;
        __atomic_fetch_or(&bits[relid / 8], (uint8_t)(1u << (relid % 8)), __ATOMIC_SEQ_CST);
    }
    if (ch->monitor.pending) {
        /* The packet was published and fenced before: a bit that is still set makes the host look at it, too. */
        if (!(__atomic_load_n(ch->monitor.pending, __ATOMIC_RELAXED) & ch->monitor.bit))
            __atomic_fetch_or(ch->monitor.pending, ch->monitor.bit, __ATOMIC_SEQ_CST);
        return;
    }
    uint16_t status = hv_signal_event(ch->offer.connection_id, 0);
    if (UNLIKELY(status != HV_STATUS_SUCCESS))
        signal_refused(ch, status);
}

/* Also when another signal was taken meanwhile: then this one finds the host awake and costs a hypercall. */
void channel_signal_again(void *channel)
{
    struct vmbus_channel *ch = channel;

    if (!ch->usable)
        return;
    signal_host(ch);
    if (!ch->signal_timer.armed)
        ch->signal_delay_us = 0;
}

void vmbus_kick(struct vmbus_channel *ch)
{
    if (!ch->out.unsignalled || UNLIKELY(!ch->usable))
        return;
    int needed = ring_signal_needed(&ch->out);
    if (needed > 0)
        signal_host(ch);
    else if (UNLIKELY(needed < 0))
        channel_break(ch, "send");
}

/* ---- sending ---- */

/* Room for a packet; its descriptor is written. *payload is where the type's header or the payload goes. */
static inline int begin_packet(struct vmbus_channel *ch, uint16_t type, uint16_t flags, uint64_t transaction_id,
                               uint32_t header_bytes, uint32_t bytes, uint8_t **payload)
{
    struct vmbus_packet_header *descriptor;
    uint8_t *where;

    if (UNLIKELY(!ch->usable))
        return -E_REMOVED;
    KASSERT(bytes <= UINT16_MAX * VMBUS_PACKET_ALIGN && RING_PACKET_SPACE(bytes) < ch->out.size);
    int rc = ring_reserve(&ch->out, bytes, &where);
    if (UNLIKELY(rc)) {
        if (rc == -E_AGAIN) {
            ch->stats.ring_full++;
            return rc;
        }
        if (rc < 0) {
            channel_break(ch, "send");
            return -E_REMOVED;
        }
        event_raise(&ch->event);
    }
    descriptor = (void *)where;
    *descriptor = (struct vmbus_packet_header){
        .type = type,
        .data_offset8 = (uint16_t)((sizeof(*descriptor) + header_bytes) / 8),
        .length8 = (uint16_t)(bytes / 8),
        .flags = flags,
        .transaction_id = transaction_id,
    };
    *payload = where + sizeof(*descriptor);
    return 0;
}

static inline void end_packet(struct vmbus_channel *ch, uint32_t bytes)
{
    ring_commit(&ch->out, bytes);
    ch->stats.packets_out++;
}

static int send_pieces(struct vmbus_channel *ch, uint16_t type, uint16_t flags, uint64_t transaction_id,
                       const struct vmbus_piece *pieces, unsigned count)
{
    uint32_t bytes = sizeof(struct vmbus_packet_header), padded;
    uint8_t *to;

    for (unsigned i = 0; i < count; i++) {
        KASSERT(pieces[i].bytes <= UINT16_MAX * VMBUS_PACKET_ALIGN);
        bytes += pieces[i].bytes;
    }
    padded = ALIGN_UP(bytes, VMBUS_PACKET_ALIGN);
    int rc = begin_packet(ch, type, flags, transaction_id, 0, padded, &to);
    if (UNLIKELY(rc))
        return rc;
    for (unsigned i = 0; i < count; i++) {
        memcpy(to, pieces[i].data, pieces[i].bytes);
        to += pieces[i].bytes;
    }
    for (uint32_t i = bytes; i < padded; i++)
        *to++ = 0;
    end_packet(ch, padded);
    return 0;
}

int vmbus_send(struct vmbus_channel *ch, const struct vmbus_piece *pieces, unsigned count, uint64_t transaction_id,
               bool completion)
{
    return send_pieces(ch, VMBUS_PACKET_INBAND, completion ? VMBUS_PACKET_FLAG_COMPLETION : 0, transaction_id, pieces,
                       count);
}

int vmbus_send_completion(struct vmbus_channel *ch, const void *payload, uint32_t bytes, uint64_t transaction_id)
{
    const struct vmbus_piece piece = {payload, bytes};

    return send_pieces(ch, VMBUS_PACKET_COMPLETION, 0, transaction_id, &piece, 1);
}

int vmbus_send_gpa(struct vmbus_channel *ch, const struct vmbus_gpa_range *ranges, unsigned range_count,
                   const void *payload, uint32_t bytes, uint64_t transaction_id)
{
    const uint32_t fixed = sizeof(struct vmbus_gpa_direct) - sizeof(struct vmbus_packet_header);
    uint32_t header = fixed, padded;
    uint8_t *to;

    KASSERT(range_count > 0 && bytes <= UINT16_MAX * VMBUS_PACKET_ALIGN);
    for (unsigned i = 0; i < range_count; i++) {
        KASSERT(ranges[i].bytes && ranges[i].offset < PAGE_BYTES &&
                ranges[i].frame_count == (ranges[i].offset + (uint64_t)ranges[i].bytes + PAGE_MASK) >> PAGE_SHIFT);
        header += (uint32_t)(sizeof(struct vmbus_gpa_range_header) + ranges[i].frame_count * sizeof(uint64_t));
    }
    padded = (uint32_t)sizeof(struct vmbus_packet_header) + header + ALIGN_UP(bytes, VMBUS_PACKET_ALIGN);
    int rc = begin_packet(ch, VMBUS_PACKET_GPA_DIRECT, VMBUS_PACKET_FLAG_COMPLETION, transaction_id, header, padded,
                          &to);
    if (UNLIKELY(rc))
        return rc;
    uint32_t *count = (void *)to;
    count[0] = 0;
    count[1] = range_count;
    to += fixed;
    for (unsigned i = 0; i < range_count; i++) {
        struct vmbus_gpa_range_header *range = (void *)to;
        range->byte_count = ranges[i].bytes;
        range->byte_offset = ranges[i].offset;
        for (uint32_t f = 0; f < ranges[i].frame_count; f++)
            range->pfns[f] = ranges[i].frames[f];
        to += sizeof(*range) + ranges[i].frame_count * sizeof(uint64_t);
    }
    memcpy(to, payload, bytes);
    for (uint32_t i = bytes; i % VMBUS_PACKET_ALIGN; i++)
        to[i] = 0;
    end_packet(ch, padded);
    return 0;
}

uint32_t vmbus_send_space(struct vmbus_channel *ch)
{
    return ch->usable ? ring_room_bytes(&ch->out) : 0;
}

/* ---- receiving ---- */

static __attribute__((noinline)) void signal_room(struct vmbus_channel *ch)
{
    ch->in.signal_due = false;
    signal_host(ch);
}

static inline void unblock_host(struct vmbus_channel *ch)
{
    if (UNLIKELY(ch->in.signal_due))
        signal_room(ch);
}

static inline void describe_packet(struct vmbus_channel *ch, const uint8_t *packet, uint32_t bytes)
{
    const struct vmbus_packet_header *d = (const void *)packet;
    uint32_t offset = d->data_offset8 * VMBUS_PACKET_ALIGN;

    ch->packet = (struct vmbus_packet){
        .type = d->type,
        .completion_requested = (d->flags & VMBUS_PACKET_FLAG_COMPLETION) != 0,
        .transaction_id = d->transaction_id,
        .header = d + 1,
        .header_bytes = offset - (uint32_t)sizeof(*d),
        .payload = packet + offset,
        .payload_bytes = bytes - offset,
    };
}

const struct vmbus_packet *vmbus_recv(struct vmbus_channel *ch)
{
    while (LIKELY(ch->usable)) {
        if (UNLIKELY(!ch->budget)) {
            ring_publish(&ch->in);
            unblock_host(ch);
            event_raise(&ch->event);
            return NULL;
        }
        uint8_t *packet = ch->receive_buffer + ring_read_offset(&ch->in);
        int rc = ring_read(&ch->in, packet, ch->receive_capacity);
        if (LIKELY(rc > 0)) {
            ch->budget--;
            ch->stats.packets_in++;
            describe_packet(ch, packet, (uint32_t)rc);
            unblock_host(ch);
            return &ch->packet;
        }
        if (rc == 0) {
            rc = ring_rest(&ch->in);
            unblock_host(ch);
            if (LIKELY(rc > 0))
                return NULL;
        }
        if (UNLIKELY(rc < 0))
            channel_break(ch, "receive");
    }
    return NULL;
}
