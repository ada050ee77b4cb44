/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What an application sees. Include this one header, define app_main, link.
 *
 *   int app_main(int argc, char **argv)      runs in its own task once disks and network are up; argv from "args="
 *
 * Sockets are lwIP's, with a prefix: lwip_socket, lwip_bind, lwip_listen, lwip_accept, lwip_recv, lwip_send,
 * lwip_close, lwip_getaddrinfo (lwip/sockets.h, lwip/netdb.h). Blocking calls park the calling task only; a task
 * sees its own errno until it blocks. For work without copies there are lwIP's callback interface (lwip/tcp.h,
 * lwip/udp.h) and net_release_after_tx: rt/net/net.h, which also lists the net.* settings. apps/iperf uses sockets,
 * apps/nbd callbacks.
 * Disks: rt/blk.h, blocking (blk_read ...) or with many requests in flight (blk_submit).
 * Tasks, time, random numbers, configuration: rt/rt.h.
 * Returning from app_main flushes and shuts the machine down with that exit code in the log.
 */
#pragma once
#include "lib/lib.h"
#include "rt/blk.h"
#include "rt/nic.h"
#include "rt/rt.h"

/* The application defines both; the result is only logged. */
int app_main(int argc, char **argv);
extern const char app_name[];                       /* the application defines its name */

/* ---- rt/net: the network stack on the first NIC ---- */
/* Waits until an address is configured (DHCP or static); false when limit_us passed or there is no network at all. */
bool net_wait_ready(uint64_t limit_us);
/* Text of the interface's addresses, "10.0.2.15/24", for messages; "" when none. */
const char *net_address_text(void);

/* ---- the machine, for status pages ---- */
struct boot_phase { const char *name; uint64_t at_100ns; uint64_t counter; };
unsigned boot_phases(const struct boot_phase **phases);
/* The boot budget starts at this value of the cycle counter: the first instruction of ours. Before any mark. */
void boot_phases_begin(uint64_t counter);
/* The phase of this name (a literal) is reached now. Stamps made before there was a clock are computed later. */
void boot_phase_mark(const char *name);
const char *candela_version(void);                  /* "0.1.0-<git describe>" */
const char *candela_loader(void);
void candela_set_loader(const char *name);
/* Rooms add lines to /status and /metrics without the application naming them. */
struct metric {
    const char *name, *help;
    uint64_t (*read)(void *arg);
    void *arg;
    bool gauge;
    struct metric *next;
};
void metric_register(struct metric *m);
const struct metric *metric_first(void);
/* Functions run before power-off, newest first (flush, say goodbye). */
struct shutdown_hook { void (*fn)(void *arg); void *arg; struct shutdown_hook *next; };
void shutdown_add_hook(struct shutdown_hook *h);
NORETURN void machine_shutdown(int code);           /* hooks, disks flushed, bus unloaded, power off */
