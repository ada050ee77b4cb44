/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Dynamic memory, shared by its files:
 *
 *   balloon.c         the device's life: open, the task, status reports, removal
 *   balloon_talk.c    messages both ways, and the handshake: version, capabilities
 *   balloon_move.c    memory that goes and comes: balloon, unballoon, hot add
 *
 * One task serves the device, from the first message to the last: it may block, so a slow host holds up nobody else.
 * The ring's callbacks only wake it.
 */
#pragma once
#include "drivers/balloon_wire.h"
#include "vmbus/vmbus.h"

#define BALLOON_RING_BYTES       (5 * PAGE_BYTES)
#define BALLOON_FIRST_ID         0x1000u /* answers that repeat an id can be told from hosts that count their own */
#define BALLOON_ANSWER_LIMIT_US  (5 * 1000000ull)
#define BALLOON_SEND_LIMIT_US    (10 * 1000000ull)

struct balloon {
    struct vmbus_channel *channel;
    const char *name;                    /* the channel's */
    struct wait_queue wait;              /* the task, and who waits for its end */
    bool stop, ended;
    bool unfinished;                     /* the last part of an answer did not find room in the ring: it is owed */
    uint32_t version;
    uint32_t last_id;                    /* of the messages sent */
    uint64_t returned_pages;             /* by the parts of an unballoon request so far */
    /* The message received last, whole and checked for its length; zeros behind it. */
    union {
        struct dm_header header;
        struct dm_answer answer;
        struct dm_balloon_request balloon;
        struct dm_hot_add_request hot_add;
        struct dm_info info;
        uint64_t words[DM_MESSAGE_MAX / sizeof(uint64_t)];
    } in;
    uint64_t out[DM_MESSAGE_MAX / sizeof(uint64_t)];
    struct page_range ranges[DM_RANGES_MAX];
};

/* The two messages that end in as many ranges as there are. */
static inline const struct dm_unballoon_request *balloon_unballoon(const struct balloon *b)
{
    return (const void *)&b->in;
}
static inline struct dm_balloon_response *balloon_out(struct balloon *b) { return (void *)b->out; }

struct balloon_counters { uint64_t reports, requests, partial, hot_added_pages, lies; };
extern struct balloon_counters balloon_counters;

/* ---- balloon.c ---- */
/* Pages that stay available, however much the host wants. */
uint64_t balloon_floor_pages(void);

/* ---- balloon_talk.c ---- */
/* Something of the host's made no sense: one line, not more often than every few seconds, and a count. */
void balloon_lie(struct balloon *b, const char *what, uint64_t value);
/* Sends one message whose header has the type: fills in the rest of it; waits for room in the ring. 0, -E_REMOVED,
 * -E_TIMEOUT. */
int balloon_send(struct balloon *b, void *message, size_t bytes);
/* The same without waiting: -E_AGAIN when there is no room. */
int balloon_try_send(struct balloon *b, void *message, size_t bytes);
/* The next message into b->in. 0, -E_REMOVED, -E_TIMEOUT. */
int balloon_receive(struct balloon *b, uint64_t deadline_100ns, const char *what);
/* Agrees on a version and on capabilities. reports: the host wants them. 0, -E_REFUSED, -E_TIMEOUT, -E_REMOVED. */
int balloon_handshake(struct balloon *b, bool *reports);
void balloon_info(struct balloon *b);    /* says what b->in, a DM_INFO, tells */

/* ---- balloon_move.c: each answers the message in b->in ---- */
void balloon_give(struct balloon *b);
void balloon_finish(struct balloon *b);  /* the end of an answer that is owed, when there is room for it now */
void balloon_take_back(struct balloon *b);
void balloon_hot_add(struct balloon *b);
