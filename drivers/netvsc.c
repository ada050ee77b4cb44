/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A NIC: open, NVSP handshake, buffers, RNDIS questions, registration, removal. See netvsc.h for the map of the
 * driver.
 *
 * Sources of protocol facts: the network VSP protocol, versions 1 to 6.1. The order INIT, NDIS_CONFIG (from version
 * 2), NDIS_VERSION, receive buffer, send buffer, RNDIS INITIALIZE, OIDs, packet filter is what strict hosts demand.
 *
 * Removal, orderly: filter 0, outstanding frames, RNDIS HALT, receive buffer revoked, (VMBus before 4.0: its GPADL
 * torn down here), send buffer revoked, channel closed, GPADLs torn down. Rescinded: no messages, only the closing.
 */
#define LOG_ROOM "netvsc"
#include <string.h>
#include "drivers/drivers.h"
#include "drivers/netvsc.h"

#define ETHERNET_HEADER 14u
#define MTU_DEFAULT     1500u
#define MTU_LEAST       576u
#define MTU_MOST        9000u
#define COPY_DEFAULT    512u
#define MAC_BYTES       6u
/* Parts of RAM. Receiving gets more: there the host drops what has no place, here a sender waits. */
#define RECEIVE_SHARE   8
#define SEND_SHARE      64

static const uint32_t versions[] = {
    NVSP_VERSION_6_1, NVSP_VERSION_6, NVSP_VERSION_5, NVSP_VERSION_4, NVSP_VERSION_2, NVSP_VERSION_1,
};

static const struct nic_ops nic_ops = {
    .send = netvsc_tx_send, .kick = netvsc_tx_kick, .rx_release = netvsc_rx_release,
};

void netvsc_lie(struct netvsc *n, const char *what, uint64_t value)
{
    uint64_t now = rt_now_100ns();

    n->counters.lies++;
    if (n->counters.lies > 1 && now - n->lie_reported_at < S_100NS(5))
        return;
    n->lie_reported_at = now;
    log_warn("%s: the host sent %s (0x%llx), dropped; %llu such so far", n->name, what, (unsigned long long)value,
             (unsigned long long)n->counters.lies);
}

/* ---- ring callbacks ---- */

static void inband(struct netvsc *n, const struct vmbus_packet *p)
{
    uint32_t type = 0;

    if (p->payload_bytes < sizeof(type)) {
        netvsc_lie(n, "a message too short", p->payload_bytes);
        return;
    }
    memcpy(&type, p->payload, sizeof(type));
    if (type == NVSP_SEND_VF_ASSOCIATION)
        log_debug("%s: a virtual function is offered or withdrawn; not used", n->name);
    else if (type != NVSP_SEND_INDIRECTION_TABLE)      /* that speaks of sub-channels, and we have none */
        netvsc_lie(n, "an unknown message", type);
    if (p->completion_requested && vmbus_send_completion(n->channel, &type, sizeof(type), p->transaction_id) == 0)
        n->unsent = true;
}

static void on_readable(void *arg)
{
    struct netvsc *n = arg;
    const struct vmbus_packet *p;

    n->draining = true;
    while ((p = vmbus_recv(n->channel))) {
        if (p->type == VMBUS_PACKET_TRANSFER_PAGES && n->rx_packets)
            netvsc_rx_packet_in(n, p);
        else if (p->type == VMBUS_PACKET_COMPLETION && (p->transaction_id & NETVSC_ID_EXCHANGE))
            netvsc_exchange_answered(n, p);
        else if (p->type == VMBUS_PACKET_COMPLETION)
            netvsc_tx_completed(n, p);
        else if (p->type == VMBUS_PACKET_INBAND)
            inband(n, p);
        else
            netvsc_lie(n, "a packet of a strange type", p->type);
    }
    netvsc_rx_flush(n);
    netvsc_tx_tell_ready(n);
    n->draining = false;
    netvsc_tx_kick(&n->nic);
    if (netvsc_tx_idle(n))
        wait_queue_wake_all(&n->wait);
}

static void on_writable(void *arg)
{
    struct netvsc *n = arg;

    netvsc_rx_send_waiting(n);
    n->unsent = true;                                  /* an open section may be waiting */
    netvsc_tx_kick(&n->nic);
    netvsc_tx_tell_ready(n);
    wait_queue_wake_all(&n->wait);
}

/* ---- handshake ---- */

static uint32_t wanted_mtu(void)
{
    return (uint32_t)config_number("net.mtu", MTU_DEFAULT, MTU_LEAST, MTU_MOST);
}

static int try_version(struct netvsc *n, uint32_t version)
{
    struct nvsp_message m = {.type = NVSP_INIT, .init = {version, version}};
    int e;

    n->message_bytes = version >= NVSP_VERSION_6_1 ? NVSP_MESSAGE_BYTES_6_1 : NVSP_MESSAGE_BYTES;
    e = netvsc_nvsp(n, &m, NVSP_INIT_COMPLETE, sizeof(uint32_t) + sizeof(struct nvsp_init_complete));
    if (e)
        return e;
    if (n->answer.init_complete.status != NVSP_STATUS_SUCCESS) {
        log_debug("%s: NVSP 0x%x refused, status %u", n->name, version, n->answer.init_complete.status);
        return -E_REFUSED;
    }
    n->version = version;
    return 0;
}

static int negotiate(struct netvsc *n)
{
    struct nvsp_message ndis = {.type = NVSP_SEND_NDIS_VERSION, .ndis_version = {6, 1}};
    int e = -E_REFUSED;

    for (unsigned i = 0; i < ARRAY_SIZE(versions) && e == -E_REFUSED; i++)
        e = try_version(n, versions[i]);
    if (e) {
        log_err("%s: NVSP: %s", n->name, e == -E_REFUSED ? "no version in common with the host" : error_name(e));
        return e == -E_REFUSED ? -E_NOTSUP : e;
    }
    if (n->version >= NVSP_VERSION_2) {
        struct nvsp_message config = {
            .type = NVSP_SEND_NDIS_CONFIG,
            .ndis_config = {.mtu = wanted_mtu() + ETHERNET_HEADER, .capabilities = NVSP_NDIS_CAP_8021Q},
        };
        e = netvsc_nvsp(n, &config, 0, 0);
        if (e)
            return e;
    }
    if (n->version >= NVSP_VERSION_5)
        ndis.ndis_version.minor = 30;
    return netvsc_nvsp(n, &ndis, 0, 0);
}

/* ---- buffers ---- */

/* Memory and GPADL of a buffer; halves what is wanted until it is to be had. */
static int share_buffer(struct netvsc *n, struct shmem *memory, uint32_t *gpadl, uint32_t wanted, uint32_t least,
                        const char *what)
{
    int e = -E_NOMEM;

    for (uint32_t bytes = wanted; bytes >= least; bytes = ALIGN_DOWN(bytes / 2, (uint32_t)PAGE_BYTES)) {
        e = shmem_alloc(memory, bytes / PAGE_BYTES, SHMEM_LINEAR_UNCLEARED, 0);
        if (e == 0) {
            e = vmbus_gpadl_create(n->channel, memory, gpadl);
            if (e == 0)
                return 0;
            shmem_free(memory);
        }
        memory->pages = 0;
        *gpadl = 0;
        if (e != -E_NOMEM && e != -E_REFUSED)
            break;
        log_info("%s: no %s buffer of %u KiB (%s), trying less", n->name, what, bytes / 1024, error_name(e));
    }
    log_err("%s: no %s buffer: %s", n->name, what, error_name(e));
    return e;
}

static void unshare(struct netvsc *n, struct shmem *memory, uint32_t *gpadl)
{
    if (*gpadl)
        vmbus_gpadl_teardown(n->channel, *gpadl);
    *gpadl = 0;
    if (memory->pages)
        shmem_free(memory);
    memory->pages = 0;
}

/* What the configuration says, bounded by a share of the memory there is: 1/share of RAM. */
static uint32_t buffer_bytes(const char *key, uint32_t fallback, uint32_t least, uint32_t most, unsigned share)
{
    struct mm_stats stats;
    uint64_t bytes = config_number(key, fallback, least, NETVSC_RECEIVE_MOST);
    uint64_t bound;

    mm_get_stats(&stats);
    bound = MAX(stats.ram_pages * PAGE_BYTES / share, (uint64_t)least);
    bytes = MIN(bytes, bound);
    bytes = MIN(bytes, (uint64_t)most);
    return (uint32_t)ALIGN_DOWN(bytes, PAGE_BYTES);
}

static int receive_buffer(struct netvsc *n)
{
    uint32_t most = n->version <= NVSP_VERSION_2 ? NETVSC_RECEIVE_MOST_OLD : NETVSC_RECEIVE_MOST;
    uint32_t wanted = buffer_bytes("net.recv_buffer", NETVSC_RECEIVE_DEFAULT, NETVSC_RECEIVE_LEAST, most,
                                   RECEIVE_SHARE);
    struct nvsp_message m = {.type = NVSP_SEND_RECEIVE_BUFFER};
    const struct nvsp_receive_buffer_complete *c = &n->answer.receive_buffer_complete;
    const struct nvsp_receive_section *section = &c->sections[0];
    int e;

    for (;;) {
        e = share_buffer(n, &n->receive, &n->receive_gpadl, wanted, NETVSC_RECEIVE_LEAST, "receive");
        if (e)
            return e;
        m.buffer = (struct nvsp_send_buffer){n->receive_gpadl, NVSP_RECEIVE_BUFFER_ID};
        e = netvsc_nvsp(n, &m, NVSP_SEND_RECEIVE_BUFFER_COMPLETE, sizeof(uint32_t) + sizeof(*c));
        if (e)
            return e;
        if (c->status == NVSP_STATUS_SUCCESS)
            break;
        log_warn("%s: the host refuses a receive buffer of %zu KiB, status %u", n->name, n->receive.pages * 4,
                 c->status);
        wanted = (uint32_t)(n->receive.pages / 2 * PAGE_BYTES);
        unshare(n, &n->receive, &n->receive_gpadl);
        if (wanted < NETVSC_RECEIVE_LEAST)
            return -E_REFUSED;
    }
    n->receive_told = true;
    if (c->section_count != 1 || section->offset != 0 || section->sub_allocation_bytes < NETVSC_SECTION_LEAST ||
        section->sub_allocation_count == 0 ||
        (uint64_t)section->sub_allocation_bytes * section->sub_allocation_count > n->receive.pages * PAGE_BYTES) {
        log_err("%s: the host cuts the receive buffer into %u sections, the first at %u, %u of %u bytes: nonsense",
                n->name, c->section_count, section->offset, section->sub_allocation_count,
                section->sub_allocation_bytes);
        return -E_PROTO;
    }
    n->sub_bytes = section->sub_allocation_bytes;
    n->sub_count = section->sub_allocation_count;
    return netvsc_rx_init(n);
}

static int send_buffer(struct netvsc *n)
{
    uint32_t wanted = buffer_bytes("net.send_buffer", NETVSC_SEND_DEFAULT, NETVSC_SEND_LEAST, NETVSC_RECEIVE_MOST_OLD,
                                   SEND_SHARE);
    struct nvsp_message m = {.type = NVSP_SEND_SEND_BUFFER};
    const struct nvsp_send_buffer_complete *c = &n->answer.send_buffer_complete;
    int e;

    e = share_buffer(n, &n->send, &n->send_gpadl, wanted, NETVSC_SEND_LEAST, "send");
    if (e)
        return e;
    m.buffer = (struct nvsp_send_buffer){n->send_gpadl, NVSP_SEND_BUFFER_ID};
    e = netvsc_nvsp(n, &m, NVSP_SEND_SEND_BUFFER_COMPLETE, sizeof(uint32_t) + sizeof(*c));
    if (e)
        return e;
    if (c->status != NVSP_STATUS_SUCCESS) {
        log_warn("%s: the host refuses the send buffer, status %u: all frames go by page frames", n->name, c->status);
        unshare(n, &n->send, &n->send_gpadl);
        return 0;
    }
    n->send_told = true;
    if (c->section_bytes < NETVSC_SECTION_LEAST || c->section_bytes > n->send.pages * PAGE_BYTES) {
        log_err("%s: the host cuts the send buffer into sections of %u bytes: nonsense", n->name, c->section_bytes);
        return -E_PROTO;
    }
    n->section_bytes = c->section_bytes;
    return netvsc_tx_sections(n);
}

/* ---- RNDIS ---- */

static int initialize(struct netvsc *n)
{
    struct rndis_initialize_complete c;
    int e = netvsc_rndis_initialize(n, &c);

    if (e)
        return e;
    n->rndis_up = true;
    n->max_packets = MAX(c.max_packets_per_message, 1u);
    n->alignment = 1u << (c.alignment_factor <= 12 ? c.alignment_factor : 0);
    /* Headers are written and read as 32-bit words on both sides. */
    n->alignment = MAX(n->alignment, 4u);
    if (c.alignment_factor > 12)
        n->max_packets = 1;
    return 0;
}

static int ask_mac(struct netvsc *n)
{
    uint32_t got;
    int e = netvsc_query(n, OID_802_3_PERMANENT_ADDRESS, NULL, 0, n->nic.mac, MAC_BYTES, &got);

    if (e == 0 && got == MAC_BYTES && !(n->nic.mac[0] & 1))
        return 0;
    log_err("%s: the host tells no usable MAC address", n->name);
    return e ? e : -E_PROTO;
}

static uint32_t ask_word(struct netvsc *n, uint32_t oid, uint32_t fallback)
{
    uint32_t word, got;

    return netvsc_query(n, oid, NULL, 0, &word, sizeof(word), &got) == 0 && got == sizeof(word) ? word : fallback;
}

static void offloads(struct netvsc *n)
{
    bool modern = n->version >= NVSP_VERSION_5;
    struct ndis_offload offer = {0};
    struct ndis_object_header ask = {.type = NDIS_OBJECT_OFFLOAD, .revision = 1, .bytes = NDIS_OFFLOAD_BYTES_REV1};
    struct ndis_offload_parameters params;
    struct rndis_offloads chosen;
    uint32_t got, params_bytes = 0;
    int e;

    if (modern) {
        ask.revision = 3;
        ask.bytes = NDIS_OFFLOAD_BYTES_REV3;
    } else if (n->version == NVSP_VERSION_4) {
        ask.revision = 2;
        ask.bytes = NDIS_OFFLOAD_BYTES_REV2;
    }
    if (!config_bool("net.offload", true))
        return;
    e = netvsc_query(n, OID_TCP_OFFLOAD_HARDWARE_CAPABILITIES, &ask, sizeof(ask), &offer, sizeof(offer), &got);
    chosen = rndis_choose_offloads(&offer, e ? 0 : got, modern, &params, &params_bytes);
    if (chosen.tx == 0 && chosen.rx == 0) {
        log_info("%s: no checksum offloads%s%s", n->name, e ? ": " : "", e ? error_name(e) : "");
        return;
    }
    e = netvsc_set(n, OID_TCP_OFFLOAD_PARAMETERS, &params, params_bytes);
    if (e) {
        log_warn("%s: offloads offered and then refused (%s), done without", n->name, error_name(e));
        return;
    }
    n->nic.tx_offloads = chosen.tx;
    n->nic.rx_offloads = chosen.rx;
    n->nic.lso_max_bytes = chosen.lso_max_bytes;
}

static int set_filter(struct netvsc *n, uint32_t filter)
{
    return netvsc_set(n, OID_GEN_CURRENT_PACKET_FILTER, &filter, sizeof(filter));
}

static int questions(struct netvsc *n)
{
    uint32_t mtu;
    int e = initialize(n);

    if (e == 0)
        e = ask_mac(n);
    if (e)
        return e;
    mtu = ask_word(n, OID_GEN_MAXIMUM_FRAME_SIZE, MTU_DEFAULT);
    if (mtu < MTU_LEAST || mtu > MTU_MOST) {
        log_warn("%s: the host says MTU %u; using %u", n->name, mtu, MTU_DEFAULT);
        mtu = MTU_DEFAULT;
    }
    n->nic.mtu = (uint16_t)MIN(mtu, wanted_mtu());
    n->nic.link_up = ask_word(n, OID_GEN_MEDIA_CONNECT_STATUS, 0) == 0;
    n->nic.link_speed_mbps = ask_word(n, OID_GEN_LINK_SPEED, 0) / 10000;
    offloads(n);
    return 0;
}

/* Can the host read our memory where it lies? In an isolated machine it can't: then copying into the send buffer is the
 * one copy, and going by page frames would be a second. */
static bool host_reads_our_memory(const struct netvsc *n)
{
    struct dma_span span = {n->slots, 64};
    struct dma_mapping map;
    uint64_t frames[2];
    bool direct;

    if (dma_map(&map, &span, 1, DMA_TO_DEVICE, frames, ARRAY_SIZE(frames)))
        return false;
    direct = !map.bounce;
    if (!direct)
        dma_unmap(&map, &span, 1, DMA_TO_DEVICE);
    return direct;
}

/* ---- life ---- */

static void say_goodbye(struct netvsc *n)
{
    struct nvsp_message revoke = {.type = NVSP_REVOKE_RECEIVE_BUFFER, .revoke = {NVSP_RECEIVE_BUFFER_ID}};

    if (n->rndis_up) {
        set_filter(n, 0);
        netvsc_tx_kick(&n->nic);
        if (!WAIT_UNTIL(&n->wait, netvsc_tx_idle(n) || vmbus_channel_rescinded(n->channel), NETVSC_DRAIN_LIMIT_US,
                        "sent frames to be completed"))
            log_warn("%s: %u packets not completed, closed all the same", n->name, NETVSC_SLOTS - n->free_count);
        netvsc_rndis_halt(n);
    }
    if (n->receive_told)
        netvsc_nvsp(n, &revoke, 0, 0);
    if (vmbus_version() < VMBUS_VERSION_WIN10)
        unshare(n, &n->receive, &n->receive_gpadl);
    revoke.type = NVSP_REVOKE_SEND_BUFFER;
    revoke.revoke.id = NVSP_SEND_BUFFER_ID;
    if (n->send_told)
        netvsc_nvsp(n, &revoke, 0, 0);
    if (vmbus_version() < VMBUS_VERSION_WIN10)
        unshare(n, &n->send, &n->send_gpadl);
}

static void destroy(struct netvsc *n)
{
    n->closing = true;
    if (n->registered)
        nic_unregister(&n->nic);
    n->registered = false;
    if (n->opened && !vmbus_channel_rescinded(n->channel))
        say_goodbye(n);
    if (n->opened)
        vmbus_close(n->channel);
    if (n->slots)
        netvsc_tx_end_all(n);
    unshare(n, &n->receive, &n->receive_gpadl);
    unshare(n, &n->send, &n->send_gpadl);
    netvsc_tx_free(n);
    netvsc_rx_free(n);
    kfree(n);
}

static int bring_up(struct netvsc *n)
{
    int e = netvsc_tx_init(n);

    if (e == 0)
        e = vmbus_open(n->channel, NETVSC_RING_BYTES, NETVSC_RING_BYTES, NULL, 0, on_readable, on_writable, n);
    if (e) {
        log_err("%s: channel not opened: %s", n->name, error_name(e));
        return e;
    }
    n->opened = true;
    e = negotiate(n);
    if (e == 0)
        e = receive_buffer(n);
    if (e == 0)
        e = send_buffer(n);
    if (e == 0)
        e = questions(n);
    return e;
}

static int probe(struct vmbus_channel *ch)
{
    struct netvsc *n = kzalloc(sizeof(*n));
    int e;

    if (!n) {
        log_err("%s: no memory for a NIC", vmbus_channel_name(ch));
        return -E_NOMEM;
    }
    n->channel = ch;
    n->name = vmbus_channel_name(ch);
    wait_queue_init(&n->wait);
    n->nic.ops = &nic_ops;
    n->nic.driver = n;
    e = bring_up(n);
    if (e) {
        log_err("%s: NIC not usable: %s", n->name, error_name(e));
        destroy(n);
        return e;
    }
    n->by_reference = host_reads_our_memory(n);
    n->copy_bytes = (uint32_t)config_number("net.copy_bytes", COPY_DEFAULT, 0, 65536);
    if (!n->by_reference)
        n->nic.tx_offloads &= ~(uint32_t)NIC_TX_LSO;   /* such frames don't fit a section */
    log_info("%s: NVSP 0x%x, receive buffer %zu KiB in %u parts of %u, send buffer %zu KiB in %u sections of %u, up to "
             "%u frames a packet", n->name, n->version, n->receive.pages * 4, n->sub_count, n->sub_bytes,
             n->send.pages * 4, n->section_count, n->section_bytes, n->max_packets);
    n->registered = true;
    nic_register(&n->nic);
    vmbus_set_driver_data(ch, n);
    e = set_filter(n, NDIS_FILTER_DIRECTED | NDIS_FILTER_BROADCAST | NDIS_FILTER_ALL_MULTICAST);
    if (e) {
        log_err("%s: the host won't let frames through: %s", n->name, error_name(e));
        vmbus_set_driver_data(ch, NULL);
        destroy(n);
    }
    return e;
}

static void remove(struct vmbus_channel *ch)
{
    struct netvsc *n = vmbus_driver_data(ch);

    vmbus_set_driver_data(ch, NULL);
    destroy(n);
}

static struct vmbus_driver driver = {
    .name = "netvsc",
    .class_id = VMBUS_GUID_NETVSC,
    .probe = probe,
    .remove = remove,
};

void netvsc_register(void)
{
    vmbus_register_driver(&driver);
}
