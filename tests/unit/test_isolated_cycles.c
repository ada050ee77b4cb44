/* SPDX-License-Identifier: BSD-2-Clause */
/* ROOMS: lib mm rt hv vmbus drivers host fake_arch */
/*
 * Channels of an isolated machine over a long life: disk controllers that come and go ten thousand times, a NIC with the
 * largest buffers, both in fragmented memory; hosts that refuse to share or to give back now and then, where every page
 * is either free or counted as leaked; and one that keeps the whole bounce pool.
 */
#include "drivers/storvsc.h"
#include "tests/fake_arch/guarded.h"
#include "tests/unit/isolated.h"
static uint64_t ram_bytes = 64ull << 20;
#define RAM_BYTES ram_bytes
#include "tests/unit/netvsc_machine.h"
#include "tests/unit/fragments.h"
#include "vmbus/vmbus_internal.h"

static void *mem_alloc(void *ctx UNUSED, size_t bytes) { return calloc(1, bytes); }
static void mem_free(void *ctx UNUSED, void *p, size_t bytes UNUSED) { free(p); }
static const struct host_ops mem_ops = {.alloc = mem_alloc, .free = mem_free};
static struct host_scsi *scsi;
static struct blk_mem *backing;

static void make_backing(void) { backing = blk_mem_create(&mem_ops, NULL, 512, 40000); }

static void add_disk(void)
{
    struct host_scsi_config config;
    struct host_blk_info info;

    host_scsi_config_default(&config);
    config.max_transfer_bytes = 1 << 20;
    scsi = host_add_scsi(host, &config);
    blk_mem_info(backing, &info);
    host_add_lun(host, scsi, 0, &info, &blk_mem_ops, backing);
}

static bool disk_up(void)
{
    struct blk_device *d = blk_get_index(0);

    if (d)
        blk_put(d);
    return d;
}

static bool bus_empty(void) { return bus.channel_count == 0 && bus.device_tasks == 0; }

/* A machine without devices, in pieces; closing and opening millions of pages takes longer than all else, and the books
 * are kept all the same. */
static void machine(const char *settings)
{
    defaults();
    host_cfg.scramble_on_change = false;
    config_parse(settings);
    host = hv_host_start(&host_cfg);
    make_backing();
    fragment_memory();
    fake_sides_closed(false);
    guarded_relax();
    storvsc_register();
    CHECK_EQ(guest_up(), 0);
}

struct books { struct mm_stats mm; struct host_state host; };

static struct books look(void)
{
    struct books b = {0};

    mm_get_stats(&b.mm);
    host_get_state(host, &b.host);
    return b;
}

static void same_but_for(const struct books *before, uint64_t leaked)
{
    struct books now = look();

    CHECK_EQ(now.mm.free_pages + leaked, before->mm.free_pages);
    CHECK_EQ(now.mm.heap_bytes, before->mm.heap_bytes);
    CHECK_EQ(now.mm.vmap_bytes, before->mm.vmap_bytes);
    CHECK_EQ(now.mm.table_pages, before->mm.table_pages);
    CHECK_EQ(now.host.gpadls, 0);
    CHECK_EQ(shmem_stats.pages_leaked, leaked);
    CHECK_EQ(fake_wrong_sides(), 0);
}

/* ---- ten thousand, in two lives, each of which ends within the limit of a test on a busy machine ---- */

static void controllers_come_and_go(unsigned cycles)
{
    struct books before = {0};

    machine("hv.bounce=2M");
    for (unsigned i = 0; i < cycles; i++) {
        add_disk();
        hv_host_run();
        CHECK(RUN_UNTIL(disk_up(), 20));
        if (i % 500 == 0) {
            static uint8_t sector[512], seen[512];
            struct blk_device *d = blk_get_index(0);
            memset(sector, (int)(i / 500 + 1), sizeof(sector));
            CHECK_EQ(blk_write(d, i, 1, sector, 0), 0);
            CHECK_EQ(blk_read(d, i, 1, seen), 0);
            CHECK(!memcmp(sector, seen, sizeof(seen)));
            blk_put(d);
        }
        host_remove_scsi(host, scsi);
        hv_host_run();
        CHECK(RUN_UNTIL(!disk_up() && bus_empty(), 20));
        if (i == 5)
            before = look();
        if (i % 500 == 5) {
            same_but_for(&before, 0);
            CHECK_EQ(look().host.pages_visible, before.host.pages_visible);
        }
    }
    same_but_for(&before, 0);
}
TEST(isolated_controllers_five_thousand_times) { controllers_come_and_go(5000); }
TEST(isolated_controllers_ten_thousand_times) { controllers_come_and_go(5000); }

/* 16 MiB and 1 MiB of pages that lie nowhere together, again and again. */
TEST(isolated_largest_buffers_in_fragments)
{
    struct books before = {0};

    ram_bytes = 256ull << 20;             /* a NIC takes no more than its share */
    machine("net.recv_buffer=16M net.send_buffer=1M hv.bounce=2M");
    for (unsigned i = 0; i < 30; i++) {
        host_nic = host_add_nic(host, &nic_config, &wire_ops, NULL);
        hv_host_run();
        CHECK(RUN_UNTIL(nic, 20));
        CHECK(look().host.pages_visible >= 17 * 256);
        wire_count = got_count = 0;
        struct out *o = make_out(1200, 3, i);
        CHECK_EQ(nic->ops->send(nic, &o->tx), 0);
        nic->ops->kick(nic);
        CHECK(to_guest(900, i));
        hv_host_run();
        CHECK(RUN_UNTIL(o->done && got_count == 1, 2));
        CHECK(on_wire(0, o) && received(0, 900, i));
        free_out(o);
        host_remove_nic(host, host_nic);
        hv_host_run();
        CHECK(RUN_UNTIL(!nic && bus_empty(), 20));
        if (i == 1)
            before = look();
        if (i > 1)
            same_but_for(&before, 0);
    }
    CHECK(fake_log_contains("receive buffer 16384 KiB"));
    CHECK(fake_log_contains("send buffer 1024 KiB"));
}

/* ---- hosts that refuse now and then ---- */

static const enum host_fault_kind kinds[] = {HOST_FAULT_ERROR, HOST_FAULT_DROP, HOST_FAULT_SHORT, HOST_FAULT_GARBAGE};

/* Visibility calls fail at any page of any use, on the way there and on the way back: what is lost is exactly what is
 * counted, the rest serves on, and once the host has come to its senses so does the NIC. */
TEST(isolated_refusals_at_any_time)
{
    struct books before = {0};
    unsigned up = 0, refused = 0;

    machine("net.recv_buffer=128K net.send_buffer=64K hv.bounce=2M");
    for (unsigned i = 0; i < 400; i++) {
        if (i >= 3) {
            if (i == 3)
                before = look();
            /* As many pages as a life of this NIC changes, there and back: about 200. */
            host_set_fault(host, HOST_FAULT_VISIBILITY, 1 + i * 37 % 230, kinds[i % ARRAY_SIZE(kinds)]);
        }
        host_nic = host_add_nic(host, &nic_config, &wire_ops, NULL);
        hv_host_run();
        if (RUN_UNTIL(nic, 3))
            up++;
        else
            refused++;
        host_remove_nic(host, host_nic);
        hv_host_run();
        CHECK(RUN_UNTIL(!nic && bus_empty(), 30));
        host_set_fault(host, 0, 0, HOST_FAULT_NONE);
        if (i >= 3)
            same_but_for(&before, shmem_stats.pages_leaked);
    }
    CHECK(up > 50 && refused > 50);
    CHECK(shmem_stats.pages_leaked > 0);
    uint64_t leaked = shmem_stats.pages_leaked;
    host_nic = host_add_nic(host, &nic_config, &wire_ops, NULL);
    hv_host_run();
    CHECK(RUN_UNTIL(nic, 5));
    wire_count = 0;
    struct out *o = make_out(1200, 3, 1);
    CHECK_EQ(nic->ops->send(nic, &o->tx), 0);
    nic->ops->kick(nic);
    CHECK(RUN_UNTIL(o->done, 2));
    CHECK(on_wire(0, o));
    free_out(o);
    host_remove_nic(host, host_nic);
    hv_host_run();
    CHECK(RUN_UNTIL(!nic && bus_empty(), 5));
    same_but_for(&before, leaked);
}

/* ---- a host that keeps the pool ---- */

#define BIG_BYTES (1u << 20)
#define BIGS      8u

static struct { struct blk_request r; struct blk_span span; bool done; } io[BIGS];
static void io_done(struct blk_request *r) { *(bool *)r->arg = true; }

static bool all_done(void)
{
    for (unsigned i = 0; i < BIGS; i++)
        if (!io[i].done)
            return false;
    return true;
}

/* Two requests have all of it and are never answered; the others wait for room, as long as a request may take and no
 * longer, while the NIC goes on with its own buffer. When the answers come after all, everything is there again. */
TEST(isolated_pool_kept_by_a_silent_host)
{
    uint8_t *data;

    defaults();
    config_parse("hv.bounce=2M");
    host_up();
    make_backing();
    add_disk();
    storvsc_register();
    CHECK_EQ(guest_up(), 0);
    CHECK(RUN_UNTIL(disk_up() && nic, 5));
    struct blk_device *d = blk_get("disk0");
    CHECK(d && d->max_transfer_bytes == BIG_BYTES);
    data = kzalloc(BIG_BYTES);
    blk_mem_hold(backing, true, false);
    uint64_t begun = rt_now_100ns();
    for (unsigned i = 0; i < BIGS; i++) {
        io[i].span = (struct blk_span){data, BIG_BYTES};
        io[i].r = (struct blk_request){.op = BLK_WRITE, .sector = i * 2048, .sectors = 2048, .spans = &io[i].span,
                                       .span_count = 1, .done = io_done, .arg = &io[i].done};
        CHECK_EQ(blk_submit(d, &io[i].r), 0);
    }
    CHECK_EQ(dma_stats.pages_lent, 512);
    for (unsigned i = 0; i < 50; i++) {
        wire_count = 0;
        struct out *o = make_out(1400, 3, i);
        CHECK_EQ(nic->ops->send(nic, &o->tx), 0);
        nic->ops->kick(nic);
        CHECK(RUN_UNTIL(o->done, 2));
        CHECK(on_wire(0, o));
        free_out(o);
    }
    CHECK(!all_done());
    CHECK(RUN_UNTIL(all_done(), 300));
    uint64_t took_s = (rt_now_100ns() - begun) / S_100NS(1);
    CHECK(took_s >= STORVSC_REQUEST_TICKS * STORVSC_TICK_S && took_s <= STORVSC_REQUEST_TICKS * STORVSC_TICK_S + 15);
    for (unsigned i = 0; i < BIGS; i++)
        CHECK_EQ(io[i].r.status, i < 2 ? -E_TIMEOUT : -E_BUSY);
    CHECK(fake_log_contains("found no room on the channel within"));
    CHECK_EQ(dma_stats.pages_lent, 512);               /* the host may write them yet */
    blk_mem_hold(backing, false, false);
    hv_host_run();
    CHECK(RUN_UNTIL(dma_stats.pages_lent == 0, 5));
    CHECK_EQ(blk_write(d, 0, 2048, data, 0), 0);
    blk_put(d);
    kfree(data);
}

TEST_MAIN()
