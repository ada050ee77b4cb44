/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * NVSP: the host changes, drops, repeats and invents packets of a NIC's channel: versions, buffers and their sections,
 * completions of sent frames, transfer pages, and messages nobody asked for. What lies in the receive buffer is
 * fuzz_rndis.c's.
 *
 * Must hold: bringing the NIC up ends within its limits; every frame sent is done once; nothing outside of the receive
 * buffer is looked at and no section is used that the host did not give; the NIC can be taken away at any time and
 * leaves nothing behind; the next one works.
 */
#include <string.h>
#include "tests/fuzz/nic.h"


static void traffic(uint8_t how)
{
    hold_frames = how & 1;
    for (unsigned i = 0; i < 3; i++)
        nic_receive_frame(60 + 300 * i);
    for (unsigned i = 0; i < 4; i++)
        nic_send_frame(i, i == 3 ? 9000 : 100 + 600 * i, how & 2 ? NIC_TX_CSUM_TCP : 0);
    machine_run_us(300);
    give_back();
}

static void use(uint8_t how)
{
    for (unsigned n = 0; n < 16 && (n == 0 || lies_left()); n++) {
        struct host_chan *ch = vchan_find(machine_host, host_nic_relid(host_nic));
        if (nic && n % 2 == 0)
            traffic(how);
        else if (ch && ch->open)
            lies_say_packet(ch);
        machine_run_us(500);
    }
}

static void run(struct input *in)
{
    static const uint32_t newest[] = {NVSP_VERSION_6_1, NVSP_VERSION_5, NVSP_VERSION_2, NVSP_VERSION_1};
    uint8_t first = in_u8(in);

    if (first & 128) {                         /* the NIC is up, and is not taken away */
        lies_begin(LIES_PACKETS, in);
        use(first);
        return;
    }
    nic_leave();
    nic_config.max_nvsp = newest[first % 4];
    nic_config.monitor = first & 4;
    lies_begin(LIES_PACKETS, in);
    nic_add();
    machine_run_us(3000);
    RUN_UNTIL(nic || !lies_left(), 40);
    use(first >> 3);
    if (first & 32) {                          /* the goodbye, too */
        vmbus_disconnect(false);
        lies_end();
        FUZZ_CHECK(RUN_UNTIL(!nic && nothing_sent(), 400));
        return;
    }
    if (!fuzz_thorough)                        /* it stays */
        return;
    nic_remove();
    lies_end();
    FUZZ_CHECK(RUN_UNTIL(!nic && nothing_sent(), 400));
    FUZZ_CHECK(machine_same_within(&nic_before, 400));
    if (first & 64) {
        nic_config.max_nvsp = NVSP_VERSION_6_1;
        nic_serve();
    }
}

const struct fuzz_target fuzz_target = {.setup = nic_setup, .run = run, .limit_s = 2000};
