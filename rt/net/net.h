/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The network stack: lwIP on the first NIC, interface "en0".
 *
 * Applications get lwIP's BSD sockets (lwip/sockets.h) on tasks, and for work without copies lwIP's callback API
 * (lwip/tcp.h, lwip/udp.h). The callback API may be called from tasks, events and timers alike, because nothing
 * pre-empts and lwIP never blocks; its callbacks run in the event loop and must not block.
 *
 * What a received pbuf's payload points to is only the application's until it returns to the loop or blocks: the frame may
 * move then (so that its NIC gets its own memory back), and payload with it. Take payload anew each time.
 *
 * Configuration: net.address=dhcp (default) | 10.0.0.5/24 | none   net.gateway=10.0.0.1   net.dns=10.0.0.1,10.0.0.2
 * net.mtu=N   net.hostname=NAME   net.ipv6=0   net.weak_random=1
 *
 * The interface outlives the NIC: when a NIC goes and one comes back, addresses and connections stay, DHCP asks again.
 */
#pragma once
#include "rt/rt.h"

/* Brings the stack up and attaches to the NICs there are and to come. Once, after the drivers' bus is up. Returns 0, or
 * a negative error after one log line that names it: the machine goes on without a network. */
int net_init(void);
bool net_is_up(void);                   /* net_init succeeded; there may be no address yet */

/* net_wait_ready and net_address_text are in rt/candela.h. */

/* For status pages. Text is valid until the next call. */
struct net_info {
    const char *nic_name;               /* "nic0", or NULL: none */
    uint8_t mac[6];
    unsigned mtu, link_speed_mbps;
    bool link_up, by_dhcp;
    char address4[20], gateway[16], dns[48];
    char address6[4][48];               /* "" where unused */
};
void net_get_info(struct net_info *info);

/*
 * Memory that was given to TCP or UDP by reference may still be pointed to by frames in the NIC's queue after it was
 * acknowledged. fn runs when every frame handed to the NIC before now is done: at once when there is none. It runs in
 * the caller's context or in the event loop; r belongs to the caller again.
 */
struct net_release { struct list node; uint64_t before; void (*fn)(struct net_release *r); };
void net_release_after_tx(struct net_release *r);
