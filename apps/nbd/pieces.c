/* SPDX-License-Identifier: BSD-2-Clause */
/* Operations and their pieces: made, cut to size, given back. */
#define LOG_ROOM "nbd"
#include <string.h>
#include "apps/nbd/internal.h"

enum { KIND_OP, KIND_PIECE };

struct nbd_op *nbd_op_new(struct nbd_session *s)
{
    struct nbd_op *op = nbd_descriptor_get(KIND_OP, sizeof(*op));
    if (!op)
        return NULL;
    op->session = s;
    op->issued = 0;
    op->pieces = 0;
    op->gather = false;
    op->error = 0;
    op->filling = NULL;
    op->reply.data_bytes = 0;
    list_init(&op->done);
    list_push_back(&s->ops, &op->node);
    s->op_count++;
    s->references++;
    return op;
}

void nbd_op_free(struct nbd_op *op)
{
    struct nbd_session *s = op->session;
    if (!list_empty(&op->node)) {
        list_remove(&op->node);
        s->op_count--;
    }
    nbd_descriptor_put(KIND_OP, op);
    s->references--;
    nbd_buffers_wake();
    nbd_session_settle(s);
}

struct nbd_piece *nbd_piece_new(struct nbd_op *op, enum blk_op kind)
{
    struct nbd_session *s = op->session;
    struct nbd_piece *piece = nbd_descriptor_get(KIND_PIECE, sizeof(*piece));
    if (!piece)
        return NULL;
    bool moves_data = kind == BLK_READ || kind == BLK_WRITE;
    uint32_t bytes = op->length - op->issued;
    piece->buffer = NULL;
    if (moves_data) {
        bytes = MIN(bytes, (uint32_t)NBD_PIECE_BYTES);
        piece->buffer = nbd_buffer_get(s, bytes, &piece->order);
        if (!piece->buffer) {
            nbd_descriptor_put(KIND_PIECE, piece);
            return NULL;
        }
        bytes = (uint32_t)MIN((uint64_t)bytes, PAGE_BYTES << piece->order);
        piece->span = (struct blk_span){piece->buffer, bytes};
    }
    piece->op = op;
    piece->session = s;
    piece->bytes = bytes;
    piece->filled = 0;
    piece->reply.data_bytes = 0;
    list_init(&piece->node);
    piece->r = (struct blk_request){
        .op = kind,
        .sector = kind == BLK_FLUSH ? 0 : (op->offset + op->issued) / s->disk->sector_bytes,
        .sectors = bytes / s->disk->sector_bytes,
        .spans = moves_data ? &piece->span : NULL,
        .span_count = moves_data ? 1 : 0,
        .arg = piece,
    };
    op->issued += bytes;
    s->references++;
    return piece;
}

void nbd_piece_drop_buffer(struct nbd_piece *piece, int status)
{
    if (!piece->buffer)
        return;
    if (status == -E_TIMEOUT)
        nbd_buffer_lose(piece->session, piece->order);
    else
        nbd_buffer_put(piece->session, piece->buffer, piece->order);
    piece->buffer = NULL;
}

void nbd_piece_free(struct nbd_piece *piece)
{
    struct nbd_session *s = piece->session;
    nbd_piece_drop_buffer(piece, 0);
    nbd_descriptor_put(KIND_PIECE, piece);
    s->references--;
    nbd_buffers_wake();
    nbd_session_settle(s);
}
