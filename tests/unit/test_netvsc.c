/* SPDX-License-Identifier: BSD-2-Clause */
/* ROOMS: lib mm rt hv vmbus drivers host fake_arch */
/* netvsc against the model of the host: every protocol version, frames both ways, offloads, link, removal, faults. */
#include "drivers/drivers.h"
#include "drivers/netvsc.h"
#include "hv/hv.h"
#include "tests/fake_arch/hv_host.h"
#include "tests/unit/test.h"
#include <unistd.h>

#define RAM_BYTES (64ull << 20)

/* A child process of its own for each machine; what failed in there fails here. */
struct child { void (*fn)(void *arg); void *arg; };
#define NOTHING_LEFT 42                          /* exit of a child whose fault did not come any more */

static void child_main(void *arg)
{
    struct child *c = arg;

    test_failures_here = 0;
    c->fn(c->arg);
    fflush(NULL);
    _exit(test_failures_here != 0);
}

static int in_child(void (*fn)(void *arg), void *arg)
{
    struct child c = {fn, arg};

    return fake_run_child(child_main, &c);
}

static void nothing_left(void)
{
    fflush(NULL);
    if (!test_failures_here)
        _exit(NOTHING_LEFT);
}

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

TEST(frames_go_out)
{
    start();
    CHECK_EQ(added, 1);
    CHECK(!memcmp(nic->mac, nic_config.mac, 6));
    CHECK_EQ(nic->mtu, 1500);
    CHECK(nic->link_up);
    CHECK_EQ(nic->link_speed_mbps, nic_config.link_speed / 10000);
    CHECK(host_nic_filter(host_nic) & NDIS_FILTER_DIRECTED);
    frames_of_all_sizes();
    CHECK(nic->stats.tx_copied > 0 && nic->stats.tx_referenced > 0);
    CHECK_EQ(nic->stats.tx_errors, 0);
    CHECK(host_counters(host)->tx_referenced > 0);
}

static void in_bursts(unsigned bytes, unsigned n)
{
    struct out **o = malloc(n * sizeof(*o));
    unsigned sent = 0;

    wire_count = 0;
    for (unsigned i = 0; i < n; i++)
        o[i] = make_out(bytes, 2, i);
    uint64_t end = rt_now_100ns() + S_100NS(20);
    while (sent < n && rt_now_100ns() < end) {
        int e = nic->ops->send(nic, &o[sent]->tx);
        if (e == -E_AGAIN) {
            unsigned calls = ready_calls;
            nic->ops->kick(nic);
            CHECK(RUN_UNTIL(ready_calls > calls, 5));
            continue;
        }
        CHECK_EQ(e, 0);
        sent++;
    }
    nic->ops->kick(nic);
    CHECK(RUN_UNTIL(wire_count == n, 20));
    for (unsigned i = 0; i < n; i++) {
        CHECK(RUN_UNTIL(o[i]->done, 2));
        CHECK(on_wire(i, o[i]));                 /* in order, too */
        free_out(o[i]);
    }
    free(o);
}

TEST(bursts_keep_their_order)
{
    start();
    in_bursts(100, 1000);
    in_bursts(1514, 1000);
    CHECK_EQ(nic->stats.tx_errors, 0);
    CHECK_EQ(host_counters(host)->signals_unneeded, 0);
}

TEST(small_frames_share_packets)
{
    start();
    uint64_t packets = host_counters(host)->tx_packets, signals = host_counters(host)->signals;
    struct out *o[64];
    wire_count = 0;
    for (unsigned i = 0; i < 64; i++) {
        o[i] = make_out(90 + i, 1, i);
        CHECK_EQ(nic->ops->send(nic, &o[i]->tx), 0);
        CHECK(o[i]->done);
    }
    nic->ops->kick(nic);
    CHECK(RUN_UNTIL(wire_count == 64, 2));
    for (unsigned i = 0; i < 64; i++) {
        CHECK(on_wire(i, o[i]));
        free_out(o[i]);
    }
    CHECK_EQ(host_counters(host)->tx_packets - packets, 64 / nic_config.max_packets_per_message);
    CHECK_EQ(host_counters(host)->signals - signals, 1);
}

TEST(the_kick_comes_by_itself)
{
    start();
    struct out *o = make_out(100, 1, 1);
    wire_count = 0;
    CHECK_EQ(nic->ops->send(nic, &o->tx), 0);
    CHECK(RUN_UNTIL(wire_count == 1, 1));
    free_out(o);
}

TEST(a_blocked_wire_blocks_and_goes_on)
{
    start();
    wire_blocked = true;
    unsigned sent = 0;
    static struct out *o[2000];
    for (; sent < 2000; sent++) {
        o[sent] = make_out(1400, 3, sent);
        if (nic->ops->send(nic, &o[sent]->tx) == -E_AGAIN)
            break;
    }
    CHECK(sent >= 100 && sent < 2000);
    nic->ops->kick(nic);
    task_sleep_us(15000000);
    CHECK(fake_log_contains("none completed within"));
    CHECK_EQ(ready_calls, 0);
    wire_count = 0;
    wire_blocked = false;
    host_net_tx_ready(host_nic);
    hv_host_run();
    CHECK(RUN_UNTIL(wire_count == sent, 5));
    CHECK(RUN_UNTIL(ready_calls > 0, 2));
    for (unsigned i = 0; i < sent; i++) {
        CHECK(o[i]->done && on_wire(i, o[i]));
        free_out(o[i]);
    }
    free_out(o[sent]);
}

TEST(no_allocation_on_the_way)
{
    start();
    struct out *o[2] = {make_out(200, 1, 1), make_out(1500, 4, 2)};
    uint64_t before = mm_alloc_count();
    for (unsigned i = 0; i < 2; i++) {
        CHECK_EQ(nic->ops->send(nic, &o[i]->tx), 0);
        nic->ops->kick(nic);
    }
    CHECK(RUN_UNTIL(o[1]->done, 2));
    CHECK_EQ(mm_alloc_count(), before);
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

TEST(frames_come_in)
{
    static const uint32_t sizes[] = {60, 61, 64, 128, 512, 1000, 1513, 1514};
    struct host_state state;

    start();
    for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++)
        CHECK(to_guest(sizes[i], i));
    hv_host_run();
    CHECK(RUN_UNTIL(got_count == ARRAY_SIZE(sizes), 2));
    for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++)
        CHECK(received(i, sizes[i], i));
    CHECK(RUN_UNTIL((host_get_state(host, &state), state.rx_sections_held == 0), 2));
    CHECK_EQ(nic->stats.rx_frames, ARRAY_SIZE(sizes));
}

TEST(many_ranges_in_a_packet_come_as_a_batch)
{
    struct host_state state;

    start();
    uint64_t packets = host_counters(host)->rx_packets, signals = host_counters(host)->signals;
    for (unsigned i = 0; i < 300; i++)
        CHECK(to_guest(200 + i, i));
    hv_host_run();
    CHECK(RUN_UNTIL(got_count == 300, 2));
    for (unsigned i = 0; i < 300; i++)
        CHECK(received(i, 200 + i, i));
    CHECK(host_counters(host)->rx_packets - packets < 300);
    CHECK_EQ(largest_batch, NETVSC_RX_BATCH);
    CHECK(RUN_UNTIL((host_get_state(host, &state), state.rx_sections_held == 0), 2));
    CHECK(host_counters(host)->signals - signals <= 4);
    CHECK_EQ(host_counters(host)->signals_unneeded, 0);
}

TEST(held_frames_hold_their_packet)
{
    struct host_state state;

    start();
    keep_tokens = true;
    for (unsigned i = 0; i < 100; i++)
        CHECK(to_guest(500, i));
    hv_host_run();
    CHECK(RUN_UNTIL(got_count == 100, 2));
    task_sleep_us(10000);
    host_get_state(host, &state);
    CHECK(state.rx_sections_held >= 100);
    release_all();
    CHECK(RUN_UNTIL((host_get_state(host, &state), state.rx_sections_held == 0), 2));
}

TEST(everything_held_means_dropped_by_the_host_and_no_worse)
{
    unsigned sent = 0;
    struct host_state state;

    start();
    keep_tokens = true;
    while (sent < ARRAY_SIZE(got) && to_guest(1000, sent)) {
        sent++;
        if (sent % 64 == 0) {
            hv_host_run();
            task_yield();
        }
    }
    hv_host_run();
    CHECK(sent > 500);
    CHECK(RUN_UNTIL(got_count == sent, 5));
    release_all();
    CHECK(RUN_UNTIL((host_get_state(host, &state), state.rx_sections_held == 0), 5));
    keep_tokens = false;
    CHECK(to_guest(1000, 1));
    hv_host_run();
    CHECK(RUN_UNTIL(got_count == sent + 1, 2));
}

/* ---- lies ---- */

/* A packet as the ring hands it over, in memory of exactly its length. */
struct lie { struct vmbus_packet p; uint8_t *header, *payload; };

static void make_lie(struct lie *l, uint32_t ranges_said, uint32_t ranges_sent, uint16_t set, uint32_t type)
{
    struct { uint16_t set; uint8_t owner, zero; uint32_t count; } head = {set, 0, 0, ranges_said};
    struct nvsp_message m = {.type = type, .rndis = {NVSP_CHANNEL_DATA, NVSP_SECTION_NONE, 0}};

    memset(l, 0, sizeof(*l));
    l->header = malloc(sizeof(head) + ranges_sent * 8);
    l->payload = malloc(sizeof(m));
    memcpy(l->header, &head, sizeof(head));
    memcpy(l->payload, &m, sizeof(m));
    l->p = (struct vmbus_packet){
        .type = VMBUS_PACKET_TRANSFER_PAGES, .completion_requested = true, .transaction_id = 0x77,
        .header = l->header, .header_bytes = (uint32_t)sizeof(head) + ranges_sent * 8,
        .payload = l->payload, .payload_bytes = sizeof(m),
    };
}

static void set_range(struct lie *l, unsigned i, uint32_t bytes, uint32_t offset)
{
    struct vmbus_transfer_range r = {bytes, offset};

    memcpy(l->header + 8 + i * 8, &r, sizeof(r));
}

static void tell(struct netvsc *n, struct lie *l)
{
    n->draining = true;
    netvsc_rx_packet_in(n, &l->p);
    netvsc_rx_flush(n);
    n->draining = false;
    free(l->header);
    free(l->payload);
}

static unsigned free_rx_packets(const struct netvsc *n)
{
    unsigned count = 0;

    for (struct netvsc_rx_packet *p = n->rx_free; p; p = p->next)
        count++;
    return count;
}

TEST(lying_packets_are_refused_and_given_back)
{
    struct lie l;

    start();
    hv_host.violations_expected = true;          /* it never sent these packets */
    struct netvsc *n = nic->driver;
    unsigned all = free_rx_packets(n);
    uint32_t end = (uint32_t)(n->receive.pages * PAGE_BYTES);
    uint64_t out = 0;
    struct vmbus_channel_stats stats;

    CHECK(all > 100);
    for (unsigned i = 0; i < 9; i++) {
        uint64_t lies = n->counters.lies;
        vmbus_channel_get_stats(n->channel, &stats);
        out = stats.packets_out;
        make_lie(&l, i == 0 ? 3 : i == 1 ? UINT32_MAX : 1, 1, i == 2 ? 0xBEEF : NVSP_RECEIVE_BUFFER_ID,
                 i == 3 ? NVSP_INIT : NVSP_SEND_RNDIS_PACKET);
        set_range(&l, 0, 100, 0);
        if (i == 4)
            set_range(&l, 0, 1, end);
        if (i == 5)
            set_range(&l, 0, UINT32_MAX, 4096);
        if (i == 6)
            set_range(&l, 0, 7, end - 7);
        if (i == 7)
            l.p.payload_bytes = 3;
        if (i == 8)
            l.p.header_bytes = 7;
        memset(n->receive.virt, 0xEE, 4096);
        tell(n, &l);
        CHECK(n->counters.lies > lies);
        CHECK_EQ(free_rx_packets(n), all);
        vmbus_channel_get_stats(n->channel, &stats);
        CHECK_EQ(stats.packets_out, out + 1);    /* its completion */
    }
    CHECK_EQ(got_count, 0);
}

/* Random bytes where messages are expected; what is believed lies inside the buffer, or the sanitizer speaks. */
TEST(random_messages_are_survived)
{
    uint64_t state = 0x2545F4914F6CDD1Dull;
    struct lie l;

    start();
    hv_host.violations_expected = true;
    struct netvsc *n = nic->driver;
    unsigned all = free_rx_packets(n);
    for (unsigned round = 0; round < 3000; round++) {
        uint8_t *at = n->receive.virt;
        struct rndis_packet p = {
            .header = {RNDIS_PACKET, 300}, .data_offset = 192, .data_length = 100, .ppi_offset = 36, .ppi_length = 32,
        };
        unsigned count = 1 + round % 8;
        make_lie(&l, count, count, NVSP_RECEIVE_BUFFER_ID, NVSP_SEND_RNDIS_PACKET);
        for (unsigned i = 0; i < count; i++) {
            set_range(&l, i, 300, i * 2048);
            memcpy(at + i * 2048, &p, sizeof(p));
            for (unsigned k = 0; k < 4; k++) {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                at[i * 2048 + state % 80] = (uint8_t)(state >> 40);
                if (state >> 62 == 0)
                    at[i * 2048] = (uint8_t)(2 + (state >> 50) % 8);
                if (state >> 60 == 5)
                    at[i * 2048 + 3] = 0x80;
            }
        }
        tell(n, &l);
        if (round % 64 == 0)
            task_yield();
    }
    task_sleep_us(100000);
    CHECK_EQ(free_rx_packets(n), all);
    CHECK(n->counters.lies > 100);
}

TEST(completions_of_nothing_are_refused)
{
    struct { uint32_t type, status; } m = {NVSP_SEND_RNDIS_PACKET_COMPLETE, NVSP_STATUS_SUCCESS};
    struct vmbus_packet p = {.type = VMBUS_PACKET_COMPLETION, .payload = &m, .payload_bytes = sizeof(m)};
    static const uint64_t ids[] = {
        0, 1, 5, NETVSC_SLOTS, NETVSC_SLOTS + 1, UINT32_MAX, UINT64_MAX, 1ull << 32 | 1, 7ull << 32,
    };

    start();
    struct netvsc *n = nic->driver;
    unsigned idle = n->free_count;
    for (unsigned i = 0; i < ARRAY_SIZE(ids); i++) {
        p.transaction_id = ids[i];
        netvsc_tx_completed(n, &p);
        netvsc_exchange_answered(n, &p);
    }
    CHECK_EQ(n->counters.lies, 2 * ARRAY_SIZE(ids));
    CHECK_EQ(n->free_count, idle);
    frames_of_all_sizes();
}

/* ---- versions ---- */

static void one_version(void *arg)
{
    char text[64];

    defaults();
    nic_config.max_nvsp = (uint32_t)(uintptr_t)arg;
    host_up();
    CHECK_EQ(guest_up(), 0);
    CHECK(nic);
    snprintf(text, sizeof(text), "NVSP 0x%x", nic_config.max_nvsp);
    CHECK(fake_log_contains(text));
    frames_of_all_sizes();
    for (unsigned i = 0; i < 20; i++)
        CHECK(to_guest(200, i));
    hv_host_run();
    CHECK(RUN_UNTIL(got_count == 20, 2));
    vmbus_disconnect(false);
    CHECK_EQ(removed, 1);
    CHECK_EQ(shmem_stats.pages_leaked, 0);
}

TEST(every_protocol_version)
{
    static const uint32_t all[] = {NVSP_VERSION_1, NVSP_VERSION_2, NVSP_VERSION_4, NVSP_VERSION_5, NVSP_VERSION_6,
                                   NVSP_VERSION_6_1};

    for (unsigned i = 0; i < ARRAY_SIZE(all); i++)
        CHECK_EQ(in_child(one_version, (void *)(uintptr_t)all[i]), FAKE_RETURNED);
}

static void one_bus_version(void *arg)
{
    struct host_state state;

    defaults();
    host_cfg.vmbus_max = (uint32_t)(uintptr_t)arg;
    host_up();
    CHECK_EQ(guest_up(), 0);
    frames_of_all_sizes();
    CHECK(to_guest(200, 1));
    hv_host_run();
    CHECK(RUN_UNTIL(got_count == 1, 2));
    host_remove_nic(host, host_nic);
    hv_host_run();
    CHECK(RUN_UNTIL(removed == 1, 5));
    host_nic = host_add_nic(host, &nic_config, &wire_ops, NULL);
    CHECK(RUN_UNTIL(added == 2, 5));
    frames_of_all_sizes();
    vmbus_disconnect(false);
    host_get_state(host, &state);
    CHECK_EQ(state.gpadls, 0);
}

TEST(every_bus_version_and_a_nic_that_comes_back)
{
    static const uint32_t all[] = {
        VMBUS_VERSION_WIN8, VMBUS_VERSION_WIN8_1, VMBUS_VERSION_WIN10, VMBUS_VERSION_WIN10_5_3,
    };

    for (unsigned i = 0; i < ARRAY_SIZE(all); i++)
        CHECK_EQ(in_child(one_bus_version, (void *)(uintptr_t)all[i]), FAKE_RETURNED);
}

/* ---- offloads ---- */

static uint16_t sum16(const uint8_t *p, uint32_t bytes, uint32_t seed)
{
    uint32_t s = seed;

    for (uint32_t i = 0; i + 1 < bytes; i += 2)
        s += (uint32_t)(p[i] << 8 | p[i + 1]);
    if (bytes & 1)
        s += (uint32_t)(p[bytes - 1] << 8);
    while (s >> 16)
        s = (s & 0xFFFF) + (s >> 16);
    return (uint16_t)s;
}

/* An IPv4 frame in place; with_sum: the transport checksum is complete, else it is the pseudo-header's sum. */
static void make_ip4(uint8_t *f, uint8_t protocol, uint32_t bytes, bool with_sum)
{
    uint8_t *ip = f + 14, *l4 = ip + 20;
    uint32_t l4_bytes = bytes - 34, at = protocol == 6 ? 16 : 6;
    uint16_t s;

    fill(f, bytes, 5);
    f[12] = 8;
    f[13] = 0;
    memset(ip, 0, 20);
    ip[0] = 0x45;
    ip[2] = (uint8_t)((bytes - 14) >> 8);
    ip[3] = (uint8_t)(bytes - 14);
    ip[8] = 64;
    ip[9] = protocol;
    memcpy(ip + 12, (uint8_t[]){10, 0, 0, 1, 10, 0, 0, 2}, 8);
    s = (uint16_t)~sum16(ip, 20, 0);
    ip[10] = (uint8_t)(s >> 8);
    ip[11] = (uint8_t)s;
    if (protocol == 6)
        l4[12] = 0x50;
    else
        memcpy(l4 + 4, (uint8_t[]){(uint8_t)(l4_bytes >> 8), (uint8_t)l4_bytes}, 2);
    l4[at] = l4[at + 1] = 0;
    s = sum16(ip + 12, 8, protocol + l4_bytes);
    if (with_sum)
        s = (uint16_t)~sum16(l4, l4_bytes, s);
    l4[at] = (uint8_t)(s >> 8);
    l4[at + 1] = (uint8_t)s;
}

static bool l4_sum_is_right(const uint8_t *f)
{
    uint32_t l4_bytes = (uint32_t)(f[16] << 8 | f[17]) - 20;

    return sum16(f + 34, l4_bytes, sum16(f + 26, 8, f[23] + l4_bytes)) == 0xFFFF && sum16(f + 14, 20, 0) == 0xFFFF;
}

TEST(checksums_are_the_host_s)
{
    start();
    CHECK_EQ(nic->tx_offloads & (NIC_TX_CSUM_TCP | NIC_TX_CSUM_UDP | NIC_TX_IP6),
             NIC_TX_CSUM_TCP | NIC_TX_CSUM_UDP | NIC_TX_IP6);
    for (unsigned i = 0; i < 8; i++) {
        uint32_t bytes = i & 1 ? 1401 : 120;
        bool tcp = i & 2;
        struct out *o = make_out(bytes, 1, 0);
        make_ip4(o->data + 3, tcp ? 6 : 17, bytes, false);
        o->tx.flags = tcp ? NIC_TX_CSUM_TCP : NIC_TX_CSUM_UDP;
        o->tx.transport_offset = 34;
        if (i & 4) {
            o->tx.flags |= NIC_TX_CSUM_IP4;
            o->data[3 + 24] = o->data[3 + 25] = 0;
        }
        wire_count = 0;
        CHECK_EQ(nic->ops->send(nic, &o->tx), 0);
        nic->ops->kick(nic);
        CHECK(RUN_UNTIL(wire_count == 1 && o->done, 2));
        CHECK(l4_sum_is_right(wire[0].data));
        free_out(o);
    }
    /* Received: good, and known to be good. */
    static uint8_t data[600];
    struct host_seg seg = {data, sizeof(data)};
    struct host_frame f = {.segs = &seg, .seg_count = 1, .bytes = sizeof(data)};
    make_ip4(data, 6, sizeof(data), true);
    CHECK(host_net_rx(host_nic, &f, false));
    data[100] ^= 1;
    CHECK(host_net_rx(host_nic, &f, false));
    hv_host_run();
    CHECK(RUN_UNTIL(got_count == 2, 2));
    CHECK((got[0].flags & (NIC_RX_CSUM_IP4_OK | NIC_RX_CSUM_L4_OK)) == (NIC_RX_CSUM_IP4_OK | NIC_RX_CSUM_L4_OK));
    CHECK(!(got[0].flags & NIC_RX_CSUM_BAD));
    CHECK(got[1].flags & NIC_RX_CSUM_BAD);
}

TEST(large_segments_are_cut_by_the_host)
{
    start();
    CHECK(nic->tx_offloads & NIC_TX_LSO);
    for (unsigned pieces = 1; pieces <= 17; pieces += 16) {
        uint32_t bytes = 54 + 20000;
        struct out *o = make_out(bytes, pieces, 0);
        make_ip4(o->data + 3, 6, bytes, false);
        o->tx.flags = NIC_TX_LSO | NIC_TX_CSUM_TCP;
        o->tx.transport_offset = 34;
        o->tx.mss = 1460;
        wire_count = 0;
        CHECK_EQ(nic->ops->send(nic, &o->tx), 0);
        nic->ops->kick(nic);
        CHECK(RUN_UNTIL(o->done && wire_count == 14, 2));
        for (unsigned i = 0; i < 14; i++) {
            CHECK_EQ(wire[i].bytes, 54 + (i < 13 ? 1460 : 20000 - 13 * 1460));
            CHECK(l4_sum_is_right(wire[i].data));
            CHECK(!memcmp(wire[i].data + 54, o->data + 3 + 54 + i * 1460, wire[i].bytes - 54));
        }
        free_out(o);
    }
}

TEST(no_offloads_when_the_host_has_none)
{
    defaults();
    nic_config.tx_checksum = nic_config.rx_checksum = 0;
    nic_config.lso_max_bytes = 0;
    host_up();
    CHECK_EQ(guest_up(), 0);
    CHECK_EQ(nic->tx_offloads, 0);
    CHECK_EQ(nic->rx_offloads, 0);
    frames_of_all_sizes();
}

/* ---- shapes of hosts ---- */

static void one_shape(void *arg)
{
    defaults();
    switch ((uintptr_t)arg) {
    case 0: nic_config.max_packets_per_message = 1; break;
    case 1: nic_config.alignment_factor = 0; break;
    case 2: nic_config.alignment_factor = 6; break;
    case 3: nic_config.send_section_bytes = 2048; break;
    case 4: nic_config.rx_length_is_sub_allocation = false; break;
    case 5: nic_config.rx_batch = 1; break;
    case 6: nic_config.link_up = false; break;
    case 7: config_parse("net.recv_buffer=256K net.send_buffer=64K"); break;
    case 8: config_parse("net.copy_bytes=0"); break;
    case 9: config_parse("net.copy_bytes=9000"); break;
    case 10: config_parse("net.offload=0"); break;
    case 11: host_cfg.monitor_pages = nic_config.monitor = true; break;
    }
    host_up();
    CHECK_EQ(guest_up(), 0);
    CHECK(nic);
    CHECK(nic->link_up == nic_config.link_up);
    if (nic->link_up) {
        frames_of_all_sizes();
        in_bursts(90, 300);
        in_bursts(1514, 300);
        for (unsigned i = 0; i < 100; i++)
            CHECK(to_guest(100 + i, i));
        hv_host_run();
        CHECK(RUN_UNTIL(got_count == 100, 5));
    }
    vmbus_disconnect(false);
    CHECK_EQ(shmem_stats.pages_leaked, 0);
}

TEST(hosts_of_other_shapes)
{
    for (uintptr_t i = 0; i <= 11; i++) {
        int end = in_child(one_shape, (void *)i);
        if (end != FAKE_RETURNED)
            test_fail(__FILE__, __LINE__, "shape %u ends with %d", (unsigned)i, end);
    }
}

TEST(jumbo_frames_when_both_want_them)
{
    defaults();
    config_parse("net.mtu=9000");
    nic_config.max_mtu = 9000;
    host_up();
    CHECK_EQ(guest_up(), 0);
    CHECK_EQ(nic->mtu, 9000);
    struct out *o = make_out(9014, 5, 1);
    CHECK_EQ(nic->ops->send(nic, &o->tx), 0);
    CHECK(RUN_UNTIL(wire_count == 1, 2));
    CHECK(on_wire(0, o));
}

TEST(link_goes_down_and_up)
{
    start();
    CHECK(link_is_up);
    host_net_link(host_nic, false);
    hv_host_run();
    CHECK(RUN_UNTIL(!link_is_up, 2));
    CHECK(!nic->link_up);
    host_net_link(host_nic, true);
    hv_host_run();
    CHECK(RUN_UNTIL(link_is_up, 2));
    CHECK_EQ(link_events, 2);
}

/* ---- going ---- */

TEST(removal_under_load_and_back_again)
{
    struct mm_stats before = {0}, after;

    start();
    for (unsigned round = 0; round < 4; round++) {
        static struct out *o[300];
        unsigned sent = 0;
        got_count = 0;
        keep_tokens = true;
        for (unsigned i = 0; i < 50; i++)
            CHECK(to_guest(300, i));
        hv_host_run();
        CHECK(RUN_UNTIL(got_count == 50, 2));
        wire_blocked = true;
        for (; sent < 300; sent++) {
            o[sent] = make_out(sent & 1 ? 1400 : 100, 2, sent);
            if (nic->ops->send(nic, &o[sent]->tx))
                break;
        }
        nic->ops->kick(nic);
        task_sleep_us(1000);
        wire_blocked = false;
        host_remove_nic(host, host_nic);
        hv_host_run();
        CHECK(RUN_UNTIL(removed == round + 1, 5));
        task_sleep_us(100000);
        for (unsigned i = 0; i < sent; i++)
            CHECK(o[i]->done);
        for (unsigned i = 0; i <= MIN(sent, 299u); i++)
            free_out(o[i]);
        CHECK(!nic);
        CHECK(!nic_get_index(0));
        mm_get_stats(&after);
        if (round == 1)
            before = after;
        if (round > 1) {
            CHECK_EQ(after.heap_bytes, before.heap_bytes);
            CHECK_EQ(after.vmap_bytes, before.vmap_bytes);
        }
        keep_tokens = false;
        host_nic = host_add_nic(host, &nic_config, &wire_ops, NULL);
        CHECK(RUN_UNTIL(nic, 5));
        CHECK(!strcmp(nic->name, "nic0"));
        frames_of_all_sizes();
    }
}

TEST(orderly_end_says_goodbye)
{
    struct host_state state;

    start();
    struct out *o = make_out(1400, 2, 1);
    CHECK_EQ(nic->ops->send(nic, &o->tx), 0);
    vmbus_disconnect(false);
    CHECK(o->done);
    CHECK_EQ(removed, 1);
    host_get_state(host, &state);
    CHECK_EQ(state.gpadls, 0);
    CHECK_EQ(shmem_stats.pages_leaked, 0);
    CHECK(!fake_log_contains("no answer"));
}

TEST(two_nics)
{
    defaults();
    host_up();
    nic_config.mac[5] = 9;
    host_add_nic(host, &nic_config, &wire_ops, NULL);
    CHECK_EQ(guest_up(), 0);
    CHECK_EQ(added, 2);
    CHECK(nic_get_index(0) && nic_get_index(1) && !nic_get_index(2));
    CHECK(!strcmp(nic_get_index(1)->name, "nic1"));
}

TEST(small_memory_gets_small_buffers)
{
    fake_arch_boot(12 << 20);
    host_config_default(&host_cfg);
    host_nic_config_default(&nic_config);
    nic_config.mac[5] = 1;
    host_up();
    CHECK_EQ(guest_up(), 0);
    CHECK(nic);
    frames_of_all_sizes();
}

/* ---- faults ---- */

struct fault { uint32_t points; uint64_t number; enum host_fault_kind kind; };

static void live_with_fault(void *arg)
{
    const struct fault *f = arg;
    struct host_state state;

    defaults();
    host_up();
    hv_host.violations_expected = true;          /* after a wrong answer the two sides are of different minds */
    host_set_fault(host, f->points, f->number, f->kind);
    CHECK_EQ(guest_up(), 0);
    for (unsigned i = 0; nic && i < 20; i++) {
        struct out *o = make_out(i & 1 ? 1400 : 200, 2, i);
        if (nic->ops->send(nic, &o->tx) == 0)
            nic->ops->kick(nic);
        task_sleep_us(1000);
    }
    for (unsigned i = 0; nic && i < 5; i++)
        to_guest(200, i);
    hv_host_run();
    task_sleep_us(1000000);
    uint64_t counted = host_fault_count(host);
    vmbus_disconnect(false);
    CHECK(!nic);
    host_get_state(host, &state);
    CHECK_EQ(state.channels_open, 0);
    CHECK_EQ(state.gpadls, 0);
    /* A host that says no and keeps the buffer all the same: then its pages are lost knowingly. */
    if (f->points != HOST_FAULT_NETVSP_REPLY || f->kind != HOST_FAULT_ERROR)
        CHECK_EQ(shmem_stats.pages_leaked, 0);
    if (counted < f->number)
        nothing_left();
}

static void every_fault(uint32_t points, unsigned most)
{
    static const enum host_fault_kind kinds[] = {
        HOST_FAULT_DROP, HOST_FAULT_ERROR, HOST_FAULT_SHORT, HOST_FAULT_WRONG_ID, HOST_FAULT_TWICE, HOST_FAULT_GARBAGE,
    };

    for (unsigned k = 0; k < ARRAY_SIZE(kinds); k++) {
        for (unsigned n = 1; n <= most; n++) {
            struct fault f = {points, n, kinds[k]};
            int end = in_child(live_with_fault, &f);
            if (end == NOTHING_LEFT)
                break;
            if (end != FAKE_RETURNED)
                test_fail(__FILE__, __LINE__, "point 0x%x reply %u kind %d ends with %d", points, n, (int)kinds[k],
                          end);
            if (test_failures_here > 5)
                return;
        }
    }
}

TEST(each_handshake_reply_goes_wrong) { every_fault(HOST_FAULT_NETVSP_REPLY, 16); }
TEST(each_rndis_reply_goes_wrong) { every_fault(HOST_FAULT_RNDIS_REPLY, 16); }
TEST(each_completion_goes_wrong) { every_fault(HOST_FAULT_NETVSP_TX, 16); }

static void live_without(void *arg)
{
    uint64_t n = (uint64_t)(uintptr_t)arg, counted;

    defaults();
    host_up();
    if (!hv_init())
        _exit(1);
    hv_clock_init();
    if (hv_synic_init())
        _exit(1);
    nic_set_user(&stack);
    CHECK_EQ(vmbus_connect(), 0);
    counted = mm_alloc_count();
    mm_fail_nth(n);
    netvsc_register();
    task_sleep_us(3000000);
    mm_fail_nth(0);
    counted = mm_alloc_count() - counted;
    if (nic)
        frames_of_all_sizes();
    vmbus_disconnect(false);
    CHECK(!nic);
    CHECK_EQ(shmem_stats.pages_leaked, 0);
    if (counted < n)
        nothing_left();
}

TEST(each_allocation_fails_once)
{
    unsigned n;

    for (n = 1; n < 400; n++) {
        int end = in_child(live_without, (void *)(uintptr_t)n);
        if (end == NOTHING_LEFT)
            break;
        if (end != FAKE_RETURNED)
            test_fail(__FILE__, __LINE__, "allocation %u failing ends with %d", n, end);
        if (test_failures_here > 5)
            return;
    }
    CHECK(n > 10 && n < 400);
}

TEST_MAIN()
