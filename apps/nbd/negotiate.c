/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The handshake, fixed newstyle: greeting, client flags, options until one of them starts the transmission phase.
 *
 * An option's data is collected whole and decoded whole before anything is answered. Options whose data is longer than
 * any we know (a name and some information requests) are skipped and answered "too big". An option we do not know is
 * "unsupported": that is also the answer to STARTTLS, for there is no TLS here.
 */
#define LOG_ROOM "nbd"
#include <string.h>
#include "apps/nbd/internal.h"

#define OPTION_DATA_MAX (NBD_NAME_MAX + 256)

/* A reply in its own memory. */
struct small_reply { struct nbd_reply reply; struct nbd_session *session; uint8_t bytes[]; };

static void small_sent(struct nbd_reply *r)
{
    struct small_reply *small = container_of(r, struct small_reply, reply);
    struct nbd_session *s = small->session;
    kfree(small);
    s->references--;
    nbd_buffers_wake();
    nbd_session_settle(s);
}

static void send_bytes(struct nbd_session *s, const void *head, size_t head_bytes, const void *data, size_t data_bytes)
{
    if (s->close_told)
        return;
    struct small_reply *small = kmalloc(sizeof(*small) + head_bytes + data_bytes);
    if (!small) {
        log_warn_some("%s: out of memory, closing", s->peer);
        nbd_session_close(s);
        return;
    }
    memcpy(small->bytes, head, head_bytes);
    if (data_bytes)
        memcpy(small->bytes + head_bytes, data, data_bytes);
    small->session = s;
    small->reply.header_bytes = 0;
    small->reply.data = small->bytes;
    small->reply.data_bytes = (uint32_t)(head_bytes + data_bytes);
    small->reply.sent = small_sent;
    s->references++;
    s->transport->send(s, &small->reply);
}

static void reply(struct nbd_session *s, uint32_t type, const void *data, size_t bytes)
{
    uint8_t head[NBD_OPTION_REPLY_BYTES];
    uint8_t *p = put_be64(head, NBD_OPTION_REPLY_MAGIC);
    p = put_be32(p, s->option);
    p = put_be32(p, type);
    put_be32(p, (uint32_t)bytes);
    send_bytes(s, head, sizeof(head), data, bytes);
}

static void reply_error(struct nbd_session *s, uint32_t type, const char *why)
{
    log_debug("%s: option %u refused: %s", s->peer, s->option, why);
    reply(s, type, why, strlen(why));
}

void nbd_session_start(struct nbd_session *s)
{
    uint8_t greeting[NBD_GREETING_BYTES];
    uint8_t *p = put_be64(greeting, NBD_INIT_MAGIC);
    p = put_be64(p, NBD_OPTION_MAGIC);
    put_be16(p, NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
    send_bytes(s, greeting, sizeof(greeting), NULL, 0);
}

/* ---- exports ---- */
/* The empty name is the first disk. Referenced, or NULL. */
static struct blk_device *find_export(const uint8_t *name, uint32_t bytes)
{
    char text[sizeof(((struct blk_device *)0)->name)];
    if (bytes == 0)
        return blk_get_index(0);
    if (bytes >= sizeof(text) || memchr(name, 0, bytes))
        return NULL;
    memcpy(text, name, bytes);
    text[bytes] = 0;
    return blk_get(text);
}

static void option_list(struct nbd_session *s)
{
    struct blk_device *disk;
    if (s->option_bytes) {
        reply_error(s, NBD_REP_ERR_INVALID, "LIST takes no data");
        return;
    }
    for (unsigned i = 0; (disk = blk_get_index(i)); i++) {
        uint8_t data[4 + sizeof(disk->name) + sizeof(disk->description)];
        size_t name = strlen(disk->name), description = strlen(disk->description);
        put_be32(data, (uint32_t)name);
        memcpy(data + 4, disk->name, name);
        memcpy(data + 4 + name, disk->description, description);
        blk_put(disk);
        reply(s, NBD_REP_SERVER, data, 4 + name + description);
    }
    reply(s, NBD_REP_ACK, NULL, 0);
}

static void send_info_text(struct nbd_session *s, uint16_t type, const char *text)
{
    uint8_t data[2 + 48];
    size_t n = MIN(strlen(text), sizeof(data) - 2);
    put_be16(data, type);
    memcpy(data + 2, text, n);
    reply(s, NBD_REP_INFO, data, 2 + n);
}

static void send_info(struct nbd_session *s, const struct blk_device *disk, uint16_t type)
{
    uint8_t data[NBD_INFO_BLOCK_SIZE_BYTES], *p = put_be16(data, type);
    switch (type) {
    case NBD_INFO_EXPORT:
        p = put_be64(p, disk->sectors * disk->sector_bytes);
        p = put_be16(p, nbd_transmission_flags(s, disk));
        break;
    case NBD_INFO_BLOCK_SIZE:
        p = put_be32(p, disk->sector_bytes);
        p = put_be32(p, MAX(disk->physical_sector_bytes, 4096u));
        p = put_be32(p, nbd_max_payload(s));
        break;
    case NBD_INFO_NAME:
        send_info_text(s, type, disk->name);
        return;
    case NBD_INFO_DESCRIPTION:
        send_info_text(s, type, disk->description);
        return;
    default:
        return;                         /* information we do not know may be left out */
    }
    reply(s, NBD_REP_INFO, data, (size_t)(p - data));
}

static void option_info_or_go(struct nbd_session *s)
{
    const uint8_t *d = s->option_data;
    uint32_t bytes = s->option_bytes;
    uint32_t name_bytes = bytes >= 6 ? get_be32(d) : 0;
    if (bytes < 6 || name_bytes > bytes - 6 ||
        bytes - 6 - name_bytes != 2u * get_be16(d + 4 + name_bytes)) {
        reply_error(s, NBD_REP_ERR_INVALID, "malformed");
        return;
    }
    struct blk_device *disk = find_export(d + 4, name_bytes);
    if (!disk) {
        reply_error(s, NBD_REP_ERR_UNKNOWN, "no such disk");
        return;
    }
    const uint8_t *wanted = d + 6 + name_bytes;
    unsigned count = get_be16(d + 4 + name_bytes);
    send_info(s, disk, NBD_INFO_EXPORT);
    send_info(s, disk, NBD_INFO_BLOCK_SIZE);        /* asked for or not: a client that knows it makes no mistakes */
    for (unsigned i = 0; i < count; i++) {
        uint16_t type = get_be16(wanted + 2 * i);
        if (type == NBD_INFO_NAME || type == NBD_INFO_DESCRIPTION)
            send_info(s, disk, type);
    }
    reply(s, NBD_REP_ACK, NULL, 0);
    if (s->option == NBD_OPT_GO && s->state != NBD_CLOSING)
        nbd_transmit_begin(s, disk);
    else
        blk_put(disk);
}

/* The one option without a reply: success starts the transmission, failure can only close. */
static void option_export_name(struct nbd_session *s)
{
    uint8_t data[NBD_EXPORT_NAME_REPLY_BYTES];
    static const uint8_t zeroes[NBD_EXPORT_NAME_ZEROES];
    struct blk_device *disk = find_export(s->option_data, s->option_bytes);
    if (!disk) {
        log_info_some("%s: asked for a disk that is not there, closing", s->peer);
        nbd_session_close(s);
        return;
    }
    uint8_t *p = put_be64(data, disk->sectors * disk->sector_bytes);
    put_be16(p, nbd_transmission_flags(s, disk));
    send_bytes(s, data, sizeof(data), zeroes, s->no_zeroes ? 0 : sizeof(zeroes));
    if (s->state != NBD_CLOSING)
        nbd_transmit_begin(s, disk);
    else
        blk_put(disk);
}

static void run_option(struct nbd_session *s)
{
    s->state = NBD_OPTION;
    switch (s->option) {
    case NBD_OPT_EXPORT_NAME:
        option_export_name(s);
        break;
    case NBD_OPT_ABORT:
        reply(s, NBD_REP_ACK, NULL, 0);
        nbd_session_close(s);
        break;
    case NBD_OPT_LIST:
        option_list(s);
        break;
    case NBD_OPT_INFO:
    case NBD_OPT_GO:
        option_info_or_go(s);
        break;
    case NBD_OPT_STRUCTURED_REPLY:
        if (s->option_bytes) {
            reply_error(s, NBD_REP_ERR_INVALID, "STRUCTURED_REPLY takes no data");
            break;
        }
        s->structured = true;
        reply(s, NBD_REP_ACK, NULL, 0);
        break;
    case NBD_OPT_STARTTLS:
        reply_error(s, NBD_REP_ERR_UNSUP, "this server has no TLS");
        break;
    default:
        reply_error(s, NBD_REP_ERR_UNSUP, "not supported");
        break;
    }
}

/* ---- input ---- */
static void take_client_flags(struct nbd_session *s)
{
    uint32_t flags = get_be32(s->header);
    if (flags & ~(uint32_t)(NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES)) {
        log_warn_some("%s: unknown client flags %#x, closing", s->peer, flags);
        nbd_session_close(s);
        return;
    }
    s->no_zeroes = flags & NBD_FLAG_NO_ZEROES;
    s->state = NBD_OPTION;
}

static void take_option_header(struct nbd_session *s)
{
    if (get_be64(s->header) != NBD_OPTION_MAGIC) {
        log_warn_some("%s: does not speak NBD, closing", s->peer);
        nbd_session_close(s);
        return;
    }
    s->option = get_be32(s->header + 8);
    s->option_bytes = s->left = get_be32(s->header + 12);
    if (s->option_bytes == 0) {
        run_option(s);
        return;
    }
    if (s->option_bytes <= OPTION_DATA_MAX)
        s->option_data = kmalloc(s->option_bytes);
    s->state = s->option_data ? NBD_OPTION_DATA : NBD_OPTION_SKIP;
}

static void take_option_data(struct nbd_session *s, const uint8_t *data, size_t n)
{
    if (s->option_data)
        memcpy(s->option_data + (s->option_bytes - s->left), data, n);
    s->left -= (uint32_t)n;
    if (s->left)
        return;
    if (s->option_data) {
        run_option(s);
        kfree(s->option_data);
        s->option_data = NULL;
    } else {
        s->state = NBD_OPTION;
        reply_error(s, NBD_REP_ERR_TOO_BIG, "too long");
    }
}

size_t nbd_negotiate_input(struct nbd_session *s, const uint8_t *data, size_t bytes)
{
    size_t given = bytes;
    while (bytes > 0 && s->state < NBD_REQUEST) {
        size_t n;
        switch (s->state) {
        case NBD_CLIENT_FLAGS:
            if (nbd_collect(s, 4, &data, &bytes))
                take_client_flags(s);
            break;
        case NBD_OPTION:
            if (nbd_session_is_full(s))
                return given - bytes;
            if (nbd_collect(s, NBD_OPTION_HEADER_BYTES, &data, &bytes))
                take_option_header(s);
            break;
        default:
            n = MIN(bytes, (size_t)s->left);
            take_option_data(s, data, n);
            data += n;
            bytes -= n;
            break;
        }
    }
    return given - bytes;
}
