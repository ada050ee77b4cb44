/* SPDX-License-Identifier: BSD-2-Clause */
/* The guest played by hand talks to storvsp: handshake, one command at a time. */
#pragma once
#include "tests/unit/played_guest.h"

static bool vstor(uint32_t relid, struct vstor_packet *v)
{
    struct vmbus_packet_header head;
    uint8_t packet[512];

    v->flags = VSTOR_FLAG_REQUEST_COMPLETION;
    send(relid, VMBUS_PACKET_INBAND, 1, 9, NULL, 0, v, sizeof(*v));
    if (receive(&head, packet) != sizeof(*v) || head.type != VMBUS_PACKET_COMPLETION ||
        head.transaction_id != 9)
        return false;
    memcpy(v, packet + head.data_offset8 * 8u, sizeof(*v));
    return v->operation == VSTOR_OP_COMPLETE_IO;
}

static bool storvsp_handshake(uint32_t relid)
{
    struct vstor_packet v = {.operation = VSTOR_OP_BEGIN_INITIALIZATION};

    if (!vstor(relid, &v) || v.status != 0)
        return false;
    v = (struct vstor_packet){.operation = VSTOR_OP_QUERY_PROTOCOL_VERSION,
                              .version = {VSTOR_VERSION_WIN10, 0}};
    if (!vstor(relid, &v) || v.status != 0)
        return false;
    v = (struct vstor_packet){.operation = VSTOR_OP_QUERY_PROPERTIES};
    if (!vstor(relid, &v) || v.status != 0 || v.properties.max_transfer_bytes != 256 * 1024)
        return false;
    v = (struct vstor_packet){.operation = VSTOR_OP_END_INITIALIZATION};
    return vstor(relid, &v) && v.status == 0;
}

/* One command with data in PAGE_DATA; the completion is left in *v. */
static bool scsi(uint32_t relid, const uint8_t cdb[16], uint32_t bytes, uint8_t direction,
                 struct vstor_packet *v)
{
    struct vmbus_packet_header head;
    uint8_t packet[512];
    uint64_t ranges[2 + 64] = {1ull << 32, bytes | (uint64_t)0x10 << 32};   /* offset 16 in the first page */
    uint32_t pages = bytes == 0 ? 0 : (16 + bytes + 4095) / 4096;

    *v = (struct vstor_packet){
        .operation = VSTOR_OP_EXECUTE_SRB, .flags = 1,
        .srb = {.length = VSTOR_SRB_BYTES, .cdb_bytes = 16, .sense_bytes = VSTOR_SENSE_MAX,
                .data_direction = direction, .data_bytes = bytes},
    };
    memcpy(v->srb.cdb, cdb, 16);
    for (uint32_t i = 0; i < pages; i++)
        ranges[2 + i] = PAGE_DATA + i * 2;                                   /* not neighbours */
    if (bytes != 0)
        send(relid, VMBUS_PACKET_GPA_DIRECT, 1, 11, ranges, 16 + 8 * pages, v, sizeof(*v));
    else
        send(relid, VMBUS_PACKET_INBAND, 1, 11, NULL, 0, v, sizeof(*v));
    if (receive(&head, packet) != sizeof(*v) || head.transaction_id != 11)
        return false;
    memcpy(v, packet + head.data_offset8 * 8u, sizeof(*v));
    return true;
}

static struct host_scsi *controller_of_disk;

static bool disk_ready(struct blk_mem **disk, uint32_t *relid)
{
    struct host_scsi_config cfg;
    struct host_blk_info info;
    struct vmbus_msg_offer_channel offer;
    struct host_scsi *s;

    host_scsi_config_default(&cfg);
    s = controller_of_disk = host_add_scsi(host, &cfg);
    *disk = blk_mem_create(&ops, NULL, 512, 1 << 20);
    blk_mem_info(*disk, &info);
    if (!host_add_lun(host, s, 0, &info, &blk_mem_ops, *disk) || !connect(VMBUS_VERSION_WIN10_5_3) ||
        !first_offer(&offer))
        return false;
    *relid = offer.relid;
    return open_channel(*relid) && storvsp_handshake(*relid);
}
