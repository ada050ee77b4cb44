/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Guest-physical memory: the nested page tables, built by the kernel's own mapper with a format of our own, and the
 * list of stretches of guest RAM through which the model reaches the same memory.
 *
 * What is not mapped here does not exist for the guest; the lab's own memory never is. Promise to the model: guest_ptr
 * gives only RAM, never a device and never the lab.
 */
#define LOG_ROOM "lab"
#include "tests/lab/x86_64/lab.h"

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

static struct address_space nested_space;

int npt_init(void)
{
    uint32_t r[4];
    lab_cpuid(0x80000001, 0, r);
    if (!(r[3] & 1u << 26))
        nested_format.max_leaf_level = 1;
    nested_space = (struct address_space){.root = page_alloc_zeroed(0), .format = &nested_format};
    return pa_is_none(nested_space.root) ? -E_NOMEM : 0;
}

paddr_t npt_root(void) { return nested_space.root; }

/* No flush anywhere: QEMU drops its translations at every VMRUN, and TLB_CONTROL asks real processors for the same. */
int npt_map(uint64_t gpa, uint64_t hpa, uint64_t bytes, unsigned attr)
{
    return map_range(&nested_space, va(gpa), pa(hpa), bytes, attr);
}

void npt_unmap(uint64_t gpa, uint64_t bytes) { unmap_range(&nested_space, va(gpa), bytes); }

int npt_protect(uint64_t gpa, uint64_t bytes, unsigned attr)
{
    return protect_range(&nested_space, va(gpa), bytes, attr);
}

bool npt_mapped(uint64_t gpa) { return map_lookup(&nested_space, va(gpa), NULL, NULL, NULL); }

/* ---- guest RAM ---- */
#define MAX_WINDOWS 64
static struct { uint64_t gpa, hpa, bytes; uint8_t *base; } windows[MAX_WINDOWS];
static unsigned window_count;

int guest_ram_window(uint64_t gpa, uint64_t hpa, uint64_t bytes)
{
    if (window_count == MAX_WINDOWS)
        return -E_NOSPC;
    uint8_t *base = mm_map_phys(pa(hpa), bytes, MAP_READ | MAP_WRITE);
    if (!base)
        return -E_NOMEM;
    windows[window_count].gpa = gpa;
    windows[window_count].hpa = hpa;
    windows[window_count].bytes = bytes;
    windows[window_count].base = base;
    window_count++;
    return 0;
}

int guest_ram_add(uint64_t gpa, uint64_t hpa, uint64_t bytes)
{
    int error = guest_ram_window(gpa, hpa, bytes);
    return error ? error : npt_map(gpa, hpa, bytes, MAP_READ | MAP_WRITE | MAP_EXEC);
}

uint64_t guest_ram_bytes(void)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < window_count; i++)
        sum += windows[i].bytes;
    return sum;
}

uint64_t guest_ram_end(void)
{
    uint64_t end = 0;
    for (unsigned i = 0; i < window_count; i++)
        end = MAX(end, windows[i].gpa + windows[i].bytes);
    return end;
}

void *guest_ptr(uint64_t gpa, uint64_t bytes)
{
    for (unsigned i = 0; i < window_count; i++) {
        uint64_t off = gpa - windows[i].gpa;
        if (off < windows[i].bytes && bytes <= windows[i].bytes - off)
            return windows[i].base + off;
    }
    return NULL;
}

bool guest_ptr_to_hpa(const void *p, uint64_t *hpa)
{
    for (unsigned i = 0; i < window_count; i++) {
        uint64_t off = (uint64_t)((const uint8_t *)p - windows[i].base);
        if (off < windows[i].bytes) {
            *hpa = windows[i].hpa + off;
            return true;
        }
    }
    return false;
}
