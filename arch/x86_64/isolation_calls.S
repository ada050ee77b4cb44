/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The instructions of machines isolated by the processor, for isolation.c: VMGEXIT and PVALIDATE (AMD64 APM volume 3),
 * TDCALL (Intel TDX module specification). As bytes, since assemblers of the distributions do not know them all. Each
 * returns 0 in EAX when the processor raised an exception instead.
 */
    .macro function name
    .section .text.\name, "ax"
    .balign 16
    .globl \name
    .type \name, @function
\name:
    .endm
    .macro may_fault at, resume
    .pushsection .fixup, "a"
    .balign 8
    .quad \at, \resume
    .popsection
    .endm

    /* bool x86_vmgexit(void): rep vmmcall */
    function x86_vmgexit
    xorl %eax, %eax
1:  .byte 0xf3, 0x0f, 0x01, 0xd9
    movl $1, %eax
2:  ret
    may_fault 1b, 2b
    .size x86_vmgexit, . - x86_vmgexit

    /* bool x86_pvalidate(const void *page, bool valid, uint32_t *result, bool *unchanged): RAX address, ECX 0: 4 KiB,
     * EDX valid; back: EAX, and the carry flag when nothing changed. */
    function x86_pvalidate
    movq %rdx, %r8
    movq %rcx, %r9
    movq %rdi, %rax
    xorl %ecx, %ecx
    movzbl %sil, %edx
1:  .byte 0xf2, 0x0f, 0x01, 0xff
    setc (%r9)
    movl %eax, (%r8)
    movl $1, %eax
    ret
2:  xorl %eax, %eax
    ret
    may_fault 1b, 2b
    .size x86_pvalidate, . - x86_pvalidate

    /* bool x86_tdcall(struct tdx_registers *r) */
    function x86_tdcall
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq 0(%rdi), %rax
    movq 8(%rdi), %rcx
    movq 16(%rdi), %rdx
    movq 24(%rdi), %r8
    movq 32(%rdi), %r9
    movq 40(%rdi), %r10
    movq 48(%rdi), %r11
    movq 56(%rdi), %r12
    movq 64(%rdi), %r13
    movq 72(%rdi), %r14
    movq 80(%rdi), %r15
1:  .byte 0x66, 0x0f, 0x01, 0xcc
    movq %rax, 0(%rdi)
    movq %rcx, 8(%rdi)
    movq %rdx, 16(%rdi)
    movq %r8, 24(%rdi)
    movq %r9, 32(%rdi)
    movq %r10, 40(%rdi)
    movq %r11, 48(%rdi)
    movq %r12, 56(%rdi)
    movq %r13, 64(%rdi)
    movq %r14, 72(%rdi)
    movq %r15, 80(%rdi)
    movl $1, %eax
    jmp 3f
2:  xorl %eax, %eax
3:  popq %r15
    popq %r14
    popq %r13
    popq %r12
    ret
    may_fault 1b, 2b
    .size x86_tdcall, . - x86_tdcall

    .section .note.GNU-stack, "", @progbits
