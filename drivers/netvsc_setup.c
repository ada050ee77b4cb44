/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the NIC is asked and told by RNDIS before it carries frames: address, MTU, link, offloads, filter.
 */
#define LOG_ROOM "netvsc"
#include "drivers/netvsc.h"

#define MTU_DEFAULT     1500u
#define MTU_LEAST       576u
#define MTU_MOST        9000u
#define MAC_BYTES       6u

uint32_t netvsc_wanted_mtu(void)
{
    return (uint32_t)config_number("net.mtu", MTU_DEFAULT, MTU_LEAST, MTU_MOST);
}

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
    log_err_some("%s: the host tells no usable MAC address", n->name);
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
        log_info_some("%s: no checksum offloads%s%s", n->name, e ? ": " : "", e ? error_name(e) : "");
        return;
    }
    e = netvsc_set(n, OID_TCP_OFFLOAD_PARAMETERS, &params, params_bytes);
    if (e) {
        log_warn_some("%s: offloads offered and then refused (%s), done without", n->name, error_name(e));
        return;
    }
    n->nic.tx_offloads = chosen.tx;
    n->nic.rx_offloads = chosen.rx;
    n->nic.lso_max_bytes = chosen.lso_max_bytes;
}

int netvsc_set_filter(struct netvsc *n, uint32_t filter)
{
    return netvsc_set(n, OID_GEN_CURRENT_PACKET_FILTER, &filter, sizeof(filter));
}

int netvsc_questions(struct netvsc *n)
{
    uint32_t mtu;
    int e = initialize(n);

    if (e == 0)
        e = ask_mac(n);
    if (e)
        return e;
    mtu = ask_word(n, OID_GEN_MAXIMUM_FRAME_SIZE, MTU_DEFAULT);
    if (mtu < MTU_LEAST || mtu > MTU_MOST) {
        log_warn_some("%s: the host says MTU %u; using %u", n->name, mtu, MTU_DEFAULT);
        mtu = MTU_DEFAULT;
    }
    n->nic.mtu = (uint16_t)MIN(mtu, netvsc_wanted_mtu());
    n->nic.link_up = ask_word(n, OID_GEN_MEDIA_CONNECT_STATUS, 0) == 0;
    n->nic.link_speed_mbps = ask_word(n, OID_GEN_LINK_SPEED, 0) / 10000;
    offloads(n);
    return 0;
}
