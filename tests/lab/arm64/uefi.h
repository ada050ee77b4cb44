/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Firmware mode: LAB.EFI (tests/lab/arm64/efi) puts the lab's image under the running firmware. This is what it hands
 * over: the state in which its own caller goes on as the guest, and what the lab must know about the machine.
 *
 * The firmware runs at EL2 without VHE when it is captured. As the guest it goes on at EL1: what it had in EL2's
 * registers it finds in EL1's, which it tells apart by CurrentEL.
 *
 * Built twice, into the EFI application and into the lab: plain numbers only. The lab finds it as the boot module of
 * this name.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>

#define LAB_HANDOFF_NAME   "lab-handoff"
#define LAB_HANDOFF_MAGIC  0x3241414C4C444E43ull   /* "CNDLLAA2" */
#define LAB_HANDOFF_RANGES 64

struct lab_handoff {
    /* capture.S knows the offsets of this part */
    uint64_t pc, sp, daif;                          /* 0x00 */
    uint64_t x19_x30[12];                           /* 0x18 */
    uint64_t sctlr, tcr, ttbr0, mair, vbar;         /* 0x78: of EL2 */
    /* filled in C */
    uint64_t magic;
    uint64_t icc_pmr, icc_bpr1, icc_igrpen1;
    uint64_t gicd_ctlr, gicr_enabled, gicr_group;   /* distributor; lines 0 to 31 of the first processor */
    uint8_t gicr_priority[32];
    uint64_t ecam, ecam_bytes;
    uint64_t block_start, block_bytes;              /* the lab's memory */
    uint32_t range_count, reserved;
    struct { uint64_t start, bytes; } ranges[LAB_HANDOFF_RANGES];   /* RAM that the guest has */
};
_Static_assert(offsetof(struct lab_handoff, x19_x30) == 0x18 && offsetof(struct lab_handoff, sctlr) == 0x78, "capture.S");
