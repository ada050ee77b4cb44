/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The contract between the flat kernel image and a loader that carries it in its pocket (the UEFI entry, boot/efi/).
 *
 * The flat image is what "objcopy -O binary" makes of the ELF file: byte 0 is this header. A loader
 *   1. takes memory_bytes of RAM, aligned to IMAGE_ALIGN_BYTES, anywhere in the first 64 TiB but not across a 512 GiB
 *      boundary; the memory must be writable and executable (firmware that enforces NX: EfiLoaderCode, and
 *      EFI_MEMORY_ATTRIBUTE_PROTOCOL where it exists);
 *   2. copies file_bytes there and zeroes the rest up to memory_bytes;
 *   3. fills the image's own struct boot_info (boot/boot_info.h) at boot_info_offset: everything except `loader`, which
 *      the entry sets. The image's own memory need not be in regions[]: the entry adds it as MM_KERNEL. Strings and
 *      addresses are physical; what regions[] calls MM_RAM is taken and overwritten from then on;
 *   4. leaves boot services and, with interrupts off, in 64-bit mode, the image mapped at its physical address
 *      (identity), jumps to start + entry_offset. No parameters, no stack needed. It never returns.
 * 4-level and 5-level paging, any GDT, any CR0/CR4 the firmware left are fine: the entry loads its own.
 *
 * The ELF file starts with the same header, at its load address (IMAGE_LOAD_PHYS), with the PVH note, the Multiboot2
 * header and e_entry (Linux 64-bit protocol) beside it.
 */
#pragma once

#define IMAGE_MAGIC        0x4C444E43     /* "CNDL" */
#define IMAGE_VERSION      1
#define IMAGE_ALIGN_BYTES  0x200000
#define IMAGE_LOAD_PHYS    0x200000       /* where ELF loaders put it */

#ifndef __ASSEMBLER__
#include <stdint.h>

struct image_header {
    uint32_t magic;
    uint32_t version;
    uint64_t memory_bytes;       /* from byte 0 to the end of .bss, a multiple of 4096 */
    uint64_t file_bytes;         /* bytes of the flat image */
    uint64_t entry_offset;       /* boot_entry_efi */
    uint64_t boot_info_offset;   /* struct boot_info */
    uint64_t boot_info_bytes;    /* its size, to be compared with the loader's own idea of it */
};
_Static_assert(sizeof(struct image_header) == 48, "the loader and the image agree");
#endif
