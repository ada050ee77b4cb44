/* SPDX-License-Identifier: BSD-2-Clause */
/* See tree.h. Blocks in this order: header, no reservations, structure, strings; all numbers are big endian. */
#include <string.h>
#include "tests/lab/arm64/tree.h"

#define MAGIC        0xD00DFEEDu
#define VERSION      17u
#define COMPATIBLE   16u
#define TOKEN_BEGIN  1u
#define TOKEN_END    2u
#define TOKEN_PROP   3u
#define TOKEN_FINISH 9u
#define HEADER_WORDS 10
#define RESERVATIONS (HEADER_WORDS * 4)
#define STRUCTURE    (RESERVATIONS + 16)      /* behind the pair of zeroes that ends them */
_Static_assert(RESERVATIONS % 8 == 0, "the specification aligns that block to 8");

static void put32(struct tree *t, uint32_t v)
{
    KASSERT(t->used + 4 <= t->size);
    v = __builtin_bswap32(v);
    memcpy(t->blob + t->used, &v, 4);
    t->used += 4;
}

static void put_bytes(struct tree *t, const void *bytes, size_t n)
{
    KASSERT(n <= t->size && t->used <= t->size - n);
    memcpy(t->blob + t->used, bytes, n);
    t->used += n;
    while (t->used % 4)
        t->blob[t->used++] = 0;
}

static uint32_t string_at(struct tree *t, const char *name)
{
    size_t n = strlen(name) + 1;
    for (size_t at = 0; at < t->string_bytes; at += strlen(t->strings + at) + 1)
        if (!strcmp(t->strings + at, name))
            return (uint32_t)at;
    KASSERT(t->string_bytes + n <= sizeof(t->strings));
    memcpy(t->strings + t->string_bytes, name, n);
    t->string_bytes += n;
    return (uint32_t)(t->string_bytes - n);
}

static void property(struct tree *t, const char *name, size_t bytes)
{
    put32(t, TOKEN_PROP);
    put32(t, (uint32_t)bytes);
    put32(t, string_at(t, name));
}

void tree_start(struct tree *t, void *blob, size_t size)
{
    KASSERT(size >= STRUCTURE && size % 4 == 0);
    *t = (struct tree){.blob = blob, .size = size, .used = STRUCTURE};
    memset(blob, 0, STRUCTURE);
}

void tree_begin(struct tree *t, const char *name)
{
    put32(t, TOKEN_BEGIN);
    put_bytes(t, name, strlen(name) + 1);
}

void tree_end(struct tree *t) { put32(t, TOKEN_END); }

void tree_cells(struct tree *t, const char *name, const uint32_t *cells, size_t count)
{
    property(t, name, 4 * count);
    for (size_t i = 0; i < count; i++)
        put32(t, cells[i]);
}

void tree_cell(struct tree *t, const char *name, uint32_t cell) { tree_cells(t, name, &cell, 1); }

void tree_wide(struct tree *t, const char *name, const uint64_t *numbers, size_t count)
{
    property(t, name, 8 * count);
    for (size_t i = 0; i < count; i++) {
        put32(t, (uint32_t)(numbers[i] >> 32));
        put32(t, (uint32_t)numbers[i]);
    }
}

void tree_bytes(struct tree *t, const char *name, const void *bytes, size_t count)
{
    property(t, name, count);
    put_bytes(t, bytes, count);
}

void tree_text(struct tree *t, const char *name, const char *text) { tree_bytes(t, name, text, strlen(text) + 1); }

void tree_flag(struct tree *t, const char *name) { property(t, name, 0); }

size_t tree_finish(struct tree *t, uint32_t boot_cpu)
{
    put32(t, TOKEN_FINISH);
    size_t strings = t->used;
    put_bytes(t, t->strings, t->string_bytes);
    size_t total = t->used;
    const uint32_t header[HEADER_WORDS] = {
        MAGIC, (uint32_t)total, STRUCTURE, (uint32_t)strings, RESERVATIONS, VERSION, COMPATIBLE, boot_cpu,
        (uint32_t)t->string_bytes, (uint32_t)(strings - STRUCTURE),
    };
    t->used = 0;
    for (size_t i = 0; i < HEADER_WORDS; i++)
        put32(t, header[i]);
    return total;
}
