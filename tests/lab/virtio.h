/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * virtio 1.x, what the lab's back ends stand on: feature negotiation and split queues (virtio.c) over a transport that
 * the architecture chooses (x86_64: PCI with MSI-X; arm64: MMIO).
 */
#pragma once
#include "tests/lab/lab.h"

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
    volatile uint8_t *notify;        /* the transport's */
    uint16_t avail_idx, avail_told, used_idx;
};

struct virtio {
    char place[20];                  /* "PCI 0:10.0", for the log */
    uint64_t features;               /* negotiated */
    volatile uint8_t *registers;     /* the transport's, of the whole device */
    volatile uint8_t *device;        /* the device's own configuration */
    volatile uint8_t *notify;
    uint32_t notify_multiplier;
    uint32_t number;                 /* the transport's own: PCI device and function */
};

/* Resets the device and negotiates wanted & offered; VERSION_1 and EVENT_IDX must be there. 0 or an error. */
int virtio_open(struct virtio *d, uint64_t wanted);
/* At most `most` entries. */
int virtio_queue(struct virtio *d, struct virtq *q, unsigned index, unsigned most);
void virtio_start(struct virtio *d);
void virtq_publish(struct virtq *q, unsigned slot);
/* Tells the device when it wants to know; returns whether it did. */
bool virtq_kick(struct virtq *q);
/* The next finished slot, or false. When it says false, the device's next completion brings the guest out. */
bool virtq_pop(struct virtq *q, unsigned *slot, uint32_t *bytes);
/* Physical address for a descriptor of a pointer into guest RAM or the lab's own memory. */
uint64_t dma_address(const void *p);

static inline uint8_t cfg8(const struct virtio *d, unsigned off) { return d->device[off]; }
static inline uint16_t cfg16(const struct virtio *d, unsigned off) { return *(volatile uint16_t *)(d->device + off); }
static inline uint32_t cfg32(const struct virtio *d, unsigned off) { return *(volatile uint32_t *)(d->device + off); }

/* A device that the transport found, with its VIRTIO_ID_*; fills lab_disks and lab_nics (glue.h). */
void virtio_attach(const struct virtio *found, unsigned id);
void vblk_attach(const struct virtio *found);
void vnet_attach(const struct virtio *found);

/* ---- the transport, by architecture ---- */
void virtio_scan(void);              /* virtio_attach for each of the lab's devices, in the order of their places */
int transport_open(struct virtio *d);               /* its registers can be used from now on. 0, or an error with a line */
uint8_t transport_status(struct virtio *d);
void transport_set_status(struct virtio *d, uint8_t status);
uint64_t transport_features(struct virtio *d);      /* offered */
void transport_set_features(struct virtio *d, uint64_t features);
int transport_interrupts(struct virtio *d);         /* of all queues, when features are agreed: they end the guest's run */
unsigned transport_queue_max(struct virtio *d, unsigned index);      /* 0: no such queue */
/* Tells the device where the queue is, and fills q->notify; addresses of the three parts. 0 or an error. */
int transport_queue(struct virtio *d, struct virtq *q, uint64_t desc, uint64_t avail, uint64_t used);
void transport_notify(struct virtq *q);
