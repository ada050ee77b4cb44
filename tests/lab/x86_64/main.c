/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The lab's kernel_main: brings up what it borrows from the kernel (memory, exceptions, log), then SVM, clock, model,
 * guest.
 *
 * From svm_init on GIF is 0: interrupts and NMIs wait until the guest runs. The lab's own exceptions are still caught
 * by the kernel's handlers, which end in panic() and so in exit code LAB_END_FAULT.
 */
#define LOG_ROOM "lab"
#include <string.h>
#include "tests/lab/x86_64/direct.h"
#include "tests/lab/x86_64/firmware.h"
#include "tests/lab/x86_64/smp.h"

#define IDT_ENTRIES    256
#define FIRST_INTERRUPT 32
#define NMI_VECTOR     2
#define DEBUG_VECTOR 1
#define CR4_OSFXSR     (1ull << 9)
#define CR4_OSXMMEXCPT (1ull << 10)
volatile uint64_t lab_nmis_taken;

struct idt_gate { uint16_t low, selector, flags, middle; uint32_t high, reserved; };
struct descriptor_register { uint16_t limit; uint64_t base; } __attribute__((packed));

static struct idt_gate idt[IDT_ENTRIES];

static void set_gate(unsigned vector, void (*handler)(void))
{
    uint64_t entry = (uint64_t)(uintptr_t)handler;
    idt[vector].low = (uint16_t)entry;
    idt[vector].middle = (uint16_t)(entry >> 16);
    idt[vector].high = (uint32_t)(entry >> 32);
}

/*
 * The kernel's own gates, except that an NMI and a match of watch.c are no faults here, and that interrupts, which only
 * drain.c lets in, are of no interest. Their stacks (IST) are kept.
 */
static void install_own_gates(void)
{
    struct descriptor_register r;
    __asm__ volatile("sidt %0" : "=m"(r));
    memcpy(idt, (const void *)(uintptr_t)r.base, MIN((size_t)r.limit + 1, sizeof(idt)));
    set_gate(NMI_VECTOR, lab_nmi_entry);
    set_gate(DEBUG_VECTOR, lab_debug_entry);
    for (unsigned vector = FIRST_INTERRUPT; vector < IDT_ENTRIES; vector++)
        set_gate(vector, lab_drain_entry);
    r.base = (uint64_t)(uintptr_t)idt;
    __asm__ volatile("lidt %0" : : "m"(r));
}

static void end_after_panic(void) { lab_end(LAB_END_FAULT, "panic in the lab"); }

/* The allocator gets the lab's part of the machine only; the rest is the guest's and is never touched without need. */
static void start_memory(const struct boot_info *boot)
{
    static struct mm_region own[BOOT_MAX_REGIONS];
    unsigned n = 0;
    for (unsigned i = 0; i < boot->region_count; i++) {
        struct mm_region r = boot->regions[i];
        if (!lab_firmware && r.start.v >= LAB_DIRECT_BYTES)
            continue;
        if (!lab_firmware)
            r.bytes = MIN(r.bytes, LAB_DIRECT_BYTES - r.start.v);
        own[n++] = r;
    }
    mm_init(own, n);
}

static void must(int error, const char *what)
{
    if (error) {
        log_err("%s: %s", what, error_name(error));
        lab_end(LAB_END_FAULT, "the lab could not start");
    }
}

NORETURN void kernel_main(struct boot_info *boot)
{
    serial_init();
    panic_set_end(end_after_panic);
    log_info("Candela lab, started by %s", boot->loader);
    if (boot->note[0])
        log_warn("%s", boot->note);
    firmware_handoff(boot);
    options_parse(boot->cmdline);
    arch_cpu_init();
    start_memory(boot);
    install_own_gates();
    uint64_t cr4;
    __asm__ volatile("mov %%cr4, %0" : "=r"(cr4));
    __asm__ volatile("mov %0, %%cr4" : : "r"(cr4 | CR4_OSFXSR | CR4_OSXMMEXCPT));   /* hypercalls by vector register */

    must(svm_init(), "SVM");
    lab_clgi();
    must(apic_init(), "local APIC");
    must(clock_init(), "clock");
    log_set_clock(clock_now_us);
    must(npt_init(), "nested paging");
    io_init();

    must(vcpu_init(&lab_vcpus[0], 0, apic_own_id()), "vcpu");
    lab_lock();                         /* processors that start wait until the machine is there */
    lab_vcpu_count = smp_start(lab_options.cpus);
    if (lab_firmware)
        firmware_memory();
    else
        direct_memory(boot);
    must(glue_init(), "host model");
    if (lab_firmware)
        firmware_start(&lab_vcpus[0]);
    else
        direct_load(boot);
    log_info("TSC %llu Hz; the guest starts", (unsigned long long)clock_tsc_hz());
    lab_unlock();
    vcpu_run(&lab_vcpus[0]);
}
