/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The test loader's first and last instructions. First: from PVH's 32-bit state into 64-bit mode, on page tables of its
 * own (identity for 1 TiB), because QEMU's start info lies in low memory. Last: GDT, page tables and every register as
 * OpenVMM leaves them, then the kernel.
 */
#define FINAL_TABLES 0x4000
#define GDT          0x1000
#define BOOT_PARAMS  0x2000

    .section .note.pvh, "a", @note
    .balign 4
    .long 4, 4, 18
    .asciz "Xen"
    .long start

    .section .text.start, "ax"
    .code32
    .globl start
start:
    cli
    cld
    movl $stack_end, %esp
    movl %ebx, %ebp

    movl $tables, %edi              /* one of 512 GiB entries, one of 1 GiB entries, four of 2 MiB entries */
    leal 0x1003(%edi), %eax
    movl %eax, (%edi)
    movl $4, %ecx
1:  addl $0x1000, %eax
    movl %eax, 0x1000(%edi)
    addl $8, %edi
    loop 1b
    movl $tables + 0x2000, %edi
    movl $0x83, %eax
    movl $2048, %ecx
2:  movl %eax, (%edi)
    addl $0x200000, %eax
    addl $8, %edi
    loop 2b
    movl $tables + 0x6003, tables + 8          /* beyond 4 GiB, to 1 TiB: entries of 1 GiB */
    movl $tables + 0x1000 + 4 * 8, %edi
    movl $4, %ecx                              /* the GiB's number */
5:  movl %ecx, %eax
    shll $30, %eax
    orl $0x83, %eax
    movl %eax, (%edi)
    movl %ecx, %eax
    shrl $2, %eax
    movl %eax, 4(%edi)
    addl $8, %edi
    incl %ecx
    cmpl $512, %ecx
    jne 6f
    movl $tables + 0x6000, %edi
6:  cmpl $1024, %ecx
    jb 5b

    movl $0x20, %eax                /* PAE only */
    movl %eax, %cr4
    movl $tables, %eax
    movl %eax, %cr3
    movl $0xC0000080, %ecx          /* EFER: SCE, LME, NXE */
    movl $0x901, %eax
    xorl %edx, %edx
    wrmsr
    lgdt gdt_pointer
    movl $0x80000001, %eax          /* PG and PE only: no WP, NE, ET, MP */
    movl %eax, %cr0
    ljmp $0x08, $start64

    .code64
start64:
    movl %ebp, %edi
    movl $stack_end, %esp
    call load
    movq %rax, %rbp                 /* the kernel's entry */

    movl $tables, %esi              /* the same tables again, where OpenVMM's lie */
    movl $FINAL_TABLES, %edi
    movl $7 * 512, %ecx
    rep movsq
    movl $FINAL_TABLES + 0x6003, %eax
    movl %eax, FINAL_TABLES + 8
    movl $FINAL_TABLES + 0x1003, %eax
    movl %eax, FINAL_TABLES
    movl $FINAL_TABLES + 0x1000, %edi
    movl $4, %ecx
3:  addl $0x1000, %eax
    movl %eax, (%rdi)
    addl $8, %edi
    loop 3b
    movl $FINAL_TABLES, %eax
    movq %rax, %cr3

    movl $gdt, %esi                 /* null, code, data, and a fourth that nobody uses */
    movl $GDT, %edi
    movl $4, %ecx
    rep movsq
    lgdt final_gdt_pointer
    movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %fs
    movl %eax, %gs
    movl %eax, %ss
    pushq $0x08
    pushq $4f
    lretq
4:  lidt no_idt
    movq %rbp, %rax
    movl $BOOT_PARAMS, %esi
    xorl %ebx, %ebx
    xorl %ecx, %ecx
    xorl %edx, %edx
    xorl %edi, %edi
    xorl %ebp, %ebp
    xorl %esp, %esp
    xorl %r8d, %r8d
    xorl %r9d, %r9d
    xorl %r10d, %r10d
    xorl %r11d, %r11d
    xorl %r12d, %r12d
    xorl %r13d, %r13d
    xorl %r14d, %r14d
    xorl %r15d, %r15d
    jmp *%rax

    .section .rodata, "a"
    .balign 8
gdt:
    .quad 0, 0x00AF9B000000FFFF, 0x00CF93000000FFFF, 0
gdt_pointer:
    .short 31
    .quad gdt
final_gdt_pointer:
    .short 31
    .quad GDT
    .balign 8
no_idt:
    .short 0
    .quad 0

    .section .bss, "aw", @nobits
    .balign 4096
tables:
    .skip 7 * 4096
    .skip 16384
stack_end:

    .section .note.GNU-stack, "", @progbits
