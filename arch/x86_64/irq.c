/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Interrupt vectors and their handlers. Each use has a vector of its own, nothing is shared; the vectors of the
 * hypervisor's interrupts are high, so that a message beats the timer. A vector nobody asked for is counted, reported
 * once and dropped.
 */
#define LOG_ROOM "irq"
#include "arch/x86_64/x86.h"

#define LOG_STRAY_MAX 4

static struct {
    uint8_t vector;
    bool write_eoi;
    void (*handler)(void *arg);
    void *arg;
    uint64_t count;
} uses[ARCH_IRQ_USES] = {
    [ARCH_IRQ_VMBUS]  = {.vector = 0xF3, .write_eoi = true},
    [ARCH_IRQ_STIMER] = {.vector = 0xED, .write_eoi = true},
    [ARCH_IRQ_TIMER]  = {.vector = 0xEC, .write_eoi = true},
    [ARCH_IRQ_TEST]   = {.vector = 0xE0, .write_eoi = true},
};
#define VECTOR_SPURIOUS 0xFF
static uint64_t stray_count;

unsigned arch_irq_number(enum arch_irq_use use)
{
    KASSERT(use < ARCH_IRQ_USES);
    return uses[use].vector;
}

void arch_irq_set_handler(enum arch_irq_use use, void (*handler)(void *arg), void *arg)
{
    uint64_t state = arch_irq_save();
    KASSERT(use < ARCH_IRQ_USES);
    uses[use].arg = arg;
    uses[use].handler = handler;
    arch_irq_restore(state);
}

void arch_irq_set_eoi(enum arch_irq_use use, bool write_eoi)
{
    KASSERT(use < ARCH_IRQ_USES);
    uses[use].write_eoi = write_eoi;
}

uint64_t arch_irq_count(enum arch_irq_use use)
{
    KASSERT(use < ARCH_IRQ_USES);
    return uses[use].count;
}

void arch_irq_raise(enum arch_irq_use use)
{
    enum { ICR = 0x300, FIXED_TO_SELF = 1 << 18 };
    KASSERT(use < ARCH_IRQ_USES && x86_apic_ready());
    x86_apic_write(ICR, FIXED_TO_SELF | uses[use].vector);
}

void x86_interrupt(struct x86_frame *f)
{
    for (unsigned i = 0; i < ARCH_IRQ_USES; i++) {
        if (uses[i].vector != f->vector)
            continue;
        uses[i].count++;
        if (uses[i].handler != NULL)
            uses[i].handler(uses[i].arg);
        if (uses[i].write_eoi)
            x86_apic_eoi();
        return;
    }
    if (f->vector == VECTOR_SPURIOUS)    /* the APIC's own; must not be acknowledged */
        return;
    if (stray_count++ < LOG_STRAY_MAX)
        log_warn("interrupt on vector 0x%x, which nobody asked for", (unsigned)f->vector);
    x86_apic_eoi();
}
