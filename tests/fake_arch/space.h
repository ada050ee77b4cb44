/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The address space that the fake machine's memory is seen in: windows on the memory file, and a region into which
 * pieces of the file are mapped at will. What is closed is a fault. Every address and length is a multiple of a page.
 */
#pragma once
#include <stdint.h>

void space_file(int memory_file);                /* what is mapped from now on is of this file */
void space_reset(void);                          /* everything is closed */
/* A window shows the file from its beginning on; closed until space_protect opens pieces of it. */
void space_window(uint64_t window, uint64_t bytes);
void space_protect(uint64_t window, uint64_t offset, uint64_t bytes, int prot);
/* The region: what is mapped where is the caller's to know. */
void space_region(uint64_t base, uint64_t bytes);
void space_map(uint64_t at, uint64_t bytes, uint64_t offset, int prot);
void space_close(uint64_t at, uint64_t bytes);
/* Set: told of every change of a mapping or its protection; offset is the place in the memory file. */
extern void (*fake_space_changed)(uint64_t at, uint64_t bytes, uint64_t offset, int prot);
