/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * uint64_t lab_capture(struct lab_handoff_common *handoff)
 * Returns twice, like setjmp: 0 now, and 1 when the guest starts, which begins life by returning from this call.
 * Interrupts are off after the first return and as they were before the call after the second.
 */
#include "tests/lab/handoff.h"
    .section .text.capture, "ax"
    .globl lab_capture
lab_capture:
    add x0, x0, #LAB_CAPTURED
    mrs x1, daif
    msr daifset, #0xf
    mov x2, sp
    stp x30, x2, [x0, #0x00]
    str x1, [x0, #0x10]
    stp x19, x20, [x0, #0x18]
    stp x21, x22, [x0, #0x28]
    stp x23, x24, [x0, #0x38]
    stp x25, x26, [x0, #0x48]
    stp x27, x28, [x0, #0x58]
    stp x29, x30, [x0, #0x68]
    mrs x1, sctlr_el2
    mrs x2, tcr_el2
    stp x1, x2, [x0, #0x78]
    mrs x1, ttbr0_el2
    mrs x2, mair_el2
    stp x1, x2, [x0, #0x88]
    mrs x1, vbar_el2
    str x1, [x0, #0x98]
    dsb sy
    mov x0, #0
    ret

    .section .note.GNU-stack, "", %progbits
