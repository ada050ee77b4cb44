/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Second-stage tables: their format, which mm/map.c builds them by, and the processor's part: VTCR, VTTBR, TLB.
 *
 * RAM and device registers go through the mapper's one decision on sizes, so both get 1 GiB and 2 MiB blocks wherever
 * addresses and length allow. Source: Arm ARM, D8.3 (descriptors), D8.5 (stage 2), D8.14 (maintenance).
 *
 * One guest, so one VMID; 0 would be as good, but names nothing that was left over from before the lab.
 */
#define LOG_ROOM "lab"
#include "tests/lab/arm64/el2.h"
#include "tests/lab/arm64/vcpu.h"

#define VMID            1
#define S2_VALID        (1ull << 0)
#define S2_TABLE        (1ull << 1)     /* at level 0: a page */
#define S2_NORMAL       (15ull << 2)    /* write back, as stage 1 has it */
#define S2_DEVICE       (1ull << 2)     /* nGnRE */
#define S2_NOT_CACHED   (5ull << 2)
#define S2_MEMORY       (15ull << 2)
#define S2_READ         (1ull << 6)
#define S2_WRITE        (1ull << 7)
#define S2_INNER        (3ull << 8)
#define S2_ACCESSED     (1ull << 10)
#define S2_CONTIGUOUS   (1ull << 52)
#define S2_NO_EXECUTE   (1ull << 54)
#define S2_ADDRESS      0x0000FFFFFFFFF000ull
#define FLUSH_PAGES     64u             /* more than these: everything at once */

static unsigned address_bits;

static uint64_t s2_leaf(paddr_t p, unsigned level, unsigned attr)
{
    uint64_t e = p.v | S2_VALID | S2_ACCESSED | S2_INNER;
    e |= attr & MAP_DEVICE ? S2_DEVICE : attr & MAP_WC ? S2_NOT_CACHED : S2_NORMAL;
    if (attr & MAP_READ)
        e |= S2_READ;
    if (attr & MAP_WRITE)
        e |= S2_WRITE;
    if (!(attr & MAP_EXEC))
        e |= S2_NO_EXECUTE;
    if (level == 0)
        e |= S2_TABLE;
    return e;
}

static uint64_t s2_table(paddr_t p) { return p.v | S2_VALID | S2_TABLE; }
static bool s2_is_present(uint64_t e) { return (e & S2_VALID) != 0; }
static bool s2_is_leaf(uint64_t e, unsigned level) { return level == 0 || !(e & S2_TABLE); }
static paddr_t s2_address(uint64_t e, unsigned level)
{
    (void)level;
    return pa(e & S2_ADDRESS);
}

static unsigned s2_attributes(uint64_t e)
{
    unsigned attr = (e & S2_READ ? (unsigned)MAP_READ : 0u) | (e & S2_WRITE ? (unsigned)MAP_WRITE : 0u);
    if ((e & S2_MEMORY) == S2_DEVICE)
        attr |= MAP_DEVICE;
    else if ((e & S2_MEMORY) == S2_NOT_CACHED)
        attr |= MAP_WC;
    return attr | (e & S2_NO_EXECUTE ? 0u : (unsigned)MAP_EXEC);
}

static struct pt_format stage2_format = {
    .top_level = 3,
    .max_leaf_level = 2,
    .leaf = s2_leaf,
    .table = s2_table,
    .is_present = s2_is_present,
    .is_leaf = s2_is_leaf,
    .address = s2_address,
    .attributes = s2_attributes,
    .break_before_make = true,
    .contiguous = 16,
    .contiguous_mark = S2_CONTIGUOUS,
};

/* The architecture allows a start at level 0 (four levels, 512 entries each) to processors of 44 bits and more;
 * narrower ones begin at level 1, of which one table reaches 39 bits. */
static unsigned physical_range(void) { return MIN(arm64_field(sysreg_read(id_aa64mmfr0_el1), 0), 5u); }

const struct pt_format *machine_nested_format(void)
{
    static const uint8_t range_bits[] = {32, 36, 40, 42, 44, 48};
    stage2_format.phys_bits = range_bits[physical_range()];
    address_bits = stage2_format.phys_bits >= 44 ? stage2_format.phys_bits : MIN(stage2_format.phys_bits, 39u);
    stage2_format.top_level = address_bits > 39 ? 3 : 2;
    return &stage2_format;
}

/* Of all vcpus: the instruction is heard by every processor. */
void machine_flush_guest(uint64_t vcpus)
{
    if (vcpus)
        machine_nested_flush(0, UINT64_MAX);
}

unsigned machine_guest_address_bits(void) { return address_bits; }

void stage2_cpu_init(void)
{
    uint64_t range = physical_range();
    sysreg_write(vtcr_el2, VTCR_RES1 | VTCR_WALK | VTCR_T0SZ(address_bits) | range << VTCR_PS_SHIFT |
                               (address_bits > 39 ? VTCR_SL0_LEVEL0 : VTCR_SL0_LEVEL1));
    sysreg_write(vttbr_el2, nested_root().v | VTTBR_VMID(VMID));
    arm64_isb();
}

/*
 * Second-stage entries by address, then the combined translations that were made of them, on all processors. The second
 * step knows no address, as a guest-virtual one is not known. With TGE set the instructions would mean EL2's own
 * translations.
 */
void machine_nested_flush(uint64_t gpa, uint64_t bytes)
{
    uint64_t hcr = sysreg_read(hcr_el2);
    arm64_dsb_ishst();
    sysreg_write(hcr_el2, hcr & ~HCR_TGE);
    arm64_isb();
    if (bytes >> PAGE_SHIFT <= FLUSH_PAGES) {
        for (uint64_t at = gpa; at < gpa + bytes; at += PAGE_BYTES)
            __asm__ volatile("tlbi ipas2e1is, %0" : : "r"(at >> PAGE_SHIFT) : "memory");
        arm64_dsb_ish();
        __asm__ volatile("tlbi vmalle1is" : : : "memory");
    } else {
        __asm__ volatile("tlbi vmalls12e1is" : : : "memory");
    }
    arm64_dsb_ish();
    arm64_isb();
    sysreg_write(hcr_el2, hcr);
    arm64_isb();
}
