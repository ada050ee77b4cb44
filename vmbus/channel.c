/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A channel's life. What goes through its rings while it is open is in packet.c.
 *
 *             vmbus_open          created           OPEN_RESULT 0
 *   CLOSED ---------------> GPADL --------> OPENING -------------> OPEN
 *     ^                       |                |                    |
 *     |                       | refused        | refused            | vmbus_close
 *     |                       | limit          | limit              | (by the driver's remove, after
 *     |                       | rescind        | rescind            |  rescind, break or shutdown)
 *     |                       v                v                    v
 *     +------ torn down ---------------- CLOSING <------------------+
 *
 *   CLOSED -> GPADL      vmbus_open: rings allocated, gpadl_create announces their pages
 *   GPADL -> OPENING     send_open, once gpadl_create returned 0
 *   OPENING -> OPEN      channel_open_result (message) is awaited by send_open; vmbus_open goes on
 *   any -> CLOSING       close_rings: callbacks stopped, CLOSE_CHANNEL if the host has it open, GPADL torn down
 *   CLOSING -> CLOSED    close_rings: memory freed (what the host did not give back is leaked and counted)
 *
 * Beside the states there are three reasons to stop, each a flag that any state may get and none loses:
 *
 *   rescinded   channel_rescind: the host withdrew the offer. Every wait above ends with -E_REMOVED; nothing is closed
 *   broken      channel_break: the host wrote nonsense into a ring. The channel is closed as usual
 *   abort_open  vmbus_close while another task is in vmbus_open: that task does the closing
 *
 * In state OPEN with none of them the channel is `usable`: the one test on the packet paths. Nothing here blocks but
 * open and close.
 */
#define LOG_ROOM "vmbus"
#include "vmbus/vmbus_internal.h"
#include <string.h>

static const char *const state_names[] = {"closed", "announcing its rings", "opening", "open", "closing"};

const char *channel_state_name(const struct vmbus_channel *ch) { return state_names[ch->state]; }

/* ---- stopping ---- */

static void wake_everyone(struct vmbus_channel *ch)
{
    event_raise(&ch->event);
    wait_queue_wake_all(&ch->removal);
    bus_wake();
}

/* Event context or task. */
void channel_break(struct vmbus_channel *ch, const char *what)
{
    if (!ch->usable)
        return;
    ch->usable = false;
    ch->broken = true;
    vmbus_counters.ring_errors++;
    log_err_some("%s: the host broke the %s ring; the device is removed", ch->name, what);
    vmbus_dump_channel(ch);
    wake_everyone(ch);
}

void channel_rescind(struct vmbus_channel *ch)
{
    ch->rescinded = true;
    ch->usable = false;
    wake_everyone(ch);
}

void channel_stop(struct vmbus_channel *ch)
{
    ch->stop = true;
    wait_queue_wake_all(&ch->removal);
}

void channel_silence(struct vmbus_channel *ch)
{
    if (channel_current(ch))
        hv_set_event_handler(channel_relid(ch), NULL, NULL);
    event_cancel(&ch->event);
    timer_cancel(&ch->signal_timer);
    ch->signal_delay_us = 0;
    ch->on_readable = ch->on_writable = NULL;
}

/* ---- interrupts ---- */

static void channel_interrupt(void *arg)
{
    struct vmbus_channel *ch = arg;

    ch->stats.interrupts++;
    event_raise(&ch->event);
}

static void channel_event(void *arg)
{
    struct vmbus_channel *ch = arg;

    ch->budget = VMBUS_RECEIVE_BUDGET;
    if (!ch->usable) {
        /* A probe or goodbye that waits for an answer gets a last call, to see vmbus_channel_rescinded. */
        if ((ch->probing || ch->stop) && ch->on_readable)
            ch->on_readable(ch->arg);
        return;
    }
    if (ring_unblocked(&ch->out) && ch->on_writable)
        ch->on_writable(ch->arg);
    if (ch->usable && ch->on_readable)
        ch->on_readable(ch->arg);
}

void channel_init(struct vmbus_channel *ch)
{
    ch->state = CHANNEL_CLOSED;
    ch->event = (struct rt_event)RT_EVENT_INIT(channel_event, ch);
    timer_init(&ch->signal_timer, channel_signal_again, ch);
    wait_queue_init(&ch->removal);
    list_init(&ch->node);
}

/* ---- open ---- */

static int alloc_rings(struct vmbus_channel *ch, uint32_t send_bytes, uint32_t recv_bytes)
{
    uint32_t buffer_bytes = MIN(recv_bytes - (uint32_t)PAGE_BYTES + RING_READ_ALIGN, VMBUS_RECEIVE_BUFFER_MAX);
    uint32_t send_pages = send_bytes >> PAGE_SHIFT, recv_pages = recv_bytes >> PAGE_SHIFT;

    /* A page and more: comes from the page allocator, so it is aligned enough. */
    ch->receive_buffer = kmalloc(buffer_bytes);
    if (!ch->receive_buffer)
        return -E_NOMEM;
    int rc = shmem_alloc(&ch->memory, send_pages + recv_pages, SHMEM_RING, recv_pages);
    if (rc) {
        kfree(ch->receive_buffer);
        ch->receive_buffer = NULL;
        return rc;
    }
    ch->receive_capacity = buffer_bytes - RING_READ_ALIGN;
    ch->budget = VMBUS_RECEIVE_BUDGET;
    ring_init(&ch->out, ch->memory.virt, (uint8_t *)ch->memory.virt + PAGE_BYTES, send_bytes - (uint32_t)PAGE_BYTES);
    ring_init(&ch->in, ch->memory.virt_second, (uint8_t *)ch->memory.virt_second + PAGE_BYTES,
              recv_bytes - (uint32_t)PAGE_BYTES);
    return 0;
}

void channel_open_result(struct vmbus_channel *ch, const struct vmbus_msg_open_result *m)
{
    if (ch->state != CHANNEL_OPENING || ch->open_answered || m->open_id != ch->open_id) {
        vmbus_refuse("OPEN_RESULT for %s, open id %u, which is %s", ch->name, m->open_id, channel_state_name(ch));
        return;
    }
    ch->open_status = m->status;
    ch->open_answered = true;
    bus_wake();
}

static int send_open(struct vmbus_channel *ch, const void *user_data, uint32_t user_data_bytes)
{
    static uint32_t last_open_id;
    struct vmbus_msg_open_channel m = {
        .header.type = VMBUS_MSG_OPEN_CHANNEL,
        .relid = channel_relid(ch),
        .open_id = ++last_open_id,
        .ring_gpadl = ch->ring_gpadl,
        .target_vp = hv_vp_index(),
        .downstream_page_offset = (uint32_t)ch->memory.first_pages,
    };

    if (user_data_bytes)
        memcpy(m.user_data, user_data, user_data_bytes);
    ch->open_id = m.open_id;
    ch->open_answered = false;
    ch->open_status = 0;
    ch->state = CHANNEL_OPENING;
    /* Before the host may signal: an event flag without a handler would be lost. */
    hv_set_event_handler(channel_relid(ch), channel_interrupt, ch);
    int rc = vmbus_post_message(&m, sizeof(m));
    if (rc) {
        ch->state = CHANNEL_GPADL;     /* the host does not know of it */
        return rc;
    }
    if (!BUS_WAIT(ch->open_answered || ch->rescinded || ch->abort_open, OPEN_LIMIT_US, "vmbus: OPEN_RESULT")) {
        log_err_some("%s: no OPEN_RESULT within %u s", ch->name, OPEN_LIMIT_US / 1000000);
        vmbus_dump_channel(ch);
        return -E_TIMEOUT;
    }
    if (ch->rescinded || ch->abort_open)
        return -E_REMOVED;
    if (ch->open_status) {
        log_err_some("%s: the host refused to open it (status 0x%x)", ch->name, ch->open_status);
        return -E_REFUSED;
    }
    return 0;
}

/* Every way out of GPADL, OPENING and OPEN. False: the host did not say that it is done with the channel. */
static bool close_rings(struct vmbus_channel *ch)
{
    struct vmbus_msg_relid m = {.header.type = VMBUS_MSG_CLOSE_CHANNEL, .relid = channel_relid(ch)};
    /* An open without an answer counts: it may be open. A host that rescinded has closed it already. */
    bool refused = ch->open_answered && ch->open_status;
    bool host_open = ch->state == CHANNEL_OPEN || (ch->state == CHANNEL_OPENING && !refused);

    ch->usable = false;
    ch->state = CHANNEL_CLOSING;
    channel_silence(ch);
    if (host_open && !ch->rescinded && vmbus_post_message(&m, sizeof(m)) && !ch->rescinded)
        gpadl_keep(ch->ring_gpadl);    /* the host has it open and uses the ring: asking for its pages is no use */
    bool let_go = !ch->ring_gpadl || vmbus_gpadl_teardown(ch, ch->ring_gpadl);
    ch->ring_gpadl = 0;
    ch->monitor.pending = NULL;
    shmem_free(&ch->memory);
    kfree(ch->receive_buffer);
    ch->receive_buffer = NULL;
    ch->state = CHANNEL_CLOSED;
    bus_wake();
    return let_go;
}

int vmbus_open(struct vmbus_channel *ch, uint32_t send_ring_bytes, uint32_t recv_ring_bytes,
               const void *user_data, uint32_t user_data_bytes,
               void (*on_readable)(void *arg), void (*on_writable)(void *arg), void *arg)
{
    KASSERT(task_can_block() && ch->state == CHANNEL_CLOSED && user_data_bytes <= VMBUS_OPEN_USER_DATA);
    KASSERT(!(send_ring_bytes & PAGE_MASK) && send_ring_bytes >= 2 * PAGE_BYTES);
    KASSERT(!(recv_ring_bytes & PAGE_MASK) && recv_ring_bytes >= 2 * PAGE_BYTES);
    if (channel_gone(ch))
        return -E_REMOVED;
    int rc = alloc_rings(ch, send_ring_bytes, recv_ring_bytes);
    if (rc)
        return rc;
    ch->state = CHANNEL_GPADL;
    ch->abort_open = false;
    ch->on_readable = on_readable;
    ch->on_writable = on_writable;
    ch->arg = arg;
    rc = gpadl_create(ch, &ch->memory, &ch->ring_gpadl);
    if (rc == 0)
        rc = ch->rescinded || ch->abort_open ? -E_REMOVED : send_open(ch, user_data, user_data_bytes);
    if (rc) {
        rc = ch->abort_open ? -E_REMOVED : rc;
        close_rings(ch);
        return rc;
    }
    monitor_bind(ch);
    ch->state = CHANNEL_OPEN;
    ch->usable = true;
    event_raise(&ch->event);           /* hosts speak first on some devices: look once, signal or not */
    return 0;
}

bool vmbus_close(struct vmbus_channel *ch)
{
    KASSERT(task_can_block());
    if (ch->state == CHANNEL_GPADL || ch->state == CHANNEL_OPENING) {
        ch->abort_open = true;
        bus_wake();
    }
    if (ch->state == CHANNEL_OPEN)
        return close_rings(ch);
    if (!BUS_WAIT(ch->state == CHANNEL_CLOSED, OPEN_LIMIT_US + GPADL_LIMIT_US + POST_LIMIT_US, "vmbus: channel closed"))
        vmbus_dump_channel(ch);
    return ch->state == CHANNEL_CLOSED;
}

/* ---- looking ---- */

void *vmbus_driver_data(struct vmbus_channel *ch) { return ch->driver_data; }
void vmbus_set_driver_data(struct vmbus_channel *ch, void *data) { ch->driver_data = data; }
const struct vmbus_msg_offer_channel *vmbus_offer(const struct vmbus_channel *ch) { return &ch->offer; }
const char *vmbus_channel_name(const struct vmbus_channel *ch) { return ch->name; }
bool vmbus_channel_rescinded(const struct vmbus_channel *ch) { return ch->rescinded || ch->broken; }
void vmbus_channel_get_stats(const struct vmbus_channel *ch, struct vmbus_channel_stats *stats) { *stats = ch->stats; }

static void dump_ring(const char *name, const struct ring *r)
{
    const volatile struct vmbus_ring_control *c = (const void *)r->control;

    RT_LOG_SOME(8, LOG_INFO, "  %s ring of %u: write %u read %u mask %u pending %u; ours %u, waiting for %u", name,
                r->size,
                  c->write_index, c->read_index, c->interrupt_mask, c->pending_send_bytes, r->mine, r->waiting_bytes);
}

void vmbus_dump_channel(const struct vmbus_channel *ch)
{
    const struct vmbus_channel_stats *s = &ch->stats;

    RT_LOG_SOME(8, LOG_INFO, "%s: relid %u, %s%s%s%s, driver %s; %llu signals (%llu refused), %llu interrupts, "
                "%llu out, %llu in", ch->name,
                  channel_relid(ch), channel_state_name(ch), ch->rescinded ? ", rescinded" : "",
                  ch->broken ? ", broken" : "", ch->probing ? ", probing" : "", ch->driver ? ch->driver->name : "none",
                  (unsigned long long)s->signals, (unsigned long long)s->signals_refused,
                  (unsigned long long)s->interrupts, (unsigned long long)s->packets_out,
                  (unsigned long long)s->packets_in);
    if (ch->memory.virt) {
        dump_ring("send", &ch->out);
        dump_ring("receive", &ch->in);
    }
}
