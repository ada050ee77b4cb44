/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ACPI tables: firmware, or a host that makes firmware's tables, chose every byte of them, and where they point.
 *
 * An input is a list of pieces laid into eight pages of physical memory outside of RAM; with a bit of the first byte set
 * the checksums are made right afterwards, or every byte beyond the checksums would be behind a wall.
 *
 * Must hold: lengths are believed only within bounds (the pages around are unmapped, so a read outside faults), every
 * mapping is undone, what is told to the architecture is plausible, and nothing takes long.
 */
#include <string.h>
#define LOG_ROOM "acpi"
#define arch_platform_set fuzz_platform_set
#include "arch/arch.h"
#include "tests/fake_arch/fake_arch.h"
#include "tests/fuzz/fuzz.h"
#include "boot/aml.c"
#include "boot/acpi_arm.c"
#include "boot/acpi.c"

#define AREA       0x80000ull                  /* below 1 MiB no RAM of ours is */
#define AREA_PAGES 8u

static struct mm_stats before;
static bool told;
static struct arch_platform platform;

void fuzz_platform_set(const struct arch_platform *p)
{
    told = true;
    platform = *p;
}

static void setup(void)
{
    static const struct mm_region map[] = {
        {{0}, 0xA0000, MM_RAM}, {{SEARCH_START}, SEARCH_BYTES, MM_RESERVED}, {{0x100000}, 16 << 20, MM_RAM},
    };

    fake_mappings_keep();
    fake_arch_reset(16 << 20);
    fake_set_memory_map(map, ARRAY_SIZE(map));
    mm_init(map, ARRAY_SIZE(map));
    rt_init();
    rt_set_clock(&fake_clock);
    arch_irq_enable();
    fake_pt_format.phys_bits = 40;
    for (unsigned i = 0; i < AREA_PAGES; i++)
        memset(fake_phys(AREA + i * PAGE_BYTES), 0, PAGE_BYTES);
    memset(fake_phys(SEARCH_START), 0, SEARCH_BYTES);
    acpi_init(PADDR_NONE);
    mm_get_stats(&before);
}

static uint8_t *area(uint64_t at) { return fake_phys(AREA + at % (AREA_PAGES * PAGE_BYTES)); }

static void seal(uint8_t *p, uint32_t bytes, unsigned checksum_at)
{
    uint8_t sum = 0;
    p[checksum_at] = 0;
    for (uint32_t i = 0; i < bytes; i++)
        sum = (uint8_t)(sum + p[i]);
    p[checksum_at] = (uint8_t)-sum;
}

/* Each table at the beginning of a page; the page before the last may hold an RSDP. */
static void seal_all(void)
{
    static const char *const known[] = {"RSDT", "XSDT", "FACP", "DSDT", "SSDT", "OEM0", "APIC", "GTDT", "SPCR"};
    for (unsigned i = 0; i < AREA_PAGES; i++) {
        uint8_t *p = area(i * PAGE_BYTES);
        uint32_t length;
        memcpy(&length, p + 4, 4);
        for (unsigned k = 0; k < ARRAY_SIZE(known); k++)
            if (memcmp(p, known[k], 4) == 0 && length >= 36 && length <= (AREA_PAGES - i) * PAGE_BYTES)
                seal(p, length, 9);
        if (memcmp(p, "RSD PTR ", 8) == 0)
            seal(p, RSDP_V1_BYTES, 8);
    }
}

static void run(struct input *in)
{
    uint8_t first = in_u8(in), random[64];
    uint64_t rsdp = AREA + (first >> 4) % AREA_PAGES * PAGE_BYTES;

    while (in->left) {
        uint64_t page = in_u8(in) % AREA_PAGES, offset = in_u8(in) * 4u;
        uint32_t n = in_u16(in) % 2048;
        const uint8_t *bytes;
        n = (uint32_t)in_take(in, &bytes, n);
        memcpy(area(page * PAGE_BYTES + offset), bytes, n);
    }
    if (first & 1)
        seal_all();
    if (first & 2) {                           /* found by searching */
        memcpy(fake_phys(SEARCH_START + 0x40), area(rsdp - AREA), 64);
        rsdp = 0;
    }
    bool ok = acpi_init(pa(rsdp));
    FUZZ_CHECK(!ok || told);
    FUZZ_CHECK(!told || !platform.has_s5 || platform.pm1a_control_port || platform.sleep_control.address);
    FUZZ_CHECK(platform.gic_ranges <= ARCH_GIC_RANGES);
    for (unsigned i = 0; i < platform.gic_ranges; i++)
        FUZZ_CHECK(platform.gic_redistributors[i].start && platform.gic_redistributors[i].bytes);
    FUZZ_CHECK((platform.serial == ARCH_SERIAL_NONE) == (platform.serial_address == 0));
    FUZZ_CHECK(root_count <= ROOT_ENTRIES_MAX && acpi_random_bytes(random, sizeof(random)) <= sizeof(random));
    struct mm_stats now;
    mm_get_stats(&now);
    FUZZ_CHECK(now.vmap_bytes == before.vmap_bytes && now.heap_bytes == before.heap_bytes);
}

const struct fuzz_target fuzz_target = {.setup = setup, .run = run, .limit_s = 10};
