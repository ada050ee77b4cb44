/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Page frames for one I/O. Called once per request; walks extents, not pages; costs one branch when nothing is bounced.
 * When bouncing (isolated VM), data is copied into the host-visible pool keeping the offset inside the page.
 */
#pragma once
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
void dma_unmap(struct dma_mapping *m, const struct dma_span *spans, unsigned count, enum dma_direction dir);
