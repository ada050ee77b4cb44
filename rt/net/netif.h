/* SPDX-License-Identifier: BSD-2-Clause */
/* The interface en0; netif.c. */
#pragma once
#include "rt/nic.h"

struct netif;
struct net_netif_config {
    uint16_t mtu;                       /* 0: the NIC's */
    const char *hostname;
    bool ipv6;
    void (*status_changed)(struct netif *netif);
};
/* Makes the interface and attaches it to the NICs there are and to come. After the pools of rx.c and tx.c. */
int net_netif_init(const struct net_netif_config *config);
struct netif *net_netif(void);
struct nic *net_current_nic(void);      /* NULL: none */
uint16_t net_mtu(void);                 /* the interface's; lwIP's own copy is 0 while TCP sends (lso.c) */
struct machine_network;
void net_describe(struct machine_network *network);   /* describe.c */
