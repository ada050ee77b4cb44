/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The lab: a small hypervisor on AMD SVM that presents Hyper-V to an unchanged guest under plain QEMU.
 *
 * How the parts fit. One guest per lab, vcpus run on the physical CPU of the same number. What Hyper-V is (CPUID
 * leaves, synthetic registers, hypercalls, VMBus, disks, NICs) is the model in tests/host; the lab gives it a CPU, the
 * guest's memory, a clock and back ends:
 *
 *   main.c     order of bring-up                vcpu.c    VMCB, run loop             vmrun.S   world switch
 *   exits.c    CPUID, MSR, VMMCALL, ports       walk.c    guest virtual addresses, MMIO instructions
 *   npt.c      guest-physical memory            apic.c    the xAPIC shared with the guest
 *   clock.c    HPET: time and the NMI timer     serial.c  COM2: log, reports, commands
 *   pci.c virtio.c vblk.c vnet.c                back ends of storvsp and netvsp
 *   glue.c     the model's callbacks            report.c  counters, marks, profile, how a run ends
 *   ics.c      integration components: options, commands, reports
 *   balloon.c  dynamic memory: likewise         isolation.c   private and shared memory: likewise
 *   smp.c smp_start.S   further processors, the lock    watch.c  mark_at=
 *   direct.c acpi.c                            direct mode: loads the guest itself
 *
 * Interrupts. The guest owns the xAPIC and takes its interrupts without exits. Everything the lab waits for (timer,
 * disk, NIC) is delivered as NMI, which always leaves the guest. While the lab runs, GIF and IF are 0 and nothing
 * interrupts it; it opens GIF only in lab_take_nmi and while it waits.
 *
 * Serial ports. COM1 is the guest's, unwatched. COM2 is the lab's: its log, the model's trace, one line
 * "lab-counter: name=value" per counter at the end, and commands (serial.c) as input.
 *
 * The process exit code of QEMU (isa-debug-exit, iobase=0xf4) says how the run ended: enum lab_end.
 *
 * Assumes QEMU 7.2 or later, -cpu EPYC,+svm,+npt, -global hpet.msi=on, -device isa-debug-exit,iobase=0xf4.
 */
#pragma once
#include "tests/lab/x86_64/svm.h"
#include "mm/mm.h"

/* QEMU exits with value << 1 | 1. */
enum lab_end {
    LAB_END_POWER_OFF  = 0x10,   /* QEMU exit code 33: the guest powered itself off */
    LAB_END_CRASH      = 0x11,   /* 35: the guest reported a crash to the hypervisor */
    LAB_END_TRIPLE     = 0x12,   /* 37: triple fault */
    LAB_END_VIOLATION  = 0x13,   /* 39: the guest broke the protocol, whatever else happened */
    LAB_END_FAULT      = 0x14,   /* 41: the lab itself failed, or could not start */
    LAB_END_REBOOT     = 0x15,   /* 43: the guest reset the machine */
    LAB_END_QUIT       = 0x16,   /* 45: the operator's "quit" */
};

#define LAB_MAX_VCPUS  8
/* The lab's own memory in direct mode: physical [0, this). The guest's memory begins behind it; up to 2 MiB at the end
 * of low memory are the firmware's. So 64 MiB more than the guest is to have are always enough for QEMU's -m. */
#define LAB_DIRECT_BYTES (62ull << 20)

/* ---- options, from the command line: key=value words; what follows a word "--" is the guest's command line ---- */
struct lab_options {
    uint64_t guest_mem_bytes;   /* guest_mem=32M; 0: all the lab does not need */
    unsigned cpus;              /* cpus=1 */
    bool measure;               /* measure=1: HLT leaves the guest, so that idle time is not counted as instructions */
    unsigned profile_us;        /* profile=100: samples the guest's RIP every so many microseconds */
    uint64_t mark_at;           /* mark_at=ADDRESS: a mark whenever the guest executes this instruction (watch.c) */
    unsigned tick_ms;           /* tick=10: how often commands are looked for; 0 = never */
    char trace[128];            /* trace=vmbus,storvsp or all: passed to the model */
    uint64_t ramdisk_bytes;     /* ramdisk=64M: a disk in the lab's memory, first of the list; deterministic */
    unsigned latency_us;        /* latency=100: time that a request to that disk takes; 0: it completes inside submit */
    char host_words[512];       /* words with a dot in the name, e.g. vmbus.version=5.2: the model's */
    char guest_cmdline[2048];
};
extern struct lab_options lab_options;
void options_parse(const char *cmdline);

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
    uint64_t guest_instructions;   /* what the counter advanced inside the guest; instructions under -icount */
    uint32_t sipi_vector;
    volatile bool init_pending, sipi_pending;
    uint64_t auto_eoi[4];          /* vectors waiting to be injected past the local APIC */
};
extern struct vcpu lab_vcpus[LAB_MAX_VCPUS];
extern unsigned lab_vcpu_count;

int svm_init(void);                /* this CPU: SVM on, host save area. 0 or -E_NOTSUP with a log line */
int vcpu_init(struct vcpu *v, unsigned index, unsigned apic_id);
/* Linux 64-bit protocol: long mode, flat segments, everything else as at reset. */
void vcpu_set_long_mode(struct vcpu *v, uint64_t rip, uint64_t cr3, uint64_t gdt, uint64_t rsi);
void vcpu_set_real_mode(struct vcpu *v, unsigned sipi_vector);
NORETURN void vcpu_run(struct vcpu *v);
void vcpu_dump(const struct vcpu *v);
void vcpu_inject_exception(struct vcpu *v, unsigned vector, bool has_error, uint32_t error);
/* An interrupt for which the guest writes no EOI: not by way of the local APIC. */
void vcpu_raise_auto_eoi(struct vcpu *v, unsigned vector);
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
void io_init(void);                /* the port map, before vcpu_init */
void io_deny(uint8_t *map, unsigned port, unsigned count);
paddr_t io_permission_map(void);
paddr_t msr_permission_map(void);

/* ---- watch.c: mark_at= ---- */
void watch_arm(struct vcpu *v);
void exit_debug(struct vcpu *v);

/* ---- walk.c ---- */
/* Guest-virtual to guest-physical by the guest's own tables (4 or 5 levels, PAE, 32-bit, none). */
bool guest_translate(const struct vcpu *v, uint64_t address, uint64_t *gpa);
/* Copies up to n bytes of guest-virtual memory; returns how many were reachable. */
size_t guest_fetch(const struct vcpu *v, uint64_t address, void *to, size_t n);
/* One MMIO instruction at the guest's RIP. */
struct mmio_op { bool write; unsigned bytes, reg, length; unsigned reg_bytes; bool sign, high_byte;
                 uint64_t value; };
bool mmio_decode(struct vcpu *v, struct mmio_op *op);
void mmio_finish(struct vcpu *v, const struct mmio_op *op, uint64_t read_value);

/* ---- npt.c ---- */
int npt_init(void);
int npt_map(uint64_t gpa, uint64_t hpa, uint64_t bytes, unsigned attr);
void npt_unmap(uint64_t gpa, uint64_t bytes);
int npt_protect(uint64_t gpa, uint64_t bytes, unsigned attr);
bool npt_mapped(uint64_t gpa);
paddr_t npt_root(void);
/* A stretch of guest RAM for the model alone, or mapped for the guest too. */
int guest_ram_window(uint64_t gpa, uint64_t hpa, uint64_t bytes);
int guest_ram_add(uint64_t gpa, uint64_t hpa, uint64_t bytes);
uint64_t guest_ram_bytes(void);
uint64_t guest_ram_end(void);                       /* no guest RAM from here on */
void *guest_ptr(uint64_t gpa, uint64_t bytes);      /* NULL when any of it is not guest RAM, or not contiguous here */
bool guest_ptr_to_hpa(const void *p, uint64_t *hpa);

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
void apic_kick(struct vcpu *target);                 /* NMI: leave the guest and look for work */
void apic_guest_write(struct vcpu *v, uint32_t offset, uint32_t value);
/* Rights of the guest on the APIC page: read-only with more than one vcpu. */
unsigned apic_guest_rights(void);
#define APIC_BASE_GPA 0xFEE00000ull

/* ---- clock.c ---- */
int clock_init(void);                                /* finds the HPET, measures the TSC */
uint64_t clock_now_100ns(void);
uint64_t clock_now_us(void);
uint64_t clock_tsc_hz(void);
void clock_set_deadline(uint64_t when_100ns);        /* the model's next timer; UINT64_MAX: none */
void clock_set_device_deadline(uint64_t when_100ns); /* and that of the lab's own devices */
bool clock_due(void);                                /* a deadline or tick has passed */
bool clock_tick_due(void);                           /* true once per tick */
void clock_arm(void);                                /* programs the next NMI */

/* ---- serial.c ---- */
void serial_init(void);
bool serial_poll_line(char *line, size_t size);      /* a whole command line has arrived */

/* ---- report.c ---- */
enum lab_counter {
    CNT_EXITS, CNT_EXIT_CPUID, CNT_EXIT_MSR, CNT_EXIT_HYPERCALL, CNT_EXIT_IO, CNT_EXIT_NPF, CNT_EXIT_NMI, CNT_EXIT_HLT,
    CNT_INTERRUPTS, CNT_BLOCK_REQUESTS, CNT_BLOCK_BYTES, CNT_BLOCK_NOTIFIES, CNT_FRAMES_TX, CNT_FRAMES_RX,
    CNT_FRAMES_DROPPED, CNT_NET_NOTIFIES, CNT_COUNT
};
extern uint64_t lab_counters[CNT_COUNT];
static inline void lab_count(enum lab_counter c) { lab_counters[c]++; }
static inline void lab_count_add(enum lab_counter c, uint64_t n) { lab_counters[c] += n; }
void report_counters(void);
/* "lab-mark: name guest_instructions=... ..." in one line: a benchmark takes the difference of two. */
void report_mark(const char *name);
void report_once(unsigned event, const char *name);  /* the first call of each event prints a mark */
enum { EVENT_FIRST_BLOCK, EVENT_FIRST_FRAME, EVENTS };
void profile_sample(const struct vcpu *v);
void report_violation(const char *text);             /* the run has failed; it goes on, for the trace's sake */
NORETURN void lab_end(enum lab_end how, const char *why);

/* ---- glue.c ---- */
int glue_init(void);                                 /* makes the model, attaches back ends */
void glue_poll(void);                                /* completions, timers, commands; cheap when there is nothing */
void glue_command(char *line);

static inline void lab_cpuid(uint32_t leaf, uint32_t sub, uint32_t r[4])
{
    struct x86_cpuid c = x86_cpuid(leaf, sub);
    r[0] = c.eax, r[1] = c.ebx, r[2] = c.ecx, r[3] = c.edx;
}
static inline uint32_t mmio_read32(const volatile void *p) { return *(const volatile uint32_t *)p; }
static inline void mmio_write32(volatile void *p, uint32_t v) { *(volatile uint32_t *)p = v; }
