/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * From one set of kernel tables to another. Both map the same addresses, perhaps in blocks of different sizes, and a
 * processor that finds both in its TLB may raise an abort (Arm ARM, D8.14.2): hence through an empty table, while
 * running from the identity map that boot left, which holds this section. Interrupts are off.
 */
#include "arch/arm64/arm64.h"

    .section .boot, "ax"
    .globl arm64_switch_root
    .type arm64_switch_root, @function
    /* void arm64_switch_root(uint64_t root) */
arm64_switch_root:
    /* Relative to where this runs, which is at virtual addresses yet. */
    adrp x2, boot_tables_start + ARM64_TABLE_ID_L0 * 4096
    adrp x3, image_header
    ldr x4, =image_phys_base
    ldr x4, [x4]
    sub x2, x2, x3
    add x2, x2, x4                          /* physical address of the identity tables */
    adr x5, in_identity
    sub x5, x5, x3
    add x5, x5, x4
    adr x6, 1f
    mrs x9, daif                            /* an SError would find no vectors meanwhile */
    msr daifset, #15
    mrs x7, tcr_el1
    msr ttbr0_el1, x2
    bic x8, x7, #TCR_EPD0
    msr tcr_el1, x8
    isb
    br x5
in_identity:
    adrp x2, boot_tables_start + ARM64_TABLE_EMPTY * 4096
    msr ttbr1_el1, x2
    isb
    tlbi vmalle1
    dsb nsh
    isb
    msr ttbr1_el1, x0
    isb
    br x6
1:  orr x7, x7, #TCR_EPD0                   /* the lower half is nobody's from now on */
    msr tcr_el1, x7
    isb
    tlbi vmalle1
    dsb nsh
    isb
    msr daif, x9
    ret
    .size arm64_switch_root, . - arm64_switch_root
    .ltorg

    .section .note.GNU-stack, "", @progbits
