/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Dynamic memory in the lab: pages that the guest gives are unmapped from its nested tables, so an access to one is an
 * exit and a violation; they are mapped again before the guest is told that it has them back. Hot-added memory is what
 * guest_mem= kept back (direct mode), shown above all other memory.
 *
 * Words:     balloon.present=0     no such device      balloon.version=1.0 balloon.min=0.3   balloon.reports=0
 *            balloon.max_mib=1024  told to the guest   balloon.ranges=16   in one message that gives pages back
 * Commands:  balloon PAGES   unballoon PAGES           one request at a time: else refused
 *            hot-add MIB     hot-add MIB nowhere       the second lies: there is no memory
 *            balloon-remove  balloon-add               the device goes and comes
 *            memory                                    prints the report
 * Reports:   lab-memory: relid=R version=2.0 ready=1 busy=0 reports=N available=P committed=P ballooned=P ranges=N
 *            hot_added=P exchanges=N moved=P result=0   on "memory" and at the end; P in pages; moved, result: of the
 *            last request
 */
#define LOG_ROOM "lab"
#include <string.h>
#include "tests/lab/balloon.h"
#include "tests/lab/direct.h"
#include "tests/lab/glue.h"
#include "tests/lab/isolation.h"
#include "drivers/balloon_wire.h"

#define MIB            (1ull << 20)
#define MIB_PAGES      (MIB >> PAGE_SHIFT)
#define HOT_ADD_ALIGN  (128 * MIB)
#define HOT_ADD_LOWEST (4096 * MIB)

static struct lab_balloon_settings settings;
static uint64_t next_gpa = HOT_ADD_LOWEST;      /* of the memory that is added next */
static bool lying;

static bool number(const char *text, uint64_t *value)
{
    const char *t = text;
    for (*value = 0; *t >= '0' && *t <= '9' && *value < UINT32_MAX; t++)
        *value = *value * 10 + (uint64_t)(*t - '0');
    return t != text && *t == '\0';
}

/* "1.0" */
static bool version(const char *text, uint32_t *value)
{
    if (text[0] < '0' || text[0] > '9' || text[1] != '.' || text[2] < '0' || text[2] > '9' || text[3] != '\0')
        return false;
    *value = DM_VERSION((uint32_t)(text[0] - '0'), (uint32_t)(text[2] - '0'));
    return true;
}

void balloon_defaults(struct lab_balloon_settings *s)
{
    host_balloon_config_default(&s->host);
    s->absent = false;
}

bool balloon_setting(struct lab_balloon_settings *s, const char *key, const char *text)
{
    uint64_t n;
    if (!strcmp(key, "version"))
        return version(text, &s->host.max_version);
    if (!strcmp(key, "min"))
        return version(text, &s->host.min_version);
    if (!number(text, &n))
        return false;
    if (!strcmp(key, "present"))
        s->absent = n == 0;
    else if (!strcmp(key, "reports"))
        s->host.no_reports = n == 0;
    else if (!strcmp(key, "max_mib"))
        s->host.max_pages = n * MIB_PAGES;
    else if (!strcmp(key, "ranges"))
        s->host.ranges_per_message = (uint32_t)n;
    else
        return false;
    return true;
}

bool balloon_start(const struct lab_balloon_settings *s)
{
    settings = *s;
    return s->absent || host_add_balloon(lab_host, &settings.host);
}

/* ---- memory that moves ---- */

bool balloon_gone(uint64_t gpa) { return host_balloon_has(lab_host, gpa >> PAGE_SHIFT); }

/* All of the range is the guest's memory. */
static bool is_memory(uint64_t gpa, uint64_t bytes)
{
    for (uint64_t at = gpa; at < gpa + bytes; at += PAGE_BYTES)
        if (!guest_ptr(at, PAGE_BYTES))
            return false;
    return true;
}

/* No processor uses translations of it any more. */
static void take_away(uint64_t gpa, uint64_t bytes)
{
    nested_unmap(gpa, bytes);
    machine_flush_guest(UINT64_MAX);
}

static void map_back(uint64_t gpa, uint64_t bytes)
{
    uint64_t hpa;
    for (uint64_t at = gpa, piece; at < gpa + bytes; at += piece) {
        /* Neighbouring stretches of guest memory may lie apart here. */
        piece = guest_ptr(at, gpa + bytes - at) ? gpa + bytes - at : PAGE_BYTES;
        if (!guest_ptr_to_hpa(guest_ptr(at, piece), &hpa) ||
            nested_map(at, hpa, piece, MAP_READ | MAP_WRITE | MAP_EXEC))
            lab_end(LAB_END_FAULT, "no memory to map the guest's again");
    }
}

bool balloon_pages(void *ctx, uint64_t gpn, uint64_t count, enum host_pages what)
{
    uint64_t gpa = gpn << PAGE_SHIFT, bytes = count << PAGE_SHIFT, hpa;
    (void)ctx;
    switch (what) {
    case HOST_PAGES_TAKEN:
        if (!is_memory(gpa, bytes) || isolation_any_visible(gpa, bytes))
            return false;
        take_away(gpa, bytes);
        return true;
    case HOST_PAGES_RETURNED:
        map_back(gpa, bytes);
        return true;
    case HOST_PAGES_ADDED:
        if (lying)
            return true;
        hpa = direct_kept_take(bytes);
        return hpa && guest_ram_add(gpa, hpa, bytes) == 0;
    case HOST_PAGES_REMOVED:
        if (!lying)
            take_away(gpa, bytes);
        return true;
    }
    return false;
}

/* ---- commands and reports ---- */

static bool hot_add(uint64_t mib, const char *where)
{
    lying = !strcmp(where, "nowhere");
    next_gpa = MAX(next_gpa, ALIGN_UP(guest_ram_end(), HOT_ADD_ALIGN));
    if ((*where && !lying) || !host_hot_add(lab_host, next_gpa >> PAGE_SHIFT, (uint32_t)(mib * MIB_PAGES), true))
        return false;
    next_gpa = ALIGN_UP(next_gpa + mib * MIB, HOT_ADD_ALIGN);
    return true;
}

bool balloon_command(const char *verb, const char *what, const char *more, bool *done)
{
    uint64_t n;
    bool numbered = number(what, &n);
    if (!strcmp(verb, "memory")) {
        balloon_report();
        *done = true;
    } else if (!strcmp(verb, "balloon"))
        *done = numbered && host_balloon(lab_host, (uint32_t)n);
    else if (!strcmp(verb, "unballoon"))
        *done = numbered && host_unballoon(lab_host, n);
    else if (!strcmp(verb, "hot-add"))
        *done = numbered && n > 0 && hot_add(n, more);
    else if (!strcmp(verb, "balloon-remove")) {
        host_remove_balloon(lab_host);
        *done = true;
    } else if (!strcmp(verb, "balloon-add"))
        *done = host_add_balloon(lab_host, &settings.host);
    else
        return false;
    return true;
}

void balloon_report(void)
{
    struct host_balloon_state s;
    host_balloon_get_state(lab_host, &s);
    if (!s.relid)
        return;
    kprintf("lab-memory: relid=%u version=%u.%u ready=%u busy=%u reports=%llu available=%llu committed=%llu "
            "ballooned=%llu ranges=%u hot_added=%llu exchanges=%llu moved=%llu result=%u\n", s.relid, s.version >> 16,
            s.version & 0xFFFF, s.ready, s.busy, (unsigned long long)s.reports, (unsigned long long)s.available_pages,
            (unsigned long long)s.committed_pages, (unsigned long long)s.ballooned_pages, s.ballooned_ranges,
            (unsigned long long)s.hot_added_pages, (unsigned long long)s.exchanges,
            (unsigned long long)s.result_pages, s.result);
}
