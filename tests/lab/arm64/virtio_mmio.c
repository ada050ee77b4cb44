/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * virtio 1.x over MMIO. All places that QEMU's machine has for it are the lab's, each with an interrupt line of its own;
 * the guest's devices are on PCI, so neither needs the other's interrupt controller.
 *
 * Source: OASIS Virtual I/O Device version 1.1, section 4.2.
 */
#define LOG_ROOM "lab"
#include "arch/arm64/arm64.h"
#include "tests/lab/arm64/board.h"
#include "tests/lab/arm64/vcpu.h"
#include "tests/lab/virtio.h"

#define MAGIC_VALUE           0x000
#define VERSION               0x004
#define DEVICE_ID             0x008
#define DEVICE_FEATURES       0x010
#define DEVICE_FEATURES_SEL   0x014
#define DRIVER_FEATURES       0x020
#define DRIVER_FEATURES_SEL   0x024
#define QUEUE_SEL             0x030
#define QUEUE_NUM_MAX         0x034
#define QUEUE_NUM             0x038
#define QUEUE_READY           0x044
#define QUEUE_NOTIFY          0x050
#define INTERRUPT_STATUS      0x060
#define INTERRUPT_ACK         0x064
#define STATUS                0x070
#define QUEUE_DESC            0x080
#define QUEUE_DRIVER          0x090
#define QUEUE_DEVICE          0x0A0
#define CONFIG                0x100
#define MAGIC                 0x74726976u
#define VERSION_1             2u        /* 1 is what came before the standard */

static volatile uint8_t *places;

static uint32_t get(const struct virtio *d, unsigned reg) { return arm64_read32(d->registers + reg); }
static void put(const struct virtio *d, unsigned reg, uint32_t v) { arm64_write32(d->registers + reg, v); }
static void put64(const struct virtio *d, unsigned reg, uint64_t v)
{
    put(d, reg, (uint32_t)v);
    put(d, reg + 4, (uint32_t)(v >> 32));
}

int transport_open(struct virtio *d)
{
    d->device = d->registers + CONFIG;
    d->notify = d->registers + QUEUE_NOTIFY;
    if (get(d, VERSION) == VERSION_1)
        return 0;
    log_err("%s: not virtio 1.x: QEMU needs -global virtio-mmio.force-legacy=false", d->place);
    return -E_NOTSUP;
}

uint8_t transport_status(struct virtio *d) { return (uint8_t)get(d, STATUS); }
void transport_set_status(struct virtio *d, uint8_t status) { put(d, STATUS, status); }

uint64_t transport_features(struct virtio *d)
{
    put(d, DEVICE_FEATURES_SEL, 0);
    uint64_t low = get(d, DEVICE_FEATURES);
    put(d, DEVICE_FEATURES_SEL, 1);
    return (uint64_t)get(d, DEVICE_FEATURES) << 32 | low;
}

void transport_set_features(struct virtio *d, uint64_t features)
{
    put(d, DRIVER_FEATURES_SEL, 0);
    put(d, DRIVER_FEATURES, (uint32_t)features);
    put(d, DRIVER_FEATURES_SEL, 1);
    put(d, DRIVER_FEATURES, (uint32_t)(features >> 32));
}

/* The device holds its line until it is told that it was heard. */
static void quiet(unsigned intid)
{
    volatile uint8_t *registers = places + BOARD_VIRTIO_STEP * (intid - BOARD_VIRTIO_IRQ);
    arm64_write32(registers + INTERRUPT_ACK, arm64_read32(registers + INTERRUPT_STATUS));
}

int transport_interrupts(struct virtio *d)
{
    lab_gic_own_line(BOARD_VIRTIO_IRQ + d->number, false, quiet);
    return 0;
}

unsigned transport_queue_max(struct virtio *d, unsigned index)
{
    put(d, QUEUE_SEL, index);
    return get(d, QUEUE_NUM_MAX);
}

int transport_queue(struct virtio *d, struct virtq *q, uint64_t desc, uint64_t avail, uint64_t used)
{
    put(d, QUEUE_SEL, q->index);
    put(d, QUEUE_NUM, q->size);
    put64(d, QUEUE_DESC, desc);
    put64(d, QUEUE_DRIVER, avail);
    put64(d, QUEUE_DEVICE, used);
    put(d, QUEUE_READY, 1);
    q->notify = d->notify;
    return 0;
}

void transport_notify(struct virtq *q)
{
    arm64_dsb_ishst();                 /* memory before the register */
    arm64_write32(q->notify, q->index);
}

/* QEMU gives the first -device the last place, and so on downwards. */
void virtio_scan(void)
{
    places = mm_map_phys(pa(BOARD_VIRTIO), BOARD_VIRTIOS * BOARD_VIRTIO_STEP, MAP_READ | MAP_WRITE | MAP_DEVICE);
    if (!places)
        panic("no memory to map the virtio devices");
    for (unsigned n = BOARD_VIRTIOS; n-- > 0;) {
        struct virtio d = {.number = n, .registers = places + BOARD_VIRTIO_STEP * n};
        ksnprintf(d.place, sizeof(d.place), "virtio-mmio %u", n);
        if (get(&d, MAGIC_VALUE) == MAGIC && get(&d, DEVICE_ID) != 0)
            virtio_attach(&d, get(&d, DEVICE_ID));
    }
}
