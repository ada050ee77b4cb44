/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Inside rt/net: what its files offer to each other. Applications see rt/candela.h and rt/net/net.h.
 *
 *   sys_arch.c    semaphores, mailboxes, threads for lwIP's sequential API (and the locking story)
 *   core_calls.c  lwIP's "call the core" functions and its timers
 *   port.c        memory, random numbers, diagnostics
 *   checksum.c    the Internet checksum
 *   isn.c         initial sequence numbers
 *   rx_frame.c    a look at received frames before lwIP gets them
 *   rx.c tx.c     frames between rt/nic.h and lwIP, by reference
 *   tx_offload.c  checksums left to the device; lso.c: segments larger than the MTU
 *   netif.c       the interface en0 on whatever NIC is present
 *   net.c         configuration, bring-up, waiting for an address
 */
#pragma once
#include "rt/nic.h"

struct netif;
struct pbuf;

/* core_calls.c */
void net_timers_start(void);
void net_timers_rearm(void);

/* net_metrics.c */
void net_metrics_register(void);

/* port.c: false when there is no real source and the configuration did not allow a weak one. */
bool net_random_init(void);

/* isn.c */
void net_isn_set_key(const uint64_t secret[2]);
uint64_t net_siphash(const uint64_t secret[2], const uint64_t *words, unsigned count);

/* lso.c: segment sizes for this NIC; connections it can't carry are closed. */
void net_lso_attach(const struct nic *nic, const struct netif *netif);

/* rx.c */
int net_rx_init(unsigned frames);
/* Wraps and feeds frames to lwIP; every token is released, now or when the last reference goes. */
void net_rx_input(struct netif *netif, struct nic *nic, struct nic_rx *frames, unsigned count);
uint64_t net_rx_skipped(void *unused);
uint64_t net_rx_joined(void *unused);
bool net_rx_is_joined(void);            /* the packet that lwIP is looking at stands for several segments */
uint64_t net_rx_held(void *unused);
/* The NIC goes: moves what is still referenced into the heap and releases every token. */
void net_rx_detach(struct nic *nic);

/* tx.c */
int net_tx_init(unsigned frames);
int8_t net_tx_output(struct netif *netif, struct pbuf *p);     /* netif->linkoutput; err_t */
void net_tx_attach(struct nic *nic);                           /* NULL: frames that wait are dropped */
void net_tx_ready(void);                                       /* the NIC has room again */
void net_tx_wait_room(void);                                   /* parks the task while too much is on its way */
void net_tx_kick(void);                                        /* now, instead of at the loop's next turn */
