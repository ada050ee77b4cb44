/* SPDX-License-Identifier: BSD-2-Clause */
/* A look at received frames before lwIP gets them; rx_frame.c. */
#pragma once
#include "rt/nic.h"

/* A TCP segment as bulk transfers have it: no IP options or fragments, no TCP options, no flags but ACK and PSH, and
 * checksums that the device has verified. */
struct rx_segment {
    uint8_t *ip, *tcp;
    uint32_t head_bytes, data_bytes;    /* up to the data, from the frame's first byte; of the data */
    uint32_t sequence, acknowledge;
    uint16_t window;                    /* as it lies in memory */
    bool six;
    uint8_t push;                       /* TCP_PSH or 0 */
};

/* Long enough for the headers that lwIP looks into without asking. */
bool net_rx_is_sound(const struct nic_rx *rx);
/* Part of an IP packet, or what may be one. Of a sound frame. */
bool net_rx_is_fragment(const struct nic_rx *rx);
bool net_rx_is_segment(const struct nic_rx *rx, struct rx_segment *s);
/* b says all that a says: both acknowledge only, and b more of the same connection. */
bool net_rx_is_superseded(const struct rx_segment *a, const struct rx_segment *b);
/* b's data begins where a's ends, on the same connection. */
bool net_rx_continues(const struct rx_segment *a, const struct rx_segment *b);
/* a becomes the segment that has b's data, too: its length, acknowledgement and window. */
static inline void net_rx_join(struct rx_segment *a, const struct rx_segment *b)
{
    a->data_bytes += b->data_bytes;
    a->acknowledge = b->acknowledge;
    a->window = b->window;
    a->push |= b->push;
}
/* Writes into the headers what the joins have changed. */
void net_rx_write_joined(const struct rx_segment *s);
