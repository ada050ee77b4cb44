/* SPDX-License-Identifier: BSD-2-Clause */
/* The NBD server on TCP; server.c. */
#pragma once
#include "apps/nbd/session.h"

struct nbd_server_config {
    uint16_t port;
    unsigned max_connections;
    const struct nbd_policy *policy;
};
/* 0, or a negative error after a log line. */
int nbd_server_start(const struct nbd_server_config *config);

struct nbd_server_stats {
    uint64_t accepted, refused, dropped;
    unsigned connections;
    /* of all connections, past ones too */
    uint64_t reads, writes, flushes, trims, zeroes, errors, read_bytes, write_bytes;
};
void nbd_server_get_stats(struct nbd_server_stats *stats);
/* The n-th connection there is, NULL past the last; valid until the caller blocks. */
const struct nbd_session *nbd_server_session(unsigned n);
