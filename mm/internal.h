/* SPDX-License-Identifier: BSD-2-Clause */
/* What the files of mm/ say to one another; nobody else includes this. */
#pragma once
#include "mm/mm.h"

/* ---- memory_map.c ---- */
#define MM_MAP_MAX   512                     /* entries of a loader's map that are looked at */
#define MM_RANGE_MAX (MM_MAP_MAX + 64)       /* RAM ranges, those added later included */
#define MM_LOW_BYTES 0x100000ull             /* never used as RAM */
struct mm_range { uint64_t start, end; };    /* page aligned, end exclusive */
/* Writes the usable RAM as sorted, disjoint, non-adjacent ranges and returns their number (at most entries + 1). */
unsigned memory_map_normalise(const struct mm_region *map, unsigned entries, struct mm_range *out, unsigned max);
/* Did the loader's map name something else than RAM in there? */
bool memory_map_reserves(uint64_t start, uint64_t end);

/* ---- init.c ---- */
/* Is a part of it a device's, mapped now by mm_map_phys? */
bool device_mapped(uint64_t start, uint64_t end);

/* ---- pages.c ---- */
enum page_state {
    INSIDE = 0x00,         /* of a block, or the zone's own metadata */
    RUN_HEAD = 0x20,       /* page_alloc_run: first page */
    RUN_MORE = 0x21,       /*                 the others */
    GIVEN = 0x22,          /* page_give: the host has it */
    COMING_BACK = 0x23,    /* page_take_back, while it looks at the rest of the list */
    USED = 0x40,           /* | order */
    FREE = 0x80,           /* | order */
};
/* Brings memory online, through the boot tables' direct map, until wanted_pages are free or there is no more below the
 * limit of what boot mapped. Returns the number of free pages. */
uint64_t pages_init(const struct mm_range *ranges, unsigned count, uint64_t boot_limit, uint64_t wanted_pages);
/* From now on memory that comes online is entered in kernel_space; maps what is online already. */
void pages_map_online(void);
/* A page for a page table, zeroed. A caller that can't fail (must) and the mapping of memory that is coming online may
 * use the reserve; PADDR_NONE when there is none. */
paddr_t page_alloc_table(bool must);
/* Exactly n contiguous pages; freeing finds the length. */
paddr_t page_alloc_run(size_t n);
size_t page_free_run(paddr_t first);         /* returns n */
size_t page_run_pages(paddr_t first);        /* 0: not the start of a run */
uint64_t pages_available(void);              /* free, what isn't online yet included */
void pages_get_stats(struct mm_stats *stats);
/* A block with that state on its first page; the others say INSIDE. */
paddr_t page_alloc_as(unsigned order, enum page_state state);
/* The state of a page and, behind it, those of the rest of its zone: *count in all. NULL: it isn't online. */
uint8_t *page_states(uint64_t pfn, uint64_t *count);
void pages_release(uint64_t pfn, uint64_t count);        /* of one zone, whatever their state: they are free then */
bool mm_should_fail(void);                   /* counts one allocation; true when mm_fail_nth chose it */

/* ---- given.c ---- */
uint64_t given_pages(void);

/* ---- map.c ---- */
void map_init(paddr_t root);
uint64_t map_table_pages(void);

/* ---- vmap.c ---- */
void vmap_init(void);
/* As vmap_reserve, with the start congruent to offset modulo align (a power of two of a page or more). */
vaddr_t vmap_reserve_at(uint64_t bytes, uint64_t align, uint64_t offset);
uint64_t vmap_bytes(void);

/* ---- heap.c ---- */
void heap_init(void);
void heap_trim(void);                        /* gives cached empty slabs back */
uint64_t heap_bytes(void);

static inline bool in_vmap_region(uint64_t address) { return address - ARCH_VMAP_BASE < ARCH_VMAP_BYTES; }
