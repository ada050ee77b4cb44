/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The bounce pool of an isolated machine: pages that the host sees, lent for the time of one transfer.
 *
 * The pool is made of chunks of DMA_BOUNCE_PAGES_MOST pages each, so the first one alone, which is there from the
 * start, serves the largest request when nothing else is under way: a transfer may have to wait, it never has to fail.
 * More chunks come when they are needed, up to hv.bounce bytes, and stay: what was busy once will be busy again.
 * Physical addresses matter to nobody (the host gets a list of frames), so a request is given the longest runs of
 * virtual addresses that are to be had: one if possible, several when the pool is fragmented.
 *
 * Fairness. Small requests could take every page that comes free and starve a large one. So the first that is refused
 * reserves what it needs: until it is served others may only take what is left beyond. A reservation lasts
 * RESERVE_LIMIT and the same time passes before the next, since pages that the host never gives back must not stop
 * everyone else.
 *
 * Nothing private is in here: shmem.c clears pages before it shares them, and the rest is what the host was given.
 */
#define LOG_ROOM "hv"
#include <string.h>
#include "hv/bounce.h"
#include "hv/shmem.h"

#define UNLIKELY(c)     __builtin_expect(!!(c), 0)

#define CHUNK_PAGES     DMA_BOUNCE_PAGES_MOST
#define CHUNK_BYTES     (CHUNK_PAGES * PAGE_BYTES)
#define CHUNK_WORDS     (CHUNK_PAGES / 64)
#define POOL_BYTES_MOST (1ull << 30)
#define DEFAULT_MOST    (64ull << 20)
#define DEFAULT_SHARE   16                  /* of RAM */
#define CHUNKS_SEARCHED 8u                  /* for one run, before several serve as well */
#define RESERVE_LIMIT   S_100NS(1)
#define GROWTH_PAUSE    S_100NS(1)          /* after memory for a chunk was not to be had */
#define GROWTH_REFUSALS 8u                  /* by the host: each may leave pages with it, so it is not asked for ever */

struct chunk {
    struct shmem memory;
    size_t free_pages;
    uint64_t free[CHUNK_WORDS];             /* bit n of word w: page 64w+n is not lent */
    struct bounce_extent extent[CHUNK_PAGES];   /* by first page, which tells virt and frames once and for all */
};

bool bounce_active;
struct dma_stats dma_stats;

static struct {
    struct chunk **chunk;
    unsigned chunks, chunks_max, refusals;
    unsigned rover;                         /* chunk that the last request was served from */
    size_t free_pages;
    size_t reserved;                        /* pages that the first refused request needs */
    uint64_t reserved_until, reserve_from;
    uint64_t grow_from;
    struct list waiters;
    struct rt_event room;
    struct rt_timer timer;
} pool;

/* ---- size ---- */

static int add_chunk(void)
{
    struct chunk *c = kzalloc(sizeof(*c));
    int rc = c ? shmem_alloc(&c->memory, CHUNK_PAGES, SHMEM_LINEAR_UNCLEARED, 0) : -E_NOMEM;

    if (rc) {
        kfree(c);
        return rc;
    }
    for (unsigned w = 0; w < CHUNK_WORDS; w++)
        c->free[w] = UINT64_MAX;
    for (unsigned i = 0; i < CHUNK_PAGES; i++) {
        c->extent[i].virt = (char *)c->memory.virt + i * PAGE_BYTES;
        c->extent[i].frames = c->memory.frames + i;
        c->extent[i].chunk = pool.chunks;
        c->extent[i].first = (uint16_t)i;
    }
    c->free_pages = CHUNK_PAGES;
    pool.chunk[pool.chunks++] = c;
    pool.free_pages += CHUNK_PAGES;
    dma_stats.pages += CHUNK_PAGES;
    log_debug("bounce memory: %u MiB", (unsigned)(pool.chunks * CHUNK_BYTES >> 20));
    return 0;
}

static __attribute__((noinline)) bool grow(void)
{
    int rc;

    if (pool.chunks == pool.chunks_max || rt_now_100ns() < pool.grow_from)
        return false;
    rc = add_chunk();
    if (rc) {
        pool.grow_from = rt_now_100ns() + GROWTH_PAUSE;
        if (rc == -E_REFUSED && ++pool.refusals == GROWTH_REFUSALS)
            pool.chunks_max = pool.chunks;
        log_warn_some("bounce memory stays at %u MiB: %s", (unsigned)(pool.chunks * CHUNK_BYTES >> 20), error_name(rc));
    }
    return rc == 0;
}

static void room_came(void *arg);
static void time_passed(void *arg UNUSED) { event_raise(&pool.room); }

int bounce_init(void)
{
    struct mm_stats stats;
    uint64_t bytes;
    int rc;

    mm_get_stats(&stats);
    bytes = MIN(stats.ram_pages * PAGE_BYTES / DEFAULT_SHARE, DEFAULT_MOST);
    bytes = config_number("hv.bounce", MAX(bytes, CHUNK_BYTES), CHUNK_BYTES, POOL_BYTES_MOST);
    bounce_active = hv_isolated();
    if (!bounce_active)
        return 0;
    memset(&pool, 0, sizeof(pool));
    list_init(&pool.waiters);
    pool.room = (struct rt_event)RT_EVENT_INIT(room_came, NULL);
    timer_init(&pool.timer, time_passed, NULL);
    dma_stats.pages = dma_stats.pages_lent = 0;
    pool.chunks_max = (unsigned)(bytes / CHUNK_BYTES);
    pool.chunk = kcalloc(pool.chunks_max, sizeof(pool.chunk[0]));
    rc = pool.chunk ? add_chunk() : -E_NOMEM;
    if (rc) {
        kfree(pool.chunk);
        pool.chunk = NULL;
    }
    return rc;
}

void bounce_stop(void)
{
    if (!bounce_active || !pool.chunk)
        return;
    event_cancel(&pool.room);
    timer_cancel(&pool.timer);
    for (unsigned i = 0; i < pool.chunks; i++) {
        struct chunk *c = pool.chunk[i];
        if (c->free_pages < CHUNK_PAGES)
            shmem_hold(&c->memory);         /* of a transfer that the host never ended */
        shmem_free(&c->memory);
        kfree(c);
    }
    kfree(pool.chunk);
    pool.chunk = NULL;
    pool.chunks = 0;
    dma_stats.pages = dma_stats.pages_lent = 0;
}

/* ---- runs of free pages in a chunk ---- */

/* The first free run at or behind page *at, up to most pages of it. Returns its length, 0: none. */
static unsigned next_run(const struct chunk *c, unsigned *at, unsigned most)
{
    unsigned page = *at, n = 0;

    for (; page < CHUNK_PAGES; page = (page | 63) + 1) {
        uint64_t word = c->free[page / 64] >> (page % 64);
        if (word) {
            page += (unsigned)__builtin_ctzll(word);
            break;
        }
    }
    *at = page;
    while (n < most && page + n < CHUNK_PAGES) {
        unsigned bit = (page + n) % 64;
        uint64_t taken = ~(c->free[(page + n) / 64] >> bit);
        unsigned run = taken ? (unsigned)__builtin_ctzll(taken) : 64;
        n += MIN(run, 64 - bit);
        if (run < 64 - bit)
            break;
    }
    return MIN(n, most);
}

static inline void mark_word(struct chunk *c, unsigned page, unsigned n, bool free)
{
    uint64_t bits = (n == 64 ? UINT64_MAX : BIT(n) - 1) << (page % 64);

    KASSERT((c->free[page / 64] & bits) == (free ? 0 : bits));
    c->free[page / 64] ^= bits;
}

/* Short runs lie in one word, and most runs are short. */
static inline void mark(struct chunk *c, unsigned page, unsigned n, bool free)
{
    while (UNLIKELY(page % 64 + n > 64)) {
        unsigned some = 64 - page % 64;
        mark_word(c, page, some, free);
        page += some;
        n -= some;
    }
    mark_word(c, page, n, free);
}

static inline struct bounce_extent *lend(struct chunk *c, unsigned page, unsigned n)
{
    struct bounce_extent *e = &c->extent[page];

    mark(c, page, n, false);
    c->free_pages -= n;
    pool.free_pages -= n;
    pool.rover = e->chunk;
    e->next = NULL;
    e->pages = (uint16_t)n;
    return e;
}

/* Bit i is left: n free pages of the word begin there. */
static inline uint64_t runs_of(uint64_t word, unsigned n)
{
    for (unsigned have = 1, more; have < n && word; have += more) {
        more = MIN(have, n - have);
        word &= word >> more;
    }
    return word;
}

/* Requests are short: most find a run inside one word of the first chunk looked at. */
static struct bounce_extent *lend_short_run(struct chunk *c, unsigned pages)
{
    for (unsigned w = 0; w < CHUNK_WORDS; w++) {
        uint64_t runs = runs_of(c->free[w], pages);
        if (runs)
            return lend(c, w * 64 + (unsigned)__builtin_ctzll(runs), pages);
    }
    return NULL;
}

static __attribute__((noinline)) struct bounce_extent *lend_long_run(struct chunk *c, unsigned pages)
{
    for (unsigned at = 0, n; (n = next_run(c, &at, pages)) > 0; at += n) {
        if (n == pages)
            return lend(c, at, n);
    }
    return NULL;
}

static struct bounce_extent *lend_one_run(unsigned pages)
{
    struct bounce_extent *e = NULL;
    unsigned chunk = pool.rover;

    for (unsigned i = 0; !e && i < pool.chunks && i < CHUNKS_SEARCHED; i++) {
        struct chunk *c = pool.chunk[chunk];
        if (c->free_pages >= pages)
            e = pages <= 64 ? lend_short_run(c, pages) : lend_long_run(c, pages);
        if (++chunk == pool.chunks)
            chunk = 0;
    }
    return e;
}

/* There are so many, somewhere. */
static __attribute__((noinline)) struct bounce_extent *lend_runs(unsigned pages)
{
    struct bounce_extent *first = NULL, **link = &first;

    for (unsigned i = 0; pages > 0; i++) {
        KASSERT(i < pool.chunks);
        for (unsigned at = 0, n; pages > 0 && (n = next_run(pool.chunk[i], &at, pages)) > 0; at += n) {
            *link = lend(pool.chunk[i], at, n);
            link = &(*link)->next;
            pages -= n;
        }
    }
    return first;
}

/* ---- lending ---- */

/* May a request take so many pages of those that are free? */
static bool may_take(size_t pages)
{
    size_t kept = pages < pool.reserved && rt_now_100ns() < pool.reserved_until ? pool.reserved : 0;

    return pages <= pool.free_pages && kept <= pool.free_pages - pages;
}

static __attribute__((noinline)) void refuse(size_t pages)
{
    uint64_t now = rt_now_100ns();

    dma_stats.refusals++;
    if (now >= pool.reserve_from) {
        pool.reserved = pages;
        pool.reserved_until = now + RESERVE_LIMIT;
        pool.reserve_from = now + 2 * RESERVE_LIMIT;
    }
    if (!pool.timer.armed)
        timer_arm_100ns(&pool.timer, now + RESERVE_LIMIT);
}

struct bounce_extent *bounce_alloc(size_t pages)
{
    struct bounce_extent *e;

    KASSERT(pages > 0 && pages <= CHUNK_PAGES);
    if (UNLIKELY(!may_take(pages)) && !(grow() && may_take(pages))) {
        refuse(pages);
        return NULL;
    }
    if (pages >= pool.reserved)
        pool.reserved = pool.reserve_from = 0;
    e = lend_one_run((unsigned)pages);
    if (!e)
        e = lend_runs((unsigned)pages);
    dma_stats.pages_lent += pages;
    return e;
}

void bounce_free(struct bounce_extent *e)
{
    for (struct bounce_extent *next; e; e = next) {
        struct chunk *c = pool.chunk[e->chunk];
        next = e->next;
        mark(c, e->first, e->pages, true);
        c->free_pages += e->pages;
        pool.free_pages += e->pages;
        dma_stats.pages_lent -= e->pages;
    }
    if (!list_empty(&pool.waiters))
        event_raise(&pool.room);
}

/* ---- waiting ---- */

/* In the order in which they came; who is refused again keeps its place before those that come later. */
static void room_came(void *arg UNUSED)
{
    struct list now = LIST_INIT(now), *node;

    while ((node = list_pop_front(&pool.waiters)))
        list_push_back(&now, node);
    while ((node = list_pop_front(&now))) {
        struct dma_waiter *w = list_entry(node, struct dma_waiter, node);
        w->waiting = false;
        w->ready(w->arg);
    }
    /* Without a page coming back nobody would look again when the reservation ends. */
    if (!list_empty(&pool.waiters) && !pool.timer.armed)
        timer_arm_100ns(&pool.timer, rt_now_100ns() + RESERVE_LIMIT);
}

void dma_wait(struct dma_waiter *w)
{
    if (w->waiting)
        return;
    w->waiting = true;
    list_push_back(&pool.waiters, &w->node);
}

void dma_wait_cancel(struct dma_waiter *w)
{
    if (w->waiting)
        list_remove(&w->node);
    w->waiting = false;
}
