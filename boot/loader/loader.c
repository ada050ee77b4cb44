/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Filling struct boot_info, as the entries of every architecture and loader do it.
 */
#include "boot/loader/loader.h"
#include <string.h>

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
