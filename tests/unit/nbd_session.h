/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * An NBD session over an array instead of TCP, disks in memory that complete when told to, a client that writes a script
 * and reads the replies.
 */
#pragma once
#include "apps/nbd/internal.h"
#include "tests/fake_arch/fake_arch.h"
#include "tests/unit/test.h"

#define MIB          (1u << 20)
#define DISK_BYTES   (4u * MIB)
#define OUT_BYTES    (48u * MIB)

/* ---- the disk ---- */
struct fake_disk {
    struct blk_device d;
    uint8_t *bytes;
    struct list queue;
    unsigned queued, submitted, fail_nth, fua_seen, flushes, discards, zeroes_seen;
    int fail_with;
    bool newest_first, released;
};
static struct fake_disk disks[2];

static void disk_submit(struct blk_device *d, struct blk_request *r)
{
    struct fake_disk *f = d->driver;
    f->queued++;
    list_push_back(&f->queue, &r->node);
}

static void disk_kick(struct blk_device *d) { (void)d; }
static const struct blk_ops disk_ops = {disk_submit, disk_kick};

static void move_data(struct fake_disk *f, const struct blk_request *r)
{
    uint8_t *at = f->bytes + r->sector * f->d.sector_bytes;
    for (unsigned i = 0; i < r->span_count; at += r->spans[i++].bytes) {
        if (r->op == BLK_READ)
            memcpy(r->spans[i].addr, at, r->spans[i].bytes);
        else
            memcpy(at, r->spans[i].addr, r->spans[i].bytes);
    }
}

static bool complete_one(struct fake_disk *f)
{
    struct list *node = f->newest_first ? f->queue.prev : f->queue.next;
    if (node == &f->queue)
        return false;
    struct blk_request *r = list_entry(node, struct blk_request, node);
    int status = 0;
    list_remove(node);
    f->queued--;
    f->submitted++;
    if (f->d.removed)
        status = -E_REMOVED;
    else if (f->fail_nth && f->submitted == f->fail_nth)
        status = f->fail_with;
    else if (r->op == BLK_READ || r->op == BLK_WRITE)
        move_data(f, r);
    else if (r->op == BLK_DISCARD || r->op == BLK_WRITE_ZEROES)
        memset(f->bytes + r->sector * f->d.sector_bytes, 0, r->sectors * f->d.sector_bytes);
    f->fua_seen += (r->flags & BLK_FUA) != 0;
    f->flushes += r->op == BLK_FLUSH;
    f->discards += r->op == BLK_DISCARD;
    f->zeroes_seen += r->op == BLK_WRITE_ZEROES;
    blk_complete(r, status);
    return true;
}

static void disk_released(struct blk_device *d) { ((struct fake_disk *)d->driver)->released = true; }

static void add_disk(unsigned n, uint32_t sector_bytes)
{
    struct fake_disk *f = &disks[n];
    memset(f, 0, sizeof(*f));
    f->bytes = malloc(DISK_BYTES);
    for (uint32_t i = 0; i < DISK_BYTES; i++)
        f->bytes[i] = (uint8_t)(i * 31 + (i >> 9) + n);
    list_init(&f->queue);
    f->d = (struct blk_device){.description = "Test disk 1.0", .sector_bytes = sector_bytes,
                               .physical_sector_bytes = sector_bytes, .sectors = DISK_BYTES / sector_bytes,
                               .max_transfer_bytes = MIB, .max_discard_sectors = 1u << 20, .has_fua = true, .has_flush = true,
                               .has_discard = true, .has_write_zeroes = true, .max_write_zeroes_sectors = 1u << 20,
                               .ops = &disk_ops, .driver = f};
    KASSERT(blk_register(&f->d, disk_released) == 0);
}

/* ---- the transport ---- */
struct fake_conn {
    struct nbd_session s;
    struct list unacked;
    bool closed, released, hold_acks, resumed;
    const uint8_t *input;
    size_t input_bytes, fed;
    unsigned step;                              /* bytes offered at once; 0 = all */
};
static struct fake_conn conn;
static uint8_t *out;
static size_t out_bytes, out_at;

static void ack_all(void)
{
    struct list *node;
    while ((node = list_pop_front(&conn.unacked))) {
        struct nbd_reply *r = list_entry(node, struct nbd_reply, node);
        r->sent(r);
    }
}

static void fake_send(struct nbd_session *s, struct nbd_reply *r)
{
    (void)s;
    KASSERT(!conn.closed && out_bytes + r->header_bytes + r->data_bytes <= OUT_BYTES);
    memcpy(out + out_bytes, r->header, r->header_bytes);
    out_bytes += r->header_bytes;
    if (r->data_bytes)
        memcpy(out + out_bytes, r->data, r->data_bytes);
    out_bytes += r->data_bytes;
    list_push_back(&conn.unacked, &r->node);
}

static void fake_resume(struct nbd_session *s) { (void)s; conn.resumed = true; }
static void fake_close(struct nbd_session *s) { (void)s; conn.closed = true; }
static void fake_released(struct nbd_session *s) { (void)s; conn.released = true; }
static const struct nbd_transport transport = {fake_send, fake_resume, fake_close, fake_released};

static bool write_disk0(const char *disk) { return strcmp(disk, "disk0") == 0; }
static const struct nbd_policy policy = {write_disk0};

static void feed(void)
{
    nbd_session_input(&conn.s, NULL, 0);
    while (conn.fed < conn.input_bytes) {
        size_t n = conn.input_bytes - conn.fed;
        if (conn.step && n > conn.step)
            n = conn.step;
        size_t taken = nbd_session_input(&conn.s, conn.input + conn.fed, n);
        conn.fed += taken;
        if (taken < n)
            return;
    }
}

/* Until nothing moves any more. */
static void run(void)
{
    for (unsigned idle = 0; idle < 3; idle++) {
        feed();
        if (!conn.hold_acks && !list_empty(&conn.unacked)) {
            ack_all();
            idle = 0;
        }
        for (unsigned n = 0; n < ARRAY_SIZE(disks); n++)
            while (disks[n].bytes && complete_one(&disks[n]))
                idle = 0;
        conn.resumed = false;
        task_yield();
        if (conn.resumed)
            idle = 0;
    }
}

static void start_with(uint64_t ram, uint64_t limit, uint32_t sector_bytes)
{
    fake_arch_boot(ram);
    nbd_buffers_init(limit);
    add_disk(0, sector_bytes);
    add_disk(1, 4096);
    out = malloc(OUT_BYTES);
    out_bytes = out_at = 0;
    memset(&conn, 0, sizeof(conn));
    list_init(&conn.unacked);
    nbd_session_init(&conn.s, &transport, &policy);
    nbd_session_start(&conn.s);
}
static void start(void) { start_with(64u * MIB, 16u * MIB, 512); }

static bool ended_clean(void)
{
    conn.hold_acks = false;
    nbd_session_end(&conn.s);
    ack_all();
    run();
    return conn.released && conn.s.references == 0 && nbd_buffers_used() == 0 && conn.s.buffer_bytes == 0 &&
           disks[0].queued == 0;
}

/* ---- a client that writes what it is told ---- */
static uint8_t script[8u * MIB];
static size_t script_bytes;

static void put(uint64_t v, unsigned bytes)
{
    for (unsigned i = bytes; i > 0; i--, v >>= 8)
        script[script_bytes + i - 1] = (uint8_t)v;
    script_bytes += bytes;
}
static void put_text(const char *s) { memcpy(script + script_bytes, s, strlen(s)); script_bytes += strlen(s); }
static void option(uint32_t number, uint32_t bytes) { put(NBD_OPTION_MAGIC, 8); put(number, 4); put(bytes, 4); }
static void go_to(uint32_t number, const char *name)
{
    option(number, (uint32_t)strlen(name) + 6);
    put(strlen(name), 4);
    put_text(name);
    put(0, 2);
}
static void request(uint16_t flags, uint16_t command, uint64_t cookie, uint64_t offset, uint32_t length)
{
    put(NBD_REQUEST_MAGIC, 4);
    put(flags, 2);
    put(command, 2);
    put(cookie, 8);
    put(offset, 8);
    put(length, 4);
}
static uint8_t payload_byte(uint64_t at, uint8_t salt) { return (uint8_t)(at * 7 + salt); }
static void payload(uint64_t offset, uint32_t length, uint8_t salt)
{
    for (uint32_t i = 0; i < length; i++)
        script[script_bytes++] = payload_byte(offset + i, salt);
}
static void play(void)
{
    conn.input = script;
    conn.input_bytes = script_bytes;
    conn.fed = 0;
    run();
}
static void begin(void) { script_bytes = 0; }
static void hello(bool structured, const char *name)
{
    begin();
    put(NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES, 4);
    if (structured)
        option(NBD_OPT_STRUCTURED_REPLY, 0);
    go_to(NBD_OPT_GO, name);
}

/* ---- and reads ---- */
static uint64_t get(unsigned bytes)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < bytes && out_at + bytes <= out_bytes; i++)
        v = v << 8 | out[out_at + i];
    out_at += bytes;
    return out_at <= out_bytes ? v : 0xdead;
}
static size_t unread(void) { return out_bytes - MIN(out_at, out_bytes); }
static bool greeting(void) { return get(8) == NBD_INIT_MAGIC && get(8) == NBD_OPTION_MAGIC && get(2) == 3; }
/* The type of the next option reply, its data skipped over; *data its place. */
static uint32_t option_reply(uint32_t number, const uint8_t **data, uint32_t *bytes)
{
    if (get(8) != NBD_OPTION_REPLY_MAGIC || get(4) != number)
        return 0;
    uint32_t type = (uint32_t)get(4);
    *bytes = (uint32_t)get(4);
    *data = out + out_at;
    out_at += *bytes;
    return type;
}
static bool in_transmission(bool structured)
{
    const uint8_t *data;
    uint32_t bytes;
    if (!greeting() || (structured && option_reply(NBD_OPT_STRUCTURED_REPLY, &data, &bytes) != NBD_REP_ACK))
        return false;
    while (unread())
        if (option_reply(NBD_OPT_GO, &data, &bytes) == NBD_REP_ACK)
            return conn.s.disk != NULL;
    return false;
}
/* All replies read: for each cookie below 64 how often DONE came, the last error and, per byte, whether data was right. */
struct seen { unsigned done[64]; uint32_t error[64]; uint64_t data_bytes[64]; bool wrong; };
static void read_replies(struct seen *seen, const uint8_t *content)
{
    memset(seen, 0, sizeof(*seen));
    while (unread() && !seen->wrong) {
        uint32_t magic = (uint32_t)get(4);
        if (magic == NBD_SIMPLE_REPLY_MAGIC) {
            uint32_t error = (uint32_t)get(4);
            uint64_t cookie = get(8) % 64;
            seen->done[cookie]++;
            seen->error[cookie] = error;
            continue;
        }
        unsigned flags = (unsigned)get(2), type = (unsigned)get(2);
        uint64_t cookie = get(8) % 64;
        uint32_t length = (uint32_t)get(4);
        if (magic != NBD_STRUCTURED_REPLY_MAGIC || length > unread()) {
            seen->wrong = true;
            return;
        }
        seen->done[cookie] += flags & NBD_CHUNK_FLAG_DONE;
        if (type == NBD_CHUNK_OFFSET_DATA) {
            uint64_t offset = get(8);
            if (content && (offset > DISK_BYTES || memcmp(out + out_at, content + offset, length - 8)))
                seen->wrong = true;
            seen->data_bytes[cookie] += length - 8;
            out_at += length - 8;
        } else {
            seen->error[cookie] = get_be32(out + out_at);
            out_at += length;
        }
    }
    seen->wrong |= out_at > out_bytes;
}
