/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * host_channel_io.c: packets of an open channel, both ways, and the one place where a channel is served:
 * vchan_poll.
 *
 * Incoming packets are copied out of the ring whole and their frame is checked before the device sees them;
 * a frame that is wrong kills the channel, as it kills a real host's worker. Outgoing packets never fail for
 * lack of space: they wait in the channel, the host asks for a signal when there is room, and goes on.
 * Indices are published and the guest is interrupted once per poll.
 */
#include "tests/host/host_internal.h"

#define FRAME_BYTES ((uint32_t)sizeof(struct vmbus_packet_header))

/* ---- out -------------------------------------------------------------------------------------------- */

static void put_trailer(struct host_ring *r, uint32_t start)
{
    uint64_t trailer = (uint64_t)start << 32;

    vring_put(r, &trailer, sizeof(trailer));
}

/* Is there room for a packet of that length, trailer included? */
static bool fits(struct host_chan *ch, uint32_t bytes)
{
    uint32_t room;

    if (!vring_writable(ch->h, ch, &room)) {
        ch->dead = true;
        return false;
    }
    return room > bytes + VMBUS_PACKET_TRAILER_BYTES;
}

static bool put_now(struct host_chan *ch, const void *packet, uint32_t bytes)
{
    uint32_t start = ch->out.index;

    if (!fits(ch, bytes))
        return false;
    vring_put(&ch->out, packet, bytes);
    put_trailer(&ch->out, start);
    ch->h->counters.packets_out++;
    return true;
}

bool vchan_has_room(struct host_chan *ch, uint32_t bytes)
{
    return ch->open && !ch->dead && ch->owed == NULL && fits(ch, bytes);
}

void vchan_drop_owed(struct host_chan *ch)
{
    while (ch->owed != NULL) {
        struct host_owed *o = ch->owed;
        ch->owed = o->next;
        host_free(ch->h, o);
    }
    ch->owed_tail = &ch->owed;
}

static void flush_owed(struct host_chan *ch)
{
    if (ch->owed == NULL)
        return;
    while (ch->owed != NULL) {
        struct host_owed *o = ch->owed;
        if (ch->dead)
            return;
        if (!put_now(ch, o->data, o->bytes)) {
            /* Publish first: the guest can make room only by reading what it can see. */
            if (vring_publish_write(&ch->out))
                ch->interrupt = true;
            vring_want_space(&ch->out, o->bytes + VMBUS_PACKET_TRAILER_BYTES);
            if (!put_now(ch, o->data, o->bytes))
                return;
        }
        ch->owed = o->next;
        host_free(ch->h, o);
    }
    ch->owed_tail = &ch->owed;
    vring_want_space(&ch->out, 0);
}

/* A packet in its parts: frame, type header, payload; each padded to 8. */
struct parts {
    struct vmbus_packet_header frame;
    const struct host_piece *type_header, *payload;
    uint32_t data_at, bytes;
};

static void put_parts(struct host_chan *ch, const struct parts *p)
{
    static const uint8_t zeros[8];
    uint32_t start = ch->out.index;
    uint32_t head = FRAME_BYTES + (p->type_header != NULL ? p->type_header->bytes : 0);

    vring_put(&ch->out, &p->frame, FRAME_BYTES);
    if (p->type_header != NULL)
        vring_put(&ch->out, p->type_header->data, p->type_header->bytes);
    vring_put(&ch->out, zeros, p->data_at - head);
    vring_put(&ch->out, p->payload->data, p->payload->bytes);
    vring_put(&ch->out, zeros, p->bytes - p->data_at - p->payload->bytes);
    put_trailer(&ch->out, start);
    ch->h->counters.packets_out++;
}

static void owe(struct host_chan *ch, const struct parts *p)
{
    struct host_owed *o = host_alloc(ch->h, sizeof(*o) + p->bytes);

    if (o == NULL) {
        host_log(ch->h, HOST_LOG_ERROR, "channel %u: no memory for a packet", ch->relid);
        return;
    }
    o->bytes = p->bytes;
    memcpy(o->data, &p->frame, FRAME_BYTES);
    if (p->type_header != NULL)
        memcpy(o->data + FRAME_BYTES, p->type_header->data, p->type_header->bytes);
    memcpy(o->data + p->data_at, p->payload->data, p->payload->bytes);
    ch->h->counters.ring_full++;
    *ch->owed_tail = o;
    ch->owed_tail = &o->next;
}

void vchan_send(struct host_chan *ch, uint16_t type, uint16_t flags, uint64_t id,
               const struct host_piece *type_header, const struct host_piece *payload)
{
    struct parts p = {.type_header = type_header, .payload = payload};

    if (!ch->open || ch->dead)
        return;
    p.data_at = (FRAME_BYTES + (type_header != NULL ? type_header->bytes : 0) + 7) & ~7u;
    p.bytes = (p.data_at + payload->bytes + 7) & ~7u;
    p.frame = (struct vmbus_packet_header){
        .type = type,
        .data_offset8 = (uint16_t)(p.data_at / 8),
        .length8 = (uint16_t)(p.bytes / 8),
        .flags = flags,
        .transaction_id = id,
    };
    host_trace(ch->h, HOST_TRACE_RING, "channel %u: send type %u, %u bytes, id %#llx", ch->relid, type,
               p.bytes, (unsigned long long)id);
    if (ch->h->cfg.trace & HOST_TRACE_BYTES) {
        char what[64];
        ksnprintf(what, sizeof(what), "%s %u %u", ch->dev->name, type, type_header ? type_header->bytes : 0);
        if (type_header != NULL)
            host_trace_bytes(ch->h, "header", type_header->data, type_header->bytes);
        host_trace_bytes(ch->h, what, payload->data, payload->bytes);
    }
    if (malice_send(ch, &p.frame, type_header, payload))
        return;
    vchan_queue(ch);
    if (ch->owed == NULL && !ch->held && fits(ch, p.bytes))
        put_parts(ch, &p);
    else
        owe(ch, &p);
}

void vchan_send_raw(struct host_chan *ch, const void *packet, uint32_t bytes)
{
    struct host_owed *o;

    if (!ch->open || ch->dead)
        return;
    vchan_queue(ch);
    if (ch->owed == NULL && !ch->held && put_now(ch, packet, bytes))
        return;
    o = host_alloc(ch->h, sizeof(*o) + bytes);
    if (o == NULL)
        return;
    o->bytes = bytes;
    memcpy(o->data, packet, bytes);
    *ch->owed_tail = o;
    ch->owed_tail = &o->next;
}

enum host_fault_kind vchan_complete(struct host_chan *ch, enum host_fault_point point, uint64_t id, void *payload,
                                    uint32_t bytes, uint32_t error_at, uint32_t error)
{
    struct host_piece piece = {payload, bytes};
    enum host_fault_kind fault = host_fault(ch->h, point);
    enum host_fault_kind lie = malice_complete(ch, point, payload, piece.bytes, error_at);

    if (lie == HOST_FAULT_DROP)
        return lie;
    switch (fault) {
    case HOST_FAULT_NONE:
        break;
    case HOST_FAULT_DROP:
        return fault;
    case HOST_FAULT_ERROR:
        if (error_at + 4 <= bytes)
            memcpy((uint8_t *)payload + error_at, &error, 4);
        break;
    case HOST_FAULT_SHORT:
        piece.bytes = bytes / 2 & ~7u;
        break;
    case HOST_FAULT_WRONG_ID:
        id ^= 0x5A0000000000ull;
        break;
    case HOST_FAULT_TWICE:
        vchan_send(ch, VMBUS_PACKET_COMPLETION, 0, id, NULL, &piece);
        break;
    case HOST_FAULT_GARBAGE:
        memset(payload, 0xEE, bytes);
        break;
    }
    vchan_send(ch, VMBUS_PACKET_COMPLETION, 0, id, NULL, &piece);
    return lie == HOST_FAULT_ERROR ? lie : fault;
}

/* ---- in --------------------------------------------------------------------------------------------- */

/* The ranges of a GPA-direct packet lie between its header and its payload, complete. */
static bool check_ranges(struct host_chan *ch, const uint8_t *packet, uint32_t data_at,
                         struct host_packet *out)
{
    uint32_t at = sizeof(struct vmbus_gpa_direct), count, reserved;

    if (data_at < at)
        return false;
    memcpy(&reserved, packet + FRAME_BYTES, 4);
    memcpy(&count, packet + FRAME_BYTES + 4, 4);
    if (count == 0)
        return false;
    if (reserved != 0)
        host_strict(ch->h, packet, at, "channel %u: reserved word of a GPA-direct packet", ch->relid);
    out->ranges = packet + at;
    out->range_count = count;
    for (uint32_t i = 0; i < count; i++) {
        struct vmbus_gpa_range_header head;
        uint64_t pages;
        if (sizeof(head) > data_at - at)
            return false;
        memcpy(&head, packet + at, sizeof(head));
        at += (uint32_t)sizeof(head);
        pages = ((uint64_t)head.byte_offset + head.byte_count + HV_PAGE_SIZE - 1) / HV_PAGE_SIZE;
        if (head.byte_count == 0 || head.byte_offset >= HV_PAGE_SIZE || pages > (data_at - at) / 8)
            return false;
        at += (uint32_t)pages * 8;
        out->range_bytes += head.byte_count;
    }
    return true;
}

/* Copies the next packet out of the ring and checks its frame. false: the ring is broken. */
static bool next_packet(struct host_chan *ch, uint32_t available, struct host_packet *out, uint32_t *taken)
{
    struct host *h = ch->h;
    struct vmbus_packet_header frame;
    uint32_t bytes, data_at;
    uint64_t trailer;

    memset(out, 0, sizeof(*out));
    if (available < FRAME_BYTES + VMBUS_PACKET_TRAILER_BYTES) {
        if (!vring_misled(ch))
            host_violation(h, ch->in.ctl, 16, "channel %u: %u bytes cannot be a packet", ch->relid, available);
        return false;
    }
    vring_peek(&ch->in, ch->in.index, &frame, sizeof(frame));
    bytes = frame.length8 * 8u;
    data_at = frame.data_offset8 * 8u;
    if (data_at < FRAME_BYTES || bytes < data_at || bytes > available - VMBUS_PACKET_TRAILER_BYTES ||
        bytes > HOST_PACKET_MAX - VMBUS_PACKET_TRAILER_BYTES) {
        if (!vring_misled(ch))
            host_violation(h, &frame, sizeof(frame), "channel %u: packet of %u bytes, data at %u, in %u", ch->relid,
                           bytes, data_at, available);
        return false;
    }
    if ((frame.flags & ~VMBUS_PACKET_FLAG_COMPLETION) ||
        (frame.type != VMBUS_PACKET_INBAND && frame.type != VMBUS_PACKET_GPA_DIRECT &&
         frame.type != VMBUS_PACKET_COMPLETION)) {
        if (!vring_misled(ch))
            host_violation(h, &frame, sizeof(frame), "channel %u: packet type %u, flags %#x", ch->relid, frame.type,
                           frame.flags);
        return false;
    }
    vring_peek(&ch->in, ch->in.index, h->packet, bytes + VMBUS_PACKET_TRAILER_BYTES);
    memcpy(&trailer, h->packet + bytes, sizeof(trailer));
    if (trailer != (uint64_t)ch->in.index << 32 && !vring_misled(ch))
        host_strict(h, h->packet, bytes + 8, "channel %u: packet trailer %#llx", ch->relid,
                    (unsigned long long)trailer);
    out->type = frame.type;
    out->flags = frame.flags;
    out->id = frame.transaction_id;
    out->data = h->packet + data_at;
    out->bytes = bytes - data_at;
    *taken = bytes + VMBUS_PACKET_TRAILER_BYTES;
    if (frame.type == VMBUS_PACKET_GPA_DIRECT && !check_ranges(ch, h->packet, data_at, out)) {
        if (!vring_misled(ch))
            host_violation(h, h->packet, bytes, "channel %u: page ranges of a GPA-direct packet", ch->relid);
        return false;
    }
    return true;
}

/* Takes packets while there are any, at most the budget. true: more are waiting. */
static bool take_packets(struct host_chan *ch)
{
    struct host *h = ch->h;
    uint32_t available, taken;
    struct host_packet packet;

    if (!vring_readable(h, ch, &available)) {    /* before our own words are written again */
        ch->dead = true;
        return false;
    }
    vring_set_mask(&ch->in, 1);
    for (uint32_t n = 0; ch->open && n < HOST_POLL_BUDGET; n++) {
        if (!vring_readable(h, ch, &available)) {
            ch->dead = true;
            return false;
        }
        if (available == 0) {
            if (vring_publish_read(&ch->in))
                ch->interrupt = true;
            if (ch->in.mask == 0)
                /* unmasked and still empty: the next one will be signalled */
                return false;
            vring_set_mask(&ch->in, 0);
            continue;
        }
        vring_set_mask(&ch->in, 1);
        if (!next_packet(ch, available, &packet, &taken)) {
            ch->dead = true;
            return false;
        }
        host_trace(h, HOST_TRACE_RING, "channel %u: got type %u, %u bytes, %u ranges, id %#llx", ch->relid,
                   packet.type, packet.bytes, packet.range_count, (unsigned long long)packet.id);
        switch (malice_early(ch, &packet) ? HOST_TAKEN : ch->dev->packet(ch, &packet)) {
        case HOST_TAKEN:
            break;
        case HOST_STALLED:
            ch->stalled = true;
            if (vring_publish_read(&ch->in))
                ch->interrupt = true;
            return false;
        case HOST_FATAL:
            ch->dead = true;
            return false;
        }
        h->counters.packets_in++;
        if (!ch->open)
            return false;
        ch->in.index = (ch->in.index + taken) % ch->in.bytes;
    }
    if (ch->open && vring_publish_read(&ch->in))
        ch->interrupt = true;
    return ch->open;
}

bool vchan_poll(struct host_chan *ch)
{
    struct host *h = ch->h;

    if (vchan_reap(ch) || !ch->open || ch->held || ch->dead || malice_deaf(ch))
        return false;
    ch->polling = true;                          /* what is queued meanwhile goes out below */
    flush_owed(ch);
    if (ch->signalled && !ch->dead) {
        ch->stalled = false;
        ch->signalled = take_packets(ch);
    }
    if (ch->open && !ch->dead) {
        ch->dev->output(ch);
        flush_owed(ch);
    }
    ch->polling = false;
    if (!ch->open || ch->dead)
        return false;
    if (vring_publish_write(&ch->out))
        ch->interrupt = true;
    malice_ring(ch);
    if (ch->interrupt && ch->target_vp != VMBUS_TARGET_VP_NO_INTERRUPTS &&
        !vsynic_signal_event(h, ch->target_vp, HV_SYNIC_SINT_VMBUS, ch->relid))
        host_strict(h, NULL, 0, "channel %u: its interrupt is lost, SINT2 of VP %u is off or masked",
                    ch->relid, ch->target_vp);
    ch->interrupt = false;
    return ch->signalled;
}


/* ---- guest memory named by packets ------------------------------------------------------------------ */

/* One page's share of a range list, in order. */
struct range_walk {
    const uint8_t *at;
    uint32_t ranges, left, offset;  /* ranges not begun; of the one begun */
    uint64_t pfn;
    uint32_t part_offset, part;     /* of the page */
};

static bool next_page(struct range_walk *w)
{
    if (w->left == 0) {
        struct vmbus_gpa_range_header head;
        if (w->ranges == 0)
            return false;
        memcpy(&head, w->at, sizeof(head));
        w->at += sizeof(head);
        w->ranges--;
        w->left = head.byte_count;
        w->offset = head.byte_offset;
    }
    memcpy(&w->pfn, w->at, 8);
    w->at += 8;
    w->part_offset = w->offset;
    w->part = HV_PAGE_SIZE - w->offset < w->left ? HV_PAGE_SIZE - w->offset : w->left;
    w->left -= w->part;
    w->offset = 0;
    return true;
}

/* The first pages of a list. */
static void unmap_pages(struct host *h, enum host_use use, const uint8_t *ranges, uint32_t count, uint32_t pages)
{
    struct range_walk w = {.at = ranges, .ranges = count};

    while (pages-- > 0 && next_page(&w))
        host_unmap(h, use, (w.pfn << HV_PAGE_SHIFT) + w.part_offset, w.part);
}

void vchan_unmap_ranges(struct host *h, enum host_use use, const uint8_t *ranges, uint32_t count)
{
    unmap_pages(h, use, ranges, count, UINT32_MAX);
}

bool vchan_ranges_overlap(const uint8_t *ranges, uint32_t count, uint64_t first, uint64_t pages)
{
    struct range_walk w = {.at = ranges, .ranges = count};

    while (next_page(&w))
        if (w.pfn - first < pages)
            return true;
    return false;
}

uint32_t vchan_ranges_bytes(const struct host_packet *packet)
{
    struct range_walk w = {.at = packet->ranges, .ranges = packet->range_count};

    while (next_page(&w))
        ;
    return (uint32_t)(w.at - packet->ranges);
}

bool vchan_map_ranges(struct host_chan *ch, const struct host_packet *packet, enum host_use use,
                      struct host_seg *segs, uint32_t max, uint32_t *count)
{
    struct range_walk w = {.at = packet->ranges, .ranges = packet->range_count};
    uint32_t used = 0, pages = 0;

    for (; next_page(&w); pages++) {
        uint8_t *p = NULL;
        if (w.pfn >> (64 - HV_PAGE_SHIFT) == 0)
            p = host_map(ch->h, use, (w.pfn << HV_PAGE_SHIFT) + w.part_offset, w.part);
        if (p == NULL) {
            host_violation(ch->h, packet->ranges, 64, "channel %u: page %#llx is not visible memory", ch->relid,
                           (unsigned long long)w.pfn);
            break;
        }
        if (used > 0 && segs[used - 1].data + segs[used - 1].bytes == p) {
            segs[used - 1].bytes += w.part;
        } else if (used < max) {
            segs[used++] = (struct host_seg){p, w.part};
        } else {
            pages++;
            host_violation(ch->h, packet->ranges, 64, "channel %u: more than %u pieces", ch->relid, max);
            break;
        }
        if (w.left == 0 && w.ranges == 0) {
            *count = used;
            return true;
        }
    }
    unmap_pages(ch->h, use, packet->ranges, packet->range_count, pages);
    *count = 0;
    return packet->range_count == 0;
}

static uint32_t copy_segs(const struct host_seg *segs, uint32_t count, uint64_t offset, uint8_t *buffer,
                          uint32_t bytes, bool in)
{
    uint32_t done = 0;

    for (uint32_t i = 0; i < count && done < bytes; i++) {
        uint32_t part;
        if (offset >= segs[i].bytes) {
            offset -= segs[i].bytes;
            continue;
        }
        part = segs[i].bytes - (uint32_t)offset;
        if (part > bytes - done)
            part = bytes - done;
        if (in)
            memcpy(segs[i].data + offset, buffer + done, part);
        else
            memcpy(buffer + done, segs[i].data + offset, part);
        done += part;
        offset = 0;
    }
    return done;
}

uint32_t host_segs_copy_out(const struct host_seg *segs, uint32_t count, uint64_t offset, void *to,
                            uint32_t bytes)
{
    return copy_segs(segs, count, offset, to, bytes, false);
}

uint32_t host_segs_copy_in(const struct host_seg *segs, uint32_t count, uint64_t offset, const void *from,
                           uint32_t bytes)
{
    return copy_segs(segs, count, offset, (uint8_t *)(uintptr_t)from, bytes, true);
}
