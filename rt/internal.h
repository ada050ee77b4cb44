/* SPDX-License-Identifier: BSD-2-Clause */
/* What the files of the runtime's core say to one another; nobody else includes this. */
#pragma once
#include "rt/rt.h"

enum task_state { TASK_RUNNING, TASK_READY, TASK_WAITING, TASK_SLEEPING, TASK_DEAD };

struct task {
    struct arch_context context;
    struct list node;              /* on the ready queue, or on what it waits for */
    enum task_state state;
    bool woken;                    /* the last sleep ended by a wake, not by its limit */
    struct rt_timer timer;         /* limit of the sleep */
    const char *what;              /* it waits for */
    uint64_t since_100ns;          /* loop time at which it began to wait */
    void *stack;                   /* lowest address; NULL: the boot stack */
    size_t stack_bytes;
    void (*fn)(void *arg);
    void *arg;
    struct list all;
    char name[24];
};

/* ---- task.c ---- */
extern struct task *task_current;
extern struct list task_ready_queue;
static inline void task_make_ready(struct task *t)
{
    KASSERT(t->state != TASK_READY && t->state != TASK_DEAD);
    t->state = TASK_READY;
    list_push_back(&task_ready_queue, &t->node);
}
/* The running task is not to go on now: on a queue, waiting or dead. Runs the loop until some task is ready. */
void task_schedule(void);

/* ---- event.c ---- */
extern struct rt_event *volatile events_pending;
void events_run(void);

/* ---- timer.c ---- */
extern volatile bool timer_fired;
/* Time as of the loop's last look at the clock; cheap, and exact enough for dumps. */
extern uint64_t timer_loop_now;
void timers_run(void);
void timers_program(void);                 /* before idling: the clock interrupts at the next deadline */
bool timers_have_clock(void);

/* ---- wait.c ---- */
void task_limit_expired(void *task);       /* the function of task->timer */

/* ---- random.c ---- */
/* The block function of RFC 8439, section 2.3; words in memory order of a little-endian machine. */
void chacha20_block(const uint32_t k[8], uint32_t counter, const uint32_t nonce[3], uint32_t out[16]);

/* ---- machine.c ---- */
void machine_init(void);
