/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The connection: which version is spoken, on which message connection, and its orderly end.
 *
 * Versions are tried from newest to oldest, one INITIATE_CONTACT each. From 5.0 on the contact goes to message
 * connection 4 and the answer names the connection for everything after it; a host that does not know connection 4 is
 * older than that, so the walk goes on at 4.1 on connection 1. Source: reference of the VMBus protocol; hosts differ
 * in the details named below.
 */
#define LOG_ROOM "vmbus"
#include "vmbus/vmbus_internal.h"
#include <string.h>

static const uint32_t versions[] = {
    VMBUS_VERSION_WIN10_5_3, VMBUS_VERSION_WIN10_5_2, VMBUS_VERSION_WIN10_5_1, VMBUS_VERSION_WIN10_5_0,
    VMBUS_VERSION_WIN10_4_1, VMBUS_VERSION_WIN10,     VMBUS_VERSION_WIN8_1,    VMBUS_VERSION_WIN8,
};

#define POST_FIRST_DELAY_US 50u
#define POST_LAST_DELAY_US  20000u
#define POST_QUICK_TRIES    100000u        /* in a panic there is no sleeping */
#define QUICK_POLLS         50000000u      /* in a panic without a clock */

struct bus bus = {.waiters = WAIT_QUEUE_INIT(bus.waiters), .released = LIST_INIT(bus.released)};
struct vmbus_counters vmbus_counters;

uint32_t vmbus_version(void)
{
    return bus.state == BUS_CONNECTED ? bus.version : 0;
}

static bool transient(uint16_t status, bool contact)
{
    /* An unknown connection id is for good only while the connection is being found. */
    return status == HV_STATUS_INSUFFICIENT_BUFFERS || status == HV_STATUS_INSUFFICIENT_MEMORY ||
           (status == HV_STATUS_INVALID_CONNECTION_ID && !contact);
}

int vmbus_post_message_on(uint32_t connection, const void *message, uint32_t bytes)
{
    const struct vmbus_msg_header *header = message;
    bool contact = header->type == VMBUS_MSG_INITIATE_CONTACT;
    uint64_t delay = POST_FIRST_DELAY_US, waited = 0;
    unsigned ended = bus.ended;
    uint16_t status;

    KASSERT(bytes <= VMBUS_MESSAGE_MAX);
    for (;;) {
        status = hv_post_message(connection, VMBUS_MESSAGE_TYPE, message, bytes);
        if (status == HV_STATUS_SUCCESS) {
            vmbus_counters.messages_sent++;
            return 0;
        }
        if (!transient(status, contact) || waited >= POST_LIMIT_US)
            break;
        hv_counters.post_retries++;
        task_sleep_us(delay);
        if (bus.ended != ended)
            return -E_REMOVED;         /* it was for a connection that is no more */
        waited += delay;
        delay = MIN(delay * 2, (uint64_t)POST_LAST_DELAY_US);
    }
    if (contact && status == HV_STATUS_INVALID_CONNECTION_ID)
        return -E_NOTSUP;
    log_err_some("message type %u to connection %u: %s", header->type, connection, hv_status_name(status));
    return transient(status, contact) ? -E_TIMEOUT : -E_REFUSED;
}

int vmbus_post_message(const void *message, uint32_t bytes)
{
    const struct vmbus_msg_header *header = message;
    unsigned ended = bus.ended;

    /* From a driver that was too late for the goodbye: the host closes everything itself, and says when it has. */
    if (bus.state == BUS_UNLOADING && header->type != VMBUS_MSG_UNLOAD) {
        BUS_WAIT(bus.ended != ended, UNLOAD_LIMIT_US + POST_LIMIT_US, "vmbus: end of the connection");
        return -E_REMOVED;
    }
    return vmbus_post_message_on(bus.message_connection, message, bytes);
}

/* ---- contact ---- */

void bus_version_response(const struct vmbus_msg_version_response *m, uint32_t bytes)
{
    if (bus.state != BUS_CONTACTING || bus.contact_answered) {
        vmbus_refuse("VERSION_RESPONSE nobody asked for");
        return;
    }
    if (m->supported && bus.version >= VMBUS_VERSION_WIN10_5_0 && bytes < sizeof(*m)) {
        vmbus_refuse("VERSION_RESPONSE of %u bytes lacks the message connection", bytes);
        return;
    }
    memcpy(&bus.contact, m, MIN((size_t)bytes, sizeof(*m)));
    bus.contact_answered = true;
    bus_wake();
}

/* The host was given these pages and did not say that it let go of them: nobody else may have them. */
static void keep_pages(void)
{
    if (bus.interrupt_page.pages)
        shmem_hold(&bus.interrupt_page);
    if (bus.monitor_pages.pages)
        shmem_hold(&bus.monitor_pages);
}

/* 0: agreed; 1: refused, try an older one; 2: the host does not know message connection 4; -E_*. */
static int try_version(uint32_t version)
{
    bool modern = version >= VMBUS_VERSION_WIN10_5_0;
    uint32_t connection = modern ? VMBUS_CONNECTION_MESSAGE_MULTI : VMBUS_CONNECTION_MESSAGE;
    struct vmbus_msg_initiate_contact m = {
        .header.type = VMBUS_MSG_INITIATE_CONTACT,
        .version = version,
        .target_vp = hv_vp_index(),
    };

    if (modern) {
        m.target.sint = HV_SYNIC_SINT_VMBUS;
        if (version >= VMBUS_VERSION_WIN10_5_1)
            hv_current_vtl(&m.target.vtl);
    } else {
        m.interrupt_page = shmem_gpa(&bus.interrupt_page, 0).v;
    }
    if (bus.monitor_pages.pages) {
        m.monitor_page1 = shmem_gpa(&bus.monitor_pages, 0).v;
        m.monitor_page2 = shmem_gpa(&bus.monitor_pages, 1).v;
    }
    bus.version = version;
    bus.contact_answered = false;
    memset(&bus.contact, 0, sizeof(bus.contact));
    int rc = vmbus_post_message_on(connection, &m, sizeof(m));
    if (rc == -E_NOTSUP)
        return 2;
    if (rc)
        return rc;
    if (!BUS_WAIT(bus.contact_answered, CONTACT_LIMIT_US, "vmbus: VERSION_RESPONSE")) {
        log_err("no answer to version %u.%u within %u s", version >> 16, version & 0xFFFF, CONTACT_LIMIT_US / 1000000);
        keep_pages();
        return -E_TIMEOUT;
    }
    if (!bus.contact.supported)
        return 1;
    if (bus.contact.connection_state != VMBUS_CONNECTION_OK) {
        log_err("the host supports version %u.%u but refuses the connection (state %u)", version >> 16,
                version & 0xFFFF, bus.contact.connection_state);
        return -E_REFUSED;
    }
    bus.message_connection = modern ? bus.contact.message_connection : VMBUS_CONNECTION_MESSAGE;
    return 0;
}

/* "5.2" -> value; 0 when it is not of that form. */
static uint32_t parse_version(const char *text)
{
    uint32_t part[2] = {0, 0};
    unsigned n = 0, digits = 0;

    for (; *text; text++) {
        if (*text == '.' && n == 0 && digits) {
            n = 1;
            digits = 0;
        } else if (*text >= '0' && *text <= '9' && digits < 3) {
            part[n] = part[n] * 10 + (uint32_t)(*text - '0');
            digits++;
        } else {
            return 0;
        }
    }
    return n == 1 && digits ? VMBUS_VERSION(part[0], part[1]) : 0;
}

static uint32_t newest_allowed(void)
{
    const char *text = config_string("vmbus.version", NULL);
    uint32_t limit;

    if (!text)
        return versions[0];
    limit = parse_version(text);
    if (limit < versions[ARRAY_SIZE(versions) - 1]) {
        log_warn("vmbus.version=%s is not a version from 2.4 to 5.3: ignored", text);
        return versions[0];
    }
    return limit;
}

/* Hosts that are not trusted are spoken to in the protocol that was made with them in mind, and no other. */
bool vmbus_newest_only(void) { return hv_isolated(); }
static uint32_t oldest_allowed(void) { return vmbus_newest_only() ? VMBUS_VERSION_WIN10_5_2 : 0; }

static int negotiate(void)
{
    uint32_t newest = newest_allowed(), oldest = oldest_allowed();
    bool connection_4 = true;

    for (unsigned i = 0; i < ARRAY_SIZE(versions); i++) {
        if (versions[i] > newest || versions[i] < oldest || (versions[i] >= VMBUS_VERSION_WIN10_5_0 && !connection_4))
            continue;
        int rc = try_version(versions[i]);
        if (rc == 0) {
            log_info("version %u.%u, message connection %u", versions[i] >> 16, versions[i] & 0xFFFF,
                     bus.message_connection);
            return 0;
        }
        if (rc < 0)
            return rc;
        if (rc == 2 && versions[i] < VMBUS_VERSION_WIN10_5_0) {
            log_err("the host knows neither message connection: no VMBus here");
            return -E_NOTSUP;
        }
        connection_4 = connection_4 && rc != 2;
    }
    log_err("no VMBus version in common with the host%s",
            oldest ? " (an isolated machine speaks none before 5.2)" : "");
    return -E_NOTSUP;
}

/* ---- the bus task: answers for offers that have no task of their own ---- */

static void worker(void *arg UNUSED)
{
    while (BUS_WAIT(bus.worker_stop || !list_empty(&bus.released), RT_FOREVER, "vmbus: work")) {
        if (bus.worker_stop)
            break;
        offers_drain_released();
    }
    bus.worker = NULL;
    bus_wake();
}

static int bring_up(void)
{
    int rc;

    hv_set_message_handler(vmbus_message);
    bus.worker_stop = false;
    bus.worker = task_spawn("vmbus", worker, NULL, 0);
    if (!bus.worker)
        return -E_NOMEM;
    rc = oldest_allowed() < VMBUS_VERSION_WIN10_5_0 ? shmem_alloc(&bus.interrupt_page, 1, SHMEM_LINEAR, 0) : 0;
    if (rc)
        return rc;
    rc = monitor_alloc();
    return rc ? rc : negotiate();
}

static void tear_down(void)
{
    bus.state = BUS_DISCONNECTED;
    bus.version = 0;
    bus.ended++;
    gpadl_connection_gone(bus.unloaded);
    offers_outlived();
    hv_set_message_handler(NULL);
    if (bus.worker) {
        bus.worker_stop = true;
        bus_wake();
        BUS_WAIT(!bus.worker, REMOVE_LIMIT_US, "vmbus: end of the bus task");
    }
    offers_free();
    monitor_free();
    shmem_free(&bus.interrupt_page);
}

void bus_offers_delivered(void)
{
    bus.offers_delivered = true;
    bus_wake();
}

static void dump_probing(struct vmbus_channel *ch, void *arg UNUSED)
{
    if (ch->probing)
        vmbus_dump_channel(ch);
}

int vmbus_connect(void)
{
    static const struct vmbus_msg_header request = {.type = VMBUS_MSG_REQUEST_OFFERS};
    int rc;

    KASSERT(bus.state == BUS_DISCONNECTED);
    if (!hv_can_vmbus())
        return -E_NOTSUP;
    bus.state = BUS_CONTACTING;
    bus.offers_delivered = bus.unloaded = false;
    rc = bring_up();
    if (rc) {
        tear_down();
        return rc;
    }
    bus.state = BUS_CONNECTED;
    rc = vmbus_post_message(&request, sizeof(request));
    if (rc == 0 && !BUS_WAIT(bus.offers_delivered, OFFERS_LIMIT_US, "vmbus: ALL_OFFERS_DELIVERED"))
        rc = -E_TIMEOUT;
    if (rc) {
        log_err("the offers did not come: %s (%u so far)", error_name(rc), bus.channel_count);
        vmbus_disconnect(false);
        return rc;
    }
    log_info("%u offers, %u of them served", bus.channel_count, bus.device_tasks);
    if (!BUS_WAIT(bus.probing == 0, PROBE_LIMIT_US, "vmbus: probes")) {
        log_warn("%u devices are still being probed", bus.probing);
        vmbus_for_each_channel(dump_probing, NULL);
    }
    return 0;
}

/* ---- the end ---- */

void bus_unloaded(void)
{
    if (bus.state != BUS_UNLOADING) {
        vmbus_refuse("UNLOAD_RESPONSE nobody asked for");
        return;
    }
    bus.unloaded = true;
    bus_wake();
}

/* From a panic: no tasks, no sleeping; the loop is gone, so the slot is polled. */
static void unload_quick(void)
{
    static const struct vmbus_msg_header unload = {.type = VMBUS_MSG_UNLOAD};
    uint64_t start = rt_now_100ns();
    uint16_t status = HV_STATUS_INSUFFICIENT_BUFFERS;

    bus.state = BUS_UNLOADING;
    for (unsigned i = 0; i < POST_QUICK_TRIES && transient(status, false); i++) {
        status = hv_post_message(bus.message_connection, VMBUS_MESSAGE_TYPE, &unload, sizeof(unload));
        hv_synic_poll();               /* what the host wants to tell first may fill its queue */
    }
    for (unsigned i = 0; i < QUICK_POLLS && !bus.unloaded; i++) {
        if (rt_now_100ns() - start >= US_100NS(UNLOAD_QUICK_LIMIT_US))
            break;
        hv_synic_poll();
        arch_cpu_relax();
    }
}

void vmbus_disconnect(bool quick)
{
    static const struct vmbus_msg_header unload = {.type = VMBUS_MSG_UNLOAD};

    if (bus.state != BUS_CONNECTED)
        return;
    if (quick) {
        unload_quick();
        return;
    }
    bus.state = BUS_DISCONNECTING;
    offers_stop_devices();
    bus.state = BUS_UNLOADING;
    if (vmbus_post_message(&unload, sizeof(unload)) == 0)
        BUS_WAIT(bus.unloaded, UNLOAD_LIMIT_US, "vmbus: UNLOAD_RESPONSE");
    if (!bus.unloaded) {
        log_warn("no UNLOAD_RESPONSE within %u s", UNLOAD_LIMIT_US / 1000000);
        keep_pages();
    }
    tear_down();
}
