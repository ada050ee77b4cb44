/* SPDX-License-Identifier: BSD-2-Clause */
/* A look at received frames before lwIP gets them; rx_frame.c. */
#pragma once
#include "rt/nic.h"

/* A TCP segment as bulk transfers have it: no IP options or fragments, no TCP options, no flags but ACK and PSH, and
 * checksums that the device has verified. */
struct rx_segment {
    uint8_t *ip, *tcp;
    uint16_t head_bytes, data_bytes;    /* up to the data, from the frame's first byte; of the data */
    bool six, push;
};

/* Long enough for the headers that lwIP looks into without asking. */
bool net_rx_is_sound(const struct nic_rx *rx);
/* Part of an IP packet, or what may be one. Of a sound frame. */
bool net_rx_is_fragment(const struct nic_rx *rx);
bool net_rx_is_segment(const struct nic_rx *rx, struct rx_segment *s);
/* b says all that a says: both acknowledge only, and b more of the same connection. */
bool net_rx_is_superseded(const struct rx_segment *a, const struct rx_segment *b);
/* b's data begins where a's ends, on the same connection. end: the sequence number behind a's data. */
bool net_rx_continues(const struct rx_segment *a, uint32_t end, const struct rx_segment *b);
/* The sequence number behind the segment's data. */
uint32_t net_rx_end(const struct rx_segment *s);
/* Makes first's headers those of a segment with so much data that ends with last: lengths, acknowledgement, window. */
void net_rx_join(struct rx_segment *first, const struct rx_segment *last, uint32_t data_bytes);
