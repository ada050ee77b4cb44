/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Memory that the host has for the time being: what a balloon takes out of the allocator and puts back.
 *
 * The book is the page allocator's own: each page that came online has a state byte, and GIVEN is one of its values. So
 * the book is exact to the page, however the host cuts what it gives back; it has a fixed size, and neither giving nor
 * taking back allocates anything. Memory that is not online yet comes online first, which touches its metadata and the
 * list node in the first page of a free block, and nothing else of it.
 *
 * Given pages stay in the direct map. To take them out would split its 1 GiB and 2 MiB blocks: that needs tables just
 * when memory is wanted elsewhere, costs every later access near them translations, and where a live entry must be
 * invalidated before it is replaced (arm64) the block may hold the very tables and stack in use. What keeps them from
 * being touched is that nobody has a pointer to them: the allocator gives out FREE blocks only, page_free panics on any
 * other page, and hosted tests close the pages to the guest, so that a stray access faults there.
 */
#include <string.h>
#include "mm/internal.h"
#include "mm/poison.h"

static uint64_t given_count;

uint64_t given_pages(void) { return given_count; }

static void *address_of(uint64_t pfn) { return arch_phys_to_virt(pa(pfn << PAGE_SHIFT)); }

static paddr_t largest_up_to(uint64_t max_pages, unsigned *order)
{
    unsigned fits = 63 - (unsigned)__builtin_clzll(max_pages);
    for (*order = MIN(fits, (unsigned)PAGE_ORDER_MAX);; --*order) {
        paddr_t block = page_alloc_as(*order, GIVEN);
        if (!pa_is_none(block) || *order == 0)
            return block;
    }
}

bool page_give(uint64_t max_pages, uint64_t keep_pages, struct page_range *range)
{
    uint64_t available = pages_available(), count;
    unsigned order;
    if (max_pages == 0 || available <= keep_pages || mm_should_fail())
        return false;
    paddr_t block = largest_up_to(MIN(max_pages, available - keep_pages), &order);
    if (pa_is_none(block))
        return false;
    uint64_t first = block.v >> PAGE_SHIFT, pages = 1ull << order;
    /* Memory that came online just now paid for its metadata. */
    uint64_t left = pages_available(), excess = left < keep_pages ? keep_pages - left : 0;
    mem_poison(address_of(first), pages << PAGE_SHIFT);
    if (excess >= pages) {
        pages_release(first, pages);
        return false;
    }
    if (excess)
        pages_release(first + pages - excess, excess);
    pages -= excess;
    memset(page_states(first, &count), GIVEN, pages);
    given_count += pages;
    *range = (struct page_range){first, pages};
    return true;
}

/* The states of a range's next piece, with *count cut to it; NULL when they are not online. */
static uint8_t *piece_states(const struct page_range *range, uint64_t done, uint64_t *count)
{
    uint8_t *state = page_states(range->first + done, count);
    *count = MIN(*count, range->pages - done);
    return state;
}

static bool all_given(const struct page_range *range)
{
    const uint64_t end = ARCH_DIRECT_BYTES >> PAGE_SHIFT;
    if (range->pages == 0 || range->first >= end || range->pages > end - range->first)
        return false;
    for (uint64_t done = 0, count; done < range->pages; done += count) {
        const uint8_t *state = piece_states(range, done, &count);
        if (!state)
            return false;
        for (uint64_t i = 0; i < count; i++)
            if (state[i] != GIVEN)
                return false;
    }
    return true;
}

static void mark(const struct page_range *range, enum page_state as)
{
    for (uint64_t done = 0, count; done < range->pages; done += count) {
        uint8_t *state = piece_states(range, done, &count);
        memset(state, as, count);
    }
}

int page_take_back(const struct page_range *ranges, unsigned count)
{
    unsigned good = 0;
    /* Marked one by one, so that a page named twice is found. */
    for (; good < count && all_given(&ranges[good]); good++)
        mark(&ranges[good], COMING_BACK);
    if (good < count) {
        while (good-- > 0)
            mark(&ranges[good], GIVEN);
        return -E_INVAL;
    }
    for (unsigned i = 0; i < count; i++) {
        given_count -= ranges[i].pages;
        for (uint64_t done = 0, pages; done < ranges[i].pages; done += pages) {
            piece_states(&ranges[i], done, &pages);
            pages_release(ranges[i].first + done, pages);
        }
    }
    return 0;
}
