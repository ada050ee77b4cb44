/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A machine with a NIC for fuzzing netvsc: the model's NIC on a wire that only counts, and a stack that looks at every
 * byte it is given and may hold on to frames for a while.
 */
#pragma once
#include "drivers/netvsc.h"
#include "tests/fuzz/machine.h"

#define HELD_MOST 64u

static struct host_nic_config nic_config;
static struct host_nic *host_nic;
static struct nic *nic;                        /* the one that is there */
static void *held[HELD_MOST];
static unsigned held_count, sent_done, frames_seen, wire_frames;
static bool hold_frames;
static uint8_t bytes_sum;

static void give_back(void)
{
    while (held_count)
        nic->ops->rx_release(nic, held[--held_count]);
}

static void nic_added(struct nic *n) { nic = n; }
static void nic_gone(struct nic *n)
{
    if (n != nic)
        return;
    give_back();
    nic = NULL;
}
static void nic_link(struct nic *n UNUSED, bool up UNUSED) {}
static void nic_ready(struct nic *n UNUSED) {}
static void nic_frames(struct nic *n, struct nic_rx *frames, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        frames_seen++;
        FUZZ_CHECK(frames[i].bytes >= 14 && frames[i].bytes <= 65536);
        for (uint32_t b = 0; b < frames[i].bytes; b++)
            bytes_sum = (uint8_t)(bytes_sum * 3 + ((uint8_t *)frames[i].frame)[b]);
        if (hold_frames && frames[i].token && held_count < HELD_MOST)
            held[held_count++] = frames[i].token;
        else
            n->ops->rx_release(n, frames[i].token);
    }
}
static struct nic_user nic_stack = {nic_added, nic_gone, nic_link, nic_frames, nic_ready};

static bool wire_tx(void *backend UNUSED, const struct host_frame *f UNUSED)
{
    wire_frames++;
    return true;
}
static const struct host_net_ops wire_ops = {.tx = wire_tx};

static inline void nic_add(void)
{
    host_nic = host_add_nic(machine_host, &nic_config, &wire_ops, NULL);
    FUZZ_CHECK(host_nic);
    hv_host_run();
}

static inline void nic_remove(void)
{
    host_remove_nic(machine_host, host_nic);
    hv_host_run();
}

/* ---- frames ---- */

static uint8_t wire_bytes[9216];

static inline void nic_receive_frame(uint32_t bytes)
{
    struct host_seg seg = {wire_bytes, MIN(bytes, (uint32_t)sizeof(wire_bytes))};
    struct host_frame f = {.segs = &seg, .seg_count = 1, .bytes = seg.bytes};

    if (host_nic_relid(host_nic))
        host_net_rx(host_nic, &f, true);
    hv_host_run();
}

struct sent { struct nic_tx tx; bool busy; };
static struct sent sent[16];
static uint8_t *sent_memory;                   /* 16 KiB of the guest's */

static void sent_end(struct nic_tx *tx)
{
    struct sent *s = container_of(tx, struct sent, tx);
    FUZZ_CHECK(s->busy);
    s->busy = false;
    sent_done++;
}

static inline void nic_send_frame(unsigned i, uint32_t bytes, uint32_t flags)
{
    struct sent *s = &sent[i % ARRAY_SIZE(sent)];

    if (!nic || s->busy)
        return;
    s->tx = (struct nic_tx){.pieces = {{sent_memory, bytes}}, .piece_count = 1, .total_bytes = bytes, .flags = flags,
                            .transport_offset = 34, .mss = 1400, .done = sent_end};
    s->busy = true;
    if (nic->ops->send(nic, &s->tx))
        s->busy = false;
    else
        nic->ops->kick(nic);
}

static inline bool nothing_sent(void)
{
    for (unsigned i = 0; i < ARRAY_SIZE(sent); i++)
        if (sent[i].busy)
            return false;
    return true;
}

/* A good NIC comes, moves a frame each way, and goes. */
static inline void nic_serve(void)
{
    unsigned before, channels = bus.channel_count;

    nic_add();
    FUZZ_CHECK(RUN_UNTIL(nic && host_nic_filter(host_nic), 10));
    before = frames_seen;
    nic_receive_frame(600);
    FUZZ_CHECK(RUN_UNTIL(frames_seen == before + 1, 1));
    before = wire_frames;
    nic_send_frame(0, 200, 0);
    nic_send_frame(1, 1400, 0);
    FUZZ_CHECK(RUN_UNTIL(wire_frames == before + 2 && nothing_sent(), 1));
    nic_remove();
    FUZZ_CHECK(RUN_UNTIL(!nic && bus.channel_count == channels, 10));
}

/* The one that is there stays, but is no longer looked at. */
static inline void nic_leave(void) { nic = NULL; }

static struct machine_book nic_before, nic_none;    /* with the one that rests, and without any */

/* Leaves one that works: an execution uses it, or leaves it and adds another. */
static inline void nic_setup(void)
{
    /* Small buffers: what is shared with the host is not cleared and copied for each execution. */
    machine_boot(24 << 20, "net.recv_buffer=128K net.send_buffer=64K net.copy_bytes=400");
    machine_start();
    nic_set_user(&nic_stack);
    netvsc_register();
    host_nic_config_default(&nic_config);
    memcpy(nic_config.mac, (uint8_t[]){0, 0x15, 0x5d, 1, 2, 3}, 6);
    for (unsigned i = 0; i < sizeof(wire_bytes); i++)
        wire_bytes[i] = i < 6 ? 0xFF : (uint8_t)(i * 7);       /* to everyone */
    sent_memory = kmalloc(16384);
    FUZZ_CHECK(sent_memory);
    memset(sent_memory, 0x41, 16384);
    machine_connect();
    nic_serve();
    nic_none = machine_book();
    nic_add();
    FUZZ_CHECK(RUN_UNTIL(nic && host_nic_filter(host_nic), 10));
    struct nic *resting = nic;
    struct host_nic *resting_host = host_nic;
    nic_leave();
    nic_serve();
    nic = resting;
    host_nic = resting_host;
    machine_run_us(1000000);
    machine_fill_stack_cache();
    nic_before = machine_book();
}
