/* SPDX-License-Identifier: BSD-2-Clause */
/* The integration components against the model of the host: versions, shutdown, heartbeat, time, keys. */
#include "tests/unit/ic_machine.h"

/* ---- versions ---- */

struct pair { enum host_ic_kind which; struct host_version framework, message; };

static void live_with_versions(void *arg)
{
    const struct pair *p = arg;
    struct host_ic_state state;

    defaults();
    ic_cfg.framework = (struct host_versions){1, {p->framework}};
    ic_cfg.messages[p->which] = (struct host_versions){1, {p->message}};
    start();
    CHECK(RUN_UNTIL(all_negotiated(), 5));
    state = state_of(p->which);
    CHECK(state.negotiated && !state.refused);
    CHECK(state.framework.major == p->framework.major && state.framework.minor == p->framework.minor);
    CHECK(state.message.major == p->message.major && state.message.minor == p->message.minor);
    if (p->which == HOST_IC_KVP) {
        CHECK_EQ(kvp_status(host_kvp_set(host, "a", "b")), IC_STATUS_OK);
    } else if (p->which == HOST_IC_TIMESYNC) {
        CHECK(wall_wait(10000000));
    } else if (p->which == HOST_IC_HEARTBEAT) {
        CHECK(RUN_UNTIL(state_of(HOST_IC_HEARTBEAT).answers > 2, 20));
    } else {
        CHECK(host_ic_shutdown(host, 0, 0, 0, ""));
        CHECK(RUN_UNTIL(shutdown_requested() == SHUTDOWN_POWER_OFF, 2));
    }
    vmbus_disconnect(false);
    CHECK_EQ(shmem_stats.pages_leaked, 0);
}

TEST(every_pair_of_versions)
{
    static const struct host_version frameworks[] = {{1, 0}, {3, 0}};
    struct host_ic_config all;

    host_ic_config_default(&all);
    for (unsigned which = 0; which < HOST_IC_VSS; which++) {
        for (unsigned f = 0; f < ARRAY_SIZE(frameworks); f++) {
            for (unsigned m = 0; m < all.messages[which].count; m++) {
                struct pair p = {which, frameworks[f], all.messages[which].list[m]};
                int end = in_child(live_with_versions, &p);
                if (end != FAKE_RETURNED)
                    test_fail(__FILE__, __LINE__, "%s: framework %u.%u, messages %u.%u end with %d",
                              host_ic_name(which), p.framework.major, p.framework.minor, p.message.major,
                              p.message.minor, end);
            }
        }
    }
}

TEST(the_newest_in_common_is_chosen)
{
    defaults();
    ic_cfg.messages[HOST_IC_SHUTDOWN] = (struct host_versions){4, {{3, 1}, {9, 0}, {1, 0}, {3, 0}}};
    ic_cfg.messages[HOST_IC_KVP] = (struct host_versions){3, {{1, 0}, {4, 0}, {4, 1}}};
    start();
    CHECK(RUN_UNTIL(all_negotiated(), 5));
    CHECK(state_of(HOST_IC_SHUTDOWN).message.major == 3 && state_of(HOST_IC_SHUTDOWN).message.minor == 1);
    CHECK(state_of(HOST_IC_KVP).message.major == 4 && state_of(HOST_IC_KVP).message.minor == 0);
    CHECK_EQ(state_of(HOST_IC_HEARTBEAT).message.major, 3);
    CHECK_EQ(state_of(HOST_IC_TIMESYNC).message.major, 4);
    CHECK_EQ(state_of(HOST_IC_TIMESYNC).framework.major, 3);
}

TEST(nothing_in_common)
{
    defaults();
    ic_cfg.framework = (struct host_versions){2, {{2, 0}, {4, 0}}};
    start();
    CHECK(RUN_UNTIL(all_negotiated(), 5));
    for (unsigned i = 0; i < HOST_IC_VSS; i++)
        CHECK(state_of(i).refused && !state_of(i).negotiated);
    CHECK(fake_log_contains("no version in common"));
    vmbus_disconnect(false);
}

TEST(negotiated_again_at_any_time)
{
    defaults();
    start();
    CHECK(RUN_UNTIL(all_negotiated(), 5));
    for (unsigned round = 1; round < 5; round++) {
        for (unsigned i = 0; i < HOST_IC_VSS; i++)
            CHECK(host_ic_renegotiate(host, i));
        hv_host_run();
        CHECK(RUN_UNTIL(all_negotiated() && state_of(HOST_IC_KVP).negotiations == round + 1, 5));
        CHECK_EQ(kvp_status(host_kvp_set(host, "round", "1")), IC_STATUS_OK);
    }
    CHECK_EQ(keys_count(KEYS_EXTERNAL), 1);
    CHECK_EQ(state_of(HOST_IC_SHUTDOWN).missed, 0);
}

TEST(transactions_that_are_all_zero)
{
    defaults();
    ic_cfg.numbered = ic_cfg.timesync_answered = false;
    ic_cfg.timesync_ms = 100;
    ic_cfg.heartbeat_ms = 100;
    start();
    CHECK(RUN_UNTIL(all_negotiated(), 5));
    CHECK_EQ(kvp_status(host_kvp_set(host, "a", "b")), IC_STATUS_OK);
    CHECK(RUN_UNTIL(state_of(HOST_IC_HEARTBEAT).answers > 50, 20));
    CHECK(wall_wait(0));
    CHECK_EQ(state_of(HOST_IC_HEARTBEAT).missed, 0);
}

/* ---- heartbeat ---- */

TEST(heartbeats_tell_how_the_application_is)
{
    defaults();
    start();
    CHECK(RUN_UNTIL(state_of(HOST_IC_HEARTBEAT).answers == 5, 20));
    CHECK_EQ(state_of(HOST_IC_HEARTBEAT).word, IC_APPLICATION_HEALTHY);
    CHECK_EQ(ic_counters.heartbeats, 5);
    application_set_healthy(false);
    CHECK(RUN_UNTIL(state_of(HOST_IC_HEARTBEAT).answers == 7, 20));
    CHECK_EQ(state_of(HOST_IC_HEARTBEAT).word, IC_APPLICATION_CRITICAL);
    application_set_healthy(true);
    CHECK(RUN_UNTIL(state_of(HOST_IC_HEARTBEAT).answers == 9, 20));
    CHECK_EQ(state_of(HOST_IC_HEARTBEAT).word, IC_APPLICATION_HEALTHY);
    CHECK_EQ(state_of(HOST_IC_HEARTBEAT).missed, 0);
}

/* ---- time ---- */

static int64_t behind_host_ns(void)
{
    uint64_t ours;

    if (!wall_now_ns(&ours))
        return INT64_MAX;
    return (int64_t)((host_ic_time(host) - IC_TIME_UNIX_EPOCH) * 100 - ours);
}

static bool near(int64_t value, int64_t wanted, int64_t tolerance)
{
    return value >= wanted - tolerance && value <= wanted + tolerance;
}

static void time_of_version(struct host_version version, int64_t tolerance_ns)
{
    char text[WALL_TEXT_BYTES];
    uint64_t last = 0, now;

    defaults();
    ic_cfg.messages[HOST_IC_TIMESYNC] = (struct host_versions){1, {version}};
    CHECK(!wall_now_ns(&now));
    CHECK(strcmp(wall_text(text, sizeof(text)), "unknown") == 0);
    CHECK(!wall_wait(1000));
    start();
    CHECK(wall_wait(5000000));
    CHECK(near(behind_host_ns(), 0, tolerance_ns));
    CHECK(strncmp(wall_text(text, sizeof(text)), "2025-11-20 10:45:0", 18) == 0);
    CHECK(fake_log_contains("it is 2025-11-20 10:45:0"));
    /* A small difference is worked in without a step, and never backwards. */
    for (int sign = -1; sign <= 1; sign += 2) {
        host_ic_set_time(host, host_ic_time(host) + (uint64_t)(sign * 100 * 10000));       /* 100 ms */
        CHECK(near(behind_host_ns(), sign * 100000000ll, tolerance_ns + 1000000));
        for (unsigned i = 0; i < 300 * 4; i++) {
            task_sleep_us(250000);
            CHECK(wall_now_ns(&now) && now > last);
            last = now;
        }
        CHECK(near(behind_host_ns(), 0, tolerance_ns));
    }
    struct wall_stats stats;
    wall_get_stats(&stats);
    CHECK_EQ(stats.steps, 0);
    CHECK_EQ(stats.ignored, 0);
    CHECK(stats.samples > 100 && strcmp(stats.source, "host") == 0);
}

/* Version 4 tells when it looked at the clock; before, the message's way counts. */
TEST(time_in_version_4) { time_of_version((struct host_version){4, 0}, 1000); }
TEST(time_in_version_3) { time_of_version((struct host_version){3, 0}, 1000000); }
TEST(time_in_version_1) { time_of_version((struct host_version){1, 0}, 1000000); }

static int64_t watched_ns;
static unsigned watched_steps;

static void on_step(void *arg, int64_t step_ns)
{
    *(int *)arg = 1;
    watched_ns = step_ns;
    watched_steps++;
}

TEST(the_clock_is_set_back_and_forth)
{
    static int touched;
    static struct wall_watcher watcher = {.fn = on_step, .arg = &touched};
    static const int64_t jumps_s[] = {-3600, 7200, -86400 * 365, 86400 * 3650, -2};

    defaults();
    start();
    CHECK(wall_wait(5000000));
    wall_watch(&watcher);
    for (unsigned i = 0; i < ARRAY_SIZE(jumps_s); i++) {
        host_ic_set_time(host, host_ic_time(host) + (uint64_t)(jumps_s[i] * 10000000));
        CHECK(RUN_UNTIL(host_ic_time_sync(host), 1));
        hv_host_run();
        CHECK(RUN_UNTIL(watched_steps == i + 1, 2));
        CHECK(near(behind_host_ns(), 0, 1000));
        CHECK(near(watched_ns, jumps_s[i] * 1000000000, 1000000));
    }
    struct wall_stats stats;
    wall_get_stats(&stats);
    CHECK_EQ(stats.steps, ARRAY_SIZE(jumps_s));
    CHECK_EQ(stats.backward_steps, 3);
    CHECK(touched && fake_log_contains("set back by 3600.") && fake_log_contains("set forward by 7200."));
}

TEST(samples_that_are_far_off_must_agree)
{
    struct wall_stats stats;

    defaults();
    start();
    CHECK(wall_wait(5000000));
    host_ic_set_time(host, host_ic_time(host) + 60 * 10000000ull);
    CHECK(RUN_UNTIL(state_of(HOST_IC_TIMESYNC).answers == 2, 20));
    wall_get_stats(&stats);
    CHECK_EQ(stats.ignored, 1);
    CHECK(near(behind_host_ns(), 60000000000ll, 1000000));
    CHECK(RUN_UNTIL(state_of(HOST_IC_TIMESYNC).answers == 3, 20));
    wall_get_stats(&stats);
    CHECK_EQ(stats.steps, 1);
    CHECK(near(behind_host_ns(), 0, 1000));
}

/* ---- shutdown ---- */

static unsigned trail;

static void note_hook(void *arg) { trail = trail * 10 + (unsigned)(uintptr_t)arg; }

static void leave(void *arg UNUSED)
{
    trail = trail * 10 + 9;
    vmbus_disconnect(false);
    fprintf(stderr, "hooks %u, answers %llu\n", trail, (unsigned long long)state_of(HOST_IC_SHUTDOWN).answers);
    if (trail != 219)
        _exit(FAKE_FAILED);
}

static void machine_up(void)
{
    static struct shutdown_hook hooks[3];

    defaults();
    hooks[0] = (struct shutdown_hook){leave, NULL, NULL};
    hooks[1] = (struct shutdown_hook){note_hook, (void *)1, NULL};
    hooks[2] = (struct shutdown_hook){note_hook, (void *)2, NULL};
    for (unsigned i = 0; i < ARRAY_SIZE(hooks); i++)
        shutdown_add_hook(&hooks[i]);
    start();
    RUN_UNTIL(all_negotiated(), 5);
}

struct order { uint32_t flags; bool looks, returns; uint32_t second; };

static void application(void *arg)
{
    const struct order *o = arg;

    if (!o->looks)
        return;
    if (!shutdown_wait(RT_FOREVER))
        _exit(FAKE_FAILED);
    task_sleep_us(100000);
    if (o->returns)
        machine_shutdown(0);
    task_sleep_us(3600ull * 1000000);
    _exit(FAKE_FAILED);
}

static void attend(void *arg UNUSED) { machine_attend(); }

static void live_to_the_end(void *arg)
{
    const struct order *o = arg;

    machine_up();
    task_spawn("app", application, arg, 0);
    task_spawn("attend", attend, NULL, 0);
    task_sleep_us(1000);
    if (!host_ic_shutdown(host, o->flags, IC_SHUTDOWN_PLANNED | 4, 60, "going \x1b[2J down"))
        _exit(FAKE_FAILED);
    hv_host_run();
    if (o->second) {
        RUN_UNTIL(!state_of(HOST_IC_SHUTDOWN).waiting && shutdown_requested(), 1);
        uint64_t answers = state_of(HOST_IC_SHUTDOWN).answers;
        host_ic_shutdown(host, o->second & 0xFF, 0, 60, "");
        hv_host_run();
        RUN_UNTIL(state_of(HOST_IC_SHUTDOWN).answers > answers, 1);
        bool granted = state_of(HOST_IC_SHUTDOWN).status == IC_STATUS_OK;
        if (granted != !(o->second & 0x100))
            _exit(FAKE_FAILED);
    }
    task_sleep_us(20 * 1000000);
    fprintf(stderr, "still here\n");
    _exit(o->flags > 3 && state_of(HOST_IC_SHUTDOWN).status == IC_STATUS_FAIL &&
          fake_log_contains(o->flags & 4 ? "hibernation" : "something unknown") ? 42 : FAKE_FAILED);
}

#define REFUSED 0x100u

TEST(off_and_restart_in_order)
{
    /* flags; looks, returns; a second request and whether it is refused */
    static const struct { struct order order; int end; } cases[] = {
        {{0, false, false, 0}, FAKE_POWERED_OFF}, {{1, false, false, 0}, FAKE_POWERED_OFF},
        {{2, false, false, 0}, FAKE_REBOOTED},    {{3, false, false, 0}, FAKE_REBOOTED},
        {{0, true, true, 0}, FAKE_POWERED_OFF},   {{2, true, true, 0}, FAKE_REBOOTED},
        {{0, true, false, 0}, FAKE_POWERED_OFF},  {{3, true, false, 0}, FAKE_REBOOTED},
        {{4, false, false, 0}, 42},               {{5, true, true, 0}, 42},
        {{8, false, false, 0}, 42},
        {{0, true, false, 1}, FAKE_POWERED_OFF},  {{2, true, false, 2}, FAKE_REBOOTED},
        {{0, true, false, 2 | REFUSED}, FAKE_POWERED_OFF}, {{2, true, true, 1 | REFUSED}, FAKE_REBOOTED},
        {{0, true, false, 4 | REFUSED}, FAKE_POWERED_OFF},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        struct order o = cases[i].order;
        int end = in_child(live_to_the_end, &o);
        if (end != cases[i].end)
            test_fail(__FILE__, __LINE__, "case %u, flags %u: end %d, expected %d", i, o.flags, end, cases[i].end);
    }
}

TEST(the_text_is_shown_without_what_a_terminal_obeys)
{
    machine_up();
    CHECK(host_ic_shutdown(host, 1, IC_SHUTDOWN_PLANNED | 4, 60, "going \x1b[2J down"));
    hv_host_run();
    CHECK(RUN_UNTIL(shutdown_requested(), 1));
    CHECK(fake_log_contains("the host asks for a shutdown, forced (reason 0x80000004): going ?[2J down\n"));
}

static void hang(void *arg UNUSED) { task_sleep_us(3600ull * 1000000); }

static void live_with_hanging_hook(void *arg UNUSED)
{
    static struct shutdown_hook hook = {.fn = hang};

    defaults();
    shutdown_add_hook(&hook);
    machine_restart(1);
}

TEST(a_hook_that_hangs_does_not_hold_the_machine)
{
    CHECK_EQ(in_child(live_with_hanging_hook, NULL), FAKE_REBOOTED);
}

/* ---- keys ---- */

static const char *const auto_names[] = {
    "FullyQualifiedDomainName", "IntegrationServicesVersion", "NetworkAddressIPv4", "NetworkAddressIPv6",
    "OSBuildNumber", "OSName", "OSMajorVersion", "OSMinorVersion", "OSVersion", "ProcessorArchitecture",
};

static struct host_kvp_result results[600];

/* All items of an enumeration or of a question about an adapter; -1: it did not end well. */
static int collect(uint32_t transaction)
{
    uint64_t end = rt_now_100ns() + S_100NS(30);
    unsigned n = 0;

    hv_host_run();
    while (rt_now_100ns() < end && n < ARRAY_SIZE(results)) {
        if (!host_kvp_result(host, &results[n])) {
            task_sleep_us(1000);
            continue;
        }
        if (results[n].last) {
            bool ok = results[n].status == (results[n].operation == IC_KVP_ENUMERATE ? IC_STATUS_NO_MORE_ITEMS : 0);
            return results[n].transaction == transaction && ok ? (int)n : -1;
        }
        n++;
    }
    return -1;
}

TEST(the_machine_tells_of_itself)
{
    static const char *const values[] = {
        "candle.example", NULL, "10.0.2.15", "FE80::5;2001::9", NULL, "Candela", NULL, NULL, NULL, ARCH_NAME,
    };
    struct host_kvp_result r;

    defaults();
    start();
    CHECK(RUN_UNTIL(all_negotiated(), 5));
    CHECK_EQ(collect(host_kvp_enumerate(host, IC_KVP_POOL_AUTO)), IC_KVP_AUTO_COUNT);
    CHECK(!results[0].value[0] && !results[2].value[0] && !results[3].value[0]);    /* there is no network */
    machine_set_network(describe);
    CHECK_EQ(collect(host_kvp_enumerate(host, IC_KVP_POOL_AUTO)), IC_KVP_AUTO_COUNT);
    for (unsigned i = 0; i < IC_KVP_AUTO_COUNT; i++) {
        CHECK(strcmp(results[i].key, auto_names[i]) == 0 && results[i].type == IC_KVP_TYPE_STRING);
        CHECK(values[i] ? strcmp(results[i].value, values[i]) == 0 : results[i].value[0] != '\0');
    }
    /* 0.1.0-g1234567: the build is all of it, the version its numbers */
    CHECK(strcmp(results[IC_KVP_AUTO_OS_BUILD].value, candela_version()) == 0);
    size_t n = strlen(results[IC_KVP_AUTO_OS_VERSION].value);
    CHECK(strncmp(results[IC_KVP_AUTO_OS_VERSION].value, candela_version(), n) == 0 && candela_version()[n] == '-');
    char version[32];
    ksnprintf(version, sizeof(version), "%s.%s.", results[IC_KVP_AUTO_OS_MAJOR].value,
             results[IC_KVP_AUTO_OS_MINOR].value);
    CHECK(strncmp(version, candela_version(), strlen(version)) == 0);
    for (unsigned i = 0; i < IC_KVP_AUTO_COUNT; i++) {
        uint32_t transaction = host_kvp_get(host, IC_KVP_POOL_AUTO, auto_names[i]);
        char wanted[96];
        ksnprintf(wanted, sizeof(wanted), "%s", results[i].value);
        CHECK_EQ(collect(transaction), 1);
        CHECK(strcmp(results[0].value, wanted) == 0);
        CHECK_EQ(collect(host_kvp_enumerate(host, IC_KVP_POOL_AUTO)), IC_KVP_AUTO_COUNT);
    }
    CHECK(kvp_wait(host_kvp_get(host, IC_KVP_POOL_AUTO, "OSColour"), &r) && r.status == IC_STATUS_NO_MORE_ITEMS);
}

static char changed_key[KEYS_NAME_BYTES], changed_value[KEYS_VALUE_BYTES];
static unsigned changes;

static void on_change(void *arg UNUSED, const char *key, const char *value)
{
    ksnprintf(changed_key, sizeof(changed_key), "%s", key);
    ksnprintf(changed_value, sizeof(changed_value), "%s", value ? value : "(deleted)");
    changes++;
}

TEST(keys_both_ways)
{
    static struct host_key_watcher watcher = {.fn = on_change};
    char value[64];
    struct host_key key;

    defaults();
    start();
    CHECK(RUN_UNTIL(all_negotiated(), 5));
    host_key_watch(&watcher);
    CHECK(!host_key_get("colour", value, sizeof(value)) && host_key_count() == 0 && !host_key_at(0, &key));
    CHECK_EQ(kvp_status(host_kvp_set(host, "colour", "grün \xF0\x9F\x95\xAF")), IC_STATUS_OK);
    CHECK(host_key_get("colour", value, sizeof(value)) && strcmp(value, "grün \xF0\x9F\x95\xAF") == 0);
    CHECK(changes == 1 && strcmp(changed_key, "colour") == 0 && strcmp(changed_value, value) == 0);
    CHECK_EQ(kvp_status(host_kvp_set(host, "size", "7")), IC_STATUS_OK);
    CHECK_EQ(kvp_status(host_kvp_set(host, "colour", "red")), IC_STATUS_OK);         /* keeps its place */
    CHECK(host_key_count() == 2 && host_key_at(0, &key) && strcmp(key.key, "colour") == 0 &&
          strcmp(key.value, "red") == 0 && host_key_at(1, &key) && strcmp(key.key, "size") == 0);
    CHECK_EQ(collect(host_kvp_enumerate(host, IC_KVP_POOL_EXTERNAL)), 2);
    CHECK(strcmp(results[0].key, "colour") == 0 && strcmp(results[1].value, "7") == 0);
    CHECK_EQ(collect(host_kvp_get(host, IC_KVP_POOL_EXTERNAL, "size")), 1);
    CHECK(strcmp(results[0].value, "7") == 0);
    CHECK_EQ(kvp_status(host_kvp_get(host, IC_KVP_POOL_EXTERNAL, "colours")), IC_STATUS_NO_MORE_ITEMS);
    CHECK_EQ(kvp_status(host_kvp_delete(host, "colour")), IC_STATUS_OK);
    CHECK(changes == 4 && strcmp(changed_value, "(deleted)") == 0 && strcmp(changed_key, "colour") == 0);
    CHECK_EQ(kvp_status(host_kvp_delete(host, "colour")), IC_STATUS_NO_MORE_ITEMS);
    CHECK(!host_key_get("colour", value, sizeof(value)) && host_key_count() == 1);
    /* The other way. */
    CHECK_EQ(guest_key_set("serving", "nbd://10.0.2.15"), 0);
    CHECK_EQ(guest_key_set("load", "1"), 0);
    CHECK_EQ(collect(host_kvp_enumerate(host, IC_KVP_POOL_GUEST)), 2);
    CHECK(strcmp(results[0].key, "serving") == 0 && strcmp(results[0].value, "nbd://10.0.2.15") == 0);
    CHECK_EQ(guest_key_set("serving", NULL), 0);
    CHECK_EQ(collect(host_kvp_enumerate(host, IC_KVP_POOL_GUEST)), 1);
    CHECK_EQ(collect(host_kvp_enumerate(host, IC_KVP_POOL_AUTO_INTERNAL)), 0);
    CHECK(changes == 4 && host_key_count() == 1);
}

TEST(keys_up_to_the_limits)
{
    static char long_key[256], long_value[1024];
    struct mm_stats before, after;
    char name[32];

    defaults();
    start();
    CHECK(RUN_UNTIL(all_negotiated(), 5));
    mm_get_stats(&before);
    memset(long_key, 'k', 255);
    memset(long_value, 'v', 1023);
    CHECK_EQ(kvp_status(host_kvp_set(host, long_key, long_value)), IC_STATUS_OK);
    CHECK_EQ(collect(host_kvp_get(host, IC_KVP_POOL_EXTERNAL, long_key)), 1);
    CHECK(strcmp(results[0].value, long_value) == 0);
    CHECK_EQ(collect(host_kvp_enumerate(host, IC_KVP_POOL_EXTERNAL)), 1);
    CHECK(strcmp(results[0].key, long_key) == 0);
    /* Bytes run out first ... */
    unsigned n = 1;
    for (;; n++) {
        ksnprintf(name, sizeof(name), "key-%u", n);
        uint32_t status = kvp_status(host_kvp_set(host, name, long_value));
        if (status == IC_STATUS_DISK_FULL)
            break;
        CHECK_EQ(status, IC_STATUS_OK);
    }
    CHECK(n > 50 && n < KEYS_MAX && host_key_count() == n && fake_log_contains("more keys than are kept"));
    CHECK_EQ(kvp_status(host_kvp_set(host, long_key, "short")), IC_STATUS_OK);      /* replacing by less still works */
    while (n-- > 1) {
        ksnprintf(name, sizeof(name), "key-%u", n);
        CHECK_EQ(kvp_status(host_kvp_delete(host, name)), IC_STATUS_OK);
    }
    /* ... and with short ones their number. */
    for (n = 1;; n++) {
        ksnprintf(name, sizeof(name), "key-%u", n);
        uint32_t status = kvp_status(host_kvp_set(host, name, ""));
        if (status == IC_STATUS_DISK_FULL)
            break;
        CHECK_EQ(status, IC_STATUS_OK);
    }
    CHECK_EQ(n, KEYS_MAX);
    CHECK_EQ(guest_key_set("one", "more"), -E_NOSPC);
    CHECK_EQ(collect(host_kvp_enumerate(host, IC_KVP_POOL_EXTERNAL)), KEYS_MAX);
    while (n-- > 1) {
        ksnprintf(name, sizeof(name), "key-%u", n);
        CHECK_EQ(kvp_status(host_kvp_delete(host, name)), IC_STATUS_OK);
    }
    CHECK_EQ(kvp_status(host_kvp_delete(host, long_key)), IC_STATUS_OK);
    mm_get_stats(&after);
    CHECK_EQ(after.heap_bytes, before.heap_bytes);
}

static bool item(int count, const char *key, const char *value)
{
    for (int i = 0; i < count; i++)
        if (strcmp(results[i].key, key) == 0)
            return strcmp(results[i].value, value) == 0;
    return false;
}

static void addresses_of_version(struct host_version version, const char *v6, const char *masks, const char *dns)
{
    char addresses[128];

    defaults();
    ic_cfg.messages[HOST_IC_KVP] = (struct host_versions){1, {version}};
    start();
    CHECK(RUN_UNTIL(all_negotiated(), 5));
    CHECK_EQ(kvp_status(host_kvp_get_ip(host, "00:15:5D:01:02:03")), IC_STATUS_GUID_NOT_FOUND);
    machine_set_network(describe);
    ksnprintf(addresses, sizeof(addresses), "10.0.2.15;%s", v6);
    static const char *const spellings[] = {"00:15:5D:01:02:03", "00-15-5d-01-02-03", "00155D010203"};
    for (unsigned i = 0; i < ARRAY_SIZE(spellings); i++) {
        int n = collect(host_kvp_get_ip(host, spellings[i]));
        CHECK_EQ(n, 6);
        CHECK(item(n, "family", "ipv4 ipv6") && item(n, "dhcp", "1"));
        CHECK(item(n, "addresses", addresses));
        CHECK(item(n, "subnets", masks));
        CHECK(item(n, "gateways", "10.0.2.2"));
        CHECK(item(n, "dns", dns));
    }
    static const char *const strangers[] = {
        "00:15:5D:01:02:04", "", "00:15:5D:01:02", "00:15:5D:01:02:03:04", "00:15:5D:01:02:0g", "\xE2\x82\xAC",
        "{f8615163-df3e-46c5-913f-f2d2f965ed0e}",
    };
    for (unsigned i = 0; i < ARRAY_SIZE(strangers); i++)
        CHECK_EQ(kvp_status(host_kvp_get_ip(host, strangers[i])), IC_STATUS_GUID_NOT_FOUND);
}

TEST(addresses_as_text)
{
    addresses_of_version((struct host_version){4, 0}, "FE80::5;2001::9", "255.255.240.0;/64;/64", "10.0.2.3;2001::1");
}

TEST(addresses_in_binary)
{
    addresses_of_version((struct host_version){5, 0}, "fe80:0:0:0:0:0:0:5;2001:0:0:0:0:0:0:9",
                         "255.255.240.0;ffff:ffff:ffff:ffff:0:0:0:0;ffff:ffff:ffff:ffff:0:0:0:0",
                         "10.0.2.3;2001:0:0:0:0:0:0:1");
}

static bool wire_tx(void *backend UNUSED, const struct host_frame *frame UNUSED) { return true; }

TEST(an_adapter_named_by_its_instance)
{
    static const struct host_net_ops wire = {.tx = wire_tx};
    struct host_nic_config nic;
    struct host_nic *ours, *other;
    char guid[HOST_GUID_TEXT], shout[HOST_GUID_TEXT];

    defaults();
    host_nic_config_default(&nic);
    host = hv_host_start(&host_cfg);
    memcpy(nic.mac, (uint8_t[]){0x00, 0x15, 0x5D, 0x01, 0x02, 0x03}, 6);
    ours = host_add_nic(host, &nic, &wire, NULL);
    nic.mac[5] = 4;
    other = host_add_nic(host, &nic, &wire, NULL);
    CHECK(host_add_ics(host, &ic_cfg));
    netvsc_register();
    CHECK_EQ(guest_up(), 0);
    machine_set_network(describe);
    CHECK(RUN_UNTIL(all_negotiated(), 5));
    host_nic_instance(ours, guid);
    CHECK_EQ(collect(host_kvp_get_ip(host, guid)), 6);
    for (unsigned i = 0; i < sizeof(shout); i++)
        shout[i] = guid[i] >= 'a' && guid[i] <= 'f' ? (char)(guid[i] - 32) : guid[i];
    CHECK_EQ(collect(host_kvp_get_ip(host, shout)), 6);
    host_nic_instance(other, guid);
    CHECK_EQ(kvp_status(host_kvp_get_ip(host, guid)), IC_STATUS_GUID_NOT_FOUND);
}

TEST_MAIN()
