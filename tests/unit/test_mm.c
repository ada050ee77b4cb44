/* SPDX-License-Identifier: BSD-2-Clause */
/* ROOMS: lib mm rt fake_arch */
/* The memory map and the page allocator. */
#include "mm/internal.h"
#include "tests/fake_arch/fake_arch.h"
#include "tests/unit/test.h"

#define MIB (1ull << 20)
#define GIB (1ull << 30)
#define pa_at(v) {v}

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

static void boot_map(const struct mm_region *map, unsigned entries)
{
    fake_arch_reset(0);
    fake_set_memory_map(map, entries);
    mm_init(map, entries);
}

/* Takes every page there is; calls check for each; gives all back. Returns how many there were. */
static uint64_t take_all(bool (*check)(uint64_t address))
{
    uint64_t n = 0, max = stats().free_pages;
    paddr_t *all = malloc((max + 16) * sizeof(*all));
    bool ok = true;
    for (paddr_t p; !pa_is_none(p = page_alloc(0)); n++) {
        all[n] = p;
        *(uint64_t *)arch_phys_to_virt(p) = p.v;
        ok = ok && check(p.v);
    }
    for (uint64_t i = 0; i < n; i++)
        ok = ok && *(uint64_t *)arch_phys_to_virt(all[i]) == all[i].v;
    pages_free_list(all, n);
    free(all);
    return ok ? n : 0;
}

/* ---- the map ---- */

TEST(map_sorts_joins_and_lets_reserved_win)
{
    const struct mm_region map[] = {
        {pa(0x900000), 0x100000, MM_RAM},     {pa(0x100000), 0x400000, MM_RAM},  {pa(0x500000), 0x100800, MM_RAM},
        {pa(0x300000), 0x1800, MM_ACPI},      {pa(0x200000), 0x300000, MM_RAM},  {pa(0x2ff800), 0x100, MM_RESERVED},
        {pa(0x910000), 0x1000, MM_KERNEL},    {pa(0x700010), 0xfe0, MM_RAM},     {pa(0), 0xa0000, MM_RAM},
        {pa(0xa00000), 0x100000, MM_RAM},     {pa(0xb00000), 0x1000, 99},        {pa(0xb00000), 0x2000, MM_RAM},
    };
    const struct mm_range expected[] = {
        {0x100000, 0x2ff000}, {0x302000, 0x600000}, {0x900000, 0x910000}, {0x911000, 0xb00000}, {0xb01000, 0xb02000},
    };
    static struct mm_range out[64];
    fake_arch_reset(0);
    unsigned n = memory_map_normalise(map, ARRAY_SIZE(map), out, 64);
    CHECK_EQ(n, ARRAY_SIZE(expected));
    CHECK(memcmp(out, expected, sizeof(expected)) == 0);
}

TEST(map_reports_and_leaves_out_nonsense)
{
    const struct mm_region map[] = {
        {pa(0x100000), 8 * MIB, MM_RAM},
        {pa(0x200000), 0, MM_RESERVED},
        {pa(0xfffffffffffff000), 0x2000, MM_RAM},
        {pa(ARCH_DIRECT_BYTES), GIB, MM_RAM},
        {pa(ARCH_DIRECT_BYTES - MIB), 2 * MIB, MM_RAM},
        {pa(UINT64_MAX - 0xfff), 0x1000, MM_RESERVED},
        {pa(UINT64_MAX), UINT64_MAX, MM_ACPI},
        {pa(ARCH_DIRECT_BYTES - MIB / 2), UINT64_MAX, MM_RESERVED},      /* what there is of it counts */
    };
    static struct mm_range out[8];
    fake_arch_reset(0);
    CHECK_EQ(memory_map_normalise(map, ARRAY_SIZE(map), out, 8), 2);
    CHECK_EQ(out[0].end, 0x100000 + 8 * MIB);
    CHECK_EQ(out[1].start, ARCH_DIRECT_BYTES - MIB);
    CHECK_EQ(out[1].end, ARCH_DIRECT_BYTES - MIB / 2);
    CHECK(fake_log_contains("entry 1 (start 0x200000, 0 bytes) is empty"));
    CHECK(fake_log_contains("entry 2 (start 0xfffffffffffff000, 0x2000 bytes) is beyond the end"));
    CHECK(fake_log_contains("entry 3, RAM at"));
    CHECK(fake_log_contains("entry 4, RAM at"));
}

/* Random maps against a page-by-page answer. */
TEST(map_agrees_with_brute_force)
{
    enum { PAGES = 600, FIRST = 200 };         /* pages FIRST.. are looked at; below 256 (1 MiB) nothing is usable */
    static struct mm_range out[MM_RANGE_MAX];
    fake_arch_reset(0);
    for (unsigned round = 0; round < 3000; round++) {
        struct mm_region map[12];
        uint8_t ram[PAGES] = {0}, other[PAGES] = {0};
        unsigned entries = 1 + (unsigned)rnd(ARRAY_SIZE(map));
        for (unsigned i = 0; i < entries; i++) {
            uint64_t start = FIRST * PAGE_BYTES + rnd((PAGES - FIRST) * PAGE_BYTES - 1);
            uint64_t bytes = 1 + rnd((PAGES * PAGE_BYTES - start) / (1 + rnd(8)) + 1);
            bytes = MIN(bytes, PAGES * PAGE_BYTES - start);
            if (rnd(2))
                start &= ~PAGE_MASK;
            map[i] = (struct mm_region){pa(start), bytes, 1 + (unsigned)rnd(5)};
            for (uint64_t p = FIRST; p < PAGES; p++) {
                bool whole = start <= p * PAGE_BYTES && start + bytes >= (p + 1) * PAGE_BYTES;
                bool touched = start < (p + 1) * PAGE_BYTES && start + bytes > p * PAGE_BYTES;
                ram[p] |= map[i].type == MM_RAM && whole;
                other[p] |= map[i].type != MM_RAM && touched;
            }
        }
        unsigned n = memory_map_normalise(map, entries, out, MM_RANGE_MAX), at = 0;
        for (uint64_t p = 256; p < PAGES; p++) {
            while (at < n && out[at].end <= p * PAGE_BYTES)
                at++;
            bool usable = at < n && out[at].start <= p * PAGE_BYTES;
            CHECK_EQ(usable, ram[p] && !other[p]);
        }
        for (unsigned i = 1; i < n; i++)
            CHECK(out[i - 1].end < out[i].start);
    }
}

TEST(map_with_too_many_entries_keeps_reserved_ones)
{
    static struct mm_region map[900];
    static struct mm_range out[MM_RANGE_MAX];
    for (unsigned i = 0; i < 900; i++)
        map[i] = (struct mm_region){pa(MIB * (i + 1)), MIB, i % 3 == 1 ? MM_RESERVED : MM_RAM};
    fake_arch_reset(0);
    unsigned n = memory_map_normalise(map, 900, out, MM_MAP_MAX);
    CHECK(n > 100);
    for (unsigned i = 0; i < n; i++)
        for (uint64_t at = out[i].start; at < out[i].end; at += MIB)
            CHECK((at / MIB - 1) % 3 != 1);
    CHECK(fake_log_contains("more than 512 entries"));
}

/* ---- bring-up ---- */

static bool in_fragments(uint64_t a)
{
    bool acpi = (a / MIB) % 40 == 4 && a % MIB == 0x4000;
    return a >= 4 * MIB && a < 160 * MIB && (a / MIB) % 2 == 0 && a % MIB < 512 * 1024 && !acpi;
}

TEST(boot_with_a_map_in_a_hundred_fragments)
{
    static struct mm_region map[160];
    unsigned n = 0;
    for (unsigned i = 4; i < 160; i++)
        map[n++] = i % 2 ? (struct mm_region){pa(i * MIB), MIB, MM_RESERVED}
                         : (struct mm_region){pa(i * MIB), 512 * 1024, MM_RAM};
    for (unsigned i = 4; i < 160 && n < 160; i += 40)
        map[n++] = (struct mm_region){pa(i * MIB + 0x4000), 0x1000, MM_ACPI};
    boot_map(map, n);
    uint64_t ram = stats().ram_pages, taken = take_all(in_fragments);
    CHECK(taken > ram * 9 / 10);
    /* A second time the same: nothing was lost. What came online stayed. */
    CHECK_EQ(take_all(in_fragments), taken);
}

TEST(boot_in_32_mib)
{
    fake_arch_boot(31 * MIB);
    CHECK_EQ(stats().ram_pages, 31 * 256);
    CHECK(stats().free_pages > 31 * 256 - 24);
}

static bool anywhere(uint64_t a) { return a >= MIB; }

TEST(all_memory_can_be_had_and_comes_back)
{
    fake_arch_boot(61 * MIB);
    uint64_t before = stats().free_pages;
    uint64_t taken = take_all(anywhere);
    CHECK(taken > before - 24);                /* tables of the direct map and the reserve are not given out */
    CHECK_EQ(stats().free_pages, before);
    paddr_t big[2] = {page_alloc(12), page_alloc(12)};   /* 16 MiB in one piece: everything was merged again */
    CHECK(!pa_is_none(big[0]) && !pa_is_none(big[1]));
    page_free(big[0], 12);
    page_free(big[1], 12);
}

static const struct mm_region one_gib[] = {{pa_at(MIB), GIB - MIB, MM_RAM}};
/* 1 TiB, or as much as this machine's addresses allow. */
#define TIB (ARCH_DIRECT_BYTES > 1024 * GIB ? 1024 * GIB : ARCH_DIRECT_BYTES - GIB)
/* Where the machine's memory ends, or nearly. */
#define FAR (ARCH_DIRECT_BYTES > 1024 * GIB ? 900 * GIB : 12 * GIB)
static const struct mm_region one_tib[] = {{pa_at(MIB), 3 * GIB - MIB, MM_RAM}, {pa_at(4 * GIB), TIB - 3 * GIB, MM_RAM}};

/* What a boot took, told through the exit status. */
static void boot_one_gib(void *arg)
{
    boot_map(one_gib, 1);
    struct mm_stats s = stats();
    (void)arg;
    exit((int)(mm_alloc_count() + s.table_pages + s.online_pages / 4096));
}

/* Bring-up does the same on 1 GiB and on 1 TiB. */
TEST(boot_cost_is_independent_of_size)
{
    int small = fake_run_child(boot_one_gib, NULL);
    boot_map(one_tib, 2);
    struct mm_stats s = stats();
    CHECK_EQ(s.ram_pages, TIB / PAGE_BYTES - 256);
    CHECK_EQ(mm_alloc_count() + s.table_pages + s.online_pages / 4096, small);
}

TEST(a_terabyte_comes_online_piece_by_piece)
{
    static paddr_t blocks[20];
    boot_map(one_tib, 2);
    struct mm_stats s = stats();
    CHECK_EQ(s.online_pages, GIB / PAGE_BYTES - 256);
    CHECK(s.table_pages < 10);
    for (unsigned i = 0; i < 20; i++) {        /* 5 GiB */
        blocks[i] = page_alloc(16);
        CHECK(!pa_is_none(blocks[i]));
        *(uint64_t *)arch_phys_to_virt(blocks[i]) = i;
    }
    CHECK(stats().online_pages > 5 * GIB / PAGE_BYTES && stats().online_pages < 12 * GIB / PAGE_BYTES);
    for (unsigned i = 0; i < 20; i++) {
        CHECK_EQ(*(uint64_t *)arch_phys_to_virt(blocks[i]), i);
        page_free(blocks[i], 16);
    }
    /* A whole region in one block, its states elsewhere. */
    paddr_t gib = page_alloc(PAGE_ORDER_MAX);
    CHECK(!pa_is_none(gib) && IS_ALIGNED(gib.v, GIB));
    *(uint64_t *)arch_phys_to_virt(pa_add(gib, GIB - 8)) = 1;
    page_free(gib, PAGE_ORDER_MAX);
    CHECK_EQ(stats().ram_pages, TIB / PAGE_BYTES - 256);
}

static void boot_nothing(void *arg)
{
    const struct mm_region map[] = {{pa(0), 4 * MIB, MM_RAM}};
    (void)arg;
    boot_map(map, 1);
}

static void boot_high_only(void *arg)
{
    const struct mm_region map[] = {{pa(MIB), 48 * PAGE_BYTES, MM_RAM}, {pa(4 * GIB), GIB, MM_RAM}};
    (void)arg;
    boot_map(map, 2);
}

/* Hardly any RAM where boot's tables reach: enough to bring in the rest, with large pages and without. */
static void boot_with_little_low(void *arg)
{
    const struct mm_region map[] = {{pa(MIB), 80 * PAGE_BYTES, MM_RAM}, {pa(5 * GIB - 8 * MIB), 40 * MIB, MM_RAM},
                                    {pa(3 << 20), 0x8000, MM_RAM}, {pa(FAR), GIB, MM_RAM}};
    fake_pt_format.max_leaf_level = *(unsigned *)arg;
    boot_map(map, ARRAY_SIZE(map));
    paddr_t big = page_alloc(17);
    if (pa_is_none(big) || big.v < FAR)
        panic("no large block of the high memory");
    page_free(big, 17);
}

TEST(boot_with_little_memory_below_4_gib)
{
    CHECK_EQ(fake_run_child(boot_with_little_low, &(unsigned){1}), FAKE_RETURNED);
    boot_with_little_low(&(unsigned){2});
    CHECK(take_all(anywhere) > (GIB + 40 * MIB) / PAGE_BYTES - 128);
}

TEST(boot_without_enough_memory_panics)
{
    CHECK_PANICS(boot_nothing, NULL);
    CHECK_PANICS(boot_high_only, NULL);
}

/* ---- blocks ---- */

TEST(blocks_never_overlap)
{
    enum { SLOTS = 400 };
    static struct { paddr_t page; unsigned order; } slot[SLOTS];
    static uint8_t owner[64 * 256 + 256];      /* per page: in use */
    fake_arch_boot(63 * MIB);
    uint64_t before = stats().free_pages;
    for (unsigned round = 0; round < 40000; round++) {
        unsigned i = (unsigned)rnd(SLOTS);
        bool frees = !pa_is_none(slot[i].page);
        if (!frees) {
            slot[i].order = (unsigned)rnd(8);
            slot[i].page = page_alloc(slot[i].order);
            if (pa_is_none(slot[i].page))
                continue;
            CHECK(IS_ALIGNED(slot[i].page.v, PAGE_BYTES << slot[i].order));
        }
        for (uint64_t p = 0; p < 1ull << slot[i].order; p++) {
            uint64_t n = (slot[i].page.v >> PAGE_SHIFT) + p;
            CHECK(n < ARRAY_SIZE(owner) && owner[n] == frees);
            owner[n] ^= 1;
        }
        if (frees) {
            page_free(slot[i].page, slot[i].order);
            slot[i].page = PADDR_NONE;
        }
    }
    for (unsigned i = 0; i < SLOTS; i++)
        if (!pa_is_none(slot[i].page))
            page_free(slot[i].page, slot[i].order);
    CHECK_EQ(stats().free_pages, before);
    CHECK(!pa_is_none(page_alloc(13)));
}

static void free_twice(void *arg)
{
    page_free(*(paddr_t *)arg, 0);
    page_free(*(paddr_t *)arg, 0);
}
static void free_wrong_order(void *arg) { page_free(*(paddr_t *)arg, 1); }
static void free_foreign(void *arg)
{
    (void)arg;
    page_free(pa(512 * GIB), 0);
}
static void free_inside(void *arg)
{
    (void)arg;
    page_free(pa_add(page_alloc(3), PAGE_BYTES), 0);
}

TEST(wrong_frees_panic)
{
    fake_arch_boot(16 * MIB);
    paddr_t p = page_alloc(0);
    CHECK_PANICS(free_twice, &p);
    CHECK_PANICS(free_wrong_order, &p);
    CHECK_PANICS(free_foreign, NULL);
    CHECK_PANICS(free_inside, NULL);
}

static void free_twice_via_reserve(void *arg)
{
    (void)arg;
    /* With the reserve low, the freed page goes there; a second free must be noticed all the same. */
    mm_fail_nth(1);
    paddr_t table = page_alloc_table(true), p = page_alloc(0);
    (void)table;
    page_free(p, 0);
    page_free(p, 0);
}

TEST(double_free_into_the_reserve_panics)
{
    fake_arch_boot(16 * MIB);
    CHECK_PANICS(free_twice_via_reserve, NULL);
}

TEST(zeroed_pages_are_zero)
{
    fake_arch_boot(16 * MIB);
    paddr_t p = page_alloc(2);
    memset(arch_phys_to_virt(p), 0xff, 4 * PAGE_BYTES);
    page_free(p, 2);
    p = page_alloc_zeroed(2);
    for (unsigned i = 0; i < 4 * PAGE_BYTES; i++)
        CHECK_EQ(((uint8_t *)arch_phys_to_virt(p))[i], 0);
}

TEST(lists_take_what_there_is_or_nothing)
{
    static paddr_t pages[16 * 256];
    fake_arch_boot(15 * MIB);
    uint64_t before = stats().free_pages;
    size_t n = before - 64;
    CHECK_EQ(pages_alloc_list(pages, n), 0);
    uint64_t left = stats().free_pages;
    CHECK_EQ(left, before - n);
    CHECK_EQ(pages_alloc_list(pages + n, left + 1), -E_NOMEM);
    CHECK_EQ(stats().free_pages, left);
    pages_free_list(pages, n);
    CHECK_EQ(stats().free_pages, before);
    /* Largest chunks first: a list on an empty machine is one run. */
    CHECK_EQ(pages_alloc_list(pages, 256), 0);
    for (unsigned i = 1; i < 256; i++)
        CHECK_EQ(pages[i].v, pages[i - 1].v + PAGE_BYTES);
    pages_free_list(pages, 256);
    CHECK_EQ(pages_alloc_list(pages, 0), 0);
}

TEST(runs_are_exact)
{
    fake_arch_boot(15 * MIB);
    uint64_t before = stats().free_pages;
    paddr_t run[40];
    for (unsigned i = 0; i < 40; i++) {
        run[i] = page_alloc_run(i + 1);
        CHECK(!pa_is_none(run[i]));
        CHECK_EQ(page_run_pages(run[i]), i + 1);
    }
    CHECK_EQ(stats().free_pages, before - 820);
    for (unsigned i = 0; i < 40; i += 2)
        CHECK_EQ(page_free_run(run[i]), i + 1);
    for (unsigned i = 1; i < 40; i += 2)
        CHECK_EQ(page_free_run(run[i]), i + 1);
    CHECK_EQ(stats().free_pages, before);
    CHECK(pa_is_none(page_alloc_run(0)) && pa_is_none(page_alloc_run(1ull << 40)));
}

TEST(each_failure_of_a_list_leaves_nothing)
{
    static paddr_t pages[1000];
    fake_arch_boot(15 * MIB);
    uint64_t before = stats().free_pages;
    unsigned failures = 0;
    for (uint64_t n = 1;; n++, failures++) {
        mm_fail_nth(n);
        int error = pages_alloc_list(pages, 1000);
        mm_fail_nth(0);
        if (error == 0)
            break;
        CHECK_EQ(error, -E_NOMEM);
        CHECK_EQ(stats().free_pages, before);
    }
    CHECK(failures >= 3);
    pages_free_list(pages, 1000);
    CHECK_EQ(stats().free_pages, before);
}

/* ---- memory that comes and goes ---- */

TEST(hot_add_and_remove)
{
    fake_arch_boot(15 * MIB);
    struct mm_stats before = stats();
    CHECK_EQ(page_region_add(pa(GIB), 64 * MIB), 0);
    CHECK_EQ(page_region_add(pa(GIB + 32 * MIB), MIB), -E_EXIST);
    CHECK_EQ(page_region_add(pa(8 * MIB), MIB), -E_EXIST);
    CHECK_EQ(page_region_add(pa(0), MIB), -E_INVAL);
    CHECK_EQ(page_region_add(pa(ARCH_DIRECT_BYTES - MIB), 2 * MIB), -E_INVAL);
    CHECK_EQ(page_region_add(pa(2 * GIB), 0), -E_INVAL);
    CHECK_EQ(page_region_add(pa(2 * GIB + 1), 0x1000), -E_INVAL);
    CHECK_EQ(stats().free_pages, before.free_pages + 64 * 256);
    CHECK_EQ(stats().online_pages, before.online_pages);
    paddr_t p = page_alloc(13);                /* 32 MiB: only there */
    CHECK(p.v >= GIB);
    CHECK_EQ(page_region_remove(pa(GIB), 64 * MIB), -E_BUSY);
    CHECK_EQ(page_region_remove(pa(GIB), 32 * MIB), -E_NOENT);
    page_free(p, 13);
    CHECK_EQ(page_region_remove(pa(GIB), 64 * MIB), 0);
    CHECK_EQ(page_region_remove(pa(GIB), 64 * MIB), -E_NOENT);
    struct mm_stats after = stats();
    CHECK_EQ(after.ram_pages, before.ram_pages);
    CHECK_EQ(after.free_pages, before.free_pages);
    CHECK_EQ(after.table_pages, before.table_pages);
    CHECK(pa_is_none(page_alloc(13)));
    /* Again and again, also without its ever coming online. */
    for (unsigned i = 0; i < 2000; i++) {
        CHECK_EQ(page_region_add(pa(GIB), 64 * MIB), 0);
        if (i % 2) {
            p = page_alloc(13);
            CHECK(p.v >= GIB);
            page_free(p, 13);
        }
        CHECK_EQ(page_region_remove(pa(GIB), 64 * MIB), 0);
    }
    CHECK_EQ(stats().free_pages, before.free_pages);
}

TEST(coming_online_survives_each_failure)
{
    const struct mm_region map[] = {{pa(MIB), 7 * MIB, MM_RAM}, {pa(FAR + MIB + 0x5000), 64 * MIB, MM_RAM}};
    boot_map(map, 2);
    CHECK_EQ(stats().online_pages, 7 * 256);
    for (uint64_t n = 1;; n++) {
        mm_fail_nth(n);
        paddr_t p = page_alloc(12);
        mm_fail_nth(0);
        if (!pa_is_none(p)) {
            CHECK(p.v > FAR);
            break;
        }
        CHECK(n < 10);
    }
}

TEST(exhausted_memory_still_brings_the_next_piece_online)
{
    const struct mm_region map[] = {{pa(MIB), 7 * MIB, MM_RAM}, {pa(FAR + MIB + 0x5000), 64 * MIB, MM_RAM}};
    boot_map(map, 2);
    uint64_t n = take_all(anywhere);
    CHECK(n > 71 * 256 - 60);
    CHECK_EQ(take_all(anywhere), n);
}

TEST_MAIN()
