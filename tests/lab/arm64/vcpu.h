/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The lab on arm64: EL2 with the virtualization host extensions, so that the kernel's own code (lib, mm, arch, boot)
 * runs here unchanged. What of the contract (machine.h) is where, and what the files of this folder know of each other:
 *
 *   el2.h      registers of EL2 by bit             switch.S   world switch and exit vectors
 *   vcpu.c     states, the run loop, kicks         exits.c    what an exit was, and device addresses
 *   calls.c    HVC and SMC: hypercalls, SMCCC      psci.c     power and processors
 *   sysregs.c  ID registers, others that trap      stage2.c   the format of second-stage tables, their TLB
 *   gic.c      the machine's GICv3                 vgic.c     the guest's: state, list registers
 *   vgicmmio.c its distributor and redistributors  timer.c    EL2's timer: clock and alarm
 *   debug.c    mark_at=, guest addresses           smp.c start.S   further processors, the lock, aside=1
 *   board.c    the machine around the processor    virtio_mmio.c   the lab's devices
 *   load.c tree.c acpi.c   direct mode: the guest's image, device tree, ACPI
 *   firmware.c uefi.h efi/ firmware mode
 *
 * Interrupts. All physical ones come to EL2 and bring the guest out. IRQs are masked while the lab runs: what is there
 * between two runs is acknowledged by lab_gic_take(). Lines that are the guest's (its timers, its UART) go on to it
 * tied to their physical line (HW list registers), so that its own end of interrupt ends both. Everything else the
 * guest sees is made by vgic.c.
 *
 * The guest's EL1 registers, vector registers and timers stay in the processor: a vcpu never moves to another one, and
 * the lab uses none of them.
 *
 * Assumes QEMU 7.2 or later, -machine virt,virtualization=on,gic-version=3 and a processor with VHE (neoverse-n1, max).
 */
#pragma once

/* What brought the guest out: the group of the vector. */
#define EXIT_SYNC   0
#define EXIT_IRQ    1
#define EXIT_FIQ    2
#define EXIT_SERROR 3

/* Offsets in struct vcpu, for switch.S. */
#define VCPU_X      0
#define VCPU_PC     (31 * 8)
#define VCPU_PSTATE (32 * 8)
#define VCPU_ESR    (33 * 8)
#define VCPU_FAR    (34 * 8)
#define VCPU_HPFAR  (35 * 8)
#define VCPU_HCR    (36 * 8)
#define VCPU_BEFORE (37 * 8)
#define VCPU_SPENT  (38 * 8)

#ifndef __ASSEMBLER__
#include "arch/arm64/arm64.h"
#include "tests/lab/arm64/vgic.h"
#include "tests/lab/machine.h"

enum vcpu_state { VCPU_OFF, VCPU_STARTING, VCPU_RUNNING };   /* STARTING: its processor will reset its registers */

struct vcpu {
    uint64_t x[31];
    uint64_t pc, pstate;
    uint64_t esr, far, hpfar;      /* of the last synchronous exit */
    uint64_t hcr;                  /* HCR_EL2 while the guest runs */
    uint64_t before, spent;        /* counter of cycles at EL1 and EL0 before and during the last run */
    unsigned index;
    uint64_t mpidr;                /* affinity, as PSCI, GIC and device tree name it */
    enum vcpu_state state;
    uint64_t start_pc, start_x0;   /* of a vcpu that is STARTING */
    bool stepping;                 /* debug.c: over the instruction that mark_at= names */
    uint64_t guest_instructions;
    struct vgic_cpu vgic;
};
_Static_assert(offsetof(struct vcpu, pc) == VCPU_PC && offsetof(struct vcpu, esr) == VCPU_ESR, "switch.S");
_Static_assert(offsetof(struct vcpu, hcr) == VCPU_HCR && offsetof(struct vcpu, spent) == VCPU_SPENT, "switch.S");

extern struct vcpu lab_vcpus[LAB_MAX_VCPUS];

/* ---- vcpu.c ---- */
/* EL1 as after a reset, MMU off: the vcpu's own processor does it when it comes to run. Any lab code may call. */
void vcpu_start(struct vcpu *v, uint64_t pc, uint64_t x0);
struct vcpu *vcpu_of_mpidr(uint64_t mpidr);          /* NULL: none */
bool vcpu_is_here(const struct vcpu *v);             /* this processor is its */
/* This processor's EL2 registers, before its vcpu's first run. */
void vcpu_cpu_init(struct vcpu *v);
/* An exception of EL1, with this syndrome, instead of the instruction at the PC. */
void vcpu_inject(struct vcpu *v, uint64_t esr);
void vcpu_undefined(struct vcpu *v);
void vcpu_advance(struct vcpu *v);                   /* behind the instruction of the last synchronous exit */
/* Register 31 is zero. */
static inline uint64_t vcpu_x(const struct vcpu *v, unsigned n) { return n < 31 ? v->x[n] : 0; }
static inline void vcpu_set_x(struct vcpu *v, unsigned n, uint64_t value)
{
    if (n < 31)
        v->x[n] = value;
}

/* ---- switch.S ---- */
/* Runs the guest until its next exit; returns EXIT_*. IRQs masked before and after. */
unsigned lab_enter(struct vcpu *v);
extern uint64_t lab_host_vbar, lab_host_hcr;         /* what holds while the lab runs */

/* ---- exits.c, calls.c, psci.c, sysregs.c, debug.c ---- */
void exit_handle(struct vcpu *v, unsigned kind);
void wait_for_interrupt(struct vcpu *v);             /* that pends for the guest; the lab goes on meanwhile */
void exit_hvc(struct vcpu *v);
void exit_smc(struct vcpu *v);
void exit_sysreg(struct vcpu *v);
bool psci_call(struct vcpu *v);                      /* function in x0; false: not one of PSCI's */
bool debug_exit(struct vcpu *v, unsigned class);     /* true: it was the lab's */

/* ---- stage2.c ---- */
void stage2_cpu_init(void);                          /* VTCR, VTTBR; after nested_init */

/* ---- gic.c: the machine's ---- */
int lab_gic_init(const struct boot_info *boot);
void lab_gic_cpu_init(struct vcpu *v);
/* Acknowledges what is pending here: the lab's own is handled, the guest's goes to its vgic. True: the alarm was among
 * it. */
bool lab_gic_take(struct vcpu *v);
void lab_gic_kick(const struct vcpu *target);
/* A line of the lab's devices, to the processor that polls them. quiet makes the device take its request back (a level stays
 * otherwise); NULL: it is an edge. */
void lab_gic_own_line(unsigned intid, bool edge, void (*quiet)(unsigned intid));
bool lab_gic_is_own(unsigned intid);
/* For vgic.c: a line that the guest has switched on or off, configured, routed. */
void lab_gic_guest_line(const struct vcpu *target, unsigned intid, bool on);
void lab_gic_guest_edge(unsigned intid, bool edge);
void lab_gic_deactivate(unsigned intid);                                         /* of this processor, or an SPI */
void lab_gic_deactivate_of(const struct vcpu *owner, unsigned intid);            /* by the frames: of any processor */
/* The frames as the machine has them: the guest's are at the same addresses. */
struct lab_gic_frames { uint64_t distributor, redistributors; };
extern struct lab_gic_frames lab_gic_frames;
#define GIC_KICK_SGI        8u
#define GIC_MAINTENANCE_PPI 25u
#define GIC_ALARM_PPI       26u      /* EL2's physical timer */

/* ---- timer.c ---- */
void timer_cpu_init(void);
void timer_alarm_taken(void);

/* ---- smp.c ---- */
/* Starts processors 1 to count - 1, and one for the model (aside=1); returns how many vcpus there are then. */
unsigned smp_start(unsigned count);
/* aside=1: this one's processor polls the model and has the lab's interrupts; it is no vcpu of the guest. Else NULL. */
extern struct vcpu *lab_aside;
/* The model is to be polled: here, or aside. */
void lab_poll(const struct vcpu *here);
#endif
