/* SPDX-License-Identifier: BSD-2-Clause */
/* ROOMS: lib mm rt hv vmbus drivers host fake_arch */
/* netvsc against the model of the host: every protocol version, frames both ways, offloads, link. */
#include "tests/unit/netvsc_machine.h"

/* ---- sending ---- */

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

TEST_MAIN()
