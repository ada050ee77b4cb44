/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ic_answer.c: what the host makes of the packets that the guest sends on an integration component's channel.
 *
 * What makes hosts give the component up is a violation, and the channel is not served any more; what they do
 * not look at, but a guest that sends the packet back as it came has right, is a strict one. Answers to
 * transactions that were given up are counted, not judged.
 */
#include "tests/host/ic.h"

/* ---- answers ---------------------------------------------------------------------------------------- */

static bool listed(const struct host_versions *v, struct ic_version wanted, struct host_version *chosen)
{
    for (uint32_t i = 0; i < v->count; i++) {
        if (v->list[i].major == wanted.major && v->list[i].minor == wanted.minor) {
            *chosen = v->list[i];
            return true;
        }
    }
    return false;
}

static enum host_take negotiated(struct host_ic *ic, const uint8_t *body, uint32_t bytes)
{
    const struct host_ic_config *cfg = &ic->h->ics->cfg;
    struct ic_negotiate head;
    struct ic_version chosen[2];

    if (bytes < sizeof(head)) {
        host_violation(ic->h, body, bytes, "%s: versions: the answer has %u bytes", ic->kind->dev.name, bytes);
        return HOST_FATAL;
    }
    memcpy(&head, body, sizeof(head));
    if (head.framework_count == 0 && head.message_count == 0) {
        ic->stage = IC_REFUSED;
        ic->seen.refused = true;
        host_log(ic->h, HOST_LOG_WARN, "%s: the guest knows none of the versions", ic->kind->dev.name);
        return HOST_TAKEN;
    }
    if (head.framework_count != 1 || head.message_count != 1 || bytes < IC_NEGOTIATED_BYTES) {
        host_violation(ic->h, body, bytes, "%s: versions: counts %u and %u in %u bytes, not 1 and 1 or 0 and 0",
                       ic->kind->dev.name, head.framework_count, head.message_count, bytes);
        return HOST_FATAL;
    }
    if (bytes != IC_NEGOTIATED_BYTES)
        host_strict(ic->h, body, bytes, "%s: versions: the answer's body has %u bytes, not 16", ic->kind->dev.name,
                    bytes);
    memcpy(chosen, body + sizeof(head), sizeof(chosen));
    if (!listed(&cfg->framework, chosen[0], &ic->seen.framework) ||
        !listed(&cfg->messages[ic->which], chosen[1], &ic->seen.message)) {
        host_violation(ic->h, body, bytes, "%s: versions: framework %u.%u, messages %u.%u are not on the list",
                       ic->kind->dev.name, chosen[0].major, chosen[0].minor, chosen[1].major, chosen[1].minor);
        return HOST_FATAL;
    }
    host_log(ic->h, HOST_LOG_INFO, "%s: framework %u.%u, messages %u.%u", ic->kind->dev.name, chosen[0].major,
             chosen[0].minor, chosen[1].major, chosen[1].minor);
    ic->seen.negotiated = true;
    ic->seen.negotiations++;
    ic->stage = IC_READY;
    ic->kind->ready(ic);
    return HOST_TAKEN;
}

/* The frame: what every answer must have, whatever it answers. NULL: it has; else what is wrong. */
static const char *frame_error(const struct host_packet *p, const struct ic_message *m)
{
    if (p->type != VMBUS_PACKET_INBAND)
        return "the packet is not in-band";
    if (p->bytes < sizeof(*m))
        return "it is shorter than its headers";
    if (m->pipe.type != IC_PIPE_DATA)
        return "the pipe header's type";
    if (m->pipe.bytes < sizeof(m->header) || m->pipe.bytes > p->bytes - sizeof(m->pipe))
        return "the pipe header's length";
    if ((m->header.flags & IC_FLAGS_RESPONSE) != IC_FLAGS_RESPONSE)
        return "the flags of a response are missing";
    if (m->header.body_bytes > m->pipe.bytes - sizeof(m->header))
        return "the body is longer than the message";
    return NULL;
}

/* What hosts do not look at, but a guest that sends the packet back has it right. */
static void check_echo(struct host_ic *ic, const struct host_packet *p, const struct ic_message *m)
{
    const struct ic_header *had = &ic->asked.header, *has = &m->header;
    const char *what = NULL;

    if (p->bytes != ic->asked_bytes)
        what = "length";
    else if (p->flags & VMBUS_PACKET_FLAG_COMPLETION)
        what = "completion flag";
    else if (has->flags != IC_FLAGS_RESPONSE)
        what = "flags";
    else if (memcmp(&has->framework, &had->framework, sizeof(has->framework)) != 0 ||
             memcmp(&has->message, &had->message, sizeof(has->message)) != 0)
        what = "versions";
    else if (has->reserved[0] != 0 || has->reserved[1] != 0)
        what = "reserved bytes";
    else if (has->type != IC_NEGOTIATE && has->body_bytes != had->body_bytes)
        what = "body length";
    else if (has->status != IC_STATUS_OK && !(has->status & 0x80000000u))
        what = "status that is neither success nor an error";
    if (what != NULL)
        host_strict(ic->h, p->data, p->bytes, "%s: the answer's %s", ic->kind->dev.name, what);
}

static bool belongs_to_late(struct host_ic *ic, const struct ic_message *m)
{
    if (ic->late[m->header.transaction] == 0)
        return false;
    ic->late[m->header.transaction]--;
    ic->seen.late++;
    host_trace(ic->h, HOST_TRACE_IC, "%s: transaction %u is answered late", ic->kind->dev.name, m->header.transaction);
    return true;
}

/* The answer to a message that malice bent, and that was given up since? */
static bool astray(struct host_ic *ic)
{
    if (ic->strays == 0)
        return false;
    ic->strays--;
    ic->h->malice.counters.excused++;
    return true;
}

static bool for_us(const struct host_ic *ic, const struct ic_message *m)
{
    return ic->waiting && m->header.transaction == ic->asked.header.transaction &&
           m->header.type == ic->asked.header.type;
}

enum host_take ic_packet(struct host_chan *ch, const struct host_packet *p)
{
    struct host_ic *ic = ch->device;
    const uint8_t *body = p->data + sizeof(struct ic_message);
    struct ic_message m = {.pipe = {0, 0}};
    const char *error;

    memcpy(&m, p->data, p->bytes < sizeof(m) ? p->bytes : sizeof(m));
    error = frame_error(p, &m);
    if (ic->waiting && ic->spoiled) {             /* whatever the guest makes of such a request */
        if (error == NULL && belongs_to_late(ic, &m))
            return HOST_TAKEN;
        ic->waiting = ic->spoiled = false;
        ic_lost(ic);
        return HOST_TAKEN;
    }
    if (error != NULL) {
        if (astray(ic))
            return HOST_TAKEN;
        host_violation(ic->h, p->data, p->bytes, "%s: an answer: %s", ic->kind->dev.name, error);
        return HOST_FATAL;
    }
    if (ic->asked.header.flags == 0 && m.header.type == ic->asked.header.type)
        return HOST_TAKEN;                        /* such a host does not even read it */
    if (!for_us(ic, &m)) {
        if (belongs_to_late(ic, &m) || astray(ic))
            return HOST_TAKEN;
        host_violation(ic->h, p->data, p->bytes, "%s: transaction %u of type %u is nobody's request",
                       ic->kind->dev.name, m.header.transaction, m.header.type);
        return HOST_FATAL;
    }
    host_trace(ic->h, HOST_TRACE_IC, "%s: transaction %u: status %#x", ic->kind->dev.name, m.header.transaction,
               m.header.status);
    if (m.header.type != IC_NEGOTIATE &&
        !ic->kind->answer(ic, m.header.status, body, m.header.body_bytes, ic->body)) {
        if (belongs_to_late(ic, &m) || astray(ic))    /* numbers come again, or there are none */
            return HOST_TAKEN;
        host_violation(ic->h, p->data, p->bytes, "%s: transaction %u: the answer's body is another request's",
                       ic->kind->dev.name, m.header.transaction);
    }
    check_echo(ic, p, &m);
    ic->waiting = ic->silent = false;
    if (m.header.type == IC_NEGOTIATE)
        return negotiated(ic, body, m.header.body_bytes);
    ic->seen.answers++;
    ic->seen.status = m.header.status;
    ic->seen.last_answer_100ns = host_now(ic->h);
    return HOST_TAKEN;
}

