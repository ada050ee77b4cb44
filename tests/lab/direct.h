/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Direct mode: the lab is started by QEMU's -kernel with the guest's image by -initrd, and loads the guest itself, onto
 * a machine without firmware. What of it is the same on every architecture.
 */
#pragma once
#include "tests/lab/machine.h"

/* Guest memory from the machine's map. */
void direct_memory(const struct boot_info *boot);
/* What the guest has: low memory from machine_layout.ram on, and stretches above. */
uint64_t direct_low_bytes(void);
struct direct_range { uint64_t start, bytes; };
unsigned direct_high_ranges(const struct direct_range **ranges);
/* So much of what guest_mem= kept back, for hot add: its address here, 0 when there is less. Not while it holds the
 * guest's image, that is, after direct_load. */
uint64_t direct_kept_take(uint64_t bytes);

/* The guest's image; ends the lab when there is none. */
const struct boot_module *direct_module(const struct boot_info *boot);
/* A copy of its first bytes, at most PAGE_BYTES, zeroes behind them: to be freed. The original may be overwritten by
 * what is built in guest memory. */
uint8_t *direct_head(const struct boot_module *m);
/* Guest memory at that address, or the end of the lab with a line that names it. */
void *direct_must_have(uint64_t gpa, uint64_t bytes, const char *what);
/* bytes of the image from offset on to gpa, zeroes up to mem_bytes. Nothing of the image may be overwritten before it
 * is copied: the lab ends when that would happen. */
void direct_copy(const struct boot_module *m, uint64_t gpa, uint64_t offset, uint64_t bytes, uint64_t mem_bytes);
/* -fw_cfg name=opt/lab/initrd,file=...: to the end of low memory, straight from QEMU; 0: there is none. Not below
 * kernel_end. */
uint32_t direct_initrd(uint64_t kernel_end, uint64_t *gpa);
