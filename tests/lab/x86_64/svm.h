/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The processor's layouts for AMD SVM: virtual machine control block, exit codes, intercept bits.
 *
 * Source: AMD64 Architecture Programmer's Manual, volume 2, chapter 15 and appendices B and C. Only what the lab
 * uses is named; what QEMU's emulation leaves out (NRIP save, decode assists, clean bits) is not.
 */
#pragma once
#include "arch/x86_64/x86.h"
#include <stddef.h>
#include <stdint.h>

/* VMCB +0x00C */
#define SVM_INTERCEPT1_INTR     (1u << 0)
#define SVM_INTERCEPT1_NMI      (1u << 1)
#define SVM_INTERCEPT1_VINTR    (1u << 4)
#define SVM_INTERCEPT1_CPUID    (1u << 18)
#define SVM_INTERCEPT1_HLT      (1u << 24)
#define SVM_INTERCEPT1_INVLPGA  (1u << 26)
#define SVM_INTERCEPT1_IOIO     (1u << 27)
#define SVM_INTERCEPT1_MSR      (1u << 28)
#define SVM_INTERCEPT1_SHUTDOWN (1u << 31)
/* VMCB +0x010 */
#define SVM_INTERCEPT2_VMRUN    (1u << 0)
#define SVM_INTERCEPT2_VMMCALL  (1u << 1)
#define SVM_INTERCEPT2_VMLOAD   (1u << 2)
#define SVM_INTERCEPT2_VMSAVE   (1u << 3)
#define SVM_INTERCEPT2_STGI     (1u << 4)
#define SVM_INTERCEPT2_CLGI     (1u << 5)
#define SVM_INTERCEPT2_SKINIT   (1u << 6)

enum svm_exit_code {
    SVM_EXIT_DB       = 0x41,
    SVM_EXIT_INTR     = 0x60,
    SVM_EXIT_NMI      = 0x61,
    SVM_EXIT_VINTR    = 0x64,
    SVM_EXIT_CPUID    = 0x72,
    SVM_EXIT_HLT      = 0x78,
    SVM_EXIT_INVLPGA  = 0x7A,
    SVM_EXIT_IOIO     = 0x7B,
    SVM_EXIT_MSR      = 0x7C,
    SVM_EXIT_SHUTDOWN = 0x7F,
    SVM_EXIT_VMRUN    = 0x80,
    SVM_EXIT_VMMCALL  = 0x81,
    SVM_EXIT_VMLOAD   = 0x82,
    SVM_EXIT_VMSAVE   = 0x83,
    SVM_EXIT_STGI     = 0x84,
    SVM_EXIT_CLGI     = 0x85,
    SVM_EXIT_SKINIT   = 0x86,
    SVM_EXIT_NPF      = 0x400,
};
/* VMEXIT_INVALID is -1; QEMU reports its low half zero-extended. */
#define SVM_EXIT_INVALID_LOW 0xFFFFFFFFu

/* EVENTINJ and EXITINTINFO */
#define SVM_EVENT_VECTOR     0xFFull
#define SVM_EVENT_TYPE_MASK  (7ull << 8)
#define SVM_EVENT_TYPE_INTR  (0ull << 8)
#define SVM_EVENT_TYPE_NMI   (2ull << 8)
#define SVM_EVENT_TYPE_EXC   (3ull << 8)
#define SVM_EVENT_TYPE_SOFT  (4ull << 8)
#define SVM_EVENT_ERROR      (1ull << 11)
#define SVM_EVENT_VALID      (1ull << 31)

/* EXITINFO1 of an IOIO exit */
#define SVM_IOIO_IN          (1u << 0)
#define SVM_IOIO_STRING      (1u << 2)
#define SVM_IOIO_REP         (1u << 3)
#define SVM_IOIO_SIZE8       (1u << 4)
#define SVM_IOIO_SIZE16      (1u << 5)
#define SVM_IOIO_SIZE32      (1u << 6)
#define SVM_IOIO_PORT_SHIFT  16

/* EXITINFO1 of a nested page fault: page-fault error code, then where in the walk it happened. */
#define SVM_NPF_PRESENT      (1ull << 0)
#define SVM_NPF_WRITE        (1ull << 1)
#define SVM_NPF_FETCH        (1ull << 4)
#define SVM_NPF_FINAL        (1ull << 32)

/* Virtual interrupt, VMCB +0x060 */
#define SVM_VINTR_PENDING    (1ull << 8)
#define SVM_VINTR_IGNORE_TPR (1ull << 20)
#define SVM_VINTR_VECTOR(v)  ((uint64_t)(v) << 32)

#define SVM_TLB_FLUSH_ALL    1

struct svm_segment {
    uint16_t selector;
    uint16_t attributes;   /* descriptor bits 47:40 in 7:0, 55:52 in 11:8 */
    uint32_t limit;
    uint64_t base;
};
#define SVM_SEG_CODE64  0x0A9B
#define SVM_SEG_DATA    0x0C93
#define SVM_SEG_CODE16  0x009B
#define SVM_SEG_DATA16  0x0093
#define SVM_SEG_LDT     0x0082
#define SVM_SEG_TSS     0x008B

struct svm_control {
    uint32_t intercept_cr;        /* 0x000 */
    uint32_t intercept_dr;
    uint32_t intercept_exceptions;
    uint32_t intercept1;
    uint32_t intercept2;          /* 0x010 */
    uint8_t  reserved_014[0x40 - 0x14];
    uint64_t iopm;                /* 0x040 three pages, a bit per port */
    uint64_t msrpm;               /* 0x048 two pages */
    uint64_t tsc_offset;          /* 0x050 */
    uint32_t asid;                /* 0x058 */
    uint8_t  tlb_control;
    uint8_t  reserved_05d[3];
    uint64_t vintr;               /* 0x060 */
    uint64_t interrupt_shadow;    /* 0x068 */
    uint64_t exit_code;           /* 0x070 */
    uint64_t exit_info1;
    uint64_t exit_info2;          /* 0x080 */
    uint64_t exit_int_info;
    uint64_t nested_paging;       /* 0x090 bit 0: on */
    uint8_t  reserved_098[0xA8 - 0x98];
    uint64_t event_injection;     /* 0x0A8 */
    uint64_t nested_cr3;          /* 0x0B0 */
    uint8_t  reserved_0b8[0x400 - 0xB8];
};

struct svm_save {
    struct svm_segment es, cs, ss, ds, fs, gs, gdtr, ldtr, idtr, tr;   /* 0x000 */
    uint8_t  reserved_0a0[0xCB - 0xA0];
    uint8_t  cpl;                 /* 0x0CB */
    uint32_t reserved_0cc;
    uint64_t efer;                /* 0x0D0 */
    uint8_t  reserved_0d8[0x148 - 0xD8];
    uint64_t cr4;                 /* 0x148 */
    uint64_t cr3;
    uint64_t cr0;
    uint64_t dr7;                 /* 0x160 */
    uint64_t dr6;
    uint64_t rflags;              /* 0x170 */
    uint64_t rip;
    uint8_t  reserved_180[0x1D8 - 0x180];
    uint64_t rsp;                 /* 0x1D8 */
    uint8_t  reserved_1e0[0x1F8 - 0x1E0];
    uint64_t rax;                 /* 0x1F8 */
    uint64_t star, lstar, cstar, sfmask, kernel_gs_base, sysenter_cs, sysenter_esp, sysenter_eip;
    uint64_t cr2;                 /* 0x240 */
    uint8_t  reserved_248[0x268 - 0x248];
    uint64_t g_pat;               /* 0x268 */
    uint8_t  reserved_270[0xC00 - 0x270];
};

struct svm_vmcb {
    struct svm_control control;
    struct svm_save save;
};

_Static_assert(offsetof(struct svm_control, iopm) == 0x40, "VMCB layout");
_Static_assert(offsetof(struct svm_control, asid) == 0x58, "VMCB layout");
_Static_assert(offsetof(struct svm_control, exit_code) == 0x70, "VMCB layout");
_Static_assert(offsetof(struct svm_control, event_injection) == 0xA8, "VMCB layout");
_Static_assert(offsetof(struct svm_save, cpl) == 0xCB, "VMCB layout");
_Static_assert(offsetof(struct svm_save, efer) == 0xD0, "VMCB layout");
_Static_assert(offsetof(struct svm_save, cr4) == 0x148, "VMCB layout");
_Static_assert(offsetof(struct svm_save, rsp) == 0x1D8, "VMCB layout");
_Static_assert(offsetof(struct svm_save, rax) == 0x1F8, "VMCB layout");
_Static_assert(offsetof(struct svm_save, cr2) == 0x240, "VMCB layout");
_Static_assert(offsetof(struct svm_save, g_pat) == 0x268, "VMCB layout");
_Static_assert(sizeof(struct svm_vmcb) == 4096, "VMCB is one page");

/* Model-specific registers of SVM and long mode */
#define MSR_VM_CR      0xC0010114u
#define MSR_VM_HSAVE   0xC0010117u
#define EFER_SCE       (1ull << 0)
#define EFER_LME       (1ull << 8)
#define EFER_LMA       (1ull << 10)
#define EFER_SVME      (1ull << 12)
#define EFER_FFXSR     (1ull << 14)
#define VM_CR_SVMDIS   (1ull << 4)
#define VM_CR_LOCK     (1ull << 3)
