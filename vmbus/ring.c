/* SPDX-License-Identifier: BSD-2-Clause */
/* Rings: see ring.h for the protocol and the order of memory accesses. Source: the VMBus ring as hosts implement it. */
#include <string.h>
#include "lib/errno.h"
#include "vmbus/ring.h"

#define WRITE_INDEX  offsetof(struct vmbus_ring_control, write_index)
#define READ_INDEX   offsetof(struct vmbus_ring_control, read_index)
#define MASK         offsetof(struct vmbus_ring_control, interrupt_mask)
#define PENDING_SEND offsetof(struct vmbus_ring_control, pending_send_bytes)
#define FEATURES     offsetof(struct vmbus_ring_control, feature_bits)

/* Copies up to here are done in place; longer ones are worth a call. */
#define SMALL_COPY   256u

/* waiting_bytes: another packet took the room that one waited for may have; the one is to try again at once. */
#define OVERTAKEN    UINT32_MAX

#define LIKELY(c)    __builtin_expect(!!(c), 1)
#define UNLIKELY(c)  __builtin_expect(!!(c), 0)

static inline uint32_t *word(struct ring *r, size_t offset) { return (uint32_t *)(void *)(r->control + offset); }
static inline void full_fence(void) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }

/* Bytes from one index forward to another. */
static inline uint32_t distance(const struct ring *r, uint32_t from, uint32_t to)
{
    return to >= from ? to - from : r->size - (from - to);
}

/* index + bytes, where bytes < size. */
static inline uint32_t advance(const struct ring *r, uint32_t index, uint32_t bytes)
{
    return bytes >= r->size - index ? bytes - (r->size - index) : index + bytes;
}

static bool refresh(struct ring *r, size_t which)
{
    uint32_t index = __atomic_load_n(word(r, which), __ATOMIC_ACQUIRE);

    if (index >= r->size || index % VMBUS_PACKET_ALIGN)
        return false;
    r->theirs = index;
    return true;
}

/* bytes: a multiple of 8. */
static inline void copy_out(void *to, const void *from, uint32_t bytes)
{
    uint8_t *t = to;
    const uint8_t *f = from;

    if (bytes > SMALL_COPY) {
        memcpy(t, f, bytes);
        return;
    }
    for (; bytes >= 32; bytes -= 32, t += 32, f += 32)
        memcpy(t, f, 32);
    for (; bytes; bytes -= 8, t += 8, f += 8)
        memcpy(t, f, 8);
}

/* The host may change it meanwhile: each word is read once, and what was read is what is checked. */
static inline struct vmbus_packet_header read_descriptor(const uint8_t *from)
{
    union {
        uint64_t words[2];
        struct vmbus_packet_header descriptor;
    } once;

    _Static_assert(sizeof(once.descriptor) == sizeof(once.words), "two words");
    once.words[0] = __atomic_load_n((const uint64_t *)(const void *)from, __ATOMIC_RELAXED);
    once.words[1] = __atomic_load_n((const uint64_t *)(const void *)from + 1, __ATOMIC_RELAXED);
    return once.descriptor;
}

void ring_init(struct ring *r, void *control, void *data, uint32_t size)
{
    *r = (struct ring){.control = control, .data = data, .size = size};
    /* Said in both rings before the host knows them, as Linux does; the host overwrites the word of its own ring. */
    __atomic_store_n(word(r, FEATURES), VMBUS_RING_FEATURE_PENDING_SEND, __ATOMIC_RELAXED);
}

/* ---- sender ---- */

/* The ring never fills completely: equal indices mean empty. */
static inline uint32_t room(const struct ring *r)
{
    return r->size - distance(r, r->theirs, r->mine) - VMBUS_PACKET_ALIGN;
}

static int wait_for_room(struct ring *r, uint32_t space)
{
    uint32_t before = r->waiting_bytes;

    if (!refresh(r, READ_INDEX))
        return -E_PROTO;
    if (room(r) >= space)
        return 0;
    r->waiting_bytes = space;
    __atomic_store_n(word(r, PENDING_SEND), space, __ATOMIC_RELAXED);
    full_fence();
    if (!refresh(r, READ_INDEX))
        return -E_PROTO;
    if (room(r) < space)
        return -E_AGAIN;
    /* The host may have looked before or after the word changed: that it tells the one who waited is not certain. */
    r->waiting_bytes = before ? OVERTAKEN : 0;
    __atomic_store_n(word(r, PENDING_SEND), 0, __ATOMIC_RELAXED);
    return before != 0;
}

int ring_reserve(struct ring *r, uint32_t bytes, uint8_t **where)
{
    uint32_t space = RING_PACKET_SPACE(bytes);

    *where = r->data + r->mine;
    return UNLIKELY(room(r) < space) ? wait_for_room(r, space) : 0;
}

void ring_commit(struct ring *r, uint32_t bytes)
{
    uint64_t trailer = (uint64_t)r->mine << 32;

    memcpy(r->data + r->mine + bytes, &trailer, sizeof(trailer));
    r->mine = advance(r, r->mine, RING_PACKET_SPACE(bytes));
    r->unsignalled += RING_PACKET_SPACE(bytes);
    __atomic_store_n(word(r, WRITE_INDEX), r->mine, __ATOMIC_RELEASE);
}

int ring_signal_needed(struct ring *r)
{
    uint64_t batch = r->unsignalled;

    if (!batch)
        return 0;
    r->unsignalled = 0;
    full_fence();
    if (__atomic_load_n(word(r, MASK), __ATOMIC_RELAXED))
        return 0;
    if (!refresh(r, READ_INDEX))
        return -E_PROTO;
    uint32_t unread = distance(r, r->theirs, r->mine);
    return unread && unread <= batch;
}

bool ring_unblocked(struct ring *r)
{
    if (LIKELY(!r->waiting_bytes))
        return false;
    if (r->waiting_bytes != OVERTAKEN && (!refresh(r, READ_INDEX) || room(r) < r->waiting_bytes))
        return false;
    r->waiting_bytes = 0;
    __atomic_store_n(word(r, PENDING_SEND), 0, __ATOMIC_RELAXED);
    return true;
}

uint32_t ring_room_bytes(struct ring *r)
{
    return refresh(r, READ_INDEX) ? room(r) : 0;
}

/* ---- receiver ---- */

/* After the full fence that follows a store of read_index. before: room the sender had, as far as it knew. */
static void check_blocked_sender(struct ring *r, uint32_t consumed)
{
    uint32_t pending = __atomic_load_n(word(r, PENDING_SEND), __ATOMIC_RELAXED);
    uint32_t write = __atomic_load_n(word(r, WRITE_INDEX), __ATOMIC_ACQUIRE);

    if (LIKELY(!pending) || write >= r->size)
        return;
    uint32_t free_now = r->size - distance(r, r->mine, write);
    uint32_t free_before = free_now > consumed ? free_now - consumed : 0;
    if (free_before <= pending && free_now > pending)
        r->signal_due = true;
}

void ring_publish(struct ring *r)
{
    uint32_t consumed = r->unpublished;

    if (!consumed)
        return;
    r->unpublished = 0;
    __atomic_store_n(word(r, READ_INDEX), r->mine, __ATOMIC_RELEASE);
    full_fence();
    check_blocked_sender(r, consumed);
}

int ring_read(struct ring *r, void *buf, uint32_t capacity)
{
    struct vmbus_packet_header d;
    uint32_t available = distance(r, r->mine, r->theirs);

    if (!available) {
        if (!refresh(r, WRITE_INDEX))
            return -E_PROTO;
        available = distance(r, r->mine, r->theirs);
        if (!available)
            return 0;
        if (!r->masked) {
            /* No fence: a signal that the host sends before it sees this costs one interrupt, nothing else. */
            __atomic_store_n(word(r, MASK), 1, __ATOMIC_RELAXED);
            r->masked = true;
        }
    }
    if (UNLIKELY(available < RING_PACKET_SPACE(sizeof(d))))
        return -E_PROTO;
    d = read_descriptor(r->data + r->mine);
    uint32_t bytes = d.length8 * 8u, offset = d.data_offset8 * 8u;
    if (UNLIKELY(bytes < sizeof(d) || offset < sizeof(d) || offset > bytes || bytes > capacity ||
                 bytes > available - VMBUS_PACKET_TRAILER_BYTES))
        return -E_PROTO;
    /* The checked descriptor first, then the rest: what the host changes meanwhile cannot reach the lengths. */
    memcpy(buf, &d, sizeof(d));
    copy_out((uint8_t *)buf + sizeof(d), r->data + r->mine + sizeof(d), bytes - (uint32_t)sizeof(d));
    r->mine = advance(r, r->mine, RING_PACKET_SPACE(bytes));
    r->unpublished += RING_PACKET_SPACE(bytes);
    if (UNLIKELY(r->unpublished >= r->size / 4))
        ring_publish(r);               /* a long drain must not keep the host's sender waiting */
    return (int)bytes;
}

int ring_rest(struct ring *r)
{
    uint32_t consumed = r->unpublished;

    if (!consumed && !r->masked)
        return 1;                      /* nothing was taken since the last rest: the host still signals */
    r->unpublished = 0;
    if (consumed)
        __atomic_store_n(word(r, READ_INDEX), r->mine, __ATOMIC_RELEASE);
    if (r->masked)
        __atomic_store_n(word(r, MASK), 0, __ATOMIC_RELAXED);
    full_fence();
    if (consumed)
        check_blocked_sender(r, consumed);
    if (!refresh(r, WRITE_INDEX))
        return -E_PROTO;
    if (r->theirs == r->mine) {
        r->masked = false;
        return 1;
    }
    __atomic_store_n(word(r, MASK), 1, __ATOMIC_RELAXED);
    r->masked = true;
    return 0;
}
