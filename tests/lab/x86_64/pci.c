/* SPDX-License-Identifier: BSD-2-Clause */
/* PCI configuration space by ports CF8/CFC: enough to find the lab's functions and to turn their MSI-X into NMIs. */
#define LOG_ROOM "lab"
#include "tests/lab/x86_64/pci.h"

#define CONFIG_ADDRESS 0xCF8
#define CONFIG_DATA    0xCFC
#define BAR_IO         1u
#define BAR_TYPE_64    (2u << 1)
#define BAR_TYPE       (3u << 1)
#define MSI_ADDRESS    0xFEE00000u
#define MSI_DATA_NMI   0x400u
#define MSIX_ENABLE    (1u << 15)

static void select(struct pci_function f, unsigned reg)
{
    x86_out32(CONFIG_ADDRESS, 0x80000000u | f.device << 11 | f.function << 8 | (reg & 0xFC));
}

uint32_t pci_read32(struct pci_function f, unsigned reg)
{
    select(f, reg);
    return x86_in32(CONFIG_DATA);
}

uint16_t pci_read16(struct pci_function f, unsigned reg) { return (uint16_t)(pci_read32(f, reg) >> 8 * (reg & 2)); }
uint8_t pci_read8(struct pci_function f, unsigned reg) { return (uint8_t)(pci_read32(f, reg) >> 8 * (reg & 3)); }

void pci_write32(struct pci_function f, unsigned reg, uint32_t value)
{
    select(f, reg);
    x86_out32(CONFIG_DATA, value);
}

void pci_write16(struct pci_function f, unsigned reg, uint16_t value)
{
    select(f, reg);
    x86_out16((uint16_t)(CONFIG_DATA + (reg & 2)), value);
}

void pci_for_each(void (*fn)(struct pci_function f, void *arg), void *arg)
{
    for (unsigned device = 0; device < 32; device++) {
        unsigned functions = 1;
        for (unsigned function = 0; function < functions; function++) {
            struct pci_function f = {device, function};
            if (pci_read16(f, PCI_VENDOR) == 0xFFFF)
                continue;
            if (function == 0 && (pci_read8(f, PCI_HEADER) & 0x80))
                functions = 8;
            fn(f, arg);
        }
    }
}

unsigned pci_capability(struct pci_function f, uint8_t id, unsigned after)
{
    if (!(pci_read16(f, PCI_STATUS) & 1u << 4))
        return 0;
    unsigned at = after ? pci_read8(f, after + 1) : pci_read8(f, PCI_CAP_PTR);
    for (unsigned limit = 48; (at &= 0xFC) != 0 && limit > 0; limit--) {
        if (pci_read8(f, at) == id)
            return at;
        at = pci_read8(f, at + 1);
    }
    return 0;
}

bool pci_bar_is_wide(struct pci_function f, unsigned bar)
{
    return (pci_read32(f, PCI_BAR0 + 4 * bar) & (BAR_TYPE | BAR_IO)) == BAR_TYPE_64;
}

uint64_t pci_bar(struct pci_function f, unsigned bar, uint64_t *bytes)
{
    unsigned reg = PCI_BAR0 + 4 * bar;
    uint32_t low = pci_read32(f, reg), high = 0, high_size = 0xFFFFFFFF;
    bool wide = (low & BAR_TYPE) == BAR_TYPE_64;
    if (bar > 5 || (low & BAR_IO))
        return 0;
    uint16_t command = pci_read16(f, PCI_COMMAND);
    pci_write16(f, PCI_COMMAND, command & (uint16_t)~PCI_COMMAND_MEMORY);
    pci_write32(f, reg, 0xFFFFFFFF);
    uint32_t low_size = pci_read32(f, reg);
    pci_write32(f, reg, low);
    if (wide) {
        high = pci_read32(f, reg + 4);
        pci_write32(f, reg + 4, 0xFFFFFFFF);
        high_size = pci_read32(f, reg + 4);
        pci_write32(f, reg + 4, high);
    }
    pci_write16(f, PCI_COMMAND, command);
    if ((low_size & ~0xFu) == 0)
        return 0;                       /* no such register */
    *bytes = ~((uint64_t)high_size << 32 | (low_size & ~0xFu)) + 1;
    return (uint64_t)high << 32 | (low & ~0xFu);
}

int pci_msix_nmi(struct pci_function f)
{
    unsigned cap = pci_capability(f, PCI_CAP_MSIX, 0);
    if (!cap)
        return -E_NOTSUP;
    uint32_t table = pci_read32(f, cap + 4);
    unsigned entries = (pci_read16(f, cap + 2) & 0x7FFu) + 1;
    uint64_t bar_bytes, bar = pci_bar(f, table & 7, &bar_bytes);
    uint64_t offset = table & ~7u;
    if (bar == 0 || entries * 16ull > bar_bytes || offset > bar_bytes - entries * 16ull)
        return -E_NOTSUP;
    volatile uint8_t *t = mm_map_phys(pa(bar + offset), entries * 16ull, MAP_READ | MAP_WRITE | MAP_DEVICE);
    if (!t)
        return -E_NOMEM;
    for (unsigned i = 0; i < entries; i++) {
        mmio_write32(t + 16 * i, MSI_ADDRESS | apic_own_id() << 12);
        mmio_write32(t + 16 * i + 4, 0);
        mmio_write32(t + 16 * i + 8, MSI_DATA_NMI);
        mmio_write32(t + 16 * i + 12, 0);
    }
    pci_write16(f, cap + 2, (uint16_t)(pci_read16(f, cap + 2) | MSIX_ENABLE));
    uint16_t command = pci_read16(f, PCI_COMMAND);
    pci_write16(f, PCI_COMMAND, command | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_NO_INTX);
    return 0;
}
