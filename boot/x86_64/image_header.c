/* SPDX-License-Identifier: BSD-2-Clause */
/* Byte 0 of the image; the contract is in image_header.h. The sizes are absolute symbols of linker.ld. */
#include "boot/x86_64/entry.h"
#include "boot/x86_64/image_header.h"

extern const char image_memory_bytes[], image_file_bytes[], boot_entry_efi[];
extern const struct image_header image_header;

__attribute__((section(".boot.header"), used))
const struct image_header image_header = {
    .magic = IMAGE_MAGIC,
    .version = IMAGE_VERSION,
    .memory_bytes = (uint64_t)image_memory_bytes,
    .file_bytes = (uint64_t)image_file_bytes,
    .entry_offset = (uint64_t)boot_entry_efi - IMAGE_LOAD_PHYS,
    .boot_info_offset = (uint64_t)&boot_info - IMAGE_VIRT_BASE,
    .boot_info_bytes = sizeof(struct boot_info),
};
