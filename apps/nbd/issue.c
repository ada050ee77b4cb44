/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * From commands to disk requests and back: a command is cut into pieces, each piece is a disk request, and what the
 * disk answers becomes the command's reply, or, for structured reads, a chunk of it.
 *
 * Reads that must be answered as one (no structured replies, or DF) get all their buffers at once or none, so that two
 * of them can't wait for each other's.
 */
#include "apps/nbd/internal.h"

/* ---- completion ---- */
static bool all_issued(const struct nbd_op *op) { return op->issued == op->length && !op->filling; }

/* Puts a piece where its offset belongs among those that are done. */
static void insert_done(struct nbd_op *op, struct nbd_piece *piece)
{
    struct list *at = op->done.prev;
    while (at != &op->done && list_entry(at, struct nbd_piece, node)->r.sector > piece->r.sector)
        at = at->prev;
    list_insert_between(&piece->node, at, at->next);
}

static void finish(struct nbd_op *op)
{
    struct list *node;
    if (op->gather && !op->error) {
        nbd_send_gathered(op);
        return;
    }
    while ((node = list_pop_front(&op->done)))
        nbd_piece_free(list_entry(node, struct nbd_piece, node));
    nbd_send_op_result(op);
}

/* A piece is with the disk no longer. */
static void complete(struct nbd_piece *piece, int status)
{
    struct nbd_op *op = piece->op;
    int error = nbd_errno_of(status, op->command);
    op->pieces--;
    if (status)
        nbd_piece_drop_buffer(piece, status);
    if (error && !op->error)
        op->error = error;
    bool last = op->pieces == 0 && all_issued(op);
    if (op->command == NBD_CMD_READ && op->session->structured && !op->gather) {
        nbd_send_chunk(piece, error, last);
        return;
    }
    if (op->gather && !error)
        insert_done(op, piece);
    else
        nbd_piece_free(piece);
    if (last)
        finish(op);
}

static void piece_done(struct blk_request *r)
{
    struct nbd_piece *piece = r->arg;
    struct nbd_session *s = piece->session;
    s->references++;
    complete(piece, r->status);
    s->references--;
    nbd_session_settle(s);
}

void nbd_submit(struct nbd_piece *piece)
{
    piece->op->pieces++;
    piece->r.done = piece_done;
    /* Allowed with every command; to a disk it means something for these. */
    if ((piece->op->flags & NBD_CMD_FLAG_FUA) && (piece->r.op == BLK_WRITE || piece->r.op == BLK_WRITE_ZEROES))
        piece->r.flags |= BLK_FUA;
    int error = blk_submit(piece->session->disk, &piece->r);
    if (error)
        complete(piece, error);
}

/* ---- issuing ---- */
void nbd_current_is_issued(struct nbd_session *s)
{
    s->current = NULL;
    s->state = NBD_REQUEST;
}

/* All pieces of a read, or none: false. */
static bool issue_gathered(struct nbd_op *op)
{
    struct nbd_session *s = op->session;
    struct list *node;
    while (op->issued < op->length) {
        struct nbd_piece *piece = nbd_piece_new(op, BLK_READ);
        if (!piece) {
            while ((node = list_pop_front(&op->done))) {
                piece = list_entry(node, struct nbd_piece, node);
                nbd_buffer_unget(s, piece->buffer, piece->order);
                piece->buffer = NULL;
                nbd_piece_free(piece);
            }
            op->issued = 0;
            return false;
        }
        list_push_back(&op->done, &piece->node);
    }
    /* Submitting may complete a piece at once and so empty the list of those that are done: count on our own list. */
    struct list pieces;
    list_init(&pieces);
    while ((node = list_pop_front(&op->done)))
        list_push_back(&pieces, node);
    op->pieces++;                       /* until all are submitted */
    while ((node = list_pop_front(&pieces)))
        nbd_submit(list_entry(node, struct nbd_piece, node));
    if (--op->pieces == 0)
        finish(op);
    return true;
}

static enum blk_op kind_of(uint16_t command)
{
    switch (command) {
    case NBD_CMD_READ:   return BLK_READ;
    case NBD_CMD_TRIM:   return BLK_DISCARD;
    case NBD_CMD_FLUSH:  return BLK_FLUSH;
    default:             return BLK_WRITE_ZEROES;
    }
}

bool nbd_issue(struct nbd_session *s)
{
    struct nbd_op *op = s->current;
    if (op->gather) {
        if (!issue_gathered(op))
            return false;
        nbd_current_is_issued(s);
        return true;
    }
    bool more;
    do {
        struct nbd_piece *piece = nbd_piece_new(op, kind_of(op->command));
        if (!piece)
            return false;
        if (op->command == NBD_CMD_WRITE_ZEROES && !(op->flags & NBD_CMD_FLAG_NO_HOLE))
            piece->r.flags |= BLK_MAY_UNMAP;
        /* After the last piece op may be gone with its completion. */
        more = op->issued < op->length;
        nbd_submit(piece);
    } while (more);
    nbd_current_is_issued(s);
    return true;
}
