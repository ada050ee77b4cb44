/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * balloon.h: the dynamic memory device, shared by balloon.c (the protocol) and balloon_book.c (which pages the guest
 * has given).
 */
#pragma once
#include "drivers/balloon_wire.h"
#include "tests/host/host_internal.h"

struct balloon_range {
    uint64_t first, pages;
};

/* Sorted, disjoint, neighbours joined. */
struct balloon_book {
    struct balloon_range *range;
    uint32_t count, room;
    uint64_t pages;
};

enum balloon_stage { BALLOON_CLOSED, BALLOON_VERSION, BALLOON_CAPABILITIES, BALLOON_READY };

/* What a request asked for, and what came of it so far. */
struct balloon_exchange {
    uint16_t answer;                      /* DM_*_RESPONSE that is awaited; 0: nothing is */
    uint32_t answers;                     /* how many: a request sent twice is answered twice */
    uint64_t asked, got;                  /* pages */
    uint64_t first;                       /* hot add */
    bool spoiled;                         /* a fault was in the request: the guest may refuse it */
    uint64_t since;
};

struct host_balloon {
    struct host *h;
    struct host_chan *ch;                 /* NULL: not offered */
    struct host_balloon_config cfg;
    enum balloon_stage stage;
    uint32_t guest_id, own_id;            /* transaction ids used last */
    uint32_t tried;                       /* the version asked for last */
    uint64_t ready_since, reports;        /* since then */
    bool doubtful;                        /* the last answer had a fault: the guest may have given up */
    struct balloon_book book;
    struct balloon_exchange now;
    struct host_balloon_state seen;
    uint64_t random;
    uint8_t message[DM_MESSAGE_MAX] __attribute__((aligned(8)));
};

/* ---- balloon_book.c ---- */
/* false: overlaps with what is there, or no memory. */
bool balloon_book_add(struct host_balloon *b, uint64_t first, uint64_t pages);
bool balloon_book_overlaps(const struct balloon_book *book, uint64_t first, uint64_t pages);
/* A piece of at most max pages, somewhere, taken out; the guest has to cope with any cut. pages 0: empty or no
 * memory. */
struct balloon_range balloon_book_cut(struct host_balloon *b, uint64_t max);
void balloon_book_clear(struct host_balloon *b);
