/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The lab on AMD SVM: what the files of this folder share. tests/lab/lab.h tells what is the same everywhere,
 * tests/lab/machine.h what has to be given here.
 *
 *   vcpu.c     VMCB, run loop                   vmrun.S   world switch
 *   exits.c    CPUID, MSR, VMMCALL, ports       walk.c    guest virtual addresses, MMIO instructions
 *   npt.c      format of nested page tables     apic.c    the xAPIC shared with the guest
 *   hpet.c     the alarm                        cmos.c    time of day
 *   pci.c virtio_pci.c                          where the back ends' devices are
 *   smp.c smp_start.S   further processors, the lock    drain.c   a local APIC after INIT
 *   load.c acpi.c       direct mode: loads the guest itself
 *   firmware.c efi/     firmware mode           machine.c   the rest of the contract
 *
 * Interrupts. The guest owns the xAPIC and takes its interrupts without exits. Everything the lab waits for (timer,
 * disk, NIC) is delivered as NMI, which always leaves the guest. While the lab runs, GIF and IF are 0 and nothing
 * interrupts it; it opens GIF only in lab_take_nmi and while it waits.
 *
 * Serial ports. COM1 is the guest's, unwatched. COM2 is the lab's.
 *
 * Assumes QEMU 7.2 or later, -cpu EPYC,+svm,+npt, -global hpet.msi=on, -device isa-debug-exit,iobase=0xf4.
 */
#pragma once
#include "tests/lab/machine.h"
#include "tests/lab/x86_64/svm.h"

/* ---- vcpus ---- */
enum { GPR_RAX, GPR_RCX, GPR_RDX, GPR_RBX, GPR_RSP, GPR_RBP, GPR_RSI, GPR_RDI, GPR_R8 };

enum vcpu_state { VCPU_OFF, VCPU_WAIT_SIPI, VCPU_RUNNING };

struct vcpu {
    uint64_t gprs[16];             /* in encoding order; RAX and RSP are in the VMCB while the guest runs (vmrun.S) */
    struct svm_vmcb *vmcb;
    paddr_t vmcb_pa, host_vmcb_pa;
    unsigned index, apic_id;
    enum vcpu_state state;
    bool idle_run;                 /* measure=1: this VMRUN is the guest's HLT, its time does not count */
    uint64_t runs;                 /* odd while it is in the guest, or about to be (smp.c) */
    uint64_t guest_instructions;   /* what the counter advanced inside the guest; instructions under -icount */
    uint32_t sipi_vector;
    volatile bool init_pending, sipi_pending;
    uint64_t auto_eoi[4];          /* vectors waiting to be injected past the local APIC */
};
extern struct vcpu lab_vcpus[LAB_MAX_VCPUS];

int svm_init(void);                /* this CPU: SVM on, host save area. 0 or -E_NOTSUP with a log line */
int vcpu_init(struct vcpu *v, unsigned index, unsigned apic_id);
/* Linux 64-bit protocol: long mode, flat segments, everything else as at reset. */
void vcpu_set_long_mode(struct vcpu *v, uint64_t rip, uint64_t cr3, uint64_t gdt, uint64_t rsi);
void vcpu_set_real_mode(struct vcpu *v, unsigned sipi_vector);
void vcpu_inject_exception(struct vcpu *v, unsigned vector, bool has_error, uint32_t error);
/* Behind the instruction; its interrupt shadow ends with it. */
void vcpu_advance(struct vcpu *v, uint64_t next_rip);

/* vmrun.S */
/* 28 from one reading of the counter to the other, less the instruction that left the guest: QEMU does not count it. */
#define LAB_SWITCH_INSTRUCTIONS 27
uint64_t lab_vmrun(uint64_t *gprs, uint64_t guest_vmcb_pa, uint64_t host_vmcb_pa);
void lab_nmi_entry(void);
void lab_drain_entry(void);
void lab_debug_entry(void);
extern volatile uint64_t lab_nmis_taken;

static inline void lab_clgi(void) { __asm__ volatile("clgi" : : : "memory"); }
static inline void lab_stgi(void) { __asm__ volatile("stgi" : : : "memory"); }
static inline void lab_sleep(void) { __asm__ volatile("stgi; hlt; clgi" : : : "memory"); }
static inline void lab_take_nmi(void) { __asm__ volatile("stgi; nop; clgi" : : : "memory"); }
static inline void lab_take_interrupt(void) { __asm__ volatile("stgi; sti; nop; nop; cli; clgi" : : : "memory"); }

/* ---- exits.c ---- */
void exit_cpuid(struct vcpu *v);
void exit_msr(struct vcpu *v);
void exit_hypercall(struct vcpu *v);
void exit_io(struct vcpu *v);
void exit_npf(struct vcpu *v);
void exit_debug(struct vcpu *v);
void io_init(void);                /* the port map, before vcpu_init */
void io_deny(uint8_t *map, unsigned port, unsigned count);
paddr_t io_permission_map(void);
paddr_t msr_permission_map(void);

/* ---- walk.c ---- */
/* Guest-virtual to guest-physical by the guest's own tables (4 or 5 levels, PAE, 32-bit, none). */
bool guest_translate(const struct vcpu *v, uint64_t address, uint64_t *gpa);
/* The entries on the way to a guest-virtual address, from the top, for reports; how many there are. */
#define WALK_LEVELS 5
struct walk { uint64_t address, gpa[WALK_LEVELS], entry[WALK_LEVELS]; };
unsigned guest_walk(const struct vcpu *v, uint64_t address, struct walk *w);
/* One MMIO instruction at the guest's RIP. */
struct mmio_op { bool write; unsigned bytes, reg, length; unsigned reg_bytes; bool sign, high_byte;
                 uint64_t value; };
bool mmio_decode(struct vcpu *v, struct mmio_op *op);
void mmio_finish(struct vcpu *v, const struct mmio_op *op, uint64_t read_value);

/* ---- apic.c ---- */
int apic_init(void);
unsigned apic_own_id(void);
/* Makes a fixed, edge-triggered interrupt pend in the local APIC of that vcpu's CPU. */
void apic_raise(struct vcpu *target, unsigned vector);
uint32_t apic_read(unsigned reg);                    /* of this processor's own */
void apic_write(unsigned reg, uint32_t v);
void apic_reset(void);
void apic_take_init(void);                           /* drain.c: this processor's, as INIT leaves it */
void apic_start_processor(unsigned apic_id, unsigned vector);
void apic_guest_write(struct vcpu *v, uint32_t offset, uint32_t value);
/* Rights of the guest on the APIC page: read-only with more than one vcpu. */
unsigned apic_guest_rights(void);
#define APIC_BASE_GPA 0xFEE00000ull

static inline void lab_cpuid(uint32_t leaf, uint32_t sub, uint32_t r[4])
{
    struct x86_cpuid c = x86_cpuid(leaf, sub);
    r[0] = c.eax, r[1] = c.ebx, r[2] = c.ecx, r[3] = c.edx;
}
