/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * RNDIS messages: building ours, checking the host's. No state, no sleeping, no logging: netvsc is the user.
 *
 * What the host sends lies in memory it can still change, so every function here copies the part it looks at, once,
 * and checks the copy. Sources: Remote NDIS 1.1, and the NDIS offload structures' documentation.
 */
#pragma once
#include "drivers/rndis_wire.h"
#include "lib/lib.h"
#include "rt/nic.h"

/* ---- data ---- */
#define RNDIS_TX_HEADER_MAX ((uint32_t)(sizeof(struct rndis_packet) + sizeof(struct rndis_ppi_word)))
/* Bytes before the frame of a message for tx. */
uint32_t rndis_tx_header_bytes(const struct nic_tx *tx);
/* Writes that header at out for a frame of tx->total_bytes that follows it. Returns its length. */
uint32_t rndis_tx_header(void *out, const struct nic_tx *tx);
/* LSO version 2 wants lengths in the copied headers zeroed; frame holds at least transport_offset + 20 bytes. */
void rndis_lso_prepare(uint8_t *frame, const struct nic_tx *tx);

/* What a received data message holds. */
struct rndis_rx {
    uint32_t frame_offset;         /* from the message's start */
    uint32_t frame_bytes;
    uint32_t flags;                /* enum nic_rx_flag */
    uint16_t vlan;
};
/* The first look at a message in [message, message + bytes): its header, all zero when there is none. Later ones look
 * at what is behind it only, so that what was decided by type and length stays true. */
struct rndis_header rndis_header_read(const void *message, uint32_t bytes);
/* Checks the message as one of data. NULL when it is good, else what is wrong with it. */
const char *rndis_rx_parse(const void *message, uint32_t bytes, const struct rndis_header *header, struct rndis_rx *rx);
/* NULL when the length of any message is sound. */
const char *rndis_header_check(const struct rndis_header *header, uint32_t bytes);

/* ---- control ---- */
#define RNDIS_INFO_MAX 512u        /* of what we ask or set */
/* Each builds a message at out (room for sizeof the struct plus info) and returns its length. */
uint32_t rndis_build_initialize(void *out, uint32_t id);
uint32_t rndis_build_halt(void *out, uint32_t id);
uint32_t rndis_build_request(void *out, uint32_t type, uint32_t id, uint32_t oid, const void *info,
                             uint32_t info_bytes);
/* The information in a query's answer (a private copy of reply_bytes), or NULL when the answer is unsound. */
const void *rndis_query_info(const void *reply, uint32_t reply_bytes, uint32_t *info_bytes);

/* What of the host's offer we use; fills params for the SET that follows. known_udp: NVSP 5 and later. */
struct rndis_offloads { uint32_t tx, rx, lso_max_bytes; };
struct rndis_offloads rndis_choose_offloads(const struct ndis_offload *offer, uint32_t offer_bytes, bool modern,
                                            struct ndis_offload_parameters *params, uint32_t *params_bytes);
