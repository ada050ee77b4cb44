/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Key-value pairs that the host and the guest leave for one another: three small lists in memory, one per pool.
 *
 * They live as long as the machine: a host writes its own again after each start. Number and bytes are bounded over all
 * pools together, because the host, or an application that means no harm, could fill the memory otherwise. Setting
 * allocates (once, for the whole pair); replacing keeps the place in the order, and leaves the old value when there is
 * no memory for the new.
 */
#define LOG_ROOM "keys"
#include <string.h>
#include "lib/utf16.h"
#include "rt/candela.h"
#include "rt/services.h"

struct entry {
    struct list node;
    uint32_t key_bytes, value_bytes;        /* with their zeroes */
    char text[];                            /* key, then value */
};

static struct list pools[KEY_POOLS];
static unsigned counts[KEY_POOLS], total_count;
static uint64_t total_bytes;
static struct host_key_watcher *watchers;

static bool kept(enum key_pool pool) { return pool < KEY_POOLS && pool != KEYS_AUTO; }
static const char *value_of(const struct entry *e) { return e->text + e->key_bytes; }

static struct entry *find(enum key_pool pool, const char *key)
{
    if (!kept(pool))
        return NULL;
    list_for_each(node, &pools[pool]) {
        struct entry *e = list_entry(node, struct entry, node);
        if (strcmp(e->text, key) == 0)
            return e;
    }
    return NULL;
}

static void tell(enum key_pool pool, const char *key, const char *value)
{
    if (pool != KEYS_EXTERNAL && pool != KEYS_AUTO_EXTERNAL)
        return;
    for (struct host_key_watcher *w = watchers; w; w = w->next)
        w->fn(w->arg, key, value);
}

static void account(enum key_pool pool, const struct entry *e, int sign)
{
    counts[pool] += (unsigned)sign;
    total_count += (unsigned)sign;
    total_bytes += (uint64_t)((int64_t)sign * (e->key_bytes + e->value_bytes));
}

static bool fits(const char *text, size_t bytes, size_t most, unsigned utf16_most)
{
    int wide = bytes <= most ? utf16_bytes(text) : -E_INVAL;
    return wide >= 0 && (unsigned)wide <= utf16_most;
}

int keys_set(enum key_pool pool, const char *key, const char *value)
{
    size_t key_bytes = strlen(key) + 1, value_bytes = strlen(value) + 1;
    if (!kept(pool) || key_bytes == 1 || !fits(key, key_bytes, KEYS_NAME_BYTES, KEYS_NAME_UTF16_BYTES) ||
        !fits(value, value_bytes, KEYS_VALUE_BYTES, KEYS_VALUE_UTF16_BYTES))
        return -E_INVAL;
    struct entry *old = find(pool, key);
    uint64_t before = old ? old->key_bytes + old->value_bytes : 0;
    if ((!old && total_count == KEYS_MAX) || key_bytes + value_bytes > KEYS_BYTES_MAX - (total_bytes - before))
        return -E_NOSPC;
    struct entry *e = kmalloc(sizeof(*e) + key_bytes + value_bytes);
    if (!e)
        return -E_NOMEM;
    e->key_bytes = (uint32_t)key_bytes;
    e->value_bytes = (uint32_t)value_bytes;
    memcpy(e->text, key, key_bytes);
    memcpy(e->text + key_bytes, value, value_bytes);
    if (old) {
        list_insert_between(&e->node, old->node.prev, &old->node);
        list_remove(&old->node);
        account(pool, old, -1);
        kfree(old);
    } else {
        list_push_back(&pools[pool], &e->node);
    }
    account(pool, e, 1);
    tell(pool, e->text, value_of(e));
    return 0;
}

int keys_delete(enum key_pool pool, const char *key)
{
    struct entry *e = find(pool, key);
    if (!e)
        return -E_NOENT;
    list_remove(&e->node);
    account(pool, e, -1);
    tell(pool, e->text, NULL);
    kfree(e);
    return 0;
}

bool keys_at(enum key_pool pool, unsigned n, struct key_pair *pair)
{
    if (!kept(pool) || n >= counts[pool])
        return false;
    struct list *node = pools[pool].next;
    while (n-- > 0)
        node = node->next;
    const struct entry *e = list_entry(node, struct entry, node);
    *pair = (struct key_pair){e->text, value_of(e)};
    return true;
}

const char *keys_get(enum key_pool pool, const char *key)
{
    const struct entry *e = find(pool, key);
    return e ? value_of(e) : NULL;
}

unsigned keys_count(enum key_pool pool) { return kept(pool) ? counts[pool] : 0; }

/* ---- the application's side ---- */

bool host_key_get(const char *key, char *value, size_t bytes)
{
    const char *found = keys_get(KEYS_EXTERNAL, key);
    if (!found)
        found = keys_get(KEYS_AUTO_EXTERNAL, key);
    if (found)
        ksnprintf(value, bytes, "%s", found);
    return found != NULL;
}

unsigned host_key_count(void) { return counts[KEYS_EXTERNAL] + counts[KEYS_AUTO_EXTERNAL]; }

bool host_key_at(unsigned n, struct host_key *key)
{
    struct key_pair pair;
    bool external = n < counts[KEYS_EXTERNAL];
    if (!keys_at(external ? KEYS_EXTERNAL : KEYS_AUTO_EXTERNAL, external ? n : n - counts[KEYS_EXTERNAL], &pair))
        return false;
    *key = (struct host_key){pair.key, pair.value};
    return true;
}

void host_key_watch(struct host_key_watcher *w)
{
    w->next = watchers;
    watchers = w;
}

int guest_key_set(const char *key, const char *value)
{
    if (value)
        return keys_set(KEYS_GUEST, key, value);
    keys_delete(KEYS_GUEST, key);
    return 0;
}

/* ---- figures ---- */

static uint64_t read_host_keys(void *arg UNUSED) { return host_key_count(); }
static uint64_t read_key_bytes(void *arg UNUSED) { return total_bytes; }

static struct metric metrics[] = {
    {.name = "candela_host_keys", .help = "Keys that the host has set", .read = read_host_keys, .gauge = true},
    {.name = "candela_key_bytes", .help = "Bytes of keys and values, the guest's own included", .read = read_key_bytes,
     .gauge = true},
};

void keys_init(void)
{
    for (unsigned i = 0; i < KEY_POOLS; i++)
        list_init(&pools[i]);
    for (unsigned i = 0; i < ARRAY_SIZE(metrics); i++)
        metric_register(&metrics[i]);
}
