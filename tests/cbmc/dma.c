/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Offsets of bounced data (hv/dma.c over the extents of hv/bounce.c): for any offset in the page, any cut into up to
 * two spans and any cut of the pool's pages into up to two extents, each byte lies where the host will look for it:
 * as many bytes behind the beginning of the frame list as in the caller's memory behind the beginning of its page.
 *
 * Copies are not made but looked at: each goes on where the one before ended, on both sides, and the first begins in
 * the pool at the offset that the data has in its page.
 */
#include "tests/cbmc/proof.h"
#include <string.h>

static void *checked_copy(void *to, const void *from, size_t bytes);
#include "hv/bounce.h"
/* Smaller than in life, the code being the same. */
#undef DMA_BOUNCE_PAGES_MOST
#define DMA_BOUNCE_PAGES_MOST 4u
#define memcpy checked_copy
#include "hv/dma.c"
#undef memcpy

#define PARTS 2
#define FRAMES_MOST 4u
#define MOST_BYTES  (DMA_BOUNCE_PAGES_MOST * PAGE_BYTES)
/* Spans and extents are addresses without memory, so far apart that none runs into the next. */
#define CALLER(i)   (0x100000000ull + 0x10000000ull * (i))
#define POOL(i)     (0x200000000ull + 0x10000000ull * (i))

bool bounce_active;
struct dma_stats dma_stats;
static struct bounce_extent extent[PARTS];
static uint64_t extent_at[PARTS + 1];  /* bytes of the pool before each */
static struct dma_span span[PARTS];
static uint64_t span_at[PARTS + 1];    /* bytes of data before each */
static unsigned spans, extents;
static uint64_t offset;
static bool to_pool;

void panic(const char *fmt UNUSED, ...) { prove(false, "no panic"); assume(false); }

/* How far data and pool are through: a part, and bytes of it. */
struct place { unsigned part; uint64_t at; };
static struct place mine, lent;

static void step(struct place *p, const void *here, uint64_t first, size_t bytes, const uint64_t *before)
{
    uint64_t left = before[p->part + 1] - before[p->part] - p->at;

    prove((uint64_t)here == first + 0x10000000ull * p->part + p->at, "it goes on where the last step ended");
    prove(bytes <= left, "inside span and extent");
    p->at = bytes == left ? 0 : p->at + bytes;
    p->part += bytes == left;
}

static void *checked_copy(void *to, const void *from, size_t bytes)
{
    prove(bytes > 0 && mine.part < spans && lent.part < extents, "there is something left");
    assume(mine.part < spans && lent.part < extents);
    step(&mine, to_pool ? from : to, CALLER(0), bytes, span_at);
    step(&lent, to_pool ? to : from, POOL(0), bytes, extent_at);
    return to;
}

/* Extents of so many pages together. */
static void any_extents(uint64_t pages)
{
    extents = ANY(unsigned);
    assume(extents >= 1 && extents <= PARTS);
    for (unsigned i = 0; i < PARTS; i++) {
        extent[i].pages = i < extents ? ANY(uint16_t) : 0;
        assume(i >= extents || (extent[i].pages >= 1 && extent[i].pages <= pages));
        extent[i].virt = (char *)POOL(i);
        extent[i].next = i + 1 < extents ? &extent[i + 1] : NULL;
        extent_at[i + 1] = extent_at[i] + extent[i].pages * PAGE_BYTES;
    }
    assume(extent_at[PARTS] == pages * PAGE_BYTES);
}

static uint64_t any_spans(uint64_t bytes_most)
{
    spans = ANY(unsigned);
    assume(spans >= 1 && spans <= PARTS);
    for (unsigned i = 0; i < PARTS; i++) {
        span[i].bytes = i < spans ? ANY(uint32_t) : 0;
        assume(i >= spans || (span[i].bytes >= 1 && span[i].bytes <= bytes_most));
        span[i].addr = (const void *)CALLER(i);
        span_at[i + 1] = span_at[i] + span[i].bytes;
    }
    return span_at[PARTS];
}

static void any_copy(bool to_host)
{
    struct dma_mapping m = {0};
    uint64_t bytes = any_spans(MOST_BYTES);

    offset = ANY(uint32_t);
    to_pool = to_host;
    assume(offset < PAGE_BYTES && bytes + offset <= MOST_BYTES);
    any_extents((offset + bytes + PAGE_BYTES - 1) / PAGE_BYTES);
    m.offset = (uint32_t)offset;
    m.bytes = (uint32_t)bytes;
    m.bounce = &extent[0];
    lent.at = offset;
    copy(&m, span, spans, to_host);
    prove(mine.part == spans && mine.at == 0, "every byte once");
}

/* However both sides are cut. */
void proof_to_host(void)
{
    any_copy(true);
    PROOF_END;
}

void proof_from_host(void)
{
    any_copy(false);
    PROOF_END;
}

static struct pool_frames { uint64_t frame[DMA_BOUNCE_PAGES_MOST]; } pool_frames[PARTS];

struct bounce_extent *bounce_alloc(size_t pages)
{
    prove(pages >= 1 && pages <= DMA_BOUNCE_PAGES_MOST, "what a chunk can lend");
    prove(pages == (offset + span_at[PARTS] + PAGE_BYTES - 1) / PAGE_BYTES, "the pages that the bytes touch");
    if (any_bool())
        return NULL;
    any_extents(pages);
    for (unsigned i = 0; i < PARTS; i++)
        extent[i].frames = pool_frames[i].frame;
    return &extent[0];
}

/* The list for the host: the extents' frames in order, as many as the bytes touch, and room for no more is needed. */
void proof_frames(void)
{
    struct dma_mapping m = {0};
    uint64_t frames[FRAMES_MOST];
    uint64_t total = any_spans(UINT32_MAX / PARTS);
    unsigned max = ANY(unsigned), part = ANY(unsigned), at = ANY(unsigned);

    offset = ANY(uint32_t);
    for (unsigned i = 0; i < PARTS; i++)
        pool_frames[i] = ANY(struct pool_frames);
    assume(offset < PAGE_BYTES && max <= FRAMES_MOST);
    m.offset = (uint32_t)offset;
    m.bytes = (uint32_t)total;
    int rc = bounce(&m, span, spans, false, frames, max);
    prove(rc == 0 || rc == -E_INVAL || rc == -E_AGAIN, "the documented results");
    prove((rc == 0) == (m.bounce != NULL), "pages are lent, or none are");
    if (rc == 0) {
        prove(m.frames <= max && m.frames == extent_at[PARTS] / PAGE_BYTES, "as many frames as pages");
        prove(m.offset == offset, "the offset in the page stays");
        assume(part < extents && at < extent[part].pages);
        prove(frames[extent_at[part] / PAGE_BYTES + at] == extent[part].frames[at], "each frame at its place");
    }
    PROOF_END;
}
