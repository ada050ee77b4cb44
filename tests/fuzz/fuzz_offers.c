/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Offers and rescinds: absurd ones, duplicates, sub-channels of nobody, thousands of them, and rescinds of what was never
 * offered, at every moment. Device classes, instances and relids are few here, so that they meet.
 *
 * Must hold: one probe and one removal for each device that is taken for one; no offer is taken twice under one relid or
 * instance; when the host has withdrawn them all, everything they cost is back, and a good device is served.
 */
#include <string.h>
#include "tests/fuzz/device.h"

#define MESSAGES_MAX 100                       /* of an execution, unless it begins with a flood: time is short */
#define FLOOD        2500

static struct machine_book connected;
static unsigned probes, removes;
static int messages;                           /* of those that an execution may send */
static uint8_t probe_answers;                  /* a bit for each probe to come: it fails */

static int stub_probe(struct vmbus_channel *ch UNUSED)
{
    bool fails = probe_answers & 1;
    probe_answers >>= 1;
    task_sleep_us(fails ? 10 : 300);
    probes += !fails;
    return fails ? -E_PROTO : 0;
}

static void stub_remove(struct vmbus_channel *ch)
{
    removes++;
    task_sleep_us(100);
    vmbus_close(ch);
}

#define STUB(class) {.name = "stub", .class_id = class, .probe = stub_probe, .remove = stub_remove}
static struct vmbus_driver stubs[] = {STUB(VMBUS_GUID_NETVSC), STUB(VMBUS_GUID_SCSI), STUB(VMBUS_GUID_KVP)};
static const struct guid classes[] = {
    VMBUS_GUID_NETVSC, VMBUS_GUID_SCSI, VMBUS_GUID_KVP, VMBUS_GUID_VPCI, {{0}}, GUID_INIT(1, 2, 3, 4, 5),
};

static void setup(void)
{
    machine_boot(32 << 20, "");
    machine_start();
    vmbus_register_driver(&device_driver);
    for (unsigned i = 0; i < ARRAY_SIZE(stubs); i++)
        vmbus_register_driver(&stubs[i]);
    machine_connect();
    device_serve();
    RUN_UNTIL(bus.channel_count == 0, 10);
    connected = machine_book();
}

/* Straight into the guest's queue; the model knows nothing of these devices. */
static void say(const void *m, uint32_t bytes)
{
    if (messages++ >= MESSAGES_MAX)
        return;
    vserver_send(machine_host, m, bytes, false);
    hv_host_run();
}

static void rescind(uint32_t relid)
{
    struct vmbus_msg_relid m = {.header.type = VMBUS_MSG_RESCIND_OFFER, .relid = relid};
    say(&m, sizeof(m));
}

static struct vmbus_msg_offer_channel offer(struct input *in)
{
    struct vmbus_msg_offer_channel m = {.header.type = VMBUS_MSG_OFFER_CHANNEL};
    uint8_t class = in_u8(in), instance = in_u8(in), sub = in_u8(in), relid = in_u8(in);

    m.interface_type = classes[class % ARRAY_SIZE(classes)];
    m.instance.bytes[0] = instance % 8;
    m.sub_channel_index = sub < 128 ? 0 : sub % 4;
    m.relid = relid < 200 ? relid % 16 + 1024 : in_u32(in);
    m.monitor_allocated = class >> 7;
    m.monitor_id = instance >> 3;
    m.connection_id = 0x2000 + m.relid;
    return m;
}

static void withdraw_all(void)
{
    machine_drain();
    messages = -FLOOD;
    for (uint32_t relid = 1; relid <= VMBUS_RELID_MAX; relid++)
        if (bus.channels[relid] && !bus.channels[relid]->rescinded)
            rescind(relid);
}

static void check_table(void)
{
    unsigned found = 0;
    for (uint32_t relid = 1; relid <= VMBUS_RELID_MAX; relid++) {
        const struct vmbus_channel *a = bus.channels[relid];
        found += a != NULL;
        FUZZ_CHECK(!a || channel_relid(a) == relid);
    }
    FUZZ_CHECK(found == bus.channel_count && probes - removes <= found);
}

static void run(struct input *in)
{
    probe_answers = in_u8(in);
    for (unsigned n = 0; in->left && n < 400; n++) {
        struct vmbus_msg_offer_channel m;
        uint8_t what = in_u8(in);
        bool flood = n == 0 && what == 253 && in_u8(in) == 253;
        switch (what % 8) {
        case 0: case 1: case 2:
            m = offer(in);
            say(&m, sizeof(m));
            break;
        case 3:
            rescind(what < 200 ? 1024u + in_u8(in) % 16 : in_u32(in));
            break;
        case 4:
            machine_run_us(what < 128 ? 50 : 2000);
            break;
        case 5:                                /* many at once */
            m = offer(in);
            if (flood)
                messages -= FLOOD;
            for (int i = 0; i < (flood ? FLOOD : what / 8); i++) {
                m.instance.bytes[1] = (uint8_t)i;
                m.instance.bytes[2] = (uint8_t)(i >> 8);
                m.relid++;
                say(&m, sizeof(m));
            }
            break;
        case 6:                                /* a good one, with any of its bytes changed */
            m = offer(in);
            for (unsigned i = 0; i < 4; i++) {
                uint16_t at = in_u16(in);
                ((uint8_t *)&m)[8 + at % (sizeof(m) - 8)] = in_u8(in);
            }
            say(&m, sizeof(m));
            break;
        default:
            if (what & 8) {                    /* any message at all */
                const uint8_t *bytes;
                uint32_t count = MIN((uint32_t)in_u16(in), VMBUS_MESSAGE_MAX);
                count = (uint32_t)in_take(in, &bytes, count);
                say(bytes, count);
                break;
            }
            m = offer(in);
            say(&m, in_u8(in) % (sizeof(m) + 1));
        }
        if (n % 16 == 0)
            check_table();
    }
    check_table();
    if (!fuzz_thorough)
        return;
    withdraw_all();
    FUZZ_CHECK(RUN_UNTIL(bus.channel_count == 0 && bus.device_tasks == 0, 100));
    FUZZ_CHECK(probes == removes);
    withdraw_all();
    FUZZ_CHECK(machine_same_within(&connected, 100));
    device_serve();
}

const struct fuzz_target fuzz_target = {.setup = setup, .run = run, .limit_s = 1000};
