/* SPDX-License-Identifier: BSD-2-Clause */
/* ROOMS: lib drivers */
/* RNDIS: what we build has its fields where the specification wants them; the host's lies are refused; parsing ends. */
#include "drivers/rndis.h"
#include "tests/unit/test.h"

struct built { struct rndis_packet p; struct rndis_ppi_word w; };

TEST(plain_frame_has_no_packet_information)
{
    struct nic_tx tx = {.total_bytes = 60};
    struct rndis_packet p;

    CHECK_EQ(rndis_tx_header_bytes(&tx), 44);
    CHECK_EQ(rndis_tx_header(&p, &tx), 44);
    CHECK_EQ(p.header.type, RNDIS_PACKET);
    CHECK_EQ(p.header.length, 104);
    CHECK_EQ(p.data_offset, 36);
    CHECK_EQ(p.data_length, 60);
    CHECK_EQ(p.ppi_offset, 0);
    CHECK_EQ(p.ppi_length, 0);
    CHECK_EQ(p.oob_offset | p.oob_length | p.oob_count | p.vc_handle | p.reserved, 0);
}

TEST(checksum_word_names_what_the_host_fills_in)
{
    struct nic_tx tx = {.total_bytes = 1000, .flags = NIC_TX_CSUM_UDP | NIC_TX_CSUM_IP4, .transport_offset = 34};
    struct built b;

    CHECK_EQ(rndis_tx_header(&b, &tx), 60);
    CHECK_EQ(b.p.header.length, 1060);
    CHECK_EQ(b.p.data_offset, 52);
    CHECK_EQ(b.p.ppi_offset, 36);
    CHECK_EQ(b.p.ppi_length, 16);
    CHECK_EQ(b.w.ppi.bytes, 16);
    CHECK_EQ(b.w.ppi.data_offset, 12);
    CHECK_EQ(b.w.ppi.type, RNDIS_PPI_CHECKSUM);
    CHECK_EQ(b.w.value, RNDIS_TX_CHECKSUM_IPV4 | RNDIS_TX_CHECKSUM_UDP | RNDIS_TX_CHECKSUM_IP_HEADER | 34u << 16);
    tx.flags = NIC_TX_CSUM_TCP | NIC_TX_IP6;
    tx.transport_offset = 54;
    rndis_tx_header(&b, &tx);
    CHECK_EQ(b.w.value, RNDIS_TX_CHECKSUM_IPV6 | RNDIS_TX_CHECKSUM_TCP | 54u << 16);
}

TEST(lso_word_and_the_headers_it_wants)
{
    struct nic_tx tx = {.total_bytes = 14 + 20 + 20 + 10000, .flags = NIC_TX_LSO | NIC_TX_CSUM_TCP,
                        .transport_offset = 34, .mss = 1460};
    uint8_t frame[54] = {0};
    struct built b;
    uint16_t sum;

    rndis_tx_header(&b, &tx);
    CHECK_EQ(b.w.ppi.type, RNDIS_PPI_LSO);
    CHECK_EQ(b.w.value, 1460u | 34u << 20 | RNDIS_LSO_TYPE_V2);
    frame[16] = 0x27;                    /* IP total length and checksum: anything */
    frame[24] = 0x55;
    /* A pseudo-header sum over protocol 6 and length 10020 alone: without the length only the protocol is left. */
    uint32_t s = 6 + 10020;
    frame[50] = (uint8_t)(s >> 8);
    frame[51] = (uint8_t)s;
    rndis_lso_prepare(frame, &tx);
    CHECK_EQ(frame[16] | frame[17] | frame[24] | frame[25], 0);
    sum = (uint16_t)(frame[50] << 8 | frame[51]);
    CHECK_EQ(sum, 6);
}

/* A sound data message: header, one checksum and one VLAN element, a gap, the frame. */
#define GOOD_BYTES 300u
static void make_good(uint8_t *m)
{
    struct rndis_packet p = {.header = {RNDIS_PACKET, GOOD_BYTES}, .data_offset = 192, .data_length = 100,
                             .ppi_offset = 36, .ppi_length = 32};
    struct rndis_ppi_word c = {{16, RNDIS_PPI_CHECKSUM, 12}, RNDIS_RX_CHECKSUM_TCP_OK | RNDIS_RX_CHECKSUM_IP_OK};
    struct rndis_ppi_word v = {{16, RNDIS_PPI_VLAN, 12}, 3u | 42u << RNDIS_VLAN_ID_SHIFT};

    memset(m, 0, GOOD_BYTES);
    memcpy(m, &p, sizeof(p));
    memcpy(m + 44, &c, sizeof(c));
    memcpy(m + 60, &v, sizeof(v));
}

static const char *rx_parse(const void *message, uint32_t bytes, struct rndis_rx *rx)
{
    struct rndis_header header = rndis_header_read(message, bytes);
    return rndis_rx_parse(message, bytes, &header, rx);
}

static const char *header_parse(const void *message, uint32_t bytes, struct rndis_header *header)
{
    *header = rndis_header_read(message, bytes);
    return rndis_header_check(header, bytes);
}

TEST(good_message_is_understood)
{
    uint8_t m[GOOD_BYTES];
    struct rndis_rx rx;

    make_good(m);
    CHECK(!rx_parse(m, sizeof(m), &rx));
    CHECK_EQ(rx.frame_offset, 200);
    CHECK_EQ(rx.frame_bytes, 100);
    CHECK_EQ(rx.flags, NIC_RX_CSUM_IP4_OK | NIC_RX_CSUM_L4_OK);
    CHECK_EQ(rx.vlan, 42);
}

/* Each is one word of the good message replaced. Exactly allocated memory, so that a read beyond it is seen. */
TEST(each_lie_is_refused)
{
    static const struct { unsigned at; uint32_t value; } lies[] = {
        {0, 2}, {4, 0}, {4, 43}, {4, 301}, {4, UINT32_MAX},
        {8, 35}, {8, 293}, {8, UINT32_MAX}, {8, 0}, {8, 193},
        {12, 101}, {12, UINT32_MAX}, {12, 13}, {12, 0},
        {28, 35}, {28, 0}, {28, 293}, {28, 261}, {28, UINT32_MAX},
        {32, 257}, {32, UINT32_MAX}, {32, 31}, {32, 1}, {32, 44},
        {44, 0}, {44, 11}, {44, 33}, {44, UINT32_MAX}, {44, 21},
        {52, 13}, {52, 11}, {52, 0}, {52, UINT32_MAX},
        {60, 0}, {60, 17}, {60, 12},
    };
    struct rndis_rx rx;

    for (unsigned i = 0; i < ARRAY_SIZE(lies); i++) {
        uint8_t *m = malloc(GOOD_BYTES);
        make_good(m);
        memcpy(m + lies[i].at, &lies[i].value, 4);
        const char *wrong = rx_parse(m, GOOD_BYTES, &rx);
        free(m);
        if (!wrong)
            printf("lie %u: byte %u := 0x%x was believed\n", i, lies[i].at, lies[i].value);
        CHECK(wrong);
    }
}

TEST(cut_and_random_messages_are_survived)
{
    struct rndis_rx rx;
    uint64_t state = 88172645463325252ull;

    for (unsigned n = 0; n <= GOOD_BYTES; n++) {
        uint8_t *m = malloc(n ? n : 1), whole[GOOD_BYTES];
        make_good(whole);
        memcpy(m, whole, n);
        CHECK((rx_parse(m, n, &rx) == NULL) == (n == GOOD_BYTES));
        free(m);
    }
    for (unsigned i = 0; i < 200000; i++) {
        uint8_t *m = malloc(GOOD_BYTES);
        make_good(m);
        for (unsigned k = 0; k < 3; k++) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            unsigned at = state % 76;
            m[at] = (uint8_t)(state >> 32);
        }
        if (!rx_parse(m, GOOD_BYTES, &rx)) {
            CHECK(rx.frame_offset >= 44 && rx.frame_offset <= GOOD_BYTES);
            CHECK(rx.frame_bytes <= GOOD_BYTES - rx.frame_offset);
        }
        free(m);
    }
}

TEST(header_alone_is_checked)
{
    uint32_t m[3] = {RNDIS_KEEPALIVE, 12, 1};
    struct rndis_header h;

    CHECK(!header_parse(m, 12, &h));
    CHECK_EQ(h.length, 12);
    CHECK(header_parse(m, 7, &h));
    CHECK(header_parse(m, 11, &h));
    m[1] = 7;
    CHECK(header_parse(m, 12, &h));
}

TEST(requests_carry_their_information_right_behind)
{
    uint8_t out[128];
    uint32_t filter = 9;
    struct rndis_request r;
    struct rndis_initialize i;

    CHECK_EQ(rndis_build_request(out, RNDIS_SET, 7, OID_GEN_CURRENT_PACKET_FILTER, &filter, 4), 32);
    memcpy(&r, out, sizeof(r));
    CHECK_EQ(r.header.length, 32);
    CHECK_EQ(r.request_id, 7);
    CHECK_EQ(r.info_offset, 20);
    CHECK_EQ(r.info_length, 4);
    CHECK_EQ(out[28], 9);
    CHECK_EQ(rndis_build_request(out, RNDIS_QUERY, 8, OID_GEN_LINK_SPEED, NULL, 0), 28);
    CHECK_EQ(rndis_build_initialize(out, 1), 24);
    memcpy(&i, out, sizeof(i));
    CHECK_EQ(i.major, 1);
    CHECK_EQ(rndis_build_halt(out, 2), 12);
}

TEST(query_answers_that_point_outside_are_refused)
{
    struct { struct rndis_query_complete c; uint8_t info[8]; } a = {
        .c = {{RNDIS_QUERY | RNDIS_COMPLETE, 32}, 5, 0, 8, 16}, .info = {1, 2, 3},
    };
    uint32_t got;

    CHECK(rndis_query_info(&a, sizeof(a), &got) == a.info);
    CHECK_EQ(got, 8);
    CHECK(!rndis_query_info(&a, 23, &got));
    CHECK(!rndis_query_info(&a, 31, &got));
    a.c.info_offset = 15;
    CHECK(!rndis_query_info(&a, sizeof(a), &got));
    a.c.info_offset = 25;
    CHECK(!rndis_query_info(&a, sizeof(a), &got));
    a.c.info_offset = UINT32_MAX;
    CHECK(!rndis_query_info(&a, sizeof(a), &got));
    a.c.info_offset = 16;
    a.c.info_length = UINT32_MAX;
    CHECK(!rndis_query_info(&a, sizeof(a), &got));
}

static struct ndis_offload all_offered(void)
{
    struct ndis_offload o = {.header = {NDIS_OBJECT_OFFLOAD, 3, NDIS_OFFLOAD_BYTES_REV3}};
    o.checksum.ipv4_tx = o.checksum.ipv4_rx = 0x155;
    o.checksum.ipv6_tx = o.checksum.ipv6_rx = 0x055;
    o.lso_v2 = (struct ndis_lso_v2_capabilities){2, 65536, 2, 2, 60000, 2, 5};
    return o;
}

TEST(offloads_follow_the_offer)
{
    struct ndis_offload o = all_offered();
    struct ndis_offload_parameters p;
    uint32_t bytes = 0;
    struct rndis_offloads c = rndis_choose_offloads(&o, sizeof(o), true, &p, &bytes);

    CHECK_EQ(c.tx, NIC_TX_CSUM_IP4 | NIC_TX_CSUM_TCP | NIC_TX_CSUM_UDP | NIC_TX_IP6 | NIC_TX_LSO);
    CHECK_EQ(c.rx, NIC_RX_CSUM_IP4_OK | NIC_RX_CSUM_L4_OK);
    CHECK_EQ(c.lso_max_bytes, 60000);
    CHECK_EQ(bytes, 28);
    CHECK_EQ(p.udp_ipv6_checksum, NDIS_OFFLOAD_TX_RX);
    CHECK_EQ(p.lso_v2_ipv4, NDIS_OFFLOAD_LSO_ON);

    /* Hosts of NVSP 4 and before: no UDP, and the short form. */
    c = rndis_choose_offloads(&o, NDIS_OFFLOAD_BYTES_REV1, false, &p, &bytes);
    CHECK(!(c.tx & NIC_TX_CSUM_UDP));
    CHECK(c.tx & NIC_TX_CSUM_TCP);
    CHECK_EQ(bytes, 22);
    CHECK_EQ(p.header.bytes, 22);
    CHECK_EQ(p.udp_ipv4_checksum, 0);

    /* Nothing without TCP options: segments carry them. */
    o.checksum.ipv4_tx = NDIS_CHECKSUM_TCP;
    c = rndis_choose_offloads(&o, sizeof(o), true, &p, &bytes);
    CHECK(!(c.tx & (NIC_TX_CSUM_TCP | NIC_TX_LSO)));

    /* IPv6 only when it does all that IPv4 does. */
    o = all_offered();
    o.checksum.ipv6_tx = 0x015;
    c = rndis_choose_offloads(&o, sizeof(o), true, &p, &bytes);
    CHECK(!(c.tx & (NIC_TX_IP6 | NIC_TX_LSO)));
    CHECK(c.tx & NIC_TX_CSUM_UDP);

    /* Answers that are none. */
    c = rndis_choose_offloads(&o, 111, true, &p, &bytes);
    CHECK_EQ(c.tx | c.rx, 0);
    o.header.type = 0;
    c = rndis_choose_offloads(&o, sizeof(o), true, &p, &bytes);
    CHECK_EQ(c.tx | c.rx, 0);
}

TEST_MAIN()
