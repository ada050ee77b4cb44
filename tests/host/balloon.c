/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * balloon.c: dynamic memory, the host's side: version, capabilities, reports, balloon, unballoon, hot add.
 *
 *   closed --open--> version --accepted--> capabilities --accepted--> ready <--> one exchange at a time
 *
 * A host moves memory for real: what the guest gives is taken from it by ops.pages before the next packet is read,
 * and what it gets back is there before the message is. So a guest that still uses a page which it gave, or uses
 * one that it was not given yet, is found at the access, where the transport can close pages. What the host itself
 * was given for its own use (rings, GPADLs, pages named by registers) must not be given at all.
 */
#include "tests/host/balloon.h"
#include "tests/host/storvsp.h"

#define REPORT_100NS   (900 * HOST_TICKS_PER_MS)      /* reports come every second, not more often */
#define ANSWER_100NS   (20000 * HOST_TICKS_PER_MS)    /* the guest may wait 10 s for room in its ring */
#define SILENCE_100NS  (10000 * HOST_TICKS_PER_MS)
#define FIRST_100NS    (60000 * HOST_TICKS_PER_MS)    /* Linux leaves out its first 45 reports */

static const struct guid balloon_class = VMBUS_GUID_BALLOON;

/* ---- out -------------------------------------------------------------------------------------------- */

static void send_bytes(struct host_balloon *b, void *message, uint32_t bytes)
{
    struct host_piece piece = {message, bytes};

    vchan_send(b->ch, VMBUS_PACKET_INBAND, 0, 0, NULL, &piece);
}

/* The message lies in b->message. Returns the fault that it got. */
static enum host_fault_kind send(struct host_balloon *b, uint16_t type, uint32_t id, uint32_t bytes)
{
    struct dm_header *header = (struct dm_header *)(void *)b->message;
    enum host_fault_kind fault = host_fault(b->h, HOST_FAULT_BALLOON);

    if (fault == HOST_FAULT_NONE && (type == DM_VERSION_RESPONSE || type == DM_CAPABILITIES_RESPONSE))
        fault = malice_memory_answer(b->h, b, &((struct dm_answer *)(void *)b->message)->flags);
    *header = (struct dm_header){.type = type, .size = (uint16_t)bytes, .transaction_id = id};
    host_trace(b->h, HOST_TRACE_BALLOON, "send type %u, %u bytes, id %u", type, bytes, id);
    switch (fault) {
    case HOST_FAULT_NONE:
        break;
    case HOST_FAULT_DROP:
        return fault;
    case HOST_FAULT_ERROR:
        /* an answer says no; a request is none that a guest knows */
        if (type == DM_VERSION_RESPONSE || type == DM_CAPABILITIES_RESPONSE)
            memset(b->message + sizeof(*header), 0, 8);
        else
            header->type = DM_ERROR;
        break;
    case HOST_FAULT_SHORT:
        bytes = bytes / 2 & ~7u;
        break;
    case HOST_FAULT_WRONG_ID:
        header->transaction_id ^= 0x5A000000;
        break;
    case HOST_FAULT_TWICE:
        send_bytes(b, b->message, bytes);
        break;
    case HOST_FAULT_GARBAGE:
        memset(b->message, 0xEE, bytes);
        break;
    }
    send_bytes(b, b->message, bytes);
    return fault;
}

static bool arrives_whole(enum host_fault_kind fault)
{
    return fault == HOST_FAULT_NONE || fault == HOST_FAULT_WRONG_ID || fault == HOST_FAULT_TWICE;
}

/* A request was sent: so many answers are to come. */
static void expect(struct host_balloon *b, uint16_t answer, uint64_t asked, enum host_fault_kind fault)
{
    b->now = (struct balloon_exchange){
        .answer = arrives_whole(fault) ? answer : 0,
        .answers = fault == HOST_FAULT_TWICE ? 2 : 1,
        .asked = asked,
        .spoiled = fault != HOST_FAULT_NONE,
        .since = host_now(b->h),
    };
    b->seen.result_pages = 0;
    b->seen.result = 0;
}

/* True: the guest was told yes, as far as the host knows. */
static bool answer(struct host_balloon *b, const struct dm_header *asked, uint16_t type, uint64_t flags)
{
    struct dm_answer *m = (struct dm_answer *)(void *)b->message;
    enum host_fault_kind fault;

    m->flags = flags;
    fault = send(b, type, asked->transaction_id, sizeof(*m));
    b->doubtful = fault != HOST_FAULT_NONE || m->flags != flags;
    return (flags & DM_ACCEPTED) && fault != HOST_FAULT_ERROR;
}

/* ---- the handshake ---------------------------------------------------------------------------------- */

static bool known_version(const struct host_balloon *b, uint32_t version)
{
    return (version == DM_VERSION_WIN10 || version == DM_VERSION_WIN8 || version == DM_VERSION_WIN7) &&
           version >= b->cfg.min_version && version <= b->cfg.max_version;
}

static void version_request(struct host_balloon *b, const struct dm_version_request *m)
{
    bool last = m->flags & DM_LAST_ATTEMPT;

    if (b->stage != BALLOON_VERSION)
        host_violation(b->h, m, sizeof(*m), "balloon: version request in stage %u", b->stage);
    if (b->tried != 0 && m->version >= b->tried)
        host_strict(b->h, m, sizeof(*m), "balloon: version %#x after %#x was refused", m->version, b->tried);
    if ((m->flags & ~DM_LAST_ATTEMPT) || last != (m->version == DM_VERSION_WIN7))
        host_strict(b->h, m, sizeof(*m), "balloon: flags %#x with version %#x", m->flags, m->version);
    b->tried = m->version;
    if (known_version(b, m->version)) {
        if (answer(b, &m->header, DM_VERSION_RESPONSE, DM_ACCEPTED)) {
            b->seen.version = m->version;
            b->stage = BALLOON_CAPABILITIES;
        }
        return;
    }
    answer(b, &m->header, DM_VERSION_RESPONSE, 0);
}

static void tell_limit(struct host_balloon *b)
{
    struct dm_info *m = (struct dm_info *)(void *)b->message;

    *m = (struct dm_info){
        .info_bytes = sizeof(*m) - offsetof(struct dm_info, info_type),
        .info_type = DM_INFO_MAX_PAGES,
        .data_bytes = sizeof(m->value),
        .value = b->cfg.max_pages,
    };
    send(b, DM_INFO, ++b->own_id, sizeof(*m));
}

static void capabilities(struct host_balloon *b, const struct dm_capabilities *m)
{
    uint64_t known = DM_CAP_BALLOON | DM_CAP_HOT_ADD | 0xFull << DM_CAP_ALIGNMENT_SHIFT, flags = DM_ACCEPTED;

    if (b->stage != BALLOON_CAPABILITIES)
        host_violation(b->h, m, sizeof(*m), "balloon: capabilities in stage %u", b->stage);
    if (b->seen.version >= DM_VERSION_WIN10) {
        known |= DM_CAP_HOT_REMOVE;
        flags |= DM_HOT_REMOVE_KNOWN | (b->cfg.no_reports ? DM_NO_REPORTS : 0);
    }
    if (m->capabilities & ~known)
        host_strict(b->h, m, sizeof(*m), "balloon: unknown capabilities %#llx", (unsigned long long)m->capabilities);
    b->seen.capabilities = m->capabilities;
    if (b->cfg.refuse_capabilities) {
        answer(b, &m->header, DM_CAPABILITIES_RESPONSE, 0);
        return;
    }
    if (!answer(b, &m->header, DM_CAPABILITIES_RESPONSE, flags))
        return;
    b->stage = BALLOON_READY;
    b->seen.last_report_100ns = b->ready_since = host_now(b->h);
    b->reports = 0;
    if (b->cfg.max_pages && b->seen.version >= DM_VERSION_WIN8)
        tell_limit(b);
}

/* ---- what the guest says when all is ready ---------------------------------------------------------- */

static void status(struct host_balloon *b, const struct dm_status *m)
{
    uint64_t now = host_now(b->h);

    if (b->cfg.no_reports && b->seen.version >= DM_VERSION_WIN10)
        host_strict(b->h, m, sizeof(*m), "balloon: a report although none is wanted");
    /* Several may have waited in the ring; but not more than there were seconds. */
    if (++b->reports > (now - b->ready_since) / REPORT_100NS + 1)
        host_strict(b->h, m, sizeof(*m), "balloon: report %llu in %llu ms", (unsigned long long)b->reports,
                    (unsigned long long)((now - b->ready_since) / HOST_TICKS_PER_MS));
    if (m->committed < b->book.pages)
        host_strict(b->h, m, sizeof(*m), "balloon: committed %llu pages, but %llu are ballooned",
                    (unsigned long long)m->committed, (unsigned long long)b->book.pages);
    b->doubtful = false;
    b->seen.last_report_100ns = now;
    b->seen.reports++;
    b->seen.available_pages = m->available;
    b->seen.committed_pages = m->committed;
    host_trace(b->h, HOST_TRACE_BALLOON, "report: %llu pages available, %llu committed",
               (unsigned long long)m->available, (unsigned long long)m->committed);
}

/* Is it this answer that is awaited? */
static bool awaited(struct host_balloon *b, const struct dm_header *m)
{
    if (b->now.answer == m->type)
        return true;
    host_violation(b->h, m, sizeof(*m), "balloon: message type %u while %u is awaited", m->type, b->now.answer);
    return false;
}

static void ended(struct host_balloon *b)
{
    if (--b->now.answers > 0)
        return;
    b->now.answer = 0;
    b->seen.exchanges++;
}

/* Does the host use a page of it? */
static bool in_use(const struct host_balloon *b, uint64_t first, uint64_t pages)
{
    const struct host *h = b->h;

    if (vgpadl_overlaps(h, first, pages) || storvsp_uses(h, first, pages))
        return true;
    if ((h->hypercall_msr & HV_MSR_PAGE_ENABLE) && (h->hypercall_msr >> HV_PAGE_SHIFT) - first < pages)
        return true;
    if ((h->reference_tsc & HV_MSR_PAGE_ENABLE) && (h->reference_tsc >> HV_PAGE_SHIFT) - first < pages)
        return true;
    for (uint32_t i = 0; i < h->cfg.vps; i++) {
        const uint64_t named[] = {h->vp[i].simp, h->vp[i].siefp, h->vp[i].vp_assist};
        for (uint32_t n = 0; n < HOST_COUNT(named); n++)
            if ((named[n] & HV_MSR_PAGE_ENABLE) && (named[n] >> HV_PAGE_SHIFT) - first < pages)
                return true;
    }
    return false;
}

static void take_range(struct host_balloon *b, uint64_t range)
{
    uint64_t first = DM_RANGE_FIRST(range), pages = DM_RANGE_PAGES(range);
    const char *why = NULL;

    if (pages == 0)
        why = "is empty";
    else if (in_use(b, first, pages))
        why = "has a page that the guest named for the host's own use";
    else if (balloon_book_overlaps(&b->book, first, pages))
        why = "was given already, at least in part";
    else if (b->h->ops.pages != NULL && !b->h->ops.pages(b->h->ctx, first, pages, HOST_PAGES_TAKEN))
        why = "is not the guest's memory, or the host is just using it";
    else if (!balloon_book_add(b, first, pages))
        why = "does not fit into the host's book";
    if (why != NULL) {
        host_violation(b->h, &range, sizeof(range), "balloon: the range of %llu pages from %#llx %s",
                       (unsigned long long)pages, (unsigned long long)first, why);
        return;
    }
    b->now.got += pages;
}

static void balloon_response(struct host_balloon *b, const struct dm_balloon_response *m)
{
    uint32_t count = m->more_count >> DM_COUNT_SHIFT;
    bool more = m->more_count & DM_MORE;

    if (!awaited(b, &m->header))
        return;
    if (m->header.size != sizeof(*m) + (uint64_t)count * 8 || m->reserved != 0 || (more && count == 0)) {
        host_violation(b->h, m, sizeof(*m), "balloon: response with %u ranges in %u bytes, more %u", count,
                       m->header.size, more);
        return;
    }
    for (uint32_t i = 0; i < count; i++)
        take_range(b, m->ranges[i]);
    if (b->now.got > b->now.asked * (b->now.spoiled ? 2 : 1))
        host_violation(b->h, m, sizeof(*m), "balloon: %llu pages given, %llu asked for",
                       (unsigned long long)b->now.got, (unsigned long long)b->now.asked);
    b->seen.parts++;
    b->seen.result_pages = b->now.got;
    if (!more)
        ended(b);
}

static void hot_add_response(struct host_balloon *b, const struct dm_hot_add_response *m)
{
    uint64_t rest = b->now.asked - m->pages;

    if (!awaited(b, &m->header))
        return;
    if (m->pages > b->now.asked || m->result > 1 || (m->pages != 0 && m->result != 1)) {
        host_violation(b->h, m, sizeof(*m), "balloon: %u of %llu pages added, result %u", m->pages,
                       (unsigned long long)b->now.asked, m->result);
        return;
    }
    /* The second answer to a request that came twice speaks of memory that is the guest's already. */
    if (b->now.answers == 1 && b->now.spoiled && b->seen.result_pages != 0) {
        ended(b);
        return;
    }
    if (rest != 0 && b->h->ops.pages != NULL)
        b->h->ops.pages(b->h->ctx, b->now.first + m->pages, rest, HOST_PAGES_REMOVED);
    b->seen.hot_added_pages += m->pages;
    b->seen.result_pages = m->pages;
    b->seen.result = m->result;
    ended(b);
}

static bool right_size(struct host_balloon *b, const struct dm_header *m, uint32_t bytes)
{
    if (m->size == bytes)
        return true;
    host_violation(b->h, m, sizeof(*m), "balloon: message type %u of %u bytes, it has %u", m->type, m->size, bytes);
    return false;
}

static void ready_message(struct host_balloon *b, const struct dm_header *m)
{
    if (b->stage != BALLOON_READY) {
        host_violation(b->h, m, sizeof(*m), "balloon: message type %u before the handshake is done", m->type);
    } else if (m->type == DM_STATUS_REPORT) {
        if (right_size(b, m, sizeof(struct dm_status)))
            status(b, (const struct dm_status *)(const void *)m);
    } else if (m->type == DM_BALLOON_RESPONSE && m->size >= sizeof(struct dm_balloon_response)) {
        balloon_response(b, (const struct dm_balloon_response *)(const void *)m);
    } else if (m->type == DM_UNBALLOON_RESPONSE) {
        if (right_size(b, m, sizeof(struct dm_unballoon_response)) && awaited(b, m))
            ended(b);
    } else if (m->type == DM_HOT_ADD_RESPONSE) {
        if (right_size(b, m, sizeof(struct dm_hot_add_response)))
            hot_add_response(b, (const struct dm_hot_add_response *)(const void *)m);
    } else {
        host_violation(b->h, m, sizeof(*m), "balloon: message type %u of %u bytes", m->type, m->size);
    }
}

static enum host_take packet(struct host_chan *ch, const struct host_packet *p)
{
    static const uint64_t zero;
    struct host_balloon *b = ch->device;
    const struct dm_header *m = (const struct dm_header *)(const void *)p->data;

    if (p->type != VMBUS_PACKET_INBAND || p->flags != 0 || p->id != 0)
        host_strict(b->h, p->data, p->bytes < 16 ? p->bytes : 16,
                    "balloon: packet type %u, flags %#x, id %#llx: inband without either is expected", p->type,
                    p->flags, (unsigned long long)p->id);
    if (p->bytes < sizeof(*m) || m->size < sizeof(*m) || m->size > p->bytes || p->bytes - m->size >= 8 ||
        m->size > DM_MESSAGE_MAX || memcmp(p->data + m->size, &zero, p->bytes - m->size) != 0) {
        host_violation(b->h, p->data, p->bytes < 16 ? p->bytes : 16, "balloon: length of a message in %u bytes",
                       p->bytes);
        return HOST_TAKEN;
    }
    /* Linux uses up a number for a report that it then does not send. */
    if (b->guest_id != 0 && m->transaction_id - b->guest_id - 1 > 0xFFFF)
        host_strict(b->h, m, sizeof(*m), "balloon: transaction id %u after %u", m->transaction_id, b->guest_id);
    b->guest_id = m->transaction_id;
    host_trace(b->h, HOST_TRACE_BALLOON, "got type %u, %u bytes, id %u", m->type, m->size, m->transaction_id);
    if (m->type == DM_VERSION_REQUEST) {
        if (right_size(b, m, sizeof(struct dm_version_request)))
            version_request(b, (const struct dm_version_request *)(const void *)m);
    } else if (m->type == DM_CAPABILITIES_REPORT) {
        if (right_size(b, m, sizeof(struct dm_capabilities)))
            capabilities(b, (const struct dm_capabilities *)(const void *)m);
    } else {
        ready_message(b, m);
    }
    return HOST_TAKEN;
}

/* ---- the channel ------------------------------------------------------------------------------------ */

static bool opened(struct host_chan *ch)
{
    struct host_balloon *b = ch->device;

    b->stage = BALLOON_VERSION;
    b->tried = b->guest_id = 0;
    b->now.answer = 0;
    return true;
}

static void closed(struct host_chan *ch)
{
    struct host_balloon *b = ch->device;

    b->stage = BALLOON_CLOSED;
    b->now.answer = 0;
}

static void output(struct host_chan *ch)
{
    (void)ch;
}

static uint32_t in_flight(struct host_chan *ch)
{
    (void)ch;
    return 0;
}

static void freed(struct host_chan *ch)
{
    ((struct host_balloon *)ch->device)->ch = NULL;
}

static const struct host_dev_ops balloon_ops = {
    .name = "balloon",
    .open = opened,
    .close = closed,
    .packet = packet,
    .output = output,
    .in_flight = in_flight,
    .freed = freed,
};

void vballoon_audit(struct host *h)
{
    struct host_balloon *b = h->balloon;
    uint64_t now = host_now(h), silence;

    if (b == NULL || b->stage != BALLOON_READY || b->ch == NULL || b->ch->held)
        return;
    if (b->now.answer != 0 && !b->now.spoiled && now - b->now.since > ANSWER_100NS) {
        host_strict(h, NULL, 0, "balloon: no answer of type %u", b->now.answer);
        b->now.answer = 0;
    }
    silence = now - b->seen.last_report_100ns;
    if (!b->doubtful && !(b->cfg.no_reports && b->seen.version >= DM_VERSION_WIN10) &&
        silence > (b->reports ? SILENCE_100NS : FIRST_100NS)) {
        host_strict(h, NULL, 0, "balloon: no report for %llu ms", (unsigned long long)(silence / HOST_TICKS_PER_MS));
        b->seen.last_report_100ns = now;
    }
}

/* A machine that was reset has all of its first memory again. */
void vballoon_reset(struct host *h)
{
    struct host_balloon *b = h->balloon;

    if (b == NULL)
        return;
    for (uint32_t i = 0; h->ops.pages != NULL && i < b->book.count; i++)
        h->ops.pages(h->ctx, b->book.range[i].first, b->book.range[i].pages, HOST_PAGES_RETURNED);
    balloon_book_clear(b);
}

/* ---- what the transport and the tests call ---------------------------------------------------------- */

void host_balloon_config_default(struct host_balloon_config *cfg)
{
    memset(cfg, 0, sizeof(*cfg));
    cfg->min_version = DM_VERSION_WIN7;
    cfg->max_version = DM_VERSION_WIN10;
    cfg->ranges_per_message = DM_RANGES_MAX;
}

bool host_add_balloon(struct host *h, const struct host_balloon_config *cfg)
{
    struct host_balloon *b = h->balloon;

    if (b == NULL)
        b = h->balloon = host_alloc(h, sizeof(*b));
    if (b == NULL || b->ch != NULL)
        return false;
    b->h = h;
    b->cfg = *cfg;
    if (b->cfg.ranges_per_message == 0 || b->cfg.ranges_per_message > DM_RANGES_MAX)
        b->cfg.ranges_per_message = DM_RANGES_MAX;
    b->ch = vchan_create(h, &balloon_ops, b, &balloon_class, NULL, 0, false);
    return b->ch != NULL;
}

void host_remove_balloon(struct host *h)
{
    if (h->balloon != NULL && h->balloon->ch != NULL)
        vchan_rescind(h->balloon->ch);
}

static struct host_balloon *ready(struct host *h)
{
    struct host_balloon *b = h->balloon;

    return b != NULL && b->ch != NULL && b->stage == BALLOON_READY && b->now.answer == 0 && !b->ch->dead ? b : NULL;
}

bool host_balloon(struct host *h, uint32_t pages)
{
    struct host_balloon *b = ready(h);

    if (b == NULL || !(b->seen.capabilities & DM_CAP_BALLOON))
        return false;
    ((struct dm_balloon_request *)(void *)b->message)->pages = pages;
    ((struct dm_balloon_request *)(void *)b->message)->reserved = 0;
    expect(b, DM_BALLOON_RESPONSE, pages, send(b, DM_BALLOON_REQUEST, ++b->own_id, sizeof(struct dm_balloon_request)));
    return true;
}

/* One part with pieces of the book, none larger than a range can say. Returns its fault. */
static enum host_fault_kind send_back(struct host_balloon *b, uint64_t *left)
{
    struct dm_unballoon_request *m = (struct dm_unballoon_request *)(void *)b->message;
    enum host_fault_kind fault;
    uint32_t count = 0;

    while (count < b->cfg.ranges_per_message && *left != 0) {
        uint64_t most = *left < DM_RANGE_PAGES_MAX ? *left : DM_RANGE_PAGES_MAX;
        struct balloon_range r = balloon_book_cut(b, b->cfg.piece_pages && most > b->cfg.piece_pages ?
                                                  b->cfg.piece_pages : most);
        if (r.pages == 0) {
            *left = 0;
            break;
        }
        *left -= r.pages;
        m->ranges[count++] = DM_RANGE(r.first, r.pages);
        if (b->h->ops.pages != NULL)
            b->h->ops.pages(b->h->ctx, r.first, r.pages, HOST_PAGES_RETURNED);
    }
    m->flags = *left != 0 ? DM_MORE : 0;
    m->count = count;
    b->seen.parts++;
    fault = send(b, DM_UNBALLOON_REQUEST, ++b->own_id, (uint32_t)(sizeof(*m) + count * sizeof(m->ranges[0])));
    return fault;
}

bool host_unballoon(struct host *h, uint64_t pages)
{
    struct host_balloon *b = ready(h);
    enum host_fault_kind fault = HOST_FAULT_NONE;
    uint64_t left;

    if (b == NULL)
        return false;
    left = pages < b->book.pages ? pages : b->book.pages;
    pages = left;
    do {
        enum host_fault_kind one = send_back(b, &left);
        if (fault == HOST_FAULT_NONE || left == 0)
            fault = one;
    } while (left != 0);
    expect(b, DM_UNBALLOON_RESPONSE, pages, fault);
    b->seen.result_pages = pages;
    return true;
}

bool host_hot_add(struct host *h, uint64_t first, uint32_t pages, bool with_region)
{
    struct host_balloon *b = ready(h);
    struct dm_hot_add_request *m;

    if (b == NULL || !(b->seen.capabilities & DM_CAP_HOT_ADD))
        return false;
    if (h->ops.pages != NULL && !h->ops.pages(h->ctx, first, pages, HOST_PAGES_ADDED))
        return false;
    m = (struct dm_hot_add_request *)(void *)b->message;
    m->range = DM_RANGE(first, pages);
    m->region = m->range;
    expect(b, DM_HOT_ADD_RESPONSE, pages,
           send(b, DM_HOT_ADD_REQUEST, ++b->own_id, with_region ? sizeof(*m) : DM_HOT_ADD_BYTES));
    b->now.first = first;
    return true;
}

bool host_balloon_lie(struct host *h, const void *message, uint32_t bytes, uint16_t answer_type, uint64_t pages)
{
    struct host_balloon *b = ready(h);

    if (b == NULL || bytes > DM_MESSAGE_MAX)
        return false;
    memcpy(b->message, message, bytes);
    send_bytes(b, b->message, bytes);
    if (answer_type != 0)
        expect(b, answer_type, pages, HOST_FAULT_NONE);
    return true;
}

void host_balloon_forget(struct host *h)
{
    if (h->balloon != NULL)
        balloon_book_clear(h->balloon);
}

bool host_balloon_has(const struct host *h, uint64_t page)
{
    return h->balloon != NULL && balloon_book_overlaps(&h->balloon->book, page, 1);
}

void host_balloon_get_state(const struct host *h, struct host_balloon_state *state)
{
    const struct host_balloon *b = h->balloon;

    memset(state, 0, sizeof(*state));
    if (b == NULL)
        return;
    *state = b->seen;
    state->relid = b->ch != NULL && !b->ch->rescinded ? b->ch->relid : 0;
    state->ready = b->stage == BALLOON_READY;
    state->busy = b->now.answer != 0;
    state->ballooned_pages = b->book.pages;
    state->ballooned_ranges = b->book.count;
}
