/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The four entries of x86_64 and what they share.
 *
 *   boot_entry_pvh         32-bit, EBX = struct hvm_start_info            (qemu -kernel, Cloud Hypervisor, Firecracker)
 *   boot_entry_multiboot2  32-bit, EBX = Multiboot2 information           (GRUB, BIOS and EFI)
 *   boot_entry_linux64     64-bit, RSI = struct boot_params, at e_entry   (OpenVMM --kernel)
 *   boot_entry_efi         64-bit, see image_header.h                     (the UEFI loader, boot/efi/)
 *
 * start.S finds where the image lies, builds the boot tables in .bss, and calls boot_enter() on the boot stack at
 * virtual addresses. The boot tables map, all of it writable and executable until mm_init replaces them:
 *   identity and direct map   the first 4 GiB, and the two GiB from where the image starts when that is higher
 *   kernel virtual            the image at IMAGE_VIRT_BASE
 *
 * Depends on lib/ and boot_info.h alone, so that the lab's hypervisor links the same entries to its own kernel_main().
 */
#pragma once

#define BOOT_KIND_PVH        0
#define BOOT_KIND_LINUX64    1
#define BOOT_KIND_MULTIBOOT2 2
#define BOOT_KIND_EFI        3

#ifndef __ASSEMBLER__
#include "boot/loader/loader.h"

/* parameter: physical address of the loader's structure. counter: time stamp counter at the first instruction. */
NORETURN void boot_enter(unsigned kind, uint64_t parameter, uint64_t image_phys, uint64_t counter);

void boot_from_pvh(struct boot_info *boot, uint64_t start_info);
void boot_from_linux64(struct boot_info *boot, uint64_t params);
void boot_from_multiboot2(struct boot_info *boot, uint64_t info);

/* Type numbers of the BIOS e820 call, which all three of the other loaders use. */
enum mm_region_type boot_e820_type(uint32_t type);
#endif
