/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * malice_service.c: lies of the bus's services: what integration components ask, what the dynamic memory device answers
 * and wants.
 *
 * A component's message is bent and the guest may make of it what it likes, once: the model takes any answer, or none,
 * and goes on. Of dynamic memory the real requests stay as they are, because they move pages; between them come some
 * that nobody made: for more than there is, for pages back that were never given, to add memory that is used or is
 * beyond every processor's reach, and messages that are none. What a correct guest answers to each of these is known,
 * and judged.
 */
#include "tests/host/balloon.h"
#include "tests/host/ic.h"

/* ---- integration components ------------------------------------------------------------------------- */

bool malice_component(struct host_ic *ic, uint8_t *message, uint32_t *bytes)
{
    struct host *h = ic->h;
    const char *name = ic->kind->dev.name;
    uint32_t at, v;

    if (!malice_occasion(h, HOST_MALICE_SERVICE, ic))
        return false;
    switch (malice_pick(h, 6)) {
    case 0:                                       /* a word of the headers, the pipe's first */
    case 1:
        at = 4 * (uint32_t)malice_pick(h, sizeof(struct ic_message) / 4);
        v = malice_value(h);
        malice_set_word(message, at, v);
        malice_told(h, "%s: message has %#x at %u", name, v, at);
        break;
    case 2:                                       /* one of what follows, often the beginning: numbers and lengths */
        at = (uint32_t)sizeof(struct ic_message) + 4 * (uint32_t)malice_pick(h, malice_pick(h, 2) ? 6 : *bytes / 4);
        v = malice_value(h);
        malice_set_word(message, at, v);
        malice_told(h, "%s: message of %u bytes has %#x at %u", name, *bytes, v, at);
        break;
    case 3:
        *bytes = (uint32_t)malice_pick(h, *bytes);
        malice_told(h, "%s: message cut to %u bytes", name, *bytes);
        break;
    case 4:
        v = 8 * (1 + (uint32_t)malice_pick(h, 64));
        *bytes += v;
        malice_told(h, "%s: message longer by %u bytes", name, v);
        break;
    default:
        for (at = sizeof(struct ic_message); at < *bytes; at++)
            message[at] = (uint8_t)malice_pick(h, 256);
        malice_told(h, "%s: the body is noise", name);
        break;
    }
    return true;
}

/* ---- dynamic memory --------------------------------------------------------------------------------- */

enum host_fault_kind malice_memory_answer(struct host *h, const void *device, uint64_t *flags)
{
    if (!malice_occasion(h, HOST_MALICE_SERVICE, device))
        return HOST_FAULT_NONE;
    switch (malice_pick(h, 4)) {
    case 0:
        malice_told(h, "balloon: a version or the capabilities are refused");
        return HOST_FAULT_ERROR;
    case 1:
        malice_told(h, "balloon: an answer is garbage");
        return HOST_FAULT_GARBAGE;
    case 2:
        malice_told(h, "balloon: an answer is cut");
        return HOST_FAULT_SHORT;
    default:
        *flags |= (uint64_t)malice_value(h) << 32 | (malice_value(h) & ~(uint32_t)DM_ACCEPTED);
        malice_told(h, "balloon: an answer has flags %#llx", (unsigned long long)*flags);
        return HOST_FAULT_NONE;
    }
}

static union {
    struct dm_header header;
    struct dm_balloon_request balloon;
    struct dm_unballoon_request unballoon;
    struct dm_hot_add_request hot_add;
    struct dm_info info;
    uint8_t bytes[DM_MESSAGE_MAX];
} made;

/* A page that the guest has and never gave: its own interrupt controller lies there. */
static uint64_t used_page(const struct host *h)
{
    return h->vp[0].simp >> HV_PAGE_SHIFT;
}

static void want_too_much(struct host *h)
{
    static const uint32_t pages[] = {0, 1, 17, 600, 4096, 0xFFFFFFFF};

    made.header.size = sizeof(made.balloon);
    made.balloon.pages = pages[malice_pick(h, HOST_COUNT(pages))];
    made.balloon.reserved = malice_value(h);
    malice_told(h, "balloon: %u pages wanted", made.balloon.pages);
    host_balloon_lie(h, &made, sizeof(made.balloon), DM_BALLOON_RESPONSE, made.balloon.pages);
}

/* Among what it gave, perhaps, is a page that it did not give; or there are fewer ranges than the message says. */
static void give_what_is_not_ours(struct host *h)
{
    struct dm_unballoon_request *m = &made.unballoon;
    uint32_t most = (DM_MESSAGE_MAX - (uint32_t)sizeof(*m)) / 8, count = 1 + (uint32_t)malice_pick(h, 16), bytes;

    for (uint32_t i = 0; i < count; i++)
        m->ranges[i] = DM_RANGE(malice_pick(h, 1u << 20), malice_pick(h, 64));
    m->ranges[malice_pick(h, count)] = DM_RANGE(used_page(h), 1 + malice_pick(h, 1000));
    m->count = malice_pick(h, 4) == 0 ? count + 1 + malice_value(h) % (0x7FFFFFFF - most) : count;
    m->flags = malice_value(h) & ~(uint32_t)DM_MORE;
    bytes = (uint32_t)sizeof(*m) + count * 8;
    m->header.size = (uint16_t)bytes;
    malice_told(h, "balloon: %u ranges come back in %u bytes", m->count, bytes);
    host_balloon_lie(h, &made, bytes, DM_UNBALLOON_RESPONSE, 0);
}

static void add_what_is_there(struct host *h)
{
    uint64_t first = used_page(h), before = malice_pick(h, 64), pages = malice_pick(h, DM_RANGE_PAGES_MAX);
    bool longer = malice_pick(h, 2);

    switch (malice_pick(h, 3)) {
    case 0:
        first -= before < first ? before : first;
        pages |= 64;                              /* the used one is among them */
        break;
    case 1:
        first = (1ull << DM_RANGE_FIRST_BITS) - 1 - malice_pick(h, 1u << 20);
        break;
    default:
        pages = 0;
        break;
    }
    made.hot_add.range = DM_RANGE(first, pages);
    made.hot_add.region = (uint64_t)malice_value(h) << 32 | malice_value(h);
    made.header.size = longer ? sizeof(made.hot_add) : DM_HOT_ADD_BYTES;
    malice_told(h, "balloon: %llu pages from %#llx are new", (unsigned long long)pages, (unsigned long long)first);
    host_balloon_lie(h, &made, made.header.size, DM_HOT_ADD_RESPONSE, 0);
}

/* Nothing of this is answered: too short for its type, of a type that no host sends or no guest knows, or with a length
 * that can't be; and information, which never is. */
static void say_nothing(struct host *h)
{
    static const uint8_t types[] = {
        DM_ERROR, DM_VERSION_REQUEST, DM_VERSION_RESPONSE, DM_CAPABILITIES_REPORT, DM_CAPABILITIES_RESPONSE,
        DM_STATUS_REPORT, DM_BALLOON_RESPONSE, DM_UNBALLOON_RESPONSE, DM_HOT_ADD_RESPONSE, DM_INFO,
        DM_HOT_REMOVE_REQUEST, DM_HOT_REMOVE_RESPONSE, 15, 200,
    };
    uint32_t bytes = 8 * (1 + (uint32_t)malice_pick(h, 64));

    for (uint32_t at = 0; at < bytes; at += 4)
        malice_set_word(made.bytes, at, malice_value(h));
    made.header.type = types[malice_pick(h, sizeof(types))];
    made.header.size = (uint16_t)bytes;
    switch (malice_pick(h, 3)) {
    case 0:
        made.header.size = (uint16_t)(malice_pick(h, 2) ? bytes + 1 + malice_pick(h, 4096) : malice_pick(h, 8));
        break;
    case 1:
        made.header.type = malice_pick(h, 2) ? DM_BALLOON_REQUEST : DM_HOT_ADD_REQUEST;
        made.header.size = bytes = sizeof(made.header);
        break;
    default:
        break;
    }
    malice_told(h, "balloon: message type %u, %u bytes in %u", made.header.type, made.header.size, bytes);
    host_balloon_lie(h, &made, bytes, 0, 0);
}

void malice_memory(struct host *h)
{
    static const uint16_t types[] = {DM_BALLOON_REQUEST, DM_UNBALLOON_REQUEST, DM_HOT_ADD_REQUEST};
    struct host_balloon *b = h->balloon;
    uint64_t which;

    if (b == NULL || b->ch == NULL || b->stage != BALLOON_READY || b->now.answer != 0 || used_page(h) == 0 ||
        !vchan_has_room(b->ch, DM_MESSAGE_MAX) || !malice_occasion(h, HOST_MALICE_SERVICE, b))
        return;
    memset(&made, 0, sizeof(made));
    which = malice_pick(h, 4);
    if (which < HOST_COUNT(types))
        made.header.type = types[which];
    made.header.transaction_id = malice_value(h);
    switch (which) {
    case 0:
        want_too_much(h);
        break;
    case 1:
        give_what_is_not_ours(h);
        break;
    case 2:
        add_what_is_there(h);
        break;
    default:
        say_nothing(h);
        break;
    }
}
