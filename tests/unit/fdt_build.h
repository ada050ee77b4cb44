/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A device tree made by hand for tests: nodes and properties in order, then fdt_finish puts the blocks together in a
 * block of exactly its size, so that a read past its end is caught.
 */
#pragma once
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define FDT_BUILD_MAX 16384
static struct {
    uint8_t structs[FDT_BUILD_MAX], strings[FDT_BUILD_MAX];
    uint32_t structs_bytes, strings_bytes;
} fdt_new;
static struct { uint64_t start, bytes; } fdt_new_reserved[8];
static unsigned fdt_new_reservations;

static void put32(uint8_t *at, uint32_t v)
{
    at[0] = (uint8_t)(v >> 24), at[1] = (uint8_t)(v >> 16), at[2] = (uint8_t)(v >> 8), at[3] = (uint8_t)v;
}

static void fdt_token(uint32_t v)
{
    put32(fdt_new.structs + fdt_new.structs_bytes, v);
    fdt_new.structs_bytes += 4;
}

static void fdt_bytes(const void *p, uint32_t bytes)
{
    memcpy(fdt_new.structs + fdt_new.structs_bytes, p, bytes);
    fdt_new.structs_bytes += (bytes + 3) & ~3u;
}

static void fdt_start(void)
{
    memset(&fdt_new, 0, sizeof fdt_new);
    fdt_new_reservations = 0;
}

static void fdt_node(const char *name)
{
    fdt_token(1);
    fdt_bytes(name, (uint32_t)strlen(name) + 1);
}

static void fdt_end(void) { fdt_token(2); }

static void fdt_prop(const char *name, const void *value, uint32_t bytes)
{
    fdt_token(3);
    fdt_token(bytes);
    fdt_token(fdt_new.strings_bytes);
    fdt_bytes(value, bytes);
    memcpy(fdt_new.strings + fdt_new.strings_bytes, name, strlen(name) + 1);
    fdt_new.strings_bytes += (uint32_t)strlen(name) + 1;
}

static void fdt_prop_text(const char *name, const char *text) { fdt_prop(name, text, (uint32_t)strlen(text) + 1); }

/* A list of cells. */
#define fdt_prop_cells(name, ...)                                                               \
    do {                                                                                        \
        const uint32_t cells_[] = {__VA_ARGS__};                                                \
        uint8_t bytes_[sizeof cells_];                                                          \
        for (unsigned c_ = 0; c_ < sizeof cells_ / 4; c_++)                                     \
            put32(bytes_ + 4 * c_, cells_[c_]);                                                 \
        fdt_prop(name, bytes_, sizeof bytes_);                                                  \
    } while (0)

/* The blob, of *bytes; the caller frees it. */
static uint8_t *fdt_finish(uint32_t *bytes)
{
    uint32_t reserved = 40, structs = reserved + 16 * (fdt_new_reservations + 1), strings;
    uint8_t *blob;
    fdt_token(9);
    strings = structs + fdt_new.structs_bytes;
    *bytes = strings + fdt_new.strings_bytes;
    blob = calloc(1, *bytes);
    put32(blob, 0xD00DFEED);
    put32(blob + 4, *bytes);
    put32(blob + 8, structs);
    put32(blob + 12, strings);
    put32(blob + 16, reserved);
    put32(blob + 20, 17);
    put32(blob + 24, 16);
    put32(blob + 32, fdt_new.strings_bytes);
    put32(blob + 36, fdt_new.structs_bytes);
    for (unsigned i = 0; i < fdt_new_reservations; i++) {
        put32(blob + reserved + 16 * i, (uint32_t)(fdt_new_reserved[i].start >> 32));
        put32(blob + reserved + 16 * i + 4, (uint32_t)fdt_new_reserved[i].start);
        put32(blob + reserved + 16 * i + 8, (uint32_t)(fdt_new_reserved[i].bytes >> 32));
        put32(blob + reserved + 16 * i + 12, (uint32_t)fdt_new_reserved[i].bytes);
    }
    memcpy(blob + structs, fdt_new.structs, fdt_new.structs_bytes);
    memcpy(blob + strings, fdt_new.strings, fdt_new.strings_bytes);
    return blob;
}
