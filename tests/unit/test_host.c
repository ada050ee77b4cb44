/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The host model against a guest played by hand: negotiation, channels, disks, timers, and that the
 * violations the model is there for are really found. The guest's own rooms meet the model in the other
 * tests.
 */
#include "tests/unit/played_disk.h"

TEST(host_negotiates)
{
    start();
    CHECK(!connect(VMBUS_VERSION_COPPER));
    CHECK(connect(VMBUS_VERSION_WIN10_5_3));
    CHECK(connect(VMBUS_VERSION_WIN8));
    CHECK_EQ(violations, 0);
    host_destroy(host);
}

TEST(host_disk_reads_and_writes)
{
    static const uint8_t read10[16] = {SCSI_READ_10, 0, 0, 0, 0, 8, 0, 0, 16};
    static const uint8_t write10[16] = {SCSI_WRITE_10, 0, 0, 0, 0, 8, 0, 0, 16};
    static const uint8_t inquiry[16] = {SCSI_INQUIRY, 0, 0, 0, 36};
    static const uint8_t flush[16] = {SCSI_SYNCHRONIZE_CACHE_10};
    static const uint8_t beyond[16] = {SCSI_READ_10, 0, 0xFF, 0, 0, 0, 0, 0, 16};
    struct vstor_packet v;
    struct blk_mem *disk;
    uint32_t relid;
    uint8_t sector[512];

    start();
    CHECK(disk_ready(&disk, &relid));
    CHECK(scsi(relid, inquiry, 36, VSTOR_DATA_FROM_DEVICE, &v));
    CHECK_EQ(v.srb.srb_status, SRB_STATUS_SUCCESS);
    CHECK(memcmp(ram + PAGE_DATA * 4096u + 16 + 8, "Msft    Virtual Disk    ", 24) == 0);
    memset(ram + PAGE_DATA * 4096u + 16, 0x5A, 4080);
    CHECK(scsi(relid, write10, 8192, VSTOR_DATA_TO_DEVICE, &v));
    CHECK_EQ(v.srb.srb_status, SRB_STATUS_SUCCESS);
    CHECK_EQ(v.srb.data_bytes, 8192);
    CHECK(blk_mem_access(disk, 8, sector, 1, false));
    CHECK_EQ(sector[0], 0x5A);
    memset(ram + PAGE_DATA * 4096u, 0, 4096);
    CHECK(scsi(relid, read10, 8192, VSTOR_DATA_FROM_DEVICE, &v));
    CHECK_EQ(ram[PAGE_DATA * 4096u + 16], 0x5A);
    CHECK_EQ(ram[PAGE_DATA * 4096u + 15], 0);
    CHECK(scsi(relid, flush, 0, VSTOR_DATA_NONE, &v));
    CHECK_EQ(blk_mem_flushes(disk), 1);
    CHECK(scsi(relid, beyond, 8192, VSTOR_DATA_FROM_DEVICE, &v));
    CHECK_EQ(v.srb.scsi_status, SCSI_STATUS_CHECK_CONDITION);
    CHECK_EQ(violations, 0);
    CHECK_EQ(host_counters(host)->signals_unneeded, 0);
    host_destroy(host);
    blk_mem_destroy(disk);
}

TEST(host_finds_violations)
{
    struct vmbus_msg_header again = {.type = VMBUS_MSG_REQUEST_OFFERS};
    struct vmbus_msg_gpadl_body stray = {.header = {.type = VMBUS_MSG_GPADL_BODY}, .gpadl = 99};
    struct blk_mem *disk;
    uint8_t body[24] = {0};
    uint32_t relid;

    start();
    CHECK(disk_ready(&disk, &relid));
    CHECK_EQ(violations, 0);
    post(4, &again, sizeof(again));
    CHECK_EQ(violations, 1);
    memcpy(body, &stray, sizeof(stray));
    post(4, body, sizeof(body));
    CHECK_EQ(violations, 2);
    call(HVCALL_POST_MESSAGE, PAGE_INPUT * 4096u + 4, 0);
    CHECK_EQ(violations, 3);
    control_page(0)->interrupt_mask = 1;
    call(HVCALL_SIGNAL_EVENT | HV_CONTROL_FAST, 0x2000u + relid, 0);
    CHECK_EQ(violations, 4);
    CHECK(strstr(last_violation, "host's words") != NULL);
    host_destroy(host);
    blk_mem_destroy(disk);
}

/* ---- timers ----------------------------------------------------------------------------------------- */

TEST(host_timers_and_tsc)
{
    const struct hv_reference_tsc_page *tsc = (const void *)(ram + PAGE_TSC * 4096u);
    uint64_t told;

    start();
    now = 1000;
    CHECK(host_wrmsr(host, 0, HV_X64_MSR_REFERENCE_TSC, PAGE_TSC * 4096u | 1));
    CHECK(tsc->sequence != 0);
    now = 123456789;
    told = (uint64_t)(((unsigned __int128)(now * 200) * tsc->scale) >> 64) + (uint64_t)tsc->offset;
    CHECK(told - now + 1 < 3);
    CHECK(host_wrmsr(host, 0, HV_X64_MSR_STIMER_CONFIG(0), HV_STIMER_ENABLE | HV_STIMER_AUTO_ENABLE |
                     HV_STIMER_DIRECT | 0xEDu << HV_STIMER_VECTOR_SHIFT));
    CHECK(host_wrmsr(host, 0, HV_X64_MSR_STIMER_COUNT(0), now + 500));
    CHECK_EQ(deadline, now + 500);
    interrupts = 0;
    host_timer_fired(host, 0);
    CHECK_EQ(interrupts, 0);
    now += 500;
    host_timer_fired(host, 0);
    CHECK_EQ(interrupts, 1);
    CHECK_EQ(violations, 0);
    host_destroy(host);
}

/* ---- channels come and go --------------------------------------------------------------------------- */

TEST(host_tells_of_luns)
{
    struct vmbus_packet_header head;
    struct host_blk_info info;
    struct host_scsi_config cfg;
    struct vmbus_msg_offer_channel offer;
    struct vstor_packet v;
    struct host_scsi *s;
    struct blk_mem *disk;
    uint8_t packet[512];
    static const uint8_t ready[16] = {SCSI_TEST_UNIT_READY};

    start();
    host_scsi_config_default(&cfg);
    s = host_add_scsi(host, &cfg);
    disk = blk_mem_create(&ops, NULL, 4096, 1 << 16);
    blk_mem_info(disk, &info);
    CHECK(connect(VMBUS_VERSION_WIN10_5_3) && first_offer(&offer));
    CHECK(open_channel(offer.relid) && storvsp_handshake(offer.relid));
    CHECK(scsi(offer.relid, ready, 0, VSTOR_DATA_NONE, &v));
    CHECK_EQ(v.srb.srb_status, SRB_STATUS_INVALID_LUN);
    CHECK(host_add_lun(host, s, 0, &info, &blk_mem_ops, disk));
    poll_all();
    CHECK_EQ(receive(&head, packet), 64);
    CHECK_EQ(packet[16], VSTOR_OP_ENUMERATE_BUS);
    CHECK(scsi(offer.relid, ready, 0, VSTOR_DATA_NONE, &v));
    CHECK_EQ(v.srb.srb_status, SRB_STATUS_SUCCESS);
    host_resize_lun(host, s, 0, 1 << 17);
    CHECK(scsi(offer.relid, ready, 0, VSTOR_DATA_NONE, &v));
    CHECK_EQ(v.srb.srb_status, SRB_STATUS_ERROR | SRB_STATUS_AUTOSENSE_VALID);
    CHECK_EQ(v.srb.sense[12] << 8 | v.srb.sense[13], SCSI_ASC_CAPACITY_CHANGED);
    CHECK(scsi(offer.relid, ready, 0, VSTOR_DATA_NONE, &v));
    CHECK_EQ(v.srb.srb_status, SRB_STATUS_SUCCESS);
    CHECK_EQ(violations, 0);
    host_destroy(host);
    blk_mem_destroy(disk);
}

TEST(host_unmaps_and_writes_zeroes)
{
    static const uint8_t write10[16] = {SCSI_WRITE_10, 0, 0, 0, 0, 0, 0, 0, 128};
    static const uint8_t unmap[16] = {SCSI_UNMAP, 0, 0, 0, 0, 0, 0, 0, 40};
    static const uint8_t same[16] = {SCSI_WRITE_SAME_16, SCSI_CDB_WRITE_SAME_NDOB, 0, 0, 0, 0, 0, 0, 0, 96,
                                     0, 0, 0, 32};
    uint8_t *list = ram + PAGE_DATA * 4096u + 16, sector[512];
    struct vstor_packet v;
    struct blk_mem *disk;
    uint32_t relid;

    start();
    CHECK(disk_ready(&disk, &relid));
    for (unsigned i = 0; i < 17; i++)
        memset(ram + (PAGE_DATA + 2 * i) * 4096u, 0x77, 4096);
    CHECK(scsi(relid, write10, 65536, VSTOR_DATA_TO_DEVICE, &v));
    CHECK_EQ(v.srb.srb_status, SRB_STATUS_SUCCESS);
    CHECK_EQ(blk_mem_pages(disk), 16);
    memset(list, 0, 40);
    scsi_put_be16(list, 38);
    scsi_put_be16(list + 2, 32);
    scsi_put_be32(list + 8 + 8, 32);                 /* 0 to 31 */
    scsi_put_be64(list + 24, 32);
    scsi_put_be32(list + 32, 8);                     /* 32 to 39 */
    CHECK(scsi(relid, unmap, 40, VSTOR_DATA_TO_DEVICE, &v));
    CHECK_EQ(v.srb.srb_status, SRB_STATUS_SUCCESS);
    CHECK_EQ(blk_mem_pages(disk), 12);
    CHECK(blk_mem_access(disk, 39, sector, 1, false) && sector[0] == 0);
    CHECK(blk_mem_access(disk, 40, sector, 1, false) && sector[0] == 0x77);
    CHECK(scsi(relid, same, 0, VSTOR_DATA_NONE, &v));
    CHECK_EQ(v.srb.srb_status, SRB_STATUS_SUCCESS);
    CHECK(blk_mem_access(disk, 96, sector, 1, false) && sector[0] == 0);
    /* What is unmapped reads as zeroes: with another block the blocks are written, UNMAP or not. */
    static const uint8_t same_unmap[16] = {SCSI_WRITE_SAME_16, SCSI_CDB_WRITE_SAME_UNMAP, 0, 0, 0, 0, 0, 0, 0, 64,
                                            0, 0, 0, 32};
    memset(list, 0, 512);
    list[511] = 9;
    CHECK(scsi(relid, same_unmap, 512, VSTOR_DATA_TO_DEVICE, &v));
    CHECK_EQ(v.srb.srb_status, SRB_STATUS_SUCCESS);
    CHECK(blk_mem_access(disk, 70, sector, 1, false) && sector[0] == 0 && sector[511] == 9);
    list[511] = 0;
    CHECK(scsi(relid, same_unmap, 512, VSTOR_DATA_TO_DEVICE, &v));
    CHECK(blk_mem_access(disk, 70, sector, 1, false) && sector[511] == 0);
    CHECK_EQ(violations, 0);
    CHECK(scsi(relid, same_unmap, 512, VSTOR_DATA_FROM_DEVICE, &v));
    CHECK(v.srb.srb_status != SRB_STATUS_SUCCESS && violations == 1);
    violations = 0;
    host_destroy(host);
    blk_mem_destroy(disk);
}

TEST(host_rescinds_and_reuses)
{
    struct vmbus_msg_relid gone = {.relid = 0};
    struct vmbus_msg_relid release = {.header = {.type = VMBUS_MSG_RELID_RELEASED}};
    struct vmbus_msg_gpadl_teardown down = {.header = {.type = VMBUS_MSG_GPADL_TEARDOWN}, .gpadl = 5};
    struct vmbus_msg_gpadl_torndown torn = {.gpadl = 0};
    struct host_state state;
    struct blk_mem *disk;
    uint32_t relid;

    start();
    CHECK(disk_ready(&disk, &relid));
    CHECK(host_rescind(host, relid));
    poll_all();
    CHECK(take(VMBUS_MSG_RESCIND_OFFER, &gone, sizeof(gone)));
    CHECK_EQ(gone.relid, relid);
    down.relid = release.relid = relid;
    post(4, &down, sizeof(down));
    CHECK(take(VMBUS_MSG_GPADL_TORNDOWN, &torn, sizeof(torn)));
    post(4, &release, sizeof(release));
    CHECK_EQ(violations, 0);
    host_get_state(host, &state);
    CHECK_EQ(state.gpadls, 0);
    CHECK_EQ(state.channels_offered, 0);
    CHECK(!host_rescind(host, relid));
    host_destroy(host);
    blk_mem_destroy(disk);
}

TEST(host_waits_for_requests_before_unload)
{
    struct vmbus_msg_header unload = {.type = VMBUS_MSG_UNLOAD}, done = {.type = 0};
    static const uint8_t read10[16] = {SCSI_READ_10, 0, 0, 0, 0, 8, 0, 0, 16};
    struct vstor_packet v;
    struct blk_mem *disk;
    uint32_t relid;

    start();
    CHECK(disk_ready(&disk, &relid));
    blk_mem_hold(disk, true, false);
    CHECK(!scsi(relid, read10, 8192, VSTOR_DATA_FROM_DEVICE, &v));
    post(4, &unload, sizeof(unload));
    CHECK(!take(VMBUS_MSG_UNLOAD_RESPONSE, &done, sizeof(done)));
    blk_mem_hold(disk, false, false);
    poll_all();
    CHECK(take(VMBUS_MSG_UNLOAD_RESPONSE, &done, sizeof(done)));
    CHECK(connect(VMBUS_VERSION_WIN10));
    CHECK_EQ(violations, 0);
    host_destroy(host);
    blk_mem_destroy(disk);
}

TEST(host_watches_monitor_pages)
{
    struct vmbus_msg_initiate_contact msg = {
        .header = {.type = VMBUS_MSG_INITIATE_CONTACT}, .version = VMBUS_VERSION_WIN10,
        .monitor_page1 = 8 * 4096u, .monitor_page2 = 9 * 4096u,
    };
    struct vmbus_msg_header request = {.type = VMBUS_MSG_REQUEST_OFFERS};
    struct vmbus_msg_version_response answer = {.supported = 0};
    struct vmbus_monitor_page *page = (void *)(ram + 9 * 4096u);
    struct vmbus_msg_offer_channel offer;
    struct host_scsi_config scsi_cfg;
    struct host_config cfg;

    host_config_default(&cfg);
    cfg.monitor_pages = true;
    start_with(&cfg);
    host_scsi_config_default(&scsi_cfg);
    scsi_cfg.monitor = true;
    CHECK(host_add_scsi(host, &scsi_cfg) != NULL);
    post(1, &msg, sizeof(msg));
    CHECK(take(VMBUS_MSG_VERSION_RESPONSE, &answer, sizeof(answer)) && answer.supported);
    post(1, &request, sizeof(request));
    CHECK(take(VMBUS_MSG_OFFER_CHANNEL, &offer, sizeof(offer)));
    CHECK_EQ(offer.monitor_allocated, 1);
    page->groups[offer.monitor_id / 32].pending = 1u << offer.monitor_id % 32;
    now += cfg.monitor_latency - 1;
    host_timer_fired(host, HOST_NO_VP);
    CHECK(page->groups[offer.monitor_id / 32].pending != 0);    /* a call before its time changes nothing */
    now++;
    host_timer_fired(host, HOST_NO_VP);
    CHECK_EQ(page->groups[offer.monitor_id / 32].pending, 0);
    CHECK_EQ(violations, 0);
    page->groups[3].pending = 1u << 31;
    poll_all();
    now += cfg.monitor_latency;
    host_timer_fired(host, HOST_NO_VP);
    CHECK_EQ(violations, 1);
    host_destroy(host);
}

/* ---- faults, isolation, flush ----------------------------------------------------------------------- */

TEST(host_fails_the_nth_reply)
{
    start();
    host_set_fault(host, HOST_FAULT_VMBUS_REPLY, 1, HOST_FAULT_DROP);
    CHECK(!connect(VMBUS_VERSION_WIN10_5_3));
    CHECK_EQ(host_fault_count(host), 1);
    CHECK(connect(VMBUS_VERSION_WIN10_5_3));
    host_set_fault(host, HOST_FAULT_VMBUS_REPLY, 1, HOST_FAULT_ERROR);
    CHECK(!connect(VMBUS_VERSION_WIN10_5_3));
    CHECK_EQ(violations, 0);
    host_destroy(host);
}

TEST(host_keeps_private_pages_private)
{
    struct hv_modify_visibility *in = (void *)(ram + PAGE_INPUT * 4096u);
    uint64_t *pages = (uint64_t *)(void *)(in + 1);
    struct vmbus_msg_offer_channel offer;
    struct host_scsi_config scsi_cfg;
    struct host_config cfg;
    struct host_state state;

    host_config_default(&cfg);
    cfg.isolation_type = HV_ISOLATION_VBS;
    cfg.boundary_bit = 40;
    cfg.ram_pages = RAM_PAGES;
    start_with(&cfg);
    host_scsi_config_default(&scsi_cfg);
    CHECK(host_add_scsi(host, &scsi_cfg) != NULL);
    CHECK(connect(VMBUS_VERSION_WIN10_5_3) && first_offer(&offer));
    CHECK(!make_gpadl(offer.relid, 5, PAGE_RING, RING_PAGES));
    CHECK_EQ(violations, 1);
    *in = (struct hv_modify_visibility){HV_PARTITION_ID_SELF, HV_VISIBILITY_READ_WRITE, 0};
    for (unsigned i = 0; i < RING_PAGES; i++)
        pages[i] = PAGE_RING + i;
    CHECK_EQ(call(hv_control(HVCALL_MODIFY_HOST_VISIBILITY, 0, RING_PAGES, 0), PAGE_INPUT * 4096u, 0),
             (uint64_t)RING_PAGES << 32);
    CHECK(make_gpadl(offer.relid, 5, PAGE_RING, RING_PAGES));
    host_get_state(host, &state);
    CHECK_EQ(state.pages_visible, RING_PAGES);
    *in = (struct hv_modify_visibility){HV_PARTITION_ID_SELF, HV_VISIBILITY_PRIVATE, 0};
    pages[0] = PAGE_RING;
    CHECK_EQ(hv_result_status(call(hv_control(HVCALL_MODIFY_HOST_VISIBILITY, 0, 1, 0), PAGE_INPUT * 4096u,
                                   0)),
             HV_STATUS_OPERATION_DENIED);
    CHECK_EQ(violations, 2);
    host_destroy(host);
}

TEST_MAIN()
