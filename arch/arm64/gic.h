/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The Generic Interrupt Controller, version 3: registers, and what irq.c, timer.c and the lab ask of it.
 * Source: Arm GIC Architecture Specification, versions 3 and 4 (IHI 0069), chapters 8 and 12.
 */
#pragma once
#include "arch/arch.h"

/* ---- distributor: one frame of 64 KiB ---- */
#define GICD_FRAME_BYTES     0x10000u
#define GICD_CTLR            0x0000
#define GICD_TYPER           0x0004
#define GICD_IIDR            0x0008
#define GICD_IGROUPR         0x0080      /* a bit per interrupt, 32 per word */
#define GICD_ISENABLER       0x0100
#define GICD_ICENABLER       0x0180
#define GICD_ISPENDR         0x0200
#define GICD_ICPENDR         0x0280
#define GICD_ISACTIVER       0x0300
#define GICD_ICACTIVER       0x0380
#define GICD_IPRIORITYR      0x0400      /* a byte per interrupt */
#define GICD_ICFGR           0x0C00      /* two bits per interrupt; the upper one: edge */
#define GICD_IGRPMODR        0x0D00
#define GICD_IROUTER         0x6000      /* eight bytes per interrupt, from SPI 32 on */
#define GICD_PIDR2           0xFFE8
#define GICD_CTLR_ENABLE_GROUP1   (1u << 0)      /* with one security state: group 0, and the next bit is group 1 */
#define GICD_CTLR_ENABLE_GROUP1A  (1u << 1)
#define GICD_CTLR_ARE        (1u << 4)
#define GICD_CTLR_DS         (1u << 6)           /* one security state */
#define GICD_CTLR_RWP        (1u << 31)
#define GICD_TYPER_LINES(typer)  (((typer) & 0x1F) + 1)     /* words of 32 interrupts */
#define GIC_PIDR2_VERSION(pidr2) ((pidr2) >> 4 & 0xF)

/* ---- redistributor: one per processor, two frames of 64 KiB (four from version 4 on, with virtual LPIs) ---- */
#define GICR_FRAME_BYTES     0x10000u
#define GICR_CTLR            0x0000
#define GICR_TYPER           0x0008
#define GICR_WAKER           0x0014
#define GICR_SGI_FRAME       0x10000     /* SGIs and PPIs, with the distributor's offsets for word 0 */
#define GICR_CTLR_RWP        (1u << 3)
#define GICR_TYPER_VLPIS     (1ull << 1)
#define GICR_TYPER_LAST      (1ull << 4)
#define GICR_TYPER_AFFINITY(typer) ((uint32_t)((typer) >> 32))     /* Aff3 Aff2 Aff1 Aff0, a byte each */
#define GICR_WAKER_PROCESSOR_SLEEP (1u << 1)
#define GICR_WAKER_CHILDREN_ASLEEP (1u << 2)

/* ---- interrupt numbers ---- */
#define GIC_SGIS             16
#define GIC_PPI_FIRST        16
#define GIC_SPI_FIRST        32
#define GIC_SPURIOUS_FIRST   1020        /* to 1023 */
#define GIC_SPURIOUS_LAST    1023
static inline bool gic_is_ppi(uint32_t intid) { return intid >= GIC_PPI_FIRST && intid < GIC_SPI_FIRST; }

/* ---- processor interface ---- */
#define ICC_SRE_ENABLE       (1ull << 0)
#define ICC_CTLR_CBPR        (1ull << 0)
#define ICC_CTLR_EOIMODE     (1ull << 1)
#define ICC_INTID_MASK       0xFFFFFFu
#define ICC_SGI1R_TARGET_SELF(affinity0) (1ull << ((affinity0) & 15))

/* MPIDR's affinity in the order of GICR_TYPER. */
static inline uint32_t gic_affinity(uint64_t mpidr)
{
    return (uint32_t)((mpidr >> 32 & 0xFF) << 24 | (mpidr & 0xFFFFFF));
}

/* ---- gic_find.c ---- */
#define GIC_RANGE_BYTES_MAX  (256u << 20)        /* 2048 processors */
/* Offset of the redistributor with this affinity in a range whose GICR_TYPER at an offset read tells; bytes is the
 * range's length. False when none has it. */
bool gic_find_redistributor(uint32_t affinity, uint64_t bytes, bool one_by_one,
                            uint64_t (*typer)(void *context, uint64_t offset), void *context, uint64_t *offset);

/* ---- gic.c: of this processor ---- */
/* Distributor and redistributor by what arm64_platform says; every interrupt off. 0 or -E_*, after one line. */
int gic_init(void);
bool gic_ready(void);
/* An SGI or PPI of this processor; lower numbers are more urgent. Its pending state is dropped. */
void gic_enable(uint32_t intid, bool edge, uint8_t priority);
void gic_disable(uint32_t intid);
/* Makes an edge-triggered one pending. */
void gic_raise(uint32_t intid);
