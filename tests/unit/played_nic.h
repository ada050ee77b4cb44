/* SPDX-License-Identifier: BSD-2-Clause */
/* The guest played by hand talks to netvsp: handshake, messages in send section 0. */
#pragma once
#include "tests/unit/played_guest.h"

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
static uint32_t nvsp_version = NVSP_VERSION_6_1;
static struct vmbus_msg_offer_channel nic_offer;

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
    struct nvsp_message m;

    host_nic_config_default(&cfg);
    cfg.max_queues = queues;
    *nic = host_add_nic(host, &cfg, nic_backend, NULL);
    if (!connect(VMBUS_VERSION_WIN10_5_3) || !first_offer(&nic_offer) || !open_channel(nic_offer.relid))
        return false;
    *relid = nic_offer.relid;
    m = (struct nvsp_message){.type = NVSP_INIT, .init = {nvsp_version, nvsp_version}};
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
