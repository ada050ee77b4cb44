/* SPDX-License-Identifier: BSD-2-Clause */
/* ROOMS: lib mm rt fake_arch */
/* The event loop, tasks, timers, waiting; random numbers; configuration; the machine. */
#include "rt/candela.h"
#include "rt/internal.h"
#include "tests/fake_arch/fake_arch.h"
#include "tests/unit/test.h"

#define MIB (1ull << 20)

static uint64_t seed = 11;
static uint64_t rnd(uint64_t below)
{
    seed = seed * 6364136223846793005ull + 1442695040888963407ull;
    return (seed >> 33) % below;
}

static char trail[256];
static void mark(char c)
{
    size_t n = strlen(trail);
    if (n + 1 < sizeof(trail))
        trail[n] = c;
}
static void mark_event(void *arg) { mark((char)(uintptr_t)arg); }
#define ARG(c) ((void *)(uintptr_t)(c))

/* ---- events ---- */

static struct rt_event a = RT_EVENT_INIT(mark_event, ARG('a')), b = RT_EVENT_INIT(mark_event, ARG('b')),
                       c = RT_EVENT_INIT(mark_event, ARG('c'));

TEST(events_run_once_each_in_order)
{
    fake_arch_boot(16 * MIB);
    event_raise(&b);
    event_raise(&a);
    event_raise(&b);
    CHECK(trail[0] == '\0');
    task_yield();
    CHECK(strcmp(trail, "ba") == 0);
    task_yield();
    CHECK(strcmp(trail, "ba") == 0);
    event_raise(&b);
    task_yield();
    CHECK(strcmp(trail, "bab") == 0);
}

static void cancel_and_raise(void *arg)
{
    (void)arg;
    mark('x');
    event_cancel(&a);          /* in the running batch */
    event_raise(&b);           /* already in the batch: once */
    event_raise(&c);           /* next batch */
    event_cancel(&c);
}
static struct rt_event x = RT_EVENT_INIT(cancel_and_raise, NULL);

TEST(events_are_cancelled_wherever_they_are)
{
    fake_arch_boot(16 * MIB);
    event_raise(&x);
    event_raise(&a);
    event_raise(&b);
    task_yield();
    CHECK(strcmp(trail, "xb") == 0);
    event_raise(&a);
    event_raise(&b);
    event_raise(&c);
    event_cancel(&c);          /* the last */
    event_raise(&x);
    event_cancel(&a);          /* the first */
    event_cancel(&a);
    event_raise(&c);
    event_cancel(&x);          /* between */
    task_yield();
    CHECK(strcmp(trail, "xbbc") == 0);
    for (unsigned i = 0; i < 3; i++) {
        event_raise(&a);
        event_cancel(&a);
    }
    event_raise(&b);
    task_yield();
    CHECK(strcmp(trail, "xbbcb") == 0);
}

static void raise_self(void *arg)
{
    (void)arg;
    mark('r');
    if (strlen(trail) < 5)
        event_raise(&x);
}

TEST(an_event_that_raises_itself_starves_nobody)
{
    fake_arch_boot(16 * MIB);
    x.fn = raise_self;
    event_raise(&x);
    task_yield();
    mark('t');                 /* the task's turn comes after one batch */
    task_sleep_us(10);
    CHECK(strcmp(trail, "rtrrr") == 0);
}

static void raise_from_interrupt(void *arg)
{
    (void)arg;
    event_raise(&a);
}

TEST(an_interrupt_while_idle_is_not_lost)
{
    fake_arch_boot(16 * MIB);
    arch_irq_set_handler(ARCH_IRQ_TEST, raise_from_interrupt, NULL);
    arch_irq_disable();
    fake_irq_raise(ARCH_IRQ_TEST);             /* pends until the loop idles */
    CHECK(trail[0] == '\0');
    task_sleep_us(100);
    CHECK(strcmp(trail, "a") == 0);
    arch_irq_enable();
    CHECK_EQ(arch_irq_count(ARCH_IRQ_TEST), 1);
}

/* ---- timers ---- */

enum { TIMERS = 5000 };
static struct rt_timer timers[TIMERS];
static uint64_t last_deadline;
static unsigned expired, out_of_order, early;

static void timer_expired(void *arg)
{
    struct rt_timer *t = arg;
    expired++;
    out_of_order += t->deadline_100ns < last_deadline;
    early += rt_now_100ns() < t->deadline_100ns;
    last_deadline = t->deadline_100ns;
}

TEST(thousands_of_timers_expire_in_order)
{
    fake_arch_boot(16 * MIB);
    uint64_t now = rt_now_100ns();
    unsigned armed = 0;
    for (unsigned i = 0; i < TIMERS; i++)
        timer_init(&timers[i], timer_expired, &timers[i]);
    for (unsigned i = 0; i < 10 * TIMERS; i++) {
        struct rt_timer *t = &timers[rnd(TIMERS)];
        if (rnd(4) == 0)
            timer_cancel(t);
        else
            timer_arm_100ns(t, now + S_100NS(1) + rnd(S_100NS(10)));
    }
    for (unsigned i = 0; i < TIMERS; i++)
        armed += timers[i].armed;
    CHECK(armed > TIMERS / 2 && armed < TIMERS);
    task_sleep_us(12 * 1000000);
    CHECK_EQ(expired, armed);
    CHECK_EQ(out_of_order, 0);
    CHECK_EQ(early, 0);
    for (unsigned i = 0; i < TIMERS; i++)
        CHECK(!timers[i].armed);
}

static struct rt_timer chain;
static unsigned chain_count;
static void rearm_in_the_past(void *arg)
{
    (void)arg;
    if (++chain_count < 1000)
        timer_arm_100ns(&chain, 1);
}

TEST(a_timer_that_is_always_due_starves_nobody)
{
    fake_arch_boot(16 * MIB);
    timer_init(&chain, rearm_in_the_past, NULL);
    timer_arm_100ns(&chain, 1);
    event_raise(&a);
    task_sleep_us(1);
    CHECK(chain_count > 0 && strcmp(trail, "a") == 0);
    task_sleep_us(1000);
    CHECK_EQ(chain_count, 1000);
}

/* Limits that are armed and cancelled leave the hardware alone. */
TEST(limits_that_do_not_expire_cost_no_timer_access)
{
    fake_arch_boot(16 * MIB);
    struct rt_timer t;
    timer_init(&t, timer_expired, &t);
    task_sleep_us(10);
    uint64_t armed = fake_clock_arm_count;
    for (unsigned i = 0; i < 1000; i++) {
        timer_arm_100ns(&t, rt_now_100ns() + S_100NS(240));
        event_raise(&a);
        task_yield();
        timer_cancel(&t);
    }
    CHECK_EQ(fake_clock_arm_count, armed);
}

TEST(sleeping_takes_its_time)
{
    fake_arch_boot(16 * MIB);
    uint64_t before = rt_now_us();
    task_sleep_us(2500);
    CHECK(rt_now_us() - before >= 2500 && rt_now_us() - before < 2600);
    uint64_t arms = fake_clock_arm_count;
    task_sleep_us(0);
    CHECK(fake_clock_arm_count - arms <= 1);
}

/* ---- tasks ---- */

static struct wait_queue queue;
static bool flag;

static void waiter(void *arg)
{
    mark((char)(uintptr_t)arg);
    wait_queue_sleep(&queue, RT_FOREVER, "the test");
    mark((char)((uintptr_t)arg - 32));         /* upper case */
}

TEST(tasks_wait_and_wake_in_order)
{
    fake_arch_boot(16 * MIB);
    wait_queue_init(&queue);
    CHECK(task_spawn("one", waiter, ARG('a'), 0) && task_spawn("two", waiter, ARG('b'), 0) &&
          task_spawn("three", waiter, ARG('c'), 4096));
    CHECK(trail[0] == '\0');
    task_yield();
    CHECK(strcmp(trail, "abc") == 0);
    fake_log_clear();
    task_dump();
    CHECK(fake_log_contains("two") && fake_log_contains("waiting") && fake_log_contains("for the test"));
    wait_queue_wake_one(&queue);
    task_yield();
    CHECK(strcmp(trail, "abcA") == 0);
    wait_queue_wake_all(&queue);
    wait_queue_wake_all(&queue);
    task_yield();
    CHECK(strcmp(trail, "abcABC") == 0);
    fake_log_clear();
    task_dump();
    CHECK(!fake_log_contains("two") && fake_log_contains("main"));
}

static void set_flag_later(void *arg)
{
    task_sleep_us((uint64_t)(uintptr_t)arg);
    flag = true;
    wait_queue_wake_all(&queue);
}

TEST(waits_end_by_condition_or_limit)
{
    fake_arch_boot(16 * MIB);
    wait_queue_init(&queue);
    CHECK(task_spawn("setter", set_flag_later, ARG(5000), 0));
    uint64_t start = rt_now_us();
    CHECK(!WAIT_UNTIL(&queue, flag, 3000, "the flag"));
    CHECK(rt_now_us() - start >= 3000 && rt_now_us() - start < 3100);
    CHECK(WAIT_UNTIL(&queue, flag, 3000, "the flag"));
    CHECK(rt_now_us() - start < 5200);
    CHECK(list_empty(&queue.waiters));
    CHECK(WAIT_UNTIL(&queue, flag, RT_FOREVER, "the flag"));
    CHECK(!WAIT_UNTIL(&queue, !flag, 0, "the flag"));
}

/* A wake and the limit in the same turn of the loop: one of them counts, once. */
static struct rt_timer waker;
static void wake_queue(void *arg)
{
    (void)arg;
    wait_queue_wake_all(&queue);
}

TEST(wake_and_limit_at_the_same_time)
{
    fake_arch_boot(16 * MIB);
    wait_queue_init(&queue);
    timer_init(&waker, wake_queue, NULL);
    for (unsigned i = 0; i < 20; i++) {
        uint64_t at = rt_now_100ns() + 5000;
        timer_arm_100ns(&waker, at + i % 3 - 1);
        bool woken = wait_queue_sleep(&queue, at, "either");
        CHECK(woken || i % 3 != 0);
        task_sleep_us(1000);
        CHECK(list_empty(&queue.waiters) && !waker.armed);
    }
}

static unsigned ran;
static void short_life(void *arg)
{
    (void)arg;
    ran++;
    if (rnd(2))
        task_yield();
    if (rnd(3) == 0)
        task_exit();
}

TEST(tasks_end_and_their_memory_comes_back)
{
    fake_arch_boot(32 * MIB);
    struct mm_stats before, after;
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < 500; i++) {
            CHECK(task_spawn("mayfly", short_life, NULL, i % 5 ? 0 : 32768));
            if (rnd(10) == 0)
                task_yield();
        }
        while (ran < 500 * (round + 1))
            task_yield();
        task_sleep_us(1000);
        mm_get_stats(round == 0 ? &before : &after);
    }
    /* After the first round the cache of stacks is full; nothing more is kept. */
    CHECK_EQ(after.free_pages + after.table_pages, before.free_pages + before.table_pages);
    CHECK_EQ(after.heap_bytes, before.heap_bytes);
    CHECK_EQ(after.vmap_bytes, before.vmap_bytes);
}

TEST(each_failure_of_spawn_leaves_nothing)
{
    fake_arch_boot(32 * MIB);
    struct mm_stats before, after;
    mm_get_stats(&before);
    for (uint64_t n = 1;; n++) {
        mm_fail_nth(n);
        struct task *t = task_spawn("maybe", short_life, NULL, 0);
        mm_fail_nth(0);
        if (t)
            break;
        mm_get_stats(&after);
        CHECK(after.free_pages == before.free_pages && after.heap_bytes == before.heap_bytes &&
              after.vmap_bytes == before.vmap_bytes);
        CHECK(n < 50);
    }
    task_yield();
    task_yield();
    CHECK_EQ(ran, 1);
}

/* Waking the task that runs the loop needs no switch. */
TEST(waking_oneself_costs_no_switch)
{
    fake_arch_boot(16 * MIB);
    uint64_t switches = fake_switch_count;
    for (unsigned i = 0; i < 100; i++)
        task_sleep_us(100);
    CHECK_EQ(fake_switch_count, switches);
}

static bool deeper = true;
static void overflow(void *arg)
{
    volatile char frame[512];
    frame[0] = (char)(uintptr_t)arg;
    if (deeper)
        overflow((void *)&frame[0]);
    frame[1] = 1;
}
static void spawn_overflow(void *arg)
{
    (void)arg;
    task_spawn("deep", overflow, NULL, 0);
    task_yield();
}
static void panic_at_guard(void *arg)
{
    struct task *t = arg;
    panic_at(0, 0, 0, va_of(t->stack).v - 8, "page fault");
}

TEST(stack_overflow_is_caught_and_named)
{
    fake_arch_boot(16 * MIB);
    wait_queue_init(&queue);
    CHECK(fake_run_child(spawn_overflow, NULL) >= FAKE_FAILED);
    struct task *t = task_spawn("culprit", waiter, ARG('a'), 0);
    CHECK(task_of_stack(va(va_of(t->stack).v - 8)) == t);
    CHECK(task_of_stack(va_of(t->stack)) == t);
    CHECK(mm_is_guard(va(va_of(t->stack).v - 8)));
    CHECK(!task_of_stack(va_of(&t)));
    task_dump_on_panic();
    task_dump_on_panic();
    CHECK_PANICS(panic_at_guard, t);
}

static void block_in_event(void *arg)
{
    (void)arg;
    CHECK(!task_can_block());
    task_sleep_us(1);
}
static void raise_blocker(void *arg)
{
    static struct rt_event bad = RT_EVENT_INIT(block_in_event, NULL);
    (void)arg;
    event_raise(&bad);
    task_yield();
}
static void idle_for_ever(void *arg)
{
    (void)arg;
    wait_queue_sleep(&queue, RT_FOREVER, "nothing");
}

TEST(misuse_panics)
{
    fake_arch_boot(16 * MIB);
    wait_queue_init(&queue);
    CHECK(task_can_block());
    CHECK_PANICS(raise_blocker, NULL);
    CHECK_PANICS(idle_for_ever, NULL);
}

/* ---- random numbers ---- */

/* RFC 8439, section 2.3.2. */
TEST(chacha20_test_vector)
{
    uint32_t key[8], out[16];
    const uint32_t nonce[3] = {0x09000000, 0x4a000000, 0};
    static const uint32_t expected[16] = {
        0xe4e7f110, 0x15593bd1, 0x1fdd0f50, 0xc47120a3, 0xc7f4d1c7, 0x0368c033, 0x9aaa2204, 0x4e6cd4c3,
        0x466482d2, 0x09aa9f07, 0x05d7c214, 0xa2028bd9, 0xd19c12b5, 0xb94e16de, 0xe883d0cb, 0x4e3c50a2,
    };
    for (unsigned i = 0; i < 8; i++)
        key[i] = 0x03020100 + i * 0x04040404;
    chacha20_block(key, 1, nonce, out);
    CHECK(memcmp(out, expected, sizeof(out)) == 0);
}

TEST(random_numbers_need_a_source)
{
    uint8_t buf[100];
    fake_arch_boot(16 * MIB);
    fake_random_available = false;
    CHECK(!rt_random_ready() && !rt_random(buf, sizeof(buf)));
    rt_random_seed("short", 5, "a test");
    CHECK(!rt_random_ready());
    rt_random_seed("0123456789abcdef0123456789abcdef!", 33, "a test");
    CHECK(rt_random_ready() && rt_random(buf, sizeof(buf)));
    CHECK(fake_log_contains("seeded from a test, 33 bytes"));
}

TEST(random_numbers_look_random)
{
    static uint8_t buf[65536];
    unsigned counts[256] = {0}, ones = 0;
    fake_arch_boot(16 * MIB);
    CHECK(rt_random(buf, sizeof(buf)));
    for (unsigned i = 0; i < sizeof(buf); i++) {
        counts[buf[i]]++;
        ones += (unsigned)__builtin_popcount(buf[i]);
    }
    for (unsigned i = 0; i < 256; i++)
        CHECK(counts[i] > 160 && counts[i] < 360);
    CHECK(ones > 260000 && ones < 264300);
    /* Every length is filled exactly, and no request repeats another. */
    uint8_t seen[200][16];
    for (unsigned n = 0; n < 200; n++) {
        uint8_t small[201];
        memset(small, 0, sizeof(small));
        CHECK(rt_random(small, n));
        CHECK(small[n] == 0);
        CHECK(rt_random(seen[n], 16));
        for (unsigned i = 0; i < n; i++)
            CHECK(memcmp(seen[i], seen[n], 16) != 0);
    }
}

/* ---- configuration ---- */

TEST(config_words)
{
    fake_arch_boot(16 * MIB);
    config_parse("  a=1 b=0x10\tlog.level=debug # the rest=ignored c=2\nd=64K e=\"two words\" f= a=3 nonsense =x "
                 "bad!=1 g=\"open\nh=5");
    CHECK_EQ(config_number("a", 9, 0, 100), 3);
    CHECK_EQ(config_number("b", 9, 0, 100), 16);
    CHECK_EQ(config_number("c", 9, 0, 100), 9);
    CHECK_EQ(config_number("d", 0, 0, UINT64_MAX), 65536);
    CHECK(strcmp(config_string("e", ""), "two words") == 0);
    CHECK(strcmp(config_string("f", "x"), "") == 0);
    CHECK(config_string("missing", NULL) == NULL);
    CHECK(fake_log_contains("\"nonsense\" is not of the form key=value"));
    CHECK(fake_log_contains("\"=x\" is not") && fake_log_contains("\"bad!=1\" is not"));
    CHECK(fake_log_contains("lacks its closing quote"));
    config_report_unknown();
    CHECK(fake_log_contains("\"log.level\" is an unknown setting, ignored"));
    CHECK(!fake_log_contains("\"a\" is"));
}

static void parse_nonsense(void *text)
{
    config_parse(text);
    config_report_unknown();
    if (fake_log_contains("\x1b"))
        panic("a control character reached the log");
}

/* Whatever bytes, up to the limit; each line to a configuration of its own. */
TEST(config_of_nonsense)
{
    static const char marks[] = "= \"#a\n=\"";
    static const char *const whole[] = {"x", "=", "\"", "a=\"", "\x1b[2J ", "a=\x1b", "k ", "=\"\" "};
    static char text[4096];
    unsigned noise = 1;
    fake_arch_boot(16 * MIB);
    for (unsigned round = 0; round < 60; round++) {
        for (size_t i = 0; i < sizeof text - 1; i++) {
            noise = noise * 1103515245 + 12345;
            text[i] = round % 3 == 0 ? marks[noise >> 16 & 7] : (char)MAX(noise >> 16 & 0xff, 1u);
        }
        CHECK_EQ(fake_run_child(parse_nonsense, text), FAKE_RETURNED);
    }
    for (size_t w = 0; w < ARRAY_SIZE(whole); w++) {
        for (size_t i = 0; i < sizeof text - 1; i++)
            text[i] = whole[w][i % strlen(whole[w])];
        CHECK_EQ(fake_run_child(parse_nonsense, text), FAKE_RETURNED);
    }
}

TEST(config_bytes_are_shown_harmlessly)
{
    static char text[4096];
    fake_arch_boot(16 * MIB);
    memset(text, 'x', 1000);
    config_parse(text);
    CHECK(fake_log_contains("xxx...\" is not of the form key=value, ignored"));
    config_parse("\x1b[2Jhidden b\xffn\x01=1 \x1b=2");
    CHECK(fake_log_contains("\"?[2Jhidden\" is not of the form") && fake_log_contains("\"b?n?=1\" is not"));
    for (unsigned i = 0; i < 1000; i++)
        text[2 * i] = 'y', text[2 * i + 1] = ' ';
    config_parse(text);
    config_report_unknown();
    CHECK(fake_log_contains("988 more words ignored"));
}

TEST(config_values_out_of_range_fall_back)
{
    fake_arch_boot(16 * MIB);
    config_parse("a=7 b=-1 c=99999999999999999999 d=12x e=0x f=16G g=18014398509481984K h=yes i=maybe j=0 k=off "
                 "l=TRUE");
    CHECK_EQ(config_number("a", 3, 0, 5), 3);
    CHECK(fake_log_contains("a=7 is not in 0..5, using 3"));
    CHECK_EQ(config_number("b", 4, 0, 5), 4);
    CHECK(fake_log_contains("b=-1 is not a number, using 4"));
    CHECK_EQ(config_number("c", 4, 0, UINT64_MAX), 4);
    CHECK_EQ(config_number("d", 4, 0, UINT64_MAX), 4);
    CHECK_EQ(config_number("e", 4, 0, UINT64_MAX), 4);
    CHECK_EQ(config_number("f", 4, 0, UINT64_MAX), 16ull << 30);
    CHECK_EQ(config_number("g", 4, 0, UINT64_MAX), 4);
    CHECK(config_bool("h", false) && config_bool("i", true) && !config_bool("i", false));
    CHECK(!config_bool("j", true) && !config_bool("k", true) && config_bool("m", true) && !config_bool("l", false));
}

TEST(config_longer_than_its_room_is_cut_at_a_word)
{
    static char text[6000];
    fake_arch_boot(16 * MIB);
    for (unsigned i = 0; i < 500; i++)
        sprintf(text + i * 11, "k%04u=%04u ", i, i);
    config_parse(text);
    CHECK(fake_log_contains("longer than 4095 bytes"));
    unsigned found = 0;
    for (unsigned i = 0; i < 500; i++) {
        char key[8];
        sprintf(key, "k%04u", i);
        const char *v = config_string(key, NULL);
        CHECK(!v || (unsigned)atoi(v) == i);
        found += v != NULL;
    }
    CHECK_EQ(found, 128);      /* the table's own limit */
    config_parse("late=1");
}

/* ---- the machine ---- */

TEST(early_phases_get_their_time)
{
    const struct boot_phase *p;
    fake_arch_reset(16 * MIB);
    unsigned entries;
    const struct mm_region *map = fake_memory_map(&entries);
    uint64_t at_entry = arch_counter();
    fake_now_100ns += 20000;
    boot_phases_begin(at_entry);       /* counted from there, however late it is told */
    fake_now_100ns += 10000;
    boot_phase_mark("memory");
    mm_init(map, entries);
    rt_init();
    rt_set_clock(&fake_clock);
    boot_phase_mark("time");
    fake_now_100ns += 50000;
    boot_phase_mark("bus");
    CHECK_EQ(boot_phases(&p), 4);
    CHECK(strcmp(p[1].name, "memory") == 0);
    CHECK(p[0].at_100ns > 0 && p[0].at_100ns < p[1].at_100ns && p[1].at_100ns <= p[2].at_100ns);
    CHECK(p[1].at_100ns - p[0].at_100ns > 29000 && p[1].at_100ns - p[0].at_100ns < 31000);
}

TEST(metrics_tell_memory)
{
    bool found = false;
    fake_arch_boot(16 * MIB);
    for (const struct metric *m = metric_first(); m; m = m->next) {
        CHECK(m->name && m->help && m->read);
        if (strcmp(m->name, "candela_memory_ram_pages") == 0)
            found = m->read(m->arg) == 16 * 256;
    }
    CHECK(found);
}

static void hook(void *arg)
{
    task_sleep_us(10);
    mark((char)(uintptr_t)arg);
    if (strcmp(trail, "321") == 0)
        fprintf(stderr, "hooks ran newest first\n");
}

static void shut_down(void *arg)
{
    static struct shutdown_hook hooks[3];
    (void)arg;
    for (unsigned i = 0; i < 3; i++) {
        hooks[i] = (struct shutdown_hook){hook, ARG('1' + i), NULL};
        shutdown_add_hook(&hooks[i]);
    }
    machine_shutdown(0);
}

TEST(shutdown_runs_hooks_and_powers_off)
{
    fake_arch_boot(16 * MIB);
    CHECK_EQ(fake_run_child(shut_down, NULL), FAKE_POWERED_OFF);
    CHECK(candela_version()[0] && strcmp(candela_loader(), "unknown") == 0);
    candela_set_loader("PVH");
    CHECK(strcmp(candela_loader(), "PVH") == 0);
}

TEST_MAIN()
