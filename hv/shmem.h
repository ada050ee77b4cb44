/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The one way to get memory that the host reads or writes for long: rings, monitor pages, netvsc buffers, bounce pool.
 *
 * The pages need not be physically contiguous. SHMEM_RING maps header page 0 of each half once and its data pages
 * twice in succession (0,1,2,3,1,2,3), so that code at the ring never splits a copy at the wrap. In an isolated VM
 * the same calls make the pages host-visible and map them above shared_gpa_boundary, as their only mapping; no caller
 * can tell.
 */
#pragma once
#include "mm/mm.h"

/* SHMEM_LINEAR_UNCLEARED: as SHMEM_LINEAR, for big buffers whose content is written before it is read; in an isolated
 * VM such pages are cleared all the same, because nothing that was private may become visible. */
enum shmem_layout { SHMEM_LINEAR, SHMEM_RING, SHMEM_LINEAR_UNCLEARED };
struct shmem {
    void *virt;                /* SHMEM_LINEAR: all pages; SHMEM_RING: first half (upstream ring) */
    void *virt_second;         /* SHMEM_RING with two halves: downstream ring, else NULL */
    size_t pages;              /* distinct pages */
    size_t first_pages;        /* SHMEM_RING: pages of the first half */
    uint64_t *frames;          /* page frame numbers to tell the host, in order; pages entries */
    enum shmem_layout layout;
    paddr_t *list;             /* private to shmem.c */
};
/* SHMEM_LINEAR is zeroed, of a SHMEM_RING the control pages are. SHMEM_RING: pages = both rings, second_pages of them
 * form the second ring (each ring >= 2 pages). SHMEM_LINEAR: second_pages = 0. 0, -E_NOMEM, -E_REFUSED (host would not
 * share). */
int shmem_alloc(struct shmem *s, size_t pages, enum shmem_layout layout, size_t second_pages);
/* The address of a page for the host, where a field wants an address: hosts are told of the shared side there. A frame
 * list holds plain page frames (frames[]), as every guest writes them: hosts disregard the boundary bit in those. */
gpa_t shmem_gpa(const struct shmem *s, size_t page);
/* Gives the pages back; those the host will not return to private are leaked knowingly and counted. */
void shmem_free(struct shmem *s);
/* Claims of the host on the pages: with one left, shmem_free leaks them. vmbus/gpadl.c makes and drops them; what the
 * host never said that it let go of (the bus's own pages, lent bounce pages) is claimed for good. */
void shmem_hold(const struct shmem *s);
void shmem_release(const struct shmem *s);
struct shmem_stats { uint64_t pages_shared, pages_leaked, allocations; };
extern struct shmem_stats shmem_stats;
