/* SPDX-License-Identifier: BSD-2-Clause */
/* ROOMS: lib mm rt fake_arch */
/* What the runtime makes of the host's services: wall clock, keys, the end of the machine; and UTF-16. */
#include "lib/utf16.h"
#include "rt/candela.h"
#include "rt/services.h"
#include "tests/fake_arch/fake_arch.h"
#include "tests/unit/child.h"

#define MIB     (1u << 20)
#define NOW_NS  1795171501000000000ull        /* 2026-11-20 10:45:01 */

/* ---- UTF-16 ---- */

static unsigned utf8_of(uint32_t c, char *to)
{
    unsigned n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    static const uint8_t lead[] = {0, 0, 0xC0, 0xE0, 0xF0};

    for (unsigned i = n; i-- > 1; c >>= 6)
        to[i] = (char)(0x80 | (c & 0x3F));
    to[0] = (char)(lead[n] | c);
    return n;
}

TEST(every_character_comes_back)
{
    char text[8], back[8];
    uint8_t wide[8];

    for (uint32_t c = 1; c <= 0x10FFFF; c += c < 0x10000 ? 1 : 61) {
        unsigned n = utf8_of(c, text);
        text[n] = '\0';
        int bytes = utf16_from_utf8(wide, sizeof(wide), text);
        if (c >= 0xD800 && c <= 0xDFFF) {
            CHECK_EQ(bytes, -E_INVAL);
            wide[0] = (uint8_t)c;
            wide[1] = (uint8_t)(c >> 8);
            CHECK_EQ(utf8_from_utf16(back, sizeof(back), wide, 2), -E_INVAL);
            continue;
        }
        CHECK_EQ(bytes, c < 0x10000 ? 4 : 6);
        CHECK_EQ(utf8_from_utf16(back, sizeof(back), wide, (size_t)bytes), n);
        CHECK(strcmp(text, back) == 0);
        /* No byte more than there is room for. */
        for (size_t room = 0; room < (size_t)bytes; room++)
            CHECK_EQ(utf16_from_utf8(wide, room, text), -E_RANGE);
        CHECK_EQ(utf16_from_utf8(wide, sizeof(wide), text), bytes);
        CHECK_EQ(utf16_bytes(text), bytes);
        for (size_t room = 0; room <= n; room++)
            CHECK_EQ(utf8_from_utf16(back, room, wide, (size_t)bytes), -E_RANGE);
    }
}

TEST(text_that_is_none_is_refused)
{
    static const char *const bad[] = {
        "\x80", "\xC3", "\xC3(", "\xC0\x80", "\xC1\xBF", "\xE0\x80\x80", "\xE2\x82", "\xED\xA0\x80", "\xF0\x80\x80\x80",
        "\xF4\x90\x80\x80", "\xF8\x88\x80\x80\x80", "\xFF", "a\xFE",
    };
    uint8_t wide[32];
    char text[8];

    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
        CHECK(utf16_from_utf8(wide, sizeof(wide), bad[i]) == -E_INVAL && utf16_bytes(bad[i]) == -E_INVAL);
    CHECK_EQ(utf8_from_utf16(text, sizeof(text), (const uint8_t *)"a\0b\0", 3), 1);   /* the odd byte isn't looked at */
    CHECK_EQ(utf8_from_utf16(text, sizeof(text), (const uint8_t *)"a\0\0\0b\0", 6), 1);
    CHECK_EQ(utf8_from_utf16(text, sizeof(text), NULL, 0), 0);
    CHECK_EQ(text[0], 0);
}

/* ---- the wall clock ---- */

static int sample(uint64_t unix_ns, uint64_t age_100ns, bool set)
{
    struct wall_sample s = {unix_ns, rt_now_100ns() - age_100ns, set, "host"};

    return wall_sample(&s);
}

static uint64_t wall_ns(void)
{
    uint64_t ns = 0;

    wall_now_ns(&ns);
    return ns;
}

static uint32_t random_state = 12345;
static uint32_t random_below(uint32_t n)
{
    random_state = random_state * 1664525 + 1013904223;
    return (uint32_t)((uint64_t)random_state * n >> 32);
}

TEST(samples_never_turn_time_back)
{
    uint64_t last;

    fake_arch_boot(16 * MIB);
    CHECK_EQ(sample(NOW_NS, 0, false), 0);
    last = wall_ns();
    for (unsigned i = 0; i < 20000; i++) {
        /* Half a second either way, aged by up to minutes, hints all of them. */
        int64_t off = (int64_t)random_below(900000000) - 450000000;
        uint64_t age = random_below(4000000000u);
        uint64_t ns = wall_ns() + (uint64_t)off - age * 100;
        CHECK(sample(ns, age, false) == 0);
        fake_time_advance(random_below(i % 10 ? 1000 : S_100NS(10)));
        CHECK(wall_ns() >= last);
        last = wall_ns();
    }
    struct wall_stats stats;
    wall_get_stats(&stats);
    CHECK(stats.steps == 0 && stats.ignored == 0 && stats.samples == 20001);
}

TEST(slewing_is_slow_and_ends)
{
    fake_arch_boot(16 * MIB);
    fake_counter_step = 0;
    CHECK_EQ(sample(NOW_NS, 0, true), 0);
    uint64_t start = wall_ns(), at = rt_now_100ns();
    CHECK_EQ(sample(start + 10000000, 0, false), 0);                   /* 10 ms ahead: twenty seconds */
    for (unsigned s = 1; s <= 30; s++) {
        fake_time_advance(S_100NS(1));
        uint64_t plain = start + (rt_now_100ns() - at) * 100, gained = wall_ns() - plain;
        uint64_t wanted = MIN(s * 500000ull, 10000000ull);
        CHECK(gained + 1000 >= wanted && gained <= wanted + 1000);
    }
    /* An order that changes less than a millisecond is no step. */
    CHECK_EQ(sample(wall_ns() - 900000, 0, true), 0);
    struct wall_stats stats;
    wall_get_stats(&stats);
    CHECK_EQ(stats.steps, 0);
    CHECK_EQ(stats.last_offset_ns, -900000);
}

TEST(one_that_is_far_off_is_not_believed)
{
    struct wall_stats stats;

    fake_arch_boot(16 * MIB);
    CHECK_EQ(sample(NOW_NS, 0, true), 0);
    CHECK_EQ(sample(wall_ns() + 60000000000, 0, false), -E_AGAIN);
    CHECK_EQ(sample(wall_ns(), 0, false), 0);                          /* it was wrong, and is forgotten */
    CHECK_EQ(sample(wall_ns() + 60000000000, 0, false), -E_AGAIN);
    CHECK_EQ(sample(wall_ns() - 60000000000, 0, false), -E_AGAIN);     /* of another opinion again */
    CHECK_EQ(sample(wall_ns() - 59950000000, 0, false), 0);
    wall_get_stats(&stats);
    CHECK(stats.steps == 1 && stats.backward_steps == 1 && stats.ignored == 3);
}

TEST(firmware_before_the_host)
{
    struct wall_stats stats;
    char text[WALL_TEXT_BYTES];

    fake_arch_boot(16 * MIB);
    wall_seed(NOW_NS / 1000000000, rt_now_100ns());
    CHECK(strcmp(wall_text(text, sizeof(text)), "2026-11-20 10:45:01 UTC") == 0);
    wall_get_stats(&stats);
    CHECK(strcmp(stats.source, "firmware") == 0 && stats.samples == 0);
    CHECK_EQ(sample(NOW_NS - 3600000000000, 0, false), 0);             /* the first word of the host's is believed */
    CHECK(strcmp(wall_text(text, sizeof(text)), "2026-11-20 09:45:01 UTC") == 0);
    wall_get_stats(&stats);
    CHECK(strcmp(stats.source, "host") == 0 && stats.backward_steps == 1);
    wall_seed(NOW_NS / 1000000000, rt_now_100ns());                                 /* too late */
    CHECK(strcmp(wall_text(text, sizeof(text)), "2026-11-20 09:45:01 UTC") == 0);
}

TEST(a_clock_set_to_and_fro_fills_no_log)
{
    struct wall_stats stats;
    unsigned lines = 0;

    fake_arch_boot(16 * MIB);
    for (unsigned i = 0; i < 201; i++)
        CHECK_EQ(sample(i % 2 ? NOW_NS : NOW_NS + 3600000000000, 0, true), 0);
    wall_get_stats(&stats);
    CHECK(stats.steps == 200 && stats.backward_steps == 100);
    for (const char *at = fake_log_text(); (at = strstr(at, "the clock is set")); at++)
        lines++;
    CHECK(lines > 0 && lines <= 16);
    task_sleep_us(6000000);
    fake_log_clear();
    CHECK_EQ(sample(NOW_NS, 0, true), 0);
    CHECK(fake_log_contains("the clock is set back"));
}

TEST(times_no_clock_reaches)
{
    static const uint64_t beyond[] = {WALL_UNIX_NS_MAX + 1, 1ull << 63, UINT64_MAX - 1, UINT64_MAX};
    struct wall_stats stats;
    uint64_t now;

    fake_arch_boot(16 * MIB);
    task_sleep_us(700000000);
    wall_seed(253402300799ull, rt_now_100ns());                        /* 9999: more nanoseconds than 64 bits hold */
    for (unsigned i = 0; i < ARRAY_SIZE(beyond); i++)
        CHECK(sample(beyond[i], 0, true) == -E_RANGE && sample(beyond[i], S_100NS(599), true) == -E_RANGE);
    CHECK_EQ(sample(WALL_UNIX_NS_MAX - 1000, S_100NS(500), true), -E_RANGE);
    CHECK_EQ(sample(5, -(uint64_t)MS_100NS(50), true), -E_RANGE);      /* it would be 1969 now */
    CHECK(!wall_now_ns(&now));
    /* From one end to the other and back the sign is right, and two hints from either end do not agree. */
    fake_counter_step = 0;
    CHECK_EQ(sample(WALL_UNIX_NS_MAX, 0, true), 0);
    CHECK_EQ(sample(0, 0, true), 0);
    CHECK_EQ(sample(WALL_UNIX_NS_MAX, 0, true), 0);
    CHECK_EQ(sample(0, 0, false), -E_AGAIN);
    CHECK_EQ(sample(WALL_UNIX_NS_MAX, 0, false), 0);
    CHECK_EQ(sample(0, 0, true), 0);
    CHECK_EQ(sample(WALL_UNIX_NS_MAX, 0, false), -E_AGAIN);
    wall_get_stats(&stats);
    CHECK(stats.steps == 3 && stats.backward_steps == 2);
}

/* ---- keys ---- */

TEST(pools_are_apart)
{
    struct key_pair pair;

    fake_arch_boot(16 * MIB);
    CHECK_EQ(keys_set(KEYS_EXTERNAL, "a", "1"), 0);
    CHECK_EQ(keys_set(KEYS_GUEST, "a", "2"), 0);
    CHECK(!strcmp(keys_get(KEYS_EXTERNAL, "a"), "1") && !strcmp(keys_get(KEYS_GUEST, "a"), "2"));
    CHECK(!keys_get(KEYS_AUTO_EXTERNAL, "a") && !keys_get(KEYS_AUTO, "a") && !keys_get(KEY_POOLS, "a"));
    CHECK_EQ(keys_set(KEYS_AUTO, "a", "1"), -E_INVAL);
    CHECK_EQ(keys_set(KEY_POOLS, "a", "1"), -E_INVAL);
    CHECK_EQ(keys_set(KEYS_EXTERNAL, "", "1"), -E_INVAL);
    CHECK_EQ(keys_delete(KEYS_AUTO, "a"), -E_NOENT);
    CHECK_EQ(keys_delete(KEYS_EXTERNAL, "b"), -E_NOENT);
    CHECK(!keys_at(KEYS_AUTO, 0, &pair) && !keys_at(KEYS_EXTERNAL, 1, &pair) && !keys_at(KEY_POOLS, 0, &pair));
    CHECK(keys_count(KEYS_EXTERNAL) == 1 && keys_count(KEYS_AUTO) == 0);
    CHECK_EQ(guest_key_set("a", NULL), 0);
    CHECK_EQ(guest_key_set("a", NULL), 0);
    CHECK_EQ(keys_count(KEYS_GUEST), 0);
    char cut[4];
    CHECK_EQ(keys_set(KEYS_EXTERNAL, "long", "value"), 0);
    CHECK(host_key_get("long", cut, sizeof(cut)) && !strcmp(cut, "val"));
}

/* What can't be told in the protocol's fields would end every list that the host asks for. */
TEST(keys_that_no_host_could_be_told)
{
    static char key[600], value[3000];

    fake_arch_boot(16 * MIB);
    memset(key, 'k', 255);
    memset(value, 'v', 1023);
    CHECK_EQ(guest_key_set(key, value), 0);
    key[255] = 'k';
    CHECK_EQ(guest_key_set(key, "v"), -E_INVAL);
    value[1023] = 'v';
    CHECK_EQ(guest_key_set("k", value), -E_INVAL);
    CHECK_EQ(guest_key_set("\xFF", "v"), -E_INVAL);
    CHECK_EQ(guest_key_set("k", "v\xC3"), -E_INVAL);
    /* The limit is the host's words, not our bytes. */
    for (unsigned i = 0; i < 255; i++)
        memcpy(key + 2 * i, "\xC3\xA9", 3);
    CHECK_EQ(guest_key_set(key, "v"), 0);
    CHECK_EQ(keys_count(KEYS_GUEST), 2);
}

static const char *name_to_tell;
static void describe(struct machine_network *network) { network->hostname = name_to_tell; }

TEST(a_name_that_no_host_could_be_told)
{
    char text[KEYS_VALUE_BYTES];

    fake_arch_boot(16 * MIB);
    machine_set_network(describe);
    name_to_tell = "candle.example";
    machine_fact(FACT_FQDN, text, sizeof(text));
    CHECK(strcmp(text, "candle.example") == 0);
    name_to_tell = "candl\xE8";
    machine_fact(FACT_FQDN, text, sizeof(text));
    CHECK(text[0] == '\0');
    static char long_name[1025];
    memset(long_name, 'n', 1023);
    name_to_tell = long_name;
    machine_fact(FACT_FQDN, text, sizeof(text));
    CHECK_EQ(strlen(text), 1023);
    long_name[1023] = 'n';
    machine_fact(FACT_FQDN, text, sizeof(text));
    CHECK(text[0] == '\0');
}

TEST(without_memory_the_old_value_stays)
{
    fake_arch_boot(16 * MIB);
    CHECK_EQ(keys_set(KEYS_EXTERNAL, "a", "1"), 0);
    mm_fail_nth(1);
    CHECK_EQ(keys_set(KEYS_EXTERNAL, "a", "2"), -E_NOMEM);
    mm_fail_nth(1);
    CHECK_EQ(keys_set(KEYS_EXTERNAL, "b", "2"), -E_NOMEM);
    mm_fail_nth(0);
    CHECK(!strcmp(keys_get(KEYS_EXTERNAL, "a"), "1") && keys_count(KEYS_EXTERNAL) == 1);
}

/* ---- the last flush ---- */

struct fake_disk { struct blk_device d; struct blk_request *waiting; unsigned flushes, others; bool hang; int status; };
static struct fake_disk disks[4];

static void answer(void *arg)
{
    struct fake_disk *f = arg;
    struct blk_request *r = f->waiting;

    f->waiting = NULL;
    if (r)
        blk_complete(r, f->status);
}

static void disk_submit(struct blk_device *d, struct blk_request *r)
{
    static struct rt_timer timers[ARRAY_SIZE(disks)];
    struct fake_disk *f = d->driver;

    f->flushes += r->op == BLK_FLUSH;
    f->others += r->op != BLK_FLUSH;
    f->waiting = r;
    timer_init(&timers[f - disks], answer, f);
    if (!f->hang)
        timer_arm_100ns(&timers[f - disks], rt_now_100ns() + MS_100NS(5));
}

static void disk_kick(struct blk_device *d UNUSED) {}
static const struct blk_ops disk_ops = {disk_submit, disk_kick};

static void add_disks(void)
{
    for (unsigned i = 0; i < ARRAY_SIZE(disks); i++) {
        struct fake_disk *f = &disks[i];
        *f = (struct fake_disk){.d = {.sector_bytes = 512, .sectors = 100, .max_transfer_bytes = 65536,
                                      .has_flush = true, .ops = &disk_ops, .driver = f}};
        KASSERT(blk_register(&f->d, NULL) == 0);
    }
}

TEST(every_writable_disk_is_flushed_at_the_end)
{
    fake_arch_boot(16 * MIB);
    add_disks();
    disks[1].d.read_only = true;
    disks[2].d.has_flush = false;
    disks[3].status = -E_IO;
    shutdown_flush_disks(NULL);
    CHECK(disks[0].flushes == 1 && disks[1].flushes == 0 && disks[2].flushes == 0 && disks[3].flushes == 1);
    CHECK(disks[0].others + disks[3].others == 0);
    CHECK(fake_log_contains("disk3: the last flush failed: the device reported an error"));
    CHECK(!fake_log_contains("disk0: the last flush"));
}

static void take_away(void *arg) { blk_unregister(&((struct fake_disk *)arg)->d); }

TEST(no_disk_misses_its_flush_when_another_goes)
{
    struct rt_timer timer;

    fake_arch_boot(16 * MIB);
    add_disks();
    timer_init(&timer, take_away, &disks[0]);
    timer_arm_100ns(&timer, rt_now_100ns() + MS_100NS(7));          /* while disk1 is flushed */
    shutdown_flush_disks(NULL);
    CHECK(disks[0].d.removed);
    for (unsigned i = 0; i < ARRAY_SIZE(disks); i++)
        CHECK_EQ(disks[i].flushes, 1);
}

TEST(a_disk_that_hangs_has_a_limit)
{
    fake_arch_boot(16 * MIB);
    add_disks();
    disks[0].hang = true;
    uint64_t begun = rt_now_100ns();
    shutdown_flush_disks(NULL);
    CHECK(rt_now_100ns() - begun < S_100NS(61));
    CHECK(fake_log_contains("disk0: the last flush failed: no answer within the limit"));
    CHECK(disks[1].flushes == 1 && disks[3].flushes == 1);
    answer(&disks[0]);                             /* late, and yet nobody is hurt */
    task_sleep_us(1000);
}

TEST(a_disk_that_hangs_and_goes)
{
    fake_arch_boot(16 * MIB);
    add_disks();
    disks[0].hang = true;
    shutdown_flush_disks(NULL);
    blk_unregister(&disks[0].d);                   /* the bus is left, and the request is still there */
    disks[0].status = -E_REMOVED;
    answer(&disks[0]);
    task_sleep_us(1000);
}

TEST(flush_without_memory)
{
    fake_arch_boot(16 * MIB);
    add_disks();
    mm_fail_nth(1);
    shutdown_flush_disks(NULL);
    mm_fail_nth(0);
    CHECK(fake_log_contains("disk0: the last flush failed: out of memory"));
    CHECK(disks[0].flushes == 0 && disks[1].flushes == 1);
}

/* ---- the end ---- */

struct end { bool looks, polls, forced, restart; unsigned returns_after_s, low_s, high_s; };
static uint64_t asked_at;

static void check_time(void *arg)
{
    const struct end *e = arg;
    uint64_t s = (rt_now_100ns() - asked_at) / S_100NS(1);

    if (s < e->low_s || s > e->high_s) {
        fprintf(stderr, "the hooks ran after %llu s\n", (unsigned long long)s);
        _exit(FAKE_FAILED);
    }
}

static void app(void *arg)
{
    const struct end *e = arg;

    if (e->looks && !shutdown_wait(RT_FOREVER))
        _exit(FAKE_FAILED);
    while (e->polls && shutdown_requested() == SHUTDOWN_NONE)
        task_sleep_us(50000);
    task_sleep_us(1000000ull * (e->returns_after_s ? e->returns_after_s : 3600));
    machine_shutdown(5);
}

static void attend(void *arg UNUSED) { machine_attend(); }

static void live(void *arg)
{
    static struct shutdown_hook hook;
    struct end *e = arg;

    fake_arch_boot(16 * MIB);
    hook = (struct shutdown_hook){check_time, e, NULL};
    shutdown_add_hook(&hook);
    task_spawn("app", app, e, 0);
    task_spawn("attend", attend, NULL, 0);
    task_sleep_us(1000000);
    asked_at = rt_now_100ns();
    if (shutdown_request(e->restart ? SHUTDOWN_RESTART : SHUTDOWN_POWER_OFF, e->forced))
        _exit(FAKE_FAILED);
    task_sleep_us(100000000);
    _exit(FAKE_FAILED);
}

TEST(applications_have_their_time)
{
    static const struct end ends[] = {
        {.low_s = 0, .high_s = 0},                                     /* never looked */
        {.looks = true, .low_s = 10, .high_s = 10},
        {.polls = true, .low_s = 10, .high_s = 10},
        {.looks = true, .forced = true, .low_s = 3, .high_s = 3},
        {.looks = true, .returns_after_s = 2, .low_s = 2, .high_s = 2},
        {.polls = true, .returns_after_s = 7, .restart = true, .low_s = 7, .high_s = 7},
        {.looks = true, .returns_after_s = 20, .restart = true, .low_s = 10, .high_s = 10},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(ends); i++) {
        struct end e = ends[i];
        int end = in_child(live, &e);
        if (end != (e.restart ? FAKE_REBOOTED : FAKE_POWERED_OFF))
            test_fail(__FILE__, __LINE__, "case %u ends with %d", i, end);
    }
}

TEST(requests_of_two_kinds)
{
    fake_arch_boot(16 * MIB);
    CHECK_EQ(shutdown_requested(), SHUTDOWN_NONE);
    CHECK(!shutdown_wait(1000));
    CHECK_EQ(shutdown_request(SHUTDOWN_RESTART, false), 0);
    CHECK_EQ(shutdown_request(SHUTDOWN_RESTART, true), 0);
    CHECK_EQ(shutdown_request(SHUTDOWN_POWER_OFF, false), -E_BUSY);
    CHECK_EQ(shutdown_requested(), SHUTDOWN_RESTART);
    CHECK(shutdown_wait(0));
}

static void restart(void *arg)
{
    fake_arch_boot(16 * MIB);
    if (arg)
        shutdown_request(SHUTDOWN_POWER_OFF, false);
    machine_restart(0);
}

TEST(an_application_may_restart_the_machine)
{
    CHECK_EQ(in_child(restart, NULL), FAKE_REBOOTED);
    CHECK_EQ(in_child(restart, (void *)1), FAKE_POWERED_OFF);          /* what came first counts */
}

TEST_MAIN()
