/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * SCSI command blocks and sense data, apart from how they travel: storvsc is the user.
 *
 * Builders write a zeroed 16-byte command block and return its length. Nothing here keeps state, sleeps or logs.
 */
#pragma once
#include "drivers/scsi_wire.h"
#include "lib/lib.h"

#define SCSI_CDB_BYTES 16u

/* READ or WRITE: the 10-byte form where block number and count fit, else the 16-byte form. */
unsigned scsi_cdb_transfer(uint8_t *cdb, bool write, uint64_t lba, uint32_t blocks, bool fua);
/* The whole disk. */
unsigned scsi_cdb_synchronize_cache(uint8_t *cdb);
unsigned scsi_cdb_unmap(uint8_t *cdb, uint16_t parameter_bytes);
/* WRITE SAME (16) of one block of data. */
unsigned scsi_cdb_write_same(uint8_t *cdb, uint64_t lba, uint32_t blocks, bool unmap);
/* page 0 without vital: the standard data. */
unsigned scsi_cdb_inquiry(uint8_t *cdb, bool vital, uint8_t page, uint16_t allocation);
unsigned scsi_cdb_report_luns(uint8_t *cdb, uint32_t allocation);
unsigned scsi_cdb_read_capacity_10(uint8_t *cdb);
unsigned scsi_cdb_read_capacity_16(uint8_t *cdb, uint32_t allocation);
unsigned scsi_cdb_mode_sense_6(uint8_t *cdb, uint8_t page, uint8_t allocation);
unsigned scsi_cdb_mode_sense_10(uint8_t *cdb, uint8_t page, uint16_t allocation);

/* Parameter list of UNMAP with one descriptor. */
#define SCSI_UNMAP_ONE_BYTES ((uint32_t)(sizeof(struct scsi_unmap_list) + sizeof(struct scsi_unmap_descriptor)))
void scsi_unmap_one(void *list, uint64_t lba, uint32_t blocks);

/* What sense data says; key and code 0 when there was none that could be read. */
struct scsi_sense_info {
    bool valid;
    bool deferred;                 /* of an earlier command; this one was not executed */
    uint8_t key;                   /* enum scsi_sense_key */
    uint16_t code;                 /* SCSI_ASC_*: additional sense code and qualifier */
};
/* Fixed and descriptor format; sense is what the host wrote, bytes how much of it may be looked at. */
struct scsi_sense_info scsi_sense_decode(const uint8_t *sense, unsigned bytes);
/* "medium error: unrecovered read error (3/11/00)" */
void scsi_sense_text(const struct scsi_sense_info *info, char *text, size_t bytes);
const char *scsi_opcode_name(uint8_t opcode);          /* "READ(10)"; "command" when unknown */
const char *scsi_status_name(uint8_t status);
/* Copies a space-padded field of n bytes as a string without the padding; what is not printable becomes '?'. */
void scsi_field_text(char *text, size_t text_bytes, const uint8_t *field, unsigned n);
