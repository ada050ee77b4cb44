/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * vscsi_rw.c: the commands that move data or change blocks: READ, WRITE, VERIFY, SYNCHRONIZE CACHE, UNMAP,
 * WRITE SAME.
 *
 * Data is not copied: the backend gets the guest's own pages. UNMAP's list is copied out of the guest first
 * and then handed on descriptor by descriptor; the backend may complete each at once or later.
 */
#include "tests/host/storvsp.h"

#define MAX_WRITE_SAME_BYTES (8u << 20)

struct block_range {
    uint64_t lba;
    uint64_t blocks;
    uint8_t flags;
};

static void get_range(const uint8_t *cdb, struct block_range *r)
{
    r->flags = cdb[1];
    switch (cdb[0] >> 5) {
    case 0:                                      /* 6 byte CDBs: 21-bit address, 0 means 256 */
        r->lba = scsi_get_be24(cdb + 1) & 0x1FFFFF;
        r->blocks = cdb[4] != 0 ? cdb[4] : 256;
        r->flags = 0;
        break;
    case 1:
    case 2:
        r->lba = scsi_get_be32(cdb + 2);
        r->blocks = scsi_get_be16(cdb + 7);
        break;
    case 5:
        r->lba = scsi_get_be32(cdb + 2);
        r->blocks = scsi_get_be32(cdb + 6);
        break;
    default:
        r->lba = scsi_get_be64(cdb + 2);
        r->blocks = scsi_get_be32(cdb + 10);
        break;
    }
}

static bool in_range(const struct scsi_cmd *cmd, uint64_t lba, uint64_t blocks)
{
    uint64_t sectors = cmd->lun->info.sectors;

    return lba <= sectors && blocks <= sectors - lba;
}

static void out_of_range(struct scsi_cmd *cmd)
{
    vscsi_fail(cmd, SRB_STATUS_INVALID_REQUEST, SCSI_KEY_ILLEGAL_REQUEST, SCSI_ASC_LBA_OUT_OF_RANGE);
}

static void illegal_field(struct scsi_cmd *cmd)
{
    vscsi_fail(cmd, SRB_STATUS_INVALID_REQUEST, SCSI_KEY_ILLEGAL_REQUEST, SCSI_ASC_INVALID_FIELD_IN_CDB);
}

static bool wrong_direction(struct scsi_cmd *cmd, uint8_t wanted)
{
    if (cmd->srb.data_direction == wanted)
        return false;
    host_violation(cmd->s->h, &cmd->srb, sizeof(cmd->srb), "scsi: data direction of command %02x", cmd->srb.cdb[0]);
    illegal_field(cmd);
    return true;
}

static bool write_protected(struct scsi_cmd *cmd)
{
    if (!cmd->lun->info.read_only)
        return false;
    vscsi_fail(cmd, SRB_STATUS_ERROR, SCSI_KEY_DATA_PROTECT, SCSI_ASC_WRITE_PROTECTED);
    return true;
}

/* ---- the backend ------------------------------------------------------------------------------------ */

static void submit(struct scsi_cmd *cmd, enum host_blk_op op, uint64_t sector, uint64_t sectors)
{
    cmd->req.op = op;
    cmd->req.sector = sector;
    cmd->req.sectors = sectors;
    cmd->lun->ops->submit(cmd->lun->backend, &cmd->req);
}

static void finish(struct scsi_cmd *cmd, enum host_blk_status status)
{
    bool read = cmd->req.op == HOST_BLK_READ;

    switch (status) {
    case HOST_BLK_OK:
        vscsi_good(cmd, cmd->transferred);
        break;
    case HOST_BLK_MEDIUM_ERROR:
        vscsi_fail(cmd, SRB_STATUS_ERROR, SCSI_KEY_MEDIUM_ERROR,
                   read ? SCSI_ASC_READ_ERROR : SCSI_ASC_WRITE_ERROR);
        break;
    case HOST_BLK_UNSUPPORTED:
        vscsi_fail(cmd, SRB_STATUS_INVALID_REQUEST, SCSI_KEY_ILLEGAL_REQUEST, SCSI_ASC_INVALID_OPCODE);
        break;
    case HOST_BLK_REMOVED:
        cmd->srb_status = SRB_STATUS_INVALID_LUN;
        cmd->scsi_status = SCSI_STATUS_CHECK_CONDITION;
        cmd->transferred = 0;
        storvsp_finish(cmd);
        break;
    }
}

/* Hands on the rest of an UNMAP list, as long as the backend completes at once. */
static void run_list(struct scsi_cmd *cmd)
{
    while (cmd->blk_status == HOST_BLK_OK && cmd->list_next < cmd->list_count) {
        struct scsi_unmap_descriptor d;
        memcpy(&d, cmd->list + cmd->list_next++ * sizeof(d), sizeof(d));
        if (scsi_get_be32(d.blocks) == 0)
            continue;
        cmd->submitting = true;
        cmd->completed = false;
        submit(cmd, HOST_BLK_DISCARD, scsi_get_be64(d.lba), scsi_get_be32(d.blocks));
        cmd->submitting = false;
        if (!cmd->completed)
            return;
    }
    finish(cmd, cmd->blk_status);
}

void host_blk_complete(struct host_blk_req *req, enum host_blk_status status)
{
    struct scsi_cmd *cmd = (struct scsi_cmd *)(void *)req;

    cmd->blk_status = (uint8_t)status;
    if (cmd->list == NULL || cmd->req.op != HOST_BLK_DISCARD)
        finish(cmd, status);
    else if (cmd->submitting)
        cmd->completed = true;
    else
        run_list(cmd);
}

/* ---- READ, WRITE, VERIFY, SYNCHRONIZE CACHE --------------------------------------------------------- */

void vscsi_read_write(struct scsi_cmd *cmd)
{
    uint8_t op = cmd->srb.cdb[0] & 0x1F;
    bool write = op == (SCSI_WRITE_6 & 0x1F);
    struct block_range r;
    uint64_t bytes;
    uint32_t left;

    get_range(cmd->srb.cdb, &r);
    bytes = r.blocks * cmd->lun->info.sector_bytes;
    if (r.blocks == 0 || bytes > cmd->srb.data_bytes || !in_range(cmd, r.lba, r.blocks)) {
        out_of_range(cmd);
        return;
    }
    if (wrong_direction(cmd, write ? VSTOR_DATA_TO_DEVICE : VSTOR_DATA_FROM_DEVICE))
        return;
    if (write && write_protected(cmd))
        return;
    left = (uint32_t)bytes;
    for (uint32_t i = 0; i < cmd->seg_count; i++) {
        if (cmd->segs[i].bytes >= left) {
            cmd->segs[i].bytes = left;
            cmd->seg_count = i + 1;
            break;
        }
        left -= cmd->segs[i].bytes;
    }
    cmd->transferred = (uint32_t)bytes;
    cmd->req.fua = write && (r.flags & SCSI_CDB_FUA);
    cmd->req.segs = cmd->segs;
    cmd->req.seg_count = cmd->seg_count;
    submit(cmd, write ? HOST_BLK_WRITE : HOST_BLK_READ, r.lba, r.blocks);
}

void vscsi_verify(struct scsi_cmd *cmd)
{
    struct block_range r;

    get_range(cmd->srb.cdb, &r);
    if (in_range(cmd, r.lba, r.blocks))
        vscsi_good(cmd, 0);
    else
        out_of_range(cmd);
}

void vscsi_synchronize(struct scsi_cmd *cmd)
{
    struct block_range r;

    get_range(cmd->srb.cdb, &r);
    if (!in_range(cmd, r.lba, r.blocks))
        out_of_range(cmd);
    else
        submit(cmd, HOST_BLK_FLUSH, 0, 0);
}

/* ---- UNMAP, WRITE SAME ------------------------------------------------------------------------------ */

void vscsi_unmap(struct scsi_cmd *cmd)
{
    struct scsi_unmap_list head;
    uint32_t bytes = scsi_get_be16(cmd->srb.cdb + 7), list;

    if (!cmd->lun->info.supports_unmap) {
        vscsi_fail(cmd, SRB_STATUS_INVALID_REQUEST, SCSI_KEY_ILLEGAL_REQUEST, SCSI_ASC_INVALID_OPCODE);
        return;
    }
    if (write_protected(cmd))
        return;
    if (bytes == 0) {
        vscsi_good(cmd, 0);
        return;
    }
    if (bytes < sizeof(head) || bytes > cmd->srb.data_bytes ||
        cmd->srb.data_direction != VSTOR_DATA_TO_DEVICE) {
        host_strict(cmd->s->h, &cmd->srb, sizeof(cmd->srb), "scsi: UNMAP list of %u bytes", bytes);
        vscsi_fail(cmd, SRB_STATUS_INVALID_REQUEST, SCSI_KEY_ILLEGAL_REQUEST, SCSI_ASC_PARAMETER_LIST_LENGTH);
        return;
    }
    host_segs_copy_out(cmd->segs, cmd->seg_count, 0, &head, sizeof(head));
    list = scsi_get_be16(head.descriptor_length);
    if (list % sizeof(struct scsi_unmap_descriptor) != 0 || list > bytes - sizeof(head) ||
        list / sizeof(struct scsi_unmap_descriptor) > SCSI_UNMAP_DESCRIPTORS_MAX ||
        scsi_get_be16(head.data_length) + 2u < sizeof(head) + list) {
        host_strict(cmd->s->h, &head, sizeof(head), "scsi: UNMAP list lengths");
        vscsi_fail(cmd, SRB_STATUS_INVALID_REQUEST, SCSI_KEY_ILLEGAL_REQUEST, SCSI_ASC_INVALID_PARAMETER);
        return;
    }
    cmd->list = host_alloc(cmd->s->h, list + 1);
    if (cmd->list == NULL) {
        cmd->srb_status = SRB_STATUS_BUSY;
        storvsp_finish(cmd);
        return;
    }
    cmd->list_count = list / (uint32_t)sizeof(struct scsi_unmap_descriptor);
    host_segs_copy_out(cmd->segs, cmd->seg_count, sizeof(head), cmd->list, list);
    for (uint32_t i = 0; i < cmd->list_count; i++) {
        struct scsi_unmap_descriptor d;
        memcpy(&d, cmd->list + i * sizeof(d), sizeof(d));
        if (!in_range(cmd, scsi_get_be64(d.lba), scsi_get_be32(d.blocks))) {
            out_of_range(cmd);
            return;
        }
    }
    cmd->transferred = bytes;
    cmd->blk_status = HOST_BLK_OK;
    run_list(cmd);
}

/* Writes one block many times: the backend gets the copied block as often as it needs. */
static void write_pattern(struct scsi_cmd *cmd, const struct block_range *r)
{
    uint32_t sector = cmd->lun->info.sector_bytes, n = (uint32_t)r->blocks;
    struct host_seg *segs;
    uint8_t *block;

    cmd->list = host_alloc(cmd->s->h, sector + n * sizeof(*segs));
    if (cmd->list == NULL) {
        cmd->srb_status = SRB_STATUS_BUSY;
        storvsp_finish(cmd);
        return;
    }
    block = cmd->list;
    segs = (struct host_seg *)(void *)(cmd->list + sector);
    host_segs_copy_out(cmd->segs, cmd->seg_count, 0, block, sector);
    for (uint32_t i = 0; i < n; i++)
        segs[i] = (struct host_seg){block, sector};
    cmd->req.segs = segs;
    cmd->req.seg_count = n;
    cmd->transferred = sector;
    submit(cmd, HOST_BLK_WRITE, r->lba, r->blocks);
}

static bool block_is_zero(const struct scsi_cmd *cmd)
{
    uint8_t part[256];

    for (uint32_t at = 0; at < cmd->lun->info.sector_bytes; at += sizeof(part)) {
        host_segs_copy_out(cmd->segs, cmd->seg_count, at, part, sizeof(part));
        for (uint32_t i = 0; i < sizeof(part); i++)
            if (part[i] != 0)
                return false;
    }
    return true;
}

/* With UNMAP blocks may be taken away only where they then read as what was to be written: SBC-3 5.50. */
void vscsi_write_same(struct scsi_cmd *cmd)
{
    bool ndob = cmd->srb.cdb[0] == SCSI_WRITE_SAME_16 && (cmd->srb.cdb[1] & SCSI_CDB_WRITE_SAME_NDOB);
    uint32_t sector = cmd->lun->info.sector_bytes;
    struct block_range r;
    bool unmap;

    get_range(cmd->srb.cdb, &r);
    unmap = r.flags & SCSI_CDB_WRITE_SAME_UNMAP;
    if (!ndob && wrong_direction(cmd, VSTOR_DATA_TO_DEVICE))
        return;
    if (unmap && !cmd->lun->info.supports_unmap) {
        illegal_field(cmd);
        return;
    }
    if (!in_range(cmd, r.lba, r.blocks)) {
        out_of_range(cmd);
        return;
    }
    if (write_protected(cmd))
        return;
    if (r.blocks == 0)
        r.blocks = cmd->lun->info.sectors - r.lba;
    if (r.blocks * sector > MAX_WRITE_SAME_BYTES || (!ndob && cmd->srb.data_bytes < sector)) {
        illegal_field(cmd);
        return;
    }
    if (unmap && (ndob || block_is_zero(cmd)))
        submit(cmd, HOST_BLK_DISCARD, r.lba, r.blocks);
    else if (ndob)
        submit(cmd, HOST_BLK_WRITE_ZEROES, r.lba, r.blocks);
    else
        write_pattern(cmd, &r);
}
