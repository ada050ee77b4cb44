/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Page frames behind the spans of one request.
 *
 * Memory in the direct map is physically contiguous as it stands, so a span there costs one subtraction and then one
 * store per frame. Other addresses (image, vmap) are looked up per mapped block, never per page of a large block. The
 * host gets one run of bytes: offset into the first page, then whole pages; so spans must meet at page boundaries.
 *
 * In an isolated machine the frames are those of the bounce pool, and the bytes lie in them as they would in the
 * caller's pages: from the same offset on. They are copied run by run, whatever pages they cross.
 */
#include <string.h>
#include "hv/bounce.h"

#define UNLIKELY(c) __builtin_expect(!!(c), 0)

struct frame_list {
    uint64_t *frames;
    uint32_t count, max;
};

/* Appends the frames of a physically contiguous run that starts inside its first page. */
static bool append_extent(struct frame_list *list, uint64_t physical, uint64_t bytes)
{
    uint64_t frame = physical >> PAGE_SHIFT;
    uint64_t n = ((physical & PAGE_MASK) + bytes + PAGE_MASK) >> PAGE_SHIFT;

    if (n > list->max - list->count)
        return false;
    for (uint64_t i = 0; i < n; i++)
        list->frames[list->count++] = frame + i;
    return true;
}

/* The common request, one span of the direct map, without any of the general case's bookkeeping. */
static inline bool map_one(struct dma_mapping *m, const struct dma_span *span, uint64_t *frames, unsigned max)
{
    vaddr_t at = va_of(span->addr);
    uint32_t offset = (uint32_t)(at.v & PAGE_MASK), bytes = span->bytes;
    uint64_t n = ((uint64_t)offset + bytes + PAGE_MASK) >> PAGE_SHIFT;

    if (!arch_virt_in_direct_map(at) || n > max || !bytes)
        return false;
    uint64_t frame = arch_direct_to_phys(at).v >> PAGE_SHIFT;
    for (uint64_t i = 0; i < n; i++)
        frames[i] = frame + i;
    *m = (struct dma_mapping){.offset = offset, .bytes = bytes, .frames = (uint32_t)n};
    return true;
}

static bool append_mapped(struct frame_list *list, vaddr_t at, uint64_t bytes)
{
    while (bytes) {
        paddr_t physical;
        unsigned attributes, level;

        if (!map_lookup(&kernel_space, at, &physical, &attributes, &level))
            return false;
        uint64_t block = PAGE_BYTES << (9 * level);
        uint64_t run = MIN(bytes, block - (at.v & (block - 1)));
        if (!append_extent(list, physical.v, run))
            return false;
        at = va_add(at, run);
        bytes -= run;
    }
    return true;
}

/* The rule for spans, and how long they are together. */
static int check_spans(const struct dma_span *spans, unsigned count, uint32_t *total_bytes)
{
    uint64_t total = 0;

    for (unsigned i = 0; i < count; i++) {
        uint64_t start = va_of(spans[i].addr).v, bytes = spans[i].bytes;

        if (!bytes || (i > 0 && (start & PAGE_MASK)) || (i + 1 < count && ((start + bytes) & PAGE_MASK)))
            return -E_INVAL;
        total += bytes;
    }
    *total_bytes = (uint32_t)total;
    return total && total <= UINT32_MAX ? 0 : -E_INVAL;
}

static int map_spans(struct dma_mapping *m, const struct dma_span *spans, unsigned count, uint64_t *frames,
                     unsigned max)
{
    struct frame_list list = {frames, 0, max};
    int e = check_spans(spans, count, &m->bytes);

    if (e)
        return e;
    for (unsigned i = 0; i < count; i++) {
        vaddr_t at = va_of(spans[i].addr);
        if (arch_virt_in_direct_map(at) ? !append_extent(&list, arch_direct_to_phys(at).v, spans[i].bytes)
                                        : !append_mapped(&list, at, spans[i].bytes))
            return -E_INVAL;
    }
    m->offset = (uint32_t)(va_of(spans[0].addr).v & PAGE_MASK);
    m->frames = list.count;
    m->bounce = NULL;
    return 0;
}

/* ---- the isolated machine ---- */

/* Between the spans and the run of bytes that begins at the mapping's offset, however both are cut. */
static __attribute__((noinline)) void copy_cut(const struct dma_mapping *m, const struct dma_span *spans,
                                               unsigned count, bool to_host)
{
    const struct bounce_extent *e = m->bounce;
    size_t at = m->offset, left = e->pages * PAGE_BYTES - at;

    for (unsigned i = 0; i < count; i++) {
        char *span = va_ptr(va_of(spans[i].addr));
        for (size_t bytes = spans[i].bytes, some; bytes > 0; bytes -= some, left -= some, span += some, at += some) {
            if (left == 0) {
                e = e->next;
                KASSERT(e);
                at = 0;
                left = e->pages * PAGE_BYTES;
            }
            some = MIN(bytes, left);
            if (to_host)
                memcpy(e->virt + at, span, some);
            else
                memcpy(span, e->virt + at, some);
        }
        dma_stats.bounced_bytes += spans[i].bytes;
    }
}

static void copy(const struct dma_mapping *m, const struct dma_span *spans, unsigned count, bool to_host)
{
    const struct bounce_extent *e = m->bounce;

    if (count != 1 || e->next) {
        copy_cut(m, spans, count, to_host);
        return;
    }
    KASSERT(spans->bytes <= m->bytes);
    if (to_host)
        memcpy(e->virt + m->offset, spans->addr, spans->bytes);
    else
        memcpy(va_ptr(va_of(spans->addr)), e->virt + m->offset, spans->bytes);
    dma_stats.bounced_bytes += spans->bytes;
}

static int bounce(struct dma_mapping *m, const struct dma_span *spans, unsigned count, bool to_host, uint64_t *frames,
                  unsigned max)
{
    uint64_t pages = ((uint64_t)m->offset + m->bytes + PAGE_MASK) >> PAGE_SHIFT;

    if (pages > max || pages > DMA_BOUNCE_PAGES_MOST)
        return -E_INVAL;
    m->bounce = bounce_alloc(pages);
    if (!m->bounce)
        return -E_AGAIN;
    m->frames = (uint32_t)pages;
    for (const struct bounce_extent *e = m->bounce; e; e = e->next) {
        for (unsigned i = 0; i < e->pages; i++)
            *frames++ = e->frames[i];
    }
    if (to_host)
        copy(m, spans, count, true);
    dma_stats.bounced++;
    return 0;
}

static int bounce_spans(struct dma_mapping *m, const struct dma_span *spans, unsigned count, enum dma_direction dir,
                        uint64_t *frames, unsigned max)
{
    int e = check_spans(spans, count, &m->bytes);

    m->bounce = NULL;
    if (e)
        return e;
    m->offset = (uint32_t)(va_of(spans[0].addr).v & PAGE_MASK);
    return bounce(m, spans, count, dir & DMA_TO_DEVICE, frames, max);
}

bool dma_copies(void) { return bounce_active; }

int dma_gather(struct dma_mapping *m, const struct dma_span *pieces, unsigned count, uint64_t *frames, unsigned max)
{
    uint64_t total = 0;

    KASSERT(bounce_active);
    for (unsigned i = 0; i < count; i++)
        total += pieces[i].bytes;
    *m = (struct dma_mapping){.bytes = (uint32_t)total};
    if (!total || total > UINT32_MAX)
        return -E_INVAL;
    return bounce(m, pieces, count, true, frames, max);
}

/* ---- the interface ---- */

/* Not inlined: the registers it needs would be saved on the short way, too. */
static __attribute__((noinline)) int map_general(struct dma_mapping *m, const struct dma_span *spans, unsigned count,
                                                 enum dma_direction dir, uint64_t *frames, unsigned max)
{
    return bounce_active ? bounce_spans(m, spans, count, dir, frames, max) : map_spans(m, spans, count, frames, max);
}

int dma_map(struct dma_mapping *m, const struct dma_span *spans, unsigned count, enum dma_direction dir,
            uint64_t *frames, unsigned max)
{
    if (count == 1 && !UNLIKELY(bounce_active) && map_one(m, spans, frames, max))
        return 0;
    return map_general(m, spans, count, dir, frames, max);
}

void dma_unmap(struct dma_mapping *m, const struct dma_span *spans, unsigned count, enum dma_direction dir)
{
    if (!m->bounce)
        return;                        /* the host used the caller's own pages */
    if (dir & DMA_FROM_DEVICE)
        copy(m, spans, count, false);
    bounce_free(m->bounce);
    m->bounce = NULL;
}
