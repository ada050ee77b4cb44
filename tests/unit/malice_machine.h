/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A machine with two disk controllers and two NICs, of which one each belongs to a host that tells the truth, and an NBD
 * session on the liar's disk. Each life adds the liar's devices, works with everything while there are lies, removes them
 * and compares the books. What is checked is what a guest can know; see life().
 */
#pragma once
#include "apps/nbd/session.h"
#include "drivers/drivers.h"
#include "drivers/storvsc.h"
#include "hv/hv.h"
#include "hv/shmem.h"
#include "mm/internal.h"
#include "rt/nic.h"
#include "tests/fake_arch/hv_host.h"
#include "tests/unit/child.h"
#include "vmbus/vmbus_internal.h"

#ifndef SEEDS
#define SEEDS 30u                                /* of each class, unless MALICE_SEEDS says otherwise */
#endif
#define RAM_BYTES     (96ull << 20)
#define SECTORS       4096u
#define READ_SECTORS  2048u                      /* those that nobody writes */
#define LIMIT_S       1500                       /* 240 s for a request, 180 s for each step of a handshake or goodbye */
#define LINES         60u                        /* of the log, for a life with any number of lies */
#define LINES_OF_OFFERS 160u                     /* of thousands of devices that are made up, served and don't work */
#define SLAB_PAGES    16u
#define LIVES         30ull                      /* of one machine */
#define RUN_UNTIL(cond, limit_s)                                                        \
    ({                                                                                  \
        uint64_t end_ = rt_now_100ns() + S_100NS(limit_s);                              \
        bool ok_;                                                                       \
        while (!(ok_ = (cond)) && rt_now_100ns() < end_)                                \
            task_sleep_us((limit_s) * 200);                                             \
        ok_;                                                                            \
    })

static struct host *host;
static struct host_config host_cfg;
#ifndef MACHINE_SETTINGS
#define MACHINE_SETTINGS ""
#endif
static const char *machine_settings = MACHINE_SETTINGS;

static void *mem_alloc(void *ctx UNUSED, size_t bytes) { return calloc(1, bytes); }
static void mem_free(void *ctx UNUSED, void *p, size_t bytes UNUSED) { free(p); }
static const struct host_ops mem_ops = {.alloc = mem_alloc, .free = mem_free};

static uint8_t content(uint64_t at, unsigned which) { return (uint8_t)(at * 31 + (at >> 9) * 7 + which * 101); }

/* ---- the two sides' devices ---- */

struct party {
    struct host_scsi *scsi;
    struct host_nic *nic;
    struct blk_mem *backing;
    uint8_t mac;
    unsigned which;
    struct nic *guest_nic;
    bool monitor;                                /* signalled by a bit in a page; else by hypercall */
    unsigned wired, got, wrong;                  /* frames on the wire, received, with wrong content */
};
static struct blk_device *honest_disk;
static uint8_t *honest_buffer;                   /* the guest's memory, as the frames are */
static struct party honest = {.mac = 1}, liar = {.mac = 2, .which = 1};

static bool good_frame(const uint8_t *p, uint32_t bytes)
{
    for (uint32_t i = 14; i < bytes; i++)
        if (p[i] != (uint8_t)(i * 13 + bytes))
            return false;
    return bytes >= 14;
}

static void fill_frame(uint8_t *p, uint32_t bytes)
{
    memset(p, 0xFF, 12);
    p[12] = 0x88;
    p[13] = 0xB5;
    for (uint32_t i = 14; i < bytes; i++)
        p[i] = (uint8_t)(i * 13 + bytes);
}

static bool wire_tx(void *backend, const struct host_frame *frame)
{
    struct party *p = backend;
    uint8_t data[2048];
    uint32_t at = 0;

    for (uint32_t i = 0; i < frame->seg_count && at + frame->segs[i].bytes <= sizeof(data); i++) {
        memcpy(data + at, frame->segs[i].data, frame->segs[i].bytes);
        at += frame->segs[i].bytes;
    }
    p->wired++;
    p->wrong += !good_frame(data, at);
    return true;
}
static const struct host_net_ops wire_ops = {.tx = wire_tx};

static struct party *party_of(const struct nic *n) { return n == honest.guest_nic ? &honest : &liar; }

static void on_added(struct nic *n)
{
    if (!honest.guest_nic)
        honest.guest_nic = n;                    /* it comes first */
    else
        liar.guest_nic = n;
}

static void on_removed(struct nic *n)
{
    struct party *p = party_of(n);

    if (p->guest_nic == n)
        p->guest_nic = NULL;
}

static void on_link(struct nic *n UNUSED, bool up UNUSED) {}
static void on_ready(struct nic *n UNUSED) {}

static void on_receive(struct nic *n, struct nic_rx *frames, unsigned count)
{
    struct party *p = party_of(n);
    static volatile uint8_t sum;

    for (unsigned i = 0; i < count; i++) {
        const uint8_t *f = frames[i].frame;
        for (uint32_t b = 0; b < frames[i].bytes; b++)
            sum ^= f[b];                         /* all of it is memory that may be read */
        p->wrong += p == &honest && !good_frame(f, frames[i].bytes);
        p->got++;
        n->ops->rx_release(n, frames[i].token);
    }
}
static struct nic_user stack = {on_added, on_removed, on_link, on_receive, on_ready};

static void add_disk(struct party *p)
{
    static uint8_t data[SECTORS * 512];
    struct host_scsi_config cfg;
    struct host_blk_info info;

    host_scsi_config_default(&cfg);
    cfg.monitor = p->monitor;
    p->scsi = host_add_scsi(host, &cfg);
    p->backing = blk_mem_create(&mem_ops, NULL, 512, SECTORS);
    for (uint32_t i = 0; i < sizeof(data); i++)
        data[i] = content(i, p->which);
    blk_mem_access(p->backing, 0, data, SECTORS, true);
    blk_mem_info(p->backing, &info);
    info.id[0] = (uint8_t)(p->which + 1);
    host_add_lun(host, p->scsi, 0, &info, &blk_mem_ops, p->backing);
}

static void add_nic(struct party *p)
{
    struct host_nic_config cfg;

    host_nic_config_default(&cfg);
    cfg.monitor = p->monitor;
    cfg.mac[5] = p->mac;
    p->nic = host_add_nic(host, &cfg, &wire_ops, p);
}

static struct blk_device *disk_of(const struct party *p)
{
    for (unsigned i = 0; i < 16; i++) {
        struct blk_device *d = blk_get_index(i);
        if (!d)
            break;
        struct storvsc_unit *u = d->driver;
        if (u->controller->channel->offer.relid == host_scsi_relid(p->scsi))
            return d;
        blk_put(d);
    }
    return NULL;
}

/* ---- the client of the liar's disk ---- */

#define OUT_BYTES (4u << 20)
static struct nbd_session session;
static struct list unacked;
static bool session_on, session_closed, session_released;
static uint8_t out[OUT_BYTES];
static size_t out_bytes, out_at;

static void client_send(struct nbd_session *s UNUSED, struct nbd_reply *r)
{
    KASSERT(out_bytes + r->header_bytes + r->data_bytes <= OUT_BYTES);
    memcpy(out + out_bytes, r->header, r->header_bytes);
    out_bytes += r->header_bytes;
    if (r->data_bytes)
        memcpy(out + out_bytes, r->data, r->data_bytes);
    out_bytes += r->data_bytes;
    list_push_back(&unacked, &r->node);
}
static void take_input(void);
static void client_resume(struct nbd_session *s UNUSED) { take_input(); }    /* its turn for buffers is now */
static void client_close(struct nbd_session *s UNUSED) { session_closed = true; }
static void client_released(struct nbd_session *s UNUSED) { session_released = true; }
static const struct nbd_transport transport = {client_send, client_resume, client_close, client_released};
static bool write_all(const char *disk UNUSED) { return true; }
static const struct nbd_policy policy = {write_all};

static void acknowledge(void)
{
    struct list *node;

    while ((node = list_pop_front(&unacked))) {
        struct nbd_reply *r = list_entry(node, struct nbd_reply, node);
        r->sent(r);
    }
}

static uint8_t script[256 << 10];
static size_t script_bytes, script_fed;

static void put(uint64_t v, unsigned bytes)
{
    for (unsigned i = bytes; i > 0; i--, v >>= 8)
        script[script_bytes + i - 1] = (uint8_t)v;
    script_bytes += bytes;
}

static void take_input(void)
{
    if (session_on && !session_closed)
        script_fed += nbd_session_input(&session, script + script_fed, script_bytes - script_fed);
}

static void feed(void)
{
    take_input();
    acknowledge();
}

static void session_begin(const char *disk)
{
    out_bytes = out_at = script_bytes = script_fed = 0;
    list_init(&unacked);
    session_on = true;
    session_closed = session_released = false;
    nbd_session_init(&session, &transport, &policy);
    nbd_session_start(&session);
    put(NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES, 4);
    put(NBD_OPTION_MAGIC, 8);
    put(NBD_OPT_GO, 4);
    put(strlen(disk) + 6, 4);
    put(strlen(disk), 4);
    memcpy(script + script_bytes, disk, strlen(disk));
    script_bytes += strlen(disk);
    put(0, 2);
    feed();
}

struct asked { uint64_t offset; uint32_t length; uint16_t command; uint8_t salt; };
static struct asked asked[512];
static unsigned asked_count, answered;

static void ask(uint16_t command, uint64_t offset, uint32_t length)
{
    if (asked_count == ARRAY_SIZE(asked) || script_bytes + length + 64 > sizeof(script))
        return;
    struct asked *a = &asked[asked_count];
    *a = (struct asked){offset, length, command, (uint8_t)asked_count};
    put(NBD_REQUEST_MAGIC, 4);
    put(0, 2);
    put(command, 2);
    put(asked_count++, 8);
    put(offset, 8);
    put(length, 4);
    if (command == NBD_CMD_WRITE)
        for (uint32_t i = 0; i < length; i++)
            script[script_bytes++] = (uint8_t)(i * 3 + a->salt);
}

static uint64_t get(unsigned bytes)
{
    uint64_t v = 0;

    for (unsigned i = 0; i < bytes && out_at + i < out_bytes; i++)
        v = v << 8 | out[out_at + i];
    out_at += bytes;
    return v;
}

/* Every answer that says "good" is: a read has the disk's bytes, a write is on the disk. */
static void check_answers(bool executed)
{
    static uint8_t on_disk[64 << 10];

    if (get(8) != NBD_INIT_MAGIC)
        return;
    out_at += 10;
    while (out_bytes - out_at >= 20 && get(8) == NBD_OPTION_REPLY_MAGIC) {
        get(4);
        uint32_t type = (uint32_t)get(4), bytes = (uint32_t)get(4);
        out_at += bytes;
        if (type == NBD_REP_ACK)
            break;
    }
    while (out_at + 16 <= out_bytes) {
        CHECK_EQ(get(4), NBD_SIMPLE_REPLY_MAGIC);
        uint32_t error = (uint32_t)get(4);
        uint64_t cookie = get(8);
        CHECK(cookie < asked_count);
        const struct asked *a = &asked[cookie];
        answered++;
        if (error)
            continue;
        if (a->command == NBD_CMD_READ) {
            CHECK(a->length <= out_bytes - out_at);
            for (uint32_t i = 0; executed && i < a->length; i++)
                if (out[out_at + i] != content(a->offset + i, liar.which)) {
                    test_fail(__FILE__, __LINE__, "a wrong byte is good: %u of a read of %u at %llu", i, a->length,
                              (unsigned long long)a->offset);
                    return;
                }
            out_at += a->length;
        } else if (a->command == NBD_CMD_WRITE && executed) {
            CHECK(blk_mem_access(liar.backing, a->offset / 512, on_disk, a->length / 512, false));
            for (uint32_t i = 0; i < a->length; i++)
                CHECK_EQ(on_disk[i], (uint8_t)(i * 3 + a->salt));
        }
    }
    CHECK_EQ(out_at, out_bytes);
}

/* ---- frames ---- */

#define SENT 256u
struct sent { struct nic_tx tx; uint8_t data[1600]; bool busy; };
static struct sent *sent;
static void sent_done(struct nic_tx *tx) { ((struct sent *)tx->arg)->busy = false; }

static bool all_sent(void)
{
    for (unsigned i = 0; i < SENT; i++)
        if (sent[i].busy)
            return false;
    return true;
}

/* Frames each way; returns how many the guest's driver took. */
static unsigned frames(struct party *p, unsigned count)
{
    static uint8_t data[1600];
    unsigned taken = 0;

    for (unsigned n = 0; n < count; n++) {
        uint32_t bytes = 60 + (n * 397) % 1400;
        struct host_seg seg = {data, bytes};
        struct host_frame f = {.segs = &seg, .seg_count = 1, .bytes = bytes};
        fill_frame(data, bytes);
        host_net_rx(p->nic, &f, true);
        for (unsigned i = 0; p->guest_nic && i < SENT; i++) {
            struct sent *s = &sent[i];
            if (s->busy)
                continue;
            fill_frame(s->data, bytes);
            s->tx = (struct nic_tx){.pieces = {{s->data, bytes}}, .piece_count = 1, .total_bytes = bytes,
                                    .done = sent_done, .arg = s};
            s->busy = true;
            if (p->guest_nic->ops->send(p->guest_nic, &s->tx))
                s->busy = false;
            else
                taken++;
            break;
        }
    }
    if (p->guest_nic)
        p->guest_nic->ops->kick(p->guest_nic);
    hv_host_run();
    return taken;
}

/* ---- lives ---- */

/*
 * The server keeps buffers for the next request, and never uses those again that a request without an answer had. Taking
 * and giving back all it may have makes both of them one number: its limit.
 */
#define NBD_BYTES (4ull << 20)

static void nothing(void *arg UNUSED) {}

/* And the stacks that are kept for the next tasks. */
static void fill_caches(void)
{
    static struct { void *buffer; unsigned order; } taken[1200];
    struct nbd_session all = {0};
    unsigned n = 0;

    nbd_buffers_init(NBD_BYTES + nbd_buffers_used());
    for (; n < ARRAY_SIZE(taken) && nbd_buffers_used() < nbd_buffers_limit(); n++) {
        all.buffer_bytes = 0;
        taken[n].buffer = nbd_buffer_get(&all, 256 << 10, &taken[n].order);
        if (!taken[n].buffer)
            break;
    }
    while (n-- > 0) {
        all.buffer_bytes = NBD_BYTES;
        nbd_buffer_put(&all, taken[n].buffer, taken[n].order);
    }
    for (unsigned i = 0; i < 8; i++)
        task_spawn("stack", nothing, NULL, 0);
    task_sleep_us(10000);
}

struct books { uint64_t pages, heap, vmap, shared; unsigned channels, tasks; };

static struct books books(void)
{
    struct mm_stats s;

    heap_trim();
    mm_get_stats(&s);
    return (struct books){s.free_pages + shmem_stats.pages_leaked + nbd_buffers_limit() / PAGE_BYTES, s.heap_bytes, s.vmap_bytes, shmem_stats.pages_shared,
                          bus.channel_count, bus.device_tasks};
}

static bool balanced(const struct books *b)
{
    struct books now = books();

    /* What is kept for the next life may come back, too; nothing may be lost. The bytes of the heap are exact, how many
     * pages they lie in is not; what each life lost would be more than that after a few. */
    return now.pages + SLAB_PAGES >= b->pages && now.heap <= b->heap && now.vmap <= b->vmap && now.shared <= b->shared &&
           now.channels == b->channels && now.tasks == b->tasks;
}

static void boot(void)
{
    fake_arch_boot(RAM_BYTES);
    config_parse(machine_settings);
    host_config_default(&host_cfg);
    host_cfg.monitor_pages = true;
    host_cfg.monitor_latency = 60000;            /* 6 ms: the model's looks at the pages are the cost of these lives */
    host = hv_host_start(&host_cfg);
    if (!hv_init())
        abort();
    hv_clock_init();
    if (hv_synic_init())
        abort();
    sent = kzalloc(SENT * sizeof(*sent));
    honest_buffer = kmalloc(64 * 512);
    nic_set_user(&stack);
    nbd_buffers_init(NBD_BYTES);
    storvsc_register();
    netvsc_register();
}

static unsigned log_lines(void)
{
    unsigned n = 0;

    for (const char *at = fake_log_text(); (at = strchr(at, '\n')); at++)
        n++;
    return n;
}



static void honest_work(unsigned round)
{
    const uint32_t bytes = 64 * 512;
    uint8_t *buf = honest_buffer;
    uint64_t sector = (round * 67) % (READ_SECTORS - 64);
    unsigned wired = honest.wired, got = honest.got, taken;

    uint64_t begun = rt_now_100ns();
    CHECK_EQ(blk_read(honest_disk, sector, 64, buf), 0);
    for (uint32_t i = 0; i < bytes; i++)
        CHECK_EQ(buf[i], content(sector * 512 + i, honest.which));
    CHECK_EQ(blk_write(honest_disk, READ_SECTORS + sector, 8, buf, 0), 0);
    taken = frames(&honest, 4);
    CHECK_EQ(taken, 4);
    CHECK(RUN_UNTIL(honest.wired == wired + 4 && honest.got == got + 4, 2));
    CHECK_EQ(honest.wrong, 0);
    CHECK(rt_now_100ns() - begun < S_100NS(3));
}

static void liar_work(unsigned round)
{
    struct blk_device *d = session_on ? NULL : disk_of(&liar);

    if (d) {
        session_begin(d->name);
        blk_put(d);
    }
    if (session_on && session.disk) {
        for (unsigned i = 0; i < 6; i++)
            ask(NBD_CMD_READ, 512 * ((round * 131 + i * 277) % (READ_SECTORS - 128)), 512 << (i + round) % 7);
        ask(NBD_CMD_WRITE, 512 * (READ_SECTORS + 64 * (round % 16) + (round & 1)), 4096);
        ask(NBD_CMD_FLUSH, 0, 0);
    }
    feed();
    frames(&liar, 6);
}

struct life { uint32_t classes; uint64_t seed; uint32_t rate; struct books before; };
static uint64_t lies_told;

/*
 * No panic, no access where there is nothing (either ends the process); the truthful host's disk and NIC go on, at once
 * and correctly; no answer "good" to the client that isn't; a bounded number of lines; and within the limits everything
 * ends, after which memory, tasks and channels are what they were.
 */
static void life(const struct life *l)
{
    struct host_malice m = {.classes = l->classes, .seed = l->seed, .rate = l->rate, .honest = {honest.scsi, honest.nic}};
    struct host_malice_counters told;
    uint64_t begun = rt_now_100ns();

    fake_log_clear();
    asked_count = answered = 0;
    session_on = false;
    host_set_malice(host, l->classes ? &m : NULL);
    liar.monitor = l->classes & HOST_MALICE_WIRING;
    add_disk(&liar);
    add_nic(&liar);
    hv_host_run();
    RUN_UNTIL(liar.guest_nic && session_on, 1);
    blk_mem_hold(liar.backing, !l->before.pages, false);
    for (unsigned round = 0; round < 8 && !test_failures_here; round++) {
        liar_work(round);
        honest_work(round);
        task_sleep_us(20000);
        feed();
    }
    host_set_malice(host, NULL);
    blk_mem_hold(liar.backing, false, false);
    unsigned lines = log_lines();
    /* A frame that the host has and never speaks of again ends with the NIC. */
    bool silent = l->classes & HOST_MALICE_SILENCE;
    CHECK(silent || RUN_UNTIL(all_sent(), LIMIT_S) || (test_fail(__FILE__, __LINE__, "frames are never done"), false));
    if (session_on) {
        bool done = RUN_UNTIL((feed(), session_closed || (session.op_count == 0 && script_fed == script_bytes)), LIMIT_S);
        CHECK(done);
    }
    host_remove_scsi(host, liar.scsi);
    host_remove_nic(host, liar.nic);
    hv_host_run();
    if (session_on) {
        feed();
        check_answers(!(l->classes & HOST_MALICE_EARLY));
        nbd_session_end(&session);
        acknowledge();
        CHECK(RUN_UNTIL(session_released, LIMIT_S));
    }
    CHECK(RUN_UNTIL(all_sent(), LIMIT_S));
    fill_caches();
    if (l->before.pages && !RUN_UNTIL(balanced(&l->before), LIMIT_S)) {
        struct books now = books();
        test_fail(__FILE__, __LINE__, "books: pages %llu %llu heap %llu %llu vmap %llu %llu shared %llu %llu channels %u %u "
                  "tasks %u %u", (unsigned long long)l->before.pages, (unsigned long long)now.pages,
                  (unsigned long long)l->before.heap, (unsigned long long)now.heap, (unsigned long long)l->before.vmap,
                  (unsigned long long)now.vmap, (unsigned long long)l->before.shared, (unsigned long long)now.shared,
                  l->before.channels, now.channels, l->before.tasks, now.tasks);
    }
    blk_mem_destroy(liar.backing);
    honest_work(99);
    host_get_malice(host, &told);
    lies_told += told.lies;
    if (lines > (l->classes & HOST_MALICE_OFFER ? LINES_OF_OFFERS : LINES))
        test_fail(__FILE__, __LINE__, "%u lines of log:\n%.3000s", lines, fake_log_text());
    CHECK(rt_now_100ns() - begun < S_100NS(4 * LIMIT_S));
}

static void begin_lives(struct books *b)
{
    struct life truth = {0};

    boot();
    add_disk(&honest);
    add_nic(&honest);
    CHECK_EQ(vmbus_connect(), 0);
    CHECK(RUN_UNTIL(honest.guest_nic && (honest_disk = disk_of(&honest)), 5));
    test_failures_here = 0;
    life(&truth);                                /* all at once: what is kept from then on is in the books */
    CHECK(RUN_UNTIL(bus.channel_count == 2 && bus.device_tasks == 2, 5));
    truth.before = books();
    life(&truth);                                /* without lies all of this holds, too */
    CHECK(answered > 0 && answered == asked_count);
    *b = truth.before;
}

struct batch { uint32_t classes; uint64_t first, count; uint32_t rate; void (*one)(const struct life *l); };

static void batch(void *arg)
{
    const struct batch *b = arg;
    struct books before;

    /* By bits or by calls the truthful host's devices are signalled: classes take turns, and so do batches of one. */
    honest.monitor = ((b->first - 1) / LIVES + (unsigned)__builtin_ctz(b->classes)) & 1;
    begin_lives(&before);
    for (uint64_t seed = b->first; seed < b->first + b->count && !test_failures_here; seed++) {
        struct life l = {b->classes, seed, b->rate, before};
        b->one(&l);
        if (test_failures_here)
            fprintf(stderr, "  classes %#x, seed %llu, rate %u\n", b->classes, (unsigned long long)seed, b->rate);
    }
    if (lies_told < b->count / 8)
        test_fail(__FILE__, __LINE__, "classes %#x: only %llu lies", b->classes, (unsigned long long)lies_told);
}

/*
 * One line is enough to see it again: MALICE_SEED picks it, TEST_VERBOSE shows the lies by their numbers. MALICE_SEEDS=300
 * takes so many of each class, fewer in the proportion of `count` of those that take long.
 */
static void lives_of(void (*one)(const struct life *l), uint32_t classes, uint64_t count, uint32_t rate)
{
    const char *seed = getenv("MALICE_SEED"), *many = getenv("MALICE_SEEDS");
    struct batch b = {classes, 1, count, rate, one};
    uint64_t last;

    if (seed) {
        b.first = strtoull(seed, NULL, 0);
        b.count = 1;
    } else if (many) {
        b.count = MAX(strtoull(many, NULL, 0) * count / SEEDS, 1ull);
        test_limit_s(3600);
    }
    /* What a host never gives back is gone for good, so that a machine does not live for ever. */
    for (last = b.first + b.count; b.first < last && !test_failures_here; b.first += LIVES) {
        b.count = MIN(last - b.first, LIVES);
        int end = in_child(batch, &b);
        if (end != FAKE_RETURNED)
            test_fail(__FILE__, __LINE__, "classes %#x end with %d", classes, end);
    }
}

UNUSED static void lives(uint32_t classes, uint64_t count, uint32_t rate) { lives_of(life, classes, count, rate); }
