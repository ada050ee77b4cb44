/* SPDX-License-Identifier: BSD-2-Clause */
/* ROOMS: lib mm rt fake_arch */
/* Memory that the host has for the time being, and memory that it adds: mm/given.c, page_region_add. */
#include <sys/wait.h>
#include <unistd.h>
#include "mm/internal.h"
#include "tests/fake_arch/fake_arch.h"
#include "tests/unit/test.h"

#define MIB       (1ull << 20)
#define GIB       (1ull << 30)
#define MIB_PAGES 256u

static uint64_t seed = 1;
static uint64_t rnd(uint64_t below)
{
    seed = seed * 6364136223846793005ull + 1442695040888963407ull;
    return (seed >> 33) % below;
}

static struct mm_stats stats(void)
{
    struct mm_stats s;
    mm_get_stats(&s);
    return s;
}

static bool adds_up(uint64_t used)
{
    struct mm_stats s = stats();
    return s.ram_pages == s.free_pages + s.given_pages + used;
}

static uint64_t used_pages(void)
{
    struct mm_stats s = stats();
    return s.ram_pages - s.free_pages - s.given_pages;
}

/* As much as can be had down to keep; the ranges that were given. */
static unsigned give_all(uint64_t keep, struct page_range *ranges, unsigned max)
{
    unsigned n = 0;
    while (n < max && page_give(UINT64_MAX, keep, &ranges[n]))
        n++;
    return n;
}

TEST(largest_first_and_exactly_to_the_limit)
{
    struct page_range r[64];
    fake_arch_boot(300 * MIB);
    uint64_t used = used_pages(), free_before = stats().free_pages;
    unsigned n = give_all(5001, r, ARRAY_SIZE(r));
    CHECK(n < ARRAY_SIZE(r));
    for (unsigned i = 1; i < n; i++)
        CHECK(r[i].pages <= r[i - 1].pages);
    CHECK_EQ(r[0].pages, 128 * MIB_PAGES);
    CHECK_EQ(stats().free_pages, 5001);
    CHECK_EQ(stats().given_pages, free_before - 5001);
    CHECK(adds_up(used));
    CHECK(!page_give(1, 5001, &r[n]));
    CHECK(page_give(1, 5000, &r[n]));
    CHECK_EQ(r[n].pages, 1);
    CHECK_EQ(page_take_back(r, n + 1), 0);
    CHECK_EQ(stats().free_pages, free_before);
    CHECK(!page_give(0, 0, &r[0]));
    CHECK(page_give(3, 0, &r[0]));
    CHECK_EQ(r[0].pages, 2);                     /* a block, not a run */
}

TEST(what_came_back_joins_its_neighbours)
{
    struct page_range r[64];
    fake_arch_boot(300 * MIB);
    unsigned n = give_all(4096, r, ARRAY_SIZE(r));
    paddr_t none = page_alloc(13);
    CHECK(pa_is_none(none));
    /* Page by page, in an order that has nothing to do with blocks. */
    for (unsigned step = 0; step < 7; step++)
        for (uint64_t i = step; i < r[0].pages; i += 7) {
            struct page_range one = {r[0].first + i, 1};
            CHECK_EQ(page_take_back(&one, 1), 0);
        }
    CHECK_EQ(page_take_back(r + 1, n - 1), 0);
    paddr_t block = page_alloc(15);
    CHECK_EQ(block.v >> PAGE_SHIFT, r[0].first);
    page_free(block, 15);
}

/* A GiB that never was online: one range, its book is elsewhere, and one page of it was touched. */
TEST(a_gib_in_one_range)
{
    struct page_range r;
    fake_arch_boot(4 * GIB);
    uint64_t used = used_pages();
    CHECK(page_give(GIB / PAGE_BYTES, 0, &r));
    CHECK_EQ(r.pages, GIB / PAGE_BYTES);
    CHECK(r.first % (GIB / PAGE_BYTES) == 0);
    for (uint64_t i = 1; i < r.pages; i += 4096)
        CHECK_EQ(*(uint64_t *)fake_phys((r.first + i) * PAGE_BYTES), 0);
    CHECK(used_pages() - used < 80);
    struct page_range part = {r.first + 12345, 100000};
    CHECK_EQ(page_take_back(&part, 1), 0);
    CHECK_EQ(stats().given_pages, GIB / PAGE_BYTES - 100000);
    struct page_range rest[] = {{r.first, 12345}, {part.first + part.pages, r.pages - 112345}};
    CHECK_EQ(page_take_back(rest, 2), 0);
    CHECK_EQ(stats().given_pages, 0);
}

/* What coming online costs is not taken from what has to stay. */
TEST(the_limit_holds_when_memory_comes_online)
{
    struct page_range r;
    fake_arch_boot(4 * GIB);
    uint64_t keep = stats().free_pages - GIB / PAGE_BYTES;
    CHECK(page_give(UINT64_MAX, keep, &r));
    CHECK_EQ(stats().free_pages, keep);
    CHECK(r.pages < GIB / PAGE_BYTES && r.pages > GIB / PAGE_BYTES - 80);
    CHECK(!page_give(1, keep, &r));
}

/* Ranges that cross the border of two zones are one to the host. */
TEST(back_across_a_border)
{
    static struct page_range r[256];
    fake_arch_boot(3 * GIB);
    unsigned n = give_all(20000, r, ARRAY_SIZE(r));
    uint64_t border = GIB / PAGE_BYTES, low = 0, high = 0;
    for (unsigned i = 0; i < n; i++) {
        low |= r[i].first + r[i].pages == border;
        high |= r[i].first == border;
    }
    /* The second zone's first pages are its book or in the first block; either way something there is given. */
    CHECK(low);
    uint64_t from = high ? border : 0;
    struct page_range across = {border - 64, high ? 128 : 64};
    CHECK(from == 0 || across.pages == 128);
    CHECK_EQ(page_take_back(&across, 1), 0);
    CHECK_EQ(page_take_back(&across, 1), -E_INVAL);
}

TEST(false_ranges_change_nothing)
{
    struct page_range r[64];
    fake_arch_boot(300 * MIB);
    paddr_t mine = page_alloc(3);
    unsigned n = give_all(10000, r, ARRAY_SIZE(r));
    CHECK(n > 2);
    const uint64_t a = r[0].first, m = mine.v >> PAGE_SHIFT, end = ARCH_DIRECT_BYTES / PAGE_BYTES;
    const struct page_range bad[][2] = {
        {{a, 10}, {a + 9, 1}},              /* the same page twice */
        {{a, 10}, {a, 10}},
        {{a, 10}, {m, 1}},                  /* in use */
        {{a, 10}, {m + 1, 1}},              /* inside a block in use */
        {{a, 10}, {0, 1}},                  /* never RAM */
        {{a, 10}, {0x110, 1}},              /* the allocator's own */
        {{a, 10}, {GIB / PAGE_BYTES, 1}},   /* no memory */
        {{a, 10}, {a + 10, 0}},
        {{a, 10}, {end - 1, 2}},
        {{a, 10}, {UINT64_MAX, 2}},
        {{a, 10}, {a + 10, UINT64_MAX}},
        {{a, 10}, {a + 10, UINT64_MAX - a}},
    };
    struct mm_stats before = stats();
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        if (page_take_back(bad[i], 2) != -E_INVAL)
            test_fail(__FILE__, __LINE__, "pair %u was taken", i);
        struct mm_stats after = stats();
        CHECK(memcmp(&before, &after, sizeof(after)) == 0);
    }
    CHECK_EQ(page_take_back(r, 0), 0);
    CHECK_EQ(page_take_back(r, n), 0);
    CHECK_EQ(page_take_back(r, n), -E_INVAL);
    page_free(mine, 3);
}

/* Against a book of its own: a byte for each page. */
TEST(random_giving_with_allocations)
{
    enum { PAGES = 200 * 256, HELD = 200 };
    static uint8_t owner[PAGES];                 /* 0 nobody, 1 the host, 2 an allocation */
    struct { paddr_t at; unsigned order; } held[HELD];
    fake_arch_boot(199 * MIB);
    uint64_t used = used_pages(), given = 0, count_held = 0;
    for (unsigned i = 0; i < HELD; i++)
        held[i].at = PADDR_NONE;
    for (unsigned round = 0; round < 60000; round++) {
        struct page_range r;
        unsigned k = (unsigned)rnd(HELD);
        switch (rnd(4)) {
        case 0:
            if (!page_give(1 + rnd(rnd(20) ? 64 : 5000), 3000, &r))
                break;
            for (uint64_t p = r.first; p < r.first + r.pages; p++) {
                CHECK_EQ(owner[p], 0);
                owner[p] = 1;
            }
            given += r.pages;
            break;
        case 1: {
            uint64_t from = rnd(PAGES), to;
            while (from < PAGES && owner[from] != 1)
                from++;
            for (to = from; to < PAGES && owner[to] == 1 && to - from < 1 + round % 600; to++)
                ;
            if (from == to)
                break;
            r = (struct page_range){from, to - from};
            CHECK_EQ(page_take_back(&r, 1), 0);
            memset(owner + from, 0, to - from);
            given -= to - from;
            break;
        }
        case 2:
            if (!pa_is_none(held[k].at))
                break;
            held[k].order = (unsigned)rnd(8);
            held[k].at = page_alloc(held[k].order);
            if (pa_is_none(held[k].at))
                break;
            for (uint64_t p = held[k].at.v >> PAGE_SHIFT, n = 1ull << held[k].order; n; p++, n--) {
                CHECK_EQ(owner[p], 0);
                owner[p] = 2;
            }
            count_held += 1ull << held[k].order;
            break;
        default:
            if (pa_is_none(held[k].at))
                break;
            memset(owner + (held[k].at.v >> PAGE_SHIFT), 0, 1ull << held[k].order);
            page_free(held[k].at, held[k].order);
            count_held -= 1ull << held[k].order;
            held[k].at = PADDR_NONE;
        }
        CHECK_EQ(stats().given_pages, given);
    }
    CHECK(given > 0 && adds_up(used + count_held));
}

TEST(giving_survives_each_failure)
{
    for (unsigned n = 1; n < 20; n++) {
        if (fork() != 0)
            continue;
        struct page_range r;
        fake_arch_boot(4 * GIB);
        uint64_t used = used_pages();
        mm_fail_nth(n);
        uint64_t got = page_give(GIB / PAGE_BYTES, 0, &r) ? r.pages : 0;
        mm_fail_nth(0);
        /* A book that could not lie elsewhere splits its GiB, and the next one is brought online. */
        bool ok = stats().given_pages == got && used_pages() - used < 2 * 80;
        ok = ok && (got == 0 || page_take_back(&r, 1) == 0);
        _exit(!(ok && stats().given_pages == 0));
    }
    for (unsigned n = 1; n < 20; n++) {
        int status;
        CHECK(wait(&status) > 0 && status == 0);
    }
}

/* ---- hot add ---- */

TEST(region_with_given_pages_is_busy)
{
    struct page_range r[64];
    fake_arch_boot(64 * MIB);
    CHECK_EQ(page_region_add(pa(GIB), 64 * MIB), 0);
    unsigned n = give_all(0, r, ARRAY_SIZE(r));
    CHECK_EQ(page_region_remove(pa(GIB), 64 * MIB), -E_BUSY);
    CHECK_EQ(page_take_back(r, n), 0);
    CHECK_EQ(page_region_remove(pa(GIB), 64 * MIB), 0);
}

TEST(what_can_not_be_added)
{
    const struct mm_region map[] = {
        {pa(0), 0xa0000, MM_RAM},         {pa(MIB), 63 * MIB, MM_RAM},     {pa(600 * MIB), MIB, MM_RESERVED},
        {pa(700 * MIB + 5), 1, MM_ACPI},  {pa(800 * MIB), MIB, MM_MMIO},   {pa(800 * MIB), 2 * MIB, MM_RESERVED},
    };
    fake_arch_reset(0);
    fake_set_memory_map(map, ARRAY_SIZE(map));
    mm_init(map, ARRAY_SIZE(map));
    CHECK_EQ(page_region_add(pa(599 * MIB), MIB + PAGE_BYTES), -E_EXIST);
    CHECK_EQ(page_region_add(pa(601 * MIB - PAGE_BYTES), MIB), -E_EXIST);
    CHECK_EQ(page_region_add(pa(700 * MIB), PAGE_BYTES), -E_EXIST);
    CHECK_EQ(page_region_add(pa(801 * MIB), MIB), -E_EXIST);
    CHECK_EQ(page_region_add(pa(512 * MIB), GIB), -E_EXIST);
    CHECK_EQ(page_region_add(pa(601 * MIB), MIB), 0);
    CHECK_EQ(page_region_add(pa(802 * MIB), MIB), 0);
    void *device = mm_map_phys(pa(900 * MIB + 100), 8, MAP_READ | MAP_WRITE | MAP_DEVICE);
    CHECK_EQ(page_region_check(pa(900 * MIB), PAGE_BYTES), -E_EXIST);
    CHECK_EQ(page_region_check(pa(900 * MIB + PAGE_BYTES), PAGE_BYTES), 0);
    mm_unmap_phys(device, 8);
    CHECK_EQ(page_region_check(pa(900 * MIB), PAGE_BYTES), 0);
    CHECK_EQ(page_region_check(pa(0xb0000), PAGE_BYTES), -E_INVAL);      /* below the first MiB */
}

/* More devices than are remembered: nothing is believed to be free of them. */
TEST(many_devices)
{
    void *at[100];
    fake_arch_boot(64 * MIB);
    for (unsigned i = 0; i < ARRAY_SIZE(at); i++)
        at[i] = mm_map_phys(pa(GIB + i * PAGE_BYTES), PAGE_BYTES, MAP_READ | MAP_DEVICE);
    CHECK_EQ(page_region_check(pa(2 * GIB), MIB), -E_EXIST);
    for (unsigned i = 0; i < ARRAY_SIZE(at); i++)
        mm_unmap_phys(at[i], PAGE_BYTES);
    CHECK_EQ(page_region_check(pa(2 * GIB), MIB), 0);
    CHECK_EQ(page_region_check(pa(GIB), MIB), 0);
}

TEST(the_processor_sets_a_limit)
{
    fake_pt_format.phys_bits = 33;
    fake_arch_boot(64 * MIB);
    CHECK_EQ(mm_phys_limit(), 8 * GIB);
    CHECK_EQ(page_region_add(pa(8 * GIB - MIB), 2 * MIB), -E_INVAL);
    CHECK_EQ(page_region_add(pa(8 * GIB), MIB), -E_INVAL);
    CHECK_EQ(page_region_add(pa(8 * GIB - MIB), MIB), 0);
}

TEST_MAIN()
