/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * malice_packet.c: lies in what channels carry: the shared words of the rings, the frames of packets, transaction ids,
 * SCSI answers, handshakes, received messages.
 *
 * A read that is called failed or short really is: the bytes that were not "transferred" are spoilt in the guest's
 * buffer, so that a guest which takes them for good has wrong bytes in its hands.
 */
#include "tests/host/netvsp.h"
#include "tests/host/storvsp.h"

#define FRAME_BYTES ((uint32_t)sizeof(struct vmbus_packet_header))

/* ---- rings ------------------------------------------------------------------------------------------ */

static uint32_t wild_index(struct host *h, const struct host_ring *r)
{
    switch (malice_pick(h, 5)) {
    case 0:
        return r->bytes + 8 * (uint32_t)malice_pick(h, 4);           /* just outside */
    case 1:
        return (r->published + 1 + (uint32_t)malice_pick(h, 7)) % r->bytes;
    case 2:
        return (r->published + r->bytes - 8 * (1 + (uint32_t)malice_pick(h, 16))) % r->bytes;    /* backwards */
    case 3:
        return (r->published + 8 * (1 + (uint32_t)malice_pick(h, 256))) % r->bytes;              /* too early */
    default:
        return malice_value(h);
    }
}

static void overwrite(struct host_ring *r, uint32_t *at, uint32_t v)
{
    uint32_t before = __atomic_exchange_n(at, v, __ATOMIC_ACQ_REL);

    if (!r->lied || before != r->lie)
        r->truth = before;
    r->lied = true;
    r->lie = v;
}

void malice_ring(struct host_chan *ch)
{
    struct host *h = ch->h;
    uint32_t v;

    if (!malice_occasion(h, HOST_MALICE_RING, ch->device))
        return;
    switch (malice_pick(h, 5)) {
    case 0:
    case 1:
        v = ch->out.shown = wild_index(h, &ch->out);
        __atomic_store_n(&ch->out.ctl->write_index, v, __ATOMIC_RELEASE);
        malice_told(h, "channel %u: write index %#x", ch->relid, v);
        break;
    case 2:
        v = ch->in.shown = wild_index(h, &ch->in);
        __atomic_store_n(&ch->in.ctl->read_index, v, __ATOMIC_RELEASE);
        malice_told(h, "channel %u: read index %#x", ch->relid, v);
        ch->dead = true;                          /* what the guest now writes over was not read, and never is */
        break;
    case 3:
        v = malice_value(h);
        __atomic_store_n(&ch->out.ctl->pending_send_bytes, v, __ATOMIC_RELEASE);
        malice_told(h, "channel %u: waits for %#x bytes", ch->relid, v);
        break;
    default:                                      /* the guest's own words: it has them elsewhere */
        v = malice_value(h);
        if (malice_pick(h, 2))
            overwrite(&ch->in, &ch->in.ctl->write_index, v);
        else
            overwrite(&ch->out, &ch->out.ctl->read_index, v);
        malice_told(h, "channel %u: the guest's own index is now %#x", ch->relid, v);
        break;
    }
    ch->interrupt = true;
}

/* ---- frames and ids --------------------------------------------------------------------------------- */

static void bend_frame(struct host *h, uint8_t *packet, uint32_t bytes)
{
    struct vmbus_packet_header f;
    const char *what;

    memcpy(&f, packet, sizeof(f));
    switch (malice_pick(h, 4)) {
    case 0:
        f.length8 = (uint16_t)(malice_pick(h, 2) ? malice_value(h) : bytes / 8 + 1 + malice_pick(h, 600));
        what = "length";
        break;
    case 1:
        f.data_offset8 = (uint16_t)(malice_pick(h, 2) ? malice_value(h) : malice_pick(h, bytes / 8 + 2));
        what = "data offset";
        break;
    case 2:
        f.type = (uint16_t)(malice_pick(h, 2) ? malice_value(h) : malice_pick(h, 16));
        what = "type";
        break;
    default:
        f.flags = (uint16_t)malice_value(h);
        what = "flags";
        break;
    }
    memcpy(packet, &f, sizeof(f));
    malice_told(h, "%s of a packet: type %u, data at %u, length %u (true: %u), flags %#x", what, f.type,
                f.data_offset8 * 8u, f.length8 * 8u, bytes, f.flags);
}

static void remember(struct malice *m, uint64_t id)
{
    m->past[m->past_count++ % MALICE_IDS] = id;
}

static uint64_t wrong_id(struct host *h, uint64_t id)
{
    struct malice *m = &h->malice;

    switch (malice_pick(h, 4)) {
    case 0:
        return malice_value(h);
    case 1:
        return id + 1 + malice_pick(h, 3);
    case 2:
        return m->past_count != 0 ? m->past[malice_pick(h, m->past_count < MALICE_IDS ? m->past_count : MALICE_IDS)] : 0;
    default:
        return id ^ (1ull << malice_pick(h, 64));
    }
}

/* An id of a request that still runs would hand back memory that the model uses. */
static bool in_use(const struct host_chan *ch, uint64_t id)
{
    const struct host_scsi *s;

    list_for_each(node, &ch->h->scsi) {
        s = list_entry(node, struct host_scsi, node);
        if (s != ch->device)
            continue;
        list_for_each(other, &s->commands) {
            if (list_entry(other, struct scsi_cmd, node)->id == id)
                return true;
        }
    }
    return false;
}

static void lie_about_id(struct host_chan *ch, uint8_t *packet, uint32_t bytes)
{
    const uint32_t at = offsetof(struct vmbus_packet_header, transaction_id);
    struct host *h = ch->h;
    struct vmbus_packet_header f;
    uint64_t id;

    memcpy(&f, packet, sizeof(f));
    id = wrong_id(h, f.transaction_id);
    if (in_use(ch, id))
        id = ~id;
    switch (malice_pick(h, 3)) {
    case 0:
        malice_told(h, "channel %u: %#llx is answered twice", ch->relid, (unsigned long long)f.transaction_id);
        vchan_send_raw(ch, packet, bytes);
        break;
    case 1:
        malice_told(h, "channel %u: %#llx is answered instead of %#llx", ch->relid, (unsigned long long)id,
                    (unsigned long long)f.transaction_id);
        memcpy(packet + at, &id, 8);
        break;
    default:
        malice_told(h, "channel %u: %#llx is answered before %#llx", ch->relid, (unsigned long long)id,
                    (unsigned long long)f.transaction_id);
        memcpy(packet + at, &id, 8);
        vchan_send_raw(ch, packet, bytes);
        memcpy(packet + at, &f.transaction_id, 8);
        break;
    }
    vchan_send_raw(ch, packet, bytes);
}

/* The first of two waits for the second; both requests are done by then. True: nothing more is to be sent. */
static bool swap(struct host_chan *ch, uint8_t *packet, uint32_t bytes)
{
    const uint32_t at = offsetof(struct vmbus_packet_header, transaction_id);
    struct malice *m = &ch->h->malice;
    uint64_t a, b;

    if (m->held_bytes == 0) {
        if (!malice_occasion(ch->h, HOST_MALICE_SWAP, ch->device))
            return false;
        malice_told(ch->h, "channel %u: an answer waits for another", ch->relid);
        memcpy(m->held, packet, bytes);
        m->held_bytes = bytes;
        m->held_relid = ch->relid;
        return true;
    }
    if (m->held_relid != ch->relid)
        return false;
    memcpy(&a, m->held + at, 8);
    memcpy(&b, packet + at, 8);
    memcpy(m->held + at, &b, 8);
    memcpy(packet + at, &a, 8);
    vchan_send_raw(ch, m->held, m->held_bytes);
    vchan_send_raw(ch, packet, bytes);
    m->held_bytes = 0;
    return true;
}

/* Ranges of the receive buffer: count, offsets and lengths. */
static void bend_ranges(struct host *h, uint8_t *packet, uint32_t bytes)
{
    uint32_t at = FRAME_BYTES, v = malice_value(h);

    if (malice_pick(h, 4) != 0)
        at += 4 + 4 * (uint32_t)malice_pick(h, (bytes - FRAME_BYTES - 4) / 4);
    memcpy(packet + at, &v, 4);
    malice_told(h, "transfer packet has %#x at %u of %u", v, at, bytes);
}

static void bend_payload(struct host *h, uint8_t *packet, uint32_t *bytes)
{
    struct vmbus_packet_header f;
    uint32_t data_at;

    memcpy(&f, packet, sizeof(f));
    data_at = f.data_offset8 * 8u;
    *bytes = malice_pick(h, 2) ? data_at + 8 * (uint32_t)malice_pick(h, (*bytes - data_at) / 8 + 1)
                               : *bytes + 8 * (1 + (uint32_t)malice_pick(h, 64));
    f.length8 = (uint16_t)(*bytes / 8);
    memcpy(packet, &f, sizeof(f));
    malice_told(h, "payload of %u bytes", *bytes - data_at);
}

bool malice_send(struct host_chan *ch, const struct vmbus_packet_header *frame, const struct host_piece *type_header,
                 const struct host_piece *payload)
{
    struct host *h = ch->h;
    uint8_t *packet = h->malice.packet;
    uint32_t bytes = frame->length8 * 8u, data_at = frame->data_offset8 * 8u;
    bool completion = frame->type == VMBUS_PACKET_COMPLETION;

    if (!h->malice.on || bytes > MALICE_PACKET_MAX / 2)
        return false;
    memset(packet, 0, bytes + 1024);
    memcpy(packet, frame, sizeof(*frame));
    if (type_header != NULL)
        memcpy(packet + FRAME_BYTES, type_header->data, type_header->bytes);
    memcpy(packet + data_at, payload->data, payload->bytes);
    if (malice_occasion(h, HOST_MALICE_RESCIND, ch->device)) {
        h->malice.rescind = ch->primary != NULL && malice_pick(h, 2) ? ch->primary->relid : ch->relid;
        malice_told(h, "channel %u is rescinded with a packet on its way", h->malice.rescind);
    }
    if (completion) {
        bool again = malice_occasion(h, HOST_MALICE_ID, ch->device);
        if (again)
            lie_about_id(ch, packet, bytes);
        remember(&h->malice, frame->transaction_id);
        if (again || swap(ch, packet, bytes))
            return true;
        if (malice_occasion(h, HOST_MALICE_LENGTH, ch->device))
            bend_payload(h, packet, &bytes);
    } else if (frame->type == VMBUS_PACKET_TRANSFER_PAGES && malice_occasion(h, HOST_MALICE_RNDIS, ch->device)) {
        bend_ranges(h, packet, bytes);
    }
    if (malice_occasion(h, HOST_MALICE_FRAME, ch->device))
        bend_frame(h, packet, bytes);
    vchan_send_raw(ch, packet, bytes);
    return true;
}

/* ---- answers ---------------------------------------------------------------------------------------- */

enum host_fault_kind malice_complete(struct host_chan *ch, enum host_fault_point point, uint8_t *payload, uint32_t bytes,
                                     uint32_t error_at)
{
    enum host_fault_kind kind = HOST_FAULT_NONE;
    struct host *h = ch->h;
    uint32_t at, v;

    if (!h->malice.on)
        return kind;
    if (malice_occasion(h, HOST_MALICE_SILENCE, ch->device)) {
        malice_told(h, "channel %u: no answer at point %#x", ch->relid, point);
        return HOST_FAULT_DROP;
    }
    if (point == HOST_FAULT_STORVSP_IO)
        return kind;                              /* malice_srb lies there */
    if (error_at + 4 <= bytes && malice_occasion(h, HOST_MALICE_STATUS, ch->device)) {
        v = 2 + malice_value(h) / 2;              /* 0 and 1 are success, as protocols go */
        memcpy(payload + error_at, &v, 4);
        malice_told(h, "channel %u: status %#x at point %#x", ch->relid, v, point);
        kind = HOST_FAULT_ERROR;
    }
    if (point != HOST_FAULT_NETVSP_TX && bytes >= 8 && malice_occasion(h, HOST_MALICE_HANDSHAKE, ch->device)) {
        at = 2 * (uint32_t)malice_pick(h, (bytes - 2) / 2);
        v = malice_value(h);
        memcpy(payload + at, &v, at + 4 <= bytes ? 4 : 2);
        malice_told(h, "channel %u: %#x at %u of an answer at point %#x", ch->relid, v, at, point);
    }
    return kind;
}

bool malice_early(struct host_chan *ch, const struct host_packet *packet)
{
    struct vstor_packet v;
    struct host_piece payload = {&v, sizeof(v)};

    if (!ch->h->malice.on || packet->type == VMBUS_PACKET_COMPLETION || packet->bytes < sizeof(v))
        return false;
    memcpy(&v, packet->data, sizeof(v));
    if (v.operation != VSTOR_OP_EXECUTE_SRB || !malice_occasion(ch->h, HOST_MALICE_EARLY, ch->device))
        return false;
    malice_told(ch->h, "channel %u: %#llx is done without doing it", ch->relid, (unsigned long long)packet->id);
    v.operation = VSTOR_OP_COMPLETE_IO;
    v.flags = 0;
    v.srb.srb_status = SRB_STATUS_SUCCESS;
    v.srb.scsi_status = SCSI_STATUS_GOOD;
    v.srb.sense_bytes = 0;
    vchan_send(ch, VMBUS_PACKET_COMPLETION, 0, packet->id, NULL, &payload);
    return true;
}

/* What was not transferred: everything from there on. */
static void spoil(struct scsi_cmd *cmd, uint32_t from)
{
    uint8_t wrong[512];

    memset(wrong, 0xDB, sizeof(wrong));
    if (cmd->use != USE_PACKET_WRITE)
        return;
    while (from < cmd->srb.data_bytes) {
        uint32_t n = host_segs_copy_in(cmd->segs, cmd->seg_count, from, wrong,
                                       cmd->srb.data_bytes - from < sizeof(wrong) ? cmd->srb.data_bytes - from
                                                                                  : (uint32_t)sizeof(wrong));
        if (n == 0)
            return;
        from += n;
    }
}

static void lie_about_status(struct scsi_cmd *cmd, struct vstor_packet *v)
{
    static const uint8_t failures[] = {
        SRB_STATUS_PENDING, SRB_STATUS_ABORTED, SRB_STATUS_ERROR, SRB_STATUS_BUSY, SRB_STATUS_INVALID_REQUEST,
        SRB_STATUS_TIMEOUT, SRB_STATUS_BUS_RESET, SRB_STATUS_INTERNAL_ERROR, SRB_STATUS_NOT_POWERED,
        SRB_STATUS_BAD_FUNCTION, SRB_STATUS_NO_DEVICE, SRB_STATUS_INVALID_LUN, SRB_STATUS_REQUEST_FLUSHED, 0x3F,
    };
    static const uint8_t keys[] = {SCSI_KEY_NOT_READY, SCSI_KEY_MEDIUM_ERROR, SCSI_KEY_ILLEGAL_REQUEST,
                                   SCSI_KEY_UNIT_ATTENTION, SCSI_KEY_ABORTED_COMMAND, 4, 13};
    struct host *h = cmd->s->h;

    switch (malice_pick(h, 3)) {
    case 0:
        v->srb.srb_status = failures[malice_pick(h, HOST_COUNT(failures))];
        break;
    case 1:                                       /* busy, reservation conflict, task set full, and none that exists */
        v->srb.scsi_status = (uint8_t[]){8, 0x18, 0x28, 0x40, 0xFF}[malice_pick(h, 5)];
        break;
    default:
        v->srb.srb_status = SRB_STATUS_ERROR | 0x80;      /* sense is valid */
        v->srb.scsi_status = SCSI_STATUS_CHECK_CONDITION;
        v->srb.sense_bytes = (uint8_t)(malice_pick(h, 2) ? VSTOR_SENSE_MAX : 1 + malice_pick(h, 255));
        for (uint32_t i = 0; i < VSTOR_SENSE_MAX; i++)
            v->srb.sense[i] = (uint8_t)malice_pick(h, 256);
        v->srb.sense[0] = 0x70;
        v->srb.sense[2] = keys[malice_pick(h, sizeof(keys))];
        if (v->srb.sense_bytes < 14)
            v->srb.srb_status = SRB_STATUS_ERROR;
        break;
    }
    spoil(cmd, 0);
    malice_told(h, "%#llx: SRB status %#x, SCSI status %#x", (unsigned long long)cmd->id, v->srb.srb_status,
                v->srb.scsi_status);
}

static void lie_about_length(struct scsi_cmd *cmd, struct vstor_packet *v)
{
    struct host *h = cmd->s->h;
    uint32_t wanted = cmd->srb.data_bytes;

    if (wanted != 0 && malice_pick(h, 3) != 0) {
        v->srb.data_bytes = (uint32_t)malice_pick(h, wanted);
        if (malice_pick(h, 2))
            v->srb.srb_status = SRB_STATUS_DATA_OVERRUN;
        spoil(cmd, v->srb.data_bytes);
    } else {
        v->srb.data_bytes = wanted + 1 + malice_value(h) % (UINT32_MAX - wanted);
        v->srb.sense_bytes = (uint8_t)malice_pick(h, 256);
    }
    malice_told(h, "%#llx: %u bytes of %u", (unsigned long long)cmd->id, v->srb.data_bytes, wanted);
}

void malice_srb(struct scsi_cmd *cmd, struct vstor_packet *v)
{
    struct host *h = cmd->s->h;

    if (v->srb.srb_status != SRB_STATUS_SUCCESS)
        return;
    if (malice_occasion(h, HOST_MALICE_STATUS, cmd->s))
        lie_about_status(cmd, v);
    else if (malice_occasion(h, HOST_MALICE_LENGTH, cmd->s))
        lie_about_length(cmd, v);
}

bool malice_deaf(struct host_chan *ch)
{
    /* Most occasions are for single answers. */
    if (!ch->h->malice.on || !ch->signalled || ++ch->h->malice.chances % 8 != 0 ||
        !malice_occasion(ch->h, HOST_MALICE_SILENCE, ch->device))
        return false;
    malice_told(ch->h, "channel %u is not served any more", ch->relid);
    ch->held = ch->deaf = true;
    return true;
}

/* ---- received messages ------------------------------------------------------------------------------ */

void malice_rndis(struct host_nic *n, uint32_t section)
{
    struct host *h = n->h;
    uint32_t bytes = n->section[section].bytes, at, v;
    uint64_t buffer = (uint64_t)n->recv->pages * HV_PAGE_SIZE, start = (uint64_t)section * n->section_bytes;

    if (!malice_occasion(h, HOST_MALICE_RNDIS, n))
        return;
    for (uint64_t left = 1 + malice_pick(h, 3); left > 0; left--) {
        at = 4 * (uint32_t)malice_pick(h, bytes < 96 ? bytes / 4 : 24);
        v = malice_value(h);
        if (start + at + 4 <= buffer && (start + at) % HV_PAGE_SIZE <= HV_PAGE_SIZE - 4)
            memcpy(n->recv->page[(start + at) / HV_PAGE_SIZE] + (start + at) % HV_PAGE_SIZE, &v, 4);
        malice_told(h, "message of %u bytes has %#x at %u", bytes, v, at);
    }
    if (malice_pick(h, 4) == 0) {
        n->section[section].bytes = malice_value(h);
        malice_told(h, "message of %u bytes is said to have %u", bytes, n->section[section].bytes);
    }
}

bool malice_rndis_answer(struct host_nic *n, uint8_t *message, uint32_t bytes)
{
    struct host *h = n->h;
    const uint32_t status_at = offsetof(struct rndis_set_complete, status);    /* in all of them */
    uint32_t at, v;

    if (malice_occasion(h, HOST_MALICE_SILENCE, n)) {
        malice_told(h, "no RNDIS answer");
        return false;
    }
    if (malice_occasion(h, HOST_MALICE_STATUS, n)) {
        v = 2 + malice_value(h) / 2;              /* 0 and 1 are success, as protocols go */
        memcpy(message + status_at, &v, 4);
        malice_told(h, "RNDIS status %#x", v);
    }
    if (malice_occasion(h, HOST_MALICE_HANDSHAKE, n)) {
        for (uint64_t left = 1 + malice_pick(h, 2); left > 0; left--) {
            at = 4 * (uint32_t)malice_pick(h, bytes / 4);
            v = malice_value(h);
            memcpy(message + at, &v, 4);
            malice_told(h, "RNDIS answer of %u bytes has %#x at %u", bytes, v, at);
        }
    }
    return true;
}
