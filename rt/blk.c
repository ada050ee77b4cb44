/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The disk class: names, references, watchers, checks. What the driver can serve as it is goes straight to it, the
 * rest to blk_split.c.
 *
 * Promise: done is never called from inside blk_submit. Assumes: one CPU's event loop and tasks; no interrupt handler
 * is in here.
 */
#define LOG_ROOM "blk"
#include <string.h>
#include "rt/blk_internal.h"

static struct list devices = LIST_INIT(devices);        /* in order of their numbers */
static struct list watchers = LIST_INIT(watchers);
static void *zeroes;                                    /* BLK_ZERO_BYTES; the host only ever reads it */

/* ---- watchers ---- */

void blk_watch(struct blk_watcher *w)
{
    list_push_back(&watchers, &w->node);
}

void blk_unwatch(struct blk_watcher *w)
{
    list_remove(&w->node);
}

static void tell(struct blk_device *d, enum blk_change change)
{
    list_for_each_safe(pos, &watchers) {
        struct blk_watcher *w = list_entry(pos, struct blk_watcher, node);
        w->fn(w->arg, d, change);
    }
}

/* ---- devices ---- */

static void finish_run(void *arg)
{
    struct blk_device *d = arg;
    struct list *node;

    /* The callback may drop the last reference, so nothing of d is touched after the last one. */
    while ((node = list_pop_front(&d->own->finished))) {
        struct blk_request *r = list_entry(node, struct blk_request, node);
        bool last = list_empty(&d->own->finished);
        blk_complete(r, r->status);
        if (last)
            return;
    }
}

static void kick_run(void *arg)
{
    blk_kick(arg);
}

/* Inserts d in order with the smallest number that is free. */
static void take_number(struct blk_device *d)
{
    struct list *before = &devices;

    d->number = 0;
    list_for_each(pos, &devices) {
        if (list_entry(pos, struct blk_device, node)->number != d->number) {
            before = pos;
            break;
        }
        d->number++;
    }
    list_insert_between(&d->node, before->prev, before);
    ksnprintf(d->name, sizeof(d->name), "disk%u", d->number);
}

int blk_register(struct blk_device *d, void (*release)(struct blk_device *d))
{
    struct blk_class *own;

    KASSERT(d->sector_bytes >= 512 && IS_ALIGNED(d->sector_bytes, 512u) && d->max_transfer_bytes >= d->sector_bytes);
    if (!zeroes) {
        zeroes = kzalloc(BLK_ZERO_BYTES);          /* so many: page aligned, wherever the pages lie */
        if (!zeroes)
            return -E_NOMEM;
    }
    own = kzalloc(sizeof(*own));
    if (!own)
        return -E_NOMEM;
    own->release = release;
    own->kick_event = (struct rt_event)RT_EVENT_INIT(kick_run, d);
    own->finish_event = (struct rt_event)RT_EVENT_INIT(finish_run, d);
    list_init(&own->finished);
    blk_split_init(own);
    d->own = own;
    d->references = 1;
    d->removed = false;
    memset(&d->stats, 0, sizeof(d->stats));
    take_number(d);
    log_info_some("%s: %s, %llu sectors of %u bytes (%llu MiB)%s", d->name, d->description,
                  (unsigned long long)d->sectors,
                  d->sector_bytes, (unsigned long long)(d->sectors / (1048576 / d->sector_bytes)),
                  d->read_only ? ", read-only" : "");
    tell(d, BLK_ADDED);
    return 0;
}

void blk_capacity_changed(struct blk_device *d, uint64_t sectors)
{
    if (d->sectors == sectors)
        return;
    log_info_some("%s: now %llu sectors, before %llu", d->name, (unsigned long long)sectors,
                  (unsigned long long)d->sectors);
    d->sectors = sectors;
    if (!d->removed)
        tell(d, BLK_RESIZED);
}

void blk_unregister(struct blk_device *d)
{
    KASSERT(!d->removed);
    d->removed = true;
    list_remove(&d->node);
    log_info_some("%s: removed", d->name);
    blk_split_advance(d);
    tell(d, BLK_REMOVED);
    blk_put(d);
}

void blk_ref(struct blk_device *d)
{
    KASSERT(d->references > 0);
    d->references++;
}

void blk_put(struct blk_device *d)
{
    struct blk_class *own = d->own;

    KASSERT(d->references > 0);
    if (--d->references > 0)
        return;
    KASSERT(d->removed && d->stats.in_flight == 0);
    event_cancel(&own->kick_event);
    event_cancel(&own->finish_event);
    d->own = NULL;
    if (own->release)
        own->release(d);
    kfree(own);
}

struct blk_device *blk_get(const char *name)
{
    list_for_each(pos, &devices) {
        struct blk_device *d = list_entry(pos, struct blk_device, node);
        if (strcmp(d->name, name) == 0) {
            blk_ref(d);
            return d;
        }
    }
    return NULL;
}

struct blk_device *blk_get_index(unsigned n)
{
    list_for_each(pos, &devices) {
        if (n-- == 0) {
            struct blk_device *d = list_entry(pos, struct blk_device, node);
            blk_ref(d);
            return d;
        }
    }
    return NULL;
}

const void *blk_zeroes(void)
{
    return zeroes;
}

/* ---- completion ---- */

void blk_complete(struct blk_request *r, int status)
{
    r->status = status;
    if (!blk_is_piece(r)) {
        r->device->stats.in_flight--;
        if (status)
            r->device->stats.errors++;
    }
    r->done(r);
}

void blk_finish_later(struct blk_device *d, struct blk_request *r, int status)
{
    r->status = status;
    list_push_back(&d->own->finished, &r->node);
    event_raise(&d->own->finish_event);
}

/* ---- submission ---- */

static int check_spans(const struct blk_request *r, uint64_t bytes)
{
    uint64_t total = 0;

    if (r->span_count == 0 || r->span_count > BLK_MAX_SPANS || !r->spans)
        return -E_INVAL;
    for (unsigned i = 0; i < r->span_count; i++) {
        uint64_t start = (uint64_t)(uintptr_t)r->spans[i].addr;
        uint64_t end = start + r->spans[i].bytes;
        if (r->spans[i].bytes == 0 || !IS_ALIGNED(start, 4))
            return -E_INVAL;
        if ((i > 0 && (start & PAGE_MASK)) || (i + 1 < r->span_count && (end & PAGE_MASK)))
            return -E_INVAL;
        total += r->spans[i].bytes;
    }
    return total == bytes ? 0 : -E_INVAL;
}

static int check(const struct blk_device *d, const struct blk_request *r)
{
    bool data = r->op == BLK_READ || r->op == BLK_WRITE;

    if ((unsigned)r->op > BLK_WRITE_ZEROES || !r->done)
        return -E_INVAL;
    if (r->op == BLK_FLUSH)
        return r->sectors == 0 ? 0 : -E_INVAL;
    if (r->op != BLK_READ && d->read_only)
        return -E_ROFS;
    if (r->op == BLK_DISCARD && !d->has_discard)
        return -E_NOTSUP;
    if (r->sectors == 0)
        return -E_INVAL;
    if (r->sector > d->sectors || r->sectors > d->sectors - r->sector)
        return -E_RANGE;
    return data ? check_spans(r, r->sectors * d->sector_bytes) : 0;
}

static void count(struct blk_device *d, const struct blk_request *r)
{
    d->stats.in_flight++;
    switch (r->op) {
    case BLK_READ:
        d->stats.reads++;
        d->stats.read_bytes += r->sectors * d->sector_bytes;
        break;
    case BLK_WRITE:
    case BLK_WRITE_ZEROES:
        d->stats.writes++;
        d->stats.write_bytes += r->sectors * d->sector_bytes;
        break;
    case BLK_FLUSH:
        d->stats.flushes++;
        break;
    case BLK_DISCARD:
        d->stats.discards++;
        break;
    }
}

int blk_submit(struct blk_device *d, struct blk_request *r)
{
    int e = check(d, r);

    if (e)
        return e;
    r->device = d;
    r->status = 0;
    r->progress = 0;
    r->pieces = 0;
    r->attempts = 0;
    count(d, r);
    if (d->removed) {
        blk_finish_later(d, r, -E_REMOVED);
        return 0;
    }
    if (r->op == BLK_FLUSH && !d->has_flush) {
        blk_finish_later(d, r, 0);
        return 0;
    }
    if (!blk_fits_driver(d, r)) {
        blk_split(d, r);
        return 0;
    }
    d->ops->submit(d, r);
    if (!d->own->dirty) {
        d->own->dirty = true;
        event_raise(&d->own->kick_event);
    }
    return 0;
}

void blk_kick(struct blk_device *d)
{
    if (!d->own->dirty)
        return;
    d->own->dirty = false;
    d->ops->kick(d);
}
