/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * storvsc_wire.h: the storage protocol between storvsc (guest) and storvsp (host): vstor packets over VMBus.
 *
 * Source: the storage VSP protocol, versions 2.0 to 6.2, as hosts from Windows Server 2012 on speak it.
 * The SCSI commands inside are in scsi_wire.h, NTSTATUS values in vmbus_wire.h.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>

#define STORVSC_WIRE_SIZE(type, bytes) \
    _Static_assert(sizeof(type) == (bytes), #type " has a fixed size")
#define STORVSC_WIRE_OFFSET(type, field, bytes) \
    _Static_assert(offsetof(type, field) == (bytes), #type "." #field " has a fixed offset")

#define VSTOR_VERSION(major, minor) ((uint16_t)(((major) << 8) | (minor)))
#define VSTOR_VERSION_WIN6      VSTOR_VERSION(2, 0)
#define VSTOR_VERSION_WIN7      VSTOR_VERSION(4, 2)
#define VSTOR_VERSION_WIN8      VSTOR_VERSION(5, 1)
#define VSTOR_VERSION_WIN8_1    VSTOR_VERSION(6, 0)
#define VSTOR_VERSION_WIN10     VSTOR_VERSION(6, 2)

enum vstor_operation {
    VSTOR_OP_COMPLETE_IO = 1,            /* host to guest: in every completion */
    VSTOR_OP_REMOVE_DEVICE = 2,          /* host to guest, unsolicited */
    VSTOR_OP_EXECUTE_SRB = 3,
    VSTOR_OP_RESET_LUN = 4,
    VSTOR_OP_RESET_ADAPTER = 5,
    VSTOR_OP_RESET_BUS = 6,
    VSTOR_OP_BEGIN_INITIALIZATION = 7,
    VSTOR_OP_END_INITIALIZATION = 8,
    VSTOR_OP_QUERY_PROTOCOL_VERSION = 9,
    VSTOR_OP_QUERY_PROPERTIES = 10,
    VSTOR_OP_ENUMERATE_BUS = 11,         /* host to guest, unsolicited: LUNs came or went */
    VSTOR_OP_FCHBA_DATA = 12,
    VSTOR_OP_CREATE_SUB_CHANNELS = 13,
    VSTOR_OP_EVENT_NOTIFICATION = 14,    /* host to guest, newer hosts */
};
#define VSTOR_FLAG_REQUEST_COMPLETION   0x1u

#define VSTOR_CDB_MAX                   16u
#define VSTOR_SENSE_MAX                 20u              /* 18 before 5.1 */
#define VSTOR_SENSE_MAX_WIN7            18u
#define VSTOR_SRB_BYTES                 52u              /* length field of the SRB, 5.1 and later */
#define VSTOR_SRB_BYTES_WIN7            36u
#define VSTOR_PACKET_BYTES              64u
#define VSTOR_PACKET_BYTES_WIN7         48u              /* also before negotiation, from some guests */
#define VSTOR_PACKET_HEADER_BYTES       12u

enum vstor_data_direction {
    VSTOR_DATA_TO_DEVICE = 0,            /* a write: the host reads guest memory */
    VSTOR_DATA_FROM_DEVICE = 1,          /* a read: the host writes guest memory */
    VSTOR_DATA_NONE = 2,
};

/* A SCSI request block. Everything from reserved2 on exists only in 5.1 and later. */
struct vstor_srb {
    uint16_t length;             /* VSTOR_SRB_BYTES, or _WIN7 */
    uint8_t srb_status;          /* from the host: SRB_STATUS_* and flags */
    uint8_t scsi_status;         /* from the host */
    uint8_t port_number;
    uint8_t path_id;
    uint8_t target_id;
    uint8_t lun;
    uint8_t cdb_bytes;
    uint8_t sense_bytes;         /* request: room (VSTOR_SENSE_MAX); completion: valid bytes */
    uint8_t data_direction;      /* enum vstor_data_direction; any nonzero value lets the host write */
    uint8_t properties;          /* 0 */
    uint32_t data_bytes;         /* request: wanted; completion: transferred */
    union {
        uint8_t cdb[VSTOR_SENSE_MAX];    /* request: 16 bytes count */
        uint8_t sense[VSTOR_SENSE_MAX];  /* completion */
    };
    uint16_t reserved2;
    uint8_t queue_tag;
    uint8_t queue_action;
    uint32_t srb_flags;          /* SRB_FLAG_* */
    uint32_t timeout_s;
    uint32_t queue_sort_key;
} __attribute__((packed));
STORVSC_WIRE_SIZE(struct vstor_srb, VSTOR_SRB_BYTES);
STORVSC_WIRE_OFFSET(struct vstor_srb, data_bytes, 12);
STORVSC_WIRE_OFFSET(struct vstor_srb, cdb, 16);
STORVSC_WIRE_OFFSET(struct vstor_srb, reserved2, VSTOR_SRB_BYTES_WIN7);
STORVSC_WIRE_OFFSET(struct vstor_srb, srb_flags, 40);

struct vstor_version {
    uint16_t version;            /* VSTOR_VERSION_* */
    uint16_t revision;           /* 0 */
} __attribute__((packed));
STORVSC_WIRE_SIZE(struct vstor_version, 4);

#define VSTOR_CHANNEL_MULTI             0x1u             /* sub-channels may be created */
struct vstor_channel_properties {
    uint32_t reserved1;
    uint16_t max_sub_channels;
    uint16_t reserved2;
    uint32_t flags;              /* VSTOR_CHANNEL_* */
    uint32_t max_transfer_bytes;
    uint64_t reserved3;
} __attribute__((packed));
STORVSC_WIRE_SIZE(struct vstor_channel_properties, 24);

struct vstor_fc_wwn {
    uint8_t primary_active;
    uint8_t reserved[3];
    uint8_t primary_port[8];
    uint8_t primary_node[8];
    uint8_t secondary_port[8];
    uint8_t secondary_node[8];
} __attribute__((packed));
STORVSC_WIRE_SIZE(struct vstor_fc_wwn, 36);

struct vstor_event {
    uint8_t lun;
    uint8_t target_id;
    uint8_t path_id;
    uint8_t flags;
} __attribute__((packed));
STORVSC_WIRE_SIZE(struct vstor_event, 4);

struct vstor_packet {
    uint32_t operation;          /* enum vstor_operation */
    uint32_t flags;              /* VSTOR_FLAG_* */
    uint32_t status;             /* from the host: an NTSTATUS */
    union {
        struct vstor_srb srb;
        struct vstor_version version;
        struct vstor_channel_properties properties;
        struct vstor_fc_wwn wwn;
        struct vstor_event event;
        uint16_t sub_channel_count;
    };
} __attribute__((packed));
STORVSC_WIRE_SIZE(struct vstor_packet, VSTOR_PACKET_BYTES);
STORVSC_WIRE_OFFSET(struct vstor_packet, srb, VSTOR_PACKET_HEADER_BYTES);

/* SRB status: a code in the low six bits and two flags. */
#define SRB_STATUS_MASK                 0x3Fu
#define SRB_STATUS_QUEUE_FROZEN         0x40u
#define SRB_STATUS_AUTOSENSE_VALID      0x80u
enum srb_status {
    SRB_STATUS_PENDING = 0x00,
    SRB_STATUS_SUCCESS = 0x01,
    SRB_STATUS_ABORTED = 0x02,
    SRB_STATUS_ABORT_FAILED = 0x03,
    SRB_STATUS_ERROR = 0x04,
    SRB_STATUS_BUSY = 0x05,
    SRB_STATUS_INVALID_REQUEST = 0x06,
    SRB_STATUS_INVALID_PATH_ID = 0x07,
    SRB_STATUS_NO_DEVICE = 0x08,
    SRB_STATUS_TIMEOUT = 0x09,
    SRB_STATUS_SELECTION_TIMEOUT = 0x0A,
    SRB_STATUS_COMMAND_TIMEOUT = 0x0B,
    SRB_STATUS_MESSAGE_REJECTED = 0x0D,
    SRB_STATUS_BUS_RESET = 0x0E,
    SRB_STATUS_PARITY_ERROR = 0x0F,
    SRB_STATUS_REQUEST_SENSE_FAILED = 0x10,
    SRB_STATUS_NO_HBA = 0x11,
    SRB_STATUS_DATA_OVERRUN = 0x12,      /* hosts say it for short transfers too: believe data_bytes */
    SRB_STATUS_BAD_SRB_BLOCK_LENGTH = 0x15,
    SRB_STATUS_REQUEST_FLUSHED = 0x16,
    SRB_STATUS_INVALID_LUN = 0x20,
    SRB_STATUS_INVALID_TARGET_ID = 0x21,
    SRB_STATUS_BAD_FUNCTION = 0x22,
    SRB_STATUS_ERROR_RECOVERY = 0x23,
    SRB_STATUS_NOT_POWERED = 0x24,
    SRB_STATUS_INTERNAL_ERROR = 0x30,
};

#define SRB_FLAG_QUEUE_ACTION_ENABLE       0x00000002u
#define SRB_FLAG_DISABLE_DISCONNECT        0x00000004u
#define SRB_FLAG_DISABLE_SYNCH_TRANSFER    0x00000008u
#define SRB_FLAG_BYPASS_FROZEN_QUEUE       0x00000010u
#define SRB_FLAG_DISABLE_AUTOSENSE         0x00000020u
#define SRB_FLAG_DATA_IN                   0x00000040u
#define SRB_FLAG_DATA_OUT                  0x00000080u
#define SRB_FLAG_NO_QUEUE_FREEZE           0x00000100u
#define SRB_QUEUE_ACTION_SIMPLE            0x20u
#define SRB_QUEUE_TAG_NONE                 0xFFu
