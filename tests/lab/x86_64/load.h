/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Direct mode on x86_64: `qemu-system-x86_64 -kernel lab.elf -initrd guest -append "options -- guest words"`. The guest
 * sees the machine that OpenVMM's --kernel shows (no firmware, no PCI).
 */
#pragma once
#include "boot/boot_info.h"
#include "tests/lab/x86_64/vcpu.h"

/* Where OpenVMM puts things; the guest must not depend on more than the zero page and the RSDP scan. */
#define DIRECT_GDT        0x1000ull
#define DIRECT_ZERO_PAGE  0x2000ull
#define DIRECT_CMDLINE    0x3000ull
#define DIRECT_TABLES     0x4000ull     /* identity map of 4 GiB: 6 pages */
#define DIRECT_ACPI       0x19000ull
#define LAB_ACPI_BYTES    0x4000ull
#define DIRECT_RSDP       0xE0000ull
#define DIRECT_LOAD       0x100000ull

/* The power management block (exits.c) */
#define LAB_PORT_PM         0x400       /* PM1 status word, enable word */
#define LAB_PORT_PM_CONTROL 0x404
#define LAB_PORT_PM_TIMER   0x408
#define LAB_PORT_PM_RESET   0x433
#define LAB_PORT_PM_END     0x440
#define LAB_PORT_MARK       0x600       /* a byte written here makes the mark "port-BYTE" */

/* Tables at gpa (LAB_ACPI_BYTES there), RSDP at rsdp_gpa; returns the end of what was used. */
uint64_t acpi_build(uint64_t gpa, uint64_t rsdp_gpa, unsigned cpus);
