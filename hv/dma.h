/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Page frames for one I/O. Called once per request; walks extents, not pages; costs one branch when nothing is bounced.
 *
 * When the host cannot see our memory (isolated VM), data is copied through a pool that it sees, keeping the offset
 * inside the page. The pool grows up to hv.bounce bytes; what finds no room waits for its turn (-E_AGAIN, dma_wait)
 * and never fails for it.
 */
#pragma once
#include "lib/list.h"
#include "mm/mm.h"

enum dma_direction { DMA_TO_DEVICE = 1, DMA_FROM_DEVICE = 2 };
struct dma_span { const void *addr; uint32_t bytes; };
struct dma_mapping {
    uint32_t offset;           /* in the first page */
    uint32_t bytes;
    uint32_t frames;           /* entries written */
    void *bounce;              /* NULL: the host uses the caller's own pages */
};
/*
 * Fills frames[] (room for max) with the page frames behind the spans taken as one run of bytes: inner span
 * boundaries are page boundaries. 0; -E_INVAL when they are not or max is too small; -E_AGAIN when the bounce pool is
 * full: queue the request, try again after the next dma_unmap.
 */
int dma_map(struct dma_mapping *m, const struct dma_span *spans, unsigned count, enum dma_direction dir,
            uint64_t *frames, unsigned max);
/* dir DMA_FROM_DEVICE: what the host wrote is copied to the spans, those of dma_map, first. DMA_TO_DEVICE: it is not,
 * and spans may be none. */
void dma_unmap(struct dma_mapping *m, const struct dma_span *spans, unsigned count, enum dma_direction dir);
/* The most pages of one request that can be bounced. */
#define DMA_BOUNCE_PAGES_MOST 512u

/* Do transfers cost a copy? Then a driver that could avoid one by a copy of its own need not make both. */
bool dma_copies(void);
/* Where they do: collects pieces of any length and alignment into one run of bytes for the host to read, as dma_map. */
int dma_gather(struct dma_mapping *m, const struct dma_span *pieces, unsigned count, uint64_t *frames, unsigned max);

/* Whom -E_AGAIN made wait. ready runs in the event loop, once per dma_wait, when there may be room again. */
struct dma_waiter {
    void (*ready)(void *arg);
    void *arg;
    struct list node;
    bool waiting;
};
void dma_wait(struct dma_waiter *w);
void dma_wait_cancel(struct dma_waiter *w);

struct dma_stats {
    uint64_t bounced, bounced_bytes;   /* requests, and bytes copied either way */
    uint64_t refusals;                 /* -E_AGAIN */
    uint64_t pages, pages_lent;        /* of the pool, now */
};
extern struct dma_stats dma_stats;
