/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Switching between cooperative tasks: only the registers that a C function must preserve live across the call, so only
 * those are kept, on the stack of the task that stops. task_context.c prepares a new task's stack in the same shape.
 */
    .section .text.arch_context_switch, "ax"
    .balign 16
    .globl arch_context_switch
    .type arch_context_switch, @function
    /* void arch_context_switch(struct arch_context *from, struct arch_context *to) */
arch_context_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq (%rsi), %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .size arch_context_switch, . - arch_context_switch

    /* A task's first instruction: entry in R12, its argument in R13; RBP is 0, which ends backtraces. RSP is as after a
     * call: at a return address, 0, behind which the stack is aligned to 16. */
    .globl x86_context_start
    .type x86_context_start, @function
x86_context_start:
    movq %r13, %rdi
    jmp *%r12
    .size x86_context_start, . - x86_context_start

    .section .note.GNU-stack, "", @progbits
