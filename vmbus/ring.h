/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One ring of a channel: the indices, the masks and the bytes; nothing about channels, tasks or hypercalls.
 *
 * A ring is a control page shared with the host and `size` bytes of data, mapped twice in succession so that no copy
 * is ever split at the wrap. A struct ring is used either as sender (ring_reserve, ring_commit, ring_signal_needed)
 * or as receiver (ring_read, ring_rest). The host is not trusted: our own index is kept here and never read back, the
 * host's is checked each time it is read, and a packet is checked in the private copy.
 *
 * Order of memory accesses (indices are written with release and read with acquire):
 *
 *   sender:   write packet; release(write_index)                     receiver: acquire(write_index); read packet
 *   receiver: copy packet out; release(read_index)                   sender:   acquire(read_index); overwrite the space
 *
 * Two decisions need a full barrier, because each side stores one word and then loads the other's:
 *
 *   signal?   sender:   store write_index; FENCE; load interrupt_mask and read_index           ring_signal_needed, host
 *             receiver: store interrupt_mask = 0; FENCE; load write_index                      host, ring_rest
 *             Either the sender sees the mask cleared and signals, or the receiver sees the packet, or both.
 *   blocked?  sender:   store pending_send_bytes; FENCE; load read_index                       ring_reserve, host
 *             receiver: store read_index; FENCE; load pending_send_bytes                       host, ring_rest
 *             Either the sender sees the space, or the receiver sees that the sender waits and signals, or both.
 *
 * Release and acquire are what keeps a packet's bytes on the right side of its index; a processor that orders stores
 * and loads by itself (x86_64) pays nothing for them, arm64 an STLR and an LDAR. No order is asked of the signal: the
 * FENCE stands between everything published and the hypercall or monitor bit, and whoever the signal wakes on another
 * processor loads the index with acquire. interrupt_mask := 1 alone is unordered: it is an advice, and the store that
 * takes it back is to the same word, so it can't be overtaken.
 *
 * Depends on vmbus_wire.h and lib/errno.h alone, so that tests, fuzzers and model checkers can use it as it is.
 */
#pragma once
#include <stdbool.h>
#include "vmbus/vmbus_wire.h"

struct ring {
    uint8_t *control;          /* struct vmbus_ring_control, shared */
    uint8_t *data;             /* size bytes, then the same bytes again */
    uint32_t size;
    uint32_t mine;             /* our own index; sender: the same as the shared one */
    uint32_t theirs;           /* the host's index when last read: checked */
    uint32_t waiting_bytes;    /* sender: nonzero = a packet of so much (with trailer) found no room */
    uint64_t unsignalled;      /* sender: bytes committed since the last decision about a signal */
    uint32_t unpublished;      /* receiver: bytes read since read_index was last published */
    bool masked;               /* receiver: the host was told not to signal */
    bool signal_due;           /* receiver: the host is blocked and room came free; the caller signals and clears it */
};

/* Bytes that a packet takes in the ring. */
#define RING_PACKET_SPACE(bytes) ((bytes) + VMBUS_PACKET_TRAILER_BYTES)

/* size: a positive multiple of 4096. The control page must be zeroed; the host does not know the ring yet. */
void ring_init(struct ring *r, void *control, void *data, uint32_t size);

/*
 * Sender. Room for one packet of bytes (descriptor included, trailer not; a multiple of 8): *where is where to write
 * it. 0; 1: there is room, but another packet waits for some and may not be told: ring_unblocked is to be asked soon;
 * -E_AGAIN: no room, the host was asked to tell when there is (ring_unblocked); -E_PROTO: the host's index is nonsense.
 */
int ring_reserve(struct ring *r, uint32_t bytes, uint8_t **where);
/* Publishes the packet written where ring_reserve said. */
void ring_commit(struct ring *r, uint32_t bytes);
/*
 * Once per batch: must the host be signalled? Only if it may sleep with something unread, that is if it does not mask
 * and has read all that was there before the batch: any earlier packet had its own decision. 1 yes, 0 no, -E_PROTO.
 */
int ring_signal_needed(struct ring *r);
/* After ring_reserve said -E_AGAIN: true once, when that packet fits now or is to be tried again. */
bool ring_unblocked(struct ring *r);
/* Bytes free now for packets and their trailers. 0 when the host's index is nonsense. */
uint32_t ring_room_bytes(struct ring *r);

/* Where in a buffer aligned to RING_READ_ALIGN the next packet is best copied to: source and target are then aligned
 * alike, which takes a tenth off the round trip of a 16 KiB packet. */
#define RING_READ_ALIGN 64u
static inline uint32_t ring_read_offset(const struct ring *r) { return r->mine % RING_READ_ALIGN; }

/*
 * Receiver. Copies the next packet (without trailer) into buf, lengths checked and corrected in the copy, and returns
 * its bytes; 0 when the ring is empty; -E_PROTO when indices or lengths are nonsense or the packet is longer than
 * capacity.
 */
int ring_read(struct ring *r, void *buf, uint32_t capacity);
/* After ring_read returned 0: unmasks and looks again. 1: dry, the host will signal. 0: more came, still masked.
 * -E_PROTO: the host's index is nonsense. */
int ring_rest(struct ring *r);
/* Tells the host what was read so far; for drains that pause before the ring is dry. */
void ring_publish(struct ring *r);
