/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Takes memory in blocks of all sizes, writes to each page which one it is, and looks again before giving it back: for
 * machines whose host takes memory away and adds some meanwhile. Says every second how it goes:
 *
 *   memory: 4000 rounds, 0 refused, 0 wrong, up to 511 MiB, 300 of 512 MiB free, 128 given
 *
 * where "up to" is the highest address written, so that memory added while it ran is seen in use.
 */
#define LOG_ROOM "bench"
#include "apps/bench/memory.h"
#include "rt/candela.h"

#define BLOCKS    512
#define ORDERS    10                     /* of a page up to 2 MiB */
#define PER_TURN  64
#define TURN_US   50000
#define WORDS     (PAGE_BYTES / sizeof(uint64_t))

struct block { paddr_t at; unsigned order; bool held; };

static struct block blocks[BLOCKS];
static uint64_t rounds, refused, wrong, highest;

static void take(struct block *b, unsigned order)
{
    b->at = page_alloc(order);
    if (pa_is_none(b->at)) {
        refused++;
        return;
    }
    b->order = order;
    b->held = true;
    uint64_t *words = arch_phys_to_virt(b->at), pages = 1ull << order;
    for (uint64_t i = 0; i < pages; i++)
        words[i * WORDS] = words[(i + 1) * WORDS - 1] = b->at.v + i;
    highest = MAX(highest, b->at.v + pages * PAGE_BYTES);
}

static void give_back(struct block *b)
{
    const uint64_t *words = arch_phys_to_virt(b->at);
    for (uint64_t i = 0; i < 1ull << b->order; i++)
        if (words[i * WORDS] != b->at.v + i || words[(i + 1) * WORDS - 1] != b->at.v + i)
            wrong++;
    page_free(b->at, b->order);
    b->held = false;
}

static void say(void)
{
    struct mm_stats s;
    mm_get_stats(&s);
    log_info("memory: %llu rounds, %llu refused, %llu wrong, up to %llu MiB, %llu of %llu MiB free, %llu given",
             (unsigned long long)rounds, (unsigned long long)refused, (unsigned long long)wrong,
             (unsigned long long)highest >> 20, (unsigned long long)s.free_pages >> 8,
             (unsigned long long)s.ram_pages >> 8, (unsigned long long)s.given_pages >> 8);
}

int run_memory(uint64_t seconds)
{
    uint64_t end = rt_now_us() + seconds * 1000000, next = rt_now_us() + 1000000, random = 1;
    while (rt_now_us() < end) {
        for (unsigned i = 0; i < PER_TURN; i++, rounds++) {
            random = random * 6364136223846793005ull + 1442695040888963407ull;
            struct block *b = &blocks[(random >> 33) % BLOCKS];
            if (b->held)
                give_back(b);
            else
                take(b, (unsigned)(random >> 50) % ORDERS);
        }
        if (rt_now_us() >= next) {
            say();
            next += 1000000;
        }
        task_sleep_us(TURN_US);
    }
    for (unsigned i = 0; i < BLOCKS; i++)
        if (blocks[i].held)
            give_back(&blocks[i]);
    say();
    return wrong != 0;
}
