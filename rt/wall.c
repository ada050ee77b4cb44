/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The wall clock: Unix time as the reference time plus an offset that the host's samples teach.
 *
 *   no sample yet    unknown: wall_now_ns says so, and nobody is told a time that nobody knows
 *   an order to set  the clock is stepped at once (the host sends one after boot, restore and resume)
 *   a plain sample   within WALL_STEP_NS: the difference is slewed away, half a millisecond a second, so that time
 *                    never runs backwards and intervals stay right to 0.05 %.
 *                    Beyond: the first such sample is only remembered, the second that agrees with it steps the clock.
 *                    A single one may have been delayed on its way: older hosts do not tell when they took it.
 *   firmware's time  used until the host tells one
 *
 * Samples older than WALL_STALE or from the future are ignored and counted. A step that was not the first is told to
 * the log and to the watchers, with its sign: a clock that was set back is the application's business.
 */
#define LOG_ROOM "time"
#include "rt/candela.h"
#include "rt/services.h"

#define NS_PER_S          1000000000ll
#define WALL_STEP_NS      (NS_PER_S / 2)
#define WALL_AGREE_NS     (NS_PER_S / 10)
#define WALL_QUIET_NS     (NS_PER_S / 1000)    /* an order to set that changes less than this is done by slewing */
#define WALL_SLEW_DIVISOR 2000
#define WALL_STALE        S_100NS(600)
#define WALL_FUTURE       MS_100NS(100)

static struct {
    const char *source;               /* NULL: unknown */
    uint64_t base_unix_ns, base_100ns;
    int64_t slew_ns;                  /* to be worked in from base_100ns on */
    bool suspected;
    int64_t suspect_ns;               /* the difference that one sample showed */
    int64_t last_offset_ns;
} wall;
static struct wall_stats stats;
static struct wall_watcher *watchers;
static struct wait_queue waiters = WAIT_QUEUE_INIT(waiters);

static uint64_t estimate_at(uint64_t at_100ns)
{
    int64_t elapsed_ns = (int64_t)(at_100ns - wall.base_100ns) * 100, most = elapsed_ns / WALL_SLEW_DIVISOR;
    int64_t slewed = wall.slew_ns >= 0 ? MIN(wall.slew_ns, most) : MAX(wall.slew_ns, -most);
    return wall.base_unix_ns + (uint64_t)(elapsed_ns + slewed);
}

bool wall_now_ns(uint64_t *unix_ns)
{
    if (!wall.source)
        return false;
    *unix_ns = estimate_at(rt_now_100ns());
    return true;
}

bool wall_wait(uint64_t limit_us)
{
    return WAIT_UNTIL(&waiters, wall.source != NULL, limit_us, "the time of day");
}

void wall_watch(struct wall_watcher *w)
{
    w->next = watchers;
    watchers = w;
}

void wall_get_stats(struct wall_stats *out)
{
    *out = stats;
    out->source = wall.source ? wall.source : "unknown";
    out->last_offset_ns = wall.last_offset_ns;
}

/* ---- text: the civil date of a day number, by eras of 400 years that begin on the first of March ---- */

const char *wall_text(char *text, size_t bytes)
{
    uint64_t unix_ns;
    if (!wall_now_ns(&unix_ns)) {
        ksnprintf(text, bytes, "unknown");
        return text;
    }
    uint64_t s = unix_ns / NS_PER_S, days = s / 86400 + 719468, era = days / 146097, day_of_era = days % 146097;
    uint64_t year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    uint64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    unsigned shifted = (unsigned)((5 * day_of_year + 2) / 153);         /* months from March */
    unsigned month = shifted < 10 ? shifted + 3 : shifted - 9;
    unsigned day = (unsigned)(day_of_year - (153 * shifted + 2) / 5 + 1);
    ksnprintf(text, bytes, "%04llu-%02u-%02u %02u:%02u:%02u UTC",
              (unsigned long long)(year_of_era + era * 400 + (month <= 2)), month, day, (unsigned)(s / 3600 % 24),
              (unsigned)(s / 60 % 60), (unsigned)(s % 60));
    return text;
}

/* ---- samples ---- */

static void rebase(uint64_t now_100ns, uint64_t unix_ns, int64_t slew_ns)
{
    wall.base_unix_ns = unix_ns;
    wall.base_100ns = now_100ns;
    wall.slew_ns = slew_ns;
    wall.suspected = false;
}

static void first(uint64_t now_100ns, uint64_t unix_ns, const char *source)
{
    char text[WALL_TEXT_BYTES];
    rebase(now_100ns, unix_ns, 0);
    wall.source = source;
    log_info("it is %s, says the %s", wall_text(text, sizeof text), source);
    wait_queue_wake_all(&waiters);
}

static void step(uint64_t now_100ns, uint64_t unix_ns, int64_t by_ns)
{
    static struct rt_log_budget lines;
    uint64_t ms = ((uint64_t)(by_ns < 0 ? -by_ns : by_ns) + 500000) / 1000000;
    char text[WALL_TEXT_BYTES];
    rebase(now_100ns, unix_ns, 0);
    stats.steps++;
    if (by_ns < 0)
        stats.backward_steps++;
    if (rt_may_log(&lines))         /* a host may set it to and fro */
        log_line(by_ns < 0 ? LOG_WARN : LOG_INFO, LOG_ROOM, "the clock is set %s by %llu.%03llu s to %s",
                 by_ns < 0 ? "back" : "forward", (unsigned long long)(ms / 1000), (unsigned long long)(ms % 1000),
                 wall_text(text, sizeof text));
    for (struct wall_watcher *w = watchers; w; w = w->next)
        w->fn(w->arg, by_ns);
}

int wall_sample(const struct wall_sample *s)
{
    uint64_t now = rt_now_100ns();
    int64_t age = (int64_t)(now - s->at_100ns);
    stats.samples++;
    if (age < -(int64_t)WALL_FUTURE || age > (int64_t)WALL_STALE) {
        stats.ignored++;
        return -E_RANGE;
    }
    uint64_t unix_ns = s->unix_ns + (uint64_t)(age * 100);
    if (s->unix_ns > WALL_UNIX_NS_MAX || unix_ns > WALL_UNIX_NS_MAX) {      /* or from before 1970, and wrapped */
        stats.ignored++;
        return -E_RANGE;
    }
    if (!wall.source) {
        first(now, unix_ns, s->source);
        return 0;
    }
    uint64_t ours = estimate_at(now);
    int64_t offset = (int64_t)(unix_ns - ours), size = offset < 0 ? -offset : offset;
    wall.last_offset_ns = offset;
    if (wall.source != s->source) {
        /* The firmware's time was a guess at the second, and perhaps at the time zone. */
        wall.source = s->source;
        if (size > WALL_STEP_NS) {
            step(now, unix_ns, offset);
            return 0;
        }
    }
    if (s->set && size > WALL_QUIET_NS) {
        step(now, unix_ns, offset);
        return 0;
    }
    if (size <= WALL_STEP_NS) {
        rebase(now, ours, offset);
        return 0;
    }
    int64_t change = wall.suspected ? offset - wall.suspect_ns : WALL_AGREE_NS;
    if (change > -WALL_AGREE_NS && change < WALL_AGREE_NS) {
        step(now, unix_ns, offset);
        return 0;
    }
    wall.suspected = true;
    wall.suspect_ns = offset;
    stats.ignored++;
    return -E_AGAIN;
}

void wall_seed(uint64_t unix_s, uint64_t at_100ns)
{
    if (!wall.source && unix_s <= WALL_UNIX_NS_MAX / NS_PER_S)
        first(at_100ns, unix_s * NS_PER_S, "firmware");
}

/* ---- figures ---- */

static uint64_t read_seconds(void *arg UNUSED)
{
    uint64_t unix_ns;
    return wall_now_ns(&unix_ns) ? unix_ns / NS_PER_S : 0;
}

static struct metric metrics[] = {
    {.name = "candela_time_unix_seconds", .help = "Time of day; 0 while it is unknown", .read = read_seconds,
     .gauge = true},
    {.name = "candela_time_samples_total", .help = "Samples of the time that the host sent", .read = metric_read_u64,
     .arg = &stats.samples},
    {.name = "candela_time_ignored_total", .help = "Samples that were stale, from the future or far off and alone",
     .read = metric_read_u64, .arg = &stats.ignored},
    {.name = "candela_time_steps_total", .help = "Times the clock was set, after the first", .read = metric_read_u64,
     .arg = &stats.steps},
};

void wall_init(void)
{
    for (unsigned i = 0; i < ARRAY_SIZE(metrics); i++)
        metric_register(&metrics[i]);
}
