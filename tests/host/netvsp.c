/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * netvsp.c: the network server's NVSP side: version, NDIS configuration, buffers, sub-channels, and what
 * becomes of each packet. As strict as the strictest host: each message once, in its order, with the
 * completion it needs.
 */
#include "tests/host/netvsp.h"

static const struct guid netvsc_class = VMBUS_GUID_NETVSC;
static const uint32_t versions[] = {
    NVSP_VERSION_1, NVSP_VERSION_2, NVSP_VERSION_4, NVSP_VERSION_5, NVSP_VERSION_6, NVSP_VERSION_6_1,
};

bool netvsp_ready(const struct host_nic *n)
{
    return n->version != 0 && n->ndis_seen && (n->config_seen || n->version < NVSP_VERSION_2) &&
           n->recv != NULL && !n->revoked;
}

enum host_fault_kind netvsp_complete(struct host_chan *ch, const struct host_packet *p, struct nvsp_message *m,
                                     uint32_t bytes, enum host_fault_point point)
{
    uint32_t status_at = 4;

    if (!(p->flags & VMBUS_PACKET_FLAG_COMPLETION))
        return HOST_FAULT_NONE;
    if (m->type == NVSP_INIT_COMPLETE)
        status_at = offsetof(struct nvsp_message, init_complete.status);
    return vchan_complete(ch, point, p->id, m, bytes, status_at, NVSP_STATUS_FAILURE);
}

static enum host_fault_kind reply(struct host_chan *ch, const struct host_packet *p, struct nvsp_message *m)
{
    return netvsp_complete(ch, p, m, nvsp_bytes(ch->device), HOST_FAULT_NETVSP_REPLY);
}

/* ---- handshake -------------------------------------------------------------------------------------- */

static enum host_take init(struct host_chan *ch, const struct host_packet *p, const struct nvsp_message *m)
{
    struct host_nic *n = ch->device;
    struct nvsp_message out = {.type = NVSP_INIT_COMPLETE};

    if (n->version != 0) {                       /* the guest may have been told that it was refused */
        if (!malice_excuses(n->h, HOST_MALICE_HANDSHAKE, n))
            host_violation(n->h, m, 12, "netvsp: INIT after a version was agreed");
        return HOST_FATAL;
    }
    if (m->init.min_version != m->init.max_version)
        host_strict(n->h, m, 12, "netvsp: INIT with a range of versions");
    for (uint32_t i = 0; i < HOST_COUNT(versions); i++) {
        if (versions[i] == m->init.max_version && versions[i] <= n->cfg.max_nvsp)
            n->version = versions[i];
    }
    out.init_complete.version = n->version;
    out.init_complete.max_mdl_chain = 34;
    out.init_complete.status = n->version != 0 ? NVSP_STATUS_SUCCESS : NVSP_STATUS_NONE;
    host_trace(n->h, HOST_TRACE_NETVSP, "INIT %#x: %s", m->init.max_version,
               n->version ? "accepted" : "refused");
    if (reply(ch, p, &out) == HOST_FAULT_ERROR)
        n->version = 0;
    return HOST_TAKEN;
}

static enum host_take ndis_config(struct host_nic *n, const struct nvsp_message *m)
{
    uint32_t frame = m->ndis_config.mtu, limit = n->cfg.max_mtu + 14;

    if (n->version < NVSP_VERSION_2 || n->config_seen || n->recv != NULL) {
        host_violation(n->h, m, 20, "netvsp: NDIS configuration twice, too late, or in version 1");
        return HOST_FATAL;
    }
    /* A smaller MTU than usual is the guest's right (Linux); its host goes on taking frames of the usual size. The usual
     * MTU itself is one whose Ethernet header was forgotten. */
    if (frame < NETVSP_FRAME_MIN || frame == NETVSP_FRAME_DEFAULT - 14 || frame > NETVSP_FRAME_MAX)
        host_strict(n->h, m, 20, "netvsp: NDIS configuration: frames of %u bytes", frame);
    if (frame < NETVSP_FRAME_DEFAULT || frame > NETVSP_FRAME_MAX || frame > limit)
        frame = NETVSP_FRAME_DEFAULT;
    if (m->ndis_config.reserved != 0)
        host_strict(n->h, m, 20, "netvsp: NDIS configuration: reserved field");
    n->frame_bytes = frame;
    n->config_seen = true;
    return HOST_TAKEN;
}

static enum host_take ndis_version(struct host_nic *n, const struct nvsp_message *m)
{
    if (n->ndis_seen) {
        host_violation(n->h, m, 12, "netvsp: NDIS version twice");
        return HOST_FATAL;
    }
    n->ndis_seen = true;
    return HOST_TAKEN;
}

static enum host_take receive_buffer(struct host_chan *ch, const struct host_packet *p,
                                     const struct nvsp_message *m)
{
    struct host_nic *n = ch->device;
    struct nvsp_message out = {.type = NVSP_SEND_RECEIVE_BUFFER_COMPLETE};
    struct nvsp_receive_section *s = &out.receive_buffer_complete.sections[0];

    if (n->recv != NULL || (n->version >= NVSP_VERSION_2 && !n->config_seen)) {
        if (!malice_excuses(n->h, HOST_MALICE_HANDSHAKE, n))      /* the first one was called refused */
            host_violation(n->h, m, 12, "netvsp: receive buffer twice, or before the NDIS configuration");
        return HOST_FATAL;
    }
    n->recv = vgpadl_use(n->h, ch->relid, m->buffer.gpadl);
    n->recv_id = m->buffer.id;
    if (n->recv == NULL || !netvsp_make_sections(n)) {
        if (!malice_excuses(n->h, HOST_MALICE_GPADL, n))
            host_violation(n->h, m, 12, "netvsp: receive buffer: GPADL %#x unusable or too small", m->buffer.gpadl);
        vgpadl_release(n->h, n->recv);
        n->recv = NULL;
        out.receive_buffer_complete.status = NVSP_STATUS_FAILURE;
    } else {
        out.receive_buffer_complete.status = NVSP_STATUS_SUCCESS;
        out.receive_buffer_complete.section_count = 1;
        s->sub_allocation_bytes = n->section_bytes;
        s->sub_allocation_count = n->sections;
        s->end_offset = n->section_bytes * n->sections;
    }
    if (reply(ch, p, &out) == HOST_FAULT_ERROR && n->recv != NULL) {
        netvsp_drop_sections(n);
        vgpadl_release(n->h, n->recv);
        n->recv = NULL;
    }
    return HOST_TAKEN;
}

static enum host_take send_buffer(struct host_chan *ch, const struct host_packet *p,
                                  const struct nvsp_message *m)
{
    struct host_nic *n = ch->device;
    struct nvsp_message out = {.type = NVSP_SEND_SEND_BUFFER_COMPLETE};

    if (n->send != NULL) {
        host_violation(n->h, m, 12, "netvsp: send buffer twice");
        return HOST_FATAL;
    }
    n->send = vgpadl_use(n->h, ch->relid, m->buffer.gpadl);
    n->send_id = m->buffer.id;
    if (n->send == NULL || n->send->byte_count < n->cfg.send_section_bytes) {
        if (!malice_excuses(n->h, HOST_MALICE_GPADL, n))
            host_violation(n->h, m, 12, "netvsp: send buffer: GPADL %#x unusable or too small", m->buffer.gpadl);
        vgpadl_release(n->h, n->send);
        n->send = NULL;
        out.send_buffer_complete.status = NVSP_STATUS_FAILURE;
    } else {
        n->send_sections = n->send->byte_count / n->cfg.send_section_bytes;
        out.send_buffer_complete.status = NVSP_STATUS_SUCCESS;
        out.send_buffer_complete.section_bytes = n->cfg.send_section_bytes;
    }
    if (reply(ch, p, &out) == HOST_FAULT_ERROR) {
        vgpadl_release(n->h, n->send);
        n->send = NULL;
    }
    return HOST_TAKEN;
}

static void release_buffers(struct host_nic *n)
{
    struct host_gpadl *recv = n->recv, *send = n->send;

    netvsp_drop_sections(n);
    n->recv = n->send = NULL;
    vgpadl_release(n->h, recv);
    vgpadl_release(n->h, send);
}

static enum host_take revoke(struct host_nic *n, const struct nvsp_message *m)
{
    struct host_gpadl **buffer = m->type == NVSP_REVOKE_RECEIVE_BUFFER ? &n->recv : &n->send;
    uint16_t id = m->type == NVSP_REVOKE_RECEIVE_BUFFER ? n->recv_id : n->send_id;
    struct host_gpadl *g = *buffer;

    if (g == NULL || m->revoke.id != id) {
        host_violation(n->h, m, 8, "netvsp: revoke of buffer %#x, which was not given", m->revoke.id);
        return HOST_TAKEN;
    }
    if (m->type == NVSP_REVOKE_RECEIVE_BUFFER)
        netvsp_drop_sections(n);
    *buffer = NULL;
    n->revoked = true;
    vgpadl_release(n->h, g);
    return HOST_TAKEN;
}

/* ---- sub-channels ----------------------------------------------------------------------------------- */

bool netvsp_queue_open(const struct host_nic *n, uint32_t queue)
{
    return queue < n->queues && n->queue[queue].ch != NULL && n->queue[queue].ch->open;
}

/* They are offered after the answer; hosts grant all that were asked for, or none. */
static enum host_take subchannel(struct host_chan *ch, const struct host_packet *p,
                                 const struct nvsp_message *m)
{
    struct host_nic *n = ch->device;
    struct nvsp_message out = {.type = NVSP_SUBCHANNEL, .subchannel = {.operation = NVSP_STATUS_FAILURE}};
    uint32_t count = m->subchannel.count;

    if (n->version < NVSP_VERSION_5 || !netvsp_ready(n)) {
        host_violation(n->h, m, 12, "netvsp: sub-channels in version %#x, or before the adapter is ready",
                       n->version);
        return HOST_FATAL;
    }
    if (m->subchannel.operation != NVSP_SUBCHANNEL_ALLOCATE || count == 0 || count >= n->cfg.max_queues ||
        n->granted != 0)
        host_strict(n->h, m, 12, "netvsp: %u sub-channels of %u queues, %u granted", count, n->cfg.max_queues,
                    n->granted);
    else if (vchan_create_subs(ch, count))
        out.subchannel = (struct nvsp_subchannel){NVSP_STATUS_SUCCESS, count};
    host_trace(n->h, HOST_TRACE_NETVSP, "%u sub-channels asked for, %u granted", count, out.subchannel.count);
    if (reply(ch, p, &out) == HOST_FAULT_ERROR) {
        vchan_rescind_subs(ch);
    } else if (out.subchannel.operation == NVSP_STATUS_SUCCESS) {
        n->granted = count + 1;
        vchan_offer_subs(ch);
    }
    return HOST_TAKEN;
}

/* Tells the guest how to spread what it sends, once all channels that it asked for are open. */
static void send_table(struct host_nic *n)
{
    struct nvsp_indirection_message m = {
        .type = NVSP_SEND_INDIRECTION_TABLE,
        .table = {NVSP_INDIRECTION_ENTRIES, offsetof(struct nvsp_indirection_message, channel)},
    };
    struct host_piece payload = {&m, sizeof(m)};

    if (n->table_sent || n->granted < 2)
        return;
    for (uint32_t i = 0; i < n->granted; i++) {
        if (!netvsp_queue_open(n, i))
            return;
    }
    for (uint32_t i = 0; i < NVSP_INDIRECTION_ENTRIES; i++)
        m.channel[i] = i % n->granted;
    n->table_sent = true;
    vchan_send(n->primary, VMBUS_PACKET_INBAND, 0, 0, NULL, &payload);
}

/* ---- packets ---------------------------------------------------------------------------------------- */

/* Requests whose answer the guest cannot do without. */
static bool needs_completion(uint32_t type)
{
    return type == NVSP_INIT || type == NVSP_SEND_RECEIVE_BUFFER || type == NVSP_SEND_SEND_BUFFER ||
           type == NVSP_SEND_RNDIS_PACKET || type == NVSP_SUBCHANNEL;
}

static enum host_take primary_message(struct host_chan *ch, const struct host_packet *p,
                                      const struct nvsp_message *m)
{
    struct host_nic *n = ch->device;
    struct nvsp_message done = {.type = m->type};
    enum host_take taken = HOST_TAKEN;

    switch (m->type) {
    case NVSP_INIT:
        return init(ch, p, m);
    case NVSP_SEND_RECEIVE_BUFFER:
        return receive_buffer(ch, p, m);
    case NVSP_SEND_SEND_BUFFER:
        return send_buffer(ch, p, m);
    case NVSP_SUBCHANNEL:
        return subchannel(ch, p, m);
    case NVSP_SEND_NDIS_CONFIG:
        taken = ndis_config(n, m);
        break;
    case NVSP_SEND_NDIS_VERSION:
        taken = ndis_version(n, m);
        break;
    case NVSP_REVOKE_RECEIVE_BUFFER:
    case NVSP_REVOKE_SEND_BUFFER:
        taken = revoke(n, m);
        break;
    case NVSP_SWITCH_DATA_PATH:
        break;
    default:
        host_violation(n->h, m, p->bytes, "netvsp: message type %u", m->type);
        return HOST_FATAL;
    }
    if (taken == HOST_TAKEN)
        reply(ch, p, &done);                     /* only when it was asked for */
    return taken;
}

static enum host_take completion(struct host_chan *ch, const struct host_packet *p)
{
    struct host_nic *n = ch->device;
    uint32_t words[2] = {0, 0};

    if (p->bytes >= sizeof(words))
        memcpy(words, p->data, sizeof(words));
    if (n->version == 0 || words[0] != NVSP_SEND_RNDIS_PACKET_COMPLETE || p->flags != 0 || words[1] == 0) {
        if (!malice_excuses(n->h, HOST_MALICE_FRAME, n))
            host_violation(n->h, p->data, p->bytes, "netvsp: completion %#llx is not for a receive packet",
                           (unsigned long long)p->id);
        return HOST_FATAL;
    }
    /* An answer that was spoilt on purpose may be refused. */
    if (words[1] != NVSP_STATUS_SUCCESS && !((n->h->fault_points & HOST_FAULT_RNDIS_REPLY) && n->h->fault_count != 0) &&
        !malice_excuses(n->h, HOST_MALICE_RNDIS | HOST_MALICE_FRAME | HOST_MALICE_HANDSHAKE, n))
        host_strict(n->h, p->data, p->bytes, "netvsp: the guest failed receive packet %#llx",
                    (unsigned long long)p->id);
    if (!netvsp_section_returned(n, ch->queue, p->id)) {
        /* Another packet may have been called one. */
        if (!malice_excuses(n->h, HOST_MALICE_FRAME, n))
            host_violation(n->h, p->data, p->bytes,
                           "netvsp: completion of receive packet %#llx, which is not out on channel %u",
                           (unsigned long long)p->id, ch->relid);
        return HOST_FATAL;
    }
    return HOST_TAKEN;
}

/* Bytes of a message from the guest that have a meaning. */
static size_t used_bytes(uint32_t type)
{
    const struct nvsp_message *m = NULL;

    switch (type) {
    case NVSP_INIT:
        return sizeof(m->type) + sizeof(m->init);
    case NVSP_SEND_RECEIVE_BUFFER:
    case NVSP_SEND_SEND_BUFFER:
        return sizeof(m->type) + sizeof(m->buffer);
    case NVSP_SUBCHANNEL:
        return sizeof(m->type) + sizeof(m->subchannel);
    case NVSP_SEND_NDIS_CONFIG:
        return sizeof(m->type) + sizeof(m->ndis_config);
    case NVSP_SEND_NDIS_VERSION:
        return sizeof(m->type) + sizeof(m->ndis_version);
    case NVSP_REVOKE_RECEIVE_BUFFER:
    case NVSP_REVOKE_SEND_BUFFER:
        return sizeof(m->type) + sizeof(m->revoke);
    case NVSP_SEND_RNDIS_PACKET:
        return sizeof(m->type) + sizeof(m->rndis);
    default:
        return sizeof(*m);
    }
}

static enum host_take packet(struct host_chan *ch, const struct host_packet *p)
{
    struct host_nic *n = ch->device;
    struct nvsp_message m = {0};

    if (p->type == VMBUS_PACKET_COMPLETION)
        return completion(ch, p);
    if (p->bytes < NVSP_MESSAGE_BYTES) {
        host_violation(n->h, p->data, p->bytes, "netvsp: message of %u bytes", p->bytes);
        return HOST_FATAL;
    }
    memcpy(&m, p->data, p->bytes < sizeof(m) ? p->bytes : sizeof(m));
    host_check_unused(n->h, p->data, p->bytes, used_bytes(m.type), "netvsp");
    if (needs_completion(m.type) && !(p->flags & VMBUS_PACKET_FLAG_COMPLETION)) {
        host_violation(n->h, &m, 16, "netvsp: message %u asks for no completion", m.type);
        return HOST_FATAL;
    }
    if (n->version == 0 && m.type != NVSP_INIT) {
        host_violation(n->h, &m, 16, "netvsp: message %u before INIT", m.type);
        return HOST_FATAL;
    }
    if (m.type == NVSP_SEND_RNDIS_PACKET) {
        if (netvsp_ready(n))
            return netvsp_transmit(ch, p, &m);
        host_violation(n->h, &m, 16, "netvsp: RNDIS message before the adapter is ready, or after a revoke");
        return HOST_FATAL;
    }
    if (ch->sub_index != 0) {
        host_violation(n->h, &m, 16, "netvsp: message %u on a sub-channel", m.type);
        return HOST_FATAL;
    }
    return primary_message(ch, p, &m);
}

/* ---- the channel ------------------------------------------------------------------------------------ */

static bool opened(struct host_chan *ch)
{
    struct host_nic *n = ch->device;

    if (ch->queue >= HOST_MAX_CHANNELS)
        return false;
    n->queue[ch->queue] = (struct netvsp_queue){.ch = ch, .first = NETVSP_NONE, .last = NETVSP_NONE};
    if (ch->queue >= n->queues)
        n->queues = ch->queue + 1;
    send_table(n);
    return true;
}

static void closed(struct host_chan *ch)
{
    struct host_nic *n = ch->device;

    netvsp_drop_queue(n, ch->queue);
    if (ch->sub_index != 0)
        return;
    release_buffers(n);
    n->granted = 0;
    n->table_sent = false;
    n->version = 0;
    n->config_seen = n->ndis_seen = n->revoked = false;
    n->initialized = n->halted = n->rss = false;
    n->filter = 0;
    n->queues = 0;
    n->frame_bytes = NETVSP_FRAME_DEFAULT;
    memset(&n->offload, 0, sizeof(n->offload));
}

static uint32_t in_flight(struct host_chan *ch)
{
    (void)ch;
    return 0;
}

static void freed(struct host_chan *ch)
{
    struct host_nic *n = ch->device;

    /* The adapter itself stays, for those who still hold its pointer; host_destroy frees it. */
    if (ch == n->primary)
        n->primary = NULL;
}

static const struct host_dev_ops netvsp_ops = {
    .name = "netvsp",
    .open = opened,
    .close = closed,
    .packet = packet,
    .output = netvsp_output,
    .in_flight = in_flight,
    .freed = freed,
};

/* ---- what the transport and the tests call ---------------------------------------------------------- */

void host_nic_config_default(struct host_nic_config *cfg)
{
    static const uint8_t mac[6] = {0x00, 0x15, 0x5D, 0x43, 0x4E, 0x01};

    memset(cfg, 0, sizeof(*cfg));
    memcpy(cfg->mac, mac, sizeof(cfg->mac));
    cfg->max_nvsp = NVSP_VERSION_6_1;
    cfg->mtu = 1500;
    cfg->max_mtu = NETVSP_FRAME_MAX - 14;
    cfg->link_up = true;
    cfg->link_speed = 100000000;
    cfg->send_section_bytes = 6144;
    cfg->max_packets_per_message = 8;
    cfg->alignment_factor = 3;
    cfg->rx_batch = 375;
    cfg->rx_data_offset = 256;
    cfg->rx_length_is_sub_allocation = true;
    cfg->tx_checksum = NDIS_CHECKSUM_IP_OPTIONS | NDIS_CHECKSUM_TCP_OPTIONS | NDIS_CHECKSUM_TCP |
                       NDIS_CHECKSUM_UDP | NDIS_CHECKSUM_IP_HEADER;
    cfg->rx_checksum = cfg->tx_checksum;
    cfg->lso_max_bytes = 65535;
    cfg->max_queues = 1;
}

struct host_nic *host_add_nic(struct host *h, const struct host_nic_config *cfg,
                              const struct host_net_ops *ops, void *backend)
{
    struct host_nic *n = cfg->max_queues <= HOST_MAX_CHANNELS ? host_alloc(h, sizeof(*n)) : NULL;

    if (n == NULL)
        return NULL;
    n->h = h;
    n->cfg = *cfg;
    n->ops = ops;
    n->backend = backend;
    n->link_up = cfg->link_up;
    n->frame_bytes = NETVSP_FRAME_DEFAULT;
    n->primary = vchan_create(h, &netvsp_ops, n, &netvsc_class, NULL, 0, cfg->monitor);
    if (n->primary == NULL) {
        host_free(h, n);
        return NULL;
    }
    list_push_back(&h->nics, &n->node);
    return n;
}

void host_remove_nic(struct host *h, struct host_nic *n)
{
    (void)h;
    if (n->primary != NULL)
        vchan_rescind(n->primary);
}

void host_net_tx_ready(struct host_nic *n)
{
    for (uint32_t i = 0; i < n->queues; i++) {
        struct host_chan *ch = n->queue[i].ch;
        if (ch == NULL || !ch->stalled)
            continue;
        ch->signalled = true;
        vchan_queue(ch);
    }
}

uint32_t host_nic_relid(const struct host_nic *n)
{
    return n->primary != NULL ? n->primary->relid : 0;
}

void host_nic_instance(const struct host_nic *n, char text[HOST_GUID_TEXT])
{
    const uint8_t *g;

    text[0] = 0;
    if (n->primary == NULL)
        return;
    g = n->primary->instance.bytes;
    ksnprintf(text, HOST_GUID_TEXT, "{%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x}", g[3],
              g[2], g[1], g[0], g[5], g[4], g[7], g[6], g[8], g[9], g[10], g[11], g[12], g[13], g[14], g[15]);
}

uint32_t host_nic_filter(const struct host_nic *n)
{
    return n->filter;
}

void host_net_link(struct host_nic *n, bool up)
{
    struct rndis_indicate_status m = {
        .header = {.type = RNDIS_INDICATE_STATUS, .length = sizeof(m)},
        .status = up ? RNDIS_STATUS_MEDIA_CONNECT : RNDIS_STATUS_MEDIA_DISCONNECT,
    };

    if (n->link_up == up)
        return;
    n->link_up = up;
    if (n->initialized && !n->halted && netvsp_ready(n))
        netvsp_send_control(n, &m, sizeof(m));
}

uint32_t netvsp_sections_held(const struct host *h)
{
    uint32_t held = 0;

    list_for_each(node, &h->nics)
        held += list_entry(node, struct host_nic, node)->held;
    return held;
}
