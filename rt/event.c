/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Events: the way from an interrupt handler to the loop.
 *
 * Raised events wait in arrival order on one list, touched with interrupts off. The loop takes the whole list as a
 * batch, which belongs to it alone, so running an event costs no further masking. The raised flag is cleared before the
 * function is called: what is raised during the call runs again, what was raised before it is seen by it.
 */
#define LOG_ROOM "rt"
#include "rt/internal.h"

struct rt_event *volatile events_pending;
static struct rt_event *last;              /* of events_pending, when there is one */
static struct rt_event *batch;             /* what events_run still has to call */

void event_raise(struct rt_event *e)
{
    if (e->raised)
        return;
    uint64_t irq = arch_irq_save();
    if (!e->raised) {
        e->raised = true;
        e->next = NULL;
        if (events_pending)
            last->next = e;
        else
            events_pending = e;
        last = e;
    }
    arch_irq_restore(irq);
}

void events_run(void)
{
    uint64_t irq = arch_irq_save();
    batch = events_pending;
    events_pending = NULL;
    arch_irq_restore(irq);
    for (struct rt_event *e; (e = batch) != NULL;) {
        batch = e->next;
        e->raised = false;
        __atomic_signal_fence(__ATOMIC_SEQ_CST);   /* partner: an interrupt handler's event_raise */
        e->fn(e->arg);
    }
}

void event_cancel(struct rt_event *e)
{
    uint64_t irq = arch_irq_save();
    struct rt_event *prev = NULL;
    for (struct rt_event **link = &batch; e->raised && *link; link = &(*link)->next) {
        if (*link == e) {
            *link = e->next;
            e->raised = false;
            break;
        }
    }
    for (struct rt_event *at = events_pending; e->raised && at; prev = at, at = at->next) {
        if (at != e)
            continue;
        if (prev)
            prev->next = e->next;
        else
            events_pending = e->next;
        if (last == e)
            last = prev;
        e->raised = false;
    }
    arch_irq_restore(irq);
}
