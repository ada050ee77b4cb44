/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * SCSI command blocks and sense data. Sources: SPC-3 (INQUIRY, MODE SENSE, REPORT LUNS, sense), SBC-3 (the disk's
 * commands), and the T10 list of additional sense codes for the words.
 */
#define LOG_ROOM "scsi"
#include <string.h>
#include "drivers/scsi.h"

_Static_assert(sizeof(struct scsi_cdb_rw16) == SCSI_CDB_BYTES, "the longest command block we send");

unsigned scsi_cdb_transfer(uint8_t *cdb, bool write, uint64_t lba, uint32_t blocks, bool fua)
{
    uint8_t flags = fua ? SCSI_CDB_FUA : 0;

    /* The sum too: a disk of up to 2^32 blocks is addressed by the short form to its end. */
    if (lba <= UINT32_MAX && blocks <= UINT16_MAX) {
        struct scsi_cdb_rw10 *c = (struct scsi_cdb_rw10 *)cdb;
        c->opcode = write ? SCSI_WRITE_10 : SCSI_READ_10;
        c->flags = flags;
        scsi_put_be32(c->lba, (uint32_t)lba);
        scsi_put_be16(c->blocks, (uint16_t)blocks);
        return sizeof(*c);
    }
    struct scsi_cdb_rw16 *c = (struct scsi_cdb_rw16 *)cdb;
    c->opcode = write ? SCSI_WRITE_16 : SCSI_READ_16;
    c->flags = flags;
    scsi_put_be64(c->lba, lba);
    scsi_put_be32(c->blocks, blocks);
    return sizeof(*c);
}

unsigned scsi_cdb_synchronize_cache(uint8_t *cdb)
{
    struct scsi_cdb_rw10 *c = (struct scsi_cdb_rw10 *)cdb;

    c->opcode = SCSI_SYNCHRONIZE_CACHE_10;   /* block 0, count 0: everything, on disks of any size */
    return sizeof(*c);
}

unsigned scsi_cdb_unmap(uint8_t *cdb, uint16_t parameter_bytes)
{
    struct scsi_cdb_unmap *c = (struct scsi_cdb_unmap *)cdb;

    c->opcode = SCSI_UNMAP;
    scsi_put_be16(c->parameter_bytes, parameter_bytes);
    return sizeof(*c);
}

unsigned scsi_cdb_write_same(uint8_t *cdb, uint64_t lba, uint32_t blocks, bool unmap)
{
    struct scsi_cdb_rw16 *c = (struct scsi_cdb_rw16 *)cdb;

    c->opcode = SCSI_WRITE_SAME_16;
    c->flags = unmap ? SCSI_CDB_WRITE_SAME_UNMAP : 0;
    scsi_put_be64(c->lba, lba);
    scsi_put_be32(c->blocks, blocks);
    return sizeof(*c);
}

unsigned scsi_cdb_inquiry(uint8_t *cdb, bool vital, uint8_t page, uint16_t allocation)
{
    struct scsi_cdb_inquiry *c = (struct scsi_cdb_inquiry *)cdb;

    c->opcode = SCSI_INQUIRY;
    c->flags = vital ? SCSI_CDB_INQUIRY_EVPD : 0;
    c->page = page;
    scsi_put_be16(c->allocation, allocation);
    return sizeof(*c);
}

unsigned scsi_cdb_report_luns(uint8_t *cdb, uint32_t allocation)
{
    struct scsi_cdb_report_luns *c = (struct scsi_cdb_report_luns *)cdb;

    c->opcode = SCSI_REPORT_LUNS;
    scsi_put_be32(c->allocation, allocation);
    return sizeof(*c);
}

unsigned scsi_cdb_read_capacity_10(uint8_t *cdb)
{
    cdb[0] = SCSI_READ_CAPACITY_10;
    return 10;
}

unsigned scsi_cdb_read_capacity_16(uint8_t *cdb, uint32_t allocation)
{
    struct scsi_cdb_read_capacity_16 *c = (struct scsi_cdb_read_capacity_16 *)cdb;

    c->opcode = SCSI_SERVICE_ACTION_IN_16;
    c->service_action = SCSI_SAI_READ_CAPACITY_16;
    scsi_put_be32(c->allocation, allocation);
    return sizeof(*c);
}

unsigned scsi_cdb_mode_sense_6(uint8_t *cdb, uint8_t page, uint8_t allocation)
{
    struct scsi_cdb_mode_sense_6 *c = (struct scsi_cdb_mode_sense_6 *)cdb;

    c->opcode = SCSI_MODE_SENSE_6;
    c->flags = SCSI_CDB_MODE_SENSE_DBD;
    c->page = page;
    c->allocation = allocation;
    return sizeof(*c);
}

unsigned scsi_cdb_mode_sense_10(uint8_t *cdb, uint8_t page, uint16_t allocation)
{
    struct scsi_cdb_mode_sense_10 *c = (struct scsi_cdb_mode_sense_10 *)cdb;

    c->opcode = SCSI_MODE_SENSE_10;
    c->flags = SCSI_CDB_MODE_SENSE_DBD;
    c->page = page;
    scsi_put_be16(c->allocation, allocation);
    return sizeof(*c);
}

void scsi_unmap_one(void *list, uint64_t lba, uint32_t blocks)
{
    struct scsi_unmap_list *l = list;

    memset(l, 0, SCSI_UNMAP_ONE_BYTES);
    scsi_put_be16(l->data_length, (uint16_t)(SCSI_UNMAP_ONE_BYTES - sizeof(l->data_length)));
    scsi_put_be16(l->descriptor_length, sizeof(struct scsi_unmap_descriptor));
    scsi_put_be64(l->descriptors[0].lba, lba);
    scsi_put_be32(l->descriptors[0].blocks, blocks);
}

/* ---- sense ---- */

struct scsi_sense_info scsi_sense_decode(const uint8_t *sense, unsigned bytes)
{
    struct scsi_sense_info info = {0};
    uint8_t format = bytes > 0 ? sense[0] & 0x7F : 0;

    /* SPC-3 4.5: 70h and 71h are fixed, 72h and 73h descriptor format (current and deferred errors). */
    if ((format == 0x70 || format == 0x71) && bytes > offsetof(struct scsi_sense, ascq)) {
        const struct scsi_sense *s = (const struct scsi_sense *)sense;
        info = (struct scsi_sense_info){true, format & 1, s->key & SCSI_SENSE_KEY_MASK,
                                        (uint16_t)((s->asc << 8) | s->ascq)};
    } else if ((format == 0x72 || format == 0x73) && bytes >= 4) {
        info = (struct scsi_sense_info){true, format & 1, sense[1] & SCSI_SENSE_KEY_MASK,
                                        (uint16_t)((sense[2] << 8) | sense[3])};
    }
    return info;
}

static const char *const key_names[16] = {
    "no sense", "recovered error", "not ready", "medium error", "hardware error", "illegal request", "unit attention",
    "data protect", "blank check", "vendor specific", "copy aborted", "aborted command", "reserved", "volume overflow",
    "miscompare", "completed",
};

static const struct { uint16_t code; const char *text; } code_names[] = {
    {0x0401, "becoming ready"},
    {0x0402, "start command needed"},
    {0x040B, "path in standby"},
    {0x0C00, "write error"},
    {0x0C02, "write error, reallocation failed"},
    {0x1100, "unrecovered read error"},
    {0x1104, "unrecovered read error, reallocation failed"},
    {0x1A00, "parameter list length error"},
    {0x1D00, "miscompare during verify"},
    {0x2000, "invalid command"},
    {0x2100, "block number out of range"},
    {0x2400, "invalid field in the command"},
    {0x2500, "logical unit not supported"},
    {0x2600, "invalid field in the parameters"},
    {0x2700, "write protected"},
    {0x2707, "space allocation failed"},
    {0x2800, "medium may have changed"},
    {0x2900, "power on or reset"},
    {0x2901, "power on"},
    {0x2902, "bus reset"},
    {0x2903, "target reset"},
    {0x2A01, "mode parameters changed"},
    {0x2A09, "capacity changed"},
    {0x3807, "thin provisioning threshold reached"},
    {0x3900, "saving parameters not supported"},
    {0x3A00, "no medium"},
    {0x3A01, "no medium, tray closed"},
    {0x3A02, "no medium, tray open"},
    {0x3F01, "microcode changed"},
    {0x3F03, "inquiry data changed"},
    {0x3F0E, "list of logical units changed"},
    {0x4400, "internal failure"},
};

void scsi_sense_text(const struct scsi_sense_info *info, char *text, size_t bytes)
{
    const char *code = NULL;

    if (!info->valid) {
        ksnprintf(text, bytes, "no sense data");
        return;
    }
    for (unsigned i = 0; i < ARRAY_SIZE(code_names); i++) {
        if (code_names[i].code == info->code)
            code = code_names[i].text;
    }
    ksnprintf(text, bytes, "%s%s%s (%X/%02X/%02X)", key_names[info->key & 15], code ? ": " : "", code ? code : "",
              info->key, info->code >> 8, info->code & 0xFF);
}

static const struct { uint8_t opcode; const char *name; } opcode_names[] = {
    {SCSI_TEST_UNIT_READY, "TEST UNIT READY"}, {SCSI_INQUIRY, "INQUIRY"},
    {SCSI_MODE_SENSE_6, "MODE SENSE(6)"}, {SCSI_MODE_SENSE_10, "MODE SENSE(10)"},
    {SCSI_READ_CAPACITY_10, "READ CAPACITY(10)"}, {SCSI_SERVICE_ACTION_IN_16, "READ CAPACITY(16)"},
    {SCSI_READ_10, "READ(10)"}, {SCSI_WRITE_10, "WRITE(10)"}, {SCSI_READ_16, "READ(16)"}, {SCSI_WRITE_16, "WRITE(16)"},
    {SCSI_SYNCHRONIZE_CACHE_10, "SYNCHRONIZE CACHE"}, {SCSI_UNMAP, "UNMAP"}, {SCSI_WRITE_SAME_16, "WRITE SAME(16)"},
    {SCSI_REPORT_LUNS, "REPORT LUNS"},
};

const char *scsi_opcode_name(uint8_t opcode)
{
    for (unsigned i = 0; i < ARRAY_SIZE(opcode_names); i++) {
        if (opcode_names[i].opcode == opcode)
            return opcode_names[i].name;
    }
    return "command";
}

const char *scsi_status_name(uint8_t status)
{
    switch (status) {
    case SCSI_STATUS_GOOD: return "good";
    case SCSI_STATUS_CHECK_CONDITION: return "check condition";
    case SCSI_STATUS_BUSY: return "busy";
    case SCSI_STATUS_RESERVATION_CONFLICT: return "reservation conflict";
    case SCSI_STATUS_TASK_SET_FULL: return "task set full";
    case SCSI_STATUS_TASK_ABORTED: return "task aborted";
    default: return "unknown status";
    }
}

void scsi_field_text(char *text, size_t text_bytes, const uint8_t *field, unsigned n)
{
    unsigned used = 0;

    KASSERT(text_bytes > n);
    for (unsigned i = 0; i < n; i++) {
        text[i] = field[i] >= 0x20 && field[i] < 0x7F ? (char)field[i] : '?';
        if (field[i] == 0)
            text[i] = ' ';
        if (text[i] != ' ')
            used = i + 1;
    }
    text[used] = '\0';
}
