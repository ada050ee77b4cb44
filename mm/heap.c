/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The heap: small objects from one-page slabs of one size class each, everything else in whole pages.
 *
 * A pointer tells by itself where it came from. Small objects are never page aligned, because each slab page begins
 * with its header; large ones always are: a run of pages in the direct map, whose length the page allocator knows, or,
 * when no contiguous run is free, a mapping in the vmap region, which ends at its guard page. So kfree needs no size
 * and no look-up structure. The header's bitmap of free objects makes a double free, or a free of something that isn't
 * the start of an object, an assertion.
 */
#define LOG_ROOM "mm"
#include "mm/internal.h"
#include <string.h>
#include "lib/list.h"
#include "mm/poison.h"

#define SLAB_MAGIC        0x534c4142u      /* "SLAB" */
#define SLAB_HEADER_BYTES 64u
#define SLAB_BYTES        ((unsigned)PAGE_BYTES - SLAB_HEADER_BYTES)
#define SMALL_MAX         2016u
#define GRAIN             16u              /* alignment of every object */

/* Multiples of GRAIN; from 256 on chosen so that a whole number of them fills the page behind the header. */
static const uint16_t class_bytes[] = {16, 32, 48, 64, 96, 128, 192, 256, 336, 448, 576, 672, 800, 1008, 1344, 2016};
#define CLASSES ARRAY_SIZE(class_bytes)

struct slab {
    struct list node;              /* on partial[class] while an object is free */
    uint64_t free[4];              /* bit i: object i is free */
    uint32_t magic;
    uint16_t in_use;
    uint16_t class;
};
_Static_assert(sizeof(struct slab) <= SLAB_HEADER_BYTES, "objects begin behind the header");
_Static_assert(SLAB_BYTES / GRAIN <= 256, "the bitmap has a bit for each of the smallest objects");

static struct list partial[CLASSES];
static uint8_t class_of_grains[SMALL_MAX / GRAIN + 1];
static uint64_t used_bytes;

uint64_t heap_bytes(void) { return used_bytes; }

void heap_init(void)
{
    unsigned class = 0;
    for (unsigned grains = 0; grains < ARRAY_SIZE(class_of_grains); grains++) {
        if (grains * GRAIN > class_bytes[class])
            class++;
        class_of_grains[grains] = (uint8_t)class;
    }
    for (unsigned i = 0; i < CLASSES; i++)
        list_init(&partial[i]);
    used_bytes = 0;
}

/* ---- small objects ---- */

static char *slab_object(struct slab *s, unsigned index)
{
    return (char *)s + SLAB_HEADER_BYTES + index * class_bytes[s->class];
}

static struct slab *slab_create(unsigned class)
{
    paddr_t page = page_alloc(0);
    if (pa_is_none(page))
        return NULL;
    struct slab *s = arch_phys_to_virt(page);
    *s = (struct slab){.magic = SLAB_MAGIC, .class = (uint16_t)class};
    for (unsigned i = 0, n = SLAB_BYTES / class_bytes[class]; i < n; i++)
        s->free[i / 64] |= BIT(i % 64);
    mem_poison((char *)s + SLAB_HEADER_BYTES, SLAB_BYTES);
    list_push_front(&partial[class], &s->node);
    return s;
}

static void slab_destroy(struct slab *s)
{
    list_remove(&s->node);
    s->magic = 0;
    mem_unpoison(s, PAGE_BYTES);
    page_free(arch_direct_to_phys(va_of(s)), 0);
}

static void *small_alloc(size_t bytes)
{
    unsigned class = class_of_grains[DIV_UP(bytes + POISON_REDZONE_BYTES, GRAIN)], word = 0;
    struct slab *s = list_empty(&partial[class]) ? slab_create(class)
                                                 : list_entry(partial[class].next, struct slab, node);
    if (!s)
        return NULL;
    while (s->free[word] == 0)
        word++;
    unsigned index = word * 64 + (unsigned)__builtin_ctzll(s->free[word]);
    s->free[word] &= s->free[word] - 1;
    s->in_use++;
    if ((s->free[0] | s->free[1] | s->free[2] | s->free[3]) == 0)
        list_remove(&s->node);
    used_bytes += class_bytes[class];
    void *object = slab_object(s, index);
    mem_unpoison(object, bytes);
    return object;
}

static void small_free(void *p)
{
    struct slab *s = (struct slab *)((uintptr_t)p & ~(uintptr_t)PAGE_MASK);
    if (s->magic != SLAB_MAGIC || s->class >= CLASSES)
        panic("kfree: %p is not from kmalloc", p);
    unsigned bytes = class_bytes[s->class];
    unsigned offset = (unsigned)((char *)p - (char *)s) - SLAB_HEADER_BYTES, index = offset / bytes;
    if ((uintptr_t)p % PAGE_BYTES < SLAB_HEADER_BYTES || index * bytes != offset || index >= SLAB_BYTES / bytes)
        panic("kfree: %p is not the start of an object (class %u bytes)", p, bytes);
    if (s->free[index / 64] & BIT(index % 64))
        panic("kfree: %p (class %u bytes) is free already", p, bytes);
    if ((s->free[0] | s->free[1] | s->free[2] | s->free[3]) == 0)
        list_push_front(&partial[s->class], &s->node);
    s->free[index / 64] |= BIT(index % 64);
    used_bytes -= bytes;
    mem_poison(p, bytes);
    /* One empty slab per class stays, so that alloc and free in turn don't go to the page allocator each time. */
    if (--s->in_use == 0 && partial[s->class].next != partial[s->class].prev)
        slab_destroy(s);
}

void heap_trim(void)
{
    for (unsigned i = 0; i < CLASSES; i++) {
        list_for_each_safe(node, &partial[i]) {
            struct slab *s = list_entry(node, struct slab, node);
            if (s->in_use == 0)
                slab_destroy(s);
        }
    }
}

/* ---- whole pages ---- */

static void *large_alloc(size_t bytes)
{
    size_t n = bytes / PAGE_BYTES + (bytes % PAGE_BYTES != 0);
    void *p = NULL;
    if (n > pages_available())
        return NULL;
    paddr_t run = page_alloc_run(n);
    if (!pa_is_none(run)) {
        used_bytes += n * PAGE_BYTES;
        return arch_phys_to_virt(run);
    }
    /* One page that isn't there won't be there in a list either. */
    if (n <= 1)
        return NULL;
    paddr_t *pages = kmalloc(n * sizeof(*pages));
    if (pages && pages_alloc_list(pages, n) == 0) {
        p = vmap_pages(pages, n, MAP_READ | MAP_WRITE);
        if (p)
            used_bytes += n * PAGE_BYTES;
        else
            pages_free_list(pages, n);
    }
    kfree(pages);
    return p;
}

/* A mapping of ours ends at its guard page. Unmapped first, then freed: piece by piece, because the list of pages is
 * not kept; the chain goes through the pages' own first bytes. */
static void mapped_free(char *p)
{
    size_t n = 0;
    paddr_t page, chain = PADDR_NONE;
    while (map_lookup(&kernel_space, va_of(p + n * PAGE_BYTES), &page, NULL, NULL)) {
        *(paddr_t *)arch_phys_to_virt(page) = chain;
        chain = page;
        n++;
    }
    if (n == 0)
        panic("kfree: %p is not from kmalloc", (void *)p);
    vunmap_pages(p, n);
    used_bytes -= n * PAGE_BYTES;
    while (!pa_is_none(chain)) {
        page = chain;
        chain = *(paddr_t *)arch_phys_to_virt(page);
        page_free(page, 0);
    }
}

/* ---- the interface ---- */

void *kmalloc(size_t bytes)
{
    if (mm_should_fail())
        return NULL;
    if (bytes == 0)
        bytes = 1;
    return bytes <= SMALL_MAX - POISON_REDZONE_BYTES ? small_alloc(bytes) : large_alloc(bytes);
}

void *kzalloc(size_t bytes)
{
    void *p = kmalloc(bytes);
    return p ? memset(p, 0, bytes) : NULL;
}

void *kcalloc(size_t n, size_t bytes)
{
    size_t total;
    return __builtin_mul_overflow(n, bytes, &total) ? NULL : kzalloc(total);
}

void kfree(void *p)
{
    vaddr_t address = va_of(p);
    if (!p)
        return;
    if (!IS_ALIGNED(address.v, PAGE_BYTES)) {
        if (!arch_virt_in_direct_map(address))
            panic("kfree: %p is not from kmalloc", p);
        small_free(p);
    } else if (in_vmap_region(address.v)) {
        mapped_free(p);
    } else {
        if (!arch_virt_in_direct_map(address) || page_run_pages(arch_direct_to_phys(address)) == 0)
            panic("kfree: %p is not from kmalloc, or free already", p);
        used_bytes -= page_free_run(arch_direct_to_phys(address)) * PAGE_BYTES;
    }
}
