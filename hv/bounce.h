/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The bounce pool, for dma.c only: pages that the host sees, lent for the time of one transfer.
 */
#pragma once
#include "hv/hv_internal.h"
#include "hv/dma.h"

/* True in an isolated machine: dma.c's one question. */
extern bool bounce_active;

/* Reads hv.bounce; in an isolated machine shares the pool's first chunk. 0, -E_NOMEM, -E_REFUSED. */
int bounce_init(void);
/* Everything goes back; what is still lent is leaked. */
void bounce_stop(void);

/* Lent pages that lie together. A request has one such run or several. */
struct bounce_extent {
    struct bounce_extent *next;             /* of the same request */
    char *virt;
    const uint64_t *frames;
    uint32_t chunk;
    uint16_t first, pages;                  /* in the chunk */
};
/* pages: at most DMA_BOUNCE_PAGES_MOST. NULL: no room now. */
struct bounce_extent *bounce_alloc(size_t pages);
void bounce_free(struct bounce_extent *first);
