/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * PVH: what EBX points at. Source: Xen's public header arch-x86/hvm/start_info.h ("HVM start info"), as QEMU and Cloud
 * Hypervisor fill it. Version 0 has no memory map: such a loader is a Xen of old and gets a clear refusal later, when
 * mm_init finds no RAM.
 */
#include "boot/x86_64/entry.h"
#include <string.h>

#define PVH_MAGIC 0x336EC578u

struct pvh_start_info {
    uint32_t magic;
    uint32_t version;
    uint32_t flags;
    uint32_t module_count;
    uint64_t modules;            /* physical, struct pvh_module[] */
    uint64_t cmdline;            /* physical, NUL-terminated; 0 none */
    uint64_t rsdp;
    uint64_t memory_map;         /* version 1 on: physical, struct pvh_region[] */
    uint32_t memory_map_entries;
    uint32_t reserved;
};
_Static_assert(sizeof(struct pvh_start_info) == 56, "hvm_start_info, version 1");

struct pvh_module { uint64_t address, bytes, cmdline, reserved; };
struct pvh_region { uint64_t address, bytes; uint32_t type, reserved; };
_Static_assert(sizeof(struct pvh_region) == 24, "hvm_memmap_table_entry");

void boot_from_pvh(struct boot_info *boot, uint64_t start_info)
{
    const struct pvh_start_info *info = boot_phys(start_info, sizeof *info);
    const struct pvh_module *modules;
    const struct pvh_region *map;
    const char *text;
    size_t length;
    if (info == NULL || info->magic != PVH_MAGIC) {
        boot_note(boot, "no PVH start info at 0x%llx", (unsigned long long)start_info);
        return;
    }
    boot->acpi_rsdp = pa(info->rsdp);
    length = boot_text(&text, info->cmdline);
    boot_set_cmdline(boot, text, length);

    map = info->version < 1 ? NULL : boot_phys(info->memory_map, (uint64_t)info->memory_map_entries * sizeof *map);
    if (map == NULL)
        boot_note(boot, "PVH start info version %u without a memory map", info->version);
    for (uint32_t i = 0; map != NULL && i < info->memory_map_entries; i++)
        boot_add_region(boot, map[i].address, map[i].bytes, boot_e820_type(map[i].type));

    modules = info->module_count == 0 ? NULL : boot_phys(info->modules, (uint64_t)info->module_count * sizeof *modules);
    for (uint32_t i = 0; modules != NULL && i < info->module_count; i++) {
        length = boot_text(&text, modules[i].cmdline);
        boot_add_module(boot, modules[i].address, modules[i].bytes, text, length);
    }
}
