/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The two entries of arm64 and what they share.
 *
 *   boot_entry_linux   x0 = physical address of a device tree, as Linux's Image is entered (qemu -kernel, the lab,
 *                      OpenVMM); also e_entry of the ELF file, which QEMU enters with x0 = 0
 *   boot_entry_efi     the UEFI loader (boot/efi/), see boot/image_header.h
 *
 * Both come at EL1 or EL2 with MMU and data cache off. At EL2 with the virtualization host extensions the kernel stays
 * there, the extensions on; without them it goes down to EL1 and leaves a stub that answers every HVC with "not
 * supported". start.S finds where the image lies, builds the boot tables, and calls boot_enter() on the boot stack at
 * virtual addresses, .bss cleared (but for the UEFI entry, whose boot_info lies there). The boot tables map:
 *   identity         the 2 MiB with the header and start.S (or twice as much), as long as TTBR0 is on
 *   kernel virtual   the image at IMAGE_VIRT_BASE, writable and executable until mm_init replaces the tables: by
 *                    blocks when it lies at a multiple of 2 MiB, as loaders are asked to place it, else by pages
 *   direct map       what the loader left, piece by piece as it is asked for, then all RAM below BOOT_MAP_BYTES
 *
 * Depends on lib/, arch/arm64 and boot_info.h alone, so that the lab's hypervisor links the same entries.
 */
#pragma once

#define BOOT_KIND_LINUX 0
#define BOOT_KIND_EFI   1

#ifndef __ASSEMBLER__
#include "boot/loader/loader.h"

/* device_tree: 0 none was given. counter: CNTVCT at the first instruction. el: the level the loader left us at. */
NORETURN void boot_enter(unsigned kind, uint64_t device_tree, uint64_t image_phys, uint64_t counter, unsigned el);

/* ---- tables.c: the boot tables, once the MMU is on ---- */
/* Enters the 2 MiB blocks around the range in the direct map, as ordinary memory; what is there already stays. False:
 * beyond the direct map or the processor, or no table left. */
bool boot_map(uint64_t start, uint64_t bytes);
/* The page of registers appears in the block of EARLY_DEVICE_BASE, at the same offset in 2 MiB. False: the processor
 * has no such address. */
bool boot_map_early_device(uint64_t registers);

/* ---- fdt_boot.c: the device tree's part. False: it is none; the note says so. ---- */
bool boot_from_fdt(struct boot_info *boot, uint64_t device_tree);
/* The part that a loader with other tables leaves to the device tree: platform and console. */
void boot_platform_from_fdt(struct boot_info *boot, uint64_t device_tree);

/* ---- acpi_console.c: the console that ACPI names, if any ---- */
void boot_console_from_acpi(uint64_t rsdp);

/* ---- efi_tables.c: what Linux's EFI stub, or a loader that plays it, leaves behind ---- */
struct boot_efi_map { uint64_t start, bytes, descriptor_bytes; };      /* bytes 0: none */
void boot_efi_memory(struct boot_info *boot, const struct boot_efi_map *map);
/* ACPI's root pointer from the system table's list; PADDR_NONE when there is none. */
paddr_t boot_efi_acpi(uint64_t system_table);
#endif
