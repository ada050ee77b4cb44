/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The transmission phase: commands in, disk requests out.
 *
 *   NBD_REQUEST       collects a 28-byte request; start() checks it whole before anything happens
 *   NBD_ISSUE         a command waits for buffers to be issued completely; no input meanwhile
 *   NBD_PAYLOAD       a write's bytes go into a piece's buffer; full pieces go to the disk while the rest arrives
 *   NBD_PAYLOAD_SKIP  the payload of a write that was refused
 *
 * issue.c cuts commands into pieces and answers them.
 */
#define LOG_ROOM "nbd"
#include <string.h>
#include "apps/nbd/internal.h"

/* The name sits in the disk's struct, which the session holds a reference to. */
uint16_t nbd_transmission_flags(const struct nbd_session *s, const struct blk_device *disk)
{
    unsigned flags = NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA | NBD_FLAG_CAN_MULTI_CONN;
    if (s->structured)
        flags |= NBD_FLAG_SEND_DF;
    if (disk->read_only || !s->policy->may_write(disk->name))
        return (uint16_t)(flags | NBD_FLAG_READ_ONLY);
    flags |= NBD_FLAG_SEND_WRITE_ZEROES | NBD_FLAG_SEND_FAST_ZERO;
    if (disk->has_discard)
        flags |= NBD_FLAG_SEND_TRIM;
    return (uint16_t)flags;
}

uint32_t nbd_max_payload(const struct nbd_session *s)
{
    uint32_t bytes = NBD_MAX_PAYLOAD_BYTES;
    while (!s->structured && bytes > nbd_session_share())
        bytes /= 2;
    return bytes;
}

void nbd_transmit_begin(struct nbd_session *s, struct blk_device *disk)
{
    s->disk = disk;
    s->read_only = nbd_transmission_flags(s, disk) & NBD_FLAG_READ_ONLY;
    s->block_bytes = disk->sector_bytes;
    s->size_bytes = disk->sectors * disk->sector_bytes;
    s->state = NBD_REQUEST;
    log_info_some("%s: serving %s, %s", s->peer, disk->name, s->read_only ? "read-only" : "writable");
}

/* ---- checks: 0 or the error to answer with ---- */
static int check_flags(const struct nbd_session *s, const struct nbd_op *op)
{
    unsigned allowed = NBD_CMD_FLAG_FUA;
    if (op->command == NBD_CMD_READ && s->structured)
        allowed |= NBD_CMD_FLAG_DF;
    if (op->command == NBD_CMD_WRITE_ZEROES)
        allowed |= NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FAST_ZERO;
    return op->flags & ~allowed ? NBD_EINVAL : 0;
}

static int check(const struct nbd_session *s, const struct nbd_op *op)
{
    bool writes = op->command == NBD_CMD_WRITE || op->command == NBD_CMD_TRIM || op->command == NBD_CMD_WRITE_ZEROES;
    bool moves_data = op->command == NBD_CMD_READ || op->command == NBD_CMD_WRITE;
    if (!writes && op->command != NBD_CMD_READ && op->command != NBD_CMD_FLUSH)
        return NBD_EINVAL;
    if (op->command == NBD_CMD_TRIM && !s->disk->has_discard)
        return NBD_EINVAL;
    if (check_flags(s, op))
        return NBD_EINVAL;
    if (writes && s->read_only)
        return NBD_EPERM;
    if (op->command == NBD_CMD_FLUSH)
        return 0;
    if (op->length == 0 || (moves_data && op->length > NBD_MAX_PAYLOAD_BYTES))
        return NBD_EINVAL;
    if (op->offset > s->size_bytes || op->length > s->size_bytes - op->offset)
        return writes && op->command != NBD_CMD_TRIM ? NBD_ENOSPC : NBD_EINVAL;
    if (!IS_ALIGNED(op->offset, s->block_bytes) || !IS_ALIGNED(op->length, s->block_bytes))
        return NBD_EINVAL;
    if ((op->flags & NBD_CMD_FLAG_FAST_ZERO) && op->command == NBD_CMD_WRITE_ZEROES && !s->disk->has_write_zeroes)
        return NBD_ENOTSUP;
    if (op->gather && op->length > nbd_session_share())
        return s->structured ? NBD_EOVERFLOW : NBD_ENOMEM;
    return 0;
}

static void count(struct nbd_session *s, const struct nbd_op *op)
{
    switch (op->command) {
    case NBD_CMD_READ:   s->stats.reads++; s->stats.read_bytes += op->length; break;
    case NBD_CMD_WRITE:  s->stats.writes++; s->stats.write_bytes += op->length; break;
    case NBD_CMD_FLUSH:  s->stats.flushes++; break;
    case NBD_CMD_TRIM:   s->stats.trims++; break;
    default:             s->stats.zeroes++; break;
    }
}

static void start(struct nbd_session *s, struct nbd_op *op)
{
    const uint8_t *h = s->header;
    op->flags = get_be16(h + 4);
    op->command = get_be16(h + 6);
    op->cookie = get_be64(h + 8);
    op->offset = get_be64(h + 16);
    op->length = get_be32(h + 24);
    op->gather = op->command == NBD_CMD_READ && (!s->structured || (op->flags & NBD_CMD_FLAG_DF));
    int error = check(s, op);
    if (error) {
        op->error = error;
        if (op->command == NBD_CMD_WRITE && op->length) {
            s->current = op;
            s->left = op->length;
            s->state = NBD_PAYLOAD_SKIP;
            return;
        }
        op->gather = false;
        nbd_send_op_result(op);
        return;
    }
    count(s, op);
    if (op->command == NBD_CMD_FLUSH) {
        op->length = 0;
        op->offset = 0;
    }
    s->current = op;
    if (op->command == NBD_CMD_WRITE) {
        s->left = op->length;
        s->state = NBD_PAYLOAD;
    } else {
        s->state = NBD_ISSUE;
    }
}

/* ---- input ---- */
static bool take_request(struct nbd_session *s, const uint8_t **data, size_t *bytes)
{
    if (nbd_session_is_full(s))
        return false;
    if (!nbd_collect(s, NBD_REQUEST_BYTES, data, bytes))
        return true;
    if (get_be32(s->header) != NBD_REQUEST_MAGIC) {
        log_warn_some("%s: not an NBD request (magic %08x), closing", s->peer, get_be32(s->header));
        nbd_session_close(s);
        return true;
    }
    if (get_be16(s->header + 6) == NBD_CMD_DISC) {
        nbd_session_close(s);
        return true;
    }
    struct nbd_op *op = nbd_op_new(s);
    if (!op) {
        /* The header is kept as it is, complete but for one byte, which is given back to the input. */
        s->have = NBD_REQUEST_BYTES - 1;
        (*data)--;
        (*bytes)++;
        nbd_buffers_wait(s);
        return false;
    }
    start(s, op);
    return true;
}

static bool take_payload(struct nbd_session *s, const uint8_t **data, size_t *bytes)
{
    struct nbd_op *op = s->current;
    if (!op->filling) {
        op->filling = nbd_piece_new(op, BLK_WRITE);
        if (!op->filling) {
            nbd_buffers_wait(s);
            return false;
        }
    }
    struct nbd_piece *piece = op->filling;
    size_t n = MIN(*bytes, (size_t)(piece->bytes - piece->filled));
    memcpy((char *)piece->buffer + piece->filled, *data, n);
    piece->filled += (uint32_t)n;
    *data += n;
    *bytes -= n;
    s->left -= (uint32_t)n;
    if (piece->filled == piece->bytes) {
        op->filling = NULL;
        if (s->left == 0)
            nbd_current_is_issued(s);
        nbd_submit(piece);
    }
    return true;
}

static void skip_payload(struct nbd_session *s, const uint8_t **data, size_t *bytes)
{
    size_t n = MIN(*bytes, (size_t)s->left);
    *data += n;
    *bytes -= n;
    s->left -= (uint32_t)n;
    if (s->left == 0) {
        struct nbd_op *op = s->current;
        nbd_current_is_issued(s);
        nbd_send_op_result(op);
    }
}

size_t nbd_transmit_input(struct nbd_session *s, const uint8_t *data, size_t bytes)
{
    size_t given = bytes;
    bool going = true;
    /* A request without payload must be issued even when its last byte was the last there is. */
    while (going && (bytes > 0 || s->state == NBD_ISSUE)) {
        switch (s->state) {
        case NBD_REQUEST:
            if (s->finishing)
                return given - bytes;          /* the session closes */
            going = take_request(s, &data, &bytes);
            break;
        case NBD_ISSUE:
            going = nbd_issue(s);
            if (!going)
                nbd_buffers_wait(s);
            break;
        case NBD_PAYLOAD:
            going = take_payload(s, &data, &bytes);
            break;
        case NBD_PAYLOAD_SKIP:
            skip_payload(s, &data, &bytes);
            break;
        default:
            return given;
        }
    }
    return given - bytes;
}

void nbd_abandon_current(struct nbd_session *s)
{
    struct nbd_op *op = s->current;
    struct list *node;
    s->current = NULL;
    if (op->filling) {
        nbd_piece_free(op->filling);
        op->filling = NULL;
    }
    while ((node = list_pop_front(&op->done)))
        nbd_piece_free(list_entry(node, struct nbd_piece, node));
    op->issued = op->length;
    op->error = NBD_ESHUTDOWN;
    /* What is with the disk already ends the operation when it comes back. */
    if (op->pieces == 0)
        nbd_op_free(op);
}
