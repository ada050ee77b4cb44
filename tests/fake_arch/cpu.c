/* SPDX-License-Identifier: BSD-2-Clause */
/* Fake processor: life and death of the machine, contexts, the log kept for tests. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "mm/poison.h"
#include "tests/fake_arch/fake_hv.h"
#include "tests/fake_arch/internal.h"

bool fake_random_available = true;
uint64_t fake_switch_count;
static bool end_expected;
void (*fake_end_hook)(enum fake_exit how);

void fake_arch_reset(uint64_t ram_bytes)
{
    static bool done;
    if (done)
        panic("fake_arch: one machine per process");
    done = true;
    fake_log_reset();
    fake_memory_reset(ram_bytes);
    fake_irq_reset();
}

void fake_arch_boot(uint64_t ram_bytes)
{
    unsigned entries;
    fake_arch_reset(ram_bytes);
    const struct mm_region *map = fake_memory_map(&entries);
    mm_init(map, entries);
    rt_init();
    rt_set_clock(&fake_clock);
    arch_irq_enable();
}

int fake_run_child(void (*fn)(void *arg), void *arg)
{
    int status;
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        end_expected = true;
        signal(SIGSEGV, SIG_DFL);      /* a fault is an answer here, not a report */
        signal(SIGBUS, SIG_DFL);
        fn(arg);
        fflush(NULL);
        _exit(FAKE_RETURNED);
    }
    if (child < 0 || waitpid(child, &status, 0) != child)
        return FAKE_FAILED;
    return WIFEXITED(status) ? WEXITSTATUS(status) : FAKE_SIGNAL + WTERMSIG(status);
}

/* ---- the end ---- */

void arch_cpu_init(void) {}

static NORETURN void end(int code, const char *what)
{
    if (end_expected) {
        fflush(NULL);
        _exit(code);
    }
    if (fake_end_hook && code != FAKE_PANICKED)
        fake_end_hook(code);
    fake_log_dump();
    fprintf(stderr, "fake_arch: the machine %s\n", what);
    fflush(NULL);
    if (code == FAKE_POWERED_OFF || code == FAKE_REBOOTED)
        _exit(code);
    abort();
}

static uint64_t no_caller(uint64_t ip, uint64_t sp)
{
    (void)ip, (void)sp;
    return 0;
}

/* Before main, so that programs which never boot a machine can panic too. */
__attribute__((constructor)) static void set_panic_machine(void)
{
    static const struct panic_machine machine = {arch_irq_disable, arch_backtrace, no_caller, arch_halt};
    panic_set_machine(&machine);
}

void arch_halt(void) { end(FAKE_PANICKED, "halted"); }
void arch_power_off(void) { end(FAKE_POWERED_OFF, "was powered off"); }
void arch_reboot(void) { end(FAKE_REBOOTED, "was rebooted"); }

/* ---- small answers ---- */

/* xorshift64*: the same numbers in every run. */
bool arch_random(uint64_t *value)
{
    static uint64_t state = 0x2545f4914f6cdd1d;
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    *value = state * 0x2545f4914f6cdd1d;
    return fake_random_available;
}

unsigned arch_backtrace(uint64_t frame, uint64_t *pcs, unsigned max)
{
    (void)frame, (void)pcs, (void)max;
    return 0;
}

const char *arch_cpu_model(void) { return "fake processor"; }
void arch_platform_set(const struct arch_platform *platform) { (void)platform; }
void arch_set_device_map(void *(*map)(paddr_t start, uint64_t bytes)) { (void)map; }

/* ---- the log ---- */

#ifndef LOG_KEPT_BYTES
#define LOG_KEPT_BYTES (256u * 1024)
#endif

static char log_text[LOG_KEPT_BYTES];
static size_t log_bytes;

static void keep(struct log_sink *sink, const char *text, size_t bytes)
{
    (void)sink;
    if (getenv("TEST_VERBOSE"))
        fwrite(text, 1, bytes, stderr);
    if (bytes >= sizeof(log_text))
        return;
    if (log_bytes + bytes >= sizeof(log_text)) {       /* the older half goes */
        size_t half = log_bytes / 2;
        memmove(log_text, log_text + half, log_bytes - half);
        log_bytes -= half;
    }
    memcpy(log_text + log_bytes, text, bytes);
    log_bytes += bytes;
    log_text[log_bytes] = '\0';
}

static struct log_sink sink = {.write = keep};

void fake_log_reset(void)
{
    static bool added;
    if (!added)
        log_add_sink(&sink);
    added = true;
    fake_log_clear();
}

void fake_log_clear(void)
{
    log_bytes = 0;
    log_text[0] = '\0';
}

const char *fake_log_text(void) { return log_text; }
bool fake_log_contains(const char *text) { return strstr(log_text, text) != NULL; }
void fake_log_dump(void)
{
    if (!getenv("TEST_VERBOSE"))
        fwrite(log_text, 1, log_bytes, stderr);
}

bool arch_console_init(void) { return true; }
void arch_console_write(const char *text, size_t bytes)
{
    if (getenv("TEST_VERBOSE"))
        fwrite(text, 1, bytes, stderr);
}

/* ---- contexts ---- */

#ifdef __SANITIZE_ADDRESS__
void __sanitizer_start_switch_fiber(void **fake_stack_save, const void *bottom, size_t size);
void __sanitizer_finish_switch_fiber(void *fake_stack_save, const void **bottom_old, size_t *size_old);
#else
static inline void __sanitizer_start_switch_fiber(void **save, const void *bottom, size_t size)
{
    (void)save, (void)bottom, (void)size;
}
static inline void __sanitizer_finish_switch_fiber(void *save, const void **bottom, size_t *size)
{
    (void)save, (void)bottom, (void)size;
}
#endif

/* At the top of a task's stack; the boot stack's is static. */
struct fake_context {
    uint64_t sp;               /* context.S */
    void *fake_stack;
    const void *bottom;
    size_t bytes;
    void (*entry)(void *arg);
    void *arg;
};

/* What fake_switch takes from a new stack: words, all zero but the first and the one that is the return address. */
extern const uint32_t fake_frame_words, fake_frame_return;
void fake_switch(uint64_t *save_sp, uint64_t load_sp);
void fake_start(void);
NORETURN void fake_context_main(struct fake_context *c);

static struct fake_context boot_context;
static struct fake_context *left;      /* the context that the last switch came from */

void fake_context_main(struct fake_context *c)
{
    __sanitizer_finish_switch_fiber(NULL, &left->bottom, &left->bytes);
    c->entry(c->arg);
    panic("a context's entry returned");
}

void arch_context_init(struct arch_context *ctx, void *stack_top, void (*entry)(void *), void *arg)
{
    struct fake_context *c = (struct fake_context *)ALIGN_DOWN((uintptr_t)stack_top - sizeof(*c), 64);
    uint64_t *frame = (uint64_t *)c - fake_frame_words;
    char *bottom = (char *)ALIGN_DOWN((uintptr_t)c, PAGE_BYTES);
    while (map_lookup(&kernel_space, va_of(bottom - PAGE_BYTES), NULL, NULL, NULL))
        bottom -= PAGE_BYTES;
    mem_unpoison(bottom, (size_t)((char *)stack_top - bottom));
    memset(frame, 0, fake_frame_words * sizeof(*frame));
    frame[0] = (uint64_t)c;
    frame[fake_frame_return] = (uint64_t)fake_start;
    *c = (struct fake_context){.sp = (uint64_t)frame, .bottom = bottom, .bytes = (size_t)((char *)c - bottom),
                               .entry = entry, .arg = arg};
    ctx->sp = (uint64_t)c;
}

void arch_context_switch(struct arch_context *from, struct arch_context *to)
{
    if (from->sp == 0)
        from->sp = (uint64_t)&boot_context;
    struct fake_context *f = (struct fake_context *)from->sp, *t = (struct fake_context *)to->sp;
    fake_switch_count++;
    left = f;
    __sanitizer_start_switch_fiber(&f->fake_stack, t->bottom, t->bytes);
    fake_switch(&f->sp, t->sp);
    __sanitizer_finish_switch_fiber(f->fake_stack, NULL, NULL);
}
