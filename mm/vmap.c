/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Ranges of the vmap region, and mappings in them.
 *
 * Free ranges are nodes of a treap ordered by address; each node knows the longest range below it, so the first fit is
 * found in O(log n). A range that comes back joins its neighbours. Giving back must not fail, yet may need a node: each
 * reservation adds one and each release takes one away, so that tree and spare list together hold reservations + 1,
 * and there are never more free ranges than that.
 *
 * Every mapping made here has an unmapped page on both sides, its own, so that running over an edge faults.
 */
#define LOG_ROOM "mm"
#include "mm/internal.h"
#include "lib/list.h"

struct gap {
    struct gap *left, *right;      /* left also chains the spare ones */
    uint64_t start, bytes;
    uint64_t longest;              /* of this subtree */
    uint32_t priority;             /* heap order: no child has a greater one */
};

static struct gap *root, *spare;
static uint64_t reserved_bytes;
static uint32_t priority_state = 0x9e3779b9;

uint64_t vmap_bytes(void) { return reserved_bytes; }

/* xorshift32: shape of the tree only, nothing depends on it being unguessable. */
static uint32_t next_priority(void)
{
    priority_state ^= priority_state << 13;
    priority_state ^= priority_state >> 17;
    priority_state ^= priority_state << 5;
    return priority_state;
}

static void gap_update(struct gap *g)
{
    g->longest = g->bytes;
    if (g->left && g->left->longest > g->longest)
        g->longest = g->left->longest;
    if (g->right && g->right->longest > g->longest)
        g->longest = g->right->longest;
}

/* Splits a tree in what starts below the address and the rest. */
static void tree_split(struct gap *tree, uint64_t address, struct gap **below, struct gap **rest)
{
    if (!tree) {
        *below = *rest = NULL;
    } else if (tree->start < address) {
        tree_split(tree->right, address, &tree->right, rest);
        gap_update(tree);
        *below = tree;
    } else {
        tree_split(tree->left, address, below, &tree->left);
        gap_update(tree);
        *rest = tree;
    }
}

/* Joins two trees, everything in a below everything in b. */
static struct gap *tree_join(struct gap *a, struct gap *b)
{
    if (!a || !b)
        return a ? a : b;
    if (a->priority > b->priority) {
        a->right = tree_join(a->right, b);
        gap_update(a);
        return a;
    }
    b->left = tree_join(a, b->left);
    gap_update(b);
    return b;
}

static void gap_insert(struct gap *g, uint64_t start, uint64_t bytes)
{
    struct gap *below, *rest;
    *g = (struct gap){.start = start, .bytes = bytes, .longest = bytes, .priority = next_priority()};
    tree_split(root, start, &below, &rest);
    root = tree_join(tree_join(below, g), rest);
}

static void gap_remove(struct gap *g)
{
    struct gap *below, *rest, *self;
    tree_split(root, g->start, &below, &rest);
    tree_split(rest, g->start + 1, &self, &rest);
    KASSERT(self == g);
    root = tree_join(below, rest);
}

static void spare_put(struct gap *g)
{
    g->left = spare;
    spare = g;
}

static struct gap *spare_get(void)
{
    struct gap *g = spare;
    KASSERT(g);
    spare = g->left;
    return g;
}

/* First address >= start that is congruent to offset modulo align. */
static uint64_t aligned_start(uint64_t start, uint64_t align, uint64_t offset)
{
    return start + ((offset - start) & (align - 1));
}

/* The lowest gap that holds bytes at the wanted alignment. */
static struct gap *first_fit(struct gap *g, uint64_t bytes, uint64_t align, uint64_t offset)
{
    if (!g || g->longest < bytes)
        return NULL;
    struct gap *found = first_fit(g->left, bytes, align, offset);
    if (found)
        return found;
    uint64_t skip = aligned_start(g->start, align, offset) - g->start;
    if (skip <= g->bytes && bytes <= g->bytes - skip)
        return g;
    return first_fit(g->right, bytes, align, offset);
}

void vmap_init(void)
{
    root = spare = NULL;
    reserved_bytes = 0;
    struct gap *all = kmalloc(sizeof(*all));
    KASSERT(all);
    gap_insert(all, ARCH_VMAP_BASE, ARCH_VMAP_BYTES);
}

vaddr_t vmap_reserve_at(uint64_t bytes, uint64_t align, uint64_t offset)
{
    KASSERT(bytes > 0 && IS_ALIGNED(bytes | align | offset, PAGE_BYTES) && (align & (align - 1)) == 0);
    struct gap *node = kmalloc(sizeof(*node));
    struct gap *g = node ? first_fit(root, bytes, align, offset) : NULL;
    if (!g) {
        kfree(node);
        return va(0);
    }
    spare_put(node);
    uint64_t start = aligned_start(g->start, align, offset), gap_start = g->start, gap_end = g->start + g->bytes;
    gap_remove(g);
    spare_put(g);
    if (start > gap_start)
        gap_insert(spare_get(), gap_start, start - gap_start);
    if (start + bytes < gap_end)
        gap_insert(spare_get(), start + bytes, gap_end - start - bytes);
    reserved_bytes += bytes;
    return va(start);
}

vaddr_t vmap_reserve(uint64_t bytes, uint64_t align)
{
    return vmap_reserve_at(ALIGN_UP(bytes, PAGE_BYTES), align < PAGE_BYTES ? PAGE_BYTES : align, 0);
}

void vmap_release(vaddr_t start, uint64_t bytes)
{
    struct gap *below = NULL, *above = NULL;
    uint64_t from = start.v, to = start.v + ALIGN_UP(bytes, PAGE_BYTES);
    KASSERT(in_vmap_region(from) && bytes > 0 && to - ARCH_VMAP_BASE <= ARCH_VMAP_BYTES && to > from);
    reserved_bytes -= to - from;
    for (struct gap *t = root; t;) {
        if (t->start < from) {
            below = t;
            t = t->right;
        } else {
            above = t;
            t = t->left;
        }
    }
    if ((below && below->start + below->bytes > from) || (above && above->start < to))
        panic("vmap_release: part of %#llx, %llu bytes, is free already", (unsigned long long)start.v,
              (unsigned long long)bytes);
    if (below && below->start + below->bytes == from) {
        from = below->start;
        gap_remove(below);
        spare_put(below);
    }
    if (above && above->start == to) {
        to = above->start + above->bytes;
        gap_remove(above);
        spare_put(above);
    }
    gap_insert(spare_get(), from, to - from);
    kfree(spare_get());
}

/* ---- mappings ---- */

void *vmap_pages(const paddr_t *pages, size_t n, unsigned attr)
{
    /* Long runs of pages can use blocks when the address is aligned to one. */
    uint64_t block = PAGE_BYTES << 9, bytes = n * PAGE_BYTES;
    if (n == 0)
        return NULL;
    bool large = bytes >= block;
    vaddr_t outer = vmap_reserve_at(bytes + 2 * PAGE_BYTES, large ? block : PAGE_BYTES, large ? block - PAGE_BYTES : 0);
    if (outer.v == 0)
        return NULL;
    vaddr_t start = va_add(outer, PAGE_BYTES);
    for (size_t i = 0, run; i < n; i += run) {
        for (run = 1; i + run < n && pages[i + run].v == pages[i].v + run * PAGE_BYTES; run++)
            ;
        if (map_range(&kernel_space, va_add(start, i * PAGE_BYTES), pages[i], run * PAGE_BYTES, attr | MAP_GLOBAL)) {
            if (i > 0)
                unmap_range(&kernel_space, start, i * PAGE_BYTES);
            vmap_release(outer, bytes + 2 * PAGE_BYTES);
            return NULL;
        }
    }
    return va_ptr(start);
}

void vunmap_pages(void *mapped, size_t n)
{
    if (!mapped)
        return;
    unmap_range(&kernel_space, va_of(mapped), n * PAGE_BYTES);
    vmap_release(va(va_of(mapped).v - PAGE_BYTES), (n + 2) * PAGE_BYTES);
}

/* ---- stacks ---- */

#define STACK_MAX_PAGES (PAGE_BYTES / sizeof(paddr_t))

/* Unmaps a stack and frees its pages. The list of pages is kept in the stack's own first page, seen through the direct
 * map, because freeing must not need memory; so that page goes last. */
void stack_free(void *stack, size_t bytes)
{
    size_t n = DIV_UP(bytes, PAGE_BYTES);
    if (!stack)
        return;
    paddr_t first = mm_virt_to_phys(stack);
    paddr_t *pages = arch_phys_to_virt(first);
    for (size_t i = 0; i < n; i++) {
        /* Entry 0 is written first and read last; the bytes it lies in belong to nobody any more. */
        paddr_t page;
        bool mapped = map_lookup(&kernel_space, va_add(va_of(stack), i * PAGE_BYTES), &page, NULL, NULL);
        KASSERT(mapped);
        pages[i] = page;
    }
    vunmap_pages(stack, n);
    pages_free_list(pages + 1, n - 1);
    page_free(first, 0);
}

void *stack_alloc(size_t bytes)
{
    size_t n = DIV_UP(bytes, PAGE_BYTES);
    void *stack = NULL;
    KASSERT(n > 0 && n <= STACK_MAX_PAGES);
    paddr_t *pages = kmalloc(n * sizeof(*pages));
    if (pages && pages_alloc_list(pages, n) == 0) {
        stack = vmap_pages(pages, n, MAP_READ | MAP_WRITE);
        if (!stack)
            pages_free_list(pages, n);
    }
    kfree(pages);
    return stack;
}

static bool is_mapped(uint64_t address)
{
    return in_vmap_region(address) && map_lookup(&kernel_space, va(address), NULL, NULL, NULL);
}

bool mm_is_guard(vaddr_t address)
{
    return in_vmap_region(address.v) && !is_mapped(address.v) &&
           (is_mapped(address.v + PAGE_BYTES) || is_mapped(address.v - PAGE_BYTES));
}
