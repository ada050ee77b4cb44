/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The blocking forms: one request on the task's own stack, in as many turns as a span's 32-bit length needs.
 */
#define LOG_ROOM "blk"
#include "rt/blk.h"

#define BLK_WAIT_REPORT_US 300000000ull   /* above the drivers' own limit per request: 240 s */
#define BLK_CHUNK_BYTES    (1u << 30)

struct waiter { struct wait_queue queue; bool done; };

static void wake_waiter(struct blk_request *r)
{
    struct waiter *w = r->arg;

    w->done = true;
    wait_queue_wake_all(&w->queue);
}

static int run(struct blk_device *d, struct blk_request *r)
{
    struct waiter w = {.done = false};
    int e;

    wait_queue_init(&w.queue);
    r->done = wake_waiter;
    r->arg = &w;
    e = blk_submit(d, r);
    if (e)
        return e;
    blk_kick(d);
    /* r lives on this stack, so there is no going on without it: the driver has its own limit and always completes. */
    while (!WAIT_UNTIL(&w.queue, w.done, BLK_WAIT_REPORT_US, "disk request"))
        log_warn("%s: request at sector %llu (%llu sectors) still not done", d->name, (unsigned long long)r->sector,
                 (unsigned long long)r->sectors);
    return r->status;
}

static int transfer(struct blk_device *d, enum blk_op op, uint64_t sector, uint64_t sectors, char *buf, unsigned flags)
{
    uint64_t most = BLK_CHUNK_BYTES / d->sector_bytes;

    if (sector > d->sectors || sectors > d->sectors - sector)
        return -E_RANGE;
    while (sectors > 0) {
        uint64_t n = MIN(sectors, most);
        struct blk_span span = {buf, (uint32_t)(n * d->sector_bytes)};
        struct blk_request r = {.op = op, .flags = flags, .sector = sector, .sectors = n, .spans = &span,
                                .span_count = 1};
        int e = run(d, &r);
        if (e)
            return e;
        sector += n;
        sectors -= n;
        buf += n * d->sector_bytes;
    }
    return 0;
}

int blk_read(struct blk_device *d, uint64_t sector, uint64_t sectors, void *buf)
{
    return transfer(d, BLK_READ, sector, sectors, buf, 0);
}

int blk_write(struct blk_device *d, uint64_t sector, uint64_t sectors, const void *buf, unsigned flags)
{
    return transfer(d, BLK_WRITE, sector, sectors, (char *)(uintptr_t)buf, flags);
}

int blk_flush(struct blk_device *d)
{
    struct blk_request r = {.op = BLK_FLUSH};

    return run(d, &r);
}

int blk_discard(struct blk_device *d, uint64_t sector, uint64_t sectors)
{
    struct blk_request r = {.op = BLK_DISCARD, .sector = sector, .sectors = sectors};

    return run(d, &r);
}

int blk_write_zeroes(struct blk_device *d, uint64_t sector, uint64_t sectors, unsigned flags)
{
    struct blk_request r = {.op = BLK_WRITE_ZEROES, .flags = flags, .sector = sector, .sectors = sectors};

    return run(d, &r);
}
