/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * scsi_wire.h: the part of SCSI that a Hyper-V disk speaks: opcodes, statuses, sense, and the data of the
 * commands that describe a disk.
 *
 * Source: T10 SPC-3, SBC-3 and SAM-4. Numbers inside SCSI data are big-endian and unaligned, so they are byte
 * arrays here and are read and written with the helpers below.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>

#define SCSI_WIRE_SIZE(type, bytes) _Static_assert(sizeof(type) == (bytes), #type " has a fixed size")

static inline uint16_t scsi_get_be16(const uint8_t *p)
{
    return (uint16_t)((p[0] << 8) | p[1]);
}

static inline uint32_t scsi_get_be24(const uint8_t *p)
{
    return ((uint32_t)p[0] << 16) | ((uint32_t)p[1] << 8) | p[2];
}

static inline uint32_t scsi_get_be32(const uint8_t *p)
{
    return ((uint32_t)p[0] << 24) | ((uint32_t)p[1] << 16) | ((uint32_t)p[2] << 8) | p[3];
}

static inline uint64_t scsi_get_be64(const uint8_t *p)
{
    return ((uint64_t)scsi_get_be32(p) << 32) | scsi_get_be32(p + 4);
}

static inline void scsi_put_be16(uint8_t *p, uint16_t value)
{
    p[0] = (uint8_t)(value >> 8);
    p[1] = (uint8_t)value;
}

static inline void scsi_put_be24(uint8_t *p, uint32_t value)
{
    p[0] = (uint8_t)(value >> 16);
    p[1] = (uint8_t)(value >> 8);
    p[2] = (uint8_t)value;
}

static inline void scsi_put_be32(uint8_t *p, uint32_t value)
{
    p[0] = (uint8_t)(value >> 24);
    p[1] = (uint8_t)(value >> 16);
    p[2] = (uint8_t)(value >> 8);
    p[3] = (uint8_t)value;
}

static inline void scsi_put_be64(uint8_t *p, uint64_t value)
{
    scsi_put_be32(p, (uint32_t)(value >> 32));
    scsi_put_be32(p + 4, (uint32_t)value);
}

enum scsi_opcode {
    SCSI_TEST_UNIT_READY = 0x00,
    SCSI_REQUEST_SENSE = 0x03,
    SCSI_FORMAT_UNIT = 0x04,
    SCSI_READ_6 = 0x08,
    SCSI_WRITE_6 = 0x0A,
    SCSI_INQUIRY = 0x12,
    SCSI_MODE_SELECT_6 = 0x15,
    SCSI_RESERVE_6 = 0x16,
    SCSI_RELEASE_6 = 0x17,
    SCSI_MODE_SENSE_6 = 0x1A,
    SCSI_START_STOP_UNIT = 0x1B,
    SCSI_SEND_DIAGNOSTIC = 0x1D,
    SCSI_PREVENT_ALLOW_REMOVAL = 0x1E,
    SCSI_READ_CAPACITY_10 = 0x25,
    SCSI_READ_10 = 0x28,
    SCSI_WRITE_10 = 0x2A,
    SCSI_WRITE_VERIFY_10 = 0x2E,
    SCSI_VERIFY_10 = 0x2F,
    SCSI_SYNCHRONIZE_CACHE_10 = 0x35,
    SCSI_WRITE_SAME_10 = 0x41,
    SCSI_UNMAP = 0x42,
    SCSI_LOG_SENSE = 0x4D,
    SCSI_MODE_SELECT_10 = 0x55,
    SCSI_MODE_SENSE_10 = 0x5A,
    SCSI_PERSISTENT_RESERVE_IN = 0x5E,
    SCSI_PERSISTENT_RESERVE_OUT = 0x5F,
    SCSI_READ_16 = 0x88,
    SCSI_WRITE_16 = 0x8A,
    SCSI_WRITE_VERIFY_16 = 0x8E,
    SCSI_VERIFY_16 = 0x8F,
    SCSI_SYNCHRONIZE_CACHE_16 = 0x91,
    SCSI_WRITE_SAME_16 = 0x93,
    SCSI_SERVICE_ACTION_IN_16 = 0x9E,
    SCSI_REPORT_LUNS = 0xA0,
    SCSI_MAINTENANCE_IN = 0xA3,
    SCSI_READ_12 = 0xA8,
    SCSI_WRITE_12 = 0xAA,
    SCSI_WRITE_VERIFY_12 = 0xAE,
    SCSI_VERIFY_12 = 0xAF,
};

/* Service actions of SCSI_SERVICE_ACTION_IN_16, byte 1 bits 4:0. */
#define SCSI_SAI_READ_CAPACITY_16       0x10u
#define SCSI_SAI_GET_LBA_STATUS         0x12u

enum scsi_status {
    SCSI_STATUS_GOOD = 0x00,
    SCSI_STATUS_CHECK_CONDITION = 0x02,
    SCSI_STATUS_CONDITION_MET = 0x04,
    SCSI_STATUS_BUSY = 0x08,
    SCSI_STATUS_RESERVATION_CONFLICT = 0x18,
    SCSI_STATUS_TASK_SET_FULL = 0x28,
    SCSI_STATUS_TASK_ABORTED = 0x40,
};

enum scsi_sense_key {
    SCSI_KEY_NO_SENSE = 0x0,
    SCSI_KEY_RECOVERED_ERROR = 0x1,
    SCSI_KEY_NOT_READY = 0x2,
    SCSI_KEY_MEDIUM_ERROR = 0x3,
    SCSI_KEY_HARDWARE_ERROR = 0x4,
    SCSI_KEY_ILLEGAL_REQUEST = 0x5,
    SCSI_KEY_UNIT_ATTENTION = 0x6,
    SCSI_KEY_DATA_PROTECT = 0x7,
    SCSI_KEY_ABORTED_COMMAND = 0xB,
};

/* Additional sense: code in the high byte, qualifier in the low byte. */
#define SCSI_ASC_NONE                   0x0000u
#define SCSI_ASC_NOT_READY              0x0400u
#define SCSI_ASC_WRITE_ERROR            0x0C00u
#define SCSI_ASC_READ_ERROR             0x1100u
#define SCSI_ASC_PARAMETER_LIST_LENGTH  0x1A00u
#define SCSI_ASC_INVALID_OPCODE         0x2000u
#define SCSI_ASC_LBA_OUT_OF_RANGE       0x2100u
#define SCSI_ASC_INVALID_FIELD_IN_CDB   0x2400u
#define SCSI_ASC_LUN_NOT_SUPPORTED      0x2500u
#define SCSI_ASC_INVALID_PARAMETER      0x2600u
#define SCSI_ASC_WRITE_PROTECTED        0x2700u
#define SCSI_ASC_POWER_ON_RESET         0x2900u
#define SCSI_ASC_MODE_CHANGED           0x2A01u
#define SCSI_ASC_CAPACITY_CHANGED       0x2A09u
#define SCSI_ASC_SAVING_NOT_SUPPORTED   0x3900u
#define SCSI_ASC_NO_MEDIUM              0x3A00u
#define SCSI_ASC_INQUIRY_CHANGED        0x3F03u
#define SCSI_ASC_REPORTED_LUNS_CHANGED  0x3F0Eu
#define SCSI_ASC_INTERNAL_FAILURE       0x4400u

/* Sense data, fixed format (SPC-3 4.5.3). */
#define SCSI_SENSE_FIXED_CURRENT        0x70u
#define SCSI_SENSE_KEY_MASK             0x0Fu
struct scsi_sense {
    uint8_t response_code;       /* SCSI_SENSE_FIXED_CURRENT; bit 7: information is valid */
    uint8_t obsolete;
    uint8_t key;                 /* bits 3:0: enum scsi_sense_key; 7:5 filemark, EOM, ILI */
    uint8_t information[4];
    uint8_t additional_length;   /* bytes after this field: 10 */
    uint8_t command_specific[4];
    uint8_t asc;
    uint8_t ascq;
    uint8_t field_replaceable;
    uint8_t key_specific[3];
} __attribute__((packed));
SCSI_WIRE_SIZE(struct scsi_sense, 18);

/* Command blocks. byte 1 of most carries flags. */
#define SCSI_CDB_FUA                    0x08u            /* READ, WRITE 10/12/16, byte 1 */
#define SCSI_CDB_DPO                    0x10u
#define SCSI_CDB_INQUIRY_EVPD           0x01u            /* INQUIRY, byte 1 */
#define SCSI_CDB_WRITE_SAME_UNMAP       0x08u            /* WRITE SAME, byte 1 */
#define SCSI_CDB_WRITE_SAME_NDOB        0x01u            /* WRITE SAME (16), byte 1: no data buffer, zeroes */
#define SCSI_CDB_MODE_SENSE_DBD         0x08u            /* MODE SENSE, byte 1: no block descriptors */

/* READ, WRITE, VERIFY, SYNCHRONIZE CACHE in their 10, 12 and 16 byte forms. */
struct scsi_cdb_rw10 {
    uint8_t opcode;
    uint8_t flags;
    uint8_t lba[4];
    uint8_t group;
    uint8_t blocks[2];
    uint8_t control;
} __attribute__((packed));
SCSI_WIRE_SIZE(struct scsi_cdb_rw10, 10);

struct scsi_cdb_rw12 {
    uint8_t opcode;
    uint8_t flags;
    uint8_t lba[4];
    uint8_t blocks[4];
    uint8_t group;
    uint8_t control;
} __attribute__((packed));
SCSI_WIRE_SIZE(struct scsi_cdb_rw12, 12);

struct scsi_cdb_rw16 {
    uint8_t opcode;
    uint8_t flags;
    uint8_t lba[8];
    uint8_t blocks[4];
    uint8_t group;
    uint8_t control;
} __attribute__((packed));
SCSI_WIRE_SIZE(struct scsi_cdb_rw16, 16);

struct scsi_cdb_inquiry {
    uint8_t opcode;
    uint8_t flags;               /* SCSI_CDB_INQUIRY_EVPD */
    uint8_t page;
    uint8_t allocation[2];
    uint8_t control;
} __attribute__((packed));
SCSI_WIRE_SIZE(struct scsi_cdb_inquiry, 6);

struct scsi_cdb_report_luns {
    uint8_t opcode;
    uint8_t reserved1;
    uint8_t select_report;
    uint8_t reserved2[3];
    uint8_t allocation[4];
    uint8_t reserved3;
    uint8_t control;
} __attribute__((packed));
SCSI_WIRE_SIZE(struct scsi_cdb_report_luns, 12);

struct scsi_cdb_read_capacity_16 {
    uint8_t opcode;              /* SCSI_SERVICE_ACTION_IN_16 */
    uint8_t service_action;      /* SCSI_SAI_READ_CAPACITY_16 */
    uint8_t lba[8];
    uint8_t allocation[4];
    uint8_t reserved;
    uint8_t control;
} __attribute__((packed));
SCSI_WIRE_SIZE(struct scsi_cdb_read_capacity_16, 16);

struct scsi_cdb_unmap {
    uint8_t opcode;
    uint8_t flags;
    uint8_t reserved[4];
    uint8_t group;
    uint8_t parameter_bytes[2];
    uint8_t control;
} __attribute__((packed));
SCSI_WIRE_SIZE(struct scsi_cdb_unmap, 10);

struct scsi_cdb_mode_sense_6 {
    uint8_t opcode;
    uint8_t flags;
    uint8_t page;                /* bits 7:6 page control, 5:0 page code */
    uint8_t subpage;
    uint8_t allocation;
    uint8_t control;
} __attribute__((packed));
SCSI_WIRE_SIZE(struct scsi_cdb_mode_sense_6, 6);

struct scsi_cdb_mode_sense_10 {
    uint8_t opcode;
    uint8_t flags;
    uint8_t page;
    uint8_t subpage;
    uint8_t reserved[3];
    uint8_t allocation[2];
    uint8_t control;
} __attribute__((packed));
SCSI_WIRE_SIZE(struct scsi_cdb_mode_sense_10, 10);

/* INQUIRY data. */
#define SCSI_TYPE_MASK                  0x1Fu
#define SCSI_TYPE_DISK                  0x00u
#define SCSI_TYPE_CDROM                 0x05u
#define SCSI_TYPE_NONE                  0x1Fu
#define SCSI_QUALIFIER_ABSENT           0x7Fu            /* first byte for a LUN that is not there */
#define SCSI_INQUIRY_VERSION_SPC3       5u
#define SCSI_INQUIRY_RESPONSE_FORMAT    2u
#define SCSI_INQUIRY_CMDQUE             0x02u
struct scsi_inquiry {
    uint8_t peripheral;          /* bits 7:5 qualifier, 4:0 type */
    uint8_t removable;           /* bit 7 */
    uint8_t version;
    uint8_t format;              /* bits 3:0: SCSI_INQUIRY_RESPONSE_FORMAT */
    uint8_t additional_length;   /* bytes after this field */
    uint8_t flags5;
    uint8_t flags6;
    uint8_t flags7;              /* SCSI_INQUIRY_CMDQUE */
    uint8_t vendor[8];           /* padded with spaces */
    uint8_t product[16];
    uint8_t revision[4];
    uint8_t rest[60];
} __attribute__((packed));
SCSI_WIRE_SIZE(struct scsi_inquiry, 96);
#define SCSI_INQUIRY_MIN                36u

#define SCSI_VPD_SUPPORTED              0x00u
#define SCSI_VPD_SERIAL                 0x80u
#define SCSI_VPD_IDENTIFICATION         0x83u
#define SCSI_VPD_BLOCK_LIMITS           0xB0u
#define SCSI_VPD_BLOCK_CHARACTERISTICS  0xB1u
#define SCSI_VPD_PROVISIONING           0xB2u
struct scsi_vpd_header {
    uint8_t peripheral;
    uint8_t page;
    uint8_t length[2];           /* bytes after this header */
} __attribute__((packed));
SCSI_WIRE_SIZE(struct scsi_vpd_header, 4);

/* One designator of page 0x83. */
#define SCSI_CODE_SET_BINARY            1u
#define SCSI_CODE_SET_ASCII             2u
#define SCSI_DESIGNATOR_T10             1u
#define SCSI_DESIGNATOR_NAA             3u
struct scsi_designator {
    uint8_t code_set;            /* bits 3:0 */
    uint8_t type;                /* bits 3:0 type, 5:4 association */
    uint8_t reserved;
    uint8_t length;
    uint8_t data[];
} __attribute__((packed));
SCSI_WIRE_SIZE(struct scsi_designator, 4);

struct scsi_vpd_block_limits {
    struct scsi_vpd_header header;
    uint8_t flags;               /* bit 0: WRITE SAME of zero blocks is refused */
    uint8_t max_compare_write;
    uint8_t granularity[2];      /* optimal transfer length granularity, blocks */
    uint8_t max_transfer[4];     /* blocks */
    uint8_t optimal_transfer[4]; /* blocks */
    uint8_t max_prefetch[4];
    uint8_t max_unmap_blocks[4];
    uint8_t max_unmap_descriptors[4];
    uint8_t unmap_granularity[4]; /* blocks */
    uint8_t unmap_alignment[4];  /* bit 31: valid */
    uint8_t max_write_same[8];   /* blocks, 0: no limit told */
    uint8_t reserved[20];
} __attribute__((packed));
SCSI_WIRE_SIZE(struct scsi_vpd_block_limits, 64);

struct scsi_vpd_characteristics {
    struct scsi_vpd_header header;
    uint8_t rotation_rate[2];    /* 1: not rotating, 0: not told */
    uint8_t product_type;
    uint8_t form_factor;
    uint8_t reserved[56];
} __attribute__((packed));
SCSI_WIRE_SIZE(struct scsi_vpd_characteristics, 64);

#define SCSI_PROVISIONING_UNMAP         0x80u
#define SCSI_PROVISIONING_WRITE_SAME_16 0x40u
#define SCSI_PROVISIONING_WRITE_SAME_10 0x20u
#define SCSI_PROVISIONING_READS_ZERO    0x04u
#define SCSI_PROVISIONING_TYPE_THIN     0x02u
struct scsi_vpd_provisioning {
    struct scsi_vpd_header header;
    uint8_t threshold_exponent;
    uint8_t flags;               /* SCSI_PROVISIONING_UNMAP ... */
    uint8_t type;                /* bits 2:0: SCSI_PROVISIONING_TYPE_THIN */
    uint8_t reserved;
} __attribute__((packed));
SCSI_WIRE_SIZE(struct scsi_vpd_provisioning, 8);

/* READ CAPACITY data. */
struct scsi_capacity_10 {
    uint8_t last_lba[4];         /* 0xFFFFFFFF: ask READ CAPACITY (16) */
    uint8_t block_bytes[4];
} __attribute__((packed));
SCSI_WIRE_SIZE(struct scsi_capacity_10, 8);

#define SCSI_CAPACITY_LBPME             0x8000u          /* in alignment: the disk has provisioning */
#define SCSI_CAPACITY_LBPRZ             0x4000u          /* unmapped blocks read as zeroes */
#define SCSI_CAPACITY_ALIGNMENT_MASK    0x3FFFu
struct scsi_capacity_16 {
    uint8_t last_lba[8];
    uint8_t block_bytes[4];
    uint8_t protection;
    uint8_t exponent;            /* bits 3:0: log2 of logical blocks per physical block */
    uint8_t alignment[2];        /* SCSI_CAPACITY_* and the lowest aligned block */
    uint8_t reserved[16];
} __attribute__((packed));
SCSI_WIRE_SIZE(struct scsi_capacity_16, 32);

/* REPORT LUNS data. */
struct scsi_lun_list {
    uint8_t length[4];           /* bytes of entries: 8 each, whatever the buffer holds */
    uint8_t reserved[4];
    uint8_t entries[][8];        /* LUN in the first two bytes */
} __attribute__((packed));
SCSI_WIRE_SIZE(struct scsi_lun_list, 8);

/* UNMAP parameter list. */
#define SCSI_UNMAP_DESCRIPTORS_MAX      4096u
struct scsi_unmap_descriptor {
    uint8_t lba[8];
    uint8_t blocks[4];
    uint8_t reserved[4];
} __attribute__((packed));
SCSI_WIRE_SIZE(struct scsi_unmap_descriptor, 16);

struct scsi_unmap_list {
    uint8_t data_length[2];      /* bytes after this field */
    uint8_t descriptor_length[2]; /* bytes of descriptors, a multiple of 16 */
    uint8_t reserved[4];
    struct scsi_unmap_descriptor descriptors[];
} __attribute__((packed));
SCSI_WIRE_SIZE(struct scsi_unmap_list, 8);

/* MODE SENSE data: header, block descriptors (none here), pages. */
#define SCSI_MODE_WRITE_PROTECT         0x80u            /* device-specific byte of the header */
#define SCSI_MODE_DPOFUA                0x10u
#define SCSI_MODE_PAGE_CACHING          0x08u
#define SCSI_MODE_PAGE_ALL              0x3Fu
#define SCSI_MODE_CONTROL_MASK          0xC0u            /* byte 2 of the CDB */
#define SCSI_MODE_CONTROL_CURRENT       0x00u
#define SCSI_MODE_CONTROL_CHANGEABLE    0x40u
#define SCSI_MODE_CONTROL_DEFAULT       0x80u
#define SCSI_MODE_CONTROL_SAVED         0xC0u
struct scsi_mode_header_6 {
    uint8_t data_length;         /* bytes after this field */
    uint8_t medium_type;
    uint8_t device_specific;
    uint8_t descriptor_length;
} __attribute__((packed));
SCSI_WIRE_SIZE(struct scsi_mode_header_6, 4);

struct scsi_mode_header_10 {
    uint8_t data_length[2];
    uint8_t medium_type;
    uint8_t device_specific;
    uint8_t reserved[2];
    uint8_t descriptor_length[2];
} __attribute__((packed));
SCSI_WIRE_SIZE(struct scsi_mode_header_10, 8);

#define SCSI_CACHING_WCE                0x04u            /* write cache enabled */
struct scsi_mode_caching {
    uint8_t page;                /* SCSI_MODE_PAGE_CACHING */
    uint8_t length;              /* 18 */
    uint8_t flags;               /* SCSI_CACHING_WCE */
    uint8_t rest[17];
} __attribute__((packed));
SCSI_WIRE_SIZE(struct scsi_mode_caching, 20);
