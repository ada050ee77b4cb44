/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The world switch.
 *
 * unsigned lab_enter(struct vcpu *v) runs the guest until its next exit and returns EXIT_*; general registers, PC,
 * PSTATE and the syndrome are in v (offsets in vcpu.h). Everything else of EL1 stays in the processor. While the guest
 * runs, VBAR_EL2 names the vectors below and HCR_EL2 is v's; the processor's cycle counter, which counts EL1 and EL0
 * alone, is read on both sides: under QEMU's -icount the difference is exactly the instructions of the guest, the one
 * that left it included.
 *
 * Stack of EL2 meanwhile: v, then what a C function may expect to be kept.
 */
#include "tests/lab/arm64/vcpu.h"

    .text
    .globl lab_enter
    .type lab_enter, @function
    .balign 16
lab_enter:
    stp x29, x30, [sp, #-112]!
    mov x29, sp
    stp x19, x20, [sp, #16]
    stp x21, x22, [sp, #32]
    stp x23, x24, [sp, #48]
    stp x25, x26, [sp, #64]
    stp x27, x28, [sp, #80]
    str x0, [sp, #96]
    adr x1, exit_vectors
    ldr x2, [x0, #VCPU_HCR]
    ldr x3, [x0, #VCPU_PC]
    ldr x4, [x0, #VCPU_PSTATE]
    msr vbar_el2, x1
    msr hcr_el2, x2
    msr elr_el2, x3
    msr spsr_el2, x4
    isb
    mrs x5, pmccntr_el0
    str x5, [x0, #VCPU_BEFORE]
    ldp x2, x3, [x0, #VCPU_X + 16]
    ldp x4, x5, [x0, #VCPU_X + 32]
    ldp x6, x7, [x0, #VCPU_X + 48]
    ldp x8, x9, [x0, #VCPU_X + 64]
    ldp x10, x11, [x0, #VCPU_X + 80]
    ldp x12, x13, [x0, #VCPU_X + 96]
    ldp x14, x15, [x0, #VCPU_X + 112]
    ldp x16, x17, [x0, #VCPU_X + 128]
    ldp x18, x19, [x0, #VCPU_X + 144]
    ldp x20, x21, [x0, #VCPU_X + 160]
    ldp x22, x23, [x0, #VCPU_X + 176]
    ldp x24, x25, [x0, #VCPU_X + 192]
    ldp x26, x27, [x0, #VCPU_X + 208]
    ldp x28, x29, [x0, #VCPU_X + 224]
    ldr x30, [x0, #VCPU_X + 240]
    ldp x0, x1, [x0, #VCPU_X]
    eret

/* x0 and x1 of the guest are on the stack, x1 is EXIT_*. */
    .balign 16
exit_common:
    ldr x0, [sp, #16 + 96]
    stp x2, x3, [x0, #VCPU_X + 16]
    stp x4, x5, [x0, #VCPU_X + 32]
    stp x6, x7, [x0, #VCPU_X + 48]
    stp x8, x9, [x0, #VCPU_X + 64]
    stp x10, x11, [x0, #VCPU_X + 80]
    stp x12, x13, [x0, #VCPU_X + 96]
    stp x14, x15, [x0, #VCPU_X + 112]
    stp x16, x17, [x0, #VCPU_X + 128]
    stp x18, x19, [x0, #VCPU_X + 144]
    stp x20, x21, [x0, #VCPU_X + 160]
    stp x22, x23, [x0, #VCPU_X + 176]
    stp x24, x25, [x0, #VCPU_X + 192]
    stp x26, x27, [x0, #VCPU_X + 208]
    stp x28, x29, [x0, #VCPU_X + 224]
    str x30, [x0, #VCPU_X + 240]
    mrs x2, pmccntr_el0
    ldp x3, x4, [sp], #16
    stp x3, x4, [x0, #VCPU_X]
    mrs x3, elr_el2
    mrs x4, spsr_el2
    mrs x5, esr_el2
    mrs x6, far_el2
    mrs x7, hpfar_el2
    str x3, [x0, #VCPU_PC]
    str x4, [x0, #VCPU_PSTATE]
    str x5, [x0, #VCPU_ESR]
    str x6, [x0, #VCPU_FAR]
    str x7, [x0, #VCPU_HPFAR]
    ldr x3, [x0, #VCPU_BEFORE]
    sub x2, x2, x3
    str x2, [x0, #VCPU_SPENT]
    adrp x3, lab_host_vbar
    ldr x3, [x3, #:lo12:lab_host_vbar]
    adrp x4, lab_host_hcr
    ldr x4, [x4, #:lo12:lab_host_hcr]
    msr vbar_el2, x3
    msr hcr_el2, x4
    isb
    mov x0, x1
    ldp x19, x20, [sp, #16]
    ldp x21, x22, [sp, #32]
    ldp x23, x24, [sp, #48]
    ldp x25, x26, [sp, #64]
    ldp x27, x28, [sp, #80]
    ldp x29, x30, [sp], #112
    ret
    .size lab_enter, . - lab_enter

/* An exception of the lab itself while these vectors are in force: it happens again with the kernel's, which report. */
    .macro own_exception
    .balign 0x80
    msr tpidr_el2, x0
    adrp x0, lab_host_vbar
    ldr x0, [x0, #:lo12:lab_host_vbar]
    msr vbar_el2, x0
    isb
    mrs x0, tpidr_el2
    eret
    .endm

    .macro guest_exit kind
    .balign 0x80
    stp x0, x1, [sp, #-16]!
    mov x1, #\kind
    b exit_common
    .endm

    .balign 0x800
exit_vectors:
    .rept 8
    own_exception
    .endr
    .rept 2                         /* AArch64, AArch32 */
    guest_exit EXIT_SYNC
    guest_exit EXIT_IRQ
    guest_exit EXIT_FIQ
    guest_exit EXIT_SERROR
    .endr

    .section .note.GNU-stack, "", @progbits
