/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A SCSI controller: open, handshake, ring callbacks, limits, removal. See storvsc.h for the map of the driver.
 *
 * Sources of protocol facts: the storage VSP protocol as Windows Server 2008 to 2022 speak it. The handshake is
 * BEGIN, QUERY VERSION (newest first, repeated until the host agrees), QUERY PROPERTIES, END. Packets are 48 bytes
 * until 5.1 or later is agreed on, 64 from then: hosts of every age take the short form before, and want exactly the
 * agreed one after.
 *
 * Removal: the disks are unregistered first, so that nothing new comes; then the channel is closed; and only when the
 * host can't touch memory any more does what was in flight complete with -E_REMOVED.
 */
#define LOG_ROOM "storvsc"
#include <string.h>
#include "drivers/drivers.h"
#include "drivers/storvsc.h"

#define SLOT_NONE     UINT16_MAX
#define WAIT_SLICE_MS 200

static const uint16_t versions[] = {
    VSTOR_VERSION_WIN10, VSTOR_VERSION_WIN8_1, VSTOR_VERSION_WIN8, VSTOR_VERSION_WIN7, VSTOR_VERSION_WIN6,
};

const struct blk_ops storvsc_blk_ops = {.submit = storvsc_submit, .kick = storvsc_kick};

/* ---- the slot table ---- */

struct storvsc_slot *storvsc_slot_take(struct storvsc *s)
{
    struct storvsc_slot *slot;

    if (s->first_free == SLOT_NONE)
        return NULL;
    slot = &s->slots[s->first_free];
    s->first_free = slot->next_free;
    s->free_count--;
    return slot;
}

void storvsc_slot_free(struct storvsc *s, struct storvsc_slot *slot)
{
    slot->state = SLOT_FREE;
    slot->request = NULL;
    slot->command = NULL;
    slot->generation++;
    slot->next_free = s->first_free;
    s->first_free = (uint16_t)(slot - s->slots);
    s->free_count++;
}

/* Never 0: that id belongs to what the host sends unasked. */
uint64_t storvsc_slot_id(const struct storvsc *s, const struct storvsc_slot *slot)
{
    return ((uint64_t)slot->generation << 32) | (uint64_t)(slot - s->slots + 1);
}

static struct storvsc_slot *find_slot(struct storvsc *s, uint64_t id)
{
    uint32_t index = (uint32_t)id - 1;

    if (index >= STORVSC_SLOTS || s->slots[index].generation != (uint32_t)(id >> 32))
        return NULL;
    return s->slots[index].state == SLOT_FREE ? NULL : &s->slots[index];
}

void storvsc_slot_sent(struct storvsc *s, struct storvsc_slot *slot)
{
    slot->state = SLOT_BUSY;
    slot->tick = s->tick;
    s->in_flight++;
    s->unsent = true;
    if (!s->tick_timer.armed)
        timer_arm_100ns(&s->tick_timer, rt_now_100ns() + S_100NS(STORVSC_TICK_S));
}

void storvsc_lie(struct storvsc *s, const char *what, uint64_t value)
{
    static uint64_t reported_at;

    s->counters.lies++;
    if (s->counters.lies > 1 && rt_now_100ns() - reported_at < S_100NS(STORVSC_TICK_S))
        return;
    reported_at = rt_now_100ns();
    log_warn("%s: the host sent %s (0x%llx), dropped; %llu such so far", s->name, what, (unsigned long long)value,
             (unsigned long long)s->counters.lies);
}

/* ---- ring callbacks ---- */

static void answered(struct storvsc *s, const struct vmbus_packet *p)
{
    struct vstor_packet answer = {0};
    struct storvsc_slot *slot = find_slot(s, p->transaction_id);

    if (!slot) {
        storvsc_lie(s, "an answer to no request", p->transaction_id);
        return;
    }
    /* A request stays outstanding when its answer can't be believed: its own limit ends it. */
    if (p->payload_bytes < VSTOR_PACKET_BYTES_WIN7) {
        storvsc_lie(s, "an answer too short", p->payload_bytes);
        return;
    }
    memcpy(&answer, p->payload, MIN(p->payload_bytes, (uint32_t)sizeof(answer)));
    if (answer.operation != VSTOR_OP_COMPLETE_IO) {
        storvsc_lie(s, "an answer with a strange operation", answer.operation);
        return;
    }
    if (slot->state == SLOT_BUSY)
        s->in_flight--;
    if (slot->state == SLOT_ABANDONED) {
        log_info("%s: a request that was given up has been answered", s->name);
        storvsc_unmap(slot, true);
        if (slot->orphan)
            page_free(arch_direct_to_phys(va_of(slot->orphan)), 0);
        slot->orphan = NULL;
        storvsc_slot_free(s, slot);
    } else if (slot->command) {
        struct storvsc_command *command = slot->command;
        storvsc_unmap(slot, false);
        storvsc_slot_free(s, slot);
        command->packet = answer;
        command->done = true;
        wait_queue_wake_all(&s->wait);
    } else {
        storvsc_request_answered(s, slot, &answer);
    }
}

static void told(struct storvsc *s, const struct vmbus_packet *p)
{
    uint32_t operation = 0;

    if (p->payload_bytes < VSTOR_PACKET_HEADER_BYTES) {
        storvsc_lie(s, "a message too short", p->payload_bytes);
        return;
    }
    memcpy(&operation, p->payload, sizeof(operation));
    switch (operation) {
    case VSTOR_OP_ENUMERATE_BUS:
    case VSTOR_OP_REMOVE_DEVICE:
        log_debug("%s: units came or went", s->name);
        storvsc_rescan(s);
        break;
    case VSTOR_OP_EVENT_NOTIFICATION:
        break;
    default:
        storvsc_lie(s, "an unknown message", operation);
    }
}

static void flush_ring(struct storvsc *s)
{
    if (!s->unsent)
        return;
    s->unsent = false;
    vmbus_kick(s->channel);
}

static void on_readable(void *arg)
{
    struct storvsc *s = arg;
    const struct vmbus_packet *p;

    while ((p = vmbus_recv(s->channel))) {
        if (p->type == VMBUS_PACKET_COMPLETION)
            answered(s, p);
        else if (p->type == VMBUS_PACKET_INBAND)
            told(s, p);
        else
            storvsc_lie(s, "a packet of a strange type", p->type);
    }
    if (!list_empty(&s->queue))
        storvsc_pump(s);
    flush_ring(s);
    if (s->in_flight == 0)
        wait_queue_wake_all(&s->wait);
}

static void on_writable(void *arg)
{
    struct storvsc *s = arg;

    storvsc_pump(s);
    flush_ring(s);
    wait_queue_wake_all(&s->wait);
}

/* ---- limits ---- */

static void tick(void *arg)
{
    struct storvsc *s = arg;
    bool dumped = false;

    s->tick++;
    for (unsigned i = 0; i < STORVSC_SLOTS && s->in_flight > 0; i++) {
        struct storvsc_slot *slot = &s->slots[i];
        struct blk_request *r = slot->request;

        /* Strictly more ticks than the limit has: the first one may have been cut short. */
        if (slot->state != SLOT_BUSY || !r || s->tick - slot->tick <= STORVSC_REQUEST_TICKS)
            continue;
        log_err("%s: %s: no answer to %s of %u bytes at sector %llu within %u s: given up; the host may still use "
                "its memory", s->name, r->device->name, scsi_opcode_name(slot->opcode), slot->bytes,
                (unsigned long long)r->sector, STORVSC_REQUEST_TICKS * STORVSC_TICK_S);
        if (!dumped)
            vmbus_dump_channel(s->channel);
        dumped = true;
        s->counters.timeouts++;
        slot->state = SLOT_ABANDONED;
        slot->request = NULL;
        s->in_flight--;
        blk_complete(r, -E_TIMEOUT);
    }
    storvsc_expire_queued(s);
    storvsc_pump(s);
    flush_ring(s);
    if (s->in_flight > 0 || !list_empty(&s->queue))
        timer_arm_100ns(&s->tick_timer, rt_now_100ns() + S_100NS(STORVSC_TICK_S));
}

/* ---- our own exchanges ---- */

static int send_command(struct storvsc *s, struct storvsc_command *command)
{
    struct storvsc_slot *slot = storvsc_slot_take(s);
    int e;

    if (!slot)
        return -E_AGAIN;
    slot->map = (struct dma_mapping){0};
    if (command->data_bytes) {
        struct dma_span span = {s->data_page, command->data_bytes};
        e = dma_map(&slot->map, &span, 1, DMA_FROM_DEVICE, s->frames, STORVSC_MAX_FRAMES);
        if (e == 0) {
            struct vmbus_gpa_range range = {slot->map.bytes, slot->map.offset, s->frames, slot->map.frames};
            e = vmbus_send_gpa(s->channel, &range, 1, &command->packet, s->packet_bytes, storvsc_slot_id(s, slot));
            if (e)
                dma_unmap(&slot->map, &span, 1, DMA_TO_DEVICE);
        }
    } else {
        struct vmbus_piece piece = {&command->packet, s->packet_bytes};
        e = vmbus_send(s->channel, &piece, 1, storvsc_slot_id(s, slot), true);
    }
    if (e) {
        storvsc_slot_free(s, slot);
        return e;
    }
    slot->command = command;
    slot->bytes = command->data_bytes;
    slot->opcode = 0;
    storvsc_slot_sent(s, slot);
    flush_ring(s);
    return 0;
}

/* The host did not answer in time and may still write the data page: it goes with the slot, and a new one comes. */
static void abandon(struct storvsc *s, struct storvsc_command *command)
{
    for (unsigned i = 0; i < STORVSC_SLOTS; i++) {
        struct storvsc_slot *slot = &s->slots[i];
        if (slot->state != SLOT_BUSY || slot->command != command)
            continue;
        slot->state = SLOT_ABANDONED;
        slot->command = NULL;
        s->in_flight--;
        if (command->data_bytes && !slot->map.bounce) {
            slot->orphan = s->data_page;
            s->data_page = NULL;
        }
    }
}

int storvsc_exchange(struct storvsc *s, struct storvsc_command *command, uint64_t limit_us)
{
    uint64_t end_100ns = rt_now_100ns() + US_100NS(limit_us);
    int e;

    if (command->data_bytes && !s->data_page) {
        paddr_t page = page_alloc(0);
        if (pa_is_none(page))
            return -E_NOMEM;
        s->data_page = arch_phys_to_virt(page);
    }
    command->done = false;
    command->data = s->data_page;
    command->packet.flags = VSTOR_FLAG_REQUEST_COMPLETION;
    for (;;) {
        if (s->closing || vmbus_channel_rescinded(s->channel))
            return -E_REMOVED;
        e = send_command(s, command);
        if (e != -E_AGAIN)
            break;
        /* No slot, no room, or no bounce memory: an answer to something else changes each of them. */
        if (rt_now_100ns() >= end_100ns)
            return -E_TIMEOUT;
        wait_queue_sleep(&s->wait, MIN(end_100ns, rt_now_100ns() + MS_100NS(WAIT_SLICE_MS)), "room on a SCSI channel");
    }
    if (e)
        return e;
    /* In slices, because nobody wakes us when the channel is rescinded meanwhile. */
    while (!command->done && !s->closing && !vmbus_channel_rescinded(s->channel) && rt_now_100ns() < end_100ns)
        wait_queue_sleep(&s->wait, MIN(end_100ns, rt_now_100ns() + MS_100NS(WAIT_SLICE_MS)),
                         "a SCSI controller's answer");
    if (command->done)
        return 0;
    if (!s->closing && !vmbus_channel_rescinded(s->channel)) {
        log_err("%s: no answer to operation %u within %llu s", s->name, command->packet.operation,
                (unsigned long long)(limit_us / 1000000));
        vmbus_dump_channel(s->channel);
        s->counters.timeouts++;
        abandon(s, command);
        return -E_TIMEOUT;
    }
    abandon(s, command);
    return -E_REMOVED;
}

/* ---- handshake ---- */

static void set_version(struct storvsc *s, uint16_t version)
{
    bool small = version < VSTOR_VERSION_WIN8;

    s->version = version;
    s->packet_bytes = small ? VSTOR_PACKET_BYTES_WIN7 : VSTOR_PACKET_BYTES;
    s->srb_bytes = small ? VSTOR_SRB_BYTES_WIN7 : VSTOR_SRB_BYTES;
    s->sense_bytes = small ? VSTOR_SENSE_MAX_WIN7 : VSTOR_SENSE_MAX;
}

static int simple_operation(struct storvsc *s, struct storvsc_command *c, uint32_t operation, const char *name)
{
    int e;

    c->packet.operation = operation;
    e = storvsc_exchange(s, c, STORVSC_HANDSHAKE_LIMIT_US);
    if (e == 0 && c->packet.status != NTSTATUS_SUCCESS) {
        log_err("%s: the host answers %s with status 0x%x", s->name, name, c->packet.status);
        e = -E_REFUSED;
    } else if (e) {
        log_err("%s: %s failed: %s", s->name, name, error_name(e));
    }
    return e;
}

static int negotiate(struct storvsc *s)
{
    for (unsigned i = 0; i < ARRAY_SIZE(versions); i++) {
        struct storvsc_command c = {.packet.operation = VSTOR_OP_QUERY_PROTOCOL_VERSION};
        int e;

        c.packet.version.version = versions[i];
        e = storvsc_exchange(s, &c, STORVSC_HANDSHAKE_LIMIT_US);
        if (e) {
            log_err("%s: asking for version %u.%u failed: %s", s->name, versions[i] >> 8, versions[i] & 0xFF,
                    error_name(e));
            return e;
        }
        if (c.packet.status == NTSTATUS_SUCCESS) {
            set_version(s, versions[i]);
            return 0;
        }
        log_debug("%s: version %u.%u refused, status 0x%x", s->name, versions[i] >> 8, versions[i] & 0xFF,
                  c.packet.status);
    }
    log_err("%s: no storage protocol version in common with the host", s->name);
    return -E_NOTSUP;
}

static int handshake(struct storvsc *s)
{
    struct storvsc_command begin = {0}, properties = {0}, end = {0};
    int e;

    set_version(s, VSTOR_VERSION_WIN6);       /* the packet size until one is agreed on */
    e = simple_operation(s, &begin, VSTOR_OP_BEGIN_INITIALIZATION, "BEGIN INITIALIZATION");
    if (e == 0)
        e = negotiate(s);
    if (e == 0)
        e = simple_operation(s, &properties, VSTOR_OP_QUERY_PROPERTIES, "QUERY PROPERTIES");
    if (e)
        return e;
    s->max_transfer_bytes = MIN(properties.packet.properties.max_transfer_bytes, STORVSC_MAX_TRANSFER);
    s->max_transfer_bytes = ALIGN_DOWN(s->max_transfer_bytes, 4096u);
    if (s->max_transfer_bytes == 0) {
        log_err("%s: the host allows transfers of %u bytes, less than a page", s->name,
                properties.packet.properties.max_transfer_bytes);
        return -E_PROTO;
    }
    e = simple_operation(s, &end, VSTOR_OP_END_INITIALIZATION, "END INITIALIZATION");
    if (e == 0)
        log_info("%s: storage protocol %u.%u, transfers up to %u KiB (host: %u KiB)", s->name, s->version >> 8,
                 s->version & 0xFF, s->max_transfer_bytes / 1024,
                 properties.packet.properties.max_transfer_bytes / 1024);
    return e;
}

/* ---- life ---- */

static struct storvsc *create(struct vmbus_channel *ch)
{
    struct storvsc *s = kzalloc(sizeof(*s));

    if (!s)
        return NULL;
    s->slots = kcalloc(STORVSC_SLOTS, sizeof(s->slots[0]));
    if (!s->slots) {
        kfree(s);
        return NULL;
    }
    s->channel = ch;
    s->name = vmbus_channel_name(ch);
    s->references = 1;
    s->first_free = SLOT_NONE;
    for (unsigned i = STORVSC_SLOTS; i-- > 0;)
        storvsc_slot_free(s, &s->slots[i]);
    list_init(&s->queue);
    list_init(&s->later);
    list_init(&s->units);
    wait_queue_init(&s->wait);
    timer_init(&s->tick_timer, tick, s);
    timer_init(&s->retry_timer, storvsc_retry_due, s);
    return s;
}

void storvsc_release(struct storvsc *s)
{
    KASSERT(s->references > 0);
    if (--s->references > 0)
        return;
    if (s->data_page)
        page_free(arch_direct_to_phys(va_of(s->data_page)), 0);
    if (s->parameters)
        page_free(arch_direct_to_phys(va_of(s->parameters)), STORVSC_PARAMETER_ORDER);
    kfree(s->slots);
    kfree(s);
}

/* The channel is closed: the host can't use any memory of ours, so everything outstanding ends. */
static void end_outstanding(struct storvsc *s)
{
    for (unsigned i = 0; i < STORVSC_SLOTS; i++) {
        struct storvsc_slot *slot = &s->slots[i];
        struct blk_request *r = slot->request;

        if (slot->state == SLOT_FREE)
            continue;
        if (slot->state == SLOT_BUSY)
            s->in_flight--;
        storvsc_unmap(slot, true);
        if (slot->orphan)
            page_free(arch_direct_to_phys(va_of(slot->orphan)), 0);
        slot->orphan = NULL;
        storvsc_slot_free(s, slot);
        if (r)
            blk_complete(r, -E_REMOVED);
    }
    storvsc_fail_queued(s, NULL, -E_REMOVED);
}

static void shut(struct storvsc *s)
{
    s->closing = true;
    vmbus_close(s->channel);
    timer_cancel(&s->tick_timer);
    timer_cancel(&s->retry_timer);
    end_outstanding(s);
    wait_queue_wake_all(&s->wait);
}

static int probe(struct vmbus_channel *ch)
{
    struct vstor_channel_properties user_data = {0};
    struct storvsc *s = create(ch);
    int e;

    if (!s) {
        log_err("%s: no memory for a SCSI controller", vmbus_channel_name(ch));
        return -E_NOMEM;
    }
    e = vmbus_open(ch, STORVSC_RING_BYTES, STORVSC_RING_BYTES, &user_data, sizeof(user_data), on_readable, on_writable,
                   s);
    if (e) {
        log_err("%s: channel not opened: %s", s->name, error_name(e));
        storvsc_release(s);
        return e;
    }
    e = handshake(s);
    if (e) {
        shut(s);
        storvsc_release(s);
        return e;
    }
    vmbus_set_driver_data(ch, s);
    storvsc_scan(s);
    return 0;
}

static void remove(struct vmbus_channel *ch)
{
    struct storvsc *s = vmbus_driver_data(ch);

    s->closing = true;                   /* first: no scan may add a disk any more */
    storvsc_drop_units(s);
    if (!vmbus_channel_rescinded(ch) && !WAIT_UNTIL(&s->wait, s->in_flight == 0 && list_empty(&s->queue),
                                                    STORVSC_DRAIN_LIMIT_US, "disk requests to end")) {
        log_warn("%s: %u requests not answered within %llu s, closed all the same", s->name, s->in_flight,
                 (unsigned long long)(STORVSC_DRAIN_LIMIT_US / 1000000));
        vmbus_dump_channel(ch);
    }
    shut(s);
    /* Its commands have all failed now, so it ends by itself; it must, before what it uses is freed. */
    while (!WAIT_UNTIL(&s->wait, !s->scanning, STORVSC_COMMAND_LIMIT_US, "the scan for disks to end"))
        log_warn("%s: the scan for disks has still not ended", s->name);
    vmbus_set_driver_data(ch, NULL);
    storvsc_release(s);
}

static struct vmbus_driver driver = {
    .name = "storvsc",
    .class_id = VMBUS_GUID_SCSI,
    .probe = probe,
    .remove = remove,
};

void storvsc_register(void)
{
    vmbus_register_driver(&driver);
}
