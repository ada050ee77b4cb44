/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * NBD: whoever reaches the server's port sends any bytes, in pieces of any size, reads its replies or does not, and goes
 * away at any moment; the disks answer in any order, fail, or are removed meanwhile.
 *
 * Must hold: negotiation and requests never reach beyond the disk or the session's share of memory; each reply's bytes
 * stay put until they are acknowledged; every operation ends; when the client is gone, so is all it cost. Good clients
 * are served afterwards: one of them reads a sector and gets its right bytes.
 *
 * An input is a list of steps: bytes from the client (u16 length), or something that happens.
 */
#include <stdlib.h>
#include <string.h>
#include "apps/nbd/internal.h"
#include "tests/fake_arch/fake_arch.h"
#include "tests/fuzz/fuzz.h"

#define DISK_BYTES (256u << 10)
#define OUT_KEPT   65536u

/* ---- the disks ---- */
struct disk {
    struct blk_device d;
    struct list queue;
    unsigned queued;
    int fail_with;
    bool newest_first;
};
static struct disk disks[2];
static uint8_t content[2][DISK_BYTES] __attribute__((section("scratch")));    /* made anew where it matters */

static void disk_submit(struct blk_device *d, struct blk_request *r)
{
    struct disk *f = d->driver;
    FUZZ_CHECK(r->sector <= d->sectors && r->sectors <= d->sectors - r->sector);
    FUZZ_CHECK(r->op == BLK_READ || r->op == BLK_FLUSH || !d->read_only);
    f->queued++;
    list_push_back(&f->queue, &r->node);
}
static void disk_kick(struct blk_device *d UNUSED) {}
static const struct blk_ops disk_ops = {disk_submit, disk_kick};

static bool complete_one(struct disk *f)
{
    struct list *node = f->newest_first ? f->queue.prev : f->queue.next;
    if (node == &f->queue)
        return false;
    struct blk_request *r = list_entry(node, struct blk_request, node);
    uint8_t *at = content[f - disks] + r->sector * f->d.sector_bytes;
    int status = f->d.removed ? -E_REMOVED : f->fail_with;

    list_remove(node);
    f->queued--;
    f->fail_with = 0;
    for (unsigned i = 0; status == 0 && i < r->span_count; at += r->spans[i++].bytes) {
        if (r->op == BLK_READ)
            memcpy(r->spans[i].addr, at, r->spans[i].bytes);
        else
            memcpy(at, r->spans[i].addr, r->spans[i].bytes);
    }
    blk_complete(r, status);
    return true;
}

static void disk_released(struct blk_device *d UNUSED) {}

static void add_disk(unsigned n, uint32_t sector_bytes)
{
    struct disk *f = &disks[n];
    list_init(&f->queue);
    f->d = (struct blk_device){
        .description = "Test disk", .sector_bytes = sector_bytes, .physical_sector_bytes = sector_bytes,
        .sectors = DISK_BYTES / sector_bytes, .max_transfer_bytes = 1u << 20, .max_discard_sectors = 1u << 20,
        .has_fua = n, .has_flush = true, .has_discard = true, .has_write_zeroes = n,
        .max_write_zeroes_sectors = 1u << 20, .ops = &disk_ops, .driver = f,
    };
    FUZZ_CHECK(blk_register(&f->d, disk_released) == 0);
}

/* ---- the client's end ---- */
struct client {
    struct nbd_session s;
    struct list unacked;
    unsigned unacked_count;
    bool closed, released;
};
static struct client client;
static uint8_t out[OUT_KEPT];                  /* the newest reply bytes */
static uint32_t out_bytes;

static void keep(const void *data, uint32_t bytes)
{
    for (uint32_t i = 0; i < bytes; i++)       /* looks at every byte */
        out[(out_bytes + i) % OUT_KEPT] = ((const uint8_t *)data)[i];
    out_bytes += bytes;
}

static void acknowledge(unsigned count)
{
    struct list *node;
    while (count-- && (node = list_pop_front(&client.unacked))) {
        struct nbd_reply *r = list_entry(node, struct nbd_reply, node);
        keep(r->header, r->header_bytes);
        if (r->data_bytes)
            keep(r->data, r->data_bytes);
        client.unacked_count--;
        r->sent(r);
    }
}

static void on_send(struct nbd_session *s UNUSED, struct nbd_reply *r)
{
    FUZZ_CHECK(!client.closed && r->header_bytes <= sizeof(r->header));
    client.unacked_count++;
    list_push_back(&client.unacked, &r->node);
}
static void on_resume(struct nbd_session *s UNUSED) {}
static void on_close(struct nbd_session *s UNUSED) { client.closed = true; }
static void on_released(struct nbd_session *s UNUSED) { client.released = true; }
static const struct nbd_transport transport = {on_send, on_resume, on_close, on_released};
static bool may_write(const char *disk) { return strcmp(disk, "disk1") == 0; }
static const struct nbd_policy policy = {may_write};

static uint64_t free_pages, heap_bytes;

static void open_session(void)
{
    memset(&client, 0, sizeof(client));
    list_init(&client.unacked);
    nbd_session_init(&client.s, &transport, &policy);
    nbd_session_start(&client.s);
}

/* As connection.c: what is not taken waits, and comes again. */
static uint8_t waiting[1 << 16] __attribute__((section("scratch")));
static size_t waiting_bytes;

static void feed(const uint8_t *bytes, size_t n)
{
    n = MIN(n, sizeof(waiting) - waiting_bytes);
    if (n)
        memcpy(waiting + waiting_bytes, bytes, n);
    waiting_bytes += n;
    nbd_session_input(&client.s, NULL, 0);
    uint8_t *exact = malloc(waiting_bytes + !waiting_bytes);
    memcpy(exact, waiting, waiting_bytes);
    size_t taken = nbd_session_input(&client.s, exact, waiting_bytes);
    FUZZ_CHECK(taken <= waiting_bytes);
    free(exact);
    memmove(waiting, waiting + taken, waiting_bytes - taken);
    waiting_bytes -= taken;
}

/* Until nothing moves any more. */
static void settle(void)
{
    for (unsigned idle = 0; idle < 3; idle++) {
        for (unsigned n = 0; n < ARRAY_SIZE(disks); n++)
            while (complete_one(&disks[n]))
                idle = 0;
        if (client.unacked_count)
            idle = 0;
        acknowledge(UINT32_MAX);
        if (!client.closed && waiting_bytes)
            feed(NULL, 0);
        task_yield();
    }
}

static void end_session(void)
{
    nbd_session_end(&client.s);
    acknowledge(UINT32_MAX);
    for (unsigned i = 0; i < 4 && !client.released; i++)
        settle();
    FUZZ_CHECK(client.released && client.s.references == 0 && client.s.buffer_bytes == 0 && nbd_buffers_used() == 0);
    FUZZ_CHECK(disks[0].queued == 0 && disks[1].queued == 0 && client.s.op_count == 0);
}

/* Reads the first sector of disk1 and compares. */
static void serve(void)
{
    static const uint8_t hello[] = {
        0, 0, 0, 3, 'I', 'H', 'A', 'V', 'E', 'O', 'P', 'T', 0, 0, 0, 1, 0, 0, 0, 5, 'd', 'i', 's', 'k', '1',
        0x25, 0x60, 0x95, 0x13, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0,
    };
    for (unsigned i = 0; i < 4096; i++)
        content[1][i] = (uint8_t)(i * 31 + 7);
    waiting_bytes = out_bytes = 0;
    disks[1].fail_with = 0;
    open_session();
    feed(hello, sizeof(hello));
    settle();
    FUZZ_CHECK(out_bytes == 18 + 10 + 16 + 4096);
    FUZZ_CHECK(memcmp(out + 18 + 10 + 16, content[1], 4096) == 0);
    end_session();
}

static void setup(void)
{
    struct mm_stats s;
    fake_mappings_keep();
    fake_arch_boot(24 << 20);
    nbd_buffers_init(2 << 20);
    add_disk(0, 512);
    add_disk(1, 4096);
    for (unsigned i = 0; i < 3; i++)
        serve();
    mm_get_stats(&s);
    free_pages = s.free_pages;
    heap_bytes = s.heap_bytes;
}

static void happen(uint8_t what)
{
    switch (what >> 3) {
    case 0: case 1: case 2: case 3:
        acknowledge(1u + (what >> 3) * 2);
        break;
    case 4: case 5:
        complete_one(&disks[what >> 3 & 1]);
        break;
    case 6:
        disks[what & 1].newest_first = what & 2;
        break;
    case 7:
        disks[what & 1].fail_with = what & 2 ? -E_IO : -E_NOSPC;
        break;
    case 8:
        nbd_session_eof(&client.s);
        break;
    case 9:
        nbd_session_finish(&client.s);
        break;
    case 10:
        nbd_session_tick(&client.s);
        break;
    case 11:
        if (!disks[0].d.removed)
            blk_unregister(&disks[0].d);
        break;
    case 12:
        mm_fail_nth(1 + what % 8);
        break;
    default:
        task_yield();
    }
}

static void run(struct input *in)
{
    uint8_t first = in_u8(in);

    waiting_bytes = 0;
    open_session();
    for (unsigned n = 0; in->left && n < 400 && !client.closed; n++) {
        uint8_t what = in_u8(in);
        const uint8_t *bytes;
        if (what % 8 < 5) {
            size_t length = in_take(in, &bytes, in_u16(in));
            feed(bytes, length);
        } else {
            happen(what);
        }
        if (first & 1 && n % 4 == 3)
            settle();
        FUZZ_CHECK(client.s.buffer_bytes <= nbd_buffers_limit() && client.s.op_count <= NBD_OPS_MAX);
    }
    mm_fail_nth(0);
    if (first & 2)
        settle();
    end_session();
    if (first & 4)
        serve();
}

const struct fuzz_target fuzz_target = {.setup = setup, .run = run, .limit_s = 100};
