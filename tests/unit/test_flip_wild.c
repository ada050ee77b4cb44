/* SPDX-License-Identifier: BSD-2-Clause */
/* ROOMS: lib mm rt hv vmbus drivers apps/nbd host fake_arch */
/*
 * Words that have to be read again and again, those of the rings' control pages, change to anything between two looks,
 * under a disk and a NIC in use, while another disk and NIC are served by the truth. What must hold is life()'s:
 * no panic, no access where there is nothing, the honest devices go on, no wrong byte is delivered as good, everything
 * ends within its limit and leaves nothing behind.
 */
#include "tests/unit/flip.h"
#include "drivers/rndis.h"
#include "tests/unit/malice_machine.h"

#define FLIP_SEEDS 10u

TEST(flip_shows_something_else_at_the_second_look)
{
    static const uint32_t told[] = {0x11223344, 0x55667788};
    struct shmem s;
    struct rndis_header first, second;

    fake_arch_boot(16 << 20);
    CHECK_EQ(shmem_alloc(&s, 1, SHMEM_LINEAR, 0), 0);
    memcpy(s.virt, told, sizeof(told));
    flip_wild = 1;
    first = rndis_header_read(s.virt, PAGE_BYTES);
    CHECK(first.type == told[0] && first.length == told[1] && flip_changes == 0);
    second = rndis_header_read(s.virt, PAGE_BYTES);
    CHECK(flip_changes == sizeof(told) && memcmp(&first, &second, sizeof(first)));
    memcpy(s.virt, told, sizeof(told));                /* said anew, it is as good as the first time */
    second = rndis_header_read(s.virt, PAGE_BYTES);
    CHECK(flip_changes == sizeof(told) && !memcmp(&first, &second, sizeof(first)));
    shmem_free(&s);
}

/* Is it a page of a ring whose device belongs to the liar? */
static bool liar_s(uint64_t page)
{
    uint32_t disk = host_scsi_relid(honest.scsi), net = host_nic_relid(honest.nic);

    for (uint32_t relid = 1, seen = 0; relid <= VMBUS_RELID_MAX && seen < bus.channel_count; relid++) {
        const struct vmbus_channel *ch = bus.channels[relid];
        if (!ch)
            continue;
        seen++;
        for (size_t i = 0; relid != disk && relid != net && ch->memory.frames && i < ch->memory.pages; i++)
            if (ch->memory.frames[i] == page)
                return true;
    }
    return false;
}

static void flipping(void *rate)
{
    struct books before;

    flip_off = true;
    begin_lives(&before);
    hv_host.violations_expected = true;
    flip_may = liar_s;
    flip_wild = (uint32_t)(uintptr_t)rate;
    for (uint64_t seed = 1; seed <= FLIP_SEEDS && !test_failures_here; seed++) {
        struct life l = {.before = before};
        flip_seed = seed * 0x9E3779B97F4A7C15ull;
        flip_off = false;
        life(&l);
        flip_off = true;
        if (test_failures_here)
            fprintf(stderr, "  seed %llu of rate %u\n", (unsigned long long)seed, flip_wild);
    }
    CHECK(flip_changes >= FLIP_SEEDS / 2);
}

TEST(flip_control_words_often) { CHECK_EQ(in_child(flipping, (void *)5), FAKE_RETURNED); }
TEST(flip_control_words_now_and_then) { CHECK_EQ(in_child(flipping, (void *)100), FAKE_RETURNED); }
TEST(flip_control_words_seldom) { CHECK_EQ(in_child(flipping, (void *)300), FAKE_RETURNED); }

TEST_MAIN()
