/* SPDX-License-Identifier: BSD-2-Clause */
/* ROOMS: lib mm rt fake_arch apps/nbd */
/*
 * NBD sessions over an array instead of TCP and a disk in memory that completes when told to: negotiation, every command,
 * backpressure, disappearing disks and clients, each allocation and each disk request failing in turn, and garbage.
 */
#include "apps/nbd/internal.h"
#include "tests/fake_arch/fake_arch.h"
#include "tests/unit/child.h"
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

/* ---- negotiation ---- */
TEST(exports_are_listed_and_described)
{
    const uint8_t *data;
    uint32_t bytes;
    bool size = false, block = false, name = false, described = false;
    start();
    begin();
    put(3, 4);
    option(NBD_OPT_LIST, 0);
    option(NBD_OPT_INFO, 6 + 5 + 6);
    put(5, 4);
    put_text("disk1");
    put(3, 2);
    put(NBD_INFO_NAME, 2);
    put(NBD_INFO_DESCRIPTION, 2);
    put(NBD_INFO_BLOCK_SIZE, 2);
    play();
    CHECK(greeting());
    CHECK_EQ(option_reply(NBD_OPT_LIST, &data, &bytes), NBD_REP_SERVER);
    CHECK(get_be32(data) == 5 && memcmp(data + 4, "disk0Test disk 1.0", bytes - 4) == 0);
    CHECK_EQ(option_reply(NBD_OPT_LIST, &data, &bytes), NBD_REP_SERVER);
    CHECK_EQ(option_reply(NBD_OPT_LIST, &data, &bytes), NBD_REP_ACK);
    for (;;) {
        uint32_t type = option_reply(NBD_OPT_INFO, &data, &bytes);
        if (type == NBD_REP_ACK)
            break;
        CHECK_EQ(type, NBD_REP_INFO);
        switch (get_be16(data)) {
        case NBD_INFO_EXPORT:
            size = bytes == 12 && get_be64(data + 2) == DISK_BYTES && (get_be16(data + 10) & NBD_FLAG_READ_ONLY);
            break;
        case NBD_INFO_BLOCK_SIZE:
            block = bytes == 14 && get_be32(data + 2) == 4096 && get_be32(data + 6) == 4096;
            break;
        case NBD_INFO_NAME:
            name = bytes == 7 && memcmp(data + 2, "disk1", 5) == 0;
            break;
        case NBD_INFO_DESCRIPTION:
            described = memcmp(data + 2, "Test disk 1.0", bytes - 2) == 0;
            break;
        }
    }
    CHECK(size && block && name && described);
    CHECK_EQ(unread(), 0);
    CHECK(ended_clean());
}

TEST(unknown_options_and_exports_are_refused_and_the_connection_survives)
{
    const uint8_t *data;
    uint32_t bytes;
    start();
    begin();
    put(3, 4);
    option(NBD_OPT_STARTTLS, 0);
    option(99, 3);
    put_text("abc");
    option(10, 70000);                          /* longer than any option is */
    for (unsigned i = 0; i < 70000; i++)
        put(0, 1);
    go_to(NBD_OPT_GO, "disk7");
    go_to(NBD_OPT_INFO, "a name that no disk can have because it is far too long");
    option(NBD_OPT_INFO, 5);                    /* malformed: too short, then a name beyond the end, then a count */
    put(0, 5);
    option(NBD_OPT_INFO, 8);
    put(100, 4);
    put(0, 4);
    option(NBD_OPT_INFO, 8);
    put(0, 4);
    put(7, 2);
    put(0, 2);
    option(NBD_OPT_LIST, 1);
    put(0, 1);
    option(NBD_OPT_STRUCTURED_REPLY, 1);
    put(0, 1);
    go_to(NBD_OPT_GO, "");
    play();
    CHECK(greeting());
    CHECK_EQ(option_reply(NBD_OPT_STARTTLS, &data, &bytes), NBD_REP_ERR_UNSUP);
    CHECK_EQ(option_reply(99, &data, &bytes), NBD_REP_ERR_UNSUP);
    CHECK_EQ(option_reply(10, &data, &bytes), NBD_REP_ERR_TOO_BIG);
    CHECK_EQ(option_reply(NBD_OPT_GO, &data, &bytes), NBD_REP_ERR_UNKNOWN);
    CHECK_EQ(option_reply(NBD_OPT_INFO, &data, &bytes), NBD_REP_ERR_UNKNOWN);
    for (unsigned i = 0; i < 3; i++)
        CHECK_EQ(option_reply(NBD_OPT_INFO, &data, &bytes), NBD_REP_ERR_INVALID);
    CHECK_EQ(option_reply(NBD_OPT_LIST, &data, &bytes), NBD_REP_ERR_INVALID);
    CHECK_EQ(option_reply(NBD_OPT_STRUCTURED_REPLY, &data, &bytes), NBD_REP_ERR_INVALID);
    CHECK_EQ(option_reply(NBD_OPT_GO, &data, &bytes), NBD_REP_INFO);
    CHECK_EQ(conn.s.state, NBD_REQUEST);
    CHECK(strcmp(conn.s.disk->name, "disk0") == 0);
    CHECK(!conn.closed && ended_clean());
}

TEST(export_name_with_and_without_zeroes)
{
    for (unsigned no_zeroes = 0; no_zeroes < 2; no_zeroes++) {
        if (no_zeroes == 0) {
            start();
            CHECK(ended_clean());
        }
        out_bytes = out_at = 0;
        nbd_session_init(&conn.s, &transport, &policy);
        conn.closed = conn.released = false;
        begin();
        put(1 | no_zeroes << 1, 4);
        option(NBD_OPT_EXPORT_NAME, 5);
        put_text("disk0");
        play();
        CHECK_EQ(unread(), no_zeroes ? 10 : 134);
        CHECK_EQ(get(8), DISK_BYTES);
        CHECK(!(get(2) & NBD_FLAG_READ_ONLY));
        CHECK_EQ(conn.s.state, NBD_REQUEST);
        CHECK(ended_clean());
    }
    nbd_session_init(&conn.s, &transport, &policy);
    conn.released = false;
    begin();
    put(1, 4);
    option(NBD_OPT_EXPORT_NAME, 5);
    put_text("disk9");
    play();
    CHECK(conn.closed && ended_clean());
}

TEST(abort_and_nonsense_close)
{
    static const struct { uint64_t magic; uint32_t flags, option; } cases[] = {
        {NBD_OPTION_MAGIC, 3, NBD_OPT_ABORT}, {0x4745542f20485454ull, 3, 0}, {NBD_OPTION_MAGIC, 0xfffffff0u, 1}};
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        if (i == 0) {
            start();
            CHECK(ended_clean());
        }
        nbd_session_init(&conn.s, &transport, &policy);
        conn.closed = conn.released = false;
        begin();
        put(cases[i].flags, 4);
        put(cases[i].magic, 8);
        put(cases[i].option, 4);
        put(0, 4);
        put(0, 8);                              /* what comes after is thrown away */
        play();
        CHECK(conn.closed);
        CHECK_EQ(conn.fed, conn.input_bytes);
        CHECK(ended_clean());
    }
}

/* ---- reads ---- */
TEST(simple_reads_come_whole)
{
    start();
    hello(false, "disk0");
    request(0, NBD_CMD_READ, 1, 512, 1024);
    request(0, NBD_CMD_READ, 2, 0, 600 * 1024); /* three pieces */
    disks[0].newest_first = true;
    play();
    CHECK(in_transmission(false));
    for (unsigned i = 0; i < 2; i++) {
        CHECK_EQ(get(4), NBD_SIMPLE_REPLY_MAGIC);
        CHECK_EQ(get(4), 0);
        bool first = get(8) == 1;
        uint32_t bytes = first ? 1024 : 600 * 1024;
        CHECK(unread() >= bytes && memcmp(out + out_at, disks[0].bytes + (first ? 512 : 0), bytes) == 0);
        out_at += bytes;
    }
    CHECK_EQ(unread(), 0);
    CHECK(ended_clean());
}

TEST(structured_reads_come_in_chunks_in_any_order)
{
    struct seen seen;
    start();
    hello(true, "disk0");
    for (unsigned i = 0; i < 40; i++)
        request(0, NBD_CMD_READ, i, i * 4096, 4096);
    request(0, NBD_CMD_READ, 40, 0, 2 * MIB);
    request(NBD_CMD_FLAG_DF, NBD_CMD_READ, 41, MIB, MIB);
    disks[0].newest_first = true;
    play();
    CHECK(in_transmission(true));
    read_replies(&seen, disks[0].bytes);
    CHECK(!seen.wrong);
    for (unsigned i = 0; i < 40; i++)
        CHECK(seen.done[i] == 1 && seen.error[i] == 0 && seen.data_bytes[i] == 4096);
    CHECK(seen.done[40] == 1 && seen.data_bytes[40] == 2 * MIB);
    CHECK(seen.done[41] == 1 && seen.data_bytes[41] == MIB);
    CHECK(ended_clean());
}

TEST(longest_read_passes_through_a_small_memory)
{
    struct seen seen;
    start_with(64u * MIB, 2u * MIB, 512);
    hello(true, "disk0");
    for (unsigned i = 0; i < 8; i++)
        request(0, NBD_CMD_READ, i, 0, DISK_BYTES);
    request(NBD_CMD_FLAG_DF, NBD_CMD_READ, 8, 0, DISK_BYTES);    /* can't be answered as one here */
    play();
    CHECK(in_transmission(true));
    read_replies(&seen, disks[0].bytes);
    CHECK(!seen.wrong);
    for (unsigned i = 0; i < 8; i++)
        CHECK(seen.done[i] == 1 && seen.error[i] == 0 && seen.data_bytes[i] == DISK_BYTES);
    CHECK(seen.done[8] == 1 && seen.error[8] == NBD_EOVERFLOW);
    CHECK(ended_clean());
}

/* ---- writes and the rest ---- */
TEST(writes_flush_trim_and_zeroes_reach_the_disk)
{
    struct seen seen;
    start();
    hello(true, "disk0");
    request(NBD_CMD_FLAG_FUA, NBD_CMD_WRITE, 1, 4096, 8192);
    payload(4096, 8192, 9);
    request(0, NBD_CMD_WRITE, 2, MIB, 700 * 1024);
    payload(MIB, 700 * 1024, 5);
    request(0, NBD_CMD_FLUSH, 3, 0, 0);
    request(0, NBD_CMD_TRIM, 4, 2 * MIB, 65536);
    request(NBD_CMD_FLAG_NO_HOLE, NBD_CMD_WRITE_ZEROES, 5, 3 * MIB, MIB);
    request(NBD_CMD_FLAG_FUA, NBD_CMD_READ, 6, 0, 4096);
    request(NBD_CMD_FLAG_FUA, NBD_CMD_FLUSH, 7, 0, 0);
    play();
    CHECK(in_transmission(true));
    read_replies(&seen, NULL);
    for (unsigned i = 1; i <= 7; i++)
        CHECK(seen.done[i] == 1 && seen.error[i] == 0);
    for (uint32_t i = 0; i < 8192; i++)
        CHECK(disks[0].bytes[4096 + i] == payload_byte(4096 + i, 9));
    for (uint32_t i = 0; i < 700 * 1024; i++)
        CHECK(disks[0].bytes[MIB + i] == payload_byte(MIB + i, 5));
    for (uint32_t i = 0; i < MIB; i++)
        CHECK(disks[0].bytes[3 * MIB + i] == 0);
    CHECK(disks[0].fua_seen == 1 && disks[0].flushes == 2 && disks[0].discards == 1 && disks[0].zeroes_seen >= 1);
    CHECK(ended_clean());
}

TEST(bad_requests_get_their_error_and_the_connection_survives)
{
    static const struct { uint16_t flags, command; uint64_t offset; uint32_t length; bool payload; uint32_t error; } bad[] = {
        {0, NBD_CMD_READ, 1, 512, false, NBD_EINVAL},                  {0, NBD_CMD_READ, 0, 100, false, NBD_EINVAL},
        {0, NBD_CMD_READ, 0, 0, false, NBD_EINVAL},                    {0, NBD_CMD_READ, DISK_BYTES, 512, false, NBD_EINVAL},
        {0, NBD_CMD_READ, DISK_BYTES - 512, 1024, false, NBD_EINVAL},  {0, NBD_CMD_READ, ~511ull, 1024, false, NBD_EINVAL},
        {0, NBD_CMD_READ, 0, 0xfffffe00u, false, NBD_EINVAL},          {0x80, NBD_CMD_READ, 0, 512, false, NBD_EINVAL},
        {0, NBD_CMD_WRITE, DISK_BYTES - 512, 1024, true, NBD_ENOSPC},  {0, NBD_CMD_WRITE, 3, 512, true, NBD_EINVAL},
        {0, NBD_CMD_WRITE, DISK_BYTES, 512, true, NBD_ENOSPC},         {0, NBD_CMD_TRIM, DISK_BYTES, 512, false, NBD_EINVAL},
        {0, NBD_CMD_WRITE_ZEROES, DISK_BYTES, 512, false, NBD_ENOSPC}, {0, NBD_CMD_CACHE, 0, 512, false, NBD_EINVAL},
        {0, NBD_CMD_BLOCK_STATUS, 0, 512, false, NBD_EINVAL},          {0, 99, 0, 512, false, NBD_EINVAL},
        {NBD_CMD_FLAG_DF, NBD_CMD_WRITE, 0, 512, true, NBD_EINVAL},
    };
    struct seen seen;
    start();
    hello(true, "disk0");
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        request(bad[i].flags, bad[i].command, i, bad[i].offset, bad[i].length);
        if (bad[i].payload)
            payload(0, bad[i].length, 1);
    }
    request(0, NBD_CMD_READ, 63, 0, 512);
    play();
    CHECK(in_transmission(true));
    read_replies(&seen, disks[0].bytes);
    CHECK(!seen.wrong);
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        CHECK_EQ(seen.done[i], 1);
        CHECK_EQ(seen.error[i], bad[i].error);
    }
    CHECK(seen.done[63] == 1 && seen.data_bytes[63] == 512 && !conn.closed);
    CHECK(ended_clean());
}

TEST(a_disk_not_named_is_read_only)
{
    struct seen seen;
    start();
    hello(true, "disk1");
    request(0, NBD_CMD_WRITE, 0, 0, 4096);
    payload(0, 4096, 1);
    request(0, NBD_CMD_TRIM, 1, 0, 4096);
    request(0, NBD_CMD_WRITE_ZEROES, 2, 0, 4096);
    request(0, NBD_CMD_READ, 3, 512, 512);      /* unaligned for 4096-byte sectors */
    request(0, NBD_CMD_FLUSH, 4, 0, 0);
    play();
    CHECK(in_transmission(true));
    read_replies(&seen, NULL);
    for (unsigned i = 0; i < 3; i++)
        CHECK_EQ(seen.error[i], NBD_EPERM);
    CHECK(seen.error[3] == NBD_EINVAL && seen.error[4] == 0 && seen.done[4] == 1);
    CHECK(ended_clean());
}

TEST(disc_answers_what_is_in_flight_and_closes)
{
    struct seen seen;
    start();
    hello(true, "disk0");
    request(0, NBD_CMD_READ, 1, 0, 65536);
    request(0, NBD_CMD_DISC, 2, 0, 0);
    put(0, 8);
    play();
    CHECK(in_transmission(true));
    read_replies(&seen, disks[0].bytes);
    CHECK(seen.done[1] == 1 && seen.data_bytes[1] == 65536 && conn.closed);
    CHECK(ended_clean());
}

/* ---- backpressure ---- */
struct finish { size_t offered; unsigned replies; bool hold_disk; };

static void finish_at(void *arg)
{
    const struct finish *f = arg;
    struct seen seen;
    start();
    hello(true, "disk0");
    play();
    if (!in_transmission(true))
        test_fail(__FILE__, __LINE__, "no transmission");
    begin();
    request(0, NBD_CMD_WRITE, 1, 4096, 8192);
    payload(4096, 8192, 3);
    request(0, NBD_CMD_READ, 2, 0, 65536);
    request(0, NBD_CMD_WRITE, 3, 65536, 8192);
    payload(65536, 8192, 4);
    conn.input = script;
    conn.input_bytes = f->offered;
    conn.fed = 0;
    if (f->hold_disk)
        feed();
    else
        run();
    nbd_session_finish(&conn.s);
    nbd_session_finish(&conn.s);
    conn.input_bytes = script_bytes;          /* the client goes on as if nothing were */
    run();
    read_replies(&seen, NULL);
    CHECK(conn.closed && !seen.wrong);
    CHECK_EQ(seen.done[1] + seen.done[2] + seen.done[3], f->replies);
    for (unsigned i = 1; i <= f->replies; i++)
        CHECK(seen.done[i] == 1 && seen.error[i] == 0);
    if (f->replies)
        CHECK_EQ(disks[0].bytes[4096 + 17], payload_byte(4096 + 17, 3));
    CHECK(ended_clean());
}

/* Requests that came whole or have begun to are served, later ones are not; then the connection closes. */
TEST(an_ending_server_serves_what_it_has)
{
    const size_t write = NBD_REQUEST_BYTES + 8192;
    const struct finish cases[] = {
        {0, 0, false}, {NBD_REQUEST_BYTES - 1, 0, false}, {NBD_REQUEST_BYTES, 1, false},
        {NBD_REQUEST_BYTES + 100, 1, true}, {write, 1, true}, {write + 5, 1, false},
        {write + NBD_REQUEST_BYTES, 2, true}, {2 * write + NBD_REQUEST_BYTES - 1, 3, true},
        {2 * write + NBD_REQUEST_BYTES, 3, true},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        struct finish f = cases[i];
        if (in_child(finish_at, &f) != FAKE_RETURNED)
            test_fail(__FILE__, __LINE__, "case %u", i);
    }
}

TEST(an_ending_server_does_not_negotiate)
{
    start();
    begin();
    put(3, 4);
    option(NBD_OPT_LIST, 0);
    conn.step = 7;
    conn.input = script;
    conn.input_bytes = 9;
    feed();
    nbd_session_finish(&conn.s);
    run();
    CHECK(conn.closed && ended_clean());
}

TEST(a_client_that_does_not_read_is_not_read_from)
{
    struct seen seen;
    start_with(64u * MIB, 4u * MIB, 512);
    hello(true, "disk0");
    for (unsigned i = 0; i < 60; i++)
        request(0, NBD_CMD_READ, i, (i % 32) * 128 * 1024, 128 * 1024);
    conn.hold_acks = true;
    play();
    CHECK(conn.fed < conn.input_bytes);
    CHECK(nbd_buffers_used() <= 4u * MIB && conn.s.buffer_bytes <= nbd_session_share());
    conn.hold_acks = false;
    run();
    CHECK_EQ(conn.fed, conn.input_bytes);
    CHECK(in_transmission(true));
    read_replies(&seen, disks[0].bytes);
    CHECK(!seen.wrong);
    for (unsigned i = 0; i < 60; i++)
        CHECK(seen.done[i] == 1 && seen.error[i] == 0 && seen.data_bytes[i] == 128 * 1024);
    CHECK(ended_clean());
}

/* Requests that are answered at once: the answers wait for a client that doesn't take them, not without bound. */
TEST(answers_that_are_not_taken_are_bounded)
{
    struct seen seen;
    unsigned done = 0;
    start();
    hello(true, "disk0");
    for (unsigned i = 0; i < 5000; i++)
        request(0, i % 2 ? NBD_CMD_READ : 77, i, 0, 0);
    conn.hold_acks = true;
    play();
    CHECK(conn.fed < conn.input_bytes && conn.s.references <= NBD_HELD_MAX);
    conn.hold_acks = false;
    run();
    CHECK_EQ(conn.fed, conn.input_bytes);
    CHECK(in_transmission(true));
    read_replies(&seen, NULL);
    for (unsigned i = 0; i < 64; i++)
        done += seen.done[i] + (seen.error[i] == NBD_EINVAL && seen.done[i] == 0);
    CHECK(!seen.wrong && done >= 2500 && ended_clean());
}

TEST(options_whose_answers_are_not_taken_are_bounded)
{
    start();
    begin();
    put(NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES, 4);
    for (unsigned i = 0; i < 2000; i++)
        option(i % 2 ? NBD_OPT_LIST : 99, 0);
    conn.hold_acks = true;
    play();
    CHECK(conn.fed < conn.input_bytes && conn.s.references <= NBD_HELD_MAX + ARRAY_SIZE(disks) + 1);
    conn.hold_acks = false;
    run();
    CHECK_EQ(conn.fed, conn.input_bytes);
    const uint8_t *data;
    uint32_t bytes, answers = 0;
    CHECK(greeting());
    while (unread()) {
        bool list = answers % 4 != 0;
        uint32_t type = option_reply(list ? NBD_OPT_LIST : 99, &data, &bytes);
        CHECK_EQ(type, !list ? NBD_REP_ERR_UNSUP : answers % 4 == 3 ? NBD_REP_ACK : NBD_REP_SERVER);
        answers++;
    }
    CHECK_EQ(answers, 4000);
    CHECK(ended_clean());
}

/* The last request waits for buffers when the client ends its side: it came whole, so it is served whole. */
TEST(a_half_closed_client_gets_all_it_asked_for)
{
    struct seen seen;
    start_with(64u * MIB, 4u * MIB, 512);
    hello(true, "disk0");
    request(0, NBD_CMD_READ, 1, 0, 4u * MIB);
    conn.hold_acks = true;
    play();
    CHECK_EQ(conn.fed, conn.input_bytes);
    CHECK_EQ(conn.s.state, NBD_ISSUE);
    nbd_session_eof(&conn.s);
    run();
    CHECK(!conn.closed);
    conn.hold_acks = false;
    run();
    CHECK(conn.closed && in_transmission(true));
    read_replies(&seen, disks[0].bytes);
    CHECK(!seen.wrong && seen.done[1] == 1 && seen.error[1] == 0 && seen.data_bytes[1] == 4u * MIB);
    CHECK(ended_clean());
}

/* Its buffers come back after it is forgotten, when nobody waits: the next client must not wait for a wake. */
TEST(a_client_that_goes_while_memory_is_short_leaves_no_shortage)
{
    static struct { void *buffer; unsigned order; } taken[2048];
    struct nbd_session gone;
    struct seen seen;
    unsigned n = 0;
    start_with(64u * MIB, 2u * MIB, 512);
    nbd_session_init(&gone, &transport, &policy);
    for (;; n++) {
        CHECK(n < ARRAY_SIZE(taken));
        gone.buffer_bytes = 0;                       /* below its share of it all */
        taken[n].buffer = nbd_buffer_get(&gone, 256 * 1024, &taken[n].order);
        if (!taken[n].buffer)
            break;
    }
    nbd_buffers_wait(&gone);
    nbd_buffers_forget(&gone);
    while (n-- > 0) {
        gone.buffer_bytes = MIB;
        nbd_buffer_put(&gone, taken[n].buffer, taken[n].order);
    }
    task_yield();
    hello(true, "disk0");
    request(0, NBD_CMD_READ, 0, 0, 4096);
    play();
    CHECK(in_transmission(true));
    read_replies(&seen, disks[0].bytes);
    CHECK(!seen.wrong && seen.done[0] == 1 && seen.error[0] == 0);
    CHECK(ended_clean());
}

TEST(too_many_requests_in_flight_wait)
{
    struct seen seen;
    unsigned done = 0;
    start();
    hello(true, "disk0");
    for (unsigned i = 0; i < 1000; i++)
        request(0, NBD_CMD_READ, i, (i % 8192) * 512, 512);
    conn.input = script;
    conn.input_bytes = script_bytes;
    feed();
    CHECK_EQ(conn.s.op_count, NBD_OPS_MAX);
    run();
    CHECK(in_transmission(true));
    read_replies(&seen, disks[0].bytes);
    for (unsigned i = 0; i < 64; i++)
        done += seen.done[i];
    CHECK(!seen.wrong && done == 1000);
    CHECK(ended_clean());
}

/* ---- one conversation for the tests that break something ---- */
static void conversation(void)
{
    hello(true, "disk0");
    request(0, NBD_CMD_READ, 0, 0, 4096);
    request(0, NBD_CMD_WRITE, 1, MIB, 600 * 1024);
    payload(MIB, 600 * 1024, 3);
    request(0, NBD_CMD_READ, 2, 2 * MIB, 600 * 1024);
    request(NBD_CMD_FLAG_DF, NBD_CMD_READ, 3, 2 * MIB, 600 * 1024);
    request(0, NBD_CMD_FLUSH, 4, 0, 0);
    request(0, NBD_CMD_TRIM, 5, 3 * MIB, 4096);
    request(0, NBD_CMD_WRITE_ZEROES, 6, 3 * MIB + 4096, 4096);
    request(0, NBD_CMD_READ, 7, 0, 512);
}
#define CONVERSATION_REQUESTS 8

TEST(bytes_may_come_in_any_pieces)
{
    static const unsigned steps[] = {1, 3, 7, 28, 1460, 65521};
    for (unsigned i = 0; i < ARRAY_SIZE(steps); i++) {
        struct seen seen;
        if (i == 0)
            start();
        else
            nbd_session_init(&conn.s, &transport, &policy);
        conn.released = false;
        if (i)
            nbd_session_start(&conn.s);
        conversation();
        conn.step = steps[i];
        play();
        CHECK(in_transmission(true));
        read_replies(&seen, NULL);
        for (unsigned k = 0; k < CONVERSATION_REQUESTS; k++)
            CHECK(seen.done[k] == 1 && seen.error[k] == 0);
        CHECK(ended_clean());
    }
}

TEST(each_disk_request_fails_in_turn)
{
    unsigned failed = 1;
    start();
    for (unsigned n = 1; failed; n++) {
        struct seen seen;
        failed = 0;
        if (n > 1) {
            nbd_session_init(&conn.s, &transport, &policy);
            nbd_session_start(&conn.s);
        }
        conn.released = false;
        disks[0].submitted = 0;
        disks[0].fail_nth = n;
        disks[0].fail_with = n % 2 ? -E_IO : -E_NOSPC;
        conversation();
        play();
        CHECK(in_transmission(true));
        read_replies(&seen, NULL);
        CHECK(!seen.wrong && !conn.closed);
        for (unsigned k = 0; k < CONVERSATION_REQUESTS; k++) {
            CHECK_EQ(seen.done[k], 1);
            failed += seen.error[k] != 0;
        }
        CHECK(failed <= 1);
        CHECK(ended_clean());
        CHECK(n < 100);
    }
}

TEST(each_allocation_fails_in_turn)
{
    bool whole = false;
    for (unsigned n = 1; !whole; n++) {
        struct seen seen;
        unsigned answered = 0;
        if (n == 1)
            start();
        out_bytes = out_at = 0;
        memset(&conn, 0, sizeof(conn));
        list_init(&conn.unacked);
        uint64_t before = mm_alloc_count();
        mm_fail_nth(n);
        nbd_session_init(&conn.s, &transport, &policy);
        nbd_session_start(&conn.s);
        conversation();
        play();
        whole = mm_alloc_count() - before < n;
        mm_fail_nth(0);
        nbd_buffers_wake();
        run();
        if (!conn.closed) {
            CHECK_EQ(conn.fed, conn.input_bytes);
            /* One option may have been refused for lack of memory; everything else was done in the end. */
            if (in_transmission(true)) {
                read_replies(&seen, NULL);
                for (unsigned k = 0; k < CONVERSATION_REQUESTS; k++)
                    answered += seen.done[k] == 1 && seen.error[k] == 0;
                CHECK_EQ(answered, CONVERSATION_REQUESTS);
            }
        }
        CHECK(ended_clean());
        CHECK(n < 500);
    }
}

/* ---- what goes away ---- */
TEST(a_disk_that_goes_fails_requests_and_closes_later)
{
    struct seen seen;
    start();
    hello(true, "disk0");
    request(0, NBD_CMD_READ, 1, 0, 600 * 1024);
    request(0, NBD_CMD_WRITE, 2, 0, 8192);
    payload(0, 4096, 1);                        /* half of it */
    conn.input = script;
    conn.input_bytes = script_bytes;
    feed();
    CHECK(disks[0].queued > 0);
    blk_unregister(&disks[0].d);
    run();
    begin();
    payload(4096, 4096, 1);
    request(0, NBD_CMD_READ, 3, 0, 512);
    request(0, NBD_CMD_FLUSH, 4, 0, 0);
    play();
    CHECK(in_transmission(true));
    read_replies(&seen, NULL);
    for (unsigned i = 1; i <= 4; i++) {
        CHECK_EQ(seen.done[i], 1);
        CHECK_EQ(seen.error[i], NBD_EIO);
    }
    CHECK(!conn.closed && !disks[0].released);
    for (unsigned i = 0; i < 5; i++)
        nbd_session_tick(&conn.s);
    CHECK(conn.closed);
    CHECK(ended_clean() && disks[0].released);
}

TEST(a_client_that_goes_leaves_nothing_behind)
{
    static const size_t cut_after[] = {0, 3, 30, 70, 100, 5000, 300000, 620000};
    for (unsigned i = 0; i < ARRAY_SIZE(cut_after); i++) {
        if (i == 0)
            start();
        else
            nbd_session_init(&conn.s, &transport, &policy);
        conn.released = conn.closed = false;
        conn.hold_acks = i % 2;
        conversation();
        conn.input = script;
        conn.input_bytes = MIN(script_bytes, cut_after[i]);
        conn.fed = 0;
        feed();
        if (i % 3 == 0)
            nbd_session_eof(&conn.s);
        CHECK(ended_clean());
    }
}

TEST(a_timed_out_read_never_gives_its_buffer_back)
{
    struct seen seen;
    start();
    hello(true, "disk0");
    request(0, NBD_CMD_READ, 1, 0, 4096);
    disks[0].fail_nth = 1;
    disks[0].fail_with = -E_TIMEOUT;
    play();
    CHECK(in_transmission(true));
    read_replies(&seen, NULL);
    CHECK_EQ(seen.error[1], NBD_EIO);
    CHECK_EQ(nbd_buffers_used(), 4096);
    nbd_session_end(&conn.s);
    CHECK(conn.released && conn.s.buffer_bytes == 0);
}

/* ---- garbage ---- */
static uint64_t seed = 88172645463325252ull;
static uint32_t rnd(uint32_t below)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)(seed >> 11) % below;
}

TEST(mutated_conversations_do_no_harm)
{
    start();
    for (unsigned round = 0; round < 400; round++) {
        out_bytes = out_at = 0;
        memset(&conn, 0, sizeof(conn));
        list_init(&conn.unacked);
        nbd_session_init(&conn.s, &transport, &policy);
        nbd_session_start(&conn.s);
        hello(rnd(2), "disk0");
        size_t head = script_bytes;
        for (unsigned i = 0; i < 30; i++) {
            uint16_t command = (uint16_t)rnd(9);
            uint32_t length = rnd(4) ? rnd(256) * 512 : rnd(1u << 20);
            request((uint16_t)rnd(rnd(2) ? 2 : 32), command, i, rnd(DISK_BYTES / 512) * 512ull, length);
            if (command == NBD_CMD_WRITE)
                payload(0, MIN(length, 1u << 17), 1);
        }
        for (unsigned i = rnd(6); i > 0; i--)
            script[rnd(4) ? head + rnd((uint32_t)(script_bytes - head)) : rnd((uint32_t)head)] = (uint8_t)rnd(256);
        conn.step = rnd(2) ? 1 + rnd(3000) : 0;
        disks[0].newest_first = rnd(2);
        play();
        CHECK(conn.closed || conn.fed == conn.input_bytes);
        CHECK(ended_clean());
    }
}

TEST_MAIN()
