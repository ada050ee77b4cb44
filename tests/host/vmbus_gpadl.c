/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * vmbus_gpadl.c: lists of guest pages under numbers the guest chose.
 *
 *   header (+ bodies) --all bytes here--> complete --teardown, no user--> torn down
 *                                            |  ^                            ^
 *                               vgpadl_use()  v  | vgpadl_release()            |
 *                                          in use --teardown: waits----------+
 *
 * The host keeps its own view of every page, so that rings and receive buffers cost no lookup afterwards.
 */
#include "tests/host/host_internal.h"

#define RANGE_HEADER_BYTES ((uint32_t)sizeof(struct vmbus_gpa_range_header))

struct host_gpadl *vgpadl_find(struct host *h, uint32_t relid, uint32_t id)
{
    list_for_each(node, &h->vmbus.gpadls) {
        struct host_gpadl *g = list_entry(node, struct host_gpadl, node);
        if (g->id == id && (relid == 0 || g->relid == relid))
            return g;
    }
    return NULL;
}

/* The first pages of the list are the guest's alone again. */
static void unmap_pages(struct host *h, const struct host_gpadl *g, uint32_t count)
{
    uint32_t at = 0;

    while (count > 0) {
        struct vmbus_gpa_range_header head;
        uint64_t n;
        memcpy(&head, &g->ranges[at++], RANGE_HEADER_BYTES);
        n = ((uint64_t)head.byte_offset + head.byte_count + HV_PAGE_SIZE - 1) / HV_PAGE_SIZE;
        for (; n > 0 && count > 0; n--, count--)
            host_unmap(h, USE_GPADL, g->ranges[at++] << HV_PAGE_SHIFT, HV_PAGE_SIZE);
    }
}

static void vgpadl_free(struct host *h, struct host_gpadl *g)
{
    unmap_pages(h, g, g->pages);
    list_remove(&g->node);
    host_free(h, g->ranges);
    host_free(h, g->page);
    host_free(h, g);
}

void vgpadl_free_all(struct host *h, uint32_t relid)
{
    list_for_each_safe(node, &h->vmbus.gpadls) {
        struct host_gpadl *g = list_entry(node, struct host_gpadl, node);
        if (relid == 0 || g->relid == relid)
            vgpadl_free(h, g);
    }
}

uint32_t vgpadl_count(const struct host *h, uint32_t relid)
{
    uint32_t n = 0;

    list_for_each(node, &h->vmbus.gpadls)
        n += list_entry(node, struct host_gpadl, node)->relid == relid;
    return n;
}

static uint64_t gpn_mask(const struct host *h)
{
    if (h->book == NULL || h->cfg.boundary_bit <= HV_PAGE_SHIFT)
        return UINT64_MAX;
    return ~(1ull << (h->cfg.boundary_bit - HV_PAGE_SHIFT));
}

bool vgpadl_covers(const struct host *h, uint64_t gpn) { return vgpadl_overlaps(h, gpn, 1); }

bool vgpadl_overlaps(const struct host *h, uint64_t gpn, uint64_t count)
{
    for (uint32_t i = 0; i < 2; i++) {
        uint64_t page = (h->vmbus.monitor_gpa[i] >> HV_PAGE_SHIFT) & gpn_mask(h);
        if (h->vmbus.monitor_gpa[i] != 0 && page - gpn < count)
            return true;
    }
    list_for_each(node, &h->vmbus.gpadls) {
        const struct host_gpadl *g = list_entry(node, struct host_gpadl, node);
        if (!g->complete)
            continue;
        /* ranges[0] is a header, not a page; headers of further ranges do not look like pages */
        for (uint32_t i = 1; i < g->bytes_wanted / 8; i++) {
            if ((g->ranges[i] & gpn_mask(h)) - gpn < count)
                return true;
        }
    }
    return false;
}

static enum host_fault_kind answer(struct host *h, uint32_t relid, uint32_t id, uint32_t status)
{
    struct vmbus_msg_gpadl_created msg = {
        .header = {.type = VMBUS_MSG_GPADL_CREATED},
        .relid = relid,
        .gpadl = id,
        .status = status,
    };

    return vserver_send(h, &msg, sizeof(msg), true);
}

/* Walks the ranges. With pages == NULL only counts and checks; false: the buffer is not what it says. */
static bool walk_ranges(struct host *h, struct host_gpadl *g, uint8_t **pages, uint32_t *count)
{
    uint32_t at = 0, words = g->bytes_wanted / 8;

    *count = 0;
    for (uint32_t r = 0; r < g->range_count; r++) {
        struct vmbus_gpa_range_header head;
        uint64_t n;

        if (at >= words)
            return false;
        memcpy(&head, &g->ranges[at++], RANGE_HEADER_BYTES);
        if (head.byte_count == 0 || head.byte_offset >= HV_PAGE_SIZE)
            return false;
        n = ((uint64_t)head.byte_offset + head.byte_count + HV_PAGE_SIZE - 1) / HV_PAGE_SIZE;
        if (n > words - at)
            return false;
        if (r == 0) {
            g->byte_count = head.byte_count;
            g->byte_offset = head.byte_offset;
        }
        for (uint64_t i = 0; i < n; i++, at++) {
            if (pages == NULL)
                continue;
            if (g->ranges[at] >> (64 - HV_PAGE_SHIFT) == 0)
                pages[*count + i] = host_map(h, USE_GPADL, g->ranges[at] << HV_PAGE_SHIFT, HV_PAGE_SIZE);
            if (pages[*count + i] == NULL) {
                unmap_pages(h, g, *count + (uint32_t)i);
                host_violation(h, &g->ranges[at], 8, "GPADL %#x: page %#llx is not visible memory", g->id,
                               (unsigned long long)g->ranges[at]);
                return false;
            }
        }
        *count += (uint32_t)n;
    }
    return at == words;
}

static void finish(struct host *h, struct host_gpadl *g)
{
    uint32_t relid = g->relid, id = g->id, count;

    if (!walk_ranges(h, g, NULL, &count)) {
        host_violation(h, g->ranges, g->bytes_wanted, "GPADL %#x: ranges do not fill the range buffer", id);
        goto refuse;
    }
    g->page = host_alloc(h, count * sizeof(*g->page));
    if (g->page == NULL || !walk_ranges(h, g, g->page, &count))
        goto refuse;
    g->pages = count;
    if (g->range_count != 1 || g->byte_offset != 0 || g->byte_count % HV_PAGE_SIZE != 0)
        host_strict(h, g->ranges, 8, "GPADL %#x: not one range of whole pages: some hosts ignore it", id);
    g->complete = true;
    host_trace(h, HOST_TRACE_VMBUS, "GPADL %#x of channel %u: %u pages", id, relid, count);
    if (answer(h, relid, id, NTSTATUS_SUCCESS) == HOST_FAULT_ERROR)
        vgpadl_free(h, g);
    return;

refuse:
    vgpadl_free(h, g);
    answer(h, relid, id, NTSTATUS_FAILURE);
}

static void take(struct host *h, struct host_gpadl *g, const uint8_t *bytes, uint32_t len)
{
    uint32_t room = g->bytes_wanted - g->bytes_here;

    if (len > room)
        len = room;                              /* guests may post messages longer than they need */
    memcpy((uint8_t *)g->ranges + g->bytes_here, bytes, len);
    g->bytes_here += len;
    if (g->bytes_here == g->bytes_wanted)
        finish(h, g);
}

void vgpadl_msg_header(struct host *h, const uint8_t *payload, uint32_t bytes)
{
    struct vmbus_msg_gpadl_header msg;
    struct host_chan *ch;
    struct host_gpadl *g;

    memcpy(&msg, payload, sizeof(msg));
    ch = vchan_find(h, msg.relid);
    if (ch != NULL ? ch->rescinded : malice_invented(h, msg.relid)) {
        h->vmbus.refused[h->vmbus.refused_count++ % HOST_REFUSED] = msg.gpadl;
        answer(h, msg.relid, msg.gpadl, NTSTATUS_FAILURE);
        return;
    }
    if (ch == NULL || vgpadl_find(h, 0, msg.gpadl) != NULL) {
        host_violation(h, payload, bytes, "GPADL header: channel %u unknown, or id %#x in use", msg.relid,
                       msg.gpadl);
        answer(h, msg.relid, msg.gpadl, NTSTATUS_FAILURE);
        return;
    }
    if (msg.range_count == 0 || msg.range_buffer_bytes % 8 != 0 ||
        msg.range_buffer_bytes < msg.range_count * (RANGE_HEADER_BYTES + 8)) {
        host_violation(h, payload, bytes, "GPADL header: %u ranges in %u bytes", msg.range_count,
                       msg.range_buffer_bytes);
        answer(h, msg.relid, msg.gpadl, NTSTATUS_FAILURE);
        return;
    }
    g = host_alloc(h, sizeof(*g));
    if (g != NULL)
        g->ranges = host_alloc(h, msg.range_buffer_bytes);
    if (g == NULL || g->ranges == NULL) {
        host_free(h, g);
        answer(h, msg.relid, msg.gpadl, NTSTATUS_FAILURE);
        return;
    }
    g->id = msg.gpadl;
    g->relid = msg.relid;
    g->range_count = msg.range_count;
    g->bytes_wanted = msg.range_buffer_bytes;
    list_push_back(&h->vmbus.gpadls, &g->node);
    if (g->bytes_wanted > bytes - (uint32_t)sizeof(msg))
        malice_gpadl_begun(h, g);
    take(h, g, payload + sizeof(msg), bytes - (uint32_t)sizeof(msg));
}

static bool was_refused(const struct host *h, uint32_t id)
{
    for (uint32_t i = 0; i < h->vmbus.refused_count && i < HOST_REFUSED; i++) {
        if (h->vmbus.refused[i] == id)
            return true;
    }
    return false;
}

void vgpadl_msg_body(struct host *h, const uint8_t *payload, uint32_t bytes)
{
    struct vmbus_msg_gpadl_body msg;
    struct host_gpadl *g;

    memcpy(&msg, payload, sizeof(msg));
    g = vgpadl_find(h, 0, msg.gpadl);
    if (g == NULL && was_refused(h, msg.gpadl))
        return;                                  /* it crossed with that, as the header crossed with the rescind */
    if (g == NULL || g->complete) {
        host_violation(h, payload, bytes, "GPADL body: %#x is not being built", msg.gpadl);
        return;
    }
    take(h, g, payload + sizeof(msg), bytes - (uint32_t)sizeof(msg));
}

static void torn_down(struct host *h, struct host_gpadl *g)
{
    struct vmbus_msg_gpadl_torndown msg = {
        .header = {.type = VMBUS_MSG_GPADL_TORNDOWN},
        .gpadl = g->id,
    };

    host_trace(h, HOST_TRACE_VMBUS, "GPADL %#x torn down", g->id);
    vserver_send(h, &msg, sizeof(msg), true);
    vgpadl_free(h, g);
}

void vgpadl_msg_teardown(struct host *h, const struct vmbus_msg_gpadl_teardown *msg)
{
    struct host_gpadl *g = vgpadl_find(h, msg->relid, msg->gpadl);
    const struct host_chan *ch;

    ch = vchan_find(h, msg->relid);
    if (g == NULL && (ch != NULL ? ch->rescinded : malice_invented(h, msg->relid)))
        return;                                  /* its header was refused for that, and the two messages crossed */
    if (g == NULL && ch != NULL && malice_excuses(h, HOST_MALICE_GPADL, ch->device))
        return;
    if (g == NULL || g->teardown_wanted) {
        host_violation(h, msg, sizeof(*msg), "GPADL teardown: no %#x on channel %u", msg->gpadl, msg->relid);
        return;
    }
    if (g->users == 0) {
        torn_down(h, g);
        return;
    }
    if (ch != NULL && ch->open && ch->ring_gpadl == g)
        host_strict(h, msg, sizeof(*msg), "GPADL teardown: %#x is the ring of channel %u, which is open", g->id,
                    g->relid);
    g->teardown_wanted = true;                   /* answered when the channel is closed */
}

struct host_gpadl *vgpadl_use(struct host *h, uint32_t relid, uint32_t id)
{
    struct host_gpadl *g = vgpadl_find(h, relid, id);

    if (g == NULL || !g->complete || g->teardown_wanted || g->range_count != 1 || g->byte_offset != 0 ||
        g->byte_count % HV_PAGE_SIZE != 0)
        return NULL;
    g->users++;
    return g;
}

void vgpadl_release(struct host *h, struct host_gpadl *g)
{
    if (g == NULL)
        return;
    if (--g->users == 0 && g->teardown_wanted)
        torn_down(h, g);
}
