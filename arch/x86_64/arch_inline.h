/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * x86_64: what arch/arch.h wants inline, and the map of the kernel's half of the address space.
 *
 *   0xffff800000000000  64 TiB  direct map of physical memory (boot maps the first 4 GiB and the image; mm the rest)
 *   0xffffc00000000000  16 TiB  vmap region
 *   0xffffffff80200000          the image, wherever it lies in physical memory
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "lib/addr.h"

#define ARCH_NAME         "x86_64"
#define ARCH_MAX_CPUS     1                        /* only the boot processor is started */
#define ARCH_COUNTER_TOLD     false
#define ARCH_LOCAL_TIMER_BEST false                /* the local APIC's: exits, and its rate is measured */
#define ARCH_DIRECT_BASE  0xffff800000000000ull
#define ARCH_DIRECT_BYTES (64ull << 40)
#define ARCH_BOOT_MAPPED_END (4ull << 30)
#define ARCH_VMAP_BASE    0xffffc00000000000ull
#define ARCH_VMAP_BYTES   (16ull << 40)
#define IMAGE_VIRT_BASE   0xffffffff80200000ull    /* of the image's byte 0; linker.ld has the same number */

/* Physical address of the image's byte 0, found by the entry. */
extern uint64_t image_phys_base;
/* Linker symbols; each is page aligned. Data includes .bss. arch_image_sections() is the way to walk them. */
extern char image_text_start[], image_text_end[];
extern char image_rodata_start[], image_rodata_end[];
extern char image_data_start[], image_data_end[];

#define X86_FLAGS_IF (1ull << 9)

static inline uint64_t x86_flags(void)
{
    uint64_t flags;
    __asm__ volatile("pushfq; popq %0" : "=r"(flags) : : "memory");
    return flags;
}

static inline bool arch_irq_enabled(void) { return (x86_flags() & X86_FLAGS_IF) != 0; }
static inline void arch_irq_enable(void) { __asm__ volatile("sti" : : : "memory"); }
static inline void arch_irq_disable(void) { __asm__ volatile("cli" : : : "memory"); }
static inline uint64_t arch_irq_save(void)
{
    uint64_t flags = x86_flags();
    arch_irq_disable();
    return flags;
}
static inline void arch_irq_restore(uint64_t state)
{
    if (state & X86_FLAGS_IF)
        arch_irq_enable();
}
static inline void arch_cpu_relax(void) { __asm__ volatile("pause" : : : "memory"); }

/* LFENCE keeps RDTSC behind the loads before it: a time stamp taken after reading a shared page is not older. */
static inline uint64_t arch_counter(void)
{
    uint32_t low, high;
    __asm__ volatile("lfence; rdtsc" : "=a"(low), "=d"(high) : : "memory");
    return (uint64_t)high << 32 | low;
}

/* Order: the processor itself keeps loads before loads and stores before stores on normal memory, so only the compiler
 * must be told; a store before a later load needs a locked instruction. Completion: the fence instructions. */
static inline void arch_fence_ord(void) { __asm__ volatile("lock orl $0, (%%rsp)" : : : "memory", "cc"); }
static inline void arch_fence_ord_read(void) { __asm__ volatile("" : : : "memory"); }
static inline void arch_fence_ord_write(void) { __asm__ volatile("" : : : "memory"); }
static inline void arch_fence_sync(void) { __asm__ volatile("mfence" : : : "memory"); }
static inline void arch_fence_sync_read(void) { __asm__ volatile("lfence" : : : "memory"); }
static inline void arch_fence_sync_write(void) { __asm__ volatile("sfence" : : : "memory"); }

static inline unsigned arch_cpu_index(void) { return 0; }
static inline uint64_t arch_frame_pointer(void) { return (uint64_t)(uintptr_t)__builtin_frame_address(0); }

static inline void *arch_phys_to_virt(paddr_t p) { return (void *)(uintptr_t)(ARCH_DIRECT_BASE + p.v); }
static inline bool arch_virt_in_direct_map(vaddr_t v) { return v.v - ARCH_DIRECT_BASE < ARCH_DIRECT_BYTES; }
static inline paddr_t arch_direct_to_phys(vaddr_t v) { return pa(v.v - ARCH_DIRECT_BASE); }
