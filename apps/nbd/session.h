/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One NBD client, as a state machine over bytes: negotiation (negotiate.c), then transmission (transmit.c). It knows
 * disks (rt/blk.h) and memory, not the network: a transport feeds it what the client sent and takes replies to be
 * sent, both by reference. The server's transport is TCP (connection.c); the hosted tests' is an array.
 *
 *     client bytes -> nbd_session_input -> operations -> blk_submit -> done -> replies -> transport->send
 *
 *   operation  one command of the client (struct nbd_op); many in flight, answered in any order
 *   piece      up to 256 KiB of one operation's data: a buffer, a disk request and the reply that sends the buffer
 *   reply      bytes to be sent: a header of its own and data by reference; comes back through its sent function
 *
 * Backpressure, both ways, is one rule: nbd_session_input takes no more bytes while the session can't go on (no buffer,
 * too many operations or replies), and transport->resume says when to try again. Buffers are limited (buffers.c). They
 * and replies come back only when the client has acknowledged their bytes, so a client that does not read stops being
 * read from.
 *
 * Promises: every request gets exactly one reply (or, structured, one chunk with DONE) unless the connection ends;
 * nothing the client sends is an error of ours. All functions run in the event loop or tasks; none blocks.
 */
#pragma once
#include "rt/blk.h"
#include "rt/net/net.h"
#include "apps/nbd/nbd_wire.h"

#define NBD_MAX_PAYLOAD_BYTES (32u << 20)     /* announced as the maximum block size */
#define NBD_PIECE_BYTES       (256u << 10)
#define NBD_OPS_MAX           256             /* of one connection in flight */
#define NBD_HELD_MAX          768             /* of it: operations, pieces and replies, unacknowledged ones included */

struct nbd_session;
struct nbd_op;

struct nbd_reply {
    struct list node;                         /* the transport's */
    uint8_t header[36];
    uint16_t header_bytes;
    uint32_t data_bytes;
    const void *data;
    uint32_t written;                         /* the transport's: bytes of header and data given to TCP */
    uint64_t end;                             /* the transport's: position in the stream behind the last byte */
    struct net_release release;
    /* Acknowledged, or never to be: the memory behind it may be reused. */
    void (*sent)(struct nbd_reply *r);
};

struct nbd_transport {
    void (*send)(struct nbd_session *s, struct nbd_reply *r);
    void (*resume)(struct nbd_session *s);    /* input would be taken again; may be called at any time but from input */
    void (*close)(struct nbd_session *s);     /* after what was sent; nothing more will come */
    void (*released)(struct nbd_session *s);  /* after nbd_session_end: the last operation is gone, s may be freed */
};

/* What the operator said; apps/nbd/config.c. */
struct nbd_policy {
    bool (*may_write)(const char *disk);
};

enum nbd_state {
    NBD_CLIENT_FLAGS, NBD_OPTION, NBD_OPTION_DATA, NBD_OPTION_SKIP,     /* negotiation */
    NBD_REQUEST, NBD_PAYLOAD, NBD_PAYLOAD_SKIP, NBD_ISSUE,              /* transmission; ISSUE takes no input */
    NBD_CLOSING,                                                        /* input is thrown away */
};

struct nbd_session {
    const struct nbd_transport *transport;
    const struct nbd_policy *policy;
    char peer[48];
    enum nbd_state state;
    bool ended;                               /* the transport is gone */
    bool disconnecting;                       /* close when nothing is in flight */
    bool finishing;                           /* take no further request */
    bool close_told;                          /* the transport was asked to */
    unsigned references;                      /* operations, pieces and replies that point here */
    /* input being put together */
    uint8_t header[NBD_REQUEST_BYTES];
    unsigned have;
    uint32_t left;                            /* of option data or payload */
    /* negotiation */
    bool no_zeroes, structured;
    uint32_t option, option_bytes;
    uint8_t *option_data;                     /* NULL unless an option's data is being collected */
    /* transmission */
    struct blk_device *disk;                  /* referenced; NULL before */
    bool read_only;
    uint64_t size_bytes;
    uint32_t block_bytes;
    struct list ops;                          /* in flight */
    unsigned op_count;
    uint64_t buffer_bytes;                    /* held, unacknowledged replies included */
    struct nbd_op *current;                   /* being issued or receiving its payload */
    struct list waiting_node;                 /* in the buffers' queue */
    unsigned removed_ticks;
    struct { uint64_t reads, writes, flushes, trims, zeroes, errors, read_bytes, write_bytes; } stats;
};

void nbd_session_init(struct nbd_session *s, const struct nbd_transport *transport, const struct nbd_policy *policy);
/* Sends the greeting. After init, when the transport can send. */
void nbd_session_start(struct nbd_session *s);
/* Takes some of the client's bytes, returns how many; fewer than given: wait for transport->resume. */
size_t nbd_session_input(struct nbd_session *s, const uint8_t *data, size_t bytes);
/* The client will send no more: close when what came whole is answered. */
void nbd_session_eof(struct nbd_session *s);
/* The server ends: the request that is being received or issued is still served, then it closes as after eof. */
void nbd_session_finish(struct nbd_session *s);
/* Once a second or so; closes the connection when its disk is gone and nothing is in flight. */
void nbd_session_tick(struct nbd_session *s);
/* The transport is gone. released is called, now or when the disk has let go of the last operation. */
void nbd_session_end(struct nbd_session *s);

/* ---- between negotiate.c and transmit.c ---- */
size_t nbd_negotiate_input(struct nbd_session *s, const uint8_t *data, size_t bytes);
size_t nbd_transmit_input(struct nbd_session *s, const uint8_t *data, size_t bytes);
/* Takes the disk over: the reference now belongs to the session. */
void nbd_transmit_begin(struct nbd_session *s, struct blk_device *disk);
uint16_t nbd_transmission_flags(const struct nbd_session *s, const struct blk_device *disk);
void nbd_session_close(struct nbd_session *s);
/* It holds all that one client may: it takes nothing new, and is in the queue of those who are resumed. */
bool nbd_session_is_full(struct nbd_session *s);
/* The longest read or write: less where a read needs all its buffers at once. */
uint32_t nbd_max_payload(const struct nbd_session *s);
/* Collects up to want bytes in s->header; true when complete, and the next begins anew. Advances *data, *bytes. */
bool nbd_collect(struct nbd_session *s, unsigned want, const uint8_t **data, size_t *bytes);

/* ---- buffers.c ---- */
#define NBD_BUFFER_ORDER_MAX 6                /* 256 KiB */
/* Limits what all sessions may hold; 0: an eighth of RAM, between 2 and 64 MiB. */
void nbd_buffers_init(uint64_t limit_bytes);
uint64_t nbd_buffers_limit(void);
uint64_t nbd_buffers_used(void);
uint64_t nbd_session_share(void);             /* the most one session may hold */
/* A buffer of at least min(bytes, 4096) and at most NBD_PIECE_BYTES; *order tells its size. NULL: none now. */
void *nbd_buffer_get(struct nbd_session *s, uint32_t bytes, unsigned *order);
void nbd_buffer_put(struct nbd_session *s, void *buffer, unsigned order);
/* The same for what was never used: nobody is told, or two sessions that can't go on would wake each other for ever. */
void nbd_buffer_unget(struct nbd_session *s, void *buffer, unsigned order);
/* resume is called once when buffers or descriptors come back. */
void nbd_buffers_wait(struct nbd_session *s);
void nbd_buffers_forget(struct nbd_session *s);
void nbd_buffers_wake(void);
/* Descriptors, from free lists that grow in steps and never shrink. NULL: out of memory. */
void *nbd_descriptor_get(unsigned kind, size_t bytes);
void nbd_descriptor_put(unsigned kind, void *descriptor);
