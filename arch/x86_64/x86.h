/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The processor's own instructions and registers, for arch/x86_64 (and the lab's hypervisor) only.
 * Source: AMD64 Architecture Programmer's Manual, volumes 2 and 3; Intel SDM where named.
 */
#pragma once
#include "arch/shared.h"

/* ---- ports ---- */
static inline void x86_out8(uint16_t port, uint8_t v) { __asm__ volatile("outb %0, %1" : : "a"(v), "Nd"(port)); }
static inline void x86_out16(uint16_t port, uint16_t v) { __asm__ volatile("outw %0, %1" : : "a"(v), "Nd"(port)); }
static inline void x86_out32(uint16_t port, uint32_t v) { __asm__ volatile("outl %0, %1" : : "a"(v), "Nd"(port)); }
static inline uint8_t x86_in8(uint16_t port)
{
    uint8_t v;
    __asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port));
    return v;
}
static inline uint16_t x86_in16(uint16_t port)
{
    uint16_t v;
    __asm__ volatile("inw %1, %0" : "=a"(v) : "Nd"(port));
    return v;
}
static inline uint32_t x86_in32(uint16_t port)
{
    uint32_t v;
    __asm__ volatile("inl %1, %0" : "=a"(v) : "Nd"(port));
    return v;
}

/* ---- CPUID ---- */
struct x86_cpuid { uint32_t eax, ebx, ecx, edx; };
static inline struct x86_cpuid x86_cpuid(uint32_t leaf, uint32_t subleaf)
{
    struct x86_cpuid r;
    __asm__ volatile("cpuid" : "=a"(r.eax), "=b"(r.ebx), "=c"(r.ecx), "=d"(r.edx) : "a"(leaf), "c"(subleaf));
    return r;
}
/* Zeroes for a leaf beyond the highest of its range (0x0..., 0x8000...). */
static inline struct x86_cpuid x86_cpuid_checked(uint32_t leaf, uint32_t subleaf)
{
    uint32_t highest = x86_cpuid(leaf & 0xFFFF0000u, 0).eax;
    if (highest < leaf || (highest ^ leaf) >> 16 != 0)
        return (struct x86_cpuid){0, 0, 0, 0};
    return x86_cpuid(leaf, subleaf);
}

/* ---- MSRs. The plain forms are for registers that exist for certain. ---- */
#define MSR_APIC_BASE        0x0000001Bu
#define MSR_PAT              0x00000277u
#define MSR_EFER             0xC0000080u
#define MSR_X2APIC           0x00000800u      /* + register offset / 16 */
#define EFER_NXE             (1ull << 11)
#define APIC_BASE_BSP        (1ull << 8)
#define APIC_BASE_X2APIC     (1ull << 10)
#define APIC_BASE_ENABLE     (1ull << 11)
static inline uint64_t x86_rdmsr(uint32_t msr)
{
    uint32_t low, high;
    __asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr) : "memory");
    return (uint64_t)high << 32 | low;
}
static inline void x86_wrmsr(uint32_t msr, uint64_t v)
{
    __asm__ volatile("wrmsr" : : "c"(msr), "a"((uint32_t)v), "d"((uint32_t)(v >> 32)) : "memory");
}

/* False when the access raised #GP. */
static inline bool x86_rdmsr_safe(uint32_t msr, uint64_t *v)
{
    uint32_t low = 0, high = 0, ok = 0;
    __asm__ volatile("1: rdmsr\n   movl $1, %2\n2:\n" ARCH_FIXUP("1b", "2b")
                     : "+a"(low), "+d"(high), "+r"(ok) : "c"(msr) : "memory");
    *v = (uint64_t)high << 32 | low;
    return ok != 0;
}
static inline bool x86_wrmsr_safe(uint32_t msr, uint64_t v)
{
    uint32_t ok = 0;
    __asm__ volatile("1: wrmsr\n   movl $1, %0\n2:\n" ARCH_FIXUP("1b", "2b")
                     : "+r"(ok) : "c"(msr), "a"((uint32_t)v), "d"((uint32_t)(v >> 32)) : "memory");
    return ok != 0;
}

/* ---- control registers ---- */
#define CR0_WP       (1ull << 16)
#define CR4_MCE      (1ull << 6)
#define CR4_PGE      (1ull << 7)
#define CR4_UMIP     (1ull << 11)
#define CR4_LA57     (1ull << 12)
#define CR4_PCIDE    (1ull << 17)
#define CR4_SMEP     (1ull << 20)
#define X86_CR(n)                                                     \
    static inline uint64_t x86_cr##n(void)                            \
    {                                                                 \
        uint64_t v;                                                   \
        __asm__ volatile("movq %%cr" #n ", %0" : "=r"(v));            \
        return v;                                                     \
    }                                                                 \
    static inline void x86_set_cr##n(uint64_t v) { __asm__ volatile("movq %0, %%cr" #n : : "r"(v) : "memory"); }
X86_CR(0)
X86_CR(2)
X86_CR(3)
X86_CR(4)
static inline void x86_invlpg(uint64_t address) { __asm__ volatile("invlpg (%0)" : : "r"(address) : "memory"); }

/* ---- what the processor pushes, and what vectors.S pushes above it ---- */
struct x86_frame {
    uint64_t r15, r14, r13, r12, r11, r10, r9, r8, rbp, rdi, rsi, rdx, rcx, rbx, rax;
    uint64_t vector, error;
    uint64_t rip, cs, rflags, rsp, ss;
};
_Static_assert(sizeof(struct x86_frame) == 22 * 8, "vectors.S pushes it");

#define X86_VECTORS          256
#define X86_EXCEPTIONS       32
#define X86_VECTOR_NMI       2
#define X86_VECTOR_DF        8
#define X86_VECTOR_PF        14
#define X86_VECTOR_MC        18

/* Stacks of double fault, NMI and machine check, each above an unmapped page; linker.ld has the same sizes. */
#define X86_INTERRUPT_STACKS      3
#define X86_INTERRUPT_STACK_BYTES 16384
extern char interrupt_stacks_start[];
static inline char *x86_interrupt_stack(unsigned i)
{
    return interrupt_stacks_start + i * (PAGE_BYTES + X86_INTERRUPT_STACK_BYTES) + PAGE_BYTES;
}

/* ---- between the files of this folder ---- */
void x86_tables_init(void);                               /* tables.c: GDT, TSS, IDT */
void x86_exception(struct x86_frame *frame);              /* exceptions.c: vectors 0..31 */
void x86_interrupt(struct x86_frame *frame);              /* irq.c: the rest */
void x86_trap(struct x86_frame *frame);                   /* from vectors.S */
/* apic.c: the local APIC's registers, by offset; meaningful after arch_irq_init succeeded. */
uint32_t x86_apic_read(unsigned reg);
void x86_apic_write(unsigned reg, uint32_t v);
bool x86_apic_ready(void);
void x86_apic_eoi(void);
extern struct arch_platform x86_platform;                 /* platform.c */
void *x86_map_device(paddr_t start, uint64_t bytes);      /* pt.c: by mm's hook; NULL before mm_init too */
