/* SPDX-License-Identifier: BSD-2-Clause */
/* The format of AMD's nested page tables: that of long mode's own, with the user bit. */
#include "tests/lab/machine.h"
#include "tests/lab/x86_64/vcpu.h"

#define NPT_P   (1ull << 0)
#define NPT_W   (1ull << 1)
#define NPT_U   (1ull << 2)   /* nested walks are made as user accesses */
#define NPT_PCD (1ull << 4)
#define NPT_A   (1ull << 5)   /* set beforehand: the processor then has nothing to write back */
#define NPT_D   (1ull << 6)
#define NPT_PS  (1ull << 7)
#define NPT_NX  (1ull << 63)
#define NPT_ADDRESS 0x000FFFFFFFFFF000ull

static uint64_t npt_leaf(paddr_t p, unsigned level, unsigned attr)
{
    uint64_t e = p.v | NPT_P | NPT_U | NPT_A | NPT_D;
    if (attr & MAP_WRITE)
        e |= NPT_W;
    if (!(attr & MAP_EXEC))
        e |= NPT_NX;
    if (attr & MAP_DEVICE)
        e |= NPT_PCD;
    if (level > 0)
        e |= NPT_PS;
    return e;
}

static uint64_t npt_table(paddr_t p) { return p.v | NPT_P | NPT_W | NPT_U | NPT_A; }
static bool npt_is_present(uint64_t e) { return (e & NPT_P) != 0; }
static bool npt_is_leaf(uint64_t e, unsigned level) { return level == 0 || (e & NPT_PS); }
static paddr_t npt_address(uint64_t e, unsigned level)
{
    (void)level;
    return pa(e & NPT_ADDRESS);
}
static unsigned npt_attributes(uint64_t e)
{
    return MAP_READ | (e & NPT_W ? MAP_WRITE : 0u) | (e & NPT_NX ? 0u : MAP_EXEC) | (e & NPT_PCD ? MAP_DEVICE : 0u);
}

static struct pt_format nested_format = {
    .top_level = 3,
    .max_leaf_level = 2,
    .leaf = npt_leaf,
    .table = npt_table,
    .is_present = npt_is_present,
    .is_leaf = npt_is_leaf,
    .address = npt_address,
    .attributes = npt_attributes,
};

const struct pt_format *machine_nested_format(void)
{
    uint32_t r[4];
    lab_cpuid(0x80000001, 0, r);
    if (!(r[3] & 1u << 26))
        nested_format.max_leaf_level = 1;
    return &nested_format;
}

/* No flush anywhere: every VMRUN begins without translations. QEMU drops its own, guest's and nested, and TLB_CONTROL
 * asks real processors for the same. smp.c relies on that, too. */
void machine_nested_flush(uint64_t gpa, uint64_t bytes)
{
    (void)gpa;
    (void)bytes;
}

unsigned machine_guest_address_bits(void)
{
    uint32_t r[4];
    lab_cpuid(0x80000008, 0, r);
    return r[0] & 0xFF;
}
