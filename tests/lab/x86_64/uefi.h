/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Firmware mode: LAB.EFI (tests/lab/x86_64/efi) puts the lab's image under the running firmware. This is what it hands
 * over: the state in which its own caller goes on as the guest, and what the lab must know about the machine.
 *
 * Built twice, into the EFI application and into the lab: plain numbers only. The lab finds it as the boot module of
 * this name.
 */
#pragma once
#include <stdint.h>

#define LAB_HANDOFF_NAME   "lab-handoff"
#define LAB_HANDOFF_MAGIC  0x3142414C4C444E43ull   /* "CNDLLAB1" */
#define LAB_HANDOFF_RANGES 64

/* The lab's PCI devices: those of bus 0 with these numbers. The machine's own are below and above. */
#define LAB_PCI_FIRST 0x10
#define LAB_PCI_LAST  0x1A

struct lab_table_register { uint16_t limit; uint16_t pad[3]; uint64_t base; };

struct lab_handoff {
    /* capture.S knows the offsets of this part */
    uint64_t rip, rsp, rflags;                      /* 0x00 */
    uint64_t rbx, rbp, r12, r13, r14, r15;          /* 0x18 */
    uint64_t cr0, cr3, cr4;                         /* 0x48 */
    struct lab_table_register gdtr, idtr;           /* 0x60, 0x70 */
    uint64_t es, cs, ss, ds, fs, gs, ldtr, tr;      /* 0x80 */
    /* filled in C */
    uint64_t magic;
    uint64_t efer, fs_base, gs_base, kernel_gs_base, star, lstar, cstar, sfmask;
    uint64_t sysenter_cs, sysenter_esp, sysenter_eip, pat;
    uint64_t block_start, block_bytes;              /* the lab's memory */
    uint32_t range_count, reserved;
    struct { uint64_t start, bytes; } ranges[LAB_HANDOFF_RANGES];   /* RAM that the guest has */
};
