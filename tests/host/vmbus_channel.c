/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * vmbus_channel.c: the life of a channel on the host's side.
 *
 *   vchan_create --vchan_offer--> offered --vchan_msg_open--> open
 *                                  ^                         | vchan_msg_close, Unload, new contact
 *                                  |                         v
 *                                  +---vchan_shut------- closing (requests still use guest memory)
 *   offered, open --vchan_rescind--> rescinded --vchan_msg_released--> vchan_reap, relid may be used again
 *
 * Sub-channels are made when a device's protocol asks for them and rescinded when their primary closes. The next
 * opening may ask for others at once, with the same indices, while the guest still has to release the old relids.
 */
#include "tests/host/host_internal.h"

struct host_chan *vchan_find(struct host *h, uint32_t relid)
{
    return relid == 0 || relid > VMBUS_RELID_MAX ? NULL : h->vmbus.channel[relid];
}

void vchan_queue(struct host_chan *ch)
{
    if (ch->queued || ch->polling)
        return;
    ch->queued = true;
    list_push_back(&ch->h->work, &ch->work);
}

static uint32_t new_relid(struct host *h)
{
    for (uint32_t i = 0; i < VMBUS_RELID_MAX; i++) {
        uint32_t relid = h->vmbus.next_relid;
        h->vmbus.next_relid = relid == VMBUS_RELID_MAX ? 1 : relid + 1;
        if (h->vmbus.channel[relid] == NULL)
            return relid;
    }
    return 0;
}

/* Instance GUIDs are stable for the life of the machine and differ between devices. */
static void make_instance(struct host_chan *ch)
{
    static const struct guid pattern = GUID_INIT(0x00000000, 0x4343, 0x4e44, 0x8c41, 0x484f53540000);

    if (ch->primary != NULL) {
        ch->instance = ch->primary->instance;
        return;
    }
    if (ch->dev->instance != NULL) {
        ch->instance = *ch->dev->instance;
        return;
    }
    ch->instance = pattern;
    memcpy(ch->instance.bytes, &ch->relid, 4);
}

static struct host_chan *new_channel(struct host *h, const struct host_dev_ops *dev, void *device,
                                     const struct guid *interface_type, struct host_chan *primary,
                                     uint16_t sub_index, bool wants_monitor)
{
    uint32_t relid = new_relid(h);
    struct host_chan *ch;

    if (relid == 0)
        return NULL;
    ch = host_alloc(h, sizeof(*ch));
    if (ch == NULL)
        return NULL;
    ch->h = h;
    ch->dev = dev;
    ch->device = device;
    ch->primary = primary;
    ch->sub_index = sub_index;
    ch->queue = sub_index;
    ch->relid = relid;
    ch->connection_id = HOST_CHANNEL_CONNECTION(relid);
    ch->interface_type = *interface_type;
    ch->wants_monitor = wants_monitor;
    ch->monitor_id = VMBUS_OFFER_MONITOR_NONE;
    ch->told_connection = ch->connection_id;
    ch->told_monitor = VMBUS_OFFER_MONITOR_NONE;
    ch->owed_tail = &ch->owed;
    make_instance(ch);
    h->vmbus.channel[relid] = ch;
    h->vmbus.channels++;
    return ch;
}

struct host_chan *vchan_create(struct host *h, const struct host_dev_ops *dev, void *device,
                              const struct guid *interface_type, struct host_chan *primary,
                              uint16_t sub_index, bool wants_monitor)
{
    struct host_chan *ch = new_channel(h, dev, device, interface_type, primary, sub_index, wants_monitor);

    if (ch != NULL)
        vchan_offer(ch);
    return ch;
}

void vchan_free(struct host_chan *ch)
{
    struct host *h = ch->h;

    if (ch->queued)
        list_remove(&ch->work);
    for (uint32_t i = 1; i <= VMBUS_RELID_MAX; i++) {
        if (h->vmbus.channel[i] != NULL && h->vmbus.channel[i]->primary == ch)
            h->vmbus.channel[i]->primary = NULL;
    }
    vserver_free_monitor(ch);
    vchan_drop_owed(ch);
    h->vmbus.channel[ch->relid] = NULL;
    h->vmbus.channels--;
    host_free(h, ch);
}

/* The next sub-channel of a primary after that relid (0: the first) that is not rescinded, or NULL. */
static struct host_chan *next_sub(const struct host_chan *primary, uint32_t relid)
{
    for (uint32_t i = relid + 1; i <= VMBUS_RELID_MAX; i++) {
        struct host_chan *ch = primary->h->vmbus.channel[i];
        if (ch != NULL && ch->primary == primary && !ch->rescinded)
            return ch;
    }
    return NULL;
}

bool vchan_create_subs(struct host_chan *primary, uint32_t count)
{
    for (uint32_t i = 1; i <= count; i++) {
        if (new_channel(primary->h, primary->dev, primary->device, &primary->interface_type, primary, (uint16_t)i,
                        primary->wants_monitor) == NULL) {
            host_log(primary->h, HOST_LOG_ERROR, "channel %u: no memory or relid for sub-channel %u", primary->relid,
                     i);
            vchan_rescind_subs(primary);
            return false;
        }
    }
    return true;
}

void vchan_offer_subs(struct host_chan *primary)
{
    for (struct host_chan *ch = next_sub(primary, 0); ch != NULL; ch = next_sub(primary, ch->relid))
        vchan_offer(ch);
}

void vchan_rescind_subs(struct host_chan *primary)
{
    struct host_chan *ch;

    while ((ch = next_sub(primary, 0)) != NULL)
        vchan_rescind(ch);
}

static void give_monitor(struct host_chan *ch)
{
    struct host_vmbus *v = &ch->h->vmbus;

    if (!ch->wants_monitor || v->monitor == NULL || !ch->h->cfg.monitor_pages)
        return;
    for (uint32_t i = 0; i < VMBUS_MONITOR_COUNT; i++) {
        if (v->monitor_used[i])
            continue;
        v->monitor_used[i] = 1;
        ch->monitor_id = (uint8_t)i;
        return;
    }
}

void vchan_offer(struct host_chan *ch)
{
    struct host *h = ch->h;
    struct vmbus_msg_offer_channel msg = {
        .header = {.type = VMBUS_MSG_OFFER_CHANNEL},
        .interface_type = ch->interface_type,
        .instance = ch->instance,
        .flags = ch->dev->offer_flags,
        .sub_channel_index = ch->sub_index,
        .relid = ch->relid,
        .dedicated_interrupt = VMBUS_OFFER_DEDICATED_INTERRUPT,
        .connection_id = ch->connection_id,
    };

    if (ch->offered || ch->rescinded || !h->vmbus.offers_requested)
        return;
    give_monitor(ch);
    ch->lied = 0;
    msg.monitor_id = ch->monitor_id;
    msg.monitor_allocated = ch->monitor_id != VMBUS_OFFER_MONITOR_NONE ? VMBUS_OFFER_MONITOR_ALLOCATED : 0;
    if (msg.flags & VMBUS_OFFER_NAMED_PIPE_MODE)
        msg.user_data[0] = VMBUS_OFFER_PIPE_MESSAGES;
    ch->offered = true;
    host_trace(h, HOST_TRACE_VMBUS, "offer %s: channel %u.%u", ch->dev->name, ch->relid, ch->sub_index);
    vserver_send(h, &msg, sizeof(msg), false);
}

void vchan_request_offers(struct host *h)
{
    struct vmbus_msg_header done = {.type = VMBUS_MSG_ALL_OFFERS_DELIVERED};

    h->vmbus.offers_requested = true;
    for (uint32_t i = 1; i <= VMBUS_RELID_MAX; i++) {
        if (h->vmbus.channel[i] != NULL && h->vmbus.channel[i]->sub_index == 0)
            vchan_offer(h->vmbus.channel[i]);
    }
    vserver_send(h, &done, sizeof(done), true);
}

/* ---- open ------------------------------------------------------------------------------------------- */

static enum host_fault_kind open_result(struct host *h, const struct vmbus_msg_open_channel *msg, uint32_t status)
{
    struct vmbus_msg_open_result result = {
        .header = {.type = VMBUS_MSG_OPEN_RESULT},
        .relid = msg->relid,
        .open_id = msg->open_id,
        .status = status,
    };

    return vserver_send(h, &result, sizeof(result), true);
}

/* Why the rings cannot be used; NULL: they can. */
static const char *attach_rings(struct host_chan *ch, const struct vmbus_msg_open_channel *msg)
{
    struct host *h = ch->h;
    uint32_t first = msg->downstream_page_offset;
    struct host_gpadl *g = vgpadl_use(h, ch->relid, msg->ring_gpadl);

    if (g == NULL)
        return "the ring GPADL is unknown, unfinished, of several ranges or not page aligned";
    ch->ring_gpadl = g;
    if (first < HOST_RING_PAGES_MIN || first >= g->pages || g->pages - first < HOST_RING_PAGES_MIN)
        return "downstream page offset";
    vring_attach(&ch->in, g->page, first);
    vring_attach(&ch->out, g->page + first, g->pages - first);
    if (!vring_check_fresh(h, &ch->in, "guest-to-host", ch->relid) ||
        !vring_check_fresh(h, &ch->out, "host-to-guest", ch->relid))
        return "ring headers";
    return NULL;
}

void vchan_msg_open(struct host *h, const struct vmbus_msg_open_channel *msg)
{
    struct host_chan *ch = vchan_find(h, msg->relid);
    const char *why;

    if (ch != NULL && ch->rescinded)
        return;                                  /* the rescind message is its answer */
    if (ch == NULL || !ch->offered || ch->open || ch->closing) {
        host_violation(h, msg, sizeof(*msg), "open: channel %u is not offered, or open already", msg->relid);
        return;
    }
    why = attach_rings(ch, msg);
    if (why == NULL && msg->target_vp != VMBUS_TARGET_VP_NO_INTERRUPTS && msg->target_vp >= h->cfg.vps)
        why = "target VP";
    if (why != NULL) {
        if (ch->ring_gpadl != NULL || !malice_excuses(h, HOST_MALICE_GPADL, ch->device))
            host_violation(h, msg, sizeof(*msg), "open: channel %u: %s", msg->relid, why);
        vgpadl_release(h, ch->ring_gpadl);
        ch->ring_gpadl = NULL;
        open_result(h, msg, NTSTATUS_FAILURE);
        return;
    }
    ch->target_vp = msg->target_vp;
    ch->open_id = msg->open_id;
    ch->dead = false;
    ch->resume = 0;
    ch->modifying = false;
    ch->unread_since = ch->space_since = 0;
    ch->wiped = false;
    ch->open = true;
    if (!ch->dev->open(ch)) {
        ch->open = false;
        vgpadl_release(h, ch->ring_gpadl);
        ch->ring_gpadl = NULL;
        open_result(h, msg, NTSTATUS_FAILURE);
        return;
    }
    ch->out.ctl->feature_bits = VMBUS_RING_FEATURE_PENDING_SEND;
    host_trace(h, HOST_TRACE_VMBUS, "channel %u open: rings %u and %u bytes, VP %u", ch->relid, ch->in.bytes,
               ch->out.bytes, ch->target_vp);
    if (open_result(h, msg, NTSTATUS_SUCCESS) == HOST_FAULT_ERROR) {
        vchan_close(ch);
        return;
    }
    ch->signalled = true;                        /* whatever is in the ring already is seen */
    vchan_queue(ch);
}

/* ---- close, rescind, release ------------------------------------------------------------------------ */

void vchan_shut(struct host_chan *ch)
{
    struct host *h = ch->h;
    struct host_gpadl *g = ch->ring_gpadl;

    ch->open = false;
    ch->closing = false;
    ch->ring_gpadl = NULL;
    vchan_drop_owed(ch);
    memset(&ch->in, 0, sizeof(ch->in));
    memset(&ch->out, 0, sizeof(ch->out));
    host_trace(h, HOST_TRACE_VMBUS, "channel %u closed", ch->relid);
    vgpadl_release(h, g);
}

void vchan_check_closed(struct host_chan *ch)
{
    if (!ch->closing || ch->dev->in_flight(ch) != 0)
        return;
    vchan_shut(ch);
    vchan_queue(ch);
}

void vchan_close(struct host_chan *ch)
{
    struct host *h = ch->h;

    if (!ch->open)
        return;
    ch->open = false;
    ch->closing = true;
    ch->dev->close(ch);
    vchan_check_closed(ch);
    if (ch->sub_index != 0)
        return;
    for (struct host_chan *sub = next_sub(ch, 0); sub != NULL; sub = next_sub(ch, sub->relid)) {
        if (sub->open && !ch->rescinded && h->vmbus.version != 0 && !h->vmbus.unloading &&
            !h->vmbus.reconnecting)
            host_strict(h, NULL, 0, "close: channel %u before its sub-channel %u", ch->relid, sub->relid);
        if (!ch->rescinded)
            vchan_close(sub);                    /* its requests may end: only a rescind takes their memory */
        vchan_rescind(sub);
    }
}

void vchan_rescind(struct host_chan *ch)
{
    struct host *h = ch->h;
    struct vmbus_msg_relid msg = {
        .header = {.type = VMBUS_MSG_RESCIND_OFFER},
        .relid = ch->relid,
    };

    if (ch->rescinded)
        return;
    ch->rescinded = true;
    vchan_close(ch);
    vchan_rescind_subs(ch);
    if (ch->offered) {
        host_trace(h, HOST_TRACE_VMBUS, "rescind channel %u", ch->relid);
        vserver_send(h, &msg, sizeof(msg), false);
    }
    vchan_queue(ch);                              /* one that was never offered goes at the next poll */
}

bool vchan_reap(struct host_chan *ch)
{
    if (!ch->rescinded || ch->offered)
        return false;
    if (ch->closing || ch->open)
        return true;                             /* its requests still run; the last one queues the channel */
    vgpadl_free_all(ch->h, ch->relid);
    ch->dev->freed(ch);
    vchan_free(ch);
    return true;
}

bool host_rescind(struct host *h, uint32_t relid)
{
    struct host_chan *ch = vchan_find(h, relid);

    if (ch == NULL || ch->rescinded)
        return false;
    vchan_rescind(ch);
    return true;
}

void vchan_msg_close(struct host *h, const struct vmbus_msg_relid *msg)
{
    struct host_chan *ch = vchan_find(h, msg->relid);

    if (ch != NULL && ch->rescinded)
        return;
    if (ch != NULL && !ch->open && malice_excuses(h, HOST_MALICE_GPADL, ch->device))
        return;                                  /* its opening was refused for that, and the answer got lost */
    if (ch == NULL || !ch->open) {
        host_violation(h, msg, sizeof(*msg), "close: channel %u is not open", msg->relid);
        return;
    }
    vchan_close(ch);
}

void vchan_msg_modify(struct host *h, const struct vmbus_msg_modify_channel *msg)
{
    struct vmbus_msg_modify_channel_response answer = {
        .header = {.type = VMBUS_MSG_MODIFY_CHANNEL_RESPONSE},
        .relid = msg->relid,
    };
    struct host_chan *ch = vchan_find(h, msg->relid);

    if (ch != NULL && ch->modifying) {
        host_violation(h, msg, sizeof(*msg), "modify: channel %u while the last answer is on its way", msg->relid);
        return;                                  /* hosts drop it */
    }
    if (ch == NULL || (!ch->open && !ch->rescinded) || msg->target_vp >= h->cfg.vps) {
        host_violation(h, msg, sizeof(*msg), "modify: channel %u to VP %u", msg->relid, msg->target_vp);
        answer.status = NTSTATUS_FAILURE;
    } else {
        host_trace(h, HOST_TRACE_VMBUS, "channel %u: VP %u", ch->relid, msg->target_vp);
        ch->target_vp = msg->target_vp;
        /* Events set for the old VP stay there; the new one is told once, so that nothing is missed. */
        ch->interrupt = true;
        vchan_queue(ch);
    }
    if (h->vmbus.version < VMBUS_VERSION_WIN10_5_3)
        return;
    if (vserver_send(h, &answer, sizeof(answer), true) == HOST_FAULT_NONE && ch != NULL)
        ch->modifying = true;
}

void vchan_modify_answered(struct host *h, uint32_t relid)
{
    struct host_chan *ch = vchan_find(h, relid);

    if (ch != NULL)
        ch->modifying = false;
}

void vchan_msg_released(struct host *h, const struct vmbus_msg_relid *msg)
{
    struct host_chan *ch = vchan_find(h, msg->relid);

    if (ch == NULL && malice_invented(h, msg->relid))
        return;
    if (ch == NULL || !ch->rescinded || !ch->offered) {
        host_violation(h, msg, sizeof(*msg), "release: relid %u was not rescinded", msg->relid);
        return;
    }
    /* Linux tears nothing down after a rescind: what the relid still has goes with it. */
    host_trace(h, HOST_TRACE_VMBUS, "relid %u released with %u GPADLs", msg->relid, vgpadl_count(h, ch->relid));
    ch->offered = false;
    vchan_queue(ch);
}

void host_hold_channel(struct host *h, uint32_t relid, bool hold)
{
    struct host_chan *ch = vchan_find(h, relid);

    if (ch == NULL)
        return;
    ch->held = hold;
    vchan_queue(ch);
}
