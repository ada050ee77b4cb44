/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * vmbus_server.c: the VMBus connection: posted messages in, channel messages out, versions, monitor pages.
 *
 * A message is handled at once, inside the hypercall that posted it; answers wait in one queue, in order,
 * for the slot of the VP named in INITIATE_CONTACT. A new contact or an Unload closes every channel first
 * and is answered when the last request that uses guest memory is done.
 */
#include "tests/host/host_internal.h"

#define MONITOR_GROUP_WORD(page, group) ((uint32_t *)(void *)&(page)->groups[group])

static const uint32_t known_versions[] = {
    VMBUS_VERSION_WIN8,     VMBUS_VERSION_WIN8_1,   VMBUS_VERSION_WIN10,    VMBUS_VERSION_WIN10_4_1,
    VMBUS_VERSION_WIN10_5_0, VMBUS_VERSION_WIN10_5_1, VMBUS_VERSION_WIN10_5_2, VMBUS_VERSION_WIN10_5_3,
    VMBUS_VERSION_COPPER,
};

static void monitor_due(struct host_alarm *alarm);

void vserver_init(struct host *h)
{
    struct host_vmbus *v = &h->vmbus;

    host_alarm_init(&h->monitor_alarm, monitor_due);
    malice_setup_init(h);
    v->tail = &v->first;
    v->next_relid = h->cfg.first_relid;
    if (v->next_relid == 0 || v->next_relid > VMBUS_RELID_MAX)
        v->next_relid = 1;
    list_init(&v->gpadls);
}

static bool version_accepted(const struct host *h, uint32_t version)
{
    if (version < h->cfg.vmbus_min || version > h->cfg.vmbus_max)
        return false;
    for (uint32_t i = 0; i < HOST_COUNT(known_versions); i++) {
        if (known_versions[i] == version)
            return true;
    }
    return false;
}

/* ---- messages to the guest -------------------------------------------------------------------------- */

void vserver_enqueue(struct host *h, const void *msg, uint32_t bytes)
{
    struct host_msg *m = host_alloc(h, sizeof(*m));

    if (m == NULL) {
        host_log(h, HOST_LOG_ERROR, "vmbus: no memory for a message");
        return;
    }
    m->vp = h->vmbus.target_vp;
    m->bytes = bytes;
    memcpy(m->payload, msg, bytes);
    *h->vmbus.tail = m;
    h->vmbus.tail = &m->next;
}

/* Where each answer keeps its status, for HOST_FAULT_ERROR; 0: it has none. */
static uint32_t status_offset(uint32_t type)
{
    switch (type) {
    case VMBUS_MSG_OPEN_RESULT:
    case VMBUS_MSG_GPADL_CREATED:
        return 16;
    case VMBUS_MSG_MODIFY_CHANNEL_RESPONSE:
        return 12;
    default:
        return 0;
    }
}

enum host_fault_kind vserver_send(struct host *h, const void *msg, uint32_t bytes, bool reply)
{
    enum host_fault_kind fault = reply ? host_fault(h, HOST_FAULT_VMBUS_REPLY) : HOST_FAULT_NONE;
    uint8_t copy[VMBUS_MESSAGE_MAX];
    uint32_t type, error = NTSTATUS_FAILURE, at;
    bool refused;

    memcpy(copy, msg, bytes);
    memcpy(&type, copy, 4);
    switch (fault) {
    case HOST_FAULT_NONE:
        break;
    case HOST_FAULT_DROP:
        return fault;
    case HOST_FAULT_ERROR:
        at = status_offset(type);
        if (at != 0)
            memcpy(copy + at, &error, 4);
        else if (type == VMBUS_MSG_VERSION_RESPONSE)
            memset(copy + 8, 0, bytes - 8);
        break;
    case HOST_FAULT_SHORT:
        bytes = sizeof(struct vmbus_msg_header);
        break;
    case HOST_FAULT_WRONG_ID:
        if (bytes >= 12)
            copy[10] ^= 0x5A;
        break;
    case HOST_FAULT_TWICE:
        vserver_enqueue(h, copy, bytes);
        break;
    case HOST_FAULT_GARBAGE:
        memset(copy + 4, 0xEE, bytes - 4);
        break;
    }
    host_trace_bytes(h, "message", copy, bytes);
    for (unsigned n = malice_message(h, copy, &bytes, reply, &refused); n > 0; n--)
        vserver_enqueue(h, copy, bytes);
    return refused ? HOST_FAULT_ERROR : fault;
}

static void drop_queue(struct host *h)
{
    while (h->vmbus.first != NULL) {
        struct host_msg *m = h->vmbus.first;
        h->vmbus.first = m->next;
        host_free(h, m);
    }
    h->vmbus.tail = &h->vmbus.first;
}

static void deliver(struct host *h)
{
    struct vmbus_msg_modify_channel_response answer;

    while (h->vmbus.first != NULL) {
        struct host_msg *m = h->vmbus.first;
        if (vsynic_post_message(h, m->vp, HV_SYNIC_SINT_VMBUS, HV_MESSAGE_VMBUS, 0, m->payload, m->bytes,
                               m->next != NULL) != SYNIC_POSTED)
            return;
        h->vmbus.first = m->next;
        if (h->vmbus.first == NULL)
            h->vmbus.tail = &h->vmbus.first;
        memcpy(&answer, m->payload, sizeof(answer));
        if (answer.header.type == VMBUS_MSG_MODIFY_CHANNEL_RESPONSE)
            vchan_modify_answered(h, answer.relid);
        host_free(h, m);
    }
}

/* ---- connection ------------------------------------------------------------------------------------- */

bool vserver_all_idle(const struct host *h)
{
    for (uint32_t i = 1; i <= VMBUS_RELID_MAX; i++) {
        const struct host_chan *ch = h->vmbus.channel[i];
        if (ch != NULL && (ch->open || ch->closing))
            return false;
    }
    return true;
}

/* Closes every channel; those with requests in flight finish later. */
static void close_all(struct host *h)
{
    for (uint32_t i = 1; i <= VMBUS_RELID_MAX; i++) {
        if (h->vmbus.channel[i] != NULL)
            vchan_close(h->vmbus.channel[i]);
    }
}

/* Everything is idle: the offers are as if nobody had ever asked for them. */
static void forget_connection(struct host *h)
{
    struct host_vmbus *v = &h->vmbus;

    for (uint32_t i = 1; i <= VMBUS_RELID_MAX; i++) {
        if (v->channel[i] != NULL)
            v->channel[i]->ring_gpadl = NULL;
    }
    vgpadl_free_all(h, 0);
    v->version = 0;
    v->features = 0;
    v->offers_requested = false;
    for (uint32_t i = 0; v->monitor != NULL && i < 2; i++)
        host_unmap(h, USE_MONITOR_PAGE, v->monitor_gpa[i], HV_PAGE_SIZE);
    v->monitor = NULL;
    v->monitor_gpa[0] = v->monitor_gpa[1] = 0;
    memset(v->monitor_used, 0, sizeof(v->monitor_used));
    for (uint32_t i = 1; i <= VMBUS_RELID_MAX; i++) {
        struct host_chan *ch = v->channel[i];
        if (ch == NULL)
            continue;
        ch->offered = false;
        ch->monitor_id = VMBUS_OFFER_MONITOR_NONE;
        if (ch->sub_index != 0)
            ch->rescinded = true;
        if (ch->rescinded)
            vchan_queue(ch);                      /* nobody will release it */
    }
}

void vserver_reset(struct host *h)
{
    drop_queue(h);
    h->vmbus.unloading = h->vmbus.resetting = true;
    close_all(h);
    forget_connection(h);
    drop_queue(h);
    h->vmbus.unloading = h->vmbus.reconnecting = h->vmbus.resetting = false;
}

static enum host_fault_kind answer_version(struct host *h, uint32_t version, bool supported, uint8_t state)
{
    struct vmbus_msg_version_response_6 msg = {
        .response = {
            .header = {.type = VMBUS_MSG_VERSION_RESPONSE},
            .supported = supported,
            .connection_state = state,
        },
        .feature_flags = h->vmbus.features,
    };
    uint32_t bytes = h->cfg.version_response_bytes;

    if (supported)
        msg.response.message_connection =
            version >= VMBUS_VERSION_WIN10_5_0 ? h->cfg.message_connection : version;
    if (supported && version >= VMBUS_VERSION_COPPER)
        bytes = sizeof(msg);
    else if (bytes < VMBUS_VERSION_RESPONSE_MIN || version >= VMBUS_VERSION_WIN10_5_0)
        bytes = sizeof(msg.response);
    host_trace(h, HOST_TRACE_VMBUS, "version %u.%u: %s", version >> 16, version & 0xFFFF,
               supported ? "accepted" : "refused");
    return vserver_send(h, &msg, bytes, true);
}

static bool map_monitor(struct host *h, const struct vmbus_msg_initiate_contact *msg)
{
    if (msg->monitor_page1 == 0 && msg->monitor_page2 == 0)
        return true;
    if (msg->monitor_page1 == 0 || msg->monitor_page2 == 0 || (msg->monitor_page1 & HV_PAGE_MASK) ||
        (msg->monitor_page2 & HV_PAGE_MASK) || msg->monitor_page1 == msg->monitor_page2 ||
        host_map(h, USE_MONITOR_PAGE, msg->monitor_page1, HV_PAGE_SIZE) == NULL)
        return false;
    h->vmbus.monitor = host_map(h, USE_MONITOR_PAGE, msg->monitor_page2, HV_PAGE_SIZE);
    if (h->vmbus.monitor == NULL) {
        host_unmap(h, USE_MONITOR_PAGE, msg->monitor_page1, HV_PAGE_SIZE);
        return false;
    }
    h->vmbus.monitor_gpa[0] = msg->monitor_page1;
    h->vmbus.monitor_gpa[1] = msg->monitor_page2;
    return true;
}

/* All channels are closed: negotiates. */
static void contact(struct host *h, const struct vmbus_msg_initiate_contact *msg)
{
    struct host_vmbus *v = &h->vmbus;

    forget_connection(h);
    v->target_vp = msg->target_vp;
    if (!version_accepted(h, msg->version)) {
        answer_version(h, msg->version, false, 0);
        return;
    }
    if (!map_monitor(h, msg)) {
        host_violation(h, msg, sizeof(*msg), "contact: monitor pages: both, aligned and visible, or none");
        answer_version(h, msg->version, true, VMBUS_CONNECTION_FAILED);
        return;
    }
    if (msg->version >= VMBUS_VERSION_COPPER)
        v->features = 0;                         /* none of the optional features is modelled */
    v->version = msg->version;
    v->connection = msg->version >= VMBUS_VERSION_WIN10_5_0 ? h->cfg.message_connection :
                    VMBUS_CONNECTION_MESSAGE;
    if (answer_version(h, msg->version, true, VMBUS_CONNECTION_OK) == HOST_FAULT_ERROR)
        forget_connection(h);
}

static void msg_initiate_contact(struct host *h, const uint8_t *payload, uint32_t bytes, uint32_t connection)
{
    struct vmbus_msg_initiate_contact msg;
    uint32_t wanted;

    memcpy(&msg, payload, sizeof(msg));
    wanted = msg.version >= VMBUS_VERSION_WIN10_5_0 ? VMBUS_CONNECTION_MESSAGE_MULTI :
             VMBUS_CONNECTION_MESSAGE;
    if (connection != wanted)
        host_strict(h, payload, bytes, "contact: version %u.%u on message connection %u", msg.version >> 16,
                    msg.version & 0xFFFF, connection);
    if (msg.target_vp >= h->cfg.vps) {
        host_violation(h, payload, bytes, "contact: target VP %u", msg.target_vp);
        return;
    }
    if (!vsynic_ready(h, msg.target_vp, HV_SYNIC_SINT_VMBUS))
        host_strict(h, payload, bytes, "contact: SINT2 of VP %u is not ready for the answer", msg.target_vp);
    if (msg.version >= VMBUS_VERSION_WIN10_5_0) {
        if (msg.target.sint != HV_SYNIC_SINT_VMBUS ||
            (msg.version >= VMBUS_VERSION_WIN10_5_1 && msg.target.vtl != 0) || msg.target.reserved != 0 ||
            (msg.version < VMBUS_VERSION_COPPER && msg.target.feature_flags != 0))
            host_strict(h, payload, bytes, "contact: target SINT, VTL or reserved fields");
    }
    drop_queue(h);
    h->vmbus.reconnecting = true;
    h->vmbus.unloading = false;
    memcpy(&h->vmbus.waiting_contact, &msg, sizeof(msg));
    close_all(h);
}

static void msg_unload(struct host *h)
{
    h->vmbus.unloading = true;
    h->vmbus.reconnecting = false;
    close_all(h);
}

/* A contact or an Unload goes on once nothing of the guest's memory is in use. */
static void finish_transitions(struct host *h)
{
    struct vmbus_msg_header done = {.type = VMBUS_MSG_UNLOAD_RESPONSE};

    if (!(h->vmbus.reconnecting || h->vmbus.unloading) || !vserver_all_idle(h))
        return;
    if (h->vmbus.reconnecting) {
        h->vmbus.reconnecting = false;
        contact(h, &h->vmbus.waiting_contact);
    } else {
        drop_queue(h);
        forget_connection(h);
        h->vmbus.unloading = false;
        vserver_send(h, &done, sizeof(done), true);
    }
}

/* ---- messages from the guest ------------------------------------------------------------------------ */

struct rule {
    uint8_t type;
    uint8_t bytes;                  /* least length */
    uint32_t since;                 /* version */
};

static const struct rule rules[] = {
    {VMBUS_MSG_REQUEST_OFFERS, sizeof(struct vmbus_msg_header), 0},
    {VMBUS_MSG_OPEN_CHANNEL, sizeof(struct vmbus_msg_open_channel), 0},
    {VMBUS_MSG_CLOSE_CHANNEL, sizeof(struct vmbus_msg_relid), 0},
    {VMBUS_MSG_GPADL_HEADER, sizeof(struct vmbus_msg_gpadl_header) + 16, 0},
    {VMBUS_MSG_GPADL_BODY, sizeof(struct vmbus_msg_gpadl_body) + 8, 0},
    {VMBUS_MSG_GPADL_TEARDOWN, sizeof(struct vmbus_msg_gpadl_teardown), 0},
    {VMBUS_MSG_RELID_RELEASED, sizeof(struct vmbus_msg_relid), 0},
    {VMBUS_MSG_INITIATE_CONTACT, sizeof(struct vmbus_msg_initiate_contact), 0},
    {VMBUS_MSG_UNLOAD, sizeof(struct vmbus_msg_header), 0},
    {VMBUS_MSG_TL_CONNECT_REQUEST, sizeof(struct vmbus_msg_tl_connect_request), VMBUS_VERSION_WIN10},
    {VMBUS_MSG_MODIFY_CHANNEL, sizeof(struct vmbus_msg_modify_channel), VMBUS_VERSION_WIN10_4_1},
};

static const struct rule *find_rule(uint32_t type)
{
    for (uint32_t i = 0; i < HOST_COUNT(rules); i++) {
        if (rules[i].type == type)
            return &rules[i];
    }
    return NULL;
}

static void refuse_socket(struct host *h, const uint8_t *payload)
{
    struct vmbus_msg_tl_connect_request in;
    struct vmbus_msg_tl_connect_result out = {
        .header = {.type = VMBUS_MSG_TL_CONNECT_RESULT},
        .status = NTSTATUS_CONNECTION_REFUSED,
    };

    memcpy(&in, payload, sizeof(in));
    out.endpoint = in.endpoint;
    out.service = in.service;
    if (h->vmbus.version >= VMBUS_VERSION_WIN10_4_1)
        vserver_send(h, &out, sizeof(out), true);
}

static void dispatch(struct host *h, const uint8_t *payload, uint32_t bytes, uint32_t connection)
{
    union {
        struct vmbus_msg_open_channel open;
        struct vmbus_msg_relid relid;
        struct vmbus_msg_gpadl_teardown teardown;
        struct vmbus_msg_modify_channel modify;
        uint8_t bytes[VMBUS_MESSAGE_MAX];
    } msg;
    uint32_t type;

    memcpy(&type, payload, 4);
    memcpy(msg.bytes, payload, sizeof(msg.bytes));
    switch (type) {
    case VMBUS_MSG_INITIATE_CONTACT:
        msg_initiate_contact(h, payload, bytes, connection);
        break;
    case VMBUS_MSG_UNLOAD:
        msg_unload(h);
        break;
    case VMBUS_MSG_REQUEST_OFFERS:
        if (h->vmbus.offers_requested)
            host_violation(h, payload, bytes, "offers requested twice");
        else
            vchan_request_offers(h);
        break;
    case VMBUS_MSG_OPEN_CHANNEL:
        vchan_msg_open(h, &msg.open);
        break;
    case VMBUS_MSG_CLOSE_CHANNEL:
        vchan_msg_close(h, &msg.relid);
        break;
    case VMBUS_MSG_GPADL_HEADER:
        vgpadl_msg_header(h, payload, bytes);
        break;
    case VMBUS_MSG_GPADL_BODY:
        vgpadl_msg_body(h, payload, bytes);
        break;
    case VMBUS_MSG_GPADL_TEARDOWN:
        vgpadl_msg_teardown(h, &msg.teardown);
        break;
    case VMBUS_MSG_RELID_RELEASED:
        vchan_msg_released(h, &msg.relid);
        break;
    case VMBUS_MSG_MODIFY_CHANNEL:
        vchan_msg_modify(h, &msg.modify);
        break;
    default:
        refuse_socket(h, payload);
        break;
    }
}

static bool connection_exists(const struct host *h, uint32_t connection)
{
    if (connection == VMBUS_CONNECTION_MESSAGE)
        return true;
    if (connection == VMBUS_CONNECTION_MESSAGE_MULTI && h->cfg.multi_client)
        return true;
    return h->vmbus.version >= VMBUS_VERSION_WIN10_5_0 && connection == h->cfg.message_connection;
}

uint16_t vserver_post(struct host *h, uint32_t connection, uint32_t type, const uint8_t *payload,
                      uint32_t bytes)
{
    uint8_t copy[VMBUS_MESSAGE_MAX] = {0};
    struct vmbus_msg_header head;
    const struct rule *rule;

    h->counters.messages_in++;
    if (!connection_exists(h, connection)) {
        host_trace(h, HOST_TRACE_VMBUS, "message to unknown connection %u", connection);
        return HV_STATUS_INVALID_CONNECTION_ID;
    }
    if (type != VMBUS_MESSAGE_TYPE || bytes < sizeof(head)) {
        host_violation(h, payload, bytes, "vmbus: message of type %u, %u bytes", type, bytes);
        return HV_STATUS_SUCCESS;
    }
    memcpy(copy, payload, bytes);
    memcpy(&head, copy, sizeof(head));
    rule = find_rule(head.type);
    host_trace(h, HOST_TRACE_VMBUS, "message %u from the guest, %u bytes", head.type, bytes);
    if (head.reserved != 0)
        host_strict(h, copy, bytes, "vmbus: message header's reserved field");
    if (rule == NULL || bytes < rule->bytes || h->vmbus.version < rule->since) {
        host_violation(h, copy, bytes, "vmbus: message %u unknown, too short or too early", head.type);
        return HV_STATUS_SUCCESS;
    }
    if (head.type != VMBUS_MSG_INITIATE_CONTACT) {
        if (head.type == VMBUS_MSG_UNLOAD && h->vmbus.version == 0) {
            msg_unload(h);                       /* nothing to do, but it is answered */
            return HV_STATUS_SUCCESS;
        }
        if (h->vmbus.version == 0 || h->vmbus.unloading || h->vmbus.reconnecting) {
            if (!malice_excuses(h, HOST_MALICE_CONNECT, NULL))    /* a late answer to an earlier contact */
                host_strict(h, copy, bytes, "vmbus: message %u without a connection", head.type);
            return HV_STATUS_SUCCESS;
        }
        if (connection != h->vmbus.connection && !malice_excuses(h, HOST_MALICE_CONNECT, NULL))
            host_strict(h, copy, bytes, "vmbus: message %u on connection %u, not %u", head.type, connection,
                        h->vmbus.connection);
    }
    dispatch(h, copy, bytes, connection);
    return HV_STATUS_SUCCESS;
}

/* ---- signals ---------------------------------------------------------------------------------------- */

static void mark_signalled(struct host_chan *ch)
{
    ch->signalled = true;
    ch->wiped = false;
    ch->unread_since = ch->space_since = 0;
    vchan_queue(ch);
}

/* Was there a reason to signal? Data that nobody has seen, or space for which the host waits. */
static bool needed(const struct host_chan *ch)
{
    if (ch->signalled)
        return false;
    return __atomic_load_n(&ch->in.ctl->write_index, __ATOMIC_ACQUIRE) != ch->in.index || ch->owed != NULL;
}

uint16_t vserver_signal(struct host *h, uint32_t connection, uint16_t flag)
{
    uint32_t relid = connection - HOST_CHANNEL_CONNECTION(0);
    struct host_chan *ch = connection > HOST_CHANNEL_CONNECTION(0) ? vchan_find(h, relid) : NULL;

    if (ch == NULL) {
        if (!malice_miswired(h, connection) && !malice_invented(h, relid))
            host_violation(h, &connection, 4, "signal: connection %#x does not exist", connection);
        return HV_STATUS_INVALID_CONNECTION_ID;
    }
    if (flag != 0) {
        host_violation(h, &connection, 4, "signal: flag %u on connection %#x", flag, connection);
        return HV_STATUS_INVALID_PORT_ID;
    }
    if (ch->rescinded || ch->closing)
        return HV_STATUS_INVALID_CONNECTION_ID;
    if (!ch->open) {
        if (!malice_miswired(h, connection))
            host_strict(h, &connection, 4, "signal: channel %u is not open", relid);
        return HV_STATUS_INVALID_CONNECTION_ID;
    }
    if (malice_signal_fails(h, ch)) {
        ch->unread_since = ch->space_since = 0;  /* it is for the guest to send it again, as soon as any other signal */
        return HV_STATUS_INSUFFICIENT_BUFFERS;
    }
    if (!needed(ch))
        h->counters.signals_unneeded++;
    mark_signalled(ch);
    return HV_STATUS_SUCCESS;
}

struct host_chan *vserver_monitor_owner(struct host *h, uint32_t id)
{
    for (uint32_t i = 1; i <= VMBUS_RELID_MAX; i++) {
        struct host_chan *ch = h->vmbus.channel[i];
        if (ch != NULL && ch->monitor_id == id)
            return ch;
    }
    return NULL;
}

/* The hypervisor looks at the guest's page every latency; so does the model's own timer. */
static void scan_monitor(struct host *h)
{
    struct vmbus_monitor_page *page = h->vmbus.monitor;

    if (page == NULL || !h->cfg.monitor_pages)
        return;
    for (uint32_t g = 0; g < VMBUS_MONITOR_GROUPS; g++) {
        uint32_t pending = __atomic_exchange_n(MONITOR_GROUP_WORD(page, g), 0, __ATOMIC_SEQ_CST);
        while (pending != 0) {
            uint32_t bit = (uint32_t)__builtin_ctz(pending);
            struct host_chan *ch = vserver_monitor_owner(h, g * VMBUS_MONITOR_GROUP_BITS + bit);
            pending &= pending - 1;
            if (ch == NULL && malice_monitored(h, g * VMBUS_MONITOR_GROUP_BITS + bit)) {
                continue;
            } else if (ch == NULL) {
                host_violation(h, NULL, 0, "monitor: id %u belongs to nobody",
                               g * VMBUS_MONITOR_GROUP_BITS + bit);
            } else if (ch->open) {
                h->counters.monitor_signals++;
                mark_signalled(ch);
            }
        }
    }
    h->malice.scribbled = false;                 /* what it left there is served now, whomever it meant */
}

/* A signal that crossed with the end of a channel is for nobody, not for the next to have the id. */
static void forget_signal(struct host *h, uint32_t id)
{
    if (h->vmbus.monitor != NULL && id < VMBUS_MONITOR_COUNT)
        __atomic_fetch_and(MONITOR_GROUP_WORD(h->vmbus.monitor, id / VMBUS_MONITOR_GROUP_BITS),
                           ~(1u << id % VMBUS_MONITOR_GROUP_BITS), __ATOMIC_SEQ_CST);
}

void vserver_free_monitor(struct host_chan *ch)
{
    struct host *h = ch->h;

    if (ch->monitor_id != VMBUS_OFFER_MONITOR_NONE) {
        h->vmbus.monitor_used[ch->monitor_id] = 0;
        forget_signal(h, ch->monitor_id);
    }
    if (vserver_monitor_owner(h, ch->told_monitor) == NULL)
        forget_signal(h, ch->told_monitor);      /* what a lie told its guest to use */
}

static bool monitors_in_use(const struct host *h)
{
    for (uint32_t i = 0; i < VMBUS_MONITOR_COUNT; i++) {
        if (h->vmbus.monitor_used[i])
            return true;
    }
    return false;
}

static void monitor_due(struct host_alarm *alarm)
{
    scan_monitor((struct host *)(void *)((char *)alarm - offsetof(struct host, monitor_alarm)));
}

void host_timer_fired(struct host *h, uint32_t vp)
{
    if (vp != HOST_NO_VP)
        vstimer_fired(h, vp);
    else
        host_alarms_fired(h);
}

bool vserver_poll(struct host *h)
{
    finish_transitions(h);
    malice_bus_poll(h);
    deliver(h);
    if (h->vmbus.monitor != NULL && h->monitor_alarm.due == HOST_NEVER && h->cfg.monitor_pages &&
        monitors_in_use(h))
        host_alarm_set(h, &h->monitor_alarm, host_now(h) + h->cfg.monitor_latency);
    return false;
}

/* Lies about where to signal, or about what is in the ring, or the signal was wiped off the monitor page. Nothing else:
 * a signal that was refused is sent again by a guest that wants an answer, and events that nothing asked for, of
 * whatever channel and however many, are no reason to forget one. */
static bool signal_lost(struct host_chan *ch)
{
    if (!ch->wiped)
        return malice_misled(ch, HOST_MALICE_RING | HOST_MALICE_WIRING);
    ch->h->malice.counters.excused++;
    return true;
}

/* A packet waits for room that the guest has made: it was asked for a signal. */
static void audit_space(struct host_chan *ch, uint64_t now)
{
    uint32_t room;

    if (ch->owed == NULL || !vring_writable(ch->h, ch, &room) ||
        room <= ch->owed->bytes + VMBUS_PACKET_TRAILER_BYTES) {
        ch->space_since = 0;
    } else if (ch->space_since == 0) {
        ch->space_since = now;
    } else if (now - ch->space_since > HOST_AUDIT_LIMIT) {
        if (!signal_lost(ch))
            host_violation(ch->h, NULL, 0, "channel %u: room for a second, the signal for it was forgotten", ch->relid);
        mark_signalled(ch);
    }
}

void vserver_audit(struct host *h)
{
    uint64_t now = host_now(h);

    if (h->vmbus.first != NULL && !vsynic_ready(h, h->vmbus.first->vp, HV_SYNIC_SINT_VMBUS))
        host_strict(h, h->vmbus.first->payload, h->vmbus.first->bytes,
                    "vmbus: a message waits for a SynIC that is off");
    for (uint32_t i = 1; i <= VMBUS_RELID_MAX; i++) {
        struct host_chan *ch = h->vmbus.channel[i];
        if (ch == NULL || !ch->open || ch->held || ch->dead || ch->stalled || ch->signalled || ch->queued)
            continue;
        audit_space(ch, now);
        if (__atomic_load_n(&ch->in.ctl->write_index, __ATOMIC_ACQUIRE) == ch->in.index) {
            ch->unread_since = 0;
        } else if (ch->unread_since == 0) {
            ch->unread_since = now;
        } else if (now - ch->unread_since > HOST_AUDIT_LIMIT) {
            if (!signal_lost(ch))
                host_violation(h, NULL, 0, "channel %u: packets wait for a second, the signal was forgotten", i);
            mark_signalled(ch);
        }
    }
}
