/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Large sends: TCP segments of several times the MTU's, cut by the device (large send offload).
 *
 * lwIP knows no such thing, but its segment size is a number per connection. When a connection is established and its
 * peer takes segments of the full MTU, the number is multiplied; transmit then names the real one to the device. Two
 * places must not notice: the IP layer, which would fragment (net_lso_ip_output), and congestion control, which
 * counts in segments: its window starts at the ten real segments of RFC 6928, which is one large one, and after a
 * timeout it starts there again.
 */
#define LOG_ROOM "net"
#include "rt/net/netif.h"
#include "rt/net/port.h"
#include "lwip/ip.h"
#include "lwip/netif.h"
#include "lwip/priv/tcp_priv.h"
#include "net_hooks.h"
#undef ip_output_if

#define LSO_SEGMENTS 10u
#define TCP_BYTES    20u                    /* header; lwIP's data segments carry no options */
#define ETH_BYTES    14u

static u16_t segment4, segment6;            /* the MTU's own segments */
static u16_t large4, large6;                /* multiples of them; 0: none */

static u16_t large(const struct nic *nic, u16_t segment, uint32_t headers)
{
    uint32_t limit = MIN(nic->lso_max_bytes, 0xffffu);
    if (limit < headers + 2u * segment)
        return 0;
    return (u16_t)(segment * MIN((limit - headers) / segment, LSO_SEGMENTS));
}

void net_lso_attach(const struct nic *nic, const struct netif *netif)
{
    const uint32_t needed = NIC_TX_LSO | NIC_TX_CSUM_TCP;
    u16_t before4 = segment4, before6 = segment6;
    bool four = (nic->tx_offloads & needed) == needed, six = four && (nic->tx_offloads & NIC_TX_IP6);
    segment4 = (u16_t)(netif->mtu - IP_HLEN - TCP_BYTES);
    segment6 = (u16_t)(netif->mtu - IP6_HLEN - TCP_BYTES);
    large4 = four ? large(nic, segment4, ETH_BYTES + IP_HLEN + TCP_BYTES) : 0;
    large6 = six ? large(nic, segment6, ETH_BYTES + IP6_HLEN + TCP_BYTES) : 0;
    /* Another NIC than the one these connections grew large with may not take what they have queued, or would cut it into
     * segments larger than the peer takes: how large its own are is known only as "not below those of before". */
    for (struct tcp_pcb *pcb = tcp_active_pcbs, *next; pcb; pcb = next) {
        bool six_too = IP_IS_V6_VAL(pcb->remote_ip);
        u16_t segment = six_too ? segment6 : segment4, before = six_too ? before6 : before4;
        u16_t limit = MAX(six_too ? large6 : large4, segment);
        bool cut_larger = pcb->mss > before && segment > before;
        next = pcb->next;
        if (pcb->state < ESTABLISHED || pcb->netif_idx != NETIF_NO_INDEX || (pcb->mss <= limit && !cut_larger) ||
            ip_addr_isloopback(&pcb->remote_ip))
            continue;
        log_warn_some("%s:%u: closed, its segments do not suit %s", ipaddr_ntoa(&pcb->remote_ip), pcb->remote_port,
                      nic->name);
        tcp_abort(pcb);
        next = tcp_active_pcbs;             /* an error callback may have closed others */
    }
}

void net_lso_packet_in(struct tcp_pcb *pcb)
{
    if (pcb->state != ESTABLISHED)
        return;
    /* Every second segment is to be acknowledged at once (RFC 9293); several that came as one count as such. */
    if (net_rx_is_joined())
        tcp_ack_now(pcb);
    bool six = IP_IS_V6_VAL(pcb->remote_ip);
    u16_t to = six ? large6 : large4;
    if (to == 0 || pcb->mss != (six ? segment6 : segment4) || ip_current_input_netif() != net_netif())
        return;
    pcb->mss = to;
    pcb->cwnd = MAX(pcb->cwnd, (tcpwnd_size_t)to);
}

err_t net_lso_ip_output(struct pbuf *p, const ip_addr_t *src, const ip_addr_t *dest, u8_t ttl, u8_t tos, u8_t proto,
                        struct netif *netif)
{
    u16_t mtu = netif->mtu, mtu6 = netif->mtu6;
    err_t err;
    if (proto == IP_PROTO_TCP && netif == net_netif())
        netif->mtu = netif->mtu6 = 0;       /* lwIP's word for "do not fragment" */
    if (IP_IS_V6(dest))
        err = ip6_output_if(p, ip_2_ip6(src), ip_2_ip6(dest), ttl, tos, proto, netif);
    else
        err = ip4_output_if(p, ip_2_ip4(src), ip_2_ip4(dest), ttl, tos, proto, netif);
    netif->mtu = mtu;
    netif->mtu6 = mtu6;
    return err;
}
