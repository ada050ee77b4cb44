/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A flattened device tree, read in place: one pass over its nodes, properties looked up by name. Source: Devicetree
 * Specification 0.4, chapter 5 (format) and 2.3 (standard properties).
 *
 * The blob is a loader's and thus an operator's or a host's input: every offset and length is bounded by the blob, and
 * a walk over one that is broken ends. Nothing is allocated or written; the blob may lie at any address.
 */
#pragma once
#include "lib/lib.h"

#define FDT_DEPTH_MAX 16             /* nodes below this are passed over */
#define FDT_PATH_MAX  256

struct fdt {
    const uint8_t *blob;
    uint32_t total;                  /* bytes, as the header claims: all offsets lie within */
    uint32_t bytes;                  /* of them in use: the end of the last block */
    uint32_t structs, structs_bytes, strings, strings_bytes, reserved;
};

/* How many bytes the blob that begins here claims to have; 0: no blob. Looks at the first 8 bytes. */
uint32_t fdt_claimed_bytes(const void *blob);
/* Checks the header against the number of bytes there are. False: no device tree that can be read. */
bool fdt_open(struct fdt *fdt, const void *blob, uint64_t bytes);
/* The n-th entry of the memory reservation block; false: there is none. */
bool fdt_reservation(const struct fdt *fdt, unsigned n, uint64_t *start, uint64_t *bytes);

struct fdt_node {
    const char *name;                /* with unit address; "" for the root */
    uint32_t props;                  /* offset of its properties in the blob */
    uint32_t address_cells, size_cells;      /* for its children's reg */
};
/* A walk through all nodes, parents first: for (fdt_walk_begin(&w, &fdt); fdt_walk_next(&w);) ... */
struct fdt_walk {
    const struct fdt *fdt;
    uint32_t at;
    unsigned depth;                  /* of the current node: stack[depth] */
    unsigned skipped;                /* levels below FDT_DEPTH_MAX */
    struct fdt_node stack[FDT_DEPTH_MAX];
    char path[FDT_PATH_MAX];         /* "/soc/serial@9000000"; what does not fit is cut */
    size_t path_ends[FDT_DEPTH_MAX]; /* length of the path at each level */
    bool begun;
    const char *compatible;          /* the current node's; compatible_first: bytes of its first string */
    uint32_t compatible_bytes, compatible_first;
};
void fdt_walk_begin(struct fdt_walk *w, const struct fdt *fdt);
bool fdt_walk_next(struct fdt_walk *w);

/* ---- of the current node ---- */
/* The property's value, or NULL; *bytes may be 0 then as well as for an empty one. */
const uint8_t *fdt_property(const struct fdt_walk *w, const char *name, uint32_t *bytes);
/* A text property with its end checked, or NULL. */
const char *fdt_text(const struct fdt_walk *w, const char *name);
bool fdt_text_is(const struct fdt_walk *w, const char *name, const char *value);
/* Which string of a list of them this is: 0 and on, -1 none. */
int fdt_text_index(const struct fdt_walk *w, const char *name, const char *value);
/* Is this one of the strings of `compatible`? */
bool fdt_compatible(const struct fdt_walk *w, const char *what);
/* Not switched off by `status`. */
bool fdt_enabled(const struct fdt_walk *w);
/* A number of one or two cells. */
bool fdt_number(const struct fdt_walk *w, const char *name, uint64_t *value);
/* The n-th pair of reg, as the parents' ranges translate it to the root's addresses; false: none, or not translated. */
bool fdt_reg(const struct fdt_walk *w, unsigned n, uint64_t *start, uint64_t *bytes);
/* The n-th interrupt as a GIC's three cells (type, number, flags) say it: the INTID, or 0. */
uint32_t fdt_gic_interrupt(const struct fdt_walk *w, unsigned n);
