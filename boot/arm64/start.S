/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The first instructions, whoever the loader was: entry.h tells the stories, this file runs them. Source: Arm
 * Architecture Reference Manual, chapters D8 (translation) and D13 (registers); Linux documentation,
 * arch/arm64/booting.
 *
 * Linked at virtual addresses but run wherever the image lies until the MMU is on, hence: only addresses relative to
 * the program counter. With the MMU off every access is to device memory: nothing unaligned, no exclusives.
 *
 * Registers kept through: x19 image base, x20 device tree, x21 kind of entry, x22 counter, x23 level at entry.
 */
#include "arch/arm64/arm64.h"
#include "boot/arm64/entry.h"

#define PTE_TABLE        3
#define PTE_BLOCK        0x701       /* valid block, MAIR_NORMAL, inner shareable, accessed; writable, executable */
#define PTE_PAGE         0x702       /* what a page has besides */
#define BLOCK_SHIFT      21
#define BLOCK_MASK       0x1FFFFF
#define PAGE_MASK        0xFFF
#define GIB_SHIFT        30

/* Registers by number, for compilers without their extension. */
#define ICC_SRE_EL2      s3_4_c12_c9_5
#define ICH_HCR_EL2      s3_4_c12_c11_0
#define ICC_SRE_ENABLE   0x9         /* SRE, Enable */
#define CNTHCTL_EL1_PHYS 3           /* EL1 may use the physical counter and timer */
#define CPTR_NO_TRAPS    0x33FF
#define HCR_API_APK      (3 << 40)

    .section .boot, "ax"
    .globl boot_entry_linux
    .type boot_entry_linux, @function
boot_entry_linux:
    mov x20, x0
    mov x21, #BOOT_KIND_LINUX
    b entered
    .globl boot_entry_efi
    .type boot_entry_efi, @function
boot_entry_efi:
    mov x20, xzr
    mov x21, #BOOT_KIND_EFI

entered:
    msr daifset, #15
    isb
    mrs x22, cntvct_el0
    adr x0, image_header
    tst x0, #PAGE_MASK                      /* a loader that knows no pages: no address here is what it should be */
    b.ne hang
    adrp x19, image_header
    mrs x23, CurrentEL
    ubfx x23, x23, #2, #2
    cmp x23, #2
    b.lo at_kernel_level
    b.hi hang                               /* EL3 belongs to firmware */

    /* ---- EL2: with the host extensions it is where the kernel lives; else down to EL1 ---- */
    mrs x0, id_aa64pfr0_el1                 /* the GIC's registers, where it has any */
    ubfx x0, x0, #24, #4
    cbz x0, 1f
    mrs x0, ICC_SRE_EL2
    mov x1, #ICC_SRE_ENABLE
    orr x0, x0, x1
    msr ICC_SRE_EL2, x0
    isb
    mrs x0, ICC_SRE_EL2                     /* EL3 may have kept them off, and then the rest is undefined */
    tbz x0, #0, 1f
    msr ICH_HCR_EL2, xzr
1:  msr cntvoff_el2, xzr
    msr vttbr_el2, xzr
    msr hstr_el2, xzr
    mrs x0, mdcr_el2                        /* keep only the number of counters */
    and x0, x0, #0x1F
    msr mdcr_el2, x0
    mrs x0, id_aa64mmfr1_el1
    ubfx x0, x0, #8, #4                     /* VH */
    cbz x0, go_down
    mov x0, #(1 << HCR_RW_BIT) | (1 << HCR_TGE_BIT)
    orr x0, x0, #(1 << HCR_E2H_BIT)
    msr hcr_el2, x0
    isb
    msr cpacr_el1, xzr                      /* CPTR_EL2 here: floating point traps */
    b at_kernel_level

go_down:
    mov x0, #SCTLR_RES1 & 0xFFFF
    movk x0, #SCTLR_RES1 >> 16, lsl #16
    msr sctlr_el1, x0
    mov x0, #(1 << HCR_RW_BIT)
    orr x0, x0, #HCR_API_APK
    msr hcr_el2, x0
    mov x0, #CNTHCTL_EL1_PHYS
    msr cnthctl_el2, x0
    mov x0, #CPTR_NO_TRAPS
    msr cptr_el2, x0
    mrs x0, midr_el1
    msr vpidr_el2, x0
    mrs x0, mpidr_el1
    msr vmpidr_el2, x0
    adr x0, el2_stub
    msr vbar_el2, x0
    mov x0, #SPSR_EL1H | SPSR_D | SPSR_A | SPSR_I | SPSR_F
    msr spsr_el2, x0
    adr x0, at_kernel_level
    msr elr_el2, x0
    eret

hang:
    wfi
    b hang

    /* ---- the tables: those that are used here, which are all when the image does not lie at a multiple of 2 MiB;
     * tables.c clears the others. The loader may have left their addresses
     * in caches, so out with them before memory is written past the caches; what others that share them may have
     * fetched meanwhile goes again before the MMU looks. All else is touched with caches on alone. ---- */
at_kernel_level:
    msr spsel, #1
    adr x0, el2_stub                        /* until C has vectors: who faults stays where he is */
    msr vbar_el1, x0
    adrp x10, boot_tables_start
    adrp x11, boot_tables_start + ARM64_TABLE_POOL * 4096
    tst x19, #BLOCK_MASK
    b.eq 1f
    adrp x11, boot_tables_start + ARM64_TABLES * 4096
1:  mrs x2, ctr_el0
    ubfx x2, x2, #16, #4                    /* DminLine: log2 of the words of a line */
    mov x12, #4
    lsl x12, x12, x2
    mov x0, x10
1:  dc civac, x0
    add x0, x0, x12
    cmp x0, x11
    b.lo 1b
    dsb sy

    mov x0, x10
2:  stp xzr, xzr, [x0]
    stp xzr, xzr, [x0, #16]
    stp xzr, xzr, [x0, #32]
    stp xzr, xzr, [x0, #48]
    add x0, x0, #64
    cmp x0, x11
    b.lo 2b

    mov x9, #PTE_BLOCK
    adrp x0, boot_tables_start + ARM64_TABLE_ID_L0 * 4096           /* identity: one block, or two */
    adrp x1, boot_tables_start + ARM64_TABLE_ID_L1 * 4096
    adrp x2, boot_tables_start + ARM64_TABLE_ID_L2 * 4096
    orr x3, x1, #PTE_TABLE
    ubfx x4, x19, #39, #9
    str x3, [x0, x4, lsl #3]
    orr x3, x2, #PTE_TABLE
    ubfx x4, x19, #30, #9
    str x3, [x1, x4, lsl #3]
    and x5, x19, #~BLOCK_MASK
    orr x3, x5, x9
    ubfx x4, x19, #BLOCK_SHIFT, #9
    str x3, [x2, x4, lsl #3]
    adr x6, boot_code_end - 1
    lsr x4, x6, #GIB_SHIFT
    cmp x4, x19, lsr #GIB_SHIFT
    b.ne hang                               /* in two GiBs: not worth the code */
    and x5, x6, #~BLOCK_MASK
    orr x3, x5, x9
    ubfx x4, x6, #BLOCK_SHIFT, #9
    str x3, [x2, x4, lsl #3]

    adrp x0, boot_tables_start + ARM64_TABLE_KERNEL_L0 * 4096       /* the image at IMAGE_VIRT: entry 1 of its GiB on */
    adrp x1, boot_tables_start + ARM64_TABLE_KERNEL_L1 * 4096
    adrp x2, boot_tables_start + ARM64_TABLE_KERNEL_L2 * 4096
    orr x3, x1, #PTE_TABLE
    str x3, [x0, #511 * 8]
    orr x3, x2, #PTE_TABLE
    str x3, [x1, #510 * 8]
    adrp x4, image_end
    add x5, x2, #8
    tst x19, #BLOCK_MASK
    b.ne by_pages
    orr x3, x19, x9
    mov x6, x19
    mov x7, #1 << BLOCK_SHIFT
3:  str x3, [x5], #8
    add x3, x3, x7
    add x6, x6, x7
    cmp x6, x4
    b.lo 3b
    b tables_made

by_pages:
    sub x6, x4, x19
    lsr x6, x6, #12                         /* pages */
    add x7, x6, #511
    lsr x7, x7, #9                          /* tables for them, the last ones */
    cmp x7, #ARM64_IMAGE_TABLES
    b.hi hang
    sub x8, x11, x7, lsl #12
    orr x3, x8, #PTE_TABLE
3:  str x3, [x5], #8
    add x3, x3, #4096
    subs x7, x7, #1
    b.ne 3b
    orr x3, x19, x9
    mov x7, #PTE_PAGE
    orr x3, x3, x7
4:  str x3, [x8], #8
    add x3, x3, #4096
    subs x6, x6, #1
    b.ne 4b

tables_made:
    dsb sy
    mov x0, x10
4:  dc ivac, x0
    add x0, x0, x12
    cmp x0, x11
    b.lo 4b
    dsb sy

    /* ---- MMU on ---- */
    ldr x0, =MAIR_VALUE
    msr mair_el1, x0
    ldr x0, =(TCR_KERNEL_LOW | TCR_TG1_4K)
    mrs x1, id_aa64mmfr0_el1
    and x1, x1, #15                         /* PARange; beyond 48 bits wants other table entries */
    mov x2, #5
    cmp x1, x2
    csel x1, x1, x2, lo
    orr x0, x0, x1, lsl #TCR_IPS_SHIFT
    msr tcr_el1, x0
    adrp x0, boot_tables_start + ARM64_TABLE_ID_L0 * 4096
    msr ttbr0_el1, x0
    adrp x0, boot_tables_start + ARM64_TABLE_KERNEL_L0 * 4096
    msr ttbr1_el1, x0
    isb
    tlbi vmalle1
    ic iallu
    dsb nsh
    isb
    ldr x0, =SCTLR_KERNEL
    msr sctlr_el1, x0
    isb
    ldr x0, =at_virtual
    br x0

at_virtual:
    ldr x0, =boot_stack_end
    mov sp, x0
    cmp x21, #BOOT_KIND_EFI
    b.eq 5f
    ldr x0, =bss_start
    mov w1, #0
    ldr x2, =image_data_end
    sub x2, x2, x0
    ldr x3, =memset
    blr x3
5:  mov x29, xzr                            /* the end of every backtrace */
    mov x30, xzr
    mov x0, x21
    mov x1, x20
    mov x2, x19
    mov x3, x22
    mov x4, x23
    ldr x5, =boot_enter
    br x5
    .ltorg

/* What stays at EL2 when the kernel went down: HVC is answered "not supported" (SMCCC's -1), anything else that comes
 * is a mistake and stops the processor. */
    .balign 2048
el2_stub:
    .set vector, 0
    .rept 16
    .balign 128
    .if vector == 8
    mov x0, #-1
    eret
    .else
    b .
    .endif
    .set vector, vector + 1
    .endr

    .section .note.GNU-stack, "", @progbits
