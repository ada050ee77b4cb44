/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Boot information: what a loader leaves in memory, as the PVH, Linux and Multiboot2 entries read it. The loader chose
 * the bytes, and often took some of them from elsewhere (a command line, a firmware's map).
 *
 * Must hold: nothing is read outside of the loader's memory (one block here, exactly as long as the input); what comes
 * out is complete: texts with an end, counts within their arrays; and the memory map, whatever it says, becomes sorted,
 * disjoint ranges of RAM that touch nothing reserved.
 */
#define _GNU_SOURCE
#define arch_platform_set fuzz_platform_set
#include <stdlib.h>
#include <string.h>
#include "mm/internal.h"
#include "tests/fake_arch/fake_arch.h"
#include "tests/fuzz/fuzz.h"

#define IMAGE_VIRT_BASE 0ull
static uint64_t image_phys_base;
#define MEMORY_START 0x10000ull
static uint8_t *memory;
static uint64_t memory_bytes;

#define boot_phys boot_phys_of_the_kernel
#define boot_text boot_text_of_the_kernel
#include "boot/loader/loader.c"
#include "boot/x86_64/entry.c"
#undef boot_phys
#undef boot_text
char image_end[1];
void kernel_main(struct boot_info *boot UNUSED) { abort(); }
const void *boot_phys(uint64_t address, uint64_t bytes);
const void *boot_phys(uint64_t address, uint64_t bytes)
{
    if (address < MEMORY_START || address - MEMORY_START > memory_bytes)
        return NULL;
    return bytes <= memory_bytes - (address - MEMORY_START) ? memory + (address - MEMORY_START) : NULL;
}
size_t boot_text(const char **text, uint64_t address);
size_t boot_text(const char **text, uint64_t address)
{
    *text = boot_phys(address, 1);
    return *text == NULL ? 0 : strnlen(*text, memory_bytes - (address - MEMORY_START));
}
#include "boot/x86_64/linux64.c"
#include "boot/x86_64/multiboot2.c"
#include "boot/x86_64/pvh.c"

static struct boot_info info;

static void check_ranges(void)
{
    static struct mm_range out[MM_RANGE_MAX];
    unsigned n = memory_map_normalise(info.regions, info.region_count, out, MM_RANGE_MAX);

    FUZZ_CHECK(n <= info.region_count + 1);
    for (unsigned i = 0; i < n; i++) {
        FUZZ_CHECK(IS_ALIGNED(out[i].start | out[i].end, PAGE_BYTES) && out[i].start < out[i].end);
        FUZZ_CHECK(out[i].start >= MM_LOW_BYTES && out[i].end <= ARCH_DIRECT_BYTES);
        FUZZ_CHECK(i == 0 || out[i - 1].end < out[i].start);
        FUZZ_CHECK(!memory_map_reserves(out[i].start, out[i].end));
    }
    for (unsigned i = 0; i < info.region_count; i++) {
        const struct mm_region *r = &info.regions[i];
        if (r->type == MM_RAM || r->bytes == 0 || r->bytes > UINT64_MAX - r->start.v)
            continue;
        for (unsigned k = 0; k < n; k++)
            FUZZ_CHECK(r->start.v >= out[k].end || r->start.v + r->bytes <= out[k].start);
    }
}

static void run(struct input *in)
{
    uint8_t kind = in_u8(in);

    memory_bytes = in->left;
    memory = malloc(memory_bytes + !memory_bytes);
    memcpy(memory, in->at, memory_bytes);
    memset(&info, 0, sizeof(info));
    switch (kind % 3) {
    case BOOT_KIND_PVH:
        boot_from_pvh(&info, MEMORY_START);
        break;
    case BOOT_KIND_LINUX64:
        boot_from_linux64(&info, MEMORY_START);
        break;
    case BOOT_KIND_MULTIBOOT2:
        boot_from_multiboot2(&info, MEMORY_START);
        break;
    }
    if (kind & 4)                              /* the image itself, last as in boot_enter */
        boot_add_region(&info, 0x200000, 0x100000, MM_KERNEL);
    free(memory);
    FUZZ_CHECK(info.region_count <= BOOT_MAX_REGIONS && info.module_count <= BOOT_MAX_MODULES);
    FUZZ_CHECK(memchr(info.cmdline, 0, sizeof(info.cmdline)) && memchr(info.note, 0, sizeof(info.note)));
    for (unsigned i = 0; i < info.module_count; i++)
        FUZZ_CHECK(memchr(info.modules[i].name, 0, sizeof(info.modules[i].name)));
    check_ranges();
}

const struct fuzz_target fuzz_target = {.run = run};
