/* SPDX-License-Identifier: BSD-2-Clause */
/* What the UEFI entry can't say in C on arm64: the counter, and the way out of firmware's caches and MMU. */
    .section .text.handoff, "ax"

    .globl efi_cycle_counter
efi_cycle_counter:
    isb
    mrs x0, cntvct_el0
    ret

/* x0: first byte, x1: byte behind the last, x2: bytes of a cache line. Each line to memory, and out of the caches. */
clean_range:
    sub x3, x2, #1
    bic x0, x0, x3
1:  dc civac, x0
    add x0, x0, x2
    cmp x0, x1
    b.lo 1b
    dsb sy
    ret

/* x0: the kernel's entry, x1: its image, x2: bytes. Behind the MMU's end neither firmware's tables nor its caches are
 * used: the image and this very code must have reached memory before. Firmware maps memory identically, so the next
 * instruction is where it was. EL2 and EL1 have registers of their own for that. */
    .globl efi_handoff
efi_handoff:
    msr daifset, #0xf
    mov x19, x0
    mov x20, x1
    add x21, x1, x2
    mrs x3, ctr_el0
    ubfx x3, x3, #16, #4                /* DminLine: log2 of words */
    mov x2, #4
    lsl x22, x2, x3

    mov x0, x20
    mov x1, x21
    mov x2, x22
    bl clean_range
    adr x0, efi_handoff
    adr x1, handoff_end
    mov x2, x22
    bl clean_range
    ic iallu
    dsb sy
    isb

    mrs x0, CurrentEL
    cmp x0, #(2 << 2)
    b.eq 2f
    mrs x0, sctlr_el1
    bic x0, x0, #(1 << 0)               /* M: MMU */
    bic x0, x0, #(1 << 2)               /* C: data cache */
    msr sctlr_el1, x0
    b 3f
2:  mrs x0, sctlr_el2
    bic x0, x0, #(1 << 0)
    bic x0, x0, #(1 << 2)
    msr sctlr_el2, x0
3:  isb
    ic iallu
    dsb sy
    isb
    br x19
handoff_end:

    .section .note.GNU-stack, "", %progbits
