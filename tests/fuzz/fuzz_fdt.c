/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The device tree that arm64's loaders leave: a blob that a host made, or passed on from an operator's file.
 *
 * Must hold: nothing is read outside of the blob (one block here, exactly as long as the input); the walk ends; what
 * comes out is complete: texts with an end, counts within their arrays, a console only of a kind that there is.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include "arch/arm64/console.h"
#include "tests/fake_arch/fake_arch.h"
#include "tests/fuzz/fuzz.h"

#include "boot/arm64/fdt.c"
#include "boot/arm64/fdt_boot.c"
#include "boot/arm64/efi_tables.c"
#include "boot/loader/loader.c"

#define MEMORY_START 0x48000000ull
static uint8_t *memory;
static uint64_t memory_bytes;
static struct boot_info info;

const void *boot_phys(uint64_t address, uint64_t bytes)
{
    if (address < MEMORY_START || address - MEMORY_START > memory_bytes)
        return NULL;
    return bytes <= memory_bytes - (address - MEMORY_START) ? memory + (address - MEMORY_START) : NULL;
}
bool boot_map_early_device(uint64_t registers) { return registers >> 44 == 0; }
void arm64_console_set(enum arm64_uart kind, paddr_t registers UNUSED, unsigned shift, unsigned width)
{
    FUZZ_CHECK(kind == ARM64_UART_PL011 || kind == ARM64_UART_16550 || kind == ARM64_UART_SBSA);
    FUZZ_CHECK(shift <= 3 && (width == 1 || width == 4));
}

static void set32(uint64_t offset, uint32_t v)
{
    for (unsigned i = 0; i < 4 && offset + i < memory_bytes; i++)
        memory[offset + i] = (uint8_t)(v >> (24 - 8 * i));
}

static void run(struct input *in)
{
    uint8_t kind = in_u8(in);
    memory_bytes = in->left;
    memory = malloc(memory_bytes + !memory_bytes);
    memcpy(memory, in->at, memory_bytes);
    memset(&info, 0, sizeof(info));
    if (kind & 1) {                            /* past the header: its length fits, it is a tree of our version */
        set32(0, 0xD00DFEED);
        set32(4, (uint32_t)memory_bytes);
        set32(20, 17);
        set32(24, 16);
    }
    if (kind & 2)
        boot_platform_from_fdt(&info, MEMORY_START);
    else
        boot_from_fdt(&info, MEMORY_START);
    free(memory);
    FUZZ_CHECK(info.region_count <= BOOT_MAX_REGIONS && info.module_count <= BOOT_MAX_MODULES);
    FUZZ_CHECK(info.platform.gic_ranges <= ARCH_GIC_RANGES && info.random_seed_bytes <= sizeof(info.random_seed));
    FUZZ_CHECK(memchr(info.cmdline, 0, sizeof(info.cmdline)) && memchr(info.note, 0, sizeof(info.note)));
    FUZZ_CHECK(info.platform.vmbus_irq < 1020 && info.platform.timer_irq < 1020 && info.platform.timer_irq_el2 < 1020);
}

const struct fuzz_target fuzz_target = {.run = run};
