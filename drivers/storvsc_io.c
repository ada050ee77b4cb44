/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Disk requests: how one becomes a packet, what its answer means, when it is tried again.
 *
 * The path of a request: a slot, the page frames of the caller's own memory, one EXECUTE_SRB packet with exactly one
 * range (hosts refuse more). Nothing is allocated or copied. When there is no slot, no room in the ring or no bounce
 * memory the request waits in the controller's queue; every answer and every "writable" drains it.
 */
#define LOG_ROOM "storvsc"
#include <string.h>
#include "drivers/storvsc.h"

static struct storvsc_unit *unit_of(const struct blk_request *r)
{
    return r->device->driver;
}

/* ---- sending ---- */

/* What goes with a request: direction, CDB, and the memory. */
struct plan {
    enum dma_direction direction;
    unsigned spans;
    uint32_t bytes;
    struct dma_span span[BLK_MAX_SPANS];
};

static void plan_transfer(struct plan *plan, struct vstor_srb *srb, const struct blk_request *r)
{
    bool write = r->op == BLK_WRITE;

    srb->cdb_bytes = (uint8_t)scsi_cdb_transfer(srb->cdb, write, r->sector, (uint32_t)r->sectors, r->flags & BLK_FUA);
    srb->data_direction = write ? VSTOR_DATA_TO_DEVICE : VSTOR_DATA_FROM_DEVICE;
    srb->srb_flags = write ? SRB_FLAG_DATA_OUT : SRB_FLAG_DATA_IN;
    plan->direction = write ? DMA_TO_DEVICE : DMA_FROM_DEVICE;
    plan->bytes = (uint32_t)r->sectors * r->device->sector_bytes;
    plan->spans = r->span_count;
    for (unsigned i = 0; i < r->span_count; i++)
        plan->span[i] = (struct dma_span){r->spans[i].addr, r->spans[i].bytes};
}

static void plan_data_out(struct plan *plan, struct vstor_srb *srb, const void *data, uint32_t bytes)
{
    srb->data_direction = VSTOR_DATA_TO_DEVICE;
    srb->srb_flags = SRB_FLAG_DATA_OUT;
    plan->direction = DMA_TO_DEVICE;
    plan->bytes = bytes;
    plan->spans = 1;
    plan->span[0] = (struct dma_span){data, bytes};
}

static void plan_request(struct storvsc *s, const struct storvsc_slot *slot, const struct blk_request *r,
                         struct vstor_srb *srb, struct plan *plan)
{
    struct storvsc_unit *unit = unit_of(r);

    srb->data_direction = VSTOR_DATA_NONE;
    plan->bytes = 0;
    plan->spans = 0;
    switch (r->op) {
    case BLK_READ:
    case BLK_WRITE:
        plan_transfer(plan, srb, r);
        break;
    case BLK_FLUSH:
        srb->cdb_bytes = (uint8_t)scsi_cdb_synchronize_cache(srb->cdb);
        break;
    case BLK_DISCARD: {
        uint8_t *list = s->parameters + (size_t)(slot - s->slots) * STORVSC_PARAMETER_BYTES;
        scsi_unmap_one(list, r->sector, (uint32_t)r->sectors);
        srb->cdb_bytes = (uint8_t)scsi_cdb_unmap(srb->cdb, SCSI_UNMAP_ONE_BYTES);
        plan_data_out(plan, srb, list, SCSI_UNMAP_ONE_BYTES);
        break;
    }
    case BLK_WRITE_ZEROES:
        srb->cdb_bytes = (uint8_t)scsi_cdb_write_same(srb->cdb, r->sector, (uint32_t)r->sectors,
                                                      (r->flags & BLK_MAY_UNMAP) && unit->write_same_unmaps);
        plan_data_out(plan, srb, blk_zeroes(), r->device->sector_bytes);
        break;
    }
}

static int send_planned(struct storvsc *s, struct storvsc_slot *slot, const struct vstor_packet *packet,
                        const struct plan *plan)
{
    uint64_t id = storvsc_slot_id(s, slot);
    struct vmbus_gpa_range range;
    int e;

    if (plan->bytes == 0) {
        struct vmbus_piece piece = {packet, s->packet_bytes};
        slot->map.bounce = NULL;
        return vmbus_send(s->channel, &piece, 1, id, true);
    }
    e = dma_map(&slot->map, plan->span, plan->spans, plan->direction, s->frames, STORVSC_MAX_FRAMES);
    if (e)
        return e;
    range = (struct vmbus_gpa_range){slot->map.bytes, slot->map.offset, s->frames, slot->map.frames};
    e = vmbus_send_gpa(s->channel, &range, 1, packet, s->packet_bytes, id);
    if (e && slot->map.bounce)
        dma_unmap(&slot->map, plan->span, plan->spans, DMA_TO_DEVICE);
    return e;
}

/* 0: in the ring. -E_AGAIN and -E_REMOVED: as it was. */
static int issue(struct storvsc *s, struct blk_request *r)
{
    const struct storvsc_unit *unit = unit_of(r);
    struct vstor_packet packet = {.operation = VSTOR_OP_EXECUTE_SRB, .flags = VSTOR_FLAG_REQUEST_COMPLETION};
    struct vstor_srb *srb = &packet.srb;
    struct storvsc_slot *slot;
    struct plan plan;
    int e;

    if (s->free_count <= STORVSC_RESERVED)
        return -E_AGAIN;
    slot = storvsc_slot_take(s);
    srb->length = s->srb_bytes;
    srb->path_id = unit->path;
    srb->target_id = unit->target;
    srb->lun = unit->lun;
    srb->sense_bytes = s->sense_bytes;
    srb->queue_tag = SRB_QUEUE_TAG_NONE;
    srb->queue_action = SRB_QUEUE_ACTION_SIMPLE;
    srb->timeout_s = STORVSC_REQUEST_TICKS * STORVSC_TICK_S;
    plan_request(s, slot, r, srb, &plan);
    srb->srb_flags |= SRB_FLAG_QUEUE_ACTION_ENABLE | SRB_FLAG_NO_QUEUE_FREEZE | SRB_FLAG_DISABLE_SYNCH_TRANSFER;
    srb->data_bytes = plan.bytes;
    e = send_planned(s, slot, &packet, &plan);
    if (e) {
        storvsc_slot_free(s, slot);
        return e;
    }
    slot->request = r;
    /* What must be transferred; hosts don't agree on counting parameters. */
    slot->bytes = r->op <= BLK_WRITE ? plan.bytes : 0;
    slot->opcode = srb->cdb[0];
    storvsc_slot_sent(s, slot);
    return 0;
}

static void enqueue(struct storvsc *s, struct blk_request *r)
{
    r->driver_data = (void *)(uintptr_t)s->tick;
    list_push_back(&s->queue, &r->node);
    s->counters.requeued++;
    if (!s->tick_timer.armed)
        timer_arm_100ns(&s->tick_timer, rt_now_100ns() + S_100NS(STORVSC_TICK_S));
}

void storvsc_submit(struct blk_device *d, struct blk_request *r)
{
    struct storvsc *s = ((struct storvsc_unit *)d->driver)->controller;
    int e;

    if (list_empty(&s->queue)) {
        e = issue(s, r);
        if (e == 0)
            return;
        KASSERT(e != -E_INVAL);          /* the class has checked the spans */
    }
    /* Also when the channel has just gone: removal fails what is queued. */
    enqueue(s, r);
}

void storvsc_kick(struct blk_device *d)
{
    struct storvsc *s = ((struct storvsc_unit *)d->driver)->controller;

    s->unsent = false;
    vmbus_kick(s->channel);
}

void storvsc_pump(struct storvsc *s)
{
    while (!list_empty(&s->queue)) {
        struct blk_request *r = list_entry(s->queue.next, struct blk_request, node);
        if (issue(s, r) != 0)
            return;
        list_remove(&r->node);
    }
}

/* ---- answers ---- */

const char *storvsc_srb_status_name(uint8_t srb_status)
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
        return VERDICT_OK;
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

    scsi_sense_text(sense, words, sizeof(words));
    log_warn("%s: %s: %s at sector %llu, %u bytes: %s, %s, %s; %u transferred; %s", s->name, r->device->name,
             scsi_opcode_name(slot->opcode), (unsigned long long)r->sector, slot->bytes,
             storvsc_srb_status_name(srb->srb_status), scsi_status_name(srb->scsi_status), words, srb->data_bytes,
             what);
}

static void try_again(struct storvsc *s, struct blk_request *r, bool later)
{
    r->attempts++;
    s->counters.retries++;
    if (!later) {
        r->driver_data = (void *)(uintptr_t)s->tick;
        list_push_front(&s->queue, &r->node);
        return;
    }
    list_push_back(&s->later, &r->node);
    if (!s->retry_timer.armed)
        timer_arm_100ns(&s->retry_timer, rt_now_100ns() + MS_100NS(STORVSC_RETRY_DELAY_MS << r->attempts));
}

void storvsc_retry_due(void *arg)
{
    struct storvsc *s = arg;
    struct list *node;

    while ((node = list_pop_front(&s->later)))
        enqueue(s, list_entry(node, struct blk_request, node));
    storvsc_pump(s);
    s->unsent = false;
    vmbus_kick(s->channel);
}

void storvsc_unmap(struct storvsc_slot *slot, bool discard)
{
    struct dma_span spans[BLK_MAX_SPANS];
    const struct blk_request *r = slot->request;
    unsigned n = 0;
    bool read = r && r->op == BLK_READ;

    if (!slot->map.bounce)
        return;
    for (; read && n < r->span_count; n++)
        spans[n] = (struct dma_span){r->spans[n].addr, r->spans[n].bytes};
    if (slot->command && !discard) {
        struct storvsc_command *c = slot->command;
        spans[n++] = (struct dma_span){c->data, c->data_bytes};
        read = true;
    }
    dma_unmap(&slot->map, spans, n, read && !discard ? DMA_FROM_DEVICE : DMA_TO_DEVICE);
    slot->map.bounce = NULL;
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
        if (s->last_report_tick != s->tick + 1)
            describe(s, &was, r, srb, &sense, "tried again");
        s->last_report_tick = s->tick + 1;
        try_again(s, r, v == VERDICT_LATER);
        return;
    }
    s->counters.errors++;
    if (v == VERDICT_GONE) {
        if (!r->device->removed)
            describe(s, &was, r, srb, &sense, "the unit is gone");
        storvsc_rescan(s);
        error = -E_REMOVED;
    } else if (error == -E_NOTSUP && r->op == BLK_WRITE_ZEROES) {
        log_info("%s: %s: no WRITE SAME after all, zeroes are written", s->name, r->device->name);
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

/* ---- ends without an answer ---- */

static void fail_list(struct list *list, const struct storvsc_unit *unit, int status)
{
    struct list *pos = list->next;

    while (pos != list) {
        struct blk_request *r = list_entry(pos, struct blk_request, node);
        pos = pos->next;
        if (unit && unit_of(r) != unit)
            continue;
        list_remove(&r->node);
        blk_complete(r, status);
        pos = list->next;                /* its done may have changed the list */
    }
}

void storvsc_fail_queued(struct storvsc *s, const struct storvsc_unit *unit, int status)
{
    fail_list(&s->queue, unit, status);
    fail_list(&s->later, unit, status);
}

void storvsc_expire_queued(struct storvsc *s)
{
    struct list *pos = s->queue.next;

    while (pos != &s->queue) {
        struct blk_request *r = list_entry(pos, struct blk_request, node);
        pos = pos->next;
        if (s->tick - (uint32_t)(uintptr_t)r->driver_data <= STORVSC_REQUEST_TICKS)
            continue;
        log_err("%s: %s: a request for sector %llu found no room on the channel within %u s", s->name, r->device->name,
                (unsigned long long)r->sector, STORVSC_REQUEST_TICKS * STORVSC_TICK_S);
        s->counters.timeouts++;
        list_remove(&r->node);
        blk_complete(r, -E_TIMEOUT);
        pos = s->queue.next;
    }
}
