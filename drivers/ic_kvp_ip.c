/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The words about addresses: what the host shows of a network adapter. It names the adapter by its MAC address or by
 * the GUID of its VMBus instance; hosts and guests differ there, so both are understood, in either case of letters.
 *
 * Before 5.0 the answer is text: lists separated by ';', a mask for each IPv4 address and "/64" for each IPv6 one. From
 * 5.0 on it is binary.
 */
#define LOG_ROOM "ic"
#include "drivers/ic.h"
#include <string.h>
#include "drivers/netvsc.h"
#include "lib/utf16.h"
#include "rt/services.h"

#define ADAPTER_TEXT_BYTES 400u      /* 128 words as UTF-8, and more */
#define LIST_BYTES         400u

/* ---- which adapter ---- */

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Hexadecimal digits, punctuation between and around them left out. False: not exactly count bytes, or other text. */
static bool parse_hex(const char *text, uint8_t *bytes, unsigned count)
{
    unsigned digits = 0;

    for (; *text; text++) {
        int v = hex_value(*text);
        if (v >= 0 && digits < 2 * count) {
            bytes[digits / 2] = (uint8_t)(digits % 2 ? bytes[digits / 2] << 4 | v : v);
            digits++;
        } else if (v >= 0 || !strchr(":-{}", *text)) {
            return false;
        }
    }
    return digits == 2 * count;
}

struct search { struct guid instance; uint8_t mac[6]; bool found; };

static void find_instance(struct vmbus_channel *ch, void *arg)
{
    static const struct guid netvsc = VMBUS_GUID_NETVSC;
    const struct vmbus_msg_offer_channel *offer = vmbus_offer(ch);
    const struct netvsc *n = vmbus_driver_data(ch);
    struct search *s = arg;

    if (!n || offer->sub_channel_index || memcmp(&offer->interface_type, &netvsc, sizeof(netvsc)) != 0 ||
        memcmp(&offer->instance, &s->instance, sizeof(s->instance)) != 0)
        return;
    memcpy(s->mac, n->nic.mac, sizeof(s->mac));
    s->found = true;
}

/* The first three parts of a GUID travel with their lowest byte first. */
static struct guid guid_of(const uint8_t b[16])
{
    struct guid g = {{b[3], b[2], b[1], b[0], b[5], b[4], b[7], b[6]}};

    memcpy(g.bytes + 8, b + 8, 8);
    return g;
}

/* Is it the adapter that the network is on? Other adapters have no addresses to tell. */
static bool is_ours(const uint16_t *adapter, uint32_t bytes, const struct machine_network *network)
{
    char text[ADAPTER_TEXT_BYTES];
    uint8_t raw[16];
    struct search s = {.found = false};

    if (utf8_from_utf16(text, sizeof(text), (const uint8_t *)adapter, bytes) < 0)
        return false;
    if (parse_hex(text, raw, 6))
        return memcmp(raw, network->mac, 6) == 0;
    if (!parse_hex(text, raw, 16))
        return false;
    s.instance = guid_of(raw);
    vmbus_for_each_channel(find_instance, &s);
    return s.found && memcmp(s.mac, network->mac, 6) == 0;
}

static uint8_t families(const struct machine_network *n)
{
    uint8_t family = IC_KVP_FAMILY_NONE;

    for (unsigned i = 0; i < n->address_count; i++)
        family |= n->addresses[i].v6 ? IC_KVP_FAMILY_IPV6 : IC_KVP_FAMILY_IPV4;
    return family;
}

/* ---- text ---- */

static void prefix_text(char *text, size_t bytes, const struct network_address *a)
{
    if (a->v6) {
        ksnprintf(text, bytes, "/%u", a->prefix_bits);
        return;
    }
    uint32_t mask = (uint32_t)(0xFFFFFFFFull << (32 - MIN(a->prefix_bits, 32u)));
    ksnprintf(text, bytes, "%u.%u.%u.%u", mask >> 24, mask >> 16 & 255, mask >> 8 & 255, mask & 255);
}

static bool write_list(void *field, size_t room, const struct network_address *list, unsigned count, bool prefixes)
{
    char text[LIST_BYTES] = "", one[NETWORK_ADDRESS_TEXT];
    size_t used = 0;

    for (unsigned i = 0; i < count; i++) {
        if (prefixes)
            prefix_text(one, sizeof(one), &list[i]);
        used += (size_t)ksnprintf(text + used, sizeof(text) - used, "%s%s", i ? ";" : "",
                                  prefixes ? one : list[i].text);
    }
    return utf16_from_utf8(field, room, text) > 0;
}

_Static_assert(LIST_BYTES >= NETWORK_ADDRESSES * NETWORK_ADDRESS_TEXT, "the longest list fits");

uint32_t ic_kvp_get_ip(struct ic_kvp_ip *m)
{
    uint8_t *body = (uint8_t *)m;
    struct machine_network n;
    uint16_t adapter[ARRAY_SIZE(m->adapter)];

    memcpy(adapter, body + offsetof(struct ic_kvp_ip, adapter), sizeof(adapter));
    if (!machine_network(&n) || !is_ours(adapter, sizeof(adapter), &n))
        return IC_STATUS_GUID_NOT_FOUND;
    m->family = families(&n);
    m->dhcp = n.by_dhcp;
    bool ok = write_list(body + offsetof(struct ic_kvp_ip, addresses), sizeof(m->addresses), n.addresses,
                         n.address_count, false) &&
              write_list(body + offsetof(struct ic_kvp_ip, subnets), sizeof(m->subnets), n.addresses, n.address_count,
                         true) &&
              write_list(body + offsetof(struct ic_kvp_ip, gateways), sizeof(m->gateways), n.gateways,
                         n.gateway_count, false) &&
              write_list(body + offsetof(struct ic_kvp_ip, dns), sizeof(m->dns), n.dns, n.dns_count, false);
    return ok ? IC_STATUS_OK : IC_STATUS_FAIL;
}

/* ---- binary ---- */

/* Splits a list by family into the two arrays. */
static void split(const struct network_address *list, unsigned count, uint8_t (*v4)[4], uint32_t *v4_count,
                  uint8_t (*v6)[16], uint32_t *v6_count)
{
    *v4_count = *v6_count = 0;
    for (unsigned i = 0; i < count; i++) {
        if (list[i].v6)
            memcpy(v6[(*v6_count)++], list[i].bytes, 16);
        else
            memcpy(v4[(*v4_count)++], list[i].bytes, 4);
    }
}

uint32_t ic_kvp_get_ip_binary(struct ic_kvp_ip_binary *m)
{
    struct machine_network n;
    uint16_t adapter[ARRAY_SIZE(m->adapter)];
    uint32_t v4, v6, origins[NETWORK_ADDRESSES];

    memcpy(adapter, (uint8_t *)m + offsetof(struct ic_kvp_ip_binary, adapter), sizeof(adapter));
    if (!machine_network(&n) || !is_ours(adapter, sizeof(adapter), &n))
        return IC_STATUS_GUID_NOT_FOUND;
    m->family = families(&n);
    m->dhcp = n.by_dhcp;
    split(n.dns, n.dns_count, m->ipv4_dns, &v4, m->ipv6_dns, &v6);
    m->ipv4_dns_count = v4;
    m->ipv6_dns_count = v6;
    split(n.gateways, n.gateway_count, m->ipv4_gateways, &v4, m->ipv6_gateways, &v6);
    m->ipv4_gateway_count = v4;
    m->ipv6_gateway_count = v6;
    split(n.addresses, n.address_count, m->ipv4, &v4, m->ipv6, &v6);
    m->ipv4_count = v4;
    m->ipv6_count = v6;
    v4 = v6 = 0;
    for (unsigned i = 0; i < n.address_count; i++) {
        const struct network_address *a = &n.addresses[i];
        uint8_t *subnet = a->v6 ? m->ipv6_subnets[v6++] : m->ipv4_subnets[v4++];
        memset(subnet, 0, a->v6 ? 16 : 4);
        for (unsigned bit = 0; bit < a->prefix_bits; bit++)
            subnet[bit / 8] |= (uint8_t)(0x80 >> bit % 8);
    }
    for (unsigned i = 0; i < n.address_count; i++)
        origins[i] = i < v4 && !n.by_dhcp ? IC_KVP_ORIGIN_STATIC : IC_KVP_ORIGIN_DYNAMIC;
    memcpy((uint8_t *)m + offsetof(struct ic_kvp_ip_binary, origins), origins, n.address_count * sizeof(origins[0]));
    return IC_STATUS_OK;
}
