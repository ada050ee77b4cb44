/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Every rule about the integration components' answers, broken once: see rules.h.
 */
#include "tests/unit/played_ic.h"
#include "tests/unit/rules.h"

static bool asked_versions(void) { return ic_opened(HOST_IC_SHUTDOWN) && next_of(IC_NEGOTIATE); }

/* A request waits for its answer, which is there, right in everything. */
static bool prepared(enum host_ic_kind kind, uint16_t type)
{
    poll_all();
    if (ic_kind != kind || !next_of(type))
        return false;
    asked.m.header.flags = IC_FLAGS_RESPONSE;
    return true;
}

static bool beat(void)
{
    if (!ic_negotiated(HOST_IC_HEARTBEAT) || !prepared(HOST_IC_HEARTBEAT, IC_HEARTBEAT))
        return false;
    asked.heartbeat.sequence++;
    return true;
}

static bool sampled(void) { return ic_negotiated(HOST_IC_TIMESYNC) && prepared(HOST_IC_TIMESYNC, IC_TIMESYNC); }

static bool told_to_stop(void)
{
    return ic_negotiated(HOST_IC_SHUTDOWN) && host_ic_shutdown(host, 0, 0, 0, "x") &&
           prepared(HOST_IC_SHUTDOWN, IC_SHUTDOWN);
}

static bool snapshot(void)
{
    return ic_negotiated(HOST_IC_VSS) && host_ic_vss(host, IC_VSS_HOT_BACKUP) && prepared(HOST_IC_VSS, IC_VSS);
}

static bool enumerating(void)
{
    return ic_negotiated(HOST_IC_KVP) && host_kvp_enumerate(host, IC_KVP_POOL_AUTO) != 0 &&
           prepared(HOST_IC_KVP, IC_KVP);
}

static bool getting(void)
{
    if (!ic_negotiated(HOST_IC_KVP) || host_kvp_get(host, IC_KVP_POOL_GUEST, "k") == 0 ||
        !prepared(HOST_IC_KVP, IC_KVP))
        return false;
    asked.kvp.value.type = IC_KVP_TYPE_STRING;
    asked.kvp.value.value_bytes = 4;
    asked.kvp.value.value[0] = 'v';
    return true;
}

static bool addresses(uint16_t version)
{
    if (!ic_opened(HOST_IC_KVP) || !next_of(IC_NEGOTIATE))
        return false;
    choose(0x300, version);
    return host_kvp_get_ip(host, "00:15:5D:00:00:01") != 0 && prepared(HOST_IC_KVP, IC_KVP);
}
static bool addresses_text(void) { return addresses(0x400); }
static bool addresses_binary(void) { return addresses(0x500); }

/* ---- the good guest does nothing wrong ----------------------------------------------------------------- */

TEST(good_answers_break_no_rule)
{
    static bool (*const prepare[])(void) = {
        beat, sampled, told_to_stop, snapshot, getting, addresses_text, addresses_binary,
    };

    for (unsigned i = 0; i < sizeof(prepare) / sizeof(prepare[0]); i++) {
        CHECK(prepare[i]());
        send_back();
        CHECK_EQ(state()->answers, 1);
        CHECK_EQ(violations, 0);
        host_destroy(host);
    }
}

/* ---- the frame ----------------------------------------------------------------------------------------- */

static void send_bytes(uint32_t bytes)
{
    send(ic_relid, VMBUS_PACKET_INBAND, 0, 0, NULL, 0, asked.raw, bytes);
}

RULE(answer_nobody_asked_for, told_to_stop, "nobody's request", {
    send_back();
    CHECK_EQ(violations, 0);
    send_back();
})
RULE(answer_before_the_question, asked_versions, "nobody's request", {
    asked.m.header.type = IC_SHUTDOWN;
    respond(IC_STATUS_OK);
})
RULE(answer_as_completion, beat, "not in-band",
     { send(ic_relid, VMBUS_PACKET_COMPLETION, 0, 0, NULL, 0, asked.raw, asked.bytes); })
RULE(answer_asks_for_completion, beat, "completion flag",
     { send(ic_relid, VMBUS_PACKET_INBAND, 1, 0, NULL, 0, asked.raw, asked.bytes); })
RULE(answer_without_headers, beat, "shorter than its headers", { send_bytes(24); })
RULE(answer_pipe_type, beat, "pipe header's type", { asked.m.pipe.type = 2; send_back(); })
RULE(answer_pipe_length, beat, "pipe header's length", { asked.m.pipe.bytes = 0x10000; send_back(); })
RULE(answer_pipe_length_tiny, beat, "pipe header's length", { asked.m.pipe.bytes = 19; send_back(); })
RULE(answer_is_a_request, beat, "flags of a response", { asked.m.header.flags = IC_FLAGS_REQUEST; send_back(); })
RULE(answer_without_transaction_flag, beat, "flags of a response",
     { asked.m.header.flags = IC_FLAG_RESPONSE; send_back(); })
RULE(answer_with_more_flags, beat, "answer's flags", { asked.m.header.flags = 7; send_back(); })
RULE(answer_body_too_long, beat, "longer than the message", { asked.m.header.body_bytes = 200; send_back(); })
RULE(answer_body_shorter, beat, "body length", { asked.m.header.body_bytes = 8; send_back(); })
RULE(answer_packet_shorter, told_to_stop, "answer's length", {
    asked.m.pipe.bytes = 20 + 8;
    asked.m.header.body_bytes = 8;
    send_bytes(40);
})
RULE(answer_transaction, beat, "nobody's request", { asked.m.header.transaction++; send_back(); })
RULE(answer_type, beat, "nobody's request", { asked.m.header.type = IC_KVP; send_back(); })
RULE(answer_version, beat, "answer's versions", { asked.m.header.message.minor = 9; send_back(); })
RULE(answer_framework, beat, "answer's versions", { asked.m.header.framework.major = 1; send_back(); })
RULE(answer_reserved, beat, "reserved bytes", { asked.m.header.reserved[1] = 1; send_back(); })
RULE(answer_status, told_to_stop, "neither success nor an error", { asked.m.header.status = 1; send_back(); })

/* ---- versions ------------------------------------------------------------------------------------------ */

RULE(versions_two, asked_versions, "not 1 and 1", { respond(IC_STATUS_OK); })
RULE(versions_half, asked_versions, "not 1 and 1", {
    asked.negotiate.framework_count = 1;
    asked.negotiate.message_count = 0;
    respond(IC_STATUS_OK);
})
RULE(versions_body_short, asked_versions, "not 1 and 1", {
    asked.negotiate.framework_count = asked.negotiate.message_count = 1;
    asked.m.header.body_bytes = 12;
    respond(IC_STATUS_OK);
})
RULE(versions_body_empty, asked_versions, "answer has 4 bytes", {
    asked.m.header.body_bytes = 4;
    respond(IC_STATUS_OK);
})
RULE(versions_body_as_asked, asked_versions, "not 16", {
    struct ic_version v[2] = {{3, 0}, {3, 2}};
    asked.negotiate.framework_count = asked.negotiate.message_count = 1;
    memcpy(asked.body + sizeof(struct ic_negotiate), v, sizeof(v));
    respond(IC_STATUS_OK);
})
RULE(versions_framework_unlisted, asked_versions, "not on the list", { choose(0x200, 0x302); })
RULE(versions_message_unlisted, asked_versions, "not on the list", { choose(0x300, 0x303); })
RULE(versions_mixed_up, asked_versions, "not on the list", { choose(0x302, 0x300); })

/* A component that was given up is not asked anything any more; the others go on. */
TEST(component_is_given_up_after_a_violation)
{
    CHECK(asked_versions());
    choose(0x900, 0x900);
    CHECK(violations > 0);
    pass(MS(600000));
    CHECK(!next_message());
    CHECK(!host_ic_renegotiate(host, HOST_IC_SHUTDOWN));
    host_destroy(host);
}

/* ---- bodies -------------------------------------------------------------------------------------------- */

RULE(heartbeat_sequence, beat, "another request's", { asked.heartbeat.sequence++; send_back(); })
RULE(heartbeat_not_counted, beat, "another request's", { asked.heartbeat.sequence--; send_back(); })
RULE(heartbeat_state, beat, "application state 4", { asked.heartbeat.application_state = 4; send_back(); })
RULE(heartbeat_reserved, beat, "reserved 0x1", { asked.heartbeat.reserved = 1; send_back(); })
RULE(heartbeat_fails, beat, "heartbeat: status", { respond(IC_STATUS_FAIL); })
RULE(timesync_time, sampled, "another request's", { asked.timesync_4.host_time++; send_back(); })
RULE(timesync_body, sampled, "not the request's", { asked.timesync_4.stratum = 3; send_back(); })
RULE(timesync_fails, sampled, "timesync: status", { respond(IC_STATUS_FAIL); })
RULE(shutdown_body, told_to_stop, "not the request's", { asked.shutdown.text[0] = 'y'; send_back(); })
RULE(snapshot_operation, snapshot, "another request's", { asked.vss.operation = IC_VSS_FREEZE; send_back(); })
RULE(snapshot_flags, snapshot, "vss: flags", { asked.vss.flags = 0x80; send_back(); })

static void item(uint32_t type, uint32_t key_bytes, uint32_t value_bytes)
{
    asked.enumerate.value = (struct ic_kvp_value){
        .type = type, .key_bytes = key_bytes, .value_bytes = value_bytes, .key = {'k'}, .value = {'v'}};
    send_back();
}

RULE(kvp_operation, enumerating, "another request's", { asked.kvp.kvp.operation = IC_KVP_GET; item(1, 4, 4); })
RULE(kvp_pool, enumerating, "another request's", { asked.kvp.kvp.pool = 1; item(1, 4, 4); })
RULE(kvp_index, enumerating, "another request's", { asked.enumerate.index = 1; item(1, 4, 4); })
RULE(kvp_key_too_long, enumerating, "value's key", { item(1, 514, 4); })
RULE(kvp_key_odd, enumerating, "value's key", { item(1, 3, 4); })
RULE(kvp_key_empty, enumerating, "value's key", { item(1, 0, 4); })
RULE(kvp_key_unterminated, enumerating, "value's key", { item(1, 2, 4); })
RULE(kvp_key_padded, enumerating, "value's key", { item(1, 6, 4); })
RULE(kvp_text_too_long, enumerating, "value's text", { item(1, 4, 2050); })
RULE(kvp_text_unterminated, enumerating, "value's text", { item(2, 4, 2); })
RULE(kvp_number_length, enumerating, "number's length", { item(IC_KVP_TYPE_U32, 4, 8); })
RULE(kvp_big_number_length, enumerating, "number's length", { item(IC_KVP_TYPE_U64, 4, 4); })
RULE(kvp_type, enumerating, "value's type", { item(3, 4, 4); })
RULE(kvp_surrogate, enumerating, "value's text", {
    asked.enumerate.value = (struct ic_kvp_value){
        .type = 1, .key_bytes = 4, .value_bytes = 6, .key = {'k'}, .value = {0, 0xDC, 'x', 0}};
    send_back();
})
RULE(kvp_without_end, enumerating, "does not end", {
    item(1, 4, 4);
    while (next_of(IC_KVP) && violations == 0) {
        asked.m.header.flags = IC_FLAGS_RESPONSE;
        item(1, 4, 4);
    }
})
RULE(kvp_other_key, getting, "asked for the key k", { asked.kvp.value.key[0] = 'q'; send_back(); })
RULE(addresses_without_end, addresses_text, "not text that ends",
     { memset(asked.ip.gateways, 'x', sizeof(asked.ip.gateways)); send_back(); })
RULE(addresses_family, addresses_text, "address family 4", { asked.ip.family = 4; send_back(); })
RULE(addresses_dhcp, addresses_binary, "DHCP 2", { asked.ip_binary.dhcp = 2; send_back(); })
RULE(addresses_count, addresses_binary, "do not fit", { asked.ip_binary.ipv4_gateway_count = 6; send_back(); })
RULE(addresses_origin, addresses_binary, "origin 3", {
    asked.ip_binary.ipv6_count = 1;
    asked.ip_binary.origins[0] = 3;
    send_back();
})

TEST_MAIN()
