/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Byte 0 of the image on x86_64: the header of boot/image_header.h. 4-level and 5-level paging, any GDT, any CR0/CR4
 * the firmware left are fine: the entry loads its own.
 *
 * The ELF file starts with the same header, at its load address (IMAGE_LOAD_PHYS), with the PVH note, the Multiboot2
 * header and e_entry (Linux 64-bit protocol) beside it.
 */
#pragma once
#include "boot/image_header.h"

#define IMAGE_LOAD_PHYS    0x200000       /* where ELF loaders put it */
