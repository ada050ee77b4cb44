/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Dynamic memory: how host and guest talk: messages out and in, and the handshake (version, capabilities) with which
 * it begins. A message is copied and checked for its length before anybody looks at it; what can't be is refused, and
 * the device goes on.
 */
#define LOG_ROOM "balloon"
#include <string.h>
#include "drivers/balloon.h"
#include "rt/rt.h"

#define ALIGNMENT_LOG2_MIB 7ull          /* hot-added ranges: as Linux asks, so hosts are used to it */

static const uint32_t versions[] = {DM_VERSION_WIN10, DM_VERSION_WIN8, DM_VERSION_WIN7};

void balloon_lie(struct balloon *b, const char *what, uint64_t value)
{
    balloon_counters.lies++;
    log_warn_some("%s: the host sent %s (0x%llx), refused; %llu such so far", b->name, what, (unsigned long long)value,
             (unsigned long long)balloon_counters.lies);
}

/* ---- messages ---- */

static bool gone(const struct balloon *b) { return b->stop || vmbus_channel_rescinded(b->channel); }

/* Only what was sent has used up its number. */
int balloon_try_send(struct balloon *b, void *message, size_t bytes)
{
    struct vmbus_piece piece = {message, (uint32_t)bytes};
    struct dm_header *header = message;

    header->size = (uint16_t)bytes;
    header->transaction_id = b->last_id + 1;
    int e = vmbus_send(b->channel, &piece, 1, 0, false);
    if (e == 0)
        b->last_id++;
    vmbus_kick(b->channel);
    return e;
}

int balloon_send(struct balloon *b, void *message, size_t bytes)
{
    uint64_t limit = rt_now_100ns() + US_100NS(BALLOON_SEND_LIMIT_US);
    int e;

    while ((e = balloon_try_send(b, message, bytes)) == -E_AGAIN && !gone(b)) {
        if (rt_now_100ns() < limit) {
            wait_queue_sleep(&b->wait, limit, "balloon: room for a message to the host");
            continue;
        }
        log_err_some("%s: the host took nothing from the ring for %llu s", b->name, BALLOON_SEND_LIMIT_US / 1000000);
        vmbus_dump_channel(b->channel);
        return -E_TIMEOUT;
    }
    return e == -E_AGAIN ? -E_REMOVED : e;
}

/* The packet's message becomes b->in; false: it is none. */
static bool take_message(struct balloon *b, const struct vmbus_packet *p)
{
    struct dm_header header;

    if (p->completion_requested && vmbus_send_completion(b->channel, p->payload, 0, p->transaction_id) == 0)
        vmbus_kick(b->channel);
    if (p->type != VMBUS_PACKET_INBAND) {
        balloon_lie(b, "a packet of a strange type", p->type);
        return false;
    }
    if (p->payload_bytes < sizeof(header)) {
        balloon_lie(b, "a message too short", p->payload_bytes);
        return false;
    }
    memcpy(&header, p->payload, sizeof(header));
    if (header.size < sizeof(header) || header.size > p->payload_bytes || header.size > DM_MESSAGE_MAX) {
        balloon_lie(b, "a message with a false length", header.size);
        return false;
    }
    memset(&b->in, 0, sizeof(b->in));
    memcpy(&b->in, p->payload, header.size);
    return true;
}

int balloon_receive(struct balloon *b, uint64_t deadline_100ns, const char *what)
{
    const struct vmbus_packet *p;

    while (!gone(b)) {
        p = vmbus_recv(b->channel);
        if (p && take_message(b, p))
            return 0;
        if (p)
            continue;
        if (rt_now_100ns() >= deadline_100ns)
            return -E_TIMEOUT;
        wait_queue_sleep(&b->wait, deadline_100ns, what);
    }
    return -E_REMOVED;
}

void balloon_info(struct balloon *b)
{
    const struct dm_info *m = &b->in.info;

    if (m->header.size < sizeof(*m) || m->info_type != DM_INFO_MAX_PAGES || m->data_bytes != sizeof(m->value))
        log_debug("%s: information of type %u, %u bytes", b->name, m->info_type, m->data_bytes);
    else
        log_info_some("%s: the host may give up to %llu MiB in all", b->name, (unsigned long long)m->value >> 8);
}

/* ---- handshake ---- */

/* Sends a request and waits for the answer of that type. 0, -E_REFUSED, -E_TIMEOUT, -E_REMOVED. */
static int ask(struct balloon *b, void *request, size_t bytes, enum dm_type answer, const char *what)
{
    uint64_t limit = rt_now_100ns() + US_100NS(BALLOON_ANSWER_LIMIT_US);
    int e = balloon_send(b, request, bytes);

    while (e == 0 && (e = balloon_receive(b, limit, what)) == 0) {
        const struct dm_answer *m = &b->in.answer;
        if (m->header.type == DM_INFO) {
            balloon_info(b);
        } else if (m->header.type != answer || m->header.size < sizeof(*m)) {
            balloon_lie(b, "a strange message during the handshake", m->header.type);
        } else if (m->header.transaction_id >= BALLOON_FIRST_ID && m->header.transaction_id < b->last_id) {
            balloon_lie(b, "an old answer again", m->header.transaction_id);
        } else {
            return m->flags & DM_ACCEPTED ? 0 : -E_REFUSED;
        }
    }
    if (e == -E_TIMEOUT) {
        log_err_some("%s: no answer from the host within %llu s (%s)", b->name, BALLOON_ANSWER_LIMIT_US / 1000000,
                     what);
        vmbus_dump_channel(b->channel);
    }
    return e;
}

static int negotiate(struct balloon *b)
{
    int e = -E_REFUSED;

    for (unsigned i = 0; i < ARRAY_SIZE(versions) && e == -E_REFUSED; i++) {
        struct dm_version_request m = {
            .header.type = DM_VERSION_REQUEST,
            .version = versions[i],
            .flags = i + 1 == ARRAY_SIZE(versions) ? DM_LAST_ATTEMPT : 0,
        };
        e = ask(b, &m, sizeof(m), DM_VERSION_RESPONSE, "balloon: answer to a version");
        b->version = versions[i];
    }
    if (e == -E_REFUSED)
        log_err_some("%s: no version in common with the host", b->name);
    return e;
}

static int tell_capabilities(struct balloon *b, bool *reports)
{
    struct dm_capabilities m = {
        .header.type = DM_CAPABILITIES_REPORT,
        .capabilities = DM_CAP_BALLOON | DM_CAP_HOT_ADD | ALIGNMENT_LOG2_MIB << DM_CAP_ALIGNMENT_SHIFT,
        .max_page = UINT64_MAX,
    };
    int e = ask(b, &m, sizeof(m), DM_CAPABILITIES_RESPONSE, "balloon: answer to the capabilities");

    if (e == -E_REFUSED)
        log_err_some("%s: the host does not want our capabilities", b->name);
    *reports = b->version < DM_VERSION_WIN10 || !(b->in.answer.flags & DM_NO_REPORTS);
    return e;
}

int balloon_handshake(struct balloon *b, bool *reports)
{
    int e = negotiate(b);

    return e ? e : tell_capabilities(b, reports);
}
