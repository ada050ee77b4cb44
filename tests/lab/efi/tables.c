/* SPDX-License-Identifier: BSD-2-Clause */
/* ACPI's list of tables, as the firmware made it, changed to what the lab shows. */
#include <string.h>
#include "tests/lab/efi/lab_efi.h"

#define SSDT_ALIGN 16u

static struct acpi_rsdp *find_rsdp(const struct efi_context *efi)
{
    static const struct efi_guid guid = EFI_ACPI_20_TABLE_GUID;
    for (size_t i = 0; i < efi->system->number_of_table_entries; i++)
        if (!memcmp(&efi->system->configuration_table[i].guid, &guid, sizeof(guid)))
            return efi->system->configuration_table[i].table;
    return NULL;
}

static struct acpi_header *table_of(const struct acpi_header *xsdt, size_t n)
{
    uint64_t address;
    memcpy(&address, (const uint8_t *)(xsdt + 1) + 8 * n, sizeof(address));
    return (struct acpi_header *)address;
}

static size_t entries_of(const struct acpi_header *xsdt) { return (xsdt->length - sizeof(*xsdt)) / 8; }

struct acpi_header *lab_find_table(const struct efi_context *efi, const char *signature)
{
    struct acpi_rsdp *rsdp = find_rsdp(efi);
    const struct acpi_header *xsdt = rsdp ? (const void *)rsdp->xsdt : NULL;
    for (size_t i = 0; xsdt && i < entries_of(xsdt); i++)
        if (!memcmp(table_of(xsdt, i)->signature, signature, 4))
            return table_of(xsdt, i);
    return NULL;
}

void lab_change_tables(const struct efi_context *efi, const char *drop, const uint8_t *ssdt_body, size_t bytes)
{
    struct acpi_rsdp *rsdp = find_rsdp(efi);
    struct acpi_header *old = rsdp ? (void *)rsdp->xsdt : NULL;
    void *memory;
    if (!old || efi->boot->allocate_pool(EFI_ACPI_RECLAIM_MEMORY, old->length + 8 + SSDT_ALIGN + sizeof(*old) + bytes,
                                         &memory) != EFI_SUCCESS) {
        efi_say(efi, "no ACPI tables to change");
        return;
    }
    size_t kept = 0;
    struct acpi_header *xsdt = memory;
    for (size_t i = 0; i < entries_of(old); i++) {
        uint64_t address = (uint64_t)table_of(old, i);
        if (!drop || memcmp(table_of(old, i)->signature, drop, 4) != 0)
            memcpy((uint8_t *)(xsdt + 1) + 8 * kept++, &address, sizeof(address));
    }
    struct acpi_header *ssdt = (void *)ALIGN_UP((uint64_t)(xsdt + 1) + 8 * (kept + 1), (uint64_t)SSDT_ALIGN);
    memcpy(ssdt + 1, ssdt_body, bytes);
    acpi_finish(ssdt, "SSDT", sizeof(*ssdt) + bytes, 2);
    uint64_t address = (uint64_t)ssdt;
    memcpy((uint8_t *)(xsdt + 1) + 8 * kept++, &address, sizeof(address));
    acpi_finish(xsdt, "XSDT", sizeof(*xsdt) + 8 * kept, 1);
    rsdp->xsdt = (uint64_t)xsdt;
    rsdp->checksum2 = 0;
    rsdp->checksum2 = acpi_checksum(rsdp, rsdp->length);
}
