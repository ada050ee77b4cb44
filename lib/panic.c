/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The one panic path. Everything it needs is static, and each step is marked before it is taken, so that a panic
 * inside a panic goes on with the next step instead of repeating the one that broke.
 *
 * Of the machine it uses only what can't fail: interrupts off, the checked backtrace, halt (struct panic_machine).
 */
#include <string.h>
#include "lib/lib.h"

#define PANIC_CLASS     0x43414E4400ull  /* "CAND", then the kind */
#define PANIC_KIND_OURS 1                /* panic(), failed assertion */
#define PANIC_KIND_TRAP 2                /* exception */
#define PANIC_FRAMES    128             /* recursion is printed once */
#define PANIC_TEXT_BYTES 4096            /* what the hypervisor's crash report takes at most */

static enum { PRINT, REPORT, END, HALT } next_step;
static char text[PANIC_TEXT_BYTES];
static size_t text_bytes;
static struct panic_reporter *reporters, *reporters_left;
static void (*end_action)(void);
static const struct panic_machine *the_machine;

void panic_add_reporter(struct panic_reporter *reporter)
{
    reporter->next = reporters;
    reporters = reporter;
}

void panic_set_end(void (*end)(void)) { end_action = end; }
void panic_set_machine(const struct panic_machine *machine) { the_machine = machine; }

static void append(const char *fmt, ...) PRINTF_LIKE(1, 2);
static void append(const char *fmt, ...)
{
    size_t left = sizeof text - text_bytes;
    va_list ap;
    int n;
    va_start(ap, fmt);
    n = kvsnprintf(text + text_bytes, left, fmt, ap);
    va_end(ap);
    text_bytes += MIN((size_t)n, left - 1);
}

/* call_bytes 1 for a return address: it belongs to the call before it, whose function may end there. */
static void append_address(uint64_t address, unsigned call_bytes)
{
    uint64_t offset;
    const char *name = symbol_find(address - call_bytes, &offset);
    if (name != NULL)
        append("    %016llx %s+0x%llx\n", (unsigned long long)address, name, (unsigned long long)offset + call_bytes);
    else
        append("    %016llx\n", (unsigned long long)address);
}

static void print(uint64_t ip, unsigned ip_is_return, uint64_t caller, uint64_t frame, const char *fmt, va_list ap)
{
    uint64_t pcs[PANIC_FRAMES];
    unsigned n = the_machine != NULL ? the_machine->backtrace(frame, pcs, PANIC_FRAMES) : 0;
    size_t left;
    int length;
    append("panic: ");
    left = sizeof text - text_bytes;
    length = kvsnprintf(text + text_bytes, left, fmt, ap);
    text_bytes += MIN((size_t)length, left - 1);
    append("\nbacktrace:\n");
    append_address(ip, ip_is_return);
    if (caller != 0)
        append_address(caller, 1);
    for (unsigned i = 0, same = 0; i < n; i++) {
        if (pcs[i] == ip)
            continue;
        if (i + 1 < n && pcs[i] == pcs[i + 1]) {
            same++;
            continue;
        }
        append_address(pcs[i], 1);
        if (same != 0)
            append("    the same %u times more\n", same);
        same = 0;
    }
    length = (int)text_bytes;
    /* The hypervisor's report has room for more than the screen needs again: the registers and what came before. */
    append("log:\n");
    text_bytes += log_tail(text + text_bytes, sizeof text - text_bytes);
    log_raw(text, (size_t)length);
}

static NORETURN void panic_common(uint64_t kind, uint64_t ip, uint64_t sp, uint64_t frame, uint64_t detail,
                                  const char *fmt, va_list ap)
{
    static char again[160];
    static bool told;
    static struct panic_report report;
    if (the_machine != NULL)
        the_machine->irq_disable();
    if (next_step == PRINT) {
        bool trap = kind == PANIC_KIND_TRAP;
        next_step = REPORT;
        reporters_left = reporters;
        report = (struct panic_report){{PANIC_CLASS | kind, 0, ip, detail, sp}, text, 0};
        print(ip, !trap, trap && the_machine != NULL ? the_machine->frameless_caller(ip, sp) : 0, frame, fmt, ap);
    } else if (!told) {
        int head = ksnprintf(again, sizeof again, "panic: again, inside the panic: ");
        told = true;
        kvsnprintf(again + head, sizeof again - (size_t)head - 1, fmt, ap);
        log_raw(again, strlen(again));
        log_raw("\n", 1);
    }
    if (next_step == REPORT) {
        report.text_bytes = text_bytes;
        while (reporters_left != NULL) {
            struct panic_reporter *r = reporters_left;
            reporters_left = r->next;
            r->report(&report);
        }
        next_step = END;
    }
    if (next_step == END) {
        next_step = HALT;
        if (end_action != NULL)
            end_action();
    }
    if (the_machine != NULL)
        the_machine->halt();
    for (;;)
        ;
}

void panic(const char *fmt, ...)
{
    uint64_t frame = (uint64_t)(uintptr_t)__builtin_frame_address(0);
    va_list ap;
    va_start(ap, fmt);
    panic_common(PANIC_KIND_OURS, (uint64_t)(uintptr_t)__builtin_return_address(0), frame, frame, 0, fmt, ap);
}

void panic_at(uint64_t ip, uint64_t sp, uint64_t frame, uint64_t detail, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    panic_common(PANIC_KIND_TRAP, ip, sp, frame, detail, fmt, ap);
}
