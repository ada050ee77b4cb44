/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guest's interrupt controller: a GICv3 without LPIs, of which the CPU interface is the processor's own (list
 * registers), and distributor and redistributors are emulated.
 *
 * State is in banks of 32 lines. While the guest runs, a line that is in a list register is neither pending nor active
 * in its bank; each exit brings it back. So what the lab changes between two runs is always complete, and what another
 * processor raises meanwhile adds to it.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#define VGIC_LINES     288u          /* as many as QEMU's machine has */
#define VGIC_BANKS     (VGIC_LINES / 32)
#define VGIC_LRS       16
#define VGIC_NO_TARGET 0xFF

struct vgic_bank {
    uint32_t group1, enabled, pending, active;
    uint32_t edge;                   /* else by level: of lines of the machine, who alone has such */
    uint32_t passed;                 /* the machine's line of the same number is the guest's */
    uint8_t priority[32];
};

struct vgic_cpu {
    struct vgic_bank bank;           /* SGIs and PPIs */
    unsigned lr_count;               /* list registers in use */
    uint16_t lr_line[VGIC_LRS];
};

struct vcpu;
void vgic_init(void);
void vgic_cpu_reset(struct vcpu *v);                 /* its redistributor as after a reset; on its own processor */
/* Around each run, on the vcpu's processor. */
void vgic_load(struct vcpu *v);
void vgic_save(struct vcpu *v);
bool vgic_deliverable(struct vcpu *v);               /* a pending line would end its WFI */

/* An edge: SGI or PPI of that vcpu, or an SPI (v is not looked at). */
void vgic_raise(struct vcpu *v, unsigned intid);
/* The machine's line of that number becomes the guest's. */
void vgic_pass(unsigned intid);
/* A line of the guest's was acknowledged here; it stays active in the machine until the guest ends it. */
void vgic_physical(struct vcpu *v, unsigned intid);
void vgic_sgi(struct vcpu *from, uint64_t value);    /* ICC_SGI1R */
void vgic_deactivate(struct vcpu *v, uint64_t value);    /* ICC_DIR */

/* vgicmmio.c */
#define VGIC_DISTRIBUTOR_BYTES   0x10000ull
#define VGIC_REDISTRIBUTOR_BYTES 0x20000ull
/* An address of its frames; *value is read or written. False: not one of them. */
bool vgic_access(struct vcpu *v, uint64_t gpa, bool write, unsigned bytes, uint64_t *value);

/* Between the two files. */
struct vgic_bank *vgic_bank(struct vcpu *v, unsigned bank);
extern uint32_t vgic_control;                        /* GICD_CTLR */
extern uint8_t vgic_spi_target[VGIC_LINES];          /* vcpu of each SPI; VGIC_NO_TARGET: no such */
extern uint64_t vgic_spi_route[VGIC_LINES];          /* GICD_IROUTER as written */
/* Enabled lines changed: the machine's lines follow, the vcpus concerned look again. */
void vgic_enabled_changed(struct vcpu *v, unsigned bank, uint32_t before);
void vgic_route_changed(unsigned intid);
