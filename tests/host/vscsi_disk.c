/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * vscsi_disk.c: the SCSI target behind storvsp: which command does what, sense data, and the commands
 * without data.
 *
 * Models the virtual disk of Hyper-V: its answers for absent LUNs, its choice of SRB statuses, its refusals.
 * Commands that describe the disk are in vscsi_inquiry.c, those that move data in vscsi_rw.c. Source: SPC-3,
 * SBC-3, observed hosts.
 */
#include "tests/host/storvsp.h"

void vscsi_fail(struct scsi_cmd *cmd, uint8_t srb_status, uint8_t key, uint16_t asc)
{
    memset(&cmd->sense, 0, sizeof(cmd->sense));
    cmd->sense.response_code = SCSI_SENSE_FIXED_CURRENT;
    cmd->sense.key = key;
    cmd->sense.additional_length = 10;
    cmd->sense.asc = (uint8_t)(asc >> 8);
    cmd->sense.ascq = (uint8_t)asc;
    cmd->sense_bytes = VSTOR_SENSE_MAX;
    cmd->srb_status = srb_status | SRB_STATUS_AUTOSENSE_VALID;
    cmd->scsi_status = SCSI_STATUS_CHECK_CONDITION;
    cmd->transferred = 0;
    storvsp_finish(cmd);
}

void vscsi_good(struct scsi_cmd *cmd, uint32_t transferred)
{
    cmd->srb_status = SRB_STATUS_SUCCESS;
    cmd->scsi_status = SCSI_STATUS_GOOD;
    cmd->transferred = transferred;
    storvsp_finish(cmd);
}

/* An SRB status without sense. */
static void plain_fail(struct scsi_cmd *cmd, uint8_t srb_status, uint8_t scsi_status)
{
    cmd->srb_status = srb_status;
    cmd->scsi_status = scsi_status;
    storvsp_finish(cmd);
}

void vscsi_data_in(struct scsi_cmd *cmd, const void *data, uint32_t bytes, uint32_t allocation)
{
    uint32_t n = bytes < allocation ? bytes : allocation;

    if (n > cmd->srb.data_bytes)
        n = cmd->srb.data_bytes;
    if (n != 0 && cmd->srb.data_direction == VSTOR_DATA_TO_DEVICE) {
        host_violation(cmd->s->h, &cmd->srb, sizeof(cmd->srb), "scsi: command %02x reads, its request writes",
                       cmd->srb.cdb[0]);
        plain_fail(cmd, SRB_STATUS_INVALID_REQUEST, SCSI_STATUS_GOOD);
        return;
    }
    host_trace_bytes(cmd->s->h, "scsi data", data, n);
    vscsi_good(cmd, host_segs_copy_in(cmd->segs, cmd->seg_count, 0, data, n));
}

static void request_sense(struct scsi_cmd *cmd)
{
    struct scsi_sense sense = cmd->lun->last;

    if (sense.response_code == 0) {
        sense.response_code = SCSI_SENSE_FIXED_CURRENT;
        sense.additional_length = 10;
    }
    memset(&cmd->lun->last, 0, sizeof(cmd->lun->last));
    vscsi_data_in(cmd, &sense, sizeof(sense), cmd->srb.cdb[4]);
}

static void start_stop(struct scsi_cmd *cmd)
{
    if (cmd->srb.cdb[1] & 1)                     /* IMMED */
        vscsi_fail(cmd, SRB_STATUS_INVALID_REQUEST, SCSI_KEY_ILLEGAL_REQUEST, SCSI_ASC_INVALID_FIELD_IN_CDB);
    else
        vscsi_good(cmd, 0);
}

static void send_diagnostic(struct scsi_cmd *cmd)
{
    if (cmd->srb.cdb[1] & 4)                     /* self-test */
        vscsi_fail(cmd, SRB_STATUS_INVALID_REQUEST, SCSI_KEY_ILLEGAL_REQUEST, SCSI_ASC_INVALID_FIELD_IN_CDB);
    else
        vscsi_good(cmd, 0);
}

static void unsupported(struct scsi_cmd *cmd)
{
    vscsi_fail(cmd, SRB_STATUS_INVALID_REQUEST, SCSI_KEY_ILLEGAL_REQUEST, SCSI_ASC_INVALID_OPCODE);
}

static void service_action_in(struct scsi_cmd *cmd)
{
    if ((cmd->srb.cdb[1] & 0x1F) == SCSI_SAI_READ_CAPACITY_16)
        vscsi_read_capacity_16(cmd);
    else
        unsupported(cmd);
}

static void absent(struct scsi_cmd *cmd)
{
    switch (cmd->srb.cdb[0]) {
    case SCSI_INQUIRY:
        vscsi_inquiry(cmd);
        break;
    case SCSI_REPORT_LUNS:
        vscsi_report_luns(cmd);
        break;
    default:
        plain_fail(cmd, SRB_STATUS_INVALID_LUN, SCSI_STATUS_CHECK_CONDITION);
        break;
    }
}

/* A waiting unit attention is reported by the next command, except by those that only ask who is there. */
static bool attention(struct scsi_cmd *cmd)
{
    uint16_t asc = cmd->lun->attention;
    uint8_t op = cmd->srb.cdb[0];

    if (asc == 0 || op == SCSI_INQUIRY || op == SCSI_REPORT_LUNS || op == SCSI_REQUEST_SENSE)
        return false;
    cmd->lun->attention = 0;
    vscsi_fail(cmd, SRB_STATUS_ERROR, SCSI_KEY_UNIT_ATTENTION, asc);
    return true;
}

static void present(struct scsi_cmd *cmd)
{
    switch (cmd->srb.cdb[0]) {
    case SCSI_TEST_UNIT_READY:
    case SCSI_FORMAT_UNIT:
    case SCSI_RESERVE_6:
    case SCSI_RELEASE_6:
    case SCSI_PREVENT_ALLOW_REMOVAL:
    case SCSI_MODE_SELECT_6:
    case SCSI_MODE_SELECT_10:
        vscsi_good(cmd, 0);
        break;
    case SCSI_REQUEST_SENSE:
        request_sense(cmd);
        break;
    case SCSI_INQUIRY:
        vscsi_inquiry(cmd);
        break;
    case SCSI_REPORT_LUNS:
        vscsi_report_luns(cmd);
        break;
    case SCSI_MODE_SENSE_6:
    case SCSI_MODE_SENSE_10:
        vscsi_mode_sense(cmd);
        break;
    case SCSI_START_STOP_UNIT:
        start_stop(cmd);
        break;
    case SCSI_SEND_DIAGNOSTIC:
        send_diagnostic(cmd);
        break;
    case SCSI_READ_CAPACITY_10:
        vscsi_read_capacity_10(cmd);
        break;
    case SCSI_SERVICE_ACTION_IN_16:
        service_action_in(cmd);
        break;
    case SCSI_READ_6:
    case SCSI_READ_10:
    case SCSI_READ_12:
    case SCSI_READ_16:
    case SCSI_WRITE_6:
    case SCSI_WRITE_10:
    case SCSI_WRITE_12:
    case SCSI_WRITE_16:
        vscsi_read_write(cmd);
        break;
    case SCSI_VERIFY_10:
    case SCSI_VERIFY_12:
    case SCSI_VERIFY_16:
        vscsi_verify(cmd);
        break;
    case SCSI_SYNCHRONIZE_CACHE_10:
    case SCSI_SYNCHRONIZE_CACHE_16:
        vscsi_synchronize(cmd);
        break;
    case SCSI_UNMAP:
        vscsi_unmap(cmd);
        break;
    case SCSI_WRITE_SAME_10:
    case SCSI_WRITE_SAME_16:
        vscsi_write_same(cmd);
        break;
    default:
        unsupported(cmd);
        break;
    }
}

void vscsi_execute(struct scsi_cmd *cmd)
{
    struct vstor_srb *srb = &cmd->srb;

    if (srb->path_id == 0 && srb->target_id == 0 && srb->lun < SCSI_LUNS && cmd->s->luns[srb->lun].present)
        cmd->lun = &cmd->s->luns[srb->lun];
    if (cmd->lun == NULL)
        absent(cmd);
    else if (!attention(cmd))
        present(cmd);
}
