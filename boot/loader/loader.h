/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the entries of all architectures share: reading what a loader left in memory, and writing struct boot_info.
 *
 * Runs before there is a console: what is odd goes into the note, which kernel_main logs. Depends on lib/ and
 * boot_info.h alone, so that the lab's hypervisor links it, too.
 */
#pragma once
#include "boot/boot_info.h"

/* The one instance; the UEFI loader fills it through image_header.boot_info_offset. */
extern struct boot_info boot_info;

/* ---- the architecture's (entry.c) ---- */
/* The loader's bytes at a physical address, or NULL when the boot tables do not reach all of them. */
const void *boot_phys(uint64_t address, uint64_t bytes);
/* The loader's NUL-terminated text there and its length; 0 when the boot tables do not reach it. */
size_t boot_text(const char **text, uint64_t address);
/* ---- loader.c ---- */
/* Appends. When there is no room left, RAM gives way to anything else and the note says so. */
void boot_add_region(struct boot_info *boot, uint64_t start, uint64_t bytes, enum mm_region_type type);
void boot_add_module(struct boot_info *boot, uint64_t start, uint64_t bytes, const char *name, size_t name_max);
/* Copies at most max bytes up to a NUL; a longer text is cut and the note says so. */
void boot_set_cmdline(struct boot_info *boot, const char *text, size_t max);
void boot_note(struct boot_info *boot, const char *fmt, ...) PRINTF_LIKE(2, 3);
