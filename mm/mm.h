/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Memory: physical pages, page tables, kernel virtual ranges, heap.
 *
 * Promises: bring-up costs the same on 32 MiB as on 1 TiB (1 GiB regions come online when first needed); what
 * page_alloc returns is in the direct map; every mapping goes through map_range, which picks the largest block;
 * nothing is mapped writable and executable at once; stacks have guard pages.
 * Assumes: one CPU at a time is in here (cooperative tasks); no call from interrupt handlers.
 *
 * Order of bring-up: mm_init(map) -> everything below works.
 */
#pragma once
#include "arch/arch.h"

/* ---- the memory map, as loaders give it ---- */
enum mm_region_type { MM_RAM = 1, MM_RESERVED, MM_ACPI, MM_MMIO, MM_KERNEL };
struct mm_region { paddr_t start; uint64_t bytes; enum mm_region_type type; };

/*
 * Takes the loader's map as it is: unsorted, with holes, overlaps and nonsense. Bad entries (wrapping, beyond the
 * direct map, zero length) are reported by one line and left out; where entries overlap, what is not RAM wins.
 * The kernel image, its boot tables and modules must appear as MM_KERNEL entries. Builds the final kernel tables
 * (image sections W^X, direct map) and switches to them. At least 4 MiB of RAM must remain, else panic.
 */
void mm_init(const struct mm_region *map, unsigned entries);
struct mm_stats { uint64_t ram_pages, free_pages, online_pages, table_pages, heap_bytes, vmap_bytes, given_pages; };
void mm_get_stats(struct mm_stats *stats);
/* Any physical range that is not RAM of ours (ACPI tables, registers, frame buffers), mapped as attr says; NULL when
 * there is no memory for that or the processor has no such address. */
void *mm_map_phys(paddr_t start, uint64_t bytes, unsigned attr);
void mm_unmap_phys(void *mapped, uint64_t bytes);

/* ---- pages.c: buddy allocator; order n = 2^n pages, naturally aligned; order 18 = 1 GiB ---- */
#define PAGE_ORDER_MAX 18
paddr_t page_alloc(unsigned order);           /* PADDR_NONE when none; content undefined */
paddr_t page_alloc_zeroed(unsigned order);
void page_free(paddr_t page, unsigned order);
/* Any count, not necessarily contiguous: fills pages[n], largest chunks first; all or nothing. 0 or -E_NOMEM. */
int pages_alloc_list(paddr_t *pages, size_t n);
void pages_free_list(const paddr_t *pages, size_t n);
/* Adds memory found later (hot add); it comes online when it is needed. 0; -E_INVAL: not beyond the first MiB, or
 * beyond what the processor or the direct map reaches; -E_EXIST: part of it is known already, as RAM or otherwise;
 * -E_NOSPC: too many pieces. */
int page_region_add(paddr_t start, uint64_t bytes);
int page_region_check(paddr_t start, uint64_t bytes);   /* would it be refused? The same results, except -E_NOSPC */
uint64_t mm_phys_limit(void);                           /* no RAM at or above it */
/* Takes back exactly what was added, only if entirely free. 0, -E_NOENT, -E_BUSY. */
int page_region_remove(paddr_t start, uint64_t bytes);
/* ---- given.c: memory that the host has for the time being (balloon) ---- */
struct page_range { uint64_t first, pages; };           /* page frame numbers */
/*
 * Takes one contiguous range, at most max_pages, out of the allocator for the host: the largest block there is, memory
 * that never came online before memory that was broken into smaller blocks. At least keep_pages stay available.
 * False: nothing to give.
 */
bool page_give(uint64_t max_pages, uint64_t keep_pages, struct page_range *range);
/* The host gives ranges back, cut as it likes. All of them, each page once, must be given now, else -E_INVAL and
 * nothing changed. Allocates nothing. */
int page_take_back(const struct page_range *ranges, unsigned count);

/* Tests: the n-th allocation from now fails (pages, heap and tables all count); 0 = never. */
void mm_fail_nth(uint64_t n);
uint64_t mm_alloc_count(void);

/* ---- map.c ---- */
struct address_space {
    paddr_t root;
    const struct pt_format *format;
    bool kernel;                                        /* what mm_set_tlb_flush installed applies */
    void (*flush)(vaddr_t start, uint64_t bytes);       /* of any other space; NULL: nobody remembers its entries */
};
extern struct address_space kernel_space;
/* The block level for the next piece of a mapping: the largest that both addresses and the length allow. */
unsigned largest_block(const struct pt_format *format, uint64_t va, uint64_t pa, uint64_t bytes_left);
/* Maps [va, va+bytes) to pa on. All page aligned, bytes > 0, must not be mapped yet (E_EXIST). 0, -E_NOMEM (nothing
 * mapped), -E_INVAL. attr: enum map_attr. */
int map_range(struct address_space *space, vaddr_t va, paddr_t pa, uint64_t bytes, unsigned attr);
/* Splits blocks at the edges as needed; frees empty tables; flushes. */
void unmap_range(struct address_space *space, vaddr_t va, uint64_t bytes);
/* Other attributes for what is mapped already. 0, -E_INVAL (some of it is not mapped, or writable and executable at
 * once), -E_NOMEM (no page to split a block; nothing changed). */
int protect_range(struct address_space *space, vaddr_t va, uint64_t bytes, unsigned attr);
/* The physical address behind va, or false. */
bool map_lookup(const struct address_space *space, vaddr_t va, paddr_t *pa, unsigned *attr, unsigned *level);
void mm_set_tlb_flush(void (*flush)(vaddr_t start, uint64_t bytes));

/* ---- vmap.c: ranges of the vmap region ---- */
vaddr_t vmap_reserve(uint64_t bytes, uint64_t align);         /* address space only; 0 when none */
void vmap_release(vaddr_t start, uint64_t bytes);
/* Maps the list of pages in order at a fresh range; a page may appear more than once. NULL when out of memory. */
void *vmap_pages(const paddr_t *pages, size_t n, unsigned attr);
void vunmap_pages(void *mapped, size_t n);
/* Stack with an unmapped guard page below (and above); returns the lowest usable address. */
void *stack_alloc(size_t bytes);
void stack_free(void *stack, size_t bytes);
/* Is this address a guard page? For the exception report. */
bool mm_is_guard(vaddr_t address);

/* ---- heap.c: 16-byte aligned; sizes of a page and more come straight from pages ---- */
void *kmalloc(size_t bytes);                  /* NULL when out of memory */
void *kzalloc(size_t bytes);
void *kcalloc(size_t n, size_t bytes);        /* overflow-checked */
void kfree(void *p);

/* Physical address behind any mapped kernel address. Direct map and image cost a subtraction, the rest a walk. */
paddr_t mm_virt_to_phys(const void *p);
