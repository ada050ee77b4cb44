/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What LAB.EFI hands over on arm64, see tests/lab/handoff.h.
 *
 * The firmware runs at EL2 without the host extensions when it is captured. As the guest it goes on at EL1: what it had
 * in EL2's registers it finds in EL1's, which it tells apart by CurrentEL.
 */
#pragma once
#include "tests/lab/handoff.h"

struct lab_captured {                               /* capture.S knows the offsets */
    uint64_t pc, sp, daif;                          /* 0x00 */
    uint64_t x19_x30[12];                           /* 0x18 */
    uint64_t sctlr, tcr, ttbr0, mair, vbar;         /* 0x78: of EL2 */
};

struct lab_handoff {
    struct lab_handoff_common common;
    struct lab_captured captured;
    uint64_t icc_pmr, icc_bpr1, icc_igrpen1;
    uint32_t gicd_ctlr, gicr_enabled, gicr_group, reserved;     /* distributor; lines 0 to 31 of the first processor */
    uint32_t gicr_priority[8];
    uint64_t ecam, ecam_bytes;
};
_Static_assert(offsetof(struct lab_captured, x19_x30) == 0x18 && offsetof(struct lab_captured, sctlr) == 0x78, "capture.S");
_Static_assert(offsetof(struct lab_handoff, captured) == LAB_CAPTURED && sizeof(struct lab_handoff) <= LAB_HANDOFF_BYTES,
               "capture.S, and the room there is");
