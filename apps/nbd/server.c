/* SPDX-License-Identifier: BSD-2-Clause */
/* The NBD server's door: who listens, who is let in. What happens inside is connection.c's. */
#define LOG_ROOM "nbd"
#include "apps/nbd/server.h"
#include "apps/nbd/config.h"
#include "lwip/tcp.h"

static struct nbd_server_config config;
static uint64_t accepted, refused;
static struct tcp_pcb *listener;

/* One line a second at most: whoever knocks must not be able to flood the console. */
static void refuse(struct tcp_pcb *pcb, const char *why)
{
    static uint64_t said_100ns, silent;
    uint64_t now = rt_now_100ns();
    refused++;
    if (said_100ns && now - said_100ns < S_100NS(1)) {
        silent++;
    } else {
        log_warn("%s refused: %s (%llu more since the last such line)", ipaddr_ntoa(&pcb->remote_ip), why,
                 (unsigned long long)silent);
        said_100ns = now;
        silent = 0;
    }
    tcp_abort(pcb);
}

static err_t on_accept(void *arg, struct tcp_pcb *pcb, err_t err)
{
    (void)arg;
    if (err != ERR_OK || !pcb)
        return ERR_VAL;
    if (!nbd_client_allowed(&pcb->remote_ip)) {
        refuse(pcb, "not in nbd.allow=");
        return ERR_ABRT;
    }
    if (nbd_connection_count() >= config.max_connections) {
        refuse(pcb, "too many connections (nbd.connections=)");
        return ERR_ABRT;
    }
    if (!nbd_connection_start(pcb, config.policy)) {
        refuse(pcb, "out of memory");
        return ERR_ABRT;
    }
    accepted++;
    return ERR_OK;
}

int nbd_server_start(const struct nbd_server_config *c)
{
    config = *c;
    struct tcp_pcb *pcb = tcp_new_ip_type(IPADDR_TYPE_ANY);
    if (!pcb || tcp_bind(pcb, IP_ANY_TYPE, c->port) != ERR_OK) {
        log_err("port %u can't be used", c->port);
        if (pcb)
            tcp_abort(pcb);
        return -E_BUSY;
    }
    listener = tcp_listen_with_backlog(pcb, TCP_DEFAULT_LISTEN_BACKLOG);
    if (!listener) {
        tcp_abort(pcb);
        log_err("no memory to listen on port %u", c->port);
        return -E_NOMEM;
    }
    tcp_accept(listener, on_accept);
    return 0;
}

void nbd_server_stop(uint64_t limit_us)
{
    if (listener)
        tcp_close(listener);
    listener = NULL;
    nbd_connections_finish(limit_us);
}

void nbd_server_get_stats(struct nbd_server_stats *stats)
{
    stats->accepted = accepted;
    stats->refused = refused;
    stats->connections = nbd_connection_count();
    nbd_connection_totals(&stats->total);
}
