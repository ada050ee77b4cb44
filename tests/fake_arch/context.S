/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * void fake_switch(uint64_t *save_sp, uint64_t load_sp)
 * Keeps what a C function must preserve, on the stack that is left. A new stack holds, from its sp upwards, zeros for
 * these registers, the address of fake_start and a zero that ends backtraces; fake_start has the context's address in
 * its first preserved register and runs as if called. (The C library's swapcontext does the same with two system calls, and
 * the sanitizers warn of it.)
 */
    .text
#ifdef __x86_64__
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
#elif defined(__aarch64__)
    .globl fake_switch
fake_switch:
    sub sp, sp, #160
    stp x19, x20, [sp]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp x19, x20, [sp]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #160
    ret
    .globl fake_start
fake_start:
    mov x0, x19
    b fake_context_main
#else
#error "a context switch for this machine is missing"
#endif
    .section .note.GNU-stack, "", %progbits
