/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * netvsp of the host model against a guest played by hand: frames both ways, checksums, segmentation,
 * back-pressure.
 */
#include "tests/unit/played_nic.h"

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
