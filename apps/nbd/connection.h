/* SPDX-License-Identifier: BSD-2-Clause */
/* NBD sessions on TCP connections; connection.c. */
#pragma once
#include "apps/nbd/session.h"

struct tcp_pcb;

/* Sums over all connections, past ones too. */
struct nbd_totals { uint64_t reads, writes, flushes, trims, zeroes, errors, read_bytes, write_bytes, dropped; };

/* Takes an accepted connection over. False: out of memory, it is still the caller's. */
bool nbd_connection_start(struct tcp_pcb *pcb, const struct nbd_policy *policy);
/* Each is closed when what it asked for is answered; after the limit it is dropped. Blocks. */
void nbd_connections_finish(uint64_t limit_us);
unsigned nbd_connection_count(void);
void nbd_connection_totals(struct nbd_totals *totals);
/* The n-th connection there is, NULL past the last; valid until the caller blocks. */
const struct nbd_session *nbd_connection_session(unsigned n);
