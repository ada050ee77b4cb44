/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The room boot/: how control arrives, whoever the loader was, and the story of bring-up.
 *
 * Each loader's entry (boot/x86_64, boot/efi) fills one struct boot_info; kernel_main() (boot/main.c) reads it and
 * nothing after the entry knows who loaded the image. It lives in the image's .bss; strings are copied into it, so that
 * the loader's memory may be reused as soon as kernel_main() runs.
 *
 * Promises of an entry: what it fills was checked against the loader's own lengths; what the loader said wrong is in
 * the note, since nothing can be printed yet; RAM may be left out, a reservation or the image itself never. It may
 * assume of the loader only what that loader's own specification says.
 *
 * This room alone knows the order in which the others come up, and may use all of them.
 */
#pragma once
#include "drivers/drivers.h"
#include "mm/mm.h"

#define BOOT_CMDLINE_BYTES 4096
#define BOOT_MAX_REGIONS   256
#define BOOT_MAX_MODULES   8

struct boot_module { paddr_t start; uint64_t bytes; char name[64]; };

struct boot_info {
    const char *loader;                    /* "PVH", "Linux boot protocol", "Multiboot2", "UEFI" */
    char cmdline[BOOT_CMDLINE_BYTES];      /* NUL-terminated; truncation is reported */
    struct mm_region regions[BOOT_MAX_REGIONS];
    unsigned region_count;
    paddr_t acpi_rsdp;                     /* PADDR_NONE: not told, search (x86_64 BIOS area) */
    paddr_t device_tree;
    struct arch_platform platform;         /* arm64: what the device tree says, for machines without ACPI */
    struct framebuffer framebuffer;
    struct boot_module modules[BOOT_MAX_MODULES];
    unsigned module_count;
    uint8_t random_seed[64];               /* from the firmware's RNG protocol */
    unsigned random_seed_bytes;
    uint64_t entry_counter;                /* cycle counter at the first instruction of ours that could read it */
    uint64_t efi_system_table;
    uint64_t firmware_unix_s;              /* the firmware's time of day at the start; 0: not told */
    char note[160];                        /* what the entry wants logged once the console works */
};

/* The story of bring-up; boot/main.c. Never returns. */
NORETURN void kernel_main(struct boot_info *boot);
