/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The disk class: what drivers offer and applications use.
 *
 * A request names sectors and spans of memory; the driver gives the spans' own page frames to the host (no copy), so
 * memory must stay put until done. Spans: any kernel address; each may cross pages; the total must equal the transfer
 * length. Between two spans, and so that one frame list can describe them, the first may start anywhere (a multiple
 * of 4 bytes), inner boundaries must fall on page boundaries (blk_submit checks and returns -E_INVAL).
 * The class splits requests longer than max_transfer_bytes; the driver never sees such. What a disk lacks the class
 * makes up for: FUA by a flush behind the write, write-zeroes by writing zeroes. So every writable disk takes both.
 *
 * A disk that goes: every request in flight completes with -E_REMOVED, later ones too; users hold a reference and the
 * struct lives until the last blk_put.
 */
#pragma once
#include "rt/rt.h"

#define BLK_MAX_SPANS 20          /* of one request */
#define BLK_ZERO_BYTES 16384u     /* of zeroes that everyone may write from */

enum blk_op { BLK_READ, BLK_WRITE, BLK_FLUSH, BLK_DISCARD, BLK_WRITE_ZEROES };
enum blk_flag { BLK_FUA = 1, BLK_MAY_UNMAP = 2 /* write zeroes may deallocate */ };
struct blk_span { void *addr; uint32_t bytes; };
struct blk_device;

struct blk_request {
    /* set by the caller, unchanged until done */
    enum blk_op op;
    unsigned flags;
    uint64_t sector;                       /* in units of the disk's own sector_bytes */
    uint64_t sectors;                      /* flush: 0 */
    const struct blk_span *spans;          /* read and write only */
    unsigned span_count;
    void (*done)(struct blk_request *r);   /* in the event loop, must not block; r belongs to the caller again */
    void *arg;
    /* set by the class and driver */
    int status;                            /* 0 or -E_*; -E_TIMEOUT: unanswered, the host may still use the memory */
    struct blk_device *device;             /* whom it was submitted to */
    struct list node;                      /* driver's queue */
    uint64_t progress;                     /* splitting: sectors handed out so far */
    uint32_t pieces;                       /* splitting: pieces with the driver */
    uint32_t attempts;                     /* driver's: 0 at the start of each submission */
    void *driver_data;
};

struct blk_ops {
    /* Never blocks and never fails synchronously: errors come by done. May queue. */
    void (*submit)(struct blk_device *d, struct blk_request *r);
    /* Requests queued since the last kick go to the host with one signal; called once per batch. */
    void (*kick)(struct blk_device *d);
};
struct blk_device {
    char name[16];                         /* "disk0": by blk_register, smallest free number */
    char description[48];                  /* "Msft Virtual Disk 1.0 scsi 0:0:1" */
    uint32_t sector_bytes;                 /* 512 or 4096 */
    uint32_t physical_sector_bytes;
    uint64_t sectors;
    uint32_t max_transfer_bytes;
    uint32_t max_discard_sectors;          /* 0: no discard */
    uint32_t discard_granularity_sectors;
    uint32_t max_write_zeroes_sectors;     /* of one request that has_write_zeroes serves */
    bool read_only, has_fua, has_flush, has_discard, has_write_zeroes, removable;   /* what the disk itself can do */
    const struct blk_ops *ops;
    void *driver;
    /* the class's own */
    unsigned references;
    bool removed;
    unsigned number;                       /* the one in the name */
    struct blk_class *own;
    struct list node;
    struct { uint64_t reads, writes, flushes, discards, read_bytes, write_bytes, errors, in_flight; } stats;
};

/* ---- for drivers ---- */
/* Names it and announces it; the class holds a reference until blk_unregister. 0 or -E_NOMEM. */
int blk_register(struct blk_device *d, void (*release)(struct blk_device *d));
void blk_capacity_changed(struct blk_device *d, uint64_t sectors);
void blk_unregister(struct blk_device *d);      /* removed=true, watchers told; release runs at the last blk_put */
/* From the event loop or a task, never from inside ops->submit. */
void blk_complete(struct blk_request *r, int status);
const void *blk_zeroes(void);                   /* BLK_ZERO_BYTES, page aligned; there once a disk is registered */

/* ---- for applications ---- */
struct blk_device *blk_get(const char *name);   /* with a reference, or NULL */
struct blk_device *blk_get_index(unsigned n);   /* n-th in order of names, referenced; NULL past the last */
void blk_ref(struct blk_device *d);
void blk_put(struct blk_device *d);
/* Called at registration, removal and change of capacity, in a context that must not block. */
enum blk_change { BLK_ADDED, BLK_REMOVED, BLK_RESIZED };
struct blk_watcher {
    void (*fn)(void *arg, struct blk_device *d, enum blk_change change);
    void *arg;
    struct list node;
};
void blk_watch(struct blk_watcher *w);
void blk_unwatch(struct blk_watcher *w);

/* Checks and queues; r->done is always called, except when this returns -E_INVAL, -E_RANGE, -E_ROFS, -E_NOTSUP. The
 * kick to the host is deferred to the end of the running batch (blk_kick, or the loop's next turn). */
int blk_submit(struct blk_device *d, struct blk_request *r);
void blk_kick(struct blk_device *d);
/* Blocking forms, for tasks. Any length; buffer aligned to 4 bytes. */
int blk_read(struct blk_device *d, uint64_t sector, uint64_t sectors, void *buf);
int blk_write(struct blk_device *d, uint64_t sector, uint64_t sectors, const void *buf, unsigned flags);
int blk_flush(struct blk_device *d);
int blk_discard(struct blk_device *d, uint64_t sector, uint64_t sectors);
int blk_write_zeroes(struct blk_device *d, uint64_t sector, uint64_t sectors, unsigned flags);
