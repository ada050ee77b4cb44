/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * RNDIS messages: see rndis.h. All offsets inside a message body count from its byte 8 (RNDIS_OFFSET_BASE).
 */
#include <string.h>
#include "drivers/rndis.h"

#define TCP_CHECKSUM_OFFSET 16
#define ETHERNET_BYTES      14u

/* ---- sending ---- */

static bool wants_word(const struct nic_tx *tx)
{
    return tx->flags & (NIC_TX_CSUM_IP4 | NIC_TX_CSUM_TCP | NIC_TX_CSUM_UDP | NIC_TX_LSO);
}

uint32_t rndis_tx_header_bytes(const struct nic_tx *tx)
{
    return (uint32_t)sizeof(struct rndis_packet) + (wants_word(tx) ? (uint32_t)sizeof(struct rndis_ppi_word) : 0);
}

static uint32_t checksum_word(const struct nic_tx *tx)
{
    uint32_t word = tx->flags & NIC_TX_IP6 ? RNDIS_TX_CHECKSUM_IPV6 : RNDIS_TX_CHECKSUM_IPV4;

    if (tx->flags & NIC_TX_CSUM_TCP)
        word |= RNDIS_TX_CHECKSUM_TCP;
    if (tx->flags & NIC_TX_CSUM_UDP)
        word |= RNDIS_TX_CHECKSUM_UDP;
    if (tx->flags & NIC_TX_CSUM_IP4)
        word |= RNDIS_TX_CHECKSUM_IP_HEADER;
    if (tx->flags & (NIC_TX_CSUM_TCP | NIC_TX_CSUM_UDP))
        word |= (tx->transport_offset & RNDIS_TX_CHECKSUM_HEADER_MASK) << RNDIS_TX_CHECKSUM_HEADER_SHIFT;
    return word;
}

static uint32_t lso_word(const struct nic_tx *tx)
{
    return (tx->mss & RNDIS_LSO_MSS_MASK) | (tx->transport_offset & RNDIS_LSO_HEADER_MASK) << RNDIS_LSO_HEADER_SHIFT |
           RNDIS_LSO_TYPE_V2 | (tx->flags & NIC_TX_IP6 ? RNDIS_LSO_IPV6 : 0);
}

uint32_t rndis_tx_header(void *out, const struct nic_tx *tx)
{
    uint32_t header = rndis_tx_header_bytes(tx);
    struct rndis_packet p = {
        .header = {RNDIS_PACKET, header + tx->total_bytes},
        .data_offset = header - RNDIS_OFFSET_BASE,
        .data_length = tx->total_bytes,
    };

    if (wants_word(tx)) {
        bool lso = tx->flags & NIC_TX_LSO;
        struct rndis_ppi_word w = {
            .ppi = {sizeof(w), lso ? RNDIS_PPI_LSO : RNDIS_PPI_CHECKSUM, sizeof(w.ppi)},
            .value = lso ? lso_word(tx) : checksum_word(tx),
        };
        p.ppi_offset = sizeof(p) - RNDIS_OFFSET_BASE;
        p.ppi_length = sizeof(w);
        memcpy((char *)out + sizeof(p), &w, sizeof(w));
    }
    memcpy(out, &p, sizeof(p));
    return header;
}

/* Takes the 16-bit value at field (as it lies in memory) out of the one's complement sum. */
static uint16_t sum_without(uint16_t sum, uint16_t value)
{
    uint32_t s = (uint32_t)sum + (uint16_t)~value;

    return (uint16_t)((s & 0xFFFF) + (s >> 16));
}

void rndis_lso_prepare(uint8_t *frame, const struct nic_tx *tx)
{
    uint8_t *ip = frame + ETHERNET_BYTES;
    uint8_t *sum_at = frame + tx->transport_offset + TCP_CHECKSUM_OFFSET;
    uint32_t tcp_bytes = tx->total_bytes - tx->transport_offset;
    uint16_t sum, swapped = (uint16_t)((tcp_bytes & 0xFF) << 8 | ((tcp_bytes >> 8) & 0xFF));

    if (tx->flags & NIC_TX_IP6) {
        ip[4] = ip[5] = 0;
    } else {
        ip[2] = ip[3] = 0;               /* total length */
        ip[10] = ip[11] = 0;             /* header checksum */
    }
    memcpy(&sum, sum_at, sizeof(sum));
    sum = sum_without(sum, swapped);
    memcpy(sum_at, &sum, sizeof(sum));
}

/* ---- receiving ---- */

const char *rndis_header_parse(const void *message, uint32_t bytes, struct rndis_header *header)
{
    if (bytes < sizeof(*header))
        return "shorter than a header";
    copy_once(header, message, sizeof(*header));
    if (header->length < sizeof(*header))
        return "a length smaller than a header";
    if (header->length > bytes)
        return "a length beyond its range";
    return NULL;
}

static void take_checksum(uint32_t word, struct rndis_rx *rx)
{
    if (word & RNDIS_RX_CHECKSUM_IP_OK)
        rx->flags |= NIC_RX_CSUM_IP4_OK;
    if (word & (RNDIS_RX_CHECKSUM_TCP_OK | RNDIS_RX_CHECKSUM_UDP_OK))
        rx->flags |= NIC_RX_CSUM_L4_OK;
    if (word & (RNDIS_RX_CHECKSUM_TCP_FAILED | RNDIS_RX_CHECKSUM_UDP_FAILED | RNDIS_RX_CHECKSUM_IP_FAILED))
        rx->flags |= NIC_RX_CSUM_BAD;
}

/* The elements in [at, at + left). Each step is at least an element's header long, so it ends. */
static const char *parse_ppis(const char *at, uint32_t left, struct rndis_rx *rx)
{
    while (left > 0) {
        struct rndis_ppi ppi;
        uint32_t word;

        if (left < sizeof(ppi))
            return "packet information cut short";
        copy_once(&ppi, at, sizeof(ppi));
        if (ppi.bytes < sizeof(ppi) || ppi.bytes > left)
            return "packet information of a wrong size";
        if (ppi.type == RNDIS_PPI_CHECKSUM || ppi.type == RNDIS_PPI_VLAN) {
            if (ppi.data_offset < sizeof(ppi) || ppi.bytes < sizeof(word) || ppi.data_offset > ppi.bytes - sizeof(word))
                return "packet information with a wrong offset";
            copy_once(&word, at + ppi.data_offset, sizeof(word));
            if (ppi.type == RNDIS_PPI_CHECKSUM)
                take_checksum(word, rx);
            else
                rx->vlan = (uint16_t)((word >> RNDIS_VLAN_ID_SHIFT) & RNDIS_VLAN_ID_MASK);
        }
        at += ppi.bytes;
        left -= ppi.bytes;
    }
    return NULL;
}

const char *rndis_rx_parse(const void *message, uint32_t bytes, struct rndis_rx *rx)
{
    struct rndis_packet p;
    uint32_t body;

    if (bytes < sizeof(p))
        return "shorter than a data message";
    copy_once(&p, message, sizeof(p));
    if (p.header.type != RNDIS_PACKET)
        return "not a data message";
    if (p.header.length < sizeof(p) || p.header.length > bytes)
        return "a length that does not fit its range";
    body = p.header.length - RNDIS_OFFSET_BASE;
    if (p.data_offset < sizeof(p) - RNDIS_OFFSET_BASE || p.data_offset > body)
        return "a frame outside the message";
    if (p.data_length > body - p.data_offset)
        return "a frame beyond the message";
    if (p.data_length < ETHERNET_BYTES)
        return "a frame shorter than its header";
    rx->frame_offset = RNDIS_OFFSET_BASE + p.data_offset;
    rx->frame_bytes = p.data_length;
    rx->flags = 0;
    rx->vlan = 0;
    if (p.ppi_length == 0)
        return NULL;
    if (p.ppi_offset < sizeof(p) - RNDIS_OFFSET_BASE || p.ppi_offset > body || p.ppi_length > body - p.ppi_offset)
        return "packet information outside the message";
    return parse_ppis((const char *)message + RNDIS_OFFSET_BASE + p.ppi_offset, p.ppi_length, rx);
}

/* ---- control ---- */

uint32_t rndis_build_initialize(void *out, uint32_t id)
{
    struct rndis_initialize m = {
        .header = {RNDIS_INITIALIZE, sizeof(m)},
        .request_id = id,
        .major = RNDIS_VERSION_MAJOR,
        .minor = RNDIS_VERSION_MINOR,
        .max_transfer_bytes = 0x4000,    /* what every known guest says */
    };

    memcpy(out, &m, sizeof(m));
    return sizeof(m);
}

uint32_t rndis_build_halt(void *out, uint32_t id)
{
    struct rndis_halt m = {.header = {RNDIS_HALT, sizeof(m)}, .request_id = id};

    memcpy(out, &m, sizeof(m));
    return sizeof(m);
}

uint32_t rndis_build_request(void *out, uint32_t type, uint32_t id, uint32_t oid, const void *info, uint32_t info_bytes)
{
    /* Some hosts take the information from right behind the request whatever the offset says. */
    struct rndis_request m = {
        .header = {type, (uint32_t)sizeof(m) + info_bytes},
        .request_id = id,
        .oid = oid,
        .info_length = info_bytes,
        .info_offset = info_bytes ? RNDIS_REQUEST_INFO_OFFSET : 0,
    };

    KASSERT(info_bytes <= RNDIS_INFO_MAX);
    memcpy(out, &m, sizeof(m));
    if (info_bytes)
        memcpy((char *)out + sizeof(m), info, info_bytes);
    return m.header.length;
}

const void *rndis_query_info(const void *reply, uint32_t reply_bytes, uint32_t *info_bytes)
{
    struct rndis_query_complete m;

    if (reply_bytes < sizeof(m))
        return NULL;
    memcpy(&m, reply, sizeof(m));
    if (m.info_offset < RNDIS_QUERY_COMPLETE_INFO_OFFSET || m.info_offset > reply_bytes - RNDIS_OFFSET_BASE ||
        m.info_length > reply_bytes - RNDIS_OFFSET_BASE - m.info_offset)
        return NULL;
    *info_bytes = m.info_length;
    return (const char *)reply + RNDIS_OFFSET_BASE + m.info_offset;
}

/* ---- offloads ---- */

static uint8_t offload_value(bool tx, bool rx)
{
    if (tx)
        return rx ? NDIS_OFFLOAD_TX_RX : NDIS_OFFLOAD_TX;
    return rx ? NDIS_OFFLOAD_RX : NDIS_OFFLOAD_OFF;
}

struct rndis_offloads rndis_choose_offloads(const struct ndis_offload *offer, uint32_t offer_bytes, bool modern,
                                            struct ndis_offload_parameters *params, uint32_t *params_bytes)
{
    struct rndis_offloads chosen = {0};
    const struct ndis_checksum_capabilities *c = &offer->checksum;
    uint32_t tcp4 = NDIS_CHECKSUM_TCP | NDIS_CHECKSUM_TCP_OPTIONS;
    uint32_t tcp6 = tcp4 | NDIS_CHECKSUM_IP_OPTIONS;
    bool tx_tcp4, tx_tcp6, tx_udp4, tx_udp6, tx_ip, rx_ip, rx_tcp4, rx_udp4, rx_tcp6, rx_udp6, lso4, lso6;

    memset(params, 0, sizeof(*params));
    if (offer_bytes < NDIS_OFFLOAD_BYTES_REV1 || offer->header.type != NDIS_OBJECT_OFFLOAD ||
        offer->header.bytes < NDIS_OFFLOAD_BYTES_REV1)
        return chosen;
    tx_ip = c->ipv4_tx & NDIS_CHECKSUM_IP_HEADER;
    rx_ip = c->ipv4_rx & NDIS_CHECKSUM_IP_HEADER;
    tx_tcp4 = (c->ipv4_tx & tcp4) == tcp4;
    rx_tcp4 = (c->ipv4_rx & tcp4) == tcp4;
    tx_tcp6 = (c->ipv6_tx & tcp6) == tcp6;
    rx_tcp6 = (c->ipv6_rx & tcp6) == tcp6;
    /* The short form of the parameters that old hosts know has no UDP. */
    tx_udp4 = modern && (c->ipv4_tx & NDIS_CHECKSUM_UDP);
    rx_udp4 = modern && (c->ipv4_rx & NDIS_CHECKSUM_UDP);
    tx_udp6 = modern && (c->ipv6_tx & NDIS_CHECKSUM_UDP);
    rx_udp6 = modern && (c->ipv6_rx & NDIS_CHECKSUM_UDP);
    lso4 = tx_tcp4 && (offer->lso_v2.ipv4_encapsulation & NDIS_ENCAPSULATION_8023) && offer->lso_v2.ipv4_max_bytes;
    lso6 = tx_tcp6 && (offer->lso_v2.ipv6_encapsulation & NDIS_ENCAPSULATION_8023) && offer->lso_v2.ipv6_max_bytes &&
           (offer->lso_v2.ipv6_options & NDIS_LSO_IPV6_TCP_OPTIONS);

    chosen.tx = (tx_ip ? NIC_TX_CSUM_IP4 : 0) | (tx_tcp4 ? NIC_TX_CSUM_TCP : 0) | (tx_udp4 ? NIC_TX_CSUM_UDP : 0);
    /* One flag speaks for all that IPv4 has. */
    if ((tx_tcp6 || !tx_tcp4) && (tx_udp6 || !tx_udp4) && (tx_tcp6 || tx_udp6))
        chosen.tx |= NIC_TX_IP6;
    if (lso4 && lso6 && (chosen.tx & NIC_TX_IP6)) {
        chosen.tx |= NIC_TX_LSO;
        chosen.lso_max_bytes = MIN(offer->lso_v2.ipv4_max_bytes, offer->lso_v2.ipv6_max_bytes);
    }
    chosen.rx = (rx_ip ? NIC_RX_CSUM_IP4_OK : 0) | (rx_tcp4 || rx_udp4 ? NIC_RX_CSUM_L4_OK : 0);

    params->header.type = NDIS_OBJECT_DEFAULT;
    params->header.revision = 3;
    *params_bytes = modern ? (uint32_t)sizeof(*params) : NDIS_OFFLOAD_PARAMETERS_BYTES_OLD;
    params->header.bytes = (uint16_t)*params_bytes;
    params->ipv4_checksum = offload_value(tx_ip, rx_ip);
    params->tcp_ipv4_checksum = offload_value(tx_tcp4, rx_tcp4);
    params->tcp_ipv6_checksum = offload_value(tx_tcp6, rx_tcp6);
    if (modern) {
        params->udp_ipv4_checksum = offload_value(tx_udp4, rx_udp4);
        params->udp_ipv6_checksum = offload_value(tx_udp6, rx_udp6);
    }
    params->lso_v1 = NDIS_OFFLOAD_LSO_OFF;
    params->lso_v2_ipv4 = chosen.tx & NIC_TX_LSO ? NDIS_OFFLOAD_LSO_ON : NDIS_OFFLOAD_LSO_OFF;
    params->lso_v2_ipv6 = params->lso_v2_ipv4;
    return chosen;
}
