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
#define MODULE_BYTES sizeof(struct pvh_module)
#define REGION_BYTES sizeof(struct pvh_region)

void boot_from_pvh(struct boot_info *boot, uint64_t start_info)
{
    /* Copied out entry by entry: the lists may lie at any address. */
    const char *at = boot_phys(start_info, sizeof(struct pvh_start_info)), *text;
    struct pvh_start_info info = {0};
    size_t length;
    if (at != NULL)
        memcpy(&info, at, sizeof info);
    if (info.magic != PVH_MAGIC) {
        boot_note(boot, "no PVH start info at 0x%llx", (unsigned long long)start_info);
        return;
    }
    boot->acpi_rsdp = pa(info.rsdp);
    length = boot_text(&text, info.cmdline);
    boot_set_cmdline(boot, text, length);

    at = info.version < 1 ? NULL : boot_phys(info.memory_map, (uint64_t)info.memory_map_entries * REGION_BYTES);
    if (at == NULL)
        boot_note(boot, "PVH start info version %u without a memory map", info.version);
    for (uint32_t i = 0; at != NULL && i < info.memory_map_entries; i++) {
        struct pvh_region region;
        memcpy(&region, at + i * REGION_BYTES, sizeof region);
        boot_add_region(boot, region.address, region.bytes, boot_e820_type(region.type));
    }

    at = info.module_count == 0 ? NULL : boot_phys(info.modules, (uint64_t)info.module_count * MODULE_BYTES);
    for (uint32_t i = 0; at != NULL && i < info.module_count; i++) {
        struct pvh_module module;
        memcpy(&module, at + i * MODULE_BYTES, sizeof module);
        length = boot_text(&text, module.cmdline);
        boot_add_module(boot, module.address, module.bytes, text, length);
    }
}
