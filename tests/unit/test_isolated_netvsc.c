/* SPDX-License-Identifier: BSD-2-Clause */
/* ROOMS: lib mm rt hv vmbus drivers host fake_arch */
/* netvsc's tests in an isolated machine, and what differs there. */
#include "tests/unit/isolated.h"
#include "tests/unit/test_netvsc.c"

/* Frames that fit a section are all copied there; held frames are copies and hold nothing of the host's; old versions
 * are refused. The tests below say what happens instead. */
TESTS_LEFT_OUT("frames_go_out", "held_frames_hold_their_packet", "everything_held_means_dropped_by_the_host_and_no_worse",
               "every_protocol_version", "every_bus_version_and_a_nic_that_comes_back")

TEST(isolated_frames_go_out_copied_once)
{
    start();
    frames_of_all_sizes();
    CHECK(nic->stats.tx_copied > 0);
    CHECK_EQ(nic->stats.tx_referenced, 0);
    CHECK_EQ(dma_stats.bounced, 0);
}

/* When the sections are all with the host, frames are bounced, and the pool has everything back in the end. */
TEST(isolated_frames_are_bounced_when_sections_are_out)
{
    static struct out *o[200];

    start();
    struct netvsc *n = nic->driver;
    n->max_packets = 1;
    wire_blocked = true;
    for (unsigned i = 0; i < ARRAY_SIZE(o); i++) {
        o[i] = make_out(1000 + i, 1 + i % NIC_MAX_PIECES, i);
        CHECK_EQ(nic->ops->send(nic, &o[i]->tx), 0);
    }
    nic->ops->kick(nic);
    CHECK(n->section_count < ARRAY_SIZE(o) && nic->stats.tx_referenced > 0);
    CHECK(dma_stats.pages_lent > 0);
    wire_blocked = false;
    wire_count = 0;
    host_net_tx_ready(host_nic);
    hv_host_run();
    CHECK(RUN_UNTIL(wire_count == ARRAY_SIZE(o), 5));
    for (unsigned i = 0; i < ARRAY_SIZE(o); i++) {
        CHECK(RUN_UNTIL(o[i]->done, 2));
        CHECK(on_wire(i, o[i]));
        free_out(o[i]);
    }
    CHECK_EQ(dma_stats.pages_lent, 0);
}

/* The sections come back at once, however long the stack keeps its frames, and nobody can change those any more. */
TEST(isolated_held_frames_are_copies)
{
    struct host_state state;

    start();
    keep_tokens = true;
    for (unsigned i = 0; i < 100; i++)
        CHECK(to_guest(200 + i, i));
    hv_host_run();
    CHECK(RUN_UNTIL(got_count == 100, 2));
    host_get_state(host, &state);
    CHECK_EQ(state.rx_sections_held, 0);
    struct netvsc *n = nic->driver;
    CHECK_EQ(n->copies.in_use, 100);
    for (unsigned i = 0; i < 100; i++) {
        CHECK(received(i, 200 + i, i));
        CHECK(!arch_virt_in_direct_map(va_of(n->receive.virt)));
        size_t at = (size_t)((char *)got[i].token - (char *)n->receive.virt);
        CHECK(at >= n->receive.pages * PAGE_BYTES);
    }
    release_all();
    CHECK_EQ(n->copies.in_use, 0);
    CHECK_EQ(nic->stats.rx_dropped, 0);
}

/* A stack that keeps everything gets no more than there are copies; the rest is dropped, and the NIC lives. */
TEST(isolated_stack_that_keeps_everything)
{
    unsigned sent = 0;

    start();
    keep_tokens = true;
    struct netvsc *n = nic->driver;
    for (; sent < n->copies.count + 500; sent++) {
        if (!to_guest(100, sent)) {
            hv_host_run();
            task_sleep_us(1000);
            CHECK(to_guest(100, sent));
        }
    }
    hv_host_run();
    CHECK(RUN_UNTIL(n->nic.stats.rx_dropped >= 500, 5));
    CHECK_EQ(got_count, n->copies.count);
    CHECK_EQ(n->copies.in_use, n->copies.count);
    release_all();
    keep_tokens = false;
    got_count = 0;
    CHECK(to_guest(777, 3));
    hv_host_run();
    CHECK(RUN_UNTIL(got_count == 1 && received(0, 777, 3), 2));
}

TEST(isolated_old_dialects_are_refused)
{
    defaults();
    nic_config.max_nvsp = NVSP_VERSION_6;
    host_up();
    guest_up();
    CHECK(!nic);
    CHECK(fake_log_contains("no version in common with the host"));
    vmbus_disconnect(false);
    CHECK_EQ(shmem_stats.pages_leaked, 0);
    CHECK_EQ(shmem_stats.pages_shared, dma_stats.pages);
}
