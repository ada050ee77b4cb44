/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * void fake_switch(uint64_t *save_sp, uint64_t load_sp)
 * Keeps what a C function must preserve, on the stack that is left. A new stack holds, from its sp upwards, fake_frame_words
 * words: zeros but for the context's address in the first preserved register and, as word fake_frame_return, the address
 * of fake_start, which runs as if called and as if nobody had. (The C library's swapcontext does the same with two system
 * calls, and the sanitizers warn of it.)
 */
    .text
    .globl fake_switch
fake_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .globl fake_start
fake_start:
    movq %r15, %rdi
    jmp fake_context_main

    .section .rodata
    .balign 4
    .globl fake_frame_words, fake_frame_return
fake_frame_words:
    .long 8
fake_frame_return:
    .long 6
    .section .note.GNU-stack, "", %progbits
