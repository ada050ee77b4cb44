/* SPDX-License-Identifier: BSD-2-Clause */
/* ROOMS: lib mm rt hv vmbus drivers host fake_arch */
/*
 * A host that lies in what the bus's services ask and answer: integration components and dynamic memory. No panic, no
 * page that is used after it was given, no answer that a correct guest does not give; a disk that is not lied about
 * goes on; and with a host that has become honest everything works as if nothing had been.
 */
#include "drivers/balloon.h"
#include "tests/host/balloon.h"
#include "tests/unit/ic_machine.h"

#define SECTORS      1024u
#define SEEDS        30u
#define LINES        400u                        /* of the log, in a minute of lies */
#define MINUTE_S     60u

static struct host_balloon_config balloon_cfg;
static struct host_scsi *scsi;
static struct blk_device *disk;
static uint8_t *page;
static uint64_t told;

static void *mem_alloc(void *ctx UNUSED, size_t bytes) { return calloc(1, bytes); }
static void mem_free(void *ctx UNUSED, void *p, size_t bytes UNUSED) { free(p); }
static const struct host_ops mem_ops = {.alloc = mem_alloc, .free = mem_free};

static uint8_t content(uint64_t at) { return (uint8_t)(at * 29 + (at >> 9)); }

static struct host_balloon_state balloon(void)
{
    struct host_balloon_state state;

    host_balloon_get_state(host, &state);
    return state;
}

static void add_disk(void)
{
    static uint8_t data[SECTORS * 512];
    struct host_scsi_config cfg;
    struct host_blk_info info;

    for (uint64_t i = 0; i < sizeof(data); i++)
        data[i] = content(i);
    host_scsi_config_default(&cfg);
    scsi = host_add_scsi(host, &cfg);
    struct blk_mem *backing = blk_mem_create(&mem_ops, NULL, 512, SECTORS);
    blk_mem_access(backing, 0, data, SECTORS, true);
    blk_mem_info(backing, &info);
    host_add_lun(host, scsi, 0, &info, &blk_mem_ops, backing);
}

static void read_disk(unsigned round)
{
    uint64_t sector = round * 61 % (SECTORS - 8), begun = rt_now_100ns();

    CHECK_EQ(blk_read(disk, sector, 8, page), 0);
    for (uint64_t i = 0; i < PAGE_BYTES; i++)
        CHECK_EQ(page[i], content(sector * 512 + i));
    CHECK(rt_now_100ns() - begun < S_100NS(1));
}

static void up(const struct host_malice *from_the_start)
{
    defaults();
    host_balloon_config_default(&balloon_cfg);
    host = hv_host_start(&host_cfg);
    host_set_malice(host, from_the_start);
    CHECK(host_add_ics(host, &ic_cfg) && host_add_balloon(host, &balloon_cfg));
    add_disk();
    balloon_register();
    storvsc_register();
    CHECK_EQ(guest_up(), 0);
    disk = blk_get_index(0);
    page = arch_phys_to_virt(page_alloc(0));
    CHECK(disk != NULL);
}

/* What a host does in a minute, and some more. */
static void work(void)
{
    for (unsigned second = 0; second < MINUTE_S && !test_failures_here; second++) {
        struct host_kvp_result r;
        host_kvp_set(host, "key", "value");
        host_kvp_get(host, IC_KVP_POOL_EXTERNAL, "key");
        host_kvp_enumerate(host, second % IC_KVP_POOLS);
        host_kvp_get_ip(host, "00:15:5D:01:02:03");
        host_ic_time_sync(host);
        if (second % 7 == 0)
            host_ic_renegotiate(host, second / 7 % HOST_ICS);
        if (second % 3)
            host_balloon(host, 100 * second);
        else
            host_unballoon(host, 100 * second);
        hv_host_run();
        while (host_kvp_result(host, &r))
            ;
        read_disk(second);
        task_sleep_us(1000000);
    }
}

static bool all_new(const uint64_t *before)
{
    for (unsigned i = 0; i < HOST_IC_VSS; i++)
        if (state_of(i).negotiations == before[i])
            return false;
    return true;
}

/* The host tells the truth from now on. */
static void honest_again(void)
{
    uint64_t before[HOST_ICS], beats;
    struct host_malice_counters counters;
    int64_t off_ns;
    uint64_t now_ns;

    host_get_malice(host, &counters);
    told += counters.lies;
    host_set_malice(host, NULL);
    task_sleep_us(130 * 1000000ull);             /* what has no answer is given up */
    for (unsigned i = 0; i < HOST_IC_VSS; i++) {
        before[i] = state_of(i).negotiations;
        CHECK(host_ic_renegotiate(host, i));
    }
    CHECK(RUN_UNTIL(all_new(before), 10));
    beats = state_of(HOST_IC_HEARTBEAT).answers;
    CHECK(RUN_UNTIL(state_of(HOST_IC_HEARTBEAT).answers > beats + 1, 10));
    CHECK_EQ(kvp_status(host_kvp_set(host, "after", "all")), IC_STATUS_OK);
    CHECK_EQ(kvp_status(host_kvp_get(host, IC_KVP_POOL_EXTERNAL, "after")), IC_STATUS_OK);
    CHECK(host_ic_time_sync(host));
    task_sleep_us(1000000);
    CHECK(wall_now_ns(&now_ns));
    off_ns = (int64_t)(now_ns - (host_ic_time(host) - IC_TIME_UNIX_EPOCH) * 100);
    CHECK(off_ns > -1000000000 && off_ns < 1000000000);
    if (!balloon().ready) {                      /* refused in the handshake: for this device that is the end */
        host_remove_balloon(host);
        CHECK(RUN_UNTIL(host->balloon->ch == NULL, 30));
        CHECK(host_add_balloon(host, &balloon_cfg));
        CHECK(RUN_UNTIL(balloon().ready, 30));
    }
    CHECK(RUN_UNTIL(!balloon().busy, 30));
    CHECK(host_unballoon(host, UINT64_MAX));
    CHECK(RUN_UNTIL(!balloon().busy, 30));
    CHECK_EQ(balloon().ballooned_pages, 0);
    struct mm_stats s;
    mm_get_stats(&s);
    CHECK_EQ(s.given_pages, 0);
    CHECK_EQ(fake_withdrawn_pages(), 0);
    CHECK(host_balloon(host, 1000));
    CHECK(RUN_UNTIL(!balloon().busy, 30));
    CHECK_EQ(balloon().result_pages, 1000);
    read_disk(3);
}

static unsigned log_lines(void)
{
    unsigned n = 0;

    for (const char *at = fake_log_text(); (at = strchr(at, '\n')); at++)
        n++;
    return n;
}

struct life { uint64_t seed; bool from_the_start; };

static void life(void *arg)
{
    const struct life *l = arg;
    struct host_malice m = {.classes = HOST_MALICE_SERVICE, .seed = l->seed, .rate = 1 + l->seed % 4};

    up(l->from_the_start ? &m : NULL);
    if (!l->from_the_start) {
        CHECK(RUN_UNTIL(all_negotiated() && balloon().ready, 10));
        m.honest[0] = scsi;
        host_set_malice(host, &m);
    }
    fake_log_clear();
    work();
    if (log_lines() > LINES)
        test_fail(__FILE__, __LINE__, "%u lines of log:\n%.2000s", log_lines(), fake_log_text());
    honest_again();
    CHECK(told > 20);
    blk_put(disk);
    vmbus_disconnect(false);
    CHECK_EQ(shmem_stats.pages_leaked, 0);
    if (test_failures_here)
        fprintf(stderr, "  seed %llu%s\n", (unsigned long long)l->seed, l->from_the_start ? ", from the start" : "");
}

static void lives(bool from_the_start)
{
    const char *seed = getenv("MALICE_SEED"), *many = getenv("MALICE_SEEDS");
    struct life l = {1, from_the_start};
    uint64_t count = many ? strtoull(many, NULL, 0) : SEEDS;

    if (many)
        test_limit_s(3600);
    for (l.seed = seed ? strtoull(seed, NULL, 0) : 1; count > 0; count--, l.seed++) {
        int end = in_child(life, &l);
        if (end != FAKE_RETURNED)
            test_fail(__FILE__, __LINE__, "seed %llu ends with %d", (unsigned long long)l.seed, end);
        if (seed || test_failures_here)
            return;
    }
}

TEST(requests_of_services) { lives(false); }
TEST(services_from_the_start) { lives(true); }

TEST_MAIN()
