/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * selftest=NAME on the command line breaks something on purpose, so that the ways a kernel dies can be watched and
 * tested: what is printed, what the hypervisor is told, how the machine ends (panic=).
 */
#define LOG_ROOM "boot"
#include <string.h>
#include "boot/selftest.h"
#include "mm/mm.h"
#include "rt/rt.h"

#define FAR_EDGE_BYTES 192u
static volatile uint64_t nowhere = 16;
static const uint32_t constant = 1;

static void assertion(void *arg) { KASSERT(arg != NULL); }
static void null_read(void *arg) { (void)arg; (void)*(volatile uint32_t *)(uintptr_t)nowhere; }
static void write_constant(void *arg) { (void)arg; *(volatile uint32_t *)(uintptr_t)&constant = 2; }
static void undefined(void *arg) { (void)arg; __builtin_trap(); }

static void execute_data(void *arg)
{
    static volatile uint8_t code[16];
    (void)arg;
    ((void (*)(void))(uintptr_t)code)();
}

static uint64_t deeper(uint64_t n)
{
    volatile uint64_t frame[32];
    frame[n % ARRAY_SIZE(frame)] = n;
    return n == UINT64_MAX ? 0 : deeper(n + 1) + frame[n % ARRAY_SIZE(frame)];
}
static void overflow(void *arg) { (void)arg; nowhere = deeper(0); }

/* One frame that goes past the end of the task's stack and a little less than a page further: to the far edge of the
 * guard, where part of what an exception would push lies in memory that is somebody else's. */
static void far_edge(void *arg)
{
    uint64_t here = arch_frame_pointer(), edge = here & ~PAGE_MASK;
    paddr_t phys;
    (void)arg;
    while (map_lookup(&kernel_space, va(edge), &phys, NULL, NULL))
        edge -= PAGE_BYTES;
    volatile char *frame = __builtin_alloca(here - edge - FAR_EDGE_BYTES);
    frame[0] = 1;
}

static void in_a_task(void *arg)
{
    (void)arg;
    overflow(NULL);
}

static void overflow_task(void *arg)
{
    (void)arg;
    if (task_spawn("selftest", in_a_task, NULL, 0) == NULL)
        panic("no memory for the self test's task");
    for (;;)
        task_yield();
}

static void in_an_interrupt(void *arg)
{
    (void)arg;
    panic("an interrupt handler gives up");
}

/* Whichever timer the clock has chosen. */
static void interrupted(void *arg)
{
    (void)arg;
    arch_irq_set_handler(ARCH_IRQ_STIMER, in_an_interrupt, NULL);
    arch_irq_set_handler(ARCH_IRQ_TIMER, in_an_interrupt, NULL);
    task_sleep_us(10000);
}

/* A reporter that panics, or overflows the stack it runs on, must cost the others nothing. */
static void report_badly(struct panic_report *report) { KASSERT(report == NULL); }
static void report_deeply(struct panic_report *report) { overflow(report); }

static void bad_reporter(void *arg)
{
    static struct panic_reporter reporter = {.report = report_badly};
    (void)arg;
    panic_add_reporter(&reporter);
    panic("a reporter that fails comes next");
}

static void overflow_interrupt_stack(void *arg)
{
    static struct panic_reporter reporter = {.report = report_deeply};
    panic_add_reporter(&reporter);
    overflow(arg);
}

/* A console that faults: nothing can be said any more, but the hypervisor is told and the machine ends. */
static bool console_is_broken;
static void write_nowhere(struct log_sink *sink UNUSED, const char *text UNUSED, size_t bytes UNUSED)
{
    if (console_is_broken)
        null_read(NULL);
}

static void bad_console(void *arg UNUSED)
{
    static struct log_sink console = {.write = write_nowhere};
    log_add_sink(&console);
    console_is_broken = true;
    log_info("the console faults");
}

void selftest_run(const char *name)
{
    static const struct { const char *name; void (*fn)(void *arg); } tests[] = {
        {"assert", assertion}, {"null", null_read}, {"write-constant", write_constant}, {"undefined", undefined},
        {"execute-data", execute_data}, {"boot-stack", overflow}, {"task-stack", overflow_task},
        {"far-edge", far_edge}, {"interrupt", interrupted}, {"reporter", bad_reporter},
        {"interrupt-stack", overflow_interrupt_stack}, {"console", bad_console},
    };
    if (strcmp(name, "memory") == 0) {
        selftest_memory();
        return;
    }
    if (strcmp(name, "interrupts") == 0) {
        selftest_interrupts();
        return;
    }
    if (strcmp(name, "copies") == 0) {
        selftest_copies();
        return;
    }
    for (unsigned i = 0; i < ARRAY_SIZE(tests); i++) {
        if (strcmp(name, tests[i].name) == 0) {
            log_info("self test %s: about to fail on purpose", name);
            tests[i].fn(NULL);
            log_err("self test %s: nothing happened", name);
            return;
        }
    }
    log_warn("selftest=%s is unknown", name);
}
