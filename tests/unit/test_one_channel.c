/* SPDX-License-Identifier: BSD-2-Clause */
/* ROOMS: lib mm rt hv vmbus drivers host fake_arch */
/*
 * The drivers on a host that has several channels for each device: they use the first, ask for no other, and live with
 * what such a host says unasked: where to send flows, and offers of sub-channels.
 */
#include "drivers/storvsc.h"
#include "tests/host/host_internal.h"
#include "tests/unit/netvsc_machine.h"

static struct host_scsi *scsi;
static struct blk_mem *backing;

static void *mem_alloc(void *ctx, size_t bytes)
{
    (void)ctx;
    return calloc(1, bytes);
}

static const struct host_ops mem_ops = {.alloc = mem_alloc};

static void start_with_many(void)
{
    struct host_scsi_config scsi_config;
    struct host_blk_info info;

    defaults();
    nic_config.max_queues = 4;
    host_up();
    host_scsi_config_default(&scsi_config);
    scsi_config.max_sub_channels = 3;
    scsi = host_add_scsi(host, &scsi_config);
    backing = blk_mem_create(&mem_ops, NULL, 512, 1 << 16);
    blk_mem_info(backing, &info);
    CHECK(host_add_lun(host, scsi, 0, &info, &blk_mem_ops, backing));
    storvsc_register();
    CHECK_EQ(guest_up(), 0);
    CHECK(nic != NULL);
}

/* What is written is read again; frames go both ways. */
static void serves(unsigned seed)
{
    struct blk_device *d = blk_get("disk0");
    uint8_t *a = kmalloc(65536), *b = kzalloc(65536);
    struct out *o = make_out(900, 3, seed);

    CHECK(d && a && b);
    for (unsigned i = 0; i < 65536; i++)
        a[i] = (uint8_t)(i * 31 + i / 251 + seed);
    CHECK_EQ(blk_write(d, 8 * seed, 128, a, 0), 0);
    CHECK_EQ(blk_read(d, 8 * seed, 128, b), 0);
    CHECK(!memcmp(a, b, 65536));
    kfree(a);
    kfree(b);
    blk_put(d);

    wire_count = got_count = 0;
    CHECK_EQ(nic->ops->send(nic, &o->tx), 0);
    nic->ops->kick(nic);
    CHECK(RUN_UNTIL(o->done && wire_count == 1, 2));
    CHECK(on_wire(0, o));
    free_out(o);
    CHECK(to_guest(1000, seed));
    CHECK(RUN_UNTIL(got_count == 1, 2));
    CHECK(received(0, 1000, seed));
}

static struct host_state state(void)
{
    struct host_state s;

    host_get_state(host, &s);
    return s;
}

TEST(asks_for_no_sub_channel)
{
    start_with_many();
    serves(1);
    CHECK_EQ(state().channels_offered, 2);
    CHECK_EQ(state().channels_open, 2);
    CHECK_EQ(hv_host.violations, 0);
}

TEST(a_send_table_unasked)
{
    struct nvsp_indirection_message m = {
        .type = NVSP_SEND_INDIRECTION_TABLE, .table = {NVSP_INDIRECTION_ENTRIES, 12}, .channel = {0, 1, 2, 3},
    };
    struct host_piece piece = {&m, sizeof(m)};

    start_with_many();
    for (unsigned i = 0; i < 3; i++) {
        vchan_send(vchan_find(host, host_nic_relid(host_nic)), VMBUS_PACKET_INBAND, 0, 0, NULL, &piece);
        hv_host_run();
        serves(i);
        m.table.offset = i == 0 ? UINT32_MAX : 0;        /* nobody looks at it */
        m.table.count = UINT32_MAX;
    }
    CHECK_EQ(hv_host.violations, 0);
}

/* Their memory is nobody's, and their relids go back when the host takes them away. */
TEST(offers_of_sub_channels_unasked)
{
    struct host_chan *primaries[2];

    start_with_many();
    primaries[0] = vchan_find(host, host_nic_relid(host_nic));
    primaries[1] = vchan_find(host, host_scsi_relid(scsi));
    for (unsigned turn = 0; turn < 2; turn++) {
        for (unsigned i = 0; i < 2; i++) {
            CHECK(vchan_create_subs(primaries[i], 3));
            vchan_offer_subs(primaries[i]);
        }
        hv_host_run();
        serves(turn);
        CHECK_EQ(state().channels_offered, 8);
        CHECK_EQ(state().channels_open, 2);
        for (unsigned i = 0; i < 2; i++)
            vchan_rescind_subs(primaries[i]);
        hv_host_run();
        CHECK(RUN_UNTIL(host->vmbus.channels == 2, 2));
        serves(turn + 2);
    }
    host_remove_nic(host, host_nic);
    hv_host_run();
    CHECK(RUN_UNTIL(removed == 1 && host->vmbus.channels == 1, 2));
    CHECK_EQ(hv_host.violations, 0);
}

TEST_MAIN()
