/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * netvsp_rx.c: messages to the guest: the receive buffer is cut into sections, a message takes one, several
 * go in one transfer-page packet, and the guest's completion of that packet gives all of its sections back.
 *
 *   free --host_net_rx, control--> queued --netvsp_output--> with the guest --completion--> free
 *
 * The transaction id of a packet is the number of its first section plus one; the sections of a packet are
 * chained. They come back by the channel that they went by: to other channels the number is unknown. The queues that
 * the guest's table names share the sections evenly, so that one that does not keep up leaves the others theirs.
 */
#include "tests/host/netvsp.h"

bool netvsp_make_sections(struct host_nic *n)
{
    uint32_t bytes = n->cfg.sub_allocation_bytes;
    uint32_t data = n->cfg.rx_data_offset < 256 ? 256 : n->cfg.rx_data_offset;

    if (bytes == 0)
        bytes = data + n->frame_bytes + 36;
    n->section_bytes = bytes;
    n->sections = n->recv->byte_count / bytes;
    if (n->sections < NETVSP_CONTROL_SECTIONS + n->cfg.max_queues)
        return false;
    n->section = host_alloc(n->h, n->sections * sizeof(*n->section));
    if (n->section == NULL)
        return false;
    for (uint32_t i = 0; i < n->sections; i++)
        n->section[i].next = i + 1 < n->sections ? i + 1 : NETVSP_NONE;
    n->free_first = 0;
    n->free_count = n->sections;
    n->held = 0;
    return true;
}

void netvsp_drop_sections(struct host_nic *n)
{
    host_free(n->h, n->section);
    n->section = NULL;
    n->sections = n->free_count = n->held = 0;
    n->free_first = NETVSP_NONE;
    for (uint32_t i = 0; i < HOST_MAX_CHANNELS; i++) {
        n->queue[i].first = n->queue[i].last = NETVSP_NONE;
        n->queue[i].count = n->queue[i].used = 0;
    }
}

static uint32_t take_section(struct host_nic *n)
{
    uint32_t i = n->free_first;

    n->free_first = n->section[i].next;
    n->free_count--;
    return i;
}

static void free_section(struct host_nic *n, uint32_t i)
{
    if (n->section[i].state != SECTION_QUEUED)
        n->held--;
    n->queue[n->section[i].queue].used--;
    n->section[i].state = SECTION_FREE;
    n->section[i].next = n->free_first;
    n->free_first = i;
    n->free_count++;
}

bool netvsp_section_returned(struct host_nic *n, uint32_t queue, uint64_t id)
{
    uint32_t i;

    if (n->section == NULL)
        return true;                             /* the buffer was revoked meanwhile */
    if (id == 0 || id > n->sections || n->section[id - 1].state != SECTION_GUEST_FIRST ||
        n->section[id - 1].queue != queue)
        return false;
    i = (uint32_t)id - 1;
    while (i != NETVSP_NONE) {
        uint32_t next = n->section[i].next;
        free_section(n, i);
        i = next;
    }
    return true;
}

/* What a closed channel took with it can't be given back any more: it is the host's again. */
void netvsp_drop_queue(struct host_nic *n, uint32_t queue)
{
    for (uint32_t i = 0; n->section != NULL && i < n->sections; i++) {
        if (n->section[i].state != SECTION_FREE && n->section[i].queue == queue)
            free_section(n, i);
    }
    n->queue[queue] = (struct netvsp_queue){.first = NETVSP_NONE, .last = NETVSP_NONE};
}

/* Writes into the receive buffer, page by page. */
static void put(struct host_nic *n, uint32_t at, const void *data, uint32_t bytes)
{
    const uint8_t *p = data;

    while (bytes > 0) {
        uint32_t offset = at % HV_PAGE_SIZE;
        uint32_t part = HV_PAGE_SIZE - offset < bytes ? HV_PAGE_SIZE - offset : bytes;
        memcpy(n->recv->page[at / HV_PAGE_SIZE] + offset, p, part);
        p += part;
        at += part;
        bytes -= part;
    }
}

static void queue_section(struct host_nic *n, struct netvsp_queue *q, uint32_t i, uint32_t bytes,
                          bool control)
{
    n->section[i] = (struct netvsp_section){
        .bytes = bytes, .next = NETVSP_NONE, .state = SECTION_QUEUED, .control = control,
        .queue = (uint8_t)(q - n->queue),
    };
    malice_rndis(n, i);
    q->used++;
    if (q->count == 0)
        q->first = i;
    else
        n->section[q->last].next = i;
    q->last = i;
    q->count++;
    vchan_queue(q->ch);
}

/* ---- towards the guest ------------------------------------------------------------------------------ */

/* The part of a message that lies in its section's first page. */
static void trace_section(struct host_nic *n, uint32_t i)
{
    uint32_t at = i * n->section_bytes, left = HV_PAGE_SIZE - at % HV_PAGE_SIZE;

    host_trace_bytes(n->h, "rndis", n->recv->page[at / HV_PAGE_SIZE] + at % HV_PAGE_SIZE,
                     n->section[i].bytes < left ? n->section[i].bytes : left);
}

static void send_batch(struct host_nic *n, struct netvsp_queue *q)
{
    struct {
        uint16_t set_id;
        uint8_t sender_owns, reserved;
        uint32_t count;
        struct vmbus_transfer_range range[375];
    } head;
    struct nvsp_message m = {.type = NVSP_SEND_RNDIS_PACKET};
    struct host_piece ranges, payload = {&m, nvsp_bytes(n)};
    uint32_t i = q->first, first = i, last = i;

    head.set_id = n->recv_id;
    head.sender_owns = head.reserved = 0;
    head.count = 0;
    m.rndis.channel_type = n->section[i].control ? NVSP_CHANNEL_CONTROL : NVSP_CHANNEL_DATA;
    m.rndis.section_index = NVSP_SECTION_NONE;
    while (i != NETVSP_NONE && head.count < n->cfg.rx_batch && head.count < HOST_COUNT(head.range) &&
           n->section[i].control == n->section[first].control) {
        head.range[head.count++] = (struct vmbus_transfer_range){n->section[i].bytes, i * n->section_bytes};
        trace_section(n, i);
        n->section[i].state = i == first ? SECTION_GUEST_FIRST : SECTION_GUEST;
        last = i;
        i = n->section[i].next;
    }
    n->section[last].next = NETVSP_NONE;
    q->first = i;
    q->count -= head.count;
    n->held += head.count;
    n->h->counters.rx_packets++;
    ranges = (struct host_piece){&head, 8 + 8 * head.count};
    vchan_send(q->ch, VMBUS_PACKET_TRANSFER_PAGES, VMBUS_PACKET_FLAG_COMPLETION, (uint64_t)first + 1, &ranges,
               &payload);
}

void netvsp_output(struct host_chan *ch)
{
    struct host_nic *n = ch->device;
    struct netvsp_queue *q = &n->queue[ch->queue];

    while (n->section != NULL && q->ch == ch && q->count != 0 && ch->owed == NULL)
        send_batch(n, q);
}

void netvsp_send_control(struct host_nic *n, const void *message, uint32_t bytes)
{
    uint32_t i;

    if (n->section == NULL || n->queue[0].ch == NULL)
        return;
    if (n->free_count == 0 || bytes > n->section_bytes) {
        host_strict(n->h, message, bytes,
                    "netvsp: no receive section for a control message: the guest keeps all");
        return;
    }
    i = take_section(n);
    put(n, i * n->section_bytes, message, bytes);
    queue_section(n, &n->queue[0], i, bytes, true);
}

/* ---- frames ----------------------------------------------------------------------------------------- */

static bool wanted(const struct host_nic *n, const uint8_t *head)
{
    static const uint8_t broadcast[6] = {255, 255, 255, 255, 255, 255};

    if (n->filter & NDIS_FILTER_PROMISCUOUS)
        return true;
    if (memcmp(head, broadcast, 6) == 0)
        return (n->filter & NDIS_FILTER_BROADCAST) != 0;
    if (head[0] & 1)
        return (n->filter & (NDIS_FILTER_MULTICAST | NDIS_FILTER_ALL_MULTICAST)) != 0;
    return (n->filter & NDIS_FILTER_DIRECTED) && memcmp(head, n->cfg.mac, 6) == 0;
}

static bool rx_on(uint8_t value)
{
    return value == NDIS_OFFLOAD_RX || value == NDIS_OFFLOAD_TX_RX;
}

static bool ip_header_good(const uint8_t *head, const struct netvsp_headers *f)
{
    struct host_seg seg = {(uint8_t *)(uintptr_t)head, f->transport};

    return netvsp_sum(&seg, 1, f->ip, f->transport - f->ip) == 0xFFFF;
}

static bool transport_good(const struct host_frame *frame, const uint8_t *head,
                           const struct netvsp_headers *f)
{
    uint32_t bytes = f->end - f->transport;
    uint16_t sum = netvsp_sum(frame->segs, frame->seg_count, f->transport, bytes);

    if (f->udp && f->ipv4 && head[f->transport + 6] == 0 && head[f->transport + 7] == 0)
        return true;                             /* UDP over IPv4 without a checksum */
    return netvsp_sum_add(sum, netvsp_pseudo_sum(head, f, bytes)) == 0xFFFF;
}

/* What the guest is told about checksums: only what was switched on, and only what was looked at. */
static uint32_t rx_checksum(const struct host_nic *n, const struct host_frame *frame, const uint8_t *head,
                            const struct netvsp_headers *f, bool checked)
{
    const struct ndis_offload_parameters *o = &n->offload;
    uint32_t flags = 0;
    bool good;

    if (f->ipv4 && rx_on(o->ipv4_checksum))
        flags |= checked || ip_header_good(head, f) ? RNDIS_RX_CHECKSUM_IP_OK : RNDIS_RX_CHECKSUM_IP_FAILED;
    if (f->fragment)
        return flags;
    if (f->tcp && rx_on(f->ipv4 ? o->tcp_ipv4_checksum : o->tcp_ipv6_checksum)) {
        good = checked || transport_good(frame, head, f);
        flags |= good ? RNDIS_RX_CHECKSUM_TCP_OK : RNDIS_RX_CHECKSUM_TCP_FAILED;
    }
    if (f->udp && rx_on(f->ipv4 ? o->udp_ipv4_checksum : o->udp_ipv6_checksum)) {
        good = checked || transport_good(frame, head, f);
        flags |= good ? RNDIS_RX_CHECKSUM_UDP_OK : RNDIS_RX_CHECKSUM_UDP_FAILED;
    }
    return flags;
}

static uint32_t add_ppi(uint8_t *at, uint32_t type, uint32_t value)
{
    struct rndis_ppi_word w = {{sizeof(w), type, sizeof(struct rndis_ppi)}, value};

    memcpy(at, &w, sizeof(w));
    return sizeof(w);
}

static uint32_t vlan_word(uint16_t tci)
{
    return (uint32_t)(tci >> 13) | (uint32_t)((tci >> 12) & 1) << 3 |
           ((uint32_t)tci & RNDIS_VLAN_ID_MASK) << RNDIS_VLAN_ID_SHIFT;
}

/* Packets without a hash, and those for a channel that is not open, go by the primary. */
static uint32_t choose_queue(const struct host_nic *n, bool hashed, uint32_t hash)
{
    uint32_t q;

    if (!hashed)
        return 0;
    q = n->rss_table[hash % n->rss_entries];
    return netvsp_queue_open(n, q) ? q : 0;
}

static bool queue_has_room(const struct host_nic *n, uint32_t queue)
{
    uint32_t share = n->sections - NETVSP_CONTROL_SECTIONS;

    if (n->rss)
        share /= n->rss_queue_count;
    return n->free_count > NETVSP_CONTROL_SECTIONS && n->queue[queue].used < share;
}

bool host_net_rx_room(const struct host_nic *n)
{
    uint64_t queues = n->rss ? n->rss_queues : 1;

    for (; n->section != NULL && queues != 0; queues &= queues - 1) {
        if (!queue_has_room(n, (uint32_t)__builtin_ctzll(queues)))
            return false;
    }
    return true;
}

bool host_net_rx(struct host_nic *n, const struct host_frame *frame, bool checked)
{
    uint8_t head[NETVSP_HEADER_MAX], rndis[sizeof(struct rndis_packet) + 3 * sizeof(struct rndis_ppi_word)];
    struct rndis_packet p = {.header = {.type = RNDIS_PACKET}};
    struct netvsp_headers f;
    uint32_t got, i, base, data_at, ppis = sizeof(p), hash = 0, queue;
    bool parsed, hashed;

    got = host_segs_copy_out(frame->segs, frame->seg_count, 0, head, sizeof(head));
    if (n->section == NULL || n->primary == NULL || !n->primary->open || !n->initialized || n->halted ||
        got < 14 || !n->link_up || frame->bytes > n->frame_bytes || !wanted(n, head)) {
        n->h->counters.rx_dropped++;
        return true;
    }
    parsed = netvsp_parse(head, got, frame->bytes, &f);
    hashed = parsed && n->rss && netvsp_hash(n, head, &f, &hash);
    queue = choose_queue(n, hashed, hash);
    if (!queue_has_room(n, queue))
        return false;
    if (parsed)
        ppis += add_ppi(rndis + ppis, RNDIS_PPI_CHECKSUM, rx_checksum(n, frame, head, &f, checked));
    if (hashed)
        ppis += add_ppi(rndis + ppis, RNDIS_PPI_HASH, hash);
    if (frame->has_vlan)
        ppis += add_ppi(rndis + ppis, RNDIS_PPI_VLAN, vlan_word(frame->vlan_tci));
    data_at = n->cfg.rx_data_offset > ppis ? n->cfg.rx_data_offset : (ppis + 7) & ~7u;
    if (data_at > n->section_bytes || frame->bytes > n->section_bytes - data_at) {
        n->h->counters.rx_dropped++;
        return true;
    }
    p.header.length = n->cfg.rx_length_is_sub_allocation ? n->section_bytes : data_at + frame->bytes;
    p.data_offset = data_at - RNDIS_OFFSET_BASE;
    p.data_length = frame->bytes;
    p.ppi_length = ppis - (uint32_t)sizeof(p);
    p.ppi_offset = p.ppi_length != 0 ? (uint32_t)sizeof(p) - RNDIS_OFFSET_BASE : 0;
    memcpy(rndis, &p, sizeof(p));

    i = take_section(n);
    base = i * n->section_bytes;
    put(n, base, rndis, ppis);
    base += data_at;
    for (uint32_t s = 0; s < frame->seg_count; s++) {
        put(n, base, frame->segs[s].data, frame->segs[s].bytes);
        base += frame->segs[s].bytes;
    }
    n->h->counters.rx_frames++;
    n->h->counters.rx_bytes += frame->bytes;
    queue_section(n, &n->queue[queue], i, p.header.length, false);
    return true;
}
