/* SPDX-License-Identifier: BSD-2-Clause */
/* Between the session's own files: session.c, negotiate.c, transmit.c, issue.c, pieces.c, replies.c,
 * buffers.c. */
#pragma once
#include "apps/nbd/session.h"

struct nbd_piece;

/* One command in flight. */
struct nbd_op {
    struct list node;                   /* in session->ops */
    struct nbd_session *session;
    uint64_t cookie, offset;
    uint32_t length;                    /* of the command; 0 for flush */
    uint32_t issued;                    /* bytes for which pieces exist */
    uint16_t flags, command;
    uint16_t pieces;                    /* with the disk */
    bool gather;                        /* reads: answered as one, when all pieces are there */
    int error;                          /* nbd_errno, the first */
    struct list done;                   /* gather: pieces in order of their offsets */
    struct nbd_piece *filling;          /* write: receives the payload */
    struct nbd_reply reply;
};

struct nbd_piece {
    struct list node;                   /* in op->done */
    struct nbd_op *op;                  /* NULL once answered */
    struct nbd_session *session;
    struct blk_request r;
    struct blk_span span;
    void *buffer;                       /* NULL: none */
    unsigned order;
    uint32_t bytes, filled;
    struct nbd_reply reply;
};

/* pieces.c */
struct nbd_op *nbd_op_new(struct nbd_session *s);
void nbd_op_free(struct nbd_op *op);
/* A piece of the operation's next bytes, with a buffer when data is moved; it advances op->issued. NULL: none now. */
struct nbd_piece *nbd_piece_new(struct nbd_op *op, enum blk_op kind);
void nbd_piece_free(struct nbd_piece *piece);
void nbd_piece_drop_buffer(struct nbd_piece *piece, int status);
/* The host never answered a request for this buffer: it is not used again. */
void nbd_buffer_lose(struct nbd_session *s, unsigned order);

/* replies.c */
int nbd_errno_of(int status, uint16_t command);
void nbd_send_op_result(struct nbd_op *op);                       /* simple, or one chunk; op is freed when sent */
void nbd_send_chunk(struct nbd_piece *piece, int error, bool last);  /* structured read; piece is freed when sent */
void nbd_send_gathered(struct nbd_op *op);                        /* op and its pieces are freed when sent */

/* issue.c */
/* Hands the piece to the disk; it is completed, answered and freed without further ado. */
void nbd_submit(struct nbd_piece *piece);
/* Issues the session's current command. False: out of buffers, to be called again when there are some. */
bool nbd_issue(struct nbd_session *s);
/* Nothing more of the current command will be issued. */
void nbd_current_is_issued(struct nbd_session *s);

/* transmit.c: gives up the operation that is being issued or received. */
void nbd_abandon_current(struct nbd_session *s);

/* session.c: closes when asked for and nothing is in flight; releases when the transport is gone and nothing refers. */
void nbd_session_settle(struct nbd_session *s);
