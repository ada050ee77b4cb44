/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * void fake_switch(uint64_t *save_sp, uint64_t load_sp)
 * Keeps what a C function must preserve, on the stack that is left: x19 to x30, and the lower halves of v8 to v15. A new
 * stack holds, from its sp upwards, fake_frame_words words: zeros but for the context's address in x19 and, as word
 * fake_frame_return (x30), the address of fake_start, which runs as if called and as if nobody had.
 */
    .text
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

    .section .rodata
    .balign 4
    .globl fake_frame_words, fake_frame_return
fake_frame_words:
    .long 20
fake_frame_return:
    .long 11
    .section .note.GNU-stack, "", %progbits
