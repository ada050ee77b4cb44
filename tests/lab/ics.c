/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The integration components in the lab: shutdown, heartbeat, time, key-value pairs, snapshots.
 *
 * Words:     ic.NAME=0              not offered; NAME: shutdown heartbeat timesync kvp vss, all
 *            ic.vss=1               offered: it is the only one that is not by itself
 *            ic.NAME.versions=3.0,3.1   ic.framework=1.0,3.0   what the host lists
 *            ic.time=2026-01-31T12:00:00 or seconds since 1970: the host's clock at the start, else QEMU's RTC
 *            ic.numbered=0          all transactions are 0     ic.timesync_answered=0   samples are no requests
 *            ic.heartbeat_ms=2000  ic.timesync_ms=5000  ic.negotiate_limit_ms=  ic.answer_limit_ms=  ic.vss_limit_ms=
 * Commands:  shutdown [off|restart|force|hibernate] [text]     ics     renegotiate [NAME]     time-sync [SECONDS]
 *            kvp-set KEY VALUE   kvp-delete KEY   kvp-get POOL KEY   kvp-enum POOL   kvp-ip [mac|guid|ADAPTER]
 *            vss check|freeze|thaw
 * Reports:   lab-ic: NAME relid=R open=1 framework=3.0 messages=3.2 requests=N answers=N missed=N late=N status=0
 *            word=0                  on "ics" and at the end, and the host's clock:
 *            lab-ic: time unix=SECONDS.FRACTION reference=100NS
 *            lab-kvp: N pool=P index=I KEY = VALUE             an item of transaction N
 *            lab-kvp: N end status=0x80070103
 */
#define LOG_ROOM "lab"
#include <string.h>
#include "tests/lab/glue.h"
#include "tests/lab/ics.h"
#include "tests/lab/machine.h"
#include "drivers/ic_wire.h"

#define SECOND_100NS   10000000ull
#define DAY_S          86400ull

/* ---- numbers and times ---- */
static bool decimal(const char **text, uint64_t *value)
{
    const char *start = *text;
    for (*value = 0; **text >= '0' && **text <= '9' && *value < UINT64_MAX / 10 - 9; (*text)++)
        *value = *value * 10 + (uint64_t)(**text - '0');
    return *text != start;
}

static bool plain_number(const char *text, uint64_t *value) { return decimal(&text, value) && *text == '\0'; }

/* Days since 1970-01-01 of the Gregorian calendar. The year begins in March, so that a leap day is its last. */
static uint64_t days(uint64_t year, uint64_t month, uint64_t day)
{
    uint64_t y = month <= 2 ? year - 1 : year, m = month <= 2 ? month + 9 : month - 3;
    return y * 365 + y / 4 - y / 100 + y / 400 + (m * 153 + 2) / 5 + day - 1 - 719468;
}

uint64_t unix_seconds(const uint64_t t[6])
{
    return days(t[0], t[1], t[2]) * DAY_S + t[3] * 3600 + t[4] * 60 + t[5];
}

static bool parse_time(const char *text, uint64_t *time_100ns)
{
    static const char separators[] = "--T::";
    uint64_t t[6], seconds;
    if (plain_number(text, &seconds)) {
        *time_100ns = IC_TIME_UNIX_EPOCH + seconds * SECOND_100NS;
        return true;
    }
    for (unsigned i = 0; i < ARRAY_SIZE(t); i++)
        if (!decimal(&text, &t[i]) || *text++ != separators[i])
            return false;
    if (t[0] < 1970 || t[0] > 9999 || t[1] < 1 || t[1] > 12 || t[2] < 1 || t[2] > 31 || t[3] > 23 || t[4] > 59 ||
        t[5] > 60)
        return false;
    *time_100ns = IC_TIME_UNIX_EPOCH + unix_seconds(t) * SECOND_100NS;
    return true;
}

/* ---- options ---- */
static bool versions(struct host_versions *v, const char *text)
{
    uint64_t major, minor;
    v->count = 0;
    do {
        if (v->count == HOST_IC_VERSIONS || !decimal(&text, &major) || *text++ != '.' || !decimal(&text, &minor) ||
            major > UINT16_MAX || minor > UINT16_MAX)
            return false;
        v->list[v->count++] = (struct host_version){(uint16_t)major, (uint16_t)minor};
    } while (*text++ == ',');
    return text[-1] == '\0';
}

/* HOST_ICS: no such component */
static enum host_ic_kind kind_of(const char *name, size_t bytes)
{
    enum host_ic_kind k = 0;
    while (k < HOST_ICS && (strlen(host_ic_name(k)) != bytes || strncmp(host_ic_name(k), name, bytes)))
        k++;
    return k;
}

static bool number_setting(struct host_ic_config *cfg, const char *key, uint64_t n)
{
    const struct { const char *name; uint32_t *to; } times[] = {
        {"heartbeat_ms", &cfg->heartbeat_ms}, {"timesync_ms", &cfg->timesync_ms},
        {"negotiate_limit_ms", &cfg->negotiate_limit_ms}, {"answer_limit_ms", &cfg->answer_limit_ms},
        {"vss_limit_ms", &cfg->vss_limit_ms},
    };
    enum host_ic_kind k = kind_of(key, strlen(key));
    for (unsigned i = 0; i < ARRAY_SIZE(times); i++)
        if (!strcmp(key, times[i].name)) {
            *times[i].to = (uint32_t)n;
            return n > 0 && n <= UINT32_MAX;
        }
    if (!strcmp(key, "all"))
        cfg->present = n ? (1u << HOST_ICS) - 1 : 0;
    else if (!strcmp(key, "numbered"))
        cfg->numbered = n != 0;
    else if (!strcmp(key, "timesync_answered"))
        cfg->timesync_answered = n != 0;
    else if (k < HOST_ICS)
        cfg->present = n ? cfg->present | 1u << k : cfg->present & ~(1u << k);
    else
        return false;
    return true;
}

bool ics_setting(struct host_ic_config *cfg, const char *key, const char *text)
{
    const char *dot = strchr(key, '.');
    uint64_t n;
    if (!strcmp(key, "time"))
        return parse_time(text, &cfg->time_100ns);
    if (!strcmp(key, "framework"))
        return versions(&cfg->framework, text);
    if (dot && !strcmp(dot, ".versions")) {
        enum host_ic_kind k = kind_of(key, (size_t)(dot - key));
        return k < HOST_ICS && versions(&cfg->messages[k], text);
    }
    return plain_number(text, &n) && number_setting(cfg, key, n);
}

bool ics_start(struct host_ic_config *cfg)
{
    if (cfg->time_100ns == IC_TIME_UNIX_EPOCH)          /* not given */
        cfg->time_100ns += machine_unix_time() * SECOND_100NS;
    return host_add_ics(lab_host, cfg);
}

/* ---- commands ---- */
static bool shutdown(const char *how, const char *text)
{
    static const struct { const char *name; uint32_t flags; } ways[] = {
        {"", 0}, {"off", 0}, {"restart", IC_SHUTDOWN_RESTART}, {"force", IC_SHUTDOWN_FORCE},
        {"hibernate", IC_SHUTDOWN_HIBERNATE},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(ways); i++)
        if (!strcmp(how, ways[i].name))
            return host_ic_shutdown(lab_host, ways[i].flags, IC_SHUTDOWN_PLANNED, 0, text);
    return false;
}

/* The host's clock jumps first when seconds are given, forwards or back. */
static bool time_sync(const char *seconds)
{
    bool back = *seconds == '-';
    uint64_t n = 0;
    if (*seconds && !plain_number(seconds + (back || *seconds == '+'), &n))
        return false;
    uint64_t now = host_ic_time(lab_host), jump = n * SECOND_100NS;
    host_ic_set_time(lab_host, back ? now - jump : now + jump);
    return host_ic_time_sync(lab_host);
}

static bool renegotiate(const char *name)
{
    bool any = false;
    enum host_ic_kind one = kind_of(name, strlen(name));
    if (*name)
        return one < HOST_ICS && host_ic_renegotiate(lab_host, one);
    for (enum host_ic_kind k = 0; k < HOST_ICS; k++)
        any |= host_ic_renegotiate(lab_host, k);
    return any;
}

static bool vss(const char *what)
{
    static const struct { const char *name; uint32_t operation; } operations[] = {
        {"check", IC_VSS_HOT_BACKUP}, {"freeze", IC_VSS_FREEZE}, {"thaw", IC_VSS_THAW},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(operations); i++)
        if (!strcmp(what, operations[i].name))
            return host_ic_vss(lab_host, operations[i].operation);
    return false;
}

/* "mac", "guid": every adapter, named in that way; else one adapter, named as given. */
static bool kvp_ip(const char *how)
{
    bool guid = !strcmp(how, "guid"), any = false;
    if (*how && strcmp(how, "mac") && !guid)
        return host_kvp_get_ip(lab_host, how) != 0;
    for (unsigned i = 0; i < lab_nic_count; i++) {
        const uint8_t *m = lab_nics[i].mac;
        char name[HOST_GUID_TEXT];
        if (!lab_nics[i].host)
            continue;
        if (guid)
            host_nic_instance(lab_nics[i].host, name);
        else
            ksnprintf(name, sizeof(name), "%02X:%02X:%02X:%02X:%02X:%02X", m[0], m[1], m[2], m[3], m[4], m[5]);
        any |= host_kvp_get_ip(lab_host, name) != 0;
    }
    return any;
}

bool ics_command(const char *verb, const char *what, const char *more, bool *done)
{
    uint64_t pool;
    bool numbered = plain_number(what, &pool) && pool < IC_KVP_POOLS;
    if (!strcmp(verb, "ics")) {
        ics_report();
        *done = true;
    } else if (!strcmp(verb, "shutdown"))
        *done = shutdown(what, more);
    else if (!strcmp(verb, "time-sync"))
        *done = time_sync(what);
    else if (!strcmp(verb, "renegotiate"))
        *done = renegotiate(what);
    else if (!strcmp(verb, "vss"))
        *done = vss(what);
    else if (!strcmp(verb, "kvp-set"))
        *done = *what && host_kvp_set(lab_host, what, more) != 0;
    else if (!strcmp(verb, "kvp-delete"))
        *done = *what && host_kvp_delete(lab_host, what) != 0;
    else if (!strcmp(verb, "kvp-get"))
        *done = numbered && host_kvp_get(lab_host, (uint32_t)pool, more) != 0;
    else if (!strcmp(verb, "kvp-enum"))
        *done = numbered && host_kvp_enumerate(lab_host, (uint32_t)pool) != 0;
    else if (!strcmp(verb, "kvp-ip"))
        *done = kvp_ip(what);
    else
        return false;
    return true;
}

/* ---- reports ---- */

/* The guest's text must stay on its line, and may be longer than a formatted one. */
static void print_text(char *text)
{
    for (char *t = text; *t; t++)
        if ((unsigned char)*t < ' ')
            *t = '?';
    log_raw(text, strlen(text));
}

void ics_poll(void)
{
    static struct host_kvp_result r;                    /* too big for the stack */
    while (host_kvp_result(lab_host, &r)) {
        if (r.last) {
            kprintf("lab-kvp: %u end status=%#x\n", r.transaction, r.status);
            continue;
        }
        kprintf("lab-kvp: %u pool=%u index=%u ", r.transaction, r.pool, r.index);
        print_text(r.key);
        kprintf(" = ");
        print_text(r.value);
        kprintf("\n");
    }
}

void ics_report(void)
{
    struct host_ic_state s;
    for (enum host_ic_kind k = 0; k < HOST_ICS; k++) {
        host_ic_get_state(lab_host, k, &s);
        if (!s.relid)
            continue;
        kprintf("lab-ic: %s relid=%u open=%u framework=%u.%u messages=%u.%u%s requests=%llu answers=%llu missed=%llu "
                "late=%llu status=%#x word=%#x\n", host_ic_name(k), s.relid, s.open, s.framework.major,
                s.framework.minor, s.message.major, s.message.minor, s.refused ? " refused" : "",
                (unsigned long long)s.requests, (unsigned long long)s.answers, (unsigned long long)s.missed,
                (unsigned long long)s.late, s.status, s.word);
    }
    if (host_ic_time(lab_host)) {
        uint64_t time = host_ic_time(lab_host) - IC_TIME_UNIX_EPOCH;
        kprintf("lab-ic: time unix=%llu.%07llu reference=%llu\n", (unsigned long long)(time / SECOND_100NS),
                (unsigned long long)(time % SECOND_100NS), (unsigned long long)clock_now_100ns());
    }
}
