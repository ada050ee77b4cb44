/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Names for addresses in backtraces. scripts/symbols.py reads the first link's functions and makes one chunk of the
 * section candela_symbols for the second link; functions come before read-only data in the image, so that the chunk's
 * own size moves none of them. The chunk below is empty: it makes the section exist in a first link and in hosted
 * programs.
 */
#include "lib/lib.h"

struct symbol_chunk {
    uint64_t base;               /* address that the entries count from */
    uint32_t count;              /* entries, ascending */
    uint32_t bytes;              /* of the whole chunk, a multiple of 16 */
    struct symbol_entry { uint32_t address; uint32_t name; /* offset in the chunk */ } entries[];
};

static const struct symbol_chunk empty
    __attribute__((section("candela_symbols"), aligned(16), used)) = {.bytes = sizeof(struct symbol_chunk)};
extern const char __start_candela_symbols[], __stop_candela_symbols[];

static const char *find_in_chunk(const struct symbol_chunk *chunk, uint64_t addr, uint64_t *offset)
{
    uint32_t low = 0, high = chunk->count;
    if (addr < chunk->base || chunk->count == 0)
        return NULL;
    addr -= chunk->base;
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (chunk->entries[middle].address <= addr)
            low = middle;
        else
            high = middle;
    }
    /* The last entry marks the end of the code and has no name. */
    if (low == chunk->count - 1 || addr < chunk->entries[low].address)
        return NULL;
    if (offset != NULL)
        *offset = addr - chunk->entries[low].address;
    return (const char *)chunk + chunk->entries[low].name;
}

const char *symbol_find(uint64_t addr, uint64_t *offset)
{
    const char *at = __start_candela_symbols;
    while (at < __stop_candela_symbols) {
        const struct symbol_chunk *chunk = (const void *)at;
        const char *name = find_in_chunk(chunk, addr, offset);
        if (name != NULL)
            return name;
        if (chunk->bytes == 0)      /* alignment between chunks */
            at += 16;
        else
            at += chunk->bytes;
    }
    return NULL;
}
