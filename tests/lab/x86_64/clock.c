/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Time: the TSC as reference clock, the HPET as the lab's alarm.
 *
 * The HPET belongs to the lab alone (hidden from the guest). Timer 0 sends its message (FSB, i.e. MSI) with delivery
 * mode NMI, so an alarm always brings the guest back out. One alarm serves the model's nearest deadline and the tick
 * at which commands are looked for. Who is woken compares times, and an alarm that came too early is set again.
 *
 * The TSC's frequency is measured against the HPET once. Under -icount both count instructions and the measure is
 * exact.
 */
#define LOG_ROOM "lab"
#include "tests/lab/x86_64/lab.h"

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
#define EARLY_100NS      500u            /* the alarm may come that much too early, */
#define EARLY_PART       1000u           /* and this part of its distance: the two clocks differ */
#define ALARM_MIN_100NS  20ull
#define ALARM_MAX_100NS  100000000ull    /* 10 s: inside half a turn of the 32-bit comparator */

static volatile uint8_t *hpet;
static uint64_t hpet_hz, tsc_hz, tsc_start;
static uint64_t model_deadline = UINT64_MAX, device_deadline = UINT64_MAX, next_tick = UINT64_MAX, next_sample = UINT64_MAX;
static uint64_t armed = UINT64_MAX;       /* the time the alarm was set for, */
static uint64_t fires_from;              /* and when at the earliest it may fire */
static uint64_t to_100ns;                /* (10^7 << 64) / tsc_hz */

static uint32_t hpet_read(unsigned reg) { return mmio_read32(hpet + reg); }
static void hpet_write(unsigned reg, uint32_t v) { mmio_write32(hpet + reg, v); }

static uint64_t scale(uint64_t ticks, uint64_t factor)
{
    return (uint64_t)((unsigned __int128)ticks * factor >> 64);
}

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

int clock_init(void)
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
    tsc_start = start.tsc;
    tsc_hz = (end.tsc - start.tsc) * hpet_hz / (end.hpet - start.hpet);
    uint64_t mhz = (tsc_hz + 500000) / 1000000 * 1000000;
    if (tsc_hz - mhz + 1000 <= 2000)     /* -icount: exact but for the reads themselves */
        tsc_hz = mhz;
    uint64_t rest;
    __asm__("divq %4" : "=a"(to_100ns), "=d"(rest) : "0"(0ull), "1"(10000000ull), "r"(tsc_hz));

    hpet_write(HPET_T0_FSB_DATA, MSI_DATA_NMI);
    hpet_write(HPET_T0_FSB_ADDR, (uint32_t)APIC_BASE_GPA | apic_own_id() << 12);
    if (lab_options.tick_ms)
        next_tick = clock_now_100ns();
    if (lab_options.profile_us)
        next_sample = clock_now_100ns();
    return 0;
}

uint64_t clock_tsc_hz(void) { return tsc_hz; }
uint64_t clock_now_100ns(void) { return scale(arch_counter() - tsc_start, to_100ns); }
uint64_t clock_now_us(void) { return clock_now_100ns() / 10; }
void clock_set_deadline(uint64_t when_100ns) { model_deadline = when_100ns; }
void clock_set_device_deadline(uint64_t when_100ns) { device_deadline = when_100ns; }
bool clock_due(void) { return model_deadline != UINT64_MAX && clock_now_100ns() >= model_deadline; }

bool clock_tick_due(void)
{
    uint64_t now = clock_now_100ns();
    if (now < next_tick)
        return false;
    next_tick = now + lab_options.tick_ms * 10000ull;
    return true;
}

static uint64_t nearest(void)
{
    uint64_t first = MIN(model_deadline, next_tick), second = MIN(device_deadline, next_sample);
    return MIN(first, second);
}

void clock_arm(void)
{
    uint64_t wanted = nearest(), now = clock_now_100ns();
    if (wanted == armed && (now < fires_from || wanted == UINT64_MAX))
        return;
    if (wanted == next_sample && now >= next_sample) {
        next_sample = now + lab_options.profile_us * 10ull;
        wanted = nearest();
    }
    uint64_t left = wanted > now ? wanted - now : 1;
    if (left > ALARM_MAX_100NS)
        left = ALARM_MAX_100NS;
    armed = wanted;
    fires_from = now + left - left / EARLY_PART;
    fires_from -= MIN(left, (uint64_t)EARLY_100NS);
    uint32_t ticks = (uint32_t)(MAX(left, ALARM_MIN_100NS) * hpet_hz / 10000000), at;
    hpet_write(HPET_T0_CONFIG, HPET_TN_ENABLE | HPET_TN_32BIT | HPET_TN_FSB);
    /* Whoever sets a comparator that the counter has passed meanwhile (QEMU's thread may have slept in between) waits a
     * whole turn of the counter, 43 s. QEMU before 9.1 fires at once instead; once more does no harm there. */
    do {
        at = hpet_read(HPET_COUNTER) + ticks;
        hpet_write(HPET_T0_COMPARE, at);
        ticks *= 2;
    } while ((int32_t)(at - hpet_read(HPET_COUNTER)) <= 0);
}
