/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The host's channel messages: checked for kind and length, then handed to who waits for them.
 *
 * Runs in the event loop on a private copy. A handler gets a message that is complete by its type's minimum; it
 * checks the contents against what is outstanding, each refusal with its own line, and only then changes anything.
 * Unknown and malformed messages are counted and dropped: newer hosts may send what we do not know.
 */
#define LOG_ROOM "vmbus"
#include "vmbus/vmbus_internal.h"
#include <string.h>

#define REFUSALS_LOGGED 4u

bool refusal_speaks(struct refusal *r)
{
    return r->count < REFUSALS_LOGGED && ++r->count;
}

static void on_offer(const void *m, uint32_t bytes UNUSED) { offer_received(m); }
static void on_offers_delivered(const void *m UNUSED, uint32_t bytes UNUSED) { bus_offers_delivered(); }
static void on_gpadl_created(const void *m, uint32_t bytes UNUSED) { gpadl_created(m); }
static void on_unloaded(const void *m UNUSED, uint32_t bytes UNUSED) { bus_unloaded(); }
static void on_version(const void *m, uint32_t bytes) { bus_version_response(m, bytes); }

static void on_rescind(const void *m, uint32_t bytes UNUSED)
{
    offer_rescinded(((const struct vmbus_msg_relid *)m)->relid);
}

static void on_torndown(const void *m, uint32_t bytes UNUSED)
{
    gpadl_torndown(((const struct vmbus_msg_gpadl_torndown *)m)->gpadl);
}

static void on_open_result(const void *message, uint32_t bytes UNUSED)
{
    const struct vmbus_msg_open_result *m = message;
    struct vmbus_channel *ch = channel_find(m->relid);

    if (!ch)
        vmbus_refuse("OPEN_RESULT for relid %u, which is not offered", m->relid);
    else
        channel_open_result(ch, m);
}

static const struct {
    const char *name;
    uint32_t min_bytes;
    void (*handle)(const void *m, uint32_t bytes);
} handlers[] = {
    [VMBUS_MSG_OFFER_CHANNEL] = {"OFFER_CHANNEL", sizeof(struct vmbus_msg_offer_channel), on_offer},
    [VMBUS_MSG_RESCIND_OFFER] = {"RESCIND_OFFER", sizeof(struct vmbus_msg_relid), on_rescind},
    [VMBUS_MSG_ALL_OFFERS_DELIVERED] = {"ALL_OFFERS_DELIVERED", sizeof(struct vmbus_msg_header), on_offers_delivered},
    [VMBUS_MSG_OPEN_RESULT] = {"OPEN_RESULT", sizeof(struct vmbus_msg_open_result), on_open_result},
    [VMBUS_MSG_GPADL_CREATED] = {"GPADL_CREATED", sizeof(struct vmbus_msg_gpadl_created), on_gpadl_created},
    [VMBUS_MSG_GPADL_TORNDOWN] = {"GPADL_TORNDOWN", sizeof(struct vmbus_msg_gpadl_torndown), on_torndown},
    [VMBUS_MSG_VERSION_RESPONSE] = {"VERSION_RESPONSE", VMBUS_VERSION_RESPONSE_MIN, on_version},
    [VMBUS_MSG_UNLOAD_RESPONSE] = {"UNLOAD_RESPONSE", sizeof(struct vmbus_msg_header), on_unloaded},
};

void vmbus_message(const struct hv_message *message)
{
    /* Zero beyond what came, so that a short message cannot show us an older one's bytes. */
    static union {
        struct vmbus_msg_header header;
        uint8_t bytes[VMBUS_MESSAGE_MAX];
    } m;
    uint32_t bytes = message->payload_size;

    vmbus_counters.messages_received++;
    if (message->message_type != VMBUS_MESSAGE_TYPE || bytes < sizeof(m.header) || bytes > sizeof(m.bytes)) {
        vmbus_refuse("SynIC message type 0x%x of %u bytes is not VMBus's", message->message_type, bytes);
        return;
    }
    memset(&m, 0, sizeof(m));
    memcpy(&m, message->payload, bytes);
    uint32_t type = m.header.type;
    if (type >= ARRAY_SIZE(handlers) || !handlers[type].handle) {
        vmbus_refuse("unknown message type %u of %u bytes", type, bytes);
        return;
    }
    if (bytes < handlers[type].min_bytes) {
        vmbus_refuse("%s of %u bytes, %u are needed", handlers[type].name, bytes, handlers[type].min_bytes);
        return;
    }
    log_line(LOG_TRACE, LOG_ROOM, "%s, %u bytes", handlers[type].name, bytes);
    handlers[type].handle(&m, bytes);
}
