/* SPDX-License-Identifier: BSD-2-Clause */
/* PCI functions of bus 0 by the configuration ports, and virtio 1.x over them: what the lab's back ends stand on. */
#pragma once
#include "tests/lab/x86_64/lab.h"

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

/* ---- virtio ---- */
#define VIRTIO_VENDOR        0x1AF4
#define VIRTIO_DEVICE_BASE   0x1040
#define VIRTIO_ID_NET        1
#define VIRTIO_ID_BLOCK      2

#define VIRTIO_F_INDIRECT    (1ull << 28)
#define VIRTIO_F_EVENT_IDX   (1ull << 29)
#define VIRTIO_F_VERSION_1   (1ull << 32)

struct virtq_desc { uint64_t address; uint32_t bytes; uint16_t flags, next; };
#define VIRTQ_NEXT     1
#define VIRTQ_WRITE    2
#define VIRTQ_INDIRECT 4

struct virtq_used_element { uint32_t id, bytes; };

/*
 * One split queue. The driver fills descriptors by slot number (slot n = descriptor n), so there is no free list here:
 * who uses the queue knows which slots are free. Slots are lent to the device from virtq_publish until virtq_pop.
 */
struct virtq {
    unsigned index, size;
    struct virtq_desc *desc;
    volatile uint16_t *avail;        /* flags, idx, ring[size], used_event */
    volatile uint16_t *used;         /* flags, idx, then elements, then avail_event */
    volatile uint16_t *notify;
    uint16_t avail_idx, avail_told, used_idx;
};

struct virtio {
    struct pci_function pci;
    unsigned id;                     /* VIRTIO_ID_* */
    uint64_t features;               /* negotiated */
    volatile uint8_t *common, *device, *notify;
    uint32_t notify_multiplier;
};

/* Resets the function and negotiates wanted & offered; VERSION_1 and EVENT_IDX must be there. 0 or an error. */
int virtio_open(struct virtio *d, struct pci_function f, uint64_t wanted);
/* At most `most` entries. */
int virtio_queue(struct virtio *d, struct virtq *q, unsigned index, unsigned most);
void virtio_start(struct virtio *d);
void virtq_publish(struct virtq *q, unsigned slot);
/* Tells the device when it wants to know; returns whether it did. */
bool virtq_kick(struct virtq *q);
/* The next finished slot, or false. When it says false, the device's next completion makes an NMI. */
bool virtq_pop(struct virtq *q, unsigned *slot, uint32_t *bytes);
/* Physical address for a descriptor of a pointer into guest RAM or the lab's own memory. */
uint64_t dma_address(const void *p);

static inline uint8_t cfg8(const struct virtio *d, unsigned off) { return d->device[off]; }
static inline uint16_t cfg16(const struct virtio *d, unsigned off) { return *(volatile uint16_t *)(d->device + off); }
static inline uint32_t cfg32(const struct virtio *d, unsigned off) { return *(volatile uint32_t *)(d->device + off); }

void virtio_scan(void);              /* finds the lab's functions, fills lab_disks and lab_nics (glue.h) */
void vblk_attach(struct pci_function f);
void vnet_attach(struct pci_function f);
