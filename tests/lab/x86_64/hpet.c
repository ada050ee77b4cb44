/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The HPET as the lab's alarm, and as what the TSC is measured by.
 *
 * The HPET belongs to the lab alone (hidden from the guest). Timer 0 sends its message (FSB, i.e. MSI) with delivery
 * mode NMI, so an alarm always brings the guest back out.
 *
 * The TSC's frequency is measured against the HPET once. Under -icount both count instructions and the measure is
 * exact.
 */
#define LOG_ROOM "lab"
#include "tests/lab/machine.h"
#include "tests/lab/x86_64/vcpu.h"

#define HPET_PHYS        0xFED00000ull
#define HPET_ID          0x000    /* high half: femtoseconds per tick */
#define HPET_PERIOD      0x004
#define HPET_CONFIG      0x010
#define HPET_COUNTER     0x0F0
#define HPET_T0_CONFIG   0x100
#define HPET_T0_COMPARE  0x108
#define HPET_T0_FSB_DATA 0x110
#define HPET_T0_FSB_ADDR 0x114
#define HPET_ENABLE      1u
#define HPET_TN_ENABLE   (1u << 2)
#define HPET_TN_32BIT    (1u << 8)
#define HPET_TN_FSB      (1u << 14)
#define HPET_TN_FSB_CAP  (1u << 15)
#define MSI_DATA_NMI     0x400u

#define CALIBRATE_US     10000u
#define READ_TRIES       8

static volatile uint8_t *hpet;
static uint64_t hpet_hz;

static uint32_t hpet_read(unsigned reg) { return mmio_read32(hpet + reg); }
static void hpet_write(unsigned reg, uint32_t v) { mmio_write32(hpet + reg, v); }

/* Both counters at one moment: the closest of several tries. */
struct reading { uint64_t tsc; uint32_t hpet; };

static struct reading read_both(void)
{
    struct reading best = {0};
    uint64_t best_width = UINT64_MAX;
    for (unsigned i = 0; i < READ_TRIES; i++) {
        uint64_t before = arch_counter();
        uint32_t hpet_now = hpet_read(HPET_COUNTER);
        uint64_t width = arch_counter() - before;
        if (width < best_width) {
            best_width = width;
            best = (struct reading){.tsc = before + width / 2, .hpet = hpet_now};
        }
    }
    return best;
}

int machine_clock_init(uint64_t *hz)
{
    hpet = mm_map_phys(pa(HPET_PHYS), PAGE_BYTES, MAP_READ | MAP_WRITE | MAP_DEVICE);
    if (!hpet)
        return -E_NOMEM;
    uint32_t period = hpet_read(HPET_PERIOD);
    if (period == 0 || period > 100000000) {
        log_err("no HPET: QEMU must not be started with hpet=off");
        return -E_NOTSUP;
    }
    hpet_hz = 1000000000000000ull / period;
    if (!(hpet_read(HPET_T0_CONFIG) & HPET_TN_FSB_CAP)) {
        log_err("the HPET can't send messages: QEMU needs -global hpet.msi=on");
        return -E_NOTSUP;
    }
    hpet_write(HPET_CONFIG, HPET_ENABLE);

    uint32_t ticks = (uint32_t)(hpet_hz * CALIBRATE_US / 1000000);
    struct reading start = read_both(), end;
    do
        end = read_both();
    while (end.hpet - start.hpet < ticks);
    *hz = (end.tsc - start.tsc) * hpet_hz / (end.hpet - start.hpet);
    uint64_t mhz = (*hz + 500000) / 1000000 * 1000000;
    if (*hz - mhz + 1000 <= 2000)        /* -icount: exact but for the reads themselves */
        *hz = mhz;

    hpet_write(HPET_T0_FSB_DATA, MSI_DATA_NMI);
    hpet_write(HPET_T0_FSB_ADDR, (uint32_t)APIC_BASE_GPA | apic_own_id() << 12);
    return 0;
}

void machine_alarm(uint64_t in_100ns)
{
    uint32_t ticks = (uint32_t)(in_100ns * hpet_hz / 10000000), at;
    hpet_write(HPET_T0_CONFIG, HPET_TN_ENABLE | HPET_TN_32BIT | HPET_TN_FSB);
    /* Whoever sets a comparator that the counter has passed meanwhile (QEMU's thread may have slept in between) waits a
     * whole turn of the counter, 43 s. QEMU before 9.1 fires at once instead; once more does no harm there. */
    do {
        at = hpet_read(HPET_COUNTER) + ticks;
        hpet_write(HPET_T0_COMPARE, at);
        ticks *= 2;
    } while ((int32_t)(at - hpet_read(HPET_COUNTER)) <= 0);
}
