/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The local APIC's one-shot timer, and how fast the time stamp counter runs. Both are fall-backs: under Hyper-V the
 * hypervisor has better ones (hv/clock.c).
 */
#define LOG_ROOM "timer"
#include "arch/x86_64/x86.h"

#define APIC_LVT_TIMER     0x320
#define APIC_TIMER_INITIAL 0x380
#define APIC_TIMER_CURRENT 0x390
#define APIC_TIMER_DIVIDE  0x3E0
#define DIVIDE_BY_16       0x3
#define LVT_MASKED         (1u << 16)

#define PM_TIMER_HZ        3579545ull    /* ACPI specification, power management timer; 24 bits are enough for us */
#define PM_TIMER_MASK      0xFFFFFFull
#define PIT_HZ             1193182ull
#define CALIBRATE_TICKS_PM (PM_TIMER_HZ / 100)    /* 10 ms */
#define CALIBRATE_TICKS_PIT (PIT_HZ / 100)
#define CALIBRATE_POLLS_MAX 2000000u     /* port reads of 0.1 us or more: the limit for a clock that stands still */
#define CALIBRATE_100NS    50000         /* 5 ms for the APIC timer */
#define LOOKS              5
#define DELTA_MAX_100NS    600000000ull  /* a minute: keeps the product below 64 bits */

static uint64_t timer_hz;                /* after division; 0: not initialised */

static uint64_t tsc_hz_from_cpuid(void)
{
    struct x86_cpuid ratio = x86_cpuid_checked(0x15, 0), base = x86_cpuid_checked(0x16, 0);
    if (ratio.eax != 0 && ratio.ebx != 0 && ratio.ecx != 0)
        return (uint64_t)ratio.ecx * ratio.ebx / ratio.eax;
    if (ratio.eax != 0 && ratio.ebx != 0 && base.eax != 0)     /* such processors' counter runs at base frequency */
        return (uint64_t)base.eax * 1000000;
    return 0;
}

struct look { uint64_t time, ticks; };

/* One clock's reading at another's time: the closest of some tries, since this processor may be taken away between two
 * readings for longer than a whole calibration lasts. */
static struct look look_at(uint64_t (*ticks_now)(void), uint64_t (*time_now)(void))
{
    struct look best = {0};
    uint64_t closest = UINT64_MAX;
    for (unsigned n = 0; n < LOOKS; n++) {
        uint64_t before = time_now(), ticks = ticks_now(), width = time_now() - before;
        if (width < closest) {
            closest = width;
            best = (struct look){before + width / 2, ticks};
        }
    }
    return best;
}

static uint64_t pm_timer_now(void) { return x86_in32(x86_platform.pm_timer_port) & PM_TIMER_MASK; }
static uint64_t counter_now(void) { return arch_counter(); }

/* Time stamp counter ticks while the ACPI timer makes CALIBRATE_TICKS_PM; 0 when it does not move. */
static uint64_t tsc_hz_from_pm_timer(void)
{
    struct look begin = look_at(pm_timer_now, counter_now), end;
    for (unsigned polls = 0; ((pm_timer_now() - begin.ticks) & PM_TIMER_MASK) < CALIBRATE_TICKS_PM; polls++)
        if (polls >= CALIBRATE_POLLS_MAX)
            return 0;
    end = look_at(pm_timer_now, counter_now);
    return (end.time - begin.time) * PM_TIMER_HZ / ((end.ticks - begin.ticks) & PM_TIMER_MASK);
}

/* Channel 2 of the PIT counts down once; its output is bit 5 of port 0x61. Absent ports read 0xFF. */
static uint64_t tsc_hz_from_pit(void)
{
    enum { PIT_CHANNEL2 = 0x42, PIT_COMMAND = 0x43, GATE = 0x61, OUT = 1 << 5 };
    uint8_t gate = x86_in8(GATE);
    uint64_t begin, end;
    unsigned polls = 0;
    if (gate == 0xFF)
        return 0;
    x86_out8(GATE, (uint8_t)((gate & ~2) | 1));          /* gate on, speaker off */
    x86_out8(PIT_COMMAND, 0xB0);                         /* channel 2, both bytes, mode 0 */
    x86_out8(PIT_CHANNEL2, CALIBRATE_TICKS_PIT & 0xFF);
    x86_out8(PIT_CHANNEL2, CALIBRATE_TICKS_PIT >> 8);
    begin = arch_counter();
    while (!(x86_in8(GATE) & OUT) && polls < CALIBRATE_POLLS_MAX)
        polls++;
    end = arch_counter();
    x86_out8(GATE, gate);
    /* An output that was high at once belongs to no counter. */
    return polls < 2 || polls >= CALIBRATE_POLLS_MAX ? 0 : (end - begin) * PIT_HZ / CALIBRATE_TICKS_PIT;
}

uint64_t arch_counter_calibrate(void)
{
    uint64_t hz = tsc_hz_from_cpuid();
    if (hz == 0 && x86_platform.pm_timer_port != 0)
        hz = tsc_hz_from_pm_timer();
    if (hz == 0)
        hz = tsc_hz_from_pit();
    return hz;
}

static uint64_t apic_timer_now(void) { return UINT32_MAX - x86_apic_read(APIC_TIMER_CURRENT); }

static uint64_t calibrate(uint64_t (*now_100ns)(void))
{
    struct look begin, end;
    x86_apic_write(APIC_TIMER_INITIAL, UINT32_MAX);
    begin = look_at(apic_timer_now, now_100ns);
    /* Bounded by the timer itself: it stops at its end, after more than four seconds. */
    while (now_100ns() - begin.time < CALIBRATE_100NS && apic_timer_now() != UINT32_MAX)
        ;
    end = look_at(apic_timer_now, now_100ns);
    x86_apic_write(APIC_TIMER_INITIAL, 0);
    return end.time == begin.time ? 0 : (end.ticks - begin.ticks) * 10000000ull / (end.time - begin.time);
}

int arch_timer_init(uint64_t hz, uint64_t (*now_100ns)(void))
{
    if (!x86_apic_ready())
        return -E_NOTSUP;
    x86_apic_write(APIC_TIMER_DIVIDE, DIVIDE_BY_16);
    x86_apic_write(APIC_LVT_TIMER, LVT_MASKED | arch_irq_number(ARCH_IRQ_TIMER));
    timer_hz = hz != 0 ? hz / 16 : calibrate(now_100ns);
    if (timer_hz == 0) {
        log_warn("the local APIC's timer does not run");
        return -E_IO;
    }
    x86_apic_write(APIC_LVT_TIMER, arch_irq_number(ARCH_IRQ_TIMER));
    return 0;
}

void arch_timer_arm(uint64_t delta_100ns)
{
    uint64_t ticks;
    if (timer_hz == 0)
        return;
    /* Beyond the counter's reach (68 s at 1 GHz) it fires early; the event loop arms it again. */
    delta_100ns = MIN(delta_100ns, DELTA_MAX_100NS);
    ticks = delta_100ns * timer_hz / 10000000 + 1;
    x86_apic_write(APIC_TIMER_INITIAL, (uint32_t)MIN(ticks, (uint64_t)UINT32_MAX));
}

void arch_timer_stop(void)
{
    if (timer_hz != 0)
        x86_apic_write(APIC_TIMER_INITIAL, 0);
}
