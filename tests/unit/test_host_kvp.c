/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Key-value pairs, the host's side, against a guest played by hand that keeps its pools in a table.
 */
#include "tests/unit/played_ic.h"

/* ---- the guest's pools --------------------------------------------------------------------------------- */

static struct pair {
    uint8_t pool;
    struct ic_kvp_value v;
} pairs[8];
static unsigned pair_count;

static struct ic_kvp_value utf16_pair(const char *key, const char *value)
{
    struct ic_kvp_value v = {
        .type = IC_KVP_TYPE_STRING, .key_bytes = 2 * ((uint32_t)strlen(key) + 1),
        .value_bytes = 2 * ((uint32_t)strlen(value) + 1),
    };

    for (unsigned i = 0; key[i] != 0; i++)
        v.key[2 * i] = (uint8_t)key[i];
    for (unsigned i = 0; value[i] != 0; i++)
        v.value[2 * i] = (uint8_t)value[i];
    return v;
}

static void add_pair(uint8_t pool, struct ic_kvp_value v)
{
    pairs[pair_count].pool = pool;
    pairs[pair_count++].v = v;
}

static struct pair *find_pair(uint8_t pool, const uint8_t *key, uint32_t bytes)
{
    for (unsigned i = 0; i < pair_count; i++) {
        if (pairs[i].pool == pool && pairs[i].v.key_bytes == bytes && memcmp(pairs[i].v.key, key, bytes) == 0)
            return &pairs[i];
    }
    return NULL;
}

static struct pair *pair_at(uint8_t pool, uint32_t index)
{
    for (unsigned i = 0; i < pair_count; i++) {
        if (pairs[i].pool == pool && index-- == 0)
            return &pairs[i];
    }
    return NULL;
}

static void kvp_request(void)
{
    struct ic_kvp_value wanted = asked.kvp.value;
    uint8_t pool = asked.kvp.kvp.pool;
    struct pair *p;

    switch (asked.kvp.kvp.operation) {
    case IC_KVP_ENUMERATE:
        p = pair_at(pool, asked.enumerate.index);
        if (p != NULL)
            asked.enumerate.value = p->v;
        respond(p != NULL ? IC_STATUS_OK : IC_STATUS_NO_MORE_ITEMS);
        break;
    case IC_KVP_GET:
        p = find_pair(pool, wanted.key, wanted.key_bytes);
        if (p != NULL)
            asked.kvp.value = p->v;
        respond(p != NULL ? IC_STATUS_OK : IC_STATUS_FAIL);
        break;
    case IC_KVP_SET:
        p = find_pair(pool, wanted.key, wanted.key_bytes);
        if (p != NULL)
            p->v = wanted;
        else
            add_pair(pool, wanted);
        respond(IC_STATUS_OK);
        break;
    default:
        p = find_pair(pool, asked.kvp_delete.key, asked.kvp_delete.key_bytes);
        if (p != NULL)
            *p = pairs[--pair_count];
        respond(p != NULL ? IC_STATUS_OK : IC_STATUS_FAIL);
        break;
    }
}

static void serve_kvp(void)
{
    poll_all();
    while (next_of(IC_KVP)) {
        CHECK(asked.m.header.body_bytes == IC_KVP_BODY_BYTES);
        kvp_request();
    }
}

static struct host_kvp_result result;

/* The next result is that one. */
static bool got(uint32_t transaction, bool last, uint32_t status, const char *key, const char *value)
{
    if (!host_kvp_result(host, &result)) {
        printf("no result\n");
        return false;
    }
    if (result.transaction == transaction && result.last == last && result.status == status &&
        strcmp(result.key, key) == 0 && strcmp(result.value, value) == 0)
        return true;
    printf("transaction %u, last %d, status %#x, \"%s\" = \"%s\"\n", result.transaction, result.last, result.status,
           result.key, result.value);
    return false;
}

/* ---- pools --------------------------------------------------------------------------------------------- */

TEST(kvp_sets_gets_and_deletes)
{
    CHECK(ic_negotiated(HOST_IC_KVP));
    uint32_t set = host_kvp_set(host, "role", "web"), get = host_kvp_get(host, IC_KVP_POOL_EXTERNAL, "role");
    uint32_t del = host_kvp_delete(host, "role"), again = host_kvp_get(host, IC_KVP_POOL_EXTERNAL, "role");
    CHECK(set == 1 && get == 2 && del == 3 && again == 4);
    poll_all();
    CHECK_EQ(state()->requests, 1);                          /* one at a time */
    CHECK(next_of(IC_KVP));
    CHECK_EQ(asked.m.header.body_bytes, IC_KVP_BODY_BYTES);
    CHECK_EQ(asked.kvp.value.type, IC_KVP_TYPE_STRING);
    CHECK_EQ(asked.kvp.value.key_bytes, 10);
    CHECK_EQ(asked.kvp.value.value_bytes, 8);
    CHECK(memcmp(asked.kvp.value.value, "w\0e\0b\0\0", 8) == 0);
    kvp_request();
    serve_kvp();
    CHECK(got(set, true, IC_STATUS_OK, "", ""));
    CHECK(got(get, false, IC_STATUS_OK, "role", "web"));
    CHECK(got(get, true, IC_STATUS_OK, "", ""));
    CHECK(got(del, true, IC_STATUS_OK, "", ""));
    CHECK(got(again, true, IC_STATUS_FAIL, "", ""));
    CHECK(!host_kvp_result(host, &result));
    CHECK_EQ(state()->answers, 4);
    CHECK_EQ(violations, 0);
    host_destroy(host);
}

TEST(kvp_enumerates_every_pool)
{
    static const char *const names[] = {"FullyQualifiedDomainName", "OSName", "ProcessorArchitecture"};
    struct ic_kvp_value number = utf16_pair("count", "");

    CHECK(ic_negotiated(HOST_IC_KVP));
    for (unsigned i = 0; i < 3; i++)
        add_pair(IC_KVP_POOL_AUTO, utf16_pair(names[i], "x"));
    number.type = IC_KVP_TYPE_U32;
    number.value_bytes = 4;
    memcpy(number.value, &(uint32_t){4000000000u}, 4);
    add_pair(IC_KVP_POOL_GUEST, number);
    number.type = IC_KVP_TYPE_U64;
    number.value_bytes = 8;
    memcpy(number.value, &(uint64_t){18000000000000000000u}, 8);
    add_pair(IC_KVP_POOL_GUEST, number);
    number.type = IC_KVP_TYPE_EXPAND;
    number.value_bytes = 4;
    memcpy(number.value, "%\0\0", 4);
    add_pair(IC_KVP_POOL_GUEST, number);
    for (uint32_t pool = 0; pool < IC_KVP_POOLS; pool++)
        CHECK_EQ(host_kvp_enumerate(host, pool), pool + 1);
    CHECK_EQ(host_kvp_enumerate(host, IC_KVP_POOLS), 0);
    serve_kvp();
    CHECK(got(1, true, IC_STATUS_NO_MORE_ITEMS, "", ""));
    CHECK(got(2, false, IC_STATUS_OK, "count", "4000000000"));
    CHECK_EQ(result.type, IC_KVP_TYPE_U32);
    CHECK(got(2, false, IC_STATUS_OK, "count", "18000000000000000000"));
    CHECK(got(2, false, IC_STATUS_OK, "count", "%"));
    CHECK_EQ(result.type, IC_KVP_TYPE_EXPAND);
    CHECK(got(2, true, IC_STATUS_NO_MORE_ITEMS, "", ""));
    for (uint32_t i = 0; i < 3; i++) {
        CHECK(got(3, false, IC_STATUS_OK, names[i], "x"));
        CHECK_EQ(result.index, i);
        CHECK_EQ(result.pool, IC_KVP_POOL_AUTO);
    }
    CHECK(got(3, true, IC_STATUS_NO_MORE_ITEMS, "", ""));
    CHECK(got(4, true, IC_STATUS_NO_MORE_ITEMS, "", ""));
    CHECK(got(5, true, IC_STATUS_NO_MORE_ITEMS, "", ""));
    CHECK_EQ(violations, 0);
    host_destroy(host);
}

/* One, two, three and four bytes of UTF-8; and the longest texts that fit. */
TEST(kvp_text_goes_both_ways)
{
    static const char *const texts[] = {"a", "\xC3\xA4", "\xE2\x82\xAC", "\xF0\x9F\x98\x80", "\x7F\xC2\x80\xEF\xBF\xBF",
                                        ""};
    static const char *const bad[] = {"\x80", "\xC3", "\xC0\x80", "\xED\xA0\x80", "\xF4\x90\x80\x80", "\xE2\x82",
                                      "\xFF"};
    static char key[300], value[1100];

    CHECK(ic_negotiated(HOST_IC_KVP));
    for (unsigned i = 0; i < 6; i++) {
        CHECK(host_kvp_set(host, "k", texts[i]) != 0);
        uint32_t get = host_kvp_get(host, IC_KVP_POOL_EXTERNAL, "k");
        serve_kvp();
        CHECK(host_kvp_result(host, &result));
        CHECK(got(get, false, IC_STATUS_OK, "k", texts[i]) && got(get, true, IC_STATUS_OK, "", ""));
    }
    CHECK_EQ(pairs[0].v.value_bytes, 2);
    CHECK(host_kvp_set(host, "k", texts[3]) != 0);
    serve_kvp();
    CHECK(memcmp(pairs[0].v.value, "\x3D\xD8\x00\xDE\0", 6) == 0);
    while (host_kvp_result(host, &result))
        ;
    for (unsigned i = 0; i < 7; i++)
        CHECK_EQ(host_kvp_set(host, "k", bad[i]), 0);
    memset(key, 'k', 255);
    memset(value, 'v', 1023);
    CHECK(host_kvp_set(host, key, value) != 0);
    uint32_t get = host_kvp_get(host, IC_KVP_POOL_EXTERNAL, key);
    serve_kvp();
    CHECK(host_kvp_result(host, &result) && got(get, false, IC_STATUS_OK, key, value));
    key[255] = 'k';
    CHECK_EQ(host_kvp_set(host, key, "v"), 0);
    value[1023] = 'v';
    CHECK_EQ(host_kvp_set(host, "k", value), 0);
    CHECK_EQ(violations, 0);
    host_destroy(host);
}

/* ---- addresses ----------------------------------------------------------------------------------------- */

static void put16(void *field, const char *text)
{
    uint8_t *to = field;

    for (uint32_t i = 0; text[i] != 0; i++)
        to[2 * i] = (uint8_t)text[i];
}

TEST(kvp_addresses_as_text)
{
    static const char mac[] = "00:15:5D:01:02:03";

    CHECK(ic_opened(HOST_IC_KVP) && next_of(IC_NEGOTIATE));
    choose(0x300, 0x400);
    CHECK_EQ(host_kvp_get_ip(host, mac), 1);
    poll_all();
    CHECK(next_of(IC_KVP));
    CHECK_EQ(asked.m.header.body_bytes, IC_KVP_IP_BODY_BYTES);
    CHECK_EQ(asked.ip.operation, IC_KVP_GET_IP);
    CHECK_EQ(asked.ip.family, IC_KVP_FAMILY_BOTH);
    for (unsigned i = 0; i < sizeof(mac); i++)
        CHECK_EQ(asked.ip.adapter[i], mac[i]);
    asked.ip.dhcp = 1;
    asked.ip.family = IC_KVP_FAMILY_IPV4;
    put16(asked.body + offsetof(struct ic_kvp_ip, addresses), "10.0.0.2;10.0.0.3");
    put16(asked.body + offsetof(struct ic_kvp_ip, subnets), "255.255.255.0;255.255.255.0");
    put16(asked.body + offsetof(struct ic_kvp_ip, gateways), "10.0.0.1");
    respond(IC_STATUS_OK);
    CHECK(got(1, false, IC_STATUS_OK, "family", "ipv4"));
    CHECK(got(1, false, IC_STATUS_OK, "dhcp", "1"));
    CHECK(got(1, false, IC_STATUS_OK, "addresses", "10.0.0.2;10.0.0.3"));
    CHECK(got(1, false, IC_STATUS_OK, "subnets", "255.255.255.0;255.255.255.0"));
    CHECK(got(1, false, IC_STATUS_OK, "gateways", "10.0.0.1"));
    CHECK(got(1, false, IC_STATUS_OK, "dns", ""));
    CHECK(got(1, true, IC_STATUS_OK, "", ""));
    CHECK_EQ(violations, 0);
    host_destroy(host);
}

TEST(kvp_addresses_as_numbers)
{
    static const uint8_t v6[16] = {0xFE, 0x80, [15] = 1};

    CHECK(ic_negotiated(HOST_IC_KVP));
    CHECK_EQ(state()->message.major, 5);
    CHECK_EQ(host_kvp_get_ip(host, "{guid}"), 1);
    poll_all();
    CHECK(next_of(IC_KVP));
    CHECK_EQ(asked.m.header.body_bytes, IC_KVP_IP_BODY_BYTES);
    CHECK_EQ(asked.ip_binary.adapter[1], 'g');
    asked.ip_binary.family = IC_KVP_FAMILY_BOTH;
    asked.ip_binary.ipv4_count = 2;
    asked.ip_binary.ipv6_count = 1;
    asked.ip_binary.ipv4_gateway_count = 1;
    memcpy(asked.ip_binary.ipv4, "\x0A\0\0\2\x0A\0\0\3", 8);
    memcpy(asked.ip_binary.ipv6, v6, 16);
    memcpy(asked.ip_binary.ipv4_gateways, "\x0A\0\0\1", 4);
    memset(asked.ip_binary.ipv4_subnets, 0xFF, 7);
    respond(IC_STATUS_OK);
    CHECK(got(1, false, IC_STATUS_OK, "family", "ipv4 ipv6"));
    CHECK(got(1, false, IC_STATUS_OK, "dhcp", "0"));
    CHECK(got(1, false, IC_STATUS_OK, "addresses", "10.0.0.2;10.0.0.3;fe80:0:0:0:0:0:0:1"));
    CHECK(got(1, false, IC_STATUS_OK, "subnets", "255.255.255.255;255.255.255.0;0:0:0:0:0:0:0:0"));
    CHECK(got(1, false, IC_STATUS_OK, "gateways", "10.0.0.1"));
    CHECK(got(1, false, IC_STATUS_OK, "dns", ""));
    CHECK(got(1, true, IC_STATUS_OK, "", ""));
    CHECK_EQ(violations, 0);
    host_destroy(host);
}

/* ---- what ends without an answer ----------------------------------------------------------------------- */

TEST(kvp_waits_only_so_long)
{
    CHECK(ic_negotiated(HOST_IC_KVP));
    CHECK_EQ(host_kvp_enumerate(host, IC_KVP_POOL_AUTO), 1);
    CHECK_EQ(host_kvp_get(host, 0, "k"), 2);
    pass(MS(ic_cfg.answer_limit_ms));
    CHECK(got(1, true, HOST_KVP_NO_ANSWER, "", ""));
    CHECK(!host_kvp_result(host, &result));
    serve_kvp();                                             /* late for one, in time for the other */
    CHECK_EQ(state()->late, 1);
    CHECK(got(2, true, IC_STATUS_FAIL, "", ""));
    CHECK_EQ(violations, 0);
    host_destroy(host);
}

TEST(kvp_ends_with_the_channel)
{
    struct vmbus_msg_relid close = {.header = {.type = VMBUS_MSG_CLOSE_CHANNEL}};

    CHECK(ic_negotiated(HOST_IC_KVP));
    for (uint32_t i = 1; i <= 3; i++)
        CHECK_EQ(host_kvp_get(host, 0, "k"), i);
    poll_all();
    close.relid = ic_relid;
    post(4, &close, sizeof(close));
    for (uint32_t i = 1; i <= 3; i++)
        CHECK(got(i, true, HOST_KVP_NO_ANSWER, "", ""));
    CHECK_EQ(host_kvp_get(host, 0, "k"), 0);
    CHECK_EQ(violations, 0);
    host_destroy(host);
}

TEST(kvp_negotiated_again_loses_only_what_was_asked)
{
    CHECK(ic_negotiated(HOST_IC_KVP));
    CHECK_EQ(host_kvp_get(host, 0, "k"), 1);
    CHECK_EQ(host_kvp_get(host, 0, "k"), 2);
    poll_all();
    CHECK(host_ic_renegotiate(host, HOST_IC_KVP));
    poll_all();
    CHECK(got(1, true, HOST_KVP_NO_ANSWER, "", ""));
    CHECK(next_of(IC_KVP));
    respond(IC_STATUS_FAIL);
    CHECK(next_of(IC_NEGOTIATE));
    choose_highest();
    serve_kvp();
    CHECK(got(2, true, IC_STATUS_FAIL, "", ""));
    CHECK_EQ(violations, 0);
    host_destroy(host);
}

TEST(kvp_queue_and_results_are_limited)
{
    uint32_t n = 0;

    CHECK(ic_negotiated(HOST_IC_KVP));
    while (host_kvp_get(host, 0, "k") != 0)
        n++;
    CHECK_EQ(n, 64);
    for (unsigned round = 0; round < 20; round++) {
        serve_kvp();
        while (host_kvp_get(host, 0, "k") != 0)
            n++;
    }
    serve_kvp();
    CHECK_EQ(n, 64 * 21);
    CHECK(host_kvp_result(host, &result));
    CHECK_EQ(result.transaction, n - 511);                   /* the oldest were dropped */
    CHECK_EQ(violations, 0);
    host_destroy(host);
}

/* One data page each way: a key with its value fits, the addresses of an adapter do not. */
TEST(kvp_ring_may_be_too_small_for_addresses)
{
    struct vmbus_msg_open_channel msg = {
        .header = {.type = VMBUS_MSG_OPEN_CHANNEL}, .open_id = 77, .ring_gpadl = 6, .downstream_page_offset = 8,
    };
    struct vmbus_msg_relid close = {.header = {.type = VMBUS_MSG_CLOSE_CHANNEL}};
    struct vmbus_msg_gpadl_teardown tear = {.header = {.type = VMBUS_MSG_GPADL_TEARDOWN}, .gpadl = 5};
    struct vmbus_msg_open_result opened = {.status = 1};

    CHECK(ic_opened(HOST_IC_KVP));
    close.relid = tear.relid = msg.relid = ic_relid;
    post(4, &close, sizeof(close));
    post(4, &tear, sizeof(tear));
    memset(ram + PAGE_RING * 4096u, 0, RING_PAGES * 4096u);
    CHECK(make_gpadl(ic_relid, 6, PAGE_RING, RING_PAGES / 2 + 2));      /* the host's ring has one data page */
    post(4, &msg, sizeof(msg));
    CHECK(take(VMBUS_MSG_OPEN_RESULT, &opened, sizeof(opened)) && opened.status == 0);
    CHECK(state()->waiting);
    struct vmbus_ring_control *c = control_page(1);
    CHECK_EQ(c->write_index, 16 + 28 + 8 + 6 * 4 + 4 + 8);   /* the versions, padded, and their trailer */
    memcpy(asked.raw, (uint8_t *)c + 4096 + 16, 64);
    asked.bytes = 64;
    c->read_index = c->write_index;
    choose_highest();
    CHECK(state()->negotiated);
    CHECK_EQ(host_kvp_get_ip(host, "x"), 1);
    pass(MS(ic_cfg.answer_limit_ms));
    CHECK(got(1, true, HOST_KVP_NO_ANSWER, "", ""));
    CHECK_EQ(host_counters(host)->ring_full, 0);
    CHECK_EQ(violations, 0);
    host_destroy(host);
}

TEST_MAIN()
