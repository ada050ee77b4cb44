/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Cooperative tasks and the event loop.
 *
 * There is no loop task: a task that blocks runs the loop itself, on its own stack, until some task is ready. When that
 * is the same task, it just returns; otherwise there is exactly one switch. A task that ends runs the loop a last time;
 * whoever comes next frees it.
 *
 * One turn of the loop: all raised events, due timers, one ready task; nothing of it: idle. The test before idling is
 * made with interrupts off, and arch_idle lets in what is pending, so no wake-up is lost.
 */
#define LOG_ROOM "rt"
#include <string.h>
#include "rt/internal.h"

#define STACK_MIN_BYTES   8192             /* any task's stack may carry event functions and an interrupt */
#ifdef CANDELA_HOSTED
#define STACK_FACTOR      8                /* sanitized frames are larger, and the model of the host runs on them too */
#else
#define STACK_FACTOR      1
#endif
#define STACK_CACHED_BYTES ((size_t)TASK_STACK_DEFAULT * STACK_FACTOR)
#define STACK_CACHE_MAX   8
#define ROUNDS_PER_CLOCK  32               /* a loop that never idles looks at the clock every so many turns */

struct task *task_current;
static struct task boot_task;
struct list task_ready_queue = LIST_INIT(task_ready_queue);
static struct list all_tasks = LIST_INIT(all_tasks);
static struct task *ended;                 /* to be freed by the next task that runs */
static bool in_loop;
static struct list stack_cache = LIST_INIT(stack_cache);
static unsigned stack_cache_count;

/* ---- stacks: the node of a cached one lies at its lowest address ---- */

static void *task_stack_get(size_t bytes)
{
    struct list *cached = bytes == STACK_CACHED_BYTES ? list_pop_front(&stack_cache) : NULL;
    if (!cached)
        return stack_alloc(bytes);
    stack_cache_count--;
    return cached;
}

static void task_stack_put(void *stack, size_t bytes)
{
    if (bytes != STACK_CACHED_BYTES || stack_cache_count >= STACK_CACHE_MAX) {
        stack_free(stack, bytes);
        return;
    }
    list_push_front(&stack_cache, (struct list *)stack);
    stack_cache_count++;
}

/* ---- the loop ---- */

static void free_ended(void)
{
    struct task *t = ended;
    ended = NULL;
    if (t->stack) {
        task_stack_put(t->stack, t->stack_bytes);
        kfree(t);
    }
}

static void idle(void)
{
    timers_run();
    if (events_pending || !list_empty(&task_ready_queue))
        return;
    timers_program();
    uint64_t irq = arch_irq_save();
    if (!events_pending && !timer_fired)
        arch_idle();
    arch_irq_restore(irq);
}

void task_schedule(void)
{
    static unsigned rounds;
    struct task *self = task_current;
    KASSERT(!in_loop);
    in_loop = true;
    for (;;) {
        if (events_pending)
            events_run();
        if (timer_fired || ++rounds % ROUNDS_PER_CLOCK == 0)
            timers_run();
        if (!list_empty(&task_ready_queue))
            break;
        if (!events_pending)
            idle();
    }
    in_loop = false;
    struct task *next = list_entry(list_pop_front(&task_ready_queue), struct task, node);
    next->state = TASK_RUNNING;
    if (next == self)
        return;
    task_current = next;
    arch_context_switch(&self->context, &next->context);
    if (ended)
        free_ended();
}

/* ---- the interface ---- */

void rt_init(void)
{
    boot_task = (struct task){.state = TASK_RUNNING, .name = "main"};
    list_init(&boot_task.node);
    timer_init(&boot_task.timer, task_limit_expired, &boot_task);
    list_push_back(&all_tasks, &boot_task.all);
    task_current = &boot_task;
    machine_init();
}

static void task_main(void *arg)
{
    struct task *t = arg;
    KASSERT(IS_ALIGNED((uintptr_t)__builtin_frame_address(0), 16));     /* as both ABIs have it */
    if (ended)
        free_ended();
    t->fn(t->arg);
    task_exit();
}

struct task *task_spawn(const char *name, void (*fn)(void *arg), void *arg, size_t stack_bytes)
{
    size_t bytes = STACK_FACTOR * MAX(stack_bytes ? ALIGN_UP(stack_bytes, PAGE_BYTES) : TASK_STACK_DEFAULT,
                                      (size_t)STACK_MIN_BYTES);
    struct task *t = kzalloc(sizeof(*t));
    void *stack = t ? task_stack_get(bytes) : NULL;
    if (!stack) {
        kfree(t);
        return NULL;
    }
    ksnprintf(t->name, sizeof(t->name), "%s", name);
    t->fn = fn;
    t->arg = arg;
    t->stack = stack;
    t->stack_bytes = bytes;
    t->state = TASK_SLEEPING;
    list_init(&t->node);
    timer_init(&t->timer, task_limit_expired, t);
    arch_context_init(&t->context, (char *)stack + bytes, task_main, t);
    list_push_back(&all_tasks, &t->all);
    task_make_ready(t);
    return t;
}

struct task *task_self(void) { return task_current; }
const char *task_name(const struct task *t) { return t->name; }
bool task_can_block(void) { return task_current != NULL && !in_loop; }

void task_yield(void)
{
    KASSERT(task_can_block());
    task_make_ready(task_current);
    task_schedule();
}

void task_exit(void)
{
    struct task *self = task_current;
    KASSERT(task_can_block() && ended == NULL);
    list_remove(&self->all);
    self->state = TASK_DEAD;
    ended = self;
    task_schedule();
    panic("task %s went on after its end", self->name);
}

/* ---- dumps ---- */

static void dump_one(const struct task *t, uint64_t now)
{
    static const char *const states[] = {"running", "ready", "waiting", "sleeping", "ended"};
    bool waits = t->state == TASK_WAITING || t->state == TASK_SLEEPING;
    uint64_t for_ms = now > t->since_100ns ? (now - t->since_100ns) / 10000 : 0;
    kprintf("  task %-16s %-8s", t->name, states[t->state]);
    if (waits)
        kprintf(" for %s since %llu ms", t->what ? t->what : "its time", (unsigned long long)for_ms);
    if (waits && t->timer.armed)
        kprintf(", at most %lld ms more", (long long)(t->timer.deadline_100ns - now) / 10000);
    if (t->stack)
        kprintf(", stack %p-%p", t->stack, (void *)((char *)t->stack + t->stack_bytes));
    kprintf("\n");
}

void task_dump(void)
{
    uint64_t now = rt_now_100ns();
    list_for_each(node, &all_tasks)
        dump_one(list_entry(node, struct task, all), now);
}

const struct task *task_of_stack(vaddr_t address)
{
    list_for_each(node, &all_tasks) {
        const struct task *t = list_entry(node, struct task, all);
        if (t->stack && address.v - (va_of(t->stack).v - PAGE_BYTES) < t->stack_bytes + 2 * PAGE_BYTES)
            return t;
    }
    return NULL;
}

static void report_tasks(struct panic_report *report)
{
    (void)report;
    if (task_current)
        kprintf("%s %s; tasks:\n", in_loop ? "in the event loop, run by task" : "in task", task_current->name);
    task_dump();
}

void task_dump_on_panic(void)
{
    static struct panic_reporter reporter = {.report = report_tasks};
    static bool done;
    if (!done)
        panic_add_reporter(&reporter);
    done = true;
}
