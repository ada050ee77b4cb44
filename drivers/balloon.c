/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Dynamic memory: the device's life. See balloon.h for the map of the driver, mm/given.c for the book of given pages.
 *
 * What the host is told every second (DM_STATUS_REPORT), as a host understands it: it compares `committed` with the
 * memory that it has assigned, and what it took away counts as committed, or it would see less pressure the more it
 * takes. So committed = pages in use + pages given + the floor, available = pages free. `committed` follows what the
 * application uses; the floor in it keeps the host from aiming at less.
 *
 * The floor: free memory that no balloon request may touch is 8 MiB, for stacks, page tables, packets and sockets, and
 * an eighth of RAM up to 64 MiB, which is what the NBD server may have in flight at once (apps/nbd/buffers.c) without
 * having allocated it yet. `memory.floor` raises it for applications that want more.
 *
 * Pages that were given stay given when the device goes: only the host can make them memory again. A device offered
 * later returns them by the same messages; one that has forgotten them (QEMU's, once unplugged) does not, and they
 * stay counted as given until the machine restarts. Linux does the same.
 */
#define LOG_ROOM "balloon"
#include "drivers/balloon.h"
#include "drivers/drivers.h"
#include "rt/candela.h"

#define FLOOR_BYTES        (8ull << 20)
#define FLOOR_SHARE        8             /* of RAM */
#define FLOOR_SHARE_MOST   (64ull << 20)
#define REPORT_PERIOD_S    1
#define START_DELAY_US     1000000ull
#define ANSWER_DELAY_US    10000ull

struct balloon_counters balloon_counters;
static struct balloon *device;           /* there is one memory, so one device */
static uint64_t floor_wanted_pages;      /* memory.floor */

uint64_t balloon_floor_pages(void)
{
    struct mm_stats stats;

    mm_get_stats(&stats);
    uint64_t share = MIN(stats.ram_pages / FLOOR_SHARE, (uint64_t)(FLOOR_SHARE_MOST >> PAGE_SHIFT));
    return MAX((FLOOR_BYTES >> PAGE_SHIFT) + share, floor_wanted_pages);
}

/* ---- the task ---- */

static void report(struct balloon *b)
{
    struct mm_stats stats;
    struct dm_status m = {.header.type = DM_STATUS_REPORT};

    mm_get_stats(&stats);
    m.available = stats.free_pages;
    m.zero_free = stats.free_pages;
    m.committed = stats.ram_pages - stats.free_pages + balloon_floor_pages();
    /* A host that reads nothing now gets the next one. */
    if (balloon_try_send(b, &m, sizeof(m)) == 0)
        balloon_counters.reports++;
}

/* Will this request be answered before the next one is read? */
static bool wants_answer(const struct balloon *b)
{
    uint16_t type = b->in.header.type;
    return type == DM_BALLOON_REQUEST || type == DM_HOT_ADD_REQUEST ||
           (type == DM_UNBALLOON_REQUEST && !(balloon_unballoon(b)->flags & DM_MORE));
}

static void handle(struct balloon *b)
{
    uint16_t type = b->in.header.type, size = b->in.header.size;

    /* QEMU (8.2 to 10.0) looks at the ring once more before it leaves the command that made it send the request, and
     * aborts if it finds something there: an answer must not be faster than that. */
    if (wants_answer(b))
        task_sleep_us(ANSWER_DELAY_US);
    if (type == DM_BALLOON_REQUEST && size >= sizeof(struct dm_balloon_request))
        balloon_give(b);
    else if (type == DM_UNBALLOON_REQUEST && size >= sizeof(struct dm_unballoon_request))
        balloon_take_back(b);
    else if (type == DM_HOT_ADD_REQUEST && size >= DM_HOT_ADD_BYTES)
        balloon_hot_add(b);
    else if (type == DM_INFO)
        balloon_info(b);
    else
        balloon_lie(b, "an unknown or short message", type);
}

static uint64_t in_one_period(void) { return rt_now_100ns() + S_100NS(REPORT_PERIOD_S); }

static void serve_requests(struct balloon *b, bool reports)
{
    uint64_t next = reports ? in_one_period() : RT_FOREVER;
    int e = 0;

    while (e != -E_REMOVED) {
        e = balloon_receive(b, b->unfinished ? MIN(next, in_one_period()) : next, "balloon: requests of the host");
        if (e == 0)
            handle(b);
        if (b->unfinished)
            balloon_finish(b);
        if (rt_now_100ns() < next || e == -E_REMOVED)
            continue;
        report(b);
        next = in_one_period();
    }
}

static void wake(void *arg)
{
    struct balloon *b = arg;
    wait_queue_wake_all(&b->wait);
}

/* Nothing waits for dynamic memory, the boot least of all: the device has its turn when that is over. */
static void serve(struct balloon *b)
{
    bool reports;

    if (WAIT_UNTIL(&b->wait, b->stop, START_DELAY_US, "balloon: the end of the boot"))
        return;
    int e = vmbus_open(b->channel, BALLOON_RING_BYTES, BALLOON_RING_BYTES, NULL, 0, wake, wake, b);

    if (e == 0)
        e = balloon_handshake(b, &reports);
    if (e) {
        if (e != -E_REMOVED)
            log_err_some("%s: memory stays as it is: %s", b->name, error_name(e));
        return;
    }
    log_info_some("%s: dynamic memory %u.%u%s; %llu MiB stay with the application", b->name, b->version >> 16,
                  b->version & 0xFFFF, reports ? "" : ", no reports wanted",
                  (unsigned long long)balloon_floor_pages() >> 8);
    serve_requests(b, reports);
}

static void balloon_task(void *arg)
{
    struct balloon *b = arg;

    serve(b);
    vmbus_close(b->channel);
    b->ended = true;
    wait_queue_wake_all(&b->wait);
}

/* ---- life ---- */

static int probe(struct vmbus_channel *ch)
{
    struct balloon *b;

    if (device) {
        log_warn_some("%s: a second device for dynamic memory, not used", vmbus_channel_name(ch));
        return -E_BUSY;
    }
    b = kzalloc(sizeof(*b));
    if (!b) {
        log_err_some("%s: no memory for the driver", vmbus_channel_name(ch));
        return -E_NOMEM;
    }
    b->channel = ch;
    b->name = vmbus_channel_name(ch);
    b->last_id = BALLOON_FIRST_ID - 1;
    wait_queue_init(&b->wait);
    if (!task_spawn("balloon", balloon_task, b, 0)) {
        log_err_some("%s: no memory for the driver's task", b->name);
        kfree(b);
        return -E_NOMEM;
    }
    device = b;
    vmbus_set_driver_data(ch, b);
    return 0;
}

static void remove(struct vmbus_channel *ch)
{
    struct balloon *b = vmbus_driver_data(ch);
    struct mm_stats stats;

    b->stop = true;
    wait_queue_wake_all(&b->wait);
    vmbus_close(ch);                                 /* ends an open that is under way */
    WAIT_UNTIL(&b->wait, b->ended, RT_FOREVER, "balloon: end of the device's task, whose waits have limits");
    mm_get_stats(&stats);
    if (stats.given_pages)
        log_info_some("%s: %llu MiB stay with the host", b->name, (unsigned long long)stats.given_pages >> 8);
    device = NULL;
    kfree(b);
}

static struct vmbus_driver driver = {
    .name = "balloon",
    .class_id = VMBUS_GUID_BALLOON,
    .probe = probe,
    .remove = remove,
};

#define COUNTER(n, h, f) {.name = "candela_balloon_" n "_total", .help = (h), .read = metric_read_u64, \
                          .arg = &balloon_counters.f}
static struct metric metrics[] = {
    COUNTER("reports", "Reports of memory pressure sent to the host", reports),
    COUNTER("requests", "Requests of the host for memory, or to take it back", requests),
    COUNTER("partial", "Requests that could not be met in full", partial),
    COUNTER("hot_added_pages", "Pages that the host added while the machine ran", hot_added_pages),
    COUNTER("lies", "Messages of the host that made no sense", lies),
};

void balloon_register(void)
{
    if (!config_bool("memory.balloon", true)) {
        log_info("dynamic memory is off (memory.balloon=no)");
        return;
    }
    floor_wanted_pages = config_number("memory.floor", 0, 0, UINT64_MAX) >> PAGE_SHIFT;
    for (unsigned i = 0; i < ARRAY_SIZE(metrics); i++)
        metric_register(&metrics[i]);
    vmbus_register_driver(&driver);
}
