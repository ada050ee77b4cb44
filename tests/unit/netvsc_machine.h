/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A machine with one NIC for the tests of netvsc: the host model's NIC on a wire that is remembered, the driver, and a stack
 * that remembers what it got. Each test program uses what it needs of it.
 */
#pragma once
#include "drivers/drivers.h"
#include "drivers/netvsc.h"
#include "hv/hv.h"
#include "tests/fake_arch/hv_host.h"
#include "tests/unit/child.h"

#pragma GCC diagnostic ignored "-Wunused-function"   /* not every program uses all of it */

#ifndef RAM_BYTES
#define RAM_BYTES (64ull << 20)
#endif

static struct host *host;
static struct host_config host_cfg;
static struct host_nic_config nic_config;
static struct host_nic *host_nic;

/* ---- the wire: what the guest sent ---- */

struct wire_frame { uint8_t data[70000]; uint32_t bytes; };
static struct wire_frame wire[1024];
static unsigned wire_count;
static bool wire_blocked;

static bool wire_tx(void *backend, const struct host_frame *frame)
{
    (void)backend;
    if (wire_blocked)
        return false;
    struct wire_frame *w = &wire[wire_count++ % ARRAY_SIZE(wire)];
    w->bytes = 0;
    for (uint32_t i = 0; i < frame->seg_count; i++) {
        memcpy(w->data + w->bytes, frame->segs[i].data, frame->segs[i].bytes);
        w->bytes += frame->segs[i].bytes;
    }
    return true;
}

static const struct host_net_ops wire_ops = {.tx = wire_tx};

/* ---- the stack: what the guest received ---- */

struct got_frame { uint8_t data[2048]; uint32_t bytes, flags; void *token; };
static struct got_frame got[4096];
static unsigned got_count, batches, largest_batch, added, removed, link_events, ready_calls;
static bool keep_tokens, link_is_up;
static struct nic *nic;

static void on_added(struct nic *n)
{
    added++;
    nic = n;
    link_is_up = n->link_up;
}

static void release_all(void)
{
    for (unsigned i = 0; i < MIN(got_count, (unsigned)ARRAY_SIZE(got)); i++) {
        if (got[i].token)
            nic->ops->rx_release(nic, got[i].token);
        got[i].token = NULL;
    }
}

static void on_removed(struct nic *n)
{
    removed++;
    if (n != nic)
        return;
    release_all();
    nic = NULL;
}

static void on_link(struct nic *n, bool up)
{
    (void)n;
    link_events++;
    link_is_up = up;
}

static void on_receive(struct nic *n, struct nic_rx *frames, unsigned count)
{
    batches++;
    largest_batch = MAX(largest_batch, count);
    for (unsigned i = 0; i < count; i++) {
        struct got_frame *g = &got[got_count++ % ARRAY_SIZE(got)];
        g->bytes = frames[i].bytes;
        g->flags = frames[i].flags;
        memcpy(g->data, frames[i].frame, MIN(frames[i].bytes, (uint32_t)sizeof(g->data)));
        g->token = keep_tokens ? frames[i].token : NULL;
        if (!keep_tokens)
            n->ops->rx_release(n, frames[i].token);
    }
}

static void on_ready(struct nic *n)
{
    (void)n;
    ready_calls++;
}

static struct nic_user stack = {on_added, on_removed, on_link, on_receive, on_ready};

/* ---- up and down ---- */

static void defaults(void)
{
    fake_arch_boot(RAM_BYTES);
    host_config_default(&host_cfg);
    host_nic_config_default(&nic_config);
    memcpy(nic_config.mac, (uint8_t[]){0, 0x15, 0x5d, 1, 2, 3}, 6);
}

static void host_up(void)
{
    host = hv_host_start(&host_cfg);
    host_nic = host_add_nic(host, &nic_config, &wire_ops, NULL);
}

static int guest_up(void)
{
    if (!hv_init())
        return -E_NOTSUP;
    hv_clock_init();
    if (hv_synic_init())
        return -E_NOTSUP;
    nic_set_user(&stack);
    netvsc_register();
    return vmbus_connect();
}

static void start(void)
{
    defaults();
    host_up();
    int e = guest_up();
    if (e || !nic)
        test_fail(__FILE__, __LINE__, "guest not up: %s", error_name(e));
    else
        ((struct netvsc *)nic->driver)->copy_bytes = 512;      /* so that plain frames go both ways */
}

#define RUN_UNTIL(cond, limit_s)                                                        \
    ({                                                                                  \
        uint64_t end_ = rt_now_100ns() + S_100NS(limit_s);                              \
        while (!(cond) && rt_now_100ns() < end_)                                        \
            task_sleep_us((limit_s) * 200);                                             \
        (cond);                                                                         \
    })

/* ---- sending ---- */

struct out { struct nic_tx tx; uint8_t *data; bool done; };

static void out_done(struct nic_tx *tx)
{
    struct out *o = tx->arg;

    if (o->done)
        test_fail(__FILE__, __LINE__, "done twice");
    o->done = true;
}

static void fill(uint8_t *p, uint32_t bytes, unsigned seed)
{
    for (uint32_t i = 0; i < bytes; i++)
        p[i] = (uint8_t)(i * 13 + seed * 7 + i / 255);
    memset(p, 0xFF, 6);
    p[12] = 0x88;                        /* an EtherType of no importance */
    p[13] = 0xB5;
}

/* A frame in so many pieces of about equal length, none aligned. */
static struct out *make_out(uint32_t bytes, unsigned pieces, unsigned seed)
{
    struct out *o = kzalloc(sizeof(*o));
    uint32_t at = 0;

    o->data = kmalloc(bytes + 3);
    fill(o->data + 3, bytes, seed);
    for (unsigned i = 0; i < pieces; i++) {
        uint32_t n = i + 1 == pieces ? bytes - at : bytes / pieces;
        o->tx.pieces[i] = (struct nic_piece){o->data + 3 + at, n};
        at += n;
    }
    o->tx.piece_count = (uint16_t)pieces;
    o->tx.total_bytes = bytes;
    o->tx.done = out_done;
    o->tx.arg = o;
    return o;
}

static void free_out(struct out *o)
{
    kfree(o->data);
    kfree(o);
}

static bool on_wire(unsigned i, const struct out *o)
{
    return wire[i].bytes == o->tx.total_bytes && !memcmp(wire[i].data, o->data + 3, o->tx.total_bytes);
}

static void frames_of_all_sizes(void)
{
    static const uint32_t sizes[] = {14, 42, 60, 61, 64, 127, 128, 300, 511, 512, 513, 700, 1000, 1024, 1513, 1514};

    for (unsigned pieces = 1; pieces <= NIC_MAX_PIECES; pieces += pieces == 1 ? 1 : 8) {
        for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
            if (sizes[i] / pieces < 1)
                continue;
            struct out *o = make_out(sizes[i], pieces, i);
            wire_count = 0;
            CHECK_EQ(nic->ops->send(nic, &o->tx), 0);
            nic->ops->kick(nic);
            CHECK(RUN_UNTIL(o->done && wire_count == 1, 2));
            CHECK(on_wire(0, o));
            free_out(o);
        }
    }
}

/* ---- receiving ---- */

static bool to_guest(uint32_t bytes, unsigned seed)
{
    static uint8_t data[10000];
    struct host_seg seg = {data, bytes};
    struct host_frame f = {.segs = &seg, .seg_count = 1, .bytes = bytes};

    fill(data, bytes, seed);
    return host_net_rx(host_nic, &f, true);
}

static bool received(unsigned i, uint32_t bytes, unsigned seed)
{
    static uint8_t want[10000];

    fill(want, bytes, seed);
    return got[i].bytes == bytes && !memcmp(got[i].data, want, bytes);
}
