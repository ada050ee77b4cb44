/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Switching between cooperative tasks: only the registers that a C function must preserve live across the call (x19 to
 * x29, and x30 to return by), so only those are kept, on the stack of the task that stops. x18 is an ordinary register
 * that calls may change, as nothing is compiled with it reserved; interrupt masks belong to the processor, not to
 * tasks.
 * task_context.c prepares a new task's stack in the same shape.
 */
    .section .text.arch_context_switch, "ax"
    .balign 16
    .globl arch_context_switch
    .type arch_context_switch, @function
    /* void arch_context_switch(struct arch_context *from, struct arch_context *to) */
arch_context_switch:
    stp x29, x30, [sp, #-96]!
    stp x19, x20, [sp, #16]
    stp x21, x22, [sp, #32]
    stp x23, x24, [sp, #48]
    stp x25, x26, [sp, #64]
    stp x27, x28, [sp, #80]
    mov x9, sp
    str x9, [x0]
    ldr x9, [x1]
    mov sp, x9
    ldp x19, x20, [sp, #16]
    ldp x21, x22, [sp, #32]
    ldp x23, x24, [sp, #48]
    ldp x25, x26, [sp, #64]
    ldp x27, x28, [sp, #80]
    ldp x29, x30, [sp], #96
    ret
    .size arch_context_switch, . - arch_context_switch

    /* A task's first instruction: entry in x19, its argument in x20; x29 and x30 are 0, which ends backtraces. */
    .globl arm64_context_start
    .type arm64_context_start, @function
arm64_context_start:
    mov x0, x20
    mov x30, xzr
    br x19
    .size arm64_context_start, . - arm64_context_start

    .section .note.GNU-stack, "", @progbits
