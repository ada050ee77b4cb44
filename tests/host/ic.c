/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ic.c: the framework of the integration components: offers, negotiation, one transaction at a time.
 *
 *   closed --open--> new --ask for versions--> negotiating --1 and 1--> ready <--> a request waits
 *                     ^                             |
 *                     +-- host_ic_renegotiate,      +--0 and 0--> refused
 *                         no answer in time
 *
 * Everything is sent from ic_output, so from host_poll, and only when it fits into the ring: a guest that does
 * not read is not flooded. A request that was given up frees the channel for the next one; its answer may
 * come later. Answers are in ic_answer.c.
 */
#include "tests/host/ic.h"

#define MS_100NS(ms) ((uint64_t)(ms) * HOST_TICKS_PER_MS)

static const struct ic_kind *const kinds[HOST_ICS] = {
    [HOST_IC_SHUTDOWN] = &ic_shutdown, [HOST_IC_HEARTBEAT] = &ic_heartbeat, [HOST_IC_TIMESYNC] = &ic_timesync,
    [HOST_IC_KVP] = &ic_kvp,           [HOST_IC_VSS] = &ic_vss,
};

/* ---- asking ----------------------------------------------------------------------------------------- */

void ic_wake(struct host_ic *ic)
{
    if (ic->ch != NULL)
        vchan_queue(ic->ch);
}

uint64_t ic_limit(const struct host_ic *ic)
{
    return MS_100NS(ic->h->ics->cfg.answer_limit_ms);
}

static uint8_t new_transaction(struct host_ic *ic)
{
    if (!ic->h->ics->cfg.numbered)
        return 0;
    ic->last_transaction = ic->last_transaction == 255 ? 1 : ic->last_transaction + 1;
    return ic->last_transaction;
}

static void give_up(struct host_ic *ic)
{
    if (!ic->waiting)
        return;
    ic->waiting = false;
    ic->late[ic->asked.header.transaction]++;
    ic->strays += ic->bent;
}

/* What a fault makes of a message; false: nothing is sent. */
static bool spoil(struct host_ic *ic, uint8_t *message, uint32_t *bytes)
{
    enum host_fault_kind fault = host_fault(ic->h, HOST_FAULT_IC);
    struct ic_message *m = (struct ic_message *)(void *)message;

    ic->spoiled = fault == HOST_FAULT_SHORT || fault == HOST_FAULT_GARBAGE;
    switch (fault) {
    case HOST_FAULT_NONE:
    case HOST_FAULT_TWICE:
        break;
    case HOST_FAULT_DROP:
        return false;
    case HOST_FAULT_ERROR:
        m->header.status = IC_STATUS_FAIL;
        break;
    case HOST_FAULT_SHORT:
        *bytes = *bytes / 2 & ~7u;
        break;
    case HOST_FAULT_WRONG_ID:
        m->header.transaction ^= 0x5A;
        break;
    case HOST_FAULT_GARBAGE:
        memset(message, 0xEE, *bytes);
        break;
    }
    /* One without flags waits for nothing, so nothing could be said of its answer. */
    ic->bent = fault == HOST_FAULT_NONE && ic->flags != 0 && malice_component(ic, message, bytes);
    ic->spoiled |= ic->bent;
    if (fault == HOST_FAULT_TWICE) {
        struct host_piece payload = {message, *bytes};
        vchan_send(ic->ch, VMBUS_PACKET_INBAND, 0, 0, NULL, &payload);
        ic->late[m->header.transaction]++;
    }
    return true;
}

/* Sends what lies in the scratch buffer behind the header; a request waits from now on. */
static void ask(struct host_ic *ic, uint16_t type, uint32_t body_bytes, uint64_t limit)
{
    uint8_t *message = ic->h->ics->message;
    struct ic_message *m = (struct ic_message *)(void *)message;
    struct host_piece payload = {message, (uint32_t)sizeof(*m) + body_bytes};

    *m = (struct ic_message){
        .pipe = {IC_PIPE_DATA, (uint32_t)sizeof(m->header) + body_bytes},
        .header = {.type = type, .body_bytes = (uint16_t)body_bytes, .flags = ic->flags},
    };
    if (type != IC_NEGOTIATE) {
        m->header.framework = (struct ic_version){ic->seen.framework.major, ic->seen.framework.minor};
        m->header.message = (struct ic_version){ic->seen.message.major, ic->seen.message.minor};
        ic->seen.requests++;
    }
    if (ic->flags != 0) {
        m->header.transaction = new_transaction(ic);
        ic->waiting = true;
        ic->deadline = host_now(ic->h) + limit;
    }
    host_trace(ic->h, HOST_TRACE_IC, "%s: transaction %u, type %u, %u bytes", ic->kind->dev.name,
               m->header.transaction, type, body_bytes);
    ic->asked_bytes = (payload.bytes + 7) & ~7u;
    memcpy(ic->body, message + sizeof(*m), body_bytes);
    ic->asked = *m;
    if (payload.bytes + sizeof(struct vmbus_packet_header) + VMBUS_PACKET_TRAILER_BYTES >= ic->ch->out.bytes) {
        host_log(ic->h, HOST_LOG_ERROR, "%s: the guest's ring is too small for a message of %u bytes",
                 ic->kind->dev.name, payload.bytes);
        return;
    }
    if (!spoil(ic, message, &payload.bytes))
        return;
    if (!ic->spoiled)
        ic->asked.header.transaction = m->header.transaction;
    vchan_send(ic->ch, VMBUS_PACKET_INBAND, 0, 0, NULL, &payload);
}

static uint32_t put_versions(uint8_t *to, const struct host_versions *v)
{
    for (uint32_t i = 0; i < v->count; i++) {
        struct ic_version one = {v->list[i].major, v->list[i].minor};
        memcpy(to + i * sizeof(one), &one, sizeof(one));
    }
    return v->count * (uint32_t)sizeof(struct ic_version);
}

static void ask_versions(struct host_ic *ic)
{
    const struct host_ic_config *cfg = &ic->h->ics->cfg;
    uint8_t *body = ic->h->ics->message + sizeof(struct ic_message);
    struct ic_negotiate head = {
        .framework_count = (uint16_t)cfg->framework.count,
        .message_count = (uint16_t)cfg->messages[ic->which].count,
    };
    uint32_t at = sizeof(head);

    memcpy(body, &head, sizeof(head));
    at += put_versions(body + at, &cfg->framework);
    at += put_versions(body + at, &cfg->messages[ic->which]);
    ic->renegotiate = false;
    ic->seen.negotiated = ic->seen.refused = false;
    ic->stage = IC_NEGOTIATING;
    ic->flags = IC_FLAGS_REQUEST;
    ask(ic, IC_NEGOTIATE, at, MS_100NS(cfg->negotiate_limit_ms));
}

void ic_lost(struct host_ic *ic)
{
    if (ic->stage != IC_NEGOTIATING)
        ic->kind->lost(ic, false);
    if (ic->stage == IC_NEGOTIATING || ic->bent)
        ic->stage = IC_NEW;
}

static void too_late(struct host_ic *ic)
{
    ic->seen.missed++;
    if (!ic->silent)
        host_log(ic->h, HOST_LOG_WARN, "%s: no answer to transaction %u, type %u", ic->kind->dev.name,
                 ic->asked.header.transaction, ic->asked.header.type);
    ic->silent = true;
    host_trace(ic->h, HOST_TRACE_IC, "%s: no answer to transaction %u", ic->kind->dev.name,
               ic->asked.header.transaction);
    give_up(ic);
    ic_lost(ic);
}

/* What the component wants to ask now, if anything. */
static void ask_next(struct host_ic *ic)
{
    uint8_t *body = ic->h->ics->message + sizeof(struct ic_message);
    uint32_t bytes;

    memset(body, 0, IC_BODY_MAX);
    ic->flags = IC_FLAGS_REQUEST;
    bytes = ic->kind->next(ic, body);
    if (bytes != 0)
        ask(ic, ic->kind->type, bytes, ic->kind->limit_100ns(ic));
}

void ic_output(struct host_chan *ch)
{
    struct host_ic *ic = ch->device;
    uint64_t now = host_now(ic->h), again = HOST_NEVER;

    if (ic->waiting && now >= ic->deadline)
        too_late(ic);
    if (ic->renegotiate) {
        if (ic->waiting && ic->stage == IC_READY)
            ic->kind->lost(ic, false);
        give_up(ic);
        ic->stage = IC_NEW;
    }
    if (!ic->waiting && (ic->stage == IC_NEW || ic->stage == IC_READY)) {
        if (!vchan_has_room(ch, IC_BODY_MAX + 64 < ch->out.bytes / 2 ? IC_BODY_MAX + 64 : ch->out.bytes / 2))
            again = now + IC_RETRY_100NS;
        else if (ic->stage == IC_NEW)
            ask_versions(ic);
        else
            ask_next(ic);
    }
    if (ic->waiting)
        again = ic->deadline;
    else if (again == HOST_NEVER && ic->stage == IC_READY)
        again = ic->due;
    host_alarm_set(ic->h, &ic->alarm, again);
}

static void alarm_fired(struct host_alarm *alarm)
{
    ic_wake(list_entry(alarm, struct host_ic, alarm));
}

/* ---- the channel ------------------------------------------------------------------------------------ */

bool ic_open(struct host_chan *ch)
{
    struct host_ic *ic = ch->device;

    ic->stage = IC_NEW;
    ic->due = HOST_NEVER;
    ic->waiting = ic->spoiled = ic->bent = ic->renegotiate = ic->wanted = ic->silent = false;
    memset(ic->late, 0, sizeof(ic->late));
    ic->strays = 0;
    memset(&ic->asked, 0, sizeof(ic->asked));
    return true;
}

void ic_close(struct host_chan *ch)
{
    struct host_ic *ic = ch->device;

    ic->stage = IC_CLOSED;
    ic->waiting = ic->wanted = ic->seen.negotiated = false;
    host_alarm_set(ic->h, &ic->alarm, HOST_NEVER);
    ic->kind->lost(ic, true);
}

uint32_t ic_in_flight(struct host_chan *ch)
{
    (void)ch;
    return 0;
}

void ic_freed(struct host_chan *ch)
{
    ((struct host_ic *)ch->device)->ch = NULL;
}

/* ---- what the transport and the tests call ---------------------------------------------------------- */

void host_ic_config_default(struct host_ic_config *cfg)
{
    memset(cfg, 0, sizeof(*cfg));
    cfg->present = ((1u << HOST_ICS) - 1) & ~(1u << HOST_IC_VSS);
    cfg->framework = (struct host_versions){2, {{1, 0}, {3, 0}}};
    cfg->messages[HOST_IC_SHUTDOWN] = (struct host_versions){4, {{1, 0}, {3, 0}, {3, 1}, {3, 2}}};
    cfg->messages[HOST_IC_HEARTBEAT] = (struct host_versions){2, {{1, 0}, {3, 0}}};
    cfg->messages[HOST_IC_TIMESYNC] = (struct host_versions){3, {{1, 0}, {3, 0}, {4, 0}}};
    cfg->messages[HOST_IC_KVP] = (struct host_versions){4, {{1, 0}, {3, 0}, {4, 0}, {5, 0}}};
    cfg->messages[HOST_IC_VSS] = (struct host_versions){3, {{5, 0}, {6, 0}, {7, 0}}};
    cfg->numbered = true;
    cfg->timesync_answered = true;
    cfg->heartbeat_ms = 2000;
    cfg->timesync_ms = 5000;
    cfg->negotiate_limit_ms = 120 * 1000;         /* Linux waits 55 s for its daemons */
    cfg->answer_limit_ms = 60 * 1000;             /* and 30 s for their answers, */
    cfg->vss_limit_ms = 20 * 60 * 1000;           /* 15 min for all file systems to be frozen */
    cfg->time_100ns = IC_TIME_UNIX_EPOCH;
}

static struct host_ics *create(struct host *h, const struct host_ic_config *cfg)
{
    struct host_ics *ics = host_alloc(h, sizeof(*ics));

    if (ics == NULL)
        return NULL;
    for (uint32_t i = 0; i < HOST_ICS; i++) {
        ics->ic[i] = (struct host_ic){.h = h, .kind = kinds[i], .which = (enum host_ic_kind)i};
        host_alarm_init(&ics->ic[i].alarm, alarm_fired);
    }
    kvp_init(ics);
    ics->time_base = cfg->time_100ns - host_now(h);
    h->ics = ics;
    return ics;
}

bool host_add_ics(struct host *h, const struct host_ic_config *cfg)
{
    struct host_ics *ics = h->ics != NULL ? h->ics : create(h, cfg);

    if (ics == NULL)
        return false;
    ics->cfg = *cfg;
    for (uint32_t i = 0; i < HOST_ICS; i++) {
        struct host_ic *ic = &ics->ic[i];
        if (!(cfg->present & (1u << i)) || ic->ch != NULL)
            continue;
        memset(&ic->seen, 0, sizeof(ic->seen));
        ic->ch = vchan_create(h, &ic->kind->dev, ic, &ic->kind->interface_type, NULL, 0, false);
        if (ic->ch == NULL)
            return false;
    }
    return true;
}

static struct host_ic *find(const struct host *h, enum host_ic_kind which)
{
    return h->ics != NULL && which < HOST_ICS && h->ics->ic[which].ch != NULL ? &h->ics->ic[which] : NULL;
}

void host_remove_ic(struct host *h, enum host_ic_kind which)
{
    struct host_ic *ic = find(h, which);

    if (ic != NULL)
        vchan_rescind(ic->ch);
}

struct host_ic *ic_ready(struct host *h, enum host_ic_kind which)
{
    struct host_ic *ic = find(h, which);

    return ic != NULL && ic->stage == IC_READY && !ic->renegotiate ? ic : NULL;
}

bool host_ic_renegotiate(struct host *h, enum host_ic_kind which)
{
    struct host_ic *ic = find(h, which);

    if (ic == NULL || ic->stage == IC_CLOSED || ic->ch->dead)
        return false;
    ic->renegotiate = true;
    ic_wake(ic);
    return true;
}

void host_ic_get_state(const struct host *h, enum host_ic_kind which, struct host_ic_state *state)
{
    const struct host_ic *ic = find(h, which);

    memset(state, 0, sizeof(*state));
    if (ic == NULL)
        return;
    *state = ic->seen;
    state->relid = ic->ch->relid;
    state->offered = ic->ch->offered && !ic->ch->rescinded;
    state->open = ic->ch->open;
    state->waiting = ic->waiting;
}

const char *host_ic_name(enum host_ic_kind which)
{
    return which < HOST_ICS ? kinds[which]->dev.name + sizeof("ic ") - 1 : "?";
}
