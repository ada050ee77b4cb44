/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * malice_bus.c: lies about the bus: its messages, offers of nothing, the hypervisor's own answers, interrupt storms.
 *
 * What would hand memory back to the guest while the model still uses it is never said: the rescind of a channel or the
 * end of a page list that still exists becomes that of one that does not.
 */
#include "tests/host/host_internal.h"

#define BURST_OFFERS 2500u
#define FIRST_INVENTED 1024u                      /* the model's own relids are below, for the life of a test */

static const struct guid classes[] = {VMBUS_GUID_SCSI, VMBUS_GUID_NETVSC, VMBUS_GUID_HEARTBEAT, VMBUS_GUID_VIDEO,
                                      GUID_INIT(0xDEADBEEF, 1, 2, 3, 4)};

/* ---- messages --------------------------------------------------------------------------------------- */

/* Whom a message is about; NULL: the connection, or nobody. */
static struct host_chan *about(struct host *h, const uint8_t *msg)
{
    struct host_gpadl *g;

    switch (malice_word(msg, 0)) {
    case VMBUS_MSG_OFFER_CHANNEL:
        return vchan_find(h, malice_word(msg, offsetof(struct vmbus_msg_offer_channel, relid)));
    case VMBUS_MSG_RESCIND_OFFER:
    case VMBUS_MSG_OPEN_RESULT:
    case VMBUS_MSG_GPADL_CREATED:
    case VMBUS_MSG_MODIFY_CHANNEL_RESPONSE:
        return vchan_find(h, malice_word(msg, 8));
    case VMBUS_MSG_GPADL_TORNDOWN:
        g = vgpadl_find(h, 0, malice_word(msg, 8));
        return g != NULL ? vchan_find(h, g->relid) : NULL;
    default:
        return NULL;
    }
}

static void invent(struct host *h, uint32_t relid)
{
    if (relid == 0 || relid > VMBUS_RELID_MAX || vchan_find(h, relid) != NULL)
        return;
    h->malice.invented[relid / 8] |= (uint8_t)(1u << relid % 8);
    h->malice.once[relid / 8] |= (uint8_t)(1u << relid % 8);
}

/* After a message was bent: what it must not say by accident. truth: the message as it was. */
static void make_harmless(struct host *h, uint8_t *msg, const uint8_t *truth)
{
    switch (malice_word(msg, 0)) {
    case VMBUS_MSG_OFFER_CHANNEL:
        invent(h, malice_word(msg, offsetof(struct vmbus_msg_offer_channel, relid)));
        break;
    case VMBUS_MSG_RESCIND_OFFER:
        if (vchan_find(h, malice_word(msg, 8)) != NULL && memcmp(msg, truth, 12) != 0)
            malice_set_word(msg, 8, VMBUS_RELID_MAX - (uint32_t)malice_pick(h, 16));
        break;
    case VMBUS_MSG_GPADL_TORNDOWN:
        if (vgpadl_find(h, 0, malice_word(msg, 8)) != NULL && memcmp(msg, truth, 12) != 0)
            malice_set_word(msg, 8, malice_word(msg, 8) ^ 0x40000000u);
        break;
    default:
        break;
    }
}

static unsigned bend(struct host *h, uint8_t *msg, uint32_t *bytes)
{
    static const uint8_t types[] = {VMBUS_MSG_OFFER_CHANNEL, VMBUS_MSG_RESCIND_OFFER, VMBUS_MSG_ALL_OFFERS_DELIVERED,
                                    VMBUS_MSG_OPEN_RESULT, VMBUS_MSG_GPADL_CREATED, VMBUS_MSG_GPADL_TORNDOWN,
                                    VMBUS_MSG_VERSION_RESPONSE, VMBUS_MSG_MODIFY_CHANNEL_RESPONSE,
                                    VMBUS_MSG_TL_CONNECT_RESULT, VMBUS_MSG_PAUSE_RESPONSE, VMBUS_MSG_OPEN_CHANNEL, 0, 255};
    uint8_t truth[VMBUS_MESSAGE_MAX];
    uint32_t type = malice_word(msg, 0), lie, at;
    unsigned copies = 1;

    memcpy(truth, msg, sizeof(truth));
    switch (malice_pick(h, 6)) {
    case 0:
        *bytes = (uint32_t)malice_pick(h, *bytes);
        malice_told(h, "message %u cut to %u bytes", type, *bytes);
        break;
    case 1:
        lie = malice_pick(h, 8) == 0 ? malice_value(h) : types[malice_pick(h, sizeof(types))];
        malice_set_word(msg, 0, lie);
        malice_told(h, "message %u says that it is a %u", type, lie);
        break;
    case 2:
        at = 4 + 4 * (uint32_t)malice_pick(h, (*bytes - 4) / 4);
        if (at + 4 <= *bytes)
            malice_set_word(msg, at, malice_value(h));
        malice_told(h, "message %u has %#x at %u", type, malice_word(msg, at), at);
        break;
    case 3:
        memset(msg + 4, 0xEE, *bytes - 4);
        malice_told(h, "message %u is garbage", type);
        break;
    case 4:
        copies = 2 + (unsigned)malice_pick(h, 20);
        malice_told(h, "message %u comes %u times", type, copies);
        break;
    default: {
        uint8_t other[VMBUS_MESSAGE_MAX];
        memcpy(other, msg, sizeof(other));
        malice_set_word(other, 0, types[malice_pick(h, sizeof(types))]);
        make_harmless(h, other, truth);
        malice_told(h, "message %u comes after a %u", type, malice_word(other, 0));
        vserver_enqueue(h, other, *bytes);
        break;
    }
    }
    make_harmless(h, msg, truth);
    return copies;
}

/* *refused: what was done must be undone. */
static bool refuse(struct host *h, uint8_t *msg, bool *refused)
{
    uint32_t type = malice_word(msg, 0);

    *refused = true;
    switch (type) {
    case VMBUS_MSG_VERSION_RESPONSE:
        memset(msg + 8, 0, 4);
        break;
    case VMBUS_MSG_OPEN_RESULT:
    case VMBUS_MSG_GPADL_CREATED:
        malice_set_word(msg, 16, malice_pick(h, 2) ? NTSTATUS_FAILURE : 1 + malice_value(h) / 2);
        break;
    case VMBUS_MSG_MODIFY_CHANNEL_RESPONSE:
        malice_set_word(msg, 12, NTSTATUS_FAILURE);
        break;
    default:
        *refused = false;
        return false;
    }
    malice_told(h, "message %u refuses", type);
    return true;
}

/* An answer that said yes and says no now, to the one who asked. */
static bool says_no(const uint8_t *msg, uint32_t bytes, const uint8_t *truth)
{
    uint32_t type = malice_word(msg, 0);

    if (type == VMBUS_MSG_VERSION_RESPONSE && type == malice_word(truth, 0))
        return bytes >= VMBUS_VERSION_RESPONSE_MIN && truth[8] != 0 && (msg[8] == 0 || msg[9] != 0);
    return (type == VMBUS_MSG_OPEN_RESULT || type == VMBUS_MSG_GPADL_CREATED) && bytes >= 20 &&
           memcmp(msg, truth, 16) == 0 && malice_word(msg, 16) != 0 && malice_word(truth, 16) == 0;
}

static unsigned lie_in_message(struct host *h, struct host_chan *ch, uint8_t msg[VMBUS_MESSAGE_MAX], uint32_t *bytes,
                               bool reply, bool *refused)
{
    const void *device = ch != NULL ? ch->device : NULL;
    uint8_t truth[VMBUS_MESSAGE_MAX];
    unsigned copies;

    copies = malice_connect(h, msg, bytes, device, refused);
    if (copies != 1 || *refused)
        return copies;
    if (malice_word(msg, 0) == VMBUS_MSG_OFFER_CHANNEL)
        malice_wire(h, (struct vmbus_msg_offer_channel *)(void *)msg, device);
    copies = malice_gpadl(h, msg, *bytes, device, refused);
    if (copies != 1 || *refused)
        return copies;
    if (ch != NULL && !ch->rescinded && malice_occasion(h, HOST_MALICE_RESCIND, device)) {
        bool lost = malice_pick(h, 2);
        h->malice.rescind = ch->relid;
        malice_told(h, "channel %u is rescinded %s message %u", ch->relid, lost ? "instead of" : "after",
                    malice_word(msg, 0));
        if (lost && reply)
            return 0;
    }
    if (reply && malice_occasion(h, HOST_MALICE_SILENCE, device)) {
        malice_told(h, "message %u is not sent", malice_word(msg, 0));
        return 0;
    }
    if (reply && malice_occasion(h, HOST_MALICE_REFUSE | HOST_MALICE_STATUS, device) && refuse(h, msg, refused))
        return 1;
    if (!malice_occasion(h, HOST_MALICE_MESSAGE, device))
        return 1;
    memcpy(truth, msg, sizeof(truth));
    copies = bend(h, msg, bytes);
    *refused = says_no(msg, *bytes, truth);
    return copies;
}

unsigned malice_message(struct host *h, uint8_t msg[VMBUS_MESSAGE_MAX], uint32_t *bytes, bool reply, bool *refused)
{
    struct host_chan *ch = about(h, msg);
    unsigned copies = 1;

    *refused = false;
    if (h->malice.on)
        copies = lie_in_message(h, ch, msg, bytes, reply, refused);
    if (ch != NULL)
        malice_offered(ch, msg);
    return copies;
}

/* ---- offers ----------------------------------------------------------------------------------------- */

static uint32_t an_honest_relid(struct host *h)
{
    uint32_t start = (uint32_t)malice_pick(h, VMBUS_RELID_MAX);

    for (uint32_t i = 0; i < VMBUS_RELID_MAX; i++) {
        uint32_t relid = 1 + (start + i) % VMBUS_RELID_MAX;
        if (vchan_find(h, relid) != NULL)
            return relid;
    }
    return 1;
}

static void offer(struct host *h, uint32_t relid)
{
    struct host_chan *other = vchan_find(h, an_honest_relid(h));
    struct vmbus_msg_offer_channel msg = {
        .header = {.type = VMBUS_MSG_OFFER_CHANNEL},
        .interface_type = classes[malice_pick(h, HOST_COUNT(classes))],
        .relid = relid,
        .connection_id = HOST_CHANNEL_CONNECTION(relid),
        .flags = (uint16_t)malice_value(h),
        .dedicated_interrupt = (uint16_t)malice_value(h),
    };

    for (uint32_t i = 0; i < sizeof(msg.instance.bytes); i++)
        msg.instance.bytes[i] = (uint8_t)malice_pick(h, 256);
    if (malice_pick(h, 4) == 0 && other != NULL)
        msg.instance = other->instance;
    if (malice_pick(h, 4) == 0)
        msg.sub_channel_index = (uint16_t)malice_value(h);
    if (malice_pick(h, 4) == 0) {
        msg.monitor_allocated = (uint8_t)malice_pick(h, 256);
        msg.monitor_id = (uint8_t)malice_pick(h, 256);
    }
    if (malice_pick(h, 8) == 0)
        msg.connection_id = malice_value(h);
    invent(h, relid);
    vserver_enqueue(h, &msg, sizeof(msg));
}

static void lie_in_offers(struct host *h)
{
    uint32_t relid;

    switch (malice_pick(h, 8)) {
    case 0:
        malice_told(h, "%u offers", BURST_OFFERS);
        for (uint32_t i = 0; i < BURST_OFFERS; i++)
            offer(h, FIRST_INVENTED + i);
        break;
    case 1:
    case 2:
        relid = malice_value(h);
        malice_told(h, "offer with relid %#x", relid);
        if (relid == 0 || relid > VMBUS_RELID_MAX)
            offer(h, relid);
        break;
    case 3:
        relid = an_honest_relid(h);
        malice_told(h, "offer with relid %u, which another has", relid);
        offer(h, relid);
        break;
    default:
        relid = FIRST_INVENTED + (uint32_t)malice_pick(h, VMBUS_RELID_MAX - FIRST_INVENTED);
        malice_told(h, "offer %u of nothing", relid);
        offer(h, relid);
        break;
    }
}

void malice_bus_honest(struct host *h)
{
    struct vmbus_msg_relid msg = {.header = {.type = VMBUS_MSG_RESCIND_OFFER}};

    for (uint32_t relid = 1; relid <= VMBUS_RELID_MAX; relid++) {
        struct host_chan *ch = vchan_find(h, relid);
        if (ch != NULL && ch->deaf) {
            ch->held = ch->deaf = false;
            vchan_queue(ch);
        }
        msg.relid = relid;                        /* the first time it may have been spoilt */
        if (ch != NULL && ch->rescinded && ch->offered)
            vserver_enqueue(h, &msg, sizeof(msg));
    }
    for (msg.relid = 1; msg.relid <= VMBUS_RELID_MAX; msg.relid++) {
        uint8_t *byte = &h->malice.invented[msg.relid / 8], bit = (uint8_t)(1u << msg.relid % 8);
        if (!(*byte & bit))
            continue;
        *byte &= (uint8_t)~bit;
        if (vchan_find(h, msg.relid) == NULL)
            vserver_enqueue(h, &msg, sizeof(msg));
    }
}

/* ---- the hypervisor --------------------------------------------------------------------------------- */

enum host_fault_kind malice_visibility(struct host *h)
{
    static const enum host_fault_kind kinds[] = {HOST_FAULT_DROP, HOST_FAULT_ERROR, HOST_FAULT_SHORT,
                                                 HOST_FAULT_GARBAGE};
    enum host_fault_kind kind;

    if (!malice_occasion(h, HOST_MALICE_VISIBILITY, NULL))
        return host_fault(h, HOST_FAULT_VISIBILITY);
    kind = kinds[malice_pick(h, HOST_COUNT(kinds))];
    malice_told(h, "visibility call ends in kind %u", kind);
    return kind;
}

static void storm(struct host *h)
{
    uint8_t payload[VMBUS_MESSAGE_MAX];
    uint32_t n = 1 + (uint32_t)malice_pick(h, 200), vp = (uint32_t)malice_pick(h, h->cfg.vps);

    malice_told(h, "%u events on VP %u", n, vp);
    for (uint32_t i = 0; i < n; i++)
        vsynic_signal_event(h, vp, HV_SYNIC_SINT_VMBUS,
                            malice_pick(h, 2) ? an_honest_relid(h) : (uint32_t)malice_pick(h, VMBUS_RELID_MAX + 1));
    if (malice_pick(h, 4) == 0) {
        for (uint32_t i = 0; i < sizeof(payload); i++)
            payload[i] = (uint8_t)malice_pick(h, 256);
        vsynic_post_message(h, vp, HV_SYNIC_SINT_VMBUS, 1 + malice_value(h) / 2, malice_value(h), payload,
                            (uint32_t)malice_pick(h, sizeof(payload) + 1), malice_pick(h, 2));
    }
}

void malice_bus_poll(struct host *h)
{
    if (h->malice.rescind != 0 && !(h->malice.cfg.idle_rescind && storvsp_in_flight(h) != 0)) {
        host_rescind(h, h->malice.rescind);
        h->malice.rescind = 0;
    }
    if (!h->malice.on || h->vmbus.version == 0 || h->vmbus.first != NULL)
        return;                                   /* each message delivered comes by here, made up ones too */
    if (malice_occasion(h, HOST_MALICE_OFFER, NULL))
        lie_in_offers(h);
    if (malice_occasion(h, HOST_MALICE_STORM, NULL))
        storm(h);
    malice_scribble(h);
    malice_memory(h);
}
