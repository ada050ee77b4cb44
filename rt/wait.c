/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Waiting: queues of parked tasks, sleeping, limits.
 *
 * A parked task is on one queue (or none, when it only sleeps) and has its own timer for the limit. A wake takes it off
 * the queue and disarms the limit; the limit takes it off the queue; whichever comes first decides the result.
 */
#define LOG_ROOM "rt"
#include "rt/internal.h"

void wait_queue_init(struct wait_queue *q) { list_init(&q->waiters); }

static void park(enum task_state state, uint64_t deadline_100ns, const char *what)
{
    struct task *t = task_current;     /* that it may block is asserted in task_schedule */
    KASSERT(deadline_100ns == RT_FOREVER || timers_have_clock());
    t->state = state;
    t->what = what;
    t->woken = false;
    t->since_100ns = timer_loop_now;
    if (deadline_100ns != RT_FOREVER)
        timer_arm_100ns(&t->timer, deadline_100ns);
    task_schedule();
    t->what = NULL;
}

void task_limit_expired(void *task)
{
    struct task *t = task;
    list_remove(&t->node);
    task_make_ready(t);
}

static void wake(struct task *t)
{
    if (t->timer.armed)
        timer_cancel(&t->timer);
    t->woken = true;
    task_make_ready(t);
}

bool wait_queue_sleep(struct wait_queue *q, uint64_t deadline_100ns, const char *what)
{
    list_push_back(&q->waiters, &task_current->node);
    park(TASK_WAITING, deadline_100ns, what);
    return task_current->woken;
}

void wait_queue_wake_one(struct wait_queue *q)
{
    struct list *node = list_pop_front(&q->waiters);
    if (node)
        wake(list_entry(node, struct task, node));
}

void wait_queue_wake_all(struct wait_queue *q)
{
    for (struct list *node; (node = list_pop_front(&q->waiters)) != NULL;)
        wake(list_entry(node, struct task, node));
}

void task_sleep_us(uint64_t us)
{
    uint64_t now = rt_now_100ns();
    park(TASK_SLEEPING, us > (RT_FOREVER - 1 - now) / 10 ? RT_FOREVER - 1 : now + US_100NS(us), NULL);
}
