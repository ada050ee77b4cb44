/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What machine.h asks of an x86_64 machine and no other file here has: its descriptor tables, QEMU's ports, bring-up.
 *
 * From machine_init on GIF is 0: interrupts and NMIs wait until the guest runs.
 */
#define LOG_ROOM "lab"
#include <string.h>
#include "tests/host/host.h"
#include "tests/lab/machine.h"
#include "tests/lab/x86_64/smp.h"

#define IDT_ENTRIES    256
#define FIRST_INTERRUPT 32
#define NMI_VECTOR     2
#define DEBUG_VECTOR 1
#define CR4_OSFXSR     (1ull << 9)
#define CR4_OSXMMEXCPT (1ull << 10)
#define DEBUG_EXIT_PORT 0xF4
#define COM2           0x2F8
#define FW_CFG_SELECT  0x510
#define FW_CFG_DATA    0x511
#define FW_CFG_DMA_HIGH 0x514
#define FW_CFG_DMA_LOW 0x518
#define APIC_TIMER_HZ  1000000000ull /* QEMU's local APIC timer counts nanoseconds */

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

bool machine_serial_init(const struct boot_info *boot)
{
    (void)boot;
    return true;
}

int machine_init(const struct boot_info *boot)
{
    uint64_t cr4;
    (void)boot;
    install_own_gates();
    __asm__ volatile("mov %%cr4, %0" : "=r"(cr4));
    __asm__ volatile("mov %0, %%cr4" : : "r"(cr4 | CR4_OSFXSR | CR4_OSXMMEXCPT));   /* hypercalls by vector register */
    int error = svm_init();
    lab_clgi();
    return error ? error : apic_init();
}

int machine_vcpus(unsigned wanted)
{
    if (lab_options.aside)
        log_warn("aside=1: not on x86_64, where the guest waits for the model");
    io_init();
    int error = vcpu_init(&lab_vcpus[0], 0, apic_own_id());
    if (!error)
        lab_vcpu_count = smp_start(wanted);
    return error;
}

void machine_host_config(struct host_config *host) { host->apic_hz = APIC_TIMER_HZ; }

NORETURN void machine_exit(unsigned value)
{
    x86_out8(DEBUG_EXIT_PORT, (uint8_t)value);
    for (;;)
        __asm__ volatile("cli; hlt");
}

uint8_t machine_serial_read(unsigned reg) { return x86_in8((uint16_t)(COM2 + reg)); }
void machine_serial_write(unsigned reg, uint8_t value) { x86_out8((uint16_t)(COM2 + reg), value); }

void machine_fwcfg_select(uint16_t key) { x86_out16(FW_CFG_SELECT, key); }
uint8_t machine_fwcfg_byte(void) { return x86_in8(FW_CFG_DATA); }

void machine_fwcfg_dma(uint64_t descriptor_hpa)
{
    x86_out32(FW_CFG_DMA_HIGH, __builtin_bswap32((uint32_t)(descriptor_hpa >> 32)));
    x86_out32(FW_CFG_DMA_LOW, __builtin_bswap32((uint32_t)descriptor_hpa));
}
