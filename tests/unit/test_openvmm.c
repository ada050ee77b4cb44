/* SPDX-License-Identifier: BSD-2-Clause */
/* ROOMS: lib mm rt hv vmbus drivers host fake_arch */
/*
 * One machine as OpenVMM on KVM gives it, with a disk and a NIC, from the first word to the last: no privileges for
 * messages, no TSC page, timers by message only, messages on connection 1 although the bus speaks 5.3, no monitor
 * pages, storage 6.0, NVSP 6.1, eight frames a packet. The model calls what kills OpenVMM's servers a violation, and
 * a violation ends the test.
 */
#include "drivers/storvsc.h"
#include "tests/unit/netvsc_machine.h"
#include "vmbus/vmbus_internal.h"

#define DISK_SECTORS 100000u

static struct host_scsi *controller;
static struct host_scsi_config scsi_config;
static struct blk_mem *disk[4];

static void *test_alloc(void *ctx, size_t bytes)
{
    (void)ctx;
    return calloc(1, bytes);
}

static void test_free(void *ctx, void *p, size_t bytes)
{
    (void)ctx;
    (void)bytes;
    free(p);
}

static const struct host_ops memory = {.alloc = test_alloc, .free = test_free};

static void add_lun(unsigned lun, uint64_t sectors)
{
    struct host_blk_info info;

    disk[lun] = blk_mem_create(&memory, NULL, 512, sectors);
    blk_mem_info(disk[lun], &info);
    info.id[0] = (uint8_t)lun;
    CHECK(host_add_lun(host, controller, lun, &info, &blk_mem_ops, disk[lun]));
}

static void openvmm(void)
{
    defaults();
    host_cfg.access = 0x87F;             /* bits 0 to 6 and 11: no reference TSC, no crash registers, no idle */
    host_cfg.privileges = 0;
    host_cfg.enforce_privileges = false;
    host_cfg.features = HV_FEATURE_FREQUENCY_MSRS;
    host_cfg.recommendations = HV_RECOMMEND_NO_AUTO_EOI;
    memset(host_cfg.version_words, 0, sizeof(host_cfg.version_words));
    host_cfg.message_connection = VMBUS_CONNECTION_MESSAGE;
    host_cfg.monitor_pages = false;
    host_cfg.first_relid = 1;
    host_scsi_config_default(&scsi_config);
    scsi_config.max_version = VSTOR_VERSION_WIN8_1;
    scsi_config.max_transfer_bytes = 256 * 1024;
    nic_config.max_nvsp = NVSP_VERSION_6_1;
    nic_config.max_packets_per_message = 8;
    nic_config.alignment_factor = 3;
    nic_config.send_section_bytes = 6144;
    nic_config.rx_data_offset = 256;
    nic_config.rx_length_is_sub_allocation = true;
    nic_config.rx_batch = 375;
}

static void up(void)
{
    host_up();
    controller = host_add_scsi(host, &scsi_config);
    add_lun(0, DISK_SECTORS);
    add_lun(3, 1000);
    storvsc_register();
    CHECK_EQ(guest_up(), 0);
    CHECK_EQ(vmbus_version(), VMBUS_VERSION_WIN10_5_3);
    CHECK_EQ(bus.message_connection, VMBUS_CONNECTION_MESSAGE);
    CHECK(fake_log_contains("time: reference counter"));
    CHECK(fake_log_contains("synthetic, by message"));
    CHECK(fake_log_contains("storage protocol 6.0"));
    CHECK(fake_log_contains("NVSP 0x60001"));
}

static void down(void)
{
    struct host_state state;

    vmbus_disconnect(false);
    host_get_state(host, &state);
    CHECK_EQ(state.vmbus_version, 0);
    CHECK_EQ(state.channels_open, 0);
    CHECK_EQ(state.gpadls, 0);           /* an unload that comes before the last one would never be answered */
    CHECK_EQ(state.rx_sections_held, 0);
    hv_shutdown();
    host_audit(host);
    CHECK_EQ(hv_host.violations, 0);
}

static bool present(const char *name)
{
    struct blk_device *d = blk_get(name);

    if (d)
        blk_put(d);
    return d;
}

static void disk_works(void)
{
    const uint32_t sectors = 2049;       /* several transfers, none of them even */
    uint8_t *a = kmalloc(sectors * 512), *b = kmalloc(sectors * 512);
    struct blk_device *d = blk_get("disk0");

    CHECK(d && a && b);
    for (uint32_t i = 0; i < sectors * 512; i++)
        a[i] = (uint8_t)(i * 7 + i / 509);
    CHECK_EQ(blk_write(d, 77, sectors, a, 0), 0);
    memset(b, 0, sectors * 512);
    CHECK_EQ(blk_read(d, 77, sectors, b), 0);
    CHECK(!memcmp(a, b, sectors * 512));
    CHECK_EQ(blk_flush(d), 0);
    blk_put(d);
    kfree(a);
    kfree(b);
}

/* Several messages in one section: the lengths of all but the last include what lies between them. */
static void small_frames_together(void)
{
    struct out *o[64];

    wire_count = 0;
    for (unsigned i = 0; i < ARRAY_SIZE(o); i++) {
        o[i] = make_out(61 + i, 1, i);
        CHECK_EQ(nic->ops->send(nic, &o[i]->tx), 0);
    }
    nic->ops->kick(nic);
    CHECK(RUN_UNTIL(wire_count == ARRAY_SIZE(o), 2));
    for (unsigned i = 0; i < ARRAY_SIZE(o); i++) {
        CHECK(on_wire(i, o[i]));
        free_out(o[i]);
    }
}

static void nic_works(void)
{
    frames_of_all_sizes();
    small_frames_together();
    got_count = 0;
    for (unsigned i = 0; i < 3000; i++) {
        while (!to_guest(60 + i % 1400, i))
            task_sleep_us(1000);         /* all sections are with the guest */
    }
    CHECK(RUN_UNTIL(got_count == 3000, 5));
    for (unsigned i = 0; i < 3000; i += 37)
        CHECK(received(i, 60 + i % 1400, i));
    CHECK_EQ(nic->stats.tx_errors, 0);
    CHECK_EQ(nic->stats.rx_dropped, 0);
}

TEST(openvmm_from_boot_to_unload)
{
    openvmm();
    up();
    disk_works();
    nic_works();
    down();
}

/* Its limit for frames, its answer to a wish beyond it. */
TEST(openvmm_jumbo_frames)
{
    openvmm();
    config_parse("net.mtu=9000");
    up();
    CHECK(nic->mtu >= 1500);
    nic_works();
    down();
}

/* Messages wait while the slot is busy and nothing but the end of the message lets the next one in: many offers at
 * once, rescinds in between. */
TEST(openvmm_devices_come_and_go)
{
    struct host_scsi *more[40];
    struct host_state state;

    openvmm();
    up();
    for (unsigned i = 0; i < ARRAY_SIZE(more); i++)
        more[i] = host_add_scsi(host, &scsi_config);
    task_sleep_us(3000000);
    for (unsigned i = 0; i < ARRAY_SIZE(more); i++)
        host_remove_scsi(host, more[i]);
    host_remove_nic(host, host_nic);
    CHECK(RUN_UNTIL(removed == 1 && bus.device_tasks == 1, 10));
    host_get_state(host, &state);
    CHECK_EQ(state.channels_offered, 1);
    host_nic = host_add_nic(host, &nic_config, &wire_ops, NULL);
    CHECK(RUN_UNTIL(added == 2 && nic, 10));
    ((struct netvsc *)nic->driver)->copy_bytes = 512;
    disk_works();
    nic_works();
    down();
}

/* The disk that leaves takes nothing with it; its neighbour stays. */
TEST(openvmm_lun_leaves)
{
    openvmm();
    up();
    CHECK(present("disk1"));
    host_remove_lun(host, controller, 3);
    CHECK(RUN_UNTIL(!present("disk1"), 5));
    disk_works();
    down();
}

TEST_MAIN()
