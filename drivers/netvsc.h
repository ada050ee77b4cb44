/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * netvsc, shared by its files:
 *
 *   netvsc.c          a NIC's life: open, NVSP handshake, buffers, RNDIS questions, registration, removal
 *   netvsc_control.c  one NVSP or RNDIS exchange at a time, by a task
 *   netvsc_rx.c       transfer-page packets: frames handed up by reference, given back in batches
 *   netvsc_tx.c       frames down: small ones copied into send sections, several to a packet; large ones by page
 * frames
 *
 * Two buffers are shared with the host for the NIC's life: the receive buffer, cut into sub-allocations by the host,
 * and the send buffer, cut into sections. One channel, one CPU's event loop and tasks.
 */
#pragma once
#include "drivers/netvsc_wire.h"
#include "drivers/rndis.h"
#include "hv/copies.h"
#include "hv/dma.h"
#include "rt/nic.h"
#include "vmbus/vmbus.h"

#define NETVSC_RING_BYTES        (256u * 1024)
#define NETVSC_SLOTS             256u             /* data packets outstanding at the host */
#define NETVSC_HEADER_BYTES      256u             /* of each slot: RNDIS header and the frame's first bytes */
#define NETVSC_RX_BATCH          64u
#define NETVSC_RX_COPIES_MOST    1280u            /* private copies of frames: more than the stack holds on to */
#define NETVSC_RX_COPIES_LEAST   (2 * NETVSC_RX_BATCH)
#define NETVSC_RX_PACKETS_MOST   16384u           /* received packets at the stack, when sub-allocations are tiny */
#define NETVSC_TX_FRAMES         40u              /* page frames of one packet: 64 KiB in NIC_MAX_PIECES pieces */
#define NETVSC_TX_RANGES         (NIC_MAX_PIECES + 1)
#define NETVSC_SECTION_NONE      UINT16_MAX
#define NETVSC_REPLY_BYTES       1024u            /* of an RNDIS answer; the longest asked for has 156 */

#define NETVSC_RECEIVE_DEFAULT   (16u * 1024 * 1024)
#define NETVSC_RECEIVE_MOST      (31u * 1024 * 1024)
#define NETVSC_RECEIVE_MOST_OLD  (15u * 1024 * 1024)   /* NVSP 2 and before */
#define NETVSC_RECEIVE_LEAST     (128u * 1024)
#define NETVSC_SEND_DEFAULT      (1024u * 1024)
#define NETVSC_SEND_LEAST        (64u * 1024)
#define NETVSC_SECTION_LEAST     68u              /* of either buffer: a header and a shortest frame */

#define NETVSC_ANSWER_LIMIT_US   (30 * 1000000ull)
#define NETVSC_DRAIN_LIMIT_US    (5 * 1000000ull)
#define NETVSC_STALL_S           10               /* without any completion while frames are out */

/* Transaction ids: slots are (generation << 32 | index + 1); an exchange has the top bit and a sequence number. */
#define NETVSC_ID_EXCHANGE       (1ull << 63)

struct netvsc_slot {
    struct nic_tx *tx;                   /* sent by reference; NULL: copied */
    struct dma_mapping map;              /* of a frame that is bounced */
    uint32_t generation;
    uint16_t section;                    /* or NETVSC_SECTION_NONE */
    uint16_t next_free;
    bool busy;
};

/* A received packet with frames at the stack. */
struct netvsc_rx_packet {
    uint64_t transaction_id;
    uint32_t frames;                     /* not yet released, and one while it is being parsed */
    uint32_t status;                     /* NVSP_STATUS_* to answer */
    struct netvsc_rx_packet *next;       /* free, or waiting for room in the ring */
};

struct netvsc_counters {
    uint64_t lies, tx_packets, tx_completions, tx_stalls, rx_packets, rx_completions_delayed, indications;
};

struct netvsc {
    struct nic nic;
    struct vmbus_channel *channel;
    const char *name;                    /* the channel's */
    uint32_t version;                    /* NVSP_VERSION_* */
    uint32_t message_bytes;
    bool opened, registered, closing;
    bool receive_told, send_told;        /* the host knows the buffer */
    bool rndis_up;

    struct shmem receive, send, headers;
    uint32_t receive_gpadl, send_gpadl;  /* 0: none */
    uint32_t sub_bytes, sub_count;
    uint32_t section_bytes, section_count;

    /* exchange: one at a time */
    struct wait_queue wait;
    uint64_t sequence;
    bool sent_waiting;                   /* for the VMBus completion of exchange "sequence" */
    struct nvsp_message answer;
    uint32_t answer_bytes;
    uint32_t request_id;
    bool reply_waiting;                  /* for the RNDIS answer to request_id */
    uint32_t reply_type;
    uint32_t reply_bytes;
    uint8_t reply[NETVSC_REPLY_BYTES];

    /* receiving */
    struct netvsc_rx_packet *rx_packets, *rx_free;
    struct netvsc_rx_packet *rx_waiting_first, **rx_waiting_last;
    struct nic_rx batch[NETVSC_RX_BATCH];
    unsigned batch_count;
    struct copies copies;                /* where the host is not trusted: of the frames at the stack */
    bool draining;

    /* sending */
    struct netvsc_slot *slots;
    uint16_t first_free;
    uint16_t free_count;
    uint16_t *free_sections;
    uint16_t free_section_count;
    struct netvsc_slot *open;            /* the slot whose section takes more frames, or NULL */
    uint32_t open_bytes, open_last, open_count;
    uint32_t max_packets, alignment;     /* of one message, as the host said */
    uint32_t copy_bytes;                 /* frames up to this length are copied */
    bool gathers;                        /* the host can't read frames where they lie: they are bounced as a whole */
    struct dma_waiter bounce_room;
    bool want_ready;                     /* a send was refused */
    bool unsent;                         /* something is in the ring since the last kick, or open */
    struct rt_event kick_event;
    struct rt_timer stall_timer;
    uint64_t stall_seen;
    struct netvsc_counters counters;
};

/* ---- netvsc_buffers.c ---- */
int netvsc_receive_buffer(struct netvsc *n);
/* Without memory, or refused by the host, all frames go by page frames: 0 with n->section_count == 0. */
int netvsc_send_buffer(struct netvsc *n);
void netvsc_unshare(struct netvsc *n, struct shmem *memory, uint32_t *gpadl);

/* ---- netvsc_setup.c ---- */
uint32_t netvsc_wanted_mtu(void);
int netvsc_questions(struct netvsc *n);
int netvsc_set_filter(struct netvsc *n, uint32_t filter);

/* ---- netvsc_control.c ---- */
/* Sends an NVSP message; with answer_least > 0 waits for its completion and puts it into n->answer. 0, -E_TIMEOUT,
 * -E_REMOVED, -E_PROTO (answer shorter than answer_least or of another type). */
int netvsc_nvsp(struct netvsc *n, const struct nvsp_message *m, uint32_t answer_type, uint32_t answer_least);
void netvsc_exchange_answered(struct netvsc *n, const struct vmbus_packet *p);
/* The private copy of an RNDIS control answer arrived. */
void netvsc_reply(struct netvsc *n, const struct rndis_header *header, const void *message);
int netvsc_rndis_initialize(struct netvsc *n, struct rndis_initialize_complete *reply);
void netvsc_rndis_halt(struct netvsc *n);
/* *got: bytes of information the host gave, at most room. -E_REFUSED: an error status. input may be NULL. */
int netvsc_query(struct netvsc *n, uint32_t oid, const void *input, uint32_t input_bytes, void *info, uint32_t room,
                 uint32_t *got);
int netvsc_set(struct netvsc *n, uint32_t oid, const void *info, uint32_t bytes);

/* ---- netvsc_rx.c ---- */
int netvsc_rx_init(struct netvsc *n);
/* Once the MTU is known. */
int netvsc_rx_copies(struct netvsc *n);
void netvsc_rx_free(struct netvsc *n);
void netvsc_rx_packet_in(struct netvsc *n, const struct vmbus_packet *p);
void netvsc_rx_flush(struct netvsc *n);      /* what is gathered goes to the stack */
void netvsc_rx_release(struct nic *nic, void *token);
void netvsc_rx_send_waiting(struct netvsc *n);

/* ---- netvsc_tx.c ---- */
int netvsc_tx_init(struct netvsc *n);
void netvsc_tx_free(struct netvsc *n);
/* After the host told its sections: which there are. */
int netvsc_tx_sections(struct netvsc *n);
struct netvsc_slot *netvsc_slot_get(struct netvsc *n);     /* or NULL */
void netvsc_slot_put(struct netvsc *n, struct netvsc_slot *slot);   /* and its section */
void netvsc_sent(struct netvsc *n, struct netvsc_slot *slot);       /* its packet is in the ring */
int netvsc_tx_send(struct nic *nic, struct nic_tx *tx);
void netvsc_tx_kick(struct nic *nic);
void netvsc_tx_completed(struct netvsc *n, const struct vmbus_packet *p);
void netvsc_tx_tell_ready(struct netvsc *n);
void netvsc_tx_end_all(struct netvsc *n);    /* channel closed: everything outstanding is done */
bool netvsc_tx_idle(const struct netvsc *n);

/* ---- netvsc_message.c ---- */
/* 0: the frame's bytes are copied, it is done. -E_AGAIN. */
int netvsc_send_copied(struct netvsc *n, struct nic_tx *tx);
/* 0: the host reads the frame's own memory. -E_AGAIN; -E_INVAL: it can't go this way; -E_REMOVED. */
int netvsc_send_referenced(struct netvsc *n, struct nic_tx *tx);
/* Sends the open section. False: the ring is full, it stays open. */
bool netvsc_close_section(struct netvsc *n);

/* ---- netvsc.c ---- */
/* Of all NICs, for the figures. */
extern struct netvsc_counters netvsc_totals;
#define NETVSC_COUNT(n, what) ((n)->counters.what++, netvsc_totals.what++)
/* One line for the first lie of a while, all counted. */
void netvsc_lie(struct netvsc *n, const char *what, uint64_t value);
