/* SPDX-License-Identifier: BSD-2-Clause */
/* ROOMS: lib mm rt hv vmbus drivers host fake_arch */
/* storvsc against the model of the host: every protocol version, disks of all kinds, faults, removal under load. */
#include "drivers/drivers.h"
#include "drivers/storvsc.h"
#include "hv/hv.h"
#include "tests/fake_arch/hv_host.h"
#include "tests/unit/child.h"

#define RAM_BYTES (64ull << 20)

static void *mem_alloc(void *ctx, size_t bytes)
{
    (void)ctx;
    return calloc(1, bytes);
}

static void mem_free(void *ctx, void *p, size_t bytes)
{
    (void)ctx;
    (void)bytes;
    free(p);
}

static const struct host_ops mem_ops = {.alloc = mem_alloc, .free = mem_free};
static struct host *host;
static struct host_scsi *scsi;
static struct host_scsi_config scsi_config;
static struct host_config host_cfg;
static struct blk_mem *backing[64];

static void defaults(void)
{
    fake_arch_boot(RAM_BYTES);
    host_config_default(&host_cfg);
    host_scsi_config_default(&scsi_config);
}

static void host_up(void)
{
    host = hv_host_start(&host_cfg);
    scsi = host_add_scsi(host, &scsi_config);
}

static void add_disk(unsigned lun, uint32_t sector_bytes, uint64_t sectors, void (*change)(struct host_blk_info *info))
{
    struct host_blk_info info;

    backing[lun] = blk_mem_create(&mem_ops, NULL, sector_bytes, sectors);
    blk_mem_info(backing[lun], &info);
    info.id[0] = (uint8_t)lun;
    if (change)
        change(&info);
    if (!host_add_lun(host, scsi, lun, &info, &blk_mem_ops, backing[lun]))
        test_fail(__FILE__, __LINE__, "LUN %u not added", lun);
}

static int guest_up(void)
{
    if (!hv_init())
        return -E_NOTSUP;
    hv_clock_init();
    if (hv_synic_init())
        return -E_NOTSUP;
    storvsc_register();
    return vmbus_connect();
}

static void start(uint32_t sector_bytes, uint64_t sectors)
{
    defaults();
    host_up();
    add_disk(0, sector_bytes, sectors, NULL);
    int e = guest_up();
    if (e)
        test_fail(__FILE__, __LINE__, "guest not up: %s", error_name(e));
}

static void pattern(uint8_t *p, uint64_t bytes, unsigned seed)
{
    for (uint64_t i = 0; i < bytes; i++)
        p[i] = (uint8_t)(i * 31 + i / 251 + seed * 17 + (i >> 16));
}

/* Runs the loop until the condition holds or so much time has passed. */
#define RUN_UNTIL(cond, limit_s)                                                        \
    ({                                                                                  \
        uint64_t end_ = rt_now_100ns() + S_100NS(limit_s);                              \
        while (!(cond) && rt_now_100ns() < end_)                                        \
            task_sleep_us((limit_s) * 500);                                             \
        (cond);                                                                         \
    })

static bool present(unsigned n)
{
    struct blk_device *d = blk_get_index(n);

    if (d)
        blk_put(d);
    return d;
}

/* ---- plain service ---- */

static void transfer_sizes(uint32_t sector_bytes)
{
    static const unsigned sizes[] = {1, 2, 7, 8, 9, 63, 64, 65, 127, 512, 513, 1000};
    uint64_t most = 1000 * sector_bytes + 8192;
    uint8_t *a = kmalloc(most), *b = kmalloc(most), *c = malloc(most);
    struct blk_device *d = blk_get("disk0");

    CHECK(d && a && b && c);
    CHECK_EQ(d->sector_bytes, sector_bytes);
    for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
        unsigned odd = (i * 1364u) & 4092u;
        uint64_t bytes = (uint64_t)sizes[i] * sector_bytes;
        pattern(a + odd, bytes, i);
        memset(b, 0xEE, most);
        CHECK_EQ(blk_write(d, 3 + i, sizes[i], a + odd, 0), 0);
        CHECK(blk_mem_access(backing[0], 3 + i, c, sizes[i], false));
        CHECK(!memcmp(a + odd, c, bytes));
        CHECK_EQ(blk_read(d, 3 + i, sizes[i], b + (4092 - odd)), 0);
        CHECK(!memcmp(b + (4092 - odd), c, bytes));
        CHECK(b[4092 - odd + bytes] == 0xEE && (odd == 4092 || b[4091 - odd] == 0xEE));
    }
    blk_put(d);
    kfree(a);
    kfree(b);
    free(c);
}

TEST(sectors_of_512)
{
    start(512, 100000);
    transfer_sizes(512);
}

TEST(sectors_of_4096)
{
    start(4096, 10000);
    transfer_sizes(4096);
}

static void one_version(void *arg)
{
    uint16_t version = (uint16_t)(uintptr_t)arg;
    char text[64];

    defaults();
    scsi_config.max_version = version;
    host_up();
    add_disk(0, 512, 50000, NULL);
    CHECK_EQ(guest_up(), 0);
    snprintf(text, sizeof(text), "storage protocol %u.%u", version >> 8, version & 255);
    CHECK(fake_log_contains(text));
    transfer_sizes(512);
    vmbus_disconnect(false);
    CHECK(!blk_get("disk0"));
}

TEST(every_protocol_version)
{
    static const uint16_t all[] = {VSTOR_VERSION_WIN6, VSTOR_VERSION_WIN7, VSTOR_VERSION_WIN8, VSTOR_VERSION_WIN8_1,
                                   VSTOR_VERSION_WIN10};

    for (unsigned i = 0; i < ARRAY_SIZE(all); i++)
        CHECK_EQ(in_child(one_version, (void *)(uintptr_t)all[i]), FAKE_RETURNED);
}

/* ---- kinds of disks ---- */

TEST(four_tebibytes_to_the_last_sector)
{
    uint8_t *out, *in;
    uint64_t last = (4ull << 40) / 512 - 1;

    start(512, last + 1);
    out = kmalloc(4096);
    in = kmalloc(4096);
    struct blk_device *d = blk_get("disk0");
    CHECK_EQ(d->sectors, last + 1);
    pattern(out, 512, 1);
    CHECK_EQ(blk_write(d, last, 1, out, 0), 0);
    CHECK_EQ(blk_read(d, last, 1, in), 0);
    CHECK(!memcmp(in, out, 512));
    CHECK(blk_mem_access(backing[0], last, in, 1, false));
    CHECK(!memcmp(in, out, 512));
    /* Around the end of what the short commands reach. */
    CHECK_EQ(blk_write(d, 0xFFFFFFFF, 8, out, 0), 0);
    CHECK_EQ(blk_read(d, 0xFFFFFFFF, 8, in), 0);
    CHECK(!memcmp(in, out, 4096));
    CHECK_EQ(blk_read(d, last, 2, in), -E_RANGE);
    blk_put(d);
}

static void read_only(struct host_blk_info *info) { info->read_only = true; }
static void with_fua(struct host_blk_info *info)
{
    info->supports_fua = true;
    info->write_cache = true;
    info->supports_unmap = false;
    info->physical_exponent = 3;
}
static void with_unmap(struct host_blk_info *info)
{
    info->supports_unmap = true;
    info->supports_fua = false;
}

TEST(what_disks_can_do)
{
    uint8_t *buf;

    defaults();
    host_up();
    add_disk(0, 512, 5000, read_only);
    add_disk(1, 512, 50000, with_fua);
    add_disk(2, 4096, 5000, with_unmap);
    CHECK_EQ(guest_up(), 0);
    struct blk_device *ro = blk_get("disk0"), *fua = blk_get("disk1"), *thin = blk_get("disk2");
    CHECK(ro && fua && thin);
    buf = kzalloc(65536);
    CHECK(ro->read_only && !fua->read_only);
    CHECK_EQ(blk_write(ro, 0, 1, buf, 0), -E_ROFS);
    CHECK(fua->has_fua && !thin->has_fua);
    CHECK_EQ(fua->physical_sector_bytes, 4096);
    pattern(buf, 65536, 5);
    CHECK_EQ(blk_write(fua, 7, 16, buf, BLK_FUA), 0);
    uint64_t flushes = blk_mem_flushes(backing[1]);
    CHECK_EQ(blk_flush(fua), 0);
    CHECK_EQ(blk_mem_flushes(backing[1]), flushes + 1);
    /* Without FUA the class flushes behind the write. */
    flushes = blk_mem_flushes(backing[2]);
    CHECK_EQ(blk_write(thin, 7, 1, buf, BLK_FUA), 0);
    CHECK_EQ(blk_mem_flushes(backing[2]), flushes + 1);
    CHECK(thin->has_discard && !fua->has_discard);
    CHECK_EQ(blk_write(thin, 100, 16, buf, 0), 0);
    uint64_t pages = blk_mem_pages(backing[2]);
    CHECK_EQ(blk_discard(thin, 100, 16), 0);
    CHECK_EQ(blk_mem_pages(backing[2]), pages - 16);
    CHECK_EQ(blk_discard(fua, 0, 1), -E_NOTSUP);
    kfree(buf);
}

static void zeroes_on(void *arg)
{
    uint8_t *buf;

    defaults();
    scsi_config.max_version = (uint16_t)(uintptr_t)arg;
    host_up();
    add_disk(0, 512, 100000, with_unmap);
    CHECK_EQ(guest_up(), 0);
    struct blk_device *d = blk_get("disk0");
    buf = kmalloc(4000 * 512);
    memset(buf, 0xA5, 4000 * 512);
    CHECK_EQ(blk_write(d, 1000, 4000, buf, 0), 0);
    CHECK_EQ(blk_write_zeroes(d, 1001, 3998, 0), 0);
    CHECK_EQ(blk_read(d, 1000, 4000, buf), 0);
    CHECK(buf[511] == 0xA5 && buf[3999 * 512] == 0xA5);
    for (unsigned i = 512; i < 3999 * 512; i++)
        CHECK(buf[i] == 0);
    CHECK_EQ(blk_write_zeroes(d, 1000, 4000, BLK_MAY_UNMAP | BLK_FUA), 0);
    CHECK_EQ(blk_read(d, 1000, 4000, buf), 0);
    for (unsigned i = 0; i < 4000 * 512; i++)
        CHECK(buf[i] == 0);
}

TEST(zeroes_with_and_without_write_same)
{
    CHECK_EQ(in_child(zeroes_on, (void *)(uintptr_t)VSTOR_VERSION_WIN10), FAKE_RETURNED);
    CHECK_EQ(in_child(zeroes_on, (void *)(uintptr_t)VSTOR_VERSION_WIN8_1), FAKE_RETURNED);
}

TEST(several_mebibytes_in_one_call)
{
    uint64_t sectors = (5 << 20) / 512 + 3;
    uint8_t *a, *b;

    start(512, 100000);
    a = kmalloc(sectors * 512 + 4096);
    b = kmalloc(sectors * 512 + 4096);
    CHECK(a && b);
    pattern(a + 512, sectors * 512, 9);
    struct blk_device *d = blk_get("disk0");
    CHECK(d->max_transfer_bytes <= scsi_config.max_transfer_bytes);
    CHECK_EQ(blk_write(d, 33, sectors, a + 512, 0), 0);
    CHECK_EQ(blk_read(d, 33, sectors, b + 2052), 0);
    CHECK(!memcmp(a + 512, b + 2052, sectors * 512));
}

TEST(small_limit_of_the_host)
{
    uint8_t *a;

    defaults();
    scsi_config.max_transfer_bytes = 4096;
    host_up();
    add_disk(0, 512, 100000, NULL);
    CHECK_EQ(guest_up(), 0);
    struct blk_device *d = blk_get("disk0");
    CHECK_EQ(d->max_transfer_bytes, 4096);
    a = kmalloc(65536);
    pattern(a, 65536, 2);
    CHECK_EQ(blk_write(d, 1, 127, a + 512, 0), 0);
    memset(a, 0, 65536);
    CHECK_EQ(blk_read(d, 1, 127, a + 100), 0);
    uint8_t *b = kmalloc(65536);
    pattern(b, 65536, 2);
    CHECK(!memcmp(a + 100, b + 512, 127 * 512));
}

TEST(no_disk_and_the_far_lun)
{
    defaults();
    host_up();
    CHECK_EQ(guest_up(), 0);
    CHECK(!present(0));
    add_disk(63, 512, 1000, NULL);
    CHECK(RUN_UNTIL(present(0), 2));
}

/* ---- many at once ---- */

struct io { struct blk_request r; struct blk_span span; bool done; };
static unsigned ios_done;

static void io_done(struct blk_request *r)
{
    struct io *io = r->arg;

    io->done = true;
    ios_done++;
}

static struct io *start_reads(struct blk_device *d, unsigned n, unsigned sectors)
{
    struct io *io = kcalloc(n, sizeof(*io));

    ios_done = 0;
    for (unsigned i = 0; i < n; i++) {
        io[i].span = (struct blk_span){kmalloc(sectors * 512), sectors * 512};
        io[i].r = (struct blk_request){.op = BLK_READ, .sector = (i * 37) % (d->sectors - sectors), .sectors = sectors,
                                       .spans = &io[i].span, .span_count = 1, .done = io_done, .arg = &io[i]};
        if (!io[i].span.addr || blk_submit(d, &io[i].r))
            test_fail(__FILE__, __LINE__, "request %u not taken", i);
    }
    blk_kick(d);
    return io;
}

static bool reads_are_right(struct io *io, unsigned n, unsigned sectors)
{
    uint8_t *want = malloc(sectors * 512);
    bool right = true;

    for (unsigned i = 0; i < n; i++)
        right &= io[i].r.status == 0 && blk_mem_access(backing[0], io[i].r.sector, want, sectors, false) &&
                 !memcmp(want, io[i].span.addr, sectors * 512);
    free(want);
    return right;
}

static void fill(uint64_t sectors)
{
    uint8_t *p = malloc(sectors * 512);

    pattern(p, sectors * 512, 3);
    blk_mem_access(backing[0], 0, p, (uint32_t)sectors, true);
    free(p);
}

TEST(two_hundred_fifty_six_outstanding_and_more_waiting)
{
    struct host_state state;

    start(512, 20000);
    fill(20000);
    struct blk_device *d = blk_get("disk0");
    blk_mem_hold(backing[0], true, false);
    struct io *io = start_reads(d, 700, 8);
    task_sleep_us(100000);
    host_get_state(host, &state);
    CHECK(state.blk_in_flight >= 256);
    CHECK_EQ(ios_done, 0);
    blk_mem_hold(backing[0], false, true);       /* newest first: order is not promised */
    hv_host_run();
    CHECK(RUN_UNTIL(ios_done == 700, 10));
    CHECK(reads_are_right(io, 700, 8));
    CHECK_EQ(d->stats.in_flight, 0);
    CHECK_EQ(d->stats.errors, 0);
}

TEST(large_requests_fill_the_ring)
{
    defaults();
    scsi_config.max_transfer_bytes = 8 << 20;
    host_up();
    add_disk(0, 512, 20000, NULL);
    CHECK_EQ(guest_up(), 0);
    fill(20000);
    struct blk_device *d = blk_get("disk0");
    CHECK_EQ(d->max_transfer_bytes, 1 << 20);
    /* 100 requests with 129 page frames each want about as much as the ring holds. */
    struct io *io = start_reads(d, 60, 1024);
    CHECK(RUN_UNTIL(ios_done == 60, 20));
    CHECK(reads_are_right(io, 60, 1024));
}

TEST(signals_are_few)
{
    start(512, 20000);
    struct blk_device *d = blk_get("disk0");
    uint64_t before = host_counters(host)->signals, unneeded = host_counters(host)->signals_unneeded;
    for (unsigned round = 0; round < 32; round++) {
        start_reads(d, 32, 8);
        CHECK(RUN_UNTIL(ios_done == 32, 5));
    }
    CHECK(host_counters(host)->signals - before <= 64);
    CHECK_EQ(host_counters(host)->signals_unneeded, unneeded);
}

TEST(no_allocation_on_the_way)
{
    start(512, 20000);
    struct blk_device *d = blk_get("disk0");
    uint8_t *buf = kmalloc(1 << 20);
    uint64_t before = mm_alloc_count();
    for (unsigned i = 0; i < 50; i++)
        CHECK_EQ(blk_read(d, i, 2000, buf), 0);
    CHECK_EQ(blk_flush(d), 0);
    CHECK_EQ(mm_alloc_count(), before);
}

/* ---- errors ---- */

TEST(medium_error_in_words)
{
    start(512, 20000);
    uint8_t *buf = kmalloc(512);
    struct blk_device *d = blk_get("disk0");
    blk_mem_fail_next(backing[0], HOST_BLK_MEDIUM_ERROR);
    CHECK_EQ(blk_read(d, 7, 1, buf), -E_IO);
    CHECK(fake_log_contains("medium error: unrecovered read error (3/11/00)"));
    CHECK(fake_log_contains("READ(10) at sector 7"));
    CHECK_EQ(blk_read(d, 7, 1, buf), 0);
    blk_mem_fail_next(backing[0], HOST_BLK_MEDIUM_ERROR);
    CHECK_EQ(blk_write(d, 7, 1, buf, 0), -E_IO);
    CHECK_EQ(d->stats.errors, 2);
}

static unsigned removed_seen, added_seen, resized_seen;
static void watch(void *arg, struct blk_device *d, enum blk_change change)
{
    (void)arg;
    (void)d;
    added_seen += change == BLK_ADDED;
    removed_seen += change == BLK_REMOVED;
    resized_seen += change == BLK_RESIZED;
}
static struct blk_watcher watcher = {.fn = watch};

TEST(resize_is_noticed_and_the_request_repeated)
{
    start(512, 20000);
    uint8_t *buf = kmalloc(512);
    blk_watch(&watcher);
    struct blk_device *d = blk_get("disk0");
    host_resize_lun(host, scsi, 0, 25000);
    CHECK_EQ(blk_read(d, 7, 1, buf), 0);
    CHECK(fake_log_contains("capacity changed (6/2A/09)"));
    CHECK(RUN_UNTIL(d->sectors == 25000, 5));
    CHECK_EQ(resized_seen, 1);
    CHECK_EQ(removed_seen, 0);
}

/* ---- coming and going ---- */

TEST(luns_come_and_go)
{
    start(512, 20000);
    uint8_t *buf = kmalloc(512);
    blk_watch(&watcher);
    struct blk_device *d0 = blk_get("disk0");
    add_disk(5, 4096, 1000, NULL);
    CHECK(RUN_UNTIL(added_seen == 1, 5));
    struct blk_device *d1 = blk_get("disk1");
    CHECK(d1 && d1->sector_bytes == 4096);
    CHECK_EQ(blk_read(d0, 0, 1, buf), 0);
    host_remove_lun(host, scsi, 5);
    hv_host_run();
    CHECK(RUN_UNTIL(removed_seen == 1, 5));
    CHECK(!blk_get("disk1"));
    CHECK(d1->removed);
    uint8_t *big = kmalloc(4096);
    CHECK_EQ(blk_read(d1, 0, 1, big), -E_REMOVED);
    blk_put(d1);
    CHECK_EQ(blk_read(d0, 0, 1, buf), 0);
    /* Another disk in the same place, between two scans. */
    host_remove_lun(host, scsi, 0);
    struct host_blk_info info;
    backing[9] = blk_mem_create(&mem_ops, NULL, 512, 20000);
    blk_mem_info(backing[9], &info);
    info.id[0] = 99;
    CHECK(host_add_lun(host, scsi, 0, &info, &blk_mem_ops, backing[9]));
    CHECK(RUN_UNTIL(added_seen == 2, 5));
    CHECK(d0->removed);
    CHECK_EQ(blk_read(d0, 0, 1, buf), -E_REMOVED);
    blk_put(d0);
    CHECK(blk_get("disk0"));
}

TEST(lun_removed_under_load)
{
    start(512, 20000);
    blk_watch(&watcher);
    struct blk_device *d = blk_get("disk0");
    blk_mem_hold(backing[0], true, false);
    struct io *io = start_reads(d, 500, 8);
    task_sleep_us(10000);
    host_remove_lun(host, scsi, 0);
    hv_host_run();
    blk_mem_hold(backing[0], false, false);
    hv_host_run();
    CHECK(RUN_UNTIL(ios_done == 500, 10));
    for (unsigned i = 0; i < 500; i++)
        CHECK(io[i].r.status == 0 || io[i].r.status == -E_REMOVED);
    CHECK(RUN_UNTIL(removed_seen == 1, 5));
    blk_put(d);
}

static void remove_under_load(void)
{
    scsi = host_add_scsi(host, &scsi_config);
    add_disk(0, 512, 20000, NULL);
    CHECK(RUN_UNTIL(present(0), 5));
    struct blk_device *d = blk_get("disk0");
    fill(20000);
    blk_mem_hold(backing[0], true, false);
    struct io *io = start_reads(d, 700, 8);
    task_sleep_us(10000);
    host_remove_scsi(host, scsi);
    blk_mem_hold(backing[0], false, false);
    hv_host_run();
    CHECK(RUN_UNTIL(ios_done == 700, 10));
    for (unsigned i = 0; i < 700; i++)
        CHECK_EQ(io[i].r.status, -E_REMOVED);
    CHECK(!present(0));
    CHECK(d->removed);
    blk_put(d);
    for (unsigned i = 0; i < 700; i++)
        kfree(io[i].span.addr);
    kfree(io);
    task_sleep_us(2000000);
    blk_mem_destroy(backing[0]);
    backing[0] = NULL;
}

TEST(controller_removed_under_load)
{
    struct mm_stats before, after;
    struct host_state state;

    defaults();
    host_up();
    CHECK_EQ(guest_up(), 0);
    remove_under_load();
    mm_get_stats(&before);
    remove_under_load();
    remove_under_load();
    mm_get_stats(&after);
    CHECK_EQ(after.heap_bytes, before.heap_bytes);
    CHECK_EQ(after.vmap_bytes, before.vmap_bytes);
    host_get_state(host, &state);
    CHECK_EQ(state.channels_offered, 1);
    CHECK_EQ(state.gpadls, 1);
    CHECK_EQ(shmem_stats.pages_leaked, 0);
}

TEST(orderly_end_waits_for_what_is_outstanding)
{
    start(512, 20000);
    fill(20000);
    struct blk_device *d = blk_get("disk0");
    struct io *io = start_reads(d, 100, 8);
    vmbus_disconnect(false);
    CHECK_EQ(ios_done, 100);
    CHECK(reads_are_right(io, 100, 8));
    CHECK(!fake_log_contains("not answered"));
    CHECK(d->removed);
    blk_put(d);
}

/* ---- the silent host ---- */

TEST(unanswered_request_ends_after_its_limit)
{
    start(512, 20000);
    uint8_t *buf = kmalloc(512);
    struct blk_device *d = blk_get("disk0");
    blk_mem_hold(backing[0], true, false);
    uint64_t t = rt_now_100ns();
    CHECK_EQ(blk_read(d, 11, 1, buf), -E_TIMEOUT);
    uint64_t took_s = (rt_now_100ns() - t) / S_100NS(1);
    CHECK(took_s >= 240 && took_s <= 250);
    CHECK(fake_log_contains("READ(10) of 512 bytes at sector 11"));
    CHECK(fake_log_contains("relid"));           /* the channel was dumped */
    /* The late answer frees the slot and harms nobody. */
    blk_mem_hold(backing[0], false, false);
    hv_host_run();
    task_sleep_us(100000);
    CHECK(fake_log_contains("given up has been answered"));
    CHECK_EQ(blk_read(d, 11, 1, buf), 0);
    blk_put(d);
}

TEST(silence_fills_the_table_and_everything_still_ends)
{
    start(512, 20000);
    struct blk_device *d = blk_get("disk0");
    blk_mem_hold(backing[0], true, false);
    struct io *io = start_reads(d, 400, 8);
    unsigned unanswered = 0;
    CHECK(RUN_UNTIL(ios_done == 400, 600));
    for (unsigned i = 0; i < 400; i++) {
        unanswered += io[i].r.status == -E_TIMEOUT;
        CHECK(io[i].r.status == -E_TIMEOUT || io[i].r.status == -E_BUSY);
    }
    CHECK(unanswered > 0 && unanswered < STORVSC_SLOTS);    /* whose memory the host has; the others' it never had */
    blk_put(d);
    host_remove_scsi(host, scsi);
    blk_mem_hold(backing[0], false, false);
    hv_host_run();
    CHECK(RUN_UNTIL(!present(0), 20));
}

static enum host_fault_kind drop_all(enum host_fault_point point UNUSED, uint64_t number UNUSED)
{
    return HOST_FAULT_DROP;
}

/* The host says neither how the requests went nor that it is done with the channel: it may write to them for ever. */
TEST(a_channel_that_the_host_does_not_end_keeps_its_memory)
{
    start(512, 20000);
    struct blk_device *d = blk_get("disk0");
    blk_mem_hold(backing[0], true, false);
    struct io *io = start_reads(d, 5, 8);
    task_sleep_us(1000);
    hv_host.fault = drop_all;
    host_set_fault(host, HOST_FAULT_VMBUS_REPLY, 0, HOST_FAULT_NONE);
    vmbus_disconnect(false);
    CHECK_EQ(ios_done, 5);
    for (unsigned i = 0; i < 5; i++)
        CHECK_EQ(io[i].r.status, -E_TIMEOUT);
    CHECK(fake_log_contains("the memory of 5 requests is given up"));
    CHECK(shmem_stats.pages_leaked > 0);
    blk_put(d);
}

/* ---- faults ---- */

struct fault { uint32_t points; uint64_t number; enum host_fault_kind kind; };

/* However the host behaves, the guest comes up or says why not, ends every request, and goes down without a leak. */
static void live_with_fault(void *arg)
{
    const struct fault *f = arg;
    struct host_state state;

    defaults();
    host_up();
    hv_host.violations_expected = true;          /* after a wrong answer the two sides are of different minds */
    add_disk(0, 512, 20000, NULL);
    add_disk(1, 512, 20000, NULL);
    host_set_fault(host, f->points, f->number, f->kind);
    CHECK_EQ(guest_up(), 0);
    struct blk_device *d = blk_get("disk0");
    /* One wrong answer to a command is no reason to miss a disk. */
    if (f->points == HOST_FAULT_STORVSP_IO)
        CHECK(present(0) && present(1));
    if (d) {
        struct io *io = start_reads(d, 40, 8);
        CHECK(RUN_UNTIL(ios_done == 40, 600));
        (void)io;
        blk_put(d);
    }
    uint64_t counted = host_fault_count(host);
    vmbus_disconnect(false);
    CHECK(!present(0));
    host_get_state(host, &state);
    CHECK_EQ(state.channels_open, 0);
    CHECK_EQ(state.gpadls, 0);
    CHECK_EQ(shmem_stats.pages_leaked, 0);
    if (counted < f->number)
        nothing_left();
}

static void every_fault(uint32_t points, unsigned most, void (*live)(void *arg))
{
    static const enum host_fault_kind kinds[] = {
        HOST_FAULT_DROP, HOST_FAULT_ERROR, HOST_FAULT_SHORT, HOST_FAULT_WRONG_ID, HOST_FAULT_TWICE, HOST_FAULT_GARBAGE,
    };
    for (unsigned k = 0; k < ARRAY_SIZE(kinds); k++) {
        for (unsigned n = 1; n <= most; n++) {
            struct fault f = {points, n, kinds[k]};
            int end = in_child(live, &f);
            if (end == NOTHING_LEFT)
                break;
            if (end != FAKE_RETURNED)
                test_fail(__FILE__, __LINE__, "point 0x%x reply %u kind %d ends with %d", points, n, (int)kinds[k],
                          end);
            if (test_failures_here > 5)
                return;
        }
    }
}

/* Answers of random content, straight into the judge: every request ends, after a bounded number of attempts. */
TEST(random_answers_are_survived)
{
    uint64_t state = 0x9E3779B97F4A7C15ull;

    start(512, 20000);
    hv_host.violations_expected = true;
    struct blk_device *d = blk_get("disk0");
    struct storvsc *s = ((struct storvsc_unit *)d->driver)->controller;
    for (unsigned round = 0; round < 400; round++) {
        struct io *io;
        blk_mem_hold(backing[0], true, false);
        io = start_reads(d, 1, 8);
        for (unsigned attempt = 0; !io->done; attempt++) {
            struct storvsc_slot *slot = NULL;
            struct vstor_packet answer;
            for (unsigned i = 0; i < STORVSC_SLOTS; i++)
                if (s->slots[i].request == &io->r)
                    slot = &s->slots[i];
            CHECK(attempt < 2000);
            if (!slot) {
                task_sleep_us(20000);            /* it waits for its next attempt */
                continue;
            }
            for (unsigned i = 0; i < sizeof(answer); i++) {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                ((uint8_t *)&answer)[i] = (uint8_t)(state >> 40);
            }
            if (state & 1)
                answer.srb.scsi_status = SCSI_STATUS_CHECK_CONDITION;
            if (state & 2)
                answer.srb.srb_status = (uint8_t)(SRB_STATUS_AUTOSENSE_VALID | (state >> 8 & 15));
            if (state & 4)
                answer.srb.sense[0] = 0x70 | (state >> 16 & 3);
            s->in_flight--;
            storvsc_request_answered(s, slot, &answer);
        }
        CHECK(io->r.attempts <= STORVSC_ATTEMPTS);
        /* The host, who was not asked, still has the memory: first its own answers. */
        blk_mem_hold(backing[0], false, false);
        hv_host_run();
        task_yield();
        kfree(io->span.addr);
        kfree(io);
    }
    CHECK(s->counters.lies > 300);               /* the host's own answers came too late */
    CHECK_EQ(s->in_flight, 0);
    blk_put(d);
}

/* A disk must not be lost because a scan met an error. */
static void rescan_with_fault(void *arg)
{
    const struct fault *f = arg;

    defaults();
    host_up();
    hv_host.violations_expected = true;
    add_disk(0, 512, 20000, NULL);
    CHECK_EQ(guest_up(), 0);
    blk_watch(&watcher);
    host_set_fault(host, f->points, f->number, f->kind);
    add_disk(1, 512, 20000, NULL);
    hv_host_run();
    CHECK(RUN_UNTIL(added_seen == 1, 400));
    CHECK_EQ(removed_seen, 0);
    uint64_t counted = host_fault_count(host);
    vmbus_disconnect(false);
    if (counted < f->number)
        nothing_left();
}

TEST(each_reply_of_a_rescan_goes_wrong) { every_fault(HOST_FAULT_STORVSP_IO, 24, rescan_with_fault); }
TEST(each_handshake_reply_goes_wrong) { every_fault(HOST_FAULT_STORVSP_REPLY, 12, live_with_fault); }
TEST(each_command_reply_goes_wrong) { every_fault(HOST_FAULT_STORVSP_IO, 48, live_with_fault); }

/* ---- no memory ---- */

static void live_without(void *arg)
{
    uint64_t n = (uint64_t)(uintptr_t)arg, counted;

    defaults();
    host_up();
    add_disk(0, 512, 20000, with_unmap);
    if (!hv_init())
        _exit(1);
    hv_clock_init();
    if (hv_synic_init())
        _exit(1);
    CHECK_EQ(vmbus_connect(), 0);
    counted = mm_alloc_count();
    mm_fail_nth(n);
    storvsc_register();
    task_sleep_us(3000000);
    mm_fail_nth(0);
    counted = mm_alloc_count() - counted;
    struct blk_device *d = blk_get("disk0");
    if (d) {
        uint8_t *buf = kmalloc(512);
        CHECK_EQ(blk_read(d, 1, 1, buf), 0);
        kfree(buf);
        blk_put(d);
    }
    vmbus_disconnect(false);
    CHECK(!present(0));
    CHECK_EQ(shmem_stats.pages_leaked, 0);
    if (counted < n)
        nothing_left();
}

TEST(each_allocation_fails_once)
{
    each_allocation(live_without);
}

TEST_MAIN()
