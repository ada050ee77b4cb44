/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Memory that goes to the host and comes from it: balloon, unballoon, hot add.
 *
 * Who may believe whom: the host names page frames in what it gives back and in what it adds. What it gives back must
 * be given, page by page (page_take_back); what it adds must be nobody's (page_region_add) and must hold what is
 * written there. A message with one false range is refused whole, and answered all the same: the pages stay where they
 * were, and a host that lost count can go on.
 */
#define LOG_ROOM "balloon"
#include <string.h>
#include "drivers/balloon.h"
#include "mm/mm.h"

#define MIB_PAGES  256u
#define LINES_MOST 8u                    /* of each kind in a while: every request could be worth one */

static unsigned long long mib(uint64_t pages) { return pages / MIB_PAGES; }

/* ---- balloon ---- */

/* Appends to the list, joined with the last range where they touch. False: full. */
static bool append(struct page_range *ranges, unsigned *count, const struct page_range *r)
{
    struct page_range *last = *count ? &ranges[*count - 1] : NULL;

    if (last && last->pages + r->pages <= DM_RANGE_PAGES_MAX) {
        if (last->first + last->pages == r->first) {
            last->pages += r->pages;
            return true;
        }
        if (r->first + r->pages == last->first) {
            last->first = r->first;
            last->pages += r->pages;
            return true;
        }
    }
    if (*count == DM_RANGES_MAX)
        return false;
    ranges[(*count)++] = *r;
    return true;
}

/* Tells the host about the list. What it can't be told it doesn't get. */
static int send_part(struct balloon *b, unsigned count, bool more)
{
    struct dm_balloon_response *m = balloon_out(b);
    size_t bytes = sizeof(*m) + count * sizeof(m->ranges[0]);
    int e;

    memset(m, 0, sizeof(*m));
    m->header.type = DM_BALLOON_RESPONSE;
    m->more_count = (uint32_t)(count << DM_COUNT_SHIFT) | (more ? DM_MORE : 0);
    for (unsigned i = 0; i < count; i++)
        m->ranges[i] = DM_RANGE(b->ranges[i].first, b->ranges[i].pages);
    e = balloon_send(b, m, bytes);
    if (e && count)
        KASSERT(page_take_back(b->ranges, count) == 0);
    b->unfinished = e == -E_TIMEOUT;
    return e;
}

void balloon_finish(struct balloon *b)
{
    struct dm_balloon_response m = {.header.type = DM_BALLOON_RESPONSE};

    b->unfinished = balloon_try_send(b, &m, sizeof(m)) == -E_AGAIN;
}

void balloon_give(struct balloon *b)
{
    const uint64_t asked = b->in.balloon.pages, keep = balloon_floor_pages();
    uint64_t left = asked;
    unsigned count = 0;
    struct page_range r;

    balloon_counters.requests++;
    while (left && page_give(left, keep, &r)) {
        left -= r.pages;
        if (append(b->ranges, &count, &r))
            continue;
        /* There is this one more, so another part will follow. */
        if (send_part(b, count, true)) {
            KASSERT(page_take_back(&r, 1) == 0);
            return;
        }
        count = 0;
        append(b->ranges, &count, &r);
        task_yield();
    }
    if (send_part(b, count, false))
        return;
    if (left)
        balloon_counters.partial++;
    /* A host that asks again and again, at the floor above all, fills no log. */
    RT_LOG_SOME(LINES_MOST, left == asked ? LOG_DEBUG : LOG_INFO, "%s: the host asked for %llu MiB and got %llu%s",
                b->name, mib(asked), mib(asked - left), left ? ", the rest is needed here" : "");
}

/* ---- unballoon ---- */

static bool decode(struct balloon *b, unsigned *count)
{
    const struct dm_unballoon_request *m = balloon_unballoon(b);

    if (m->count > (m->header.size - sizeof(*m)) / sizeof(m->ranges[0])) {
        balloon_lie(b, "more ranges than its message holds", m->count);
        return false;
    }
    *count = m->count;
    for (unsigned i = 0; i < *count; i++)
        b->ranges[i] = (struct page_range){DM_RANGE_FIRST(m->ranges[i]), DM_RANGE_PAGES(m->ranges[i])};
    return true;
}

void balloon_take_back(struct balloon *b)
{
    struct dm_unballoon_response answer = {.header.type = DM_UNBALLOON_RESPONSE};
    bool more = balloon_unballoon(b)->flags & DM_MORE;
    uint64_t pages = 0;
    unsigned count;

    balloon_counters.requests++;
    if (decode(b, &count)) {
        for (unsigned i = 0; i < count; i++)
            pages += b->ranges[i].pages;
        if (page_take_back(b->ranges, count))
            balloon_lie(b, "pages back that it does not have, in a list from page", count ? b->ranges[0].first : 0);
        else
            b->returned_pages += pages;
    }
    if (more)
        return;
    RT_LOG_SOME(LINES_MOST, LOG_INFO, "%s: the host gave %llu MiB back", b->name, mib(b->returned_pages));
    b->returned_pages = 0;
    balloon_send(b, &answer, sizeof(answer));
}

/* ---- hot add ---- */

/* Do its first and last page hold what is written to them, each its own? 0, -E_IO, -E_NOMEM: that could not be
 * tried. */
static int try_pages(const struct page_range *range)
{
    static const uint64_t patterns[] = {0xA5C35A3C0FF01234ull, 0x5A3CA5C3F00FEDCBull, 0};
    const paddr_t pages[] = {pa(range->first << PAGE_SHIFT), pa((range->first + range->pages - 1) << PAGE_SHIFT)};
    volatile uint64_t *words[] = {NULL, NULL};
    unsigned n = range->pages > 1 ? 2 : 1;
    int e = 0;

    for (unsigned i = 0; i < n && e == 0; i++) {
        words[i] = mm_map_phys(pages[i], PAGE_BYTES, MAP_READ | MAP_WRITE);
        e = words[i] ? 0 : -E_NOMEM;
    }
    for (unsigned p = 0; p + 1 < ARRAY_SIZE(patterns) && e == 0; p++) {
        for (unsigned i = 0; i < n; i++)
            *words[i] = patterns[p + i];
        arch_fence_ord();
        for (unsigned i = 0; i < n; i++)
            e = *words[i] == patterns[p + i] ? e : -E_IO;
    }
    for (unsigned i = 0; i < n; i++)
        mm_unmap_phys((void *)(uintptr_t)words[i], PAGE_BYTES);
    return e;
}

/* The most of the range that can be used, added. Returns how many pages, or the reason why none. */
static int64_t add(struct page_range range)
{
    uint64_t limit = mm_phys_limit() >> PAGE_SHIFT;

    if (range.pages == 0 || range.first >= limit)
        return -E_INVAL;
    range.pages = MIN(range.pages, limit - range.first);
    int e = page_region_check(pa(range.first << PAGE_SHIFT), range.pages << PAGE_SHIFT);
    if (e == 0)
        e = try_pages(&range);
    if (e == 0)
        e = page_region_add(pa(range.first << PAGE_SHIFT), range.pages << PAGE_SHIFT);
    return e ? e : (int64_t)range.pages;
}

static const char *why_not(int e)
{
    switch (e) {
    case -E_EXIST: return "they are in use already, by RAM, firmware or a device";
    case -E_INVAL: return "they are none, or beyond what this processor reaches";
    case -E_IO: return "they don't hold what is written there";
    case -E_NOSPC: return "too many pieces of memory";
    default: return error_name(e);
    }
}

void balloon_hot_add(struct balloon *b)
{
    struct dm_hot_add_response answer = {.header.type = DM_HOT_ADD_RESPONSE, .result = 1};
    const struct page_range asked = {DM_RANGE_FIRST(b->in.hot_add.range), DM_RANGE_PAGES(b->in.hot_add.range)};
    int64_t added = add(asked);

    balloon_counters.requests++;
    if (added < 0) {
        log_warn_some("%s: %llu pages offered from page 0x%llx on: %s", b->name, (unsigned long long)asked.pages,
                      (unsigned long long)asked.first, why_not((int)added));
        answer.result = added != -E_NOMEM;           /* that may change; the other reasons won't */
    } else {
        answer.pages = (uint32_t)added;
        balloon_counters.hot_added_pages += (uint64_t)added;
        RT_LOG_SOME(LINES_MOST, LOG_INFO, "%s: the host added %llu MiB at %llu MiB", b->name, mib((uint64_t)added),
                    mib(asked.first));
    }
    if ((uint64_t)answer.pages < asked.pages)
        balloon_counters.partial++;
    balloon_send(b, &answer, sizeof(answer));
}
