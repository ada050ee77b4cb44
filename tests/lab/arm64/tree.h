/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Writes a flattened device tree. Source: Devicetree Specification 0.4, chapter 5. Properties of a node come before its
 * children. A tree that outgrows its memory is a mistake of the lab's (KASSERT).
 */
#pragma once
#include "lib/lib.h"

#define TREE_STRING_BYTES 1024

struct tree {
    uint8_t *blob;
    size_t size, used;               /* bytes of the blob; used so far, the header included */
    char strings[TREE_STRING_BYTES]; /* names of properties, each once */
    size_t string_bytes;
};

void tree_start(struct tree *t, void *blob, size_t size);
void tree_begin(struct tree *t, const char *name);      /* "" for the root */
void tree_end(struct tree *t);
void tree_cells(struct tree *t, const char *name, const uint32_t *cells, size_t count);
void tree_cell(struct tree *t, const char *name, uint32_t cell);
/* As #address-cells and #size-cells of 2 want them: numbers of two cells. */
void tree_wide(struct tree *t, const char *name, const uint64_t *numbers, size_t count);
/* Several strings, each with its end: bytes counts all. */
void tree_bytes(struct tree *t, const char *name, const void *bytes, size_t count);
void tree_text(struct tree *t, const char *name, const char *text);
void tree_flag(struct tree *t, const char *name);
size_t tree_finish(struct tree *t, uint32_t boot_cpu);  /* bytes of the whole */
