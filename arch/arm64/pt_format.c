/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What an entry of the kernel's own page tables looks like: four levels, leaves of 4 KiB, 2 MiB and 1 GiB. W^X is
 * decided here, where an entry is made. Numbers alone: nothing here touches the processor. Source: Arm ARM, D8.3
 * (VMSAv8-64 descriptors), 4 KiB granule, 48 bits.
 *
 * Our levels count from the leaf: our 0 is the architecture's 3.
 */
#include "arch/arm64/pt.h"

#define PTE_VALID      (1ull << 0)
#define PTE_TABLE      (1ull << 1)       /* of an upper level; a leaf of the lowest has it, too */
#define PTE_INDEX_SHIFT 2                /* of MAIR */
#define PTE_INDEX      (7ull << PTE_INDEX_SHIFT)
#define PTE_READ_ONLY  (1ull << 7)       /* AP[2]; AP[1], for EL0, stays 0 */
#define PTE_INNER      (3ull << 8)       /* SH: inner shareable */
#define PTE_ACCESSED   (1ull << 10)
#define PTE_NOT_GLOBAL (1ull << 11)
#define PTE_CONTIGUOUS (1ull << 52)
#define PTE_PXN        (1ull << 53)
#define PTE_UXN        (1ull << 54)
#define PTE_ADDRESS    0x0000FFFFFFFFF000ull

static uint64_t leaf_bytes(unsigned level) { return PAGE_BYTES << (9 * level); }

static uint64_t leaf(paddr_t p, unsigned level, unsigned attr)
{
    /* UXN always: code of the kernel is nobody else's. */
    uint64_t pte = p.v | PTE_VALID | PTE_ACCESSED | PTE_UXN;
    unsigned index = attr & MAP_DEVICE ? MAIR_DEVICE : attr & MAP_WC ? MAIR_WC : MAIR_NORMAL;
    KASSERT(attr & MAP_READ);
    KASSERT(!((attr & MAP_WRITE) && (attr & MAP_EXEC)));
    KASSERT(!((attr & MAP_DEVICE) && (attr & (MAP_EXEC | MAP_WC))));
    KASSERT(level <= 2 && IS_ALIGNED(p.v, leaf_bytes(level)) && (p.v & ~PTE_ADDRESS) == 0);
    pte |= (uint64_t)index << PTE_INDEX_SHIFT;
    if (!(attr & MAP_DEVICE))        /* devices are outer shareable whatever the entry says */
        pte |= PTE_INNER;
    if (!(attr & MAP_WRITE))
        pte |= PTE_READ_ONLY;
    if (!(attr & MAP_EXEC))
        pte |= PTE_PXN;
    if (!(attr & MAP_GLOBAL))
        pte |= PTE_NOT_GLOBAL;
    return level == 0 ? pte | PTE_TABLE : pte;
}

static uint64_t table(paddr_t p)
{
    KASSERT((p.v & ~PTE_ADDRESS) == 0);
    return p.v | PTE_VALID | PTE_TABLE;
}

static bool is_present(uint64_t pte) { return (pte & PTE_VALID) != 0; }
static bool is_leaf(uint64_t pte, unsigned level) { return level == 0 || (level <= 2 && (pte & PTE_TABLE) == 0); }
static paddr_t address(uint64_t pte, unsigned level)
{
    (void)level;
    return pa(pte & PTE_ADDRESS);
}

static unsigned attributes(uint64_t pte)
{
    unsigned attr = MAP_READ, index = (pte & PTE_INDEX) >> PTE_INDEX_SHIFT;
    if (!(pte & PTE_READ_ONLY))
        attr |= MAP_WRITE;
    if (!(pte & PTE_PXN))
        attr |= MAP_EXEC;
    if (index == MAIR_DEVICE || index == MAIR_STRONG)
        attr |= MAP_DEVICE;
    else if (index == MAIR_WC)
        attr |= MAP_WC;
    if (!(pte & PTE_NOT_GLOBAL))
        attr |= MAP_GLOBAL;
    return attr;
}

unsigned arm64_phys_bits(unsigned pa_range)
{
    static const uint8_t bits[] = {32, 36, 40, 42, 44, 48};
    return pa_range < ARRAY_SIZE(bits) ? bits[pa_range] : 48;
}

void arm64_pt_format_init(struct pt_format *format, unsigned pa_range)
{
    *format = (struct pt_format){
        .top_level = 3, .max_leaf_level = 2, .phys_bits = arm64_phys_bits(pa_range), .leaf = leaf, .table = table,
        .is_present = is_present, .is_leaf = is_leaf, .address = address, .attributes = attributes,
        .break_before_make = true, .contiguous = 16, .contiguous_mark = PTE_CONTIGUOUS,
    };
}
