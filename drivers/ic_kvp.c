/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Key-value pairs. The host enumerates what the machine says of itself (pool 2: rt/facts.c), reads what applications
 * left for it (pool 1), and writes what it wants them to know: pool 0 by its administrator, pool 3 about itself. What
 * it writes is kept by rt/keys.c within its limits.
 *
 * All values go out as strings. Sizes and text that come in are checked before anything is kept: a size over the
 * field's, an odd one, text that is not UTF-16 is refused. Text ends at its first zero or where its size says. Numbers
 * become decimal text.
 */
#define LOG_ROOM "ic"
#include "drivers/ic.h"
#include <string.h>
#include "lib/utf16.h"
#include "rt/services.h"

_Static_assert((unsigned)KEYS_EXTERNAL == IC_KVP_POOL_EXTERNAL && (unsigned)KEYS_GUEST == IC_KVP_POOL_GUEST &&
               (unsigned)KEYS_AUTO == IC_KVP_POOL_AUTO && (unsigned)KEYS_AUTO_EXTERNAL == IC_KVP_POOL_AUTO_EXTERNAL &&
               (unsigned)KEY_POOLS == IC_KVP_POOLS && (unsigned)FACT_FQDN == IC_KVP_AUTO_FQDN &&
               (unsigned)FACT_ARCHITECTURE == IC_KVP_AUTO_ARCHITECTURE && (unsigned)FACT_COUNT == IC_KVP_AUTO_COUNT &&
               KEYS_NAME_UTF16_BYTES == IC_KVP_KEY_BYTES && KEYS_VALUE_UTF16_BYTES == IC_KVP_VALUE_BYTES,
               "the runtime counts as the protocol does");

static const struct ic_version versions[] = {{5, 0}, {4, 0}, {3, 0}, {1, 0}};

static const char *const fact_names[FACT_COUNT] = {
    [FACT_FQDN] = "FullyQualifiedDomainName",
    [FACT_SERVICES_VERSION] = "IntegrationServicesVersion",
    [FACT_IPV4] = "NetworkAddressIPv4",
    [FACT_IPV6] = "NetworkAddressIPv6",
    [FACT_OS_BUILD] = "OSBuildNumber",
    [FACT_OS_NAME] = "OSName",
    [FACT_OS_MAJOR] = "OSMajorVersion",
    [FACT_OS_MINOR] = "OSMinorVersion",
    [FACT_OS_VERSION] = "OSVersion",
    [FACT_ARCHITECTURE] = "ProcessorArchitecture",
};

/* One message at a time is worked at, in the event loop: its text can lie here instead of on a task's stack. */
static char key_text[KEYS_NAME_BYTES], value_text[KEYS_VALUE_BYTES];

/* ---- text ---- */

static uint32_t status_of(int error)
{
    switch (error) {
    case 0:
        return IC_STATUS_OK;
    case -E_NOENT:
        return IC_STATUS_NO_MORE_ITEMS;
    case -E_NOSPC:
    case -E_NOMEM:
        return IC_STATUS_DISK_FULL;
    default:
        return IC_STATUS_INVALID_ARGUMENT;
    }
}

/* The field's text into to; false, after one line, when there is none that can be used. */
static bool read_text(struct ic *ic, char *to, size_t room, const uint8_t *field, uint32_t bytes, uint32_t field_bytes)
{
    bool sized = bytes <= field_bytes && bytes % 2 == 0;

    if (sized && utf8_from_utf16(to, room, field, bytes) >= 0)
        return true;
    ic_lie(ic, sized ? "text that is none" : "text of a size that can't be", bytes);
    return false;
}

static bool read_value(struct ic *ic, const struct ic_kvp_value *v)
{
    uint32_t n32;
    uint64_t n64;

    switch (v->type) {
    case IC_KVP_TYPE_STRING:
    case IC_KVP_TYPE_EXPAND:
        return read_text(ic, value_text, sizeof(value_text), v->value, v->value_bytes, sizeof(v->value));
    case IC_KVP_TYPE_U32:
        memcpy(&n32, v->value, sizeof(n32));
        ksnprintf(value_text, sizeof(value_text), "%u", n32);
        return true;
    case IC_KVP_TYPE_U64:
    case IC_KVP_TYPE_U64_LINUX:
        memcpy(&n64, v->value, sizeof(n64));
        ksnprintf(value_text, sizeof(value_text), "%llu", (unsigned long long)n64);
        return true;
    default:
        ic_lie(ic, "a value of an unknown type", v->type);
        return false;
    }
}

static uint32_t write_value(struct ic_kvp_value *v, const char *value)
{
    int n = utf16_from_utf8(v->value, sizeof(v->value), value);

    if (n < 0)
        return IC_STATUS_FAIL;
    v->type = IC_KVP_TYPE_STRING;
    v->value_bytes = (uint32_t)n;
    return IC_STATUS_OK;
}

static uint32_t write_pair(struct ic_kvp_value *v, const char *key, const char *value)
{
    int n = utf16_from_utf8(v->key, sizeof(v->key), key);

    if (n < 0)
        return IC_STATUS_FAIL;
    v->key_bytes = (uint32_t)n;
    return write_value(v, value);
}

/* ---- operations: the body is as long as theirs ---- */

static bool host_writes(uint8_t pool) { return pool == IC_KVP_POOL_EXTERNAL || pool == IC_KVP_POOL_AUTO_EXTERNAL; }

static uint32_t get(struct ic *ic, struct ic_kvp_get_set *m)
{
    const char *value = NULL;

    if (!read_text(ic, key_text, sizeof(key_text), m->value.key, m->value.key_bytes, sizeof(m->value.key)))
        return IC_STATUS_INVALID_ARGUMENT;
    if (m->kvp.pool != IC_KVP_POOL_AUTO)
        value = keys_get(m->kvp.pool, key_text);
    for (unsigned i = 0; i < FACT_COUNT && m->kvp.pool == IC_KVP_POOL_AUTO; i++) {
        if (strcmp(fact_names[i], key_text) == 0) {
            machine_fact(i, value_text, sizeof(value_text));
            value = value_text;
        }
    }
    return value ? write_value(&m->value, value) : IC_STATUS_NO_MORE_ITEMS;
}

static uint32_t set(struct ic *ic, const struct ic_kvp_get_set *m)
{
    if (!host_writes(m->kvp.pool))
        return IC_STATUS_NOT_SUPPORTED;
    if (!read_text(ic, key_text, sizeof(key_text), m->value.key, m->value.key_bytes, sizeof(m->value.key)) ||
        !read_value(ic, &m->value))
        return IC_STATUS_INVALID_ARGUMENT;
    int e = keys_set(m->kvp.pool, key_text, value_text);
    if (e == -E_NOSPC || e == -E_NOMEM)
        ic_lie(ic, "more keys than are kept", keys_count(m->kvp.pool));
    return status_of(e);
}

static uint32_t delete(struct ic *ic, const struct ic_kvp_delete *m)
{
    if (!host_writes(m->kvp.pool))
        return IC_STATUS_NOT_SUPPORTED;
    if (!read_text(ic, key_text, sizeof(key_text), m->key, m->key_bytes, sizeof(m->key)))
        return IC_STATUS_INVALID_ARGUMENT;
    return status_of(keys_delete(m->kvp.pool, key_text));
}

static uint32_t enumerate(struct ic_kvp_enumerate *m)
{
    struct key_pair pair;

    if (m->kvp.pool == IC_KVP_POOL_AUTO) {
        if (m->index >= FACT_COUNT)
            return IC_STATUS_NO_MORE_ITEMS;
        machine_fact(m->index, value_text, sizeof(value_text));
        return write_pair(&m->value, fact_names[m->index], value_text);
    }
    if (!keys_at(m->kvp.pool, m->index, &pair))
        return IC_STATUS_NO_MORE_ITEMS;
    return write_pair(&m->value, pair.key, pair.value);
}

/* ---- the component ---- */

static uint32_t body_least(struct ic *ic, uint8_t operation)
{
    switch (operation) {
    case IC_KVP_GET:
    case IC_KVP_SET:
        return sizeof(struct ic_kvp_get_set);
    case IC_KVP_DELETE:
        return sizeof(struct ic_kvp_delete);
    case IC_KVP_ENUMERATE:
        return sizeof(struct ic_kvp_enumerate);
    case IC_KVP_GET_IP:
        return ic->message.major >= 5 ? sizeof(struct ic_kvp_ip_binary) : sizeof(struct ic_kvp_ip);
    case IC_KVP_SET_IP:
        return sizeof(struct ic_kvp_header);
    default:
        return UINT32_MAX;
    }
}

static uint32_t request(struct ic *ic, void *body, uint32_t bytes)
{
    const struct ic_kvp_header *m = body;
    uint32_t least = bytes >= sizeof(*m) ? body_least(ic, m->operation) : sizeof(*m);

    if (least == UINT32_MAX) {
        ic_lie(ic, "an unknown operation on keys", m->operation);
        return IC_STATUS_NOT_SUPPORTED;
    }
    if (bytes < least) {
        ic_lie(ic, "a message about keys too short", bytes);
        return IC_STATUS_INVALID_ARGUMENT;
    }
    if (m->pool >= IC_KVP_POOLS) {
        ic_lie(ic, "a pool of keys that there is none of", m->pool);
        return IC_STATUS_INVALID_ARGUMENT;
    }
    switch (m->operation) {
    case IC_KVP_GET:
        return get(ic, body);
    case IC_KVP_SET:
        return set(ic, body);
    case IC_KVP_DELETE:
        return delete(ic, body);
    case IC_KVP_ENUMERATE:
        return enumerate(body);
    case IC_KVP_GET_IP:
        return ic->message.major >= 5 ? ic_kvp_get_ip_binary(body) : ic_kvp_get_ip(body);
    default:
        /* Addresses come from DHCP or from candela.conf: the machine has no place to keep others over a restart. */
        if (rt_may_log(&ic->lines))
            log_warn("%s: the host wants to set addresses, refused", ic->name);
        return IC_STATUS_NOT_SUPPORTED;
    }
}

static const struct ic_component component = {
    .type = IC_KVP, .versions = versions, .version_count = ARRAY_SIZE(versions), .request = request,
    .body_max = IC_KVP_IP_BODY_BYTES,
};

static int probe(struct vmbus_channel *ch) { return ic_probe(ch, &component); }

void ic_kvp_register(void)
{
    static struct vmbus_driver driver = {
        .name = "kvp", .class_id = VMBUS_GUID_KVP, .probe = probe, .remove = ic_remove,
    };
    vmbus_register_driver(&driver);
}
