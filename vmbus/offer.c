/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Offers, and the task that each served device has.
 *
 *   OFFER_CHANNEL   checked, then kept by relid; when a driver serves its class a task runs the driver's probe
 *   device_task     probe -> waits until the device is to go -> (rescinded: callbacks stopped) -> remove -> released
 *   RESCIND_OFFER   the channel is told (channel_rescind); its task does the rest. Offers without one are answered by
 *                   the bus task, because posting may have to wait and messages are handled where nothing may
 *
 * The task exists from probe to removal so that removing a device needs no allocation. The table has one entry per
 * relid the protocol knows (2047): a host that offers thousands fills it and no more, and DEVICES_MAX are served.
 * Absurd, duplicate or orphaned offers are refused. Where the host is not trusted only the classes marked below are
 * served: devices whose drivers check everything, and none that would tell the host about the machine or let it change
 * the machine.
 */
#define LOG_ROOM "vmbus"
#include "vmbus/vmbus_internal.h"
#include <string.h>

#define DEVICES_MAX     128u           /* served at once: the largest machines have 68 NICs; each takes memory */
#define UNSERVED_LOGGED 32u            /* twice the classes there are; a host may offer thousands */

static struct list drivers = LIST_INIT(drivers);

static const struct {
    const char *name;
    struct guid id;
    bool isolated;                     /* served in an isolated machine, too */
} classes[] = {
    {"net", VMBUS_GUID_NETVSC, true},         {"scsi", VMBUS_GUID_SCSI, true},
    {"ide", VMBUS_GUID_IDE, false},           {"fc", VMBUS_GUID_FC, false},
    {"pci", VMBUS_GUID_VPCI, false},          {"video", VMBUS_GUID_VIDEO, false},
    {"keyboard", VMBUS_GUID_KEYBOARD, false}, {"mouse", VMBUS_GUID_MOUSE, false},
    {"shutdown", VMBUS_GUID_SHUTDOWN, true},  {"timesync", VMBUS_GUID_TIMESYNC, true},
    {"heartbeat", VMBUS_GUID_HEARTBEAT, true}, {"kvp", VMBUS_GUID_KVP, false},
    {"vss", VMBUS_GUID_VSS, false},           {"balloon", VMBUS_GUID_BALLOON, false},
    {"fcopy", VMBUS_GUID_FCOPY, false},
};

/* By words: in a flood of offers each is compared with all before it, and to a fuzzer each memcmp is a call. */
static bool guid_equal(const struct guid *a, const struct guid *b)
{
    uint64_t x[2], y[2];

    memcpy(x, a, sizeof(x));
    memcpy(y, b, sizeof(y));
    return x[0] == y[0] && x[1] == y[1];
}

static void guid_text(char *text, size_t size, const struct guid *g)
{
    const uint8_t *b = g->bytes;

    ksnprintf(text, size, "{%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x}", b[3], b[2], b[1],
              b[0], b[5], b[4], b[7], b[6], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]);
}

/* Its class and, of a known class, its name; says whether it may be served. */
static void classify(struct vmbus_channel *ch)
{
    bool trusted = !hv_isolated();

    ch->served = trusted;
    for (size_t i = 0; i < ARRAY_SIZE(classes); i++) {
        if (!guid_equal(&classes[i].id, &ch->offer.interface_type))
            continue;
        ksnprintf(ch->name, sizeof(ch->name), "%s %u", classes[i].name, channel_relid(ch));
        ch->served = trusted || classes[i].isolated;
        return;
    }
    guid_text(ch->name, sizeof(ch->name), &ch->offer.interface_type);
}

struct vmbus_channel *channel_find(uint32_t relid)
{
    return relid <= VMBUS_RELID_MAX ? bus.channels[relid] : NULL;
}

void vmbus_for_each_channel(void (*fn)(struct vmbus_channel *ch, void *arg), void *arg)
{
    for (uint32_t relid = 1; relid < bus.relid_end; relid++) {
        if (bus.channels[relid])
            fn(bus.channels[relid], arg);
    }
}

static struct vmbus_channel *find_primary(const struct guid *instance)
{
    for (uint32_t relid = 1; relid < bus.relid_end; relid++) {
        struct vmbus_channel *ch = bus.channels[relid];
        if (ch && ch->offer.sub_channel_index == 0 && !ch->rescinded && guid_equal(&ch->offer.instance, instance))
            return ch;
    }
    return NULL;
}

/* ---- the end of an offer ---- */

static void unlink_channel(struct vmbus_channel *ch)
{
    hv_set_event_handler(channel_relid(ch), NULL, NULL);    /* a driver that is late has not closed it */
    bus.channels[channel_relid(ch)] = NULL;
    bus.channel_count--;
}

/* From here on the host may use the relid again. Frees ch. */
static void release(struct vmbus_channel *ch)
{
    struct vmbus_msg_relid m = {.header.type = VMBUS_MSG_RELID_RELEASED, .relid = channel_relid(ch)};

    event_cancel(&ch->event);
    if (channel_current(ch)) {
        gpadl_channel_gone(ch);
        unlink_channel(ch);
        if (bus.state == BUS_CONNECTED || bus.state == BUS_DISCONNECTING)
            vmbus_post_message(&m, sizeof(m));
    }
    log_debug("%s: released", ch->name);
    kfree(ch);
}

void offers_drain_released(void)
{
    struct list *node;

    while ((node = list_pop_front(&bus.released)))
        release(list_entry(node, struct vmbus_channel, node));
}

/* ---- a served device ---- */

static void device_task(void *arg)
{
    struct vmbus_channel *ch = arg;
    struct vmbus_driver *driver = ch->driver;
    int rc = driver->probe(ch);

    ch->probing = false;
    bus.probing--;
    bus_wake();
    if (rc == 0) {
        WAIT_UNTIL(&ch->removal, channel_gone(ch), RT_FOREVER, "vmbus: removal of the device");
        /* An orderly goodbye is a dialogue: then the callbacks run until the driver closes. */
        if (ch->rescinded || ch->broken)
            channel_silence(ch);
        driver->remove(ch);
    }
    KASSERT(ch->state == CHANNEL_CLOSED);
    ch->driver = NULL;
    ch->driver_data = NULL;
    ch->task = NULL;
    if (ch->rescinded)
        release(ch);
    bus.device_tasks--;
    bus_wake();
}

static struct vmbus_driver *find_driver(const struct vmbus_channel *ch)
{
    list_for_each(pos, &drivers) {
        struct vmbus_driver *driver = list_entry(pos, struct vmbus_driver, node);
        if (guid_equal(&driver->class_id, &ch->offer.interface_type))
            return driver;
    }
    return NULL;
}

/* Sub-channels belong to the driver of their primary, which finds them itself. */
static void serve(struct vmbus_channel *ch)
{
    struct vmbus_driver *driver = ch->offer.sub_channel_index ? NULL : find_driver(ch);

    if (!driver || !ch->served || ch->task || channel_gone(ch))
        return;
    if (bus.device_tasks >= DEVICES_MAX) {
        vmbus_refuse("%s: not used, %u devices are in use already", ch->name, bus.device_tasks);
        return;
    }
    ch->driver = driver;
    ch->probing = true;
    ch->task = task_spawn(driver->name, device_task, ch, 0);
    if (!ch->task) {
        log_err_some("%s: no memory for the device's task", ch->name);
        ch->driver = NULL;
        ch->probing = false;
        return;
    }
    bus.device_tasks++;
    bus.probing++;
}

void vmbus_register_driver(struct vmbus_driver *driver)
{
    list_push_back(&drivers, &driver->node);
    if (bus.state != BUS_CONNECTED)
        return;
    for (uint32_t relid = 1; relid < bus.relid_end; relid++) {
        if (bus.channels[relid])
            serve(bus.channels[relid]);
    }
}

/* ---- messages ---- */

/* Says why not, or returns true. Nothing has changed yet. */
static bool acceptable(const struct vmbus_msg_offer_channel *m)
{
    if (bus.state != BUS_CONNECTED) {
        vmbus_refuse("OFFER_CHANNEL while not connected");
        return false;
    }
    if (m->relid == 0 || m->relid > VMBUS_RELID_MAX) {
        vmbus_refuse("offer with relid %u, which is not from 1 to %u", m->relid, VMBUS_RELID_MAX);
        return false;
    }
    if (bus.channels[m->relid]) {
        vmbus_refuse("offer with relid %u, which %s has", m->relid, bus.channels[m->relid]->name);
        return false;
    }
    const struct vmbus_channel *primary = find_primary(&m->instance);
    if (m->sub_channel_index == 0 && primary) {
        vmbus_refuse("offer with relid %u repeats the instance of %s", m->relid, primary->name);
        return false;
    }
    if (m->sub_channel_index != 0 && !primary) {
        vmbus_refuse("offer with relid %u is sub-channel %u of no device", m->relid, m->sub_channel_index);
        return false;
    }
    return true;
}

void offer_received(const struct vmbus_msg_offer_channel *m)
{
    static unsigned unserved;
    struct vmbus_channel *ch;
    char instance[40] = "";

    if (!acceptable(m))
        return;
    ch = kzalloc(sizeof(*ch));
    if (!ch) {
        vmbus_refuse("no memory for the offer with relid %u", m->relid);
        return;
    }
    ch->offer = *m;
    if ((m->monitor_allocated & VMBUS_OFFER_MONITOR_ALLOCATED) && m->monitor_id >= VMBUS_MONITOR_COUNT) {
        vmbus_refuse("offer with relid %u has monitor id %u: signalling it by hypercall", m->relid, m->monitor_id);
        ch->offer.monitor_allocated = 0;
    }
    channel_init(ch);
    classify(ch);
    bus.channels[m->relid] = ch;
    bus.channel_count++;
    bus.relid_end = MAX(bus.relid_end, m->relid + 1);
    vmbus_counters.offers++;
    if (!ch->served || log_get_level() >= LOG_DEBUG)   /* a GUID as text costs as much as all else here */
        guid_text(instance, sizeof(instance), &m->instance);
    log_debug("%s offered: %s, sub-channel %u, connection 0x%x", ch->name, instance, m->sub_channel_index,
              m->connection_id);
    if (!ch->served && unserved++ < UNSERVED_LOGGED)
        log_info("%s %s: not used, because this machine is isolated", ch->name, instance);
    serve(ch);
}

void offer_rescinded(uint32_t relid)
{
    struct vmbus_channel *ch = channel_find(relid);

    if (!ch || ch->rescinded) {
        vmbus_refuse("RESCIND_OFFER for relid %u, which is not offered", relid);
        return;
    }
    vmbus_counters.rescinds++;
    if (ch->driver)
        log_info_some("%s: the host removes it", ch->name);
    channel_rescind(ch);
    if (!ch->task) {
        list_push_back(&bus.released, &ch->node);
        bus_wake();
    }
}

/* ---- the end of the connection ---- */

static void stop_device(struct vmbus_channel *ch, void *arg UNUSED)
{
    channel_stop(ch);
}

static void dump_remaining(struct vmbus_channel *ch, void *arg UNUSED)
{
    if (ch->task)
        vmbus_dump_channel(ch);
}

/* What a driver that is late sends from here on, nobody would read. */
static void mute(struct vmbus_channel *ch, void *arg UNUSED)
{
    ch->usable = false;
}

void offers_stop_devices(void)
{
    vmbus_for_each_channel(stop_device, NULL);
    if (!BUS_WAIT(bus.device_tasks == 0, REMOVE_LIMIT_US, "vmbus: removal of all devices")) {
        log_warn("%u devices did not stop within %u s", bus.device_tasks, REMOVE_LIMIT_US / 1000000);
        vmbus_for_each_channel(dump_remaining, NULL);
    }
    vmbus_for_each_channel(mute, NULL);
}

static void outlive(struct vmbus_channel *ch, void *arg UNUSED)
{
    if (ch->task)
        channel_rescind(ch);
}

void offers_outlived(void)
{
    vmbus_for_each_channel(outlive, NULL);
}

void offers_free(void)
{
    while (!list_empty(&bus.released))
        list_pop_front(&bus.released);     /* the table below still has them */
    for (uint32_t relid = 1; relid < bus.relid_end; relid++) {
        struct vmbus_channel *ch = bus.channels[relid];
        if (!ch)
            continue;
        unlink_channel(ch);
        if (ch->task)
            continue;                      /* which frees it */
        event_cancel(&ch->event);
        kfree(ch);
    }
    bus.relid_end = 0;
}
