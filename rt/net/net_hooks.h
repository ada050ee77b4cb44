/* SPDX-License-Identifier: BSD-2-Clause */
/* Functions that lwIP's hooks name (lwipopts.h), included by its sources behind their own headers. */
#pragma once
#include "lwip/err.h"
#include "lwip/ip_addr.h"

struct netif;
struct pbuf;
struct tcp_pcb;

/* Initial sequence number of a connection, RFC 6528: isn.c. */
u32_t net_tcp_isn(const ip_addr_t *local, u16_t local_port, const ip_addr_t *remote, u16_t remote_port);

/* Large sends: lso.c. Every TCP packet received for a connection, and every one sent. */
void net_lso_packet_in(struct tcp_pcb *pcb);
#define LWIP_HOOK_TCP_INPACKET_PCB(pcb, hdr, optlen, opt1len, opt2, p) (net_lso_packet_in(pcb), ERR_OK)
err_t net_lso_ip_output(struct pbuf *p, const ip_addr_t *src, const ip_addr_t *dest, u8_t ttl, u8_t tos, u8_t proto,
                        struct netif *netif);
#ifdef ip_output_if
#undef ip_output_if
#define ip_output_if net_lso_ip_output
#endif
