/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Registers of EL2 and the fields that a hypervisor sets. Source: Arm Architecture Reference Manual for A-profile (DDI
 * 0487), chapters D8 (second stage), D13; Arm GIC Architecture Specification v3 (IHI 0069), chapters 11 and 12.
 * Several names are numbers because assemblers of the oldest supported compiler lack them.
 */
#pragma once

/* ---- HCR_EL2, besides arch/arm64/arm64.h ---- */
#define HCR_VM      (1ull << 0)
#define HCR_SWIO    (1ull << 1)
#define HCR_FMO     (1ull << 3)
#define HCR_IMO     (1ull << 4)
#define HCR_AMO     (1ull << 5)
#define HCR_BSU_IS  (1ull << 10)
#define HCR_TWI     (1ull << 13)
#define HCR_TID3    (1ull << 18)
#define HCR_TSC     (1ull << 19)
#define HCR_TGE     (1ull << 27)
#define HCR_RW      (1ull << 31)
#define HCR_E2H     (1ull << 34)
#define HCR_APK     (1ull << 40)
#define HCR_API     (1ull << 41)
#define HCR_ENSCXT  (1ull << 53)

/* ---- CPTR_EL2 with E2H, CNTHCTL_EL2 with E2H, MDCR_EL2 ---- */
#define CPTR_FPEN      (3ull << 20)     /* vector registers are the guest's, without a trap */
#define CNTHCTL_EL1PCTEN (1ull << 10)
#define CNTHCTL_EL1PTEN  (1ull << 11)
#define MDCR_HPMN_MASK 0x1Full
#define MDCR_TPMCR     (1ull << 5)
#define MDCR_TPM       (1ull << 6)
#define MDCR_TDE       (1ull << 8)
#define MDCR_TDA       (1ull << 9)
#define MDCR_TDOSA     (1ull << 10)
#define MDCR_TDRA      (1ull << 11)

/* ---- counting the guest's cycles ---- */
#define PMCR_E         (1ull << 0)
#define PMCR_LC        (1ull << 6)
#define PMCR_N_SHIFT   11
#define PMCNTEN_CYCLES (1ull << 31)

/* ---- second stage ---- */
#define VTCR_T0SZ(bits)  (64ull - (bits))
#define VTCR_SL0_LEVEL1  (1ull << 6)    /* three levels of 4 KiB tables */
#define VTCR_SL0_LEVEL0  (2ull << 6)    /* four */
#define VTCR_WALK        (0x3500ull)    /* inner shareable, write back */
#define VTCR_PS_SHIFT    16
#define VTCR_RES1        (1ull << 31)
#define VTTBR_VMID(id)   ((uint64_t)(id) << 48)
#define HPFAR_IPA(hpfar) (((hpfar) & 0xFFFFFFFFFF0ull) << 8)

/* ---- syndromes of the classes that only EL2 sees ---- */
#define ESR_EC_LS64          0x0A
#define ESR_EC_SME           0x1D
#define ISS_SYSREG_READ      1u
#define ISS_SYSREG_RT(iss)   ((iss) >> 5 & 31)
#define ISS_SYSREG(op0, op1, crn, crm, op2) ((op0) << 20 | (op2) << 17 | (op1) << 14 | (crn) << 10 | (crm) << 1)
#define ISS_SYSREG_MASK      0x3FFC1Eu
#define ISS_ABORT_BYTES(iss) (1u << ((iss) >> 22 & 3))
#define ISS_ABORT_SIGNED     (1u << 21)
#define ISS_ABORT_REG(iss)   ((iss) >> 16 & 31)
#define ISS_ABORT_WIDE       (1u << 15)
#define ISS_HVC_IMM          0xFFFFu

/* ---- virtual CPU interface of the GIC ---- */
#define SYSREG_ICC_SRE_EL2  s3_4_c12_c9_5
#define SYSREG_ICH_AP0R0    s3_4_c12_c8_0
#define SYSREG_ICH_AP1R0    s3_4_c12_c9_0
#define SYSREG_ICH_HCR      s3_4_c12_c11_0
#define SYSREG_ICH_VTR      s3_4_c12_c11_1
#define SYSREG_ICH_VMCR     s3_4_c12_c11_7
#define ICC_SRE_ALL         0xFull
#define ICC_CTLR_EOIMODE    (1ull << 1)
#define ICH_HCR_EN          (1ull << 0)
#define ICH_HCR_UIE         (1ull << 1)   /* interrupt when at most one list register is in use */
#define ICH_HCR_LRENPIE     (1ull << 2)   /* and when the guest ends a line that is in none */
#define ICH_HCR_TDIR        (1ull << 14)  /* ICC_DIR_EL1 traps */
#define ICH_HCR_EOICOUNT(v) ((unsigned)((v) >> 27) & 31)
#define ICH_VMCR_EOIM       (1ull << 9)   /* the guest ends in two steps */
#define ICH_VTR_LRS(v)      (((unsigned)(v) & 31) + 1)
#define LR_PENDING          (1ull << 62)
#define LR_ACTIVE           (1ull << 63)
#define LR_HW               (1ull << 61)
#define LR_GROUP1           (1ull << 60)
#define LR_PRIORITY_SHIFT   48
#define LR_PHYSICAL_SHIFT   32
#define LR_LINE(lr)         ((unsigned)(lr))

/* ---- EL2's physical timer ---- */
#define SYSREG_CNTHP_CTL    s3_4_c14_c2_1
#define SYSREG_CNTHP_CVAL   s3_4_c14_c2_2
#define TIMER_ENABLE        1ull
#define TIMER_MASKED        2ull

/* ---- the guest's registers, as E2H names them ---- */
#define SYSREG_SCTLR_EL12      s3_5_c1_c0_0
#define SYSREG_CPACR_EL12      s3_5_c1_c0_2
#define SYSREG_TTBR0_EL12      s3_5_c2_c0_0
#define SYSREG_TTBR1_EL12      s3_5_c2_c0_1
#define SYSREG_TCR_EL12        s3_5_c2_c0_2
#define SYSREG_SPSR_EL12       s3_5_c4_c0_0
#define SYSREG_ELR_EL12        s3_5_c4_c0_1
#define SYSREG_ESR_EL12        s3_5_c5_c2_0
#define SYSREG_FAR_EL12        s3_5_c6_c0_0
#define SYSREG_MAIR_EL12       s3_5_c10_c2_0
#define SYSREG_AMAIR_EL12      s3_5_c10_c3_0
#define SYSREG_VBAR_EL12       s3_5_c12_c0_0
#define SYSREG_CONTEXTIDR_EL12 s3_5_c13_c0_1
#define SYSREG_CNTKCTL_EL12    s3_5_c14_c1_0
#define SYSREG_CNTP_CTL_EL02   s3_5_c14_c2_1
#define SYSREG_CNTV_CTL_EL02   s3_5_c14_c3_1
#define SYSREG_HCRX            s3_4_c1_c2_2
#define HCRX_MSCEN             (1ull << 11)
