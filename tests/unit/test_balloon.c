/* SPDX-License-Identifier: BSD-2-Clause */
/* ROOMS: lib mm rt hv vmbus drivers host fake_arch */
/*
 * Dynamic memory between the guest's driver and the model of the host. What the host takes is closed to the guest and
 * loses its content (tests/fake_arch/withdrawn.c), so a page that is used although it was given is a fault at once.
 */
#include <sys/wait.h>
#include "drivers/balloon.h"
#include "drivers/drivers.h"
#include "hv/hv.h"
#include "tests/fake_arch/hv_host.h"
#include "tests/unit/child.h"

#define MIB        (1ull << 20)
#define GIB        (1ull << 30)
#define MIB_PAGES  256u
#define RAM_BYTES  (256 * MIB)

static struct host *host;
static struct host_config host_cfg;
static struct host_balloon_config balloon_cfg;
static struct host_balloon_state state;
static uint64_t seed = 1;

static uint64_t rnd(uint64_t below)
{
    seed = seed * 6364136223846793005ull + 1442695040888963407ull;
    return (seed >> 33) % below;
}

static struct mm_stats memory(void)
{
    struct mm_stats s;
    mm_get_stats(&s);
    return s;
}

static const struct host_balloon_state *look(void)
{
    host_balloon_get_state(host, &state);
    return &state;
}

#define RUN_UNTIL(cond, limit_s)                                                        \
    ({                                                                                  \
        uint64_t end_ = rt_now_100ns() + S_100NS(limit_s);                              \
        while (!(cond) && rt_now_100ns() < end_)                                        \
            task_sleep_us((limit_s) * 200);                                             \
        (cond);                                                                         \
    })

/* ---- up and down ---- */

static void defaults(uint64_t ram_bytes)
{
    fake_arch_boot(ram_bytes);
    host_config_default(&host_cfg);
    host_balloon_config_default(&balloon_cfg);
}

static int guest_up(void)
{
    host = hv_host_start(&host_cfg);
    if (!host_add_balloon(host, &balloon_cfg) || !hv_init())
        return -E_NOTSUP;
    hv_clock_init();
    if (hv_synic_init())
        return -E_NOTSUP;
    balloon_register();
    return vmbus_connect();
}

static void start(uint64_t ram_bytes)
{
    defaults(ram_bytes);
    int e = guest_up();
    if (e || !RUN_UNTIL(look()->ready, 5))
        test_fail(__FILE__, __LINE__, "guest not up: %s", error_name(e));
}

/* The guest has to let go of the old one first. */
static bool offered_again(void)
{
    for (unsigned i = 0; i < 20000; i++) {
        if (host_add_balloon(host, &balloon_cfg))
            return true;
        task_sleep_us(1000);
    }
    return false;
}

static bool idle(void) { return RUN_UNTIL(!look()->busy, 30); }

/* One request and its answer. */
static bool give(uint32_t pages) { return host_balloon(host, pages) && idle(); }
static bool give_back(uint64_t pages) { return host_unballoon(host, pages) && idle(); }
static bool hot_add(uint64_t first, uint32_t pages, bool region)
{
    return host_hot_add(host, first, pages, region) && idle();
}

/* Both sides agree, and nothing is lost. */
static bool books_agree(uint64_t used)
{
    struct mm_stats s = memory();
    return s.given_pages == look()->ballooned_pages && s.given_pages == fake_withdrawn_pages() &&
           s.ram_pages == s.free_pages + s.given_pages + used;
}

static uint64_t used_pages(void)
{
    struct mm_stats s = memory();
    return s.ram_pages - s.free_pages - s.given_pages;
}

/* ---- the handshake ---- */

TEST(comes_up_and_reports_every_second)
{
    start(RAM_BYTES);
    CHECK_EQ(look()->version, DM_VERSION_WIN10);
    CHECK(state.capabilities & DM_CAP_BALLOON && state.capabilities & DM_CAP_HOT_ADD);
    uint64_t begin = rt_now_100ns(), before = state.reports;
    task_sleep_us(10000000);
    uint64_t seconds = (rt_now_100ns() - begin) / 10000000;
    CHECK(look()->reports - before >= seconds - 1 && state.reports - before <= seconds);
    struct mm_stats s = memory();
    CHECK_EQ(state.available_pages, s.free_pages);
    CHECK_EQ(state.committed_pages, s.ram_pages - s.free_pages + balloon_floor_pages());
}

TEST(report_counts_what_was_given_and_what_is_used)
{
    start(RAM_BYTES);
    task_sleep_us(2000000);
    uint64_t before = look()->committed_pages;
    CHECK(give(64 * MIB_PAGES));
    paddr_t block = page_alloc(10);
    task_sleep_us(2000000);
    CHECK_EQ(look()->committed_pages, before + 64 * MIB_PAGES + 1024);
    CHECK(give_back(UINT64_MAX));
    page_free(block, 10);
    task_sleep_us(2000000);
    CHECK_EQ(look()->committed_pages, before);
}

TEST(speaks_each_version)
{
    static const uint32_t versions[] = {DM_VERSION_WIN7, DM_VERSION_WIN8, DM_VERSION_WIN10};
    for (unsigned i = 0; i < ARRAY_SIZE(versions); i++) {
        if (fork() != 0) {
            continue;
        }
        defaults(RAM_BYTES);
        balloon_cfg.max_version = versions[i];
        balloon_cfg.max_pages = 512 * MIB_PAGES;
        if (guest_up() || !RUN_UNTIL(look()->ready, 5) || state.version != versions[i] || !give(1000) ||
            state.result_pages != 1000)
            _exit(1);
        task_sleep_us(1000000);
        _exit(fake_log_contains("up to 512 MiB in all") != (versions[i] >= DM_VERSION_WIN8));
    }
    for (unsigned i = 0; i < ARRAY_SIZE(versions); i++) {
        int status;
        CHECK(wait(&status) > 0 && status == 0);
    }
}

TEST(no_version_in_common)
{
    defaults(RAM_BYTES);
    balloon_cfg.min_version = balloon_cfg.max_version = DM_VERSION(3, 0);
    CHECK_EQ(guest_up(), 0);
    CHECK(RUN_UNTIL(fake_log_contains("no version in common"), 10));
    CHECK(RUN_UNTIL(fake_log_contains("memory stays as it is"), 10));
    struct host_state s;
    task_sleep_us(1000000);
    host_get_state(host, &s);
    CHECK_EQ(s.channels_open, 0);
    CHECK_EQ(s.gpadls, 0);
    vmbus_disconnect(false);
}

TEST(capabilities_refused)
{
    defaults(RAM_BYTES);
    balloon_cfg.refuse_capabilities = true;
    CHECK_EQ(guest_up(), 0);
    CHECK(RUN_UNTIL(fake_log_contains("does not want our capabilities"), 10));
    vmbus_disconnect(false);
}

TEST(no_reports_where_none_are_wanted)
{
    defaults(RAM_BYTES);
    balloon_cfg.no_reports = true;
    CHECK_EQ(guest_up(), 0);
    CHECK(RUN_UNTIL(look()->ready, 5));
    uint64_t idles = fake_idle_count, wakes = fake_switch_count;
    task_sleep_us(60000000);
    CHECK_EQ(look()->reports, 0);
    CHECK(fake_switch_count - wakes < 10);       /* nothing polls */
    CHECK(fake_idle_count - idles < 200);        /* the host's own audits */
    CHECK(give(1000));
}

TEST(setting_turns_it_off)
{
    defaults(RAM_BYTES);
    config_parse("memory.balloon=no");
    CHECK_EQ(guest_up(), 0);
    task_sleep_us(3000000);
    CHECK(!look()->ready);
    CHECK(fake_log_contains("dynamic memory is off"));
}

TEST(one_device_only)
{
    start(RAM_BYTES);
    CHECK(!host_add_balloon(host, &balloon_cfg));
}

/* ---- balloon and unballoon ---- */

TEST(gives_large_ranges_and_gets_all_back)
{
    start(RAM_BYTES);
    uint64_t used = used_pages();
    struct mm_stats before = memory();
    CHECK(give(128 * MIB_PAGES));
    CHECK_EQ(look()->result_pages, 128 * MIB_PAGES);
    CHECK(state.ballooned_ranges <= 4);
    CHECK(books_agree(used));
    CHECK_EQ(memory().free_pages, before.free_pages - 128 * MIB_PAGES);
    CHECK(give_back(UINT64_MAX));
    CHECK_EQ(look()->ballooned_pages, 0);
    CHECK(books_agree(used));
    /* In large blocks again: 64 MiB in one piece can be had. */
    paddr_t block = page_alloc(14);
    CHECK(!pa_is_none(block));
    memset(arch_phys_to_virt(block), 0x5A, PAGE_BYTES << 14);
    page_free(block, 14);
}

TEST(never_below_the_floor)
{
    start(RAM_BYTES);
    uint64_t used = used_pages(), floor = balloon_floor_pages(), free_before = memory().free_pages;
    CHECK(floor >= 8 * MIB_PAGES + 31 * MIB_PAGES && floor <= 8 * MIB_PAGES + 32 * MIB_PAGES);
    CHECK(give(UINT32_MAX));
    CHECK_EQ(look()->result_pages, free_before - floor);
    CHECK_EQ(memory().free_pages, floor);
    CHECK(books_agree(used));
    /* At the floor: an answer without any range, each time. */
    for (unsigned i = 0; i < 3; i++) {
        CHECK(give(512));
        CHECK_EQ(look()->result_pages, 0);
    }
    CHECK_EQ(balloon_counters.partial, 4);
    /* A page more than the floor is a page that can go. */
    CHECK(give_back(1));
    CHECK(give(512));
    CHECK_EQ(look()->result_pages, 1);
}

TEST(a_higher_floor_by_setting)
{
    defaults(RAM_BYTES);
    config_parse("memory.floor=200M");
    CHECK_EQ(guest_up(), 0);
    CHECK(RUN_UNTIL(look()->ready, 5));
    CHECK(give(UINT32_MAX));
    CHECK_EQ(memory().free_pages, 200 * MIB_PAGES);
}

/* Takes every other page of what could be ballooned: what is free then is single pages. Returns those taken. */
static paddr_t *fragment(uint64_t *kept)
{
    uint64_t n = memory().free_pages - balloon_floor_pages() - 8 * MIB_PAGES;
    paddr_t *pages = malloc(n * sizeof(*pages));
    *kept = 0;
    if (pages_alloc_list(pages, n))
        test_fail(__FILE__, __LINE__, "no memory");
    for (uint64_t i = 0; i < n; i++) {
        if (pages[i].v >> PAGE_SHIFT & 1)
            pages[(*kept)++] = pages[i];
        else
            page_free(pages[i], 0);
    }
    return pages;
}

/* Many ranges, in parts of 4 KiB, each but the last with the flag. */
TEST(many_small_ranges_in_parts)
{
    uint64_t kept;
    start(RAM_BYTES);
    paddr_t *pages = fragment(&kept);
    uint64_t used = used_pages();
    CHECK(give(UINT32_MAX));
    CHECK(look()->ballooned_ranges > 3 * DM_RANGES_MAX);
    CHECK(state.parts > 4);
    CHECK_EQ(memory().free_pages, balloon_floor_pages());
    CHECK(books_agree(used));
    CHECK(give_back(UINT64_MAX));
    CHECK(look()->parts > 8);
    CHECK_EQ(state.ballooned_pages, 0);
    CHECK(books_agree(used));
    pages_free_list(pages, kept);
    free(pages);
}

/* Memory that never came online goes first, and only its metadata is touched. */
TEST(memory_not_online_yet)
{
    start(8 * GIB);
    struct mm_stats before = memory();
    uint64_t used = used_pages();
    CHECK(before.online_pages < GIB / PAGE_BYTES);
    CHECK(give(4 * GIB / PAGE_BYTES));
    CHECK_EQ(look()->result_pages, 4 * GIB / PAGE_BYTES);
    CHECK(state.ballooned_ranges < 8);
    CHECK(memory().online_pages <= before.online_pages + 5 * GIB / PAGE_BYTES);
    /* 65 pages of metadata and a few for tables in each of them */
    CHECK(used_pages() - used < 6 * 80);
    CHECK(give_back(GIB / PAGE_BYTES + 5));
    CHECK_EQ(memory().given_pages, 3 * GIB / PAGE_BYTES - 5);
    CHECK_EQ(look()->ballooned_pages, memory().given_pages);
    CHECK(give(UINT32_MAX));
    CHECK(give(UINT32_MAX));
    CHECK_EQ(memory().free_pages, balloon_floor_pages());
    CHECK(give_back(UINT64_MAX));
    CHECK_EQ(memory().given_pages, 0);
}

/* A workload that takes memory, writes to it and looks again, while the host takes and gives at random. */
struct held { paddr_t at; unsigned order; };

static bool check_held(const struct held *h)
{
    const uint64_t *p = arch_phys_to_virt(h->at);
    for (uint64_t i = 0; i < 1ull << h->order; i++)
        if (p[i * 512] != h->at.v + i || p[i * 512 + 511] != h->at.v - i)
            return false;
    return true;
}

static void fill_held(struct held *h)
{
    uint64_t *p = arch_phys_to_virt(h->at);
    for (uint64_t i = 0; i < 1ull << h->order; i++) {
        p[i * 512] = h->at.v + i;
        p[i * 512 + 511] = h->at.v - i;
    }
}

static bool apart_from_the_balloon(const struct held *h)
{
    for (uint64_t i = 0; i < 1ull << h->order; i++)
        if (host_balloon_has(host, (h->at.v >> PAGE_SHIFT) + i))
            return false;
    return true;
}

static void workload(struct held *held, unsigned n)
{
    for (unsigned i = 0; i < 8; i++) {
        struct held *h = &held[rnd(n)];
        if (pa_is_none(h->at)) {
            h->order = (unsigned)rnd(8);
            h->at = page_alloc(h->order);
            if (pa_is_none(h->at))
                continue;
            CHECK(apart_from_the_balloon(h));
            fill_held(h);
        } else {
            CHECK(check_held(h));
            page_free(h->at, h->order);
            h->at = PADDR_NONE;
        }
    }
}

TEST(thousands_of_requests_with_a_workload)
{
    enum { HELD = 300 };
    struct held held[HELD];
    start(RAM_BYTES);
    for (unsigned i = 0; i < HELD; i++)
        held[i].at = PADDR_NONE;
    uint64_t used = used_pages();
    for (unsigned round = 0; round < 2500; round++) {
        uint32_t pages = 1 + (uint32_t)rnd(rnd(4) ? 600 : 40000);
        if (rnd(5) < 3)
            CHECK(give(pages));
        else
            CHECK(give_back(pages));
        workload(held, HELD);
        if (test_failures_here)
            return;
        CHECK_EQ(memory().given_pages, look()->ballooned_pages);
        CHECK_EQ(state.ballooned_pages, fake_withdrawn_pages());
    }
    for (unsigned i = 0; i < HELD; i++)
        if (!pa_is_none(held[i].at)) {
            CHECK(check_held(&held[i]));
            page_free(held[i].at, held[i].order);
        }
    CHECK(books_agree(used));
    CHECK(give_back(UINT64_MAX));
    CHECK(books_agree(used));
    CHECK_EQ(balloon_counters.lies, 0);
}

/* ---- what is given is out of reach ---- */

/* Without the sanitizer, which has marked the pages, too. */
__attribute__((no_sanitize("address"))) static void touch(void *at) { *(volatile uint8_t *)at = 1; }
__attribute__((no_sanitize("address"))) static void look_at(void *at) { (void)*(volatile uint8_t *)at; }
static void free_given(void *at) { page_free(pa((uint64_t)(uintptr_t)at), 0); }

TEST(a_given_page_faults_and_cannot_be_freed)
{
    start(RAM_BYTES);
    CHECK(give(1024));
    uint64_t page = 0;
    while (!host_balloon_has(host, page))
        page++;
    void *at = (void *)(uintptr_t)(ARCH_DIRECT_BASE + page * PAGE_BYTES);
    CHECK_FAULTS(touch, at);
    CHECK_FAULTS(look_at, at);
    CHECK_PANICS(free_given, (void *)(uintptr_t)(page * PAGE_BYTES));
}

/* ---- hot add ---- */

TEST(hot_added_memory_is_used_and_can_be_ballooned)
{
    start(64 * MIB);
    struct mm_stats before = memory();
    CHECK(hot_add(GIB / PAGE_BYTES, 128 * MIB_PAGES, true));
    CHECK_EQ(look()->result_pages, 128 * MIB_PAGES);
    CHECK_EQ(state.result, 1);
    CHECK_EQ(memory().ram_pages, before.ram_pages + 128 * MIB_PAGES);
    CHECK_EQ(memory().free_pages, before.free_pages + 128 * MIB_PAGES);
    CHECK(hot_add(GIB / PAGE_BYTES + 128 * MIB_PAGES, 256 * MIB_PAGES, false));
    CHECK_EQ(look()->hot_added_pages, 384 * MIB_PAGES);
    CHECK_EQ(balloon_counters.hot_added_pages, 384 * MIB_PAGES);
    paddr_t blocks[8];
    for (unsigned i = 0; i < ARRAY_SIZE(blocks); i++) {       /* 256 MiB, which were not there before */
        blocks[i] = page_alloc(13);
        CHECK(!pa_is_none(blocks[i]));
        memset(arch_phys_to_virt(blocks[i]), (int)i, PAGE_BYTES << 13);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(blocks); i++) {
        CHECK_EQ(*((uint8_t *)arch_phys_to_virt(blocks[i]) + 12345), i);
        page_free(blocks[i], 13);
    }
    uint64_t used = used_pages();
    CHECK(give(UINT32_MAX));
    CHECK(look()->result_pages > 350 * MIB_PAGES);
    CHECK(books_agree(used));
    CHECK(give_back(UINT64_MAX));
    CHECK(books_agree(used));
}

/* The host adds what can't be: refused for good, the memory map stays as it is. */
TEST(hot_add_of_what_is_taken_or_out_of_reach)
{
    static const struct { uint64_t first; uint32_t pages; const char *why; } bad[] = {
        {4 * MIB_PAGES, 128 * MIB_PAGES, "in use already"},                     /* RAM */
        {60 * MIB_PAGES, 128 * MIB_PAGES, "in use already"},                    /* RAM's end */
        {512 * MIB_PAGES, 128 * MIB_PAGES, "in use already"},                   /* a hole of the loader's map */
        {768 * MIB_PAGES - 1, 1, "in use already"},                             /* a device */
        {ARCH_DIRECT_BYTES / PAGE_BYTES, 1024, "beyond what this processor"},
        {(1ull << 40) - 1, 1024, "beyond what this processor"},
        {8 * GIB / PAGE_BYTES, 0, "they are none"},
        {0, 64, "they are none"},
    };
    const struct mm_region map[] = {
        {pa(0), 0xa0000, MM_RAM}, {pa(MIB), 63 * MIB, MM_RAM}, {pa(600 * MIB), MIB, MM_RESERVED},
    };
    fake_arch_reset(0);
    fake_set_memory_map(map, ARRAY_SIZE(map));
    mm_init(map, ARRAY_SIZE(map));
    rt_init();
    rt_set_clock(&fake_clock);
    arch_irq_enable();
    host_config_default(&host_cfg);
    host_balloon_config_default(&balloon_cfg);
    CHECK(mm_map_phys(pa(768 * MIB - PAGE_BYTES), PAGE_BYTES, MAP_READ | MAP_WRITE | MAP_DEVICE) != NULL);
    CHECK_EQ(guest_up(), 0);
    CHECK(RUN_UNTIL(look()->ready, 5));
    struct mm_stats before = memory();
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        struct dm_hot_add_request m = {
            .header = {DM_HOT_ADD_REQUEST, sizeof(m), 7},
            .range = DM_RANGE(bad[i].first, bad[i].pages),
        };
        fake_log_clear();
        CHECK(host_balloon_lie(host, &m, sizeof(m), DM_HOT_ADD_RESPONSE, bad[i].pages));
        CHECK(idle());
        CHECK_EQ(look()->result_pages, 0);
        CHECK_EQ(state.result, 1);
        if (!fake_log_contains(bad[i].why))
            test_fail(__FILE__, __LINE__, "%u: %s", i, fake_log_text());
        CHECK_EQ(memory().ram_pages, before.ram_pages);
    }
    /* The processor's limit cuts: what can be reached is taken. */
    uint64_t end = ARCH_DIRECT_BYTES / PAGE_BYTES;
    struct dm_hot_add_request m = {.header = {DM_HOT_ADD_REQUEST, 16, 8}, .range = DM_RANGE(end - 4096, 8192)};
    CHECK(fake_memory_add(pa((end - 4096) * PAGE_BYTES), 4096 * PAGE_BYTES));
    CHECK(host_balloon_lie(host, &m, 16, DM_HOT_ADD_RESPONSE, 8192));
    CHECK(idle());
    CHECK_EQ(look()->result_pages, 4096);
    CHECK_EQ(memory().ram_pages, before.ram_pages + 4096);
}

TEST(hot_add_until_the_table_is_full)
{
    start(64 * MIB);
    uint64_t before = memory().ram_pages, first = 4 * GIB / PAGE_BYTES;
    /* 600 neighbours: from some point on they join ranges. */
    for (unsigned i = 0; i < 600; i++) {
        CHECK(hot_add(first + i * 512, 512, false));
        CHECK_EQ(look()->result_pages, 512);
    }
    CHECK_EQ(memory().ram_pages, before + 600 * 512);
    /* And one that has no neighbour finds no place. */
    struct dm_hot_add_request m = {.header = {DM_HOT_ADD_REQUEST, 16, 8}, .range = DM_RANGE(2 * first, 512)};
    CHECK(host_balloon_lie(host, &m, 16, DM_HOT_ADD_RESPONSE, 512));
    CHECK(idle());
    CHECK_EQ(look()->result_pages, 0);
    CHECK(fake_log_contains("too many pieces"));
    uint64_t got = 0;
    while (!pa_is_none(page_alloc(6)))
        got++;
    CHECK(got > 600 * 7);
}

/* ---- a host that lies ---- */

/* The message is refused with a line; the books stay as they are. */
static void lie(const void *message, uint32_t bytes, uint16_t answer, const char *why)
{
    struct mm_stats before = memory();
    uint64_t lies = balloon_counters.lies;
    task_sleep_us(6000000);                          /* a line every five seconds */
    fake_log_clear();
    CHECK(host_balloon_lie(host, message, bytes, answer, 0));
    task_sleep_us(1000000);
    CHECK(!look()->busy);
    CHECK(balloon_counters.lies > lies);
    if (!fake_log_contains(why))
        test_fail(__FILE__, __LINE__, "\"%s\" is not in: %s", why, fake_log_text());
    struct mm_stats after = memory();
    CHECK_EQ(after.given_pages, before.given_pages);
    CHECK_EQ(after.free_pages, before.free_pages);
}

struct unballoon { struct dm_unballoon_request m; uint64_t ranges[4]; };

static void lie_unballoon(unsigned count, uint64_t a, uint64_t b, const char *why)
{
    struct unballoon u = {
        .m = {.header = {DM_UNBALLOON_REQUEST, (uint16_t)(sizeof(u.m) + 16), 3}, .count = count}, .ranges = {a, b},
    };
    lie(&u, sizeof(u.m) + 16, DM_UNBALLOON_RESPONSE, why);
}

TEST(lies_about_pages_given_back)
{
    start(RAM_BYTES);
    CHECK(give(4096));
    uint64_t page = 0;
    while (!host_balloon_has(host, page))
        page++;
    uint64_t whole = DM_RANGE(page, look()->ballooned_pages);
    CHECK_EQ(state.ballooned_ranges, 1);
    lie_unballoon(2, DM_RANGE(page, 64), DM_RANGE(page + 63, 64), "pages back that it does not have");
    lie_unballoon(2, DM_RANGE(page, 64), DM_RANGE(page, 64), "pages back"); /* twice */
    lie_unballoon(2, DM_RANGE(page, 64), DM_RANGE(page - 1, 1), "pages back"); /* never given */
    lie_unballoon(1, DM_RANGE(page + 4000, 97), 0, "pages back"); /* too long */
    lie_unballoon(1, DM_RANGE((1ull << 40) - 1, 0xFFFFFF), 0, "pages back"); /* wrapping */
    lie_unballoon(1, DM_RANGE(page, 0), 0, "pages back"); /* empty */
    lie_unballoon(1, DM_RANGE(0, 1), 0, "pages back");
    lie_unballoon(1, DM_RANGE(4 * GIB / PAGE_BYTES, 1), 0, "pages back"); /* no memory */
    lie_unballoon(3, whole, whole, "more ranges than its message holds");
    lie_unballoon(0x20000002, whole, whole, "more ranges");
    lie_unballoon(UINT32_MAX, whole, whole, "more ranges");
    /* After all that the truth is still taken. */
    CHECK(give_back(UINT64_MAX));
    CHECK_EQ(memory().given_pages, 0);
}

TEST(lies_about_messages)
{
    start(RAM_BYTES);
    struct dm_header h = {DM_BALLOON_REQUEST, 8, 1};
    lie(&h, 8, 0, "an unknown or short message");
    h = (struct dm_header){77, 8, 1};
    lie(&h, 8, 0, "an unknown");
    h = (struct dm_header){DM_UNBALLOON_REQUEST, 4096, 1};
    lie(&h, 8, 0, "a false length");
    h = (struct dm_header){DM_UNBALLOON_REQUEST, 7, 1};
    lie(&h, 8, 0, "a false length");
    lie(&h, 0, 0, "too short");
    h = (struct dm_header){DM_HOT_ADD_REQUEST, 8, 1};
    lie(&h, 8, 0, "an unknown");
    h = (struct dm_header){DM_VERSION_RESPONSE, 8, 1};
    lie(&h, 8, 0, "an unknown");
    h = (struct dm_header){DM_HOT_REMOVE_REQUEST, 8, 1};
    lie(&h, 8, 0, "an unknown");
    h = (struct dm_header){DM_INFO, 8, 1};           /* information that is not known is no lie */
    CHECK(host_balloon_lie(host, &h, 8, 0, 0));
    CHECK(give(1000));
    CHECK_EQ(look()->result_pages, 1000);
}

/* Its last page is its first. */
TEST(hot_add_of_memory_that_is_not_there)
{
    start(64 * MIB);
    struct dm_hot_add_request m = {.header = {DM_HOT_ADD_REQUEST, 16, 8}, .range = DM_RANGE(GIB / PAGE_BYTES, 4096)};
    struct mm_stats before = memory();
    fake_alias_at = GIB + 4095 * PAGE_BYTES;
    fake_alias_of = GIB;
    CHECK(host_balloon_lie(host, &m, 16, DM_HOT_ADD_RESPONSE, 4096));
    CHECK(idle());
    CHECK_EQ(look()->result_pages, 0);
    CHECK(fake_log_contains("don't hold what is written"));
    CHECK_EQ(memory().ram_pages, before.ram_pages);
}

/* ---- the device goes and comes ---- */

TEST(rescinded_and_offered_again)
{
    start(RAM_BYTES);
    uint64_t used = used_pages();
    CHECK(give(10000));
    host_remove_balloon(host);
    CHECK(RUN_UNTIL(fake_log_contains("39 MiB stay with the host"), 10));
    CHECK_EQ(memory().given_pages, 10000);
    CHECK(books_agree(memory().ram_pages - memory().free_pages - 10000));
    CHECK(RUN_UNTIL(look()->relid == 0, 5));
    CHECK(offered_again());
    CHECK(RUN_UNTIL(look()->ready, 10));
    CHECK(give(500));
    CHECK_EQ(look()->ballooned_pages, 10500);
    CHECK(give_back(UINT64_MAX));
    CHECK(books_agree(used));
    CHECK_EQ(memory().given_pages, 0);
}

/* QEMU's device, unplugged, forgets; what it then asks for comes from what is left. */
TEST(a_new_device_that_forgot)
{
    start(RAM_BYTES);
    CHECK(give(10000));
    host_remove_balloon(host);
    host_balloon_forget(host);
    CHECK(offered_again());
    CHECK(RUN_UNTIL(look()->ready, 10));
    CHECK(give(UINT32_MAX));
    CHECK_EQ(memory().free_pages, balloon_floor_pages());
    CHECK_EQ(memory().given_pages, look()->ballooned_pages + 10000);
    CHECK(give_back(UINT64_MAX));
    CHECK_EQ(memory().given_pages, 10000);
}

TEST(rescinded_at_every_moment)
{
    start(RAM_BYTES);
    uint64_t used = used_pages();
    for (unsigned i = 0; i < 60; i++) {
        host_balloon(host, 2000);
        task_sleep_us(rnd(300));
        host_remove_balloon(host);
        task_sleep_us(rnd(3000));
        CHECK(offered_again());
        task_sleep_us(rnd(20000));
        if (i % 4 == 3) {
            CHECK(RUN_UNTIL(look()->ready && !state.busy, 20));
            /* What was under way when the device went may be with either side, but with one of them. */
            CHECK(memory().given_pages >= look()->ballooned_pages);
            CHECK(give_back(UINT64_MAX));
        }
    }
    CHECK(RUN_UNTIL(look()->ready && !state.busy, 20));
    CHECK_EQ(memory().ram_pages - memory().free_pages - memory().given_pages, used);
}

TEST(orderly_end)
{
    start(RAM_BYTES);
    CHECK(give(10000));
    vmbus_disconnect(false);
    struct host_state s;
    host_get_state(host, &s);
    CHECK_EQ(s.channels_open, 0);
    CHECK_EQ(s.gpadls, 0);
    CHECK(fake_log_contains("39 MiB stay with the host"));
}

/* ---- what goes wrong ---- */

/* A life in which the n-th message of the host has that fault. Whatever happens, no page is with both or neither. */
static enum host_fault_kind fault_kind;

static void faulty_life(void *n)
{
    start(RAM_BYTES);
    uint64_t used = used_pages();
    host_set_fault(host, HOST_FAULT_BALLOON, (uint64_t)(uintptr_t)n, fault_kind);
    for (unsigned i = 0; i < 3; i++) {
        host_balloon(host, 3000);
        CHECK(idle());
        task_sleep_us(100000);
        host_unballoon(host, 1000);
        CHECK(idle());
        task_sleep_us(100000);
    }
    host_hot_add(host, GIB / PAGE_BYTES, 1024, false);
    CHECK(idle());
    task_sleep_us(100000);
    if (host_fault_count(host) < (uint64_t)(uintptr_t)n)
        nothing_left();
    struct mm_stats s = memory();
    /* What the host believes it has it does have. What it gave back in a message that never arrived is lost to both
     * until the machine restarts, so it may have less. */
    CHECK(s.given_pages >= look()->ballooned_pages);
    CHECK(s.given_pages - state.ballooned_pages <= 1000);
    CHECK_EQ(s.ram_pages - s.free_pages - s.given_pages, used);
    CHECK(give(100));
    CHECK_EQ(look()->result_pages, 100);
    vmbus_disconnect(false);
}

static void faulty_handshake(void *n)
{
    defaults(RAM_BYTES);
    balloon_cfg.max_version = DM_VERSION_WIN7;       /* so that refusals are among the answers */
    balloon_cfg.max_pages = 1000;
    host = NULL;
    hv_host.violations_expected = false;
    host = hv_host_start(&host_cfg);
    host_add_balloon(host, &balloon_cfg);
    host_set_fault(host, HOST_FAULT_BALLOON, (uint64_t)(uintptr_t)n, fault_kind);
    CHECK(hv_init());
    hv_clock_init();
    CHECK_EQ(hv_synic_init(), 0);
    balloon_register();
    CHECK_EQ(vmbus_connect(), 0);
    CHECK(RUN_UNTIL(fake_log_contains("dynamic memory 0.3") || fake_log_contains("memory stays as it is"), 60));
    if (host_fault_count(host) < (uint64_t)(uintptr_t)n)
        nothing_left();
    if (!fake_log_contains("memory stays as it is")) {
        CHECK(give(100));
        CHECK_EQ(look()->result_pages, 100);
    }
    vmbus_disconnect(false);
    struct host_state s;
    host_get_state(host, &s);
    CHECK_EQ(s.channels_open, 0);
    CHECK_EQ(s.gpadls, 0);
}

static void every_fault(void (*life)(void *n))
{
    for (fault_kind = HOST_FAULT_DROP; fault_kind <= HOST_FAULT_GARBAGE; fault_kind++) {
        unsigned n;
        for (n = 1; n < 30; n++) {
            int end = in_child(life, (void *)(uintptr_t)n);
            if (end == NOTHING_LEFT)
                break;
            if (end != FAKE_RETURNED)
                test_fail(__FILE__, __LINE__, "fault %u in message %u ends with %d", fault_kind, n, end);
        }
        CHECK(n > 3 && n < 30);
    }
}

TEST(faults_in_requests) { every_fault(faulty_life); }
TEST(faults_in_the_handshake) { every_fault(faulty_handshake); }

static void life_without(void *n)
{
    defaults(RAM_BYTES);
    host = hv_host_start(&host_cfg);
    host_add_balloon(host, &balloon_cfg);
    CHECK(hv_init());
    hv_clock_init();
    CHECK_EQ(hv_synic_init(), 0);
    balloon_register();
    CHECK_EQ(vmbus_connect(), 0);
    CHECK(RUN_UNTIL(look()->ready, 5));
    host_remove_balloon(host);
    CHECK(offered_again());
    uint64_t used = used_pages(), before = mm_alloc_count();
    mm_fail_nth((uint64_t)(uintptr_t)n);
    RUN_UNTIL(look()->ready, 12);
    for (unsigned i = 0; i < 3 && look()->ready; i++) {
        CHECK(give(3000));
        CHECK(give_back(1000));
    }
    if (look()->ready)
        CHECK(hot_add(GIB / PAGE_BYTES, 1024, true));
    bool failed = mm_alloc_count() - before >= (uint64_t)(uintptr_t)n;
    mm_fail_nth(0);
    if (!failed)
        nothing_left();
    CHECK_EQ(memory().given_pages, look()->ballooned_pages);
    CHECK_EQ(memory().given_pages, fake_withdrawn_pages());
    host_remove_balloon(host);
    CHECK(RUN_UNTIL(look()->relid == 0, 5));
    task_sleep_us(1000000);
    CHECK(used_pages() <= used + 16);
    vmbus_disconnect(false);
}

TEST(each_allocation_fails) { each_allocation(life_without); }

/* A ring that the host does not read: the answer waits for its limit, and what it could not be told it did not get. */
TEST(a_host_that_reads_nothing)
{
    uint64_t kept;
    start(RAM_BYTES);
    uint64_t used = used_pages();
    paddr_t *pages = fragment(&kept);
    CHECK(host_balloon(host, UINT32_MAX));
    hv_host_run();                                   /* the request is in the ring */
    host_hold_channel(host, look()->relid, true);
    task_sleep_us(5000000);
    CHECK(memory().given_pages > 3 * DM_RANGES_MAX);
    task_sleep_us(10000000);
    CHECK(fake_log_contains("took nothing from the ring"));
    host_hold_channel(host, look()->relid, false);
    CHECK(idle());                                   /* and then the answer ends */
    task_sleep_us(5000000);
    CHECK_EQ(memory().given_pages, look()->ballooned_pages);
    CHECK_EQ(memory().given_pages, fake_withdrawn_pages());
    pages_free_list(pages, kept);
    free(pages);
    CHECK_EQ(used_pages(), used);
}

TEST_MAIN()
