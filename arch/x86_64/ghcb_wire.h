/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The page and the register by which a guest with encrypted state speaks with its host: guest-hypervisor communication
 * block. Source: AMD publication 56421 (SEV-ES guest-hypervisor communication block standardization), and for the
 * second layout of the page what Hyper-V's guests and OpenVMM's paravisor do.
 */
#pragma once
#include "hv/hv_wire.h"

/* ---- the register HV_X64_MSR_GHCB: the page's address, or by bits 11:0 one of these ---- */
#define GHCB_MSR_INFO_MASK            0xFFFull
#define GHCB_MSR_SEV_INFO             0x001ull   /* answer: 63:48 highest, 47:32 lowest version, 31:24 C-bit */
#define GHCB_MSR_SEV_INFO_REQUEST     0x002ull
#define GHCB_MSR_REGISTER_REQUEST     0x012ull   /* 63:12: GPN of the page that we want to use */
#define GHCB_MSR_REGISTER             0x013ull   /* answer: 63:12: the same GPN; all ones: refused */
#define GHCB_MSR_PAGE_STATE_REQUEST   0x014ull   /* 55:52 enum ghcb_page_state, 51:12 GPN */
#define GHCB_MSR_PAGE_STATE           0x015ull   /* answer: 63:32 error, 0 when done; 31:12 zero */
#define GHCB_MSR_PAGE_STATE_SHIFT     52
#define GHCB_MSR_PAGE_STATE_GPA_MASK  0x000FFFFFFFFFF000ull
#define GHCB_MSR_VERSION_MOST_SHIFT   48
#define GHCB_MSR_VERSION_LEAST_SHIFT  32
#define GHCB_MSR_VERSION_MASK         0xFFFFull
enum ghcb_page_state {
    GHCB_PAGE_PRIVATE = 1,
    GHCB_PAGE_SHARED = 2,
};

#define GHCB_VERSION_LEAST            1u
#define GHCB_VERSION_MOST             2u

/* Why the guest exits: the numbers of the processor's own intercepts (APM volume 2, appendix C). */
#define GHCB_EXIT_MSR                 0x7Cull    /* exit_info1: 0 read, 1 write */
#define GHCB_EXIT_VMMCALL             0x81ull
#define GHCB_EXIT_INFO1_ERROR_MASK    0xFFFFFFFFull    /* after the exit: 0 when it was served */

enum ghcb_usage {
    GHCB_USAGE_STANDARD = 0,
    GHCB_USAGE_HYPERCALL = 1,                    /* struct ghcb_hypercall_page */
};
#define GHCB_USAGE_NOTHING            0xFFFFFFFFu

/* The standard layout: guest registers at their places in the processor's save area. */
struct ghcb_page {
    uint8_t reserved0[0x0CB];
    uint8_t cpl;
    uint8_t reserved1[0x1F8 - 0x0CC];
    uint64_t rax;
    uint8_t reserved2[0x308 - 0x200];
    uint64_t rcx;
    uint64_t rdx;
    uint64_t rbx;
    uint8_t reserved3[0x340 - 0x320];
    uint64_t r8;
    uint8_t reserved4[0x390 - 0x348];
    uint64_t exit_code;
    uint64_t exit_info1;
    uint64_t exit_info2;
    uint64_t scratch;
    uint8_t reserved5[0x3F0 - 0x3B0];
    uint64_t valid[2];           /* bit n: the eight bytes at 8 * n are meant */
    uint8_t reserved6[0x800 - 0x400];
    uint8_t buffer[0xFF0 - 0x800];
    uint8_t reserved7[0xFFA - 0xFF0];
    uint16_t version;
    uint32_t usage;              /* enum ghcb_usage */
} HV_WIRE_ALIGNED;
HV_WIRE_SIZE(struct ghcb_page, 4096);
HV_WIRE_OFFSET(struct ghcb_page, cpl, 0x0CB);
HV_WIRE_OFFSET(struct ghcb_page, rax, 0x1F8);
HV_WIRE_OFFSET(struct ghcb_page, rcx, 0x308);
HV_WIRE_OFFSET(struct ghcb_page, rdx, 0x310);
HV_WIRE_OFFSET(struct ghcb_page, r8, 0x340);
HV_WIRE_OFFSET(struct ghcb_page, exit_code, 0x390);
HV_WIRE_OFFSET(struct ghcb_page, scratch, 0x3A8);
HV_WIRE_OFFSET(struct ghcb_page, valid, 0x3F0);
HV_WIRE_OFFSET(struct ghcb_page, buffer, 0x800);
HV_WIRE_OFFSET(struct ghcb_page, version, 0xFFA);
HV_WIRE_OFFSET(struct ghcb_page, usage, 0xFFC);

/* Hyper-V's layout: one hypercall, its input in the page. */
#define GHCB_HYPERCALL_INPUT_MAX      4072u
struct ghcb_hypercall_page {
    uint8_t input[GHCB_HYPERCALL_INPUT_MAX];
    uint64_t output_gpa;         /* 0: none */
    uint64_t word;               /* in: control, out: result */
    uint16_t reserved;
    uint16_t version;
    uint32_t usage;              /* GHCB_USAGE_HYPERCALL */
} HV_WIRE_ALIGNED;
HV_WIRE_SIZE(struct ghcb_hypercall_page, 4096);
HV_WIRE_OFFSET(struct ghcb_hypercall_page, output_gpa, 0xFE8);
HV_WIRE_OFFSET(struct ghcb_hypercall_page, word, 0xFF0);
HV_WIRE_OFFSET(struct ghcb_hypercall_page, version, 0xFFA);
HV_WIRE_OFFSET(struct ghcb_hypercall_page, usage, 0xFFC);

/* PVALIDATE (APM volume 3): what it leaves in EAX. The carry flag says that nothing changed. */
#define PVALIDATE_SUCCESS             0u
#define PVALIDATE_FAIL_INPUT          1u
#define PVALIDATE_FAIL_SIZE_MISMATCH  6u
