/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The bus: connection, offers, channels, GPADLs, rings.
 *
 * A driver registers the class GUID it serves. For each offer the bus calls probe in a task of its own (it may block);
 * when the host rescinds the offer the same task calls remove. Both are called once per offered device. The host is not
 * trusted: every packet is copied out of the ring before the driver sees it.
 *
 * May look at: hv/, mm/, arch/, lib/, rt/rt.h.
 */
#pragma once
#include "hv/hv.h"
#include "hv/shmem.h"
#include "vmbus/vmbus_wire.h"

struct vmbus_channel;

struct vmbus_driver {
    const char *name;                                    /* "storvsc" */
    struct guid class_id;
    int (*probe)(struct vmbus_channel *ch);              /* 0: bound. Else it stays unbound; one line was logged */
    /* Rescinded or broken: the callbacks have stopped. At an orderly stop they go on until vmbus_close, so that the
     * driver can say goodbye. Closes the channel and frees all. */
    void (*remove)(struct vmbus_channel *ch);
    struct list node;
};
void vmbus_register_driver(struct vmbus_driver *driver); /* late ones get the offers known so far */

/* Negotiates, asks for offers, waits for AllOffersDelivered and for the probes they started (each has its own limits).
 * 0; -E_NOTSUP: no version in common / no SynIC; -E_TIMEOUT. Versions are limited by config "vmbus.version=5.2". */
int vmbus_connect(void);
/* Closes devices, sends Unload, waits for the answer (limit). quick: from a panic, polling, no tasks. */
void vmbus_disconnect(bool quick);
uint32_t vmbus_version(void);                            /* 0 when not connected */
/* Must drivers refuse old versions of their protocols? So it is where the host is not trusted. */
bool vmbus_newest_only(void);

/* ---- a channel, for drivers ---- */
void *vmbus_driver_data(struct vmbus_channel *ch);
void vmbus_set_driver_data(struct vmbus_channel *ch, void *data);
const struct vmbus_msg_offer_channel *vmbus_offer(const struct vmbus_channel *ch);
const char *vmbus_channel_name(const struct vmbus_channel *ch);   /* "scsi 3" / "{guid}": for messages */
bool vmbus_channel_rescinded(const struct vmbus_channel *ch);
/*
 * Allocates both rings (sizes include the control page; >= 2 pages each), creates their GPADL, opens. on_readable
 * runs in the event loop whenever packets may wait; it must drain with vmbus_recv until that returns NULL (after some
 * hundred packets it does so early and on_readable runs again: others get their turn). When the offer is rescinded
 * while the driver is in probe or remove it runs once more, so that waits can look at vmbus_channel_rescinded.
 * on_writable runs when space came free after a send returned -E_AGAIN. 0, -E_NOMEM, -E_REFUSED, -E_TIMEOUT,
 * -E_REMOVED.
 */
int vmbus_open(struct vmbus_channel *ch, uint32_t send_ring_bytes, uint32_t recv_ring_bytes,
               const void *user_data, uint32_t user_data_bytes,
               void (*on_readable)(void *arg), void (*on_writable)(void *arg), void *arg);
/* Callbacks stop, the rings' GPADL is torn down; legal in every state. False: the host did not say that it is done with
 * the channel, and may still use the memory of what was asked of it. */
bool vmbus_close(struct vmbus_channel *ch);

struct vmbus_piece { const void *data; uint32_t bytes; };
/*
 * Queue one packet: the pieces are its payload, in order. completion: ask for one under that transaction id. Nothing is
 * signalled until vmbus_kick, which signals the host at most once and only when it needs it.
 * 0; -E_AGAIN: ring full (nothing written, on_writable will follow); -E_REMOVED.
 */
int vmbus_send(struct vmbus_channel *ch, const struct vmbus_piece *pieces, unsigned count, uint64_t transaction_id,
               bool completion);
int vmbus_send_completion(struct vmbus_channel *ch, const void *payload, uint32_t bytes, uint64_t transaction_id);
/* GPA-direct packet: ranges of guest pages, then the payload. */
struct vmbus_gpa_range { uint32_t bytes; uint32_t offset; const uint64_t *frames; uint32_t frame_count; };
int vmbus_send_gpa(struct vmbus_channel *ch, const struct vmbus_gpa_range *ranges, unsigned range_count,
                   const void *payload, uint32_t bytes, uint64_t transaction_id);
void vmbus_kick(struct vmbus_channel *ch);
uint32_t vmbus_send_space(struct vmbus_channel *ch);     /* bytes free in the send ring now */

/* A received packet: header fields checked against what the ring holds, all of it a private copy, aligned to 8, valid
 * until the next call. */
struct vmbus_packet {
    uint16_t type;                                       /* VMBUS_PACKET_* */
    bool completion_requested;
    uint64_t transaction_id;
    const void *header;      uint32_t header_bytes;      /* type-specific header after the 16-byte descriptor */
    const void *payload;     uint32_t payload_bytes;     /* multiple of 8: the sender's padding included */
};
/* The next packet, or NULL when dry (host interrupts unmasked again and re-checked). A corrupt ring stops the channel
 * with one message and ends in NULL: the driver's remove is called as for a rescind. */
const struct vmbus_packet *vmbus_recv(struct vmbus_channel *ch);

/* ---- GPADLs of a driver's own buffers ---- */
int vmbus_gpadl_create(struct vmbus_channel *ch, const struct shmem *memory, uint32_t *gpadl); /* blocks; 10 s */
/* Blocks until the host let go (limit); on rescind returns at once. Never fails: what the host keeps is leaked and
 * counted when the memory is freed. False: it keeps it. */
bool vmbus_gpadl_teardown(struct vmbus_channel *ch, uint32_t gpadl);

/* ---- looking ---- */
struct vmbus_counters { uint64_t messages_sent, messages_received, messages_dropped, offers, rescinds, ring_errors; };
extern struct vmbus_counters vmbus_counters;
struct vmbus_channel_stats { uint64_t signals, interrupts, packets_out, packets_in, ring_full, signals_refused; };
void vmbus_channel_get_stats(const struct vmbus_channel *ch, struct vmbus_channel_stats *stats);
void vmbus_for_each_channel(void (*fn)(struct vmbus_channel *ch, void *arg), void *arg);
void vmbus_dump_channel(const struct vmbus_channel *ch); /* state and ring indices to the log */
