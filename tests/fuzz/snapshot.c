/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Sets a machine back to how it was: thousands of times a second, without a new process.
 *
 * A machine is, in order of being set back:
 *
 *   variables    of the guest's rooms, the fake architecture, the model and the target. Their objects were given section
 *                names of their own (fuzz.mk), so that they are two blocks; this file's, watch.c's, the sanitizers' and
 *                libFuzzer's own are elsewhere and go on
 *   the arena    the model's heap, up to where it reached
 *   memory       pages that were in use and had been written when the snapshot was taken. What free memory holds is
 *                nobody's business. Of these three only what was ever written since (watch.c)
 *   mappings     in the vmap region: those that changed are realised again from the page tables, now the old ones
 *   marks        of the address sanitizer: on memory where somebody poisoned or unpoisoned since, on stacks and whatever
 *                else was mapped in the vmap region
 *
 * Not set back: the direct map's protection and isolation's sides; a target that changes those must undo it itself.
 *
 * Built without any sanitizer: it copies what lies between objects, too.
 */
#define _GNU_SOURCE
#include "tests/fuzz/snapshot.h"
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
#include "lib/list.h"
#include "mm/internal.h"
#include "tests/fake_arch/internal.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/watch.h"

#define ARENA_BYTES (64u << 20)

extern char __start_guest_data[], __stop_guest_data[], __start_guest_bss[], __stop_guest_bss[];
void __asan_get_shadow_mapping(size_t *scale, size_t *offset);
void __real___asan_poison_memory_region(const volatile void *start, size_t bytes);
void __real___asan_unpoison_memory_region(const volatile void *start, size_t bytes);
void __wrap___asan_poison_memory_region(const volatile void *start, size_t bytes);
void __wrap___asan_unpoison_memory_region(const volatile void *start, size_t bytes);

/* A piece of memory and what it held. */
struct piece { char *at, *saved; size_t bytes; };

static struct piece *pieces;
static size_t piece_count, piece_room, first_mark;   /* from first_mark on: marks of the vmap region */
static size_t shadow_scale, shadow_offset;
static char *arena;
static size_t arena_used, arena_at_snapshot;

/* Direct map: the marks as they were, and the pages whose marks somebody changed since. */
static char *marks_saved;
static uint32_t *marked;
static size_t marked_count;
static bool *is_marked;

static void *must(void *p)
{
    if (!p || p == MAP_FAILED) {
        perror("fuzz: memory");
        abort();
    }
    return p;
}

void *snapshot_fresh(size_t bytes)
{
    return must(mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
}

/* Not memcpy, which the sanitizer has replaced by one that looks at marks. */
void snapshot_copy(char *to, const char *from, size_t bytes)
{
    uint64_t *t = (void *)to;
    const uint64_t *f = (const void *)from;
    size_t words = bytes / 8;

    for (size_t i = 0; i < words; i++)
        t[i] = f[i];
    for (size_t i = words * 8; i < bytes; i++)
        to[i] = from[i];
}

static char *shadow_of(uint64_t address) { return (char *)((address >> shadow_scale) + shadow_offset); }

void snapshot_remember(char *at, size_t bytes)
{
    if (bytes == 0)
        return;
    if (piece_count == piece_room) {
        piece_room = piece_room ? 2 * piece_room : 1024;
        pieces = must(realloc(pieces, piece_room * sizeof(*pieces)));
    }
    struct piece *p = &pieces[piece_count++];
    *p = (struct piece){at, snapshot_fresh(bytes), bytes};
    snapshot_copy(p->saved, at, bytes);
}

/* ---- marks ---- */

static void note_marks(uint64_t start, size_t bytes)
{
    uint64_t first = (start - ARCH_DIRECT_BASE) >> PAGE_SHIFT;
    uint64_t last = (start + bytes - 1 - ARCH_DIRECT_BASE) >> PAGE_SHIFT;

    if (!marks_saved || start - ARCH_DIRECT_BASE >= RAM_LOOKED || bytes == 0)
        return;
    for (uint64_t page = first; page <= last && page < RAM_LOOKED >> PAGE_SHIFT; page++) {
        if (is_marked[page])
            continue;
        is_marked[page] = true;
        marked[marked_count++] = (uint32_t)page;
    }
}

void __wrap___asan_poison_memory_region(const volatile void *start, size_t bytes)
{
    note_marks((uint64_t)start, bytes);
    __real___asan_poison_memory_region(start, bytes);
}

void __wrap___asan_unpoison_memory_region(const volatile void *start, size_t bytes)
{
    note_marks((uint64_t)start, bytes);
    __real___asan_unpoison_memory_region(start, bytes);
}

/* ---- the model's heap: size classes, never given back ---- */

struct block { struct block *next; size_t class; };
#define CLASSES 26
static struct block *free_blocks[CLASSES], *free_at_snapshot[CLASSES];

void *arena_calloc(size_t count, size_t bytes)
{
    size_t class = 4, total;
    if (__builtin_mul_overflow(count, bytes, &total))
        return NULL;
    while (class < CLASSES && ((size_t)1 << class) < total)
        class++;
    if (class == CLASSES)
        return NULL;
    if (!arena)
        arena = snapshot_fresh(ARENA_BYTES);
    struct block *b = free_blocks[class];
    size_t step = sizeof(*b) + ((size_t)1 << class);
    if (b) {
        free_blocks[class] = b->next;
    } else {
        if (step > ARENA_BYTES - arena_used)
            return NULL;
        b = (void *)(arena + arena_used);
        arena_used += step;
    }
    b->class = class;
    char *p = (char *)(b + 1);
    __real___asan_unpoison_memory_region(p, total);
    for (size_t i = 0; i < (total + 7) / 8; i++)
        ((uint64_t *)(void *)p)[i] = 0;
    return p;
}

void arena_free(void *p)
{
    struct block *b = (struct block *)p - 1;
    if (!p)
        return;
    b->next = free_blocks[b->class];
    free_blocks[b->class] = b;
}

/* ---- taking ---- */

/* ---- what need not be remembered ---- */

static uint8_t unused[RAM_LOOKED >> PAGE_SHIFT];
void (*snapshot_prepare)(void);

void snapshot_unused(const void *start, size_t bytes)
{
    for (size_t at = 0; at < bytes; at += PAGE_BYTES) {
        paddr_t p;
        if (map_lookup(&kernel_space, va_of((const char *)start + at), &p, NULL, NULL) && p.v < RAM_LOOKED)
            unused[p.v >> PAGE_SHIFT] = 1;
    }
}

/* Pages from one that begins a block, or from the zone's own: how many are alike, and whether they are free. */
static uint64_t block_at(uint64_t page, bool *is_free)
{
    uint64_t count;
    const uint8_t *state = page_states(page, &count);

    *is_free = state && (*state & FREE);
    return state && (*state & (FREE | USED)) ? 1ull << (*state & 31) : 1;
}

static bool holds_data(uint64_t page)
{
    off_t at = (off_t)(page << PAGE_SHIFT);
    return lseek(fake_memory_file(), at, SEEK_DATA) == at;
}

/* Of a free block only what the page allocator keeps in it. Outside of RAM, pages that were never written hold nothing. */
static void remember_memory(void)
{
    uint64_t block_end = 0, count;
    bool is_free = false;

    for (uint64_t page = 0; page < RAM_LOOKED >> PAGE_SHIFT; page++) {
        if (page >= block_end) {
            block_end = page + block_at(page, &is_free);
            if (is_free)
                snapshot_remember(fake_phys(page << PAGE_SHIFT), sizeof(struct list));
        }
        if (!is_free && !unused[page] && (page_states(page, &count) || holds_data(page)))
            watch_page(page);
    }
}

static void remember_vmap_marks(void)
{
    for (uint64_t page = 0; page < VMAP_LOOKED; page++) {
        uint64_t address = ARCH_VMAP_BASE + (page << PAGE_SHIFT);
        paddr_t p;
        if (map_lookup(&kernel_space, va(address), &p, NULL, NULL) && !(p.v < RAM_LOOKED && unused[p.v >> PAGE_SHIFT]))
            snapshot_remember(shadow_of(address), PAGE_BYTES >> shadow_scale);
    }
}

void snapshot_take(void)
{
    const uint32_t *changed;
    size_t marks = RAM_LOOKED >> 3;

    __builtin_memset(unused, 0, sizeof(unused));
    if (snapshot_prepare)
        snapshot_prepare();
    __asan_get_shadow_mapping(&shadow_scale, &shadow_offset);
    marked = snapshot_fresh((RAM_LOOKED >> PAGE_SHIFT) * sizeof(*marked));
    is_marked = snapshot_fresh(RAM_LOOKED >> PAGE_SHIFT);
    fake_mappings_changed(&changed);
    watch_begin();
    watch_variables(__start_guest_data, (size_t)(__stop_guest_data - __start_guest_data));
    watch_variables(__start_guest_bss, (size_t)(__stop_guest_bss - __start_guest_bss));
    if (arena)
        watch_variables(arena, arena_used);
    arena_at_snapshot = arena_used;
    for (unsigned i = 0; i < CLASSES; i++)
        free_at_snapshot[i] = free_blocks[i];
    remember_memory();
    first_mark = piece_count;
    remember_vmap_marks();
    marks_saved = snapshot_fresh(marks);
    snapshot_copy(marks_saved, shadow_of(ARCH_DIRECT_BASE), marks);
    if (getenv("FUZZ_VERBOSE")) {
        size_t total = watch_bytes();
        for (size_t i = 0; i < piece_count; i++) {
            total += pieces[i].bytes;
            if (pieces[i].bytes > 65536)
                fprintf(stderr, "fuzz: %zu bytes at %p\n", pieces[i].bytes, (void *)pieces[i].at);
        }
        fprintf(stderr, "fuzz: a machine of %zu bytes in %zu pieces\n", total, piece_count);
    }
    watch_close();
}

/* ---- setting back ---- */

static void set_back(const struct piece *p, size_t count)
{
    for (size_t i = 0; i < count; i++)
        snapshot_copy(p[i].at, p[i].saved, p[i].bytes);
}

void snapshot_restore(void)
{
    const uint32_t *changed;
    unsigned count = fake_mappings_changed(&changed);

    set_back(pieces, first_mark);
    watch_set_back();
    arena_used = arena_at_snapshot;
    for (unsigned i = 0; i < CLASSES; i++)
        free_blocks[i] = free_at_snapshot[i];
    for (unsigned i = 0, run; i < count; i += run) {
        for (run = 1; i + run < count && changed[i + run] == changed[i] + run; run++)
            ;
        arch_pt_sync(va(ARCH_VMAP_BASE + ((uint64_t)changed[i] << PAGE_SHIFT)), run * PAGE_BYTES);
    }
    fake_mappings_changed(&changed);
    set_back(pieces + first_mark, piece_count - first_mark);
    for (size_t i = 0; i < marked_count; i++) {
        size_t at = ((size_t)marked[i] << PAGE_SHIFT) >> 3;
        snapshot_copy(shadow_of(ARCH_DIRECT_BASE) + at, marks_saved + at, PAGE_BYTES >> 3);
        is_marked[marked[i]] = false;
    }
    marked_count = 0;
}
