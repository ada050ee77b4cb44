/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The integration components of the model, against a guest played by hand that keeps the rules. What happens to one
 * that does not is in test_host_rules_ic.c; KVP is in test_host_kvp.c.
 */
#include "tests/unit/played_ic.h"

static const struct guid classes[HOST_ICS] = {
    VMBUS_GUID_SHUTDOWN, VMBUS_GUID_HEARTBEAT, VMBUS_GUID_TIMESYNC, VMBUS_GUID_KVP, VMBUS_GUID_VSS,
};

/* ---- offers, versions --------------------------------------------------------------------------------- */

TEST(ic_offers_are_message_pipes)
{
    for (enum host_ic_kind kind = 0; kind < HOST_ICS; kind++) {
        CHECK(ic_opened(kind));
        CHECK(memcmp(&ic_offer.interface_type, &classes[kind], sizeof(struct guid)) == 0);
        CHECK_EQ(ic_offer.flags, VMBUS_OFFER_NAMED_PIPE_MODE);
        CHECK_EQ(ic_offer.user_data[0], VMBUS_OFFER_PIPE_MESSAGES);
        CHECK(ic_offer.instance.bytes[0] != 0);
        CHECK(state()->offered && state()->open && !state()->negotiated && state()->waiting);
        CHECK_EQ(state()->relid, ic_relid);
        host_destroy(host);
    }
    CHECK_EQ(violations, 0);
}

TEST(ic_default_offers_all_but_snapshots)
{
    struct vmbus_msg_offer_channel offer;
    uint32_t seen = 0;

    start();
    CHECK(host_add_ics(host, &ic_cfg));
    CHECK(connect(VMBUS_VERSION_WIN10_5_3));
    for (bool more = first_offer(&offer); more; more = take(VMBUS_MSG_OFFER_CHANNEL, &offer, sizeof(offer))) {
        for (uint32_t i = 0; i < HOST_ICS; i++)
            seen |= memcmp(&offer.interface_type, &classes[i], sizeof(struct guid)) == 0 ? 1u << i : 0;
    }
    CHECK_EQ(seen, 0xF);
    host_destroy(host);
}

TEST(ic_host_speaks_first)
{
    CHECK(ic_opened(HOST_IC_SHUTDOWN));
    CHECK(next_of(IC_NEGOTIATE));
    CHECK_EQ(asked.frame.type, VMBUS_PACKET_INBAND);
    CHECK_EQ(asked.frame.flags, 0);
    CHECK_EQ(asked.m.pipe.type, IC_PIPE_DATA);
    CHECK_EQ(asked.m.pipe.bytes, 20 + 8 + 6 * 4);
    CHECK_EQ(asked.m.header.body_bytes, 8 + 6 * 4);
    CHECK_EQ(asked.m.header.flags, IC_FLAGS_REQUEST);
    CHECK_EQ(asked.m.header.transaction, 1);
    CHECK_EQ(asked.negotiate.framework_count, 2);
    CHECK_EQ(asked.negotiate.message_count, 4);
    CHECK_EQ(listed(1).major, 3);
    CHECK_EQ(listed(5).minor, 2);
    choose_highest();
    CHECK(state()->negotiated && !state()->waiting);
    CHECK_EQ(state()->framework.major, 3);
    CHECK_EQ(state()->message.major << 8 | state()->message.minor, 0x302);
    CHECK(!next_message());
    CHECK_EQ(violations, 0);
    host_destroy(host);
}

/* Every version that a host lists may be chosen; the framework and the messages are chosen apart. */
TEST(ic_any_listed_version_is_taken)
{
    static const struct host_version shutdowns[4] = {{1, 0}, {3, 0}, {3, 1}, {3, 2}};

    for (uint32_t i = 0; i < 8; i++) {
        const struct host_version *v = &shutdowns[i / 2];
        CHECK(ic_opened(HOST_IC_SHUTDOWN) && next_of(IC_NEGOTIATE));
        choose(i % 2 != 0 ? 0x100 : 0x300, (uint16_t)(v->major << 8 | v->minor));
        CHECK(state()->negotiated);
        CHECK_EQ(state()->message.major, v->major);
        CHECK_EQ(state()->message.minor, v->minor);
        CHECK(host_ic_shutdown(host, 0, 0, 0, ""));
        poll_all();
        CHECK(next_of(IC_SHUTDOWN));
        CHECK_EQ(asked.m.header.framework.major, i % 2 != 0 ? 1 : 3);
        CHECK_EQ(asked.m.header.message.minor, v->minor);
        host_destroy(host);
    }
    CHECK_EQ(violations, 0);
}

TEST(ic_old_host_lists_what_it_is_told_to)
{
    ic_cfg.framework = (struct host_versions){1, {{1, 0}}};
    ic_cfg.messages[HOST_IC_TIMESYNC] = (struct host_versions){1, {{3, 0}}};
    CHECK(ic_opened(HOST_IC_TIMESYNC) && next_of(IC_NEGOTIATE));
    CHECK_EQ(asked.negotiate.framework_count, 1);
    CHECK_EQ(asked.negotiate.message_count, 1);
    CHECK_EQ(listed(0).major, 1);
    CHECK_EQ(listed(1).major, 3);
    host_destroy(host);
}

TEST(ic_refusal_is_the_end_until_the_host_asks_again)
{
    CHECK(ic_opened(HOST_IC_HEARTBEAT) && next_of(IC_NEGOTIATE));
    asked.negotiate.framework_count = asked.negotiate.message_count = 0;
    asked.m.header.body_bytes = IC_NEGOTIATED_BYTES;
    respond(IC_STATUS_OK);
    CHECK(state()->refused && !state()->negotiated);
    pass(MS(600000));
    CHECK(!next_message());
    CHECK(host_ic_renegotiate(host, HOST_IC_HEARTBEAT));
    poll_all();
    CHECK(next_of(IC_NEGOTIATE));
    choose_highest();
    CHECK(state()->negotiated && !state()->refused);
    CHECK_EQ(violations, 0);
    host_destroy(host);
}

TEST(ic_negotiates_again_in_the_middle_of_a_request)
{
    CHECK(ic_negotiated(HOST_IC_HEARTBEAT));
    CHECK(next_of(IC_HEARTBEAT));
    uint8_t transaction = asked.m.header.transaction;
    CHECK(host_ic_renegotiate(host, HOST_IC_HEARTBEAT));
    poll_all();
    asked.heartbeat.sequence++;
    respond(IC_STATUS_OK);                                   /* belongs to what was before */
    CHECK_EQ(state()->late, 1);
    CHECK_EQ(state()->answers, 0);
    CHECK(next_of(IC_NEGOTIATE));
    CHECK(asked.m.header.transaction != transaction);
    CHECK_EQ(asked.m.header.message.major, 0);
    choose(0x300, 0x100);
    CHECK_EQ(state()->negotiations, 2);
    CHECK_EQ(state()->message.major, 1);
    CHECK(next_of(IC_HEARTBEAT));
    CHECK_EQ(violations, 0);
    host_destroy(host);
}

TEST(ic_versions_nobody_answers_are_asked_for_again)
{
    CHECK(ic_opened(HOST_IC_SHUTDOWN) && next_of(IC_NEGOTIATE));
    pass(MS(ic_cfg.negotiate_limit_ms) - 1);
    CHECK(!next_message());
    pass(1);
    CHECK_EQ(state()->missed, 1);
    CHECK(next_of(IC_NEGOTIATE));
    choose_highest();
    CHECK(state()->negotiated);
    CHECK_EQ(violations, 0);
    host_destroy(host);
}

/* ---- heartbeat ---------------------------------------------------------------------------------------- */

TEST(heartbeat_beats_every_two_seconds)
{
    uint64_t sequence = 0, last = 0;

    CHECK(ic_negotiated(HOST_IC_HEARTBEAT));
    for (unsigned n = 0; n < 5; n++) {
        CHECK(next_of(IC_HEARTBEAT));
        CHECK_EQ(asked.m.header.body_bytes, sizeof(struct ic_heartbeat));
        CHECK(n == 0 || (asked.heartbeat.sequence > sequence && now - last == MS(2000)));
        sequence = asked.heartbeat.sequence++;
        last = now;
        asked.heartbeat.application_state = IC_APPLICATION_HEALTHY;
        respond(IC_STATUS_OK);
        CHECK_EQ(state()->answers, n + 1);
        CHECK_EQ(state()->last_answer_100ns, now);
        CHECK_EQ(state()->word, IC_APPLICATION_HEALTHY);
        pass(MS(2000) - 1);
        CHECK(!next_message());
        pass(1);
    }
    CHECK_EQ(state()->missed, 0);
    CHECK_EQ(violations, 0);
    host_destroy(host);
}

TEST(heartbeat_that_stops_is_missed_and_may_come_late)
{
    CHECK(ic_negotiated(HOST_IC_HEARTBEAT));
    pass(MS(2000));
    CHECK_EQ(state()->missed, 1);
    pass(MS(8000));
    CHECK_EQ(state()->missed, 5);
    CHECK_EQ(state()->requests, 6);
    CHECK_EQ(warnings, 1);
    serve();                                                 /* all six at once */
    CHECK_EQ(state()->late, 5);
    CHECK_EQ(state()->answers, 1);
    live(10000);
    CHECK_EQ(state()->answers, 6);
    CHECK_EQ(state()->missed, 5);
    pass(MS(8000));
    CHECK_EQ(warnings, 2);                                   /* it had come back meanwhile */
    CHECK_EQ(violations, 0);
    host_destroy(host);
}

/* A guest that does not read is not flooded: nothing waits outside of the ring. */
TEST(heartbeat_stops_when_the_ring_is_full)
{
    CHECK(ic_negotiated(HOST_IC_HEARTBEAT));
    pass(MS(2000) * 2000);
    CHECK_EQ(host_counters(host)->ring_full, 0);
    CHECK(state()->requests < RING_BYTES / 64);
    uint64_t asked_before = state()->requests;
    live(20000);
    CHECK(state()->requests >= asked_before + 9);
    CHECK_EQ(violations, 0);
    host_destroy(host);
}

/* ---- time --------------------------------------------------------------------------------------------- */

TEST(timesync_first_sets_then_samples)
{
    ic_cfg.time_100ns = IC_TIME_UNIX_EPOCH + 17000000000000000ull;
    CHECK(ic_negotiated(HOST_IC_TIMESYNC));
    uint64_t begun = now;
    for (unsigned n = 0; n < 4; n++) {
        CHECK(next_of(IC_TIMESYNC));
        CHECK_EQ(asked.m.header.body_bytes, sizeof(struct ic_timesync_4));
        CHECK_EQ(asked.timesync_4.flags, n == 0 ? IC_TIMESYNC_SYNC : IC_TIMESYNC_SAMPLE);
        CHECK_EQ(asked.timesync_4.reference_100ns, now);
        CHECK_EQ(asked.timesync_4.host_time, ic_cfg.time_100ns + (now - begun));
        respond(IC_STATUS_OK);
        pass(MS(5000));
    }
    CHECK_EQ(state()->answers, 4);
    host_ic_set_time(host, 5);
    CHECK(next_of(IC_TIMESYNC));                             /* it was sampled before the clock jumped */
    respond(IC_STATUS_OK);
    CHECK(!next_message());
    CHECK(host_ic_time_sync(host));
    poll_all();
    CHECK(next_of(IC_TIMESYNC));
    CHECK_EQ(asked.timesync_4.flags, IC_TIMESYNC_SYNC);
    CHECK_EQ(asked.timesync_4.host_time, 5);
    CHECK_EQ(host_ic_time(host), 5);
    respond(IC_STATUS_OK);
    CHECK_EQ(violations, 0);
    host_destroy(host);
}

TEST(timesync_before_4_has_the_old_body)
{
    CHECK(ic_opened(HOST_IC_TIMESYNC) && next_of(IC_NEGOTIATE));
    choose(0x300, 0x300);
    CHECK(next_of(IC_TIMESYNC));
    CHECK_EQ(asked.m.header.body_bytes, sizeof(struct ic_timesync));
    CHECK_EQ(asked.timesync.flags, IC_TIMESYNC_SYNC);
    CHECK_EQ(asked.timesync.host_time, ic_cfg.time_100ns);
    respond(IC_STATUS_OK);
    CHECK(host_ic_renegotiate(host, HOST_IC_TIMESYNC));
    poll_all();
    CHECK(next_of(IC_NEGOTIATE));
    choose_highest();
    CHECK(next_of(IC_TIMESYNC));
    CHECK_EQ(asked.timesync_4.flags, IC_TIMESYNC_SYNC);      /* again the first after the versions */
    CHECK_EQ(violations, 0);
    host_destroy(host);
}

/* As OpenVMM: transaction 0, and samples are no requests; a guest may answer them all the same. */
TEST(ic_like_openvmm)
{
    ic_cfg.numbered = ic_cfg.timesync_answered = false;
    CHECK(ic_opened(HOST_IC_TIMESYNC) && next_of(IC_NEGOTIATE));
    CHECK_EQ(asked.m.header.transaction, 0);
    choose_highest();
    for (unsigned n = 0; n < 3; n++) {
        CHECK(next_of(IC_TIMESYNC));
        CHECK_EQ(asked.m.header.flags, 0);
        if (n == 1)
            respond(IC_STATUS_OK);
        pass(MS(5000));
    }
    CHECK_EQ(state()->missed, 0);
    CHECK_EQ(violations, 0);
    host_destroy(host);
}

TEST(ic_unnumbered_answers_may_come_late)
{
    ic_cfg.numbered = false;
    CHECK(ic_negotiated(HOST_IC_HEARTBEAT));
    pass(MS(4000));
    CHECK_EQ(state()->missed, 2);
    serve();
    CHECK_EQ(state()->late, 2);
    CHECK_EQ(state()->answers, 1);
    CHECK_EQ(violations, 0);
    host_destroy(host);
}

/* ---- shutdown, snapshots ------------------------------------------------------------------------------ */

TEST(shutdown_asks_once)
{
    CHECK(!ic_opened(HOST_IC_SHUTDOWN) || !host_ic_shutdown(host, 0, 0, 0, "too early"));
    CHECK(next_of(IC_NEGOTIATE));
    choose_highest();
    CHECK(host_ic_shutdown(host, IC_SHUTDOWN_FORCE | IC_SHUTDOWN_RESTART, IC_SHUTDOWN_PLANNED, 300, "maintenance"));
    CHECK(!host_ic_shutdown(host, 0, 0, 0, ""));
    poll_all();
    CHECK(!host_ic_shutdown(host, 0, 0, 0, ""));
    CHECK(next_of(IC_SHUTDOWN));
    CHECK_EQ(asked.m.header.body_bytes, 2060);
    CHECK_EQ(asked.shutdown.flags, 3);
    CHECK_EQ(asked.shutdown.reason, 0x80000000);
    CHECK_EQ(asked.shutdown.timeout_s, 300);
    CHECK(strcmp((char *)asked.shutdown.text, "maintenance") == 0);
    respond(IC_STATUS_FAIL);
    CHECK_EQ(state()->status, IC_STATUS_FAIL);
    CHECK(host_ic_shutdown(host, 0, 0, 0, ""));
    poll_all();
    CHECK(next_of(IC_SHUTDOWN));
    respond(IC_STATUS_OK);
    CHECK_EQ(state()->status, IC_STATUS_OK);
    CHECK_EQ(state()->answers, 2);
    CHECK_EQ(violations, 0);
    host_destroy(host);
}

TEST(shutdown_without_answer_can_be_asked_again)
{
    CHECK(ic_negotiated(HOST_IC_SHUTDOWN));
    CHECK(host_ic_shutdown(host, 0, 0, 0, ""));
    poll_all();
    pass(MS(ic_cfg.answer_limit_ms));
    CHECK_EQ(state()->missed, 1);
    CHECK(host_ic_shutdown(host, 0, 0, 0, ""));
    poll_all();
    serve();
    CHECK_EQ(state()->late, 1);
    CHECK_EQ(state()->answers, 1);
    CHECK_EQ(violations, 0);
    host_destroy(host);
}

TEST(snapshots_may_be_refused)
{
    CHECK(ic_negotiated(HOST_IC_VSS));
    CHECK(host_ic_vss(host, IC_VSS_HOT_BACKUP));
    poll_all();
    CHECK(next_of(IC_VSS));
    CHECK_EQ(asked.vss.operation, IC_VSS_HOT_BACKUP);
    asked.vss.flags = IC_VSS_NO_AUTO_RECOVERY | IC_VSS_BACKUP_SUPPORTED;
    respond(IC_STATUS_OK);
    CHECK_EQ(state()->word, 5);
    CHECK(host_ic_vss(host, IC_VSS_FREEZE));
    poll_all();
    CHECK(next_of(IC_VSS));
    pass(MS(15 * 60 * 1000));                                /* Linux takes its time before it gives up */
    respond(IC_STATUS_FAIL);
    CHECK_EQ(state()->status, IC_STATUS_FAIL);
    CHECK_EQ(state()->missed, 0);
    CHECK(host_ic_vss(host, IC_VSS_THAW));
    poll_all();
    CHECK(next_of(IC_VSS));
    respond(IC_STATUS_NOT_CONNECTED);
    CHECK_EQ(violations, 0);
    host_destroy(host);
}

/* ---- faults, the channel's life ----------------------------------------------------------------------- */

/* A guest that drops what is malformed: the component works again in the end, whatever goes wrong when. */
TEST(ic_every_fault_passes)
{
    for (enum host_fault_kind kind = HOST_FAULT_DROP; kind <= HOST_FAULT_GARBAGE; kind++) {
        for (uint64_t number = 1; number <= 4; number++) {
            CHECK(ic_opened(HOST_IC_TIMESYNC));
            CHECK(next_of(IC_NEGOTIATE));
            choose_highest();
            host_set_fault(host, HOST_FAULT_IC, number, kind);
            CHECK(host_ic_renegotiate(host, HOST_IC_TIMESYNC));
            poll_all();
            for (unsigned t = 0; t < 300; t++) {
                while (next_message()) {
                    if (asked.m.header.type > IC_TIMESYNC || asked.bytes < 8 + asked.m.pipe.bytes)
                        continue;
                    if (asked.m.header.type == IC_NEGOTIATE)
                        choose_highest();
                    else
                        respond(IC_STATUS_OK);
                }
                pass(MS(1000));
            }
            CHECK(host_fault_count(host) >= number);
            CHECK(state()->negotiated);
            CHECK(state()->answers > 20);
            CHECK_EQ(state()->missed,
                     kind == HOST_FAULT_DROP || kind == HOST_FAULT_SHORT || kind == HOST_FAULT_GARBAGE);
            if (violations)
                printf("%s", all_violations);
            CHECK_EQ(violations, 0);
            host_destroy(host);
        }
    }
}

/* One that answers what it does not understand with an error, in the same packet. */
TEST(ic_answer_to_garbage_is_not_judged)
{
    for (unsigned spoilt_versions = 0; spoilt_versions < 2; spoilt_versions++) {
        CHECK(spoilt_versions ? ic_opened(HOST_IC_SHUTDOWN) : ic_negotiated(HOST_IC_SHUTDOWN));
        if (spoilt_versions) {
            CHECK(next_of(IC_NEGOTIATE));
            choose_highest();
        }
        host_set_fault(host, HOST_FAULT_IC, 1, HOST_FAULT_GARBAGE);
        CHECK(spoilt_versions ? host_ic_renegotiate(host, HOST_IC_SHUTDOWN) : host_ic_shutdown(host, 0, 0, 0, ""));
        poll_all();
        CHECK(next_message());
        CHECK_EQ(asked.m.header.type, 0xEEEE);
        respond(IC_STATUS_INVALID_ARGUMENT);
        CHECK(!state()->waiting || spoilt_versions);
        if (spoilt_versions)
            serve();
        CHECK(host_ic_shutdown(host, 0, 0, 0, ""));
        poll_all();
        CHECK(next_of(IC_SHUTDOWN));
        respond(IC_STATUS_OK);
        CHECK_EQ(state()->answers, 1);
        CHECK_EQ(violations, 0);
        host_destroy(host);
    }
}

static void release(void)
{
    struct vmbus_msg_relid gone = {.relid = 0};
    struct vmbus_msg_gpadl_teardown tear = {
        .header = {.type = VMBUS_MSG_GPADL_TEARDOWN}, .relid = ic_relid, .gpadl = 5};
    struct vmbus_msg_relid released = {.header = {.type = VMBUS_MSG_RELID_RELEASED}, .relid = ic_relid};

    take(VMBUS_MSG_RESCIND_OFFER, &gone, sizeof(gone));
    post(4, &tear, sizeof(tear));
    post(4, &released, sizeof(released));
}

TEST(ic_can_be_taken_away_and_offered_again)
{
    CHECK(ic_negotiated(HOST_IC_HEARTBEAT));
    CHECK(next_of(IC_HEARTBEAT));
    host_remove_ic(host, HOST_IC_HEARTBEAT);
    poll_all();
    CHECK(!state()->offered && !state()->open && !state()->negotiated);
    CHECK_EQ(own_deadline, HOST_NEVER);
    release();
    CHECK_EQ(state()->relid, 0);
    CHECK(!host_ic_renegotiate(host, HOST_IC_HEARTBEAT));
    CHECK(host_add_ics(host, &ic_cfg));
    poll_all();
    CHECK(take(VMBUS_MSG_OFFER_CHANNEL, &ic_offer, sizeof(ic_offer)));
    ic_relid = ic_offer.relid;
    CHECK(open_channel(ic_relid));
    live(4000);
    CHECK_EQ(state()->negotiations, 1);
    CHECK(state()->answers >= 2);
    CHECK_EQ(violations, 0);
    host_destroy(host);
}

TEST(ic_survives_close_and_open)
{
    CHECK(ic_negotiated(HOST_IC_HEARTBEAT));
    for (unsigned n = 0; n < 3; n++) {
        struct vmbus_msg_relid close = {.header = {.type = VMBUS_MSG_CLOSE_CHANNEL}, .relid = ic_relid};
        struct vmbus_msg_gpadl_teardown tear = {
            .header = {.type = VMBUS_MSG_GPADL_TEARDOWN}, .relid = ic_relid, .gpadl = 5};
        live(4000);
        post(4, &close, sizeof(close));
        CHECK(!state()->negotiated && !state()->open);
        CHECK_EQ(own_deadline, HOST_NEVER);
        post(4, &tear, sizeof(tear));
        CHECK(open_channel(ic_relid));
        serve();
        CHECK_EQ(state()->negotiations, n + 2);
    }
    CHECK_EQ(violations, 0);
    host_destroy(host);
}

TEST(ic_reset_and_unload_end_everything)
{
    for (unsigned reset = 0; reset < 2; reset++) {
        struct vmbus_msg_header unload = {.type = VMBUS_MSG_UNLOAD}, answer;
        struct host_state all;
        CHECK(ic_negotiated(HOST_IC_TIMESYNC));
        if (reset)
            host_reset(host);
        else
            post(4, &unload, sizeof(unload));
        CHECK(reset || take(VMBUS_MSG_UNLOAD_RESPONSE, &answer, sizeof(answer)));
        CHECK(!state()->open && !state()->negotiated && state()->relid != 0);
        CHECK_EQ(own_deadline, HOST_NEVER);
        CHECK(!host_ic_time_sync(host));
        host_get_state(host, &all);
        CHECK_EQ(all.channels_open, 0);
        CHECK_EQ(violations, 0);
        host_destroy(host);
    }
}

TEST_MAIN()
