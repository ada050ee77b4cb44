/* SPDX-License-Identifier: BSD-2-Clause */
/* Fake interrupts and time: a flag, a set of pending bits, a number that moves. */
#include <string.h>
#include "tests/fake_arch/internal.h"

#define FIRST_NUMBER 0x50u

bool fake_irqs_on;
uint32_t fake_irqs_pending;
bool (*fake_arch_idle_hook)(void);
uint64_t (*fake_arch_deadline_hook)(void);
uint64_t fake_now_100ns, fake_counter_step = 20, fake_counter_offset;
uint64_t fake_idle_count, fake_clock_arm_count;
static uint64_t counter_fraction;              /* counter units beyond fake_now_100ns */
static uint64_t local_timer, clock_timer;      /* deadlines of arch_timer_arm and of fake_clock */

static struct { void (*fn)(void *arg); void *arg; uint64_t count; } handlers[ARCH_IRQ_USES];

#define COUNTER_PER_100NS (FAKE_COUNTER_HZ / 10000000)

void fake_irq_reset(void)
{
    fake_irqs_on = false;
    fake_irqs_pending = 0;
    memset(handlers, 0, sizeof(handlers));
    fake_now_100ns = MS_100NS(1);
    counter_fraction = 0;
    local_timer = clock_timer = RT_FOREVER;
}

/* ---- interrupts ---- */

unsigned arch_irq_number(enum arch_irq_use use) { return FIRST_NUMBER + use; }
uint64_t arch_irq_count(enum arch_irq_use use) { return handlers[use].count; }
int arch_irq_init(void) { return 0; }
void arch_irq_set_eoi(enum arch_irq_use use, bool write_eoi) { (void)use, (void)write_eoi; }

void arch_irq_set_handler(enum arch_irq_use use, void (*fn)(void *arg), void *arg)
{
    handlers[use].fn = fn;
    handlers[use].arg = arg;
}

void fake_irq_deliver(void)
{
    while (fake_irqs_pending) {
        unsigned use = (unsigned)__builtin_ctz(fake_irqs_pending);
        fake_irqs_pending &= fake_irqs_pending - 1;
        handlers[use].count++;
        fake_irqs_on = false;
        if (handlers[use].fn)
            handlers[use].fn(handlers[use].arg);
        fake_irqs_on = true;
    }
}

void fake_irq_raise(enum arch_irq_use use)
{
    fake_irqs_pending |= 1u << use;
    if (fake_irqs_on)
        fake_irq_deliver();
}

void arch_irq_raise(enum arch_irq_use use) { fake_irq_raise(use); }

bool fake_irq_raise_number(unsigned number)
{
    if (number - FIRST_NUMBER >= ARCH_IRQ_USES)
        return false;
    fake_irq_raise(number - FIRST_NUMBER);
    return true;
}

/* ---- time ---- */

uint64_t fake_counter(void) { return fake_now_100ns * COUNTER_PER_100NS + counter_fraction; }

uint64_t fake_counter_advance(void)
{
    counter_fraction += fake_counter_step;
    fake_now_100ns += counter_fraction / COUNTER_PER_100NS;
    counter_fraction %= COUNTER_PER_100NS;
    return fake_counter();
}

uint64_t arch_counter_calibrate(void) { return FAKE_COUNTER_HZ; }

int arch_timer_init(uint64_t hz, uint64_t (*now_100ns)(void))
{
    (void)hz, (void)now_100ns;
    return 0;
}

void arch_timer_arm(uint64_t delta_100ns) { local_timer = fake_now_100ns + delta_100ns; }
void arch_timer_stop(void) { local_timer = RT_FOREVER; }

/* Interrupts of timers that are due; true when there was one. */
static bool expire_timers(void)
{
    bool any = false;
    if (local_timer <= fake_now_100ns) {
        local_timer = RT_FOREVER;
        fake_irq_raise(ARCH_IRQ_TIMER);
        any = true;
    }
    if (clock_timer <= fake_now_100ns) {
        clock_timer = RT_FOREVER;
        rt_timer_interrupt();
        any = true;
    }
    return any;
}

void fake_time_advance(uint64_t delta_100ns)
{
    fake_now_100ns += delta_100ns;
    expire_timers();
}

static uint64_t clock_now(void) { return fake_counter_advance() / COUNTER_PER_100NS; }
static void clock_arm(uint64_t deadline_100ns)
{
    fake_clock_arm_count++;
    clock_timer = deadline_100ns;
}
const struct rt_clock fake_clock = {"fake", clock_now, clock_arm};

static uint64_t next_deadline(void)
{
    uint64_t host = fake_arch_deadline_hook ? fake_arch_deadline_hook() : RT_FOREVER;
    uint64_t own = MIN(local_timer, clock_timer);
    return MIN(host, own);
}

/*
 * The guest has nothing to do: pending interrupts, then the host, then time. One of them must lead somewhere, or
 * the machine would sleep for ever.
 */
void arch_idle(void)
{
    fake_idle_count++;
    KASSERT(!fake_irqs_on);
    for (bool first = true;; first = false) {
        if (fake_irqs_pending) {
            fake_irqs_on = true;
            fake_irq_deliver();
            fake_irqs_on = false;
            return;
        }
        if (fake_arch_idle_hook && fake_arch_idle_hook())
            continue;
        if (expire_timers()) {
            if (!fake_irqs_pending)
                return;
            continue;
        }
        uint64_t deadline = next_deadline();
        if (deadline == RT_FOREVER) {
            task_dump();
            panic("fake_arch: idle, and nothing can ever wake the machine");
        }
        /* The host's own deadline that was due already and led to nothing would never pass. */
        if (deadline <= fake_now_100ns && !first)
            fake_now_100ns++;
        else if (deadline > fake_now_100ns)
            fake_now_100ns = deadline;
    }
}
