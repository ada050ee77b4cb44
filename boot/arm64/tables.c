/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The boot tables grow: 2 MiB blocks of the direct map and one of device registers. Entries go from absent to present
 * only, so nothing has to be taken out of the TLB; a table for a part of the address space comes from a small pool.
 */
#include "boot/arm64/entry.h"
#include "arch/arm64/arm64.h"
#include <string.h>

#define ENTRIES       512
#define BLOCK_BYTES   (2ull << 20)
#define PTE_VALID     1ull
#define PTE_TABLE     3ull
#define PTE_ADDRESS   0x0000FFFFFFFFF000ull
#define PTE_NORMAL    0x701ull           /* block, MAIR_NORMAL, inner shareable, accessed */
#define PTE_DEVICE    (0x401ull | MAIR_DEVICE << 2)
#define PTE_XN        (3ull << 53)       /* nobody executes it */

extern uint64_t boot_tables_start[ARM64_TABLES][ENTRIES];
extern char image_end[];

/* The tables are part of the image: virtual and physical address differ by a constant. */
static uint64_t phys_of(const uint64_t *table) { return va_of(table).v - IMAGE_VIRT_BASE + image_phys_base; }
static uint64_t *table_at(uint64_t entry)
{
    return (uint64_t *)(uintptr_t)((entry & PTE_ADDRESS) - image_phys_base + IMAGE_VIRT_BASE);
}

/* For the walker, who may be asked once settle() is through. */
static void publish(uint64_t *entry, uint64_t value) { __atomic_store_n(entry, value, __ATOMIC_RELEASE); }
static void settle(void)
{
    arm64_dsb_ishst();
    arm64_isb();
}

/* Tables that the pool has; those at the end may be the image's. */
static unsigned pool_end(void)
{
    uint64_t image_bytes = (uint64_t)image_end - IMAGE_VIRT_BASE;
    bool blocks = IS_ALIGNED(image_phys_base, BLOCK_BYTES);
    return ARM64_TABLES - (blocks ? 0 : (unsigned)DIV_UP(image_bytes, BLOCK_BYTES));
}

/* The table below an entry, made when there is none; NULL when the pool is empty. */
static uint64_t *table_below(uint64_t *entry)
{
    static unsigned used = ARM64_TABLE_POOL;
    if (!(*entry & PTE_VALID)) {
        if (used == pool_end())
            return NULL;
        memset(boot_tables_start[used], 0, sizeof boot_tables_start[used]);
        publish(entry, phys_of(boot_tables_start[used++]) | PTE_TABLE);
    }
    return table_at(*entry);
}

/* The table of the GiB of direct map around a physical address. */
static uint64_t *blocks_of(uint64_t phys)
{
    uint64_t virt = ARCH_DIRECT_BASE + phys;
    uint64_t *l1 = table_below(&boot_tables_start[ARM64_TABLE_KERNEL_L0][virt >> 39 & (ENTRIES - 1)]);
    return l1 == NULL ? NULL : table_below(&l1[virt >> 30 & (ENTRIES - 1)]);
}

bool boot_map(uint64_t start, uint64_t bytes)
{
    uint64_t limit = MIN(ARCH_DIRECT_BYTES, 1ull << arch_pt_format()->phys_bits), *blocks = NULL;
    if (bytes == 0 || start >= limit || bytes > limit - start)
        return false;
    for (uint64_t at = ALIGN_DOWN(start, BLOCK_BYTES); at < start + bytes; at += BLOCK_BYTES) {
        uint64_t index = at >> 21 & (ENTRIES - 1);
        if (blocks == NULL || index == 0)
            blocks = blocks_of(at);
        if (blocks == NULL)
            break;
        if (!(blocks[index] & PTE_VALID))
            publish(&blocks[index], at | PTE_NORMAL | PTE_XN);
    }
    settle();
    return blocks != NULL;
}

bool boot_map_early_device(uint64_t registers)
{
    _Static_assert(EARLY_DEVICE_BASE + BLOCK_BYTES == IMAGE_VIRT_BASE, "entry 0 of the table that maps the image");
    if (registers >> arch_pt_format()->phys_bits != 0)
        return false;
    publish(&boot_tables_start[ARM64_TABLE_KERNEL_L2][0], ALIGN_DOWN(registers, BLOCK_BYTES) | PTE_DEVICE | PTE_XN);
    settle();
    return true;
}
