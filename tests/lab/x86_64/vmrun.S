/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The world switch, and the NMI gate.
 *
 * uint64_t lab_vmrun(uint64_t *gprs, uint64_t guest_vmcb_pa, uint64_t host_vmcb_pa)
 * runs the guest until its next exit. gprs is struct lab_gprs (lab.h); RAX and RSP travel in the VMCB. Entered and left
 * with GIF = 0 and IF = 0. Returns what the time-stamp counter advanced between the two readings around VMRUN: under
 * QEMU's -icount that is the number of instructions the guest executed plus LAB_SWITCH_INSTRUCTIONS (lab.h), those
 * of this path between the two readings, which the caller takes off.
 *
 * The guest's FPU and vector registers stay in the processor: the lab is compiled without use of them.
 * VMLOAD/VMSAVE change what VMRUN does not: FS, GS, TR, LDTR and the system-call registers. The host's must be back
 * before an NMI can come (its gate uses a stack of the TSS), which GIF = 0 guarantees.
 */
    .text
    .globl lab_vmrun
    .type lab_vmrun, @function
lab_vmrun:
    pushq %rbx
    pushq %rbp
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    pushq %rdx                  /* host VMCB */
    pushq %rdi                  /* gprs */
    pushq %rsi                  /* guest VMCB */
    movq %rdx, %rax
    vmsave %rax
    rdtsc
    shlq $32, %rdx
    orq %rdx, %rax
    pushq %rax                  /* counter before */
    movq 0x08(%rdi), %rcx
    movq 0x10(%rdi), %rdx
    movq 0x18(%rdi), %rbx
    movq 0x28(%rdi), %rbp
    movq 0x30(%rdi), %rsi
    movq 0x40(%rdi), %r8
    movq 0x48(%rdi), %r9
    movq 0x50(%rdi), %r10
    movq 0x58(%rdi), %r11
    movq 0x60(%rdi), %r12
    movq 0x68(%rdi), %r13
    movq 0x70(%rdi), %r14
    movq 0x78(%rdi), %r15
    movq 0x38(%rdi), %rdi
    movq 8(%rsp), %rax
    vmload %rax
    vmrun %rax
    vmsave %rax
    movq 24(%rsp), %rax
    vmload %rax
    pushq %rdi
    movq 24(%rsp), %rdi         /* gprs */
    movq %rcx, 0x08(%rdi)
    movq %rdx, 0x10(%rdi)
    rdtsc
    shlq $32, %rdx
    orq %rdx, %rax
    movq %rbx, 0x18(%rdi)
    movq %rbp, 0x28(%rdi)
    movq %rsi, 0x30(%rdi)
    popq %rcx
    movq %rcx, 0x38(%rdi)
    movq %r8, 0x40(%rdi)
    movq %r9, 0x48(%rdi)
    movq %r10, 0x50(%rdi)
    movq %r11, 0x58(%rdi)
    movq %r12, 0x60(%rdi)
    movq %r13, 0x68(%rdi)
    movq %r14, 0x70(%rdi)
    movq %r15, 0x78(%rdi)
    popq %rdx                   /* counter before */
    subq %rdx, %rax
    addq $24, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbp
    popq %rbx
    ret
    .size lab_vmrun, . - lab_vmrun

/* An NMI carries no data: it only brings the guest out of VMRUN, or the lab out of HLT. Work is found in memory. */
    .globl lab_nmi_entry
    .type lab_nmi_entry, @function
lab_nmi_entry:
    lock incq lab_nmis_taken(%rip)
    iretq
    .size lab_nmi_entry, . - lab_nmi_entry

/* An interrupt that is only to be out of the way (drain.c, which also ends it). */
    .globl lab_drain_entry
    .type lab_drain_entry, @function
lab_drain_entry:
    iretq
    .size lab_drain_entry, . - lab_drain_entry

/* An instruction of the lab at the address that watch.c waits for in the guest: go on, RF set in the saved flags. */
    .globl lab_debug_entry
    .type lab_debug_entry, @function
lab_debug_entry:
    orl $0x10000, 16(%rsp)
    iretq
    .size lab_debug_entry, . - lab_debug_entry

    .section .note.GNU-stack, "", @progbits
