/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The console that ACPI names, before there is anything to say: firmware that gives no device tree has a table for it
 * (SPCR). boot/acpi.c finds it again after mm_init; what goes wrong until then would be said to nobody. Source: ACPI
 * Specification 6.5, section 5.2; the table itself is read by boot/acpi_arm.c.
 *
 * Tables are an operator's input: lengths are bounded, checksums checked, and what is wrong is passed over in silence,
 * as boot/acpi.c will tell.
 */
#include "arch/arm64/console.h"
#include "boot/acpi_arm.h"
#include "boot/arm64/entry.h"
#include <string.h>

#define HEAD_BYTES      36           /* of every table */
#define LENGTH_OFFSET   4
#define TABLE_BYTES_MAX 65536u       /* of a list of tables, or of the console's */
#define RSDP_BYTES      36
#define RSDP_REVISION   15
#define RSDP_XSDT       24

static uint64_t number(const uint8_t *at, size_t bytes)
{
    uint64_t value = 0;
    memcpy(&value, at, bytes);
    return value;
}

/* The whole table, or NULL. */
static const uint8_t *table_at(uint64_t address, const char *signature, uint32_t *bytes)
{
    const uint8_t *t = boot_phys(address, HEAD_BYTES);
    uint8_t sum = 0;
    if (t == NULL || memcmp(t, signature, 4) != 0)
        return NULL;
    *bytes = (uint32_t)number(t + LENGTH_OFFSET, 4);
    if (*bytes < HEAD_BYTES || *bytes > TABLE_BYTES_MAX || boot_phys(address, *bytes) == NULL)
        return NULL;
    for (uint32_t i = 0; i < *bytes; i++)
        sum = (uint8_t)(sum + t[i]);
    return sum == 0 ? t : NULL;
}

void boot_console_from_acpi(uint64_t rsdp)
{
    const uint8_t *r = boot_phys(rsdp, RSDP_BYTES), *list, *spcr;
    struct arch_platform found = {0};
    uint32_t bytes, spcr_bytes;
    if (r == NULL || memcmp(r, "RSD PTR ", 8) != 0 || r[RSDP_REVISION] < 2)
        return;
    list = table_at(number(r + RSDP_XSDT, 8), "XSDT", &bytes);
    for (uint32_t at = HEAD_BYTES; list != NULL && bytes - at >= 8; at += 8) {
        spcr = table_at(number(list + at, 8), "SPCR", &spcr_bytes);
        if (spcr == NULL)
            continue;
        acpi_arm_spcr(spcr, spcr_bytes, &found);
        break;
    }
    if (found.serial != ARCH_SERIAL_NONE && boot_map_early_device(found.serial_address))
        arm64_console_set(arm64_uart_of(found.serial), pa(found.serial_address), found.serial_shift,
                          found.serial_width);
}
