/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Guest-physical memory: the second-stage tables, built by the kernel's own mapper with the architecture's format of
 * them, and the list of stretches of guest RAM through which the model reaches the same memory.
 *
 * What is not mapped here does not exist for the guest; the lab's own memory never is. Promise to the model: guest_ptr
 * gives only RAM, never a device and never the lab.
 */
#define LOG_ROOM "lab"
#include "tests/lab/machine.h"

static struct address_space nested_space;

static void flush(vaddr_t start, uint64_t bytes) { machine_nested_flush(start.v, bytes); }

int nested_init(void)
{
    nested_space = (struct address_space){.root = page_alloc_zeroed(0), .format = machine_nested_format(),
                                          .flush = flush};
    return pa_is_none(nested_space.root) ? -E_NOMEM : 0;
}

paddr_t nested_root(void) { return nested_space.root; }

int nested_map(uint64_t gpa, uint64_t hpa, uint64_t bytes, unsigned attr)
{
    return map_range(&nested_space, va(gpa), pa(hpa), bytes, attr);
}

void nested_unmap(uint64_t gpa, uint64_t bytes) { unmap_range(&nested_space, va(gpa), bytes); }

int nested_protect(uint64_t gpa, uint64_t bytes, unsigned attr)
{
    return protect_range(&nested_space, va(gpa), bytes, attr);
}

bool nested_mapped(uint64_t gpa) { return map_lookup(&nested_space, va(gpa), NULL, NULL, NULL); }

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
    return error ? error : nested_map(gpa, hpa, bytes, MAP_READ | MAP_WRITE | MAP_EXEC);
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
