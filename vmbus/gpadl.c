/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * GPADLs: telling the host a list of pages under a number, and getting the pages back.
 *
 * A list of up to 26 pages travels in GPADL_HEADER, the rest in as many GPADL_BODY messages of 28 as it takes. From
 * the first message until GPADL_TORNDOWN (or the end of the channel or connection) the host may touch the pages: each
 * record claims them with shmem_hold, and pages still claimed when their owner frees them are leaked on purpose.
 *
 *   CREATING --created(0)--> CREATED --vmbus_gpadl_teardown--> TEARING --torndown--> gone
 *      |  created(status != 0), rescind: gone    limit: the pages stay the host's, the record waits for a late answer
 */
#define LOG_ROOM "vmbus"
#include "vmbus/vmbus_internal.h"
#include <string.h>

/* The length field of GPADL_HEADER is 16 bits wide. */
#define GPADL_PAGES_MAX ((UINT16_MAX - sizeof(struct vmbus_gpa_range_header)) / sizeof(uint64_t))

struct gpadl {
    struct list node;
    uint32_t id, relid;
    const struct shmem *memory;            /* NULL once the owner was told that the host keeps it */
    enum { GPADL_CREATING, GPADL_CREATED, GPADL_REFUSED, GPADL_TEARING, GPADL_GONE } state;
    uint32_t status;
    bool busy;                             /* a task waits or posts for it: that task frees it */
};
static struct list gpadls = LIST_INIT(gpadls);
static uint32_t last_id;

static struct gpadl *find(uint32_t id)
{
    list_for_each(pos, &gpadls) {
        struct gpadl *g = list_entry(pos, struct gpadl, node);
        if (g->id == id)
            return g;
    }
    return NULL;
}

static uint32_t new_id(void)
{
    do
        last_id++;
    while (!last_id || find(last_id));
    return last_id;
}

/* The host let go of the pages. */
static void forget(struct gpadl *g)
{
    if (g->memory)
        shmem_release(g->memory);
    list_remove(&g->node);
    kfree(g);
}

/* The host did not let go. The claim stays on the pages for good; the record only catches a late answer. */
static void abandon(struct gpadl *g)
{
    g->memory = NULL;
}

void gpadl_keep(uint32_t id)
{
    struct gpadl *g = find(id);

    if (!g || g->state != GPADL_CREATED)
        return;
    g->state = GPADL_TEARING;
    abandon(g);
}

/* Answers may come after we stopped waiting for them (rescind, limit): the number was ours once, nothing is wrong. */
static bool late(const struct gpadl *g, uint32_t id)
{
    if (g || !id || id > last_id)
        return false;
    vmbus_counters.messages_dropped++;
    log_debug("a late answer for GPADL 0x%x", id);
    return true;
}

void gpadl_created(const struct vmbus_msg_gpadl_created *m)
{
    struct gpadl *g = find(m->gpadl);

    if (late(g, m->gpadl))
        return;
    if (!g || g->relid != m->relid || g->state != GPADL_CREATING) {
        vmbus_refuse("GPADL_CREATED for GPADL 0x%x of relid %u, which is not being created", m->gpadl, m->relid);
        return;
    }
    g->status = m->status;
    g->state = m->status ? GPADL_REFUSED : GPADL_CREATED;
    bus_wake();
}

void gpadl_torndown(uint32_t id)
{
    struct gpadl *g = find(id);

    if (late(g, id))
        return;
    if (!g || g->state != GPADL_TEARING) {
        vmbus_refuse("GPADL_TORNDOWN for GPADL 0x%x, which is not being torn down", id);
        return;
    }
    g->state = GPADL_GONE;
    if (!g->memory)
        forget(g);
    else
        bus_wake();
}

/* A message is a header and whatever of the list fits behind it; the list is not aligned there, hence the copies. */
static int post_list(const void *header, size_t header_bytes, const uint64_t *frames, size_t count)
{
    uint8_t message[VMBUS_MESSAGE_MAX];

    memcpy(message, header, header_bytes);
    memcpy(message + header_bytes, frames, count * sizeof(*frames));
    return vmbus_post_message(message, (uint32_t)(header_bytes + count * sizeof(*frames)));
}

static int post_header(const struct gpadl *g, uint32_t *sent)
{
    size_t pages = g->memory->pages, n = MIN(pages, (size_t)VMBUS_GPADL_HEADER_PFNS_MAX);
    struct vmbus_msg_gpadl_header m = {
        .header.type = VMBUS_MSG_GPADL_HEADER,
        .relid = g->relid,
        .gpadl = g->id,
        .range_buffer_bytes = (uint16_t)(sizeof(struct vmbus_gpa_range_header) + pages * sizeof(uint64_t)),
        .range_count = 1,
    };
    struct vmbus_gpa_range_header range = {.byte_count = (uint32_t)(pages * PAGE_BYTES)};
    uint8_t header[sizeof(m) + sizeof(range)];

    memcpy(header, &m, sizeof(m));
    memcpy(header + sizeof(m), &range, sizeof(range));
    *sent = (uint32_t)n;
    return post_list(header, sizeof(header), g->memory->frames, n);
}

static int post_body(const struct gpadl *g, uint32_t number, uint32_t *sent)
{
    size_t done = *sent, n = MIN(g->memory->pages - done, (size_t)VMBUS_GPADL_BODY_PFNS_MAX);
    struct vmbus_msg_gpadl_body m = {
        .header.type = VMBUS_MSG_GPADL_BODY,
        .message_number = number,
        .gpadl = g->id,
    };

    *sent += (uint32_t)n;
    return post_list(&m, sizeof(m), g->memory->frames + done, n);
}

/* *started: the host heard of the GPADL. */
static int announce(const struct vmbus_channel *ch, const struct gpadl *g, bool *started)
{
    uint32_t sent = 0, number = 0;
    int rc = post_header(g, &sent);

    *started = rc == 0;
    while (rc == 0 && sent < g->memory->pages && !ch->rescinded)
        rc = post_body(g, ++number, &sent);
    return rc;
}

static int post_teardown(const struct gpadl *g)
{
    struct vmbus_msg_gpadl_teardown m = {.header.type = VMBUS_MSG_GPADL_TEARDOWN, .relid = g->relid, .gpadl = g->id};

    return vmbus_post_message(&m, sizeof(m));
}

int gpadl_create(struct vmbus_channel *ch, const struct shmem *memory, uint32_t *id)
{
    struct gpadl *g;
    bool started;
    int rc;

    if (memory->pages > GPADL_PAGES_MAX) {
        log_err_some("%s: a GPADL of %zu pages, %zu are possible", ch->name, memory->pages, (size_t)GPADL_PAGES_MAX);
        return -E_INVAL;
    }
    if (ch->rescinded)
        return -E_REMOVED;
    g = kzalloc(sizeof(*g));
    if (!g)
        return -E_NOMEM;
    g->id = new_id();
    g->relid = channel_relid(ch);
    g->memory = memory;
    g->state = GPADL_CREATING;
    g->busy = true;
    list_push_back(&gpadls, &g->node);
    shmem_hold(memory);
    rc = announce(ch, g, &started);
    if (rc == 0)
        BUS_WAIT(g->state != GPADL_CREATING || ch->rescinded || ch->abort_open, GPADL_LIMIT_US, "vmbus: GPADL_CREATED");
    if (g->state == GPADL_CREATED) {
        g->busy = false;
        *id = g->id;
        return 0;
    }
    if (ch->rescinded) {
        rc = -E_REMOVED;               /* the device and its view of our memory are gone */
        if (started && channel_current(ch))
            post_teardown(g);
        forget(g);
    } else if (g->state == GPADL_REFUSED) {
        log_err_some("%s: the host refused a GPADL of %zu pages (status 0x%x)", ch->name, memory->pages, g->status);
        rc = -E_REFUSED;
        forget(g);
    } else if (!started) {
        forget(g);
    } else {
        if (rc == 0 && !ch->abort_open)
            log_err_some("%s: no GPADL_CREATED within %u s", ch->name, GPADL_LIMIT_US / 1000000);
        rc = rc ? rc : -E_TIMEOUT;
        /* It may come yet: ask for the pages back, and count them as the host's until it says so. */
        g->state = GPADL_CREATED;
        vmbus_gpadl_teardown(ch, g->id);
    }
    return rc;
}

int vmbus_gpadl_create(struct vmbus_channel *ch, const struct shmem *memory, uint32_t *gpadl)
{
    KASSERT(task_can_block());
    return gpadl_create(ch, memory, gpadl);
}

bool vmbus_gpadl_teardown(struct vmbus_channel *ch, uint32_t id)
{
    struct gpadl *g = find(id);

    KASSERT(task_can_block());
    if (!g || g->relid != channel_relid(ch))
        return true;
    if (g->state != GPADL_CREATED)
        return false;
    g->state = GPADL_TEARING;
    g->busy = true;
    bool refused = post_teardown(g) != 0;
    bool ended = refused || BUS_WAIT(g->state == GPADL_GONE || ch->rescinded, GPADL_LIMIT_US, "vmbus: GPADL_TORNDOWN");
    g->busy = false;
    if (refused && !ch->rescinded) {
        abandon(g);
        return false;
    }
    if (!ended) {
        log_err_some("%s: no GPADL_TORNDOWN for %zu pages within %u s", ch->name, g->memory->pages,
                     GPADL_LIMIT_US / 1000000);
        abandon(g);
        return false;
    }
    bool let_go = g->memory != NULL;   /* NULL: the connection ended, and the host did not say so */
    forget(g);                         /* rescinded: the device no longer has our memory, and may never answer */
    return let_go;
}

static void drop_records(const struct vmbus_channel *ch, bool let_go)
{
    list_for_each_safe(pos, &gpadls) {
        struct gpadl *g = list_entry(pos, struct gpadl, node);
        if (ch && g->relid != channel_relid(ch))
            continue;
        if (!let_go)
            abandon(g);
        if (g->busy)
            g->state = GPADL_GONE;
        else
            forget(g);
    }
}

void gpadl_channel_gone(struct vmbus_channel *ch)
{
    drop_records(ch, true);
}

void gpadl_connection_gone(bool let_go)
{
    drop_records(NULL, let_go);
}
