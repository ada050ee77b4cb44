/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What INIT does to a local APIC, done by software on the processor it belongs to. Most registers are written; what
 * pends or is in service is not, so the lab takes those interrupts itself, by gates that do nothing, and ends them. A
 * guest's processor would otherwise come out of INIT with an interrupt that nobody there asked for: the firmware's
 * timer, say, in the operating system.
 *
 * Called with GIF = 0 and IF = 0, and returns so.
 */
#define LOG_ROOM "lab"
#include "tests/lab/x86_64/smp.h"

#define APIC_TPR     0x080
#define APIC_EOI     0x0B0
#define APIC_LDR     0x0D0
#define APIC_DFR     0x0E0
#define APIC_SVR     0x0F0
#define APIC_ISR     0x100             /* eight words of 32 vectors, 16 bytes apart */
#define APIC_IRR     0x200
#define APIC_TIMER_COUNT  0x380
#define APIC_TIMER_DIVIDE 0x3E0
#define SVR_ENABLED  0x1FFu
#define VECTORS      256u

static bool any(unsigned set)
{
    for (unsigned i = 0; i < VECTORS / 32; i++)
        if (apic_read(set + 0x10 * i))
            return true;
    return false;
}

void apic_take_init(void)
{
    apic_reset();                      /* masked: nothing new from here on but what other processors send */
    apic_write(APIC_TIMER_COUNT, 0);
    apic_write(APIC_TPR, 0);
    apic_write(APIC_SVR, SVR_ENABLED); /* while disabled it would deliver nothing */
    for (unsigned n = 0; n < 2 * VECTORS; n++) {
        if (any(APIC_ISR))
            apic_write(APIC_EOI, 0);
        else if (any(APIC_IRR))
            lab_take_interrupt();
        else
            break;
    }
    apic_write(APIC_TIMER_DIVIDE, 0);
    apic_write(APIC_LDR, 0);
    apic_write(APIC_DFR, 0xFFFFFFFFu);
    apic_reset();
}
