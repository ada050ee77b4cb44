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

    srb->cdb_bytes = (uint8_t)scsi_cdb_transfer(srb->cdb, write, r->sector, (uint32_t)r->sectors,
                                                 write && (r->flags & BLK_FUA));
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
    struct storvsc_unit *unit = storvsc_unit_of(r);

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
    if (e) {
        if (e == -E_AGAIN)
            dma_wait(&s->bounce_room);
        return e;
    }
    range = (struct vmbus_gpa_range){slot->map.bytes, slot->map.offset, s->frames, slot->map.frames};
    e = vmbus_send_gpa(s->channel, &range, 1, packet, s->packet_bytes, id);
    if (e && slot->map.bounce)
        dma_unmap(&slot->map, plan->span, plan->spans, DMA_TO_DEVICE);
    return e;
}

/* 0: in the ring. -E_AGAIN and -E_REMOVED: as it was. */
static int issue(struct storvsc *s, struct blk_request *r)
{
    const struct storvsc_unit *unit = storvsc_unit_of(r);
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
    STORVSC_COUNT(s, queued);
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

/* ---- ends without an answer ---- */

static void fail_list(struct list *list, const struct storvsc_unit *unit, int status)
{
    struct list *pos = list->next;

    while (pos != list) {
        struct blk_request *r = list_entry(pos, struct blk_request, node);
        pos = pos->next;
        if (unit && storvsc_unit_of(r) != unit)
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
        log_err_some("%s: %s: a request for sector %llu found no room on the channel within %u s", s->name,
                     r->device->name,
                     (unsigned long long)r->sector, STORVSC_REQUEST_TICKS * STORVSC_TICK_S);
        STORVSC_COUNT(s, timeouts);
        list_remove(&r->node);
        blk_complete(r, -E_BUSY);        /* the host does not have it: its memory is free */
        pos = s->queue.next;
    }
}
