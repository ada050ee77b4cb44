/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * virtio 1.x over PCI: registers by capabilities, every queue's interrupt an NMI on the first processor.
 *
 * Source: OASIS Virtual I/O Device version 1.1, section 4.1.
 */
#define LOG_ROOM "lab"
#include "tests/lab/virtio.h"
#include "tests/lab/x86_64/firmware.h"
#include "tests/lab/x86_64/pci.h"

#define VIRTIO_VENDOR        0x1AF4
#define VIRTIO_DEVICE_BASE   0x1040
#define PCI_SUBSYSTEM        0x2E        /* a transitional device has its id there */
#define NO_VECTOR            0xFFFF

/* PCI capability: cfg_type @3, bar @4, offset @8, length @12; notify: multiplier @16 */
enum { CAP_COMMON = 1, CAP_NOTIFY = 2, CAP_DEVICE = 4 };

/* common configuration */
#define DEVICE_FEATURE_SELECT 0x00
#define DEVICE_FEATURE        0x04
#define DRIVER_FEATURE_SELECT 0x08
#define DRIVER_FEATURE        0x0C
#define MSIX_CONFIG           0x10
#define DEVICE_STATUS         0x14
#define QUEUE_SELECT          0x16
#define QUEUE_SIZE            0x18
#define QUEUE_MSIX            0x1A
#define QUEUE_ENABLE          0x1C
#define QUEUE_NOTIFY_OFF      0x1E
#define QUEUE_DESC            0x20
#define QUEUE_DRIVER          0x28
#define QUEUE_DEVICE          0x30

static void put16(volatile uint8_t *p, uint16_t v) { *(volatile uint16_t *)p = v; }
static uint16_t get16(volatile uint8_t *p) { return *(volatile uint16_t *)p; }
static void put64(volatile uint8_t *p, uint64_t v)
{
    mmio_write32(p, (uint32_t)v);
    mmio_write32(p + 4, (uint32_t)(v >> 32));
}

static struct pci_function function_of(const struct virtio *d)
{
    return (struct pci_function){d->number >> 3, d->number & 7};
}

static volatile uint8_t *map_capability(struct pci_function f, unsigned cap)
{
    uint64_t bar_bytes, bar = pci_bar(f, pci_read8(f, cap + 4), &bar_bytes);
    uint32_t offset = pci_read32(f, cap + 8), bytes = pci_read32(f, cap + 12);
    if (bar == 0 || bytes > bar_bytes || offset > bar_bytes - bytes)
        return NULL;
    return mm_map_phys(pa(bar + offset), bytes, MAP_READ | MAP_WRITE | MAP_DEVICE);
}

int transport_open(struct virtio *d)
{
    struct pci_function f = function_of(d);
    pci_write16(f, PCI_COMMAND, pci_read16(f, PCI_COMMAND) | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    for (unsigned cap = 0; (cap = pci_capability(f, PCI_CAP_VENDOR, cap)) != 0;) {
        switch (pci_read8(f, cap + 3)) {
        case CAP_COMMON:
            d->registers = map_capability(f, cap);
            break;
        case CAP_NOTIFY:
            d->notify = map_capability(f, cap);
            d->notify_multiplier = pci_read32(f, cap + 16);
            break;
        case CAP_DEVICE:
            d->device = map_capability(f, cap);
            break;
        }
    }
    if (d->registers && d->notify && d->device)
        return 0;
    log_err("%s: no virtio 1.x registers", d->place);
    return -E_NOTSUP;
}

uint8_t transport_status(struct virtio *d) { return d->registers[DEVICE_STATUS]; }
void transport_set_status(struct virtio *d, uint8_t status) { d->registers[DEVICE_STATUS] = status; }

uint64_t transport_features(struct virtio *d)
{
    mmio_write32(d->registers + DEVICE_FEATURE_SELECT, 0);
    uint64_t low = mmio_read32(d->registers + DEVICE_FEATURE);
    mmio_write32(d->registers + DEVICE_FEATURE_SELECT, 1);
    return (uint64_t)mmio_read32(d->registers + DEVICE_FEATURE) << 32 | low;
}

void transport_set_features(struct virtio *d, uint64_t features)
{
    mmio_write32(d->registers + DRIVER_FEATURE_SELECT, 0);
    mmio_write32(d->registers + DRIVER_FEATURE, (uint32_t)features);
    mmio_write32(d->registers + DRIVER_FEATURE_SELECT, 1);
    mmio_write32(d->registers + DRIVER_FEATURE, (uint32_t)(features >> 32));
}

int transport_interrupts(struct virtio *d)
{
    int error = pci_msix_nmi(function_of(d));
    if (!error)
        put16(d->registers + MSIX_CONFIG, NO_VECTOR);
    return error;
}

unsigned transport_queue_max(struct virtio *d, unsigned index)
{
    put16(d->registers + QUEUE_SELECT, (uint16_t)index);
    return get16(d->registers + QUEUE_SIZE);
}

int transport_queue(struct virtio *d, struct virtq *q, uint64_t desc, uint64_t avail, uint64_t used)
{
    put16(d->registers + QUEUE_SELECT, (uint16_t)q->index);
    put16(d->registers + QUEUE_SIZE, (uint16_t)q->size);
    put64(d->registers + QUEUE_DESC, desc);
    put64(d->registers + QUEUE_DRIVER, avail);
    put64(d->registers + QUEUE_DEVICE, used);
    put16(d->registers + QUEUE_MSIX, 0);
    if (get16(d->registers + QUEUE_MSIX) != 0)
        return -E_NOTSUP;
    q->notify = d->notify + d->notify_multiplier * get16(d->registers + QUEUE_NOTIFY_OFF);
    put16(d->registers + QUEUE_ENABLE, 1);
    return 0;
}

void transport_notify(struct virtq *q) { put16(q->notify, (uint16_t)q->index); }

static void attach(struct pci_function f, void *arg)
{
    (void)arg;
    if (pci_read16(f, PCI_VENDOR) != VIRTIO_VENDOR || (lab_firmware && !lab_owns_pci(0, f.device)))
        return;
    struct virtio d = {.number = f.device << 3 | f.function};
    unsigned id = pci_read16(f, PCI_DEVICE);
    id = id >= VIRTIO_DEVICE_BASE ? id - VIRTIO_DEVICE_BASE : pci_read16(f, PCI_SUBSYSTEM);
    ksnprintf(d.place, sizeof(d.place), "PCI 0:%x.%u", f.device, f.function);
    virtio_attach(&d, id);
}

void virtio_scan(void) { pci_for_each(attach, NULL); }
