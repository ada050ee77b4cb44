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
uint64_t metric_read_u64(void *value);              /* .read of what is a uint64_t somewhere; .arg: its address */
const struct metric *metric_first(void);

/* ---- the end of the machine ---- */
/*
 * The host, or the application itself, may ask for the end. An application that looks (shutdown_wait in a task of its
 * own, or shutdown_requested now and then) is given ten seconds to come to an end and return from app_main; for one
 * that never looked the hooks run at once. Either way: hooks, newest first; disks flushed; bus unloaded; power off, or
 * restart.
 */
enum shutdown_kind { SHUTDOWN_NONE, SHUTDOWN_POWER_OFF, SHUTDOWN_RESTART };
enum shutdown_kind shutdown_requested(void);
bool shutdown_wait(uint64_t limit_us);              /* parks until there is a request; false: the limit came first */
/* From anywhere but interrupt handlers. force: the application gets three seconds. 0; -E_BUSY: the other kind of end
 * was asked for before. */
int shutdown_request(enum shutdown_kind kind, bool force);
/* Functions run before the end, newest first, in a task; each may block and has limits of its own. */
struct shutdown_hook { void (*fn)(void *arg); void *arg; struct shutdown_hook *next; };
void shutdown_add_hook(struct shutdown_hook *h);
void shutdown_flush_disks(void *arg);               /* a hook: every writable disk that has a cache */
/* Hooks, then power off; or restart, when that was asked for. */
NORETURN void machine_shutdown(int code);
NORETURN void machine_restart(int code);
/* The boot task's last act: waits for a request and carries it out. */
NORETURN void machine_attend(void);

/* ---- the time of day, from the host ---- */
/* Unix time. False: nobody told it yet. It goes forward only, but for steps back, which watchers are told. */
bool wall_now_ns(uint64_t *unix_ns);
bool wall_wait(uint64_t limit_us);                  /* until it is known */
#define WALL_TEXT_BYTES 40
const char *wall_text(char *text, size_t bytes);    /* "2026-11-20 10:45:00 UTC", or "unknown"; returns text */
/* Told of every step after the first, in the event loop: negative, it was set back. */
struct wall_watcher { void (*fn)(void *arg, int64_t step_ns); void *arg; struct wall_watcher *next; };
void wall_watch(struct wall_watcher *w);
struct wall_stats {
    const char *source;                             /* "host", "firmware", "unknown" */
    uint64_t samples, ignored, steps, backward_steps;
    int64_t last_offset_ns;                         /* what the last sample found our clock to be behind by */
};
void wall_get_stats(struct wall_stats *stats);

/* ---- keys: text that the host and the guest leave for one another ---- */
/* The value that the host's administrator gave this key, else what the host says of itself (HostName,
 * VirtualMachineName, ...), cut to bytes. False: there is no such key. */
bool host_key_get(const char *key, char *value, size_t bytes);
unsigned host_key_count(void);
/* The n-th of both kinds. Valid until the calling task blocks. False: there are fewer. */
struct host_key { const char *key, *value; };
bool host_key_at(unsigned n, struct host_key *key);
/* Told in the event loop, after the change. value NULL: the key was deleted. */
struct host_key_watcher {
    void (*fn)(void *arg, const char *key, const char *value);
    void *arg;
    struct host_key_watcher *next;
};
void host_key_watch(struct host_key_watcher *w);
/* What the host's administrator can read; NULL withdraws it. 0; -E_INVAL: an empty key, more than 255 or (the value)
 * 1023 UTF-16 words, or not UTF-8; -E_NOSPC: too many; -E_NOMEM. */
int guest_key_set(const char *key, const char *value);

/* ---- how the application is, for the host's heartbeat: healthy from the start until it says otherwise ---- */
void application_set_healthy(bool healthy);
