/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Byte 0 of the flat image on arm64: the header that loaders of Linux kernels read ("Image"), then our own
 * (boot/image_header.h) at byte 64. Source: Linux documentation, arch/arm64/booting.
 */
#pragma once
#include "boot/image_header.h"

#define LINUX_HEADER_BYTES       64
#define LINUX_HEADER_MAGIC       0x644D5241      /* "ARM\x64" */
#define LINUX_HEADER_LITTLE      0               /* flags bit 0: byte order of the kernel */
#define LINUX_HEADER_4K          (1u << 1)       /* bits 2:1: its page size */
#define LINUX_HEADER_ANYWHERE    (1u << 3)       /* may lie anywhere in RAM, not only near its start */

#ifndef __ASSEMBLER__
#include <stddef.h>

struct linux_header {
    uint64_t code;               /* two instructions: a branch, and one that is never reached */
    uint64_t text_offset;        /* from a multiple of 2 MiB */
    uint64_t image_size;         /* memory that the kernel takes from there on, .bss and boot tables included */
    uint64_t flags;
    uint64_t reserved[3];
    uint32_t magic;
    uint32_t pe_header;          /* 0: this file is no PE program; BOOT-<app>.EFI is */
};
_Static_assert(sizeof(struct linux_header) == LINUX_HEADER_BYTES, "Linux's booting protocol");
_Static_assert(offsetof(struct linux_header, magic) == 56, "Linux's booting protocol");

struct arm64_image_header { struct linux_header for_linux; struct image_header own; };
#endif
