/* SPDX-License-Identifier: BSD-2-Clause */
/* ROOMS: lib vmbus */
/*
 * Several packets wait for room in one ring, which has one word to say so: what happens between a sender's two looks at
 * the host's index is played by the test, in place of the fence between them.
 */
#include "tests/unit/test.h"

static void between(void);
#define __atomic_thread_fence(order) between()
#include "vmbus/ring.c"

#define RING_BYTES 4096u

static struct vmbus_ring_control control;
static uint8_t data[2 * RING_BYTES];
static struct ring ring;
static uint32_t host_reads;                    /* bytes, at the next fence */

static void between(void)
{
    control.read_index = (control.read_index + host_reads) % RING_BYTES;
    host_reads = 0;
}

static int put(uint32_t bytes)
{
    uint8_t *where;
    int rc = ring_reserve(&ring, bytes, &where);

    if (rc >= 0)
        ring_commit(&ring, bytes);
    return rc;
}

static void fill(void)
{
    control = (struct vmbus_ring_control){0};
    ring_init(&ring, &control, data, RING_BYTES);
    while (put(120) == 0)
        ;
    CHECK(ring_unblocked(&ring) == false);
    CHECK_EQ(control.pending_send_bytes, 128);
}

/* The ring is full for one, and has room for another at its second look: nobody may tell the first any more. */
TEST(who_is_overtaken_is_told)
{
    for (unsigned first = 120; first <= 1016; first += 896) {
        fill();
        CHECK_EQ(put(first), -E_AGAIN);
        host_reads = 1280;
        CHECK_EQ(put(248), 1);
        CHECK_EQ(control.pending_send_bytes, 0);
        CHECK(ring_unblocked(&ring));
        CHECK(!ring_unblocked(&ring));
        CHECK_EQ(put(first), 0);
    }
}

/* He may find the ring full again, and then waits as before. */
TEST(who_is_overtaken_may_wait_again)
{
    fill();
    CHECK_EQ(put(1016), -E_AGAIN);
    host_reads = 256;
    CHECK_EQ(put(248), 1);
    CHECK(ring_unblocked(&ring));
    CHECK_EQ(put(1016), -E_AGAIN);
    CHECK_EQ(control.pending_send_bytes, 1024);
    CHECK(!ring_unblocked(&ring));
    control.read_index = 2048;
    CHECK(ring_unblocked(&ring));
    CHECK_EQ(put(1016), 0);
}

TEST(nobody_is_told_of_nothing)
{
    fill();
    control.read_index = 1024;
    CHECK(ring_unblocked(&ring));
    while (put(120) == 0)
        ;
    CHECK(!ring_unblocked(&ring));
    control.read_index = 2048;
    CHECK(ring_unblocked(&ring));
    while (room(&ring) >= 128)
        CHECK_EQ(put(120), 0);
    host_reads = 512;
    CHECK_EQ(put(120), 0);                     /* at the second look, and nobody waited before */
    CHECK(!ring_unblocked(&ring));
}

TEST_MAIN()
