/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * selftest=interrupts raises interrupts as their sources would and looks at what comes of it: each is delivered once,
 * and waits while interrupts are off; one that came before the processor went idle wakes it; one raised in its own
 * handler comes after it; waits of the clock's timer take as long as they should. One line tells the result; then the
 * boot goes on.
 */
#define LOG_ROOM "boot"
#include "boot/selftest.h"
#include "hv/hv.h"
#include "rt/rt.h"

#define PATIENCE_100NS S_100NS(10)
#define WAITS          20
#define WAIT_US        2000
#define ROUNDS         1000

static struct { unsigned taken, again, wrong; } seen;

static void wrong(const char *what)
{
    if (seen.wrong++ < 8)
        log_err("self test interrupts: %s", what);
}

static void check(bool right, const char *what)
{
    if (!right)
        wrong(what);
}

static void taken(void *arg)
{
    const enum arch_irq_use *use = arg;
    check(!arch_irq_enabled(), "a handler runs with interrupts on");
    seen.taken++;
    if (seen.again > 0) {
        seen.again--;
        arch_irq_raise(*use);
    }
}

/* Interrupts are on. */
static bool comes(unsigned count)
{
    uint64_t begin = rt_now_100ns();
    while (*(volatile unsigned *)&seen.taken < count && rt_now_100ns() - begin < PATIENCE_100NS)
        arch_cpu_relax();
    return seen.taken == count;
}

static void look_at_delivery(enum arch_irq_use use)
{
    uint64_t counted = arch_irq_count(use), state;

    seen.taken = 0;
    arch_irq_raise(use);
    check(comes(1), "an interrupt that was raised does not come");

    state = arch_irq_save();
    arch_irq_raise(use);
    arch_irq_raise(use);
    check(seen.taken == 1, "an interrupt comes while they are off");
    arch_irq_restore(state);
    check(comes(2), "an interrupt raised while they were off does not come once");

    seen.again = 1;
    arch_irq_raise(use);
    check(comes(4), "an interrupt raised in its own handler does not come after it");
    check(arch_irq_count(use) == counted + 4, "interrupts are counted wrongly");
}

/* Would hang where a wake-up is lost: the timer is not armed. */
static void look_at_idling(enum arch_irq_use use)
{
    seen.taken = 0;
    for (unsigned i = 0; i < ROUNDS; i++) {
        uint64_t state = arch_irq_save();
        unsigned before = seen.taken;
        arch_irq_raise(use);
        while (seen.taken == before)
            arch_idle();
        check(!arch_irq_enabled(), "idling leaves interrupts on");
        arch_irq_restore(state);
    }
    check(seen.taken == ROUNDS, "idling lets an interrupt in twice");
}

/* A timer that is always late by seconds is no timer; how late it may be once depends on who else runs. */
static uint64_t look_at_timer(void)
{
    uint64_t longest = 0, shortest = UINT64_MAX;
    for (unsigned i = 0; i < WAITS; i++) {
        uint64_t begin = rt_now_100ns(), took;
        task_sleep_us(WAIT_US);
        took = rt_now_100ns() - begin;
        check(took >= US_100NS(WAIT_US), "a wait ends early");
        longest = MAX(longest, took);
        shortest = MIN(shortest, took);
    }
    check(shortest < PATIENCE_100NS, "every wait takes seconds longer than it should");
    return longest;
}

void selftest_interrupts(void)
{
    static enum arch_irq_use test = ARCH_IRQ_TEST, vmbus = ARCH_IRQ_VMBUS;
    uint64_t longest;

    arch_irq_set_handler(test, taken, &test);
    look_at_delivery(test);
    look_at_idling(test);
    arch_irq_set_handler(test, NULL, NULL);
    if (!hv_can_vmbus()) {                   /* else it has a handler already */
        arch_irq_set_handler(vmbus, taken, &vmbus);
        look_at_delivery(vmbus);
        look_at_idling(vmbus);
        arch_irq_set_handler(vmbus, NULL, NULL);
    }
    longest = look_at_timer();
    log_info("self test interrupts: %u faults; numbers %u, %u, %u; waits of %u us took %llu us at most", seen.wrong,
             arch_irq_number(ARCH_IRQ_TEST), arch_irq_number(ARCH_IRQ_VMBUS), arch_irq_number(ARCH_IRQ_TIMER), WAIT_US,
             (unsigned long long)longest / 10);
}
