/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Sets a machine back to how it was: thousands of times a second, without a new process.
 *
 * A machine is, in order of being set back:
 *
 *   variables    of the guest's rooms, the fake architecture, the model and the target. Their objects were given section
 *                names of their own (fuzz.mk), so that they are two blocks; this file's, the sanitizers' and libFuzzer's
 *                own are elsewhere and go on
 *   the arena    the model's heap, up to where it reached
 *   memory       pages that had been written when the snapshot was taken. Others were free then, and what free memory
 *                holds is nobody's business
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
#include "tests/fake_arch/internal.h"
#include "tests/fuzz/fuzz.h"

#define ARENA_BYTES (64u << 20)
#define VMAP_LOOKED (1u << 16)                 /* pages of the vmap region that a machine at rest may use */
#define RAM_LOOKED  (256ull << 20)

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

static void *fresh(size_t bytes)
{
    return must(mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
}

/* Not memcpy, which the sanitizer has replaced by one that looks at marks. */
static void copy(char *to, const char *from, size_t bytes)
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

static void remember(char *at, size_t bytes)
{
    if (piece_count == piece_room) {
        piece_room = piece_room ? 2 * piece_room : 1024;
        pieces = must(realloc(pieces, piece_room * sizeof(*pieces)));
    }
    struct piece *p = &pieces[piece_count++];
    *p = (struct piece){at, fresh(bytes), bytes};
    copy(p->saved, at, bytes);
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
        arena = fresh(ARENA_BYTES);
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

static bool mapped(uint64_t address) { return map_lookup(&kernel_space, va(address), NULL, NULL, NULL); }

static void remember_memory(void)
{
    int file = fake_memory_file();
    off_t at = 0, end;

    while (at < (off_t)RAM_LOOKED && (at = lseek(file, at, SEEK_DATA)) >= 0 && at < (off_t)RAM_LOOKED) {
        end = lseek(file, at, SEEK_HOLE);
        remember(fake_phys((uint64_t)at), (size_t)(end - at));
        at = end;
    }
}

static void remember_vmap_marks(void)
{
    for (uint64_t page = 0; page < VMAP_LOOKED; page++) {
        uint64_t address = ARCH_VMAP_BASE + (page << PAGE_SHIFT);
        if (mapped(address))
            remember(shadow_of(address), PAGE_BYTES >> shadow_scale);
    }
}

void snapshot_take(void)
{
    const uint32_t *changed;
    size_t marks = RAM_LOOKED >> 3;

    __asan_get_shadow_mapping(&shadow_scale, &shadow_offset);
    marked = fresh((RAM_LOOKED >> PAGE_SHIFT) * sizeof(*marked));
    is_marked = fresh(RAM_LOOKED >> PAGE_SHIFT);
    fake_mappings_changed(&changed);
    remember(__start_guest_data, (size_t)(__stop_guest_data - __start_guest_data));
    remember(__start_guest_bss, (size_t)(__stop_guest_bss - __start_guest_bss));
    if (arena)
        remember(arena, arena_used);
    arena_at_snapshot = arena_used;
    for (unsigned i = 0; i < CLASSES; i++)
        free_at_snapshot[i] = free_blocks[i];
    remember_memory();
    first_mark = piece_count;
    remember_vmap_marks();
    marks_saved = fresh(marks);
    copy(marks_saved, shadow_of(ARCH_DIRECT_BASE), marks);
    if (getenv("FUZZ_VERBOSE")) {
        size_t total = 0;
        for (size_t i = 0; i < piece_count; i++) {
            total += pieces[i].bytes;
            if (pieces[i].bytes > 65536)
                fprintf(stderr, "fuzz: %zu bytes at %p\n", pieces[i].bytes, (void *)pieces[i].at);
        }
        fprintf(stderr, "fuzz: a machine of %zu bytes in %zu pieces\n", total, piece_count);
    }
}

/* ---- setting back ---- */

static void set_back(size_t from, size_t to)
{
    for (size_t i = from; i < to; i++)
        copy(pieces[i].at, pieces[i].saved, pieces[i].bytes);
}

void snapshot_restore(void)
{
    const uint32_t *changed;
    unsigned count = fake_mappings_changed(&changed);

    set_back(0, first_mark);
    arena_used = arena_at_snapshot;
    for (unsigned i = 0; i < CLASSES; i++)
        free_blocks[i] = free_at_snapshot[i];
    for (unsigned i = 0; i < count; i++)
        arch_pt_sync(va(ARCH_VMAP_BASE + ((uint64_t)changed[i] << PAGE_SHIFT)), PAGE_BYTES);
    fake_mappings_changed(&changed);
    set_back(first_mark, piece_count);
    for (size_t i = 0; i < marked_count; i++) {
        size_t at = ((size_t)marked[i] << PAGE_SHIFT) >> 3;
        copy(shadow_of(ARCH_DIRECT_BASE) + at, marks_saved + at, PAGE_BYTES >> 3);
        is_marked[marked[i]] = false;
    }
    marked_count = 0;
}
