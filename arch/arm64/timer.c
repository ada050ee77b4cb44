/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The generic timer, one shot, and its counter's frequency. Source: Arm ARM, chapter D11 (the generic timer).
 *
 *   EL1   the virtual timer, which a hypervisor gives to its guest; CNTVCT_EL0 counts
 *   EL2   the level's own physical timer: CNTP_* reaches CNTHP_* there. Its virtual twin is not wired up everywhere.
 *         CNTVCT_EL0 is read without an offset at EL2, so both count the same.
 *
 * The interrupt is a level: it stays until the timer is silenced or moved.
 */
#define LOG_ROOM "timer"
#include "arch/arm64/arm64.h"
#include "arch/arm64/gic.h"
#include "arch/arm64/timer.h"

#define VIRTUAL_DEFAULT  27              /* the numbers of Arm's base system architecture */
#define EL2_DEFAULT      26
#define TIMER_ENABLE     1
#define DELTA_MAX_100NS  36000000000ull  /* an hour: keeps the product below 64 bits at a GHz; the loop arms again */

static uint64_t hz;                      /* 0: not initialised */

uint32_t arm64_timer_intid(void)
{
    uint32_t told = arm64_el() == 2 ? arm64_platform.timer_irq_el2 : arm64_platform.timer_irq;
    uint32_t usual = arm64_el() == 2 ? EL2_DEFAULT : VIRTUAL_DEFAULT;
    if (told != 0 && !gic_is_ppi(told)) {
        log_warn("the timer's interrupt is said to be %u, which can't be; taking %u", told, usual);
        told = 0;
    }
    return told != 0 ? told : usual;
}

static void set(uint64_t deadline, uint64_t control)
{
    if (arm64_el() == 2) {
        sysreg_write(cntp_cval_el0, deadline);
        sysreg_write(cntp_ctl_el0, control);
    } else {
        sysreg_write(cntv_cval_el0, deadline);
        sysreg_write(cntv_ctl_el0, control);
    }
    arm64_isb();
}

void arm64_timer_quiet(void) { set(UINT64_MAX, 0); }

uint64_t arch_counter_calibrate(void) { return sysreg_read(cntfrq_el0); }

/* The frequency is the counter's own, whatever others say. */
int arch_timer_init(uint64_t told_hz, uint64_t (*now_100ns)(void))
{
    (void)told_hz, (void)now_100ns;
    if (!gic_ready())
        return -E_NOTSUP;
    arm64_timer_quiet();
    hz = arch_counter_calibrate();
    if (hz == 0) {
        log_warn("CNTFRQ_EL0 is zero: firmware did not set it");
        return -E_IO;
    }
    return 0;
}

void arch_timer_arm(uint64_t delta_100ns)
{
    if (hz == 0)
        return;
    delta_100ns = MIN(delta_100ns, DELTA_MAX_100NS);
    /* Seconds and the rest apart: 36e9 * 1e9 would not fit. */
    uint64_t ticks = delta_100ns / 10000000 * hz + delta_100ns % 10000000 * hz / 10000000 + 1;
    set(arch_counter() + ticks, TIMER_ENABLE);
}

void arch_timer_stop(void)
{
    if (hz != 0)
        arm64_timer_quiet();
}
