/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * lwIP's options. Only what differs from lwip/opt.h, and why.
 *
 * Sizes are chosen for a server with a few dozen busy connections in 32 MiB of RAM: descriptors come from fixed pools
 * (fast, and a bound that no client can push), bytes from the kernel heap.
 */
#pragma once

/* ---- the system: cooperative tasks, see sys_arch.c and core_calls.c ---- */
#define NO_SYS                          0
#define SYS_LIGHTWEIGHT_PROT            0     /* no preemption, and interrupt handlers never come here */
#define LWIP_TCPIP_CORE_LOCKING         1
#define LOCK_TCPIP_CORE()               ((void)0)   /* a task that does not block owns the core, so it is locked */
#define UNLOCK_TCPIP_CORE()             ((void)0)
#define LWIP_COMPAT_MUTEX               0
#define LWIP_PROVIDE_ERRNO              1
#define DEFAULT_TCP_RECVMBOX_SIZE       64
#define DEFAULT_UDP_RECVMBOX_SIZE       64
#define DEFAULT_ACCEPTMBOX_SIZE         32
#define LWIP_HOOK_FILENAME              "net_hooks.h"

/* ---- memory ---- */
#include "lwip/init.h"                        /* the version: every source includes lwip/opt.h, and so this, first */
#ifndef LWIP_VERSION_REVISION
#error "lwip/init.h must not be the first of lwIP's headers"
#endif
#define MEM_ALIGNMENT                   8
#if LWIP_VERSION_MAJOR == 2 && LWIP_VERSION_MINOR == 2 && LWIP_VERSION_REVISION == 0
#define MEM_LIBC_MALLOC                 1     /* Ubuntu 24.04's 2.2.0 names the allocator so, and only so */
#define mem_clib_malloc                 net_malloc
#define mem_clib_calloc                 net_calloc
#define mem_clib_free                   net_free
#else
#define MEM_CUSTOM_ALLOCATOR            1
#define MEM_CUSTOM_MALLOC               net_malloc
#define MEM_CUSTOM_CALLOC               net_calloc
#define MEM_CUSTOM_FREE                 net_free
#endif
#define MEMP_NUM_PBUF                   4096  /* pieces sent by reference */
#define MEMP_NUM_TCP_SEG                4096
#define MEMP_NUM_TCP_PCB                128
#define MEMP_NUM_TCP_PCB_LISTEN         16
#define MEMP_NUM_UDP_PCB                32
#define MEMP_NUM_NETCONN                64
#define MEMP_NUM_NETBUF                 64
#define MEMP_NUM_REASSDATA              16
#define MEMP_NUM_FRAG_PBUF              64
#define IP_REASS_MAX_PBUFS              128
#define PBUF_POOL_SIZE                  8     /* received frames are not copied into the pool; see rx.c */
#define LWIP_DISABLE_TCP_SANITY_CHECKS  1     /* one of them wants the pool to hold a whole window */

/* ---- TCP ---- */
#define TCP_MSS                         8960  /* the upper limit (9000-byte MTU); the interface's MTU decides */
#define TCP_CALCULATE_EFF_SEND_MSS      1
#define LWIP_WND_SCALE                  1
#define TCP_RCV_SCALE                   3
#define TCP_WND                         (256 * 1024)
#define TCP_SND_BUF                     (512 * 1024)
#define TCP_SND_QUEUELEN                1024  /* pbufs: a full send buffer in segments of 1460, and some */
#define TCP_SNDLOWAT                    16384
#define TCP_SNDQUEUELOWAT               512
#define TCP_OVERSIZE                    512   /* room kept behind a small copied write, for the next small write */
#define TCP_QUEUE_OOSEQ                 1
#define TCP_OOSEQ_MAX_PBUFS             192   /* a window in segments of 1460; tiny ones would empty everybody's pool */
#define LWIP_TCP_SACK_OUT               1
#define LWIP_TCP_KEEPALIVE              1
#define TCP_LISTEN_BACKLOG              1
#define TCP_DEFAULT_LISTEN_BACKLOG      64
#define LWIP_HOOK_TCP_ISN               net_tcp_isn

/* ---- IP ---- */
#define LWIP_IPV4                       1
#define LWIP_IPV6                       1
#define LWIP_IPV6_DHCP6                 0     /* addresses by router advertisement */
#define IPV6_FRAG_COPYHEADER            1     /* its bookkeeping has pointers: 64 bits do not fit in the header */
#define LWIP_ND6_RDNSS_MAX_DNS_SERVERS  2
#define LWIP_DHCP                       1
#define LWIP_ACD                        0     /* address probing would delay every boot by five seconds */
#define LWIP_DHCP_DOES_ACD_CHECK        0
#define LWIP_DNS                        1
#define DNS_MAX_SERVERS                 3
#define LWIP_RAW                        0     /* it would look at every packet */
#define LWIP_ICMP                       1
#define LWIP_BROADCAST_PING             0
#define ARP_TABLE_SIZE                  64
#define ARP_QUEUEING                    1
#define LWIP_IPV6_NUM_ADDRESSES         4

/* ---- the interface ---- */
#define LWIP_SINGLE_NETIF               0     /* loopback beside en0 */
#define LWIP_HAVE_LOOPIF                1
#define LWIP_NETIF_LOOPBACK             1
#define LWIP_NETIF_LOOPBACK_MULTITHREADING 1
#define LWIP_LOOPBACK_MAX_PBUFS         64
#define LWIP_NETIF_HOSTNAME             1
#define LWIP_NETIF_STATUS_CALLBACK      1
#define LWIP_NETIF_LINK_CALLBACK        1
#define LWIP_NETIF_TX_SINGLE_PBUF       0
#define LWIP_SUPPORT_CUSTOM_PBUF        1
#define LWIP_CHECKSUM_CTRL_PER_NETIF    1     /* offloads are known when the NIC is there */
#define LWIP_CHKSUM                     net_checksum
#define LWIP_NETIF_HWADDRHINT           1     /* each connection remembers its neighbour's place in the ARP table */
#define ETH_PAD_SIZE                    0     /* frames arrive where the host put them; nothing relies on alignment */

/* ---- sockets ---- */
#define LWIP_NETCONN                    1
#define LWIP_SOCKET                     1
#define LWIP_COMPAT_SOCKETS             1
#define LWIP_POSIX_SOCKETS_IO_NAMES     0     /* read, write, close belong to nobody here */
#define LWIP_SO_RCVTIMEO                1
#define LWIP_SO_SNDTIMEO                1
#define LWIP_SO_RCVBUF                  1
#define RECV_BUFSIZE_DEFAULT            65536
#define SO_REUSE                        1
#define LWIP_SOCKET_SELECT              1
#define LWIP_SOCKET_POLL                1
#define LWIP_NETIF_API                  0

/* ---- counters, for /metrics ---- */
#define LWIP_STATS                      1
#define LWIP_STATS_DISPLAY              0
#define LWIP_STATS_LARGE                1
#define MEM_STATS                       0
#define MEMP_STATS                      0
#define SYS_STATS                       0
