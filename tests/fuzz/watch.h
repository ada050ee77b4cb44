/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What is set back only from the first time on that it was written: see watch.c. Between begin and close all of it is named.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>

#define RAM_LOOKED  (256ull << 20)             /* of a machine's memory */
#define VMAP_LOOKED (1u << 16)                 /* pages of the vmap region that a machine at rest may use */

void watch_begin(void);
void watch_variables(char *at, size_t bytes);
void watch_page(uint64_t page);                /* of the machine's memory */
void watch_close(void);
void watch_set_back(void);
size_t watch_bytes(void);
void watch_check(void);                        /* all of it is as it was, or the process ends */

/* Shared with snapshot.c, built without sanitizers too. */
void *snapshot_fresh(size_t bytes);
void snapshot_copy(char *to, const char *from, size_t bytes);
void snapshot_remember(char *at, size_t bytes);    /* is set back every time */
