/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * TCP and UDP checksums of outgoing frames.
 *
 * When the device can do them for at least one IP version, lwIP leaves the field zero and this file completes it: with
 * the pseudo-header's sum and a flag for the device, or in software for the IP version it does not cover. The IPv4
 * header's own checksum is ten words and stays with lwIP.
 */
#define LOG_ROOM "net"
#include "rt/net/tx_offload.h"
#include <string.h>
#include "rt/net/netif.h"
#include "lwip/netif.h"
#include "lwip/pbuf.h"
#include "lwip/prot/ethernet.h"
#include "lwip/prot/ip.h"

#define ETH_BYTES     14
#define IP4_MIN_BYTES 20
#define IP6_BYTES     40
#define TCP_SUM_AT    16
#define UDP_SUM_AT    6
#define TCP_BYTES     20
#define UDP_BYTES     8
#define IP6_FRAGMENT  44

static inline uint16_t be16(const uint8_t *p) { return (uint16_t)(p[0] << 8 | p[1]); }

void net_tx_offload_setup(struct netif *netif, const struct nic *nic)
{
    u16_t flags = NETIF_CHECKSUM_ENABLE_ALL;
    if (nic->tx_offloads & NIC_TX_CSUM_TCP)
        flags &= ~NETIF_CHECKSUM_GEN_TCP;
    if (nic->tx_offloads & NIC_TX_CSUM_UDP)
        flags &= ~NETIF_CHECKSUM_GEN_UDP;
    NETIF_SET_CHECKSUM_CTRL(netif, flags);
}

bool net_tx_offload_fits(const struct pbuf *p)
{
    const uint8_t *frame = p->payload, *ip = frame + ETH_BYTES;
    unsigned ip_bytes;
    uint8_t protocol;
    if (p->len == p->tot_len)
        return true;
    if (p->len < ETH_BYTES + IP4_MIN_BYTES)
        return false;
    switch (be16(frame + 12)) {
    case ETHTYPE_IP:
        ip_bytes = (ip[0] & 15u) * 4;
        protocol = be16(ip + 6) & 0x1fff ? 0 : ip[9];   /* only the first fragment has a transport header */
        break;
    case ETHTYPE_IPV6:
        ip_bytes = IP6_BYTES;
        protocol = ip[6];
        break;
    default:
        return true;
    }
    return p->len >= ETH_BYTES + ip_bytes +
                         (protocol == IP_PROTO_TCP ? TCP_BYTES : protocol == IP_PROTO_UDP ? UDP_BYTES : 0u);
}

/* The one's complement sum of a chain from an offset of its first piece on. */
static uint32_t chain_sum(const struct pbuf *p, unsigned offset)
{
    uint32_t sum = 0;
    bool odd = false;                   /* the pieces so far add up to an odd length */
    for (; p; p = p->next, offset = 0) {
        unsigned n = p->len - offset;
        uint16_t s = net_checksum((uint8_t *)p->payload + offset, (int)n);
        sum += odd ? (uint16_t)(s << 8 | s >> 8) : s;
        odd ^= n & 1;
    }
    return sum;
}

static uint16_t fold(uint64_t sum)
{
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)sum;
}

/* A frame beyond the MTU: is it TCP, and will the device cut it? */
static bool net_tx_large(const struct pbuf *p, const struct netif *netif, const struct nic *nic)
{
    const uint8_t *frame = p->payload, *ip = frame + ETH_BYTES;
    uint32_t needed = NIC_TX_LSO | NIC_TX_CSUM_TCP;
    if (p->len < ETH_BYTES + IP6_BYTES || p->tot_len > nic->lso_max_bytes)
        return false;
    if (netif->chksum_flags & NETIF_CHECKSUM_GEN_TCP)
        return false;
    if (be16(frame + 12) == ETHTYPE_IPV6) {
        needed |= NIC_TX_IP6;
        return ip[6] == IP_PROTO_TCP && (nic->tx_offloads & needed) == needed;
    }
    return be16(frame + 12) == ETHTYPE_IP && ip[9] == IP_PROTO_TCP && (nic->tx_offloads & needed) == needed;
}

bool net_tx_offload(struct nic_tx *tx, struct pbuf *p, struct netif *netif, const struct nic *nic)
{
    uint8_t *frame = p->payload, *ip = frame + ETH_BYTES;
    const uint32_t mtu = net_mtu();     /* the device's; lwIP's own is larger while it makes large sends */
    tx->flags = 0;
    tx->transport_offset = 0;
    if (p->tot_len > mtu + ETH_BYTES && !net_tx_large(p, netif, nic))
        return false;
    if (p->len < ETH_BYTES + IP4_MIN_BYTES)
        return true;
    uint16_t type = be16(frame + 12);
    unsigned ip_bytes, payload_bytes, address_at, address_bytes;
    uint8_t protocol;
    if (type == ETHTYPE_IP) {
        ip_bytes = (ip[0] & 15u) * 4;
        /* Fragments: TCP never makes any; a UDP checksum of zero over IPv4 means "none". */
        if (be16(ip + 6) & 0x3fff)
            return true;
        protocol = ip[9];
        payload_bytes = be16(ip + 2) - ip_bytes;
        address_at = 12;
        address_bytes = 8;
    } else if (type == ETHTYPE_IPV6 && p->len >= ETH_BYTES + IP6_BYTES) {
        ip_bytes = IP6_BYTES;
        protocol = ip[6];
        payload_bytes = be16(ip + 4);
        address_at = 8;
        address_bytes = 32;
        if (protocol == IP6_FRAGMENT && p->len >= ETH_BYTES + IP6_BYTES + 8 && ip[IP6_BYTES] == IP_PROTO_UDP &&
            !(netif->chksum_flags & NETIF_CHECKSUM_GEN_UDP)) {
            static bool said;
            if (!said)
                log_warn("UDP over IPv6 beyond the MTU is not sent: its checksum is the device's, per frame");
            said = true;
            return false;
        }
    } else {
        return true;
    }
    uint8_t *sum_field;
    uint32_t flag;
    if (protocol == IP_PROTO_TCP && !(netif->chksum_flags & NETIF_CHECKSUM_GEN_TCP)) {
        sum_field = ip + ip_bytes + TCP_SUM_AT;
        flag = NIC_TX_CSUM_TCP;
    } else if (protocol == IP_PROTO_UDP && !(netif->chksum_flags & NETIF_CHECKSUM_GEN_UDP)) {
        sum_field = ip + ip_bytes + UDP_SUM_AT;
        flag = NIC_TX_CSUM_UDP;
    } else {
        return true;
    }
    if (sum_field + 2 > frame + p->len)
        return false;
    uint64_t sum = 0;
    for (uint32_t word; address_bytes > 0; address_at += sizeof(word), address_bytes -= sizeof(word)) {
        memcpy(&word, ip + address_at, sizeof(word));
        sum += word;
    }
    sum += (uint16_t)((payload_bytes & 0xff) << 8 | payload_bytes >> 8);    /* in memory order, like the sums */
    sum += (uint16_t)(protocol << 8);
    uint16_t seed = fold(sum);
    memcpy(sum_field, &seed, 2);
    if (type == ETHTYPE_IPV6 && !(nic->tx_offloads & NIC_TX_IP6)) {
        uint16_t whole = (uint16_t)~fold(chain_sum(p, ETH_BYTES + ip_bytes));
        if (whole == 0 && protocol == IP_PROTO_UDP)
            whole = 0xffff;
        memcpy(sum_field, &whole, 2);
        return true;
    }
    if (p->tot_len > mtu + ETH_BYTES)
        flag |= NIC_TX_LSO;
    tx->transport_offset = (uint16_t)(ETH_BYTES + ip_bytes);
    tx->mss = (uint16_t)(mtu - ip_bytes - TCP_BYTES);
    tx->flags = flag | (type == ETHTYPE_IPV6 ? NIC_TX_IP6 : 0);
    return true;
}
