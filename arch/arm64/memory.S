/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * memcpy, memmove, memset, on ordinary memory: words at any address, no floating point registers. Up to 64 bytes all
 * loads come before the first store, so that ends may overlap; beyond, 64 bytes a round.
 */
    .macro function name
    .section .text.\name, "ax"
    .balign 16
    .globl \name
    .type \name, @function
\name:
    .endm

    /* void *memmove(void *to, const void *from, size_t n), and memcpy, which is allowed to be it.
     * x15 target, x1 source, x2 bytes; x4, x5 their ends; x0 stays. */
    .section .text.memmove, "ax"
    .balign 16
    .globl memmove
    .type memmove, @function
    .globl memcpy
    .type memcpy, @function
memmove:
memcpy:
    mov x15, x0
    cmp x2, #64
    b.hi copy_long
copy_short:
    add x4, x1, x2
    add x5, x15, x2
    cmp x2, #16
    b.hi 3f
    cmp x2, #8
    b.lo 1f
    ldr x6, [x1]
    ldr x7, [x4, #-8]
    str x6, [x15]
    str x7, [x5, #-8]
    ret
1:  tbz x2, #2, 2f
    ldr w6, [x1]
    ldr w7, [x4, #-4]
    str w6, [x15]
    str w7, [x5, #-4]
    ret
2:  cbz x2, 9f                          /* 1 to 3: first, middle, last */
    lsr x3, x2, #1
    ldrb w6, [x1]
    ldrb w7, [x1, x3]
    ldrb w8, [x4, #-1]
    strb w6, [x15]
    strb w7, [x15, x3]
    strb w8, [x5, #-1]
9:  ret
3:  cmp x2, #32
    b.hi 4f
    ldp x6, x7, [x1]
    ldp x8, x9, [x4, #-16]
    stp x6, x7, [x15]
    stp x8, x9, [x5, #-16]
    ret
4:  ldp x6, x7, [x1]
    ldp x8, x9, [x1, #16]
    ldp x10, x11, [x4, #-32]
    ldp x12, x13, [x4, #-16]
    stp x6, x7, [x15]
    stp x8, x9, [x15, #16]
    stp x10, x11, [x5, #-32]
    stp x12, x13, [x5, #-16]
    ret

copy_long:
    sub x3, x0, x1
    cmp x3, x2
    b.lo copy_backward                  /* the target starts inside the source */
5:  ldp x6, x7, [x1]
    ldp x8, x9, [x1, #16]
    ldp x10, x11, [x1, #32]
    ldp x12, x13, [x1, #48]
    add x1, x1, #64
    sub x2, x2, #64
    stp x6, x7, [x15]
    stp x8, x9, [x15, #16]
    stp x10, x11, [x15, #32]
    stp x12, x13, [x15, #48]
    add x15, x15, #64
    cmp x2, #64
    b.hs 5b
    b copy_short

copy_backward:
    add x4, x1, x2
    add x5, x15, x2
6:  ldp x6, x7, [x4, #-16]
    ldp x8, x9, [x4, #-32]
    ldp x10, x11, [x4, #-48]
    ldp x12, x13, [x4, #-64]!
    sub x2, x2, #64
    stp x6, x7, [x5, #-16]
    stp x8, x9, [x5, #-32]
    stp x10, x11, [x5, #-48]
    stp x12, x13, [x5, #-64]!
    cmp x2, #64
    b.hs 6b
    b copy_short
    .size memmove, . - memmove
    .size memcpy, . - memcpy

    /* void *memset(void *p, int c, size_t n). x3 where we are, x4 the end; x0 stays. */
    function memset
    and w1, w1, #0xFF
    mov x6, #0x0101010101010101
    mul x1, x1, x6
    add x4, x0, x2
    cmp x2, #16
    b.hi 3f
    cmp x2, #8
    b.lo 1f
    str x1, [x0]
    str x1, [x4, #-8]
    ret
1:  tbz x2, #2, 2f
    str w1, [x0]
    str w1, [x4, #-4]
    ret
2:  cbz x2, 9f
    strb w1, [x0]
    strb w1, [x4, #-1]
    lsr x3, x2, #1
    strb w1, [x0, x3]
9:  ret
3:  stp x1, x1, [x0]
    cmp x2, #64
    b.hi 4f
    stp x1, x1, [x4, #-16]
    cmp x2, #32
    b.ls 9b
    stp x1, x1, [x0, #16]
    stp x1, x1, [x4, #-32]
    ret
4:  add x3, x0, #16
    bic x3, x3, #15
    cbnz x1, 7f
    cmp x2, #256
    b.lo 7f
    mrs x5, dczid_el0                   /* zeroes of a whole cache block, where that is allowed */
    tbnz x5, #4, 7f
    and x5, x5, #15
    mov x6, #4
    lsl x6, x6, x5
    cmp x2, x6, lsl #1
    b.lo 7f
    sub x7, x6, #1
5:  tst x3, x7
    b.eq 6f
    stp xzr, xzr, [x3], #16
    b 5b
6:  sub x8, x4, x6, lsl #2              /* four at a time, then one */
    sub x9, x4, x6
    b 12f
11: dc zva, x3
    add x3, x3, x6
    dc zva, x3
    add x3, x3, x6
    dc zva, x3
    add x3, x3, x6
    dc zva, x3
    add x3, x3, x6
12: cmp x3, x8
    b.ls 11b
13: cmp x3, x9
    b.hi 7f
    dc zva, x3
    add x3, x3, x6
    b 13b
7:  sub x8, x4, #64
8:  cmp x3, x8
    b.hi 10f
    stp x1, x1, [x3]
    stp x1, x1, [x3, #16]
    stp x1, x1, [x3, #32]
    stp x1, x1, [x3, #48]
    add x3, x3, #64
    b 8b
10: stp x1, x1, [x4, #-64]              /* the rest, and what is in front of it again */
    stp x1, x1, [x4, #-48]
    stp x1, x1, [x4, #-32]
    stp x1, x1, [x4, #-16]
    ret
    .size memset, . - memset

    .section .note.GNU-stack, "", @progbits
