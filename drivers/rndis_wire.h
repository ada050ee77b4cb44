/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * rndis_wire.h: RNDIS messages, the NDIS object identifiers and offload structures that travel in them.
 *
 * Source: Remote NDIS specification 1.1 and the NDIS 6.30 headers' documentation, as netvsp uses them.
 * Little-endian. Offsets inside a message body are relative to byte 8 of the message (RNDIS_OFFSET_BASE).
 */
#pragma once
#include <stddef.h>
#include <stdint.h>

#define RNDIS_WIRE_SIZE(type, bytes) _Static_assert(sizeof(type) == (bytes), #type " has a fixed size")
#define RNDIS_WIRE_OFFSET(type, field, bytes) \
    _Static_assert(offsetof(type, field) == (bytes), #type "." #field " has a fixed offset")

#define RNDIS_OFFSET_BASE               8u
#define RNDIS_VERSION_MAJOR             1u
#define RNDIS_VERSION_MINOR             0u

enum rndis_type {
    RNDIS_PACKET = 1,
    RNDIS_INITIALIZE = 2,
    RNDIS_HALT = 3,
    RNDIS_QUERY = 4,
    RNDIS_SET = 5,
    RNDIS_RESET = 6,
    RNDIS_INDICATE_STATUS = 7,               /* host to guest */
    RNDIS_KEEPALIVE = 8,
};
#define RNDIS_COMPLETE                  0x80000000u      /* or-ed to the type of the request */

#define RNDIS_STATUS_SUCCESS            0x00000000u
#define RNDIS_STATUS_BUFFER_OVERFLOW    0x80000005u
#define RNDIS_STATUS_FAILURE            0xC0000001u
#define RNDIS_STATUS_NOT_SUPPORTED      0xC00000BBu
#define RNDIS_STATUS_BAD_VERSION        0xC0010004u
#define RNDIS_STATUS_INVALID_PACKET     0xC001000Fu
#define RNDIS_STATUS_INVALID_LENGTH     0xC0010014u
#define RNDIS_STATUS_INVALID_DATA       0xC0010015u
#define RNDIS_STATUS_BUFFER_TOO_SHORT   0xC0010016u
#define RNDIS_STATUS_INVALID_OID        0xC0010017u
/* Indications */
#define RNDIS_STATUS_MEDIA_CONNECT      0x4001000Bu
#define RNDIS_STATUS_MEDIA_DISCONNECT   0x4001000Cu
#define RNDIS_STATUS_LINK_SPEED_CHANGE  0x40010013u      /* buffer: uint32_t, 100 bit/s */
#define RNDIS_STATUS_NETWORK_CHANGE     0x40010018u
#define RNDIS_STATUS_OFFLOAD_CHANGE     0x40020006u

struct rndis_header {
    uint32_t type;
    uint32_t length;             /* of the whole message */
} __attribute__((packed));
RNDIS_WIRE_SIZE(struct rndis_header, 8);

struct rndis_packet {
    struct rndis_header header;
    uint32_t data_offset;        /* from RNDIS_OFFSET_BASE */
    uint32_t data_length;
    uint32_t oob_offset;         /* 0 */
    uint32_t oob_length;         /* 0 */
    uint32_t oob_count;          /* 0 */
    uint32_t ppi_offset;         /* from RNDIS_OFFSET_BASE; 0 without per-packet information */
    uint32_t ppi_length;
    uint32_t vc_handle;          /* 0 */
    uint32_t reserved;           /* 0 */
} __attribute__((packed));
RNDIS_WIRE_SIZE(struct rndis_packet, 44);

struct rndis_initialize {
    struct rndis_header header;
    uint32_t request_id;
    uint32_t major;
    uint32_t minor;
    uint32_t max_transfer_bytes;
} __attribute__((packed));
RNDIS_WIRE_SIZE(struct rndis_initialize, 24);

#define RNDIS_DEVICE_CONNECTIONLESS     0x1u
struct rndis_initialize_complete {
    struct rndis_header header;
    uint32_t request_id;
    uint32_t status;
    uint32_t major;
    uint32_t minor;
    uint32_t device_flags;
    uint32_t medium;             /* 0: 802.3 */
    uint32_t max_packets_per_message;
    uint32_t max_transfer_bytes;
    uint32_t alignment_factor;   /* log2: each of several packets in one message is padded to it */
    uint32_t af_list_offset;
    uint32_t af_list_length;
} __attribute__((packed));
RNDIS_WIRE_SIZE(struct rndis_initialize_complete, 52);

struct rndis_halt {
    struct rndis_header header;
    uint32_t request_id;
} __attribute__((packed));
RNDIS_WIRE_SIZE(struct rndis_halt, 12);

/* QUERY and SET */
struct rndis_request {
    struct rndis_header header;
    uint32_t request_id;
    uint32_t oid;
    uint32_t info_length;
    uint32_t info_offset;        /* from RNDIS_OFFSET_BASE; put it right behind: 20 */
    uint32_t vc_handle;          /* 0 */
} __attribute__((packed));
RNDIS_WIRE_SIZE(struct rndis_request, 28);
#define RNDIS_REQUEST_INFO_OFFSET       20u

struct rndis_query_complete {
    struct rndis_header header;
    uint32_t request_id;
    uint32_t status;
    uint32_t info_length;
    uint32_t info_offset;        /* from RNDIS_OFFSET_BASE */
} __attribute__((packed));
RNDIS_WIRE_SIZE(struct rndis_query_complete, 24);
#define RNDIS_QUERY_COMPLETE_INFO_OFFSET 16u

struct rndis_set_complete {
    struct rndis_header header;
    uint32_t request_id;
    uint32_t status;
} __attribute__((packed));
RNDIS_WIRE_SIZE(struct rndis_set_complete, 16);

struct rndis_reset_complete {
    struct rndis_header header;
    uint32_t status;
    uint32_t addressing_reset;
} __attribute__((packed));
RNDIS_WIRE_SIZE(struct rndis_reset_complete, 16);

struct rndis_indicate_status {
    struct rndis_header header;
    uint32_t status;
    uint32_t buffer_length;
    uint32_t buffer_offset;      /* from RNDIS_OFFSET_BASE */
} __attribute__((packed));
RNDIS_WIRE_SIZE(struct rndis_indicate_status, 20);

struct rndis_keepalive {
    struct rndis_header header;
    uint32_t request_id;
} __attribute__((packed));
RNDIS_WIRE_SIZE(struct rndis_keepalive, 12);

struct rndis_keepalive_complete {
    struct rndis_header header;
    uint32_t request_id;
    uint32_t status;
} __attribute__((packed));
RNDIS_WIRE_SIZE(struct rndis_keepalive_complete, 16);

/* ---- Per-packet information: elements in succession between rndis_packet and the frame ---------------- */

enum rndis_ppi_type {
    RNDIS_PPI_CHECKSUM = 0,
    RNDIS_PPI_IPSEC = 1,
    RNDIS_PPI_LSO = 2,
    RNDIS_PPI_CLASSIFICATION = 3,
    RNDIS_PPI_SG_LIST = 5,
    RNDIS_PPI_VLAN = 6,
    RNDIS_PPI_HASH = 8,
    RNDIS_PPI_PACKET_ID = 1,                 /* with RNDIS_PPI_INTERNAL */
};
#define RNDIS_PPI_INTERNAL              0x80000000u

struct rndis_ppi {
    uint32_t bytes;              /* of this element with its data */
    uint32_t type;               /* enum rndis_ppi_type */
    uint32_t data_offset;        /* from the element's start: 12 */
} __attribute__((packed));
RNDIS_WIRE_SIZE(struct rndis_ppi, 12);

/* Every element that we send carries one word. */
struct rndis_ppi_word {
    struct rndis_ppi ppi;
    uint32_t value;
} __attribute__((packed));
RNDIS_WIRE_SIZE(struct rndis_ppi_word, 16);

/* RNDIS_PPI_CHECKSUM, guest to host: what the host is to fill in. */
#define RNDIS_TX_CHECKSUM_IPV4          (1u << 0)        /* the packet is IPv4 */
#define RNDIS_TX_CHECKSUM_IPV6          (1u << 1)
#define RNDIS_TX_CHECKSUM_TCP           (1u << 2)        /* the field holds the pseudo-header sum */
#define RNDIS_TX_CHECKSUM_UDP           (1u << 3)
#define RNDIS_TX_CHECKSUM_IP_HEADER     (1u << 4)
#define RNDIS_TX_CHECKSUM_HEADER_SHIFT  16               /* 10 bits: where TCP or UDP begins in the frame */
#define RNDIS_TX_CHECKSUM_HEADER_MASK   0x3FFu

/* RNDIS_PPI_CHECKSUM, host to guest: what the host has checked. */
#define RNDIS_RX_CHECKSUM_TCP_FAILED    (1u << 0)
#define RNDIS_RX_CHECKSUM_UDP_FAILED    (1u << 1)
#define RNDIS_RX_CHECKSUM_IP_FAILED     (1u << 2)
#define RNDIS_RX_CHECKSUM_TCP_OK        (1u << 3)
#define RNDIS_RX_CHECKSUM_UDP_OK        (1u << 4)
#define RNDIS_RX_CHECKSUM_IP_OK         (1u << 5)
#define RNDIS_RX_CHECKSUM_LOOPBACK      (1u << 6)
#define RNDIS_RX_CHECKSUM_TCP_INVALID   (1u << 7)        /* the value in the packet is not the checksum */
#define RNDIS_RX_CHECKSUM_IP_INVALID    (1u << 8)

/* RNDIS_PPI_LSO, version 2: the guest zeroes the IP length (and the IPv4 checksum); the TCP checksum field
 * holds the pseudo-header sum with length 0. */
#define RNDIS_LSO_MSS_MASK              0xFFFFFu         /* bits 19:0 */
#define RNDIS_LSO_HEADER_SHIFT          20               /* 10 bits: where TCP begins in the frame */
#define RNDIS_LSO_HEADER_MASK           0x3FFu
#define RNDIS_LSO_TYPE_V2               (1u << 30)
#define RNDIS_LSO_IPV6                  (1u << 31)

/* RNDIS_PPI_VLAN */
#define RNDIS_VLAN_PRIORITY_MASK        0x7u             /* bits 2:0; bit 3 CFI */
#define RNDIS_VLAN_ID_SHIFT             4                /* 12 bits */
#define RNDIS_VLAN_ID_MASK              0xFFFu

/* RNDIS_PPI_PACKET_ID: pieces of one coalesced frame (RSC). */
#define RNDIS_PACKET_ID_SUB_ALLOCATION  0x1u
#define RNDIS_PACKET_ID_FIRST           0x2u
#define RNDIS_PACKET_ID_LAST            0x4u
struct rndis_packet_id {
    uint8_t version;             /* 1 */
    uint8_t flags;               /* RNDIS_PACKET_ID_* */
    uint16_t id;
} __attribute__((packed));
RNDIS_WIRE_SIZE(struct rndis_packet_id, 4);

/* ---- OIDs --------------------------------------------------------------------------------------------- */

#define OID_GEN_SUPPORTED_LIST          0x00010101u
#define OID_GEN_HARDWARE_STATUS         0x00010102u
#define OID_GEN_MEDIA_SUPPORTED         0x00010103u
#define OID_GEN_MEDIA_IN_USE            0x00010104u
#define OID_GEN_MAXIMUM_LOOKAHEAD       0x00010105u
#define OID_GEN_MAXIMUM_FRAME_SIZE      0x00010106u      /* without the Ethernet header */
#define OID_GEN_LINK_SPEED              0x00010107u      /* 100 bit/s */
#define OID_GEN_TRANSMIT_BUFFER_SPACE   0x00010108u
#define OID_GEN_RECEIVE_BUFFER_SPACE    0x00010109u
#define OID_GEN_TRANSMIT_BLOCK_SIZE     0x0001010Au
#define OID_GEN_RECEIVE_BLOCK_SIZE      0x0001010Bu
#define OID_GEN_VENDOR_ID               0x0001010Cu
#define OID_GEN_VENDOR_DESCRIPTION      0x0001010Du
#define OID_GEN_CURRENT_PACKET_FILTER   0x0001010Eu
#define OID_GEN_CURRENT_LOOKAHEAD       0x0001010Fu
#define OID_GEN_DRIVER_VERSION          0x00010110u
#define OID_GEN_MAXIMUM_TOTAL_SIZE      0x00010111u      /* with the Ethernet header */
#define OID_GEN_PROTOCOL_OPTIONS        0x00010112u
#define OID_GEN_MAC_OPTIONS             0x00010113u
#define OID_GEN_MEDIA_CONNECT_STATUS    0x00010114u      /* 0 connected, 1 not */
#define OID_GEN_MAXIMUM_SEND_PACKETS    0x00010115u
#define OID_GEN_RECEIVE_SCALE_CAPABILITIES 0x00010203u
#define OID_GEN_RECEIVE_SCALE_PARAMETERS   0x00010204u
#define OID_GEN_FRIENDLY_NAME           0x00020216u
#define OID_GEN_RNDIS_CONFIG_PARAMETER  0x0001021Bu
#define OID_802_3_PERMANENT_ADDRESS     0x01010101u
#define OID_802_3_CURRENT_ADDRESS       0x01010102u
#define OID_802_3_MULTICAST_LIST        0x01010103u
#define OID_802_3_MAXIMUM_LIST_SIZE     0x01010104u
#define OID_TCP_OFFLOAD_CURRENT_CONFIG  0xFC01020Bu
#define OID_TCP_OFFLOAD_PARAMETERS      0xFC01020Cu
#define OID_TCP_OFFLOAD_HARDWARE_CAPABILITIES 0xFC01020Du

/* OID_GEN_CURRENT_PACKET_FILTER; 0 stops reception. */
#define NDIS_FILTER_DIRECTED            0x01u
#define NDIS_FILTER_MULTICAST           0x02u
#define NDIS_FILTER_ALL_MULTICAST       0x04u
#define NDIS_FILTER_BROADCAST           0x08u
#define NDIS_FILTER_PROMISCUOUS         0x20u

/* ---- NDIS objects ------------------------------------------------------------------------------------- */

#define NDIS_OBJECT_DEFAULT             0x80u
#define NDIS_OBJECT_RSS_CAPABILITIES    0x88u
#define NDIS_OBJECT_RSS_PARAMETERS      0x89u
#define NDIS_OBJECT_OFFLOAD             0xA7u
struct ndis_object_header {
    uint8_t type;
    uint8_t revision;
    uint16_t bytes;              /* of the whole object */
} __attribute__((packed));
RNDIS_WIRE_SIZE(struct ndis_object_header, 4);

#define NDIS_CHECKSUM_IP_OPTIONS        0x001u           /* IPv6: extension headers */
#define NDIS_CHECKSUM_TCP_OPTIONS       0x004u
#define NDIS_CHECKSUM_TCP               0x010u
#define NDIS_CHECKSUM_UDP               0x040u
#define NDIS_CHECKSUM_IP_HEADER         0x100u           /* IPv4 only */
#define NDIS_ENCAPSULATION_8023         0x2u
struct ndis_checksum_capabilities {
    uint32_t ipv4_tx_encapsulation;
    uint32_t ipv4_tx;            /* NDIS_CHECKSUM_* */
    uint32_t ipv4_rx_encapsulation;
    uint32_t ipv4_rx;
    uint32_t ipv6_tx_encapsulation;
    uint32_t ipv6_tx;
    uint32_t ipv6_rx_encapsulation;
    uint32_t ipv6_rx;
} __attribute__((packed));
RNDIS_WIRE_SIZE(struct ndis_checksum_capabilities, 32);

#define NDIS_LSO_IPV6_EXT_HEADERS       0x1u
#define NDIS_LSO_IPV6_TCP_OPTIONS       0x4u
struct ndis_lso_v2_capabilities {
    uint32_t ipv4_encapsulation;
    uint32_t ipv4_max_bytes;
    uint32_t ipv4_min_segments;
    uint32_t ipv6_encapsulation;
    uint32_t ipv6_max_bytes;
    uint32_t ipv6_min_segments;
    uint32_t ipv6_options;       /* NDIS_LSO_IPV6_* */
} __attribute__((packed));
RNDIS_WIRE_SIZE(struct ndis_lso_v2_capabilities, 28);

/* Answer to OID_TCP_OFFLOAD_HARDWARE_CAPABILITIES; the query carries an object header that names the size. */
struct ndis_offload {
    struct ndis_object_header header; /* NDIS_OBJECT_OFFLOAD */
    struct ndis_checksum_capabilities checksum;
    uint32_t lso_v1[4];
    uint32_t ipsec_v1[7];
    struct ndis_lso_v2_capabilities lso_v2;
    uint32_t flags;
    uint8_t ipsec_v2[32];        /* revision 2 */
    uint8_t rsc_ipv4;            /* revision 3 */
    uint8_t rsc_ipv6;
    uint8_t reserved[2];
    uint32_t encapsulation_flags;
    uint32_t encapsulation_max_header;
} __attribute__((packed));
RNDIS_WIRE_SIZE(struct ndis_offload, 156);
RNDIS_WIRE_OFFSET(struct ndis_offload, lso_v2, 80);
RNDIS_WIRE_OFFSET(struct ndis_offload, rsc_ipv4, 144);
#define NDIS_OFFLOAD_BYTES_REV1         112u
#define NDIS_OFFLOAD_BYTES_REV2         144u
#define NDIS_OFFLOAD_BYTES_REV3         156u

/* Values inside ndis_offload_parameters. */
#define NDIS_OFFLOAD_NO_CHANGE          0u
#define NDIS_OFFLOAD_OFF                1u
#define NDIS_OFFLOAD_TX                 2u
#define NDIS_OFFLOAD_RX                 3u
#define NDIS_OFFLOAD_TX_RX              4u
#define NDIS_OFFLOAD_LSO_OFF            1u
#define NDIS_OFFLOAD_LSO_ON             2u
struct ndis_offload_parameters {
    struct ndis_object_header header; /* NDIS_OBJECT_DEFAULT, revision 3 */
    uint8_t ipv4_checksum;
    uint8_t tcp_ipv4_checksum;
    uint8_t udp_ipv4_checksum;
    uint8_t tcp_ipv6_checksum;
    uint8_t udp_ipv6_checksum;
    uint8_t lso_v1;
    uint8_t ipsec_v1;
    uint8_t lso_v2_ipv4;
    uint8_t lso_v2_ipv6;
    uint8_t tcp_connection_ipv4;
    uint8_t tcp_connection_ipv6;
    uint8_t reserved;
    uint32_t flags;
    uint8_t ipsec_v2;
    uint8_t ipsec_v2_ipv4;
    uint8_t rsc_ipv4;
    uint8_t rsc_ipv6;
    uint8_t encapsulated_task;
    uint8_t encapsulation_types;
    uint8_t reserved2[2];
} __attribute__((packed));
RNDIS_WIRE_SIZE(struct ndis_offload_parameters, 28);
RNDIS_WIRE_OFFSET(struct ndis_offload_parameters, lso_v2_ipv4, 11);
RNDIS_WIRE_OFFSET(struct ndis_offload_parameters, flags, 16);
#define NDIS_OFFLOAD_PARAMETERS_BYTES_OLD 22u            /* what guests send up to NVSP 4 */

struct ndis_rss_capabilities {
    struct ndis_object_header header; /* NDIS_OBJECT_RSS_CAPABILITIES, revision 2 */
    uint32_t flags;
    uint32_t interrupt_messages;
    uint32_t receive_queues;
    uint16_t table_entries;
} __attribute__((packed));
RNDIS_WIRE_SIZE(struct ndis_rss_capabilities, 18);

/* What ndis_rss_capabilities.flags says about hashes, besides NDIS_RSS_HASH_TOEPLITZ; not the numbers below. */
#define NDIS_RSS_CAPABILITY_TCP_IPV4    0x0100u
#define NDIS_RSS_CAPABILITY_TCP_IPV6    0x0200u

#define NDIS_RSS_HASH_TOEPLITZ          0x0001u
#define NDIS_RSS_HASH_FUNCTION_MASK     0x00FFu
#define NDIS_RSS_HASH_IPV4              0x0100u
#define NDIS_RSS_HASH_TCP_IPV4          0x0200u
#define NDIS_RSS_HASH_IPV6              0x0400u
#define NDIS_RSS_HASH_TCP_IPV6          0x1000u
#define NDIS_RSS_UNCHANGED              0x000Fu          /* base CPU, hash, table, key: each a bit */
#define NDIS_RSS_DISABLE                0x0010u
#define NDIS_RSS_KEY_BYTES              40u
#define NDIS_RSS_TABLE_ENTRIES          128u
struct ndis_rss_parameters {
    struct ndis_object_header header; /* NDIS_OBJECT_RSS_PARAMETERS, revision 2, 40 bytes */
    uint16_t flags;
    uint16_t base_cpu;
    uint32_t hash_information;   /* NDIS_RSS_HASH_* */
    uint16_t table_bytes;
    uint16_t reserved1;
    uint32_t table_offset;       /* from the object's start */
    uint16_t key_bytes;
    uint16_t reserved2;
    uint32_t key_offset;
    uint32_t mask_offset;
    uint32_t mask_count;
    uint32_t mask_bytes;
} __attribute__((packed));
RNDIS_WIRE_SIZE(struct ndis_rss_parameters, 40);
RNDIS_WIRE_OFFSET(struct ndis_rss_parameters, table_offset, 16);
RNDIS_WIRE_OFFSET(struct ndis_rss_parameters, key_offset, 24);
