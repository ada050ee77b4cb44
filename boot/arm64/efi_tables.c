/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Some loaders of Linux's Image hand ACPI over without firmware: an UEFI system table that has nothing but the list of
 * configuration tables, named by /chosen's linux,uefi-system-table (OpenVMM does). Source: UEFI Specification 2.10,
 * sections 4.3 (system table) and 4.6 (configuration tables).
 */
#include "boot/arm64/entry.h"
#include "boot/efi/efi.h"
#include <string.h>

#define ENTRIES_MAX 64

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
