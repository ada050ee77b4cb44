/* SPDX-License-Identifier: BSD-2-Clause */
/* PCI functions of bus 0 by the configuration ports. */
#pragma once
#include "tests/lab/x86_64/vcpu.h"

struct pci_function { unsigned device, function; };

uint32_t pci_read32(struct pci_function f, unsigned reg);
uint16_t pci_read16(struct pci_function f, unsigned reg);
uint8_t pci_read8(struct pci_function f, unsigned reg);
void pci_write16(struct pci_function f, unsigned reg, uint16_t value);
void pci_write32(struct pci_function f, unsigned reg, uint32_t value);
/* Calls fn for every function of bus 0. */
void pci_for_each(void (*fn)(struct pci_function f, void *arg), void *arg);
/* Offset of the next capability with this id after `after` (0: the first), or 0. */
unsigned pci_capability(struct pci_function f, uint8_t id, unsigned after);
/* Physical address of a memory BAR, and its size. 0: none. */
uint64_t pci_bar(struct pci_function f, unsigned bar, uint64_t *bytes);
bool pci_bar_is_wide(struct pci_function f, unsigned bar);
/* Every vector of the function's MSI-X table becomes an NMI on this CPU. */
int pci_msix_nmi(struct pci_function f);

#define PCI_VENDOR     0x00
#define PCI_DEVICE     0x02
#define PCI_COMMAND    0x04
#define PCI_STATUS     0x06
#define PCI_HEADER     0x0E
#define PCI_BAR0       0x10
#define PCI_CAP_PTR    0x34
#define PCI_CAP_MSIX   0x11
#define PCI_CAP_VENDOR 0x09
#define PCI_COMMAND_MEMORY (1u << 1)
#define PCI_COMMAND_MASTER (1u << 2)
#define PCI_COMMAND_NO_INTX (1u << 10)
