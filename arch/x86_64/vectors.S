/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * 256 stubs of 16 bytes, one per vector: each brings the stack to the same shape (struct x86_frame) and joins
 * trap_common. The processor aligns the stack to 16 before it pushes, so that trap_common calls C aligned as the ABI
 * wants.
 */
    .section .text.vectors, "ax"

    .balign 16
    .globl x86_vector_stubs
x86_vector_stubs:
    .set vector, 0
    .rept 256
    .balign 16
    /* Vectors with an error code of the processor's: 8, 10-14, 17, 21, 29, 30. */
    .if !(vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21 || vector == 29 || vector == 30)
    pushq $0
    .endif
    pushq $vector
    jmp trap_common
    .set vector, vector + 1
    .endr

    .balign 16
    .type trap_common, @function
trap_common:
    pushq %rax
    pushq %rbx
    pushq %rcx
    pushq %rdx
    pushq %rsi
    pushq %rdi
    pushq %rbp
    pushq %r8
    pushq %r9
    pushq %r10
    pushq %r11
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    cld
    movq %rsp, %rdi
    pushq 17 * 8(%rsp)          /* RIP and RBP of what was interrupted, as a frame: backtraces go on through it */
    pushq %rbp
    movq %rsp, %rbp
    call x86_trap
    addq $16, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %r11
    popq %r10
    popq %r9
    popq %r8
    popq %rbp
    popq %rdi
    popq %rsi
    popq %rdx
    popq %rcx
    popq %rbx
    popq %rax
    addq $16, %rsp
    iretq
    .size trap_common, . - trap_common

    .section .note.GNU-stack, "", @progbits
