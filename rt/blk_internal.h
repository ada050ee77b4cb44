/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Between the files of the disk class:
 *
 *   blk.c         names, references, watchers, checks, the way of a request that needs nothing special
 *   blk_split.c   requests that are served in pieces
 *   blk_sync.c    the blocking forms
 */
#pragma once
#include "rt/blk.h"

#define BLK_PIECES 16

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
    struct list parents;                  /* with something left to hand out, oldest first */
    struct list free_pieces;
    struct list finished;                 /* to be completed by finish_event */
    struct blk_piece pool[BLK_PIECES];
};

/* ---- blk.c ---- */
/* For requests that end before the driver saw them: done must not run inside blk_submit. */
void blk_finish_later(struct blk_device *d, struct blk_request *r, int status);

/* ---- blk_split.c ---- */
void blk_split_init(struct blk_class *own);
/* Can the driver serve it as it is? */
bool blk_fits_driver(const struct blk_device *d, const struct blk_request *r);
/* Takes a request that does not fit. */
void blk_split(struct blk_device *d, struct blk_request *r);
/* Hands out pieces while there are any; of a removed disk ends what is not at the driver. */
void blk_split_advance(struct blk_device *d);
void blk_piece_done(struct blk_request *r);
static inline bool blk_is_piece(const struct blk_request *r)
{
    return r->done == blk_piece_done;
}
