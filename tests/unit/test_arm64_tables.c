/* SPDX-License-Identifier: BSD-2-Clause */
/* ROOMS: lib mm rt fake_arch */
/*
 * arm64's table format, as bits and under the mapper: entries as the architecture wants them, W^X, groups of sixteen
 * that share a TLB entry, and break-before-make: between two different valid entries at one place lies a flush that
 * saw none there. All of it is arithmetic and runs on any processor.
 */
#include "mm/internal.h"
#include "tests/fake_arch/fake_arch.h"
#include "tests/unit/test.h"
#include "arch/arm64/pt_format.c"

#define MIB (1ull << 20)
#define GIB (1ull << 30)
#define RW  (MAP_READ | MAP_WRITE)

static struct pt_format format;

/* ---- entries ---- */

TEST(entries_say_what_the_architecture_reads)
{
    const uint64_t valid = 1, page = 2, read_only = 1ull << 7, inner = 3ull << 8, accessed = 1ull << 10, ng = 1ull << 11;
    const uint64_t pxn = 1ull << 53, uxn = 1ull << 54;
    arm64_pt_format_init(&format, 4);
    CHECK(format.leaf(pa(0x12345000), 0, RW | MAP_GLOBAL) == (0x12345000 | valid | page | inner | accessed | pxn | uxn));
    CHECK(format.leaf(pa(0x12345000), 0, MAP_READ | MAP_GLOBAL) ==
          (0x12345000 | valid | page | inner | accessed | read_only | pxn | uxn));
    CHECK(format.leaf(pa(0x12345000), 0, MAP_READ | MAP_EXEC | MAP_GLOBAL) ==
          (0x12345000 | valid | page | inner | accessed | read_only | uxn));
    CHECK(format.leaf(pa(2 * MIB), 1, RW) == (2 * MIB | valid | inner | accessed | ng | pxn | uxn));
    CHECK(format.leaf(pa(GIB), 2, RW | MAP_GLOBAL) == (GIB | valid | inner | accessed | pxn | uxn));
    CHECK(format.leaf(pa(0x9000000), 0, RW | MAP_DEVICE | MAP_GLOBAL) ==
          (0x9000000 | valid | page | accessed | MAIR_DEVICE << 2 | pxn | uxn));
    CHECK(format.leaf(pa(0x9000000), 0, RW | MAP_WC | MAP_GLOBAL) ==
          (0x9000000 | valid | page | inner | accessed | MAIR_WC << 2 | pxn | uxn));
    CHECK(format.table(pa(0x7000)) == (0x7000 | valid | page));
}

TEST(entries_are_read_back)
{
    static const unsigned kinds[] = {
        MAP_READ, RW, MAP_READ | MAP_EXEC, RW | MAP_GLOBAL, RW | MAP_DEVICE, MAP_READ | MAP_DEVICE | MAP_GLOBAL,
        RW | MAP_WC, MAP_READ | MAP_EXEC | MAP_GLOBAL,
    };
    arm64_pt_format_init(&format, 5);
    for (unsigned level = 0; level <= 2; level++) {
        for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++) {
            uint64_t entry = format.leaf(pa(5 * GIB), level, kinds[i]);
            CHECK(format.is_present(entry) && format.is_leaf(entry, level));
            CHECK_EQ(format.attributes(entry), kinds[i]);
            CHECK_EQ(format.address(entry, level).v, 5 * GIB);
            CHECK_EQ(format.address(entry | format.contiguous_mark, level).v, 5 * GIB);
        }
    }
    for (unsigned level = 1; level <= 3; level++)
        CHECK(!format.is_leaf(format.table(pa(0x7000)), level));
    CHECK(!format.is_present(0) && !format.is_present(0x7000));
}

static void both(void *arg) { (void)arg; format.leaf(pa(0), 0, RW | MAP_EXEC); }
static void device_code(void *arg) { (void)arg; format.leaf(pa(0), 0, MAP_READ | MAP_DEVICE | MAP_EXEC); }
static void crooked(void *arg) { (void)arg; format.leaf(pa(0x1000), 1, MAP_READ); }
static void too_high(void *arg) { (void)arg; format.leaf(pa(1ull << 48), 0, MAP_READ); }

TEST(nonsense_is_not_entered)
{
    fake_arch_boot(16 * MIB);
    arm64_pt_format_init(&format, 5);
    CHECK_PANICS(both, NULL);
    CHECK_PANICS(device_code, NULL);
    CHECK_PANICS(crooked, NULL);
    CHECK_PANICS(too_high, NULL);
}

TEST(the_processor_says_how_long_addresses_are)
{
    static const unsigned bits[] = {32, 36, 40, 42, 44, 48, 48, 48};
    for (unsigned i = 0; i < ARRAY_SIZE(bits); i++)
        CHECK_EQ(arm64_phys_bits(i), bits[i]);
}

/* ---- under the mapper: a shadow of what a processor may have seen ---- */

#define SPACE_PAGES (128 * MIB / PAGE_BYTES)

static struct address_space space;
static uint64_t seen[SPACE_PAGES];           /* the entry that translated each page when somebody last looked */
static unsigned changed_live, flushes;

/* The leaf for a page, or 0. */
static uint64_t entry_of(uint64_t virt, unsigned *level)
{
    const uint64_t *table = arch_phys_to_virt(space.root);
    for (*level = 3;; (*level)--) {
        uint64_t entry = table[virt >> (PAGE_SHIFT + 9 * *level) & 511];
        if (!format.is_present(entry))
            return 0;
        if (format.is_leaf(entry, *level))
            return entry;
        table = arch_phys_to_virt(format.address(entry, *level));
    }
}

static void look(bool forget, uint64_t start, uint64_t bytes)
{
    unsigned level;
    for (uint64_t i = 0; i < SPACE_PAGES; i++) {
        uint64_t entry = entry_of(i * PAGE_BYTES, &level);
        if (seen[i] != 0 && entry != 0 && seen[i] != entry)
            changed_live++;
        if (entry != 0)
            seen[i] = entry;
        else if (forget && i * PAGE_BYTES - start < bytes)
            seen[i] = 0;         /* flushed while nothing was there */
    }
}

static void flush_hook(vaddr_t start, uint64_t bytes)
{
    flushes++;
    look(true, start.v, bytes);
}

static void start(void)
{
    fake_arch_boot(16 * MIB);
    arm64_pt_format_init(&format, 5);
    space = (struct address_space){.root = page_alloc_zeroed(0), .format = &format, .flush = flush_hook};
    memset(seen, 0, sizeof seen);
    changed_live = flushes = 0;
}

/* Every mark is one of sixteen alike; returns the pages that are in groups. */
static uint64_t grouped_pages(bool *sound)
{
    uint64_t pages = 0;
    *sound = true;
    for (uint64_t i = 0; i < SPACE_PAGES; i++) {
        unsigned level, other;
        uint64_t entry = entry_of(i * PAGE_BYTES, &level), span = PAGE_BYTES << (9 * level), first, leader;
        if (entry == 0 || !(entry & format.contiguous_mark))
            continue;
        pages++;
        first = ALIGN_DOWN(i * PAGE_BYTES, 16 * span);
        leader = entry_of(first, &other);
        for (uint64_t k = 0; k < 16; k++)
            if (entry_of(first + k * span, &other) != leader + k * span || other != level)
                *sound = false;
        if (!IS_ALIGNED(format.address(leader, level).v, 16 * span))
            *sound = false;
    }
    return pages;
}

TEST(neighbours_share_an_entry)
{
    bool sound;
    start();
    CHECK_EQ(map_range(&space, va(0x10000), pa(0x40010000), 0x40000, RW), 0);
    CHECK_EQ(grouped_pages(&sound), 64);
    CHECK(sound);
    unmap_range(&space, va(0x10000), 0x40000);
    CHECK_EQ(map_range(&space, va(0x11000), pa(0x40011000), 0x3F000, RW), 0);      /* the first group is not whole */
    CHECK_EQ(grouped_pages(&sound), 48);
    unmap_range(&space, va(0x11000), 0x3F000);
    CHECK_EQ(map_range(&space, va(0x10000), pa(0x40011000), 0x40000, RW), 0);      /* not aligned in memory */
    CHECK_EQ(grouped_pages(&sound), 0);
    unmap_range(&space, va(0x10000), 0x40000);
    CHECK_EQ(map_range(&space, va(32 * MIB), pa(GIB + 64 * MIB), 34 * MIB, RW), 0);       /* 16 and one of 2 MiB */
    CHECK_EQ(grouped_pages(&sound), 32 * MIB / PAGE_BYTES);
    CHECK(sound);
}

TEST(a_group_is_parted_where_a_border_comes)
{
    bool sound;
    paddr_t phys;
    start();
    CHECK_EQ(map_range(&space, va(0), pa(GIB), 0x40000, RW), 0);
    unmap_range(&space, va(0x5000), 0x1000);
    CHECK_EQ(grouped_pages(&sound), 48);
    CHECK(sound && !map_lookup(&space, va(0x5000), NULL, NULL, NULL));
    CHECK(map_lookup(&space, va(0x6000), &phys, NULL, NULL) && phys.v == GIB + 0x6000);
    CHECK_EQ(protect_range(&space, va(0x10000), 0x10000, MAP_READ), 0);            /* a whole group stays one */
    CHECK_EQ(grouped_pages(&sound), 48);
    CHECK_EQ(protect_range(&space, va(0x28000), 0x10000, MAP_READ), 0);            /* half of two */
    CHECK_EQ(grouped_pages(&sound), 16);
    CHECK(sound);
    CHECK_EQ(map_range(&space, va(32 * MIB), pa(GIB), 32 * MIB, RW), 0);           /* blocks: down to one page */
    unmap_range(&space, va(40 * MIB + 0x3000), 0x1000);
    CHECK_EQ(grouped_pages(&sound), 16);
    CHECK(map_lookup(&space, va(40 * MIB + 0x4000), &phys, NULL, NULL) && phys.v == GIB + 8 * MIB + 0x4000);
    look(false, 0, 0);
    CHECK_EQ(changed_live, 0);
    CHECK(flushes > 4);
}

TEST(no_live_entry_changes_without_a_flush)
{
    static uint64_t want[SPACE_PAGES];       /* physical address | attributes of each page, 0: unmapped */
    uint64_t seed = 11;
    bool sound;
    start();
    memset(want, 0, sizeof want);
    for (unsigned round = 0; round < 400; round++) {
        uint64_t shift, first, pages, phys;
        unsigned attr, what;
        bool all = true, none = true;
        seed = seed * 6364136223846793005ull + 1442695040888963407ull;
        what = seed >> 33 & 3;
        shift = seed >> 35 & 15;
        pages = MIN(1 + (seed >> 40 & 15), SPACE_PAGES >> shift) << shift;
        first = ((seed >> 45) % (SPACE_PAGES - pages + 1)) >> shift << shift;
        attr = seed >> 60 & 1 ? RW : MAP_READ;
        phys = 4 * GIB + first * PAGE_BYTES + (seed >> 61 & 1 ? 32 * MIB : 0);
        for (uint64_t i = first; i < first + pages; i++)
            all = all && want[i] != 0, none = none && want[i] == 0;
        if (what == 0 && none) {
            CHECK_EQ(map_range(&space, va(first * PAGE_BYTES), pa(phys), pages * PAGE_BYTES, attr), 0);
            for (uint64_t i = 0; i < pages; i++)
                want[first + i] = (phys + i * PAGE_BYTES) | attr;
        } else if (what == 1 && all) {
            CHECK_EQ(protect_range(&space, va(first * PAGE_BYTES), pages * PAGE_BYTES, attr), 0);
            for (uint64_t i = first; i < first + pages; i++)
                want[i] = (want[i] & ~PAGE_MASK) | attr;
        } else if (what >= 2 && pages < SPACE_PAGES / 8) {
            unmap_range(&space, va(first * PAGE_BYTES), pages * PAGE_BYTES);
            memset(want + first, 0, pages * sizeof want[0]);
        } else {
            continue;
        }
        look(false, 0, 0);
        CHECK_EQ(changed_live, 0);
        grouped_pages(&sound);
        CHECK(sound);
        for (uint64_t i = 0; i < SPACE_PAGES; i++) {
            paddr_t p = PADDR_NONE;
            unsigned a = 0;
            CHECK_EQ(map_lookup(&space, va(i * PAGE_BYTES), &p, &a, NULL), want[i] != 0);
            CHECK_EQ(p.v | a, want[i]);
        }
    }
}

TEST_MAIN()
