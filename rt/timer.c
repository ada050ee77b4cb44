/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Time: the registered clock, and timers in a pairing heap.
 *
 * Arming is one comparison and three stores, cancelling a timer without children (the common case: limits that don't
 * expire) little more; expiry is O(log n) amortised. No allocation anywhere.
 *
 * The hardware is programmed only before idling and only when the next deadline is earlier than what it is programmed
 * for: a limit that is armed and cancelled with each request costs no access to the timer. The price is an interrupt
 * now and then that finds nothing due.
 */
#define LOG_ROOM "rt"
#include "rt/internal.h"

#define TIMERS_PER_ROUND 64                /* then events and tasks get their turn */
#define LOG_PERIOD       S_100NS(5)
#define LOG_LINES_MOST   8u                /* of one budget in that time */
#define LOG_TEXT_BYTES   320               /* of a line that is one of many */

static const struct rt_clock *the_clock;
static struct rt_timer *heap;
static uint64_t programmed_for = RT_FOREVER;
volatile bool timer_fired;
uint64_t timer_loop_now;

void rt_set_clock(const struct rt_clock *c)
{
    if (the_clock && programmed_for != RT_FOREVER)
        the_clock->arm(RT_FOREVER);
    the_clock = c;
    programmed_for = RT_FOREVER;
    timer_loop_now = rt_now_100ns();
}

bool timers_have_clock(void) { return the_clock != NULL; }
const char *rt_clock_name(void) { return the_clock ? the_clock->name : "none"; }
uint64_t rt_now_100ns(void) { return the_clock ? the_clock->now_100ns() : 0; }

static bool within(struct rt_log_budget *budget, unsigned most)
{
    uint64_t now = rt_now_100ns();
    if (now - budget->since_100ns >= LOG_PERIOD)
        *budget = (struct rt_log_budget){now, 0};
    return budget->lines < most && ++budget->lines;
}

bool rt_may_log(struct rt_log_budget *budget) { return within(budget, LOG_LINES_MOST); }

void rt_log_some(struct rt_log_budget *budget, unsigned most, enum log_level level, const char *room, const char *fmt,
                 ...)
{
    char text[LOG_TEXT_BYTES];
    va_list ap;

    if (level > log_get_level() || !within(budget, most))
        return;
    va_start(ap, fmt);
    kvsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    log_line(level, room, "%s%s", text, budget->lines == most ? " (more such lines are left out for a while)" : "");
}

void rt_timer_interrupt(void) { timer_fired = true; }

/* ---- the heap: next/prev chain the children of one parent; the first child's prev is the parent ---- */

static struct rt_timer *meld(struct rt_timer *a, struct rt_timer *b)
{
    if (!a || !b)
        return a ? a : b;
    if (b->deadline_100ns < a->deadline_100ns) {
        struct rt_timer *swap = a;
        a = b;
        b = swap;
    }
    b->prev = a;
    b->next = a->child;
    if (b->next)
        b->next->prev = b;
    a->child = b;
    return a;
}

/* Two passes: neighbours are melded in pairs, then the pairs from the last to the first. */
static struct rt_timer *meld_children(struct rt_timer *first)
{
    struct rt_timer *pairs = NULL, *result = NULL;
    while (first) {
        struct rt_timer *second = first->next, *rest = second ? second->next : NULL;
        first->next = first->prev = NULL;
        if (second)
            second->next = second->prev = NULL;
        struct rt_timer *pair = meld(first, second);
        pair->next = pairs;
        pairs = pair;
        first = rest;
    }
    while (pairs) {
        struct rt_timer *rest = pairs->next;
        pairs->next = NULL;
        result = meld(result, pairs);
        pairs = rest;
    }
    return result;
}

static void heap_remove(struct rt_timer *t)
{
    struct rt_timer *below = t->child ? meld_children(t->child) : NULL;
    if (t == heap) {
        heap = below;
    } else {
        if (t->prev->child == t)
            t->prev->child = t->next;
        else
            t->prev->next = t->next;
        if (t->next)
            t->next->prev = t->prev;
        heap = meld(heap, below);
    }
    t->child = t->next = t->prev = NULL;
    t->armed = false;
}

/* ---- the interface ---- */

void timer_init(struct rt_timer *t, void (*fn)(void *arg), void *arg)
{
    *t = (struct rt_timer){.fn = fn, .arg = arg};
}

void timer_arm_100ns(struct rt_timer *t, uint64_t deadline_100ns)
{
    if (t->armed)
        heap_remove(t);
    t->deadline_100ns = deadline_100ns;
    t->armed = true;
    heap = meld(heap, t);
}

void timer_cancel(struct rt_timer *t)
{
    if (t->armed)
        heap_remove(t);
}

void timers_run(void)
{
    if (timer_fired) {
        timer_fired = false;
        programmed_for = RT_FOREVER;
    }
    timer_loop_now = rt_now_100ns();
    for (unsigned n = 0; heap && heap->deadline_100ns <= timer_loop_now && n < TIMERS_PER_ROUND; n++) {
        struct rt_timer *t = heap;
        heap_remove(t);
        t->fn(t->arg);
    }
}

void timers_program(void)
{
    if (heap && heap->deadline_100ns < programmed_for && the_clock) {
        programmed_for = heap->deadline_100ns;
        the_clock->arm(programmed_for);
    }
}
