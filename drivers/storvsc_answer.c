/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the host's answer to a disk request means: done, tried again, the unit is gone, or failed; said in words.
 *
 * Plain success costs a comparison. Everything else is judged by SRB status, SCSI status and sense data together,
 * because hosts differ in which of them they fill in.
 */
#define LOG_ROOM "storvsc"
#include "drivers/storvsc.h"

static const char *srb_status_name(uint8_t srb_status)
{
    switch (srb_status & SRB_STATUS_MASK) {
    case SRB_STATUS_PENDING: return "pending";
    case SRB_STATUS_SUCCESS: return "success";
    case SRB_STATUS_ABORTED: return "aborted";
    case SRB_STATUS_ABORT_FAILED: return "abort failed";
    case SRB_STATUS_ERROR: return "error";
    case SRB_STATUS_BUSY: return "busy";
    case SRB_STATUS_INVALID_REQUEST: return "invalid request";
    case SRB_STATUS_INVALID_PATH_ID: return "invalid path";
    case SRB_STATUS_NO_DEVICE: return "no device";
    case SRB_STATUS_TIMEOUT: return "timeout";
    case SRB_STATUS_SELECTION_TIMEOUT: return "selection timeout";
    case SRB_STATUS_COMMAND_TIMEOUT: return "command timeout";
    case SRB_STATUS_MESSAGE_REJECTED: return "message rejected";
    case SRB_STATUS_BUS_RESET: return "bus reset";
    case SRB_STATUS_PARITY_ERROR: return "parity error";
    case SRB_STATUS_REQUEST_SENSE_FAILED: return "request sense failed";
    case SRB_STATUS_NO_HBA: return "no adapter";
    case SRB_STATUS_DATA_OVERRUN: return "data overrun";
    case SRB_STATUS_BAD_SRB_BLOCK_LENGTH: return "bad request length";
    case SRB_STATUS_REQUEST_FLUSHED: return "request flushed";
    case SRB_STATUS_INVALID_LUN: return "invalid LUN";
    case SRB_STATUS_INVALID_TARGET_ID: return "invalid target";
    case SRB_STATUS_BAD_FUNCTION: return "bad function";
    case SRB_STATUS_ERROR_RECOVERY: return "error recovery";
    case SRB_STATUS_NOT_POWERED: return "not powered";
    case SRB_STATUS_INTERNAL_ERROR: return "internal error";
    default: return "unknown status";
    }
}

enum verdict { VERDICT_OK, VERDICT_AGAIN, VERDICT_LATER, VERDICT_GONE, VERDICT_FAILED };

/* What sense data asks for; *error is the caller's error when the verdict is FAILED. */
static enum verdict judge_sense(struct storvsc *s, const struct scsi_sense_info *sense, int *error)
{
    switch (sense->key) {
    case SCSI_KEY_NO_SENSE:
    case SCSI_KEY_RECOVERED_ERROR:
        return sense->deferred ? VERDICT_AGAIN : VERDICT_OK;
    case SCSI_KEY_UNIT_ATTENTION:
        if (sense->code == SCSI_ASC_CAPACITY_CHANGED || (sense->code >> 8) == 0x3F)
            storvsc_rescan(s);
        return VERDICT_AGAIN;
    case SCSI_KEY_ABORTED_COMMAND:
        return VERDICT_LATER;
    case SCSI_KEY_NOT_READY:
        if (sense->code == 0x0401)       /* becoming ready */
            return VERDICT_LATER;
        if ((sense->code >> 8) == (SCSI_ASC_NO_MEDIUM >> 8)) {
            storvsc_rescan(s);
            return VERDICT_GONE;
        }
        break;
    case SCSI_KEY_DATA_PROTECT:
        *error = sense->code == 0x2707 ? -E_NOSPC : -E_ROFS;
        break;
    case SCSI_KEY_ILLEGAL_REQUEST:
        if (sense->code == SCSI_ASC_INVALID_OPCODE || sense->code == SCSI_ASC_INVALID_FIELD_IN_CDB)
            *error = -E_NOTSUP;
        else if (sense->code == SCSI_ASC_LBA_OUT_OF_RANGE)
            *error = -E_RANGE;
        else if (sense->code == SCSI_ASC_LUN_NOT_SUPPORTED)
            return VERDICT_GONE;
        break;
    default:
        break;
    }
    return VERDICT_FAILED;
}

static enum verdict judge(struct storvsc *s, const struct storvsc_slot *slot, const struct vstor_srb *srb,
                          struct scsi_sense_info *sense, int *error)
{
    uint8_t status = srb->srb_status & SRB_STATUS_MASK;

    *error = -E_IO;
    *sense = (struct scsi_sense_info){0};
    if (srb->scsi_status == SCSI_STATUS_CHECK_CONDITION && (srb->srb_status & SRB_STATUS_AUTOSENSE_VALID))
        *sense = scsi_sense_decode(srb->sense, MIN(srb->sense_bytes, s->sense_bytes));
    switch (status) {
    case SRB_STATUS_BUSY:
    case SRB_STATUS_ABORTED:
    case SRB_STATUS_BUS_RESET:
    case SRB_STATUS_REQUEST_FLUSHED:
    case SRB_STATUS_ERROR_RECOVERY:
        if (!sense->valid)
            return VERDICT_LATER;
        break;
    case SRB_STATUS_NO_DEVICE:
    case SRB_STATUS_INVALID_LUN:
    case SRB_STATUS_INVALID_TARGET_ID:
    case SRB_STATUS_INVALID_PATH_ID:
    case SRB_STATUS_NO_HBA:
        return VERDICT_GONE;
    case SRB_STATUS_TIMEOUT:
    case SRB_STATUS_SELECTION_TIMEOUT:
    case SRB_STATUS_COMMAND_TIMEOUT:
        return VERDICT_LATER;
    case SRB_STATUS_BAD_FUNCTION:
        *error = -E_NOTSUP;
        return VERDICT_FAILED;
    default:
        break;
    }
    if (srb->scsi_status == SCSI_STATUS_BUSY || srb->scsi_status == SCSI_STATUS_TASK_SET_FULL)
        return VERDICT_LATER;
    if (sense->valid) {
        enum verdict v = judge_sense(s, sense, error);
        if (v != VERDICT_OK)
            return v;
    } else if (srb->scsi_status != SCSI_STATUS_GOOD) {
        return VERDICT_FAILED;
    }
    /* Hosts say "overrun" for short transfers too: the count decides. */
    if (status != SRB_STATUS_SUCCESS && status != SRB_STATUS_DATA_OVERRUN && !sense->valid)
        return VERDICT_FAILED;
    return srb->data_bytes >= slot->bytes ? VERDICT_OK : VERDICT_FAILED;
}

static void describe(struct storvsc *s, const struct storvsc_slot *slot, const struct blk_request *r,
                     const struct vstor_srb *srb, const struct scsi_sense_info *sense, const char *what)
{
    char words[96];

    if (s->report_tick != s->tick)
        s->reports = 0;
    s->report_tick = s->tick;
    if (s->reports >= STORVSC_REPORTS)
        return;
    if (++s->reports == STORVSC_REPORTS)
        log_warn("%s: more bad answers than the log should hold; counted, shown again in %u s", s->name,
                 STORVSC_TICK_S);
    scsi_sense_text(sense, words, sizeof(words));
    log_warn("%s: %s: %s at sector %llu, %u bytes: %s, %s, %s; %u transferred; %s", s->name, r->device->name,
             scsi_opcode_name(slot->opcode), (unsigned long long)r->sector, slot->bytes,
             srb_status_name(srb->srb_status), scsi_status_name(srb->scsi_status), words, srb->data_bytes,
             what);
}

static void try_again(struct storvsc *s, struct blk_request *r, bool later)
{
    r->attempts++;
    STORVSC_COUNT(s, retries);
    if (!later) {
        r->driver_data = (void *)(uintptr_t)s->tick;
        list_push_front(&s->queue, &r->node);
        return;
    }
    list_push_back(&s->later, &r->node);
    if (!s->retry_timer.armed)
        timer_arm_100ns(&s->retry_timer, rt_now_100ns() + MS_100NS(STORVSC_RETRY_DELAY_MS << r->attempts));
}

/* The rare ways to end: everything but plain success. */
static __attribute__((noinline)) void answered_badly(struct storvsc *s, struct storvsc_slot *slot,
                                                     struct blk_request *r, const struct vstor_srb *srb)
{
    struct scsi_sense_info sense;
    struct storvsc_slot was = *slot;
    int error;
    enum verdict v = judge(s, slot, srb, &sense, &error);

    storvsc_slot_free(s, slot);
    if (v == VERDICT_OK) {
        blk_complete(r, 0);
        return;
    }
    if (r->device->removed && v != VERDICT_FAILED)
        v = VERDICT_GONE;
    if ((v == VERDICT_AGAIN || v == VERDICT_LATER) && r->attempts < STORVSC_ATTEMPTS) {
        describe(s, &was, r, srb, &sense, "tried again");
        try_again(s, r, v == VERDICT_LATER);
        return;
    }
    STORVSC_COUNT(s, errors);
    if (v == VERDICT_GONE) {
        if (!r->device->removed)
            describe(s, &was, r, srb, &sense, "the unit is gone");
        storvsc_rescan(s);
        error = -E_REMOVED;
    } else if (error == -E_NOTSUP && r->op == BLK_WRITE_ZEROES) {
        log_info_some("%s: %s: no WRITE SAME after all, zeroes are written", s->name, r->device->name);
        r->device->has_write_zeroes = false;
    } else {
        describe(s, &was, r, srb, &sense, v == VERDICT_FAILED ? "failed" : "given up");
    }
    blk_complete(r, error);
}

void storvsc_request_answered(struct storvsc *s, struct storvsc_slot *slot, const struct vstor_packet *answer)
{
    struct blk_request *r = slot->request;
    const struct vstor_srb *srb = &answer->srb;

    storvsc_unmap(slot, false);
    if (srb->srb_status == SRB_STATUS_SUCCESS && srb->scsi_status == SCSI_STATUS_GOOD &&
        srb->data_bytes >= slot->bytes) {
        storvsc_slot_free(s, slot);
        blk_complete(r, 0);
        return;
    }
    answered_badly(s, slot, r, srb);
}
