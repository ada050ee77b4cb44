/* SPDX-License-Identifier: BSD-2-Clause */
/* lwIP's own counters as metrics: what a person asks for when the network is slow. */
#include "rt/candela.h"
#include "rt/net/port.h"
#include "lwip/opt.h"
#include "lwip/stats.h"

static uint64_t read_counter(void *arg) { return *(const STAT_COUNTER *)arg; }

/* Checksum errors and shortages are summed over the protocols: one line each is enough to see that there are any. */
static uint64_t read_checksum_errors(void *arg)
{
    (void)arg;
    return (uint64_t)lwip_stats.ip.chkerr + lwip_stats.tcp.chkerr + lwip_stats.udp.chkerr + lwip_stats.icmp.chkerr +
           lwip_stats.icmp6.chkerr;
}

static uint64_t read_shortages(void *arg)
{
    (void)arg;
    return (uint64_t)lwip_stats.ip.memerr + lwip_stats.tcp.memerr + lwip_stats.udp.memerr + lwip_stats.icmp.memerr +
           lwip_stats.ip_frag.memerr + lwip_stats.ip6_frag.memerr + lwip_stats.etharp.memerr + lwip_stats.link.memerr;
}

#define COUNTER(n, h, field) {.name = (n), .help = (h), .read = read_counter, .arg = &lwip_stats.field}
static struct metric metrics[] = {
    COUNTER("candela_net_tcp_received_total", "TCP segments received.", tcp.recv),
    COUNTER("candela_net_tcp_sent_total", "TCP segments sent, large sends as one.", tcp.xmit),
    COUNTER("candela_net_tcp_dropped_total", "TCP segments received and dropped.", tcp.drop),
    COUNTER("candela_net_udp_received_total", "UDP datagrams received.", udp.recv),
    COUNTER("candela_net_udp_dropped_total", "UDP datagrams received and dropped.", udp.drop),
    COUNTER("candela_net_ip4_dropped_total", "IPv4 packets received and dropped.", ip.drop),
    COUNTER("candela_net_ip6_dropped_total", "IPv6 packets received and dropped.", ip6.drop),
    {.name = "candela_net_checksum_errors_total", .help = "Packets with a wrong checksum.",
     .read = read_checksum_errors},
    {.name = "candela_net_shortages_total", .help = "Packets lost for want of memory or descriptors.",
     .read = read_shortages},
    {.name = "candela_net_receive_skipped_total", .help = "Acknowledgements that a later one made superfluous.",
     .read = net_rx_skipped},
    {.name = "candela_net_receive_joined_total", .help = "TCP segments handled as part of an earlier one.",
     .read = net_rx_joined},
    {.name = "candela_net_receive_held_frames", .help = "Received frames that are still in use.", .read = net_rx_held,
     .gauge = true},
};

void net_metrics_register(void)
{
    for (unsigned i = 0; i < ARRAY_SIZE(metrics); i++)
        metric_register(&metrics[i]);
}
