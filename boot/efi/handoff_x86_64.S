/* SPDX-License-Identifier: BSD-2-Clause */
/* The two things the UEFI entry can't say in C on x86_64. System V convention. */
    .section .text.handoff, "ax"

    .globl efi_cycle_counter
efi_cycle_counter:
    rdtsc
    shl $32, %rdx
    or %rdx, %rax
    ret

/* rdi: the kernel's entry. Firmware's timer still ticks, and its handler is not ours to run any more. */
    .globl efi_handoff
efi_handoff:
    cli
    cld
    jmp *%rdi

    .section .note.GNU-stack, "", @progbits
