/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ic_kvp.c: key-value pairs, the host's side: what it wants of the guest's pools, one request after the other.
 *
 * A transaction of the tests is one request, except an enumeration, which asks index after index until the guest
 * says that there are no more. Results wait in a list of limited length.
 */
#include "tests/host/ic.h"

#define KVP_REQUESTS_MAX 64u
#define KVP_RESULTS_MAX  512u
#define KVP_ITEMS_MAX    1024u                    /* a pool that is longer does not end */

static const struct guid instance = GUID_INIT(0x242ff919, 0x07db, 0x4180, 0x9c2e, 0xb86cb68c8c55);

struct kvp_result {
    struct list node;
    struct host_kvp_result result;
};

void kvp_init(struct host_ics *ics)
{
    list_init(&ics->kvp_requests);
    list_init(&ics->kvp_results);
}

static struct host_kvp_result *current(struct host_ic *ic)
{
    struct list *queue = &ic->h->ics->kvp_requests;

    return list_empty(queue) ? NULL : &list_entry(queue->next, struct kvp_request, node)->about;
}

/* ---- results ---------------------------------------------------------------------------------------- */

static struct host_kvp_result *add_result(struct host *h, const struct host_kvp_result *about)
{
    struct host_ics *ics = h->ics;
    struct kvp_result *r;

    if (ics->kvp_result_count == KVP_RESULTS_MAX) {
        host_free(h, list_entry(list_pop_front(&ics->kvp_results), struct kvp_result, node));
        ics->kvp_result_count--;
    }
    r = host_alloc(h, sizeof(*r));
    if (r == NULL) {
        host_log(h, HOST_LOG_ERROR, "ic kvp: no memory for a result");
        return NULL;
    }
    r->result = *about;
    r->result.key[0] = r->result.value[0] = 0;
    list_push_back(&ics->kvp_results, &r->node);
    ics->kvp_result_count++;
    return &r->result;
}

static void copy_text(char *to, size_t size, const char *from)
{
    size_t n = strlen(from);

    if (n >= size)
        n = size - 1;
    memcpy(to, from, n);
    to[n] = 0;
}

void kvp_item(struct host *h, const struct host_kvp_result *about, const char *key, const char *value)
{
    struct host_kvp_result *r = add_result(h, about);

    if (r == NULL)
        return;
    copy_text(r->key, sizeof(r->key), key);
    copy_text(r->value, sizeof(r->value), value);
}

/* The transaction is over; the next one may be asked. */
static void finish(struct host_ic *ic, uint32_t status)
{
    struct host_ics *ics = ic->h->ics;
    struct host_kvp_result *r;

    current(ic)->status = status;
    r = add_result(ic->h, current(ic));
    if (r != NULL)
        r->last = true;
    host_free(ic->h, list_entry(list_pop_front(&ics->kvp_requests), struct kvp_request, node));
    ics->kvp_request_count--;
}

bool host_kvp_result(struct host *h, struct host_kvp_result *result)
{
    struct kvp_result *r;

    if (h->ics == NULL || list_empty(&h->ics->kvp_results))
        return false;
    r = list_entry(list_pop_front(&h->ics->kvp_results), struct kvp_result, node);
    h->ics->kvp_result_count--;
    *result = r->result;
    host_free(h, r);
    return true;
}

/* ---- requests --------------------------------------------------------------------------------------- */

static void ready(struct host_ic *ic)
{
    (void)ic;
}

static uint32_t next(struct host_ic *ic, uint8_t *body)
{
    const struct host_kvp_result *r = current(ic);
    struct ic_kvp_get_set *m = (struct ic_kvp_get_set *)(void *)body;
    struct ic_kvp_delete *del = (struct ic_kvp_delete *)(void *)body;

    ic->due = HOST_NEVER;
    if (r == NULL)
        return 0;
    if (r->operation == IC_KVP_GET_IP)
        return kvp_ip_request(ic, r->key, body);
    m->kvp = (struct ic_kvp_header){.operation = (uint8_t)r->operation, .pool = (uint8_t)r->pool};
    if (r->operation == IC_KVP_ENUMERATE) {
        ((struct ic_kvp_enumerate *)(void *)body)->index = r->index;
    } else if (r->operation == IC_KVP_DELETE) {
        del->key_bytes = ic_to_utf16(r->key, del->key, sizeof(del->key));
    } else {
        m->value.key_bytes = ic_to_utf16(r->key, m->value.key, sizeof(m->value.key));
        if (r->operation == IC_KVP_SET) {
            m->value.type = IC_KVP_TYPE_STRING;
            m->value.value_bytes = ic_to_utf16(r->value, m->value.value, sizeof(m->value.value));
        }
    }
    return IC_KVP_BODY_BYTES;
}

/* A value that the guest gives: name and content, exactly as long as it says. */
static const char *read_value(const struct ic_kvp_value *v, char *key, uint32_t key_size, char *value,
                              uint32_t value_size)
{
    uint64_t n = 0;

    if (v->key_bytes > sizeof(v->key) || !ic_from_utf16(v->key, v->key_bytes, key, key_size))
        return "key";
    switch (v->type) {
    case IC_KVP_TYPE_STRING:
    case IC_KVP_TYPE_EXPAND:
        if (v->value_bytes > sizeof(v->value) || !ic_from_utf16(v->value, v->value_bytes, value, value_size))
            return "text";
        return NULL;
    case IC_KVP_TYPE_U32:
    case IC_KVP_TYPE_U64:
    case IC_KVP_TYPE_U64_LINUX:
        if (v->value_bytes != (v->type == IC_KVP_TYPE_U32 ? 4 : 8))
            return "number's length";
        memcpy(&n, v->value, v->value_bytes);
        ksnprintf(value, value_size, "%llu", (unsigned long long)n);
        return NULL;
    default:
        return "type";
    }
}

static void take_value(struct host_ic *ic, const uint8_t *at)
{
    struct host_kvp_result *about = current(ic), *r;
    const struct ic_kvp_value *v = (const struct ic_kvp_value *)(const void *)at;
    const char *error;

    about->type = v->type;
    r = add_result(ic->h, about);
    if (r == NULL)
        return;
    error = read_value(v, r->key, sizeof(r->key), r->value, sizeof(r->value));
    if (error != NULL)
        host_violation(ic->h, at, sizeof(*v), "ic kvp: pool %u, index %u: the value's %s: type %u, key of %u bytes, "
                       "value of %u", about->pool, about->index, error, v->type, v->key_bytes, v->value_bytes);
    else if (about->operation == IC_KVP_GET && strcmp(r->key, about->key) != 0)
        host_violation(ic->h, at, sizeof(*v), "ic kvp: asked for the key %s, got %s", about->key, r->key);
}

static void enumerated(struct host_ic *ic, const uint8_t *body)
{
    struct host_kvp_result *r = current(ic);

    take_value(ic, body + offsetof(struct ic_kvp_enumerate, value));
    if (++r->index == KVP_ITEMS_MAX) {
        host_violation(ic->h, NULL, 0, "ic kvp: pool %u has %u items and does not end", r->pool, r->index);
        finish(ic, IC_STATUS_FAIL);
    }
}

/* Does it answer what was asked? Every operation is recognised by its head. */
static bool ours(const struct host_kvp_result *r, const uint8_t *body, uint32_t bytes, const uint8_t *sent)
{
    if (bytes < sizeof(struct ic_kvp_enumerate) || memcmp(body, sent, 2) != 0)
        return false;
    return r->operation != IC_KVP_ENUMERATE || memcmp(body, sent, offsetof(struct ic_kvp_enumerate, value)) == 0;
}

static bool answer(struct host_ic *ic, uint32_t status, const uint8_t *body, uint32_t bytes, const uint8_t *sent)
{
    struct host_kvp_result *r = current(ic);

    if (r == NULL || !ours(r, body, bytes, sent))
        return false;
    if (status == IC_STATUS_OK && r->operation == IC_KVP_ENUMERATE) {
        enumerated(ic, body);
        return true;
    }
    if (status == IC_STATUS_OK && r->operation == IC_KVP_GET)
        take_value(ic, body + sizeof(struct ic_kvp_header));
    if (status == IC_STATUS_OK && r->operation == IC_KVP_GET_IP)
        kvp_ip_answer(ic, r, body);
    finish(ic, status);
    return true;
}

static void lost(struct host_ic *ic, bool closed)
{
    while (current(ic) != NULL) {
        finish(ic, HOST_KVP_NO_ANSWER);
        if (!closed)
            return;
    }
}

const struct ic_kind ic_kvp = {
    .dev = IC_DEV("kvp", &instance), .interface_type = VMBUS_GUID_KVP, .type = IC_KVP,
    .ready = ready, .next = next, .answer = answer, .lost = lost, .limit_100ns = ic_limit,
};

/* ---- what the transport and the tests call ---------------------------------------------------------- */

static uint32_t add_request(struct host *h, uint32_t operation, uint32_t pool, const char *key, const char *value)
{
    struct host_ic *ic = ic_ready(h, HOST_IC_KVP);
    struct kvp_request *q;

    if (ic == NULL || h->ics->kvp_request_count == KVP_REQUESTS_MAX ||
        ic_to_utf16(key, h->ics->message, operation == IC_KVP_GET_IP ? 256 : IC_KVP_KEY_BYTES) == 0 ||
        ic_to_utf16(value, h->ics->message, IC_KVP_VALUE_BYTES) == 0)
        return 0;
    q = host_alloc(h, sizeof(*q));
    if (q == NULL)
        return 0;
    q->about = (struct host_kvp_result){
        .transaction = ++h->ics->kvp_last, .operation = operation, .pool = pool,
    };
    copy_text(q->about.key, sizeof(q->about.key), key);
    copy_text(q->about.value, sizeof(q->about.value), value);
    list_push_back(&h->ics->kvp_requests, &q->node);
    h->ics->kvp_request_count++;
    ic_wake(ic);
    return q->about.transaction;
}

uint32_t host_kvp_set(struct host *h, const char *key, const char *value)
{
    return add_request(h, IC_KVP_SET, IC_KVP_POOL_EXTERNAL, key, value);
}

uint32_t host_kvp_delete(struct host *h, const char *key)
{
    return add_request(h, IC_KVP_DELETE, IC_KVP_POOL_EXTERNAL, key, "");
}

uint32_t host_kvp_get(struct host *h, uint32_t pool, const char *key)
{
    return pool < IC_KVP_POOLS ? add_request(h, IC_KVP_GET, pool, key, "") : 0;
}

uint32_t host_kvp_enumerate(struct host *h, uint32_t pool)
{
    return pool < IC_KVP_POOLS ? add_request(h, IC_KVP_ENUMERATE, pool, "", "") : 0;
}

uint32_t host_kvp_get_ip(struct host *h, const char *adapter)
{
    return add_request(h, IC_KVP_GET_IP, IC_KVP_POOL_GUEST, adapter, "");
}
