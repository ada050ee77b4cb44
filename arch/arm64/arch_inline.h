/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * arm64: what arch/arch.h wants inline, and the map of the kernel's half of the address space (TTBR1, 48 bits; TTBR0 is
 * off once mm's tables are in force).
 *
 *   0xffff800000000000  64 TiB  direct map of physical memory (boot maps the lowest of it; mm the rest)
 *   0xffffc00000000000  16 TiB  vmap region
 *   0xffffffff80000000   2 MiB  early devices: the console's registers, for as long as the machine runs
 *   0xffffffff80200000          the image, wherever it lies in physical memory
 *
 * The same code runs at EL1 and, with the virtualization host extensions (HCR_EL2.E2H and TGE set), at EL2: there the
 * names of EL1's registers reach EL2's.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "lib/addr.h"

#define ARCH_NAME         "arm64"
#define ARCH_MAX_CPUS     1                        /* only the boot processor is started */
#define ARCH_COUNTER_TOLD     true                 /* CNTFRQ_EL0 */
#define ARCH_LOCAL_TIMER_BEST true
#define ARCH_DIRECT_BASE  0xffff800000000000ull
#define ARCH_DIRECT_BYTES (64ull << 40)
#define ARCH_BOOT_MAPPED_END arm64_boot_mapped_end
#define ARCH_VMAP_BASE    0xffffc00000000000ull
#define ARCH_VMAP_BYTES   (16ull << 40)
#define EARLY_DEVICE_BASE 0xffffffff80000000ull
#define IMAGE_VIRT_BASE   0xffffffff80200000ull    /* of the image's byte 0; linker.ld has the same number */

/* Physical address of the image's byte 0, and below which address all RAM is mapped: both set by the entry. */
extern uint64_t image_phys_base, arm64_boot_mapped_end;
/* Linker symbols; each is page aligned. Data includes .bss. arch_image_sections() is the way to walk them. */
extern char image_text_start[], image_text_end[];
extern char image_rodata_start[], image_rodata_end[];
extern char image_data_start[], image_data_end[];

#define ARM64_DAIF_I (1ull << 7)

static inline uint64_t arm64_daif(void)
{
    uint64_t daif;
    __asm__ volatile("mrs %0, daif" : "=r"(daif) : : "memory");
    return daif;
}

static inline bool arch_irq_enabled(void) { return (arm64_daif() & ARM64_DAIF_I) == 0; }
static inline void arch_irq_enable(void) { __asm__ volatile("msr daifclr, #2" : : : "memory"); }
static inline void arch_irq_disable(void) { __asm__ volatile("msr daifset, #2" : : : "memory"); }
static inline uint64_t arch_irq_save(void)
{
    uint64_t daif = arm64_daif();
    arch_irq_disable();
    return daif;
}
static inline void arch_irq_restore(uint64_t state)
{
    if (!(state & ARM64_DAIF_I))
        arch_irq_enable();
}
static inline void arch_cpu_relax(void) { __asm__ volatile("yield" : : : "memory"); }

/* ISB keeps the read behind loads that a branch before it depends on (a page's sequence number that was tested, say); a
 * load whose address depends on the value, in appearance only, keeps later loads behind the read. Source: Arm ARM,
 * D12.1.2, and what Linux does. */
static inline uint64_t arch_counter(void)
{
    uint64_t count, scratch;
    __asm__ volatile("isb\n mrs %0, cntvct_el0\n eor %1, %0, %0\n add %1, sp, %1\n ldr xzr, [%1]"
                     : "=r"(count), "=&r"(scratch) : : "memory");
    return count;
}

/* Order: as seen by the other processors and the host, which shares memory in the inner shareable domain. Completion:
 * of device accesses and table walks too, hence the whole system. */
static inline void arch_fence_ord(void) { __asm__ volatile("dmb ish" : : : "memory"); }
static inline void arch_fence_ord_read(void) { __asm__ volatile("dmb ishld" : : : "memory"); }
static inline void arch_fence_ord_write(void) { __asm__ volatile("dmb ishst" : : : "memory"); }
static inline void arch_fence_sync(void) { __asm__ volatile("dsb sy" : : : "memory"); }
static inline void arch_fence_sync_read(void) { __asm__ volatile("dsb ld" : : : "memory"); }
static inline void arch_fence_sync_write(void) { __asm__ volatile("dsb st" : : : "memory"); }

static inline unsigned arch_cpu_index(void) { return 0; }
static inline uint64_t arch_frame_pointer(void) { return (uint64_t)(uintptr_t)__builtin_frame_address(0); }

static inline void *arch_phys_to_virt(paddr_t p) { return (void *)(uintptr_t)(ARCH_DIRECT_BASE + p.v); }
static inline bool arch_virt_in_direct_map(vaddr_t v) { return v.v - ARCH_DIRECT_BASE < ARCH_DIRECT_BYTES; }
static inline paddr_t arch_direct_to_phys(vaddr_t v) { return pa(v.v - ARCH_DIRECT_BASE); }
