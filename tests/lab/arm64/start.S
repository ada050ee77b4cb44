/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Where a further processor begins: EL2, MMU off, X0 = physical address of struct ap_registers (smp.c), caches not
 * coherent with what is written there. It takes over the first processor's translation, by way of tables that map this
 * code at its physical address in the lower half, and goes on in C.
 */
#include "tests/lab/arm64/smp.h"
    .text
    .globl lab_ap_start
    .type lab_ap_start, @function
    .balign 512                     /* in one page: all of it is 512 bytes at most */
lab_ap_start:
    ldr x1, [x0, #AP_HCR]
    msr hcr_el2, x1
    isb
    ldr x1, [x0, #AP_MAIR]
    ldr x2, [x0, #AP_TCR]
    ldr x3, [x0, #AP_TTBR1]
    ldr x4, [x0, #AP_START_TABLES]
    ldr x5, [x0, #AP_SCTLR]
    ldr x6, [x0, #AP_VBAR]
    ldr x7, [x0, #AP_STACK]
    ldr x8, [x0, #AP_ENTRY]
    ldr x9, [x0, #AP_ARGUMENT]
    msr mair_el1, x1                /* with E2H these are EL2's */
    bic x1, x2, #(1 << 7)           /* EPD0: the lower half is walked, too, for now */
    msr tcr_el1, x1
    msr ttbr1_el1, x3
    msr ttbr0_el1, x4
    msr vbar_el1, x6
    isb
    tlbi vmalle1
    ic iallu
    dsb nsh
    isb
    msr sctlr_el1, x5
    isb
    mov sp, x7
    mov x0, x9
    mov x1, x2
    mov x29, xzr
    mov x30, xzr
    br x8
    .size lab_ap_start, . - lab_ap_start
    .if . - lab_ap_start > 512
    .error "lab_ap_start may cross a page"
    .endif
    .section .note.GNU-stack, "", @progbits
