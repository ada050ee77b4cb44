/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * vscsi_inquiry.c: the commands that describe a disk: INQUIRY and its pages, REPORT LUNS, READ CAPACITY,
 * MODE SENSE.
 */
#include "tests/host/storvsp.h"

#define MAX_WRITE_SAME_BYTES (8u << 20)

static void illegal_field(struct scsi_cmd *cmd)
{
    vscsi_fail(cmd, SRB_STATUS_INVALID_REQUEST, SCSI_KEY_ILLEGAL_REQUEST, SCSI_ASC_INVALID_FIELD_IN_CDB);
}

/* ---- INQUIRY ---------------------------------------------------------------------------------------- */

static void standard(struct scsi_cmd *cmd, uint32_t allocation)
{
    struct scsi_inquiry d;

    memset(&d, 0, sizeof(d));
    d.peripheral = cmd->lun != NULL ? SCSI_TYPE_DISK : SCSI_QUALIFIER_ABSENT;
    if (cmd->lun != NULL || cmd->srb.lun == 0) {
        d.version = SCSI_INQUIRY_VERSION_SPC3;
        d.format = SCSI_INQUIRY_RESPONSE_FORMAT;
        d.additional_length = sizeof(d) - 5;
        d.flags7 = SCSI_INQUIRY_CMDQUE;
        memcpy(d.vendor, "Msft    ", 8);
        memcpy(d.product, "Virtual Disk    ", 16);
        memcpy(d.revision, "1.0 ", 4);
    }
    vscsi_data_in(cmd, &d, sizeof(d), allocation);
}

static void page_supported(struct scsi_cmd *cmd, uint32_t allocation)
{
    static const uint8_t pages[] = {
        SCSI_VPD_SUPPORTED, SCSI_VPD_SERIAL, SCSI_VPD_IDENTIFICATION, SCSI_VPD_BLOCK_LIMITS,
        SCSI_VPD_BLOCK_CHARACTERISTICS, SCSI_VPD_PROVISIONING,
    };
    uint8_t d[sizeof(struct scsi_vpd_header) + sizeof(pages)] = {0};

    d[1] = SCSI_VPD_SUPPORTED;
    d[3] = sizeof(pages);
    memcpy(d + 4, pages, sizeof(pages));
    vscsi_data_in(cmd, d, sizeof(d), allocation);
}

static void page_serial(struct scsi_cmd *cmd, uint32_t allocation)
{
    static const char hex[] = "0123456789abcdef";
    uint8_t d[4 + 32] = {0};

    d[1] = SCSI_VPD_SERIAL;
    d[3] = 32;
    for (uint32_t i = 0; i < 16; i++) {
        d[4 + 2 * i] = (uint8_t)hex[cmd->lun->info.id[i] >> 4];
        d[5 + 2 * i] = (uint8_t)hex[cmd->lun->info.id[i] & 15];
    }
    vscsi_data_in(cmd, d, sizeof(d), allocation);
}

static void page_identification(struct scsi_cmd *cmd, uint32_t allocation)
{
    static const uint8_t naa[4] = {0x60, 0x02, 0x24, 0x80};
    uint8_t d[4 + 4 + 24 + 4 + 16] = {0};
    uint8_t *t10 = d + 4, *n = d + 4 + 4 + 24;

    d[1] = SCSI_VPD_IDENTIFICATION;
    d[3] = sizeof(d) - 4;
    t10[0] = SCSI_CODE_SET_BINARY;
    t10[1] = SCSI_DESIGNATOR_T10;
    t10[3] = 24;
    memcpy(t10 + 4, "Msft    ", 8);
    memcpy(t10 + 12, cmd->lun->info.id, 16);
    n[0] = SCSI_CODE_SET_BINARY;
    n[1] = SCSI_DESIGNATOR_NAA;
    n[3] = 16;
    memcpy(n + 4, naa, 4);
    memcpy(n + 8, cmd->lun->info.id, 12);
    vscsi_data_in(cmd, d, sizeof(d), allocation);
}

static void page_limits(struct scsi_cmd *cmd, uint32_t allocation)
{
    const struct host_blk_info *info = &cmd->lun->info;
    struct scsi_vpd_block_limits d;
    uint32_t physical = 1u << info->physical_exponent;

    memset(&d, 0, sizeof(d));
    d.header.page = SCSI_VPD_BLOCK_LIMITS;
    d.header.length[1] = sizeof(d) - sizeof(d.header);
    scsi_put_be16(d.granularity, (uint16_t)physical);
    scsi_put_be32(d.max_transfer, cmd->s->cfg.max_transfer_bytes / info->sector_bytes);
    if (info->supports_unmap) {
        scsi_put_be32(d.max_unmap_blocks, UINT32_MAX);
        scsi_put_be32(d.max_unmap_descriptors, SCSI_UNMAP_DESCRIPTORS_MAX);
        scsi_put_be32(d.unmap_granularity, physical);
        scsi_put_be32(d.unmap_alignment, 0x80000000u);
    }
    scsi_put_be64(d.max_write_same, MAX_WRITE_SAME_BYTES / info->sector_bytes);
    vscsi_data_in(cmd, &d, sizeof(d), allocation);
}

static void page_characteristics(struct scsi_cmd *cmd, uint32_t allocation)
{
    struct scsi_vpd_characteristics d;

    memset(&d, 0, sizeof(d));
    d.header.page = SCSI_VPD_BLOCK_CHARACTERISTICS;
    d.header.length[1] = sizeof(d) - sizeof(d.header);
    scsi_put_be16(d.rotation_rate, 1);
    vscsi_data_in(cmd, &d, sizeof(d), allocation);
}

static void page_provisioning(struct scsi_cmd *cmd, uint32_t allocation)
{
    struct scsi_vpd_provisioning d;

    memset(&d, 0, sizeof(d));
    d.header.page = SCSI_VPD_PROVISIONING;
    d.header.length[1] = sizeof(d) - sizeof(d.header);
    if (cmd->lun->info.supports_unmap) {
        d.flags = SCSI_PROVISIONING_UNMAP | SCSI_PROVISIONING_WRITE_SAME_16 | SCSI_PROVISIONING_READS_ZERO;
        d.type = SCSI_PROVISIONING_TYPE_THIN;
    }
    vscsi_data_in(cmd, &d, sizeof(d), allocation);
}

void vscsi_inquiry(struct scsi_cmd *cmd)
{
    struct scsi_cdb_inquiry cdb;
    uint32_t allocation;

    memcpy(&cdb, cmd->srb.cdb, sizeof(cdb));
    allocation = scsi_get_be16(cdb.allocation);
    if (allocation > cmd->srb.data_bytes) {
        host_strict(cmd->s->h, &cmd->srb, sizeof(cmd->srb),
                    "scsi: INQUIRY asks for more than its buffer holds");
        illegal_field(cmd);
        return;
    }
    if (!(cdb.flags & SCSI_CDB_INQUIRY_EVPD)) {
        if (allocation < 5 || cdb.page != 0)
            illegal_field(cmd);
        else
            standard(cmd, allocation);
        return;
    }
    if (cmd->lun == NULL) {
        illegal_field(cmd);
        return;
    }
    switch (cdb.page) {
    case SCSI_VPD_SUPPORTED:
        page_supported(cmd, allocation);
        break;
    case SCSI_VPD_SERIAL:
        page_serial(cmd, allocation);
        break;
    case SCSI_VPD_IDENTIFICATION:
        page_identification(cmd, allocation);
        break;
    case SCSI_VPD_BLOCK_LIMITS:
        page_limits(cmd, allocation);
        break;
    case SCSI_VPD_BLOCK_CHARACTERISTICS:
        page_characteristics(cmd, allocation);
        break;
    case SCSI_VPD_PROVISIONING:
        page_provisioning(cmd, allocation);
        break;
    default:
        illegal_field(cmd);
        break;
    }
}

/* ---- REPORT LUNS, READ CAPACITY --------------------------------------------------------------------- */

void vscsi_report_luns(struct scsi_cmd *cmd)
{
    uint8_t d[sizeof(struct scsi_lun_list) + 8 * SCSI_LUNS] = {0};
    struct scsi_cdb_report_luns cdb;
    uint32_t at = sizeof(struct scsi_lun_list);

    memcpy(&cdb, cmd->srb.cdb, sizeof(cdb));
    if (cmd->srb.data_bytes < sizeof(struct scsi_lun_list)) {
        vscsi_good(cmd, 0);
        return;
    }
    for (uint32_t i = 0; i < SCSI_LUNS && cmd->srb.path_id == 0 && cmd->srb.target_id == 0; i++) {
        if (!cmd->s->luns[i].present)
            continue;
        scsi_put_be16(d + at, (uint16_t)i);
        at += 8;
    }
    scsi_put_be32(d, at - (uint32_t)sizeof(struct scsi_lun_list));
    vscsi_data_in(cmd, d, at, scsi_get_be32(cdb.allocation));
}

void vscsi_read_capacity_10(struct scsi_cmd *cmd)
{
    const struct host_blk_info *info = &cmd->lun->info;
    struct scsi_capacity_10 d;
    uint64_t last = info->sectors - 1;

    if (cmd->srb.data_bytes < sizeof(d)) {
        cmd->srb_status = SRB_STATUS_DATA_OVERRUN;
        cmd->scsi_status = SCSI_STATUS_GOOD;
        storvsp_finish(cmd);
        return;
    }
    scsi_put_be32(d.last_lba, last > UINT32_MAX ? UINT32_MAX : (uint32_t)last);
    scsi_put_be32(d.block_bytes, info->sector_bytes);
    vscsi_data_in(cmd, &d, sizeof(d), sizeof(d));
}

void vscsi_read_capacity_16(struct scsi_cmd *cmd)
{
    const struct host_blk_info *info = &cmd->lun->info;
    struct scsi_cdb_read_capacity_16 cdb;
    struct scsi_capacity_16 d;

    memcpy(&cdb, cmd->srb.cdb, sizeof(cdb));
    if (cmd->srb.data_bytes < 12) {
        cmd->srb_status = SRB_STATUS_DATA_OVERRUN;
        cmd->scsi_status = SCSI_STATUS_GOOD;
        storvsp_finish(cmd);
        return;
    }
    memset(&d, 0, sizeof(d));
    scsi_put_be64(d.last_lba, info->sectors - 1);
    scsi_put_be32(d.block_bytes, info->sector_bytes);
    d.exponent = info->physical_exponent;
    if (info->supports_unmap)
        scsi_put_be16(d.alignment, SCSI_CAPACITY_LBPME | SCSI_CAPACITY_LBPRZ);
    vscsi_data_in(cmd, &d, sizeof(d), scsi_get_be32(cdb.allocation));
}

/* ---- MODE SENSE ------------------------------------------------------------------------------------- */

void vscsi_mode_sense(struct scsi_cmd *cmd)
{
    const struct host_blk_info *info = &cmd->lun->info;
    bool six = cmd->srb.cdb[0] == SCSI_MODE_SENSE_6;
    uint32_t head = six ? sizeof(struct scsi_mode_header_6) : sizeof(struct scsi_mode_header_10);
    uint32_t allocation = six ? cmd->srb.cdb[4] : scsi_get_be16(cmd->srb.cdb + 7);
    uint8_t page = cmd->srb.cdb[2] & 0x3F, control = cmd->srb.cdb[2] & SCSI_MODE_CONTROL_MASK;
    uint8_t d[sizeof(struct scsi_mode_header_10) + sizeof(struct scsi_mode_caching)] = {0};
    struct scsi_mode_caching caching = {.page = SCSI_MODE_PAGE_CACHING, .length = sizeof(caching) - 2};
    uint32_t bytes = head + (uint32_t)sizeof(caching);
    uint8_t protect = info->read_only ? SCSI_MODE_WRITE_PROTECT : 0;
    uint8_t device = protect | (info->supports_fua ? SCSI_MODE_DPOFUA : 0);

    if (control == SCSI_MODE_CONTROL_SAVED) {
        vscsi_fail(cmd, SRB_STATUS_INVALID_REQUEST, SCSI_KEY_ILLEGAL_REQUEST, SCSI_ASC_SAVING_NOT_SUPPORTED);
        return;
    }
    if (page != SCSI_MODE_PAGE_CACHING && page != SCSI_MODE_PAGE_ALL) {
        illegal_field(cmd);
        return;
    }
    if (info->write_cache && control != SCSI_MODE_CONTROL_CHANGEABLE)
        caching.flags = SCSI_CACHING_WCE;
    if (six) {
        d[0] = (uint8_t)(bytes - 1);
        d[2] = device;
    } else {
        scsi_put_be16(d, (uint16_t)(bytes - 2));
        d[3] = device;
    }
    memcpy(d + head, &caching, sizeof(caching));
    vscsi_data_in(cmd, d, bytes, allocation);
}
