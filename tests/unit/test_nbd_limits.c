/* SPDX-License-Identifier: BSD-2-Clause */
/* ROOMS: lib mm rt fake_arch apps/nbd */
/*
 * NBD sessions (nbd_session.h) at their limits: clients that do not read, ask for too much or leave in the middle, and
 * servers that end.
 */
#include "tests/unit/nbd_session.h"
#include "tests/unit/child.h"

/* ---- backpressure ---- */
struct finish { size_t offered; unsigned replies; bool hold_disk; };

static void finish_at(void *arg)
{
    const struct finish *f = arg;
    struct seen seen;
    start();
    hello(true, "disk0");
    play();
    if (!in_transmission(true))
        test_fail(__FILE__, __LINE__, "no transmission");
    begin();
    request(0, NBD_CMD_WRITE, 1, 4096, 8192);
    payload(4096, 8192, 3);
    request(0, NBD_CMD_READ, 2, 0, 65536);
    request(0, NBD_CMD_WRITE, 3, 65536, 8192);
    payload(65536, 8192, 4);
    conn.input = script;
    conn.input_bytes = f->offered;
    conn.fed = 0;
    if (f->hold_disk)
        feed();
    else
        run();
    nbd_session_finish(&conn.s);
    nbd_session_finish(&conn.s);
    conn.input_bytes = script_bytes;          /* the client goes on as if nothing were */
    run();
    read_replies(&seen, NULL);
    CHECK(conn.closed && !seen.wrong);
    CHECK_EQ(seen.done[1] + seen.done[2] + seen.done[3], f->replies);
    for (unsigned i = 1; i <= f->replies; i++)
        CHECK(seen.done[i] == 1 && seen.error[i] == 0);
    if (f->replies)
        CHECK_EQ(disks[0].bytes[4096 + 17], payload_byte(4096 + 17, 3));
    CHECK(ended_clean());
}

/* Requests that came whole or have begun to are served, later ones are not; then the connection closes. */
TEST(an_ending_server_serves_what_it_has)
{
    const size_t write = NBD_REQUEST_BYTES + 8192;
    const struct finish cases[] = {
        {0, 0, false}, {NBD_REQUEST_BYTES - 1, 0, false}, {NBD_REQUEST_BYTES, 1, false},
        {NBD_REQUEST_BYTES + 100, 1, true}, {write, 1, true}, {write + 5, 1, false},
        {write + NBD_REQUEST_BYTES, 2, true}, {2 * write + NBD_REQUEST_BYTES - 1, 3, true},
        {2 * write + NBD_REQUEST_BYTES, 3, true},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        struct finish f = cases[i];
        if (in_child(finish_at, &f) != FAKE_RETURNED)
            test_fail(__FILE__, __LINE__, "case %u", i);
    }
}

TEST(an_ending_server_does_not_negotiate)
{
    start();
    begin();
    put(3, 4);
    option(NBD_OPT_LIST, 0);
    conn.step = 7;
    conn.input = script;
    conn.input_bytes = 9;
    feed();
    nbd_session_finish(&conn.s);
    run();
    CHECK(conn.closed && ended_clean());
}

TEST(a_client_that_does_not_read_is_not_read_from)
{
    struct seen seen;
    start_with(64u * MIB, 4u * MIB, 512);
    hello(true, "disk0");
    for (unsigned i = 0; i < 60; i++)
        request(0, NBD_CMD_READ, i, (i % 32) * 128 * 1024, 128 * 1024);
    conn.hold_acks = true;
    play();
    CHECK(conn.fed < conn.input_bytes);
    CHECK(nbd_buffers_used() <= 4u * MIB && conn.s.buffer_bytes <= nbd_session_share());
    conn.hold_acks = false;
    run();
    CHECK_EQ(conn.fed, conn.input_bytes);
    CHECK(in_transmission(true));
    read_replies(&seen, disks[0].bytes);
    CHECK(!seen.wrong);
    for (unsigned i = 0; i < 60; i++)
        CHECK(seen.done[i] == 1 && seen.error[i] == 0 && seen.data_bytes[i] == 128 * 1024);
    CHECK(ended_clean());
}

/* Requests that are answered at once: the answers wait for a client that doesn't take them, not without bound. */
TEST(answers_that_are_not_taken_are_bounded)
{
    struct seen seen;
    unsigned done = 0;
    start();
    hello(true, "disk0");
    for (unsigned i = 0; i < 5000; i++)
        request(0, i % 2 ? NBD_CMD_READ : 77, i, 0, 0);
    conn.hold_acks = true;
    play();
    CHECK(conn.fed < conn.input_bytes && conn.s.references <= NBD_HELD_MAX);
    conn.hold_acks = false;
    run();
    CHECK_EQ(conn.fed, conn.input_bytes);
    CHECK(in_transmission(true));
    read_replies(&seen, NULL);
    for (unsigned i = 0; i < 64; i++)
        done += seen.done[i] + (seen.error[i] == NBD_EINVAL && seen.done[i] == 0);
    CHECK(!seen.wrong && done >= 2500 && ended_clean());
}

TEST(options_whose_answers_are_not_taken_are_bounded)
{
    start();
    begin();
    put(NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES, 4);
    for (unsigned i = 0; i < 2000; i++)
        option(i % 2 ? NBD_OPT_LIST : 99, 0);
    conn.hold_acks = true;
    play();
    CHECK(conn.fed < conn.input_bytes && conn.s.references <= NBD_HELD_MAX + ARRAY_SIZE(disks) + 1);
    conn.hold_acks = false;
    run();
    CHECK_EQ(conn.fed, conn.input_bytes);
    const uint8_t *data;
    uint32_t bytes, answers = 0;
    CHECK(greeting());
    while (unread()) {
        bool list = answers % 4 != 0;
        uint32_t type = option_reply(list ? NBD_OPT_LIST : 99, &data, &bytes);
        CHECK_EQ(type, !list ? NBD_REP_ERR_UNSUP : answers % 4 == 3 ? NBD_REP_ACK : NBD_REP_SERVER);
        answers++;
    }
    CHECK_EQ(answers, 4000);
    CHECK(ended_clean());
}

/* The last request waits for buffers when the client ends its side: it came whole, so it is served whole. */
TEST(a_half_closed_client_gets_all_it_asked_for)
{
    struct seen seen;
    start_with(64u * MIB, 4u * MIB, 512);
    hello(true, "disk0");
    request(0, NBD_CMD_READ, 1, 0, 4u * MIB);
    conn.hold_acks = true;
    play();
    CHECK_EQ(conn.fed, conn.input_bytes);
    CHECK_EQ(conn.s.state, NBD_ISSUE);
    nbd_session_eof(&conn.s);
    run();
    CHECK(!conn.closed);
    conn.hold_acks = false;
    run();
    CHECK(conn.closed && in_transmission(true));
    read_replies(&seen, disks[0].bytes);
    CHECK(!seen.wrong && seen.done[1] == 1 && seen.error[1] == 0 && seen.data_bytes[1] == 4u * MIB);
    CHECK(ended_clean());
}

/* Its buffers come back after it is forgotten, when nobody waits: the next client must not wait for a wake. */
TEST(a_client_that_goes_while_memory_is_short_leaves_no_shortage)
{
    static struct { void *buffer; unsigned order; } taken[2048];
    struct nbd_session gone;
    struct seen seen;
    unsigned n = 0;
    start_with(64u * MIB, 2u * MIB, 512);
    nbd_session_init(&gone, &transport, &policy);
    for (;; n++) {
        CHECK(n < ARRAY_SIZE(taken));
        gone.buffer_bytes = 0;                       /* below its share of it all */
        taken[n].buffer = nbd_buffer_get(&gone, 256 * 1024, &taken[n].order);
        if (!taken[n].buffer)
            break;
    }
    nbd_buffers_wait(&gone);
    nbd_buffers_forget(&gone);
    while (n-- > 0) {
        gone.buffer_bytes = MIB;
        nbd_buffer_put(&gone, taken[n].buffer, taken[n].order);
    }
    task_yield();
    hello(true, "disk0");
    request(0, NBD_CMD_READ, 0, 0, 4096);
    play();
    CHECK(in_transmission(true));
    read_replies(&seen, disks[0].bytes);
    CHECK(!seen.wrong && seen.done[0] == 1 && seen.error[0] == 0);
    CHECK(ended_clean());
}

TEST(too_many_requests_in_flight_wait)
{
    struct seen seen;
    unsigned done = 0;
    start();
    hello(true, "disk0");
    for (unsigned i = 0; i < 1000; i++)
        request(0, NBD_CMD_READ, i, (i % 8192) * 512, 512);
    conn.input = script;
    conn.input_bytes = script_bytes;
    feed();
    CHECK_EQ(conn.s.op_count, NBD_OPS_MAX);
    run();
    CHECK(in_transmission(true));
    read_replies(&seen, disks[0].bytes);
    for (unsigned i = 0; i < 64; i++)
        done += seen.done[i];
    CHECK(!seen.wrong && done == 1000);
    CHECK(ended_clean());
}

TEST_MAIN()
