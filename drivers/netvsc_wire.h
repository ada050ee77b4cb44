/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * netvsc_wire.h: NVSP, the protocol between netvsc (guest) and netvsp (host) that carries RNDIS messages.
 *
 * Source: the network VSP protocol, versions 1 to 6.1, as hosts from Windows Server 2012 on speak it.
 * The RNDIS messages inside are in rndis_wire.h.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>

#define NETVSC_WIRE_SIZE(type, bytes) \
    _Static_assert(sizeof(type) == (bytes), #type " has a fixed size")
#define NETVSC_WIRE_OFFSET(type, field, bytes) \
    _Static_assert(offsetof(type, field) == (bytes), #type "." #field " has a fixed offset")

#define NVSP_VERSION_1          0x00002u
#define NVSP_VERSION_2          0x30002u                 /* NDIS configuration */
#define NVSP_VERSION_4          0x40000u                 /* VF association; NDIS 6.1 */
#define NVSP_VERSION_5          0x50000u                 /* sub-channels, send table; NDIS 6.30 */
#define NVSP_VERSION_6          0x60000u
#define NVSP_VERSION_6_1        0x60001u                 /* RSC; messages of 40 bytes */

#define NVSP_MESSAGE_BYTES      28u                      /* up to 6.0 */
#define NVSP_MESSAGE_BYTES_6_1  40u

enum nvsp_type {
    NVSP_INIT = 1,
    NVSP_INIT_COMPLETE = 2,                  /* completion */
    NVSP_SEND_NDIS_VERSION = 100,
    NVSP_SEND_RECEIVE_BUFFER = 101,
    NVSP_SEND_RECEIVE_BUFFER_COMPLETE = 102, /* completion */
    NVSP_REVOKE_RECEIVE_BUFFER = 103,
    NVSP_SEND_SEND_BUFFER = 104,
    NVSP_SEND_SEND_BUFFER_COMPLETE = 105,    /* completion */
    NVSP_REVOKE_SEND_BUFFER = 106,
    NVSP_SEND_RNDIS_PACKET = 107,            /* both directions */
    NVSP_SEND_RNDIS_PACKET_COMPLETE = 108,   /* completion, both directions */
    NVSP_SEND_NDIS_CONFIG = 125,
    NVSP_SEND_VF_ASSOCIATION = 128,          /* host to guest */
    NVSP_SWITCH_DATA_PATH = 129,
    NVSP_SUBCHANNEL = 133,                   /* the completion has the same type */
    NVSP_SEND_INDIRECTION_TABLE = 134,       /* host to guest */
};

enum nvsp_status {
    NVSP_STATUS_NONE = 0,
    NVSP_STATUS_SUCCESS = 1,
    NVSP_STATUS_FAILURE = 2,
    NVSP_STATUS_TOO_NEW = 3,
    NVSP_STATUS_TOO_OLD = 4,
    NVSP_STATUS_INVALID_RNDIS_PACKET = 5,
    NVSP_STATUS_BUSY = 6,
    NVSP_STATUS_UNSUPPORTED = 7,
};

struct nvsp_init {
    uint32_t min_version;        /* send the same value in both */
    uint32_t max_version;
} __attribute__((packed));
NETVSC_WIRE_SIZE(struct nvsp_init, 8);

struct nvsp_init_complete {
    uint32_t version;            /* deprecated: not to be relied on */
    uint32_t max_mdl_chain;
    uint32_t status;             /* enum nvsp_status; anything but SUCCESS: try another version */
} __attribute__((packed));
NETVSC_WIRE_SIZE(struct nvsp_init_complete, 12);

struct nvsp_ndis_version {
    uint32_t major;
    uint32_t minor;
} __attribute__((packed));
NETVSC_WIRE_SIZE(struct nvsp_ndis_version, 8);

/* SEND_RECEIVE_BUFFER and SEND_SEND_BUFFER */
#define NVSP_RECEIVE_BUFFER_ID  0xCAFEu                  /* customary; the host echoes it in transfer pages */
#define NVSP_SEND_BUFFER_ID     0u
struct nvsp_send_buffer {
    uint32_t gpadl;
    uint16_t id;
} __attribute__((packed));
NETVSC_WIRE_SIZE(struct nvsp_send_buffer, 6);

struct nvsp_receive_section {
    uint32_t offset;             /* in the buffer */
    uint32_t sub_allocation_bytes;
    uint32_t sub_allocation_count;
    uint32_t end_offset;
} __attribute__((packed));
NETVSC_WIRE_SIZE(struct nvsp_receive_section, 16);

struct nvsp_receive_buffer_complete {
    uint32_t status;
    uint32_t section_count;      /* 1 */
    struct nvsp_receive_section sections[1];
} __attribute__((packed));
NETVSC_WIRE_SIZE(struct nvsp_receive_buffer_complete, 24);

struct nvsp_send_buffer_complete {
    uint32_t status;
    uint32_t section_bytes;
} __attribute__((packed));
NETVSC_WIRE_SIZE(struct nvsp_send_buffer_complete, 8);

struct nvsp_revoke_buffer {
    uint16_t id;
} __attribute__((packed));
NETVSC_WIRE_SIZE(struct nvsp_revoke_buffer, 2);

#define NVSP_CHANNEL_DATA       0u
#define NVSP_CHANNEL_CONTROL    1u
#define NVSP_SECTION_NONE       0xFFFFFFFFu
struct nvsp_rndis_packet {
    uint32_t channel_type;       /* NVSP_CHANNEL_* */
    uint32_t section_index;      /* of the send buffer, or NVSP_SECTION_NONE */
    uint32_t section_bytes;      /* used in that section */
} __attribute__((packed));
NETVSC_WIRE_SIZE(struct nvsp_rndis_packet, 12);

struct nvsp_rndis_packet_complete {
    uint32_t status;
} __attribute__((packed));
NETVSC_WIRE_SIZE(struct nvsp_rndis_packet_complete, 4);

#define NVSP_NDIS_CAP_VMQ       (1ull << 0)
#define NVSP_NDIS_CAP_SRIOV     (1ull << 2)
#define NVSP_NDIS_CAP_8021Q     (1ull << 3)
#define NVSP_NDIS_CAP_TEAMING   (1ull << 5)
#define NVSP_NDIS_CAP_RSC       (1ull << 7)
struct nvsp_ndis_config {
    uint32_t mtu;                /* with the Ethernet header: 1514 */
    uint32_t reserved;
    uint64_t capabilities;       /* NVSP_NDIS_CAP_* */
} __attribute__((packed));
NETVSC_WIRE_SIZE(struct nvsp_ndis_config, 16);

struct nvsp_vf_association {
    uint32_t allocated;
    uint32_t serial;
} __attribute__((packed));
NETVSC_WIRE_SIZE(struct nvsp_vf_association, 8);

#define NVSP_DATA_PATH_SYNTHETIC 0u
#define NVSP_DATA_PATH_VF       1u
struct nvsp_data_path {
    uint32_t path;
} __attribute__((packed));
NETVSC_WIRE_SIZE(struct nvsp_data_path, 4);

#define NVSP_SUBCHANNEL_ALLOCATE 1u
struct nvsp_subchannel {
    uint32_t operation;          /* request: NVSP_SUBCHANNEL_ALLOCATE; completion: enum nvsp_status */
    uint32_t count;              /* wanted; granted */
} __attribute__((packed));
NETVSC_WIRE_SIZE(struct nvsp_subchannel, 8);

#define NVSP_INDIRECTION_ENTRIES 16u
struct nvsp_indirection_table {
    uint32_t count;              /* NVSP_INDIRECTION_ENTRIES */
    uint32_t offset;             /* of the table from the message's start; wrong from some hosts before 6.1 */
} __attribute__((packed));
NETVSC_WIRE_SIZE(struct nvsp_indirection_table, 8);

/* The whole message, longer than others: which channel the guest should send a flow on, by its hash. */
struct nvsp_indirection_message {
    uint32_t type;               /* NVSP_SEND_INDIRECTION_TABLE */
    struct nvsp_indirection_table table;
    uint32_t channel[NVSP_INDIRECTION_ENTRIES];
} __attribute__((packed));
NETVSC_WIRE_SIZE(struct nvsp_indirection_message, 76);
NETVSC_WIRE_OFFSET(struct nvsp_indirection_message, channel, 12);

struct nvsp_message {
    uint32_t type;               /* enum nvsp_type */
    union {
        struct nvsp_init init;
        struct nvsp_init_complete init_complete;
        struct nvsp_ndis_version ndis_version;
        struct nvsp_send_buffer buffer;
        struct nvsp_receive_buffer_complete receive_buffer_complete;
        struct nvsp_send_buffer_complete send_buffer_complete;
        struct nvsp_revoke_buffer revoke;
        struct nvsp_rndis_packet rndis;
        struct nvsp_rndis_packet_complete rndis_complete;
        struct nvsp_ndis_config ndis_config;
        struct nvsp_vf_association vf;
        struct nvsp_data_path data_path;
        struct nvsp_subchannel subchannel;
        struct nvsp_indirection_table table;
        uint8_t bytes[NVSP_MESSAGE_BYTES_6_1 - 4];
    };
} __attribute__((packed));
NETVSC_WIRE_SIZE(struct nvsp_message, NVSP_MESSAGE_BYTES_6_1);
NETVSC_WIRE_OFFSET(struct nvsp_message, init, 4);
_Static_assert(offsetof(struct nvsp_message, receive_buffer_complete) +
               sizeof(struct nvsp_receive_buffer_complete) == NVSP_MESSAGE_BYTES, "the longest body of 6.0");

/* Least completion payloads that guests accept: type and body. */
#define NVSP_RNDIS_COMPLETE_BYTES 8u
