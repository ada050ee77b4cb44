/* SPDX-License-Identifier: BSD-2-Clause */
/* What LAB.EFI hands over on x86_64, see tests/lab/handoff.h. */
#pragma once
#include "tests/lab/handoff.h"

/* The lab's PCI devices: those of bus 0 with these numbers. The machine's own are below and above. */
#define LAB_PCI_FIRST 0x10
#define LAB_PCI_LAST  0x1A

struct lab_table_register { uint16_t limit; uint16_t pad[3]; uint64_t base; };

struct lab_captured {                               /* capture.S knows the offsets */
    uint64_t rip, rsp, rflags;                      /* 0x00 */
    uint64_t rbx, rbp, r12, r13, r14, r15;          /* 0x18 */
    uint64_t cr0, cr3, cr4;                         /* 0x48 */
    struct lab_table_register gdtr, idtr;           /* 0x60, 0x70 */
    uint64_t es, cs, ss, ds, fs, gs, ldtr, tr;      /* 0x80 */
};

struct lab_handoff {
    struct lab_handoff_common common;
    struct lab_captured captured;
    uint64_t efer, fs_base, gs_base, kernel_gs_base, star, lstar, cstar, sfmask;
    uint64_t sysenter_cs, sysenter_esp, sysenter_eip, pat;
};
_Static_assert(offsetof(struct lab_handoff, captured) == LAB_CAPTURED && sizeof(struct lab_handoff) <= LAB_HANDOFF_BYTES,
               "capture.S, and the room there is");
