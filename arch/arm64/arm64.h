/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The processor's own instructions and registers, for arch/arm64, boot/arm64 and the lab's hypervisor only.
 * Source: Arm Architecture Reference Manual for A-profile (DDI 0487), chapters C5, D1, D5, D8, D13.
 *
 * Which level: at EL1 the names mean EL1's registers. At EL2 with HCR_EL2.E2H set the same names reach EL2's (SCTLR,
 * TCR, TTBR0/1, MAIR, VBAR, ESR, FAR, ELR, SPSR, CPACR = CPTR_EL2, CNTKCTL = CNTHCTL_EL2, CNTP_* and CNTV_* EL2's own
 * timers); a guest's are then named _EL12 and _EL02. Not renamed: SP_EL1, TPIDR_*, PAR_EL1, the ID registers.
 * TPIDR of the running level (TPIDR_EL1, or TPIDR_EL2) is a scratch register of vectors.S and may not hold anything.
 */
#pragma once
#ifndef __ASSEMBLER__
#include "arch/shared.h"
#include "arch/arm64/console.h"
#include "arch/arm64/pt.h"

/* ---- system registers, by the assembler's names, in quotes or not ---- */
#define sysreg_read(name)                                                     \
    ({                                                                        \
        uint64_t sysreg_value_;                                               \
        __asm__ volatile("mrs %0, " #name : "=r"(sysreg_value_) : : "memory"); \
        sysreg_value_;                                                        \
    })
#define sysreg_write(name, value)                                                        \
    do {                                                                                 \
        uint64_t sysreg_new_ = (value);                                                  \
        __asm__ volatile("msr " #name ", %x0" : : "rZ"(sysreg_new_) : "memory");         \
    } while (0)
/* The field of an ID register that begins at this bit: four bits, unsigned. */
static inline unsigned arm64_field(uint64_t reg, unsigned shift) { return (unsigned)(reg >> shift) & 15; }

/* Registers that binutils of the oldest supported compiler know by number only. */
#define SYSREG_RNDR          s3_3_c2_c4_0
#define SYSREG_PAN           s3_0_c4_c2_3
#define SYSREG_ID_AA64MMFR2  s3_0_c0_c7_2
/* The GIC's CPU interface (GICv3), for gic.c. */
#define SYSREG_ICC_PMR       s3_0_c4_c6_0
#define SYSREG_ICC_IAR1      s3_0_c12_c12_0
#define SYSREG_ICC_EOIR1     s3_0_c12_c12_1
#define SYSREG_ICC_BPR1      s3_0_c12_c12_3
#define SYSREG_ICC_CTLR      s3_0_c12_c12_4
#define SYSREG_ICC_SRE       s3_0_c12_c12_5
#define SYSREG_ICC_IGRPEN1   s3_0_c12_c12_7
#define SYSREG_ICC_RPR       s3_0_c12_c11_3
#define SYSREG_ICC_DIR       s3_0_c12_c11_1
#define SYSREG_ICC_SGI1R     s3_0_c12_c11_5
/* With the register's number behind a macro. */
#define sysreg_read_as(name)         sysreg_read(name)
#define sysreg_write_as(name, value) sysreg_write(name, value)

/* ---- barriers and caches ---- */
static inline void arm64_isb(void) { __asm__ volatile("isb" : : : "memory"); }
static inline void arm64_dsb_ish(void) { __asm__ volatile("dsb ish" : : : "memory"); }
static inline void arm64_dsb_ishst(void) { __asm__ volatile("dsb ishst" : : : "memory"); }
static inline void arm64_wfi(void) { __asm__ volatile("dsb sy\n wfi" : : : "memory"); }
static inline void arm64_sev(void) { __asm__ volatile("dsb ish\n sev" : : : "memory"); }
/* For others than this processor's view of cached memory: to the point of coherency. */
void arm64_cache_clean(const void *start, uint64_t bytes);            /* cpu.c */
/* Code that was written becomes fit to be executed, on all processors. */
void arm64_code_written(const void *start, uint64_t bytes);           /* cpu.c */

/* ---- device registers: one plain load or store each, which a hypervisor can decode ---- */
static inline uint32_t arm64_read32(const volatile void *at)
{
    uint32_t v;
    __asm__ volatile("ldr %w0, [%1]" : "=r"(v) : "r"(at) : "memory");
    return v;
}
static inline void arm64_write32(volatile void *at, uint32_t v)
{
    __asm__ volatile("str %w0, [%1]" : : "rZ"(v), "r"(at) : "memory");
}
static inline uint64_t arm64_read64(const volatile void *at)
{
    uint64_t v;
    __asm__ volatile("ldr %0, [%1]" : "=r"(v) : "r"(at) : "memory");
    return v;
}
static inline void arm64_write64(volatile void *at, uint64_t v)
{
    __asm__ volatile("str %x0, [%1]" : : "rZ"(v), "r"(at) : "memory");
}
static inline uint8_t arm64_read8(const volatile void *at)
{
    uint32_t v;
    __asm__ volatile("ldrb %w0, [%1]" : "=r"(v) : "r"(at) : "memory");
    return (uint8_t)v;
}
static inline void arm64_write8(volatile void *at, uint8_t v)
{
    __asm__ volatile("strb %w0, [%1]" : : "rZ"((uint32_t)v), "r"(at) : "memory");
}

/* ---- the exception level ---- */
static inline unsigned arm64_el(void) { return (unsigned)(sysreg_read(CurrentEL) >> 2) & 3; }

/* ---- what vectors.S pushes ---- */
struct arm64_frame {
    uint64_t x[31];
    uint64_t sp;                 /* of what was interrupted */
    uint64_t elr, spsr, esr, far;
    uint64_t record[2];          /* frame record: x29 and ELR, so that backtraces go on through it */
};
_Static_assert(sizeof(struct arm64_frame) == 38 * 8, "vectors.S pushes it");
_Static_assert(sizeof(struct arm64_frame) % 16 == 0, "SP stays aligned");

/* Faults and panics are reported from here on, SErrors not yet: of arch_cpu_init, for the entry. */
void arm64_cpu_early(void);                                           /* cpu.c */

/* ---- between the files of this folder ---- */
void arm64_vectors_init(void);                            /* exceptions.c: VBAR, emergency stack */
void arm64_exception(struct arm64_frame *frame, unsigned vector);  /* exceptions.c; ARM64_VECTOR_* */
void arm64_fault_caller(uint64_t pc, uint64_t return_address);     /* cpu.c */
void arm64_irq(struct arm64_frame *frame);                /* irq.c */
extern struct arch_platform arm64_platform;               /* platform.c: first what the entry's device tree says */
void *arm64_map_device(paddr_t start, uint64_t bytes);    /* pt.c: by mm's hook; NULL before mm_init too */
extern unsigned arm64_entry_el;                           /* cpu.c: the level at which the loader came: 1 or 2 */
/* Is there anybody beneath to be asked by HVC? Not at EL2, and not at EL1 when we came from EL2 ourselves. */
static inline bool arm64_has_hypervisor(void) { return arm64_entry_el == 1; }

#endif

/* ---- numbers of vectors in groups of four: synchronous, IRQ, FIQ, SError ---- */
#define ARM64_VECTOR_SP0     0       /* this level, on SP_EL0: never used here */
#define ARM64_VECTOR_SPX     4       /* this level */
#define ARM64_VECTOR_LOWER   8       /* a lower level, AArch64 */
#define ARM64_VECTOR_LOWER32 12
#define ARM64_VECTOR_SYNC    0
#define ARM64_VECTOR_IRQ     1
#define ARM64_VECTOR_FIQ     2
#define ARM64_VECTOR_SERROR  3

/* ---- ESR ---- */
#define ESR_EC_SHIFT         26
#define ESR_EC(esr)          ((unsigned)((esr) >> ESR_EC_SHIFT) & 0x3F)
#define ESR_IL               (1u << 25)
#define ESR_ISS(esr)         ((uint32_t)(esr) & 0x1FFFFFF)
#define ESR_EC_UNKNOWN       0x00
#define ESR_EC_WFX           0x01
#define ESR_EC_FP            0x07
#define ESR_EC_PAC           0x09
#define ESR_EC_BTI           0x0D
#define ESR_EC_ILLEGAL_STATE 0x0E
#define ESR_EC_SVC64         0x15
#define ESR_EC_HVC64         0x16
#define ESR_EC_SMC64         0x17
#define ESR_EC_SYSREG        0x18
#define ESR_EC_SVE           0x19
#define ESR_EC_IABT_LOWER    0x20
#define ESR_EC_IABT          0x21
#define ESR_EC_PC_ALIGN      0x22
#define ESR_EC_DABT_LOWER    0x24
#define ESR_EC_DABT          0x25
#define ESR_EC_SP_ALIGN      0x26
#define ESR_EC_FPE           0x2C
#define ESR_EC_SERROR        0x2F
#define ESR_EC_BREAKPOINT    0x31
#define ESR_EC_STEP          0x33
#define ESR_EC_WATCHPOINT    0x35
#define ESR_EC_BRK           0x3C
/* of aborts */
#define ESR_ISS_FSC          0x3F
#define ESR_ISS_WNR          (1u << 6)
#define ESR_ISS_S1PTW        (1u << 7)
#define ESR_ISS_CM           (1u << 8)
#define ESR_ISS_FNV          (1u << 10)
#define ESR_ISS_ISV          (1u << 24)
#define ESR_FSC_TYPE(iss)    ((iss) & 0x3C)       /* without the level */
#define ESR_FSC_LEVEL(iss)   ((iss) & 3)
#define ESR_FSC_ADDRESS      0x00
#define ESR_FSC_TRANSLATION  0x04
#define ESR_FSC_ACCESS       0x08
#define ESR_FSC_PERMISSION   0x0C
#define ESR_FSC_EXTERNAL     0x10
#define ESR_FSC_EXTERNAL_WALK 0x14
#define ESR_FSC_ALIGNMENT    0x21

/* ---- PSTATE, as SPSR has it ---- */
#define SPSR_EL1H            0x5
#define SPSR_EL2H            0x9
#define SPSR_F               (1 << 6)
#define SPSR_I               (1 << 7)
#define SPSR_A               (1 << 8)
#define SPSR_D               (1 << 9)
#define SPSR_PAN             (1 << 22)

/* ---- SCTLR_EL1, and EL2's with E2H ---- */
#define SCTLR_M              (1 << 0)
#define SCTLR_A              (1 << 1)
#define SCTLR_C              (1 << 2)
#define SCTLR_SA             (1 << 3)
#define SCTLR_I              (1 << 12)
#define SCTLR_WXN            (1 << 19)
#define SCTLR_SPAN           (1 << 23)
#define SCTLR_EE             (1 << 25)
/* What was reserved as one when the architecture began: LSMAOE nTLSMD SPAN EIS TSCXT EOS. */
#define SCTLR_RES1           0x30D00800
#define SCTLR_KERNEL         (SCTLR_RES1 | SCTLR_M | SCTLR_C | SCTLR_SA | SCTLR_I)

/* ---- MAIR, in the order of pt.h's MAIR_* ---- */
#define MAIR_VALUE           0x004404FF

/* ---- TCR: both halves of 48 bits, 4 KiB pages, tables in write-back inner shareable memory ---- */
#define TCR_T0SZ(bits)       (64 - (bits))
#define TCR_T1SZ(bits)       ((64 - (bits)) << 16)
#define TCR_EPD0             (1 << 7)
#define TCR_WALK0            (0x3500)            /* SH0 inner, ORGN0 and IRGN0 write back */
#define TCR_WALK1            (0x35000000)
#define TCR_TG1_4K           0x80000000
#define TCR_IPS_SHIFT        32
#define TCR_KERNEL_LOW       (TCR_T0SZ(48) | TCR_T1SZ(48) | TCR_WALK0 | TCR_WALK1)

/* ---- the boot tables, one page each from boot_tables_start on: start.S builds them ---- */
#define ARM64_TABLE_ID_L0      0     /* identity map of the image's first 2 MiB, for TTBR0 */
#define ARM64_TABLE_ID_L1      1
#define ARM64_TABLE_ID_L2      2
#define ARM64_TABLE_KERNEL_L0  3
#define ARM64_TABLE_KERNEL_L1  4
#define ARM64_TABLE_KERNEL_L2  5
#define ARM64_TABLE_EMPTY      6     /* stays empty: between two sets of tables */
#define ARM64_TABLE_POOL       7     /* from here on: tables of the direct map, as boot needs them */
#define ARM64_TABLES           24    /* linker.ld has the same number */
#define ARM64_IMAGE_TABLES     4     /* the last of them at most: pages of an image that is not aligned to 2 MiB */

/* ---- HCR_EL2 ---- */
#define HCR_VM_BIT           0
#define HCR_IMO_BIT          4
#define HCR_FMO_BIT          3
#define HCR_AMO_BIT          5
#define HCR_TGE_BIT          27
#define HCR_RW_BIT           31
#define HCR_E2H_BIT          34
