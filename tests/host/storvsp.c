/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * storvsp.c: the storage server: handshake, SCSI request blocks, sub-channels, bus events.
 *
 * The handshake's order and every length are checked as the strictest host does. A packet that would stop
 * that host's worker stops the channel here, after the violation was told. Commands are handed to
 * vscsi_disk.c; their guest memory stays in use until the backend gives the request back, also when the
 * channel was closed meanwhile.
 */
#include "tests/host/storvsp.h"

static const struct guid scsi_class = VMBUS_GUID_SCSI;
static const uint16_t versions[] = {
    VSTOR_VERSION_WIN6, VSTOR_VERSION_WIN7, VSTOR_VERSION_WIN8, VSTOR_VERSION_WIN8_1, VSTOR_VERSION_WIN10,
};

static bool new_srb(const struct host_scsi *s)
{
    return s->version >= VSTOR_VERSION_WIN8;
}

static uint32_t packet_bytes(const struct host_scsi *s)
{
    return new_srb(s) ? VSTOR_PACKET_BYTES : VSTOR_PACKET_BYTES_WIN7;
}

/* Old versions know of one channel only. */
static uint16_t max_sub_channels(const struct host_scsi *s)
{
    return new_srb(s) ? s->cfg.max_sub_channels : 0;
}

/* ---- handshake -------------------------------------------------------------------------------------- */

static enum host_fault_kind complete(struct host_chan *ch, const struct host_packet *p, struct vstor_packet *v,
                                     uint32_t status)
{
    uint32_t bytes = p->bytes < sizeof(*v) ? p->bytes : (uint32_t)sizeof(*v);

    host_trace(ch->h, HOST_TRACE_STORVSP, "channel %u: operation %u: status %#x", ch->relid, v->operation,
               status);
    v->operation = VSTOR_OP_COMPLETE_IO;
    v->flags = 0;
    v->status = status;
    return vchan_complete(ch, HOST_FAULT_STORVSP_REPLY, p->id, v, bytes, offsetof(struct vstor_packet, status),
                          NTSTATUS_UNSUCCESSFUL);
}

static uint32_t query_version(struct host_scsi *s, const struct vstor_packet *v)
{
    uint16_t wanted = v->version.version;

    if (wanted < s->cfg.min_version || wanted > s->cfg.max_version)
        return NTSTATUS_REVISION_MISMATCH;
    for (uint32_t i = 0; i < HOST_COUNT(versions); i++) {
        if (versions[i] == wanted) {
            s->version = wanted;
            s->state = STORVSP_VERSION;
            return NTSTATUS_SUCCESS;
        }
    }
    return NTSTATUS_REVISION_MISMATCH;
}

static uint32_t query_properties(struct host_scsi *s, struct vstor_packet *v)
{
    uint16_t subs = max_sub_channels(s);

    memset(&v->srb, 0, sizeof(v->srb));
    v->properties.max_sub_channels = subs;
    v->properties.flags = subs != 0 ? VSTOR_CHANNEL_MULTI : 0;
    v->properties.max_transfer_bytes = s->cfg.max_transfer_bytes;
    s->state = STORVSP_PROPERTIES;
    return NTSTATUS_SUCCESS;
}

/* Once for an opening, and no more than were announced. They are offered after the answer. */
static uint32_t create_sub_channels(struct host_scsi *s, const struct vstor_packet *v)
{
    uint32_t count = v->sub_channel_count;

    if (s->subs_created || !new_srb(s)) {
        host_strict(s->h, v, 16, "storvsp: sub-channels twice, or with version %u.%u", s->version >> 8,
                    s->version & 0xFF);
        return NTSTATUS_INVALID_DEVICE_STATE;
    }
    if (count > max_sub_channels(s)) {
        host_strict(s->h, v, 16, "storvsp: %u sub-channels, %u are allowed", count, max_sub_channels(s));
        return NTSTATUS_INVALID_PARAMETER;
    }
    if (!vchan_create_subs(s->primary, count))
        return NTSTATUS_UNSUCCESSFUL;
    s->subs_created = true;
    return NTSTATUS_SUCCESS;
}

static void wake_sub_channels(struct host_scsi *s)
{
    for (uint32_t i = 1; i <= VMBUS_RELID_MAX; i++) {
        struct host_chan *ch = s->h->vmbus.channel[i];
        if (ch != NULL && ch->device == s && ch->stalled) {
            ch->signalled = true;
            vchan_queue(ch);
        }
    }
}

/* Which state an operation belongs to: others are answered with "invalid device state". */
static uint32_t handshake(struct host_scsi *s, struct vstor_packet *v)
{
    bool ok = true;

    switch (v->operation) {
    case VSTOR_OP_BEGIN_INITIALIZATION:
        ok = s->state == STORVSP_NEW;
        if (ok)
            s->state = STORVSP_BEGUN;
        break;
    case VSTOR_OP_QUERY_PROTOCOL_VERSION:
        ok = s->state == STORVSP_BEGUN;
        if (ok)
            return query_version(s, v);
        break;
    case VSTOR_OP_QUERY_PROPERTIES:
        ok = s->state == STORVSP_VERSION;
        if (ok)
            return query_properties(s, v);
        break;
    case VSTOR_OP_END_INITIALIZATION:
        ok = s->state == STORVSP_PROPERTIES;
        if (ok) {
            s->state = STORVSP_READY;
            wake_sub_channels(s);
        }
        break;
    default:
        ok = s->state == STORVSP_PROPERTIES || s->state == STORVSP_READY;
        if (ok)
            return create_sub_channels(s, v);
        break;
    }
    if (ok)
        return NTSTATUS_SUCCESS;
    /* A step that was done and called failed, or the other way round, is the guest's last or comes again. */
    if (!malice_excuses(s->h, HOST_MALICE_STATUS | HOST_MALICE_HANDSHAKE, s))
        host_strict(s->h, v, 16, "storvsp: operation %u in state %u", v->operation, s->state);
    return NTSTATUS_INVALID_DEVICE_STATE;
}

static void handshake_packet(struct host_chan *ch, const struct host_packet *p, struct vstor_packet *v)
{
    struct host_scsi *s = ch->device;
    enum storvsp_state before = s->state;
    bool subs_before = s->subs_created, create = v->operation == VSTOR_OP_CREATE_SUB_CHANNELS;

    if (complete(ch, p, v, handshake(s, v)) != HOST_FAULT_ERROR) {
        if (create)
            vchan_offer_subs(ch);
        return;
    }
    s->state = before;
    if (create && !subs_before) {
        s->subs_created = false;
        vchan_rescind_subs(ch);
    }
}

/* ---- commands --------------------------------------------------------------------------------------- */

static uint32_t nt_status(const struct scsi_cmd *cmd)
{
    switch (cmd->srb_status & SRB_STATUS_MASK) {
    case SRB_STATUS_SUCCESS:
        return NTSTATUS_SUCCESS;
    case SRB_STATUS_BUSY:
        return NTSTATUS_DEVICE_BUSY;
    case SRB_STATUS_INVALID_LUN:
    case SRB_STATUS_INVALID_TARGET_ID:
    case SRB_STATUS_INVALID_PATH_ID:
    case SRB_STATUS_NO_DEVICE:
        return NTSTATUS_DEVICE_DOES_NOT_EXIST;
    case SRB_STATUS_BAD_FUNCTION:
    case SRB_STATUS_BAD_SRB_BLOCK_LENGTH:
        return NTSTATUS_INVALID_DEVICE_REQUEST;
    case SRB_STATUS_DATA_OVERRUN:
        return NTSTATUS_BUFFER_OVERFLOW;
    default:
        return NTSTATUS_IO_DEVICE_ERROR;
    }
}

/* The guest's buffer is the guest's again. */
static void release_buffer(struct scsi_cmd *cmd)
{
    cmd->seg_count = 0;
    vchan_unmap_ranges(cmd->s->h, cmd->use, cmd->ranges, cmd->range_count);
    cmd->range_count = 0;
}

bool storvsp_uses(const struct host *h, uint64_t first, uint64_t pages)
{
    list_for_each(scsi, &h->scsi)
        list_for_each(node, &list_entry(scsi, struct host_scsi, node)->commands) {
            const struct scsi_cmd *cmd = list_entry(node, struct scsi_cmd, node);
            if (vchan_ranges_overlap(cmd->ranges, cmd->range_count, first, pages))
                return true;
        }
    return false;
}

static void free_command(struct scsi_cmd *cmd)
{
    struct host_chan *ch = cmd->ch;
    struct host_scsi *s = cmd->s;

    release_buffer(cmd);
    list_remove(&cmd->node);
    host_free(s->h, cmd->list);
    host_free(s->h, cmd);
    s->in_flight--;
    if (ch != NULL)
        vchan_check_closed(ch);
}

void storvsp_finish(struct scsi_cmd *cmd)
{
    struct host *h = cmd->s->h;
    struct vstor_packet v = {.operation = VSTOR_OP_COMPLETE_IO, .status = nt_status(cmd), .srb = cmd->srb};
    uint32_t sense = new_srb(cmd->s) ? VSTOR_SENSE_MAX : VSTOR_SENSE_MAX_WIN7;

    v.srb.srb_status = cmd->srb_status;
    v.srb.scsi_status = cmd->scsi_status;
    v.srb.data_bytes = cmd->transferred;
    v.srb.sense_bytes = cmd->sense_bytes < sense ? cmd->sense_bytes : (uint8_t)sense;
    memset(v.srb.sense, 0, sizeof(v.srb.sense));
    memcpy(v.srb.sense, &cmd->sense, sizeof(cmd->sense));
    if (cmd->sense_bytes != 0 && cmd->lun != NULL)
        cmd->lun->last = cmd->sense;
    h->counters.srb_bytes += cmd->transferred;
    host_trace(h, HOST_TRACE_STORVSP, "id %#llx: cdb %02x: srb %#x scsi %#x, %u bytes",
               (unsigned long long)cmd->id,
               cmd->srb.cdb[0], cmd->srb_status, cmd->scsi_status, cmd->transferred);
    malice_srb(cmd, &v);
    /* A fault writes SRB status "error" without sense over the four status bytes. */
    if (cmd->ch->open)
        vchan_complete(cmd->ch, HOST_FAULT_STORVSP_IO, cmd->id, &v, cmd->reply_bytes,
                      offsetof(struct vstor_packet, srb.srb_status), SRB_STATUS_ERROR);
    free_command(cmd);
}

/* What the strictest hosts demand of a request block; NULL: fine. fatal: their worker would stop. */
static const char *check_srb(const struct host_chan *ch, const struct host_packet *p, const struct vstor_srb *srb,
                             bool *fatal)
{
    const struct host_scsi *s = ch->device;

    *fatal = true;
    if (p->range_count > 1)
        return "more than one page range";
    if (p->range_bytes < srb->data_bytes)
        return "the page range is shorter than the data";
    if (srb->cdb_bytes > VSTOR_CDB_MAX)
        return "CDB longer than 16";
    *fatal = false;
    if (srb->length != (new_srb(s) ? VSTOR_SRB_BYTES : VSTOR_SRB_BYTES_WIN7))
        return "length field";
    if (p->bytes != packet_bytes(s) && p->bytes != VSTOR_PACKET_BYTES)
        return "packet length";
    if (srb->sense_bytes > VSTOR_SENSE_MAX)
        return "sense length";
    if (srb->data_direction > VSTOR_DATA_NONE)
        return "data direction";
    if (srb->data_bytes > s->cfg.max_transfer_bytes)
        return "longer than the maximum transfer";
    if (p->id == 0)
        return "transaction id 0 belongs to the host";
    list_for_each(node, &s->commands) {
        const struct scsi_cmd *cmd = list_entry(node, struct scsi_cmd, node);
        if (cmd->ch == ch && cmd->id == p->id)
            return "transaction id is in flight already";
    }
    return NULL;
}

static enum host_take execute(struct host_chan *ch, const struct host_packet *p, const struct vstor_packet *v)
{
    struct host_scsi *s = ch->device;
    uint32_t max = (uint32_t)(p->range_bytes / HV_PAGE_SIZE) + 2, keep, list = vchan_ranges_bytes(p);
    struct scsi_cmd *cmd;
    const char *why;
    bool fatal;

    why = check_srb(ch, p, &v->srb, &fatal);
    if (why != NULL && fatal) {
        host_violation(s->h, v, sizeof(*v), "storvsp: request: %s", why);
        return HOST_FATAL;
    }
    if (why != NULL)
        host_strict(s->h, v, sizeof(*v), "storvsp: request: %s", why);
    cmd = host_alloc(s->h, sizeof(*cmd) + max * sizeof(struct host_seg) + list);
    if (cmd == NULL) {
        host_log(s->h, HOST_LOG_ERROR, "storvsp: no memory for a command");
        return HOST_STALLED;
    }
    cmd->s = s;
    cmd->ch = ch;
    cmd->id = p->id;
    cmd->reply_bytes = p->bytes < sizeof(*v) ? p->bytes : (uint32_t)sizeof(*v);
    cmd->srb = v->srb;
    cmd->segs = (struct host_seg *)(cmd + 1);
    cmd->ranges = (uint8_t *)(cmd->segs + max);
    if (list != 0)
        memcpy(cmd->ranges, p->ranges, list);
    cmd->use = v->srb.data_direction == VSTOR_DATA_TO_DEVICE ? USE_PACKET_READ : USE_PACKET_WRITE;
    list_push_back(&s->commands, &cmd->node);
    s->in_flight++;
    s->h->counters.srbs++;
    if (!vchan_map_ranges(ch, p, cmd->use, cmd->segs, max, &cmd->seg_count)) {
        free_command(cmd);
        return HOST_FATAL;
    }
    cmd->range_count = p->range_count;
    /* The range may be longer than the data; the rest is not ours. */
    keep = v->srb.data_bytes;
    for (uint32_t i = 0; i < cmd->seg_count; i++) {
        if (cmd->segs[i].bytes >= keep) {
            cmd->segs[i].bytes = keep;
            cmd->seg_count = keep == 0 ? i : i + 1;
            break;
        }
        keep -= cmd->segs[i].bytes;
    }
    vscsi_execute(cmd);
    return HOST_TAKEN;
}

/* ---- the channel ------------------------------------------------------------------------------------ */

/* Bytes of a packet from the guest that have a meaning. */
static size_t used_bytes(uint32_t operation)
{
    switch (operation) {
    case VSTOR_OP_EXECUTE_SRB:
        return VSTOR_PACKET_BYTES;
    case VSTOR_OP_QUERY_PROTOCOL_VERSION:
        return VSTOR_PACKET_HEADER_BYTES + sizeof(struct vstor_version);
    case VSTOR_OP_CREATE_SUB_CHANNELS:
        return VSTOR_PACKET_HEADER_BYTES + sizeof(uint16_t);
    default:
        return VSTOR_PACKET_HEADER_BYTES;
    }
}

static enum host_take packet(struct host_chan *ch, const struct host_packet *p)
{
    struct host_scsi *s = ch->device;
    struct vstor_packet v = {0};

    if (p->type == VMBUS_PACKET_COMPLETION || !(p->flags & VMBUS_PACKET_FLAG_COMPLETION) ||
        p->bytes < VSTOR_PACKET_HEADER_BYTES) {
        host_violation(s->h, p->data, p->bytes, "storvsp: packet type %u, flags %#x, %u bytes", p->type,
                       p->flags, p->bytes);
        return HOST_FATAL;
    }
    memcpy(&v, p->data, p->bytes < sizeof(v) ? p->bytes : sizeof(v));
    host_check_unused(s->h, p->data, p->bytes, used_bytes(v.operation), "storvsp");
    if (v.flags != VSTOR_FLAG_REQUEST_COMPLETION)
        host_strict(s->h, &v, 16, "storvsp: vstor flags %#x", v.flags);
    switch (v.operation) {
    case VSTOR_OP_EXECUTE_SRB:
        if (s->state == STORVSP_READY)
            return execute(ch, p, &v);
        if (ch->sub_index != 0)
            return HOST_STALLED;                 /* held until the primary is ready */
        host_strict(s->h, &v, 16, "storvsp: request before END_INITIALIZATION");
        complete(ch, p, &v, NTSTATUS_INVALID_DEVICE_STATE);
        return HOST_TAKEN;
    case VSTOR_OP_BEGIN_INITIALIZATION:
    case VSTOR_OP_END_INITIALIZATION:
    case VSTOR_OP_QUERY_PROTOCOL_VERSION:
    case VSTOR_OP_QUERY_PROPERTIES:
    case VSTOR_OP_CREATE_SUB_CHANNELS:
        if (ch->sub_index != 0) {
            host_violation(s->h, &v, 16, "storvsp: handshake on sub-channel %u", ch->relid);
            return HOST_FATAL;
        }
        if (p->bytes < VSTOR_PACKET_BYTES_WIN7)
            host_strict(s->h, &v, 16, "storvsp: handshake packet of %u bytes", p->bytes);
        handshake_packet(ch, p, &v);
        return HOST_TAKEN;
    case VSTOR_OP_RESET_LUN:
    case VSTOR_OP_RESET_ADAPTER:
    case VSTOR_OP_RESET_BUS:
        complete(ch, p, &v, NTSTATUS_SUCCESS);
        return HOST_TAKEN;
    default:
        host_violation(s->h, &v, sizeof(v), "storvsp: operation %u", v.operation);
        return HOST_FATAL;
    }
}

static bool chan_opened(struct host_chan *ch)
{
    struct host_scsi *s = ch->device;

    if (ch->sub_index == 0) {
        s->state = STORVSP_NEW;
        s->version = 0;
        s->subs_created = false;
    }
    return true;
}

static void chan_closed(struct host_chan *ch)
{
    struct host_scsi *s = ch->device;

    if (ch->sub_index == 0)
        s->state = STORVSP_NEW;
    if (!ch->rescinded && !s->h->vmbus.resetting)
        return;
    /* After a rescind the guest takes its memory back at once, so what still runs must not reach it. */
    list_for_each(node, &s->commands) {
        struct scsi_cmd *cmd = list_entry(node, struct scsi_cmd, node);
        if (cmd->ch != ch)
            continue;
        cmd->req.seg_count = 0;
        release_buffer(cmd);
    }
}

static uint32_t in_flight(struct host_chan *ch)
{
    struct host_scsi *s = ch->device;
    uint32_t n = 0;

    list_for_each(node, &s->commands)
        n += list_entry(node, struct scsi_cmd, node)->ch == ch;
    return n;
}

static void output(struct host_chan *ch)
{
    (void)ch;
}

static void freed(struct host_chan *ch)
{
    struct host_scsi *s = ch->device;

    /* The controller itself stays, for those who still hold its pointer; host_destroy frees it. */
    if (ch == s->primary)
        s->primary = NULL;
}

static const struct host_dev_ops storvsp_ops = {
    .name = "storvsp",
    .open = chan_opened,
    .close = chan_closed,
    .packet = packet,
    .output = output,
    .in_flight = in_flight,
    .freed = freed,
};

/* ---- what the transport and the tests call ---------------------------------------------------------- */

void host_scsi_config_default(struct host_scsi_config *cfg)
{
    memset(cfg, 0, sizeof(*cfg));
    cfg->min_version = VSTOR_VERSION_WIN6;
    cfg->max_version = VSTOR_VERSION_WIN10;
    cfg->max_transfer_bytes = 256 * 1024;
}

struct host_scsi *host_add_scsi(struct host *h, const struct host_scsi_config *cfg)
{
    struct host_scsi *s = cfg->max_sub_channels < HOST_MAX_CHANNELS ? host_alloc(h, sizeof(*s)) : NULL;

    if (s == NULL)
        return NULL;
    s->h = h;
    s->cfg = *cfg;
    list_init(&s->commands);
    s->primary = vchan_create(h, &storvsp_ops, s, &scsi_class, NULL, 0, cfg->monitor);
    if (s->primary == NULL) {
        host_free(h, s);
        return NULL;
    }
    list_push_back(&h->scsi, &s->node);
    return s;
}

void host_remove_scsi(struct host *h, struct host_scsi *s)
{
    (void)h;
    for (uint32_t i = 0; i < SCSI_LUNS; i++)
        s->luns[i].present = false;
    if (s->primary != NULL)
        vchan_rescind(s->primary);
}

uint32_t host_scsi_relid(const struct host_scsi *s)
{
    return s->primary != NULL ? s->primary->relid : 0;
}

/* Tells the guest that LUNs came or went. */
static void enumerate_bus(struct host_scsi *s)
{
    struct vstor_packet v = {.operation = VSTOR_OP_ENUMERATE_BUS};
    struct host_piece payload = {&v, packet_bytes(s)};

    if (s->primary == NULL || !s->primary->open || s->state != STORVSP_READY ||
        s->version < VSTOR_VERSION_WIN7)
        return;
    vchan_send(s->primary, VMBUS_PACKET_INBAND, 0, 0, NULL, &payload);
}

bool host_add_lun(struct host *h, struct host_scsi *s, uint32_t lun, const struct host_blk_info *info,
                  const struct host_blk_ops *ops, void *backend)
{
    struct scsi_lun *l;

    (void)h;
    if (lun >= SCSI_LUNS || s->luns[lun].present)
        return false;
    l = &s->luns[lun];
    memset(l, 0, sizeof(*l));
    l->present = true;
    l->info = *info;
    l->ops = ops;
    l->backend = backend;
    enumerate_bus(s);
    return true;
}

void host_remove_lun(struct host *h, struct host_scsi *s, uint32_t lun)
{
    (void)h;
    if (lun >= SCSI_LUNS || !s->luns[lun].present)
        return;
    s->luns[lun].present = false;
    enumerate_bus(s);
}

void host_resize_lun(struct host *h, struct host_scsi *s, uint32_t lun, uint64_t sectors)
{
    (void)h;
    if (lun >= SCSI_LUNS || !s->luns[lun].present)
        return;
    s->luns[lun].info.sectors = sectors;
    s->luns[lun].attention = SCSI_ASC_CAPACITY_CHANGED;
}

uint32_t storvsp_in_flight(const struct host *h)
{
    uint32_t n = 0;

    list_for_each(node, &h->scsi)
        n += list_entry(node, struct host_scsi, node)->in_flight;
    return n;
}
