/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The kernel's own page tables: four levels, leaves of 4 KiB, 2 MiB and, where the processor has them, 1 GiB. W^X is
 * decided here, where an entry is made. Source: AMD64 APM volume 2, chapter 5.
 *
 * The page attribute table is arranged (cpu.c) so that the PAT bit is never needed:
 *   PWT 0 PCD 0 write back   PWT 1 PCD 0 write combining   PWT 1 PCD 1 uncached
 */
#include "arch/x86_64/x86.h"

#define PTE_PRESENT  (1ull << 0)
#define PTE_WRITE    (1ull << 1)
#define PTE_PWT      (1ull << 3)
#define PTE_PCD      (1ull << 4)
#define PTE_ACCESSED (1ull << 5)
#define PTE_DIRTY    (1ull << 6)
#define PTE_LARGE    (1ull << 7)
#define PTE_GLOBAL   (1ull << 8)
#define PTE_NX       (1ull << 63)
#define PTE_ADDRESS  0x000FFFFFFFFFF000ull
#define PHYS_BITS_LEAST 36       /* of a processor that does not say */
#define PHYS_BITS_MOST  52       /* PTE_ADDRESS has no more */
#define FLUSH_PAGES_MAX 32       /* more single invalidations cost more than a refill of the whole TLB */

static void *(*device_map)(paddr_t start, uint64_t bytes);
void arch_set_device_map(void *(*map)(paddr_t start, uint64_t bytes)) { device_map = map; }
void *x86_map_device(paddr_t start, uint64_t bytes) { return device_map != NULL ? device_map(start, bytes) : NULL; }

static uint64_t leaf_bytes(unsigned level) { return PAGE_BYTES << (9 * level); }

static uint64_t leaf(paddr_t p, unsigned level, unsigned attr)
{
    uint64_t pte = p.v | PTE_PRESENT | PTE_ACCESSED | PTE_DIRTY;   /* set here, or the processor writes them later */
    KASSERT(attr & MAP_READ);
    KASSERT(!((attr & MAP_WRITE) && (attr & MAP_EXEC)));
    KASSERT(!((attr & MAP_DEVICE) && (attr & (MAP_EXEC | MAP_WC))));
    KASSERT(level <= 2 && IS_ALIGNED(p.v, leaf_bytes(level)) && (p.v & ~PTE_ADDRESS) == 0);
    if (attr & MAP_WRITE)
        pte |= PTE_WRITE;
    if (!(attr & MAP_EXEC))
        pte |= PTE_NX;
    if (attr & MAP_DEVICE)
        pte |= PTE_PWT | PTE_PCD;
    if (attr & MAP_WC)
        pte |= PTE_PWT;
    if (attr & MAP_GLOBAL)
        pte |= PTE_GLOBAL;
    return level > 0 ? pte | PTE_LARGE : pte;
}

static uint64_t table(paddr_t p)
{
    KASSERT((p.v & ~PTE_ADDRESS) == 0);
    return p.v | PTE_PRESENT | PTE_WRITE | PTE_ACCESSED;
}

static bool is_present(uint64_t pte) { return (pte & PTE_PRESENT) != 0; }
static bool is_leaf(uint64_t pte, unsigned level) { return level == 0 || (level <= 2 && (pte & PTE_LARGE) != 0); }

static paddr_t address(uint64_t pte, unsigned level)
{
    /* Below the address of a large leaf lies its PAT bit. */
    return pa(pte & PTE_ADDRESS & (is_leaf(pte, level) ? ~(leaf_bytes(level) - 1) : ~0ull));
}

static unsigned attributes(uint64_t pte)
{
    unsigned attr = MAP_READ;
    if (pte & PTE_WRITE)
        attr |= MAP_WRITE;
    if (!(pte & PTE_NX))
        attr |= MAP_EXEC;
    if (pte & PTE_PCD)
        attr |= MAP_DEVICE;
    else if (pte & PTE_PWT)
        attr |= MAP_WC;
    if (pte & PTE_GLOBAL)
        attr |= MAP_GLOBAL;
    return attr;
}

const struct pt_format *arch_pt_format(void)
{
    static struct pt_format format = {
        .top_level = 3, .leaf = leaf, .table = table, .is_present = is_present, .is_leaf = is_leaf, .address = address,
        .attributes = attributes, .break_before_make = false,
    };
    if (format.max_leaf_level == 0) {
        /* An entry with an address bit that the processor lacks faults when used. */
        unsigned bits = x86_cpuid_checked(0x80000008, 0).eax & 0xFF;
        format.phys_bits = bits == 0 ? PHYS_BITS_LEAST : MIN(bits, (unsigned)PHYS_BITS_MOST);
        format.max_leaf_level = x86_cpuid_checked(0x80000001, 0).edx & (1u << 26) ? 2 : 1;
    }
    return &format;
}

/* Started by firmware on five levels, which 64-bit mode cannot leave: the first and last entry here hold the four. */
static uint64_t top_of_five[512] __attribute__((aligned(4096)));

paddr_t arch_pt_root(void)
{
    uint64_t cr3 = x86_cr3() & PTE_ADDRESS;
    if (!(x86_cr4() & CR4_LA57))
        return pa(cr3);
    return pa(*(const uint64_t *)arch_phys_to_virt(pa(cr3)) & PTE_ADDRESS);
}

void arch_pt_set_root(paddr_t root)
{
    if (x86_cr4() & CR4_LA57) {
        top_of_five[0] = top_of_five[511] = table(root);
        root = pa((uint64_t)top_of_five - IMAGE_VIRT_BASE + image_phys_base);
    }
    x86_set_cr3(root.v);
    arch_tlb_flush_all();
}

/* The processor's walker sees stores in order and keeps no entry that was not present. */
void arch_pt_sync(vaddr_t start, uint64_t bytes)
{
    (void)start;
    (void)bytes;
    arch_fence_ord_write();
}

void arch_tlb_flush(vaddr_t start, uint64_t bytes)
{
    uint64_t pages = DIV_UP((start.v & PAGE_MASK) + bytes, PAGE_BYTES);
    if (pages > FLUSH_PAGES_MAX) {
        arch_tlb_flush_all();
        return;
    }
    for (uint64_t i = 0; i < pages; i++)
        x86_invlpg(start.v + i * PAGE_BYTES);
}

void arch_tlb_flush_all(void)
{
    uint64_t cr4 = x86_cr4();
    if (cr4 & CR4_PGE) {     /* changing PGE is what drops global entries */
        x86_set_cr4(cr4 & ~CR4_PGE);
        x86_set_cr4(cr4);
    } else {
        x86_set_cr3(x86_cr3());
    }
}
