/* SPDX-License-Identifier: BSD-2-Clause */
/* ROOMS: lib mm rt fake_arch */
/* The mapper: block sizes, conflicts, splitting, tables that come and go, failures; kernel and second-stage spaces. */
#include "mm/internal.h"
#include "tests/fake_arch/fake_arch.h"
#include "tests/unit/test.h"

#define KIB (1ull << 10)
#define MIB (1ull << 20)
#define GIB (1ull << 30)
#define RW  (MAP_READ | MAP_WRITE)

static uint64_t seed = 7;
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

/* ---- a second-stage format: other bits, 2 MiB leaves at most, all of read, write and execute at once ---- */

#define S2_READ  1ull
#define S2_WRITE 2ull
#define S2_EXEC  4ull
#define S2_LEAF  (1ull << 7)
#define S2_ADDR  0x000ffffffffff000ull

static uint64_t s2_leaf(paddr_t p, unsigned level, unsigned attr)
{
    return p.v | (attr & MAP_READ ? S2_READ : 0) | (attr & MAP_WRITE ? S2_WRITE : 0) | (attr & MAP_EXEC ? S2_EXEC : 0) |
           (level ? S2_LEAF : 0);
}
static uint64_t s2_table(paddr_t p) { return p.v | S2_READ | S2_WRITE | S2_EXEC; }
static bool s2_is_present(uint64_t pte) { return (pte & 7) != 0; }
static bool s2_is_leaf(uint64_t pte, unsigned level) { return level == 0 || (pte & S2_LEAF); }
static paddr_t s2_address(uint64_t pte, unsigned level)
{
    (void)level;
    return pa(pte & S2_ADDR);
}
static unsigned s2_attributes(uint64_t pte)
{
    return (pte & S2_READ ? (unsigned)MAP_READ : 0u) | (pte & S2_WRITE ? MAP_WRITE : 0) |
           (pte & S2_EXEC ? MAP_EXEC : 0);
}
static struct pt_format s2_format = {
    .top_level = 3, .max_leaf_level = 1, .leaf = s2_leaf, .table = s2_table, .is_present = s2_is_present,
    .is_leaf = s2_is_leaf, .address = s2_address, .attributes = s2_attributes,
};

static struct address_space second_stage(void)
{
    paddr_t root = page_alloc_zeroed(0);
    KASSERT(!pa_is_none(root));
    return (struct address_space){.root = root, .format = &s2_format};
}

/* ---- block sizes ---- */

TEST(largest_block_agrees_with_its_definition)
{
    fake_arch_boot(16 * MIB);
    const struct pt_format *f = &fake_pt_format;
    CHECK_EQ(largest_block(f, 0, 0, GIB), 2);
    CHECK_EQ(largest_block(f, 0, 0, GIB - 1), 1);
    CHECK_EQ(largest_block(f, GIB, 3 * GIB, 5 * GIB), 2);
    CHECK_EQ(largest_block(f, 2 * MIB, GIB, GIB), 1);
    CHECK_EQ(largest_block(f, GIB, 2 * MIB, GIB), 1);
    CHECK_EQ(largest_block(f, 0, 0, 2 * MIB - 1), 0);
    CHECK_EQ(largest_block(f, PAGE_BYTES, 2 * MIB, GIB), 0);
    CHECK_EQ(largest_block(&s2_format, 0, 0, 4 * GIB), 1);
    for (unsigned i = 0; i < 100000; i++) {
        uint64_t shift = 12 + rnd(20), v = rnd(1 << 20) << shift, p = rnd(1 << 20) << shift, left = rnd(1u << 31);
        unsigned level = largest_block(f, v, p, left);
        uint64_t bytes = PAGE_BYTES << (9 * level), next = bytes << 9;
        CHECK(level == 0 || ((v | p) % bytes == 0 && left >= bytes));
        CHECK(level == 2 || (v | p) % next != 0 || left < next);
    }
}

static bool leaf_is(struct address_space *s, uint64_t v, uint64_t p, unsigned level)
{
    paddr_t found;
    unsigned at;
    return map_lookup(s, va(v), &found, NULL, &at) && found.v == p && at == level;
}

TEST(a_range_uses_every_size)
{
    fake_arch_boot(16 * MIB);
    struct address_space s = second_stage();
    s2_format.max_leaf_level = 2;
    /* 4 KiB | 2 MiB ... | 1 GiB x 2 | 2 MiB | 4 KiB, virtual and physical address equal modulo 1 GiB */
    uint64_t v = 5 * GIB - 2 * MIB - 4 * KIB, p = v + 7 * GIB, bytes = 2 * GIB + 4 * MIB + 8 * KIB;
    uint64_t tables = stats().table_pages;
    CHECK_EQ(map_range(&s, va(v), pa(p), bytes, RW | MAP_EXEC), 0);
    CHECK(leaf_is(&s, v, p, 0));
    CHECK(leaf_is(&s, v + 4 * KIB, p + 4 * KIB, 1));
    CHECK(leaf_is(&s, 5 * GIB + 123, 12 * GIB + 123, 2));
    CHECK(leaf_is(&s, 7 * GIB - 1, 14 * GIB - 1, 2));
    CHECK(leaf_is(&s, 7 * GIB, 14 * GIB, 1));
    CHECK(leaf_is(&s, 7 * GIB + 2 * MIB, 14 * GIB + 2 * MIB, 0));
    CHECK(!map_lookup(&s, va(v - 1), NULL, NULL, NULL));
    CHECK(!map_lookup(&s, va(v + bytes), NULL, NULL, NULL));
    CHECK_EQ(stats().table_pages - tables, 5);     /* one of level 2, two of level 1, two of level 0 */
    unmap_range(&s, va(v), bytes);
    CHECK_EQ(stats().table_pages, tables);
}

TEST(arguments_are_checked)
{
    fake_arch_boot(16 * MIB);
    struct address_space s = second_stage();
    CHECK_EQ(map_range(&s, va(1), pa(0x1000), 0x1000, RW), -E_INVAL);
    CHECK_EQ(map_range(&s, va(0), pa(1), 0x1000, RW), -E_INVAL);
    CHECK_EQ(map_range(&s, va(0), pa(0x1000), 0, RW), -E_INVAL);
    CHECK_EQ(map_range(&s, va(0), pa(0x1000), 1, RW), -E_INVAL);
    CHECK_EQ(map_range(&s, va(0), pa(~0xfffull), 0x2000, RW), -E_INVAL);
    CHECK_EQ(map_range(&s, va(~0xfffull), pa(0x1000), 0x2000, RW), -E_INVAL);
    CHECK_EQ(map_range(&s, va((1ull << 48) - 0x1000), pa(0x1000), 0x2000, RW), -E_INVAL);
    CHECK_EQ(map_range(&s, va((1ull << 48) - 0x1000), pa(0x1000), 0x1000, RW), 0);
    CHECK_EQ(map_range(&kernel_space, va(ARCH_VMAP_BASE), pa(0x1000), 0x1000, RW | MAP_EXEC), -E_INVAL);
    CHECK_EQ(protect_range(&s, va(0x5000), 0x1000, MAP_READ), -E_INVAL);

    /* Beyond what the processor's entries can say: from firmware's tables, so refused and not asserted. */
    fake_pt_format.phys_bits = 40;
    CHECK_EQ(map_range(&kernel_space, va(ARCH_VMAP_BASE), pa(1ull << 40), 0x1000, RW), -E_INVAL);
    CHECK_EQ(map_range(&kernel_space, va(ARCH_VMAP_BASE), pa((1ull << 40) - 0x1000), 0x2000, RW), -E_INVAL);
    CHECK(mm_map_phys(pa(0xfff0000000000000ull), 36, MAP_READ) == NULL);
    CHECK(mm_map_phys(pa(UINT64_MAX - 20), 36, MAP_READ) == NULL);
    CHECK(mm_map_phys(pa(UINT64_MAX - 40), 36, MAP_READ) == NULL);
    fake_pt_format.phys_bits = 0;
}

TEST(conflicts_change_nothing)
{
    fake_arch_boot(16 * MIB);
    struct address_space s = second_stage();
    CHECK_EQ(map_range(&s, va(6 * MIB), pa(64 * MIB), 4 * KIB, RW), 0);
    CHECK_EQ(map_range(&s, va(8 * MIB), pa(8 * MIB), 2 * MIB, RW), 0);
    struct mm_stats before = stats();
    CHECK_EQ(map_range(&s, va(6 * MIB), pa(96 * MIB), 2 * MIB, RW), -E_EXIST);       /* a table in a block's place */
    CHECK_EQ(map_range(&s, va(5 * MIB), pa(96 * MIB), 2 * MIB, RW), -E_EXIST);       /* a page in the way */
    CHECK_EQ(map_range(&s, va(GIB - 2 * MIB + 0x1000), pa(0x1000), 4 * KIB, RW), 0);
    CHECK_EQ(map_range(&s, va(9 * MIB), pa(0x3000), 4 * KIB, RW), -E_EXIST);         /* inside a block */
    CHECK_EQ(map_range(&s, va(2 * MIB + 0x1000), pa(0x3000), 7 * MIB, RW), -E_EXIST); /* the far end is taken */
    CHECK(!map_lookup(&s, va(2 * MIB + 0x1000), NULL, NULL, NULL));
    unmap_range(&s, va(GIB - 2 * MIB), 2 * MIB);
    CHECK_EQ(stats().table_pages, before.table_pages);
    CHECK_EQ(stats().free_pages, before.free_pages);
}

/* ---- many random operations against a plain array ---- */

enum { MODEL_PAGES = 3 * 1024 };              /* 12 MiB of virtual addresses around a 1 GiB border */

static void random_operations(struct address_space *s, uint64_t base)
{
    static struct { uint64_t phys; unsigned attr; } model[MODEL_PAGES];
    memset(model, 0, sizeof(model));
    struct mm_stats before = stats();
    for (unsigned round = 0; round < 4000; round++) {
        uint64_t first = rnd(MODEL_PAGES), n = 1 + rnd(rnd(2) ? 8 : MODEL_PAGES - first);
        n = MIN(n, MODEL_PAGES - first);
        if (rnd(3) == 0) {
            first &= ~511ull;
            n = MIN(ALIGN_UP(n, 512ull), MODEL_PAGES - first);
        }
        /* Physical: congruent to the virtual address modulo 2 MiB, or not. */
        uint64_t phys = ((1 + rnd(64)) * 512 + (rnd(2) ? first % 512 : rnd(512))) * PAGE_BYTES;
        unsigned attr = rnd(2) ? RW : MAP_READ;
        bool free = true, full = true;
        for (uint64_t i = first; i < first + n; i++) {
            free = free && model[i].attr == 0;
            full = full && model[i].attr != 0;
        }
        unsigned op = (unsigned)rnd(3);
        if (op == 0) {
            CHECK_EQ(map_range(s, va(base + first * PAGE_BYTES), pa(phys), n * PAGE_BYTES, attr), free ? 0 : -E_EXIST);
            for (uint64_t i = 0; free && i < n; i++) {
                model[first + i].phys = phys + i * PAGE_BYTES;
                model[first + i].attr = attr;
            }
        } else if (op == 1) {
            unmap_range(s, va(base + first * PAGE_BYTES), n * PAGE_BYTES);
            for (uint64_t i = first; i < first + n; i++)
                model[i].attr = 0;
        } else {
            CHECK_EQ(protect_range(s, va(base + first * PAGE_BYTES), n * PAGE_BYTES, attr), full ? 0 : -E_INVAL);
            for (uint64_t i = first; full && i < first + n; i++)
                model[i].attr = attr;
        }
        if (round % 16)
            continue;
        for (uint64_t i = 0; i < MODEL_PAGES; i++) {
            paddr_t p;
            unsigned a;
            bool mapped = map_lookup(s, va(base + i * PAGE_BYTES), &p, &a, NULL);
            CHECK_EQ(mapped, model[i].attr != 0);
            CHECK(!mapped || (p.v == model[i].phys && a == model[i].attr));
        }
    }
    unmap_range(s, va(base), MODEL_PAGES * PAGE_BYTES);
    CHECK_EQ(stats().table_pages, before.table_pages);
    CHECK_EQ(stats().free_pages, before.free_pages);
}

TEST(random_operations_second_stage)
{
    fake_arch_boot(32 * MIB);
    struct address_space s = second_stage();
    random_operations(&s, 3 * GIB - 6 * MIB);
}

TEST(random_operations_kernel)
{
    fake_arch_boot(32 * MIB);
    random_operations(&kernel_space, ARCH_VMAP_BASE + 8 * GIB - 6 * MIB);
}

/* ---- failures ---- */

TEST(each_failure_of_map_range_leaves_nothing)
{
    fake_arch_boot(32 * MIB);
    struct address_space s = second_stage();
    struct mm_stats before = stats();
    uint64_t v = 512 * GIB - 5 * MIB - 4 * KIB, bytes = 10 * MIB + 8 * KIB;   /* every level twice */
    unsigned failures = 0;
    for (uint64_t n = 1;; n++, failures++) {
        mm_fail_nth(n);
        int error = map_range(&s, va(v), pa(0x1000), bytes, RW);
        mm_fail_nth(0);
        if (error == 0)
            break;
        CHECK_EQ(error, -E_NOMEM);
        CHECK(!map_lookup(&s, va(v), NULL, NULL, NULL));
        CHECK_EQ(stats().table_pages, before.table_pages);
        CHECK_EQ(stats().free_pages, before.free_pages);
    }
    CHECK_EQ(failures, 2 + 2 + 6);
    /* Protecting the middle splits nothing here, of a block it needs a table. */
    unmap_range(&s, va(v), bytes);
    CHECK_EQ(map_range(&s, va(0), pa(0), 4 * MIB, RW), 0);
    for (uint64_t n = 1; n <= 2; n++) {
        mm_fail_nth(n);
        CHECK_EQ(protect_range(&s, va(MIB), 2 * MIB, MAP_READ), -E_NOMEM);
        mm_fail_nth(0);
        unsigned attr;
        CHECK(map_lookup(&s, va(MIB), NULL, &attr, NULL) && attr == RW);
    }
    CHECK_EQ(protect_range(&s, va(MIB), 2 * MIB, MAP_READ), 0);
    unmap_range(&s, va(0), 4 * MIB);
    CHECK_EQ(stats().free_pages, before.free_pages);
}

TEST(unmapping_inside_a_block_works_without_memory)
{
    fake_arch_boot(32 * MIB);
    struct address_space s = second_stage();
    s2_format.max_leaf_level = 2;
    CHECK_EQ(map_range(&s, va(0), pa(0), 2 * GIB, RW), 0);
    uint64_t taken = 0;
    while (!pa_is_none(page_alloc(0)))
        taken++;
    CHECK(taken > 1000);
    unmap_range(&s, va(GIB - 4 * KIB), 8 * KIB);   /* two splits at each of two levels */
    CHECK(map_lookup(&s, va(GIB - 4 * KIB - 1), NULL, NULL, NULL));
    CHECK(!map_lookup(&s, va(GIB - 4 * KIB), NULL, NULL, NULL));
    CHECK(!map_lookup(&s, va(GIB + 4 * KIB - 1), NULL, NULL, NULL));
    CHECK(leaf_is(&s, GIB + 4 * KIB, GIB + 4 * KIB, 0));
    CHECK(leaf_is(&s, GIB + 2 * MIB, GIB + 2 * MIB, 1));
}

/* ---- flushing ---- */

static uint64_t flush_calls, flush_start, flush_bytes;
static void count_flush(vaddr_t start, uint64_t bytes)
{
    flush_calls++;
    flush_start = start.v;
    flush_bytes = bytes;
    arch_tlb_flush(start, bytes);
}

TEST(flushes_are_ranges_of_the_kernel_space_only)
{
    fake_arch_boot(32 * MIB);
    mm_set_tlb_flush(count_flush);
    uint64_t v = ARCH_VMAP_BASE + GIB;
    CHECK_EQ(map_range(&kernel_space, va(v), pa(4 * MIB), 4 * MIB, RW), 0);
    CHECK_EQ(flush_calls, 0);                   /* what was not present isn't cached */
    CHECK_EQ(protect_range(&kernel_space, va(v), MIB, MAP_READ), 0);
    CHECK(flush_calls == 1 && flush_start == v && flush_bytes == MIB);
    unmap_range(&kernel_space, va(v), 4 * MIB);
    CHECK(flush_calls == 2 && flush_start == v && flush_bytes == 4 * MIB);
    struct address_space s = second_stage();
    CHECK_EQ(map_range(&s, va(0), pa(0), 4 * MIB, RW), 0);
    unmap_range(&s, va(0), 4 * MIB);
    CHECK_EQ(flush_calls, 2);
    mm_set_tlb_flush(NULL);
}

/* With break-before-make the entry must be absent at the moment of the flush. */
static unsigned live_at_flush;
static void flush_looks(vaddr_t start, uint64_t bytes)
{
    (void)bytes;
    live_at_flush += map_lookup(&kernel_space, start, NULL, NULL, NULL);
    flush_calls++;
}

TEST(break_before_make)
{
    fake_arch_boot(32 * MIB);
    uint64_t v = ARCH_VMAP_BASE + GIB;
    fake_pt_format.break_before_make = true;
    CHECK_EQ(map_range(&kernel_space, va(v), pa(4 * MIB), 2 * MIB, RW), 0);
    mm_set_tlb_flush(flush_looks);
    unmap_range(&kernel_space, va(v + MIB), 4 * KIB);      /* splits: break, flush, make; then the unmapping's flush */
    CHECK_EQ(flush_calls, 2);
    CHECK_EQ(live_at_flush, 0);
    CHECK_EQ(protect_range(&kernel_space, va(v), 4 * KIB, MAP_READ), 0);
    CHECK_EQ(flush_calls, 4);
    CHECK_EQ(live_at_flush, 1);                            /* the flush at the end sees the new entry */
    mm_set_tlb_flush(NULL);
}

/* A space of the lab's guest has a hook of its own, and the kernel's is not called for it. */
static struct address_space *looked_at;
static unsigned own_calls;
static void own_flush_looks(vaddr_t start, uint64_t bytes)
{
    (void)bytes;
    live_at_flush += map_lookup(looked_at, start, NULL, NULL, NULL);
    own_calls++;
}

TEST(a_space_with_its_own_flush)
{
    fake_arch_boot(32 * MIB);
    struct address_space s = second_stage();
    s.flush = own_flush_looks;
    looked_at = &s;
    flush_calls = own_calls = live_at_flush = 0;
    mm_set_tlb_flush(flush_looks);
    s2_format.break_before_make = true;
    CHECK_EQ(map_range(&s, va(0), pa(0), 2 * MIB, RW), 0);
    CHECK_EQ(own_calls, 0);                                /* nothing was there before */
    unmap_range(&s, va(MIB), 4 * KIB);
    CHECK(own_calls == 2 && live_at_flush == 0);
    CHECK_EQ(protect_range(&s, va(0), 4 * KIB, MAP_READ), 0);
    CHECK(own_calls == 4 && live_at_flush == 1);
    CHECK_EQ(flush_calls, 0);
    s2_format.break_before_make = false;
    mm_set_tlb_flush(NULL);
}

/* ---- the fake machine really maps ---- */

static void write_to(void *p) { *(volatile uint64_t *)p = 1; }

TEST(mappings_alias_and_protect)
{
    fake_arch_boot(32 * MIB);
    paddr_t p = page_alloc_zeroed(0);
    uint64_t v = ARCH_VMAP_BASE + GIB;
    volatile uint64_t *direct = arch_phys_to_virt(p), *first = (void *)v, *second = (void *)(v + PAGE_BYTES);
    CHECK_EQ(map_range(&kernel_space, va(v), p, PAGE_BYTES, RW), 0);
    CHECK_EQ(map_range(&kernel_space, va(v + PAGE_BYTES), p, PAGE_BYTES, MAP_READ), 0);
    *direct = 0x1234;
    CHECK(*first == 0x1234 && *second == 0x1234);
    *first = 0x5678;
    CHECK(*direct == 0x5678 && *second == 0x5678 && *(uint64_t *)fake_phys(p.v) == 0x5678);
    CHECK_EQ(fake_run_child(write_to, (void *)first), FAKE_RETURNED);
    CHECK_FAULTS(write_to, (void *)second);
    unmap_range(&kernel_space, va(v), PAGE_BYTES);
    CHECK_FAULTS(write_to, (void *)first);
    CHECK_FAULTS(write_to, arch_phys_to_virt(pa(2 * GIB)));       /* not RAM: not in the map */
    CHECK_EQ(mm_virt_to_phys((void *)second).v, p.v);
    CHECK_EQ(mm_virt_to_phys((char *)direct + 5).v, p.v + 5);
}

TEST_MAIN()
