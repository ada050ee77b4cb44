/* SPDX-License-Identifier: BSD-2-Clause */
/* ROOMS: lib mm rt hv vmbus drivers host fake_arch */
/*
 * An isolated machine at work: disk and NIC at once through a bounce pool that is too small for them, offers that such a
 * machine passes over, and devices that come and go ten thousand times in fragmented memory.
 */
#include "drivers/storvsc.h"
#include "tests/fake_arch/guarded.h"
#include "tests/host/host_internal.h"
#include "tests/unit/isolated.h"
#include "tests/unit/netvsc_machine.h"
#include "tests/unit/fragments.h"
#include "vmbus/vmbus_internal.h"

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
static struct host_scsi_config scsi_config;
static struct host_scsi *scsi;
static struct blk_mem *backing;

#define SECTORS 200000u

static void add_disk(void)
{
    struct host_blk_info info;

    host_scsi_config_default(&scsi_config);
    scsi_config.max_transfer_bytes = 1 << 20;
    scsi = host_add_scsi(host, &scsi_config);
    backing = blk_mem_create(&mem_ops, NULL, 512, SECTORS);
    blk_mem_info(backing, &info);
    host_add_lun(host, scsi, 0, &info, &blk_mem_ops, backing);
}

static void machine(const char *settings)
{
    defaults();
    config_parse(settings);
    host_up();
    add_disk();
    storvsc_register();
    int e = guest_up();
    if (e || !nic)
        test_fail(__FILE__, __LINE__, "guest not up: %s", error_name(e));
}

/* Everything is private again, nothing was leaked. */
static void all_returned(void)
{
    struct host_state state;

    vmbus_disconnect(false);
    CHECK_EQ(dma_stats.pages_lent, 0);
    hv_shutdown();
    host_get_state(host, &state);
    CHECK_EQ(state.pages_visible, 0);
    CHECK_EQ(state.gpadls, 0);
    CHECK_EQ(shmem_stats.pages_shared, 0);
    CHECK_EQ(shmem_stats.pages_leaked, 0);
    CHECK_EQ(fake_wrong_sides(), 0);
}

/* ---- more than the pool holds ---- */

#define BIG_BYTES (1u << 20)
#define BIGS      16
static struct io { struct blk_request r; struct blk_span span; uint8_t *data; bool done; } io[BIGS];

static void io_done(struct blk_request *r) { ((struct io *)r->arg)->done = true; }

static void pattern(uint8_t *p, size_t bytes, unsigned seed)
{
    for (size_t i = 0; i < bytes; i++)
        p[i] = (uint8_t)(i * 31 + i / 251 + seed * 17 + (i >> 16));
}

static void submit(unsigned i, enum blk_op op, struct blk_device *d)
{
    io[i].done = false;
    io[i].span = (struct blk_span){io[i].data + 512, BIG_BYTES};
    io[i].r = (struct blk_request){.op = op, .sector = i * (BIG_BYTES / 512), .sectors = BIG_BYTES / 512,
                                   .spans = &io[i].span, .span_count = 1, .done = io_done, .arg = &io[i]};
    if (blk_submit(d, &io[i].r))
        test_fail(__FILE__, __LINE__, "not submitted");
}

static bool all_done(void)
{
    for (unsigned i = 0; i < BIGS; i++)
        if (!io[i].done)
            return false;
    return true;
}

static void frames_meanwhile(unsigned round)
{
    struct out *o[20];

    wire_count = 0;
    for (unsigned i = 0; i < ARRAY_SIZE(o); i++) {
        o[i] = make_out(60 + i * 70, 1 + i % 5, round + i);
        while (nic->ops->send(nic, &o[i]->tx) == -E_AGAIN)
            task_sleep_us(100);
        CHECK(to_guest(100 + i * 50, i));
    }
    nic->ops->kick(nic);
    CHECK(RUN_UNTIL(wire_count == ARRAY_SIZE(o), 2));
    for (unsigned i = 0; i < ARRAY_SIZE(o); i++) {
        CHECK(RUN_UNTIL(o[i]->done, 2));
        CHECK(on_wire(i, o[i]));
        free_out(o[i]);
    }
}

TEST(isolated_sixteen_megabytes_through_two)
{
    static uint8_t seen[BIG_BYTES];

    machine("hv.bounce=2M");
    struct blk_device *d = blk_get("disk0");
    CHECK(d && d->max_transfer_bytes == BIG_BYTES);
    for (unsigned i = 0; i < BIGS; i++) {
        io[i].data = kmalloc(BIG_BYTES + 4096);
        pattern(io[i].data + 512, BIG_BYTES, i);
        submit(i, BLK_WRITE, d);
    }
    frames_meanwhile(0);
    CHECK(dma_stats.refusals > 0);
    CHECK(RUN_UNTIL(all_done(), 10));
    for (unsigned i = 0; i < BIGS; i++) {
        CHECK_EQ(io[i].r.status, 0);
        CHECK(blk_mem_access(backing, i * (BIG_BYTES / 512), seen, BIG_BYTES / 512, false));
        CHECK(!memcmp(seen, io[i].data + 512, BIG_BYTES));
        memset(io[i].data, 0, BIG_BYTES + 4096);
        submit(i, BLK_READ, d);
    }
    frames_meanwhile(1);
    CHECK(RUN_UNTIL(all_done(), 10));
    for (unsigned i = 0; i < BIGS; i++) {
        CHECK_EQ(io[i].r.status, 0);
        pattern(seen, BIG_BYTES, i);
        CHECK(!memcmp(seen, io[i].data + 512, BIG_BYTES));
        CHECK(io[i].data[511] == 0 && io[i].data[512 + BIG_BYTES] == 0);
        kfree(io[i].data);
    }
    CHECK_EQ(dma_stats.pages, 512);
    CHECK(!fake_log_contains("no room"));
    blk_put(d);
    all_returned();
}

/* The same machine with its shared side elsewhere, or with none: disk and network as everywhere. */
static void at_boundary(void *bit)
{
    static uint8_t seen[64 * 512];

    isolated_boundary_bit = (unsigned)(uintptr_t)bit;
    machine("hv.bounce=2M net.recv_buffer=256K");
    uint8_t *data = kmalloc(sizeof(seen));
    struct blk_device *d = blk_get("disk0");
    CHECK(d != NULL && data != NULL);
    for (unsigned i = 0; i < 20; i++) {
        pattern(data, sizeof(seen), i);
        CHECK_EQ(blk_write(d, 1000 * i, 64, data, 0), 0);
        CHECK(blk_mem_access(backing, 1000 * i, seen, 64, false));
        CHECK(!memcmp(seen, data, sizeof(seen)));
        memset(data, 0, sizeof(seen));
        CHECK_EQ(blk_read(d, 1000 * i, 64, data), 0);
        CHECK(!memcmp(seen, data, sizeof(seen)));
    }
    frames_meanwhile(0);
    kfree(data);
    blk_put(d);
    all_returned();
}

TEST(isolated_traffic_at_each_boundary)
{
    static const unsigned bits[] = {0, 37, 39, 45, 47};

    for (unsigned i = 0; i < ARRAY_SIZE(bits); i++)
        CHECK_EQ(in_child(at_boundary, (void *)(uintptr_t)bits[i]), FAKE_RETURNED);
}

/* The pool is full of another's requests: a NIC whose frame found no room is told when there is some. */
TEST(isolated_pool_full_of_another_s)
{
    struct dma_mapping m[2];
    struct dma_span span;
    static uint64_t frames[512];

    machine("hv.bounce=2M");
    struct netvsc *n = nic->driver;
    uint8_t *data = kmalloc(BIG_BYTES);
    span = (struct dma_span){data, BIG_BYTES};
    CHECK_EQ(dma_map(&m[0], &span, 1, DMA_TO_DEVICE, frames, 512), 0);
    CHECK_EQ(dma_map(&m[1], &span, 1, DMA_TO_DEVICE, frames, 512), 0);
    struct out *o = make_out(1400, 3, 1);
    n->section_count = 0;                              /* as if it fitted none */
    CHECK_EQ(nic->ops->send(nic, &o->tx), -E_AGAIN);
    CHECK(n->want_ready);
    task_sleep_us(10000);
    CHECK_EQ(ready_calls, 0);
    dma_unmap(&m[0], NULL, 0, DMA_TO_DEVICE);
    task_yield();
    CHECK_EQ(ready_calls, 1);
    CHECK_EQ(nic->ops->send(nic, &o->tx), 0);
    /* A disk, too: it takes what is there, and waits for the rest without asking. */
    struct blk_device *d = blk_get("disk0");
    for (unsigned i = 0; i < 3; i++) {
        io[i].data = kmalloc(BIG_BYTES + 4096);
        submit(i, BLK_WRITE, d);
    }
    task_sleep_us(10000);
    dma_unmap(&m[1], NULL, 0, DMA_TO_DEVICE);
    uint64_t begun = rt_now_100ns();
    CHECK(RUN_UNTIL(io[0].done && io[1].done && io[2].done, 4));
    CHECK(rt_now_100ns() - begun < S_100NS(1));         /* not by the tick that looks every few seconds */
    nic->ops->kick(nic);
    CHECK(RUN_UNTIL(o->done, 2));
    for (unsigned i = 0; i < 3; i++)
        kfree(io[i].data);
    free_out(o);
    kfree(data);
    blk_put(d);
    all_returned();
}

/* ---- whom an isolated machine speaks with ---- */

static bool odd_open(struct host_chan *ch UNUSED) { return true; }
static void odd_nothing(struct host_chan *ch UNUSED) {}
static uint32_t odd_in_flight(struct host_chan *ch UNUSED) { return 0; }
static enum host_take odd_packet(struct host_chan *ch UNUSED, const struct host_packet *p UNUSED) { return HOST_TAKEN; }
static const struct host_dev_ops odd_ops = {
    .name = "odd", .open = odd_open, .close = odd_nothing, .packet = odd_packet, .output = odd_nothing,
    .in_flight = odd_in_flight, .freed = odd_nothing,
};

static unsigned odd_probes;
static int odd_probe(struct vmbus_channel *ch UNUSED)
{
    odd_probes++;
    return -E_NOTSUP;
}

static unsigned lines(const char *text)
{
    unsigned n = 0;

    for (const char *at = fake_log_text(); (at = strstr(at, text)); at += strlen(text))
        n++;
    return n;
}

TEST(isolated_offers_that_are_passed_over)
{
    static const struct guid refused[] = {VMBUS_GUID_KVP, VMBUS_GUID_VSS, VMBUS_GUID_BALLOON, VMBUS_GUID_FCOPY,
                                          VMBUS_GUID_VIDEO, VMBUS_GUID_KEYBOARD, VMBUS_GUID_MOUSE, VMBUS_GUID_IDE,
                                          VMBUS_GUID_FC, VMBUS_GUID_VPCI, GUID_INIT(1, 2, 3, 4, 5)};
    static const struct guid taken[] = {VMBUS_GUID_SHUTDOWN, VMBUS_GUID_HEARTBEAT, VMBUS_GUID_TIMESYNC};
    static struct vmbus_driver drivers[ARRAY_SIZE(refused) + ARRAY_SIZE(taken)];
    uint32_t relid[ARRAY_SIZE(refused)];

    defaults();
    host_up();
    for (unsigned i = 0; i < ARRAY_SIZE(refused) + ARRAY_SIZE(taken); i++) {
        const struct guid *class = i < ARRAY_SIZE(refused) ? &refused[i] : &taken[i - ARRAY_SIZE(refused)];
        struct host_chan *ch = vchan_create(host, &odd_ops, NULL, class, NULL, 0, false);
        if (i < ARRAY_SIZE(refused))
            relid[i] = ch->relid;
        drivers[i] = (struct vmbus_driver){.name = "odd", .class_id = *class, .probe = odd_probe};
        vmbus_register_driver(&drivers[i]);
    }
    CHECK_EQ(guest_up(), 0);
    CHECK(nic != NULL);
    CHECK_EQ(odd_probes, ARRAY_SIZE(taken));
    CHECK_EQ(lines("not used, because this machine is isolated"), ARRAY_SIZE(refused));
    for (unsigned i = 0; i < ARRAY_SIZE(refused); i++)
        host_rescind(host, relid[i]);
    hv_host_run();
    for (unsigned i = 0; i < ARRAY_SIZE(refused); i++)
        CHECK(RUN_UNTIL(!vchan_find(host, relid[i]), 2));   /* and they are let go of like any other */
    all_returned();
}

TEST(isolated_host_too_old)
{
    defaults();
    host_cfg.vmbus_max = VMBUS_VERSION_WIN10_5_1;
    host_up();
    CHECK_EQ(guest_up(), -E_NOTSUP);
    CHECK(fake_log_contains("no VMBus version in common with the host (an isolated machine speaks none before 5.2)"));
    all_returned();
}

TEST(isolated_version_setting_too_old)
{
    defaults();
    config_parse("vmbus.version=4.0");
    host_up();
    CHECK_EQ(guest_up(), -E_NOTSUP);
    all_returned();
}

TEST(isolated_monitor_pages)
{
    defaults();
    host_cfg.vmbus_max = VMBUS_VERSION_WIN10_5_2;
    host_cfg.monitor_pages = true;
    nic_config.monitor = true;
    host_up();
    CHECK_EQ(guest_up(), 0);
    CHECK_EQ(vmbus_version(), VMBUS_VERSION_WIN10_5_2);
    /* The monitor pages are told by their shared addresses; the interrupt page is not even there. */
    for (unsigned i = 0; i < 2; i++)
        CHECK_EQ(host->vmbus.monitor_gpa[i], (bus.monitor_pages.frames[i] << PAGE_SHIFT) + (1ull << 38));
    CHECK_EQ(bus.interrupt_page.pages, 0);
    frames_of_all_sizes();
    CHECK(host_counters(host)->monitor_signals > 0);
    all_returned();
}

/* ---- coming and going ---- */

/* Ten thousand in all, in two lives, each of which ends within the limit of a test on a busy machine. */
#define CYCLES 5000u

static void come_and_go(void)
{
    struct mm_stats before = {0}, after;
    struct host_state at_rest = {0}, now;

    defaults();
    host_cfg.scramble_on_change = false;
    config_parse("net.recv_buffer=128K net.send_buffer=64K hv.bounce=2M");
    host = hv_host_start(&host_cfg);
    fragment_memory();
    fake_sides_closed(false);              /* closing and opening millions of pages takes longer than the rest; */
    guarded_relax();                       /* the books are kept all the same */
    CHECK_EQ(guest_up(), 0);
    for (unsigned i = 0; i < CYCLES; i++) {
        host_nic = host_add_nic(host, &nic_config, &wire_ops, NULL);
        hv_host_run();
        CHECK(RUN_UNTIL(nic, 5));
        if (i % 500 == 0) {
            got_count = wire_count = 0;
            struct out *o = make_out(1200, 3, i);
            CHECK_EQ(nic->ops->send(nic, &o->tx), 0);
            CHECK(to_guest(900, i));
            hv_host_run();
            CHECK(RUN_UNTIL(o->done && got_count == 1, 2));
            CHECK(on_wire(0, o) && received(0, 900, i));
            free_out(o);
        }
        host_remove_nic(host, host_nic);
        hv_host_run();
        CHECK(RUN_UNTIL(!nic && removed == i + 1, 5));
        CHECK(RUN_UNTIL(bus.channel_count == 0 && bus.device_tasks == 0, 5));
        if (i % 500 == 5) {
            mm_get_stats(&after);
            host_get_state(host, &now);
            if (i == 5) {
                before = after;
                at_rest = now;
            }
            CHECK_EQ(after.free_pages, before.free_pages);
            CHECK_EQ(after.heap_bytes, before.heap_bytes);
            CHECK_EQ(after.vmap_bytes, before.vmap_bytes);
            CHECK_EQ(after.table_pages, before.table_pages);
            CHECK_EQ(now.pages_visible, at_rest.pages_visible);
            CHECK_EQ(now.gpadls, 0);
            CHECK_EQ(fake_wrong_sides(), 0);
        }
    }
    CHECK_EQ(shmem_stats.pages_leaked, 0);
    all_returned();
}
TEST(isolated_five_thousand_times) { come_and_go(); }
TEST(isolated_ten_thousand_times) { come_and_go(); }

TEST_MAIN()
