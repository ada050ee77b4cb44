/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * netvsp of the host model against a guest played by hand: frames both ways, checksums, segmentation,
 * back-pressure.
 */
#include "tests/unit/played_guest.h"

/* ---- netvsp ----------------------------------------------------------------------------------------- */

static uint8_t sent[4][2048];
static unsigned sent_count, sent_bytes[4];

static bool net_tx(void *backend, const struct host_frame *frame)
{
    unsigned at = 0;

    (void)backend;
    for (uint32_t i = 0; i < frame->seg_count; i++) {
        memcpy(sent[sent_count % 4] + at, frame->segs[i].data, frame->segs[i].bytes);
        at += frame->segs[i].bytes;
    }
    sent_bytes[sent_count++ % 4] = at;
    return true;
}

static const struct host_net_ops net_ops = {.tx = net_tx};
static const struct host_net_ops *nic_backend = &net_ops;
static uint16_t queues = 1;

static bool nvsp(uint32_t relid, struct nvsp_message *m, bool completion)
{
    struct vmbus_packet_header head;
    uint8_t packet[512];

    send(relid, VMBUS_PACKET_INBAND, completion, 21, NULL, 0, m, sizeof(*m));
    if (!completion)
        return true;
    if (receive(&head, packet) < 28 || head.transaction_id != 21)
        return false;
    memset(m, 0, sizeof(*m));
    memcpy(m, packet + head.data_offset8 * 8u, (head.length8 - head.data_offset8) * 8u);
    return true;
}

/* A message in send section 0; the answer, if one is wanted, is copied out of the receive buffer and
 * returned. */
static bool rndis(uint32_t relid, uint32_t channel, const void *message, uint32_t bytes, void *answer,
                  uint32_t room)
{
    struct nvsp_message m = {.type = NVSP_SEND_RNDIS_PACKET, .rndis = {channel, 0, bytes}};
    struct vmbus_packet_header head;
    uint8_t packet[4096];
    uint32_t range[2], done[2] = {NVSP_SEND_RNDIS_PACKET_COMPLETE, NVSP_STATUS_SUCCESS};

    memcpy(ram + PAGE_SEND * 4096u, message, bytes);
    if (!nvsp(relid, &m, true) || m.type != NVSP_SEND_RNDIS_PACKET_COMPLETE || m.rndis_complete.status != 1)
        return false;
    if (room == 0)
        return true;
    if (receive(&head, packet) == 0 || head.type != VMBUS_PACKET_TRANSFER_PAGES)
        return false;
    memcpy(range, packet + 24, 8);
    memcpy(answer, ram + PAGE_RECV * 4096u + range[1], range[0] < room ? range[0] : room);
    send(relid, VMBUS_PACKET_COMPLETION, 0, head.transaction_id, NULL, 0, done, sizeof(done));
    return true;
}

static bool nic_ready(struct host_nic **nic, uint32_t *relid)
{
    struct rndis_initialize init = {{RNDIS_INITIALIZE, sizeof(init)}, 1, 1, 0, 0x4000};
    struct rndis_initialize_complete up = {.status = 1};
    struct {
        struct rndis_request head;
        uint32_t filter;
    } filter = {{{RNDIS_SET, sizeof(filter)}, 2, OID_GEN_CURRENT_PACKET_FILTER, 4, 20, 0},
                NDIS_FILTER_DIRECTED | NDIS_FILTER_BROADCAST};
    struct rndis_set_complete set = {.status = 1};
    struct host_nic_config cfg;
    struct vmbus_msg_offer_channel offer;
    struct nvsp_message m;

    host_nic_config_default(&cfg);
    cfg.max_queues = queues;
    *nic = host_add_nic(host, &cfg, nic_backend, NULL);
    if (!connect(VMBUS_VERSION_WIN10_5_3) || !first_offer(&offer) || !open_channel(offer.relid))
        return false;
    *relid = offer.relid;
    m = (struct nvsp_message){.type = NVSP_INIT, .init = {NVSP_VERSION_6_1, NVSP_VERSION_6_1}};
    if (!nvsp(*relid, &m, true) || m.init_complete.status != NVSP_STATUS_SUCCESS)
        return false;
    m = (struct nvsp_message){.type = NVSP_SEND_NDIS_CONFIG, .ndis_config = {1514, 0, NVSP_NDIS_CAP_8021Q}};
    nvsp(*relid, &m, false);
    m = (struct nvsp_message){.type = NVSP_SEND_NDIS_VERSION, .ndis_version = {6, 30}};
    nvsp(*relid, &m, false);
    if (!make_gpadl(*relid, 6, PAGE_RECV, 512) || !make_gpadl(*relid, 7, PAGE_SEND, 256))
        return false;
    m = (struct nvsp_message){.type = NVSP_SEND_RECEIVE_BUFFER, .buffer = {6, 0xCAFE}};
    if (!nvsp(*relid, &m, true) || m.receive_buffer_complete.status != 1)
        return false;
    m = (struct nvsp_message){.type = NVSP_SEND_SEND_BUFFER, .buffer = {7, 0}};
    if (!nvsp(*relid, &m, true) || m.send_buffer_complete.section_bytes != 6144)
        return false;
    return rndis(*relid, NVSP_CHANNEL_CONTROL, &init, sizeof(init), &up, sizeof(up)) && up.status == 0 &&
           rndis(*relid, NVSP_CHANNEL_CONTROL, &filter, sizeof(filter), &set, sizeof(set)) && set.status == 0;
}

TEST(host_network_both_ways)
{
    struct {
        struct rndis_packet head;
        uint8_t frame[64];
    } out = {{{RNDIS_PACKET, sizeof(out)}, 36, 64, 0, 0, 0, 0, 0, 0, 0},
             {0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1}};
    uint8_t wire[100], message[2048];
    struct host_seg seg = {wire, sizeof(wire)};
    struct host_frame frame = {&seg, 1, sizeof(wire), false, 0};
    struct rndis_packet in;
    struct host_nic_config cfg;
    struct host_nic *nic;
    struct vmbus_packet_header head;
    uint32_t relid, range[2], done[2] = {NVSP_SEND_RNDIS_PACKET_COMPLETE, NVSP_STATUS_SUCCESS};
    struct host_state state;

    start();
    CHECK(nic_ready(&nic, &relid));
    CHECK(rndis(relid, NVSP_CHANNEL_DATA, &out, sizeof(out), NULL, 0));
    CHECK_EQ(sent_count, 1);
    CHECK_EQ(sent_bytes[0], 64);
    CHECK_EQ(sent[0][6], 1);

    host_nic_config_default(&cfg);
    memset(wire, 0x33, sizeof(wire));
    memcpy(wire, cfg.mac, 6);
    CHECK(host_net_rx(nic, &frame, false));
    poll_all();
    CHECK(receive(&head, message) != 0);
    CHECK_EQ(head.type, VMBUS_PACKET_TRANSFER_PAGES);
    memcpy(range, message + 24, 8);
    memcpy(&in, ram + PAGE_RECV * 4096u + range[1], sizeof(in));
    CHECK_EQ(in.data_length, 100);
    CHECK(memcmp(ram + PAGE_RECV * 4096u + range[1] + 8 + in.data_offset, wire, 100) == 0);
    host_get_state(host, &state);
    CHECK_EQ(state.rx_sections_held, 1);
    send(relid, VMBUS_PACKET_COMPLETION, 0, head.transaction_id, NULL, 0, done, sizeof(done));
    host_get_state(host, &state);
    CHECK_EQ(state.rx_sections_held, 0);
    CHECK_EQ(violations, 0);
    send(relid, VMBUS_PACKET_COMPLETION, 0, head.transaction_id, NULL, 0, done, sizeof(done));
    CHECK_EQ(violations, 1);
    host_destroy(host);
}

TEST(host_segments_and_sums)
{
    struct {
        struct rndis_packet head;
        struct rndis_ppi_word lso;
        uint8_t frame[14 + 20 + 20 + 2000];
    } out;
    struct {
        struct rndis_request head;
        struct ndis_offload_parameters p;
    } on = {{{RNDIS_SET, sizeof(on)}, 3, OID_TCP_OFFLOAD_PARAMETERS, sizeof(on.p), 20, 0},
            {.header = {NDIS_OBJECT_DEFAULT, 3, sizeof(on.p)}, .ipv4_checksum = NDIS_OFFLOAD_TX_RX,
             .tcp_ipv4_checksum = NDIS_OFFLOAD_TX_RX, .lso_v2_ipv4 = NDIS_OFFLOAD_LSO_ON}};
    struct rndis_set_complete set = {.status = 1};
    struct host_nic *nic;
    uint32_t relid, sum;
    uint8_t *ip = out.frame + 14, *tcp = out.frame + 34;

    start();
    CHECK(nic_ready(&nic, &relid));
    CHECK(rndis(relid, NVSP_CHANNEL_CONTROL, &on, sizeof(on), &set, sizeof(set)));
    CHECK_EQ(set.status, 0);
    memset(&out, 0, sizeof(out));
    out.head = (struct rndis_packet){{RNDIS_PACKET, sizeof(out)}, 52, sizeof(out.frame), 0, 0, 0, 36, 16, 0,
                                     0};
    out.lso = (struct rndis_ppi_word){{16, RNDIS_PPI_LSO, 12}, 1000 | 34u << 20 | RNDIS_LSO_TYPE_V2};
    out.frame[12] = 8;
    ip[0] = 0x45;
    ip[8] = 64;
    ip[9] = 6;
    ip[12] = 10; ip[15] = 1;
    ip[16] = 10; ip[19] = 2;
    tcp[12] = 0x50;
    tcp[13] = 0x18;
    sum = 0x0A00 + 1 + 0x0A00 + 2 + 6;              /* the pseudo header with length 0 */
    tcp[16] = (uint8_t)(sum >> 8);
    tcp[17] = (uint8_t)sum;
    memset(tcp + 20, 0xAB, 2000);
    CHECK(rndis(relid, NVSP_CHANNEL_DATA, &out, sizeof(out), NULL, 0));
    CHECK_EQ(violations, 0);
    CHECK_EQ(sent_count, 2);
    CHECK_EQ(sent_bytes[0], 1054);
    CHECK_EQ(sent_bytes[1], 1054);
    CHECK_EQ(sent[0][34 + 13], 0x10);                /* PSH only in the last */
    CHECK_EQ(sent[1][34 + 13], 0x18);
    CHECK_EQ(sent[1][34 + 6] << 8 | sent[1][34 + 7], 1000);
    for (unsigned n = 0; n < 2; n++) {
        const uint8_t *f = sent[n];
        sum = 0;
        for (unsigned i = 14; i < 34; i += 2)
            sum += (uint32_t)f[i] << 8 | f[i + 1];
        CHECK_EQ((sum & 0xFFFF) + (sum >> 16), 0xFFFF);
        sum = 6 + 1020;
        for (unsigned i = 26; i < 1054; i += 2)
            sum += (uint32_t)f[i] << 8 | f[i + 1];
        while (sum >> 16)
            sum = (sum & 0xFFFF) + (sum >> 16);
        CHECK_EQ(sum, 0xFFFF);
    }
    host_destroy(host);
}

/* ---- back-pressure and queues ----------------------------------------------------------------------- */

static bool refuse;
static unsigned refused_at;

static bool net_tx_or_not(void *backend, const struct host_frame *frame)
{
    if (refuse && sent_count == refused_at)
        return false;
    return net_tx(backend, frame);
}

TEST(host_resumes_a_stalled_packet)
{
    struct {
        struct rndis_packet head;
        uint8_t frame[60];
    } one = {{{RNDIS_PACKET, sizeof(one)}, 36, 60, 0, 0, 0, 0, 0, 0, 0},
             {0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF}};
    static const struct host_net_ops stalling = {.tx = net_tx_or_not};
    struct nvsp_message m = {.type = NVSP_SEND_RNDIS_PACKET,
                             .rndis = {NVSP_CHANNEL_DATA, 0, 3 * sizeof(one)}};
    struct vmbus_packet_header head;
    struct host_nic *nic;
    uint8_t packet[512];
    uint32_t relid;

    start();
    nic_backend = &stalling;
    CHECK(nic_ready(&nic, &relid));
    refuse = true;
    refused_at = 2;
    for (unsigned i = 0; i < 3; i++) {
        one.frame[6] = (uint8_t)i;
        memcpy(ram + PAGE_SEND * 4096u + i * sizeof(one), &one, sizeof(one));
    }
    CHECK(!nvsp(relid, &m, true));
    CHECK_EQ(sent_count, 2);
    refuse = false;
    host_net_tx_ready(nic);
    poll_all();
    CHECK_EQ(sent_count, 3);
    CHECK_EQ(sent[2][6], 2);
    CHECK(receive(&head, packet) >= 8);
    CHECK_EQ(head.type, VMBUS_PACKET_COMPLETION);
    CHECK_EQ(violations, 0);
    host_destroy(host);
}

TEST(host_batches_and_runs_out_of_sections)
{
    uint8_t wire[60], *message = calloc(1, 65536);
    struct host_seg seg = {wire, sizeof(wire)};
    struct host_frame frame = {&seg, 1, sizeof(wire), false, 0};
    uint32_t relid, count, taken = 0, seen = 0, done[2] = {NVSP_SEND_RNDIS_PACKET_COMPLETE,
                                                           NVSP_STATUS_SUCCESS};
    struct vmbus_packet_header head;
    struct host_nic *nic;

    start();
    CHECK(nic_ready(&nic, &relid));
    memset(wire, 0xFF, sizeof(wire));
    while (host_net_rx(nic, &frame, false))
        taken++;
    CHECK(taken > 1000);
    poll_all();
    while (receive(&head, message) != 0) {
        memcpy(&count, message + 20, 4);
        CHECK(count <= 375);
        seen += count;
        send(relid, VMBUS_PACKET_COMPLETION, 0, head.transaction_id, NULL, 0, done, sizeof(done));
    }
    CHECK_EQ(seen, taken);
    CHECK(host_net_rx_room(nic));
    CHECK_EQ(host_counters(host)->rx_packets, 2 + (taken + 374) / 375);
    CHECK_EQ(violations, 0);
    host_destroy(host);
    free(message);
}

TEST(host_grants_sub_channels)
{
    struct vmbus_msg_relid close = {.header = {.type = VMBUS_MSG_CLOSE_CHANNEL}};
    struct vmbus_msg_offer_channel offer = {.sub_channel_index = 9};
    struct vmbus_msg_relid gone = {.relid = 0};
    struct nvsp_message m;
    struct host_nic *nic;
    uint32_t relid;

    start();
    queues = 4;
    CHECK(nic_ready(&nic, &relid));
    m = (struct nvsp_message){.type = NVSP_SUBCHANNEL, .subchannel = {NVSP_SUBCHANNEL_ALLOCATE, 2}};
    CHECK(nvsp(relid, &m, true));
    CHECK_EQ(m.subchannel.operation, NVSP_STATUS_SUCCESS);
    CHECK_EQ(m.subchannel.count, 2);
    CHECK(take(VMBUS_MSG_OFFER_CHANNEL, &offer, sizeof(offer)));
    CHECK_EQ(offer.sub_channel_index, 1);
    CHECK(take(VMBUS_MSG_OFFER_CHANNEL, &offer, sizeof(offer)));
    CHECK_EQ(offer.sub_channel_index, 2);
    close.relid = relid;
    post(4, &close, sizeof(close));
    CHECK(take(VMBUS_MSG_RESCIND_OFFER, &gone, sizeof(gone)) &&
          take(VMBUS_MSG_RESCIND_OFFER, &gone, sizeof(gone)));
    CHECK_EQ(violations, 0);
    host_destroy(host);
}

TEST_MAIN()
