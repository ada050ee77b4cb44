/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Rings: the host writes any words into both control pages and any bytes into both rings, at any time, while the guest
 * sends, receives and waits for room.
 *
 * Must hold: what the driver is given lies in its private copy, whole (every byte of it is looked at); a ring that makes
 * no sense costs the device, in an orderly way, and nothing else; and the next device is served.
 */
#include <string.h>
#include "tests/fuzz/device.h"

static struct machine_book connected;
static struct host_chan *resting;              /* a device that is open when an execution begins */

static void setup(void)
{
    machine_boot(16 << 20, "");
    machine_start();
    vmbus_register_driver(&device_driver);
    machine_connect();
    device_serve();
    RUN_UNTIL(bus.channel_count == 0, 10);
    connected = machine_book();
    resting = device_add();
    FUZZ_CHECK(RUN_UNTIL(device_newest, 10) && device_round(device_newest, 40));
    machine_run_us(1000);
}

/* The host's view of the guest's ring; all its words, the guest's too, are the host's to spoil. */
static uint32_t *word(const struct ring *r, unsigned which)
{
    static const uint16_t offsets[] = {
        offsetof(struct vmbus_ring_control, write_index), offsetof(struct vmbus_ring_control, read_index),
        offsetof(struct vmbus_ring_control, interrupt_mask), offsetof(struct vmbus_ring_control, pending_send_bytes),
        offsetof(struct vmbus_ring_control, feature_bits),
    };
    return (uint32_t *)(void *)(r->control + offsets[which % ARRAY_SIZE(offsets)]);
}

/* A packet where the guest will read next, or anywhere, and the index behind it. */
static void put_packet(struct ring *r, struct input *in, uint8_t what)
{
    struct vmbus_packet_header d = {.type = in_u16(in)};
    uint8_t head = in_u8(in), extra = in_u8(in);
    const uint8_t *bytes;
    uint32_t n = in_u16(in) % 2048, at = *word(r, 0) % r->size & ~7u;

    n = (uint32_t)in_take(in, &bytes, n);
    d.data_offset8 = (uint16_t)(2 + head % 4);
    d.length8 = (uint16_t)(DIV_UP(n, 8u) + d.data_offset8);
    d.flags = extra & 1;
    d.transaction_id = extra >> 1;
    if (what & 8)
        d.length8 = in_u16(in);
    if (what & 16)
        d.data_offset8 = in_u16(in);
    memcpy(r->data + at, &d, sizeof(d));       /* mapped twice: no wrap */
    memcpy(r->data + at + sizeof(d), bytes, MIN(n, r->size - (uint32_t)sizeof(d)));
    uint32_t space = what & 32 ? in_u16(in) * 8u : d.length8 * 8u + VMBUS_PACKET_TRAILER_BYTES;
    *word(r, 0) = (at + space) % r->size;
}

static void interrupt(struct vmbus_channel *ch)
{
    vsynic_signal_event(machine_host, 0, HV_SYNIC_SINT_VMBUS, channel_relid(ch));
    hv_host_run();
}

static void send(struct device *d, struct input *in)
{
    static uint8_t data[2048];
    static const uint64_t frames[2] = {100, 101};
    uint8_t how = in_u8(in);
    uint32_t bytes = in_u16(in) % sizeof(data);
    struct vmbus_piece pieces[2] = {{data, bytes / 2}, {data + bytes / 2, bytes - bytes / 2}};
    struct vmbus_gpa_range range = {4096, 100, frames, 2};

    if (how % 4 == 0)
        vmbus_send_gpa(d->ch, &range, 1, data, bytes % 512, 5);
    else if (how % 4 == 1)
        vmbus_send_completion(d->ch, data, bytes, 6);
    else
        vmbus_send(d->ch, pieces, 2, 7, how & 4);
    if (how & 8)
        vmbus_kick(d->ch);
    FUZZ_CHECK(vmbus_send_space(d->ch) < DEVICE_RING_BYTES);
}

static void run(struct input *in)
{
    struct host_chan *chan = resting;
    struct device *d = device_newest;
    bool stays = in_u8(in) & 128;

    for (unsigned n = 0; in->left && n < 200 && device_newest == d; n++) {
        uint8_t what = in_u8(in);
        struct ring *r = what & 128 ? &d->ch->out : &d->ch->in;
        switch (what % 8) {
        case 0:
            *word(r, in_u8(in)) = in_u32(in);
            break;
        case 1:
            *word(r, in_u8(in)) += in_u8(in) * 8u;
            break;
        case 2: case 3:
            put_packet(r, in, what);
            if (what & 64)
                interrupt(d->ch);
            break;
        case 4:
            interrupt(d->ch);
            break;
        case 5:
            send(d, in);
            break;
        case 6: {                              /* any bytes anywhere */
            const uint8_t *bytes;
            uint32_t at = in_u16(in) % r->size, count = (uint32_t)in_take(in, &bytes, in_u8(in));
            memcpy(r->data + at, bytes, MIN(count, r->size - at));
            break;
        }
        default:
            machine_run_us(what);
        }
    }
    machine_run_us(1000);
    if (stays || !fuzz_thorough)
        return;
    if (!chan->rescinded)
        vchan_rescind(chan);
    hv_host_run();
    FUZZ_CHECK(machine_same_within(&connected, 100));
    device_serve();
}

const struct fuzz_target fuzz_target = {.setup = setup, .run = run, .limit_s = 500};
