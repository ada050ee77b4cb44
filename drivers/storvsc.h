/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * storvsc, shared by its files:
 *
 *   storvsc.c          a controller's life: open, handshake, removal
 *   storvsc_channel.c  slots, what the host sends, limits, exchanges of our own
 *   storvsc_io.c       disk requests on their way to the host
 *   storvsc_answer.c   what the answers mean: done, again, gone, failed
 *   storvsc_scan.c     which units there are; in tasks
 *   storvsc_inquire.c  what a unit is and can do; in tasks
 *
 * One controller is one channel. What is outstanding at the host has a slot in a table; the transaction id given to
 * the host is the slot's index and generation, checked when it comes back.
 *
 * A slot's life:   FREE -> BUSY (sent) -> FREE (answered)
 *                            \-> ABANDONED (limit passed: the host may still use the memory) -> FREE (answered late,
 * closed)
 *
 * One CPU's event loop and tasks; nothing here runs in interrupt handlers.
 */
#pragma once
#include "drivers/scsi.h"
#include "drivers/storvsc_wire.h"
#include "hv/dma.h"
#include "rt/blk.h"
#include "vmbus/vmbus.h"

#define STORVSC_REQUESTS        256      /* disk requests outstanding */
#define STORVSC_RESERVED        4        /* slots for our own commands beside them */
#define STORVSC_SLOTS           (STORVSC_REQUESTS + STORVSC_RESERVED)
#define STORVSC_RING_BYTES      (128u * 1024)
#define STORVSC_MAX_TRANSFER    (1024u * 1024)   /* ours; the host's limit applies when lower */
#define STORVSC_MAX_FRAMES      (STORVSC_MAX_TRANSFER / 4096 + 1)
#define STORVSC_PARAMETER_BYTES 32u      /* of each slot: an UNMAP list; none crosses a page */
#define STORVSC_TARGETS         2        /* of path 0, as hosts have them */
#define STORVSC_LUNS            256      /* what the protocol's LUN byte can name */

/* Limits. */
#define STORVSC_HANDSHAKE_LIMIT_US (180 * 1000000ull)
#define STORVSC_COMMAND_LIMIT_US   (60 * 1000000ull)
#define STORVSC_DRAIN_LIMIT_US     (30 * 1000000ull)    /* outstanding requests at an orderly close */
#define STORVSC_TICK_S             5
#define STORVSC_REQUEST_TICKS      (240 / STORVSC_TICK_S)
#define STORVSC_ATTEMPTS           8     /* of a request whose status says "try again" */
#define STORVSC_RETRY_DELAY_MS     20    /* doubles with each attempt */
#define STORVSC_REPORTS            32    /* lines a tick: a broken disk must not drown the log */

_Static_assert(STORVSC_SLOTS * STORVSC_PARAMETER_BYTES >= 4096 && 4096 % STORVSC_PARAMETER_BYTES == 0,
               "the heap gives whole pages for them, and none crosses one");
_Static_assert(STORVSC_MAX_FRAMES <= DMA_BOUNCE_PAGES_MOST, "no request is too large to be bounced");
_Static_assert(SCSI_UNMAP_ONE_BYTES <= STORVSC_PARAMETER_BYTES, "a list fits");

enum storvsc_slot_state { SLOT_FREE, SLOT_BUSY, SLOT_ABANDONED };

/* One of our own exchanges, with a task that waits for it. */
struct storvsc_command {
    struct vstor_packet packet;          /* out: the request; in: the answer, private copy */
    uint32_t data_bytes;                 /* wanted in the controller's data page; 0 none */
    void *data;                          /* that page; set by storvsc_exchange */
    bool done;
};

struct storvsc_slot {
    struct blk_request *request;         /* either of these, NULL in an abandoned slot */
    struct storvsc_command *command;
    struct dma_mapping map;
    void *orphan;                        /* data page of an abandoned command */
    uint32_t generation;
    uint32_t tick;                       /* when it was sent */
    uint32_t bytes;                      /* of data */
    uint16_t next_free;
    uint8_t state;
    uint8_t opcode;
};

struct storvsc_counters { uint64_t retries, errors, timeouts, lies, queued; };

struct storvsc {
    struct vmbus_channel *channel;
    const char *name;                    /* "scsi 3": the channel's */
    unsigned references;                 /* the bus's and one of each unit */
    uint16_t version;                    /* VSTOR_VERSION_* */
    uint8_t packet_bytes, srb_bytes, sense_bytes;
    uint32_t max_transfer_bytes;
    bool closing;
    bool unsent;                         /* packets in the ring since the last kick */

    struct storvsc_slot *slots;
    uint16_t first_free;
    uint16_t free_count;
    uint16_t in_flight;                  /* busy slots */
    uint32_t tick;
    struct rt_timer tick_timer;

    struct list queue;                   /* requests that found no slot or no room, oldest first */
    struct list later;                   /* requests to be tried again when retry_timer fires */
    struct rt_timer retry_timer;
    struct dma_waiter bounce_room;
    uint8_t *parameters;                 /* one UNMAP list per slot; NULL until a disk needs it */

    struct list units;
    void *data_page;                     /* of our own commands, one at a time */
    struct wait_queue wait;              /* command answered, ring writable, drained, scan ended */
    bool scanning;                       /* a task is at it, or the probe will be */
    bool rescan;                         /* asked for meanwhile */
    uint32_t report_tick, reports;       /* lines about bad answers in this tick */
    struct storvsc_counters counters;
    uint64_t frames[STORVSC_MAX_FRAMES]; /* of the packet being built */
};

struct storvsc_unit {
    struct blk_device disk;
    struct storvsc *controller;
    struct list node;
    uint8_t path, target, lun;
    bool seen;                           /* in the scan that is running */
    bool write_same_unmaps;
    uint8_t id[32];                      /* from VPD page 83: tells a disk from its successor in the same place */
    uint8_t id_bytes;
};

struct storvsc_place { uint8_t path, target, lun; };

/* What the commands say of a unit. */
struct storvsc_facts {
    char description[48];
    uint8_t id[32];
    uint8_t id_bytes;
    uint64_t sectors;
    uint32_t sector_bytes, physical_bytes;
    uint32_t max_transfer_blocks;                  /* 0: not told */
    uint32_t max_unmap_blocks, unmap_granularity;
    uint64_t max_write_same_blocks;
    bool removable, read_only, fua, thin, unmap, write_same, unmapped_reads_zero;
};

static inline struct storvsc_unit *storvsc_unit_of(const struct blk_request *r)
{
    return r->device->driver;
}

/* ---- storvsc.c ---- */
extern const struct blk_ops storvsc_blk_ops;
/* Of all controllers, for the figures. */
extern struct storvsc_counters storvsc_totals;
#define STORVSC_COUNT(s, what) ((s)->counters.what++, storvsc_totals.what++)
void storvsc_release(struct storvsc *s); /* drops one reference */

/* ---- storvsc_channel.c ---- */
void storvsc_slots_init(struct storvsc *s);
/* A slot for a packet, or NULL. */
struct storvsc_slot *storvsc_slot_take(struct storvsc *s);
void storvsc_slot_free(struct storvsc *s, struct storvsc_slot *slot);
/* Never 0: that id belongs to what the host sends unasked. */
static inline uint64_t storvsc_slot_id(const struct storvsc *s, const struct storvsc_slot *slot)
{
    return ((uint64_t)slot->generation << 32) | (uint64_t)(slot - s->slots + 1);
}
/* The packet is in the ring: it counts as outstanding from now on. */
void storvsc_slot_sent(struct storvsc *s, struct storvsc_slot *slot);
void storvsc_on_readable(void *arg);
void storvsc_on_writable(void *arg);
void storvsc_tick(void *arg);
/*
 * Sends command->packet, with data_bytes of the data page when there are any, and waits for the answer. Tasks only. 0,
 * -E_TIMEOUT (the data page is replaced by a fresh one), -E_REMOVED, -E_NOMEM.
 */
int storvsc_exchange(struct storvsc *s, struct storvsc_command *command, uint64_t limit_us);
/* The channel is closed. Everything outstanding ends: with -E_REMOVED when the host let go of it, else with -E_TIMEOUT,
 * and what memory it may still use is leaked on purpose. */
void storvsc_end_outstanding(struct storvsc *s, bool let_go);

/* ---- storvsc_io.c ---- */
void storvsc_submit(struct blk_device *d, struct blk_request *r);
void storvsc_kick(struct blk_device *d);
/* Sends what waits in the queue as far as slots and ring allow. */
void storvsc_pump(struct storvsc *s);
/* Gives back what dma_map took; discard: without copying to the request's memory. */
void storvsc_unmap(struct storvsc_slot *slot, bool discard);
void storvsc_retry_due(void *arg);
/* Fails everything queued, for one unit or (NULL) all. */
void storvsc_fail_queued(struct storvsc *s, const struct storvsc_unit *unit, int status);
/* Fails what has waited in the queue longer than a request may take. */
void storvsc_expire_queued(struct storvsc *s);

/* ---- storvsc_answer.c ---- */
/* A disk request's answer: ends the request or sends it round again. answer is a private copy. */
void storvsc_request_answered(struct storvsc *s, struct storvsc_slot *slot, const struct vstor_packet *answer);

/* ---- storvsc_scan.c ---- */
/* Looks for units now, in the calling task. */
void storvsc_scan(struct storvsc *s);
/* Asks for a scan; from anywhere but interrupts. */
void storvsc_rescan(struct storvsc *s);
/* All units go: their disks are unregistered. */
void storvsc_drop_units(struct storvsc *s);

/* ---- storvsc_inquire.c ---- */
/*
 * Everything the commands tell of the unit in a place. 0; -E_NOENT no unit, -E_NOTSUP one that is not served, -E_BUSY
 * one without a medium; -E_IO, -E_PROTO the commands failed; -E_TIMEOUT, -E_REMOVED, -E_NOMEM the scan is over.
 */
int storvsc_learn(struct storvsc *s, struct storvsc_place at, struct storvsc_facts *f);
/* Sets a bit for each LUN of the target. -E_NOTSUP: the host can't list them. */
int storvsc_list_luns(struct storvsc *s, uint8_t target, uint64_t luns[STORVSC_LUNS / 64]);
/* The controller is in trouble, not a unit. */
bool storvsc_scan_over(int e);
