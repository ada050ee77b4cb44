/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The ring (vmbus/ring.c) against a host that writes anything at any time.
 *
 * Each function is called once on a ring in any state that the invariant below allows, and must leave one that it
 * allows: so it holds after any number of calls in any order. The size is any multiple of a page up to 4 MiB. What the
 * host may write is not looked up in memory: every read of it gives any value, another each time.
 */
#include "tests/cbmc/proof.h"
#include <string.h>

#define __atomic_load_n(p, order)     ({ looked_at(p, sizeof(*(p))); __typeof__(*(p)) now_; now_; })
#define __atomic_store_n(p, v, order) ((void)(*(p) = (v)))
#define __atomic_thread_fence(order)  ((void)0)
static void looked_at(const void *p, size_t bytes);
static void *checked_copy(void *to, const void *from, size_t bytes);
#define memcpy checked_copy
#include "vmbus/ring.c"
#undef memcpy

#define SIZE_MOST     (4u << 20)       /* four times what any driver asks for, and more */
#define CAPACITY_MOST (1u << 20)
/* Only bounds matter of ring and buffer, so they are addresses without memory. */
#define DATA          0x10000000ull
#define BUFFER        0x20000000ull

static uint8_t control[4096], packet[sizeof(struct vmbus_packet_header)];
static uint64_t data_bytes, buffer_bytes;

/* Memory of the transfer that is touched is the ring's, twice its size, or the buffer's, or a variable. */
static bool inside(const void *p, size_t bytes)
{
    uint64_t at = (uint64_t)p;

    if (at >= DATA && at < DATA + 2 * SIZE_MOST)
        return at - DATA + bytes <= data_bytes;
    if (at >= BUFFER && at <= BUFFER + CAPACITY_MOST)
        return at - BUFFER + bytes <= buffer_bytes;
    return __CPROVER_r_ok(p, bytes);
}

static void looked_at(const void *p, size_t bytes) { prove(inside(p, bytes), "reads inside control page or ring"); }

/* Contents matter for the descriptor alone. */
static void *checked_copy(void *to, const void *from, size_t bytes)
{
    prove(bytes == 0 || inside(from, bytes), "copies from inside");
    prove(bytes == 0 || inside(to, bytes), "copies to inside");
    if ((uint64_t)to == BUFFER && bytes == sizeof(packet)) {
        bool shared = (uint64_t)from >= DATA && (uint64_t)from < DATA + 2 * SIZE_MOST;
        for (unsigned i = 0; i < sizeof(packet); i++)
            packet[i] = shared ? ANY(uint8_t) : ((const uint8_t *)from)[i];
    }
    return to;
}

static bool index_ok(const struct ring *r, uint32_t index) { return index < r->size && index % 8 == 0; }

static bool state_ok(const struct ring *r)
{
    return r->size > 0 && r->size % 4096 == 0 && r->size <= SIZE_MOST && index_ok(r, r->mine) &&
           index_ok(r, r->theirs) && r->unpublished < r->size / 4 && r->unpublished % 8 == 0;
}

/* Any ring in use: two mappings of size bytes behind each other. */
static struct ring any_ring(void)
{
    struct ring r = ANY(struct ring);

    r.control = control;
    assume(state_ok(&r));
    r.data = (uint8_t *)DATA;
    data_bytes = 2 * (uint64_t)r.size;
    return r;
}

/* What the sender may use: all but one unit, or a full ring would look empty. */
static uint32_t unread(const struct ring *r) { return distance(r, r->theirs, r->mine); }

/* Distance and advance are each other's inverse, for any two indices. */
void proof_indices(void)
{
    struct ring r = any_ring();
    uint32_t from = ANY(uint32_t), to = ANY(uint32_t), bytes = ANY(uint32_t);

    assume(index_ok(&r, from) && index_ok(&r, to) && bytes < r.size && bytes % 8 == 0);
    uint32_t way = distance(&r, from, to);
    prove(way < r.size && way % 8 == 0, "a distance is less than the ring");
    prove(advance(&r, from, way) == to, "advancing by the distance arrives");
    prove(distance(&r, from, advance(&r, from, bytes)) == bytes, "the distance is what was advanced by");
    prove(index_ok(&r, advance(&r, from, bytes)), "an index stays one");
    prove((way == 0) == (from == to), "equal indices are no distance apart, and no others");
    r.mine = from;
    r.theirs = to;
    prove(room(&r) <= r.size - 8, "one unit is never given away");
    PROOF_END;
}

/* Room is given that the host has read, inside the mapping, and the ring never fills. */
void proof_reserve(void)
{
    struct ring r = any_ring();
    uint32_t bytes = ANY(uint32_t), before = r.mine;
    uint8_t *where;

    assume(bytes >= 16 && bytes % 8 == 0 && bytes <= SIZE_MOST);
    int rc = ring_reserve(&r, bytes, &where);
    prove(rc == 0 || rc == 1 || rc == -E_AGAIN || rc == -E_PROTO, "the documented results");
    prove(state_ok(&r) && r.mine == before, "the invariant; nothing moves");
    if (rc >= 0)
        prove(where == r.data + before && bytes + 8 <= room(&r), "at the write index, and there is room");
    if (rc == -E_AGAIN)
        prove(r.waiting_bytes == bytes + 8, "what is waited for is known");
    PROOF_END;
}

/* A packet for which there was room. */
void proof_commit(void)
{
    struct ring r = any_ring();
    uint32_t bytes = ANY(uint32_t), old = unread(&r);

    assume(bytes >= 16 && bytes % 8 == 0 && bytes <= SIZE_MOST && bytes + 8 <= room(&r));
    assume(r.unsignalled < UINT64_MAX / 2);         /* bytes between two signals */
    prove(r.mine + bytes + 8 <= 2 * r.size, "packet and trailer lie inside the mapping");
    ring_commit(&r, bytes);
    prove(state_ok(&r), "the invariant");
    prove(unread(&r) == old + bytes + 8, "no packet that the host has yet to read is written over");
    prove(*word(&r, WRITE_INDEX) == r.mine, "the host is told of our index");
    PROOF_END;
}

void proof_signal(void)
{
    struct ring r = any_ring();
    int rc = ring_signal_needed(&r);

    prove(rc == 0 || rc == 1 || rc == -E_PROTO, "the documented results");
    prove(state_ok(&r) && r.unsignalled == 0, "the invariant");
    PROOF_END;
}

/* Being told of room: whoever is let go on finds it. */
void proof_unblocked(void)
{
    struct ring r = any_ring();
    uint32_t waiting = r.waiting_bytes;

    if (ring_unblocked(&r)) {
        prove(waiting == OVERTAKEN || (waiting != 0 && room(&r) >= waiting), "there is room, or it was taken meanwhile");
        prove(r.waiting_bytes == 0, "told once");
    }
    prove(ring_room_bytes(&r) <= r.size - 8, "room is less than the ring");
    prove(state_ok(&r), "the invariant");
    PROOF_END;
}

/* A packet that is handed on lies in the buffer and agrees with its own descriptor, whatever was in the ring. */
void proof_receive(void)
{
    struct ring r = any_ring();
    uint32_t capacity = ANY(uint32_t), before = r.mine;

    assume(capacity >= sizeof(packet) && capacity <= CAPACITY_MOST);
    buffer_bytes = capacity;
    int rc = ring_read(&r, (void *)BUFFER, capacity);
    prove(state_ok(&r), "the invariant after ring_read");
    if (rc > 0) {
        struct vmbus_packet_header d;
        for (unsigned i = 0; i < sizeof(packet); i++)
            ((uint8_t *)&d)[i] = packet[i];
        prove(rc >= 16 && rc % 8 == 0 && (uint32_t)rc <= capacity, "the length is one, and fits");
        prove(d.length8 * 8u == (uint32_t)rc, "the copy says the length that was checked");
        prove(d.data_offset8 * 8u >= 16 && d.data_offset8 * 8u <= (uint32_t)rc, "its data lies in the packet");
        prove(distance(&r, before, r.mine) == (uint32_t)rc + 8, "the index moved behind the trailer");
    } else {
        prove(rc == 0 || rc == -E_PROTO, "the documented results");
        prove(r.mine == before, "nothing was taken");
    }
    PROOF_END;
}

/* Resting and publishing: our index reaches the host, and nothing the host answers breaks ours. */
void proof_rest(void)
{
    struct ring r = any_ring();
    uint32_t before = r.mine;
    bool did = r.unpublished || r.masked;

    if (any_bool()) {
        int rc = ring_rest(&r);
        prove(rc == 0 || rc == 1 || rc == -E_PROTO, "the documented results");
        prove(rc != 0 || r.masked, "going on means that the host keeps quiet");
        prove(rc != 1 || !did || r.theirs == r.mine, "rest only when dry");
        prove(rc != 1 || !r.masked, "at rest the host signals");
    } else {
        ring_publish(&r);
    }
    prove(r.mine == before && r.unpublished == 0, "nothing is left to publish");
    prove(state_ok(&r), "the invariant");
    PROOF_END;
}
