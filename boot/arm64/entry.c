/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The first C code: fills the one struct boot_info from the device tree, or completes what the UEFI loader filled, then
 * kernel_main().
 *
 * Runs on the boot stack and boot tables (entry.h). The console is known once the device tree was read, but nothing is
 * printed here: what is odd goes into the note, which kernel_main logs. Only a fault is reported here, if the console
 * is known by then: a loader's addresses are believed, and some lead nowhere.
 */
#include "boot/arm64/entry.h"
#include "arch/arm64/arm64.h"
#include <string.h>

#define GIB            (1ull << 30)
#define BOOT_MAP_BYTES (4 * GIB)         /* of RAM in the direct map: mm brings its first pages online there, */
#define BOOT_MAP_GIBS  8                 /* which lie in so many GiBs: each takes a table */
#define BOOT_TEXT_MAX  65536u            /* a loader's text without an end is cut here */
#define ELF_PHYS       0x40200000ull     /* linker.ld's IMAGE_PHYS */
#define ELF_TREE       0x40000000ull     /* where QEMU puts the device tree for an ELF file: at the start of RAM */

extern char image_end[];

const void *boot_phys(uint64_t address, uint64_t bytes)
{
    return address != 0 && boot_map(address, bytes) ? arch_phys_to_virt(pa(address)) : NULL;
}

size_t boot_text(const char **text, uint64_t address)
{
    size_t length = 0;
    *text = boot_phys(address, 1);
    if (*text == NULL)
        return 0;
    while (length < BOOT_TEXT_MAX && boot_phys(address + length, 1) != NULL && (*text)[length] != '\0')
        length++;
    return length;
}

/* RAM of this region in [from, to); false: none. */
static bool ram_between(const struct mm_region *r, uint64_t from, uint64_t to, uint64_t *start, uint64_t *end)
{
    if (r->type != MM_RAM || r->bytes > UINT64_MAX - r->start.v)
        return false;
    *start = MAX(r->start.v, from);
    *end = MIN(r->start.v + r->bytes, to);
    return *start < *end;
}

static uint64_t lowest_ram(const struct boot_info *boot, uint64_t from)
{
    uint64_t lowest = UINT64_MAX, start, end;
    for (unsigned i = 0; i < boot->region_count; i++)
        if (ram_between(&boot->regions[i], from, UINT64_MAX, &start, &end))
            lowest = MIN(lowest, start);
    return lowest;
}

/* mm finds its first pages through the direct map: the lowest RAM, wherever that is, one GiB of addresses after the
 * other. */
static void map_low_memory(struct boot_info *boot)
{
    uint64_t at = 0, mapped = 0, lowest, start, end;
    for (unsigned n = 0; n < BOOT_MAP_GIBS && mapped < BOOT_MAP_BYTES; n++) {
        lowest = ALIGN_DOWN(lowest_ram(boot, at), GIB);
        if (lowest > ARCH_DIRECT_BYTES - GIB)
            break;
        for (unsigned i = 0; i < boot->region_count; i++) {
            if (!ram_between(&boot->regions[i], lowest, lowest + GIB, &start, &end))
                continue;
            if (!boot_map(start, end - start)) {
                boot_note(boot, "RAM at 0x%llx can't be mapped", (unsigned long long)start);
                return;
            }
            mapped += end - start;
        }
        at = arm64_boot_mapped_end = lowest + GIB;
    }
}

static void write_console(struct log_sink *sink, const char *text, size_t bytes)
{
    (void)sink;
    arch_console_write(text, bytes);
}

/* Whoever panics before kernel_main: what was said to nobody comes out now. */
static void end_early(void)
{
    static struct log_sink console = {.write = write_console};
    if (arch_console_init())
        log_add_sink(&console);
}

void boot_enter(unsigned kind, uint64_t device_tree, uint64_t image_phys, uint64_t counter, unsigned el)
{
    struct boot_info *boot = &boot_info;
    image_phys_base = image_phys;
    arm64_entry_el = el;
    arm64_cpu_early();
    panic_set_end(end_early);
    if (boot->entry_counter == 0)        /* else the UEFI loader has stamped its own beginning */
        boot->entry_counter = counter;
    if (kind == BOOT_KIND_LINUX) {
        boot->loader = "Linux boot protocol";
        if (device_tree == 0 && image_phys == ELF_PHYS)
            device_tree = ELF_TREE;
        boot_from_fdt(boot, device_tree);
    } else {
        boot->loader = "UEFI";
        boot->cmdline[sizeof boot->cmdline - 1] = '\0';
        boot->note[sizeof boot->note - 1] = '\0';
        if (!pa_is_none(boot->device_tree))
            boot_platform_from_fdt(boot, boot->device_tree.v);
    }
    if (!arch_console_init() && !pa_is_none(boot->acpi_rsdp))
        boot_console_from_acpi(boot->acpi_rsdp.v);
    boot_add_region(boot, image_phys, (uint64_t)image_end - IMAGE_VIRT_BASE, MM_KERNEL);
    map_low_memory(boot);
    panic_set_end(NULL);
    kernel_main(boot);
}
