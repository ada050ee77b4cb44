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

/* Lent pages as runs that lie together. pages: at most DMA_BOUNCE_PAGES_MOST. NULL: no room now. */
struct bounce_extent;
struct bounce_extent *bounce_alloc(size_t pages);
void bounce_free(struct bounce_extent *first);

struct bounce_run { char *virt; const uint64_t *frames; size_t pages; };
/* What an extent is, and the one behind it (NULL: the last). */
const struct bounce_extent *bounce_run(const struct bounce_extent *extent, struct bounce_run *run);
