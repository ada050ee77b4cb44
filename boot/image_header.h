/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The contract between the flat kernel image and a loader that carries it in its pocket (the UEFI entry, boot/efi/).
 *
 * The flat image is what "objcopy -O binary" makes of the ELF file. This header lies at byte 0 (x86_64), or at byte 64
 * (arm64, behind the header of Linux's boot protocol). A loader
 *   1. takes memory_bytes of RAM, aligned to IMAGE_ALIGN_BYTES, anywhere in the first 64 TiB but not across a 512 GiB
 *      boundary; the memory must be writable and executable (firmware that enforces NX: EfiLoaderCode, and
 *      EFI_MEMORY_ATTRIBUTE_PROTOCOL where it exists);
 *   2. copies file_bytes there and zeroes the rest up to memory_bytes;
 *   3. fills the image's own struct boot_info (boot/boot_info.h) at boot_info_offset: everything except `loader`, which
 *      the entry sets. The image's own memory need not be in regions[]: the entry adds it as MM_KERNEL. Strings and
 *      addresses are physical; what regions[] calls MM_RAM is taken and overwritten from then on;
 *   4. leaves boot services and jumps to start + entry_offset with interrupts off; no parameters, no stack needed. It
 *      never returns. x86_64: in 64-bit mode, the image mapped at its physical address (identity). arm64: at EL1 or
 *      EL2, MMU and data cache off, the image (memory_bytes) clean to the point of coherency, instruction cache clean.
 */
#pragma once

#define IMAGE_MAGIC        0x4C444E43     /* "CNDL" */
#define IMAGE_VERSION      1
#define IMAGE_ALIGN_BYTES  0x200000

#ifndef __ASSEMBLER__
#include <stdint.h>

struct image_header {
    uint32_t magic;
    uint32_t version;
    uint64_t memory_bytes;       /* from byte 0 of the image to the end of .bss, a multiple of 4096 */
    uint64_t file_bytes;         /* bytes of the flat image */
    uint64_t entry_offset;       /* boot_entry_efi, from byte 0 */
    uint64_t boot_info_offset;   /* struct boot_info */
    uint64_t boot_info_bytes;    /* its size, to be compared with the loader's own idea of it */
};
_Static_assert(sizeof(struct image_header) == 48, "the loader and the image agree");
#endif
