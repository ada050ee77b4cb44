/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Memory of NBD sessions: page buffers that disks and NICs read and write in place, and small descriptors.
 *
 * Buffers come in powers of two of a page up to 256 KiB, physically contiguous, so that a disk request needs one span.
 * Used ones go to free lists per size; all of them together stay within one limit. No session holds more than a
 * quarter of it, so one client that does not read its replies can't stop the others.
 *
 * Assumes: one CPU. resume functions are called from the event loop, never from inside nbd_buffer_put.
 */
#define LOG_ROOM "nbd"
#include "apps/nbd/internal.h"

#define LIMIT_SHARE       8
#define LIMIT_MIN_BYTES   (2ull << 20)
#define LIMIT_MAX_BYTES   (64ull << 20)
#define DESCRIPTOR_KINDS  2
#define DESCRIPTOR_STEP   32

struct free_item { struct free_item *next; };

static struct free_item *free_buffers[NBD_BUFFER_ORDER_MAX + 1];
static struct free_item *free_descriptors[DESCRIPTOR_KINDS];
static uint64_t limit_bytes, used_bytes, cached_bytes;
static struct list waiting = LIST_INIT(waiting);
static bool short_of_memory;            /* somebody was refused since the last turn of those who wait */
static struct nbd_session *resuming;    /* whose turn it is */

static uint64_t order_bytes(unsigned order) { return PAGE_BYTES << order; }

void nbd_buffers_init(uint64_t limit)
{
    struct mm_stats memory;
    mm_get_stats(&memory);
    uint64_t share = memory.ram_pages * PAGE_BYTES / LIMIT_SHARE;
    share = MIN(share, LIMIT_MAX_BYTES);
    limit_bytes = ALIGN_DOWN(MAX(limit ? limit : share, LIMIT_MIN_BYTES), 1ull << 20);
}

uint64_t nbd_buffers_limit(void) { return limit_bytes; }
uint64_t nbd_session_share(void) { return limit_bytes / 4; }
uint64_t nbd_buffers_used(void) { return used_bytes; }

/* Gives cached buffers of other sizes back until bytes more fit below the limit. */
static bool make_room(uint64_t bytes)
{
    for (unsigned order = 0; order <= NBD_BUFFER_ORDER_MAX; order++)
        while (used_bytes + cached_bytes + bytes > limit_bytes && free_buffers[order]) {
            struct free_item *item = free_buffers[order];
            free_buffers[order] = item->next;
            cached_bytes -= order_bytes(order);
            page_free(mm_virt_to_phys(item), order);
        }
    return used_bytes + cached_bytes + bytes <= limit_bytes;
}

static void *take(unsigned order)
{
    struct free_item *item = free_buffers[order];
    if (item) {
        free_buffers[order] = item->next;
        cached_bytes -= order_bytes(order);
        return item;
    }
    if (!make_room(order_bytes(order)))
        return NULL;
    paddr_t pages = page_alloc(order);
    return pa_is_none(pages) ? NULL : arch_phys_to_virt(pages);
}

void *nbd_buffer_get(struct nbd_session *s, uint32_t bytes, unsigned *order)
{
    unsigned o = 0;
    bool within_share = false;
    /* Who comes by himself while others wait in turn queues behind them: a busy client must not starve the rest. */
    if (short_of_memory && resuming != s)
        return NULL;
    while (o < NBD_BUFFER_ORDER_MAX && order_bytes(o) < bytes)
        o++;
    for (;; o--) {
        /* The first buffer is never refused for the session's share: it must be able to go on at all. */
        if (s->buffer_bytes == 0 || s->buffer_bytes + order_bytes(o) <= nbd_session_share()) {
            void *buffer = take(o);
            within_share = true;
            if (buffer) {
                used_bytes += order_bytes(o);
                s->buffer_bytes += order_bytes(o);
                *order = o;
                return buffer;
            }
        }
        if (o == 0)
            break;
    }
    short_of_memory |= within_share;
    return NULL;
}

void nbd_buffer_unget(struct nbd_session *s, void *buffer, unsigned order)
{
    struct free_item *item = buffer;
    KASSERT(used_bytes >= order_bytes(order) && s->buffer_bytes >= order_bytes(order));
    used_bytes -= order_bytes(order);
    s->buffer_bytes -= order_bytes(order);
    cached_bytes += order_bytes(order);
    item->next = free_buffers[order];
    free_buffers[order] = item;
}

void nbd_buffer_put(struct nbd_session *s, void *buffer, unsigned order)
{
    nbd_buffer_unget(s, buffer, order);
    nbd_buffers_wake();
}

void nbd_buffer_lose(struct nbd_session *s, unsigned order)
{
    /* Still counted as used: the host may write to it at any time. */
    s->buffer_bytes -= order_bytes(order);
    log_err("%s: %llu KiB of memory are given up: the host may still write there", s->peer,
            (unsigned long long)order_bytes(order) >> 10);
}

/* ---- waiting ---- */
static void run_waiting(void *arg)
{
    (void)arg;
    struct list now;
    /* Who can't go on after all queues again, behind the others, and waits for the next wake. */
    list_init(&now);
    short_of_memory = false;
    while (!list_empty(&waiting))
        list_push_back(&now, list_pop_front(&waiting));
    struct list *node;
    while ((node = list_pop_front(&now))) {
        struct nbd_session *s = list_entry(node, struct nbd_session, waiting_node);
        resuming = s;
        s->transport->resume(s);
        resuming = NULL;
    }
}
static struct rt_event wake_event = RT_EVENT_INIT(run_waiting, NULL);

void nbd_buffers_wake(void)
{
    if (!list_empty(&waiting))
        event_raise(&wake_event);
}

void nbd_buffers_wait(struct nbd_session *s)
{
    if (list_empty(&s->waiting_node))
        list_push_back(&waiting, &s->waiting_node);
}

void nbd_buffers_forget(struct nbd_session *s)
{
    list_remove(&s->waiting_node);
    if (list_empty(&waiting))
        short_of_memory = false;        /* nobody is left to be waited for, and nothing may be out that would wake */
}

/* ---- descriptors ---- */
void *nbd_descriptor_get(unsigned kind, size_t bytes)
{
    KASSERT(kind < DESCRIPTOR_KINDS && bytes >= sizeof(struct free_item));
    if (!free_descriptors[kind]) {
        bytes = ALIGN_UP(bytes, 16);
        char *step = kmalloc(bytes * DESCRIPTOR_STEP);
        if (!step)
            return NULL;
        for (unsigned i = 0; i < DESCRIPTOR_STEP; i++)
            nbd_descriptor_put(kind, step + i * bytes);
    }
    struct free_item *item = free_descriptors[kind];
    free_descriptors[kind] = item->next;
    return item;
}

void nbd_descriptor_put(unsigned kind, void *descriptor)
{
    struct free_item *item = descriptor;
    item->next = free_descriptors[kind];
    free_descriptors[kind] = item;
}
