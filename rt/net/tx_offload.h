/* SPDX-License-Identifier: BSD-2-Clause */
/* Checksums of frames to be sent, left to the device where it can; tx_offload.c. */
#pragma once
#include "rt/nic.h"

struct netif;
struct pbuf;

/* Tells lwIP which checksums it need not compute for this NIC. */
void net_tx_offload_setup(struct netif *netif, const struct nic *nic);
/* Whether the headers are where net_tx_offload can see them: in the first piece. */
bool net_tx_offload_fits(const struct pbuf *p);
/* Sets tx->flags and the offset and completes the checksum, in the frame or by the device. False: cannot be sent. */
bool net_tx_offload(struct nic_tx *tx, struct pbuf *p, struct netif *netif, const struct nic *nic);
