/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Every rule about dynamic memory that the model has, broken once: see rules.h. The handshake, reports, what may be
 * given, answers.
 */
#include "tests/unit/rules.h"
#include "drivers/balloon_wire.h"

static struct host_balloon_config balloon_cfg;
static uint32_t last_id;

/* One message, its header filled in. */
static void say(uint16_t type, void *message, uint16_t bytes)
{
    struct dm_header *header = message;
    *header = (struct dm_header){type, bytes, ++last_id};
    send(relid, VMBUS_PACKET_INBAND, 0, 0, NULL, 0, message, bytes);
    poll_all();
}

static bool open_with(void)
{
    struct vmbus_msg_offer_channel offer;
    start();
    host_add_balloon(host, &balloon_cfg);
    if (!connect(VMBUS_VERSION_WIN10_5_3) || !first_offer(&offer))
        return false;
    relid = offer.relid;
    return open_channel(relid);
}

static bool opened(void)
{
    host_balloon_config_default(&balloon_cfg);
    return open_with();
}

static void ask_version(uint32_t version, uint32_t flags)
{
    struct dm_version_request m = {.version = version, .flags = flags};
    say(DM_VERSION_REQUEST, &m, sizeof(m));
}

static void tell_capabilities(uint64_t capabilities)
{
    struct dm_capabilities m = {.capabilities = capabilities, .max_page = UINT64_MAX};
    say(DM_CAPABILITIES_REPORT, &m, sizeof(m));
}

static bool agree(void)
{
    struct host_balloon_state s;
    ask_version(DM_VERSION_WIN10, 0);
    tell_capabilities(DM_CAP_BALLOON | DM_CAP_HOT_ADD);
    host_balloon_get_state(host, &s);
    return s.ready && s.version == DM_VERSION_WIN10;
}

static bool version_agreed(void)
{
    if (!opened())
        return false;
    ask_version(DM_VERSION_WIN10, 0);
    return true;
}

static bool old_host(void)
{
    host_balloon_config_default(&balloon_cfg);
    balloon_cfg.max_version = DM_VERSION_WIN7;
    if (!open_with())
        return false;
    ask_version(DM_VERSION_WIN8, 0);
    return true;
}

static bool ready(void) { return opened() && agree(); }

static bool ready_without_reports(void)
{
    host_balloon_config_default(&balloon_cfg);
    balloon_cfg.no_reports = true;
    return open_with() && agree();
}

static bool asked(void) { return ready() && host_balloon(host, 100); }

static void report(uint64_t committed)
{
    struct dm_status m = {.available = 1000, .committed = committed};
    say(DM_STATUS_REPORT, &m, sizeof(m));
}

static void give_list(uint32_t more_count, uint32_t reserved, unsigned n, const uint64_t *ranges)
{
    struct { struct dm_balloon_response m; uint64_t ranges[8]; } r = {
        .m = {.more_count = more_count, .reserved = reserved},
    };
    for (unsigned i = 0; i < n; i++)
        r.ranges[i] = ranges[i];
    say(DM_BALLOON_RESPONSE, &r, (uint16_t)(sizeof(r.m) + n * 8));
}

static void give(uint64_t first, uint64_t pages)
{
    const uint64_t range = DM_RANGE(first, pages);
    give_list(1 << DM_COUNT_SHIFT, 0, 1, &range);
}

/* ---- a guest that keeps them all ---- */

TEST(nothing_is_reported_without_reason)
{
    struct host_balloon_state s;
    CHECK(asked());
    report(5000);
    give(PAGE_DATA, 100);
    host_balloon_get_state(host, &s);
    CHECK(s.ballooned_pages == 100 && s.result_pages == 100 && !s.busy && s.committed_pages == 5000);
    CHECK(host_unballoon(host, 60));
    struct dm_unballoon_response m;
    say(DM_UNBALLOON_RESPONSE, &m, sizeof(m));
    CHECK(host_hot_add(host, 1 << 20, 4096, true));
    struct dm_hot_add_response added = {.pages = 4000, .result = 1};
    say(DM_HOT_ADD_RESPONSE, &added, sizeof(added));
    host_balloon_get_state(host, &s);
    CHECK(s.ballooned_pages == 40 && s.hot_added_pages == 4000 && s.result == 1 && s.exchanges == 3);
    now += 50000000;
    report(5000);
    host_audit(host);
    poll_all();
    CHECK_EQ(violations, 0);
}

/* ---- the frame ---- */

RULE(packet_with_completion, opened, "without either is expected", {
    struct dm_version_request m = {.header = {DM_VERSION_REQUEST, sizeof(m), 1}, .version = DM_VERSION_WIN10};
    send(relid, VMBUS_PACKET_INBAND, VMBUS_PACKET_FLAG_COMPLETION, 0, NULL, 0, &m, sizeof(m));
})
RULE(packet_with_id, opened, "without either is expected", {
    struct dm_version_request m = {.header = {DM_VERSION_REQUEST, sizeof(m), 1}, .version = DM_VERSION_WIN10};
    send(relid, VMBUS_PACKET_INBAND, 0, 9, NULL, 0, &m, sizeof(m));
})
RULE(message_longer_than_packet, opened, "length of a message", {
    struct dm_header m = {DM_VERSION_REQUEST, 16, 1};
    send(relid, VMBUS_PACKET_INBAND, 0, 0, NULL, 0, &m, sizeof(m));
})
RULE(message_shorter_than_packet, opened, "length of a message", {
    struct dm_version_request m = {.header = {DM_VERSION_REQUEST, 8, 1}};
    send(relid, VMBUS_PACKET_INBAND, 0, 0, NULL, 0, &m, sizeof(m));
})
RULE(transaction_id_again, version_agreed, "transaction id", {
    last_id--;
    tell_capabilities(DM_CAP_BALLOON);
})
RULE(type_unknown, ready, "message type 40", {
    struct dm_header m;
    say(40, &m, sizeof(m));
})
RULE(type_of_the_host, ready, "message type 6", {
    struct dm_balloon_request m = {.pages = 1};
    say(DM_BALLOON_REQUEST, &m, sizeof(m));
})

/* ---- the handshake ---- */

RULE(version_after_version, version_agreed, "version request in stage", { ask_version(DM_VERSION_WIN8, 0); })
RULE(version_upwards, old_host, "was refused", { ask_version(DM_VERSION_WIN10, 0); })
RULE(version_not_last, opened, "flags 0x1", { ask_version(DM_VERSION_WIN10, DM_LAST_ATTEMPT); })
RULE(version_last_not_said, old_host, "flags 0", { ask_version(DM_VERSION_WIN7, 0); })
RULE(version_size, opened, "it has 16", {
    struct dm_capabilities m = {.min_pages = 0};
    say(DM_VERSION_REQUEST, &m, 24);
})
RULE(capabilities_before_version, opened, "capabilities in stage", { tell_capabilities(DM_CAP_BALLOON); })
RULE(capabilities_unknown, version_agreed, "unknown capabilities", { tell_capabilities(1ull << 40); })
RULE(report_before_capabilities, version_agreed, "before the handshake is done", { report(1); })

/* ---- reports ---- */

RULE(report_too_often, ready, "report 2 in", {
    report(1);
    report(1);
})
RULE(report_not_wanted, ready_without_reports, "none is wanted", { report(1); })
RULE(report_without_the_ballooned, asked, "committed 99 pages", {
    give(PAGE_DATA, 100);
    report(99);
})
RULE(report_size, ready, "it has 48", {
    struct dm_status m = {.available = 1};
    say(DM_STATUS_REPORT, &m, 40);
})
RULE(report_missing, ready, "no report for", {
    now += 700000000;
    host_audit(host);
})
RULE(report_missing_later, ready, "no report for", {
    report(1);
    now += 110000000;
    host_audit(host);
})

/* ---- what is given ---- */

RULE(response_unasked, ready, "while 0 is awaited", { give(PAGE_DATA, 1); })
RULE(response_count, asked, "response with 3 ranges", { give_list(3 << DM_COUNT_SHIFT, 0, 0, NULL); })
RULE(response_reserved, asked, "response with 0 ranges", { give_list(0, 1, 0, NULL); })
RULE(response_more_of_nothing, asked, "more 1", { give_list(DM_MORE, 0, 0, NULL); })
RULE(range_empty, asked, "is empty", { give(PAGE_DATA, 0); })
RULE(range_too_many, asked, "101 pages given, 100 asked", { give(PAGE_DATA, 101); })
RULE(range_outside_memory, asked, "is not the guest's memory", { give(RAM_PAGES - 1, 2); })
RULE(range_with_ring, asked, "the host's own use", { give(PAGE_RING + RING_PAGES - 1, 2); })
RULE(range_with_message_page, asked, "the host's own use", { give(PAGE_SIMP, 1); })
RULE(range_with_event_page, asked, "the host's own use", { give(PAGE_SIEFP, 1); })
RULE(range_with_hypercall_page, asked, "the host's own use", { give(0, 100); })
RULE(range_with_tsc_page, asked, "the host's own use", {
    host_wrmsr(host, 0, HV_X64_MSR_REFERENCE_TSC, PAGE_TSC * 4096u | 1);
    give(PAGE_TSC, 1);
})
RULE(range_twice_in_a_message, asked, "was given already", {
    const uint64_t r[] = {DM_RANGE(PAGE_DATA, 10), DM_RANGE(PAGE_DATA + 9, 10)};
    give_list(2 << DM_COUNT_SHIFT, 0, 2, r);
})
RULE(range_twice, asked, "was given already", {
    give(PAGE_DATA, 10);
    host_balloon(host, 100);
    give(PAGE_DATA - 5, 10);
})

/* ---- other answers ---- */

RULE(unballoon_unasked, ready, "while 0 is awaited", {
    struct dm_unballoon_response m;
    say(DM_UNBALLOON_RESPONSE, &m, sizeof(m));
})
RULE(answer_to_something_else, asked, "while 7 is awaited", {
    struct dm_unballoon_response m;
    say(DM_UNBALLOON_RESPONSE, &m, sizeof(m));
})
RULE(hot_add_more_than_asked, ready, "of 100 pages added", {
    struct dm_hot_add_response m = {.pages = 101, .result = 1};
    host_hot_add(host, 1 << 20, 100, false);
    say(DM_HOT_ADD_RESPONSE, &m, sizeof(m));
})
RULE(hot_add_failed_with_pages, ready, "result 0", {
    struct dm_hot_add_response m = {.pages = 5, .result = 0};
    host_hot_add(host, 1 << 20, 100, false);
    say(DM_HOT_ADD_RESPONSE, &m, sizeof(m));
})
RULE(answer_missing, asked, "no answer of type 7", {
    now += 250000000;
    host_audit(host);
})

TEST_MAIN()
