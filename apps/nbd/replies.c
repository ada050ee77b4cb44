/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Replies of the transmission phase.
 *
 * Simple replies for everything but reads, which the protocol allows with either kind; reads are answered by structured
 * chunks when the client negotiated them: one chunk per piece as it comes from the disk, or one for all of it when the
 * client set DF or did not negotiate, for then nothing may be sent before the outcome is known.
 */
#include "apps/nbd/internal.h"

int nbd_errno_of(int status, uint16_t command)
{
    switch (status) {
    case 0:          return 0;
    case -E_NOMEM:   return NBD_ENOMEM;
    case -E_INVAL:   return NBD_EINVAL;
    case -E_NOTSUP:  return NBD_ENOTSUP;
    case -E_ROFS:    return NBD_EPERM;
    case -E_NOSPC:   return NBD_ENOSPC;
    case -E_RANGE:   return command == NBD_CMD_WRITE || command == NBD_CMD_WRITE_ZEROES ? NBD_ENOSPC : NBD_EINVAL;
    default:         return NBD_EIO;
    }
}

static void op_sent(struct nbd_reply *r) { nbd_op_free(container_of(r, struct nbd_op, reply)); }
static void piece_sent(struct nbd_reply *r) { nbd_piece_free(container_of(r, struct nbd_piece, reply)); }

/* Puts the reply on its way; when the transport is gone, the memory comes back at once. */
static void send(struct nbd_session *s, struct nbd_reply *r)
{
    if (s->ended)
        r->sent(r);
    else
        s->transport->send(s, r);
}

/* The operation is answered: no longer in flight, though its reply may be. */
static void answered(struct nbd_op *op)
{
    list_remove(&op->node);
    op->session->op_count--;
}

static uint8_t *put_chunk(uint8_t *p, uint64_t cookie, uint16_t type, bool last, uint32_t length)
{
    p = put_be32(p, NBD_STRUCTURED_REPLY_MAGIC);
    p = put_be16(p, last ? NBD_CHUNK_FLAG_DONE : 0);
    p = put_be16(p, type);
    p = put_be64(p, cookie);
    return put_be32(p, length);
}

static void put_simple(struct nbd_op *op)
{
    uint8_t *p = put_be32(op->reply.header, NBD_SIMPLE_REPLY_MAGIC);
    p = put_be32(p, (uint32_t)op->error);
    p = put_be64(p, op->cookie);
    op->reply.header_bytes = (uint16_t)(p - op->reply.header);
}

void nbd_send_op_result(struct nbd_op *op)
{
    struct nbd_session *s = op->session;
    if (op->error)
        s->stats.errors++;
    if (s->structured && op->command == NBD_CMD_READ) {
        uint8_t *p = put_chunk(op->reply.header, op->cookie, NBD_CHUNK_ERROR, true, NBD_ERROR_BYTES);
        p = put_be32(p, (uint32_t)op->error);
        p = put_be16(p, 0);
        op->reply.header_bytes = (uint16_t)(p - op->reply.header);
    } else {
        put_simple(op);
    }
    op->reply.sent = op_sent;
    answered(op);
    s->references++;                    /* sending may give up the last one */
    send(s, &op->reply);
    s->references--;
    nbd_session_settle(s);
}

void nbd_send_chunk(struct nbd_piece *piece, int error, bool last)
{
    struct nbd_op *op = piece->op;
    struct nbd_session *s = piece->session;
    uint64_t offset = piece->r.sector * s->disk->sector_bytes;
    struct nbd_reply *r = &piece->reply;
    uint8_t *p;
    if (error) {
        s->stats.errors++;
        p = put_chunk(r->header, op->cookie, NBD_CHUNK_ERROR_OFFSET, last, NBD_ERROR_OFFSET_BYTES);
        p = put_be32(p, (uint32_t)error);
        p = put_be16(p, 0);
        p = put_be64(p, offset);
    } else {
        p = put_chunk(r->header, op->cookie, NBD_CHUNK_OFFSET_DATA, last, NBD_OFFSET_DATA_BYTES + piece->bytes);
        p = put_be64(p, offset);
        r->data = piece->buffer;
        r->data_bytes = piece->bytes;
    }
    r->header_bytes = (uint16_t)(p - r->header);
    r->sent = piece_sent;
    piece->op = NULL;
    send(s, r);
    if (last)
        nbd_op_free(op);
}

void nbd_send_gathered(struct nbd_op *op)
{
    struct nbd_session *s = op->session;
    if (s->structured) {
        uint8_t *p = put_chunk(op->reply.header, op->cookie, NBD_CHUNK_OFFSET_DATA, true,
                               NBD_OFFSET_DATA_BYTES + op->length);
        p = put_be64(p, op->offset);
        op->reply.header_bytes = (uint16_t)(p - op->reply.header);
    } else {
        put_simple(op);
    }
    op->reply.sent = op_sent;
    answered(op);
    /* The pieces leave op before its header goes: sending may free it. */
    struct list pieces;
    struct list *node;
    list_init(&pieces);
    while ((node = list_pop_front(&op->done)))
        list_push_back(&pieces, node);
    s->references++;
    send(s, &op->reply);
    while ((node = list_pop_front(&pieces))) {
        struct nbd_piece *piece = list_entry(node, struct nbd_piece, node);
        piece->op = NULL;
        piece->reply.header_bytes = 0;
        piece->reply.data = piece->buffer;
        piece->reply.data_bytes = piece->bytes;
        piece->reply.sent = piece_sent;
        send(s, &piece->reply);
    }
    s->references--;
    nbd_session_settle(s);
}
