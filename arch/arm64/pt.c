/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The tables in force, and the TLB. Everything of the kernel is in the upper half, TTBR1; TTBR0 serves the change of
 * tables alone. One processor runs the kernel, but what others cached of it goes, too (inner shareable), since the lab
 * runs its guest's processors on several.
 */
#include "arch/arm64/pt.h"
#include "arch/arm64/arm64.h"

#define TTBR_ADDRESS    0x0000FFFFFFFFF000ull
#define FLUSH_PAGES_MAX 64        /* more single invalidations cost more than a refill of the whole TLB */

void arm64_switch_root(uint64_t root);       /* switch_root.S */

static void *(*device_map)(paddr_t start, uint64_t bytes);
void arch_set_device_map(void *(*map)(paddr_t start, uint64_t bytes)) { device_map = map; }
void *arm64_map_device(paddr_t start, uint64_t bytes) { return device_map != NULL ? device_map(start, bytes) : NULL; }

const struct pt_format *arch_pt_format(void)
{
    static struct pt_format format;
    if (format.leaf == NULL)
        arm64_pt_format_init(&format, arm64_field(sysreg_read(id_aa64mmfr0_el1), 0));
    return &format;
}

paddr_t arch_pt_root(void) { return pa(sysreg_read(ttbr1_el1) & TTBR_ADDRESS); }

/* The new tables hold no page that is writable and executable: from now on the processor refuses such, too. */
void arch_pt_set_root(paddr_t root)
{
    uint64_t state = arch_irq_save();
    arm64_dsb_ishst();
    arm64_switch_root(root.v);
    sysreg_write(sctlr_el1, sysreg_read(sctlr_el1) | SCTLR_WXN);
    arm64_isb();
    arch_tlb_flush_all();
    arch_irq_restore(state);
}

/* The walker may look before the store arrived, and the pipeline may have looked already: both must be over. */
void arch_pt_sync(vaddr_t start, uint64_t bytes)
{
    (void)start;
    (void)bytes;
    arm64_dsb_ishst();
    arm64_isb();
}

void arch_tlb_flush(vaddr_t start, uint64_t bytes)
{
    uint64_t first = start.v >> PAGE_SHIFT, pages = DIV_UP((start.v & PAGE_MASK) + bytes, PAGE_BYTES);
    if (pages > FLUSH_PAGES_MAX) {
        arch_tlb_flush_all();
        return;
    }
    arm64_dsb_ishst();
    for (uint64_t i = 0; i < pages; i++)         /* by address, all address spaces, all levels of the walk */
        __asm__ volatile("tlbi vaae1is, %0" : : "r"((first + i) & ((1ull << 44) - 1)) : "memory");
    arm64_dsb_ish();
    arm64_isb();
}

void arch_tlb_flush_all(void)
{
    arm64_dsb_ishst();
    __asm__ volatile("tlbi vmalle1is" : : : "memory");
    arm64_dsb_ish();
    arm64_isb();
}
