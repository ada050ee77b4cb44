/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The lab's contract between what is the same everywhere (tests/lab/) and what an architecture gives
 * (tests/lab/x86_64/ on SVM, tests/lab/arm64/ at EL2): the same names in both, chosen at link time.
 *
 * The shared part knows a vcpu by its address and number only. Everything here is called with the lab's lock held
 * (lab_lock), except machine_serial_init and what says otherwise. Addresses: gpa is the guest's physical one (arm64: IPA), hpa
 * the machine's own.
 *
 * Order of bring-up (main.c): machine_serial_init, firmware_handoff, arch_cpu_init, mm_init, options, machine_init,
 * clock_init, nested_init, machine_vcpus, then direct_memory or firmware_memory, glue_init, direct_load or
 * firmware_start, vcpu_run.
 */
#pragma once
#include "boot/boot_info.h"
#include "tests/lab/lab.h"

struct vcpu;
struct host_config;

/* ---- bring-up ---- */
/* The lab's own serial port (machine_serial_*). Called first of all, and once more behind mm_init where it could not be
 * used yet. False: there is none. */
bool machine_serial_init(const struct boot_info *boot);
/* The hypervisor's own exception vectors, virtualisation on, the interrupt controller's part that the lab uses. After
 * mm_init, on the first processor. 0, or an error behind a log line that says what QEMU's command line lacks. */
int machine_init(const struct boot_info *boot);
/* Makes vcpu 0 and starts processors for `wanted` vcpus in all, which wait for the lock; sets lab_vcpu_count. */
int machine_vcpus(unsigned wanted);
/* Facts for the model: arm64, tsc_hz, apic_hz and whatever else follows from the processor. Before the settings. */
void machine_host_config(struct host_config *host);
/* The first processor becomes vcpu 0; never returns. Without the lock. */
NORETURN void vcpu_run(struct vcpu *v);
/* Ends QEMU, with exit code value << 1 | 1 where the machine has a way (arm64's has none). */
NORETURN void machine_exit(unsigned value);

/* ---- vcpus ---- */
struct vcpu *vcpu_at(unsigned index);
unsigned vcpu_index(const struct vcpu *v);
bool vcpu_runs(const struct vcpu *v);                /* started by the guest, not off */
uint64_t vcpu_pc(const struct vcpu *v);              /* the guest's, at its last exit */
uint64_t vcpu_argument(const struct vcpu *v);        /* first argument of the function that it has just entered */
/* What the counter advanced inside the guest, the switch itself taken off: instructions under -icount. */
uint64_t vcpu_guest_instructions(const struct vcpu *v);
void vcpu_dump(const struct vcpu *v);                /* registers and the next instructions, to the log */
/* Makes an edge-triggered interrupt pend: a vector on x86_64, an INTID on arm64. auto_eoi: the guest will not end it. */
void vcpu_raise(struct vcpu *v, unsigned vector, bool auto_eoi);
/* Its processor leaves the guest soon, and so sees new second-stage tables and new work. */
void vcpu_kick(struct vcpu *v);
/* Translations that the processors of these vcpus (a bit each) have of the guest's own tables: when this returns, no
 * access of the guest uses one that was made before. */
void machine_flush_guest(uint64_t vcpus);
/* Copies up to n bytes of guest-virtual memory; returns how many were reachable. */
size_t guest_fetch(const struct vcpu *v, uint64_t address, void *to, size_t n);
/* One lock for everything but the time inside the guest. */
void lab_lock(void);
void lab_unlock(void);

/* ---- second-stage tables: the format; memory.c walks and changes them ---- */
const struct pt_format *machine_nested_format(void); /* after machine_init; max_leaf_level as the processor can */
/* Physical address bits that the guest may use, below its second-stage tables' limit. */
unsigned machine_guest_address_bits(void);
/* Entries for this range were removed or changed: no processor may use old translations once it has left the guest.
 * Called after each change of live entries, also with ranges that had none, and between break and make. */
void machine_nested_flush(uint64_t gpa, uint64_t bytes);
/* By an exit that second-stage tables caused; isolation.c and exits. */
struct lab_access {
    uint64_t gpa;
    bool write, fetch;
    bool walk;                                       /* for the guest's own page tables */
    bool present;                                    /* there is an entry, but it does not allow this */
};

/* ---- time ---- */
/* hz of arch_counter(). Behind it, machine_alarm works. 0 or an error with a log line. */
int machine_clock_init(uint64_t *hz);
/* One alarm: a processor that runs the guest leaves it about so much later, and glue_poll runs. Replaces the alarm
 * before. Not later than a second off; the lab sets it again when it came too early. */
void machine_alarm(uint64_t in_100ns);
uint64_t machine_unix_time(void);                    /* of day, from the machine's clock */
/* A mark whenever the guest executes this instruction (watch.c); by a debug register. Called for each vcpu. */
void machine_watch(struct vcpu *v, uint64_t address);

/* ---- the lab's serial port: a 16550's registers 0 to 7 (x86_64: COM2; arm64: pci-serial) ---- */
uint8_t machine_serial_read(unsigned reg);
void machine_serial_write(unsigned reg, uint8_t value);

/* ---- fw_cfg ---- */
void machine_fwcfg_select(uint16_t key);
uint8_t machine_fwcfg_byte(void);
void machine_fwcfg_dma(uint64_t descriptor_hpa);

/* ---- direct mode: where the machine's memory is ---- */
struct machine_layout {
    uint64_t ram;                                    /* first address of RAM, the machine's and the guest's */
    uint64_t low_end;                                /* guest memory below it moves down by the lab's; above it stays */
};
extern const struct machine_layout machine_layout;
void machine_prepare_direct(void);                   /* devices that the guest has, and silence of all others */
void direct_load(const struct boot_info *boot);      /* the guest's image and tables; vcpu 0 ready to run */

/* ---- firmware mode: the machine the lab was started on, virtualised ---- */
extern bool lab_firmware;                            /* false: direct mode */
/* True when LAB.EFI started us; then the options come by fw_cfg. */
bool firmware_handoff(const struct boot_info *boot);
void firmware_memory(void);
void firmware_start(struct vcpu *v);
