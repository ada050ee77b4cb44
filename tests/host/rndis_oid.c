/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * rndis_oid.c: what the adapter answers to OIDs, and the offloads and hash that a guest may set.
 *
 * The capabilities come from the configuration; asking for an offload that was not announced is a violation.
 */
#include "tests/host/netvsp.h"

#define VENDOR_ID      0x155Du
#define DRIVER_VERSION 0x0100u
#define FILTERS_KNOWN  0x2Fu

static const uint32_t supported[] = {
    OID_GEN_SUPPORTED_LIST, OID_GEN_HARDWARE_STATUS, OID_GEN_MEDIA_SUPPORTED, OID_GEN_MEDIA_IN_USE,
    OID_GEN_MAXIMUM_LOOKAHEAD, OID_GEN_MAXIMUM_FRAME_SIZE, OID_GEN_LINK_SPEED, OID_GEN_VENDOR_ID,
    OID_GEN_VENDOR_DESCRIPTION, OID_GEN_CURRENT_PACKET_FILTER, OID_GEN_CURRENT_LOOKAHEAD,
    OID_GEN_DRIVER_VERSION, OID_GEN_MAXIMUM_TOTAL_SIZE, OID_GEN_MAC_OPTIONS,
    OID_GEN_MEDIA_CONNECT_STATUS, OID_GEN_MAXIMUM_SEND_PACKETS, OID_GEN_FRIENDLY_NAME,
    OID_802_3_PERMANENT_ADDRESS, OID_802_3_CURRENT_ADDRESS, OID_802_3_MAXIMUM_LIST_SIZE,
    OID_TCP_OFFLOAD_HARDWARE_CAPABILITIES, OID_TCP_OFFLOAD_PARAMETERS,
    /* with several queues: */
    OID_GEN_RECEIVE_SCALE_CAPABILITIES, OID_GEN_RECEIVE_SCALE_PARAMETERS,
};
#define SUPPORTED_RSS 2u

/* ---- offloads --------------------------------------------------------------------------------------- */

/* IPv6 has no header checksum. */
static uint32_t ipv6_part(uint32_t caps)
{
    return caps & ~NDIS_CHECKSUM_IP_HEADER;
}

static uint32_t encapsulation(uint32_t caps)
{
    return caps != 0 ? NDIS_ENCAPSULATION_8023 : 0;
}

static uint32_t hardware_capabilities(struct host_nic *n, const uint8_t *in, uint32_t in_bytes, uint8_t *out,
                                      uint32_t *bytes)
{
    uint32_t tx = n->cfg.tx_checksum, rx = n->cfg.rx_checksum, lso = n->cfg.lso_max_bytes;
    struct ndis_offload o = {.header = {.type = NDIS_OBJECT_OFFLOAD}};
    struct ndis_object_header ask;

    if (in_bytes < sizeof(ask)) {
        host_strict(n->h, in, in_bytes, "rndis: offload capabilities asked without an object header");
        return RNDIS_STATUS_INVALID_LENGTH;
    }
    memcpy(&ask, in, sizeof(ask));
    o.header.revision = n->version >= NVSP_VERSION_5 ? 3 : n->version >= NVSP_VERSION_4 ? 2 : 1;
    o.header.bytes = o.header.revision == 3 ? NDIS_OFFLOAD_BYTES_REV3 :
                     o.header.revision == 2 ? NDIS_OFFLOAD_BYTES_REV2 : NDIS_OFFLOAD_BYTES_REV1;
    if (ask.type != NDIS_OBJECT_OFFLOAD || ask.bytes < NDIS_OFFLOAD_BYTES_REV1)
        host_strict(n->h, in, in_bytes, "rndis: offload capabilities asked with type %#x, %u bytes", ask.type,
                    ask.bytes);
    if (ask.bytes < o.header.bytes) {
        o.header.bytes = NDIS_OFFLOAD_BYTES_REV1;
        o.header.revision = 1;
    }
    o.checksum = (struct ndis_checksum_capabilities){
        encapsulation(tx), tx, encapsulation(rx), rx,
        encapsulation(tx), ipv6_part(tx), encapsulation(rx), ipv6_part(rx),
    };
    if (lso != 0)
        o.lso_v2 = (struct ndis_lso_v2_capabilities){
            NDIS_ENCAPSULATION_8023, lso, 2,
            NDIS_ENCAPSULATION_8023, lso, 2, NDIS_LSO_IPV6_EXT_HEADERS | NDIS_LSO_IPV6_TCP_OPTIONS,
        };
    memcpy(out, &o, o.header.bytes);
    *bytes = o.header.bytes;
    return RNDIS_STATUS_SUCCESS;
}

/* One wish against what was announced. */
static bool grant(uint8_t wish, uint32_t tx, uint32_t rx, uint32_t bit, uint8_t *now)
{
    if (wish == NDIS_OFFLOAD_NO_CHANGE)
        return true;
    if (wish > NDIS_OFFLOAD_TX_RX || ((wish == NDIS_OFFLOAD_TX || wish == NDIS_OFFLOAD_TX_RX) &&
                                      !(tx & bit)) ||
        ((wish == NDIS_OFFLOAD_RX || wish == NDIS_OFFLOAD_TX_RX) && !(rx & bit)))
        return false;
    *now = wish;
    return true;
}

static bool grant_lso(uint8_t wish, uint32_t max, uint8_t *now)
{
    if (wish == NDIS_OFFLOAD_NO_CHANGE)
        return true;
    if (wish > NDIS_OFFLOAD_LSO_ON || (wish == NDIS_OFFLOAD_LSO_ON && max == 0))
        return false;
    *now = wish;
    return true;
}

static uint32_t offload_parameters(struct host_nic *n, const uint8_t *in, uint32_t bytes)
{
    struct ndis_offload_parameters p, *o = &n->offload;
    uint32_t tx = n->cfg.tx_checksum, rx = n->cfg.rx_checksum;

    memset(&p, 0, sizeof(p));
    memcpy(&p, in, bytes < sizeof(p) ? bytes : sizeof(p));
    if (bytes < 20 || p.header.type != NDIS_OBJECT_DEFAULT || p.header.bytes > bytes) {
        host_strict(n->h, in, bytes, "rndis: offload parameters of %u bytes, type %#x", bytes, p.header.type);
        return RNDIS_STATUS_INVALID_DATA;
    }
    if (!grant(p.ipv4_checksum, tx, rx, NDIS_CHECKSUM_IP_HEADER, &o->ipv4_checksum) ||
        !grant(p.tcp_ipv4_checksum, tx, rx, NDIS_CHECKSUM_TCP, &o->tcp_ipv4_checksum) ||
        !grant(p.udp_ipv4_checksum, tx, rx, NDIS_CHECKSUM_UDP, &o->udp_ipv4_checksum) ||
        !grant(p.tcp_ipv6_checksum, tx, rx, NDIS_CHECKSUM_TCP, &o->tcp_ipv6_checksum) ||
        !grant(p.udp_ipv6_checksum, tx, rx, NDIS_CHECKSUM_UDP, &o->udp_ipv6_checksum) ||
        !grant_lso(p.lso_v2_ipv4, n->cfg.lso_max_bytes, &o->lso_v2_ipv4) ||
        !grant_lso(p.lso_v2_ipv6, n->cfg.lso_max_bytes, &o->lso_v2_ipv6)) {
        host_strict(n->h, in, bytes, "rndis: offload parameters ask for what was not announced");
        return RNDIS_STATUS_INVALID_DATA;
    }
    return RNDIS_STATUS_SUCCESS;
}

/* ---- RSS -------------------------------------------------------------------------------------------- */

static bool has_rss(const struct host_nic *n)
{
    return n->cfg.max_queues >= 2 && n->version >= NVSP_VERSION_5;
}

static uint32_t rss_capabilities(struct host_nic *n, const uint8_t *in, uint32_t in_bytes, uint8_t *out,
                                 uint32_t *bytes)
{
    struct ndis_object_header ask = {0};
    struct ndis_rss_capabilities c = {
        .header = {.type = NDIS_OBJECT_RSS_CAPABILITIES, .revision = 2, .bytes = sizeof(c)},
        .flags = NDIS_RSS_HASH_TOEPLITZ | NDIS_RSS_CAPABILITY_TCP_IPV4 | NDIS_RSS_CAPABILITY_TCP_IPV6,
        .interrupt_messages = n->cfg.max_queues,
        .receive_queues = n->cfg.max_queues,
        .table_entries = NDIS_RSS_TABLE_ENTRIES,
    };

    if (!has_rss(n))
        return RNDIS_STATUS_NOT_SUPPORTED;
    if (in_bytes >= sizeof(ask))
        memcpy(&ask, in, sizeof(ask));
    if (ask.type != NDIS_OBJECT_RSS_CAPABILITIES)
        host_strict(n->h, in, in_bytes, "rndis: RSS capabilities asked without their object header");
    memcpy(out, &c, sizeof(c));
    *bytes = sizeof(c);
    return RNDIS_STATUS_SUCCESS;
}

/* Why the parameters can't be used; NULL: they can. Hosts do not look at the object's header. */
static const char *check_rss(const struct host_nic *n, const struct ndis_rss_parameters *p, uint32_t bytes)
{
    if (p->key_bytes != NDIS_RSS_KEY_BYTES || p->key_offset > bytes || p->key_bytes > bytes - p->key_offset)
        return "the key is not 40 bytes inside of the object";
    if (p->table_bytes == 0 || p->table_bytes > sizeof(n->rss_table) || p->table_bytes % 4 != 0 ||
        p->table_offset > bytes || p->table_bytes > bytes - p->table_offset)
        return "the table is not 1 to 128 words inside of the object";
    return NULL;
}

/* Nothing changes unless all of it is good. */
static uint32_t rss_parameters(struct host_nic *n, const uint8_t *in, uint32_t bytes)
{
    struct ndis_rss_parameters p;
    uint32_t table[NDIS_RSS_TABLE_ENTRIES];
    uint64_t queues = 0;
    uint32_t count = 0;
    const char *why;

    if (!has_rss(n)) {
        host_strict(n->h, in, bytes, "rndis: RSS parameters for an adapter of one queue");
        return RNDIS_STATUS_NOT_SUPPORTED;
    }
    if (bytes < sizeof(p))
        return RNDIS_STATUS_INVALID_LENGTH;
    memcpy(&p, in, sizeof(p));
    if (p.header.type != NDIS_OBJECT_RSS_PARAMETERS || p.header.bytes < sizeof(p))
        host_strict(n->h, in, bytes, "rndis: RSS parameters: object header");
    if ((p.flags & NDIS_RSS_DISABLE) || !(p.hash_information & NDIS_RSS_HASH_FUNCTION_MASK)) {
        n->rss = false;
        return RNDIS_STATUS_SUCCESS;
    }
    if (p.flags & NDIS_RSS_UNCHANGED)
        host_strict(n->h, in, bytes, "rndis: RSS parameters: hosts take key and table anew, flags %#x", p.flags);
    why = check_rss(n, &p, bytes);
    if (why == NULL && (p.hash_information & NDIS_RSS_HASH_FUNCTION_MASK) != NDIS_RSS_HASH_TOEPLITZ)
        why = "the hash is not Toeplitz";
    if (why != NULL) {
        host_strict(n->h, in, bytes, "rndis: RSS parameters: %s", why);
        return RNDIS_STATUS_INVALID_DATA;
    }
    memcpy(table, in + p.table_offset, p.table_bytes);
    for (uint32_t i = 0; i < p.table_bytes / 4; i++) {
        if (table[i] >= n->cfg.max_queues) {
            host_strict(n->h, in, bytes, "rndis: RSS table names queue %u of %u", table[i], n->cfg.max_queues);
            return RNDIS_STATUS_INVALID_DATA;
        }
        if (!netvsp_queue_open(n, table[i]))
            host_strict(n->h, in, bytes, "rndis: RSS table names queue %u, whose channel is not open", table[i]);
        count += !(queues >> table[i] & 1);
        queues |= 1ull << table[i];
    }
    memcpy(n->rss_key, in + p.key_offset, sizeof(n->rss_key));
    memcpy(n->rss_table, table, p.table_bytes);
    n->rss_entries = p.table_bytes / 4;
    n->rss_hash = p.hash_information;
    n->rss_queues = queues;
    n->rss_queue_count = count;
    n->rss = true;
    host_trace(n->h, HOST_TRACE_NETVSP, "RSS: hash %#x, %u entries, queues %#llx", n->rss_hash, n->rss_entries,
               (unsigned long long)queues);
    return RNDIS_STATUS_SUCCESS;
}

/* ---- the tables ------------------------------------------------------------------------------------- */

static uint32_t give(uint8_t *out, uint32_t room, uint32_t *bytes, const void *data, uint32_t len)
{
    if (len > room)
        return RNDIS_STATUS_BUFFER_TOO_SHORT;
    memcpy(out, data, len);
    *bytes = len;
    return RNDIS_STATUS_SUCCESS;
}

/* The OIDs whose answer is one word. */
static bool word_oid(const struct host_nic *n, uint32_t oid, uint32_t *value)
{
    switch (oid) {
    case OID_GEN_HARDWARE_STATUS:
    case OID_GEN_MEDIA_SUPPORTED:
    case OID_GEN_MEDIA_IN_USE:
        *value = 0;
        return true;
    case OID_GEN_MAXIMUM_FRAME_SIZE:
    case OID_GEN_MAXIMUM_LOOKAHEAD:
    case OID_GEN_CURRENT_LOOKAHEAD:
        *value = n->frame_bytes - 14;
        return true;
    case OID_GEN_MAXIMUM_TOTAL_SIZE:
        *value = n->frame_bytes;
        return true;
    case OID_GEN_LINK_SPEED:
        *value = n->cfg.link_speed;
        return true;
    case OID_GEN_VENDOR_ID:
        *value = VENDOR_ID;
        return true;
    case OID_GEN_CURRENT_PACKET_FILTER:
        *value = n->filter;
        return true;
    case OID_GEN_DRIVER_VERSION:
        *value = DRIVER_VERSION;
        return true;
    case OID_GEN_MAC_OPTIONS:
        *value = 0;
        return true;
    case OID_GEN_MEDIA_CONNECT_STATUS:
        *value = n->link_up ? 0 : 1;
        return true;
    case OID_GEN_MAXIMUM_SEND_PACKETS:
        *value = n->cfg.max_packets_per_message;
        return true;
    case OID_802_3_MAXIMUM_LIST_SIZE:
        *value = 16;
        return true;
    default:
        return false;
    }
}

uint32_t rndis_oid_query(struct host_nic *n, uint32_t oid, const uint8_t *in, uint32_t in_bytes, uint8_t *out,
                         uint32_t room, uint32_t *bytes)
{
    static const char description[] = "Candela host model";
    static const uint8_t name[] = {'n', 0, 'i', 0, 'c', 0, 0, 0};      /* UTF-16 */
    uint8_t friendly[512];
    uint32_t value;

    if (word_oid(n, oid, &value))
        return give(out, room, bytes, &value, sizeof(value));
    switch (oid) {
    case OID_GEN_SUPPORTED_LIST:
        return give(out, room, bytes, supported,
                    sizeof(supported) - (has_rss(n) ? 0 : SUPPORTED_RSS * sizeof(supported[0])));
    case OID_GEN_VENDOR_DESCRIPTION:
        return give(out, room, bytes, description, sizeof(description));
    case OID_GEN_FRIENDLY_NAME:
        memset(friendly, 0, sizeof(friendly));
        memcpy(friendly, name, sizeof(name));
        return give(out, room, bytes, friendly, sizeof(friendly));
    case OID_802_3_PERMANENT_ADDRESS:
    case OID_802_3_CURRENT_ADDRESS:
        return give(out, room, bytes, n->cfg.mac, sizeof(n->cfg.mac));
    case OID_TCP_OFFLOAD_HARDWARE_CAPABILITIES:
        return hardware_capabilities(n, in, in_bytes, out, bytes);
    case OID_GEN_RECEIVE_SCALE_CAPABILITIES:
        return rss_capabilities(n, in, in_bytes, out, bytes);
    default:
        return RNDIS_STATUS_NOT_SUPPORTED;
    }
}

uint32_t rndis_oid_set(struct host_nic *n, uint32_t oid, const uint8_t *in, uint32_t bytes)
{
    uint32_t filter;

    switch (oid) {
    case OID_GEN_CURRENT_PACKET_FILTER:
        if (bytes != sizeof(filter))
            return RNDIS_STATUS_INVALID_LENGTH;
        memcpy(&filter, in, sizeof(filter));
        if (filter & ~FILTERS_KNOWN)
            host_strict(n->h, in, bytes, "rndis: packet filter %#x", filter);
        n->filter = filter;
        return RNDIS_STATUS_SUCCESS;
    case OID_TCP_OFFLOAD_PARAMETERS:
        return offload_parameters(n, in, bytes);
    case OID_GEN_RECEIVE_SCALE_PARAMETERS:
        return rss_parameters(n, in, bytes);
    case OID_GEN_CURRENT_LOOKAHEAD:
    case OID_GEN_PROTOCOL_OPTIONS:
    case OID_802_3_MULTICAST_LIST:
    case OID_GEN_RNDIS_CONFIG_PARAMETER:
        return RNDIS_STATUS_SUCCESS;
    default:
        return RNDIS_STATUS_NOT_SUPPORTED;
    }
}
