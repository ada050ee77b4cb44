/* SPDX-License-Identifier: BSD-2-Clause */
/* See lies.h. Never fails: what does not fit is cut, what finds no room in a ring is lost, as any lie may be. */
#include "tests/fuzz/lies.h"
#include <string.h>

#define IDS_KEPT      4u
#define QUEUE_MAX     8u
#define SCRATCH       __attribute__((section("scratch")))   /* large, and not worth being set back */
#define MESSAGE_BYTES 256u                     /* more than a slot has, to see what becomes of it */

enum order { PASS, PATCH, REPLACE, DROP, TWICE, ENVELOPE, CUT, BEFORE };
enum { CHANGE_TYPE, CHANGE_ID, CHANGE_FLAGS, CHANGE_HEADER };

static enum lies_about about;
static struct input *in;
static unsigned passes;
static uint64_t ids[IDS_KEPT];                 /* of the last packets, for lies that want a good one */
static unsigned id_count;
bool (*lies_look)(struct lie_packet *p);

enum synic_post __real_vsynic_post_message(struct host *h, uint32_t vp, uint32_t sint, uint32_t type, uint64_t sender,
                                           const void *payload, uint32_t bytes, bool more);
enum synic_post __wrap_vsynic_post_message(struct host *h, uint32_t vp, uint32_t sint, uint32_t type, uint64_t sender,
                                           const void *payload, uint32_t bytes, bool more);
bool __real_vring_publish_write(struct host_ring *r);
bool __wrap_vring_publish_write(struct host_ring *r);

void lies_begin(enum lies_about what, struct input *input)
{
    about = what;
    in = input;
    passes = 0;
}

void lies_end(void) { about = LIES_NONE; }
bool lies_left(void) { return in && in->left > 0; }

/* ---- orders on a payload ---- */

static uint32_t fill(uint8_t *to, uint32_t room)
{
    const uint8_t *bytes;
    uint32_t n = in_u16(in);
    n = (uint32_t)in_take(in, &bytes, MIN(n, room));
    memcpy(to, bytes, n);
    return n;
}

static void patch(uint8_t *payload, uint32_t bytes, unsigned argument)
{
    for (;;) {
        uint32_t at = in_u16(in);
        const uint8_t *from;
        uint32_t n = (uint32_t)in_take(in, &from, argument % 16 + 1);
        at = bytes ? at % bytes : 0;
        memcpy(payload + at, from, MIN(n, bytes - at));
        if (argument < 16 || !in->left)
            return;
        argument = in_u8(in) >> 3;
    }
}

/* ---- messages ---- */

static struct queued { uint8_t payload[MESSAGE_BYTES]; uint32_t bytes, type; } queue[QUEUE_MAX];
static unsigned queue_first, queue_end;

static void enqueue(uint32_t type, const void *payload, uint32_t bytes)
{
    if (queue_end == QUEUE_MAX)
        return;
    struct queued *q = &queue[queue_end++];
    q->type = type ? type : ~0u;               /* type 0 says "empty": the guest would never free the slot again */
    q->bytes = bytes;
    memcpy(q->payload, payload, bytes);
}

/* What the guest gets in place of one message. */
static void lie_about_message(uint32_t type, const void *payload, uint32_t bytes)
{
    struct queued m = {.type = type, .bytes = bytes};
    memcpy(m.payload, payload, bytes);

    while (in->left && !passes) {
        uint8_t first = in_u8(in);
        unsigned argument = first >> 3;
        switch ((enum order)(first & 7)) {
        case PASS:
            passes = argument + 1;
            break;
        case PATCH:
            patch(m.payload, m.bytes, argument);
            enqueue(m.type, m.payload, m.bytes);
            return;
        case REPLACE:
            m.bytes = fill(m.payload, sizeof(m.payload));
            enqueue(m.type, m.payload, m.bytes);
            return;
        case DROP:
            return;
        case TWICE:
            enqueue(m.type, m.payload, m.bytes);
            enqueue(m.type, m.payload, m.bytes);
            return;
        case ENVELOPE:
            m.type = in_u32(in);
            enqueue(m.type, m.payload, m.bytes);
            return;
        case CUT:
            m.bytes = MIN((uint32_t)in_u16(in), m.bytes);
            enqueue(m.type, m.payload, m.bytes);
            return;
        case BEFORE: {
            struct queued other = {.type = argument == 31 ? in_u32(in) : VMBUS_MESSAGE_TYPE};
            other.bytes = fill(other.payload, sizeof(other.payload));
            enqueue(other.type, other.payload, other.bytes);
            break;
        }
        }
    }
    if (passes)
        passes--;
    enqueue(m.type, m.payload, m.bytes);
}

/* The slot takes one at a time: "busy" makes the model come again with the same message. The length that the guest reads
 * may be longer than what the model copies. */
enum synic_post __wrap_vsynic_post_message(struct host *h, uint32_t vp, uint32_t sint, uint32_t type, uint64_t sender,
                                           const void *payload, uint32_t bytes, bool more)
{
    if (type != VMBUS_MESSAGE_TYPE || (about != LIES_MESSAGES && queue_first == queue_end))
        return __real_vsynic_post_message(h, vp, sint, type, sender, payload, bytes, more);
    if (queue_first == queue_end) {
        queue_first = queue_end = 0;
        lie_about_message(type, payload, bytes);
    }
    while (queue_first < queue_end) {
        const struct queued *q = &queue[queue_first];
        bool last = queue_first + 1 == queue_end;
        enum synic_post r = __real_vsynic_post_message(h, vp, sint, q->type, sender, q->payload,
                                                       MIN(q->bytes, HV_MESSAGE_PAYLOAD_MAX), more || !last);
        if (r != SYNIC_POSTED)
            return r;
        if (q->bytes > HV_MESSAGE_PAYLOAD_MAX && h->vp[vp].messages)
            h->vp[vp].messages->sint[sint].payload_size = (uint8_t)MIN(q->bytes, 255u);
        queue_first++;
        if (!last)
            return SYNIC_BUSY;
    }
    return SYNIC_POSTED;
}

void lies_say_message(struct host *h)
{
    struct queued m = {0};
    in_u8(in);
    m.bytes = fill(m.payload, HV_MESSAGE_PAYLOAD_MAX);
    enum lies_about was = about;
    about = LIES_NONE;
    vserver_send(h, m.payload, m.bytes, false);
    while (host_poll(h))
        ;
    about = was;
}

/* ---- packets ---- */

/* Writes a packet into the ring, if there is room. */
static void put(struct host_ring *r, const struct lie_packet *p)
{
    static const uint8_t zeroes[16];
    uint32_t data_at = ALIGN_UP((uint32_t)sizeof(struct vmbus_packet_header) + p->header_bytes, 8u);
    uint32_t bytes = ALIGN_UP(data_at + p->payload_bytes, 8u), start = r->index;
    uint64_t trailer = (uint64_t)start << 32;
    struct vmbus_packet_header d = {
        .type = p->type, .data_offset8 = (uint16_t)(data_at / 8), .length8 = (uint16_t)(bytes / 8), .flags = p->flags,
        .transaction_id = p->id,
    };

    if (vring_free_bytes(r, r->ctl->read_index % r->bytes, r->index) <= bytes + VMBUS_PACKET_TRAILER_BYTES)
        return;
    vring_put(r, &d, sizeof(d));
    vring_put(r, p->header, p->header_bytes);
    vring_put(r, zeroes, data_at - (uint32_t)sizeof(d) - p->header_bytes);
    vring_put(r, p->payload, p->payload_bytes);
    vring_put(r, zeroes, bytes - data_at - p->payload_bytes);
    vring_put(r, &trailer, sizeof(trailer));
}

/* The envelope of a packet that nobody asked for. */
static void invent(struct lie_packet *p, unsigned argument)
{
    static const uint16_t types[] = {VMBUS_PACKET_INBAND, VMBUS_PACKET_COMPLETION, VMBUS_PACKET_TRANSFER_PAGES, 0};
    p->type = types[argument % 4];
    if (!p->type)
        p->type = in_u16(in);
    p->flags = argument & 4 ? VMBUS_PACKET_FLAG_COMPLETION : 0;
    p->id = argument & 8 ? in_u64(in) : ids[argument / 16 ? 0 : id_count % IDS_KEPT];
    p->header_bytes = 0;
    if (p->type == VMBUS_PACKET_TRANSFER_PAGES)
        p->header_bytes = fill(p->header, sizeof(p->header));
    p->payload_bytes = fill(p->payload, sizeof(p->payload));
}

static void change(struct lie_packet *p, unsigned argument)
{
    const uint8_t *from;
    uint32_t at, n;

    switch (argument % 4) {
    case CHANGE_TYPE:
        p->type = in_u16(in);
        break;
    case CHANGE_ID:
        p->id = argument & 4 ? ids[in_u8(in) % IDS_KEPT] : in_u64(in);
        break;
    case CHANGE_FLAGS:
        p->flags = in_u16(in);
        break;
    case CHANGE_HEADER:
        at = in_u16(in);
        n = (uint32_t)in_take(in, &from, 4);
        at = p->header_bytes ? at % p->header_bytes : 0;
        memcpy(p->header + at, from, MIN(n, p->header_bytes - at));
        break;
    }
}

static void lie_about_packet(struct host_ring *r, struct lie_packet *p)
{
    static SCRATCH struct lie_packet other;

    while (in->left && !passes) {
        uint8_t first = in_u8(in);
        unsigned argument = first >> 3;
        switch ((enum order)(first & 7)) {
        case PASS:
            passes = argument + 1;
            continue;
        case PATCH:
            patch(p->body, *p->body_bytes, argument);
            break;
        case REPLACE:
            *p->body_bytes = fill(p->body, p->body_room);
            break;
        case DROP:
            return;
        case TWICE:
            put(r, p);
            break;
        case ENVELOPE:
            change(p, argument);
            break;
        case CUT:
            *p->body_bytes = MIN((uint32_t)in_u16(in), *p->body_bytes);
            break;
        case BEFORE:
            invent(&other, argument);
            put(r, &other);
            continue;
        }
        put(r, p);
        return;
    }
    if (passes)
        passes--;
    put(r, p);
}

static struct host_chan *owner(struct host_ring *r) { return container_of(r, struct host_chan, out); }

/* Takes the packets that are not published yet out of the ring again, and puts what becomes of them in their place. */
bool __wrap_vring_publish_write(struct host_ring *r)
{
    static SCRATCH uint8_t pending[65536 * 4];
    static SCRATCH struct lie_packet p;
    uint32_t bytes = r->index >= r->published ? r->index - r->published : r->bytes - (r->published - r->index);

    if (about != LIES_PACKETS || bytes == 0 || bytes > sizeof(pending) || !(lies_left() || lies_look))
        return __real_vring_publish_write(r);
    vring_peek(r, r->published, pending, bytes);
    r->index = r->published;
    for (uint32_t at = 0; at < bytes;) {
        struct vmbus_packet_header d;
        memcpy(&d, pending + at, sizeof(d));
        uint32_t data_at = d.data_offset8 * 8u, whole = d.length8 * 8u;
        p.channel = owner(r);
        p.type = d.type;
        p.flags = d.flags;
        p.id = d.transaction_id;
        p.header_bytes = data_at - (uint32_t)sizeof(d);
        p.payload_bytes = whole - data_at;
        KASSERT(p.header_bytes <= sizeof(p.header) && p.payload_bytes <= sizeof(p.payload));
        p.body = p.payload;
        p.body_bytes = &p.payload_bytes;
        p.body_room = sizeof(p.payload);
        memcpy(p.header, pending + at + sizeof(d), p.header_bytes);
        memcpy(p.payload, pending + at + data_at, p.payload_bytes);
        ids[id_count++ % IDS_KEPT] = p.id;
        if (!lies_look || lies_look(&p))
            lie_about_packet(r, &p);
        else
            put(r, &p);
        at += whole + VMBUS_PACKET_TRAILER_BYTES;
    }
    return __real_vring_publish_write(r);
}

void lies_say_packet(struct host_chan *ch)
{
    static SCRATCH struct lie_packet p;
    unsigned argument = in_u8(in) >> 3;
    struct host_piece header = {p.header, 0}, payload = {p.payload, 0};

    invent(&p, argument);
    header.bytes = p.header_bytes;
    payload.bytes = p.payload_bytes;
    enum lies_about was = about;
    about = LIES_NONE;
    vchan_send(ch, p.type, p.flags, p.id, header.bytes ? &header : NULL, &payload);
    while (host_poll(ch->h))
        ;
    about = was;
}
