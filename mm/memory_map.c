/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * From a loader's memory map to ranges of usable RAM.
 *
 * The map may be unsorted, with holes, overlaps and nonsense. Each entry becomes a start and an end event; the events
 * are sorted and swept once: usable is where at least one RAM entry and nothing else is in force. RAM shrinks to whole
 * pages, everything else grows to them. The first MiB is never used: firmware tables, trampolines of other processors
 * and the zero page live there.
 */
#define LOG_ROOM "mm"
#include "mm/internal.h"

/* An event is an address with these in its low bits; at one address starts sort before ends, so that adjacent entries
 * join. */
#define EVENT_END 1ull
#define EVENT_RAM 2ull
#define MAX_EVENTS (2 * (MM_MAP_MAX + 1))

static uint64_t events[MAX_EVENTS];          /* kept, sorted, for questions that come later */
static unsigned event_count;

static void sift_down(uint64_t *heap, unsigned root, unsigned n)
{
    for (unsigned child; (child = 2 * root + 1) < n; root = child) {
        if (child + 1 < n && heap[child + 1] > heap[child])
            child++;
        if (heap[root] >= heap[child])
            return;
        uint64_t swap = heap[root];
        heap[root] = heap[child];
        heap[child] = swap;
    }
}

static void heap_sort(uint64_t *v, unsigned n)
{
    for (unsigned i = n / 2; i-- > 0;)
        sift_down(v, i, n);
    while (n-- > 1) {
        uint64_t swap = v[0];
        v[0] = v[n];
        v[n] = swap;
        sift_down(v, 0, n);
    }
}

/* Checks one entry and clips it to [start, end) in whole pages. False: left out. */
static bool clip_entry(const struct mm_region *r, unsigned index, uint64_t *start, uint64_t *end)
{
    bool ram = r->type == MM_RAM;
    bool endless = r->bytes > UINT64_MAX - r->start.v;
    if (r->bytes == 0 || (ram && endless)) {
        log_warn("memory map: entry %u (start %#llx, %#llx bytes) is %s, left out", index,
                 (unsigned long long)r->start.v, (unsigned long long)r->bytes,
                 r->bytes ? "beyond the end of addresses" : "empty");
        return false;
    }
    *start = r->start.v;
    *end = endless ? UINT64_MAX : r->start.v + r->bytes;      /* of a reservation what there is counts */
    if (*end > ARCH_DIRECT_BYTES) {
        if (ram)
            log_warn("memory map: entry %u, RAM at %#llx-%#llx, is beyond the direct map (%#llx), left out", index,
                     (unsigned long long)*start, (unsigned long long)*end, (unsigned long long)ARCH_DIRECT_BYTES);
        if (*start >= ARCH_DIRECT_BYTES)
            return false;
        *end = ARCH_DIRECT_BYTES;
    }
    *start = ram ? ALIGN_UP(*start, PAGE_BYTES) : ALIGN_DOWN(*start, PAGE_BYTES);
    *end = ram ? ALIGN_DOWN(*end, PAGE_BYTES) : ALIGN_UP(*end, PAGE_BYTES);
    return *start < *end;
}

/* Events of the entries that are RAM (or are not). What doesn't fit is left out when it's RAM, fatal otherwise. */
static unsigned collect_events(const struct mm_region *map, unsigned entries, bool ram, unsigned n)
{
    for (unsigned i = 0; i < entries; i++) {
        uint64_t start, end;
        if ((map[i].type == MM_RAM) != ram || !clip_entry(&map[i], i, &start, &end))
            continue;
        if (n + 2 > MAX_EVENTS) {
            if (!ram)
                panic("memory map: more than %u reserved entries", MM_MAP_MAX);
            log_warn("memory map: more than %u entries, RAM from entry %u on is left out", MM_MAP_MAX, i);
            break;
        }
        events[n++] = start | (ram ? EVENT_RAM : 0);
        events[n++] = end | (ram ? EVENT_RAM : 0) | EVENT_END;
    }
    return n;
}

unsigned memory_map_normalise(const struct mm_region *map, unsigned entries, struct mm_range *out, unsigned max)
{
    unsigned n = 0, count = 0, ram = 0, other = 0;
    bool open = false;
    events[n++] = 0;
    events[n++] = MM_LOW_BYTES | EVENT_END;
    n = collect_events(map, entries, false, n);
    n = collect_events(map, entries, true, n);
    heap_sort(events, n);
    event_count = n;
    for (unsigned i = 0; i < n; i++) {
        uint64_t at = events[i] & ~PAGE_MASK;
        unsigned *depth = events[i] & EVENT_RAM ? &ram : &other;
        if (events[i] & EVENT_END)
            --*depth;
        else
            ++*depth;
        if (i + 1 < n && (events[i + 1] & ~PAGE_MASK) == at)
            continue;
        bool usable = ram > 0 && other == 0;
        if (usable && !open) {
            if (count == max) {
                log_warn("memory map: more than %u pieces of RAM, from %#llx on they are left out", max,
                         (unsigned long long)at);
                return count;
            }
            out[count++].start = at;
        } else if (!usable && open) {
            out[count - 1].end = at;
        }
        open = usable;
    }
    return count;
}

bool memory_map_reserves(uint64_t start, uint64_t end)
{
    uint64_t since = 0;
    for (unsigned i = 0, depth = 0; i < event_count; i++) {
        uint64_t at = events[i] & ~PAGE_MASK;
        if (events[i] & EVENT_RAM)
            continue;
        if (!(events[i] & EVENT_END) && depth++ == 0)
            since = at;
        else if ((events[i] & EVENT_END) && --depth == 0 && since < end && start < at)
            return true;
    }
    return false;
}
