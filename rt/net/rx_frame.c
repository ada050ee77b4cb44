/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What can be known of received frames without the protocols' state: whether they are long enough to be looked at, and
 * which of them, received together, can be handled together.
 */
#include "rt/net/rx_frame.h"
#include <string.h>
#include "lwip/opt.h"
#include "lwip/prot/etharp.h"
#include "lwip/prot/ethernet.h"
#include "lwip/prot/ip.h"
#include "lwip/prot/ip4.h"
#include "lwip/prot/ip6.h"
#include "lwip/prot/tcp.h"

#define TCP_BYTES 20u
#define TCP_SEQUENCE_AT 4
#define TCP_ACKNOWLEDGE_AT 8
#define TCP_WINDOW_AT 14

static uint16_t be16(const uint8_t *p) { return (uint16_t)(p[0] << 8 | p[1]); }
static uint32_t be32(const uint8_t *p) { return (uint32_t)be16(p) << 16 | be16(p + 2); }
static void put16(uint8_t *p, uint32_t v) { p[0] = (uint8_t)(v >> 8); p[1] = (uint8_t)v; }
static void put32(uint8_t *p, uint32_t v) { put16(p, v >> 16); put16(p + 2, v); }
static uint64_t load64(const uint8_t *p) { uint64_t v; memcpy(&v, p, sizeof(v)); return v; }
static uint32_t load32(const uint8_t *p) { uint32_t v; memcpy(&v, p, sizeof(v)); return v; }

static bool is_extension(uint8_t next)
{
    return next == IP6_NEXTH_HOPBYHOP || next == IP6_NEXTH_ROUTING || next == IP6_NEXTH_FRAGMENT ||
           next == IP6_NEXTH_DESTOPTS;
}

/*
 * IPv6 extension headers: each must lie in the frame with a word to spare, for lwIP reads a header's length, and an
 * option's, before it compares them with the frame's.
 */
static bool is_sound_ip6(const uint8_t *frame, uint32_t bytes)
{
    uint32_t at = SIZEOF_ETH_HDR + IP6_HLEN;
    uint8_t next = frame[SIZEOF_ETH_HDR + 6];
    while (is_extension(next)) {
        if (bytes - at < 8)
            return false;
        uint32_t length = next == IP6_NEXTH_FRAGMENT ? 8 : 8u * (1 + frame[at + 1]);
        if (length > bytes - at || bytes - at - length < 4)
            return false;
        next = frame[at];
        at += length;
    }
    return true;
}

bool net_rx_is_sound(const struct nic_rx *rx)
{
    const uint8_t *frame = rx->frame;
    if (rx->bytes > 0xffff || rx->bytes < SIZEOF_ETH_HDR || rx->vlan || (rx->flags & NIC_RX_CSUM_BAD))
        return false;
    switch (be16(frame + 12)) {
    case ETHTYPE_ARP:  return rx->bytes >= SIZEOF_ETH_HDR + SIZEOF_ETHARP_HDR;
    case ETHTYPE_IP:   return rx->bytes >= SIZEOF_ETH_HDR + IP_HLEN;
    case ETHTYPE_IPV6: return rx->bytes >= SIZEOF_ETH_HDR + IP6_HLEN && is_sound_ip6(frame, rx->bytes);
    default:           return true;
    }
}

bool net_rx_is_fragment(const struct nic_rx *rx)
{
    const uint8_t *frame = rx->frame, *ip = frame + SIZEOF_ETH_HDR;
    switch (be16(frame + 12)) {
    case ETHTYPE_IP:   return be16(ip + 6) & 0x3fff;
    case ETHTYPE_IPV6: return ip[6] != IP6_NEXTH_TCP && ip[6] != IP6_NEXTH_UDP && ip[6] != IP6_NEXTH_ICMP6;
    default:           return false;
    }
}

bool net_rx_is_segment(const struct nic_rx *rx, struct rx_segment *s)
{
    const uint32_t verified = NIC_RX_CSUM_L4_OK | NIC_RX_CSUM_IP4_OK;
    uint8_t *frame = rx->frame;
    uint32_t ip_bytes, total;           /* of the IP header; of the IP packet */
    if (rx->bytes < SIZEOF_ETH_HDR + IP_HLEN + TCP_BYTES || rx->bytes > 0xffff || rx->vlan)
        return false;
    if (rx->flags & NIC_RX_CSUM_BAD)
        return false;
    s->ip = frame + SIZEOF_ETH_HDR;
    switch (be16(frame + 12)) {
    case ETHTYPE_IP:
        if ((rx->flags & verified) != verified || s->ip[0] != 0x45 || (be16(s->ip + 6) & 0x3fff) ||
            s->ip[9] != IP_PROTO_TCP)
            return false;
        s->six = false;
        ip_bytes = IP_HLEN;
        total = be16(s->ip + 2);
        break;
    case ETHTYPE_IPV6:
        if (!(rx->flags & NIC_RX_CSUM_L4_OK) || s->ip[6] != IP6_NEXTH_TCP)
            return false;
        s->six = true;
        ip_bytes = IP6_HLEN;
        total = IP6_HLEN + be16(s->ip + 4);
        break;
    default:
        return false;
    }
    if (total > rx->bytes - SIZEOF_ETH_HDR || total < ip_bytes + TCP_BYTES)
        return false;
    s->tcp = s->ip + ip_bytes;
    if (s->tcp[12] != TCP_BYTES / 4 << 4 || (s->tcp[13] & ~TCP_PSH) != TCP_ACK)
        return false;
    s->head_bytes = SIZEOF_ETH_HDR + ip_bytes + TCP_BYTES;
    s->data_bytes = total - ip_bytes - TCP_BYTES;
    s->sequence = be32(s->tcp + TCP_SEQUENCE_AT);
    s->acknowledge = be32(s->tcp + TCP_ACKNOWLEDGE_AT);
    memcpy(&s->window, s->tcp + TCP_WINDOW_AT, sizeof(s->window));
    s->push = s->tcp[13] & TCP_PSH;
    return true;
}

/* Addresses and ports lie side by side. */
static bool same_connection(const struct rx_segment *a, const struct rx_segment *b)
{
    if (a->six != b->six || load32(a->tcp) != load32(b->tcp))
        return false;
    for (int at = a->six ? -32 : -8; at < 0; at += 8)
        if (load64(a->tcp + at) != load64(b->tcp + at))
            return false;
    return true;
}

bool net_rx_is_superseded(const struct rx_segment *a, const struct rx_segment *b)
{
    return a->data_bytes == 0 && b->data_bytes == 0 && (int32_t)(b->acknowledge - a->acknowledge) > 0 &&
           a->sequence == b->sequence && same_connection(a, b);
}

bool net_rx_continues(const struct rx_segment *a, const struct rx_segment *b)
{
    /* An acknowledgement that goes back is old news in the wrong order: not to be joined. */
    return b->data_bytes > 0 && b->sequence == a->sequence + a->data_bytes &&
           (int32_t)(b->acknowledge - a->acknowledge) >= 0 && same_connection(a, b);
}

void net_rx_write_joined(const struct rx_segment *s)
{
    put32(s->tcp + TCP_ACKNOWLEDGE_AT, s->acknowledge);
    memcpy(s->tcp + TCP_WINDOW_AT, &s->window, sizeof(s->window));
    s->tcp[13] |= s->push;
    if (s->six)
        put16(s->ip + 4, TCP_BYTES + s->data_bytes);
    else
        put16(s->ip + 2, IP_HLEN + TCP_BYTES + s->data_bytes);
}
