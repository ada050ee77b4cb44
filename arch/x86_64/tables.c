/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Descriptor tables: GDT, one TSS with the stacks of the interrupts that must not trust the current one, IDT.
 *
 * A stack overflow runs into the guard page; the processor then cannot push the page fault's frame and raises a double
 * fault, whose own stack carries the report (exceptions.c), including the hypervisor's crash call: hence its size.
 */
#include <string.h>
#include "arch/x86_64/x86.h"

#define SELECTOR_CODE 0x08
#define SELECTOR_DATA 0x10
#define SELECTOR_TSS  0x18

#define IST_DF 1
#define IST_NMI 2
#define IST_MC 3
struct descriptor_pointer { uint16_t limit; uint64_t base; } __attribute__((packed));
struct gate {
    uint16_t offset_low, selector;
    uint8_t ist, type;
    uint16_t offset_middle;
    uint32_t offset_high, reserved;
};
_Static_assert(sizeof(struct gate) == 16, "interrupt gate of long mode");
#define GATE_INTERRUPT 0x8E      /* present, DPL 0, interrupts off */

struct tss {
    uint32_t reserved0;
    uint64_t rsp[3];
    uint64_t reserved1;
    uint64_t ist[7];             /* ist[0] is IST 1 */
    uint64_t reserved2;
    uint16_t reserved3, io_map;
} __attribute__((packed));
_Static_assert(sizeof(struct tss) == 104, "task state segment of long mode");

static uint64_t gdt[5] = {
    0,
    0x00AF9B000000FFFF,          /* SELECTOR_CODE: 64-bit, accessed */
    0x00CF93000000FFFF,          /* SELECTOR_DATA */
};
static struct gate idt[X86_VECTORS] __attribute__((aligned(16)));
static struct tss tss;

extern const char x86_vector_stubs[];    /* vectors.S: 16 bytes each */

static void set_gate(unsigned vector, uint8_t ist)
{
    uint64_t stub = (uint64_t)x86_vector_stubs + vector * 16ull;
    idt[vector] = (struct gate){
        .offset_low = (uint16_t)stub, .offset_middle = (uint16_t)(stub >> 16), .offset_high = (uint32_t)(stub >> 32),
        .selector = SELECTOR_CODE, .ist = ist, .type = GATE_INTERRUPT,
    };
}

static void set_tss_descriptor(void)
{
    uint64_t base = (uint64_t)&tss, limit = sizeof tss - 1;
    gdt[SELECTOR_TSS / 8] = limit | (base & 0xFFFFFF) << 16 | 0x89ull << 40 | (base >> 24 & 0xFF) << 56;
    gdt[SELECTOR_TSS / 8 + 1] = base >> 32;
}

void x86_tables_init(void)
{
    struct descriptor_pointer gdtr = {sizeof gdt - 1, (uint64_t)gdt}, idtr = {sizeof idt - 1, (uint64_t)idt};
    for (unsigned i = 0; i < X86_INTERRUPT_STACKS; i++)
        tss.ist[i] = (uint64_t)x86_interrupt_stack(i) + X86_INTERRUPT_STACK_BYTES;
    tss.io_map = sizeof tss;
    set_tss_descriptor();
    for (unsigned v = 0; v < X86_VECTORS; v++)
        set_gate(v, v == X86_VECTOR_DF ? IST_DF : v == X86_VECTOR_NMI ? IST_NMI : v == X86_VECTOR_MC ? IST_MC : 0);
    __asm__ volatile("lgdt %0\n"
                     "pushq %q1\n"
                     "leaq 1f(%%rip), %%rax\n"
                     "pushq %%rax\n"
                     "lretq\n"
                     "1: movl %2, %%ds\n movl %2, %%es\n movl %2, %%ss\n movl %3, %%fs\n movl %3, %%gs\n"
                     "lidt %4\n"
                     "ltr %w5\n"
                     : : "m"(gdtr), "i"(SELECTOR_CODE), "r"(SELECTOR_DATA), "r"(0), "m"(idtr), "r"(SELECTOR_TSS)
                     : "rax", "memory");
}
