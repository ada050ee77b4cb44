/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A device for fuzzing the bus itself. The host's end completes every packet that wants it with the packet's own bytes;
 * the guest's end opens the channel in probe, looks at every byte of what comes, and closes in remove.
 */
#pragma once
#include "tests/fuzz/machine.h"

#define DEVICE_CLASS      GUID_INIT(0x7a7a7566, 0x7265, 0x7473, 0x8000, 0x000000000001)
#define DEVICE_RING_BYTES 8192u                /* small, so that wrapping and filling up are near */

/* ---- host ---- */
static bool device_host_open(struct host_chan *ch UNUSED) { return true; }
static void device_host_close(struct host_chan *ch UNUSED) {}
static void device_host_output(struct host_chan *ch UNUSED) {}
static void device_host_freed(struct host_chan *ch UNUSED) {}
static uint32_t device_host_in_flight(struct host_chan *ch UNUSED) { return 0; }

static enum host_take device_host_packet(struct host_chan *ch, const struct host_packet *p)
{
    struct host_piece payload = {p->data, p->bytes};
    if (p->flags & VMBUS_PACKET_FLAG_COMPLETION)
        vchan_send(ch, VMBUS_PACKET_COMPLETION, 0, p->id, NULL, &payload);
    return HOST_TAKEN;
}

static const struct host_dev_ops device_host_ops = {
    .name = "fuzzed", .open = device_host_open, .close = device_host_close, .packet = device_host_packet,
    .output = device_host_output, .in_flight = device_host_in_flight, .freed = device_host_freed,
};

static inline struct host_chan *device_add(void)
{
    static const struct guid class = DEVICE_CLASS;
    struct host_chan *ch = vchan_create(machine_host, &device_host_ops, NULL, &class, NULL, 0, false);
    if (ch)
        vchan_offer(ch);
    hv_host_run();
    return ch;
}

/* ---- guest ---- */
struct device {
    struct vmbus_channel *ch;
    struct wait_queue wait;
    uint64_t completions, last_id, packets;
    uint32_t last_bytes;
    uint8_t sum;
};
static struct device *device_newest;           /* that was probed and lives */
static unsigned device_count;

static uint8_t device_look(const void *p, uint32_t bytes)
{
    uint8_t sum = 0;
    for (uint32_t i = 0; i < bytes; i++)
        sum = (uint8_t)(sum * 3 + ((const uint8_t *)p)[i]);
    return sum;
}

static void device_readable(void *arg)
{
    struct device *d = arg;
    const struct vmbus_packet *p;

    while ((p = vmbus_recv(d->ch))) {
        d->packets++;
        d->sum = (uint8_t)(device_look(p->header, p->header_bytes) + device_look(p->payload, p->payload_bytes));
        if (p->type != VMBUS_PACKET_COMPLETION)
            continue;
        d->completions++;
        d->last_id = p->transaction_id;
        d->last_bytes = p->payload_bytes;
    }
    wait_queue_wake_all(&d->wait);
}

static void device_writable(void *arg) { wait_queue_wake_all(&((struct device *)arg)->wait); }

static int device_probe(struct vmbus_channel *ch)
{
    struct device *d = kzalloc(sizeof(*d));
    if (!d)
        return -E_NOMEM;
    d->ch = ch;
    wait_queue_init(&d->wait);
    int e = vmbus_open(ch, DEVICE_RING_BYTES, DEVICE_RING_BYTES, "fuzz", 4, device_readable, device_writable, d);
    if (e) {
        kfree(d);
        return e;
    }
    vmbus_set_driver_data(ch, d);
    device_newest = d;
    device_count++;
    return 0;
}

static void device_remove(struct vmbus_channel *ch)
{
    struct device *d = vmbus_driver_data(ch);
    vmbus_close(ch);
    if (device_newest == d)
        device_newest = NULL;
    device_count--;
    kfree(d);
}

static struct vmbus_driver device_driver = {
    .name = "fuzzed", .class_id = DEVICE_CLASS, .probe = device_probe, .remove = device_remove,
};

/* Sends so many bytes and gets them back? */
static inline bool device_round(struct device *d, uint32_t bytes)
{
    static uint8_t data[DEVICE_RING_BYTES];
    struct vmbus_piece piece = {data, bytes};
    uint64_t before = d->completions, id = 77 + before;

    if (vmbus_send(d->ch, &piece, 1, id, true))
        return false;
    vmbus_kick(d->ch);
    WAIT_UNTIL(&d->wait, d->completions > before, 1000000, "the fuzzed device");
    return d->completions > before && d->last_id == id && d->last_bytes == ALIGN_UP(bytes, 8u);
}

/* A new one, of a host that tells the truth, works and goes. */
static inline void device_serve(void)
{
    device_newest = NULL;
    struct host_chan *ch = device_add();

    FUZZ_CHECK(ch && RUN_UNTIL(device_newest, 20));
    FUZZ_CHECK(device_round(device_newest, 40) && device_round(device_newest, 2000));
    vchan_rescind(ch);
    hv_host_run();
}
