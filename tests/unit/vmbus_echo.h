/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A device made for tests of the bus, both sides of it: the host's end answers every in-band packet that asks for a
 * completion with its own payload, takes GPA-direct packets by inverting the guest's bytes, and sends what it is told
 * to. The guest's end is a driver whose probe opens the channel and whose remove closes it.
 */
#pragma once
#include "tests/fake_arch/hv_host.h"
#include "tests/host/host_internal.h"
#include "vmbus/vmbus_internal.h"

#ifndef ECHO_CLASS
#define ECHO_CLASS GUID_INIT(0x6f686365, 0x7465, 0x7473, 0x8000, 0x000000000001)
#endif

/* What a packet of the guest may ask for; anything else is echoed. */
#define ECHO_FLOOD 0x464c4f4fu             /* the host sends count packets of so many bytes */
struct echo_flood { uint32_t magic, count, bytes; };

/* ---- host ---- */
static uint32_t echo_flood_left, echo_flood_bytes, echo_flood_sent;
static const struct host_chan *echo_flood_channel;
static uint64_t echo_packets, echo_pages_inverted;
static bool echo_stall;

static bool echo_open(struct host_chan *ch UNUSED) { return true; }
static void echo_close(struct host_chan *ch UNUSED) { echo_flood_left = 0; }
static uint32_t echo_in_flight(struct host_chan *ch UNUSED) { return 0; }
static void echo_freed(struct host_chan *ch UNUSED) {}

static enum host_take echo_packet(struct host_chan *ch, const struct host_packet *p)
{
    static uint8_t copy[65536];
    struct echo_flood flood;

    if (echo_stall)
        return HOST_STALLED;
    echo_packets++;
    memcpy(copy, p->data, p->bytes);
    if (p->bytes >= sizeof(flood)) {
        memcpy(&flood, p->data, sizeof(flood));
        if (flood.magic == ECHO_FLOOD) {
            echo_flood_left = flood.count;
            echo_flood_bytes = flood.bytes;
            echo_flood_sent = 0;
            echo_flood_channel = ch;
        }
    }
    if (p->type == VMBUS_PACKET_GPA_DIRECT) {
        static struct host_seg segs[4096];
        uint32_t n;
        if (!vchan_map_ranges(ch, p, USE_PACKET_WRITE, segs, 4096, &n))
            return HOST_FATAL;
        for (uint32_t i = 0; i < n; i++) {
            for (uint32_t b = 0; b < segs[i].bytes; b++)
                segs[i].data[b] = (uint8_t)~segs[i].data[b];
            echo_pages_inverted++;
        }
        vchan_unmap_ranges(ch->h, USE_PACKET_WRITE, p->ranges, p->range_count);
    }
    if (p->flags & VMBUS_PACKET_FLAG_COMPLETION)
        vchan_complete(ch, HOST_FAULT_STORVSP_REPLY, p->id, copy, p->bytes, 0, 0xFFFFFFFF);
    return HOST_TAKEN;
}

static void echo_output(struct host_chan *ch)
{
    static uint8_t data[65536];
    struct host_piece payload = {data, echo_flood_bytes};

    while (echo_flood_left && ch == echo_flood_channel && ch->owed == NULL) {
        memset(data, (int)(echo_flood_sent & 0xFF), sizeof(data));
        memcpy(data, &echo_flood_sent, 4);
        vchan_send(ch, VMBUS_PACKET_INBAND, 0, 0, NULL, &payload);
        echo_flood_sent++;
        echo_flood_left--;
    }
}

static const struct host_dev_ops echo_ops = {
    .name = "echo", .open = echo_open, .close = echo_close, .packet = echo_packet, .output = echo_output,
    .in_flight = echo_in_flight, .freed = echo_freed,
};

static inline struct host_chan *echo_add(struct host *h, bool monitor)
{
    static const struct guid class = ECHO_CLASS;
    return vchan_create(h, &echo_ops, NULL, &class, NULL, 0, monitor);
}

/* ---- guest ---- */
struct echo {
    struct vmbus_channel *ch;
    struct wait_queue waiters;
    uint64_t completions, last_id, in_band;
    uint32_t last_bytes, flood_next;
    uint8_t last[65536];
    bool flood_wrong, writable;
    uint64_t per_event_max, in_this_event;
};
static struct echo *echo_device;           /* the one that was probed last and lives */
static uint32_t echo_send_ring = 16384, echo_recv_ring = 16384;
static int echo_probe_fails, echo_open_rc;
static unsigned echo_probes, echo_removes;

static void echo_readable(void *arg)
{
    struct echo *e = arg;
    const struct vmbus_packet *p;

    e->in_this_event = 0;
    while ((p = vmbus_recv(e->ch))) {
        e->in_this_event++;
        if (p->type == VMBUS_PACKET_COMPLETION) {
            e->completions++;
            e->last_id = p->transaction_id;
            e->last_bytes = p->payload_bytes;
            memcpy(e->last, p->payload, p->payload_bytes);
        } else {
            uint32_t n;
            memcpy(&n, p->payload, 4);
            e->flood_wrong |= n != e->flood_next;
            e->flood_wrong |= p->payload_bytes > 4 && ((const uint8_t *)p->payload)[4] != (n & 0xFF);
            e->flood_next++;
            e->in_band++;
        }
    }
    e->per_event_max = MAX(e->per_event_max, e->in_this_event);
    wait_queue_wake_all(&e->waiters);
}

static void echo_writable(void *arg)
{
    struct echo *e = arg;
    e->writable = true;
    wait_queue_wake_all(&e->waiters);
}

static int echo_probe(struct vmbus_channel *ch)
{
    struct echo *e = kzalloc(sizeof(*e));
    static const char user_data[] = "echo";

    echo_probes++;
    if (!e)
        return -E_NOMEM;
    e->ch = ch;
    wait_queue_init(&e->waiters);
    vmbus_set_driver_data(ch, e);
    echo_open_rc = vmbus_open(ch, echo_send_ring, echo_recv_ring, user_data, sizeof(user_data), echo_readable,
                              echo_writable, e);
    if (echo_open_rc == 0 && echo_probe_fails) {
        vmbus_close(ch);
        echo_open_rc = echo_probe_fails;
    }
    if (echo_open_rc) {
        kfree(e);
        return echo_open_rc;
    }
    echo_device = e;
    return 0;
}

static void echo_remove(struct vmbus_channel *ch)
{
    struct echo *e = vmbus_driver_data(ch);

    echo_removes++;
    if (echo_device == e)
        echo_device = NULL;
    vmbus_close(ch);
    kfree(e);
}

static struct vmbus_driver echo_driver = {
    .name = "echo", .class_id = ECHO_CLASS, .probe = echo_probe, .remove = echo_remove,
};

/* Sends bytes of pattern and waits for them to come back. 0 or -E_*. */
static inline int echo_round(struct echo *e, uint32_t bytes, uint64_t id)
{
    static uint8_t data[65536];
    uint64_t before = e->completions;

    for (uint32_t i = 0; i < bytes; i++)
        data[i] = (uint8_t)(i * 7 + id);
    struct vmbus_piece pieces[2] = {{data, bytes / 3}, {data + bytes / 3, bytes - bytes / 3}};
    int rc = vmbus_send(e->ch, pieces, 2, id, true);
    if (rc)
        return rc;
    vmbus_kick(e->ch);
    if (!WAIT_UNTIL(&e->waiters, e->completions > before || vmbus_channel_rescinded(e->ch), 1000000, "echo"))
        return -E_TIMEOUT;
    if (vmbus_channel_rescinded(e->ch))
        return -E_REMOVED;
    return e->last_id == id && e->last_bytes == ALIGN_UP(bytes, 8u) && memcmp(e->last, data, bytes) == 0 ? 0 : -E_IO;
}

/* The guest as far as the bus: everything up in one go. */
static inline struct host *echo_machine(const struct host_config *cfg)
{
    struct host *h = hv_host_start(cfg);

    KASSERT(hv_init());
    hv_clock_init();
    return h;
}

#define RAM_BYTES (128ull << 20)

static struct host_config cfg;

static inline void boot(void)
{
    fake_arch_boot(RAM_BYTES);
    host_config_default(&cfg);
    vmbus_register_driver(&echo_driver);
}

static inline struct host *start(void)
{
    struct host *h = echo_machine(&cfg);
    KASSERT(hv_synic_init() == 0);
    return h;
}

static inline void stop(void)
{
    hv_shutdown();
    rt_set_clock(&fake_clock);
    hv_host_stop();
}
