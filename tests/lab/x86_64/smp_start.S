/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Where a processor other than the first begins: copied to LAB_AP_PAGE, entered in real mode by SIPI. Goes straight to
 * long mode on tables that map this page at its own address beside everything of the lab, then to C.
 */
#include "tests/lab/x86_64/smp.h"

#define AT(symbol)  (symbol - lab_ap_start + LAB_AP_PAGE)
#define MSR_EFER    0xC0000080
#define EFER_LME_NXE 0x900
#define CR4_PAE     0x20
#define CR0_LONG    0x80010033     /* PG WP NE ET MP PE */

    .section .rodata.lab_ap, "a"
    .globl lab_ap_start, lab_ap_end
    .balign 16
lab_ap_start:
    .code16
    cli
    cld
    xorw %ax, %ax
    movw %ax, %ds
    lgdtl AT(ap_gdtr)
    movl $CR4_PAE, %eax
    movl %eax, %cr4
    movl LAB_AP_PAGE + LAB_AP_CR3, %eax
    movl %eax, %cr3
    movl $MSR_EFER, %ecx
    rdmsr
    orl $EFER_LME_NXE, %eax
    wrmsr
    movl $CR0_LONG, %eax
    movl %eax, %cr0
    ljmpl $8, $AT(ap_long)
    .code64
ap_long:
    movl $16, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    xorl %eax, %eax
    movl %eax, %fs
    movl %eax, %gs
    movq LAB_AP_PAGE + LAB_AP_STACK, %rsp
    movq LAB_AP_PAGE + LAB_AP_ARGUMENT, %rdi
    xorl %ebp, %ebp
    movq LAB_AP_PAGE + LAB_AP_ENTRY, %rax
    pushq %rbp
    jmp *%rax
    .balign 8
ap_gdt:
    .quad 0
    .quad 0x00AF9B000000FFFF
    .quad 0x00CF93000000FFFF
ap_gdtr:
    .short 23
    .long AT(ap_gdt)
lab_ap_end:

    .section .note.GNU-stack, "", @progbits
