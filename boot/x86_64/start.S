/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The first instructions, whoever the loader was: entry.h tells the four stories, this file runs them.
 *
 * Linked at physical addresses but run wherever the image lies, hence: no absolute address before boot_enter. Code asks
 * "where am I" and reaches everything else as OFFSET(symbol) from the image's first byte.
 *
 * Registers kept through: EBX/RBX image base, R12 kind of entry, R13 the loader's structure, R14 time stamp.
 */
#include "boot/x86_64/entry.h"
#include "boot/x86_64/image_header.h"

#define IMAGE_VIRT       0xffffffff80200000
#define OFFSET(symbol)   (symbol - IMAGE_VIRT)
#define BOOT_OFFSET(symbol) (symbol - IMAGE_LOAD_PHYS)

#define PTE_TABLE        0x003            /* present, writable */
#define PTE_2M           0x083            /* present, writable, large */
#define GIB_SHIFT        30

#define CR0_PE           0x00000001
#define CR0_PG           0x80000000
#define CR0_BOOT         0x80010033       /* PG WP NE ET MP PE: caches on */
#define CR4_PAE          0x00000020
#define CR4_LA57_BIT     12
#define MSR_EFER         0xC0000080
#define EFER_LME_BIT     8

#define GDT_CODE64       0x08
#define GDT_DATA         0x10

/* ---- what the loaders look for ---- */

    /* PVH: a note of owner "Xen", type 18 (XEN_ELFNOTE_PHYS32_ENTRY). */
    .section .note.pvh, "a", @note
    .balign 4
    .long 4, 4, 18
    .asciz "Xen"
    .long boot_entry_pvh

    /* Multiboot2 header; tags by number: 1 what we want to be told (6 memory map, 14 and 15 RSDP, 17 EFI memory map),
     * 3 entry, 5 frame buffer (GRUB heeds the 32 bits only next to a size), 6 modules on page boundaries, 10
     * relocatable. Flag 1 = optional. The tag that would keep boot services running is left out: GRUB leaves them and
     * says where the EFI map is. */
    .section .boot.multiboot2, "a"
    .balign 8
multiboot2_header:
    .long 0xE85250D6, 0, multiboot2_end - multiboot2_header
    .long -(0xE85250D6 + 0 + (multiboot2_end - multiboot2_header))
    .balign 8
    .short 1, 1
    .long 8 + 5 * 4, 1, 6, 14, 15, 17
    .balign 8
    .short 3, 0
    .long 12, boot_entry_multiboot2
    .balign 8
    .short 5, 1
    .long 20, 1024, 768, 32
    .balign 8
    .short 6, 1
    .long 8
    .balign 8
    .short 10, 1
    .long 24, IMAGE_LOAD_PHYS, 0xFFFFFFFF, IMAGE_ALIGN_BYTES, 1
    .balign 8
    .short 0, 0
    .long 8
multiboot2_end:

/* ---- 32-bit entries: PVH and Multiboot2 ---- */

    .section .boot, "ax"
    .code32
    .globl boot_entry_pvh
boot_entry_pvh:
    movl $BOOT_KIND_PVH, %ecx
    jmp entry32
    .globl boot_entry_multiboot2
boot_entry_multiboot2:
    movl $BOOT_KIND_MULTIBOOT2, %ecx

entry32:
    cli
    cld
    rdtsc
    movl %eax, %esi
    movl %edx, %edi
    /* No stack yet, and one word of one is needed to learn EIP: borrow it from the loader's structure, give it back. */
    movl 4(%ebx), %eax
    leal 8(%ebx), %esp
    call 1f
1:  popl %ebp
    movl %eax, 4(%ebx)
    subl $BOOT_OFFSET(1b), %ebp
    leal OFFSET(boot_stack_end)(%ebp), %esp
    pushl %edi                              /* for the 64-bit half: time stamp, kind, structure, base */
    pushl %esi
    pushl $0
    pushl %ecx
    pushl $0
    pushl %ebx
    pushl $0
    pushl %ebp

    movl $0x80000000, %eax                  /* a processor without long mode can go no further, nor say so */
    cpuid
    cmpl $0x80000001, %eax
    jb hang32
    movl $0x80000001, %eax
    cpuid
    btl $29, %edx
    jnc hang32

    /* Identity tables for the first 4 GiB, enough to reach 64-bit code, which completes them. */
    leal OFFSET(boot_tables_pd)(%ebp), %edi
    movl $PTE_2M, %eax
    movl $2048, %ecx
2:  movl %eax, (%edi)
    movl $0, 4(%edi)
    addl $0x200000, %eax
    addl $8, %edi
    loop 2b
    leal OFFSET(boot_tables_pd) + PTE_TABLE(%ebp), %eax
    leal OFFSET(boot_tables_pdpt_low)(%ebp), %edi
    movl $4, %ecx
3:  movl %eax, (%edi)
    addl $0x1000, %eax
    addl $8, %edi
    loop 3b
    leal OFFSET(boot_tables_pdpt_low) + PTE_TABLE(%ebp), %eax
    movl %eax, OFFSET(boot_tables_pml4)(%ebp)

    movl $CR4_PAE, %eax
    movl %eax, %cr4
    leal OFFSET(boot_tables_pml4)(%ebp), %eax
    movl %eax, %cr3
    movl $MSR_EFER, %ecx
    rdmsr
    btsl $EFER_LME_BIT, %eax
    wrmsr
    movl $CR0_BOOT, %eax
    movl %eax, %cr0
    leal BOOT_OFFSET(boot_gdt)(%ebp), %eax
    pushl %eax
    pushw $(boot_gdt_end - boot_gdt - 1)
    lgdt (%esp)
    addl $6, %esp
    leal BOOT_OFFSET(entered64)(%ebp), %eax
    pushl $GDT_CODE64
    pushl %eax
    lretl
hang32:
    hlt
    jmp hang32

    .balign 8
boot_gdt:
    .quad 0
    .quad 0x00AF9B000000FFFF                /* 64-bit code */
    .quad 0x00CF93000000FFFF                /* data */
boot_gdt_end:

    .code64
entered64:
    movl $GDT_DATA, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    movl %esp, %esp                         /* upper halves are undefined after the change of mode */
    popq %rbx
    popq %r13
    popq %r12
    popq %r14
    jmp build_tables

/* ---- 64-bit entries: Linux protocol and UEFI loader ---- */

    .globl boot_entry_linux64
boot_entry_linux64:
    cli
    cld
    movq %rsi, %r13
    movl $BOOT_KIND_LINUX64, %r12d
    jmp entry64
    .globl boot_entry_efi
boot_entry_efi:
    cli
    cld
    xorl %r13d, %r13d
    movl $BOOT_KIND_EFI, %r12d
entry64:
    rdtsc
    shlq $32, %rdx
    leaq (%rax, %rdx), %r14
    leaq entry64(%rip), %rbx
    subq $BOOT_OFFSET(entry64), %rbx

/* ---- the boot tables ---- */

build_tables:
    leaq OFFSET(boot_tables_pd)(%rbx), %rdi     /* first 4 GiB */
    movl $PTE_2M, %eax
    movl $2048, %ecx
1:  movq %rax, (%rdi)
    addq $0x200000, %rax
    addq $8, %rdi
    decl %ecx
    jnz 1b

    leaq OFFSET(boot_tables_pdpt_low)(%rbx), %r8
    leaq OFFSET(boot_tables_pd) + PTE_TABLE(%rbx), %rax
    xorl %ecx, %ecx
2:  movq %rax, (%r8, %rcx, 8)
    addq $0x1000, %rax
    incl %ecx
    cmpl $4, %ecx
    jb 2b
    leaq OFFSET(boot_tables_pml4)(%rbx), %r9
    leaq PTE_TABLE(%r8), %rax
    movq %rax, (%r9)                            /* identity */
    movq %rax, 256 * 8(%r9)                     /* direct map */

    movq %rbx, %rdx                             /* the image's own GiB and the next, when beyond 4 GiB */
    shrq $GIB_SHIFT, %rdx
    cmpq $4, %rdx
    jb 4f
    movq %rdx, %rsi                             /* rsi: number of the 512 GiB piece */
    shrq $9, %rsi
    jz 3f
    leaq OFFSET(boot_tables_pdpt_image)(%rbx), %r8
    leaq PTE_TABLE(%r8), %rax
    movq %rax, (%r9, %rsi, 8)
    movq %rax, 256 * 8(%r9, %rsi, 8)
3:  movq %rdx, %rcx
    andl $511, %ecx
    leaq OFFSET(boot_tables_pd_image) + PTE_TABLE(%rbx), %rax
    movq %rax, (%r8, %rcx, 8)
    cmpl $511, %ecx
    je 31f                                      /* last GiB of the piece: the image does not cross it (contract) */
    addq $0x1000, %rax
    movq %rax, 8(%r8, %rcx, 8)
31: movq %rdx, %rax
    shlq $GIB_SHIFT, %rax
    orq $PTE_2M, %rax
    leaq OFFSET(boot_tables_pd_image)(%rbx), %rdi
    movl $1024, %ecx
32: movq %rax, (%rdi)
    addq $0x200000, %rax
    addq $8, %rdi
    decl %ecx
    jnz 32b

4:  leaq OFFSET(boot_tables_pd_kernel)(%rbx), %rdi    /* the image at IMAGE_VIRT: entry 1 of its GiB on */
    leaq PTE_2M(%rbx), %rax
    movl $1, %ecx
5:  movq %rax, (%rdi, %rcx, 8)
    addq $0x200000, %rax
    incl %ecx
    cmpl $129, %ecx
    jb 5b
    addq $PTE_TABLE, %rdi
    leaq OFFSET(boot_tables_pdpt_high)(%rbx), %r8
    movq %rdi, 510 * 8(%r8)
    addq $PTE_TABLE, %r8
    movq %r8, 511 * 8(%r9)

    /* Load them. Firmware may run on five levels, and that cannot be left in 64-bit mode: then one more table on top,
     * whose first and last entry are the same four levels. Clearing CR4.PGE drops the firmware's global entries. */
    movq %cr4, %rax
    movl $CR4_PAE, %edx
    btl $CR4_LA57_BIT, %eax
    jnc 6f
    btsl $CR4_LA57_BIT, %edx
    leaq OFFSET(boot_tables_pml5)(%rbx), %rdi
    leaq PTE_TABLE(%r9), %rcx
    movq %rcx, (%rdi)
    movq %rcx, 511 * 8(%rdi)
    movq %rdi, %r9
6:  movq %cr0, %rax
    andl $~0x00010000, %eax                     /* WP off while CR4.CET, which depends on it, goes */
    movq %cr4, %rcx
    btrl $23, %ecx
    movq %rcx, %cr4
    movq %rax, %cr0
    movq %r9, %cr3
    movq %rdx, %cr4
    movl $CR0_BOOT, %eax
    movq %rax, %cr0

    movq $boot_stack_end, %rsp
    xorl %ebp, %ebp
    pushq %rbp                                  /* no return address: the end of every backtrace */
    movl %r12d, %edi
    movq %r13, %rsi
    movq %rbx, %rdx
    movq %r14, %rcx
    movabsq $boot_enter, %rax
    jmp *%rax

/* ---- tables: page aligned, zero at the start ---- */

    .section .bss.boot_tables, "aw", @nobits
    .balign 4096
boot_tables_pml4:       .skip 4096
boot_tables_pml5:       .skip 4096
boot_tables_pdpt_low:   .skip 4096
boot_tables_pdpt_high:  .skip 4096
boot_tables_pdpt_image: .skip 4096
boot_tables_pd:         .skip 4 * 4096
boot_tables_pd_image:   .skip 2 * 4096
boot_tables_pd_kernel:  .skip 4096

    .section .note.GNU-stack, "", @progbits
