/* SPDX-License-Identifier: BSD-2-Clause */
/* ROOMS: lib mm rt fake_arch apps/nbd */
/*
 * NBD sessions (nbd_session.h): negotiation, every command, disappearing disks and clients, each allocation and each disk
 * request failing in turn, and garbage.
 */
#include "tests/unit/nbd_session.h"
#include "tests/unit/child.h"

/* ---- negotiation ---- */
TEST(exports_are_listed_and_described)
{
    const uint8_t *data;
    uint32_t bytes;
    bool size = false, block = false, name = false, described = false;
    start();
    begin();
    put(3, 4);
    option(NBD_OPT_LIST, 0);
    option(NBD_OPT_INFO, 6 + 5 + 6);
    put(5, 4);
    put_text("disk1");
    put(3, 2);
    put(NBD_INFO_NAME, 2);
    put(NBD_INFO_DESCRIPTION, 2);
    put(NBD_INFO_BLOCK_SIZE, 2);
    play();
    CHECK(greeting());
    CHECK_EQ(option_reply(NBD_OPT_LIST, &data, &bytes), NBD_REP_SERVER);
    CHECK(get_be32(data) == 5 && memcmp(data + 4, "disk0Test disk 1.0", bytes - 4) == 0);
    CHECK_EQ(option_reply(NBD_OPT_LIST, &data, &bytes), NBD_REP_SERVER);
    CHECK_EQ(option_reply(NBD_OPT_LIST, &data, &bytes), NBD_REP_ACK);
    for (;;) {
        uint32_t type = option_reply(NBD_OPT_INFO, &data, &bytes);
        if (type == NBD_REP_ACK)
            break;
        CHECK_EQ(type, NBD_REP_INFO);
        switch (get_be16(data)) {
        case NBD_INFO_EXPORT:
            size = bytes == 12 && get_be64(data + 2) == DISK_BYTES && (get_be16(data + 10) & NBD_FLAG_READ_ONLY);
            break;
        case NBD_INFO_BLOCK_SIZE:
            block = bytes == 14 && get_be32(data + 2) == 4096 && get_be32(data + 6) == 4096;
            break;
        case NBD_INFO_NAME:
            name = bytes == 7 && memcmp(data + 2, "disk1", 5) == 0;
            break;
        case NBD_INFO_DESCRIPTION:
            described = memcmp(data + 2, "Test disk 1.0", bytes - 2) == 0;
            break;
        }
    }
    CHECK(size && block && name && described);
    CHECK_EQ(unread(), 0);
    CHECK(ended_clean());
}

TEST(unknown_options_and_exports_are_refused_and_the_connection_survives)
{
    const uint8_t *data;
    uint32_t bytes;
    start();
    begin();
    put(3, 4);
    option(NBD_OPT_STARTTLS, 0);
    option(99, 3);
    put_text("abc");
    option(10, 70000);                          /* longer than any option is */
    for (unsigned i = 0; i < 70000; i++)
        put(0, 1);
    go_to(NBD_OPT_GO, "disk7");
    go_to(NBD_OPT_INFO, "a name that no disk can have because it is far too long");
    option(NBD_OPT_INFO, 5);                    /* malformed: too short, then a name beyond the end, then a count */
    put(0, 5);
    option(NBD_OPT_INFO, 8);
    put(100, 4);
    put(0, 4);
    option(NBD_OPT_INFO, 8);
    put(0, 4);
    put(7, 2);
    put(0, 2);
    option(NBD_OPT_LIST, 1);
    put(0, 1);
    option(NBD_OPT_STRUCTURED_REPLY, 1);
    put(0, 1);
    go_to(NBD_OPT_GO, "");
    play();
    CHECK(greeting());
    CHECK_EQ(option_reply(NBD_OPT_STARTTLS, &data, &bytes), NBD_REP_ERR_UNSUP);
    CHECK_EQ(option_reply(99, &data, &bytes), NBD_REP_ERR_UNSUP);
    CHECK_EQ(option_reply(10, &data, &bytes), NBD_REP_ERR_TOO_BIG);
    CHECK_EQ(option_reply(NBD_OPT_GO, &data, &bytes), NBD_REP_ERR_UNKNOWN);
    CHECK_EQ(option_reply(NBD_OPT_INFO, &data, &bytes), NBD_REP_ERR_UNKNOWN);
    for (unsigned i = 0; i < 3; i++)
        CHECK_EQ(option_reply(NBD_OPT_INFO, &data, &bytes), NBD_REP_ERR_INVALID);
    CHECK_EQ(option_reply(NBD_OPT_LIST, &data, &bytes), NBD_REP_ERR_INVALID);
    CHECK_EQ(option_reply(NBD_OPT_STRUCTURED_REPLY, &data, &bytes), NBD_REP_ERR_INVALID);
    CHECK_EQ(option_reply(NBD_OPT_GO, &data, &bytes), NBD_REP_INFO);
    CHECK_EQ(conn.s.state, NBD_REQUEST);
    CHECK(strcmp(conn.s.disk->name, "disk0") == 0);
    CHECK(!conn.closed && ended_clean());
}

TEST(export_name_with_and_without_zeroes)
{
    for (unsigned no_zeroes = 0; no_zeroes < 2; no_zeroes++) {
        if (no_zeroes == 0) {
            start();
            CHECK(ended_clean());
        }
        out_bytes = out_at = 0;
        nbd_session_init(&conn.s, &transport, &policy);
        conn.closed = conn.released = false;
        begin();
        put(1 | no_zeroes << 1, 4);
        option(NBD_OPT_EXPORT_NAME, 5);
        put_text("disk0");
        play();
        CHECK_EQ(unread(), no_zeroes ? 10 : 134);
        CHECK_EQ(get(8), DISK_BYTES);
        CHECK(!(get(2) & NBD_FLAG_READ_ONLY));
        CHECK_EQ(conn.s.state, NBD_REQUEST);
        CHECK(ended_clean());
    }
    nbd_session_init(&conn.s, &transport, &policy);
    conn.released = false;
    begin();
    put(1, 4);
    option(NBD_OPT_EXPORT_NAME, 5);
    put_text("disk9");
    play();
    CHECK(conn.closed && ended_clean());
}

TEST(abort_and_nonsense_close)
{
    static const struct { uint64_t magic; uint32_t flags, option; } cases[] = {
        {NBD_OPTION_MAGIC, 3, NBD_OPT_ABORT}, {0x4745542f20485454ull, 3, 0}, {NBD_OPTION_MAGIC, 0xfffffff0u, 1}};
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        if (i == 0) {
            start();
            CHECK(ended_clean());
        }
        nbd_session_init(&conn.s, &transport, &policy);
        conn.closed = conn.released = false;
        begin();
        put(cases[i].flags, 4);
        put(cases[i].magic, 8);
        put(cases[i].option, 4);
        put(0, 4);
        put(0, 8);                              /* what comes after is thrown away */
        play();
        CHECK(conn.closed);
        CHECK_EQ(conn.fed, conn.input_bytes);
        CHECK(ended_clean());
    }
}

/* ---- reads ---- */
TEST(simple_reads_come_whole)
{
    start();
    hello(false, "disk0");
    request(0, NBD_CMD_READ, 1, 512, 1024);
    request(0, NBD_CMD_READ, 2, 0, 600 * 1024); /* three pieces */
    disks[0].newest_first = true;
    play();
    CHECK(in_transmission(false));
    for (unsigned i = 0; i < 2; i++) {
        CHECK_EQ(get(4), NBD_SIMPLE_REPLY_MAGIC);
        CHECK_EQ(get(4), 0);
        bool first = get(8) == 1;
        uint32_t bytes = first ? 1024 : 600 * 1024;
        CHECK(unread() >= bytes && memcmp(out + out_at, disks[0].bytes + (first ? 512 : 0), bytes) == 0);
        out_at += bytes;
    }
    CHECK_EQ(unread(), 0);
    CHECK(ended_clean());
}

TEST(structured_reads_come_in_chunks_in_any_order)
{
    struct seen seen;
    start();
    hello(true, "disk0");
    for (unsigned i = 0; i < 40; i++)
        request(0, NBD_CMD_READ, i, i * 4096, 4096);
    request(0, NBD_CMD_READ, 40, 0, 2 * MIB);
    request(NBD_CMD_FLAG_DF, NBD_CMD_READ, 41, MIB, MIB);
    disks[0].newest_first = true;
    play();
    CHECK(in_transmission(true));
    read_replies(&seen, disks[0].bytes);
    CHECK(!seen.wrong);
    for (unsigned i = 0; i < 40; i++)
        CHECK(seen.done[i] == 1 && seen.error[i] == 0 && seen.data_bytes[i] == 4096);
    CHECK(seen.done[40] == 1 && seen.data_bytes[40] == 2 * MIB);
    CHECK(seen.done[41] == 1 && seen.data_bytes[41] == MIB);
    CHECK(ended_clean());
}

TEST(longest_read_passes_through_a_small_memory)
{
    struct seen seen;
    start_with(64u * MIB, 2u * MIB, 512);
    hello(true, "disk0");
    for (unsigned i = 0; i < 8; i++)
        request(0, NBD_CMD_READ, i, 0, DISK_BYTES);
    request(NBD_CMD_FLAG_DF, NBD_CMD_READ, 8, 0, DISK_BYTES);    /* can't be answered as one here */
    play();
    CHECK(in_transmission(true));
    read_replies(&seen, disks[0].bytes);
    CHECK(!seen.wrong);
    for (unsigned i = 0; i < 8; i++)
        CHECK(seen.done[i] == 1 && seen.error[i] == 0 && seen.data_bytes[i] == DISK_BYTES);
    CHECK(seen.done[8] == 1 && seen.error[8] == NBD_EOVERFLOW);
    CHECK(ended_clean());
}

/* ---- writes and the rest ---- */
TEST(writes_flush_trim_and_zeroes_reach_the_disk)
{
    struct seen seen;
    start();
    hello(true, "disk0");
    request(NBD_CMD_FLAG_FUA, NBD_CMD_WRITE, 1, 4096, 8192);
    payload(4096, 8192, 9);
    request(0, NBD_CMD_WRITE, 2, MIB, 700 * 1024);
    payload(MIB, 700 * 1024, 5);
    request(0, NBD_CMD_FLUSH, 3, 0, 0);
    request(0, NBD_CMD_TRIM, 4, 2 * MIB, 65536);
    request(NBD_CMD_FLAG_NO_HOLE, NBD_CMD_WRITE_ZEROES, 5, 3 * MIB, MIB);
    request(NBD_CMD_FLAG_FUA, NBD_CMD_READ, 6, 0, 4096);
    request(NBD_CMD_FLAG_FUA, NBD_CMD_FLUSH, 7, 0, 0);
    play();
    CHECK(in_transmission(true));
    read_replies(&seen, NULL);
    for (unsigned i = 1; i <= 7; i++)
        CHECK(seen.done[i] == 1 && seen.error[i] == 0);
    for (uint32_t i = 0; i < 8192; i++)
        CHECK(disks[0].bytes[4096 + i] == payload_byte(4096 + i, 9));
    for (uint32_t i = 0; i < 700 * 1024; i++)
        CHECK(disks[0].bytes[MIB + i] == payload_byte(MIB + i, 5));
    for (uint32_t i = 0; i < MIB; i++)
        CHECK(disks[0].bytes[3 * MIB + i] == 0);
    CHECK(disks[0].fua_seen == 1 && disks[0].flushes == 2 && disks[0].discards == 1 && disks[0].zeroes_seen >= 1);
    CHECK(ended_clean());
}

TEST(bad_requests_get_their_error_and_the_connection_survives)
{
    static const struct { uint16_t flags, command; uint64_t offset; uint32_t length; bool payload; uint32_t error; } bad[] = {
        {0, NBD_CMD_READ, 1, 512, false, NBD_EINVAL},                  {0, NBD_CMD_READ, 0, 100, false, NBD_EINVAL},
        {0, NBD_CMD_READ, 0, 0, false, NBD_EINVAL},                    {0, NBD_CMD_READ, DISK_BYTES, 512, false, NBD_EINVAL},
        {0, NBD_CMD_READ, DISK_BYTES - 512, 1024, false, NBD_EINVAL},  {0, NBD_CMD_READ, ~511ull, 1024, false, NBD_EINVAL},
        {0, NBD_CMD_READ, 0, 0xfffffe00u, false, NBD_EINVAL},          {0x80, NBD_CMD_READ, 0, 512, false, NBD_EINVAL},
        {0, NBD_CMD_WRITE, DISK_BYTES - 512, 1024, true, NBD_ENOSPC},  {0, NBD_CMD_WRITE, 3, 512, true, NBD_EINVAL},
        {0, NBD_CMD_WRITE, DISK_BYTES, 512, true, NBD_ENOSPC},         {0, NBD_CMD_TRIM, DISK_BYTES, 512, false, NBD_EINVAL},
        {0, NBD_CMD_WRITE_ZEROES, DISK_BYTES, 512, false, NBD_ENOSPC}, {0, NBD_CMD_CACHE, 0, 512, false, NBD_EINVAL},
        {0, NBD_CMD_BLOCK_STATUS, 0, 512, false, NBD_EINVAL},          {0, 99, 0, 512, false, NBD_EINVAL},
        {NBD_CMD_FLAG_DF, NBD_CMD_WRITE, 0, 512, true, NBD_EINVAL},
    };
    struct seen seen;
    start();
    hello(true, "disk0");
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        request(bad[i].flags, bad[i].command, i, bad[i].offset, bad[i].length);
        if (bad[i].payload)
            payload(0, bad[i].length, 1);
    }
    request(0, NBD_CMD_READ, 63, 0, 512);
    play();
    CHECK(in_transmission(true));
    read_replies(&seen, disks[0].bytes);
    CHECK(!seen.wrong);
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        CHECK_EQ(seen.done[i], 1);
        CHECK_EQ(seen.error[i], bad[i].error);
    }
    CHECK(seen.done[63] == 1 && seen.data_bytes[63] == 512 && !conn.closed);
    CHECK(ended_clean());
}

TEST(a_disk_not_named_is_read_only)
{
    struct seen seen;
    start();
    hello(true, "disk1");
    request(0, NBD_CMD_WRITE, 0, 0, 4096);
    payload(0, 4096, 1);
    request(0, NBD_CMD_TRIM, 1, 0, 4096);
    request(0, NBD_CMD_WRITE_ZEROES, 2, 0, 4096);
    request(0, NBD_CMD_READ, 3, 512, 512);      /* unaligned for 4096-byte sectors */
    request(0, NBD_CMD_FLUSH, 4, 0, 0);
    play();
    CHECK(in_transmission(true));
    read_replies(&seen, NULL);
    for (unsigned i = 0; i < 3; i++)
        CHECK_EQ(seen.error[i], NBD_EPERM);
    CHECK(seen.error[3] == NBD_EINVAL && seen.error[4] == 0 && seen.done[4] == 1);
    CHECK(ended_clean());
}

TEST(disc_answers_what_is_in_flight_and_closes)
{
    struct seen seen;
    start();
    hello(true, "disk0");
    request(0, NBD_CMD_READ, 1, 0, 65536);
    request(0, NBD_CMD_DISC, 2, 0, 0);
    put(0, 8);
    play();
    CHECK(in_transmission(true));
    read_replies(&seen, disks[0].bytes);
    CHECK(seen.done[1] == 1 && seen.data_bytes[1] == 65536 && conn.closed);
    CHECK(ended_clean());
}

/* ---- one conversation for the tests that break something ---- */
static void conversation(void)
{
    hello(true, "disk0");
    request(0, NBD_CMD_READ, 0, 0, 4096);
    request(0, NBD_CMD_WRITE, 1, MIB, 600 * 1024);
    payload(MIB, 600 * 1024, 3);
    request(0, NBD_CMD_READ, 2, 2 * MIB, 600 * 1024);
    request(NBD_CMD_FLAG_DF, NBD_CMD_READ, 3, 2 * MIB, 600 * 1024);
    request(0, NBD_CMD_FLUSH, 4, 0, 0);
    request(0, NBD_CMD_TRIM, 5, 3 * MIB, 4096);
    request(0, NBD_CMD_WRITE_ZEROES, 6, 3 * MIB + 4096, 4096);
    request(0, NBD_CMD_READ, 7, 0, 512);
}
#define CONVERSATION_REQUESTS 8

TEST(bytes_may_come_in_any_pieces)
{
    static const unsigned steps[] = {1, 3, 7, 28, 1460, 65521};
    for (unsigned i = 0; i < ARRAY_SIZE(steps); i++) {
        struct seen seen;
        if (i == 0)
            start();
        else
            nbd_session_init(&conn.s, &transport, &policy);
        conn.released = false;
        if (i)
            nbd_session_start(&conn.s);
        conversation();
        conn.step = steps[i];
        play();
        CHECK(in_transmission(true));
        read_replies(&seen, NULL);
        for (unsigned k = 0; k < CONVERSATION_REQUESTS; k++)
            CHECK(seen.done[k] == 1 && seen.error[k] == 0);
        CHECK(ended_clean());
    }
}

TEST(each_disk_request_fails_in_turn)
{
    unsigned failed = 1;
    start();
    for (unsigned n = 1; failed; n++) {
        struct seen seen;
        failed = 0;
        if (n > 1) {
            nbd_session_init(&conn.s, &transport, &policy);
            nbd_session_start(&conn.s);
        }
        conn.released = false;
        disks[0].submitted = 0;
        disks[0].fail_nth = n;
        disks[0].fail_with = n % 2 ? -E_IO : -E_NOSPC;
        conversation();
        play();
        CHECK(in_transmission(true));
        read_replies(&seen, NULL);
        CHECK(!seen.wrong && !conn.closed);
        for (unsigned k = 0; k < CONVERSATION_REQUESTS; k++) {
            CHECK_EQ(seen.done[k], 1);
            failed += seen.error[k] != 0;
        }
        CHECK(failed <= 1);
        CHECK(ended_clean());
        CHECK(n < 100);
    }
}

TEST(each_allocation_fails_in_turn)
{
    bool whole = false;
    for (unsigned n = 1; !whole; n++) {
        struct seen seen;
        unsigned answered = 0;
        if (n == 1)
            start();
        out_bytes = out_at = 0;
        memset(&conn, 0, sizeof(conn));
        list_init(&conn.unacked);
        uint64_t before = mm_alloc_count();
        mm_fail_nth(n);
        nbd_session_init(&conn.s, &transport, &policy);
        nbd_session_start(&conn.s);
        conversation();
        play();
        whole = mm_alloc_count() - before < n;
        mm_fail_nth(0);
        nbd_buffers_wake();
        run();
        if (!conn.closed) {
            CHECK_EQ(conn.fed, conn.input_bytes);
            /* One option may have been refused for lack of memory; everything else was done in the end. */
            if (in_transmission(true)) {
                read_replies(&seen, NULL);
                for (unsigned k = 0; k < CONVERSATION_REQUESTS; k++)
                    answered += seen.done[k] == 1 && seen.error[k] == 0;
                CHECK_EQ(answered, CONVERSATION_REQUESTS);
            }
        }
        CHECK(ended_clean());
        CHECK(n < 500);
    }
}

/* ---- what goes away ---- */
TEST(a_disk_that_goes_fails_requests_and_closes_later)
{
    struct seen seen;
    start();
    hello(true, "disk0");
    request(0, NBD_CMD_READ, 1, 0, 600 * 1024);
    request(0, NBD_CMD_WRITE, 2, 0, 8192);
    payload(0, 4096, 1);                        /* half of it */
    conn.input = script;
    conn.input_bytes = script_bytes;
    feed();
    CHECK(disks[0].queued > 0);
    blk_unregister(&disks[0].d);
    run();
    begin();
    payload(4096, 4096, 1);
    request(0, NBD_CMD_READ, 3, 0, 512);
    request(0, NBD_CMD_FLUSH, 4, 0, 0);
    play();
    CHECK(in_transmission(true));
    read_replies(&seen, NULL);
    for (unsigned i = 1; i <= 4; i++) {
        CHECK_EQ(seen.done[i], 1);
        CHECK_EQ(seen.error[i], NBD_EIO);
    }
    CHECK(!conn.closed && !disks[0].released);
    for (unsigned i = 0; i < 5; i++)
        nbd_session_tick(&conn.s);
    CHECK(conn.closed);
    CHECK(ended_clean() && disks[0].released);
}

TEST(a_client_that_goes_leaves_nothing_behind)
{
    static const size_t cut_after[] = {0, 3, 30, 70, 100, 5000, 300000, 620000};
    for (unsigned i = 0; i < ARRAY_SIZE(cut_after); i++) {
        if (i == 0)
            start();
        else
            nbd_session_init(&conn.s, &transport, &policy);
        conn.released = conn.closed = false;
        conn.hold_acks = i % 2;
        conversation();
        conn.input = script;
        conn.input_bytes = MIN(script_bytes, cut_after[i]);
        conn.fed = 0;
        feed();
        if (i % 3 == 0)
            nbd_session_eof(&conn.s);
        CHECK(ended_clean());
    }
}

TEST(a_timed_out_read_never_gives_its_buffer_back)
{
    struct seen seen;
    start();
    hello(true, "disk0");
    request(0, NBD_CMD_READ, 1, 0, 4096);
    disks[0].fail_nth = 1;
    disks[0].fail_with = -E_TIMEOUT;
    play();
    CHECK(in_transmission(true));
    read_replies(&seen, NULL);
    CHECK_EQ(seen.error[1], NBD_EIO);
    CHECK_EQ(nbd_buffers_used(), 4096);
    nbd_session_end(&conn.s);
    CHECK(conn.released && conn.s.buffer_bytes == 0);
}

/* ---- garbage ---- */
static uint64_t seed = 88172645463325252ull;
static uint32_t rnd(uint32_t below)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)(seed >> 11) % below;
}

TEST(mutated_conversations_do_no_harm)
{
    start();
    for (unsigned round = 0; round < 400; round++) {
        out_bytes = out_at = 0;
        memset(&conn, 0, sizeof(conn));
        list_init(&conn.unacked);
        nbd_session_init(&conn.s, &transport, &policy);
        nbd_session_start(&conn.s);
        hello(rnd(2), "disk0");
        size_t head = script_bytes;
        for (unsigned i = 0; i < 30; i++) {
            uint16_t command = (uint16_t)rnd(9);
            uint32_t length = rnd(4) ? rnd(256) * 512 : rnd(1u << 20);
            request((uint16_t)rnd(rnd(2) ? 2 : 32), command, i, rnd(DISK_BYTES / 512) * 512ull, length);
            if (command == NBD_CMD_WRITE)
                payload(0, MIN(length, 1u << 17), 1);
        }
        for (unsigned i = rnd(6); i > 0; i--)
            script[rnd(4) ? head + rnd((uint32_t)(script_bytes - head)) : rnd((uint32_t)head)] = (uint8_t)rnd(256);
        conn.step = rnd(2) ? 1 + rnd(3000) : 0;
        disks[0].newest_first = rnd(2);
        play();
        CHECK(conn.closed || conn.fed == conn.input_bytes);
        CHECK(ended_clean());
    }
}

TEST_MAIN()
