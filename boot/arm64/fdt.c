/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The format of fdt.h: a header, then three blocks. The structure block is a list of tokens of four bytes, big endian
 * as all numbers are; a node's properties stand before its children.
 */
#include "boot/arm64/fdt.h"
#include <string.h>

#define MAGIC              0xD00DFEEDu
#define VERSION_LEAST      17
#define COMPATIBLE_MOST    17            /* a newer format that readers of version 17 understand says so */
#define HEADER_BYTES       40
enum { HEADER_TOTAL = 4, HEADER_STRUCTS = 8, HEADER_STRINGS = 12, HEADER_RESERVED = 16, HEADER_VERSION = 20,
       HEADER_COMPATIBLE = 24, HEADER_STRINGS_BYTES = 32, HEADER_STRUCTS_BYTES = 36 };
enum { BEGIN_NODE = 1, END_NODE = 2, PROP = 3, NOP = 4, END = 9 };
#define ADDRESS_CELLS_DEFAULT 2
#define SIZE_CELLS_DEFAULT    1
#define RESERVATIONS_MAX   64

static uint32_t big32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}
static uint64_t big64(const uint8_t *p) { return (uint64_t)big32(p) << 32 | big32(p + 4); }

uint32_t fdt_claimed_bytes(const void *blob) { return big32(blob) == MAGIC ? big32((const uint8_t *)blob + 4) : 0; }

static bool block_fits(uint32_t total, uint32_t start, uint32_t bytes)
{
    return start >= HEADER_BYTES && start <= total && bytes <= total - start;
}

bool fdt_open(struct fdt *fdt, const void *blob, uint64_t bytes)
{
    const uint8_t *b = blob;
    uint32_t total;
    if (bytes < HEADER_BYTES || big32(b) != MAGIC)
        return false;
    total = big32(b + HEADER_TOTAL);
    if (total > bytes || big32(b + HEADER_VERSION) < VERSION_LEAST ||
        big32(b + HEADER_COMPATIBLE) > COMPATIBLE_MOST)
        return false;
    *fdt = (struct fdt){
        .blob = b, .total = total,
        .structs = big32(b + HEADER_STRUCTS), .structs_bytes = big32(b + HEADER_STRUCTS_BYTES),
        .strings = big32(b + HEADER_STRINGS), .strings_bytes = big32(b + HEADER_STRINGS_BYTES),
        .reserved = big32(b + HEADER_RESERVED),
    };
    if (!block_fits(total, fdt->structs, fdt->structs_bytes) || !block_fits(total, fdt->strings, fdt->strings_bytes) ||
        !block_fits(total, fdt->reserved, 16) || !IS_ALIGNED(fdt->structs, 4u))
        return false;
    fdt->bytes = MAX(fdt->structs + fdt->structs_bytes, fdt->strings + fdt->strings_bytes);
    fdt->bytes = MAX(fdt->bytes, fdt->reserved + 16);
    /* What lies behind the last end of a string is none: from here on every string in the block has its end there. */
    while (fdt->strings_bytes > 0 && b[fdt->strings + fdt->strings_bytes - 1] != '\0')
        fdt->strings_bytes--;
    return true;
}

bool fdt_reservation(const struct fdt *fdt, unsigned n, uint64_t *start, uint64_t *bytes)
{
    const uint8_t *entry;
    if (n >= RESERVATIONS_MAX || fdt->total - fdt->reserved < (n + 1) * 16)
        return false;
    entry = fdt->blob + fdt->reserved + n * 16;
    *start = big64(entry);
    *bytes = big64(entry + 8);
    return *start != 0 || *bytes != 0;
}

/* ---- tokens; `at` counts from the beginning of the blob ---- */

static uint32_t structs_left(const struct fdt *fdt, uint32_t at) { return fdt->structs + fdt->structs_bytes - at; }

/* The token at *at, which moves behind it; END at the end of the block. */
static uint32_t token(const struct fdt *fdt, uint32_t *at)
{
    uint32_t value;
    if (structs_left(fdt, *at) < 4)
        return END;
    value = big32(fdt->blob + *at);
    *at += 4;
    return value;
}

static bool skip_bytes(const struct fdt *fdt, uint32_t *at, uint32_t bytes)
{
    uint32_t left = structs_left(fdt, *at);
    if (bytes > left || ALIGN_UP((uint64_t)bytes, 4) > left)
        return false;
    *at += ALIGN_UP(bytes, 4u);
    return true;
}

/* A node's name at *at, which moves behind it, and its length; NULL when it has no end. */
static const char *node_name(const struct fdt *fdt, uint32_t *at, size_t *length)
{
    const char *name = (const char *)fdt->blob + *at;
    *length = strnlen(name, structs_left(fdt, *at));
    return *length < structs_left(fdt, *at) && skip_bytes(fdt, at, (uint32_t)*length + 1) ? name : NULL;
}

struct property { const char *name; const uint8_t *value; uint32_t bytes; };

/* The property whose token was just read; false when it is broken. */
static bool property_at(const struct fdt *fdt, uint32_t *at, struct property *p)
{
    uint32_t name;
    if (structs_left(fdt, *at) < 8)
        return false;
    p->bytes = big32(fdt->blob + *at);
    name = big32(fdt->blob + *at + 4);
    *at += 8;
    p->value = fdt->blob + *at;
    if (name >= fdt->strings_bytes || !skip_bytes(fdt, at, p->bytes))
        return false;
    p->name = (const char *)fdt->blob + fdt->strings + name;
    return true;
}

/* The next of a node's properties; false after the last, and at one that is broken. */
static bool next_property(const struct fdt *fdt, uint32_t *at, struct property *p)
{
    uint32_t kind;
    do
        kind = token(fdt, at);
    while (kind == NOP);
    return kind == PROP && property_at(fdt, at, p);
}

/* Most names differ in their first letter. */
static bool is_named(const struct property *p, const char *name)
{
    return p->name[0] == name[0] && strcmp(p->name, name) == 0;
}

static const uint8_t *find(const struct fdt *fdt, uint32_t at, const char *name, uint32_t *bytes)
{
    struct property p;
    *bytes = 0;
    while (next_property(fdt, &at, &p)) {
        if (is_named(&p, name)) {
            *bytes = p.bytes;
            return p.value;
        }
    }
    return NULL;
}

/* ---- the walk ---- */

void fdt_walk_begin(struct fdt_walk *w, const struct fdt *fdt)
{
    *w = (struct fdt_walk){.fdt = fdt, .at = fdt->structs};
}

static void number_of(uint32_t *cells, const struct property *p)
{
    if (p->bytes == 4)
        *cells = big32(p->value);
}

/* What nearly every visitor asks of a node, in one pass. The first property of a name counts. */
static void read_properties(struct fdt_walk *w, struct fdt_node *node)
{
    struct property p;
    bool address = false, size = false;
    w->compatible = NULL;
    w->compatible_bytes = 0;
    for (uint32_t at = node->props; next_property(w->fdt, &at, &p);) {
        if (!address && is_named(&p, "#address-cells")) {
            number_of(&node->address_cells, &p);
            address = true;
        } else if (!size && is_named(&p, "#size-cells")) {
            number_of(&node->size_cells, &p);
            size = true;
        } else if (w->compatible == NULL && is_named(&p, "compatible")) {
            w->compatible = (const char *)p.value;
            w->compatible_bytes = p.bytes;
        }
    }
    w->compatible_first = w->compatible == NULL ? 0 : (uint32_t)strnlen(w->compatible, w->compatible_bytes);
}

/* Appends "/name" at end, cut where there is no more room; returns the new end. */
static size_t path_append(char *path, size_t end, const char *name, size_t length)
{
    size_t room = FDT_PATH_MAX - 1 - end;
    if (room > 0) {
        path[end++] = '/';
        length = MIN(length, room - 1);
        memcpy(path + end, name, length);
        end += length;
    }
    path[end] = '\0';
    return end;
}

static void enter(struct fdt_walk *w, const char *name, size_t length)
{
    size_t end;
    if (w->begun)
        w->depth++;
    end = w->depth == 0 ? 0 : w->path_ends[w->depth - 1];
    if (w->depth != 0)
        end = path_append(w->path, end, name, length);
    w->path_ends[w->depth] = end;
    w->stack[w->depth] = (struct fdt_node){
        .name = name, .props = w->at, .address_cells = ADDRESS_CELLS_DEFAULT, .size_cells = SIZE_CELLS_DEFAULT,
    };
    read_properties(w, &w->stack[w->depth]);
    w->begun = true;
}

static bool leave(struct fdt_walk *w)
{
    if (w->skipped > 0) {
        w->skipped--;
        return true;
    }
    if (!w->begun || w->depth == 0)
        return false;                    /* the root's end is the end */
    w->depth--;
    w->path[w->path_ends[w->depth]] = '\0';
    return true;
}

bool fdt_walk_next(struct fdt_walk *w)
{
    for (;;) {
        struct property p;
        const char *name;
        size_t length;
        switch (token(w->fdt, &w->at)) {
        case NOP:
            break;
        case PROP:
            if (!property_at(w->fdt, &w->at, &p))
                return false;
            break;
        case END_NODE:
            if (!leave(w))
                return false;
            break;
        case BEGIN_NODE:
            name = node_name(w->fdt, &w->at, &length);
            if (name == NULL)
                return false;
            if (w->skipped > 0 || w->depth + 1 == FDT_DEPTH_MAX) {
                w->skipped++;
                break;
            }
            enter(w, name, length);
            return true;
        default:
            return false;
        }
    }
}

/* ---- properties of the current node ---- */

const uint8_t *fdt_property(const struct fdt_walk *w, const char *name, uint32_t *bytes)
{
    return find(w->fdt, w->stack[w->depth].props, name, bytes);
}

const char *fdt_text(const struct fdt_walk *w, const char *name)
{
    uint32_t bytes;
    const char *value = (const char *)fdt_property(w, name, &bytes);
    return value != NULL && strnlen(value, bytes) < bytes ? value : NULL;
}

bool fdt_text_is(const struct fdt_walk *w, const char *name, const char *value)
{
    const char *text = fdt_text(w, name);
    return text != NULL && strcmp(text, value) == 0;
}

int fdt_text_index(const struct fdt_walk *w, const char *name, const char *value)
{
    uint32_t bytes;
    const char *list = (const char *)fdt_property(w, name, &bytes);
    for (int index = 0; list != NULL && bytes > 0; index++) {
        size_t length = strnlen(list, bytes);
        if (length == bytes)
            break;
        if (strcmp(list, value) == 0)
            return index;
        list += length + 1;
        bytes -= (uint32_t)length + 1;
    }
    return -1;
}

bool fdt_compatible(const struct fdt_walk *w, const char *what)
{
    const char *list = w->compatible;
    uint32_t bytes = w->compatible_bytes;
    size_t length = w->compatible_first;
    while (bytes > 0 && length < bytes) {
        if (list[0] == what[0] && strcmp(list, what) == 0)
            return true;
        list += length + 1;
        bytes -= (uint32_t)length + 1;
        length = strnlen(list, bytes);
    }
    return false;
}

bool fdt_enabled(const struct fdt_walk *w)
{
    const char *status = fdt_text(w, "status");
    return status == NULL || strcmp(status, "okay") == 0 || strcmp(status, "ok") == 0;
}

static bool number_of_cells(const uint8_t *p, uint32_t n, uint64_t *value)
{
    *value = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (*value >> 32 != 0)
            return false;                /* more than 64 bits: a PCI address, say */
        *value = *value << 32 | big32(p + 4 * i);
    }
    return true;
}

bool fdt_number(const struct fdt_walk *w, const char *name, uint64_t *value)
{
    uint32_t bytes;
    const uint8_t *p = fdt_property(w, name, &bytes);
    return p != NULL && (bytes == 4 || bytes == 8) && number_of_cells(p, bytes / 4, value);
}

/* One step towards the root: what the ranges of stack[depth] make of a child's address. An empty list changes nothing,
 * none at all means that the parent can't reach it. */
static bool translate(const struct fdt_walk *w, unsigned depth, uint64_t *address, uint64_t bytes)
{
    const struct fdt_node *bus = &w->stack[depth], *parent = &w->stack[depth - 1];
    uint32_t left, child = bus->address_cells, up = parent->address_cells, size = bus->size_cells, entry;
    const uint8_t *p = find(w->fdt, bus->props, "ranges", &left);
    if (p == NULL)
        return false;
    if (left == 0)
        return true;
    if (child > 3 || up > 3 || size > 2)
        return false;
    entry = 4 * (child + up + size);
    for (; entry != 0 && left >= entry; p += entry, left -= entry) {
        uint64_t from, to, length;
        if (!number_of_cells(p, child, &from) || !number_of_cells(p + 4 * child, up, &to) ||
            !number_of_cells(p + 4 * (child + up), size, &length))
            continue;
        if (*address >= from && *address - from < length && bytes <= length - (*address - from)) {
            *address = to + (*address - from);
            return true;
        }
    }
    return false;
}

bool fdt_reg(const struct fdt_walk *w, unsigned n, uint64_t *start, uint64_t *bytes)
{
    const struct fdt_node *parent;
    uint32_t have, address, size, entry;
    const uint8_t *p = fdt_property(w, "reg", &have);
    if (p == NULL || w->depth == 0)
        return false;
    parent = &w->stack[w->depth - 1];
    address = parent->address_cells;
    size = parent->size_cells;
    if (address == 0 || address > 3 || size > 2)
        return false;
    entry = 4 * (address + size);
    if (n >= have / entry)
        return false;
    p += n * entry;
    if (!number_of_cells(p, address, start) || !number_of_cells(p + 4 * address, size, bytes))
        return false;
    for (unsigned depth = w->depth - 1; depth > 0; depth--)
        if (!translate(w, depth, start, *bytes))
            return false;
    return true;
}

uint32_t fdt_gic_interrupt(const struct fdt_walk *w, unsigned n)
{
    enum { CELLS_BYTES = 12, SPI = 0, PPI = 1, SPI_FIRST = 32, PPI_FIRST = 16, SPIS = 988, PPIS = 16 };
    uint32_t bytes, type, number;
    const uint8_t *p = fdt_property(w, "interrupts", &bytes);
    if (p == NULL || n >= bytes / CELLS_BYTES)
        return 0;
    type = big32(p + n * CELLS_BYTES);
    number = big32(p + n * CELLS_BYTES + 4);
    if (type == SPI && number < SPIS)
        return number + SPI_FIRST;
    return type == PPI && number < PPIS ? number + PPI_FIRST : 0;
}
