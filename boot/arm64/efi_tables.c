/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Some loaders of Linux's Image hand ACPI over without firmware: an UEFI system table that has nothing but the list of
 * configuration tables, and a memory map, named by /chosen's linux,uefi-system-table and linux,uefi-mmap-* (OpenVMM
 * does, with nothing else in the tree). Source: UEFI Specification 2.10, sections 4.3 (system table), 4.6
 * (configuration tables) and 7.2 (memory map).
 */
#include "boot/arm64/entry.h"
#include "boot/efi/region.h"
#include <string.h>

#define ENTRIES_MAX   64
#define MAP_BYTES_MAX (1u << 20)

void boot_efi_memory(struct boot_info *boot, const struct boot_efi_map *map)
{
    struct efi_memory_descriptor d;
    const char *at = NULL;
    if (map->bytes == 0)
        return;
    if (map->bytes <= MAP_BYTES_MAX && map->descriptor_bytes >= sizeof d)
        at = boot_phys(map->start, map->bytes);
    if (at == NULL) {
        boot_note(boot, "no memory map of UEFI at 0x%llx that can be read", (unsigned long long)map->start);
        return;
    }
    for (uint64_t offset = 0; map->bytes - offset >= map->descriptor_bytes; offset += map->descriptor_bytes) {
        struct mm_region region;
        memcpy(&d, at + offset, sizeof d);
        region = efi_region(&d);
        if (!efi_region_join(boot->region_count > 0 ? &boot->regions[boot->region_count - 1] : NULL, &region))
            boot_add_region(boot, region.start.v, region.bytes, region.type);
    }
}

paddr_t boot_efi_acpi(uint64_t system_table)
{
    static const struct efi_guid acpi_guid = EFI_ACPI_20_TABLE_GUID;
    const struct efi_system_table *at = boot_phys(system_table, sizeof *at);
    struct efi_system_table table;
    struct efi_configuration_table entry;
    const char *list;
    if (at == NULL)
        return PADDR_NONE;
    memcpy(&table, at, sizeof table);
    if (table.number_of_table_entries > ENTRIES_MAX)
        return PADDR_NONE;
    list = boot_phys((uint64_t)(uintptr_t)table.configuration_table, table.number_of_table_entries * sizeof entry);
    for (size_t i = 0; list != NULL && i < table.number_of_table_entries; i++) {
        memcpy(&entry, list + i * sizeof entry, sizeof entry);
        if (memcmp(&entry.guid, &acpi_guid, sizeof acpi_guid) == 0)
            return pa((uint64_t)(uintptr_t)entry.table);
    }
    return PADDR_NONE;
}
