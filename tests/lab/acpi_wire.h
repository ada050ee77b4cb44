/* SPDX-License-Identifier: BSD-2-Clause */
/* ACPI tables as the lab writes them, in direct mode (acpi.c) and below firmware (efi/tables.c). ACPI 6.3, chapter 5. */
#pragma once
#include <stddef.h>
#include <stdint.h>

#define ACPI_OEM_ID       "CANDEL"
#define ACPI_OEM_TABLE_ID "CANDLAB "
#define ACPI_CREATOR_ID   "CNDL"

struct acpi_header {
    char signature[4];
    uint32_t length;
    uint8_t revision, checksum;
    char oem_id[6], oem_table_id[8];
    uint32_t oem_revision;
    char creator_id[4];
    uint32_t creator_revision;
} __attribute__((packed));
_Static_assert(sizeof(struct acpi_header) == 36, "ACPI header");

struct acpi_rsdp {
    char signature[8];
    uint8_t checksum;
    char oem_id[6];
    uint8_t revision;
    uint32_t rsdt, length;
    uint64_t xsdt;
    uint8_t checksum2, reserved[3];
} __attribute__((packed));
_Static_assert(sizeof(struct acpi_rsdp) == 36, "RSDP of revision 2");

/* What makes the bytes' sum zero when it stands where a zero stood. */
static inline uint8_t acpi_checksum(const void *table, size_t bytes)
{
    const uint8_t *b = table;
    uint8_t sum = 0;
    for (size_t i = 0; i < bytes; i++)
        sum = (uint8_t)(sum - b[i]);
    return sum;
}

/* Signature, length, revision, names and checksum of a table whose body is there. */
static inline void acpi_finish(void *table, const char *signature, size_t bytes, uint8_t revision)
{
    struct acpi_header *h = table;
    *h = (struct acpi_header){.length = (uint32_t)bytes, .revision = revision, .oem_revision = 1, .creator_revision = 1};
    __builtin_memcpy(h->signature, signature, sizeof(h->signature));
    __builtin_memcpy(h->oem_id, ACPI_OEM_ID, sizeof(h->oem_id));
    __builtin_memcpy(h->oem_table_id, ACPI_OEM_TABLE_ID, sizeof(h->oem_table_id));
    __builtin_memcpy(h->creator_id, ACPI_CREATOR_ID, sizeof(h->creator_id));
    h->checksum = acpi_checksum(table, bytes);
}
