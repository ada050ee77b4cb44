/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Physical pages: a buddy allocator that takes memory in when it is first needed.
 *
 * Definitions. A range is a piece of RAM of the memory map. A zone is the part of a range within one 1 GiB region that
 * is online: in the direct map and described by a zone struct with one state byte per page, both kept in the zone's own
 * first pages. So bring-up touches the first zone only, whatever the size of memory.
 *
 * Invariants:
 *  1. A state byte other than INSIDE stands at the first page of each block; free blocks of order n are on
 *     free_lists[n], their list node in their own first bytes.
 *  2. Two free buddies of one order and zone are never left unmerged.
 *  3. A range is online up to online_to; ranges come online in order of the array, piece by piece.
 *  4. Tables for the direct map of a piece that comes online come from free pages or from the reserve, which one piece
 *     can't exhaust (RESERVE_PAGES); it is filled again before anything else is given out.
 */
#define LOG_ROOM "mm"
#include "mm/internal.h"
#include <string.h>
#include "lib/list.h"
#include "mm/poison.h"

#define REGION_SHIFT  30
#define REGION_PAGES  (1ull << (REGION_SHIFT - PAGE_SHIFT))
#define LEAF_REGIONS  512                     /* regions per page of the region index */
#define ROOT_LEAVES   (((ARCH_DIRECT_BYTES - 1) >> (REGION_SHIFT + 9)) + 1)
#define RESERVE_PAGES 8                       /* a piece needs at most index leaf + level 2 + level 1 + 2 * level 0 */
#define MIN_ZONE_PAGES 16                     /* less isn't worth its tables and metadata */
#define DIRECT_ATTR   (MAP_READ | MAP_WRITE | MAP_GLOBAL)

struct zone {
    struct zone *next;     /* in the same region, larger ones first */
    uint64_t first;        /* page frame number of the first page */
    uint64_t pages;
    uint64_t own_pages;    /* of the zone struct and states, at its start; 0 when they are elsewhere */
    uint64_t free_pages;
    uint64_t state_pages;  /* when elsewhere: how many pages */
    uint8_t state[];
};

struct ram_range { uint64_t start, end, online_to; };

static struct ram_range ranges[MM_RANGE_MAX];
static unsigned range_count, next_range;      /* ranges before next_range are online entirely */
static struct zone **region_root[ROOT_LEAVES];
static struct zone *region_first_leaf[LEAF_REGIONS];
static bool first_leaf_free;
static struct zone *last_zone;                /* hit by most look-ups */
static struct list free_lists[PAGE_ORDER_MAX + 1];
static uint32_t free_orders;                  /* bit n: free_lists[n] is not empty */
static uint64_t free_count, online_count, ram_count, left_out_count;
static paddr_t reserve[RESERVE_PAGES];
static unsigned reserve_count;
static bool onlining, mapping;
static uint64_t fail_countdown, alloc_count;

void mm_fail_nth(uint64_t n) { fail_countdown = n; }
uint64_t mm_alloc_count(void) { return alloc_count; }

bool mm_should_fail(void)
{
    alloc_count++;
    return fail_countdown != 0 && --fail_countdown == 0;
}

/* ---- zones ---- */

static bool zone_has(const struct zone *z, uint64_t pfn) { return pfn - z->first < z->pages; }

static struct zone **region_slot(uint64_t pfn)
{
    uint64_t region = pfn >> (REGION_SHIFT - PAGE_SHIFT);
    struct zone **leaf = region / LEAF_REGIONS < ROOT_LEAVES ? region_root[region / LEAF_REGIONS] : NULL;
    return leaf ? &leaf[region % LEAF_REGIONS] : NULL;
}

/* The online zone of a page, NULL when there is none. */
static struct zone *zone_find(uint64_t pfn)
{
    if (last_zone && zone_has(last_zone, pfn))
        return last_zone;
    struct zone **slot = region_slot(pfn);
    struct zone *z = slot ? *slot : NULL;
    while (z && !zone_has(z, pfn))
        z = z->next;
    if (z)
        last_zone = z;
    return z;
}

static struct list *block_node(uint64_t pfn) { return arch_phys_to_virt(pa(pfn << PAGE_SHIFT)); }
static uint64_t node_pfn(const struct list *node) { return arch_direct_to_phys(va_of(node)).v >> PAGE_SHIFT; }

static void block_insert(struct zone *z, uint64_t pfn, unsigned order)
{
    struct list *node = block_node(pfn);
    mem_unpoison(node, sizeof(*node));
    z->state[pfn - z->first] = (uint8_t)(FREE | order);
    list_push_front(&free_lists[order], node);
    free_orders |= 1u << order;
    free_count += 1ull << order;
    z->free_pages += 1ull << order;
}

static void block_remove(struct zone *z, uint64_t pfn, unsigned order)
{
    struct list *node = block_node(pfn);
    list_remove(node);
    if (list_empty(&free_lists[order]))
        free_orders &= ~(1u << order);
    z->state[pfn - z->first] = INSIDE;
    free_count -= 1ull << order;
    z->free_pages -= 1ull << order;
    mem_poison(node, sizeof(*node));
}

/* A block comes back: joined with its buddies as far as they are free. */
static void block_free(struct zone *z, uint64_t pfn, unsigned order)
{
    z->state[pfn - z->first] = INSIDE;
    for (; order < PAGE_ORDER_MAX; order++) {
        uint64_t buddy = pfn ^ (1ull << order);
        if (!zone_has(z, buddy) || z->state[buddy - z->first] != (FREE | order))
            break;
        block_remove(z, buddy, order);
        pfn &= buddy;
    }
    block_insert(z, pfn, order);
}

/* Frees [pfn, end) in the largest aligned blocks. */
static void span_free(struct zone *z, uint64_t pfn, uint64_t end)
{
    while (pfn < end) {
        unsigned order = pfn ? (unsigned)__builtin_ctzll(pfn) : PAGE_ORDER_MAX;
        unsigned fits = 63 - (unsigned)__builtin_clzll(end - pfn);
        order = MIN(order, fits);
        if (order > PAGE_ORDER_MAX)
            order = PAGE_ORDER_MAX;
        block_free(z, pfn, order);
        pfn += 1ull << order;
    }
}

static paddr_t block_take(unsigned order, uint8_t state)
{
    uint32_t usable = free_orders >> order << order;
    if (!usable)
        return PADDR_NONE;
    unsigned have = (unsigned)__builtin_ctz(usable);
    uint64_t pfn = node_pfn(free_lists[have].next);
    struct zone *z = zone_find(pfn);
    block_remove(z, pfn, have);
    while (have > order) {
        have--;
        block_insert(z, pfn + (1ull << have), have);
    }
    z->state[pfn - z->first] = state;
    mem_unpoison(block_node(pfn), PAGE_BYTES << order);
    return pa(pfn << PAGE_SHIFT);
}

/* ---- the reserve: pages that are neither free nor anyone's, so their state is INSIDE ---- */

static uint8_t *page_state(paddr_t page)
{
    uint64_t pfn = page.v >> PAGE_SHIFT;
    struct zone *z = zone_find(pfn);
    return z ? &z->state[pfn - z->first] : NULL;
}

static void reserve_put(paddr_t page)
{
    *page_state(page) = INSIDE;
    reserve[reserve_count++] = page;
}

static paddr_t reserve_get(void)
{
    if (reserve_count == 0)
        return PADDR_NONE;
    paddr_t page = reserve[--reserve_count];
    *page_state(page) = USED;
    return page;
}

static void reserve_fill(void)
{
    while (reserve_count < RESERVE_PAGES) {
        paddr_t page = block_take(0, USED);
        if (pa_is_none(page))
            return;
        reserve_put(page);
    }
}

/* ---- coming online ---- */

static bool leaf_ensure(uint64_t pfn)
{
    uint64_t index = pfn >> (REGION_SHIFT - PAGE_SHIFT) >> 9;
    if (region_root[index])
        return true;
    if (first_leaf_free) {               /* the first memory, wherever it lies: nothing can be allocated yet */
        first_leaf_free = false;
        region_root[index] = region_first_leaf;
        return true;
    }
    paddr_t page = page_alloc_table(true);
    if (pa_is_none(page))
        return false;
    region_root[index] = arch_phys_to_virt(page);
    return true;
}

static void zone_chain(struct zone *z)
{
    struct zone **link = region_slot(z->first);
    while (*link && (*link)->pages >= z->pages)
        link = &(*link)->next;
    z->next = *link;
    *link = z;
}

/*
 * Makes [start, end) of one region a zone. Its metadata lies in its own first pages, unless a whole region is wanted in
 * one block (order 18) and other memory can hold it. False: no page for tables, nothing changed.
 */
static bool zone_online(uint64_t start, uint64_t end, unsigned wanted_order)
{
    uint64_t first = start >> PAGE_SHIFT, pages = (end - start) >> PAGE_SHIFT;
    uint64_t meta_pages = DIV_UP(sizeof(struct zone) + pages, PAGE_BYTES);
    struct zone *z = NULL;
    bool ok = false;
    onlining = true;
    if (!leaf_ensure(first))
        goto out;
    if (mapping && map_range(&kernel_space, va_of(arch_phys_to_virt(pa(start))), pa(start), end - start, DIRECT_ATTR))
        goto out;
    if (wanted_order == PAGE_ORDER_MAX && pages == REGION_PAGES) {
        paddr_t run = page_alloc_run(meta_pages);
        z = pa_is_none(run) ? NULL : arch_phys_to_virt(run);
    }
    bool own = z == NULL;
    if (own)
        z = arch_phys_to_virt(pa(start));
    mem_unpoison(z, sizeof(*z) + pages);
    memset(z, 0, sizeof(*z) + pages);
    z->first = first;
    z->pages = pages;
    z->own_pages = own ? meta_pages : 0;
    z->state_pages = own ? 0 : meta_pages;
    zone_chain(z);
    online_count += pages;
    span_free(z, first + z->own_pages, first + pages);
    ok = true;
out:
    onlining = false;
    reserve_fill();
    return ok;
}

/* Brings the next piece of memory online. False: all of it is, or there are no tables for it. */
static bool memory_online_next(unsigned wanted_order, uint64_t limit)
{
    for (; next_range < range_count; next_range++) {
        struct ram_range *r = &ranges[next_range];
        while (r->online_to < r->end) {
            uint64_t start = r->online_to;
            uint64_t end = MIN(r->end, ALIGN_DOWN(start, REGION_PAGES * PAGE_BYTES) + REGION_PAGES * PAGE_BYTES);
            if (start >= limit)
                return false;
            if ((end - start) >> PAGE_SHIFT < MIN_ZONE_PAGES) {
                left_out_count += (end - start) >> PAGE_SHIFT;
                r->online_to = end;
                continue;
            }
            if (!zone_online(start, end, wanted_order))
                return false;
            r->online_to = end;
            return true;
        }
    }
    return false;
}

uint64_t pages_init(const struct mm_range *found, unsigned count, uint64_t boot_limit, uint64_t wanted_pages)
{
    first_leaf_free = true;
    for (unsigned i = 0; i <= PAGE_ORDER_MAX; i++)
        list_init(&free_lists[i]);
    for (unsigned i = 0; i < count; i++) {
        ranges[i] = (struct ram_range){found[i].start, found[i].end, found[i].start};
        ram_count += (found[i].end - found[i].start) >> PAGE_SHIFT;
    }
    range_count = count;
    while (free_count < wanted_pages && memory_online_next(0, boot_limit))
        ;
    return free_count;
}

void pages_map_online(void)
{
    for (unsigned i = 0; i < range_count; i++) {
        for (uint64_t at = ranges[i].start; at < ranges[i].online_to;) {
            struct zone *z = zone_find(at >> PAGE_SHIFT);
            if (!z) {       /* a piece too small to use */
                at = MIN(ranges[i].end, ALIGN_DOWN(at, REGION_PAGES * PAGE_BYTES) + REGION_PAGES * PAGE_BYTES);
                continue;
            }
            uint64_t bytes = z->pages << PAGE_SHIFT;
            if (map_range(&kernel_space, va_of(arch_phys_to_virt(pa(at))), pa(at), bytes, DIRECT_ATTR))
                panic("no memory for the tables of the direct map");
            at += bytes;
        }
    }
    mapping = true;
}

/* ---- allocation ---- */

static paddr_t block_alloc(unsigned order, uint8_t state)
{
    KASSERT(order <= PAGE_ORDER_MAX);
    for (;;) {
        paddr_t page = block_take(order, state);
        if (!pa_is_none(page) || onlining || !memory_online_next(order, UINT64_MAX))
            return page;
    }
}

paddr_t page_alloc(unsigned order)
{
    return mm_should_fail() ? PADDR_NONE : block_alloc(order, (uint8_t)(USED | order));
}

paddr_t page_alloc_zeroed(unsigned order)
{
    paddr_t page = page_alloc(order);
    if (!pa_is_none(page))
        memset(arch_phys_to_virt(page), 0, PAGE_BYTES << order);
    return page;
}

paddr_t page_alloc_table(bool must)
{
    paddr_t page = page_alloc(0);
    if (pa_is_none(page) && (must || onlining))
        page = reserve_get();
    if (!pa_is_none(page))
        memset(arch_phys_to_virt(page), 0, PAGE_BYTES);
    return page;
}

void page_free(paddr_t page, unsigned order)
{
    uint64_t pfn = page.v >> PAGE_SHIFT;
    const uint8_t *state = page_state(page);
    if (!state || !IS_ALIGNED(page.v, PAGE_BYTES) || *state != (USED | order))
        panic("page_free: %#llx of order %u was not allocated so (state %#x)", (unsigned long long)page.v, order,
              state ? *state : 0);
    if (__builtin_expect(order == 0 && reserve_count < RESERVE_PAGES, 0)) {
        reserve_put(page);
        return;
    }
    mem_poison(block_node(pfn), PAGE_BYTES << order);
    block_free(zone_find(pfn), pfn, order);
}

int pages_alloc_list(paddr_t *pages, size_t n)
{
    size_t done = 0;
    while (free_count < n && memory_online_next(0, UINT64_MAX))
        ;
    if (free_count < n)
        return -E_NOMEM;
    while (done < n) {
        unsigned fits = 63 - (unsigned)__builtin_clzll((uint64_t)(n - done));
        unsigned have = free_orders ? 31 - (unsigned)__builtin_clz(free_orders) : 0;
        unsigned order = MIN(fits, have);
        paddr_t page = page_alloc(order);
        if (pa_is_none(page)) {
            pages_free_list(pages, done);
            return -E_NOMEM;
        }
        /* The list is given back page by page, so each must stand for itself. */
        memset(page_state(page), USED, 1ull << order);
        for (uint64_t i = 0; i < 1ull << order; i++)
            pages[done++] = pa_add(page, i * PAGE_BYTES);
    }
    return 0;
}

void pages_free_list(const paddr_t *pages, size_t n)
{
    for (size_t i = 0; i < n; i++)
        page_free(pages[i], 0);
}

paddr_t page_alloc_run(size_t n)
{
    if (n == 0 || n > 1ull << PAGE_ORDER_MAX || mm_should_fail())
        return PADDR_NONE;
    unsigned order = n == 1 ? 0 : 64 - (unsigned)__builtin_clzll((uint64_t)n - 1);
    paddr_t first = block_alloc(order, RUN_HEAD);
    if (pa_is_none(first))
        return first;
    uint64_t pfn = first.v >> PAGE_SHIFT;
    memset(page_state(first) + 1, RUN_MORE, n - 1);
    span_free(zone_find(pfn), pfn + n, pfn + (1ull << order));
    return first;
}

size_t page_run_pages(paddr_t first)
{
    uint64_t pfn = first.v >> PAGE_SHIFT;
    const struct zone *z = zone_find(pfn);
    if (!z || z->state[pfn - z->first] != RUN_HEAD)
        return 0;
    size_t n = 1;
    while (zone_has(z, pfn + n) && z->state[pfn + n - z->first] == RUN_MORE)
        n++;
    return n;
}

size_t page_free_run(paddr_t first)
{
    uint64_t pfn = first.v >> PAGE_SHIFT;
    size_t n = page_run_pages(first);
    KASSERT(n > 0);
    struct zone *z = zone_find(pfn);
    memset(&z->state[pfn - z->first], INSIDE, n);
    mem_poison(block_node(pfn), n * PAGE_BYTES);
    span_free(z, pfn, pfn + n);
    return n;
}

/* ---- for given.c ---- */

paddr_t page_alloc_as(unsigned order, enum page_state state) { return block_alloc(order, state); }

uint8_t *page_states(uint64_t pfn, uint64_t *count)
{
    struct zone *z = zone_find(pfn);
    *count = z ? z->first + z->pages - pfn : 0;
    return z ? &z->state[pfn - z->first] : NULL;
}

void pages_release(uint64_t pfn, uint64_t count)
{
    struct zone *z = zone_find(pfn);
    memset(&z->state[pfn - z->first], INSIDE, count);
    span_free(z, pfn, pfn + count);
    reserve_fill();
}

/* ---- hot add and remove ---- */

/* The table is full: the new memory becomes part of a range that it adjoins. */
static struct ram_range *range_extend(uint64_t from, uint64_t to)
{
    for (unsigned i = 0; i < range_count; i++)
        if (ranges[i].end == from) {
            ranges[i].end = to;
            return &ranges[i];
        }
    return NULL;
}

int page_region_check(paddr_t start, uint64_t bytes)
{
    if (bytes == 0 || bytes > mm_phys_limit() || start.v > mm_phys_limit() - bytes)
        return -E_INVAL;
    uint64_t from = ALIGN_UP(start.v, PAGE_BYTES), to = ALIGN_DOWN(start.v + bytes, PAGE_BYTES);
    if (from >= to || from < MM_LOW_BYTES)
        return -E_INVAL;
    for (unsigned i = 0; i < range_count; i++)
        if (from < ranges[i].end && ranges[i].start < to)
            return -E_EXIST;
    return memory_map_reserves(from, to) || device_mapped(from, to) ? -E_EXIST : 0;
}

int page_region_add(paddr_t start, uint64_t bytes)
{
    int error = page_region_check(start, bytes);
    if (error)
        return error;
    uint64_t from = ALIGN_UP(start.v, PAGE_BYTES), to = ALIGN_DOWN(start.v + bytes, PAGE_BYTES);
    struct ram_range *r = ranges;
    while (r < &ranges[range_count] && r->start != r->end)
        r++;
    if (r < &ranges[MM_RANGE_MAX]) {
        range_count = MAX(range_count, (unsigned)(r - ranges) + 1);
        *r = (struct ram_range){from, to, from};
    } else {
        r = range_extend(from, to);
    }
    if (!r)
        return -E_NOSPC;
    next_range = MIN(next_range, (unsigned)(r - ranges));
    ram_count += (to - from) >> PAGE_SHIFT;
    return 0;
}

static void zone_offline(struct zone *z)
{
    struct zone **link = region_slot(z->first);
    uint64_t first = z->first, pages = z->pages;
    for (uint64_t i = 0; i < pages; i++)
        if (z->state[i] & FREE)
            block_remove(z, first + i, z->state[i] & ~FREE);
    while (*link != z)
        link = &(*link)->next;
    *link = z->next;
    last_zone = NULL;
    online_count -= pages;
    if (z->state_pages)
        page_free_run(arch_direct_to_phys(va_of(z)));
    unmap_range(&kernel_space, va_of(arch_phys_to_virt(pa(first << PAGE_SHIFT))), pages << PAGE_SHIFT);
}

int page_region_remove(paddr_t start, uint64_t bytes)
{
    struct ram_range *r = ranges;
    while (r < &ranges[range_count] && (r->start != start.v || r->end - r->start != bytes))
        r++;
    if (bytes == 0 || r == &ranges[range_count])
        return -E_NOENT;
    for (uint64_t at = r->start, step; at < r->online_to; at += step) {
        struct zone *z = zone_find(at >> PAGE_SHIFT);
        step = z ? z->pages << PAGE_SHIFT : PAGE_BYTES;
        if (z && z->free_pages != z->pages - z->own_pages)
            return -E_BUSY;
    }
    for (uint64_t at = r->start, step; at < r->online_to; at += step) {
        struct zone *z = zone_find(at >> PAGE_SHIFT);
        step = z ? z->pages << PAGE_SHIFT : PAGE_BYTES;
        if (z)
            zone_offline(z);
        else
            left_out_count--;
    }
    ram_count -= bytes >> PAGE_SHIFT;
    *r = (struct ram_range){0, 0, 0};
    return 0;
}

uint64_t pages_available(void)
{
    return free_count + reserve_count + (ram_count - online_count - left_out_count);
}

void pages_get_stats(struct mm_stats *stats)
{
    stats->ram_pages = ram_count;
    stats->online_pages = online_count;
    stats->free_pages = pages_available();
}
