/* SPDX-License-Identifier: BSD-2-Clause */
/* ROOMS: lib mm rt fake_arch */
/* Virtual ranges, stacks and the heap. */
#include "mm/internal.h"
#include "mm/poison.h"
#include "tests/fake_arch/fake_arch.h"
#include "tests/unit/test.h"

#define MIB (1ull << 20)
#define GIB (1ull << 30)
#define RW  (MAP_READ | MAP_WRITE)

static uint64_t seed = 3;
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

/* Everything that was there before is there again. */
static bool same(struct mm_stats a, struct mm_stats b)
{
    return a.free_pages == b.free_pages && a.table_pages == b.table_pages && a.heap_bytes == b.heap_bytes &&
           a.vmap_bytes == b.vmap_bytes;
}

static void write_to(void *p) { *(volatile uint8_t *)p = 1; }

/* ---- ranges ---- */

TEST(ranges_are_aligned_and_disjoint)
{
    enum { SLOTS = 300 };
    static struct { uint64_t start, bytes; } slot[SLOTS];
    fake_arch_boot(32 * MIB);
    struct mm_stats before = stats();
    for (unsigned round = 0; round < 30000; round++) {
        unsigned i = (unsigned)rnd(SLOTS);
        if (slot[i].start) {
            vmap_release(va(slot[i].start), slot[i].bytes);
            slot[i].start = 0;
            continue;
        }
        uint64_t align = PAGE_BYTES << rnd(12), offset = rnd(4) ? 0 : ALIGN_DOWN(rnd(align), PAGE_BYTES);
        slot[i].bytes = (1 + rnd(64)) * PAGE_BYTES << rnd(8);
        slot[i].start = vmap_reserve_at(slot[i].bytes, align, offset).v;
        CHECK(slot[i].start != 0 && (slot[i].start & (align - 1)) == offset);
        CHECK(in_vmap_region(slot[i].start) && in_vmap_region(slot[i].start + slot[i].bytes - 1));
        for (unsigned j = 0; j < SLOTS; j++)
            CHECK(j == i || slot[j].start == 0 || slot[j].start + slot[j].bytes <= slot[i].start ||
                  slot[i].start + slot[i].bytes <= slot[j].start);
    }
    for (unsigned i = 0; i < SLOTS; i++)
        if (slot[i].start)
            vmap_release(va(slot[i].start), slot[i].bytes);
    CHECK(same(stats(), before));
    vaddr_t all = vmap_reserve(ARCH_VMAP_BYTES, 0);        /* one range again */
    CHECK_EQ(all.v, ARCH_VMAP_BASE);
    CHECK_EQ(vmap_reserve(PAGE_BYTES, 0).v, 0);
    vmap_release(all, ARCH_VMAP_BYTES);
    CHECK(same(stats(), before));
}

/* Ten thousands of live ranges, every second one freed: the holes are found again, not skipped. */
TEST(ranges_do_not_fragment)
{
    enum { N = 40000 };
    static uint64_t start[N];
    fake_arch_boot(64 * MIB);
    struct mm_stats before = stats();
    for (unsigned i = 0; i < N; i++)
        CHECK((start[i] = vmap_reserve(4 * PAGE_BYTES, 0).v) != 0);
    uint64_t end = start[N - 1];
    for (unsigned i = 0; i < N; i += 2)
        vmap_release(va(start[i]), 4 * PAGE_BYTES);
    for (unsigned i = 0; i < N; i += 2)
        CHECK((start[i] = vmap_reserve(4 * PAGE_BYTES, 0).v) != 0 && start[i] <= end);
    for (unsigned i = 0; i < N; i++)
        vmap_release(va(start[i]), 4 * PAGE_BYTES);
    CHECK(same(stats(), before));
}

static void release_twice(void *arg)
{
    vmap_release(va((uint64_t)arg), PAGE_BYTES);
    vmap_release(va((uint64_t)arg), PAGE_BYTES);
}

TEST(release_twice_panics)
{
    fake_arch_boot(16 * MIB);
    CHECK_PANICS(release_twice, (void *)vmap_reserve(PAGE_BYTES, 0).v);
}

/* ---- mappings ---- */

TEST(a_ring_maps_its_pages_twice)
{
    static paddr_t pages[3], order[7];
    fake_arch_boot(16 * MIB);
    struct mm_stats before = stats();
    for (unsigned i = 0; i < 3; i++)
        pages[i] = page_alloc_zeroed(0);
    static const uint8_t ring[7] = {0, 1, 2, 1, 2, 1, 2};
    for (unsigned i = 0; i < 7; i++)
        order[i] = pages[ring[i]];
    char *p = vmap_pages(order, 7, RW);
    CHECK(p);
    memcpy(p + 3 * PAGE_BYTES - 4, "12345678", 8);
    arch_fence_ord();          /* the compiler doesn't know that two addresses are one place */
    CHECK(memcmp(p + PAGE_BYTES, "5678", 4) == 0);
    CHECK(memcmp(p + 5 * PAGE_BYTES - 4, "12345678", 8) == 0);
    CHECK_FAULTS(write_to, p - 1);
    CHECK_FAULTS(write_to, p + 7 * PAGE_BYTES);
    CHECK(mm_is_guard(va_of(p - 1)) && mm_is_guard(va_of(p + 7 * PAGE_BYTES)) && !mm_is_guard(va_of(p)));
    vunmap_pages(p, 7);
    pages_free_list(pages, 3);
    CHECK(same(stats(), before));
}

TEST(long_runs_get_blocks)
{
    static paddr_t pages[1024];
    unsigned level;
    fake_arch_boot(64 * MIB);
    paddr_t first = page_alloc(10);
    for (unsigned i = 0; i < 1024; i++)
        pages[i] = pa_add(first, i * PAGE_BYTES);
    void *p = vmap_pages(pages, 1024, RW);
    CHECK(p && map_lookup(&kernel_space, va_of(p), NULL, NULL, &level) && level == 1);
    vunmap_pages(p, 1024);
    page_free(first, 10);
    /* So do physical ranges, whatever their offset. */
    p = mm_map_phys(pa(3 * GIB + 0x1234), 8 * MIB, RW | MAP_DEVICE);
    CHECK(p && (va_of(p).v & (2 * MIB - 1)) == 0x1234);
    CHECK(map_lookup(&kernel_space, va_of((char *)p + 4 * MIB), NULL, NULL, &level) && level == 1);
    mm_unmap_phys(p, 8 * MIB);
}

TEST(physical_ranges_keep_their_offset)
{
    fake_arch_boot(16 * MIB);
    struct mm_stats before = stats();
    uint32_t value = 0x44332211;
    CHECK(fake_memory_add(pa(0xe0000), 2 * PAGE_BYTES));   /* beside what mm was told of */
    memcpy(fake_phys(0xe0ffe), &value, 4);
    value = 0;
    void *p = mm_map_phys(pa(0xe0ffe), 4, MAP_READ);
    CHECK(p);
    memcpy(&value, p, 4);
    CHECK_EQ(value, 0x44332211);
    CHECK_FAULTS(write_to, p);
    CHECK_EQ(mm_virt_to_phys(p).v, 0xe0ffe);
    mm_unmap_phys(p, 4);
    CHECK(!mm_map_phys(pa(0x1000), 0, MAP_READ));
    CHECK(!mm_map_phys(pa(UINT64_MAX - 5), 100, MAP_READ));
    CHECK(!mm_map_phys(pa(0), 2 * ARCH_VMAP_BYTES, MAP_READ));
    CHECK(same(stats(), before));
}

TEST(stacks_have_guards_and_come_back)
{
    fake_arch_boot(16 * MIB);
    struct mm_stats before = stats();
    for (unsigned i = 1; i <= 512; i += 37) {
        char *s = stack_alloc(i * PAGE_BYTES);
        CHECK(s);
        memset(s, (int)i, i * PAGE_BYTES);
        CHECK(mm_is_guard(va_of(s - 1)) && mm_is_guard(va_of(s + i * PAGE_BYTES)));
        if (i == 1) {
            CHECK_FAULTS(write_to, s - 1);
            CHECK_FAULTS(write_to, s + PAGE_BYTES);
        }
        stack_free(s, i * PAGE_BYTES);
    }
    CHECK(same(stats(), before));
}

/* ---- heap ---- */

TEST(objects_do_not_overlap_and_come_back)
{
    enum { SLOTS = 600 };
    static struct { uint8_t *p; size_t bytes; uint8_t fill; } slot[SLOTS];
    fake_arch_boot(64 * MIB);
    struct mm_stats before = stats();
    for (unsigned round = 0; round < 60000; round++) {
        unsigned i = (unsigned)rnd(SLOTS);
        if (slot[i].p) {
            for (size_t k = 0; k < slot[i].bytes; k++)
                CHECK(slot[i].p[k] == slot[i].fill);
            kfree(slot[i].p);
            slot[i].p = NULL;
            continue;
        }
        static const size_t scale[] = {16, 64, 300, 2100, 5000, 70000};
        slot[i].bytes = 1 + rnd(scale[rnd(200) ? rnd(5) : 5]);
        slot[i].fill = (uint8_t)round;
        slot[i].p = kmalloc(slot[i].bytes);
        CHECK(slot[i].p && (uintptr_t)slot[i].p % 16 == 0);
        memset(slot[i].p, slot[i].fill, slot[i].bytes);
    }
    for (unsigned i = 0; i < SLOTS; i++)
        kfree(slot[i].p);
    CHECK(same(stats(), before));
}

TEST(every_small_size)
{
    static void *p[2100];
    fake_arch_boot(32 * MIB);
    struct mm_stats before = stats();
    for (size_t n = 0; n < 2100; n++) {
        p[n] = kzalloc(n);
        CHECK(p[n] && (uintptr_t)p[n] % 16 == 0);
        for (size_t k = 0; k < n; k++)
            CHECK(((char *)p[n])[k] == 0);
        memset(p[n], 0xff, n);
    }
    for (size_t n = 0; n < 2100; n++)
        kfree(p[n]);
    CHECK(same(stats(), before));
    kfree(NULL);
}

TEST(large_objects_without_a_contiguous_run)
{
    static paddr_t odd[16 * 256];
    fake_arch_boot(15 * MIB);
    /* Every second page taken: no two free ones are neighbours. */
    size_t n = stats().free_pages - 32, kept = 0;
    CHECK_EQ(pages_alloc_list(odd, n), 0);
    for (size_t i = 0; i < n; i++) {
        if (odd[i].v / PAGE_BYTES % 2)
            page_free(odd[i], 0);
        else
            odd[kept++] = odd[i];
    }
    struct mm_stats before = stats();
    char *p = kmalloc(3 * MIB + 5);
    CHECK(p && in_vmap_region(va_of(p).v));
    memset(p, 0x5a, 3 * MIB + 5);
    CHECK_EQ(mm_virt_to_phys(p + 2 * MIB + 7).v % PAGE_BYTES, 7);
    kfree(p);
    CHECK(same(stats(), before));
    CHECK(!kmalloc(12 * MIB));
    CHECK(!kmalloc(SIZE_MAX) && !kmalloc(1ull << 62) && !kcalloc(1ull << 33, 1ull << 33));
    CHECK(same(stats(), before));
    pages_free_list(odd, kept);
}

TEST(each_failure_of_the_heap_and_mappings_leaves_nothing)
{
    static paddr_t pages[700];
    static const size_t sizes[] = {24, 2000, 4096, 100000};
    fake_arch_boot(32 * MIB);
    for (unsigned i = 0; i < 700; i++)
        pages[i] = pa((1 + 3 * i % 500) * PAGE_BYTES);
    struct mm_stats before = stats();
    for (unsigned what = 0; what < 7; what++) {
        for (uint64_t n = 1;; n++) {
            void *p;
            mm_fail_nth(n);
            if (what < 4)
                p = kmalloc(sizes[what]);
            else if (what == 4)
                p = vmap_pages(pages, 700, RW);
            else if (what == 5)
                p = stack_alloc(5 * PAGE_BYTES);
            else
                p = mm_map_phys(pa(GIB + 2 * MIB - 4096), 4 * MIB, MAP_READ);
            mm_fail_nth(0);
            CHECK(p || same(stats(), before));
            if (!p)
                continue;
            if (what < 4)
                kfree(p);
            else if (what == 4)
                vunmap_pages(p, 700);
            else if (what == 5)
                stack_free(p, 5 * PAGE_BYTES);
            else
                mm_unmap_phys(p, 4 * MIB);
            CHECK(same(stats(), before));
            CHECK(n > 1 && n < 1000);
            break;
        }
    }
}

/* ---- misuse ---- */

static void free_small_twice(void *p) { kfree(p), kfree(p); }
static void free_inside(void *p) { kfree((char *)p + 16); }
static void free_once(void *p) { kfree(p); }

TEST(misuse_panics)
{
    static char foreign[64] __attribute__((aligned(64)));
    fake_arch_boot(16 * MIB);
    void *keep = kmalloc(40);
    CHECK(keep);
    CHECK_PANICS(free_small_twice, kmalloc(40));
    CHECK_PANICS(free_inside, kmalloc(40));
    CHECK_PANICS(free_small_twice, kmalloc(2 * PAGE_BYTES));
    CHECK_PANICS(free_once, foreign + 16);
    CHECK_PANICS(free_once, arch_phys_to_virt(page_alloc(0)));
    CHECK_PANICS(free_once, (void *)(ARCH_VMAP_BASE + GIB));
}

#ifdef __SANITIZE_ADDRESS__
static void write_after_free(void *p)
{
    kfree(p);
    fclose(stderr);
    write_to((char *)p + 32);      /* a free page's list node, in its first bytes, is in use */
}
static void write_past_end(void *p)
{
    fclose(stderr);
    write_to((char *)p + 40);
}

TEST(sanitizer_sees_heap_misuse)
{
    fake_arch_boot(16 * MIB);
    void *keep = kmalloc(40);
    CHECK(keep);
    CHECK_EQ(fake_run_child(write_past_end, kmalloc(40)), FAKE_FAILED);
    CHECK_EQ(fake_run_child(write_after_free, kmalloc(40)), FAKE_FAILED);
    CHECK_EQ(fake_run_child(write_after_free, kmalloc(4000)), FAKE_FAILED);
}
#endif

TEST_MAIN()
