/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * vmbus_wire.h: the VMBus protocol: channel messages, ring buffers, packets, monitor pages, class GUIDs.
 *
 * Source: the VMBus protocol as spoken by Windows Server 2012 to 2022 (versions 2.4 to 6.0). There is no
 * complete published specification; where implementations disagree, the comment at the field says so.
 * Little-endian, packed. "Guest" is us, "host" the VMBus server. Pages are always 4096 bytes here.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>

/* What lies in shared memory is aligned to 8; saying so lets the compiler use whole, single accesses. */
#define VMBUS_WIRE_ALIGNED __attribute__((packed, aligned(8)))
#define VMBUS_WIRE_SIZE(type, bytes) \
    _Static_assert(sizeof(type) == (bytes), #type " has a fixed size")
#define VMBUS_WIRE_OFFSET(type, field, bytes) \
    _Static_assert(offsetof(type, field) == (bytes), #type "." #field " has a fixed offset")

/* A GUID as it travels: the first three fields are little-endian, the rest is a string of bytes. */
struct guid {
    uint8_t bytes[16];
} __attribute__((packed));
VMBUS_WIRE_SIZE(struct guid, 16);

#define GUID_BYTE(value, n) (uint8_t)((uint64_t)(value) >> (8 * (n)))

/* The five parts as they are printed: GUID_INIT(0xf8615163, 0xdf3e, 0x46c5, 0x913f, 0xf2d2f965ed0e). */
#define GUID_INIT(a, b, c, d, e)                                                                       \
    {                                                                                                  \
        {                                                                                              \
            GUID_BYTE(a, 0), GUID_BYTE(a, 1), GUID_BYTE(a, 2), GUID_BYTE(a, 3), GUID_BYTE(b, 0),       \
                GUID_BYTE(b, 1), GUID_BYTE(c, 0), GUID_BYTE(c, 1), GUID_BYTE(d, 1), GUID_BYTE(d, 0),   \
                GUID_BYTE(e, 5), GUID_BYTE(e, 4), GUID_BYTE(e, 3), GUID_BYTE(e, 2), GUID_BYTE(e, 1),   \
                GUID_BYTE(e, 0)                                                                        \
        }                                                                                              \
    }

/* Device classes ("interface types"). Initialisers for a struct guid. */
#define VMBUS_GUID_NETVSC    GUID_INIT(0xf8615163, 0xdf3e, 0x46c5, 0x913f, 0xf2d2f965ed0e)
#define VMBUS_GUID_SCSI      GUID_INIT(0xba6163d9, 0x04a1, 0x4d29, 0xb605, 0x72e2ffb1dc7f)
#define VMBUS_GUID_IDE       GUID_INIT(0x32412632, 0x86cb, 0x44a2, 0x9b5c, 0x50d1417354f5)
#define VMBUS_GUID_FC        GUID_INIT(0x2f9bcc4a, 0x0069, 0x4af3, 0xb76b, 0x6fd0be528cda)
#define VMBUS_GUID_VPCI      GUID_INIT(0x44c4f61d, 0x4444, 0x4400, 0x9d52, 0x802e27ede19f)
#define VMBUS_GUID_VIDEO     GUID_INIT(0xda0a7802, 0xe377, 0x4aac, 0x8e77, 0x0558eb1073f8)
#define VMBUS_GUID_KEYBOARD  GUID_INIT(0xf912ad6d, 0x2b17, 0x48ea, 0xbd65, 0xf927a61c7684)
#define VMBUS_GUID_MOUSE     GUID_INIT(0xcfa8b69e, 0x5b4a, 0x4cc0, 0xb98b, 0x8ba1a1f3f95a)
#define VMBUS_GUID_SHUTDOWN  GUID_INIT(0x0e0b6031, 0x5213, 0x4934, 0x818b, 0x38d90ced39db)
#define VMBUS_GUID_TIMESYNC  GUID_INIT(0x9527e630, 0xd0ae, 0x497b, 0xadce, 0xe80ab0175caf)
#define VMBUS_GUID_HEARTBEAT GUID_INIT(0x57164f39, 0x9115, 0x4e78, 0xab55, 0x382f3bd5422d)
#define VMBUS_GUID_KVP       GUID_INIT(0xa9a0f4e7, 0x5a45, 0x4d96, 0xb827, 0x8a841e8c03e6)
#define VMBUS_GUID_VSS       GUID_INIT(0x35fa2e29, 0xea23, 0x4236, 0x96ae, 0x3a6ebacba440)
#define VMBUS_GUID_BALLOON   GUID_INIT(0x525074dc, 0x8985, 0x46e2, 0x8057, 0xa307dc18a502)
#define VMBUS_GUID_FCOPY     GUID_INIT(0x34d14be3, 0xdee4, 0x41c8, 0x9ae7, 0x6b174977c192)

/* ---- Connection --------------------------------------------------------------------------------------- */

#define VMBUS_VERSION(major, minor) (((uint32_t)(major) << 16) | (uint32_t)(minor))
#define VMBUS_VERSION_WS2008      VMBUS_VERSION(0, 13)
#define VMBUS_VERSION_WIN7        VMBUS_VERSION(1, 1)
#define VMBUS_VERSION_WIN8        VMBUS_VERSION(2, 4)    /* event flag = relid; sub-channels */
#define VMBUS_VERSION_WIN8_1      VMBUS_VERSION(3, 0)    /* target VP of messages is honoured */
#define VMBUS_VERSION_WIN10       VMBUS_VERSION(4, 0)
#define VMBUS_VERSION_WIN10_4_1   VMBUS_VERSION(4, 1)    /* MODIFY_CHANNEL */
#define VMBUS_VERSION_WIN10_5_0   VMBUS_VERSION(5, 0)    /* message connection id, target SINT */
#define VMBUS_VERSION_WIN10_5_1   VMBUS_VERSION(5, 1)    /* target VTL */
#define VMBUS_VERSION_WIN10_5_2   VMBUS_VERSION(5, 2)    /* least version of an isolated VM */
#define VMBUS_VERSION_WIN10_5_3   VMBUS_VERSION(5, 3)    /* MODIFY_CHANNEL is answered */
#define VMBUS_VERSION_COPPER      VMBUS_VERSION(6, 0)    /* feature flags */

#define VMBUS_CONNECTION_MESSAGE          1u             /* channel messages, all versions before 5.0 */
#define VMBUS_CONNECTION_EVENT            2u             /* legacy signal with the interrupt page */
#define VMBUS_CONNECTION_MONITOR          3u
#define VMBUS_CONNECTION_MESSAGE_MULTI    4u             /* INITIATE_CONTACT of 5.0 and later */
#define VMBUS_MESSAGE_TYPE                1u             /* SynIC message type of every channel message */
#define VMBUS_MESSAGE_MAX                 240u
#define VMBUS_RELID_MAX                   2047u          /* 0 is reserved: relids run from 1 */

enum vmbus_msg_type {
    VMBUS_MSG_OFFER_CHANNEL = 1,             /* host to guest */
    VMBUS_MSG_RESCIND_OFFER = 2,             /* host to guest */
    VMBUS_MSG_REQUEST_OFFERS = 3,
    VMBUS_MSG_ALL_OFFERS_DELIVERED = 4,      /* host to guest */
    VMBUS_MSG_OPEN_CHANNEL = 5,
    VMBUS_MSG_OPEN_RESULT = 6,               /* host to guest */
    VMBUS_MSG_CLOSE_CHANNEL = 7,
    VMBUS_MSG_GPADL_HEADER = 8,
    VMBUS_MSG_GPADL_BODY = 9,
    VMBUS_MSG_GPADL_CREATED = 10,            /* host to guest */
    VMBUS_MSG_GPADL_TEARDOWN = 11,
    VMBUS_MSG_GPADL_TORNDOWN = 12,           /* host to guest */
    VMBUS_MSG_RELID_RELEASED = 13,
    VMBUS_MSG_INITIATE_CONTACT = 14,
    VMBUS_MSG_VERSION_RESPONSE = 15,         /* host to guest */
    VMBUS_MSG_UNLOAD = 16,
    VMBUS_MSG_UNLOAD_RESPONSE = 17,          /* host to guest */
    VMBUS_MSG_OPEN_RESERVED = 18,            /* 4.0 */
    VMBUS_MSG_CLOSE_RESERVED = 19,           /* 4.0 */
    VMBUS_MSG_CLOSE_RESERVED_RESPONSE = 20,  /* host to guest */
    VMBUS_MSG_TL_CONNECT_REQUEST = 21,       /* 4.0 */
    VMBUS_MSG_MODIFY_CHANNEL = 22,           /* 4.1 */
    VMBUS_MSG_TL_CONNECT_RESULT = 23,        /* host to guest, 4.1 */
    VMBUS_MSG_MODIFY_CHANNEL_RESPONSE = 24,  /* host to guest, 5.3 */
    VMBUS_MSG_MODIFY_CONNECTION = 25,        /* 6.0 */
    VMBUS_MSG_MODIFY_CONNECTION_RESPONSE = 26,
    VMBUS_MSG_PAUSE = 27,                    /* 6.0 */
    VMBUS_MSG_PAUSE_RESPONSE = 28,
    VMBUS_MSG_RESUME = 29,
};

/* Every message begins so. Messages that are only a header: REQUEST_OFFERS, ALL_OFFERS_DELIVERED, UNLOAD,
 * UNLOAD_RESPONSE. */
struct vmbus_msg_header {
    uint32_t type;               /* enum vmbus_msg_type */
    uint32_t reserved;           /* 0 */
} __attribute__((packed));
VMBUS_WIRE_SIZE(struct vmbus_msg_header, 8);

/* What INITIATE_CONTACT carries at byte 16: a page before 5.0, a target afterwards. */
struct vmbus_contact_target {
    uint8_t sint;                /* 2; other SINTs by clients of their own */
    uint8_t vtl;                 /* 5.1 */
    uint16_t reserved;
    uint32_t feature_flags;      /* 6.0: VMBUS_FEATURE_*, answered with what both know */
} __attribute__((packed));
VMBUS_WIRE_SIZE(struct vmbus_contact_target, 8);

#define VMBUS_FEATURE_GUEST_SIGNAL_PARAMETERS  0x01u     /* OPEN_CHANNEL is the longer form */
#define VMBUS_FEATURE_INTERRUPT_REDIRECTION    0x02u
#define VMBUS_FEATURE_MODIFY_CONNECTION        0x04u
#define VMBUS_FEATURE_CLIENT_ID                0x08u     /* INITIATE_CONTACT carries a GUID */
#define VMBUS_FEATURE_CONFIDENTIAL_CHANNELS    0x10u
#define VMBUS_FEATURE_PAUSE_RESUME             0x20u
#define VMBUS_FEATURE_SERVER_MONITOR_PAGES     0x40u
#define VMBUS_FEATURE_GPA_PINNING              0x80u

struct vmbus_msg_initiate_contact {
    struct vmbus_msg_header header;
    uint32_t version;            /* VMBUS_VERSION_* wanted */
    uint32_t target_vp;          /* VP index for the host's messages */
    union {
        uint64_t interrupt_page;              /* before 5.0: GPA */
        struct vmbus_contact_target target;   /* 5.0 and later */
    };
    uint64_t monitor_page1;      /* GPA, host to guest; both monitor pages or none (0) */
    uint64_t monitor_page2;      /* GPA, guest to host */
} __attribute__((packed));
VMBUS_WIRE_SIZE(struct vmbus_msg_initiate_contact, 40);
VMBUS_WIRE_OFFSET(struct vmbus_msg_initiate_contact, target, 16);
VMBUS_WIRE_OFFSET(struct vmbus_msg_initiate_contact, monitor_page1, 24);

/* INITIATE_CONTACT with VMBUS_FEATURE_CLIENT_ID. */
struct vmbus_msg_initiate_contact_id {
    struct vmbus_msg_initiate_contact contact;
    struct guid client_id;
} __attribute__((packed));
VMBUS_WIRE_SIZE(struct vmbus_msg_initiate_contact_id, 56);

enum vmbus_connection_state {
    VMBUS_CONNECTION_OK = 0,
    VMBUS_CONNECTION_LOW_RESOURCES = 1,
    VMBUS_CONNECTION_FAILED = 2,
};

/* Hosts exist that send only the first 12 bytes (before 5.0). */
struct vmbus_msg_version_response {
    struct vmbus_msg_header header;
    uint8_t supported;           /* 0: try another version */
    uint8_t connection_state;    /* enum vmbus_connection_state, when supported */
    uint16_t reserved;
    uint32_t message_connection; /* 5.0 and later: id for all further messages; before: the version */
} __attribute__((packed));
VMBUS_WIRE_SIZE(struct vmbus_msg_version_response, 16);
VMBUS_WIRE_OFFSET(struct vmbus_msg_version_response, message_connection, 12);
#define VMBUS_VERSION_RESPONSE_MIN 12u

/* The 6.0 form. */
struct vmbus_msg_version_response_6 {
    struct vmbus_msg_version_response response;
    uint32_t feature_flags;      /* those of the request that the host has too */
} __attribute__((packed));
VMBUS_WIRE_SIZE(struct vmbus_msg_version_response_6, 20);

/* ---- Offers ------------------------------------------------------------------------------------------- */

#define VMBUS_OFFER_ENUMERATE_DEVICE      0x0001u
#define VMBUS_OFFER_CONFIDENTIAL_RING     0x0002u        /* 6.0 with a paravisor */
#define VMBUS_OFFER_CONFIDENTIAL_MEMORY   0x0004u        /* 6.0; never without CONFIDENTIAL_RING */
#define VMBUS_OFFER_NAMED_PIPE_MODE       0x0010u
#define VMBUS_OFFER_TLNPI_PROVIDER        0x2000u        /* a socket, not a device */
#define VMBUS_OFFER_USER_DATA             120u
#define VMBUS_OFFER_PIPE_MESSAGES         4u             /* first user data word with NAMED_PIPE_MODE; 0: bytes */
#define VMBUS_OFFER_MONITOR_NONE          0xFFu
#define VMBUS_OFFER_MONITOR_ALLOCATED     0x01u
#define VMBUS_OFFER_DEDICATED_INTERRUPT   0x0001u

struct vmbus_msg_offer_channel {
    struct vmbus_msg_header header;
    struct guid interface_type;  /* device class */
    struct guid instance;        /* this device */
    uint8_t reserved[16];        /* may hold anything from old hosts */
    uint16_t flags;              /* VMBUS_OFFER_* */
    uint16_t mmio_megabytes;
    uint8_t user_data[VMBUS_OFFER_USER_DATA];
    uint16_t sub_channel_index;  /* 0: the primary channel */
    uint16_t mmio_megabytes_optional;
    uint32_t relid;              /* names the channel from now on, and is its event flag number */
    uint8_t monitor_id;          /* 0 to 127, VMBUS_OFFER_MONITOR_NONE */
    uint8_t monitor_allocated;   /* VMBUS_OFFER_MONITOR_ALLOCATED */
    uint16_t dedicated_interrupt; /* VMBUS_OFFER_DEDICATED_INTERRUPT: signal connection_id directly */
    uint32_t connection_id;      /* for HVCALL_SIGNAL_EVENT */
} __attribute__((packed));
VMBUS_WIRE_SIZE(struct vmbus_msg_offer_channel, 196);
VMBUS_WIRE_OFFSET(struct vmbus_msg_offer_channel, flags, 56);
VMBUS_WIRE_OFFSET(struct vmbus_msg_offer_channel, sub_channel_index, 180);
VMBUS_WIRE_OFFSET(struct vmbus_msg_offer_channel, relid, 184);
VMBUS_WIRE_OFFSET(struct vmbus_msg_offer_channel, connection_id, 192);

/* RESCIND_OFFER, CLOSE_CHANNEL, RELID_RELEASED */
struct vmbus_msg_relid {
    struct vmbus_msg_header header;
    uint32_t relid;
} __attribute__((packed));
VMBUS_WIRE_SIZE(struct vmbus_msg_relid, 12);

/* ---- Channels ----------------------------------------------------------------------------------------- */

#define VMBUS_OPEN_USER_DATA              120u
#define VMBUS_TARGET_VP_NO_INTERRUPTS     0xFFFFFFFFu

struct vmbus_msg_open_channel {
    struct vmbus_msg_header header;
    uint32_t relid;
    uint32_t open_id;            /* chosen by the guest, echoed */
    uint32_t ring_gpadl;
    uint32_t target_vp;          /* VP index that the host interrupts for this channel */
    uint32_t downstream_page_offset; /* where the host-to-guest ring begins = pages of the other ring */
    uint8_t user_data[VMBUS_OPEN_USER_DATA];
} __attribute__((packed));
VMBUS_WIRE_SIZE(struct vmbus_msg_open_channel, 148);
VMBUS_WIRE_OFFSET(struct vmbus_msg_open_channel, downstream_page_offset, 24);

/* OPEN_CHANNEL with VMBUS_FEATURE_GUEST_SIGNAL_PARAMETERS or VMBUS_FEATURE_INTERRUPT_REDIRECTION. */
struct vmbus_msg_open_channel2 {
    struct vmbus_msg_open_channel open;
    uint32_t connection_id;
    uint16_t event_flag;
    uint16_t flags;              /* bit 0: redirect the interrupt */
} __attribute__((packed));
VMBUS_WIRE_SIZE(struct vmbus_msg_open_channel2, 156);

struct vmbus_msg_open_result {
    struct vmbus_msg_header header;
    uint32_t relid;
    uint32_t open_id;
    uint32_t status;             /* 0, or an NTSTATUS */
} __attribute__((packed));
VMBUS_WIRE_SIZE(struct vmbus_msg_open_result, 20);

struct vmbus_msg_modify_channel {
    struct vmbus_msg_header header;
    uint32_t relid;
    uint32_t target_vp;
} __attribute__((packed));
VMBUS_WIRE_SIZE(struct vmbus_msg_modify_channel, 16);

struct vmbus_msg_modify_channel_response {
    struct vmbus_msg_header header;
    uint32_t relid;
    uint32_t status;
} __attribute__((packed));
VMBUS_WIRE_SIZE(struct vmbus_msg_modify_channel_response, 16);

/* Transport-layer (socket) connect: we only know its length, to refuse it properly. */
struct vmbus_msg_tl_connect_request {
    struct vmbus_msg_header header;
    struct guid endpoint;
    struct guid service;
} __attribute__((packed));
VMBUS_WIRE_SIZE(struct vmbus_msg_tl_connect_request, 40);

struct vmbus_msg_tl_connect_result {
    struct vmbus_msg_header header;
    struct guid endpoint;
    struct guid service;
    uint32_t status;
} __attribute__((packed));
VMBUS_WIRE_SIZE(struct vmbus_msg_tl_connect_result, 44);

/* ---- GPADLs: lists of guest pages known to the host by a number --------------------------------------- */

/* One range of guest memory: as many page numbers follow as offset + bytes touch pages. */
struct vmbus_gpa_range_header {
    uint32_t byte_count;
    uint32_t byte_offset;        /* inside the first page, less than 4096 */
    uint64_t pfns[];
} VMBUS_WIRE_ALIGNED;
VMBUS_WIRE_SIZE(struct vmbus_gpa_range_header, 8);

#define VMBUS_GPADL_HEADER_PFNS_MAX       26u
#define VMBUS_GPADL_BODY_PFNS_MAX         28u

struct vmbus_msg_gpadl_header {
    struct vmbus_msg_header header;
    uint32_t relid;
    uint32_t gpadl;              /* chosen by the guest, unique on its connection */
    uint16_t range_buffer_bytes; /* of all ranges, in header and bodies: 8 each plus 8 per page */
    uint16_t range_count;
    uint8_t ranges[];            /* struct vmbus_gpa_range_header, cut wherever the message ends */
} __attribute__((packed));
VMBUS_WIRE_SIZE(struct vmbus_msg_gpadl_header, 20);
_Static_assert(sizeof(struct vmbus_msg_gpadl_header) + sizeof(struct vmbus_gpa_range_header) +
               8 * VMBUS_GPADL_HEADER_PFNS_MAX <= VMBUS_MESSAGE_MAX, "the page list fits the message");

struct vmbus_msg_gpadl_body {
    struct vmbus_msg_header header;
    uint32_t message_number;     /* hosts ignore it */
    uint32_t gpadl;
    uint64_t pfns[];             /* continues where the last message ended */
} __attribute__((packed));
VMBUS_WIRE_SIZE(struct vmbus_msg_gpadl_body, 16);
_Static_assert(sizeof(struct vmbus_msg_gpadl_body) + 8 * VMBUS_GPADL_BODY_PFNS_MAX <= VMBUS_MESSAGE_MAX,
               "the page list fits the message");

struct vmbus_msg_gpadl_created {
    struct vmbus_msg_header header;
    uint32_t relid;
    uint32_t gpadl;
    uint32_t status;
} __attribute__((packed));
VMBUS_WIRE_SIZE(struct vmbus_msg_gpadl_created, 20);

struct vmbus_msg_gpadl_teardown {
    struct vmbus_msg_header header;
    uint32_t relid;
    uint32_t gpadl;
} __attribute__((packed));
VMBUS_WIRE_SIZE(struct vmbus_msg_gpadl_teardown, 16);

struct vmbus_msg_gpadl_torndown {
    struct vmbus_msg_header header;
    uint32_t gpadl;
} __attribute__((packed));
VMBUS_WIRE_SIZE(struct vmbus_msg_gpadl_torndown, 12);

/* ---- Rings -------------------------------------------------------------------------------------------- */

#define VMBUS_RING_FEATURE_PENDING_SEND   0x1u           /* the sender looks at pending_send_bytes */

/* First page of each ring. The data pages follow. Indices are byte offsets into the data, multiples of 8;
 * equal indices mean empty, so the last 8 bytes are never filled. */
struct vmbus_ring_control {
    uint32_t write_index;        /* written by the sender */
    uint32_t read_index;         /* written by the receiver */
    uint32_t interrupt_mask;     /* written by the receiver: 1 = do not signal when the ring fills */
    uint32_t pending_send_bytes; /* written by the sender: nonzero = blocked until so much is free */
    uint32_t reserved1[12];
    uint32_t feature_bits;       /* written by the sender: VMBUS_RING_FEATURE_* */
    uint8_t reserved2[4020];
    uint64_t guest_to_host_interrupts; /* a statistic some guests keep */
} VMBUS_WIRE_ALIGNED;
VMBUS_WIRE_SIZE(struct vmbus_ring_control, 4096);
VMBUS_WIRE_OFFSET(struct vmbus_ring_control, feature_bits, 64);
VMBUS_WIRE_OFFSET(struct vmbus_ring_control, guest_to_host_interrupts, 4088);

enum vmbus_packet_type {
    VMBUS_PACKET_INBAND = 6,
    VMBUS_PACKET_TRANSFER_PAGES = 7,
    VMBUS_PACKET_GPADL_DATA = 8,         /* not used */
    VMBUS_PACKET_GPA_DIRECT = 9,
    VMBUS_PACKET_CANCEL = 10,            /* not used */
    VMBUS_PACKET_COMPLETION = 11,
};
#define VMBUS_PACKET_FLAG_COMPLETION      0x0001u        /* the receiver must answer with a completion */
#define VMBUS_PACKET_TRAILER_BYTES        8u         /* u64: index at which the packet began, shifted by 32 */
#define VMBUS_PACKET_ALIGN                8u

struct vmbus_packet_header {
    uint16_t type;               /* enum vmbus_packet_type */
    uint16_t data_offset8;       /* where the payload begins, from the packet's start, in units of 8 bytes */
    uint16_t length8;            /* whole packet without trailer, in units of 8 bytes */
    uint16_t flags;              /* VMBUS_PACKET_FLAG_COMPLETION; everything else 0 */
    uint64_t transaction_id;     /* echoed in the completion */
} VMBUS_WIRE_ALIGNED;
VMBUS_WIRE_SIZE(struct vmbus_packet_header, 16);

/* VMBUS_PACKET_TRANSFER_PAGES: ranges inside a buffer known by a number (netvsc's receive buffer). */
struct vmbus_transfer_range {
    uint32_t byte_count;
    uint32_t byte_offset;
} VMBUS_WIRE_ALIGNED;
VMBUS_WIRE_SIZE(struct vmbus_transfer_range, 8);

struct vmbus_transfer_pages {
    struct vmbus_packet_header packet;
    uint16_t set_id;             /* number of the buffer */
    uint8_t sender_owns_set;
    uint8_t reserved;
    uint32_t range_count;
    struct vmbus_transfer_range ranges[];
} VMBUS_WIRE_ALIGNED;
VMBUS_WIRE_SIZE(struct vmbus_transfer_pages, 24);

/* VMBUS_PACKET_GPA_DIRECT: struct vmbus_gpa_range_header follows, range_count times, each with its page numbers. */
struct vmbus_gpa_direct {
    struct vmbus_packet_header packet;
    uint32_t reserved;
    uint32_t range_count;
    uint8_t ranges[];
} VMBUS_WIRE_ALIGNED;
VMBUS_WIRE_SIZE(struct vmbus_gpa_direct, 24);

/* Message pipes (integration components): this header before each payload. */
#define VMBUS_PIPE_DATA                   1u
struct vmbus_pipe_header {
    uint32_t type;               /* VMBUS_PIPE_DATA */
    uint32_t bytes;              /* after this header */
} __attribute__((packed));
VMBUS_WIRE_SIZE(struct vmbus_pipe_header, 8);

/* ---- Monitor pages ------------------------------------------------------------------------------------ */

#define VMBUS_MONITOR_GROUPS              4u
#define VMBUS_MONITOR_GROUP_BITS          32u
#define VMBUS_MONITOR_COUNT               (VMBUS_MONITOR_GROUPS * VMBUS_MONITOR_GROUP_BITS)

struct vmbus_monitor_group {
    uint32_t pending;            /* the guest sets a bit atomically, the host clears it and acts */
    uint32_t armed;
} VMBUS_WIRE_ALIGNED;
VMBUS_WIRE_SIZE(struct vmbus_monitor_group, 8);

struct vmbus_monitor_parameter {
    uint32_t connection_id;
    uint16_t flag_number;
    uint16_t reserved;
} VMBUS_WIRE_ALIGNED;
VMBUS_WIRE_SIZE(struct vmbus_monitor_parameter, 8);

/* Monitor id m is bit m % 32 of group m / 32. The host looks at pending bits only every "latency" ticks. */
struct vmbus_monitor_page {
    uint32_t trigger_state;      /* bits 3:0: group enabled */
    uint32_t reserved1;
    struct vmbus_monitor_group groups[VMBUS_MONITOR_GROUPS];
    uint8_t reserved2[24];
    int32_t next_check[VMBUS_MONITOR_GROUPS][VMBUS_MONITOR_GROUP_BITS];
    uint16_t latency[VMBUS_MONITOR_GROUPS][VMBUS_MONITOR_GROUP_BITS]; /* 100 ns units */
    uint8_t reserved3[256];
    struct vmbus_monitor_parameter parameters[VMBUS_MONITOR_GROUPS][VMBUS_MONITOR_GROUP_BITS];
    uint8_t reserved4[1984];
} VMBUS_WIRE_ALIGNED;
VMBUS_WIRE_SIZE(struct vmbus_monitor_page, 4096);
VMBUS_WIRE_OFFSET(struct vmbus_monitor_page, groups, 0x008);
VMBUS_WIRE_OFFSET(struct vmbus_monitor_page, next_check, 0x040);
VMBUS_WIRE_OFFSET(struct vmbus_monitor_page, latency, 0x240);
VMBUS_WIRE_OFFSET(struct vmbus_monitor_page, parameters, 0x440);

/* Interrupt page of the versions before 2.4 (and of offers without a dedicated interrupt before 5.0). */
#define VMBUS_INTERRUPT_PAGE_HOST_TO_GUEST 0u            /* bytes: bit relid of this half */
#define VMBUS_INTERRUPT_PAGE_GUEST_TO_HOST 2048u

/* NTSTATUS values that travel in VMBus, storvsc and vPCI answers. */
#define NTSTATUS_SUCCESS                  0x00000000u
#define NTSTATUS_DEVICE_BUSY              0x80000011u
#define NTSTATUS_BUFFER_OVERFLOW          0x80000005u
#define NTSTATUS_FAILURE                  0x8000FFFFu    /* what VMBus servers say about a GPADL or an open */
#define NTSTATUS_UNSUCCESSFUL             0xC0000001u
#define NTSTATUS_INVALID_PARAMETER        0xC000000Du
#define NTSTATUS_INVALID_DEVICE_REQUEST   0xC0000010u
#define NTSTATUS_REVISION_MISMATCH        0xC0000059u
#define NTSTATUS_DEVICE_DOES_NOT_EXIST    0xC00000C0u
#define NTSTATUS_NOT_SUPPORTED            0xC00000BBu
#define NTSTATUS_CANCELLED                0xC0000120u
#define NTSTATUS_INVALID_DEVICE_STATE     0xC0000184u
#define NTSTATUS_IO_DEVICE_ERROR          0xC0000185u
#define NTSTATUS_CONNECTION_REFUSED       0xC0000236u
