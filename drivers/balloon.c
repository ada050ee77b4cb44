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
#include <string.h>
#include "drivers/balloon.h"
#include "drivers/drivers.h"
#include "rt/candela.h"

#define FLOOR_BYTES        (8ull << 20)
#define FLOOR_SHARE        8             /* of RAM */
#define FLOOR_SHARE_MOST   (64ull << 20)
#define REPORT_PERIOD_S    1
#define START_DELAY_US     1000000ull
#define ANSWER_DELAY_US    10000ull
#define ALIGNMENT_LOG2_MIB 7ull          /* hot-added ranges: as Linux asks, so hosts are used to it */
#define FIRST_ID           0x1000u       /* answers that repeat an id can be told from hosts that count their own */

struct balloon_counters balloon_counters;
static struct balloon *device;           /* there is one memory, so one device */
static uint64_t floor_wanted_pages;      /* memory.floor */

static const uint32_t versions[] = {DM_VERSION_WIN10, DM_VERSION_WIN8, DM_VERSION_WIN7};

void balloon_lie(struct balloon *b, const char *what, uint64_t value)
{
    uint64_t now = rt_now_100ns();

    balloon_counters.lies++;
    if (b->lie_reported_at && now - b->lie_reported_at < S_100NS(5))
        return;
    b->lie_reported_at = now;
    log_warn("%s: the host sent %s (0x%llx), refused; %llu such so far", b->name, what, (unsigned long long)value,
             (unsigned long long)balloon_counters.lies);
}

uint64_t balloon_floor_pages(void)
{
    struct mm_stats stats;

    mm_get_stats(&stats);
    uint64_t share = MIN(stats.ram_pages / FLOOR_SHARE, (uint64_t)(FLOOR_SHARE_MOST >> PAGE_SHIFT));
    return MAX((FLOOR_BYTES >> PAGE_SHIFT) + share, floor_wanted_pages);
}

/* ---- messages ---- */

static void wake(void *arg)
{
    struct balloon *b = arg;
    wait_queue_wake_all(&b->wait);
}

static bool gone(const struct balloon *b) { return b->stop || vmbus_channel_rescinded(b->channel); }

/* Only what was sent has used up its number. */
int balloon_try_send(struct balloon *b, void *message, size_t bytes)
{
    struct vmbus_piece piece = {message, (uint32_t)bytes};
    struct dm_header *header = message;

    header->size = (uint16_t)bytes;
    header->transaction_id = b->last_id + 1;
    int e = vmbus_send(b->channel, &piece, 1, 0, false);
    if (e == 0)
        b->last_id++;
    vmbus_kick(b->channel);
    return e;
}

int balloon_send(struct balloon *b, void *message, size_t bytes)
{
    uint64_t limit = rt_now_100ns() + US_100NS(BALLOON_SEND_LIMIT_US);
    int e;

    while ((e = balloon_try_send(b, message, bytes)) == -E_AGAIN && !gone(b)) {
        if (rt_now_100ns() < limit) {
            wait_queue_sleep(&b->wait, limit, "balloon: room for a message to the host");
            continue;
        }
        log_err("%s: the host took nothing from the ring for %llu s", b->name, BALLOON_SEND_LIMIT_US / 1000000);
        vmbus_dump_channel(b->channel);
        return -E_TIMEOUT;
    }
    return e == -E_AGAIN ? -E_REMOVED : e;
}

/* The packet's message becomes b->in; false: it is none. */
static bool take_message(struct balloon *b, const struct vmbus_packet *p)
{
    struct dm_header header;

    if (p->completion_requested && vmbus_send_completion(b->channel, &header, 0, p->transaction_id) == 0)
        vmbus_kick(b->channel);
    if (p->type != VMBUS_PACKET_INBAND) {
        balloon_lie(b, "a packet of a strange type", p->type);
        return false;
    }
    if (p->payload_bytes < sizeof(header)) {
        balloon_lie(b, "a message too short", p->payload_bytes);
        return false;
    }
    memcpy(&header, p->payload, sizeof(header));
    if (header.size < sizeof(header) || header.size > p->payload_bytes || header.size > DM_MESSAGE_MAX) {
        balloon_lie(b, "a message with a false length", header.size);
        return false;
    }
    memset(&b->in, 0, sizeof(b->in));
    memcpy(&b->in, p->payload, header.size);
    return true;
}

/* The next message into b->in. 0, -E_REMOVED, -E_TIMEOUT. */
static int receive(struct balloon *b, uint64_t deadline_100ns, const char *what)
{
    const struct vmbus_packet *p;

    while (!gone(b)) {
        p = vmbus_recv(b->channel);
        if (p && take_message(b, p))
            return 0;
        if (p)
            continue;
        if (rt_now_100ns() >= deadline_100ns)
            return -E_TIMEOUT;
        wait_queue_sleep(&b->wait, deadline_100ns, what);
    }
    return -E_REMOVED;
}

static void info(struct balloon *b)
{
    const struct dm_info *m = &b->in.info;

    if (m->header.size < sizeof(*m) || m->info_type != DM_INFO_MAX_PAGES || m->data_bytes != sizeof(m->value))
        log_debug("%s: information of type %u, %u bytes", b->name, m->info_type, m->data_bytes);
    else
        log_info("%s: the host may give up to %llu MiB in all", b->name, (unsigned long long)m->value >> 8);
}

/* ---- handshake ---- */

/* Sends a request and waits for the answer of that type. 0, -E_REFUSED, -E_TIMEOUT, -E_REMOVED. */
static int ask(struct balloon *b, void *request, size_t bytes, enum dm_type answer, const char *what)
{
    uint64_t limit = rt_now_100ns() + US_100NS(BALLOON_ANSWER_LIMIT_US);
    int e = balloon_send(b, request, bytes);

    while (e == 0 && (e = receive(b, limit, what)) == 0) {
        const struct dm_answer *m = &b->in.answer;
        if (m->header.type == DM_INFO) {
            info(b);
        } else if (m->header.type != answer || m->header.size < sizeof(*m)) {
            balloon_lie(b, "a strange message during the handshake", m->header.type);
        } else if (m->header.transaction_id >= FIRST_ID && m->header.transaction_id < b->last_id) {
            balloon_lie(b, "an old answer again", m->header.transaction_id);
        } else {
            return m->flags & DM_ACCEPTED ? 0 : -E_REFUSED;
        }
    }
    if (e == -E_TIMEOUT) {
        log_err("%s: no answer from the host within %llu s (%s)", b->name, BALLOON_ANSWER_LIMIT_US / 1000000, what);
        vmbus_dump_channel(b->channel);
    }
    return e;
}

static int negotiate(struct balloon *b)
{
    int e = -E_REFUSED;

    for (unsigned i = 0; i < ARRAY_SIZE(versions) && e == -E_REFUSED; i++) {
        struct dm_version_request m = {
            .header.type = DM_VERSION_REQUEST,
            .version = versions[i],
            .flags = i + 1 == ARRAY_SIZE(versions) ? DM_LAST_ATTEMPT : 0,
        };
        e = ask(b, &m, sizeof(m), DM_VERSION_RESPONSE, "balloon: answer to a version");
        b->version = versions[i];
    }
    if (e == -E_REFUSED)
        log_err("%s: no version in common with the host", b->name);
    return e;
}

static int tell_capabilities(struct balloon *b, bool *reports)
{
    struct dm_capabilities m = {
        .header.type = DM_CAPABILITIES_REPORT,
        .capabilities = DM_CAP_BALLOON | DM_CAP_HOT_ADD | ALIGNMENT_LOG2_MIB << DM_CAP_ALIGNMENT_SHIFT,
        .max_page = UINT64_MAX,
    };
    int e = ask(b, &m, sizeof(m), DM_CAPABILITIES_RESPONSE, "balloon: answer to the capabilities");

    if (e == -E_REFUSED)
        log_err("%s: the host does not want our capabilities", b->name);
    *reports = b->version < DM_VERSION_WIN10 || !(b->in.answer.flags & DM_NO_REPORTS);
    return e;
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
        info(b);
    else
        balloon_lie(b, "an unknown or short message", type);
}

static uint64_t in_one_period(void) { return rt_now_100ns() + S_100NS(REPORT_PERIOD_S); }

static void serve_requests(struct balloon *b, bool reports)
{
    uint64_t next = reports ? in_one_period() : RT_FOREVER;
    int e = 0;

    while (e != -E_REMOVED) {
        e = receive(b, b->unfinished ? MIN(next, in_one_period()) : next, "balloon: requests of the host");
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

/* Nothing waits for dynamic memory, the boot least of all: the device has its turn when that is over. */
static void serve(struct balloon *b)
{
    bool reports;

    if (WAIT_UNTIL(&b->wait, b->stop, START_DELAY_US, "balloon: the end of the boot"))
        return;
    int e = vmbus_open(b->channel, BALLOON_RING_BYTES, BALLOON_RING_BYTES, NULL, 0, wake, wake, b);

    if (e == 0)
        e = negotiate(b);
    if (e == 0)
        e = tell_capabilities(b, &reports);
    if (e) {
        if (e != -E_REMOVED)
            log_err("%s: memory stays as it is: %s", b->name, error_name(e));
        return;
    }
    log_info("%s: dynamic memory %u.%u%s; %llu MiB stay with the application", b->name, b->version >> 16,
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
        log_warn("%s: a second device for dynamic memory, not used", vmbus_channel_name(ch));
        return -E_BUSY;
    }
    b = kzalloc(sizeof(*b));
    if (!b) {
        log_err("%s: no memory for the driver", vmbus_channel_name(ch));
        return -E_NOMEM;
    }
    b->channel = ch;
    b->name = vmbus_channel_name(ch);
    b->last_id = FIRST_ID - 1;
    wait_queue_init(&b->wait);
    if (!task_spawn("balloon", balloon_task, b, 0)) {
        log_err("%s: no memory for the driver's task", b->name);
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
        log_info("%s: %llu MiB stay with the host", b->name, (unsigned long long)stats.given_pages >> 8);
    device = NULL;
    kfree(b);
}

static struct vmbus_driver driver = {
    .name = "balloon",
    .class_id = VMBUS_GUID_BALLOON,
    .probe = probe,
    .remove = remove,
};

static uint64_t read_counter(void *counter) { return *(const uint64_t *)counter; }

#define COUNTER(n, h, f) {.name = "candela_balloon_" n "_total", .help = (h), .read = read_counter, \
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
