/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Queues of the host model's network adapter against a guest played by hand with four VPs: sub-channels, the table
 * that spreads what is sent, receive-side scaling with its hash, receive sections of each channel, closing and
 * opening with another number of queues. The hash's vectors are those that the NDIS documentation verifies it with.
 */
#include "tests/unit/played_multi.h"
#include "tests/unit/played_nic.h"
#include "tests/unit/rules.h"

static struct host_nic *nic;

/* ---- the adapter and its sub-channels --------------------------------------------------------------- */

static bool with_nic(void)
{
    if (queues == 1)
        queues = 4;
    start_multi();
    if (!nic_ready(&nic, &relid))
        return false;
    primary.relid = relid;
    instance = nic_offer.instance;
    interface = nic_offer.interface_type;
    return true;
}

/* The status of the answer, or NONE when it is no answer. */
static uint32_t allocate(uint32_t count)
{
    struct nvsp_message m = {.type = NVSP_SUBCHANNEL, .subchannel = {NVSP_SUBCHANNEL_ALLOCATE, count}};

    use(&primary);
    if (!nvsp(relid, &m, true) || m.type != NVSP_SUBCHANNEL ||
        m.subchannel.count != (m.subchannel.operation == NVSP_STATUS_SUCCESS ? count : 0))
        return NVSP_STATUS_NONE;
    return m.subchannel.operation;
}

static uint32_t next_packet(const struct channel *c, struct vmbus_packet_header *head, uint8_t *packet)
{
    use(c);
    return receive(head, packet);
}

static bool take_table(uint32_t channels)
{
    struct vmbus_packet_header head;
    struct nvsp_indirection_message m;
    uint8_t packet[512];

    if (next_packet(&primary, &head, packet) < sizeof(m) || head.type != VMBUS_PACKET_INBAND || head.flags != 0 ||
        head.transaction_id != 0)
        return false;
    memcpy(&m, packet + head.data_offset8 * 8u, sizeof(m));
    if (m.type != NVSP_SEND_INDIRECTION_TABLE || m.table.count != 16 || m.table.offset != 12)
        return false;
    for (uint32_t i = 0; i < 16; i++) {
        if (m.channel[i] != i % channels)
            return false;
    }
    return true;
}

static bool with_queues(uint32_t count)
{
    return with_nic() && allocate(count - 1) == NVSP_STATUS_SUCCESS && take_sub_offers(count - 1) &&
           open_subs(count - 1) && take_table(count);
}

static bool with_two(void) { return with_queues(2); }

static const struct channel *queue_channel(uint32_t queue)
{
    return queue == 0 ? &primary : &subs[queue - 1];
}

/* ---- receive-side scaling --------------------------------------------------------------------------- */

#define HASH_ALL (NDIS_RSS_HASH_TOEPLITZ | NDIS_RSS_HASH_IPV4 | NDIS_RSS_HASH_TCP_IPV4 | NDIS_RSS_HASH_IPV6 | \
                  NDIS_RSS_HASH_TCP_IPV6)

struct rss_set {
    struct rndis_request head;
    struct ndis_rss_parameters p;
    uint32_t table[NDIS_RSS_TABLE_ENTRIES];
    uint8_t key[NDIS_RSS_KEY_BYTES];
};

static const uint8_t known_key[NDIS_RSS_KEY_BYTES] = {
    0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3,
    0x8f, 0xb0, 0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3,
    0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
};

/* Every entry's channel by turns. */
static struct rss_set rss_for(uint32_t channels, uint32_t hash)
{
    struct rss_set m = {
        .head = {{RNDIS_SET, sizeof(m)}, 5, OID_GEN_RECEIVE_SCALE_PARAMETERS, sizeof(m) - sizeof(m.head), 20, 0},
        .p = {.header = {NDIS_OBJECT_RSS_PARAMETERS, 2, sizeof(m.p)}, .hash_information = hash,
              .table_bytes = sizeof(m.table), .table_offset = sizeof(m.p), .key_bytes = sizeof(m.key),
              .key_offset = sizeof(m.p) + sizeof(m.table)},
    };

    for (uint32_t i = 0; i < NDIS_RSS_TABLE_ENTRIES; i++)
        m.table[i] = i % channels;
    memcpy(m.key, known_key, sizeof(m.key));
    return m;
}

static uint32_t set_rss(const struct rss_set *m)
{
    struct rndis_set_complete set = {.status = 0xEEEEEEEE};

    use(&primary);
    return rndis(relid, NVSP_CHANNEL_CONTROL, m, sizeof(*m), &set, sizeof(set)) ? set.status : 0xEEEEEEEE;
}

static bool with_rss(uint32_t channels)
{
    struct rss_set m = rss_for(channels, HASH_ALL);

    return with_queues(channels) && set_rss(&m) == RNDIS_STATUS_SUCCESS;
}

static bool with_rss_of_two(void) { return with_rss(2); }

/* ---- frames ----------------------------------------------------------------------------------------- */

struct flow {
    bool v6, tcp;
    uint8_t from[16], to[16];
    uint16_t from_port, to_port;
    uint32_t addresses_hash, ports_hash;
};

static const struct flow flows[] = {
    {false, true, {66, 9, 149, 187}, {161, 142, 100, 80}, 2794, 1766, 0x323e8fc2, 0x51ccc178},
    {false, true, {199, 92, 111, 2}, {65, 69, 140, 83}, 14230, 4739, 0xd718262a, 0xc626b0ea},
    {false, true, {24, 19, 198, 95}, {12, 22, 207, 184}, 12898, 38024, 0xd2d0a5de, 0x5c2b394a},
    {false, true, {38, 27, 205, 30}, {209, 142, 163, 6}, 48228, 2217, 0x82989176, 0xafc7327f},
    {false, true, {153, 39, 163, 191}, {202, 188, 127, 2}, 44251, 1303, 0x5d1809c5, 0x10e828a2},
    {true, true, {0x3f, 0xfe, 0x25, 0x01, 0x02, 0x00, 0x1f, 0xff, [15] = 7},
     {0x3f, 0xfe, 0x25, 0x01, 0x02, 0x00, 0x00, 0x03, [15] = 1}, 2794, 1766, 0x2cc18cd5, 0x40207d3d},
};

static uint32_t build(const struct flow *f, uint8_t *frame)
{
    static const uint8_t mac[6] = {0x00, 0x15, 0x5D, 0x43, 0x4E, 0x01};
    uint32_t ip_bytes = f->v6 ? 40 : 20, transport = f->tcp ? 20 : 8, length = 14 + ip_bytes + transport;
    uint8_t *ip = frame + 14, *ports = ip + ip_bytes;

    memset(frame, 0, length);
    memcpy(frame, mac, 6);
    frame[12] = f->v6 ? 0x86 : 0x08;
    frame[13] = f->v6 ? 0xDD : 0x00;
    if (f->v6) {
        ip[0] = 0x60;
        ip[5] = (uint8_t)transport;
        ip[6] = f->tcp ? 6 : 17;
        memcpy(ip + 8, f->from, 16);
        memcpy(ip + 24, f->to, 16);
    } else {
        ip[0] = 0x45;
        ip[3] = (uint8_t)(20 + transport);
        ip[9] = f->tcp ? 6 : 17;
        memcpy(ip + 12, f->from, 4);
        memcpy(ip + 16, f->to, 4);
    }
    ports[0] = (uint8_t)(f->from_port >> 8);
    ports[1] = (uint8_t)f->from_port;
    ports[2] = (uint8_t)(f->to_port >> 8);
    ports[3] = (uint8_t)f->to_port;
    if (f->tcp)
        ports[12] = 0x50;
    return length;
}

static bool deliver(uint8_t *frame, uint32_t bytes)
{
    struct host_seg seg = {frame, bytes};
    struct host_frame f = {&seg, 1, bytes, false, 0};
    bool taken = host_net_rx(nic, &f, true);

    poll_all();
    return taken;
}

static bool deliver_flow(const struct flow *f)
{
    uint8_t frame[128];
    uint32_t bytes = build(f, frame);

    return deliver(frame, bytes);
}

/* The next receive packet of that channel: one frame. False: there is none, or it is something else. */
static bool take_frame(const struct channel *c, uint64_t *id, bool *hashed, uint32_t *hash)
{
    struct vmbus_packet_header head;
    struct rndis_packet in;
    uint8_t packet[4096], *message;
    uint32_t range[2], count;

    *hashed = false;
    *hash = 0;
    if (next_packet(c, &head, packet) == 0 || head.type != VMBUS_PACKET_TRANSFER_PAGES)
        return false;
    memcpy(&count, packet + 20, 4);
    memcpy(range, packet + 24, 8);
    message = ram + PAGE_RECV * 4096u + range[1];
    memcpy(&in, message, sizeof(in));
    for (uint32_t at = 0; at < in.ppi_length;) {
        struct rndis_ppi_word w;
        memcpy(&w, message + 8 + in.ppi_offset + at, sizeof(w));
        if (w.ppi.type == RNDIS_PPI_HASH) {
            *hashed = true;
            *hash = w.value;
        }
        at += w.ppi.bytes;
    }
    *id = head.transaction_id;
    return count == 1;
}

static void give_back(const struct channel *c, uint64_t id)
{
    uint32_t done[2] = {NVSP_SEND_RNDIS_PACKET_COMPLETE, NVSP_STATUS_SUCCESS};

    use(c);
    send(c->relid, VMBUS_PACKET_COMPLETION, 0, id, NULL, 0, done, sizeof(done));
}

/* The frame of that flow comes by that channel alone, with that hash. */
static bool comes_by(const struct flow *f, uint32_t queue, bool want_hash, uint32_t want)
{
    bool hashed;
    uint32_t hash;
    uint64_t id;

    if (!deliver_flow(f) || !take_frame(queue_channel(queue), &id, &hashed, &hash))
        return false;
    give_back(queue_channel(queue), id);
    return hashed == want_hash && hash == want;
}

static uint32_t sections_held(void)
{
    struct host_state state;

    poll_all();
    host_get_state(host, &state);
    return state.rx_sections_held;
}

/* ---- capabilities, sub-channels, send table --------------------------------------------------------- */

static uint32_t query(uint32_t oid, uint8_t object, void *answer, uint32_t room)
{
    struct {
        struct rndis_request head;
        struct ndis_object_header object;
        uint8_t rest[16];
    } m = {{{RNDIS_QUERY, sizeof(m)}, 9, oid, sizeof(m) - sizeof(m.head), 20, 0}, {object, 2, 20}, {0}};
    struct {
        struct rndis_query_complete head;
        uint8_t info[512];
    } out = {.head = {.status = 0xEEEEEEEE}};

    use(&primary);
    if (!rndis(relid, NVSP_CHANNEL_CONTROL, &m, sizeof(m), &out, sizeof(out)))
        return 0xEEEEEEEE;
    memset(answer, 0, room);
    memcpy(answer, out.info, out.head.info_length < room ? out.head.info_length : room);
    return out.head.status;
}

static bool lists(uint32_t oid)
{
    uint32_t list[64];

    query(OID_GEN_SUPPORTED_LIST, 0, list, sizeof(list));
    for (unsigned i = 0; i < 64; i++) {
        if (list[i] == oid)
            return true;
    }
    return false;
}

TEST(capabilities_of_four_queues)
{
    struct ndis_rss_capabilities c;

    CHECK(with_nic());
    CHECK_EQ(query(OID_GEN_RECEIVE_SCALE_CAPABILITIES, NDIS_OBJECT_RSS_CAPABILITIES, &c, sizeof(c)), 0);
    CHECK_EQ(c.header.type, NDIS_OBJECT_RSS_CAPABILITIES);
    CHECK_EQ(c.header.bytes, 18);
    CHECK_EQ(c.receive_queues, 4);
    CHECK_EQ(c.table_entries, 128);
    CHECK(c.flags & NDIS_RSS_HASH_TOEPLITZ);
    CHECK(lists(OID_GEN_RECEIVE_SCALE_CAPABILITIES) && lists(OID_GEN_RECEIVE_SCALE_PARAMETERS));
    CHECK_EQ(violations, 0);
    host_destroy(host);
}

TEST(no_capabilities_before_version_5)
{
    struct ndis_rss_capabilities c;

    nvsp_version = NVSP_VERSION_4;
    CHECK(with_nic());
    CHECK_EQ(query(OID_GEN_RECEIVE_SCALE_CAPABILITIES, NDIS_OBJECT_RSS_CAPABILITIES, &c, sizeof(c)),
             RNDIS_STATUS_NOT_SUPPORTED);
    CHECK(!lists(OID_GEN_RECEIVE_SCALE_CAPABILITIES));
    CHECK_EQ(violations, 0);
    host_destroy(host);
}

TEST(table_when_all_are_open)
{
    struct vmbus_packet_header head;
    uint8_t packet[512];

    CHECK(with_nic());
    CHECK_EQ(allocate(3), NVSP_STATUS_SUCCESS);
    CHECK(take_sub_offers(3));
    CHECK(open_subs(2));
    CHECK_EQ(next_packet(&primary, &head, packet), 0);
    use(&subs[2]);
    CHECK(open_channel(subs[2].relid));
    CHECK(take_table(4));
    CHECK(close_channel(&subs[2]));
    use(&subs[2]);
    CHECK(open_channel(subs[2].relid));
    CHECK_EQ(next_packet(&primary, &head, packet), 0);  /* told once */
    CHECK_EQ(violations, 0);
    host_destroy(host);
}

TEST(table_of_old_versions_too)
{
    nvsp_version = NVSP_VERSION_5;
    CHECK(with_two());
    CHECK_EQ(violations, 0);
    host_destroy(host);
}

TEST(allocation_refused)
{
    CHECK(with_nic());
    CHECK_EQ(allocate(4), NVSP_STATUS_FAILURE);         /* and the primary: five of four */
    CHECK_EQ(channels_offered(), 1);
    CHECK_EQ(violations, 1);
    host_set_fault(host, HOST_FAULT_NETVSP_REPLY, 1, HOST_FAULT_ERROR);
    allocate(2);
    CHECK_EQ(channels_offered(), 1);
    CHECK_EQ(allocate(3), NVSP_STATUS_SUCCESS);
    CHECK_EQ(channels_offered(), 4);
    CHECK_EQ(allocate(1), NVSP_STATUS_FAILURE);
    CHECK_EQ(channels_offered(), 4);
    CHECK_EQ(violations, 2);
    host_destroy(host);
}

RULE(sub_channels_of_none, with_nic, "0 sub-channels of 4 queues", { allocate(0); })
RULE(sub_channels_too_many, with_nic, "4 sub-channels of 4 queues", { allocate(4); })
RULE(sub_channels_twice, with_two, "1 sub-channels of 4 queues, 2 granted", { allocate(1); })
static bool with_nic_4(void)
{
    nvsp_version = NVSP_VERSION_4;
    return with_nic();
}
RULE(sub_channels_before_version_5, with_nic_4, "sub-channels in version 0x40000", { allocate(1); })
RULE(sub_channels_after_revoke, with_nic, "before the adapter is ready", {
    struct nvsp_message m = {.type = NVSP_REVOKE_RECEIVE_BUFFER, .revoke = {0xCAFE}};
    nvsp(relid, &m, false);
    allocate(1);
})
RULE(handshake_on_a_sub_channel, with_two, "on a sub-channel", {
    struct nvsp_message m = {.type = NVSP_SEND_NDIS_VERSION, .ndis_version = {6, 30}};
    use(&subs[0]);
    nvsp(subs[0].relid, &m, false);
})
RULE(control_on_a_sub_channel, with_two, "control message of", {
    struct rndis_keepalive m = {{RNDIS_KEEPALIVE, sizeof(m)}, 9};
    use(&subs[0]);
    rndis(subs[0].relid, NVSP_CHANNEL_CONTROL, &m, sizeof(m), NULL, 0);
})
RULE(capabilities_without_their_object, with_nic, "without their object header", {
    struct ndis_rss_capabilities c;
    query(OID_GEN_RECEIVE_SCALE_CAPABILITIES, 0, &c, sizeof(c));
})

/* ---- sending ---------------------------------------------------------------------------------------- */

static bool refuse;

static bool tx_or_not(void *backend, const struct host_frame *frame)
{
    return !refuse && net_tx(backend, frame);
}

TEST(sent_on_any_channel)
{
    struct {
        struct rndis_packet head;
        uint8_t frame[64];
    } out = {{{RNDIS_PACKET, sizeof(out)}, 36, 64, 0, 0, 0, 0, 0, 0, 0}, {0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF}};
    struct nvsp_message m = {.type = NVSP_SEND_RNDIS_PACKET, .rndis = {NVSP_CHANNEL_DATA, 0, sizeof(out)}};
    static const struct host_net_ops stalling = {.tx = tx_or_not};
    struct vmbus_packet_header head;
    uint8_t packet[512];

    nic_backend = &stalling;
    CHECK(with_queues(3));
    for (uint32_t q = 0; q < 3; q++) {
        out.frame[6] = (uint8_t)q;
        use(queue_channel(q));
        CHECK(rndis(queue_channel(q)->relid, NVSP_CHANNEL_DATA, &out, sizeof(out), NULL, 0));
        CHECK_EQ(sent[q][6], q);
    }
    CHECK_EQ(sent_count, 3);
    refuse = true;                                      /* both wait, each is completed on its own channel */
    for (uint32_t q = 1; q < 3; q++) {
        use(queue_channel(q));
        send(queue_channel(q)->relid, VMBUS_PACKET_INBAND, 1, 30 + q, NULL, 0, &m, sizeof(m));
        CHECK_EQ(next_packet(queue_channel(q), &head, packet), 0);
    }
    refuse = false;
    host_net_tx_ready(nic);
    poll_all();
    CHECK_EQ(sent_count, 5);
    for (uint32_t q = 1; q < 3; q++) {
        CHECK(next_packet(queue_channel(q), &head, packet) != 0);
        CHECK_EQ(head.type, VMBUS_PACKET_COMPLETION);
        CHECK_EQ(head.transaction_id, 30 + q);
    }
    CHECK_EQ(violations, 0);
    host_destroy(host);
}

/* ---- receiving -------------------------------------------------------------------------------------- */

TEST(known_hashes)
{
    CHECK(with_rss(4));
    for (unsigned i = 0; i < sizeof(flows) / sizeof(flows[0]); i++) {
        struct flow udp = flows[i];
        udp.tcp = false;
        CHECK(comes_by(&flows[i], flows[i].ports_hash % 128 % 4, true, flows[i].ports_hash));
        CHECK(comes_by(&udp, udp.addresses_hash % 128 % 4, true, udp.addresses_hash));
    }
    CHECK_EQ(sections_held(), 0);
    CHECK_EQ(violations, 0);
    host_destroy(host);
}

TEST(only_hashes_that_were_asked_for)
{
    struct rss_set m = rss_for(2, NDIS_RSS_HASH_TOEPLITZ | NDIS_RSS_HASH_TCP_IPV4 | NDIS_RSS_HASH_IPV6);
    struct flow udp = flows[2];
    uint8_t frame[128];
    uint64_t id;
    uint32_t hash;
    bool hashed;

    udp.tcp = false;
    CHECK(with_queues(2));
    CHECK_EQ(set_rss(&m), RNDIS_STATUS_SUCCESS);
    CHECK(comes_by(&flows[2], flows[2].ports_hash % 2, true, flows[2].ports_hash));
    CHECK(comes_by(&flows[5], flows[5].addresses_hash % 2, true, flows[5].addresses_hash));
    CHECK(comes_by(&udp, 0, false, 0));
    build(&flows[1], frame);
    frame[14 + 6] = 0x20;                               /* a fragment has no ports */
    CHECK(deliver(frame, 54));
    CHECK(take_frame(&primary, &id, &hashed, &hash) && !hashed);
    give_back(&primary, id);
    memset(frame, 0xFF, 12);
    frame[12] = 0x08;
    frame[13] = 0x06;                                   /* ARP */
    CHECK(deliver(frame, 60));
    CHECK(take_frame(&primary, &id, &hashed, &hash) && !hashed);
    CHECK_EQ(violations, 0);
    host_destroy(host);
}

TEST(the_table_decides)
{
    struct rss_set m = rss_for(1, HASH_ALL);
    uint32_t entry = flows[0].ports_hash % 128;

    CHECK(with_queues(4));
    m.table[entry] = 3;
    CHECK_EQ(set_rss(&m), RNDIS_STATUS_SUCCESS);
    CHECK(comes_by(&flows[0], 3, true, flows[0].ports_hash));
    CHECK(comes_by(&flows[1], 0, true, flows[1].ports_hash));
    m.table[entry] = 2;
    CHECK_EQ(set_rss(&m), RNDIS_STATUS_SUCCESS);
    CHECK(comes_by(&flows[0], 2, true, flows[0].ports_hash));
    m.p.table_bytes = 8;                                /* a short table */
    m.table[0] = 1;
    m.table[1] = 3;
    CHECK_EQ(set_rss(&m), RNDIS_STATUS_SUCCESS);
    for (unsigned i = 0; i < 6; i++)
        CHECK(comes_by(&flows[i], flows[i].ports_hash % 2 ? 3 : 1, true, flows[i].ports_hash));
    m.p.flags = NDIS_RSS_DISABLE;
    CHECK_EQ(set_rss(&m), RNDIS_STATUS_SUCCESS);
    CHECK(comes_by(&flows[0], 0, false, 0));
    CHECK_EQ(violations, 0);
    host_destroy(host);
}

TEST(refused_parameters_change_nothing)
{
    struct rss_set m = rss_for(2, HASH_ALL);

    CHECK(with_rss(2));
    m.table[127] = 4;                                   /* there are queues 0 to 3 */
    m.key[0] = 0;
    CHECK_EQ(set_rss(&m), RNDIS_STATUS_INVALID_DATA);
    for (unsigned i = 0; i < 6; i++)
        CHECK(comes_by(&flows[i], flows[i].ports_hash % 2, true, flows[i].ports_hash));
    host_destroy(host);
}

#define BAD_RSS(name, text, ...)                                                                            \
    RULE(name, with_rss_of_two, text, { struct rss_set m = rss_for(2, HASH_ALL); __VA_ARGS__; set_rss(&m); })

BAD_RSS(rss_key_of_39, "the key is not", m.p.key_bytes = 39)
BAD_RSS(rss_key_outside, "the key is not", m.p.key_offset = sizeof(m) - sizeof(m.head) - 39)
BAD_RSS(rss_key_far_outside, "the key is not", m.p.key_offset = UINT32_MAX)
BAD_RSS(rss_table_outside, "the table is not", m.p.table_offset = sizeof(m))
BAD_RSS(rss_table_of_none, "the table is not", m.p.table_bytes = 0)
BAD_RSS(rss_table_odd, "the table is not", m.p.table_bytes = 6)
BAD_RSS(rss_table_too_long, "the table is not", m.p.table_bytes = 516)
BAD_RSS(rss_other_hash, "not Toeplitz", m.p.hash_information = 2)
BAD_RSS(rss_queue_too_far, "names queue 4 of 4", m.table[5] = 4)
BAD_RSS(rss_queue_not_open, "whose channel is not open", m.table[5] = 2)
BAD_RSS(rss_unchanged, "hosts take key and table anew", m.p.flags = 8)
BAD_RSS(rss_header, "object header", m.p.header.type = NDIS_OBJECT_DEFAULT)
static bool with_one(void)
{
    queues = 1;
    start_multi();
    primary.relid = 0;
    return nic_ready(&nic, &relid);
}
RULE(rss_of_one_queue, with_one, "adapter of one queue", {
    struct rss_set m = rss_for(1, HASH_ALL);
    set_rss(&m);
})

/* ---- receive sections ------------------------------------------------------------------------------- */

TEST(sections_come_back_by_their_channel)
{
    uint64_t id;
    uint32_t hash;
    bool hashed;

    CHECK(with_rss(2));
    CHECK_EQ(flows[5].ports_hash % 2, 1);
    CHECK(deliver_flow(&flows[5]));
    CHECK(take_frame(&subs[0], &id, &hashed, &hash));
    CHECK_EQ(sections_held(), 1);
    give_back(&primary, id);
    CHECK_EQ(violations, 1);
    CHECK(strstr(last_violation, "not out on channel") != NULL);
    CHECK_EQ(sections_held(), 1);
    give_back(&subs[0], id);
    CHECK_EQ(sections_held(), 0);
    CHECK_EQ(violations, 1);
    host_destroy(host);
}

/* A channel whose VP does nothing keeps its share; what the other needs is left. */
TEST(each_queue_has_its_share)
{
    uint32_t first = 0, second = 0, seen = 0, count;
    struct vmbus_packet_header head;
    static uint8_t packet[65536];

    CHECK(with_rss(2));
    CHECK_EQ(flows[0].ports_hash % 2, 0);
    while (deliver_flow(&flows[5]))
        second++;
    CHECK(!host_net_rx_room(nic));
    while (deliver_flow(&flows[0]))
        first++;
    CHECK(first > 500);
    CHECK_EQ(first, second);
    while (next_packet(&subs[0], &head, packet) != 0) {
        memcpy(&count, packet + 20, 4);
        seen += count;
        give_back(&subs[0], head.transaction_id);
        poll_all();
    }
    CHECK_EQ(seen, second);
    CHECK(!host_net_rx_room(nic));                      /* the primary still has none */
    CHECK(deliver_flow(&flows[5]) && !deliver_flow(&flows[0]));
    CHECK_EQ(violations, 0);
    host_destroy(host);
}

TEST(a_closed_channel_leaves_its_sections)
{
    uint64_t id;
    uint32_t hash;
    bool hashed;

    CHECK(with_rss(2));
    CHECK(deliver_flow(&flows[5]) && deliver_flow(&flows[5]));
    CHECK(take_frame(&subs[0], &id, &hashed, &hash));
    CHECK_EQ(sections_held(), 2);
    CHECK(close_channel(&subs[0]));
    CHECK_EQ(sections_held(), 0);
    CHECK(comes_by(&flows[5], 0, true, flows[5].ports_hash));   /* the primary takes over */
    CHECK(open_subs(1));
    CHECK(comes_by(&flows[5], 1, true, flows[5].ports_hash));
    CHECK_EQ(violations, 0);
    host_destroy(host);
}

/* ---- another number of queues ----------------------------------------------------------------------- */

/* As the guests do it: filter off, HALT, buffers revoked, all closed, and from the beginning. */
TEST(closed_and_opened_with_another_number)
{
    struct rndis_initialize init = {{RNDIS_INITIALIZE, sizeof(init)}, 1, 1, 0, 0x4000};
    struct rndis_initialize_complete up = {.status = 1};
    struct {
        struct rndis_request head;
        uint32_t filter;
    } filter = {{{RNDIS_SET, sizeof(filter)}, 2, OID_GEN_CURRENT_PACKET_FILTER, 4, 20, 0}, NDIS_FILTER_DIRECTED};
    struct rndis_halt halt = {{RNDIS_HALT, sizeof(halt)}, 3};
    struct rndis_set_complete set;
    struct rss_set m;
    struct channel old;
    struct nvsp_message n;
    uint32_t gpadls[2] = {6, 7};

    CHECK(with_rss(2));
    CHECK(deliver_flow(&flows[5]));                     /* not given back any more */
    old = subs[0];
    use(&primary);
    CHECK(rndis(relid, NVSP_CHANNEL_CONTROL, &halt, sizeof(halt), NULL, 0));
    n = (struct nvsp_message){.type = NVSP_REVOKE_RECEIVE_BUFFER, .revoke = {0xCAFE}};
    nvsp(relid, &n, false);
    n = (struct nvsp_message){.type = NVSP_REVOKE_SEND_BUFFER, .revoke = {0}};
    nvsp(relid, &n, false);
    CHECK(close_channel(&old));
    post_relid(VMBUS_MSG_CLOSE_CHANNEL, primary.relid);
    CHECK(rescinded(old.relid));
    teardown(primary.relid, primary.gpadl);
    for (unsigned i = 0; i < 2; i++)
        teardown(primary.relid, gpadls[i]);
    CHECK_EQ(channels_offered(), 1);
    CHECK_EQ(sections_held(), 0);

    use(&primary);
    CHECK(open_channel(relid));
    n = (struct nvsp_message){.type = NVSP_INIT, .init = {NVSP_VERSION_6_1, NVSP_VERSION_6_1}};
    CHECK(nvsp(relid, &n, true) && n.init_complete.status == NVSP_STATUS_SUCCESS);
    n = (struct nvsp_message){.type = NVSP_SEND_NDIS_CONFIG, .ndis_config = {1514, 0, NVSP_NDIS_CAP_8021Q}};
    nvsp(relid, &n, false);
    n = (struct nvsp_message){.type = NVSP_SEND_NDIS_VERSION, .ndis_version = {6, 30}};
    nvsp(relid, &n, false);
    CHECK(make_gpadl(relid, 8, PAGE_RECV, 512) && make_gpadl(relid, 9, PAGE_SEND, 256));
    n = (struct nvsp_message){.type = NVSP_SEND_RECEIVE_BUFFER, .buffer = {8, 0xCAFE}};
    CHECK(nvsp(relid, &n, true) && n.receive_buffer_complete.status == 1);
    n = (struct nvsp_message){.type = NVSP_SEND_SEND_BUFFER, .buffer = {9, 0}};
    CHECK(nvsp(relid, &n, true) && n.send_buffer_complete.status == 1);
    CHECK(rndis(relid, NVSP_CHANNEL_CONTROL, &init, sizeof(init), &up, sizeof(up)) && up.status == 0);
    CHECK(rndis(relid, NVSP_CHANNEL_CONTROL, &filter, sizeof(filter), &set, sizeof(set)) && set.status == 0);
    CHECK(comes_by(&flows[5], 0, false, 0));            /* nothing of the old settings is left */

    CHECK_EQ(allocate(3), NVSP_STATUS_SUCCESS);         /* the old relid is not released yet */
    CHECK(take_sub_offers(3) && open_subs(3) && take_table(4));
    m = rss_for(4, HASH_ALL);
    CHECK_EQ(set_rss(&m), RNDIS_STATUS_SUCCESS);
    for (unsigned i = 0; i < 6; i++)
        CHECK(comes_by(&flows[i], flows[i].ports_hash % 4, true, flows[i].ports_hash));
    post_relid(VMBUS_MSG_RELID_RELEASED, old.relid);
    CHECK(comes_by(&flows[5], flows[5].ports_hash % 4, true, flows[5].ports_hash));
    CHECK_EQ(channels_offered(), 4);
    CHECK_EQ(violations, 0);
    host_destroy(host);
}

TEST(removed_with_its_queues)
{
    CHECK(with_rss(4));
    CHECK(deliver_flow(&flows[0]) && deliver_flow(&flows[5]));
    host_remove_nic(host, nic);
    poll_all();
    for (unsigned i = 0; i < 3; i++)
        CHECK(rescinded(subs[i].relid));
    CHECK(rescinded(relid));
    CHECK_EQ(sections_held(), 0);
    CHECK(deliver_flow(&flows[5]));                     /* dropped */
    CHECK_EQ(channels_offered(), 0);
    CHECK_EQ(violations, 0);
    host_destroy(host);
}

TEST_MAIN()
