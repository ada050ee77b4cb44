/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A NIC's life: open, NVSP handshake, registration, removal. See netvsc.h for the map of the
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
#include "rt/candela.h"

#define ETHERNET_HEADER 14u
/* Measured with 1 KiB datagrams: one sent from where it lies costs 700 instructions more than a copied one, which
 * shares its section's packet and completion with others. Bulk data comes in large segments; those are not copied. */
#define COPY_DEFAULT    2048u

struct netvsc_counters netvsc_totals;

static const uint32_t versions[] = {
    NVSP_VERSION_6_1, NVSP_VERSION_6, NVSP_VERSION_5, NVSP_VERSION_4, NVSP_VERSION_2, NVSP_VERSION_1,
};

static const struct nic_ops nic_ops = {
    .send = netvsc_tx_send, .kick = netvsc_tx_kick, .rx_release = netvsc_rx_release,
};

void netvsc_lie(struct netvsc *n, const char *what, uint64_t value)
{
    NETVSC_COUNT(n, lies);
    log_warn_some("%s: the host sent %s (0x%llx), dropped; %llu such so far", n->name, what, (unsigned long long)value,
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

    for (unsigned i = 0; i < ARRAY_SIZE(versions) && e == -E_REFUSED; i++) {
        if (i > 0 && vmbus_newest_only())
            break;
        e = try_version(n, versions[i]);
    }
    if (e) {
        log_err_some("%s: NVSP: %s", n->name, e == -E_REFUSED ? "no version in common with the host" : error_name(e));
        return e == -E_REFUSED ? -E_NOTSUP : e;
    }
    if (n->version >= NVSP_VERSION_2) {
        struct nvsp_message config = {
            .type = NVSP_SEND_NDIS_CONFIG,
            .ndis_config = {.mtu = netvsc_wanted_mtu() + ETHERNET_HEADER, .capabilities = NVSP_NDIS_CAP_8021Q},
        };
        e = netvsc_nvsp(n, &config, 0, 0);
        if (e)
            return e;
    }
    if (n->version >= NVSP_VERSION_5)
        ndis.ndis_version.minor = 30;
    return netvsc_nvsp(n, &ndis, 0, 0);
}

/* ---- life ---- */

/* Bounce memory came free: frames that were refused for want of it may come again. */
static void on_bounce_room(void *arg)
{
    netvsc_tx_tell_ready(arg);
}

static void say_goodbye(struct netvsc *n)
{
    struct nvsp_message revoke = {.type = NVSP_REVOKE_RECEIVE_BUFFER, .revoke = {NVSP_RECEIVE_BUFFER_ID}};

    if (n->rndis_up) {
        netvsc_set_filter(n, 0);
        netvsc_tx_kick(&n->nic);
        if (!WAIT_UNTIL(&n->wait, netvsc_tx_idle(n) || vmbus_channel_rescinded(n->channel), NETVSC_DRAIN_LIMIT_US,
                        "sent frames to be completed"))
            log_warn_some("%s: %u packets not completed, closed all the same", n->name, NETVSC_SLOTS - n->free_count);
        netvsc_rndis_halt(n);
    }
    if (n->receive_told)
        netvsc_nvsp(n, &revoke, 0, 0);
    if (vmbus_version() < VMBUS_VERSION_WIN10)
        netvsc_unshare(n, &n->receive, &n->receive_gpadl);
    revoke.type = NVSP_REVOKE_SEND_BUFFER;
    revoke.revoke.id = NVSP_SEND_BUFFER_ID;
    if (n->send_told)
        netvsc_nvsp(n, &revoke, 0, 0);
    if (vmbus_version() < VMBUS_VERSION_WIN10)
        netvsc_unshare(n, &n->send, &n->send_gpadl);
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
    dma_wait_cancel(&n->bounce_room);
    if (n->slots)
        netvsc_tx_end_all(n);
    netvsc_unshare(n, &n->receive, &n->receive_gpadl);
    netvsc_unshare(n, &n->send, &n->send_gpadl);
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
        log_err_some("%s: channel not opened: %s", n->name, error_name(e));
        return e;
    }
    n->opened = true;
    e = negotiate(n);
    if (e == 0)
        e = netvsc_receive_buffer(n);
    if (e == 0)
        e = netvsc_send_buffer(n);
    if (e == 0)
        e = netvsc_questions(n);
    if (e == 0)
        e = netvsc_rx_copies(n);
    return e;
}

static int probe(struct vmbus_channel *ch)
{
    struct netvsc *n = kzalloc(sizeof(*n));
    int e;

    if (!n) {
        log_err_some("%s: no memory for a NIC", vmbus_channel_name(ch));
        return -E_NOMEM;
    }
    n->channel = ch;
    n->name = vmbus_channel_name(ch);
    wait_queue_init(&n->wait);
    n->nic.ops = &nic_ops;
    n->nic.driver = n;
    n->bounce_room = (struct dma_waiter){.ready = on_bounce_room, .arg = n};
    e = bring_up(n);
    if (e) {
        log_err_some("%s: NIC not usable: %s", n->name, error_name(e));
        destroy(n);
        return e;
    }
    n->gathers = dma_copies();
    n->copy_bytes = (uint32_t)config_number("net.copy_bytes", COPY_DEFAULT, 0, 65536);
    log_info_some("%s: NVSP 0x%x, receive buffer %zu KiB in %u parts of %u, send buffer %zu KiB in %u sections of %u, "
                  "up to %u frames a packet", n->name, n->version, n->receive.pages * 4, n->sub_count, n->sub_bytes,
                  n->send.pages * 4, n->section_count, n->section_bytes, n->max_packets);
    n->registered = true;
    nic_register(&n->nic);
    vmbus_set_driver_data(ch, n);
    e = netvsc_set_filter(n, NDIS_FILTER_DIRECTED | NDIS_FILTER_BROADCAST | NDIS_FILTER_ALL_MULTICAST);
    if (e) {
        log_err_some("%s: the host won't let frames through: %s", n->name, error_name(e));
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

#define TOTAL(n, h, field) {.name = (n), .help = (h), .read = metric_read_u64, .arg = &netvsc_totals.field}
static struct metric metrics[] = {
    TOTAL("candela_netvsc_tx_packets_total", "Packets given to the host, of one or more frames", tx_packets),
    TOTAL("candela_netvsc_tx_stalls_total", "Times that the host completed nothing for long", tx_stalls),
    TOTAL("candela_netvsc_rx_packets_total", "Packets received from the host, of one or more frames", rx_packets),
    TOTAL("candela_netvsc_rx_completions_delayed_total", "Packets given back late because the ring was full",
          rx_completions_delayed),
    TOTAL("candela_netvsc_lies_total", "Packets and messages of the host that made no sense", lies),
};

void netvsc_register(void)
{
    for (unsigned i = 0; i < ARRAY_SIZE(metrics); i++)
        metric_register(&metrics[i]);
    vmbus_register_driver(&driver);
}
