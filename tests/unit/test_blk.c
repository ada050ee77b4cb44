/* SPDX-License-Identifier: BSD-2-Clause */
/* ROOMS: lib mm rt fake_arch */
/* The disk class over a disk in memory: checks, splitting, what it makes up for, watchers, removal. */
#include "rt/blk.h"
#include "tests/fake_arch/fake_arch.h"
#include "tests/unit/test.h"

#define DISK_SECTORS 16384u

static struct blk_device disk;
static uint8_t content[DISK_SECTORS * 512];
static struct list submitted = LIST_INIT(submitted);
static unsigned kicks, requests, most_in_flight, in_flight, released, discards, zeroings;
static uint64_t longest_bytes, flushes, fua_writes;
static bool hold, refuse_zeroes, submitting;
static int fail_with;
static unsigned fail_nth;
static struct rt_event work_event;

static void serve(struct blk_request *r)
{
    uint8_t *at = content + r->sector * disk.sector_bytes;

    if (r->op == BLK_FLUSH) {
        flushes++;
    } else if (r->op == BLK_DISCARD) {
        discards++;
        memset(at, 0xDD, r->sectors * disk.sector_bytes);
    } else if (r->op == BLK_WRITE_ZEROES) {
        zeroings++;
        memset(at, 0, r->sectors * disk.sector_bytes);
    }
    for (unsigned i = 0; r->op <= BLK_WRITE && i < r->span_count; i++) {
        if (r->op == BLK_READ)
            memcpy(r->spans[i].addr, at, r->spans[i].bytes);
        else
            memcpy(at, r->spans[i].addr, r->spans[i].bytes);
        at += r->spans[i].bytes;
    }
}

static void work(void *arg)
{
    struct list *node;

    (void)arg;
    while (!hold && (node = list_pop_front(&submitted))) {
        struct blk_request *r = list_entry(node, struct blk_request, node);
        int status = 0;
        in_flight--;
        if (fail_nth && --fail_nth == 0)
            status = fail_with;
        if (r->op == BLK_WRITE_ZEROES && refuse_zeroes) {
            disk.has_write_zeroes = false;
            status = -E_NOTSUP;
        }
        if (status == 0)
            serve(r);
        blk_complete(r, status);
    }
}

static void fake_submit(struct blk_device *d, struct blk_request *r)
{
    uint64_t bytes = 0;

    submitting = true;
    for (unsigned i = 0; r->op <= BLK_WRITE && i < r->span_count; i++)
        bytes += r->spans[i].bytes;
    if (r->op <= BLK_WRITE && (bytes != r->sectors * d->sector_bytes || bytes > d->max_transfer_bytes))
        test_fail(__FILE__, __LINE__, "request of %llu bytes in spans of %llu", (unsigned long long)r->sectors * 512,
                  (unsigned long long)bytes);
    if ((r->flags & BLK_FUA) && !d->has_fua)
        test_fail(__FILE__, __LINE__, "FUA given to a disk without");
    fua_writes += (r->flags & BLK_FUA) != 0;
    longest_bytes = MAX(longest_bytes, bytes);
    requests++;
    in_flight++;
    most_in_flight = MAX(most_in_flight, in_flight);
    list_push_back(&submitted, &r->node);
    submitting = false;
}

static void fake_kick(struct blk_device *d)
{
    (void)d;
    kicks++;
    event_raise(&work_event);
}

static const struct blk_ops fake_ops = {.submit = fake_submit, .kick = fake_kick};

static void on_release(struct blk_device *d)
{
    (void)d;
    released++;
}

static void start(void)
{
    fake_arch_boot(64 << 20);
    work_event = (struct rt_event)RT_EVENT_INIT(work, NULL);
    disk = (struct blk_device){
        .description = "memory", .sector_bytes = 512, .physical_sector_bytes = 512, .sectors = DISK_SECTORS,
        .max_transfer_bytes = 65536, .has_flush = true, .ops = &fake_ops,
    };
    for (unsigned i = 0; i < sizeof(content); i++)
        content[i] = (uint8_t)(i * 7 + i / 512);
    if (blk_register(&disk, on_release))
        test_fail(__FILE__, __LINE__, "not registered");
}

TEST(names_are_the_smallest_free)
{
    static struct blk_device a, b, c;
    struct blk_device *d;

    start();
    b = c = a = disk;
    CHECK_EQ(blk_register(&a, NULL), 0);
    CHECK_EQ(blk_register(&b, NULL), 0);
    CHECK(!strcmp(disk.name, "disk0") && !strcmp(a.name, "disk1") && !strcmp(b.name, "disk2"));
    blk_unregister(&a);
    CHECK(!blk_get("disk1"));
    CHECK_EQ(blk_register(&c, NULL), 0);
    CHECK(!strcmp(c.name, "disk1"));
    d = blk_get_index(1);
    CHECK(d == &c);
    blk_put(d);
    d = blk_get_index(2);
    CHECK(d == &b);
    blk_put(d);
    CHECK(!blk_get_index(3));
    d = blk_get("disk0");
    CHECK(d == &disk);
    blk_put(d);
}

TEST(short_transfers_go_straight)
{
    uint8_t *buf;

    start();
    buf = kmalloc(65536);
    CHECK_EQ(blk_read(&disk, 5, 128, buf), 0);
    CHECK(!memcmp(buf, content + 5 * 512, 65536));
    CHECK_EQ(requests, 1);
    memset(buf, 0x5A, 512);
    CHECK_EQ(blk_write(&disk, 9, 1, buf, 0), 0);
    CHECK_EQ(content[9 * 512], 0x5A);
    CHECK_EQ(blk_flush(&disk), 0);
    CHECK_EQ(flushes, 1);
    CHECK_EQ(disk.stats.in_flight, 0);
    CHECK_EQ(disk.stats.reads, 1);
    CHECK_EQ(disk.stats.read_bytes, 65536);
    CHECK_EQ(disk.stats.writes, 1);
    CHECK_EQ(disk.stats.flushes, 1);
    kfree(buf);
}

TEST(long_transfers_are_split)
{
    uint8_t *buf;
    uint64_t sectors = 5000;

    start();
    buf = kmalloc(sectors * 512 + 4096);
    CHECK(buf);
    for (unsigned odd = 0; odd < 4096; odd += 1028) {
        memset(buf, 0, sectors * 512 + 4096);
        most_in_flight = 0;
        CHECK_EQ(blk_read(&disk, 77, sectors, buf + odd), 0);
        CHECK(!memcmp(buf + odd, content + 77 * 512, sectors * 512));
        CHECK_EQ(longest_bytes, 65536);
        CHECK(most_in_flight > 1 && most_in_flight <= 16);
    }
    CHECK_EQ(disk.stats.reads, 4);
    for (unsigned i = 0; i < sectors * 512; i++)
        buf[i] = (uint8_t)(i * 3 + i / 1000);
    CHECK_EQ(blk_write(&disk, 1000, sectors, buf, 0), 0);
    CHECK(!memcmp(buf, content + 1000 * 512, sectors * 512));
    kfree(buf);
}

struct many { struct blk_request r; struct blk_span spans[BLK_MAX_SPANS]; bool done; };
static void many_done(struct blk_request *r)
{
    if (submitting)
        test_fail(__FILE__, __LINE__, "done inside submit");
    ((struct many *)r->arg)->done = true;
}

TEST(spans_are_cut_where_pieces_begin)
{
    static struct many m;
    uint8_t *pages[BLK_MAX_SPANS];
    uint64_t bytes = 0;

    start();
    disk.max_transfer_bytes = 8192 + 512;
    /* First span starts inside its page, inner ones are pages, two of them double, the last one short. */
    for (unsigned i = 0; i < BLK_MAX_SPANS; i++) {
        pages[i] = arch_phys_to_virt(page_alloc(1));
        m.spans[i] = (struct blk_span){pages[i], i % 5 == 4 ? 8192 : 4096};
    }
    m.spans[0] = (struct blk_span){pages[0] + 512 * 3, 4096 - 512 * 3};
    m.spans[BLK_MAX_SPANS - 1].bytes = 1024;
    for (unsigned i = 0; i < BLK_MAX_SPANS; i++)
        bytes += m.spans[i].bytes;
    m.r = (struct blk_request){.op = BLK_READ, .sector = 3, .sectors = bytes / 512, .spans = m.spans,
                               .span_count = BLK_MAX_SPANS, .done = many_done, .arg = &m};
    CHECK_EQ(blk_submit(&disk, &m.r), 0);
    CHECK(!m.done);
    while (!m.done)
        task_yield();
    CHECK_EQ(m.r.status, 0);
    for (unsigned i = 0, at = 3 * 512; i < BLK_MAX_SPANS; at += m.spans[i++].bytes)
        CHECK(!memcmp(m.spans[i].addr, content + at, m.spans[i].bytes));
}

TEST(bad_requests_are_refused_at_once)
{
    static uint8_t page[8192] __attribute__((aligned(4096)));
    struct blk_span s[2] = {{page, 512}, {page + 4096, 512}};
    struct blk_request r = {.op = BLK_READ, .sectors = 1, .spans = s, .span_count = 1, .done = many_done};

    start();
    r.sector = DISK_SECTORS;
    CHECK_EQ(blk_submit(&disk, &r), -E_RANGE);
    r.sector = DISK_SECTORS - 1;
    r.sectors = 2;
    s[0].bytes = 1024;
    CHECK_EQ(blk_submit(&disk, &r), -E_RANGE);
    r.sector = UINT64_MAX;
    CHECK_EQ(blk_submit(&disk, &r), -E_RANGE);
    r.sector = 0;
    r.sectors = UINT64_MAX;
    CHECK_EQ(blk_submit(&disk, &r), -E_RANGE);
    r.sectors = 0;
    CHECK_EQ(blk_submit(&disk, &r), -E_INVAL);
    r.sectors = 1;
    CHECK_EQ(blk_submit(&disk, &r), -E_INVAL);          /* 1024 bytes for one sector */
    s[0].bytes = 512;
    s[0].addr = page + 2;
    CHECK_EQ(blk_submit(&disk, &r), -E_INVAL);
    s[0].addr = page;
    r.sectors = 2;
    r.span_count = 2;
    CHECK_EQ(blk_submit(&disk, &r), -E_INVAL);          /* the first does not end at a page */
    r.span_count = 0;
    CHECK_EQ(blk_submit(&disk, &r), -E_INVAL);
    r.span_count = BLK_MAX_SPANS + 1;
    CHECK_EQ(blk_submit(&disk, &r), -E_INVAL);
    r = (struct blk_request){.op = BLK_DISCARD, .sectors = 1, .done = many_done};
    CHECK_EQ(blk_submit(&disk, &r), -E_NOTSUP);
    disk.read_only = true;
    CHECK_EQ(blk_write_zeroes(&disk, 0, 1, 0), -E_ROFS);
    CHECK_EQ(blk_write(&disk, 0, 1, page, 0), -E_ROFS);
    CHECK_EQ(requests, 0);
    CHECK_EQ(disk.stats.in_flight, 0);
}

TEST(fua_is_made_up_for)
{
    uint8_t *buf;

    start();
    buf = kzalloc(300 * 512);
    CHECK_EQ(blk_write(&disk, 0, 1, buf, BLK_FUA), 0);
    CHECK_EQ(requests, 2);
    CHECK_EQ(flushes, 1);
    CHECK_EQ(blk_write(&disk, 0, 300, buf, BLK_FUA), 0);
    CHECK_EQ(flushes, 2);
    disk.has_fua = true;
    CHECK_EQ(blk_write(&disk, 0, 300, buf, BLK_FUA), 0);
    CHECK_EQ(flushes, 2);
    CHECK_EQ(fua_writes, 3);
    CHECK_EQ(blk_write_zeroes(&disk, 0, 300, BLK_FUA), 0);
    CHECK_EQ(flushes, 3);
    disk.has_flush = false;
    CHECK_EQ(blk_flush(&disk), 0);
    CHECK_EQ(flushes, 3);
    /* A write that failed is not flushed. */
    disk.has_flush = true;
    disk.has_fua = false;
    fail_nth = 2;
    fail_with = -E_IO;
    CHECK_EQ(blk_write(&disk, 0, 300, buf, BLK_FUA), -E_IO);
    CHECK_EQ(flushes, 3);
    CHECK_EQ(disk.stats.errors, 1);
    kfree(buf);
}

static bool all(uint64_t sector, uint64_t sectors, uint8_t value)
{
    for (uint64_t i = sector * 512; i < (sector + sectors) * 512; i++)
        if (content[i] != value)
            return false;
    return true;
}

TEST(zeroes_are_written_or_asked_for)
{
    start();
    uint8_t before = content[99 * 512 + 511], after = content[4100 * 512];
    CHECK_EQ(blk_write_zeroes(&disk, 100, 4000, 0), 0);
    CHECK(all(100, 4000, 0));
    CHECK_EQ(content[99 * 512 + 511], before);
    CHECK_EQ(content[4100 * 512], after);
    CHECK_EQ(zeroings, 0);
    memset(content, 1, sizeof(content));
    disk.has_write_zeroes = true;
    disk.max_write_zeroes_sectors = 1000;
    CHECK_EQ(blk_write_zeroes(&disk, 100, 4000, 0), 0);
    CHECK_EQ(zeroings, 4);
    CHECK(all(100, 4000, 0));
    /* The disk that changes its mind. */
    memset(content, 1, sizeof(content));
    refuse_zeroes = true;
    CHECK_EQ(blk_write_zeroes(&disk, 100, 4000, 0), 0);
    CHECK(all(100, 4000, 0));
    CHECK(all(0, 100, 1) && all(4100, 100, 1));
    CHECK_EQ(disk.stats.errors, 0);
}

TEST(discards_are_split)
{
    start();
    disk.has_discard = true;
    disk.max_discard_sectors = 100;
    CHECK_EQ(blk_discard(&disk, 10, 250), 0);
    CHECK_EQ(discards, 3);
    CHECK(all(10, 250, 0xDD));
    CHECK_EQ(blk_discard(&disk, 10, 100), 0);
    CHECK_EQ(discards, 4);
}

TEST(one_kick_serves_a_batch)
{
    static struct many m[32];
    static uint8_t page[4096] __attribute__((aligned(4096)));

    start();
    for (unsigned i = 0; i < 32; i++) {
        m[i].spans[0] = (struct blk_span){page, 4096};
        m[i].r = (struct blk_request){.op = BLK_READ, .sector = i * 8, .sectors = 8, .spans = m[i].spans,
                                      .span_count = 1, .done = many_done, .arg = &m[i]};
        CHECK_EQ(blk_submit(&disk, &m[i].r), 0);
    }
    CHECK_EQ(kicks, 0);
    while (!m[31].done)
        task_yield();
    CHECK_EQ(kicks, 1);
    CHECK_EQ(blk_submit(&disk, &m[0].r), 0);
    blk_kick(&disk);
    CHECK_EQ(kicks, 2);
    blk_kick(&disk);
    task_yield();
    task_yield();
    CHECK_EQ(kicks, 2);
}

static unsigned added, gone, resized;
static void watch(void *arg, struct blk_device *d, enum blk_change change)
{
    (void)arg;
    (void)d;
    added += change == BLK_ADDED;
    gone += change == BLK_REMOVED;
    resized += change == BLK_RESIZED;
}

TEST(watchers_hear_of_everything)
{
    static struct blk_device a;
    struct blk_watcher w = {.fn = watch};

    start();
    blk_watch(&w);
    a = disk;
    CHECK_EQ(blk_register(&a, NULL), 0);
    blk_capacity_changed(&a, 5);
    blk_capacity_changed(&a, 5);
    CHECK_EQ(a.sectors, 5);
    blk_unregister(&a);
    CHECK(added == 1 && gone == 1 && resized == 1);
    blk_unwatch(&w);
    blk_unregister(&disk);
    CHECK_EQ(gone, 1);
}

TEST(removal_ends_everything)
{
    static struct many big, small, late;
    static uint8_t *buf;

    start();
    blk_ref(&disk);
    buf = kmalloc(4000 * 512);
    hold = true;
    big.spans[0] = (struct blk_span){buf, 4000 * 512};
    big.r = (struct blk_request){.op = BLK_READ, .sectors = 4000, .spans = big.spans, .span_count = 1,
                                 .done = many_done, .arg = &big};
    small.spans[0] = (struct blk_span){buf, 512};
    small.r = (struct blk_request){.op = BLK_READ, .sectors = 1, .spans = small.spans, .span_count = 1,
                                   .done = many_done, .arg = &small};
    late = small;
    late.r.spans = late.spans;
    late.r.arg = &late;
    CHECK_EQ(blk_submit(&disk, &big.r), 0);
    CHECK_EQ(blk_submit(&disk, &small.r), 0);
    blk_kick(&disk);
    task_yield();
    CHECK_EQ(in_flight, 17);
    blk_unregister(&disk);
    CHECK_EQ(released, 0);
    /* The driver ends what it has, as after closing its channel. */
    while (!list_empty(&submitted))
        blk_complete(list_entry(list_pop_front(&submitted), struct blk_request, node), -E_REMOVED);
    while (!big.done)
        task_yield();
    CHECK(small.done);
    CHECK_EQ(big.r.status, -E_REMOVED);
    CHECK_EQ(small.r.status, -E_REMOVED);
    CHECK_EQ(blk_submit(&disk, &late.r), 0);
    CHECK(!late.done);
    while (!late.done)
        task_yield();
    CHECK_EQ(late.r.status, -E_REMOVED);
    CHECK_EQ(blk_read(&disk, 0, 1, buf), -E_REMOVED);
    CHECK_EQ(disk.stats.in_flight, 0);
    blk_put(&disk);
    CHECK_EQ(released, 1);
}

/* The piece that the host may still write to is told, whatever else went wrong before or after. */
TEST(a_piece_without_answer_is_told)
{
    static const int ends[][2] = {{-E_IO, -E_TIMEOUT}, {-E_TIMEOUT, -E_IO}, {-E_REMOVED, -E_TIMEOUT}, {-E_IO, -E_REMOVED}};
    static struct many big;

    start();
    uint8_t *buf = kmalloc(256 * 512);
    hold = true;
    for (unsigned i = 0; i < ARRAY_SIZE(ends); i++) {
        big.done = 0;
        big.spans[0] = (struct blk_span){buf, 256 * 512};
        big.r = (struct blk_request){.op = BLK_READ, .sectors = 256, .spans = big.spans, .span_count = 1,
                                     .done = many_done, .arg = &big};
        CHECK_EQ(blk_submit(&disk, &big.r), 0);
        for (unsigned n = 0; n < 2; n++)
            blk_complete(list_entry(list_pop_front(&submitted), struct blk_request, node), ends[i][n]);
        while (!big.done)
            task_yield();
        CHECK_EQ(big.r.status, i == 3 ? -E_IO : -E_TIMEOUT);
    }
    kfree(buf);
}

TEST(no_memory_no_disk)
{
    static struct blk_device a;

    start();
    a = disk;
    mm_fail_nth(1);
    CHECK_EQ(blk_register(&a, NULL), -E_NOMEM);
    mm_fail_nth(0);
    CHECK_EQ(blk_register(&a, NULL), 0);
    CHECK(!strcmp(a.name, "disk1"));
}

TEST_MAIN()
