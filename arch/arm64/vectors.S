/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The vector tables, one for EL1 and one for EL2 with the host extensions: they differ only in the register that holds
 * x0 for a moment, and in the name of the level's own translation. Each entry brings the stack to the same shape
 * (struct arm64_frame) and calls C.
 *
 * A stack overflow runs into the guard page, where no frame can be pushed. So a synchronous exception first asks the
 * MMU whether both ends of its frame can be written (AT), and takes the emergency stack when not; an interrupt that
 * finds no room faults, and comes to the same question.
 */
#include "arch/arm64/arm64.h"

#define FRAME_BYTES  (38 * 8)
#define FRAME_SP     (31 * 8)
#define FRAME_ELR    (32 * 8)
#define FRAME_ESR    (34 * 8)
#define FRAME_RECORD (36 * 8)

    /* x0 and x1 saved, SP below the frame: the rest. */
    .macro save_rest
    stp x2, x3, [sp, #16]
    stp x4, x5, [sp, #32]
    stp x6, x7, [sp, #48]
    stp x8, x9, [sp, #64]
    stp x10, x11, [sp, #80]
    stp x12, x13, [sp, #96]
    stp x14, x15, [sp, #112]
    stp x16, x17, [sp, #128]
    stp x18, x19, [sp, #144]
    stp x20, x21, [sp, #160]
    stp x22, x23, [sp, #176]
    stp x24, x25, [sp, #192]
    stp x26, x27, [sp, #208]
    stp x28, x29, [sp, #224]
    mrs x2, elr_el1
    mrs x3, spsr_el1
    stp x2, x3, [sp, #FRAME_ELR]
    mrs x4, esr_el1
    mrs x5, far_el1
    stp x4, x5, [sp, #FRAME_ESR]
    stp x29, x2, [sp, #FRAME_RECORD]
    add x29, sp, #FRAME_RECORD
    .endm

    /* A synchronous exception of the kernel itself. */
    .macro synchronous scratch, translate
    msr \scratch, x0
    sub x0, sp, #FRAME_BYTES
    tst x0, #15                         /* a stack pointer that is not aligned can't be used at all */
    b.ne 1f
    at \translate, x0
    isb
    mrs x0, par_el1
    tbnz x0, #0, 1f                     /* PAR_EL1.F */
    sub x0, sp, #8                      /* a large frame may have passed the guard page, but for its last bytes */
    at \translate, x0
    isb
    mrs x0, par_el1
    tbnz x0, #0, 1f
    sub sp, sp, #FRAME_BYTES
    mrs x0, \scratch
    stp x0, x1, [sp]
    add x1, sp, #FRAME_BYTES
    b save_and_call
1:  b 2f
    .endm

    /* Without room: onto the emergency stack. */
    .macro emergency scratch
2:  adrp x0, emergency_stack_end - FRAME_BYTES
    add x0, x0, :lo12:emergency_stack_end - FRAME_BYTES
    str x1, [x0, #8]
    mov x1, sp
    mov sp, x0
    mrs x0, \scratch
    str x0, [sp]
    b save_and_call
    .endm

    .macro interrupt
    sub sp, sp, #FRAME_BYTES
    stp x0, x1, [sp]
    add x1, sp, #FRAME_BYTES
    b save_and_interrupt
    .endm

    /* Nothing that comes here can be gone on from. */
    .macro hopeless number
    sub sp, sp, #FRAME_BYTES
    stp x0, x1, [sp]
    add x1, sp, #FRAME_BYTES
    stp x30, x1, [sp, #30 * 8]
    save_rest
    mov x0, sp
    mov x1, #\number
    b arm64_exception
    .endm

    .macro vector_table name, scratch, translate
    .balign 2048
    .globl \name
    .type \name, @function
\name:
    .set number, 0
    .rept 16
    .balign 128
    .if number == ARM64_VECTOR_SPX + ARM64_VECTOR_SYNC
    synchronous \scratch, \translate
    .elseif number == ARM64_VECTOR_SPX + ARM64_VECTOR_IRQ
    interrupt
    .else
    hopeless number
    .endif
    .set number, number + 1
    .endr
    emergency \scratch
    .size \name, . - \name
    .endm

    .section .text.vectors, "ax"
    vector_table arm64_vectors_el1, tpidr_el1, s1e1w
    vector_table arm64_vectors_el2, tpidr_el2, s1e2w

    .type save_and_call, @function
save_and_call:
    stp x30, x1, [sp, #30 * 8]
    save_rest
    mov x0, sp
    mov x1, #ARM64_VECTOR_SPX + ARM64_VECTOR_SYNC
    bl arm64_exception
    b restore
    .size save_and_call, . - save_and_call

    .type save_and_interrupt, @function
save_and_interrupt:
    stp x30, x1, [sp, #30 * 8]
    save_rest
    mov x0, sp
    bl arm64_irq
restore:
    ldp x2, x3, [sp, #FRAME_ELR]
    msr elr_el1, x2
    msr spsr_el1, x3
    ldp x0, x1, [sp]
    ldp x2, x3, [sp, #16]
    ldp x4, x5, [sp, #32]
    ldp x6, x7, [sp, #48]
    ldp x8, x9, [sp, #64]
    ldp x10, x11, [sp, #80]
    ldp x12, x13, [sp, #96]
    ldp x14, x15, [sp, #112]
    ldp x16, x17, [sp, #128]
    ldp x18, x19, [sp, #144]
    ldp x20, x21, [sp, #160]
    ldp x22, x23, [sp, #176]
    ldp x24, x25, [sp, #192]
    ldp x26, x27, [sp, #208]
    ldp x28, x29, [sp, #224]
    ldr x30, [sp, #30 * 8]
    add sp, sp, #FRAME_BYTES
    eret
    .size save_and_interrupt, . - save_and_interrupt

    .section .note.GNU-stack, "", @progbits
