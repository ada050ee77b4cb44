/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Requests served in pieces.
 *
 * A request that the driver can't serve as it is becomes a parent: its sectors are handed out in pieces from a small
 * pool of the device (so nothing is allocated), at most BLK_PIECES at a time, and parents wait their turn in one
 * list. Parents are: transfers beyond the limit, FUA writes on a disk without FUA (a flush follows the last piece)
 * and all write-zeroes, since the disk may refuse them yet and then zeroes are written.
 *
 * A parent is in the list while something of it can be handed out, in none while it waits for its pieces, and done
 * when the last of them is, with the first error; but with -E_TIMEOUT when one of them ended so, for then the host may
 * still use the memory.
 */
#include "rt/blk_internal.h"

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
        piece->spans[n] = (struct blk_span){(void *)(uintptr_t)blk_zeroes(), take};
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
    r->done = blk_piece_done;
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
void blk_split_advance(struct blk_device *d)
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
                blk_finish_later(d, parent, parent->status);
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

void blk_piece_done(struct blk_request *r)
{
    struct blk_piece *piece = container_of(r, struct blk_piece, r);
    struct blk_request *parent = piece->parent;
    struct blk_device *d = r->device;

    parent->pieces--;
    if (r->status == -E_NOTSUP && r->op == BLK_WRITE_ZEROES && !d->has_write_zeroes) {
        /* The driver has just learnt that the disk can't: start over from here by writing. Zeroes twice do no harm. */
        parent->progress = MIN(parent->progress, r->sector - parent->sector);
    } else if (r->status && (parent->status == 0 || r->status == -E_TIMEOUT)) {
        parent->status = r->status;
    }
    list_push_front(&d->own->free_pieces, &r->node);
    /* A parent that waited for this piece is in no list; back in front, blk_split_advance() decides what comes next. */
    if (parent->node.next == &parent->node && parent_step(d, parent) != STEP_WAIT)
        list_push_front(&d->own->parents, &parent->node);
    blk_ref(d);
    blk_split_advance(d);
    blk_put(d);
}

bool blk_fits_driver(const struct blk_device *d, const struct blk_request *r)
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

void blk_split(struct blk_device *d, struct blk_request *r)
{
    list_push_back(&d->own->parents, &r->node);
    blk_split_advance(d);
}

void blk_split_init(struct blk_class *own)
{
    list_init(&own->parents);
    list_init(&own->free_pieces);
    for (unsigned i = 0; i < BLK_PIECES; i++)
        list_push_back(&own->free_pieces, &own->pool[i].r.node);
}
