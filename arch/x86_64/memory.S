/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * memcpy, memmove, memset. Without vector registers the string instructions are the fastest way to move whole words;
 * below SMALL bytes their start-up costs more than a plain loop.
 */
#define SMALL 64

    .macro function name
    .section .text.\name, "ax"
    .balign 16
    .globl \name
    .type \name, @function
\name:
    .endm

    /* void *memcpy(void *to, const void *from, size_t n) */
    function memcpy
    movq %rdi, %rax
copy_forward:
    movq %rdx, %rcx
    cmpq $SMALL, %rdx
    jb 1f
    shrq $3, %rcx
    rep movsq
    movl %edx, %ecx
    andl $7, %ecx
    jz 4f
1:  cmpl $8, %ecx
    jb 3f
2:  movq (%rsi), %r8
    movq %r8, (%rdi)
    addq $8, %rsi
    addq $8, %rdi
    subl $8, %ecx
    cmpl $8, %ecx
    jae 2b
3:  testl $4, %ecx
    jz 5f
    movl (%rsi), %r8d
    movl %r8d, (%rdi)
    addq $4, %rsi
    addq $4, %rdi
5:  testl $2, %ecx
    jz 6f
    movzwl (%rsi), %r8d
    movw %r8w, (%rdi)
    addq $2, %rsi
    addq $2, %rdi
6:  testl $1, %ecx
    jz 4f
    movzbl (%rsi), %r8d
    movb %r8b, (%rdi)
4:  ret
    .size memcpy, . - memcpy

    /* void *memmove(void *to, const void *from, size_t n): backward when the target starts inside the source. */
    function memmove
    movq %rdi, %rax
    movq %rdi, %rcx
    subq %rsi, %rcx
    cmpq %rdx, %rcx
    jae copy_forward
    leaq (%rdi, %rdx), %rdi
    leaq (%rsi, %rdx), %rsi
    movq %rdx, %rcx
1:  cmpq $8, %rcx
    jb 2f
    subq $8, %rsi
    subq $8, %rdi
    movq (%rsi), %r8
    movq %r8, (%rdi)
    subq $8, %rcx
    jmp 1b
2:  testl %ecx, %ecx
    jz 3f
    decq %rsi
    decq %rdi
    movzbl (%rsi), %r8d
    movb %r8b, (%rdi)
    decl %ecx
    jmp 2b
3:  ret
    .size memmove, . - memmove

    /* void *memset(void *p, int c, size_t n) */
    function memset
    movq %rdi, %r9
    movzbl %sil, %eax
    movabsq $0x0101010101010101, %rcx
    imulq %rcx, %rax
    movq %rdx, %rcx
    cmpq $SMALL, %rdx
    jb 1f
    shrq $3, %rcx
    rep stosq
    movl %edx, %ecx
    andl $7, %ecx
1:  cmpl $8, %ecx
    jb 2f
    movq %rax, (%rdi)
    addq $8, %rdi
    subl $8, %ecx
    jmp 1b
2:  testl %ecx, %ecx
    jz 3f
    movb %al, (%rdi)
    incq %rdi
    decl %ecx
    jmp 2b
3:  movq %r9, %rax
    ret
    .size memset, . - memset

    .section .note.GNU-stack, "", @progbits
