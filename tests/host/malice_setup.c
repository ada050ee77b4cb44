/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * malice_setup.c: lies while guest and host come together: the answer to a contact, what comes around it, the words of
 * an offer by which the guest will signal, page lists; and what posting a message or signalling says.
 *
 * An answer that says "refused" is true: the caller undoes what it did. So is "gone": it is said of page
 * lists that nobody uses, and of numbers that there are none of.
 */
#include "tests/host/host_internal.h"

#define LATE_MOST_S 25u                           /* longer than the guest waits for an answer */
#define FULL_MOST_S 12u

#define SUPPORTED_AT  offsetof(struct vmbus_msg_version_response, supported)
#define STATE_AT      offsetof(struct vmbus_msg_version_response, connection_state)
#define CONNECTION_AT offsetof(struct vmbus_msg_version_response, message_connection)

/* ---- messages that come late ------------------------------------------------------------------------ */

static void send_late(struct host *h)
{
    struct malice *m = &h->malice;
    const struct host_chan *ch = NULL;
    bool offer = m->late_bytes != 0 && malice_word(m->late, 0) == VMBUS_MSG_OFFER_CHANNEL;

    if (offer)
        ch = vchan_find(h, malice_word(m->late, offsetof(struct vmbus_msg_offer_channel, relid)));
    /* An offer that was taken back meanwhile would never be taken back again. */
    if (m->late_bytes != 0 && (!offer || (ch != NULL && !ch->rescinded)))
        vserver_enqueue(h, m->late, m->late_bytes);
    m->late_bytes = 0;
}

static void late_due(struct host_alarm *alarm)
{
    send_late((struct host *)(void *)((char *)alarm - offsetof(struct host, malice.late_alarm)));
}

static bool delay(struct host *h, const uint8_t *msg, uint32_t bytes)
{
    struct malice *m = &h->malice;
    uint64_t ms = malice_pick(h, 1000 * LATE_MOST_S);

    if (m->late_bytes != 0)
        return false;
    memcpy(m->late, msg, bytes);
    m->late_bytes = bytes;
    host_alarm_set(h, &m->late_alarm, host_now(h) + ms * HOST_TICKS_PER_MS);
    malice_told(h, "message %u comes %llu ms later", malice_word(msg, 0), (unsigned long long)ms);
    return true;
}

void malice_setup_init(struct host *h)
{
    host_alarm_init(&h->malice.late_alarm, late_due);
}

void malice_setup_honest(struct host *h)
{
    host_alarm_set(h, &h->malice.late_alarm, HOST_NEVER);
    send_late(h);
}

/* ---- contact ---------------------------------------------------------------------------------------- */

/* Something that nobody asked for goes before the answer. */
static void push_in(struct host *h, const uint8_t *msg)
{
    static const uint8_t types[] = {VMBUS_MSG_ALL_OFFERS_DELIVERED, VMBUS_MSG_OPEN_RESULT, VMBUS_MSG_GPADL_CREATED,
                                    VMBUS_MSG_GPADL_TORNDOWN, VMBUS_MSG_RESCIND_OFFER, VMBUS_MSG_UNLOAD_RESPONSE,
                                    VMBUS_MSG_MODIFY_CHANNEL_RESPONSE, VMBUS_MSG_OFFER_CHANNEL};
    uint8_t other[VMBUS_MESSAGE_MAX] = {0};

    malice_set_word(other, 0, types[malice_pick(h, sizeof(types))]);
    for (uint32_t at = 8; at < 32; at += 4)
        malice_set_word(other, at, malice_value(h));
    if (malice_word(other, 0) == VMBUS_MSG_RESCIND_OFFER || malice_word(other, 0) == VMBUS_MSG_GPADL_TORNDOWN)
        malice_set_word(other, 8, 0x40000000u | malice_word(other, 8));           /* of nothing that exists */
    malice_told(h, "message %u comes before the %u", malice_word(other, 0), malice_word(msg, 0));
    vserver_enqueue(h, other, sizeof(struct vmbus_msg_offer_channel));
}

static unsigned lie_about_version(struct host *h, uint8_t *msg, uint32_t *bytes, bool *refused)
{
    switch (malice_pick(h, 8)) {
    case 0:
        msg[SUPPORTED_AT] = (uint8_t)(msg[SUPPORTED_AT] ? 0 : 1 + malice_pick(h, 255));
        *refused = msg[SUPPORTED_AT] == 0;
        malice_told(h, "version supported: %u", msg[SUPPORTED_AT]);
        return 1;
    case 1:
        msg[STATE_AT] = (uint8_t)(1 + malice_pick(h, 255));
        *refused = msg[SUPPORTED_AT] != 0;
        malice_told(h, "connection state %u", msg[STATE_AT]);
        return 1;
    case 2:
        malice_set_word(msg, CONNECTION_AT, malice_value(h));
        malice_told(h, "message connection %#x", malice_word(msg, CONNECTION_AT));
        return 1;
    case 3:
        *bytes = (uint32_t)malice_pick(h, *bytes);
        malice_told(h, "the answer to a contact has %u bytes", *bytes);
        return 1;
    case 4:
        malice_told(h, "the answer to a contact comes twice");
        return 2;
    case 5:
        push_in(h, msg);
        return 1;
    case 6:
        return delay(h, msg, *bytes) ? 0 : 1;
    default:
        malice_told(h, "a contact is not answered");
        return 0;
    }
}

unsigned malice_connect(struct host *h, uint8_t *msg, uint32_t *bytes, const void *device, bool *refused)
{
    uint32_t type = malice_word(msg, 0);

    if (type != VMBUS_MSG_VERSION_RESPONSE && type != VMBUS_MSG_OFFER_CHANNEL &&
        type != VMBUS_MSG_ALL_OFFERS_DELIVERED && type != VMBUS_MSG_UNLOAD_RESPONSE)
        return 1;
    if (!malice_occasion(h, HOST_MALICE_CONNECT, device))
        return 1;
    if (type == VMBUS_MSG_VERSION_RESPONSE)
        return lie_about_version(h, msg, bytes, refused);
    switch (malice_pick(h, 4)) {
    case 0:
        malice_told(h, "message %u never comes", type);
        return 0;
    case 1:
        return delay(h, msg, *bytes) ? 0 : 1;
    case 2:
        push_in(h, msg);
        return 1;
    default:
        malice_told(h, "message %u comes twice", type);
        return 2;
    }
}

/* ---- wiring ----------------------------------------------------------------------------------------- */

void malice_offered(struct host_chan *ch, const uint8_t *msg)
{
    struct vmbus_msg_offer_channel offer;

    memcpy(&offer, msg, sizeof(offer));
    if (offer.header.type != VMBUS_MSG_OFFER_CHANNEL || offer.relid != ch->relid)
        return;
    ch->told_connection = offer.connection_id;
    ch->told_monitor = offer.monitor_allocated & VMBUS_OFFER_MONITOR_ALLOCATED ? offer.monitor_id
                                                                               : VMBUS_OFFER_MONITOR_NONE;
}

bool malice_miswired(const struct host *h, uint32_t connection)
{
    for (uint32_t i = 1; i <= VMBUS_RELID_MAX; i++) {
        const struct host_chan *ch = h->vmbus.channel[i];
        if (ch != NULL && ch->told_connection == connection && connection != ch->connection_id)
            return true;
    }
    return false;
}

bool malice_monitored(const struct host *h, uint32_t id)
{
    if (h->malice.scribbled)
        return true;
    for (uint32_t i = 1; i <= VMBUS_RELID_MAX; i++) {
        const struct host_chan *ch = h->vmbus.channel[i];
        if (ch != NULL && ch->told_monitor == id && id != ch->monitor_id)
            return true;
    }
    return false;
}

void malice_wire(struct host *h, struct vmbus_msg_offer_channel *msg, const void *device)
{
    if (!malice_occasion(h, HOST_MALICE_WIRING, device))
        return;
    switch (malice_pick(h, 5)) {
    case 0:
    case 1:
        msg->connection_id = malice_pick(h, 2) ? malice_value(h)
                                               : HOST_CHANNEL_CONNECTION(1 + (uint32_t)malice_pick(h, 16));
        malice_told(h, "channel %u has connection id %#x", msg->relid, msg->connection_id);
        break;
    case 2:
    case 3:
        msg->monitor_allocated = (uint8_t)malice_pick(h, 4);
        msg->monitor_id = (uint8_t)malice_pick(h, 256);
        malice_told(h, "channel %u has monitor id %u (%u)", msg->relid, msg->monitor_id, msg->monitor_allocated);
        break;
    default:
        msg->flags = (uint16_t)malice_value(h);
        msg->dedicated_interrupt = (uint16_t)malice_value(h);
        msg->mmio_megabytes = (uint16_t)malice_value(h);
        for (uint32_t i = 0; i < sizeof(msg->user_data); i++)
            msg->user_data[i] = (uint8_t)malice_pick(h, 256);
        malice_told(h, "channel %u has flags %#x", msg->relid, msg->flags);
        break;
    }
}

/* Signals of the guest's that were on the page and are no more. */
static void wipe(struct host *h, uint32_t at, uint32_t lost)
{
    uint32_t group = (at - (uint32_t)offsetof(struct vmbus_monitor_page, groups)) / sizeof(struct vmbus_monitor_group);

    if (at < offsetof(struct vmbus_monitor_page, groups) || group >= VMBUS_MONITOR_GROUPS || at % 8 != 0)
        return;
    for (; lost != 0; lost &= lost - 1) {
        struct host_chan *ch = vserver_monitor_owner(h, group * VMBUS_MONITOR_GROUP_BITS +
                                                        (uint32_t)__builtin_ctz(lost));
        if (ch != NULL)
            ch->wiped = true;
    }
}

void malice_scribble(struct host *h)
{
    uint8_t *page;
    uint32_t which, at, v, old;

    if (h->vmbus.monitor == NULL || !malice_occasion(h, HOST_MALICE_WIRING, NULL))
        return;
    which = (uint32_t)malice_pick(h, 2);
    page = host_map(h, USE_MONITOR_PAGE, h->vmbus.monitor_gpa[which], HV_PAGE_SIZE);
    if (page == NULL)
        return;
    for (uint64_t left = 1 + malice_pick(h, 16); left > 0; left--) {
        at = 4 * (uint32_t)malice_pick(h, malice_pick(h, 2) ? 10 : HV_PAGE_SIZE / 4);
        v = malice_value(h);
        old = __atomic_exchange_n((uint32_t *)(void *)(page + at), v, __ATOMIC_SEQ_CST);
        if (which == 1)
            wipe(h, at, old & ~v);
    }
    host_unmap(h, USE_MONITOR_PAGE, h->vmbus.monitor_gpa[which], HV_PAGE_SIZE);
    h->malice.scribbled |= which == 1;
    malice_told(h, "monitor page %u scribbled over", which + 1);
}

/* ---- page lists ------------------------------------------------------------------------------------- */

static uint32_t another_list(struct host *h, uint32_t id)
{
    struct host_gpadl *g;

    switch (malice_pick(h, 3)) {
    case 0:
        return id + 1 + (uint32_t)malice_pick(h, 4);
    case 1:
        return malice_value(h);
    default:
        list_for_each(node, &h->vmbus.gpadls) {
            g = list_entry(node, struct host_gpadl, node);
            if (g->id != id)
                return g->id;
        }
        return id ^ 0x80000000u;
    }
}

static unsigned lie_about_created(struct host *h, uint8_t *msg, uint32_t bytes, bool *refused)
{
    uint32_t relid = malice_word(msg, 8), id = malice_word(msg, 12), other = another_list(h, id);
    struct vmbus_msg_gpadl_torndown gone = {.header.type = VMBUS_MSG_GPADL_TORNDOWN, .gpadl = id};
    bool lost = malice_pick(h, 2);

    switch (malice_pick(h, 5)) {
    case 0:
        malice_told(h, "page list %#x is there, %u times", id, lost ? 2 : 5);
        return lost ? 2 : 5;
    case 1:
        malice_set_word(msg, 12, other);
        break;
    case 2:
        malice_set_word(msg, 8, malice_pick(h, 2) ? malice_value(h) : relid ^ 1);
        break;
    case 3:
        if (malice_word(msg, 16) == NTSTATUS_SUCCESS)
            *refused = true;
        malice_set_word(msg, 16, 1 + malice_value(h) / 2);
        malice_told(h, "page list %#x is refused", id);
        return 1;
    default:
        malice_told(h, "page list %#x is gone, then it is there", id);
        vserver_enqueue(h, &gone, sizeof(gone));
        return 1;
    }
    malice_told(h, "page list %#x of channel %u is there%s %#x of channel %u", malice_word(msg, 12),
                malice_word(msg, 8), lost ? ", and not" : ", before", id, relid);
    if (lost)
        return 1;
    vserver_enqueue(h, msg, bytes);
    malice_set_word(msg, 8, relid);
    malice_set_word(msg, 12, id);
    return 1;
}

static unsigned lie_about_torndown(struct host *h, uint8_t *msg, uint32_t bytes)
{
    uint32_t id = malice_word(msg, 8), other = another_list(h, id);
    bool lost = malice_pick(h, 4) == 0;

    if (vgpadl_find(h, 0, other) != NULL)
        other ^= 0x40000000u;                     /* never of pages that are in use */
    if (malice_pick(h, 3) == 0) {
        malice_told(h, "page list %#x is gone, twice", id);
        return 2;
    }
    malice_set_word(msg, 8, other);
    malice_told(h, "page list %#x is gone%s %#x", other, lost ? ", and not" : ", before", id);
    if (lost)
        return 1;
    vserver_enqueue(h, msg, bytes);
    malice_set_word(msg, 8, id);
    return 1;
}

unsigned malice_gpadl(struct host *h, uint8_t *msg, uint32_t bytes, const void *device, bool *refused)
{
    uint32_t type = malice_word(msg, 0);

    if ((type != VMBUS_MSG_GPADL_CREATED && type != VMBUS_MSG_GPADL_TORNDOWN) ||
        !malice_occasion(h, HOST_MALICE_GPADL, device))
        return 1;
    return type == VMBUS_MSG_GPADL_CREATED ? lie_about_created(h, msg, bytes, refused)
                                           : lie_about_torndown(h, msg, bytes);
}

void malice_gpadl_begun(struct host *h, const struct host_gpadl *g)
{
    struct host_chan *ch = vchan_find(h, g->relid);
    struct vmbus_msg_gpadl_created msg = {
        .header = {.type = VMBUS_MSG_GPADL_CREATED}, .relid = g->relid, .gpadl = g->id,
    };

    if (g->complete || !malice_occasion(h, HOST_MALICE_GPADL, ch != NULL ? ch->device : NULL))
        return;
    malice_told(h, "page list %#x is there before all of it came", g->id);
    vserver_enqueue(h, &msg, sizeof(msg));
}

/* ---- hypercalls ------------------------------------------------------------------------------------- */

uint16_t malice_post(struct host *h)
{
    struct malice *m = &h->malice;

    if (m->full_until > host_now(h))
        return HV_STATUS_INSUFFICIENT_BUFFERS;
    if (!malice_occasion(h, HOST_MALICE_REFUSE, NULL))
        return HV_STATUS_SUCCESS;
    switch (malice_pick(h, 8)) {
    case 0:
        m->full_until = host_now(h) + malice_pick(h, 1000 * FULL_MOST_S) * HOST_TICKS_PER_MS;
        malice_told(h, "no buffer for messages, for %llu ms",
                    (unsigned long long)((m->full_until - host_now(h)) / HOST_TICKS_PER_MS));
        return HV_STATUS_INSUFFICIENT_BUFFERS;
    case 1: {
        uint16_t status = (uint16_t)(1 + malice_pick(h, 0xFFFF));
        malice_told(h, "posting ends with status %#x", status);
        return status;
    }
    default:
        malice_told(h, "no buffer for a message");
        return HV_STATUS_INSUFFICIENT_BUFFERS;
    }
}

bool malice_signal_fails(struct host *h, const struct host_chan *ch)
{
    if (!malice_occasion(h, HOST_MALICE_REFUSE, ch->device))
        return false;
    malice_told(h, "a signal for channel %u is refused", ch->relid);
    return true;
}
