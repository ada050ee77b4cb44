/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Page frames behind the spans of one request.
 *
 * Memory in the direct map is physically contiguous as it stands, so a span there costs one subtraction and then one
 * store per frame. Other addresses (image, vmap) are looked up per mapped block, never per page of a large block. The
 * host gets one run of bytes: offset into the first page, then whole pages; so spans must meet at page boundaries.
 */
#include "hv/dma.h"

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

/* Not inlined: the registers it needs would be saved on the short way, too. */
static __attribute__((noinline)) int map_spans(struct dma_mapping *m, const struct dma_span *spans, unsigned count,
                                               uint64_t *frames, unsigned max)
{
    struct frame_list list = {frames, 0, max};
    uint64_t total = 0;

    if (!count)
        return -E_INVAL;
    for (unsigned i = 0; i < count; i++) {
        vaddr_t at = va_of(spans[i].addr);
        uint64_t bytes = spans[i].bytes;

        if (!bytes || (i > 0 && (at.v & PAGE_MASK)) || (i + 1 < count && ((at.v + bytes) & PAGE_MASK)))
            return -E_INVAL;
        if (arch_virt_in_direct_map(at) ? !append_extent(&list, arch_direct_to_phys(at).v, bytes)
                                        : !append_mapped(&list, at, bytes))
            return -E_INVAL;
        total += bytes;
    }
    if (total > UINT32_MAX)
        return -E_INVAL;
    m->offset = (uint32_t)(va_of(spans[0].addr).v & PAGE_MASK);
    m->bytes = (uint32_t)total;
    m->frames = list.count;
    m->bounce = NULL;
    return 0;
}

int dma_map(struct dma_mapping *m, const struct dma_span *spans, unsigned count, enum dma_direction dir UNUSED,
            uint64_t *frames, unsigned max)
{
    return count == 1 && map_one(m, spans, frames, max) ? 0 : map_spans(m, spans, count, frames, max);
}

/* The host used the caller's own pages: nothing to copy, nothing to return. */
void dma_unmap(struct dma_mapping *m, const struct dma_span *spans UNUSED, unsigned count UNUSED,
               enum dma_direction dir UNUSED)
{
    KASSERT(!m->bounce);
}
