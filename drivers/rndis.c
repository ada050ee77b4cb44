/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * RNDIS messages: see rndis.h. All offsets inside a message body count from its byte 8 (RNDIS_OFFSET_BASE).
 */
#include <string.h>
#include "drivers/rndis.h"

#define TCP_CHECKSUM_OFFSET 16
#define ETHERNET_BYTES      14u
#define UNLIKELY(c)         __builtin_expect(!!(c), 0)

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
    bool word = wants_word(tx), lso = tx->flags & NIC_TX_LSO;
    const uint32_t fixed = sizeof(struct rndis_packet), header = fixed + (word ? sizeof(struct rndis_ppi_word) : 0);

    *(struct rndis_packet *)out = (struct rndis_packet){
        .header = {RNDIS_PACKET, header + tx->total_bytes},
        .data_offset = header - RNDIS_OFFSET_BASE,
        .data_length = tx->total_bytes,
        .ppi_offset = word ? fixed - RNDIS_OFFSET_BASE : 0,
        .ppi_length = word ? sizeof(struct rndis_ppi_word) : 0,
    };
    if (word)
        *(struct rndis_ppi_word *)(void *)((char *)out + fixed) = (struct rndis_ppi_word){
            .ppi = {sizeof(struct rndis_ppi_word), lso ? RNDIS_PPI_LSO : RNDIS_PPI_CHECKSUM, sizeof(struct rndis_ppi)},
            .value = lso ? lso_word(tx) : checksum_word(tx),
        };
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

struct rndis_header rndis_header_read(const void *message, uint32_t bytes)
{
    struct rndis_header header = {0};

    if (bytes >= sizeof(header))
        copy_once(&header, message, sizeof(header));
    return header;
}

const char *rndis_header_check(const struct rndis_header *header, uint32_t bytes)
{
    if (bytes < sizeof(*header))
        return "shorter than a header";
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

/* A word of memory that the host can still change: read exactly once. */
typedef const volatile uint32_t __attribute__((aligned(1), may_alias)) shared_word;

static inline uint32_t word_at(const char *message, size_t offset)
{
    return *(shared_word *)(message + offset);
}

/* The elements in [at, at + left). Each step is at least an element's header long, so it ends. */
static const char *parse_ppis(const char *at, uint32_t left, struct rndis_rx *rx)
{
    while (left > 0) {
        if (UNLIKELY(left < sizeof(struct rndis_ppi)))
            return "packet information cut short";
        uint32_t bytes = word_at(at, offsetof(struct rndis_ppi, bytes));
        uint32_t type = word_at(at, offsetof(struct rndis_ppi, type));
        if (UNLIKELY(bytes < sizeof(struct rndis_ppi) || bytes > left))
            return "packet information of a wrong size";
        if (type == RNDIS_PPI_CHECKSUM || type == RNDIS_PPI_VLAN) {
            uint32_t offset = word_at(at, offsetof(struct rndis_ppi, data_offset)), word;
            if (UNLIKELY(offset < sizeof(struct rndis_ppi) || bytes < sizeof(word) || offset > bytes - sizeof(word)))
                return "packet information with a wrong offset";
            word = word_at(at, offset);
            if (type == RNDIS_PPI_CHECKSUM)
                take_checksum(word, rx);
            else
                rx->vlan = (uint16_t)((word >> RNDIS_VLAN_ID_SHIFT) & RNDIS_VLAN_ID_MASK);
        }
        at += bytes;
        left -= bytes;
    }
    return NULL;
}

const char *rndis_rx_parse(const void *message, uint32_t bytes, const struct rndis_header *header, struct rndis_rx *rx)
{
    const uint32_t least = sizeof(struct rndis_packet) - RNDIS_OFFSET_BASE;
    const char *m = message;
    uint32_t length = header->length, body, offset, frame_bytes, ppi_bytes;

    if (UNLIKELY(bytes < sizeof(struct rndis_packet)))
        return "shorter than a data message";
    if (UNLIKELY(header->type != RNDIS_PACKET))
        return "not a data message";
    if (UNLIKELY(length < sizeof(struct rndis_packet) || length > bytes))
        return "a length that does not fit its range";
    body = length - RNDIS_OFFSET_BASE;
    offset = word_at(m, offsetof(struct rndis_packet, data_offset));
    if (UNLIKELY(offset < least || offset > body))
        return "a frame outside the message";
    frame_bytes = word_at(m, offsetof(struct rndis_packet, data_length));
    if (UNLIKELY(frame_bytes > body - offset))
        return "a frame beyond the message";
    if (UNLIKELY(frame_bytes < ETHERNET_BYTES))
        return "a frame shorter than its header";
    *rx = (struct rndis_rx){.frame_offset = RNDIS_OFFSET_BASE + offset, .frame_bytes = frame_bytes};
    ppi_bytes = word_at(m, offsetof(struct rndis_packet, ppi_length));
    if (ppi_bytes == 0)
        return NULL;
    offset = word_at(m, offsetof(struct rndis_packet, ppi_offset));
    if (UNLIKELY(offset < least || offset > body || ppi_bytes > body - offset))
        return "packet information outside the message";
    return parse_ppis(m + RNDIS_OFFSET_BASE + offset, ppi_bytes, rx);
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
