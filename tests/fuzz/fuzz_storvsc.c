/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * storvsc: the host changes, drops, repeats and invents packets on a SCSI controller's channel, from the handshake
 * through the inquiry of its disk to reads and writes under way.
 *
 * Must hold: every request submitted ends once, within its limit; the controller can be taken away at any time and
 * leaves nothing behind; and after that another one, of a host that tells the truth, serves its disk with the right
 * bytes. A disk that lies about its own content can't be found out; one whose answers lie must not look good.
 */
#include <string.h>
#include "drivers/storvsc.h"
#include "tests/fuzz/machine.h"

#define SECTORS  4096u
#define REQUESTS 6u
#define BYTES    16384u

static struct blk_mem *backing;
static struct host_scsi_config scsi_config;
static struct machine_book before;
static struct host_scsi *resting;              /* a controller whose disk is ready when an execution begins */
static struct blk_device *resting_disk;

struct transfer { struct blk_request r; struct blk_span span; unsigned ended; };
static struct transfer transfers[REQUESTS];
static uint8_t *memory;

static void *mem_alloc(void *ctx UNUSED, size_t bytes) { return arena_calloc(1, bytes); }
static void mem_free(void *ctx UNUSED, void *p, size_t bytes UNUSED) { arena_free(p); }
static const struct host_ops mem_ops = {.alloc = mem_alloc, .free = mem_free};

static struct host_scsi *add_controller(void)
{
    struct host_blk_info info;
    struct host_scsi *s = host_add_scsi(machine_host, &scsi_config);

    blk_mem_info(backing, &info);
    FUZZ_CHECK(s && host_add_lun(machine_host, s, 0, &info, &blk_mem_ops, backing));
    hv_host_run();
    return s;
}

static void ended(struct blk_request *r) { container_of(r, struct transfer, r)->ended++; }

static void submit(struct blk_device *d, unsigned i)
{
    static const enum blk_op ops[] = {BLK_READ, BLK_WRITE, BLK_READ, BLK_DISCARD, BLK_WRITE_ZEROES, BLK_FLUSH};
    struct transfer *t = &transfers[i];
    bool data = ops[i] == BLK_READ || ops[i] == BLK_WRITE;

    t->span = (struct blk_span){memory + i * BYTES, BYTES};
    t->r = (struct blk_request){.op = ops[i], .sector = i * 8, .done = ended, .spans = data ? &t->span : NULL,
                                .span_count = data, .sectors = ops[i] == BLK_FLUSH ? 0 : BYTES / d->sector_bytes};
    if (blk_submit(d, &t->r))
        t->ended++;
}

static bool all_ended(void)
{
    for (unsigned i = 0; i < REQUESTS; i++) {
        FUZZ_CHECK(transfers[i].ended <= 1);
        if (!transfers[i].ended)
            return false;
    }
    return true;
}

/* Reads and writes, and again while the host still has lies for them. */
static void use(struct blk_device *d, struct host_scsi *s)
{
    for (unsigned round = 0; round < 3 && (round == 0 || lies_left()); round++) {
        for (unsigned i = 0; i < REQUESTS; i++) {
            transfers[i].ended = 0;
            submit(d, i);
        }
        blk_kick(d);
        machine_run_us(2000);
        if (round == 1)
            host_remove_lun(machine_host, s, 0);
        FUZZ_CHECK(RUN_UNTIL(all_ended(), 4000));
    }
}

/* The disk beside the one that rests, when it has come. */
static struct blk_device *second_disk(void)
{
    return blk_get_index(resting_disk ? 1 : 0);
}

static struct blk_device *wait_for_disk(void)
{
    struct blk_device *d;
    while (!(d = second_disk()))
        machine_run_us(10000);                 /* the target's limit holds */
    return d;
}

/* A good disk comes, serves and goes. */
static void serve(void)
{
    unsigned channels = bus.channel_count;
    struct host_scsi *s = add_controller();
    struct blk_device *d = wait_for_disk();

    memset(memory, 0x5A, BYTES);
    FUZZ_CHECK(blk_write(d, 7, 8, memory, 0) == 0 && blk_read(d, 7, 8, memory + BYTES) == 0);
    FUZZ_CHECK(memcmp(memory, memory + BYTES, 4096) == 0);
    blk_put(d);
    host_remove_scsi(machine_host, s);
    FUZZ_CHECK(RUN_UNTIL(bus.channel_count == channels, 10));
}

static void setup(void)
{
    machine_boot(24 << 20, "");
    machine_start();
    storvsc_register();
    machine_connect();
    host_scsi_config_default(&scsi_config);
    backing = blk_mem_create(&mem_ops, NULL, 512, SECTORS);
    memory = kmalloc(REQUESTS * BYTES);
    FUZZ_CHECK(backing && memory);
    serve();                                   /* what is there once and stays, comes with the first disk */
    resting = add_controller();
    resting_disk = wait_for_disk();
    serve();
    machine_run_us(1000000);
    machine_fill_stack_cache();
    before = machine_book();
}

static void say(struct host_scsi *s)
{
    for (unsigned n = 0; lies_left() && n < 16 && s; n++) {
        struct host_chan *ch = vchan_find(machine_host, host_scsi_relid(s));
        if (!ch || !ch->open)
            break;
        lies_say_packet(ch);
        machine_run_us(5000);
    }
}

static void run(struct input *in)
{
    uint8_t first = in_u8(in);
    struct host_scsi *s;
    struct blk_device *d;

    if (first & 128) {                         /* the disk is ready, and nothing is taken away */
        lies_begin(LIES_PACKETS, in);
        use(resting_disk, resting);
        say(resting);
        return;
    }
    scsi_config.max_version = first & 1 ? VSTOR_VERSION_WIN7 : VSTOR_VERSION_WIN10;
    lies_begin(LIES_PACKETS, in);
    s = add_controller();
    machine_run_us(5000);
    d = second_disk();
    if (d) {
        use(d, s);
        blk_put(d);
    }
    say(s);
    if (!fuzz_thorough)                        /* it stays */
        return;
    if (first & 2)
        machine_run_us(1000000);               /* a scan may go on */
    host_remove_scsi(machine_host, s);
    lies_end();
    FUZZ_CHECK(machine_same_within(&before, 1000));
    if (first & 4) {
        scsi_config.max_version = VSTOR_VERSION_WIN10;
        serve();
    }
}

const struct fuzz_target fuzz_target = {.setup = setup, .run = run, .limit_s = 20000};
