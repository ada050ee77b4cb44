/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Every rule about the network that hosts insist on, broken once: see rules.h. NVSP, data messages, RNDIS control,
 * received packets: 21 to 27 of what strict hosts check.
 */
#include "tests/unit/played_nic.h"
#include "tests/unit/rules.h"

static struct host_nic *nic;

static bool with_nic(void)
{
    start();
    return nic_ready(&nic, &relid);
}

static bool opened(void)
{
    struct vmbus_msg_offer_channel offer;
    struct host_nic_config cfg;

    start();
    host_nic_config_default(&cfg);
    nic = host_add_nic(host, &cfg, nic_backend, NULL);
    if (!connect(VMBUS_VERSION_WIN10_5_3) || !first_offer(&offer))
        return false;
    relid = offer.relid;
    return open_channel(relid);
}

static void tell(bool completion, struct nvsp_message m) { nvsp(relid, &m, completion); }

static bool version_agreed(void)
{
    if (!opened())
        return false;
    tell(true, (struct nvsp_message){.type = NVSP_INIT, .init = {NVSP_VERSION_6_1, NVSP_VERSION_6_1}});
    return true;
}

#define CONFIG (struct nvsp_message){.type = NVSP_SEND_NDIS_CONFIG, .ndis_config = {1514, 0, 0}}

/* ---- handshake: 21 to 23, 27 ------------------------------------------------------------------------- */

RULE(nvsp_before_init, opened, "before INIT", { tell(false, CONFIG); })
RULE(nvsp_completion_before_init, opened, "not for a receive packet", {
    uint32_t done[2] = {NVSP_SEND_RNDIS_PACKET_COMPLETE, NVSP_STATUS_SUCCESS};
    send(relid, VMBUS_PACKET_COMPLETION, 0, 1, NULL, 0, done, sizeof(done));
})
RULE(nvsp_init_twice, version_agreed, "INIT after",
     { tell(true, (struct nvsp_message){.type = NVSP_INIT, .init = {NVSP_VERSION_5, NVSP_VERSION_5}}); })
RULE(nvsp_init_range, opened, "range of versions",
     { tell(true, (struct nvsp_message){.type = NVSP_INIT, .init = {NVSP_VERSION_1, NVSP_VERSION_5}}); })
RULE(nvsp_init_without_completion, opened, "asks for no completion",
     { tell(false, (struct nvsp_message){.type = NVSP_INIT, .init = {NVSP_VERSION_5, NVSP_VERSION_5}}); })
RULE(nvsp_short, opened, "message of 16 bytes", {
    uint32_t m[4] = {NVSP_INIT, NVSP_VERSION_5, NVSP_VERSION_5};
    send(relid, VMBUS_PACKET_INBAND, 1, 5, NULL, 0, m, sizeof(m));
})
RULE(nvsp_unknown, version_agreed, "message type 77", { tell(true, (struct nvsp_message){.type = 77}); })
RULE(config_twice, version_agreed, "twice", {
    tell(false, CONFIG);
    tell(false, CONFIG);
})
RULE(config_reserved, version_agreed, "reserved field",
     { tell(false, (struct nvsp_message){.type = NVSP_SEND_NDIS_CONFIG, .ndis_config = {1514, 7, 0}}); })
RULE(config_mtu_without_header, version_agreed, "frames of 1500 bytes",
     { tell(false, (struct nvsp_message){.type = NVSP_SEND_NDIS_CONFIG, .ndis_config = {1500, 0, 0}}); })
RULE(ndis_version_twice, version_agreed, "NDIS version twice", {
    tell(false, (struct nvsp_message){.type = NVSP_SEND_NDIS_VERSION, .ndis_version = {6, 30}});
    tell(false, (struct nvsp_message){.type = NVSP_SEND_NDIS_VERSION, .ndis_version = {6, 30}});
})
RULE(receive_buffer_before_config, version_agreed, "before the NDIS configuration",
     { tell(true, (struct nvsp_message){.type = NVSP_SEND_RECEIVE_BUFFER, .buffer = {6, 1}}); })
RULE(receive_buffer_twice, with_nic, "receive buffer twice",
     { tell(true, (struct nvsp_message){.type = NVSP_SEND_RECEIVE_BUFFER, .buffer = {6, 1}}); })
RULE(receive_buffer_unknown, version_agreed, "unusable or too small", {
    tell(false, CONFIG);
    tell(true, (struct nvsp_message){.type = NVSP_SEND_RECEIVE_BUFFER, .buffer = {66, 1}});
})
RULE(receive_buffer_too_small, version_agreed, "unusable or too small", {
    make_gpadl(relid, 6, PAGE_RECV, 4);
    tell(false, CONFIG);
    tell(true, (struct nvsp_message){.type = NVSP_SEND_RECEIVE_BUFFER, .buffer = {6, 1}});
})
RULE(send_buffer_twice, with_nic, "send buffer twice",
     { tell(true, (struct nvsp_message){.type = NVSP_SEND_SEND_BUFFER, .buffer = {7, 0}}); })
RULE(send_buffer_too_small, version_agreed, "unusable or too small", {
    make_gpadl(relid, 7, PAGE_SEND, 1);
    tell(true, (struct nvsp_message){.type = NVSP_SEND_SEND_BUFFER, .buffer = {7, 0}});
})
RULE(revoke_of_another_buffer, with_nic, "which was not given",
     { tell(false, (struct nvsp_message){.type = NVSP_REVOKE_RECEIVE_BUFFER, .revoke = {0xBEEF}}); })
RULE(sub_channels_without_queues, with_nic, "sub-channels of",
     { tell(true, (struct nvsp_message){.type = NVSP_SUBCHANNEL, .subchannel = {NVSP_SUBCHANNEL_ALLOCATE, 1}}); })
RULE(rndis_before_ready, version_agreed, "before the adapter is ready",
     { tell(true, (struct nvsp_message){.type = NVSP_SEND_RNDIS_PACKET, .rndis = {NVSP_CHANNEL_CONTROL, 0, 24}}); })
RULE(rndis_after_revoke, with_nic, "or after a revoke", {
    tell(false, (struct nvsp_message){.type = NVSP_REVOKE_RECEIVE_BUFFER, .revoke = {0xCAFE}});
    tell(true, (struct nvsp_message){.type = NVSP_SEND_RNDIS_PACKET, .rndis = {NVSP_CHANNEL_CONTROL, 0, 24}});
})

/* ---- data: 24 ---------------------------------------------------------------------------------------- */

struct data {
    struct rndis_packet head;
    struct rndis_ppi_word ppi;
    uint8_t frame[60];
};

static struct data plain(void)
{
    return (struct data){
        {{RNDIS_PACKET, sizeof(struct data)}, 52, 60, 0, 0, 0, 36, 16, 0, 0},
        {{16, RNDIS_PPI_CHECKSUM, 12}, 0}, {255, 255, 255, 255, 255, 255, 2},
    };
}

static void transmit(struct data d) { rndis(relid, NVSP_CHANNEL_DATA, &d, sizeof(d), NULL, 0); }

/* A good message, with changes. */
#define DATA(...) { struct data d = plain(); __VA_ARGS__; transmit(d); }

RULE(data_type, with_nic, "type or length", DATA(d.head.header.type = 99))
RULE(data_length, with_nic, "type or length", DATA(d.head.header.length += 8))
RULE(data_trailing_bytes, with_nic, "trailing bytes", DATA(d.head.header.length -= 16, d.head.data_length -= 16))
RULE(data_oob, with_nic, "out-of-band", DATA(d.head.oob_count = 1))
RULE(data_vc_handle, with_nic, "out-of-band", DATA(d.head.vc_handle = 1))
RULE(data_empty, with_nic, "data offset or length", DATA(d.head.data_length = 0))
RULE(data_beyond, with_nic, "data offset or length", DATA(d.head.data_length = 61))
RULE(data_offset_inside_header, with_nic, "data offset or length", DATA(d.head.data_offset = 20))
RULE(data_offset_wraps, with_nic, "data offset or length", DATA(d.head.data_offset = 0xFFFFFFF8))
RULE(ppi_outside, with_nic, "per-packet information offset", DATA(d.head.ppi_length = 400))
RULE(ppi_size, with_nic, "per-packet information: sizes", DATA(d.ppi.ppi.bytes = 12))
RULE(ppi_unknown, with_nic, "unknown type", DATA(d.ppi.ppi.type = 99))
RULE(checksum_of_no_ip, with_nic, "checksum of what is not IP", DATA(d.ppi.value = RNDIS_TX_CHECKSUM_IPV4))
RULE(checksum_not_switched_on, with_nic, "not switched on", DATA(
    d.frame[12] = 8, d.frame[14] = 0x45, d.frame[17] = 46, d.frame[23] = 17,
    d.ppi.value = RNDIS_TX_CHECKSUM_IPV4 | RNDIS_TX_CHECKSUM_UDP | 34u << RNDIS_TX_CHECKSUM_HEADER_SHIFT))
RULE(segmentation_of_no_tcp, with_nic, "segmentation of what is not TCP", DATA(d.ppi.ppi.type = RNDIS_PPI_LSO))
RULE(frame_too_long, with_nic, "longer than the MTU", {
    static struct { struct rndis_packet head; uint8_t frame[1600]; } d;
    d.head = (struct rndis_packet){{RNDIS_PACKET, sizeof(d)}, 36, 1600, 0, 0, 0, 0, 0, 0, 0};
    rndis(relid, NVSP_CHANNEL_DATA, &d, sizeof(d), NULL, 0);
})
RULE(nine_in_one_packet, with_nic, "too many in one packet", {
    struct data nine[9];
    for (unsigned i = 0; i < 9; i++) {
        nine[i] = plain();
        nine[i].head.header.length = sizeof(nine[i]);
    }
    rndis(relid, NVSP_CHANNEL_DATA, nine, sizeof(nine), NULL, 0);
})
RULE(send_section_beyond, with_nic, "send section", {
    tell(true, (struct nvsp_message){.type = NVSP_SEND_RNDIS_PACKET, .rndis = {NVSP_CHANNEL_DATA, 4000, 100}});
})
RULE(send_section_overrun, with_nic, "send section", {
    tell(true, (struct nvsp_message){.type = NVSP_SEND_RNDIS_PACKET, .rndis = {NVSP_CHANNEL_DATA, 0, 6145}});
})
RULE(send_without_completion, with_nic, "asks for no completion", {
    tell(false, (struct nvsp_message){.type = NVSP_SEND_RNDIS_PACKET, .rndis = {NVSP_CHANNEL_DATA, 0, 100}});
})
RULE(channel_type, with_nic, "channel type 5", {
    tell(true, (struct nvsp_message){.type = NVSP_SEND_RNDIS_PACKET, .rndis = {5, 0, 100}});
})
RULE(page_outside, with_nic, "is not visible memory", {
    struct nvsp_message m = {.type = NVSP_SEND_RNDIS_PACKET, .rndis = {NVSP_CHANNEL_DATA, NVSP_SECTION_NONE, 0}};
    uint64_t ranges[3] = {1ull << 32, 100, RAM_PAGES};
    send(relid, VMBUS_PACKET_GPA_DIRECT, 1, 5, ranges, sizeof(ranges), &m, sizeof(m));
})
RULE(header_not_in_first_range, with_nic, "not inside the first page range", {
    struct nvsp_message m = {.type = NVSP_SEND_RNDIS_PACKET, .rndis = {NVSP_CHANNEL_DATA, NVSP_SECTION_NONE, 0}};
    uint64_t ranges[5] = {2ull << 32, 40, PAGE_DATA, (sizeof(struct data) - 40) | 40ull << 32, PAGE_DATA};
    struct data d = plain();
    memcpy(ram + PAGE_DATA * 4096u, &d, sizeof(d));
    send(relid, VMBUS_PACKET_GPA_DIRECT, 1, 5, ranges, sizeof(ranges), &m, sizeof(m));
})

static bool no_room(void *backend, const struct host_frame *frame)
{
    (void)backend;
    (void)frame;
    return false;
}

static bool with_a_blocked_wire(void)
{
    static const struct host_net_ops blocked = {.tx = no_room};
    nic_backend = &blocked;
    return with_nic();
}

RULE(ring_index_goes_back, with_a_blocked_wire, "went back", {
    DATA()                                            /* stays in the ring */
    control_page(0)->write_index -= 8;
    host_net_tx_ready(nic);
})

/* ---- control: 25 ------------------------------------------------------------------------------------- */

static void control(const void *message, uint32_t bytes)
{
    rndis(relid, NVSP_CHANNEL_CONTROL, message, bytes, NULL, 0);
}

static void control_words(uint32_t type, uint32_t length, uint32_t oid, uint32_t info_bytes, uint32_t offset)
{
    uint32_t m[16] = {type, length, 1, oid, info_bytes, offset, 0};

    control(m, length > sizeof(m) ? sizeof(m) : length);
}

RULE(rndis_initialize_twice, with_nic, "INITIALIZE short or twice", {
    struct rndis_initialize m = {{RNDIS_INITIALIZE, sizeof(m)}, 1, 1, 0, 0x4000};
    control(&m, sizeof(m));
})
RULE(rndis_initialize_after_halt, with_nic, "INITIALIZE short or twice", {
    struct rndis_initialize m = {{RNDIS_INITIALIZE, sizeof(m)}, 1, 1, 0, 0x4000};
    control_words(RNDIS_HALT, 12, 0, 0, 0);
    control(&m, sizeof(m));
})
RULE(rndis_query_after_halt, with_nic, "after HALT", {
    control_words(RNDIS_HALT, 12, 0, 0, 0);
    control_words(RNDIS_QUERY, 28, OID_802_3_CURRENT_ADDRESS, 0, 0);
})
RULE(rndis_data_after_halt, with_nic, "after HALT", {
    control_words(RNDIS_HALT, 12, 0, 0, 0);
    DATA()
})
RULE(rndis_reset, with_nic, "message type 6", { control_words(6, 12, 0, 0, 0); })
RULE(rndis_indicate, with_nic, "message type 7", { control_words(7, 20, 0, 0, 0); })
RULE(rndis_unknown, with_nic, "message type 99", { control_words(99, 28, 0, 0, 0); })
RULE(rndis_length, with_nic, "message length 100 of 64 bytes", { control_words(RNDIS_QUERY, 100, 0, 0, 0); })
RULE(rndis_request_short, with_nic, "request is short", { control_words(RNDIS_QUERY, 20, 0, 0, 0); })
RULE(rndis_info_outside, with_nic, "outside of the message",
     { control_words(RNDIS_SET, 32, OID_GEN_CURRENT_PACKET_FILTER, 4, 200); })
RULE(rndis_info_elsewhere, with_nic, "hosts take it from",
     { control_words(RNDIS_SET, 36, OID_GEN_CURRENT_PACKET_FILTER, 4, 24); })
RULE(rndis_filter, with_nic, "packet filter", {
    uint32_t m[8] = {RNDIS_SET, 32, 1, OID_GEN_CURRENT_PACKET_FILTER, 4, 20, 0, 0x80000000};
    control(m, 32);
})
RULE(rndis_offload_not_announced, with_nic, "what was not announced", {
    struct { struct rndis_request head; struct ndis_offload_parameters p; } m = {
        {{RNDIS_SET, sizeof(m)}, 3, OID_TCP_OFFLOAD_PARAMETERS, sizeof(m.p), 20, 0},
        {.header = {NDIS_OBJECT_DEFAULT, 3, sizeof(m.p)}, .ipv4_checksum = 9}};
    control(&m, sizeof(m));
})
RULE(rndis_rss_key, with_nic, "RSS parameters", {
    struct { struct rndis_request head; struct ndis_rss_parameters p; uint8_t rest[64]; } m = {
        {{RNDIS_SET, sizeof(m)}, 3, OID_GEN_RECEIVE_SCALE_PARAMETERS, sizeof(m.p) + 64, 20, 0},
        {.header = {NDIS_OBJECT_RSS_PARAMETERS, 2, sizeof(m.p)}, .key_bytes = 39, .table_bytes = 4}, {0}};
    control(&m, sizeof(m));
})

/* ---- received packets: 26 ---------------------------------------------------------------------------- */

static void complete(uint64_t id, uint32_t type, uint32_t status, uint32_t bytes)
{
    uint32_t done[2] = {type, status};
    send(relid, VMBUS_PACKET_COMPLETION, 0, id, NULL, 0, done, bytes);
}

RULE(rx_completed_twice, with_nic, "which is not out", { complete(1, NVSP_SEND_RNDIS_PACKET_COMPLETE, 1, 8); })
RULE(rx_wrong_id, with_nic, "which is not out", { complete(0x777777, NVSP_SEND_RNDIS_PACKET_COMPLETE, 1, 8); })
RULE(rx_wrong_type, with_nic, "not for a receive packet", { complete(1, NVSP_SEND_RNDIS_PACKET, 1, 8); })
RULE(rx_without_payload, with_nic, "not for a receive packet", { complete(1, 0, 0, 0); })
RULE(rx_failed, with_nic, "the guest failed", {
    uint8_t wire[60] = {255, 255, 255, 255, 255, 255};
    struct host_seg seg = {wire, sizeof(wire)};
    struct vmbus_packet_header head;
    uint8_t packet[512];
    CHECK(host_net_rx(nic, &(struct host_frame){&seg, 1, sizeof(wire), false, 0}, false));
    poll_all();
    CHECK(receive(&head, packet) != 0);
    complete(head.transaction_id, NVSP_SEND_RNDIS_PACKET_COMPLETE, NVSP_STATUS_FAILURE, 8);
})

TEST_MAIN()
