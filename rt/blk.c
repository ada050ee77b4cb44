/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The disk class: names, references, checks, splitting, watchers.
 *
 * A request that the driver can serve as it is goes straight to it. Any other becomes a parent: its sectors are
 * handed out in pieces from a small pool of the device (so nothing is allocated), at most BLK_PIECES at a time, and
 * parents wait their turn in one list, oldest first. Parents are: transfers beyond the limit, FUA writes on a disk
 * without FUA (a flush follows the last piece) and all write-zeroes.
 *
 * Promises: done is never called from inside blk_submit; a parent is done when its last piece is, with the first
 * error. Assumes: one CPU's event loop and tasks; no interrupt handler is in here.
 */
#define LOG_ROOM "blk"
#include <string.h>
#include "rt/blk.h"

#define BLK_PIECES        16
#define BLK_ZERO_ORDER    2
#define BLK_WAIT_REPORT_US 300000000ull   /* above the drivers' own limit per request: 240 s */
#define BLK_CHUNK_BYTES   (1u << 30)      /* of the blocking calls: a span's length has 32 bits */

struct blk_piece {
    struct blk_request r;
    struct blk_request *parent;
    struct blk_span spans[BLK_MAX_SPANS];
};

struct blk_class {
    void (*release)(struct blk_device *d);
    struct rt_event kick_event;
    struct rt_event finish_event;
    bool dirty;                           /* submitted since the last kick */
    struct list parents;                  /* with something left to hand out */
    struct list free_pieces;
    struct list finished;                 /* to be completed by finish_event */
    struct blk_piece pool[BLK_PIECES];
};

static struct list devices = LIST_INIT(devices);        /* in order of their numbers */
static struct list watchers = LIST_INIT(watchers);
static void *zeroes;                                    /* BLK_ZERO_BYTES; the host only ever reads it */

static void piece_done(struct blk_request *r);
static void advance(struct blk_device *d);

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
        paddr_t pages = page_alloc_zeroed(BLK_ZERO_ORDER);
        if (pa_is_none(pages))
            return -E_NOMEM;
        zeroes = arch_phys_to_virt(pages);
    }
    own = kzalloc(sizeof(*own));
    if (!own)
        return -E_NOMEM;
    own->release = release;
    own->kick_event = (struct rt_event)RT_EVENT_INIT(kick_run, d);
    own->finish_event = (struct rt_event)RT_EVENT_INIT(finish_run, d);
    list_init(&own->parents);
    list_init(&own->free_pieces);
    list_init(&own->finished);
    for (unsigned i = 0; i < BLK_PIECES; i++)
        list_push_back(&own->free_pieces, &own->pool[i].r.node);
    d->own = own;
    d->references = 1;
    d->removed = false;
    memset(&d->stats, 0, sizeof(d->stats));
    take_number(d);
    log_info("%s: %s, %llu sectors of %u bytes (%llu MiB)%s", d->name, d->description, (unsigned long long)d->sectors,
             d->sector_bytes, (unsigned long long)(d->sectors / (1048576 / d->sector_bytes)),
             d->read_only ? ", read-only" : "");
    tell(d, BLK_ADDED);
    return 0;
}

void blk_capacity_changed(struct blk_device *d, uint64_t sectors)
{
    if (d->sectors == sectors)
        return;
    log_info("%s: now %llu sectors, before %llu", d->name, (unsigned long long)sectors, (unsigned long long)d->sectors);
    d->sectors = sectors;
    if (!d->removed)
        tell(d, BLK_RESIZED);
}

void blk_unregister(struct blk_device *d)
{
    KASSERT(!d->removed);
    d->removed = true;
    list_remove(&d->node);
    log_info("%s: removed", d->name);
    advance(d);
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
    if (r->done != piece_done) {
        r->device->stats.in_flight--;
        if (status)
            r->device->stats.errors++;
    }
    r->done(r);
}

/* For requests that end before the driver saw them: done must not run inside blk_submit. */
static void finish_later(struct blk_device *d, struct blk_request *r, int status)
{
    r->status = status;
    list_push_back(&d->own->finished, &r->node);
    event_raise(&d->own->finish_event);
}

/* ---- parents and their pieces ---- */

static bool wants_flush(const struct blk_device *d, const struct blk_request *r)
{
    return (r->flags & BLK_FUA) && d->has_flush && (r->op == BLK_WRITE_ZEROES || (r->op == BLK_WRITE && !d->has_fua));
}

/* Fills the piece's spans with bytes [from, from + bytes) of the parent's. */
static void cut_spans(struct blk_piece *piece, const struct blk_request *parent, uint64_t from, uint64_t bytes)
{
    const struct blk_span *in = parent->spans;
    unsigned n = 0;

    while (from >= in->bytes)
        from -= in++->bytes;
    while (bytes > 0) {
        uint32_t take = (uint32_t)MIN((uint64_t)in->bytes - from, bytes);
        KASSERT(n < BLK_MAX_SPANS);
        piece->spans[n++] = (struct blk_span){(char *)in->addr + from, take};
        bytes -= take;
        from = 0;
        in++;
    }
    piece->r.span_count = n;
}

static uint64_t zero_spans(struct blk_piece *piece, const struct blk_device *d, uint64_t sectors)
{
    uint64_t limit = MIN((uint64_t)BLK_MAX_SPANS * BLK_ZERO_BYTES, (uint64_t)d->max_transfer_bytes);
    uint64_t bytes = MIN(sectors, limit / d->sector_bytes) * d->sector_bytes;
    uint64_t left = bytes;
    unsigned n = 0;

    for (; left > 0; n++) {
        uint32_t take = (uint32_t)MIN(left, (uint64_t)BLK_ZERO_BYTES);
        piece->spans[n] = (struct blk_span){zeroes, take};
        left -= take;
    }
    piece->r.span_count = n;
    return bytes / d->sector_bytes;
}

/* Describes the parent's next piece; returns its sectors. */
static uint64_t next_piece(struct blk_device *d, struct blk_request *parent, struct blk_piece *piece)
{
    uint64_t left = parent->sectors - parent->progress;
    uint64_t n = left;

    piece->r.op = parent->op;
    piece->r.flags = parent->flags;
    piece->r.span_count = 0;
    switch (parent->op) {
    case BLK_READ:
    case BLK_WRITE:
        n = MIN(left, (uint64_t)(d->max_transfer_bytes / d->sector_bytes));
        if (!d->has_fua)
            piece->r.flags &= ~(unsigned)BLK_FUA;
        cut_spans(piece, parent, parent->progress * d->sector_bytes, n * d->sector_bytes);
        break;
    case BLK_DISCARD:
        n = MIN(left, (uint64_t)d->max_discard_sectors);
        break;
    case BLK_WRITE_ZEROES:
        piece->r.flags &= ~(unsigned)BLK_FUA;
        if (d->has_write_zeroes) {
            n = MIN(left, (uint64_t)d->max_write_zeroes_sectors);
        } else {
            piece->r.op = BLK_WRITE;
            n = zero_spans(piece, d, left);
        }
        break;
    case BLK_FLUSH:
        break;
    }
    return n;
}

static void give_piece(struct blk_device *d, struct blk_request *parent, struct blk_piece *piece)
{
    struct blk_request *r = &piece->r;

    piece->parent = parent;
    parent->pieces++;
    r->spans = piece->spans;
    r->done = piece_done;
    r->device = d;
    r->attempts = 0;
    r->status = 0;
    list_init(&r->node);
    d->ops->submit(d, r);
    d->own->dirty = true;
}

/* What a parent still has to do, given that it is first in the list. */
enum parent_step { STEP_PIECE, STEP_FLUSH, STEP_WAIT, STEP_END };

static enum parent_step parent_step(const struct blk_device *d, const struct blk_request *parent)
{
    if (parent->status == 0 && parent->progress < parent->sectors)
        return STEP_PIECE;
    if (parent->pieces > 0)
        return STEP_WAIT;
    /* progress beyond sectors: the flush was handed out too. */
    if (parent->status == 0 && parent->progress == parent->sectors && wants_flush(d, parent))
        return STEP_FLUSH;
    return STEP_END;
}

/* Hands out pieces while there are any. What it submits is kicked by the caller or at the end of the turn. */
static void advance(struct blk_device *d)
{
    struct blk_class *own = d->own;
    bool was_dirty = own->dirty;

    while (!list_empty(&own->parents)) {
        struct blk_request *parent = list_entry(own->parents.next, struct blk_request, node);
        struct blk_piece *piece;
        enum parent_step step;

        if (d->removed && parent->status == 0)
            parent->status = -E_REMOVED;
        step = parent_step(d, parent);
        if (step == STEP_WAIT || step == STEP_END) {
            list_remove(&parent->node);
            if (step == STEP_END)
                finish_later(d, parent, parent->status);
            continue;
        }
        if (list_empty(&own->free_pieces))
            break;
        piece = list_entry(list_pop_front(&own->free_pieces), struct blk_piece, r.node);
        if (step == STEP_FLUSH) {
            piece->r.op = BLK_FLUSH;
            piece->r.flags = 0;
            piece->r.sector = piece->r.sectors = 0;
            piece->r.span_count = 0;
            parent->progress++;
        } else {
            piece->r.sectors = next_piece(d, parent, piece);
            piece->r.sector = parent->sector + parent->progress;
            parent->progress += piece->r.sectors;
        }
        give_piece(d, parent, piece);
    }
    if (own->dirty && !was_dirty)
        event_raise(&own->kick_event);
}

static void piece_done(struct blk_request *r)
{
    struct blk_piece *piece = container_of(r, struct blk_piece, r);
    struct blk_request *parent = piece->parent;
    struct blk_device *d = r->device;

    parent->pieces--;
    if (r->status == -E_NOTSUP && r->op == BLK_WRITE_ZEROES && !d->has_write_zeroes) {
        /* The driver has just learnt that the disk can't: start over from here by writing. Zeroes twice do no harm. */
        parent->progress = MIN(parent->progress, r->sector - parent->sector);
    } else if (r->status && parent->status == 0) {
        parent->status = r->status;
    }
    list_push_front(&d->own->free_pieces, &r->node);
    /* A parent that waited for this piece is in no list; back in front, advance() decides what comes next. */
    if (parent->node.next == &parent->node && parent_step(d, parent) != STEP_WAIT)
        list_push_front(&d->own->parents, &parent->node);
    blk_ref(d);
    advance(d);
    blk_put(d);
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

static bool fits_driver(const struct blk_device *d, const struct blk_request *r)
{
    switch (r->op) {
    case BLK_READ:
    case BLK_WRITE:
        return r->sectors <= d->max_transfer_bytes / d->sector_bytes && !wants_flush(d, r);
    case BLK_DISCARD:
        return r->sectors <= d->max_discard_sectors;
    case BLK_WRITE_ZEROES:
        return false;                     /* the disk may refuse it yet */
    case BLK_FLUSH:
        break;
    }
    return true;
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
        finish_later(d, r, -E_REMOVED);
        return 0;
    }
    if (r->op == BLK_FLUSH && !d->has_flush) {
        finish_later(d, r, 0);
        return 0;
    }
    if (!fits_driver(d, r)) {
        list_push_back(&d->own->parents, &r->node);
        advance(d);
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

/* ---- blocking forms ---- */

struct waiter { struct wait_queue queue; bool done; };

static void wake_waiter(struct blk_request *r)
{
    struct waiter *w = r->arg;

    w->done = true;
    wait_queue_wake_all(&w->queue);
}

static int run(struct blk_device *d, struct blk_request *r)
{
    struct waiter w = {.done = false};
    int e;

    wait_queue_init(&w.queue);
    r->done = wake_waiter;
    r->arg = &w;
    e = blk_submit(d, r);
    if (e)
        return e;
    blk_kick(d);
    /* r lives on this stack, so there is no going on without it: the driver has its own limit and always completes. */
    while (!WAIT_UNTIL(&w.queue, w.done, BLK_WAIT_REPORT_US, "disk request"))
        log_warn("%s: request at sector %llu (%llu sectors) still not done", d->name, (unsigned long long)r->sector,
                 (unsigned long long)r->sectors);
    return r->status;
}

static int transfer(struct blk_device *d, enum blk_op op, uint64_t sector, uint64_t sectors, char *buf, unsigned flags)
{
    uint64_t most = BLK_CHUNK_BYTES / d->sector_bytes;

    if (sector > d->sectors || sectors > d->sectors - sector)
        return -E_RANGE;
    while (sectors > 0) {
        uint64_t n = MIN(sectors, most);
        struct blk_span span = {buf, (uint32_t)(n * d->sector_bytes)};
        struct blk_request r = {.op = op, .flags = flags, .sector = sector, .sectors = n, .spans = &span,
                                .span_count = 1};
        int e = run(d, &r);
        if (e)
            return e;
        sector += n;
        sectors -= n;
        buf += n * d->sector_bytes;
    }
    return 0;
}

int blk_read(struct blk_device *d, uint64_t sector, uint64_t sectors, void *buf)
{
    return transfer(d, BLK_READ, sector, sectors, buf, 0);
}

int blk_write(struct blk_device *d, uint64_t sector, uint64_t sectors, const void *buf, unsigned flags)
{
    return transfer(d, BLK_WRITE, sector, sectors, (char *)(uintptr_t)buf, flags);
}

int blk_flush(struct blk_device *d)
{
    struct blk_request r = {.op = BLK_FLUSH};

    return run(d, &r);
}

int blk_discard(struct blk_device *d, uint64_t sector, uint64_t sectors)
{
    struct blk_request r = {.op = BLK_DISCARD, .sector = sector, .sectors = sectors};

    return run(d, &r);
}

int blk_write_zeroes(struct blk_device *d, uint64_t sector, uint64_t sectors, unsigned flags)
{
    struct blk_request r = {.op = BLK_WRITE_ZEROES, .flags = flags, .sector = sector, .sectors = sectors};

    return run(d, &r);
}
