/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Bus messages: the host changes, drops, repeats and invents channel messages, from the first contact through offers,
 * GPADLs and opening to the goodbye.
 *
 * Must hold: connecting ends, one way or the other, within the named limits; so do opening and closing; an unconnected
 * bus has given back everything; a connected one serves a new device of a host that tells the truth from then on, and
 * lets go of everything when it is disconnected; and then it can be connected again.
 */
#include "tests/fuzz/device.h"

static struct machine_book unconnected;

static void setup(void)
{
    machine_boot(16 << 20, "");
    machine_start();
    vmbus_register_driver(&device_driver);
    machine_connect();
    device_serve();
    vmbus_disconnect(false);
    unconnected = machine_book();
}

/* Whatever the guest took for an offer, the host withdraws it. */
static void withdraw_all(void)
{
    machine_drain();
    for (uint32_t relid = 1; relid <= VMBUS_RELID_MAX; relid++) {
        struct host_chan *ch = vchan_find(machine_host, relid);
        struct vmbus_msg_relid m = {.header.type = VMBUS_MSG_RESCIND_OFFER, .relid = relid};
        if (ch && !ch->rescinded)
            vchan_rescind(ch);
        if (bus.channels[relid] && !bus.channels[relid]->rescinded)
            vserver_send(machine_host, &m, sizeof(m), false);
    }
    hv_host_run();
}

static void run(struct input *in)
{
    static const uint32_t newest[] = {VMBUS_VERSION_WIN10_5_3, VMBUS_VERSION_WIN10_4_1, VMBUS_VERSION_WIN8};
    uint8_t first = in_u8(in);

    machine_host->cfg.vmbus_max = newest[first % 3];
    machine_host->cfg.multi_client = first % 3 == 0;
    machine_host->cfg.monitor_pages = first & 4;
    struct host_chan *ch = device_add();       /* offered as soon as the guest asks */
    lies_begin(LIES_MESSAGES, in);
    int rc = vmbus_connect();
    machine_run_us(1000);
    for (unsigned n = 0; rc == 0 && lies_left() && n < 24; n++) {
        lies_say_message(machine_host);
        machine_run_us(200);
        if (n == 8 && device_newest)
            device_round(device_newest, 64);
    }
    if (first & 128 || !fuzz_thorough)         /* looked at no further */
        return;
    if (rc == 0 && first & 8) {
        vchan_rescind(ch);
        hv_host_run();
        machine_run_us(1000);
    }
    if (rc == 0 && first & 16) {               /* the goodbye, too, of a host that lies */
        vmbus_disconnect(false);
        lies_end();
    } else if (rc == 0) {
        lies_end();
        withdraw_all();
        FUZZ_CHECK(RUN_UNTIL(bus.device_tasks == 0 && bus.channel_count == 0, 100));
        device_serve();
        vmbus_disconnect(false);
    }
    lies_end();
    FUZZ_CHECK(vmbus_version() == 0 && machine_same_within(&unconnected, 100));
    machine_host->cfg.vmbus_max = VMBUS_VERSION_WIN10_5_3;
    machine_host->cfg.multi_client = true;
    if (first & 32) {
        machine_connect();
        device_serve();
    }
}

const struct fuzz_target fuzz_target = {.setup = setup, .run = run, .limit_s = 2000};
