/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Sub-channels of the host model against a guest played by hand with four VPs: storvsp's handshake for them, offers,
 * rings and interrupts of each, requests and completions side by side, closing and opening with another number,
 * rescind, MODIFY_CHANNEL. test_host_multi_net.c has the network's part.
 */
#include "tests/unit/played_disk.h"
#include "tests/unit/played_multi.h"
#include "tests/unit/rules.h"

static struct blk_mem *disk;
static struct host_scsi *controller;
static uint16_t sub_limit = 3, newest = VSTOR_VERSION_WIN10;

/* A controller with a disk; its primary is open, nothing was said on it. */
static bool with_controller(void)
{
    struct host_scsi_config cfg;
    struct host_blk_info info;
    struct vmbus_msg_offer_channel offer;

    start_multi();
    host_scsi_config_default(&cfg);
    cfg.max_sub_channels = sub_limit;
    cfg.max_version = newest;
    controller = host_add_scsi(host, &cfg);
    disk = blk_mem_create(&ops, NULL, 512, 1 << 20);
    blk_mem_info(disk, &info);
    if (!host_add_lun(host, controller, 0, &info, &blk_mem_ops, disk) || !connect(VMBUS_VERSION_WIN10_5_3) ||
        !first_offer(&offer))
        return false;
    primary.relid = relid = offer.relid;
    instance = offer.instance;
    interface = offer.interface_type;
    use(&primary);
    return open_channel(relid);
}

/* A step of the handshake; its status. */
static uint32_t step(struct vstor_packet v)
{
    use(&primary);
    return vstor(relid, &v) ? v.status : 0xEEEEEEEE;
}

static bool up_to_properties(struct vstor_packet *properties)
{
    *properties = (struct vstor_packet){.operation = VSTOR_OP_QUERY_PROPERTIES};
    return step((struct vstor_packet){.operation = VSTOR_OP_BEGIN_INITIALIZATION}) == 0 &&
           step((struct vstor_packet){.operation = VSTOR_OP_QUERY_PROTOCOL_VERSION, .version = {newest, 0}}) == 0 &&
           vstor(relid, properties) && properties->status == 0;
}

static uint32_t create(uint16_t count)
{
    return step((struct vstor_packet){.operation = VSTOR_OP_CREATE_SUB_CHANNELS, .sub_channel_count = count});
}

static uint32_t end_initialization(void)
{
    return step((struct vstor_packet){.operation = VSTOR_OP_END_INITIALIZATION});
}

static bool ready(void)
{
    struct vstor_packet v;

    return with_controller() && up_to_properties(&v) && end_initialization() == 0;
}

static bool ready_with_subs(uint16_t count)
{
    return ready() && create(count) == 0 && take_sub_offers(count) && open_subs(count);
}

static bool ready_with_two(void) { return ready_with_subs(2); }

/* A read of one sector into that page, asked for on a channel. */
static void ask(const struct channel *c, uint64_t id, uint32_t sector, uint32_t page)
{
    uint64_t ranges[3] = {1ull << 32, 512, page};
    struct vstor_packet v = {
        .operation = VSTOR_OP_EXECUTE_SRB, .flags = 1,
        .srb = {.length = VSTOR_SRB_BYTES, .cdb_bytes = 10, .sense_bytes = VSTOR_SENSE_MAX,
                .data_direction = VSTOR_DATA_FROM_DEVICE, .data_bytes = 512,
                .cdb = {SCSI_READ_10, 0, 0, 0, (uint8_t)(sector >> 8), (uint8_t)sector, 0, 0, 1}},
    };

    use(c);
    send(c->relid, VMBUS_PACKET_GPA_DIRECT, 1, id, ranges, sizeof(ranges), &v, sizeof(v));
}

/* Is the next packet of that channel the good completion of that id? */
static bool answered(const struct channel *c, uint64_t id)
{
    struct vmbus_packet_header head;
    struct vstor_packet v;
    uint8_t packet[512];

    use(c);
    if (receive(&head, packet) != sizeof(v) || head.type != VMBUS_PACKET_COMPLETION || head.transaction_id != id)
        return false;
    memcpy(&v, packet + head.data_offset8 * 8u, sizeof(v));
    return v.operation == VSTOR_OP_COMPLETE_IO && v.srb.srb_status == SRB_STATUS_SUCCESS;
}

static bool silent(const struct channel *c)
{
    struct vmbus_packet_header head;
    uint8_t packet[512];

    use(c);
    return receive(&head, packet) == 0;
}

/* ---- handshake -------------------------------------------------------------------------------------- */

TEST(announced_as_configured)
{
    struct vstor_packet v;

    CHECK(with_controller());
    CHECK(up_to_properties(&v));
    CHECK_EQ(v.properties.max_sub_channels, 3);
    CHECK_EQ(v.properties.flags, VSTOR_CHANNEL_MULTI);
    CHECK_EQ(create(3), NTSTATUS_SUCCESS);              /* before END_INITIALIZATION too */
    CHECK(take_sub_offers(3));
    CHECK_EQ(end_initialization(), NTSTATUS_SUCCESS);
    CHECK_EQ(channels_offered(), 4);
    CHECK_EQ(violations, 0);
    host_destroy(host);
}

TEST(old_versions_have_one_channel)
{
    struct vstor_packet v;

    newest = VSTOR_VERSION_WIN7;
    CHECK(with_controller());
    CHECK(up_to_properties(&v));
    CHECK_EQ(v.properties.max_sub_channels, 0);
    CHECK_EQ(v.properties.flags, 0);
    CHECK_EQ(violations, 0);
    CHECK_EQ(create(1), NTSTATUS_INVALID_DEVICE_STATE);
    CHECK_EQ(violations, 1);
    CHECK_EQ(channels_offered(), 1);
    host_destroy(host);
}

TEST(refusals_by_status)
{
    CHECK(ready());
    CHECK_EQ(create(4), NTSTATUS_INVALID_PARAMETER);
    CHECK_EQ(channels_offered(), 1);
    CHECK_EQ(create(2), NTSTATUS_SUCCESS);              /* the refusal cost nothing */
    CHECK(take_sub_offers(2));
    CHECK_EQ(create(1), NTSTATUS_INVALID_DEVICE_STATE);
    CHECK_EQ(channels_offered(), 3);
    CHECK_EQ(violations, 2);
    host_destroy(host);
}

TEST(refused_by_fault_and_asked_again)
{
    CHECK(ready());
    host_set_fault(host, HOST_FAULT_STORVSP_REPLY, 1, HOST_FAULT_ERROR);
    CHECK_EQ(create(2), NTSTATUS_UNSUCCESSFUL);
    CHECK_EQ(channels_offered(), 1);
    CHECK_EQ(create(2), NTSTATUS_SUCCESS);
    CHECK(take_sub_offers(2) && open_subs(2));
    CHECK_EQ(channels_offered(), 3);
    CHECK_EQ(violations, 0);
    host_destroy(host);
}

RULE(sub_channels_too_many, ready, "4 sub-channels, 3 are allowed", { create(4); })
RULE(sub_channels_twice, ready_with_two, "sub-channels twice", { create(1); })
RULE(sub_channel_handshake, ready_with_two, "handshake on sub-channel", {
    struct vstor_packet v = {.operation = VSTOR_OP_BEGIN_INITIALIZATION};
    use(&subs[0]);
    vstor(subs[0].relid, &v);
})
RULE(sub_channel_open_twice, ready_with_two, "is not offered, or open already", {
    struct vmbus_msg_open_channel msg = {
        .header = {.type = VMBUS_MSG_OPEN_CHANNEL}, .relid = subs[0].relid, .ring_gpadl = subs[0].gpadl,
        .downstream_page_offset = RING_PAGES / 2};
    post(4, &msg, sizeof(msg));
})
/* The primary's rings are the primary's. */
RULE(sub_channel_with_rings_of_the_primary, ready, "the ring GPADL is unknown", {
    create(1);
    CHECK(take_sub_offers(1));
    struct vmbus_msg_open_channel msg = {
        .header = {.type = VMBUS_MSG_OPEN_CHANNEL}, .relid = subs[0].relid, .ring_gpadl = primary.gpadl,
        .downstream_page_offset = RING_PAGES / 2};
    post(4, &msg, sizeof(msg));
})
RULE(sub_channel_on_a_vp_too_far, ready, "target VP", {
    create(1);
    CHECK(take_sub_offers(1));
    subs[0].vp = VPS;
    open_subs(1);
})
RULE(primary_closed_first, ready_with_two, "before its sub-channel",
     { post_relid(VMBUS_MSG_CLOSE_CHANNEL, primary.relid); })
RULE(id_twice_on_one_channel, ready_with_two, "in flight already", {
    blk_mem_hold(disk, true, false);
    ask(&subs[1], 7, 0, PAGE_DATA);
    ask(&subs[1], 7, 1, PAGE_DATA + 1);
    blk_mem_hold(disk, false, false);
})
RULE(interrupt_of_a_sub_channel_lost, ready_with_two, "is lost", {
    host_wrmsr(host, subs[1].vp, HV_X64_MSR_SINT(2), VECTOR | HV_SINT_MASKED);
    ask(&subs[1], 7, 0, PAGE_DATA);
})
RULE(signal_of_a_sub_channel_forgotten, ready_with_two, "the signal was forgotten", {
    struct vmbus_ring_control *c;
    use(&subs[0]);
    c = control_page(0);
    c->write_index += 8;                                /* of what, is not looked at before the signal */
    for (unsigned i = 0; i < 3; i++) {
        now += 20000000;
        host_audit(host);
    }
})

/* ---- requests --------------------------------------------------------------------------------------- */

TEST(each_channel_answers_for_itself)
{
    uint8_t sector[512];
    const struct channel *all[] = {&primary, &subs[0], &subs[1], &subs[2]};

    CHECK(ready_with_subs(3));
    for (unsigned i = 0; i < 4; i++) {
        memset(sector, 0x40 + (int)i, sizeof(sector));
        CHECK(blk_mem_access(disk, i, sector, 1, true));
        while (event_on(all[i]->vp, all[i]->relid))
            ;
        raised[i] = 0;
    }
    blk_mem_hold(disk, true, false);
    for (unsigned i = 0; i < 4; i++)
        ask(all[i], 7, i, PAGE_DATA + i);              /* an id belongs to its channel */
    for (unsigned i = 0; i < 4; i++)
        CHECK(silent(all[i]));
    blk_mem_hold(disk, false, true);
    poll_all();
    for (unsigned i = 0; i < 4; i++) {
        CHECK(answered(all[i], 7));
        CHECK(silent(all[i]));
        CHECK_EQ(ram[(PAGE_DATA + i) * 4096u], 0x40 + i);
        CHECK_EQ(raised[all[i]->vp], 1);
        for (unsigned vp = 0; vp < VPS; vp++)
            CHECK_EQ(event_on(vp, all[i]->relid), vp == all[i]->vp);
    }
    CHECK_EQ(violations, 0);
    host_destroy(host);
}

TEST(requests_wait_for_the_primary)
{
    struct vstor_packet v;

    CHECK(with_controller());
    CHECK(up_to_properties(&v));
    CHECK_EQ(create(1), NTSTATUS_SUCCESS);
    CHECK(take_sub_offers(1) && open_subs(1));
    ask(&subs[0], 7, 0, PAGE_DATA);
    CHECK(silent(&subs[0]));
    CHECK_EQ(end_initialization(), NTSTATUS_SUCCESS);
    CHECK(answered(&subs[0], 7));
    CHECK_EQ(violations, 0);
    host_destroy(host);
}

/* ---- closing ---------------------------------------------------------------------------------------- */

TEST(closed_and_opened_with_another_number)
{
    struct channel old[2];
    struct vstor_packet v;

    CHECK(ready_with_subs(2));
    memcpy(old, subs, sizeof(old));
    CHECK(close_channel(&subs[0]) && close_channel(&subs[1]));
    CHECK_EQ(channels_offered(), 3);                    /* those are still offered while the primary is open */
    post_relid(VMBUS_MSG_CLOSE_CHANNEL, primary.relid);
    CHECK(rescinded(old[0].relid) && rescinded(old[1].relid));
    teardown(primary.relid, primary.gpadl);
    CHECK_EQ(channels_offered(), 1);

    /* The old relids are not released yet. */
    use(&primary);
    CHECK(open_channel(primary.relid));
    CHECK(up_to_properties(&v));
    CHECK_EQ(end_initialization(), NTSTATUS_SUCCESS);
    CHECK_EQ(create(3), NTSTATUS_SUCCESS);
    CHECK(take_sub_offers(3) && open_subs(3));
    for (unsigned i = 0; i < 3; i++) {
        CHECK(subs[i].relid != old[0].relid && subs[i].relid != old[1].relid);
        ask(&subs[i], 1, 0, PAGE_DATA);
        CHECK(answered(&subs[i], 1));
    }
    post_relid(VMBUS_MSG_RELID_RELEASED, old[0].relid);
    post_relid(VMBUS_MSG_RELID_RELEASED, old[1].relid);
    CHECK_EQ(channels_offered(), 4);
    ask(&subs[2], 2, 0, PAGE_DATA);
    CHECK(answered(&subs[2], 2));
    CHECK_EQ(violations, 0);
    host_destroy(host);
}

TEST(a_sub_channel_alone_closed_and_opened)
{
    CHECK(ready_with_subs(2));
    CHECK(close_channel(&subs[0]));
    ask(&subs[1], 1, 0, PAGE_DATA);
    CHECK(answered(&subs[1], 1));
    CHECK(open_subs(1));
    ask(&subs[0], 1, 0, PAGE_DATA);
    CHECK(answered(&subs[0], 1));
    CHECK_EQ(violations, 0);
    host_destroy(host);
}

/* A closed channel's rings and buffers are in use until its requests have ended. */
TEST(closing_waits_for_requests)
{
    struct vmbus_msg_gpadl_torndown done = {.gpadl = 0};
    uint8_t sector[512];

    CHECK(ready_with_subs(2));
    memset(sector, 0x5A, sizeof(sector));
    CHECK(blk_mem_access(disk, 0, sector, 1, true));
    blk_mem_hold(disk, true, false);
    ask(&subs[0], 1, 0, PAGE_DATA);
    post_relid(VMBUS_MSG_CLOSE_CHANNEL, subs[0].relid);
    teardown(subs[0].relid, subs[0].gpadl);
    CHECK(!take(VMBUS_MSG_GPADL_TORNDOWN, &done, sizeof(done)));
    CHECK(close_channel(&subs[1]));
    CHECK(close_channel(&primary));
    CHECK_EQ(channels_offered(), 1);
    blk_mem_hold(disk, false, false);
    poll_all();
    CHECK(take(VMBUS_MSG_GPADL_TORNDOWN, &done, sizeof(done)));
    CHECK_EQ(done.gpadl, subs[0].gpadl);
    CHECK_EQ(ram[PAGE_DATA * 4096u], 0x5A);
    CHECK_EQ(violations, 0);
    host_destroy(host);
}

/* Rescinded, since its primary is closed: but not the host wanted that, so its request ends first. */
TEST(closing_the_primary_waits_too)
{
    struct vmbus_msg_gpadl_torndown done = {.gpadl = 0};
    struct host_state state;

    CHECK(ready_with_subs(1));
    blk_mem_hold(disk, true, false);
    memset(ram + PAGE_DATA * 4096u, 0xAA, 512);
    ask(&subs[0], 1, 0, PAGE_DATA);
    host_get_state(host, &state);
    CHECK_EQ(state.blk_in_flight, 1);
    CHECK(close_channel(&primary));
    CHECK_EQ(violations, 1);
    teardown(subs[0].relid, subs[0].gpadl);
    CHECK(!take(VMBUS_MSG_GPADL_TORNDOWN, &done, sizeof(done)));
    CHECK_EQ(ram[PAGE_DATA * 4096u], 0xAA);
    blk_mem_hold(disk, false, false);
    poll_all();
    CHECK(take(VMBUS_MSG_GPADL_TORNDOWN, &done, sizeof(done)));
    CHECK_EQ(ram[PAGE_DATA * 4096u], 0);
    post_relid(VMBUS_MSG_RELID_RELEASED, subs[0].relid);
    CHECK_EQ(channels_offered(), 1);
    CHECK_EQ(violations, 1);
    host_destroy(host);
}

TEST(primary_rescinded_takes_all)
{
    struct host_state state;

    CHECK(ready_with_subs(3));
    host_remove_scsi(host, controller);
    poll_all();
    for (unsigned i = 0; i < 3; i++)
        CHECK(rescinded(subs[i].relid));
    CHECK(rescinded(primary.relid));
    for (unsigned i = 0; i < 3; i++) {
        teardown(subs[i].relid, subs[i].gpadl);
        post_relid(VMBUS_MSG_RELID_RELEASED, subs[i].relid);
    }
    teardown(primary.relid, primary.gpadl);
    post_relid(VMBUS_MSG_RELID_RELEASED, primary.relid);
    poll_all();
    host_get_state(host, &state);
    CHECK_EQ(state.channels_offered, 0);
    CHECK_EQ(state.gpadls, 0);
    CHECK_EQ(violations, 0);
    host_destroy(host);
}

/* Linux does it so: after a rescind it tears no GPADL down. */
TEST(released_with_gpadls)
{
    struct host_state before, state;

    CHECK(with_controller());
    host_get_state(host, &before);
    CHECK_EQ(before.gpadls, 1);
    host_remove_scsi(host, controller);
    poll_all();
    CHECK(rescinded(primary.relid));
    post_relid(VMBUS_MSG_RELID_RELEASED, primary.relid);
    poll_all();
    host_get_state(host, &state);
    CHECK_EQ(state.gpadls, 0);
    CHECK_EQ(state.pages_mapped, before.pages_mapped - RING_PAGES);
    CHECK_EQ(violations, 0);
    post_relid(VMBUS_MSG_RELID_RELEASED, primary.relid);
    CHECK_EQ(violations, 1);
    host_destroy(host);
}

TEST(a_new_connection_begins_with_the_primary)
{
    struct vmbus_msg_offer_channel offer = {.sub_channel_index = 9};

    CHECK(ready_with_subs(3));
    CHECK(connect(VMBUS_VERSION_WIN10_5_3));
    CHECK(first_offer(&offer));
    CHECK_EQ(offer.sub_channel_index, 0);
    CHECK(!take(VMBUS_MSG_OFFER_CHANNEL, &offer, sizeof(offer)));
    CHECK_EQ(channels_offered(), 1);
    CHECK_EQ(violations, 0);
    host_destroy(host);
}

/* ---- target VP -------------------------------------------------------------------------------------- */

TEST(modify_moves_the_interrupts)
{
    struct vmbus_msg_modify_channel_response answer = {.status = 1};

    CHECK(ready_with_subs(1));
    CHECK_EQ(subs[0].vp, 1);
    modify(4, subs[0].relid, 3);
    CHECK(take(VMBUS_MSG_MODIFY_CHANNEL_RESPONSE, &answer, sizeof(answer)));
    CHECK_EQ(answer.relid, subs[0].relid);
    CHECK_EQ(answer.status, NTSTATUS_SUCCESS);
    event_on(1, subs[0].relid);
    CHECK(event_on(3, subs[0].relid));                  /* told once, so that nothing is missed between the two */
    ask(&subs[0], 1, 0, PAGE_DATA);
    CHECK(answered(&subs[0], 1));
    CHECK(event_on(3, subs[0].relid) && !event_on(1, subs[0].relid));
    modify(4, subs[0].relid, 1);
    CHECK(take(VMBUS_MSG_MODIFY_CHANNEL_RESPONSE, &answer, sizeof(answer)));
    CHECK_EQ(answer.status, NTSTATUS_SUCCESS);
    CHECK_EQ(violations, 0);
    host_destroy(host);
}

TEST(modify_before_5_3_has_no_answer)
{
    struct vmbus_msg_modify_channel_response answer;
    struct vmbus_msg_offer_channel offer;
    struct host_config cfg;
    struct host_scsi_config scsi_cfg;

    host_config_default(&cfg);
    start_vps(&cfg);
    host_scsi_config_default(&scsi_cfg);
    host_add_scsi(host, &scsi_cfg);
    CHECK(connect(VMBUS_VERSION_WIN10_5_2));
    CHECK(first_offer(&offer) && open_channel(offer.relid));
    modify(4, offer.relid, 1);
    modify(4, offer.relid, 2);
    poll_all();
    CHECK(!take(VMBUS_MSG_MODIFY_CHANNEL_RESPONSE, &answer, sizeof(answer)));
    CHECK(event_on(2, offer.relid));
    CHECK_EQ(violations, 0);
    host_destroy(host);
}

RULE(modify_to_a_vp_too_far, ready_with_two, "modify: channel", { modify(4, subs[0].relid, VPS); })
RULE(modify_to_no_vp, ready_with_two, "modify: channel", { modify(4, subs[0].relid, VMBUS_TARGET_VP_NO_INTERRUPTS); })
RULE(modify_of_what_is_not_open, ready, "modify: channel", {
    create(1);
    CHECK(take_sub_offers(1));
    modify(4, subs[0].relid, 1);
})
/* The first answer is in the slot, the second waits for it: the third request comes too early. */
RULE(modify_before_the_answer, ready_with_two, "while the last answer is on its way", {
    modify(4, subs[0].relid, 1);
    modify(4, subs[1].relid, 2);
    modify(4, subs[1].relid, 3);
})

TEST_MAIN()
