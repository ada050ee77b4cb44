/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Integration components of a host that lies: messages of every malformed kind, answers that find no room, every reply
 * and allocation going wrong in turn, offers withdrawn and the bus unloaded at any moment.
 */
#include "tests/unit/ic_machine.h"

static const struct ic_message *const got = (const void *)played_got;
static const uint8_t *const got_body = played_got + sizeof(struct ic_message);

/* ---- the frame ---- */

/* A heartbeat that is in order is answered as ever. */
static bool beats(uint64_t sequence)
{
    struct ic_heartbeat *m = prepare(IC_HEARTBEAT, sizeof(*m)), answer;

    m->sequence = sequence;
    uint32_t status = answer_to();
    memcpy(&answer, got_body, sizeof(answer));
    return status == IC_STATUS_OK && answer.sequence == sequence + 1 && played_got_bytes == 48 &&
           answer.application_state == IC_APPLICATION_HEALTHY;
}

TEST(nothing_before_the_negotiation)
{
    defaults();
    start_played((struct guid)VMBUS_GUID_HEARTBEAT);
    prepare(IC_HEARTBEAT, 16);
    CHECK_EQ(answer_to(), IC_STATUS_FAIL);
    CHECK(fake_log_contains("before the negotiation"));
    CHECK(agree(3, 0));
    CHECK(beats(41));
    CHECK(beats(UINT64_MAX));
    /* An agreement that fails ends the one before. */
    CHECK(!agree(2, 0));
    prepare(IC_HEARTBEAT, 16);
    CHECK_EQ(answer_to(), IC_STATUS_FAIL);
    CHECK(agree(1, 0));
    struct ic_heartbeat *m = prepare(IC_HEARTBEAT, sizeof(*m)), answer;
    CHECK_EQ(answer_to(), IC_STATUS_OK);
    memcpy(&answer, got_body, sizeof(answer));
    CHECK_EQ(answer.application_state, 0);          /* 1.0 does not know of it */
}

TEST(lengths_that_lie)
{
    static const uint32_t pipe_lengths[] = {0, 1, 19, 45, 64, 4096, 0x7FFFFFFF, 0xFFFFFFF8, 0xFFFFFFFF};
    static const uint16_t body_lengths[] = {25, 32, 1000, 0x7FFF, 0xFFFF};

    defaults();
    start_played((struct guid)VMBUS_GUID_HEARTBEAT);
    CHECK(agree(3, 0));
    for (unsigned i = 0; i < ARRAY_SIZE(pipe_lengths); i++) {
        uint64_t lies = ic_counters.lies;
        prepare(IC_HEARTBEAT, 16);
        say_head->pipe.bytes = pipe_lengths[i];
        CHECK(say_raw(said, 48));
        CHECK(got->header.status == IC_STATUS_INVALID_ARGUMENT && got->header.flags == IC_FLAGS_RESPONSE);
        CHECK(played_got_bytes == 48 && ic_counters.lies == lies + 1);
        CHECK(beats(i));
    }
    for (unsigned i = 0; i < ARRAY_SIZE(body_lengths); i++) {
        prepare(IC_HEARTBEAT, 16);
        say_head->header.body_bytes = body_lengths[i];
        CHECK_EQ(answer_to(), IC_STATUS_INVALID_ARGUMENT);
        CHECK(beats(i));
    }
    /* A newer host may have more to say. */
    prepare(IC_HEARTBEAT, 4096 - sizeof(struct ic_message));
    CHECK(answer_to() == IC_STATUS_OK && played_got_bytes == 4096);
    /* Longer than anybody reads, and as long as the ring lets pass. */
    for (uint32_t bytes = 4096 - sizeof(struct ic_message) + 8; bytes <= 8192; bytes += 1024) {
        prepare(IC_HEARTBEAT, bytes);
        CHECK_EQ(answer_to(), IC_STATUS_INVALID_ARGUMENT);
        CHECK(beats(bytes));
    }
    CHECK(fake_log_contains("a message with a length that can't be"));
}

TEST(what_can_not_be_answered_is_dropped)
{
    defaults();
    start_played((struct guid)VMBUS_GUID_HEARTBEAT);
    CHECK(agree(3, 0));
    for (uint32_t bytes = 0; bytes < sizeof(struct ic_message) - 4; bytes += 8) {
        prepare(IC_HEARTBEAT, 16);
        CHECK(!say_raw(said, bytes));
    }
    prepare(IC_HEARTBEAT, 16);
    say_head->header.flags = IC_FLAGS_RESPONSE;
    CHECK(!say());
    say_head->header.flags = 0xFF;
    CHECK(!say());
    prepare(IC_HEARTBEAT, 16);
    struct host_piece payload = {said, 48};
    for (uint16_t type = 7; type < 12; type++) {
        if (type == VMBUS_PACKET_GPA_DIRECT || type == VMBUS_PACKET_TRANSFER_PAGES)
            continue;
        vchan_send(played, type, 0, 7, NULL, &payload);
        vchan_queue(played);
        hv_host_run();
        task_sleep_us(10000);
    }
    CHECK(ic_counters.lies >= 7);
    CHECK(beats(3));
}

TEST(other_types)
{
    defaults();
    start_played((struct guid)VMBUS_GUID_HEARTBEAT);
    CHECK(agree(3, 0));
    static const uint16_t types[] = {IC_KVP, IC_SHUTDOWN, IC_TIMESYNC, IC_VSS, 9, 0x7FFF, 0xFFFF};
    for (unsigned i = 0; i < ARRAY_SIZE(types); i++) {
        prepare(types[i], 16);
        CHECK_EQ(answer_to(), IC_STATUS_FAIL);
    }
    prepare(IC_HEARTBEAT, 16);
    say_head->pipe.type = IC_PIPE_PARTIAL;
    CHECK_EQ(answer_to(), IC_STATUS_INVALID_ARGUMENT);
    CHECK(fake_log_contains("a message of another type"));
    CHECK(beats(3));
    /* One line in a while, however many there are. */
    fake_log_clear();
    for (unsigned i = 0; i < 100; i++) {
        prepare(IC_KVP, 16);
        CHECK_EQ(answer_to(), IC_STATUS_FAIL);
    }
    const char *at = fake_log_text();
    unsigned lines = 0;
    for (; (at = strstr(at, "a message of another type")); at++)
        lines++;
    CHECK(lines <= 2);
}

TEST(negotiations_that_lie)
{
    static const struct { uint16_t framework, message; uint32_t body; } cases[] = {
        {0, 0, 8}, {1, 0, 12}, {0, 1, 12}, {1, 1, 15}, {1, 1, 12}, {2, 1, 16}, {1, 2, 16}, {0xFFFF, 1, 16},
        {1, 0xFFFF, 16}, {0xFFFF, 0xFFFF, 16}, {51, 50, 412}, {101, 0, 412}, {0, 101, 412},
    };
    const struct ic_negotiate *answer = (const void *)got_body;

    defaults();
    start_played((struct guid)VMBUS_GUID_HEARTBEAT);
    for (uint32_t bytes = 0; bytes < sizeof(struct ic_negotiate); bytes++) {
        prepare(IC_NEGOTIATE, bytes);
        CHECK_EQ(answer_to(), IC_STATUS_INVALID_ARGUMENT);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        struct ic_negotiate *m = prepare(IC_NEGOTIATE, cases[i].body);
        m->framework_count = cases[i].framework;
        m->message_count = cases[i].message;
        for (unsigned k = 0; k < (cases[i].body - 8) / 4; k++)
            m->versions[k] = (struct ic_version){3, 0};
        CHECK_EQ(answer_to(), IC_STATUS_OK);
        CHECK(answer->framework_count == 0 && answer->message_count == 0);
        CHECK_EQ(played_got_bytes, ALIGN_UP(28 + cases[i].body, 8u));
    }
    /* As many as there may be; the first that is ours at either end. */
    struct ic_negotiate *m = prepare(IC_NEGOTIATE, 8 + 400);
    m->framework_count = 60;
    m->message_count = 40;
    for (unsigned k = 0; k < 100; k++)
        m->versions[k] = (struct ic_version){77, 7};
    m->versions[59] = (struct ic_version){1, 0};
    m->versions[99] = (struct ic_version){3, 0};
    CHECK_EQ(answer_to(), IC_STATUS_OK);
    CHECK(answer->framework_count == 1 && answer->message_count == 1);
    CHECK(answer->versions[0].major == 1 && answer->versions[1].major == 3);
    CHECK_EQ(got->header.body_bytes, IC_NEGOTIATED_BYTES);
    CHECK_EQ(played_got_bytes, ALIGN_UP(28 + 408, 8u));
    CHECK(beats(3));
}

/* ---- bodies ---- */

TEST(heartbeats_and_shutdowns_too_short)
{
    defaults();
    start_played((struct guid)VMBUS_GUID_HEARTBEAT);
    CHECK(agree(3, 0));
    for (uint32_t bytes = 0; bytes < 8; bytes++) {
        prepare(IC_HEARTBEAT, bytes);
        CHECK_EQ(answer_to(), IC_STATUS_INVALID_ARGUMENT);
    }
    for (uint32_t bytes = 8; bytes < 48; bytes++) {
        prepare(IC_HEARTBEAT, bytes);
        CHECK_EQ(answer_to(), IC_STATUS_OK);
        CHECK_EQ(got_body[0], 1);
        CHECK_EQ(got_body[8], bytes >= 12 ? IC_APPLICATION_HEALTHY : 0);
    }
}

TEST(shutdowns_too_short)
{
    defaults();
    start_played((struct guid)VMBUS_GUID_SHUTDOWN);
    CHECK(agree(3, 2));
    for (uint32_t bytes = 0; bytes < 12; bytes++) {
        prepare(IC_SHUTDOWN, bytes);
        CHECK_EQ(answer_to(), IC_STATUS_INVALID_ARGUMENT);
    }
    CHECK(!shutdown_requested());
    static const uint32_t flags[] = {4, 5, 6, 7, 8, 0x80000000, 0xFFFFFFFF};
    for (unsigned i = 0; i < ARRAY_SIZE(flags); i++) {
        struct ic_shutdown *m = prepare(IC_SHUTDOWN, sizeof(*m));
        m->flags = flags[i];
        CHECK_EQ(answer_to(), IC_STATUS_FAIL);
    }
    CHECK(!shutdown_requested());
    /* Text without an end, in wide characters, is shown as far as a line goes. */
    struct ic_shutdown *m = prepare(IC_SHUTDOWN, sizeof(*m));
    for (unsigned i = 0; i < sizeof(m->text); i += 2)
        m->text[i] = 'W';
    m->flags = IC_SHUTDOWN_RESTART;
    CHECK_EQ(answer_to(), IC_STATUS_OK);
    CHECK_EQ(shutdown_requested(), SHUTDOWN_RESTART);
    CHECK(fake_log_contains("restart (reason 0x0): WWWWWW"));
}

/* However often the host asks for what it does not get, the console stays readable. */
TEST(requests_without_end_fill_no_log)
{
    unsigned lines = 0;

    defaults();
    start_played((struct guid)VMBUS_GUID_SHUTDOWN);
    CHECK(agree(3, 2));
    fake_log_clear();
    for (unsigned i = 0; i < 200; i++) {
        struct ic_shutdown *m = prepare(IC_SHUTDOWN, sizeof(*m));
        m->flags = IC_SHUTDOWN_HIBERNATE;
        CHECK_EQ(answer_to(), IC_STATUS_FAIL);
        CHECK(i % 2 || !agree(77, 0));
        CHECK(agree(3, 2));
    }
    for (const char *at = fake_log_text(); (at = strstr(at, "shutdown ")); at++)
        lines++;
    CHECK(lines > 0 && lines <= 16);
    CHECK(fake_log_contains("hibernation") && fake_log_contains("no version in common"));
    prepare(IC_SHUTDOWN, sizeof(struct ic_shutdown));
    CHECK_EQ(answer_to(), IC_STATUS_OK);
    CHECK(fake_log_contains("asks for a shutdown"));
}

TEST(shutdown_without_text)
{
    defaults();
    start_played((struct guid)VMBUS_GUID_SHUTDOWN);
    CHECK(agree(1, 0));
    prepare(IC_SHUTDOWN, 12);
    CHECK_EQ(answer_to(), IC_STATUS_OK);
    CHECK_EQ(shutdown_requested(), SHUTDOWN_POWER_OFF);
}

static uint32_t tell_time(uint64_t host_time, uint64_t reference, uint8_t flags)
{
    struct ic_timesync_4 *m = prepare(IC_TIMESYNC, sizeof(*m));

    m->host_time = host_time;
    m->reference_100ns = reference;
    m->flags = flags;
    return answer_to();
}

TEST(times_that_can_not_be)
{
    struct wall_stats stats;
    uint64_t now;

    defaults();
    start_played((struct guid)VMBUS_GUID_TIMESYNC);
    CHECK(agree(4, 0));
    for (uint32_t bytes = 0; bytes < 17; bytes++) {
        prepare(IC_TIMESYNC, bytes);
        CHECK_EQ(answer_to(), IC_STATUS_INVALID_ARGUMENT);
    }
    static const uint64_t times[] = {0, IC_TIME_UNIX_EPOCH - 1, IC_TIME_UNIX_EPOCH + WALL_UNIX_NS_MAX / 100 + 1,
                                     IC_TIME_UNIX_EPOCH + UINT64_MAX / 100, UINT64_MAX};
    for (unsigned i = 0; i < ARRAY_SIZE(times); i++)
        CHECK_EQ(tell_time(times[i], rt_now_100ns(), IC_TIMESYNC_SYNC), IC_STATUS_INVALID_ARGUMENT);
    CHECK_EQ(tell_time(HOST_EPOCH, rt_now_100ns(), IC_TIMESYNC_PROBE), IC_STATUS_OK);
    CHECK_EQ(tell_time(HOST_EPOCH, rt_now_100ns(), 0xFC), IC_STATUS_OK);
    CHECK(!wall_now_ns(&now));
    /* From the future, and too old: even the order to set the clock. */
    task_sleep_us(700ull * 1000000);
    CHECK_EQ(tell_time(HOST_EPOCH, rt_now_100ns() + S_100NS(5), IC_TIMESYNC_SYNC), IC_STATUS_OK);
    CHECK_EQ(tell_time(HOST_EPOCH, UINT64_MAX, IC_TIMESYNC_SYNC), IC_STATUS_OK);
    CHECK_EQ(tell_time(HOST_EPOCH, rt_now_100ns() - S_100NS(601), IC_TIMESYNC_SYNC), IC_STATUS_OK);
    CHECK(!wall_now_ns(&now));
    wall_get_stats(&stats);
    CHECK_EQ(stats.ignored, 3);
    /* Nine minutes on its way, and yet right. */
    CHECK_EQ(tell_time(HOST_EPOCH, rt_now_100ns() - S_100NS(540), IC_TIMESYNC_SAMPLE), IC_STATUS_OK);
    CHECK(wall_now_ns(&now));
    uint64_t wanted = (HOST_EPOCH - IC_TIME_UNIX_EPOCH) * 100 + 540 * 1000000000ull;
    CHECK(now >= wanted && now < wanted + 1000000000);
    /* The last time that can be told. */
    CHECK_EQ(tell_time(IC_TIME_UNIX_EPOCH, rt_now_100ns(), IC_TIMESYNC_SYNC), IC_STATUS_OK);
    char text[WALL_TEXT_BYTES];
    CHECK(strcmp(wall_text(text, sizeof(text)), "1970-01-01 00:00:00 UTC") == 0);
    CHECK_EQ(tell_time(IC_TIME_UNIX_EPOCH + 951782399ull * 10000000, rt_now_100ns(), IC_TIMESYNC_SYNC), IC_STATUS_OK);
    CHECK(strcmp(wall_text(text, sizeof(text)), "2000-02-28 23:59:59 UTC") == 0);
    task_sleep_us(1000000);
    CHECK(strcmp(wall_text(text, sizeof(text)), "2000-02-29 00:00:00 UTC") == 0);
    CHECK_EQ(tell_time(IC_TIME_UNIX_EPOCH + 4107542399ull * 10000000, rt_now_100ns(), IC_TIMESYNC_SYNC), IC_STATUS_OK);
    CHECK(strcmp(wall_text(text, sizeof(text)), "2100-02-28 23:59:59 UTC") == 0);
    task_sleep_us(1000000);
    CHECK(strcmp(wall_text(text, sizeof(text)), "2100-03-01 00:00:00 UTC") == 0);
}

TEST(old_times_too_short)
{
    uint64_t now;

    defaults();
    start_played((struct guid)VMBUS_GUID_TIMESYNC);
    CHECK(agree(3, 0));
    for (uint32_t bytes = 0; bytes < 25; bytes++) {
        prepare(IC_TIMESYNC, bytes);
        CHECK_EQ(answer_to(), IC_STATUS_INVALID_ARGUMENT);
    }
    struct ic_timesync *m = prepare(IC_TIMESYNC, 25);
    m->host_time = HOST_EPOCH;
    m->flags = IC_TIMESYNC_SAMPLE;
    CHECK_EQ(answer_to(), IC_STATUS_OK);
    CHECK(wall_now_ns(&now));
}

/* ---- keys ---- */

static struct ic_kvp_get_set *prepare_set(uint8_t pool, const char *key, const char *value)
{
    struct ic_kvp_get_set *m = prepare(IC_KVP, IC_KVP_BODY_BYTES);

    m->kvp = (struct ic_kvp_header){.operation = IC_KVP_SET, .pool = pool};
    m->value.type = IC_KVP_TYPE_STRING;
    for (; key[m->value.key_bytes / 2]; m->value.key_bytes += 2)
        m->value.key[m->value.key_bytes] = (uint8_t)key[m->value.key_bytes / 2];
    for (; value[m->value.value_bytes / 2]; m->value.value_bytes += 2)
        m->value.value[m->value.value_bytes] = (uint8_t)value[m->value.value_bytes / 2];
    m->value.key_bytes += 2;
    m->value.value_bytes += 2;
    return m;
}

TEST(keys_of_sizes_that_lie)
{
    static const uint32_t bad_key[] = {1, 3, 511, 513, 514, 0x7FFFFFFE, 0xFFFFFFFE, 0xFFFFFFFF};
    static const uint32_t bad_value[] = {1, 3, 2047, 2049, 2050, 0x7FFFFFFE, 0xFFFFFFFE, 0xFFFFFFFF};
    char text[8];

    defaults();
    start_played((struct guid)VMBUS_GUID_KVP);
    CHECK(agree(4, 0));
    for (unsigned i = 0; i < ARRAY_SIZE(bad_key); i++) {
        for (uint8_t operation = IC_KVP_GET; operation <= IC_KVP_DELETE; operation++) {
            struct ic_kvp_get_set *m = prepare_set(IC_KVP_POOL_EXTERNAL, "key", "v");
            m->kvp.operation = operation;
            if (operation == IC_KVP_DELETE)
                ((struct ic_kvp_delete *)(void *)m)->key_bytes = bad_key[i];
            else
                m->value.key_bytes = bad_key[i];
            CHECK_EQ(answer_to(), IC_STATUS_INVALID_ARGUMENT);
        }
        struct ic_kvp_get_set *m = prepare_set(IC_KVP_POOL_EXTERNAL, "key", "v");
        m->value.value_bytes = bad_value[i];
        CHECK_EQ(answer_to(), IC_STATUS_INVALID_ARGUMENT);
    }
    prepare_set(IC_KVP_POOL_EXTERNAL, "", "v");
    CHECK_EQ(answer_to(), IC_STATUS_INVALID_ARGUMENT);
    CHECK_EQ(host_key_count(), 0);
    /* Without a zero the text ends where its size says. */
    struct ic_kvp_get_set *m = prepare_set(IC_KVP_POOL_EXTERNAL, "keys", "value");
    m->value.key_bytes = 6;
    m->value.value_bytes = 6;
    CHECK_EQ(answer_to(), IC_STATUS_OK);
    CHECK(host_key_get("key", text, sizeof(text)) && strcmp(text, "val") == 0);
    m = prepare_set(IC_KVP_POOL_EXTERNAL, "full", "");
    for (unsigned i = 0; i < IC_KVP_VALUE_BYTES; i++)
        m->value.value[i] = 0x20 + (i % 2 ? 0 : 1);
    m->value.value_bytes = IC_KVP_VALUE_BYTES;
    /* 1024 words and no zero: it could be kept, but not given back. */
    uint32_t status = answer_to();
    CHECK(status == IC_STATUS_OK || status == IC_STATUS_INVALID_ARGUMENT);
}

TEST(keys_of_text_that_is_none)
{
    static const uint16_t bad[][3] = {{0xD800, 'a', 0}, {0xDC00, 'a', 0}, {'a', 0xDBFF, 0}, {0xDC00, 0xD800, 0}};

    defaults();
    start_played((struct guid)VMBUS_GUID_KVP);
    CHECK(agree(4, 0));
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        struct ic_kvp_get_set *m = prepare_set(IC_KVP_POOL_EXTERNAL, "aa", "v");
        memcpy(m->value.key, bad[i], 6);
        CHECK_EQ(answer_to(), IC_STATUS_INVALID_ARGUMENT);
        m = prepare_set(IC_KVP_POOL_EXTERNAL, "aa", "vv");
        memcpy(m->value.value, bad[i], 6);
        CHECK_EQ(answer_to(), IC_STATUS_INVALID_ARGUMENT);
    }
    CHECK_EQ(host_key_count(), 0);
}

TEST(keys_of_other_types_and_pools)
{
    char text[32];

    defaults();
    start_played((struct guid)VMBUS_GUID_KVP);
    CHECK(agree(4, 0));
    struct ic_kvp_get_set *m = prepare_set(IC_KVP_POOL_EXTERNAL, "n", "");
    m->value.type = IC_KVP_TYPE_U32;
    memcpy(m->value.value, &(uint32_t){4000000000u}, 4);
    CHECK_EQ(answer_to(), IC_STATUS_OK);
    CHECK(host_key_get("n", text, sizeof(text)) && strcmp(text, "4000000000") == 0);
    static const uint32_t wide[] = {IC_KVP_TYPE_U64, IC_KVP_TYPE_U64_LINUX};
    for (unsigned i = 0; i < ARRAY_SIZE(wide); i++) {
        m = prepare_set(IC_KVP_POOL_EXTERNAL, "n", "");
        m->value.type = wide[i];
        memcpy(m->value.value, &(uint64_t){UINT64_MAX - i}, 8);
        CHECK_EQ(answer_to(), IC_STATUS_OK);
        CHECK(host_key_get("n", text, sizeof(text)));
        CHECK(strcmp(text, i ? "18446744073709551614" : "18446744073709551615") == 0);
    }
    m = prepare_set(IC_KVP_POOL_EXTERNAL, "n", "%PATH%");
    m->value.type = IC_KVP_TYPE_EXPAND;
    CHECK_EQ(answer_to(), IC_STATUS_OK);
    for (uint32_t type = 0; type < 20; type++) {
        if (type == 1 || type == 2 || type == 4 || type == 8 || type == 11)
            continue;
        m = prepare_set(IC_KVP_POOL_EXTERNAL, "x", "y");
        m->value.type = type;
        CHECK_EQ(answer_to(), IC_STATUS_INVALID_ARGUMENT);
    }
    /* What the host says of itself; its administrator's word counts first. */
    prepare_set(IC_KVP_POOL_AUTO_EXTERNAL, "HostName", "BIGIRON");
    CHECK_EQ(answer_to(), IC_STATUS_OK);
    CHECK(host_key_get("HostName", text, sizeof(text)) && strcmp(text, "BIGIRON") == 0);
    prepare_set(IC_KVP_POOL_EXTERNAL, "HostName", "other");
    CHECK_EQ(answer_to(), IC_STATUS_OK);
    CHECK(host_key_get("HostName", text, sizeof(text)) && strcmp(text, "other") == 0);
    CHECK_EQ(host_key_count(), 3);
    static const uint8_t closed[] = {IC_KVP_POOL_GUEST, IC_KVP_POOL_AUTO, IC_KVP_POOL_AUTO_INTERNAL};
    for (unsigned i = 0; i < ARRAY_SIZE(closed); i++) {
        m = prepare_set(closed[i], "x", "y");
        CHECK_EQ(answer_to(), IC_STATUS_NOT_SUPPORTED);
        m = prepare_set(closed[i], "x", "y");
        m->kvp.operation = IC_KVP_DELETE;
        CHECK_EQ(answer_to(), IC_STATUS_NOT_SUPPORTED);
    }
    for (unsigned pool = IC_KVP_POOLS; pool < 256; pool += 50) {
        for (uint8_t operation = IC_KVP_GET; operation <= IC_KVP_ENUMERATE; operation++) {
            m = prepare_set((uint8_t)pool, "x", "y");
            m->kvp.operation = operation;
            CHECK_EQ(answer_to(), IC_STATUS_INVALID_ARGUMENT);
        }
    }
    for (unsigned operation = 6; operation < 256; operation += 83) {
        m = prepare_set(IC_KVP_POOL_EXTERNAL, "x", "y");
        m->kvp.operation = (uint8_t)operation;
        CHECK_EQ(answer_to(), IC_STATUS_NOT_SUPPORTED);
    }
    CHECK_EQ(host_key_count(), 3);
}

TEST(indices_far_beyond)
{
    static const uint32_t far[] = {10, 11, 256, 0x7FFFFFFF, 0xFFFFFFFF};

    defaults();
    start_played((struct guid)VMBUS_GUID_KVP);
    CHECK(agree(4, 0));
    for (uint8_t pool = 0; pool < IC_KVP_POOLS; pool++) {
        for (unsigned i = 0; i < ARRAY_SIZE(far); i++) {
            struct ic_kvp_enumerate *m = prepare(IC_KVP, sizeof(*m));
            m->kvp = (struct ic_kvp_header){.operation = IC_KVP_ENUMERATE, .pool = pool};
            m->index = far[i];
            CHECK_EQ(answer_to(), IC_STATUS_NO_MORE_ITEMS);
        }
    }
}

TEST(messages_about_keys_too_short)
{
    static const struct { uint8_t operation; uint32_t least; } cases[] = {
        {IC_KVP_GET, sizeof(struct ic_kvp_get_set)}, {IC_KVP_SET, sizeof(struct ic_kvp_get_set)},
        {IC_KVP_DELETE, sizeof(struct ic_kvp_delete)}, {IC_KVP_ENUMERATE, sizeof(struct ic_kvp_enumerate)},
        {IC_KVP_GET_IP, sizeof(struct ic_kvp_ip)}, {IC_KVP_SET_IP, sizeof(struct ic_kvp_header)},
    };

    defaults();
    machine_set_network(describe);
    start_played((struct guid)VMBUS_GUID_KVP);
    CHECK(agree(4, 0));
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        for (uint32_t cut = 1; cut <= cases[i].least; cut = cut < 8 ? cut + 1 : cut * 2) {
            struct ic_kvp_header *m = prepare(IC_KVP, cases[i].least - cut);
            m->operation = cases[i].operation;
            CHECK_EQ(answer_to(), IC_STATUS_INVALID_ARGUMENT);
        }
    }
    struct ic_kvp_ip *ip = prepare(IC_KVP, sizeof(*ip));
    ip->operation = IC_KVP_SET_IP;
    CHECK_EQ(answer_to(), IC_STATUS_NOT_SUPPORTED);
    CHECK(fake_log_contains("wants to set addresses, refused"));
    /* An adapter's name without an end. */
    ip = prepare(IC_KVP, sizeof(*ip));
    ip->operation = IC_KVP_GET_IP;
    memset((uint8_t *)ip + offsetof(struct ic_kvp_ip, adapter), 'A', sizeof(ip->adapter));
    CHECK_EQ(answer_to(), IC_STATUS_GUID_NOT_FOUND);
    memset((uint8_t *)ip + offsetof(struct ic_kvp_ip, adapter), 0xDC, sizeof(ip->adapter));
    CHECK_EQ(answer_to(), IC_STATUS_GUID_NOT_FOUND);
    CHECK(agree(5, 0));
    struct ic_kvp_ip_binary *binary = prepare(IC_KVP, sizeof(*binary) - 1);
    binary->kvp.operation = IC_KVP_GET_IP;
    CHECK_EQ(answer_to(), IC_STATUS_INVALID_ARGUMENT);
    binary = prepare(IC_KVP, sizeof(*binary));
    binary->kvp.operation = IC_KVP_GET_IP;
    CHECK_EQ(answer_to(), IC_STATUS_GUID_NOT_FOUND);
}

/* ---- answers that find no room ---- */

/* As many of what was prepared as fit into the ring. */
static unsigned flood(uint32_t bytes)
{
    struct host_piece payload = {said, bytes};
    unsigned n = 0;

    while (vchan_has_room(played, bytes + 64) && n < 5000) {
        vchan_send(played, VMBUS_PACKET_INBAND, 0, 7, NULL, &payload);
        n++;
    }
    vchan_queue(played);
    hv_host_run();
    task_sleep_us(10000);
    return n;
}

TEST(a_host_that_does_not_read_is_waited_for)
{
    unsigned sent = 0, n;

    defaults();
    start_played((struct guid)VMBUS_GUID_HEARTBEAT);
    CHECK(agree(3, 0));
    uint32_t before = played_count;
    played_stall = true;
    prepare(IC_HEARTBEAT, 16);
    while ((n = flood(48)) > 0)
        sent += n;
    CHECK(sent > 2 * IC_RING_BYTES * 3 / 4 / 80 && sent < 1000);   /* both rings are full, and that is all */
    played_stall = false;
    played->signalled = true;
    for (unsigned i = 0; i < 100 && played_count < before + sent; i++) {
        vchan_queue(played);
        hv_host_run();
        task_sleep_us(10000);
    }
    CHECK_EQ(played_count, before + sent);
    CHECK_EQ(ic_counters.answers_dropped, 0);
    CHECK(beats(3));
}

TEST(samples_that_want_no_answer_go_on)
{
    struct wall_stats stats;
    unsigned sent = 0;

    defaults();
    start_played((struct guid)VMBUS_GUID_TIMESYNC);
    CHECK(agree(4, 0));
    played_stall = true;
    struct ic_timesync_4 *m = prepare(IC_TIMESYNC, sizeof(*m));
    m->flags = IC_TIMESYNC_SAMPLE;
    say_head->header.flags = 0;
    for (unsigned i = 0; i < 20; i++) {
        m->reference_100ns = rt_now_100ns();
        m->host_time = HOST_EPOCH + rt_now_100ns();
        sent += flood(56);
    }
    wall_get_stats(&stats);
    CHECK(sent > 1000 && stats.samples == sent && ic_counters.answers_dropped > 500);
    played_stall = false;
    played->signalled = true;
    vchan_queue(played);
    hv_host_run();
    CHECK_EQ(tell_time(HOST_EPOCH + rt_now_100ns(), rt_now_100ns(), IC_TIMESYNC_SYNC), IC_STATUS_OK);
}

/* ---- faults of the model's own components ---- */

struct fault { uint32_t points; uint64_t number; enum host_fault_kind kind; };

/* A life that uses everything. */
static void live(void)
{
    for (unsigned i = 0; i < 8; i++) {
        struct host_kvp_result r;
        host_kvp_set(host, "key", "value");
        host_kvp_enumerate(host, IC_KVP_POOL_AUTO);
        host_kvp_get_ip(host, "00:15:5D:01:02:03");
        if (i == 4)
            host_ic_renegotiate(host, HOST_IC_KVP);
        hv_host_run();
        task_sleep_us(1000000);
        while (host_kvp_result(host, &r))
            ;
    }
    host_ic_shutdown(host, 0, 0, 0, "bye");
    hv_host_run();
    task_sleep_us(1000000);
}

static void live_with_fault(void *arg)
{
    const struct fault *f = arg;
    struct host_state state;

    defaults();
    ic_cfg.answer_limit_ms = 500;
    ic_cfg.negotiate_limit_ms = 500;
    machine_set_network(describe);
    host = hv_host_start(&host_cfg);
    CHECK(host_add_ics(host, &ic_cfg));
    hv_host.violations_expected = true;          /* after a wrong message the two sides are of different minds */
    host_set_fault(host, f->points, f->number, f->kind);
    int e = guest_up();
    if (e == 0)
        live();
    uint64_t counted = host_fault_count(host);
    vmbus_disconnect(false);
    host_get_state(host, &state);
    CHECK(e == 0 || f->points == HOST_FAULT_VMBUS_REPLY);
    if (e == 0)
        CHECK_EQ(state.channels_open, 0);
    if (f->points == HOST_FAULT_IC) {
        CHECK_EQ(state.gpadls, 0);
        CHECK_EQ(shmem_stats.pages_leaked, 0);
    }
    if (counted < f->number)
        nothing_left();
}

static void every_fault(uint32_t points, unsigned most)
{
    static const enum host_fault_kind kinds[] = {
        HOST_FAULT_DROP, HOST_FAULT_ERROR, HOST_FAULT_SHORT, HOST_FAULT_WRONG_ID, HOST_FAULT_TWICE, HOST_FAULT_GARBAGE,
    };

    for (unsigned k = 0; k < ARRAY_SIZE(kinds); k++) {
        for (unsigned n = 1; n <= most; n++) {
            struct fault f = {points, n, kinds[k]};
            int end = in_child(live_with_fault, &f);
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

TEST(each_message_goes_wrong) { every_fault(HOST_FAULT_IC, 60); }
TEST(each_answer_of_the_bus_goes_wrong) { every_fault(HOST_FAULT_VMBUS_REPLY, 40); }

/* ---- memory ---- */

static void live_without(void *arg)
{
    uint64_t n = (uint64_t)(uintptr_t)arg, counted;

    defaults();
    host = hv_host_start(&host_cfg);
    CHECK(host_add_ics(host, &ic_cfg));
    CHECK(hv_init());
    hv_clock_init();
    CHECK_EQ(hv_synic_init(), 0);
    CHECK_EQ(vmbus_connect(), 0);
    counted = mm_alloc_count();
    mm_fail_nth(n);
    ic_register();
    task_sleep_us(3000000);
    uint32_t status = kvp_status(host_kvp_set(host, "a", "b"));
    mm_fail_nth(0);
    counted = mm_alloc_count() - counted;
    CHECK(status == IC_STATUS_OK || status == IC_STATUS_DISK_FULL || status == HOST_KVP_NO_ANSWER);
    unsigned open = 0;
    for (unsigned i = 0; i < HOST_IC_VSS; i++)
        open += state_of(i).open && state_of(i).negotiated;
    CHECK(open >= 3 && (status != IC_STATUS_OK || open == 4 || counted >= n));
    vmbus_disconnect(false);
    CHECK_EQ(shmem_stats.pages_leaked, 0);
    if (counted < n) {
        CHECK_EQ(open, 4);
        nothing_left();
    }
}

TEST(each_allocation_fails_once) { each_allocation(live_without); }

/* ---- going ---- */

static uint64_t calls_left;

static bool rescind_at(uint64_t control UNUSED, uint64_t in UNUSED, uint64_t out UNUSED, uint64_t *result UNUSED)
{
    if (calls_left && --calls_left == 0)
        for (unsigned i = 0; i < HOST_IC_VSS; i++)
            host_remove_ic(host, i);
    return false;
}

static void live_until_rescind(void *arg)
{
    struct host_state state;

    defaults();
    calls_left = (uint64_t)(uintptr_t)arg;
    host = hv_host_start(&host_cfg);
    hv_host.intercept = rescind_at;
    CHECK(host_add_ics(host, &ic_cfg));
    CHECK_EQ(guest_up(), 0);
    task_sleep_us(1000000);
    host_kvp_enumerate(host, IC_KVP_POOL_AUTO);
    hv_host_run();
    task_sleep_us(5000000);
    bool over = calls_left != 0;
    if (!over) {
        host_get_state(host, &state);
        CHECK_EQ(state.channels_offered, 0);
        CHECK(host_add_ics(host, &ic_cfg));      /* and back again */
        hv_host_run();
        CHECK(RUN_UNTIL(all_negotiated(), 5));
    }
    vmbus_disconnect(false);
    host_get_state(host, &state);
    CHECK_EQ(state.gpadls, 0);
    CHECK_EQ(shmem_stats.pages_leaked, 0);
    if (over)
        nothing_left();
}

TEST(withdrawn_at_every_stage)
{
    unsigned n;

    for (n = 1; n < 200; n++) {
        int end = in_child(live_until_rescind, (void *)(uintptr_t)n);
        if (end == NOTHING_LEFT)
            break;
        if (end != FAKE_RETURNED)
            test_fail(__FILE__, __LINE__, "rescinded at hypercall %u: ends with %d", n, end);
        if (test_failures_here > 5)
            return;
    }
    CHECK(n > 15 && n < 200);
}

static void live_until_unload(void *arg)
{
    struct host_state state;

    defaults();
    start();
    task_sleep_us((uint64_t)(uintptr_t)arg);
    host_kvp_enumerate(host, IC_KVP_POOL_AUTO);
    host_ic_shutdown(host, 0, 0, 0, "");
    vmbus_disconnect(false);
    host_get_state(host, &state);
    CHECK_EQ(state.vmbus_version, 0);
    CHECK_EQ(state.channels_open, 0);
    CHECK_EQ(shmem_stats.pages_leaked, 0);
}

TEST(unloaded_at_any_moment)
{
    for (uint64_t us = 0; us < 3000; us += us < 20 ? 1 : us / 8)
        CHECK_EQ(in_child(live_until_unload, (void *)(uintptr_t)us), FAKE_RETURNED);
}

TEST(gone_and_back_leaves_nothing)
{
    struct mm_stats before = {0}, after;

    defaults();
    start();
    for (unsigned round = 0; round < 6; round++) {
        CHECK(RUN_UNTIL(all_negotiated(), 5));
        CHECK_EQ(kvp_status(host_kvp_set(host, "a", "b")), IC_STATUS_OK);
        for (unsigned i = 0; i < HOST_IC_VSS; i++)
            host_remove_ic(host, i);
        hv_host_run();
        task_sleep_us(100000);
        mm_get_stats(&after);
        if (round == 1)
            before = after;
        if (round > 1) {
            CHECK_EQ(after.heap_bytes, before.heap_bytes);
            CHECK_EQ(after.vmap_bytes, before.vmap_bytes);
        }
        CHECK(host_add_ics(host, &ic_cfg));
        hv_host_run();
    }
}

TEST_MAIN()
