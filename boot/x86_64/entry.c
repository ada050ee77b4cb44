/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The first C code: fills the one struct boot_info with the help of the loader's own file, then kernel_main().
 *
 * Runs on the boot stack and boot tables (entry.h), with no console yet: what is odd goes into the note, which
 * kernel_main logs. Loader data is checked against its own lengths before use, as an operator's input would be.
 */
#include "boot/x86_64/entry.h"
#include <string.h>

#define BOOT_MAP_BYTES (4ull << 30)      /* what the boot tables reach */
#define BOOT_TEXT_MAX  65536u            /* a loader's text without an end is cut here */

extern char image_end[];
struct boot_info boot_info;

void boot_note(struct boot_info *boot, const char *fmt, ...)
{
    size_t used = strnlen(boot->note, sizeof boot->note - 1);
    va_list ap;
    if (used != 0 && used + 2 < sizeof boot->note) {
        memcpy(boot->note + used, "; ", 3);
        used += 2;
    }
    va_start(ap, fmt);
    kvsnprintf(boot->note + used, sizeof boot->note - used, fmt, ap);
    va_end(ap);
}

const void *boot_phys(uint64_t address, uint64_t bytes)
{
    if (address == 0 || address >= BOOT_MAP_BYTES || bytes > BOOT_MAP_BYTES - address)
        return NULL;
    return arch_phys_to_virt(pa(address));
}

size_t boot_text(const char **text, uint64_t address)
{
    uint64_t room = address < BOOT_MAP_BYTES ? BOOT_MAP_BYTES - address : 0;
    *text = boot_phys(address, 1);
    return *text == NULL ? 0 : strnlen(*text, MIN(room, (uint64_t)BOOT_TEXT_MAX));
}

/* Where a region goes when all places are taken: RAM stays out, anything else takes the place of the smallest RAM,
 * because memory that is left out costs memory, while a reservation that is left out is overwritten. */
static struct mm_region *region_place(struct boot_info *boot, enum mm_region_type type)
{
    struct mm_region *smallest = NULL;
    for (unsigned i = 0; type != MM_RAM && i < boot->region_count; i++) {
        struct mm_region *r = &boot->regions[i];
        if (r->type == MM_RAM && (smallest == NULL || r->bytes < smallest->bytes))
            smallest = r;
    }
    return smallest;
}

void boot_add_region(struct boot_info *boot, uint64_t start, uint64_t bytes, enum mm_region_type type)
{
    struct mm_region *place;
    if (bytes == 0)
        return;
    if (boot->region_count < BOOT_MAX_REGIONS) {
        place = &boot->regions[boot->region_count++];
    } else {
        if (strstr(boot->note, "memory map") == NULL)
            boot_note(boot, "the memory map has more than %d entries, some RAM is left out", BOOT_MAX_REGIONS);
        place = region_place(boot, type);
    }
    if (place != NULL)
        *place = (struct mm_region){pa(start), bytes, type};
}

enum mm_region_type boot_e820_type(uint32_t type)
{
    switch (type) {
    case 1:
        return MM_RAM;
    case 3:      /* tables the kernel may reclaim, */
    case 4:      /* and those it must keep */
        return MM_ACPI;
    default:
        return MM_RESERVED;
    }
}

void boot_add_module(struct boot_info *boot, uint64_t start, uint64_t bytes, const char *name, size_t name_max)
{
    struct boot_module *module;
    size_t length;
    uint64_t first;
    if (boot->module_count >= BOOT_MAX_MODULES) {
        boot_note(boot, "more than %d modules, the rest is left out", BOOT_MAX_MODULES);
        return;
    }
    module = &boot->modules[boot->module_count++];
    module->start = pa(start);
    module->bytes = bytes;
    length = name == NULL ? 0 : strnlen(name, MIN(name_max, sizeof module->name - 1));
    memcpy(module->name, name == NULL ? "" : name, length);
    first = ALIGN_DOWN(start, PAGE_BYTES);
    boot_add_region(boot, first, ALIGN_UP(start + bytes, PAGE_BYTES) - first, MM_KERNEL);
}

void boot_set_cmdline(struct boot_info *boot, const char *text, size_t max)
{
    size_t length = text == NULL ? 0 : strnlen(text, max);
    if (length >= sizeof boot->cmdline) {
        length = sizeof boot->cmdline - 1;
        boot_note(boot, "the command line is cut at %zu bytes", length);
    }
    memcpy(boot->cmdline, text == NULL ? "" : text, length);
    boot->cmdline[length] = '\0';
}

void boot_enter(unsigned kind, uint64_t parameter, uint64_t image_phys, uint64_t counter)
{
    struct boot_info *boot = &boot_info;
    image_phys_base = image_phys;
    if (boot->entry_counter == 0)        /* else the UEFI loader has stamped its own beginning */
        boot->entry_counter = counter;
    switch (kind) {
    case BOOT_KIND_PVH:
        boot->loader = "PVH";
        boot_from_pvh(boot, parameter);
        break;
    case BOOT_KIND_LINUX64:
        boot->loader = "Linux boot protocol";
        boot_from_linux64(boot, parameter);
        break;
    case BOOT_KIND_MULTIBOOT2:
        boot->loader = "Multiboot2";
        boot_from_multiboot2(boot, parameter);
        break;
    default:
        boot->loader = "UEFI";
        boot->cmdline[sizeof boot->cmdline - 1] = '\0';
        boot->note[sizeof boot->note - 1] = '\0';
        break;
    }
    boot_add_region(boot, image_phys, (uint64_t)image_end - IMAGE_VIRT_BASE, MM_KERNEL);
    kernel_main(boot);
}
