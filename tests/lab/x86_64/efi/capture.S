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
    addq $LAB_CAPTURED, %rdi
    pushfq
    popq %rax
    cli
    movq %rax, 0x10(%rdi)
    movq (%rsp), %rax
    movq %rax, 0x00(%rdi)
    leaq 8(%rsp), %rax
    movq %rax, 0x08(%rdi)
    movq %rbx, 0x18(%rdi)
    movq %rbp, 0x20(%rdi)
    movq %r12, 0x28(%rdi)
    movq %r13, 0x30(%rdi)
    movq %r14, 0x38(%rdi)
    movq %r15, 0x40(%rdi)
    movq %cr0, %rax
    movq %rax, 0x48(%rdi)
    movq %cr3, %rax
    movq %rax, 0x50(%rdi)
    movq %cr4, %rax
    movq %rax, 0x58(%rdi)
    subq $16, %rsp
    sgdt 6(%rsp)
    movzwl 6(%rsp), %eax
    movq %rax, 0x60(%rdi)
    movq 8(%rsp), %rax
    movq %rax, 0x68(%rdi)
    sidt 6(%rsp)
    movzwl 6(%rsp), %eax
    movq %rax, 0x70(%rdi)
    movq 8(%rsp), %rax
    movq %rax, 0x78(%rdi)
    addq $16, %rsp
    movl %es, %eax
    movq %rax, 0x80(%rdi)
    movl %cs, %eax
    movq %rax, 0x88(%rdi)
    movl %ss, %eax
    movq %rax, 0x90(%rdi)
    movl %ds, %eax
    movq %rax, 0x98(%rdi)
    movl %fs, %eax
    movq %rax, 0xA0(%rdi)
    movl %gs, %eax
    movq %rax, 0xA8(%rdi)
    xorl %eax, %eax
    sldt %ax
    movq %rax, 0xB0(%rdi)
    xorl %eax, %eax
    str %ax
    movq %rax, 0xB8(%rdi)
    xorl %eax, %eax
    ret

    .section .note.GNU-stack, "", @progbits
