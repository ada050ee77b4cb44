/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Private copies of what the host wrote, for contents that somebody will look at more than once.
 *
 * Memory that is shared can change after it was checked. Where the host is trusted that does not happen, and its memory
 * is handed on as it is; in an isolated machine whoever receives gets a copy, taken before anything is checked. A user
 * of this asks copies_needed once per object, and never what kind of machine it runs in.
 */
#pragma once
#include "mm/mm.h"

struct copies {
    char *memory;              /* NULL: the host is trusted */
    void *free;                /* chained through their first word */
    size_t bytes, count, in_use;
};

/* count buffers of bytes each, where they are needed at all. 0, -E_NOMEM. */
int copies_init(struct copies *c, size_t bytes, size_t count);
/* All were given back. */
void copies_end(struct copies *c);
static inline bool copies_needed(const struct copies *c) { return c->memory != NULL; }
/* NULL: longer than a buffer, or none is free. */
void *copies_take(struct copies *c, const void *shared, size_t bytes);
void copies_give(struct copies *c, void *copy);
