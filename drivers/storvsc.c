/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A SCSI controller's life: open, handshake, removal. See storvsc.h for the map of the driver.
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
#include "rt/candela.h"

static const uint16_t versions[] = {
    VSTOR_VERSION_WIN10, VSTOR_VERSION_WIN8_1, VSTOR_VERSION_WIN8, VSTOR_VERSION_WIN7, VSTOR_VERSION_WIN6,
};

struct storvsc_counters storvsc_totals;
const struct blk_ops storvsc_blk_ops = {.submit = storvsc_submit, .kick = storvsc_kick};

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
        log_err_some("%s: the host answers %s with status 0x%x", s->name, name, c->packet.status);
        e = -E_REFUSED;
    } else if (e) {
        log_err_some("%s: %s failed: %s", s->name, name, error_name(e));
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
            log_err_some("%s: asking for version %u.%u failed: %s", s->name, versions[i] >> 8, versions[i] & 0xFF,
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
    log_err_some("%s: no storage protocol version in common with the host", s->name);
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
        log_err_some("%s: the host allows transfers of %u bytes, less than a page", s->name,
                     properties.packet.properties.max_transfer_bytes);
        return -E_PROTO;
    }
    e = simple_operation(s, &end, VSTOR_OP_END_INITIALIZATION, "END INITIALIZATION");
    if (e == 0)
        log_info_some("%s: storage protocol %u.%u, transfers up to %u KiB (host: %u KiB)", s->name, s->version >> 8,
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
    s->scanning = true;                  /* by the probe, after the handshake: whatever the host says, not before */
    storvsc_slots_init(s);
    list_init(&s->queue);
    list_init(&s->later);
    list_init(&s->units);
    wait_queue_init(&s->wait);
    timer_init(&s->tick_timer, storvsc_tick, s);
    timer_init(&s->retry_timer, storvsc_retry_due, s);
    s->bounce_room = (struct dma_waiter){.ready = storvsc_on_writable, .arg = s};
    return s;
}

void storvsc_release(struct storvsc *s)
{
    KASSERT(s->references > 0);
    if (--s->references > 0)
        return;
    if (s->data_page)
        page_free(arch_direct_to_phys(va_of(s->data_page)), 0);
    kfree(s->parameters);
    kfree(s->slots);
    kfree(s);
}

static void shut(struct storvsc *s)
{
    s->closing = true;
    bool let_go = vmbus_close(s->channel);
    timer_cancel(&s->tick_timer);
    timer_cancel(&s->retry_timer);
    dma_wait_cancel(&s->bounce_room);
    storvsc_end_outstanding(s, let_go);
    wait_queue_wake_all(&s->wait);
}

static int probe(struct vmbus_channel *ch)
{
    struct vstor_channel_properties user_data = {0};
    struct storvsc *s = create(ch);
    int e;

    if (!s) {
        log_err_some("%s: no memory for a SCSI controller", vmbus_channel_name(ch));
        return -E_NOMEM;
    }
    e = vmbus_open(ch, STORVSC_RING_BYTES, STORVSC_RING_BYTES, &user_data, sizeof(user_data),
                   storvsc_on_readable, storvsc_on_writable, s);
    if (e) {
        log_err_some("%s: channel not opened: %s", s->name, error_name(e));
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
    if (!WAIT_UNTIL(&s->wait, (s->in_flight == 0 && list_empty(&s->queue)) || vmbus_channel_rescinded(ch),
                    STORVSC_DRAIN_LIMIT_US, "disk requests to end")) {
        log_warn_some("%s: %u requests not answered within %llu s, closed all the same", s->name, s->in_flight,
                      (unsigned long long)(STORVSC_DRAIN_LIMIT_US / 1000000));
        vmbus_dump_channel(ch);
    }
    shut(s);
    /* Its commands have all failed now, so it ends by itself; it must, before what it uses is freed. */
    while (!WAIT_UNTIL(&s->wait, !s->scanning, STORVSC_COMMAND_LIMIT_US, "the scan for disks to end"))
        log_warn_some("%s: the scan for disks has still not ended", s->name);
    vmbus_set_driver_data(ch, NULL);
    storvsc_release(s);
}

static struct vmbus_driver driver = {
    .name = "storvsc",
    .class_id = VMBUS_GUID_SCSI,
    .probe = probe,
    .remove = remove,
};

#define TOTAL(n, h, field) {.name = (n), .help = (h), .read = metric_read_u64, .arg = &storvsc_totals.field}
static struct metric metrics[] = {
    TOTAL("candela_storvsc_retries_total", "Disk requests sent again after a transient status", retries),
    TOTAL("candela_storvsc_errors_total", "Disk requests that the host failed", errors),
    TOTAL("candela_storvsc_timeouts_total", "Requests without an answer within the limit", timeouts),
    TOTAL("candela_storvsc_queued_total", "Requests that waited for a slot or room in the ring", queued),
    TOTAL("candela_storvsc_lies_total", "Packets of the host that made no sense", lies),
};

void storvsc_register(void)
{
    for (unsigned i = 0; i < ARRAY_SIZE(metrics); i++)
        metric_register(&metrics[i]);
    vmbus_register_driver(&driver);
}
