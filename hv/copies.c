/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Private copies: see copies.h. A fixed number of equal buffers, so that receiving allocates nothing and a host that
 * sends without end gets its share of memory and no more.
 */
#include "hv/copies.h"
#include <string.h>
#include "hv/hv.h"

#define BUFFER_ALIGN 64u       /* whole lines of the cache, and a chain's word fits */

int copies_init(struct copies *c, size_t bytes, size_t count)
{
    KASSERT(bytes > 0 && count > 0 && bytes <= SIZE_MAX / 2 / count);
    *c = (struct copies){.bytes = ALIGN_UP(bytes, (size_t)BUFFER_ALIGN), .count = count};
    if (!hv_isolated())
        return 0;
    c->memory = kmalloc(c->bytes * count);
    if (!c->memory)
        return -E_NOMEM;
    for (size_t i = count; i-- > 0;) {
        void *buffer = c->memory + i * c->bytes;
        memcpy(buffer, &c->free, sizeof(c->free));
        c->free = buffer;
    }
    return 0;
}

void copies_end(struct copies *c)
{
    KASSERT(c->in_use == 0);
    kfree(c->memory);
    *c = (struct copies){0};
}

void *copies_take(struct copies *c, const void *shared, size_t bytes)
{
    void *buffer = c->free;

    if (!buffer || bytes > c->bytes)
        return NULL;
    memcpy(&c->free, buffer, sizeof(c->free));
    c->in_use++;
    copy_once(buffer, shared, bytes);
    return buffer;
}

void copies_give(struct copies *c, void *copy)
{
    size_t at = (size_t)((char *)copy - c->memory);

    KASSERT(c->in_use > 0 && at < c->bytes * c->count && at % c->bytes == 0);
    memcpy(copy, &c->free, sizeof(c->free));
    c->free = copy;
    c->in_use--;
}
