/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Interrupts and their handlers. Each use has a number of its own, private to the processor: PPIs for what the
 * hypervisor and the timer raise, an SGI for the test. Messages are more urgent than the timer. A number nobody asked
 * for is counted, reported and switched off.
 *
 * Every interrupt taken is ended at the controller after its handler: there is no end by itself here. An edge that
 * comes while the handler runs makes it pending again, so nothing is lost.
 */
#define LOG_ROOM "irq"
#include "arch/arm64/arm64.h"
#include "arch/arm64/gic.h"
#include "arch/arm64/irq_numbers.h"
#include "arch/arm64/timer.h"

#define LOG_STRAY_MAX  4
#define TEST_NUMBER    15
#define PRIORITY_VMBUS 0x80
#define PRIORITY_TIMER 0xA0

static struct {
    uint32_t intid;
    uint8_t priority;
    bool level;
    void (*handler)(void *arg);
    void *arg;
    uint64_t count;
} uses[ARCH_IRQ_USES] = {
    [ARCH_IRQ_VMBUS]  = {.priority = PRIORITY_VMBUS},
    [ARCH_IRQ_STIMER] = {.priority = PRIORITY_TIMER},
    [ARCH_IRQ_TIMER]  = {.priority = PRIORITY_TIMER, .level = true},
    [ARCH_IRQ_TEST]   = {.intid = TEST_NUMBER, .priority = PRIORITY_TIMER},
};
static uint64_t stray_count;

unsigned arch_irq_number(enum arch_irq_use use)
{
    KASSERT(use < ARCH_IRQ_USES);
    return uses[use].intid;
}

void arch_irq_set_handler(enum arch_irq_use use, void (*handler)(void *arg), void *arg)
{
    uint64_t state = arch_irq_save();
    KASSERT(use < ARCH_IRQ_USES);
    uses[use].arg = arg;
    uses[use].handler = handler;
    arch_irq_restore(state);
}

void arch_irq_set_eoi(enum arch_irq_use use, bool write_eoi) { KASSERT(use < ARCH_IRQ_USES && write_eoi); }

uint64_t arch_irq_count(enum arch_irq_use use)
{
    KASSERT(use < ARCH_IRQ_USES);
    return uses[use].count;
}

static void choose_numbers(void)
{
    struct arm64_irq_numbers n;
    if (!arm64_irq_choose(arm64_timer_intid(), arm64_platform.vmbus_irq, &n))
        log_warn("the VMBus device's interrupt is said to be %u, which can't be; taking %u", arm64_platform.vmbus_irq,
                 n.vmbus);
    uses[ARCH_IRQ_VMBUS].intid = n.vmbus;
    uses[ARCH_IRQ_STIMER].intid = n.stimer;
    uses[ARCH_IRQ_TIMER].intid = n.timer;
}

int arch_irq_init(void)
{
    int error;
    choose_numbers();
    error = gic_init();
    if (error != 0)
        return error;
    for (unsigned i = 0; i < ARCH_IRQ_USES; i++)
        gic_enable(uses[i].intid, !uses[i].level, uses[i].priority);
    return 0;
}

void arch_irq_raise(enum arch_irq_use use)
{
    KASSERT(use < ARCH_IRQ_USES && !uses[use].level);
    gic_raise(uses[use].intid);
}

static void dispatch(uint32_t intid)
{
    for (unsigned i = 0; i < ARCH_IRQ_USES; i++) {
        if (uses[i].intid != intid)
            continue;
        uses[i].count++;
        if (i == ARCH_IRQ_TIMER)
            arm64_timer_quiet();
        if (uses[i].handler != NULL)
            uses[i].handler(uses[i].arg);
        return;
    }
    if (stray_count++ < LOG_STRAY_MAX)
        log_warn("interrupt %u, which nobody asked for", intid);
    if (intid < GIC_SPI_FIRST)
        gic_disable(intid);
}

void arm64_irq(struct arm64_frame *frame)
{
    uint32_t intid = (uint32_t)sysreg_read_as(SYSREG_ICC_IAR1) & ICC_INTID_MASK;
    (void)frame;
    /* The handler must not have looked before that read ended the pending state: what is raised in between is one with
     * this interrupt, and nobody would look again. */
    arch_fence_sync();
    if (intid >= GIC_SPURIOUS_FIRST && intid <= GIC_SPURIOUS_LAST)
        return;
    dispatch(intid);
    sysreg_write_as(SYSREG_ICC_EOIR1, intid);
    arm64_isb();
}

/* WFI ends for an interrupt that is pending, masked or not: one that came after the caller's test ends it at once. */
void arch_idle(void)
{
    arm64_wfi();
    arch_irq_enable();
    arm64_isb();
    arch_irq_disable();
}
