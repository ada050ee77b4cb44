/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * netvsp_tx.c: RNDIS messages from the guest. A packet's message lies in a send section, in guest pages, or
 * begins in a section and goes on in pages; a section may hold several data messages in succession.
 *
 * What goes to the backend is a finished frame: headers whose checksums or lengths must be filled are copied
 * first, so the guest's memory is only read. When the backend has no room the packet stays in the ring and
 * is looked at again later; ch->resume counts its frames that are already out.
 */
#include "tests/host/netvsp.h"

#define TCP_FIN_PSH 0x09u

/* A packet while it is being sent. */
struct outgoing {
    struct host_nic *n;
    struct host_chan *ch;
    struct host_seg *segs;          /* h->tx_segs */
    uint32_t seg_count, bytes;
    uint32_t emitted;               /* frames offered so far, those of an earlier try included */
    bool failed;                    /* the guest's mistake: the completion says so */
};

/* What one data message asks for. */
struct request {
    uint32_t frame_at, frame_bytes; /* in the packet */
    bool has_checksum, has_lso, has_vlan;
    uint32_t checksum, lso, vlan;
};

static void bad(struct outgoing *o, const void *bytes, uint32_t len, const char *what)
{
    host_violation(o->n->h, bytes, len, "netvsp: data message: %s", what);
    o->failed = true;
}

/* ---- where the message lies ------------------------------------------------------------------------- */

static bool add_section(struct outgoing *o, const struct nvsp_rndis_packet *r)
{
    struct host_nic *n = o->n;
    uint32_t at, left = r->section_bytes;

    if (n->send == NULL || r->section_index >= n->send_sections || left > n->cfg.send_section_bytes ||
        left == 0)
        return false;
    at = r->section_index * n->cfg.send_section_bytes;
    while (left > 0) {
        uint32_t offset = at % HV_PAGE_SIZE;
        uint32_t part = HV_PAGE_SIZE - offset < left ? HV_PAGE_SIZE - offset : left;
        o->segs[o->seg_count++] = (struct host_seg){n->send->page[at / HV_PAGE_SIZE] + offset, part};
        at += part;
        left -= part;
    }
    return true;
}

static bool gather(struct outgoing *o, const struct host_packet *p, const struct nvsp_message *m)
{
    uint32_t more = 0;

    if (m->rndis.section_index != NVSP_SECTION_NONE) {
        if (!add_section(o, &m->rndis)) {
            host_violation(o->n->h, m, 16, "netvsp: send section %u, %u bytes", m->rndis.section_index,
                           m->rndis.section_bytes);
            return false;
        }
    } else if (m->rndis.section_bytes != 0) {
        host_strict(o->n->h, m, 16, "netvsp: section bytes without a section");
    }
    if (p->range_count != 0) {
        if (!vchan_map_ranges(o->ch, p, USE_PACKET_READ, o->segs + o->seg_count, HOST_TX_SEGS - o->seg_count,
                              &more))
            return false;
        o->seg_count += more;
        o->n->h->counters.tx_referenced++;
    }
    for (uint32_t i = 0; i < o->seg_count; i++)
        o->bytes += o->segs[i].bytes;
    return o->bytes != 0;
}

/* ---- frames out ------------------------------------------------------------------------------------- */

/* false: no room now. */
static bool emit(struct outgoing *o, struct host_frame *frame)
{
    struct host_counters *c = &o->n->h->counters;

    if (o->emitted++ < o->ch->resume)
        return true;
    frame->bytes = 0;
    for (uint32_t i = 0; i < frame->seg_count; i++)
        frame->bytes += frame->segs[i].bytes;
    if (!o->n->link_up) {
        o->ch->resume = o->emitted;
        return true;
    }
    if (!o->n->ops->tx(o->n->backend, frame)) {
        o->ch->resume = o->emitted - 1;
        return false;
    }
    o->ch->resume = o->emitted;
    c->tx_frames++;
    c->tx_bytes += frame->bytes;
    return true;
}

/* Adds [at, at + bytes) of the packet to a list that begins with the copied header. */
static uint32_t slice(const struct outgoing *o, uint32_t at, uint32_t bytes, struct host_seg *out,
                      uint32_t used)
{
    for (uint32_t i = 0; i < o->seg_count && bytes > 0; i++) {
        uint32_t part;
        if (at >= o->segs[i].bytes) {
            at -= o->segs[i].bytes;
            continue;
        }
        part = o->segs[i].bytes - at < bytes ? o->segs[i].bytes - at : bytes;
        out[used++] = (struct host_seg){o->segs[i].data + at, part};
        bytes -= part;
        at = 0;
    }
    return used;
}

static void put16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

static uint16_t get16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

static void fill_ip_checksum(uint8_t *head, const struct netvsp_headers *f)
{
    struct host_seg seg = {head, f->transport};

    put16(head + f->ip + 10, 0);
    put16(head + f->ip + 10, (uint16_t)~netvsp_sum(&seg, 1, f->ip, f->transport - f->ip));
}

/* The frame is segs; its first piece is the copied header, which gets the checksum. */
static void fill_transport_checksum(struct host_seg *segs, uint32_t count, const struct netvsp_headers *f)
{
    uint8_t *field = segs[0].data + f->transport + (f->tcp ? 16 : 6);
    uint32_t bytes = f->end - f->transport;
    uint16_t sum;

    put16(field, 0);
    sum = netvsp_sum_add(netvsp_sum(segs, count, f->transport, bytes),
                         netvsp_pseudo_sum(segs[0].data, f, bytes));
    sum = (uint16_t)~sum;
    put16(field, sum == 0 && f->udp ? 0xFFFF : sum);
}

static bool tx_on(uint8_t value)
{
    return value == NDIS_OFFLOAD_TX || value == NDIS_OFFLOAD_TX_RX;
}

/* Did the guest switch on what it asks for, and do the headers fit? NULL: yes. */
static const char *check_checksum(const struct host_nic *n, const struct request *r,
                                  const struct netvsp_headers *f, const uint8_t *head)
{
    const struct ndis_offload_parameters *off = &n->offload;
    uint32_t at = r->checksum >> RNDIS_TX_CHECKSUM_HEADER_SHIFT & RNDIS_TX_CHECKSUM_HEADER_MASK;
    bool tcp = (r->checksum & RNDIS_TX_CHECKSUM_TCP) != 0, udp = (r->checksum & RNDIS_TX_CHECKSUM_UDP) != 0;

    if (!(r->checksum & RNDIS_TX_CHECKSUM_IPV4) == f->ipv4 ||
        !(r->checksum & RNDIS_TX_CHECKSUM_IPV6) == f->ipv6)
        return "checksum request names the wrong IP version";
    if ((r->checksum & RNDIS_TX_CHECKSUM_IP_HEADER) && (!f->ipv4 || !tx_on(off->ipv4_checksum)))
        return "IP header checksum asked for, not switched on";
    if (!tcp && !udp)
        return NULL;
    if (tcp != f->tcp || udp != f->udp)
        return "checksum request names the wrong protocol";
    if (at != f->transport)
        return "checksum request: header offset";
    if (tcp && !tx_on(f->ipv4 ? off->tcp_ipv4_checksum : off->tcp_ipv6_checksum))
        return "TCP checksum asked for, not switched on";
    if (udp && !tx_on(f->ipv4 ? off->udp_ipv4_checksum : off->udp_ipv6_checksum))
        return "UDP checksum asked for, not switched on";
    if (get16(head + f->transport + (tcp ? 16 : 6)) != netvsp_pseudo_sum(head, f, f->end - f->transport))
        return "checksum field is not the pseudo-header sum";
    return NULL;
}

static bool send_plain(struct outgoing *o, const struct request *r)
{
    uint8_t head[NETVSP_HEADER_MAX];
    struct host_seg *segs = o->n->h->frame_segs;
    struct host_frame frame = {.segs = segs, .has_vlan = r->has_vlan, .vlan_tci = (uint16_t)r->vlan};
    struct netvsp_headers f;
    uint32_t got;
    const char *why;

    if (r->frame_bytes > o->n->frame_bytes) {
        bad(o, NULL, 0, "frame longer than the MTU");
        return true;
    }
    if (!r->has_checksum || r->checksum == 0) {
        frame.seg_count = slice(o, r->frame_at, r->frame_bytes, segs, 0);
        return emit(o, &frame);
    }
    got = host_segs_copy_out(o->segs, o->seg_count, r->frame_at, head,
                             r->frame_bytes < sizeof(head) ? r->frame_bytes : (uint32_t)sizeof(head));
    why = "checksum of what is not IP";
    if (netvsp_parse(head, got, r->frame_bytes, &f))
        why = check_checksum(o->n, r, &f, head);
    if (why != NULL) {
        bad(o, head, got, why);
        return true;
    }
    segs[0] = (struct host_seg){head, got};
    frame.seg_count = slice(o, r->frame_at + got, r->frame_bytes - got, segs, 1);
    if (r->checksum & (RNDIS_TX_CHECKSUM_TCP | RNDIS_TX_CHECKSUM_UDP))
        fill_transport_checksum(segs, frame.seg_count, &f);
    if (r->checksum & RNDIS_TX_CHECKSUM_IP_HEADER)
        fill_ip_checksum(head, &f);
    return emit(o, &frame);
}

/* ---- segmentation ----------------------------------------------------------------------------------- */

static const char *check_lso(const struct outgoing *o, const struct request *r, const uint8_t *head,
                             uint32_t got, struct netvsp_headers *f, uint32_t *header_bytes)
{
    const struct ndis_offload_parameters *off = &o->n->offload;
    uint32_t at = r->lso >> RNDIS_LSO_HEADER_SHIFT & RNDIS_LSO_HEADER_MASK;
    bool v6 = (r->lso & RNDIS_LSO_IPV6) != 0;

    if (!netvsp_parse(head, got, r->frame_bytes, f) || !f->tcp)
        return "segmentation of what is not TCP";
    if (!(r->lso & RNDIS_LSO_TYPE_V2) || v6 != f->ipv6)
        return "segmentation request: type or IP version";
    if ((v6 ? off->lso_v2_ipv6 : off->lso_v2_ipv4) != NDIS_OFFLOAD_LSO_ON)
        return "segmentation asked for, not switched on";
    if (get16(head + (v6 ? f->ip + 4 : f->ip + 2)) != 0)
        return "segmentation: IP length must be 0";
    if (at != f->transport || (r->lso & RNDIS_LSO_MSS_MASK) == 0 ||
        r->frame_bytes > o->n->cfg.lso_max_bytes + 14)
        return "segmentation: header offset, MSS or length";
    *header_bytes = f->transport + (head[f->transport + 12] >> 4) * 4u;
    if (*header_bytes < f->transport + 20 || *header_bytes > got || *header_bytes >= r->frame_bytes)
        return "segmentation: TCP header length";
    if (get16(head + f->transport + 16) != netvsp_pseudo_sum(head, f, 0))
        return "segmentation: checksum field is not the pseudo-header sum with length 0";
    if (*header_bytes + (r->lso & RNDIS_LSO_MSS_MASK) > o->n->frame_bytes)
        return "segmentation: MSS larger than the MTU";
    return NULL;
}

static bool send_segments(struct outgoing *o, const struct request *r)
{
    uint8_t original[NETVSP_HEADER_MAX], head[NETVSP_HEADER_MAX];
    struct host_seg *segs = o->n->h->frame_segs;
    struct host_frame frame = {.segs = segs, .has_vlan = r->has_vlan, .vlan_tci = (uint16_t)r->vlan};
    struct netvsp_headers f;
    uint32_t header = 0, mss = r->lso & RNDIS_LSO_MSS_MASK, got, done = 0, payload, sequence, number = 0;
    const char *why;

    got = host_segs_copy_out(o->segs, o->seg_count, r->frame_at, original,
                             r->frame_bytes < sizeof(original) ? r->frame_bytes : (uint32_t)sizeof(original));
    why = check_lso(o, r, original, got, &f, &header);
    if (why != NULL) {
        bad(o, original, got, why);
        return true;
    }
    payload = r->frame_bytes - header;
    sequence = (uint32_t)get16(original + f.transport + 4) << 16 | get16(original + f.transport + 6);
    for (; done < payload; done += mss, number++) {
        uint32_t part = payload - done < mss ? payload - done : mss;
        memcpy(head, original, header);
        f.end = header + part;
        if (f.ipv4) {
            put16(head + f.ip + 2, (uint16_t)(f.end - f.ip));
            put16(head + f.ip + 4, (uint16_t)(get16(original + f.ip + 4) + number));
            fill_ip_checksum(head, &f);
        } else {
            put16(head + f.ip + 4, (uint16_t)(f.end - f.ip - 40));
        }
        put16(head + f.transport + 4, (uint16_t)((sequence + done) >> 16));
        put16(head + f.transport + 6, (uint16_t)(sequence + done));
        if (done + part < payload)
            head[f.transport + 13] &= (uint8_t)~TCP_FIN_PSH;
        segs[0] = (struct host_seg){head, header};
        frame.seg_count = slice(o, r->frame_at + header + done, part, segs, 1);
        fill_transport_checksum(segs, frame.seg_count, &f);
        if (!emit(o, &frame))
            return false;
    }
    return true;
}

/* ---- messages --------------------------------------------------------------------------------------- */

static uint16_t tci_of(uint32_t word)
{
    return (uint16_t)((word & RNDIS_VLAN_PRIORITY_MASK) << 13 | (word & 8) << 9 |
                      (word >> RNDIS_VLAN_ID_SHIFT & RNDIS_VLAN_ID_MASK));
}

static const char *parse_ppis(const uint8_t *area, uint32_t bytes, struct request *r)
{
    uint32_t at = 0;

    while (at < bytes) {
        struct rndis_ppi ppi;
        uint32_t value;
        if (sizeof(ppi) > bytes - at)
            return "per-packet information is cut";
        memcpy(&ppi, area + at, sizeof(ppi));
        if (ppi.bytes < sizeof(ppi) + 4 || ppi.bytes > bytes - at || ppi.data_offset < sizeof(ppi) ||
            ppi.data_offset > ppi.bytes - 4 || ppi.bytes % 4 != 0)
            return "per-packet information: sizes";
        memcpy(&value, area + at + ppi.data_offset, 4);
        at += ppi.bytes;
        if (ppi.type == RNDIS_PPI_CHECKSUM) {
            r->has_checksum = true;
            r->checksum = value;
        } else if (ppi.type == RNDIS_PPI_LSO) {
            r->has_lso = true;
            r->lso = value;
        } else if (ppi.type == RNDIS_PPI_VLAN) {
            r->has_vlan = true;
            r->vlan = tci_of(value);
        } else if (ppi.type != RNDIS_PPI_HASH) {
            return "per-packet information of unknown type";
        }
    }
    return r->has_lso && r->has_checksum ? "checksum and segmentation together" : NULL;
}

/* Checks one message at `at`; fills the request. */
static const char *parse_message(struct outgoing *o, uint32_t at, const struct rndis_packet *p,
                                 struct request *r)
{
    uint8_t area[NETVSP_HEADER_MAX];
    uint32_t length = p->header.length;

    memset(r, 0, sizeof(*r));
    if (p->header.type != RNDIS_PACKET || length < sizeof(*p) || length > o->bytes - at)
        return "type or length";
    if (p->oob_offset != 0 || p->oob_length != 0 || p->oob_count != 0 || p->vc_handle != 0 ||
        p->reserved != 0)
        return "out-of-band fields must be 0";
    if (p->data_length < 14 || p->data_offset > length - RNDIS_OFFSET_BASE ||
        p->data_length > length - RNDIS_OFFSET_BASE - p->data_offset ||
        p->data_offset + RNDIS_OFFSET_BASE < sizeof(*p))
        return "data offset or length";
    if (p->ppi_length != 0 &&
        (p->ppi_offset + RNDIS_OFFSET_BASE < sizeof(*p) || p->ppi_offset > p->data_offset ||
         p->ppi_length > p->data_offset - p->ppi_offset || p->ppi_length > sizeof(area)))
        return "per-packet information offset or length";
    r->frame_at = at + RNDIS_OFFSET_BASE + p->data_offset;
    r->frame_bytes = p->data_length;
    if (p->ppi_length == 0)
        return NULL;
    host_segs_copy_out(o->segs, o->seg_count, at + RNDIS_OFFSET_BASE + p->ppi_offset, area, p->ppi_length);
    return parse_ppis(area, p->ppi_length, r);
}

/* The headers of a message in pages must lie in the first range. */
static void check_first_range(struct outgoing *o, const struct host_packet *p, const struct nvsp_message *m,
                              const struct rndis_packet *rndis)
{
    uint32_t first;

    if (m->rndis.section_index != NVSP_SECTION_NONE || p->range_count == 0)
        return;
    memcpy(&first, p->ranges, 4);
    if (first < sizeof(*rndis) || (rndis->ppi_length != 0 &&
                                   first < RNDIS_OFFSET_BASE + rndis->ppi_offset + rndis->ppi_length))
        host_strict(o->n->h, p->ranges, 16,
                    "netvsp: RNDIS header and PPIs are not inside the first page range");
}

/* false: the backend has no room. */
static bool send_messages(struct outgoing *o, const struct host_packet *p, const struct nvsp_message *m)
{
    uint32_t at = 0, count = 0;

    while (at < o->bytes && !o->failed) {
        struct rndis_packet rndis;
        struct request r;
        const char *why;
        if (host_segs_copy_out(o->segs, o->seg_count, at, &rndis, sizeof(rndis)) != sizeof(rndis)) {
            bad(o, NULL, 0, "trailing bytes are no message");
            break;
        }
        why = parse_message(o, at, &rndis, &r);
        if (why == NULL && ++count > o->n->cfg.max_packets_per_message)
            why = "too many in one packet";
        if (why == NULL && at + rndis.header.length < o->bytes &&
            rndis.header.length % (1u << o->n->cfg.alignment_factor) != 0)
            why = "one of several is not padded";
        if (why != NULL) {
            bad(o, &rndis, sizeof(rndis), why);
            break;
        }
        if (at == 0)
            check_first_range(o, p, m, &rndis);
        if (!(r.has_lso ? send_segments(o, &r) : send_plain(o, &r)))
            return false;
        at += rndis.header.length;
    }
    return true;
}

static enum host_take control(struct outgoing *o, const struct host_packet *p, struct nvsp_message *done)
{
    uint8_t message[NETVSP_CONTROL_MAX];

    if (o->ch->sub_index != 0 || o->bytes > sizeof(message)) {
        host_violation(o->n->h, NULL, 0, "netvsp: control message of %u bytes on channel %u", o->bytes,
                       o->ch->relid);
        return HOST_FATAL;
    }
    host_segs_copy_out(o->segs, o->seg_count, 0, message, o->bytes);
    if (!rndis_host_message(o->n, message, o->bytes))
        return HOST_FATAL;
    netvsp_complete(o->ch, p, done, nvsp_bytes(o->n), HOST_FAULT_NETVSP_REPLY);
    return HOST_TAKEN;
}

static enum host_take transmit(struct outgoing *o, const struct host_packet *p, const struct nvsp_message *m)
{
    struct nvsp_message done = {.type = NVSP_SEND_RNDIS_PACKET_COMPLETE};

    done.rndis_complete.status = NVSP_STATUS_SUCCESS;
    if (m->rndis.channel_type == NVSP_CHANNEL_CONTROL)
        return control(o, p, &done);
    if (m->rndis.channel_type != NVSP_CHANNEL_DATA || !o->n->initialized || o->n->halted) {
        host_violation(o->n->h, m, 16,
                       "netvsp: data of channel type %u, or before RNDIS INITIALIZE or after HALT",
                       m->rndis.channel_type);
        return HOST_FATAL;
    }
    if (!send_messages(o, p, m))
        return HOST_STALLED;
    o->ch->resume = 0;
    o->n->h->counters.tx_packets++;
    if (o->failed)
        done.rndis_complete.status = NVSP_STATUS_FAILURE;
    netvsp_complete(o->ch, p, &done, nvsp_bytes(o->n), HOST_FAULT_NETVSP_TX);
    return HOST_TAKEN;
}

enum host_take netvsp_transmit(struct host_chan *ch, const struct host_packet *p,
                               const struct nvsp_message *m)
{
    struct outgoing o = {.n = ch->device, .ch = ch, .segs = ch->h->tx_segs};
    enum host_take taken;

    if (!gather(&o, p, m))
        return HOST_FATAL;
    taken = transmit(&o, p, m);
    /* Frames are copied or on the wire now; a packet that comes again maps its pages again. */
    vchan_unmap_ranges(ch->h, USE_PACKET_READ, p->ranges, p->range_count);
    return taken;
}
