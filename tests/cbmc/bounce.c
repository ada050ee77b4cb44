/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The bounce pool's maps of free pages (hv/bounce.c): for any map, what is lent was free, lies in its chunk, is as long
 * as was asked for, and is no longer free afterwards; nothing else changes.
 */
#include "tests/cbmc/proof.h"
#include "hv/dma.h"
/* Three words of bits in place of eight: runs have a first word, one in between and a last one all the same. */
#undef DMA_BOUNCE_PAGES_MOST
#define DMA_BOUNCE_PAGES_MOST 192u
#include "hv/bounce.c"

static bool is_free(const struct chunk *c, unsigned page) { return c->free[page / 64] >> (page % 64) & 1; }

void panic(const char *fmt UNUSED, ...) { prove(false, "no panic"); assume(false); }

static struct chunk chunk, before;

static void any_chunk(void)
{
    for (unsigned w = 0; w < CHUNK_WORDS; w++)
        before.free[w] = chunk.free[w] = ANY(uint64_t);
}

/* The bits that stay are the beginnings of runs, all of them and no others. */
void proof_runs_of(void)
{
    uint64_t word = ANY(uint64_t);
    unsigned n = ANY(unsigned), bit = ANY(unsigned);

    assume(n >= 1 && n <= 64 && bit < 64);
    uint64_t all = n == 64 ? UINT64_MAX : BIT(n) - 1;
    bool run = bit + n <= 64 && (word >> bit & all) == all;
    prove((runs_of(word, n) >> bit & 1) == run, "a run begins here, or none does");
    PROOF_END;
}

/* Runs are found where they are, however they lie across words. */
void proof_next_run(void)
{
    unsigned from = ANY(unsigned), most = ANY(unsigned), page = ANY(unsigned), at = from;

    any_chunk();
    assume(from <= CHUNK_PAGES && most >= 1 && most <= CHUNK_PAGES && page < CHUNK_PAGES);
    unsigned n = next_run(&chunk, &at, most);
    prove(at >= from && n <= most, "forward, and no more than asked for");
    if (n == 0) {
        prove(page < from || !is_free(&chunk, page), "nothing is free behind");
    } else {
        prove(at < CHUNK_PAGES && n <= CHUNK_PAGES - at, "inside the chunk");
        prove(page < at || page >= at + n || is_free(&chunk, page), "every page of it is free");
        prove(page < from || page >= at || !is_free(&chunk, page), "it is the first");
        prove(n == most || at + n == CHUNK_PAGES || !is_free(&chunk, at + n), "it is no shorter than it must be");
    }
    PROOF_END;
}

/* Lending and taking back change the pages meant and no others. */
void proof_mark(void)
{
    unsigned first = ANY(unsigned), n = ANY(unsigned), page = ANY(unsigned);
    bool free = any_bool();

    any_chunk();
    assume(n >= 1 && n <= CHUNK_PAGES && first <= CHUNK_PAGES - n && page < CHUNK_PAGES);
    for (unsigned w = 0; w < CHUNK_WORDS; w++) {
        uint64_t mine = 0;                  /* those of the run in this word */
        if (first < (w + 1) * 64 && first + n > w * 64) {
            unsigned low = first > w * 64 ? first - w * 64 : 0;
            unsigned high = first + n < (w + 1) * 64 ? first + n - w * 64 : 64;
            mine = (high == 64 ? UINT64_MAX : BIT(high) - 1) & ~(BIT(low) - 1);
        }
        assume((chunk.free[w] & mine) == (free ? 0 : mine));
    }
    mark(&chunk, first, n, free);
    bool inside = page >= first && page < first + n;
    prove(is_free(&chunk, page) == (inside ? free : is_free(&before, page)), "these pages and no others");
    PROOF_END;
}

/* A short run, of up to four pages, from one chunk: where the extent says, of pages that were free, and are no more. */
void proof_lend(void)
{
    unsigned n = ANY(unsigned), page = ANY(unsigned);
    size_t count = ANY(size_t);

    any_chunk();
    assume(n >= 1 && n <= 4 && page < CHUNK_PAGES && count >= n && count <= CHUNK_PAGES);
    chunk.free_pages = pool.free_pages = count;
    struct bounce_extent *e = lend_short_run(&chunk, n);
    if (e) {
        unsigned first = (unsigned)(e - chunk.extent);
        prove(e->pages == n && first < CHUNK_PAGES && first + n <= CHUNK_PAGES, "as long as asked for");
        bool inside = page >= first && page < first + n;
        prove(!inside || is_free(&before, page), "it was free");
        prove(is_free(&chunk, page) == (!inside && is_free(&before, page)), "now it is not, and no other changed");
        prove(chunk.free_pages == count - n && pool.free_pages == count - n && !e->next, "counted");
    } else {
        prove(is_free(&chunk, page) == is_free(&before, page), "nothing changed");
    }
    PROOF_END;
}
