/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ic_kvp_ip.c: the addresses of one of the guest's adapters: text up to version 4.0, numbers from 5.0 on. Either
 * way the result is the same list of words.
 */
#include "tests/host/ic.h"

static bool binary(const struct host_ic *ic)
{
    return ic->seen.message.major >= 5;
}

uint32_t kvp_ip_request(struct host_ic *ic, const char *adapter, uint8_t *body)
{
    size_t at = binary(ic) ? offsetof(struct ic_kvp_ip_binary, adapter) : offsetof(struct ic_kvp_ip, adapter);

    body[0] = IC_KVP_GET_IP;
    body[1] = IC_KVP_POOL_GUEST;
    ic_to_utf16(adapter, body + at, sizeof(((struct ic_kvp_ip *)0)->adapter));
    /* The family that is asked for: hosts want both. */
    body[binary(ic) ? offsetof(struct ic_kvp_ip_binary, family) : offsetof(struct ic_kvp_ip, family)] =
        IC_KVP_FAMILY_BOTH;
    return IC_KVP_IP_BODY_BYTES;
}

static void common(struct host_ic *ic, const struct host_kvp_result *r, uint8_t family, uint8_t dhcp)
{
    static const char *const families[] = {"none", "ipv4", "ipv6", "ipv4 ipv6"};

    if (family > IC_KVP_FAMILY_BOTH || dhcp > 1) {
        host_violation(ic->h, NULL, 0, "ic kvp: adapter %s: address family %u, DHCP %u", r->key, family, dhcp);
        return;
    }
    kvp_item(ic->h, r, "family", families[family]);
    kvp_item(ic->h, r, "dhcp", dhcp ? "1" : "0");
}

/* ---- text ------------------------------------------------------------------------------------------- */

static void text_answer(struct host_ic *ic, const struct host_kvp_result *r, const uint8_t *body)
{
    static const struct { const char *name; uint32_t at, bytes; } fields[] = {
        {"addresses", offsetof(struct ic_kvp_ip, addresses), 2048},
        {"subnets", offsetof(struct ic_kvp_ip, subnets), 2048},
        {"gateways", offsetof(struct ic_kvp_ip, gateways), 1024},
        {"dns", offsetof(struct ic_kvp_ip, dns), 2048},
    };
    char *text = ic->h->ics->text;

    common(ic, r, body[offsetof(struct ic_kvp_ip, family)], body[offsetof(struct ic_kvp_ip, dhcp)]);
    for (uint32_t i = 0; i < HOST_COUNT(fields); i++) {
        if (ic_from_utf16_field(body + fields[i].at, fields[i].bytes, text, sizeof(ic->h->ics->text)))
            kvp_item(ic->h, r, fields[i].name, text);
        else
            host_violation(ic->h, body + fields[i].at, 64, "ic kvp: adapter %s: %s are not text that ends", r->key,
                           fields[i].name);
    }
}

/* ---- numbers ---------------------------------------------------------------------------------------- */

static uint32_t add_address(struct host_ics *ics, uint32_t at, const uint8_t *a, uint32_t bytes)
{
    const char *separator = at != 0 ? ";" : "";
    uint32_t left = (uint32_t)sizeof(ics->text) - at;
    int n;

    if (bytes == 4)
        n = ksnprintf(ics->text + at, left, "%s%u.%u.%u.%u", separator, a[0], a[1], a[2], a[3]);
    else
        n = ksnprintf(ics->text + at, left, "%s%x:%x:%x:%x:%x:%x:%x:%x", separator, a[0] << 8 | a[1],
                      a[2] << 8 | a[3], a[4] << 8 | a[5], a[6] << 8 | a[7], a[8] << 8 | a[9], a[10] << 8 | a[11],
                      a[12] << 8 | a[13], a[14] << 8 | a[15]);
    if (n > 0 && (uint32_t)n < left)
        return at + (uint32_t)n;
    ics->text[at] = 0;                            /* no room for the whole of it */
    return at;
}

static void add_list(struct host_ic *ic, const struct host_kvp_result *r, const char *name, const uint8_t *v4,
                     uint32_t v4_count, const uint8_t *v6, uint32_t v6_count)
{
    struct host_ics *ics = ic->h->ics;
    uint32_t at = 0;

    ics->text[0] = 0;
    for (uint32_t i = 0; i < v4_count; i++)
        at = add_address(ics, at, v4 + 4 * i, 4);
    for (uint32_t i = 0; i < v6_count; i++)
        at = add_address(ics, at, v6 + 16 * i, 16);
    kvp_item(ic->h, r, name, ics->text);
}

static void binary_answer(struct host_ic *ic, const struct host_kvp_result *r, const uint8_t *body)
{
    const struct ic_kvp_ip_binary *a = (const struct ic_kvp_ip_binary *)(const void *)body;

    if (a->ipv4_count > 64 || a->ipv6_count > 64 || a->ipv4_gateway_count > 5 || a->ipv6_gateway_count > 5 ||
        a->ipv4_dns_count > 64 || a->ipv6_dns_count > 64) {
        host_violation(ic->h, body, 64, "ic kvp: adapter %s: counts of addresses that do not fit", r->key);
        return;
    }
    for (uint32_t i = 0; i < a->ipv4_count + a->ipv6_count; i++) {
        if (a->origins[i] > IC_KVP_ORIGIN_STATIC)
            host_strict(ic->h, NULL, 0, "ic kvp: adapter %s: origin %u of address %u", r->key, a->origins[i], i);
    }
    common(ic, r, a->family, a->dhcp);
    add_list(ic, r, "addresses", a->ipv4[0], a->ipv4_count, a->ipv6[0], a->ipv6_count);
    add_list(ic, r, "subnets", a->ipv4_subnets[0], a->ipv4_count, a->ipv6_subnets[0], a->ipv6_count);
    add_list(ic, r, "gateways", a->ipv4_gateways[0], a->ipv4_gateway_count, a->ipv6_gateways[0],
             a->ipv6_gateway_count);
    add_list(ic, r, "dns", a->ipv4_dns[0], a->ipv4_dns_count, a->ipv6_dns[0], a->ipv6_dns_count);
}

void kvp_ip_answer(struct host_ic *ic, const struct host_kvp_result *r, const uint8_t *body)
{
    if (binary(ic))
        binary_answer(ic, r, body);
    else
        text_answer(ic, r, body);
}
