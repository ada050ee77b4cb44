/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What largest blocks are worth: the same stretch mapped and unmapped twice, with every size that the second-stage
 * format has, and with 4 KiB alone. Once as RAM and once as device registers: both go through the mapper's one decision
 * on sizes, so a window of 256 MiB that a device has must cost as little as memory of that size.
 *
 * The tables are of no guest: nobody walks them. Each unmapping pays for its flush, as a guest's would.
 *
 * Command:  nested-cost MIB     (of addresses, from 1 GiB on)
 * Reports:  lab-nested: MIB of RAM|device: blocks map=NS unmap=NS tables=N, pages map=NS unmap=NS tables=N
 */
#define LOG_ROOM "lab"
#include "tests/lab/machine.h"
#include "tests/lab/nested_cost.h"

#define START     (1ull << 30)
#define MIB_SHIFT 20
#define MOST_MIB  (64u << 10)
#define REPEATS   5u

struct cost { uint64_t map_ns, unmap_ns, tables; };

static void flush(vaddr_t start, uint64_t bytes) { machine_nested_flush(start.v, bytes); }

static uint64_t to_ns(uint64_t ticks) { return ticks * 1000 / (clock_counter_hz() / 1000000); }

/* False: no memory for the tables. */
static bool measure_once(const struct pt_format *format, uint64_t bytes, unsigned attr, struct cost *c)
{
    struct address_space space = {.root = page_alloc_zeroed(0), .format = format, .flush = flush};
    if (pa_is_none(space.root))
        return false;
    struct mm_stats before, mapped;
    mm_get_stats(&before);
    uint64_t start = arch_counter();
    int error = map_range(&space, va(START), pa(START), bytes, attr);
    uint64_t middle = arch_counter();
    mm_get_stats(&mapped);
    if (!error)
        unmap_range(&space, va(START), bytes);
    *c = (struct cost){.map_ns = to_ns(middle - start), .unmap_ns = to_ns(arch_counter() - middle),
                       .tables = mapped.table_pages - before.table_pages};
    page_free(space.root, 0);
    return error == 0;
}

/* The best of several: QEMU's thread may have to wait for a processor meanwhile. */
static bool measure(const struct pt_format *format, uint64_t bytes, unsigned attr, struct cost *best)
{
    struct cost c;
    *best = (struct cost){UINT64_MAX, UINT64_MAX, 0};
    for (unsigned i = 0; i < REPEATS; i++) {
        if (!measure_once(format, bytes, attr, &c))
            return false;
        best->map_ns = MIN(best->map_ns, c.map_ns);
        best->unmap_ns = MIN(best->unmap_ns, c.unmap_ns);
        best->tables = c.tables;
    }
    return true;
}

bool nested_cost(uint64_t mib)
{
    static const struct { const char *name; unsigned attr; } kinds[] = {
        {"RAM", MAP_READ | MAP_WRITE | MAP_EXEC}, {"device", MAP_READ | MAP_WRITE | MAP_DEVICE},
    };
    struct pt_format small = *machine_nested_format();
    small.max_leaf_level = 0;
    if (mib == 0 || mib > MOST_MIB)
        return false;
    for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++) {
        struct cost b, p;
        if (!measure(machine_nested_format(), mib << MIB_SHIFT, kinds[i].attr, &b) ||
            !measure(&small, mib << MIB_SHIFT, kinds[i].attr, &p))
            return false;
        kprintf("lab-nested: %llu MiB of %s: blocks map=%llu unmap=%llu tables=%llu, pages map=%llu unmap=%llu "
                "tables=%llu\n", (unsigned long long)mib, kinds[i].name, (unsigned long long)b.map_ns,
                (unsigned long long)b.unmap_ns, (unsigned long long)b.tables, (unsigned long long)p.map_ns,
                (unsigned long long)p.unmap_ns, (unsigned long long)p.tables);
    }
    return true;
}
