/* SPDX-License-Identifier: BSD-2-Clause */
/* Byte 0 of the image; the contracts are in image_header.h. The sizes and the branch are absolute symbols of
 * linker.ld. */
#include "boot/arm64/image_header.h"
#include "boot/arm64/entry.h"

extern const char image_memory_bytes[], image_file_bytes[], image_branch[], boot_entry_efi[];
extern const struct arm64_image_header image_header;

__attribute__((section(".boot.header"), used))
const struct arm64_image_header image_header = {
    .for_linux = {
        .code = (uint64_t)image_branch,
        .text_offset = 0,
        .image_size = (uint64_t)image_memory_bytes,
        .flags = LINUX_HEADER_LITTLE | LINUX_HEADER_4K | LINUX_HEADER_ANYWHERE,
        .magic = LINUX_HEADER_MAGIC,
    },
    .own = {
        .magic = IMAGE_MAGIC,
        .version = IMAGE_VERSION,
        .memory_bytes = (uint64_t)image_memory_bytes,
        .file_bytes = (uint64_t)image_file_bytes,
        .entry_offset = (uint64_t)boot_entry_efi - IMAGE_VIRT_BASE,
        .boot_info_offset = (uint64_t)&boot_info - IMAGE_VIRT_BASE,
        .boot_info_bytes = sizeof(struct boot_info),
    },
};
