/* SPDX-License-Identifier: BSD-2-Clause */
/* MADT, GTDT, FADT and SPCR of Arm machines; the contract is in acpi_arm.h. */
#define LOG_ROOM "acpi"
#include <string.h>
#include "boot/acpi_arm.h"

enum { TABLE_HEAD = 36 };

/* A little-endian number in the table; 0 when the table ends before it. */
static uint64_t number(const uint8_t *p, size_t have, size_t offset, size_t bytes)
{
    uint64_t value = 0;
    if (have >= bytes && offset <= have - bytes)
        memcpy(&value, p + offset, bytes);
    return value;
}

void acpi_arm_fadt(const uint8_t *table, uint32_t bytes, struct arch_platform *platform)
{
    enum { ARM_BOOT = 129, HYPERVISOR = 268 };
    enum { PSCI_COMPLIANT = 1 << 0, PSCI_BY_HVC = 1 << 1 };
    uint64_t flags = number(table, bytes, ARM_BOOT, 2);
    if (flags & PSCI_COMPLIANT)
        platform->psci = flags & PSCI_BY_HVC ? ARCH_PSCI_HVC : ARCH_PSCI_SMC;
    platform->hyperv = bytes >= HYPERVISOR + 8 && memcmp(table + HYPERVISOR, "MsHyperV", 8) == 0;
}

/* ---- MADT: a list of structures, each with type and length ---- */

/* False: there is no room for it. */
static bool add_redistributors(struct arch_platform *platform, uint64_t start, uint64_t bytes, bool one_by_one)
{
    unsigned n = platform->gic_ranges;
    struct arch_gic_range *last = n == 0 ? NULL : &platform->gic_redistributors[n - 1];
    if (start == 0 || bytes == 0 || start > UINT64_MAX - bytes)
        return true;
    if (one_by_one && last != NULL && last->one_by_one && last->start + last->bytes == start) {
        last->bytes += bytes;
        return true;
    }
    if (n == ARCH_GIC_RANGES)
        return false;
    platform->gic_redistributors[n] = (struct arch_gic_range){start, bytes, one_by_one};
    platform->gic_ranges = n + 1;
    return true;
}

void acpi_arm_madt(const uint8_t *table, uint32_t bytes, struct arch_platform *platform)
{
    enum { ENTRIES = 44, GICC = 0x0B, GICD = 0x0C, GICR = 0x0E };
    enum { GICC_FLAGS = 12, GICC_GICR = 60, GICD_BASE = 8, GICD_VERSION = 20, GICR_BASE = 4, GICR_BYTES = 12 };
    enum { GICC_ENABLED = 1 << 0, FRAMES = 0x20000 };
    unsigned left_out = 0;
    for (uint32_t at = ENTRIES; at < bytes && bytes - at >= 2; ) {
        const uint8_t *e = table + at;
        uint32_t n = e[1];
        if (n < 2 || n > bytes - at) {
            log_warn("the MADT's structure at %u claims %u bytes", at, n);
            break;
        }
        switch (e[0]) {
        case GICC:
            if (number(e, n, GICC_FLAGS, 4) & GICC_ENABLED)
                left_out += !add_redistributors(platform, number(e, n, GICC_GICR, 8), FRAMES, true);
            break;
        case GICD:
            platform->gic_distributor = number(e, n, GICD_BASE, 8);
            platform->gic_version = (uint32_t)number(e, n, GICD_VERSION, 1);
            break;
        case GICR:
            left_out += !add_redistributors(platform, number(e, n, GICR_BASE, 8), number(e, n, GICR_BYTES, 4), false);
            break;
        default:
            break;
        }
        at += n;
    }
    if (left_out > 0)                    /* the boot processor's usually comes first */
        log_warn("the MADT has redistributors in more than %u places: the last %u are left out", ARCH_GIC_RANGES,
                 left_out);
}

void acpi_arm_gtdt(const uint8_t *table, uint32_t bytes, struct arch_platform *platform)
{
    enum { VIRTUAL_EL1 = 64, PHYSICAL_EL2 = 72 };
    platform->timer_irq = (uint32_t)number(table, bytes, VIRTUAL_EL1, 4);
    platform->timer_irq_el2 = (uint32_t)number(table, bytes, PHYSICAL_EL2, 4);
}

void acpi_arm_spcr(const uint8_t *table, uint32_t bytes, struct arch_platform *platform)
{
    enum { TYPE = TABLE_HEAD, SPACE = 40, WIDTH = 41, ACCESS = 43, ADDRESS = 44 };
    enum { TYPE_16550 = 0, TYPE_16550_SUBSET = 1, TYPE_PL011 = 3, TYPE_SBSA_32 = 0x0D, TYPE_SBSA = 0x0E,
           TYPE_16550_ANY = 0x12 };
    uint64_t address = number(table, bytes, ADDRESS, 8), width = number(table, bytes, WIDTH, 1);
    uint64_t access = number(table, bytes, ACCESS, 1);
    if (bytes < ADDRESS + 8 || table[SPACE] != ARCH_SPACE_MEMORY || address == 0)
        return;
    platform->serial_address = address;
    switch (table[TYPE]) {
    case TYPE_PL011:
        platform->serial = ARCH_SERIAL_PL011;
        break;
    case TYPE_SBSA_32:
    case TYPE_SBSA:
        platform->serial = ARCH_SERIAL_SBSA;
        break;
    case TYPE_16550:
    case TYPE_16550_SUBSET:
    case TYPE_16550_ANY:
        platform->serial = ARCH_SERIAL_16550;
        /* Registers as far apart as they are wide; access 1, 2, 3: 8, 16, 32 bits. */
        platform->serial_shift = width == 32 ? 2 : width == 16 ? 1 : 0;
        platform->serial_width = access == 3 ? 4 : access == 2 ? 2 : 1;
        break;
    default:
        platform->serial_address = 0;
        break;
    }
}
