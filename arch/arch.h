/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The one contract between the kernel and a processor architecture.
 *
 * arch/x86_64/ and arch/arm64/ (and tests/fake_arch/ for hosted tests) define the same names; the link step chooses.
 * There are no weak symbols: a missing function is a link error. The few functions that must be inline are in
 * arch/<arch>/arch_inline.h, found by the include path (-Iarch/<arch>), as are ARCH_* constants.
 *
 * May look at: lib/, and hv/hv_wire.h for register numbers. Nothing here allocates, sleeps or logs unless it says so.
 */
#pragma once
#include "lib/lib.h"
#include "arch_inline.h"
/*
 * arch_inline.h provides:
 *   static inline bool arch_irq_enabled(void);
 *   static inline void arch_irq_enable(void), arch_irq_disable(void);
 *   static inline uint64_t arch_irq_save(void);            interrupts off, returns the state before
 *   static inline void arch_irq_restore(uint64_t state);
 *   static inline void arch_cpu_relax(void);
 *   static inline uint64_t arch_counter(void);              ordered read of the cycle counter (TSC, CNTVCT)
 *   static inline void arch_fence_ord(void), arch_fence_ord_read(void), arch_fence_ord_write(void);   order of memory
 *   static inline void arch_fence_sync(void), arch_fence_sync_read(void), arch_fence_sync_write(void); completion
 *   static inline unsigned arch_cpu_index(void);            0 on the boot CPU
 *   static inline uint64_t arch_frame_pointer(void);
 *   static inline void *arch_phys_to_virt(paddr_t);         the direct map; valid once mm brought that memory online
 *   static inline bool arch_virt_in_direct_map(vaddr_t);    and back:
 *   static inline paddr_t arch_direct_to_phys(vaddr_t);
 *   ARCH_NAME "x86_64"   ARCH_VMAP_BASE, ARCH_VMAP_BYTES (region for mm/vmap.c)   ARCH_DIRECT_BYTES (its limit)
 *   ARCH_BOOT_MAPPED_END    the direct map shows all RAM below, until mm's own tables are in force; a multiple of 1 GiB
 *   ARCH_MAX_CPUS
 *   ARCH_COUNTER_TOLD       a register tells the counter's frequency, at no cost: arch_counter_calibrate() is exact
 *   ARCH_LOCAL_TIMER_BEST   the CPU's own timer is exact and costs no exit: synthetic timers only when asked for
 */

/* ---- processor ---- */
/* Descriptor tables, exception vectors, IST stacks, PAT/NX/WP/SMEP as available. Called once, first of all. */
void arch_cpu_init(void);
/* With interrupts disabled on entry and exit: lets pending interrupts in and waits for one. The test "is there work"
 * made before the call with interrupts disabled can't be lost: an interrupt that is pending makes it return at once. */
void arch_idle(void);
NORETURN void arch_halt(void);      /* interrupts off, for ever */
NORETURN void arch_power_off(void); /* by the platform's ways in turn, then arch_halt */
NORETURN void arch_reboot(void);
/* 64 bits from the CPU's random source (RDSEED, else RDRAND; RNDR). False when there is none or it ran dry. */
bool arch_random(uint64_t *value);
/* Return addresses of the callers, innermost first, walking frame pointers from frame (0: here); checks every read. */
unsigned arch_backtrace(uint64_t frame, uint64_t *pcs, unsigned max);
const char *arch_cpu_model(void);   /* for the status page; valid after arch_cpu_init */

/* Who can say what a fault address means ("stack overflow in task X") writes a line into text, or leaves it empty. */
void arch_set_fault_note(void (*note)(vaddr_t address, char *text, size_t bytes));

/* A register of one byte, as ACPI names it. */
enum arch_space { ARCH_SPACE_MEMORY, ARCH_SPACE_IO };
struct arch_register { uint64_t address; enum arch_space space; };   /* address 0: there is none */
/* arm64: redistributors of the interrupt controller. Named one by one (MADT's GICC) all of them exist; given as a range
 * (GICR, device tree) the last one says that it is. */
struct arch_gic_range { uint64_t start, bytes; bool one_by_one; };
#define ARCH_GIC_RANGES 8
enum arch_psci { ARCH_PSCI_UNKNOWN, ARCH_PSCI_HVC, ARCH_PSCI_SMC };   /* the way to it */
enum arch_serial { ARCH_SERIAL_NONE, ARCH_SERIAL_PL011, ARCH_SERIAL_SBSA, ARCH_SERIAL_16550 };
/* What boot learned from the platform's tables, for power-off, reset, calibration and, on arm64, interrupts. Zero means
 * absent. */
struct arch_platform {
    uint16_t pm1a_control_port, pm1b_control_port;  /* with the SLP_TYP values of \_S5 */
    uint8_t  s5_type_a, s5_type_b;
    struct arch_register sleep_control;             /* hardware-reduced ACPI */
    struct arch_register reset;
    uint8_t  reset_value;
    uint16_t pm_timer_port;
    bool     has_s5;
    /* arm64, from FADT, MADT, GTDT and DSDT, or from the device tree. Interrupts as INTIDs. */
    uint32_t vmbus_irq;                             /* VMBus device's _CRS; 0: the documented default */
    uint32_t timer_irq;                             /* EL1 virtual timer */
    uint32_t timer_irq_el2;                         /* EL2 physical timer */
    uint32_t gic_version;
    uint64_t gic_distributor;
    struct arch_gic_range gic_redistributors[ARCH_GIC_RANGES];
    unsigned gic_ranges;
    enum arch_psci psci;
    enum arch_serial serial;                        /* the console, where the early one was not found */
    uint64_t serial_address;
    uint8_t  serial_shift, serial_width;            /* 16550: distance of registers (log2) and bytes of an access */
    bool     hyperv;                                /* FADT: the hypervisor's vendor is MsHyperV */
};
/* After mm_init: may map registers through the hook below. */
void arch_platform_set(const struct arch_platform *platform);
/* mm offers the way to device registers in memory: mapped uncached and writable until the end, NULL when that fails. */
void arch_set_device_map(void *(*map)(paddr_t start, uint64_t bytes));

/* ---- early console: 16550 (x86_64, probed), PL011 (arm64). False when there is none. Never waits without a limit. */
bool arch_console_init(void);
void arch_console_write(const char *text, size_t bytes);

/* ---- interrupts ---- */
enum arch_irq_use { ARCH_IRQ_VMBUS, ARCH_IRQ_STIMER, ARCH_IRQ_TIMER, ARCH_IRQ_TEST, ARCH_IRQ_USES };
/* x86_64: the vector reserved for this use; arm64: the INTID. Edge triggered. */
unsigned arch_irq_number(enum arch_irq_use use);
/* The handler runs with interrupts disabled on the interrupted stack. */
void arch_irq_set_handler(enum arch_irq_use use, void (*handler)(void *arg), void *arg);
/* Local interrupt controller ready; after mm. Returns 0 or E_*. */
int arch_irq_init(void);
/* End of interrupt; false for auto-EOI SINTs, which must not write it. Applies to the use from now on. */
void arch_irq_set_eoi(enum arch_irq_use use, bool write_eoi);
uint64_t arch_irq_count(enum arch_irq_use use);
/* Makes it pending on this processor, as its source would; after arch_irq_init. Not ARCH_IRQ_TIMER. */
void arch_irq_raise(enum arch_irq_use use);

/* ---- time ---- */
/* Counter frequency from the CPU or platform (CPUID 15h/16h, PM timer, PIT), 0 when nothing tells. May take ~10 ms. */
uint64_t arch_counter_calibrate(void);
/* The CPU's own one-shot timer (LAPIC, generic timer), interrupt ARCH_IRQ_TIMER; hz 0 = calibrate against now_100ns. */
int arch_timer_init(uint64_t hz, uint64_t (*now_100ns)(void));
void arch_timer_arm(uint64_t delta_100ns);
void arch_timer_stop(void);

/* ---- contexts of cooperative tasks ---- */
struct arch_context { uint64_t sp; };
/* First switch to ctx calls entry(arg) on the stack that ends at stack_top; entry must not return. */
void arch_context_init(struct arch_context *ctx, void *stack_top, void (*entry)(void *), void *arg);
void arch_context_switch(struct arch_context *from, struct arch_context *to);

/* ---- page tables: the format, walked by mm/map.c ---- */
enum map_attr {
    MAP_READ   = 1 << 0,
    MAP_WRITE  = 1 << 1,
    MAP_EXEC   = 1 << 2,   /* never together with MAP_WRITE in stage 1: the PTE builder refuses (W^X) */
    MAP_DEVICE = 1 << 3,   /* uncached, strongly ordered */
    MAP_WC     = 1 << 4,   /* write combining: frame buffers */
    MAP_GLOBAL = 1 << 5,
};
/* A table format. Level 0 is the 4 KiB leaf; a leaf at level n covers 4 KiB << (9 * n). Second-stage tables of the lab
 * (nested paging, stage 2) are other instances, hence a table of functions. */
#define PT_CONTIGUOUS_MAX 16
struct pt_format {
    unsigned top_level;                                        /* 3: 48-bit addresses */
    unsigned max_leaf_level;                                   /* 2: 1 GiB leaves, 1: 2 MiB */
    unsigned phys_bits;                                        /* of a physical address; 0: no limit */
    uint64_t (*leaf)(paddr_t p, unsigned level, unsigned attr);
    uint64_t (*table)(paddr_t p);
    bool     (*is_present)(uint64_t pte);
    bool     (*is_leaf)(uint64_t pte, unsigned level);
    paddr_t  (*address)(uint64_t pte, unsigned level);
    unsigned (*attributes)(uint64_t pte);
    bool     break_before_make;                                /* arm64: a live entry must be invalidated first */
    /* So many neighbours, aligned and mapped alike to neighbours in memory, may be held as one TLB entry when each
     * bears the mark (levels 0 and 1). 0: the format has no such mark. At most PT_CONTIGUOUS_MAX. */
    unsigned contiguous;
    uint64_t contiguous_mark;
};
const struct pt_format *arch_pt_format(void);                  /* of the kernel's own tables */
paddr_t arch_pt_root(void);                                    /* tables in force (left by boot) */
void arch_pt_set_root(paddr_t root);
void arch_pt_sync(vaddr_t start, uint64_t bytes);              /* new entries of the kernel tables become visible */
/* The architecture's own TLB invalidation; used until hv/tlb.c installs itself with mm_set_tlb_flush. */
void arch_tlb_flush(vaddr_t start, uint64_t bytes);
void arch_tlb_flush_all(void);                                 /* global entries too */

/* ---- the image: its sections, for the final tables. Page aligned; what lies between them stays unmapped: guards. */
struct arch_image_section { vaddr_t start; uint64_t bytes; paddr_t phys; unsigned attr; };
/* Returns their number. Valid from the first line of kernel_main on; the fake architecture has none. */
unsigned arch_image_sections(const struct arch_image_section **sections);

/* ---- the hypervisor interface ---- */
/* Raw feature words, named by their CPUID leaf (arm64 fills the same from registers). */
struct arch_hv_features {
    uint32_t max_leaf;
    uint32_t version[4];       /* leaf 0x40000002 */
    uint32_t features[4];      /* 0x40000003 EAX EBX ECX EDX: privileges low, high, -, features */
    uint32_t hints[4];         /* 0x40000004 */
    uint32_t limits[4];        /* 0x40000005 */
    uint32_t isolation[4];     /* 0x4000000C, zero unless features[1] bit 22 */
    char     vendor[13];       /* found when it is not Hyper-V: "KVMKVMKVM", "TCGTCGTCGTCG", "" on bare metal */
};
/* True when the vendor is "Microsoft Hv" and the interface "Hv#1". */
bool arch_hv_discover(struct arch_hv_features *features);
/* Synthetic registers: MSRs on x86_64 (index = MSR number of hv_wire.h), virtual-processor registers on arm64.
 * False when the access faulted: the register does not exist for us. */
bool arch_hv_reg_read(uint32_t reg, uint64_t *value);
bool arch_hv_reg_write(uint32_t reg, uint64_t value);
/* Hypercall page: x86_64 enables it at this page (called through from then on); arm64 has none and returns true. */
bool arch_hv_hypercall_enable(paddr_t page, vaddr_t mapped);
void arch_hv_hypercall_disable(void);
uint64_t arch_hypercall(uint64_t control, gpa_t input, gpa_t output);

/* ---- isolated machines: the host behind whoever guards the memory ---- */
/* A paravisor below us answers hypercalls and registers itself; what is meant for the host goes past it, by the names
 * arch_host_*. Where there is none, on machines that are not isolated too, these are the ordinary functions under
 * another name, and cost what they cost. */
struct arch_isolation {
    uint8_t type;              /* enum hv_isolation_type of hv_wire.h */
    bool paravisor;
    uint64_t boundary;         /* shared pages are reached at their address plus this; 0: at their own */
    void *(*map)(paddr_t page);    /* maps a page, cached and writable, until the end; NULL when that fails */
};
/* What follows from the kind; all false where nothing does. */
struct arch_isolation_rules {
    bool two_listeners;        /* paravisor and host both want to be told: guest OS id, interrupt sources */
    bool own_pages;            /* pages change hands by arch_isolation_page, not by hypercall */
    bool message_page;         /* arch_isolation_message_page is awaited before a message can be posted */
};
/* Before the guest OS id, once the hypervisor said that the machine is isolated, and on no other machine. NULL, or why
 * this kind can't be lived in; then nothing is changed. */
const char *arch_isolation_init(const struct arch_isolation *kind, struct arch_isolation_rules *rules);
/* A page that the host can see, for posted messages: where it is mapped, and its plain address. NULL takes it back. */
void arch_isolation_message_page(void *memory, gpa_t gpa);
/* False: the page is in a state that only the host knows, and must not be used again. */
bool arch_isolation_page(paddr_t page, bool shared);
/* The host's registers of the SynIC and its copy of the guest OS id. */
bool arch_host_reg_read(uint32_t reg, uint64_t *value);
bool arch_host_reg_write(uint32_t reg, uint64_t value);
/* HVCALL_POST_MESSAGE from private memory without output, HVCALL_SIGNAL_EVENT fast. */
uint64_t arch_host_hypercall(uint64_t control, gpa_t input);
uint64_t arch_host_hypercall_fast(uint64_t control, uint64_t in0, uint64_t in1);
