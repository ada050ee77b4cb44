/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The fake architecture: what arch/arch.h wants inline, for guest code that runs in an ordinary program.
 *
 * "Physical memory" is a sparse memory file, its address the offset in the file. The direct map is one mapping of that
 * file, opened page by page as the fake page tables say; the vmap region is a reservation into which page table entries
 * are realised by mapping pieces of the file, so that two virtual addresses of one page really alias.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "lib/addr.h"

#define ARCH_NAME         "fake"
#define ARCH_MAX_CPUS     1
#define ARCH_BOOT_MAPPED_END (4ull << 30)
#define ARCH_COUNTER_TOLD     false
#define ARCH_LOCAL_TIMER_BEST false
#ifdef FAKE_LOW_ADDRESSES                       /* 39 bits, and every page that is reserved has its price: see unit.mk */
#define FAKE_BASE         0x2000000000ull
#define FAKE_STEP         0x0800000000ull
#define ARCH_DIRECT_BYTES (16ull << 30)
#define ARCH_VMAP_BYTES   (16ull << 30)
#else                                           /* where no sanitizer has its shadow, neither x86_64's nor arm64's */
#define FAKE_BASE         0x280000000000ull
#define FAKE_STEP         0x080000000000ull
#define ARCH_DIRECT_BYTES (4ull << 40)
#define ARCH_VMAP_BYTES   (1ull << 40)
#endif
#define ARCH_DIRECT_BASE  FAKE_BASE
#define FAKE_HOST_BASE    (FAKE_BASE + FAKE_STEP)      /* all of memory, always open: tests look at it here */
#define FAKE_VIEW_BASE    (FAKE_BASE + 2 * FAKE_STEP)  /* guarded.h */
#define ARCH_VMAP_BASE    (FAKE_BASE + 3 * FAKE_STEP)

extern bool fake_irqs_on;
extern uint32_t fake_irqs_pending;            /* bit n: enum arch_irq_use n */
void fake_irq_deliver(void);                  /* runs the handlers of what is pending */
extern uint64_t fake_counter_offset;          /* of what the guest reads */
uint64_t fake_counter_advance(void);          /* a read of the counter takes time too: loops that wait for it end */

static inline bool arch_irq_enabled(void) { return fake_irqs_on; }
static inline void arch_irq_enable(void)
{
    fake_irqs_on = true;
    if (fake_irqs_pending)
        fake_irq_deliver();
}
static inline void arch_irq_disable(void) { fake_irqs_on = false; }
static inline uint64_t arch_irq_save(void)
{
    uint64_t state = fake_irqs_on;
    fake_irqs_on = false;
    return state;
}
static inline void arch_irq_restore(uint64_t state)
{
    if (state)
        arch_irq_enable();
}
static inline void arch_cpu_relax(void) {}
static inline uint64_t arch_counter(void) { return fake_counter_advance() + fake_counter_offset; }

static inline void arch_fence_ord(void) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
static inline void arch_fence_ord_read(void) { __atomic_thread_fence(__ATOMIC_ACQUIRE); }
static inline void arch_fence_ord_write(void) { __atomic_thread_fence(__ATOMIC_RELEASE); }
static inline void arch_fence_sync(void) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
static inline void arch_fence_sync_read(void) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
static inline void arch_fence_sync_write(void) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }

static inline unsigned arch_cpu_index(void) { return 0; }
static inline uint64_t arch_frame_pointer(void) { return (uint64_t)(uintptr_t)__builtin_frame_address(0); }

static inline void *arch_phys_to_virt(paddr_t p) { return (void *)(uintptr_t)(ARCH_DIRECT_BASE + p.v); }
static inline bool arch_virt_in_direct_map(vaddr_t v) { return v.v - ARCH_DIRECT_BASE < ARCH_DIRECT_BYTES; }
static inline paddr_t arch_direct_to_phys(vaddr_t v) { return pa(v.v - ARCH_DIRECT_BASE); }
