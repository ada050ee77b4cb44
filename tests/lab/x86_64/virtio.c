/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * virtio 1.x over PCI: capabilities, feature negotiation, split queues with event indices.
 *
 * Source: OASIS Virtual I/O Device version 1.1, sections 2.6 and 4.1. Event indices in both directions: the device is
 * told only when it waits, and makes an NMI only when the lab has seen everything before.
 */
#define LOG_ROOM "lab"
#include <string.h>
#include "tests/lab/x86_64/firmware.h"
#include "tests/lab/x86_64/pci.h"

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

#define STATUS_ACKNOWLEDGE 1
#define STATUS_DRIVER      2
#define STATUS_DRIVER_OK   4
#define STATUS_FEATURES_OK 8
#define RESET_SPINS        1000000u

static void put16(volatile uint8_t *p, uint16_t v) { *(volatile uint16_t *)p = v; }
static uint16_t get16(volatile uint8_t *p) { return *(volatile uint16_t *)p; }
static void put64(volatile uint8_t *p, uint64_t v)
{
    mmio_write32(p, (uint32_t)v);
    mmio_write32(p + 4, (uint32_t)(v >> 32));
}

static volatile uint8_t *map_capability(struct pci_function f, unsigned cap)
{
    uint64_t bar_bytes, bar = pci_bar(f, pci_read8(f, cap + 4), &bar_bytes);
    uint32_t offset = pci_read32(f, cap + 8), bytes = pci_read32(f, cap + 12);
    if (bar == 0 || bytes > bar_bytes || offset > bar_bytes - bytes)
        return NULL;
    return mm_map_phys(pa(bar + offset), bytes, MAP_READ | MAP_WRITE | MAP_DEVICE);
}

uint64_t dma_address(const void *p)
{
    uint64_t hpa;
    return guest_ptr_to_hpa(p, &hpa) ? hpa : mm_virt_to_phys(p).v;
}

static uint64_t offered_features(struct virtio *d)
{
    mmio_write32(d->common + DEVICE_FEATURE_SELECT, 0);
    uint64_t low = mmio_read32(d->common + DEVICE_FEATURE);
    mmio_write32(d->common + DEVICE_FEATURE_SELECT, 1);
    return (uint64_t)mmio_read32(d->common + DEVICE_FEATURE) << 32 | low;
}

int virtio_open(struct virtio *d, struct pci_function f, uint64_t wanted)
{
    d->pci = f;
    pci_write16(f, PCI_COMMAND, pci_read16(f, PCI_COMMAND) | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    for (unsigned cap = 0; (cap = pci_capability(f, PCI_CAP_VENDOR, cap)) != 0;) {
        switch (pci_read8(f, cap + 3)) {
        case CAP_COMMON:
            d->common = map_capability(f, cap);
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
    if (!d->common || !d->notify || !d->device) {
        log_err("PCI 0:%x.%u: no virtio 1.x registers", f.device, f.function);
        return -E_NOTSUP;
    }
    d->common[DEVICE_STATUS] = 0;
    for (unsigned spin = 0; d->common[DEVICE_STATUS] != 0; spin++)
        if (spin == RESET_SPINS) {
            log_err("PCI 0:%x.%u: the reset does not end", f.device, f.function);
            return -E_TIMEOUT;
        }
    d->common[DEVICE_STATUS] = STATUS_ACKNOWLEDGE | STATUS_DRIVER;
    uint64_t must = VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX, offered = offered_features(d);
    if ((offered & must) != must) {
        log_err("PCI 0:%x.%u: virtio features %#llx lack version 1 or event indices", f.device, f.function,
                (unsigned long long)offered);
        return -E_NOTSUP;
    }
    d->features = offered & (wanted | must);
    mmio_write32(d->common + DRIVER_FEATURE_SELECT, 0);
    mmio_write32(d->common + DRIVER_FEATURE, (uint32_t)d->features);
    mmio_write32(d->common + DRIVER_FEATURE_SELECT, 1);
    mmio_write32(d->common + DRIVER_FEATURE, (uint32_t)(d->features >> 32));
    d->common[DEVICE_STATUS] |= STATUS_FEATURES_OK;
    if (!(d->common[DEVICE_STATUS] & STATUS_FEATURES_OK)) {
        log_err("PCI 0:%x.%u: virtio features %#llx are refused", f.device, f.function,
                (unsigned long long)d->features);
        return -E_NOTSUP;
    }
    int error = pci_msix_nmi(f);
    if (error)
        log_err("PCI 0:%x.%u: no MSI-X", f.device, f.function);
    put16(d->common + MSIX_CONFIG, 0xFFFF);
    return error;
}

int virtio_queue(struct virtio *d, struct virtq *q, unsigned index, unsigned most)
{
    put16(d->common + QUEUE_SELECT, (uint16_t)index);
    unsigned size = get16(d->common + QUEUE_SIZE);
    if (size == 0)
        return -E_NOTSUP;
    size = MIN(size, most);
    /* descriptors 16 * size, available 6 + 2 * size, used 6 + 8 * size: three pages and more for 256 */
    size_t avail_off = 16 * size, used_off = ALIGN_UP(avail_off + 6 + 2 * size, 64u);
    unsigned order = 0;
    while (PAGE_BYTES << order < used_off + 6 + 8 * size)
        order++;
    paddr_t memory = page_alloc_zeroed(order);
    if (pa_is_none(memory))
        return -E_NOMEM;
    uint8_t *base = arch_phys_to_virt(memory);
    *q = (struct virtq){.index = index, .size = size, .desc = (struct virtq_desc *)base,
                        .avail = (volatile uint16_t *)(base + avail_off),
                        .used = (volatile uint16_t *)(base + used_off)};
    put16(d->common + QUEUE_SIZE, (uint16_t)size);
    put64(d->common + QUEUE_DESC, memory.v);
    put64(d->common + QUEUE_DRIVER, memory.v + avail_off);
    put64(d->common + QUEUE_DEVICE, memory.v + used_off);
    put16(d->common + QUEUE_MSIX, 0);
    if (get16(d->common + QUEUE_MSIX) != 0)
        return -E_NOTSUP;
    q->notify = (volatile uint16_t *)(d->notify + d->notify_multiplier * get16(d->common + QUEUE_NOTIFY_OFF));
    put16(d->common + QUEUE_ENABLE, 1);
    return 0;
}

void virtio_start(struct virtio *d) { d->common[DEVICE_STATUS] |= STATUS_DRIVER_OK; }

void virtq_publish(struct virtq *q, unsigned slot)
{
    q->avail[2 + q->avail_idx % q->size] = (uint16_t)slot;
    q->avail_idx++;
}

bool virtq_kick(struct virtq *q)
{
    if (q->avail_told == q->avail_idx)
        return false;
    uint16_t before = q->avail_told;
    arch_fence_ord_write();                     /* descriptors and ring before the index */
    q->avail[1] = q->avail_told = q->avail_idx;
    arch_fence_ord();                           /* the index before reading what the device waits for */
    uint16_t event = q->used[2 + 4 * q->size];
    if ((uint16_t)(q->avail_idx - event - 1) >= (uint16_t)(q->avail_idx - before))
        return false;
    *q->notify = (uint16_t)q->index;
    return true;
}

bool virtq_pop(struct virtq *q, unsigned *slot, uint32_t *bytes)
{
    if (q->used[1] == q->used_idx) {
        if (q->avail[2 + q->size] == q->used_idx)
            return false;
        q->avail[2 + q->size] = q->used_idx;    /* an NMI for the next one, please; and look again */
        arch_fence_ord();
        if (q->used[1] == q->used_idx)
            return false;
    }
    arch_fence_ord_read();                      /* the index before the element and the data */
    const volatile struct virtq_used_element *elements = (const volatile struct virtq_used_element *)(q->used + 2);
    *slot = elements[q->used_idx % q->size].id;
    *bytes = elements[q->used_idx % q->size].bytes;
    q->used_idx++;
    if (*slot >= q->size)
        panic("virtio queue %u: slot %u does not exist", q->index, *slot);
    return true;
}

static void attach(struct pci_function f, void *arg)
{
    (void)arg;
    if (pci_read16(f, PCI_VENDOR) != VIRTIO_VENDOR || (lab_firmware && !lab_owns_pci(0, f.device)))
        return;
    unsigned id = pci_read16(f, PCI_DEVICE);
    id = id >= VIRTIO_DEVICE_BASE ? id - VIRTIO_DEVICE_BASE : pci_read16(f, 0x2E);   /* transitional: subsystem id */
    if (id == VIRTIO_ID_BLOCK)
        vblk_attach(f);
    else if (id == VIRTIO_ID_NET)
        vnet_attach(f);
}

void virtio_scan(void) { pci_for_each(attach, NULL); }
