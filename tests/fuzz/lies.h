/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Between the good host and the guest: the input says what becomes of each message or packet on its way.
 *
 * The linker leads the model's two exits here (fuzz.mk): channel messages on their way into the SynIC's slot, and packets
 * that are about to be published in a ring. An input is a list of orders, one for each that passes; the first byte is
 * the order (its low three bits) and an argument (the other five):
 *
 *   0 pass       and so many more, untouched
 *   1 patch      argument % 16 + 1 bytes at an offset (u16) of the payload; one more patch follows if argument >= 16
 *   2 replace    the payload: length (u16), bytes
 *   3 drop
 *   4 twice
 *   5 envelope   which (argument % 4): type (u16), id (u64), flags (u16), the type's own header: offset (u16), 4 bytes
 *   6 cut        the payload to a length (u16)
 *   7 before it  another one: envelope by argument (lies.c), length (u16), bytes; then the next order is for this one
 *
 * When the input is used up everything passes: the host is a good one again.
 */
#pragma once
#include "tests/fuzz/fuzz.h"
#include "tests/host/host_internal.h"

enum lies_about { LIES_NONE, LIES_MESSAGES, LIES_PACKETS };
void lies_begin(enum lies_about what, struct input *in);
void lies_end(void);
bool lies_left(void);                          /* orders that nothing has come by for */
/* Says the next order's bytes by itself, whatever the order: as a message, or as a packet on the channel. */
void lies_say_message(struct host *h);
void lies_say_packet(struct host_chan *ch);

/* A packet on its way. header: what follows the descriptor up to the payload. The orders apply to the body, which is the
 * payload unless lies_look says otherwise. */
struct lie_packet {
    struct host_chan *channel;
    uint16_t type, flags;
    uint64_t id;
    uint32_t header_bytes, payload_bytes;
    uint8_t *body;
    uint32_t *body_bytes, body_room;
    uint8_t header[4096], payload[16384];
};
/* Optional: sees each packet before the orders apply, and may name what it points at as its body (receive buffers).
 * False: the orders don't apply to it. */
extern bool (*lies_look)(struct lie_packet *p);
