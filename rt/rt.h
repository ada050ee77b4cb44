/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The runtime's core: the event loop, cooperative tasks, waiting, time. What hv/, vmbus/ and drivers/ need of it is all
 * here.
 *
 * One event loop per CPU. Interrupt handlers call event_raise and leave; the loop runs the event's function outside
 * interrupt context, then due timers, then ready tasks, then idles. Event functions and timer functions must not
 * block; tasks may. No preemption: between two blocking calls a task owns its data.
 *
 * Time is 100 ns units since boot from the clock that hv/ registers ("reference time"); before that rt_now_100ns()
 * is 0 and only waits without limit work.
 * May look at: mm/, arch/, lib/.
 */
#pragma once
#include "lib/list.h"
#include "mm/mm.h"

#define US_100NS(us) ((uint64_t)(us) * 10)
#define MS_100NS(ms) ((uint64_t)(ms) * 10000)
#define S_100NS(s)   ((uint64_t)(s) * 10000000)
#define RT_FOREVER   UINT64_MAX

/* Makes the calling context the first task. After mm_init. */
void rt_init(void);

/* ---- time ---- */
struct rt_clock {
    const char *name;
    uint64_t (*now_100ns)(void);
    void (*arm)(uint64_t deadline_100ns);   /* interrupt no later than shortly after; RT_FOREVER = disarm */
};
void rt_set_clock(const struct rt_clock *clock);
const char *rt_clock_name(void);
uint64_t rt_now_100ns(void);
static inline uint64_t rt_now_us(void) { return rt_now_100ns() / 10; }
static inline uint64_t rt_now_ms(void) { return rt_now_100ns() / 10000; }
/* For lines that somebody outside can cause as often as he likes: may there be one more? A few in a while. */
struct rt_log_budget { uint64_t since_100ns; unsigned lines; };
bool rt_may_log(struct rt_log_budget *budget);
/* Such a line, at most so many in a while; the last one says that more are left out. */
void rt_log_some(struct rt_log_budget *budget, unsigned most, enum log_level level, const char *room, const char *fmt,
                 ...)
    PRINTF_LIKE(5, 6);
#define RT_LOG_SOME(most, level, ...)                              \
    do {                                                           \
        static struct rt_log_budget budget_;                       \
        rt_log_some(&budget_, (most), (level), LOG_ROOM, __VA_ARGS__); \
    } while (0)
/* By each place that says it: what goes wrong with a device, and what there is to tell of one that comes or goes. A
 * host may offer and take back devices without end; the largest machines have 128 at once. */
#define log_err_some(...)  RT_LOG_SOME(8, LOG_ERR, __VA_ARGS__)
#define log_warn_some(...) RT_LOG_SOME(8, LOG_WARN, __VA_ARGS__)
#define log_info_some(...) RT_LOG_SOME(128, LOG_INFO, __VA_ARGS__)
/* The timer interrupt's handler (whoever owns the timer) calls this. */
void rt_timer_interrupt(void);

/* Embed it, timer_init it; the links are rt/timer.c's own. */
struct rt_timer {
    struct rt_timer *child, *next, *prev;
    uint64_t deadline_100ns;
    void (*fn)(void *arg);
    void *arg;
    bool armed;
};
void timer_init(struct rt_timer *t, void (*fn)(void *arg), void *arg);
void timer_arm_100ns(struct rt_timer *t, uint64_t deadline_100ns);   /* absolute; re-arming moves it */
void timer_cancel(struct rt_timer *t);

/* ---- events: the way from interrupt to loop ---- */
struct rt_event { struct rt_event *next; void (*fn)(void *arg); void *arg; volatile bool raised; };
#define RT_EVENT_INIT(f, a) {NULL, (f), (a), false}
void event_raise(struct rt_event *e);       /* from anywhere, interrupts included; raising twice runs once */
void event_cancel(struct rt_event *e);      /* not from interrupts: e will not run after this until raised again */

/* ---- tasks ---- */
#define TASK_STACK_DEFAULT 16384
struct task;
/* Runs fn(arg) in a task of its own, later. stack_bytes 0: TASK_STACK_DEFAULT. NULL: no memory. */
struct task *task_spawn(const char *name, void (*fn)(void *arg), void *arg, size_t stack_bytes);
struct task *task_self(void);
const char *task_name(const struct task *t);
bool task_can_block(void);                  /* false in event and timer functions */
void task_yield(void);                      /* lets events and other tasks run once */
void task_sleep_us(uint64_t us);
NORETURN void task_exit(void);              /* also by returning from fn */
/* One line per task: name, state, what it waits for and how long: for limits that expired and for panics. */
void task_dump(void);
/* The task whose stack, or a guard page of whose stack, holds the address; NULL when none. */
const struct task *task_of_stack(vaddr_t address);
/* From now on a panic prints task_dump before the reporters registered earlier run. */
void task_dump_on_panic(void);

/* ---- waiting ---- */
struct wait_queue { struct list waiters; };
#define WAIT_QUEUE_INIT(q) {LIST_INIT((q).waiters)}
void wait_queue_init(struct wait_queue *q);
/* Parks the task until woken or until the deadline. True when woken. what: named in task_dump. */
bool wait_queue_sleep(struct wait_queue *q, uint64_t deadline_100ns, const char *what);
void wait_queue_wake_one(struct wait_queue *q);   /* not from interrupts */
void wait_queue_wake_all(struct wait_queue *q);
/* True when cond came true within limit_us. cond is re-evaluated after each wake. */
#define WAIT_UNTIL(q, cond, limit_us, what) ({                                                             \
    uint64_t wait_limit_ = (limit_us);                                                                     \
    uint64_t wait_end_ = wait_limit_ == RT_FOREVER ? RT_FOREVER : rt_now_100ns() + US_100NS(wait_limit_);  \
    bool wait_ok_;                                                                                         \
    while (!(wait_ok_ = (cond)) && wait_queue_sleep((q), wait_end_, (what)))                               \
        ;                                                                                                  \
    wait_ok_ || (cond); })

/* ---- random numbers for protocols ---- */
/* Fills buf from the generator (ChaCha20, seeded by the CPU's source and what rt_random_seed was given). False when it
 * was never seeded from a real source: the caller must refuse to pretend, or say so. */
bool rt_random(void *buf, size_t bytes);
void rt_random_seed(const void *seed, size_t bytes, const char *source);
bool rt_random_ready(void);

/* ---- configuration: key=value words of the command line, parsed once ---- */
/* Parses text in place of the kernel's own copy. Reports malformed words by name and ignores them. */
void config_parse(const char *text);
/* A room declares what it reads; undeclared keys are reported by config_report_unknown at the end of bring-up. */
const char *config_string(const char *key, const char *fallback);
/* Decimal or 0x; suffix K M G (1024); out of [min,max] or malformed: one line, fallback. */
uint64_t config_number(const char *key, uint64_t fallback, uint64_t min, uint64_t max);
bool config_bool(const char *key, bool fallback);     /* 1 0 yes no on off true false */
void config_report_unknown(void);
