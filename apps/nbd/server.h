/* SPDX-License-Identifier: BSD-2-Clause */
/* The NBD server on TCP; server.c. */
#pragma once
#include "apps/nbd/connection.h"

struct nbd_server_config {
    uint16_t port;
    unsigned max_connections;
    const struct nbd_policy *policy;
};
/* 0, or a negative error after a log line. */
int nbd_server_start(const struct nbd_server_config *config);

/* Lets nobody in any more, serves the requests that were received, closes all connections; what a client has not taken
 * by the limit is dropped. Blocks. */
void nbd_server_stop(uint64_t limit_us);

struct nbd_server_stats {
    uint64_t accepted, refused;
    unsigned connections;
    struct nbd_totals total;
};
void nbd_server_get_stats(struct nbd_server_stats *stats);
