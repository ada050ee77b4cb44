/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * virtio 1.x: feature negotiation, split queues with event indices.
 *
 * Source: OASIS Virtual I/O Device version 1.1, sections 2.6 and 3.1. Event indices in both directions: the device is
 * told only when it waits, and interrupts only when the lab has seen everything before.
 */
#define LOG_ROOM "lab"
#include "tests/lab/virtio.h"

#define STATUS_ACKNOWLEDGE 1
#define STATUS_DRIVER      2
#define STATUS_DRIVER_OK   4
#define STATUS_FEATURES_OK 8
#define RESET_SPINS        1000000u

uint64_t dma_address(const void *p)
{
    uint64_t hpa;
    return guest_ptr_to_hpa(p, &hpa) ? hpa : mm_virt_to_phys(p).v;
}

int virtio_open(struct virtio *d, uint64_t wanted)
{
    int error = transport_open(d);
    if (error)
        return error;
    transport_set_status(d, 0);
    for (unsigned spin = 0; transport_status(d) != 0; spin++)
        if (spin == RESET_SPINS) {
            log_err("%s: the reset does not end", d->place);
            return -E_TIMEOUT;
        }
    transport_set_status(d, STATUS_ACKNOWLEDGE | STATUS_DRIVER);
    uint64_t must = VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX, offered = transport_features(d);
    if ((offered & must) != must) {
        log_err("%s: virtio features %#llx lack version 1 or event indices", d->place, (unsigned long long)offered);
        return -E_NOTSUP;
    }
    d->features = offered & (wanted | must);
    transport_set_features(d, d->features);
    transport_set_status(d, transport_status(d) | STATUS_FEATURES_OK);
    if (!(transport_status(d) & STATUS_FEATURES_OK)) {
        log_err("%s: virtio features %#llx are refused", d->place, (unsigned long long)d->features);
        return -E_NOTSUP;
    }
    error = transport_interrupts(d);
    if (error)
        log_err("%s: no interrupts", d->place);
    return error;
}

int virtio_queue(struct virtio *d, struct virtq *q, unsigned index, unsigned most)
{
    unsigned size = transport_queue_max(d, index);
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
    return transport_queue(d, q, memory.v, memory.v + avail_off, memory.v + used_off);
}

void virtio_start(struct virtio *d) { transport_set_status(d, transport_status(d) | STATUS_DRIVER_OK); }

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
    transport_notify(q);
    return true;
}

bool virtq_pop(struct virtq *q, unsigned *slot, uint32_t *bytes)
{
    if (q->used[1] == q->used_idx) {
        if (q->avail[2 + q->size] == q->used_idx)
            return false;
        q->avail[2 + q->size] = q->used_idx;    /* an interrupt for the next one, please; and look again */
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

void virtio_attach(const struct virtio *found, unsigned id)
{
    if (id == VIRTIO_ID_BLOCK)
        vblk_attach(found);
    else if (id == VIRTIO_ID_NET)
        vnet_attach(found);
}
