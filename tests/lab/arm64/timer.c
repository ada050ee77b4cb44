/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Time: the generic timer's counter, which is the guest's too, and EL2's physical timer as the lab's alarm. Each
 * processor has one of its own; the one that sets an alarm is the one that will leave its guest for it.
 */
#define LOG_ROOM "lab"
#include "tests/lab/arm64/el2.h"
#include "tests/lab/arm64/vcpu.h"

#define ALARM_MAX_100NS 100000000ull     /* 10 s; the product below fits */

static uint64_t counter_hz;

int machine_clock_init(uint64_t *hz)
{
    counter_hz = *hz = sysreg_read(cntfrq_el0);
    if (counter_hz == 0) {
        log_err("the generic timer has no frequency");
        return -E_NOTSUP;
    }
    return 0;
}

/* The guest reads both counters and has both of EL1's timers; virtual and physical time are the same. */
void timer_cpu_init(void)
{
    sysreg_write(cnthctl_el2, CNTHCTL_EL1PCTEN | CNTHCTL_EL1PTEN);
    sysreg_write(cntvoff_el2, 0);
    sysreg_write_as(SYSREG_CNTHP_CTL, 0);
    arm64_isb();
}

void machine_alarm(uint64_t in_100ns)
{
    uint64_t ticks = MIN(in_100ns, ALARM_MAX_100NS) * counter_hz / 10000000;
    sysreg_write_as(SYSREG_CNTHP_CVAL, arch_counter() + MAX(ticks, 1ull));
    sysreg_write_as(SYSREG_CNTHP_CTL, TIMER_ENABLE);
    arm64_isb();
}

/* Its line is a level: it falls silent until the next alarm. */
void timer_alarm_taken(void)
{
    sysreg_write_as(SYSREG_CNTHP_CTL, 0);
    arm64_isb();
}
