/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The lab: a small hypervisor that presents Hyper-V to an unchanged guest under plain QEMU.
 *
 * How the parts fit. One guest per lab, vcpus run on the physical CPU of the same number. What Hyper-V is (discovery,
 * synthetic registers, hypercalls, VMBus, disks, NICs) is the model in tests/host; the lab gives it a CPU, the guest's
 * memory, a clock and back ends. Here is what is the same on every architecture:
 *
 *   main.c     order of bring-up                options.c settings.c   the command line
 *   memory.c   second-stage tables, guest RAM   direct.c  direct mode: memory, the guest's image
 *   clock.c    deadlines and the tick           serial.c  the lab's port: log, reports, commands
 *   virtio.c vblk.c vnet.c ramdisk.c            back ends of storvsp and netvsp
 *   glue.c     the model's callbacks            report.c  counters, marks, profile, how a run ends
 *   ics.c      integration components: options, commands, reports
 *   balloon.c  dynamic memory: likewise         isolation.c   private and shared memory: likewise
 *   watch.c    mark_at=                         fwcfg.c   files of QEMU's command line
 *   nested_cost.c   what second-stage blocks are worth
 *
 * machine.h says what an architecture's folder gives; its own vcpu.h tells how.
 *
 * The process exit code of QEMU says how the run ended: enum lab_end.
 */
#pragma once
#include "mm/mm.h"

struct vcpu;
struct boot_info;

/* QEMU exits with value << 1 | 1. */
enum lab_end {
    LAB_END_POWER_OFF  = 0x10,   /* QEMU exit code 33: the guest powered itself off */
    LAB_END_CRASH      = 0x11,   /* 35: the guest reported a crash to the hypervisor */
    LAB_END_TRIPLE     = 0x12,   /* 37: the guest can't go on: triple fault, or where nothing is */
    LAB_END_VIOLATION  = 0x13,   /* 39: the guest broke the protocol, whatever else happened */
    LAB_END_FAULT      = 0x14,   /* 41: the lab itself failed, or could not start */
    LAB_END_REBOOT     = 0x15,   /* 43: the guest reset the machine */
    LAB_END_QUIT       = 0x16,   /* 45: the operator's "quit" */
};

#define LAB_MAX_VCPUS  8
/* The lab's own memory in direct mode: the first so many bytes of RAM. The guest's memory begins behind it; up to 2 MiB
 * at the end of low memory are the firmware's. So 64 MiB more than the guest is to have are always enough for QEMU's
 * -m. */
#define LAB_DIRECT_BYTES (62ull << 20)

/* ---- options, from the command line: key=value words; what follows a word "--" is the guest's command line ---- */
struct lab_options {
    uint64_t guest_mem_bytes;   /* guest_mem=32M; 0: all the lab does not need */
    unsigned cpus;              /* cpus=1 */
    bool aside;                 /* aside=1 (arm64): the model works on a processor of its own, while the guest runs */
    bool acpi;                  /* acpi=1 (arm64, direct mode): ACPI tables, too (x86_64 has them always) */
    bool measure;               /* measure=1: HLT leaves the guest, so that idle time is not counted as instructions */
    unsigned profile_us;        /* profile=100: samples the guest's PC every so many microseconds */
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

extern unsigned lab_vcpu_count;

/* ---- memory.c ---- */
int nested_init(void);
int nested_map(uint64_t gpa, uint64_t hpa, uint64_t bytes, unsigned attr);
void nested_unmap(uint64_t gpa, uint64_t bytes);
int nested_protect(uint64_t gpa, uint64_t bytes, unsigned attr);
bool nested_mapped(uint64_t gpa);
paddr_t nested_root(void);
/* A stretch of guest RAM for the model alone, or mapped for the guest too. */
int guest_ram_window(uint64_t gpa, uint64_t hpa, uint64_t bytes);
int guest_ram_add(uint64_t gpa, uint64_t hpa, uint64_t bytes);
uint64_t guest_ram_bytes(void);
uint64_t guest_ram_end(void);                       /* no guest RAM from here on */
void *guest_ptr(uint64_t gpa, uint64_t bytes);      /* NULL when any of it is not guest RAM, or not contiguous here */
bool guest_ptr_to_hpa(const void *p, uint64_t *hpa);

/* ---- watch.c: mark_at= ---- */
void watch_arm(struct vcpu *v);                      /* before this vcpu's first run */
void watch_hit(const struct vcpu *v);                /* the guest is at that instruction */

/* ---- clock.c ---- */
int clock_init(void);
uint64_t clock_now_100ns(void);
uint64_t clock_now_us(void);
uint64_t clock_counter_hz(void);                     /* of arch_counter() */
void clock_set_deadline(uint64_t when_100ns);        /* the model's next timer; UINT64_MAX: none */
void clock_set_device_deadline(uint64_t when_100ns); /* and that of the lab's own devices */
bool clock_due(void);                                /* a deadline has passed */
bool clock_tick_due(void);                           /* true once per tick */
void clock_arm(void);                                /* sets the next alarm */

/* ---- serial.c ---- */
void serial_init(void);
bool serial_poll_line(char *line, size_t size);      /* a whole command line has arrived */

/* ---- report.c ---- */
enum lab_counter {
    CNT_EXITS,
    CNT_EXIT_ID,                                     /* CPUID, ID registers */
    CNT_EXIT_REGISTER,                               /* MSRs, system registers */
    CNT_EXIT_HYPERCALL, CNT_EXIT_PORT,
    CNT_EXIT_MEMORY,                                 /* second-stage tables */
    CNT_EXIT_INTERRUPT,                              /* the lab's, and on arm64 all */
    CNT_EXIT_IDLE,                                   /* HLT, WFI */
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

static inline uint32_t mmio_read32(const volatile void *p) { return *(const volatile uint32_t *)p; }
static inline void mmio_write32(volatile void *p, uint32_t v) { *(volatile uint32_t *)p = v; }
