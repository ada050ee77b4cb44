/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The ground floor: what every room may use and what depends on nothing.
 *
 * Strings and memory are the C standard's names (lib/include/string.h); here are the small
 * helpers, formatted printing, the log and the panic path.
 *
 * Failures are of three classes (design.md, section 12):
 *   our own mistake        -> KASSERT, which ends in panic()
 *   the host's, operator's -> log_warn/log_err and an error return; the system goes on
 *   hopeless               -> panic()
 */
#pragma once
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "lib/addr.h"
#include "lib/errno.h"

#define ARRAY_SIZE(a)     (sizeof(a) / sizeof((a)[0]))
#define BIT(n)            (1ull << (n))
#define MIN(a, b)         ({ __typeof__(a) a_ = (a); __typeof__(b) b_ = (b); a_ < b_ ? a_ : b_; })
#define MAX(a, b)         ({ __typeof__(a) a_ = (a); __typeof__(b) b_ = (b); a_ > b_ ? a_ : b_; })
/* n must be a power of two; the result wraps to 0 when v is within n of the type's end. */
#define ALIGN_DOWN(v, n)  ((v) & ~((__typeof__(v))(n) - 1))
#define ALIGN_UP(v, n)    ALIGN_DOWN((v) + ((__typeof__(v))(n) - 1), n)
#define IS_ALIGNED(v, n)  (((v) & ((__typeof__(v))(n) - 1)) == 0)
#define DIV_UP(a, b)      (((a) + (b) - 1) / (b))
#define container_of(p, type, member) ((type *)((char *)(p) - offsetof(type, member)))
#define PRINTF_LIKE(f, a) __attribute__((format(printf, f, a)))
#define NORETURN          __attribute__((noreturn))
#define UNUSED            __attribute__((unused))

/* Copies from memory that another may write meanwhile: what is checked afterwards is the copy, and the compiler must
 * not read the original again in its stead. */
static inline void copy_once(void *to, const void *from, size_t bytes)
{
    __builtin_memcpy(to, from, bytes);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
}

/*
 * Formatted printing: %c %s %d %i %u %x %X %p %% with flags "-0+# ", width, precision (also '*') and the
 * lengths hh h l ll z t j. Returns the length the whole text would have; always terminates when size > 0.
 */
int ksnprintf(char *buf, size_t size, const char *fmt, ...) PRINTF_LIKE(3, 4);
int kvsnprintf(char *buf, size_t size, const char *fmt, va_list ap) PRINTF_LIKE(3, 0);

/* ---- log ---- */
enum log_level { LOG_ERR, LOG_WARN, LOG_INFO, LOG_DEBUG, LOG_TRACE };

/* A sink gets finished text (lines end in "\n"); it must not allocate, sleep or log. */
struct log_sink {
    void (*write)(struct log_sink *sink, const char *text, size_t bytes);
    struct log_sink *next;
};
void log_add_sink(struct log_sink *sink);
void log_remove_sink(struct log_sink *sink);
void log_set_level(enum log_level level);
enum log_level log_get_level(void);
bool log_parse_level(const char *word, enum log_level *level);  /* "err" "warn" "info" "debug" "trace" or 0..4 */
/* Time stamp source in microseconds since boot; NULL (the start) prints no stamp. */
void log_set_clock(uint64_t (*now_us)(void));
/* One line "[    0.001234] room: text"; the newline is added. The newest 16 KiB stay in a ring for late sinks. */
void log_line(enum log_level level, const char *room, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* Text without level, stamp or newline, to every sink: panics and applications' own output. */
void log_raw(const char *text, size_t bytes);
void kprintf(const char *fmt, ...) PRINTF_LIKE(1, 2);
/* Copies the newest whole lines of the ring, at most max bytes, without a NUL; returns their number. */
size_t log_tail(char *buf, size_t max);

/* A .c file that logs defines LOG_ROOM before including anything. */
#ifndef LOG_ROOM
#define LOG_ROOM "candela"
#endif
#define log_err(...)   log_line(LOG_ERR, LOG_ROOM, __VA_ARGS__)
#define log_warn(...)  log_line(LOG_WARN, LOG_ROOM, __VA_ARGS__)
#define log_info(...)  log_line(LOG_INFO, LOG_ROOM, __VA_ARGS__)
#define log_debug(...) log_line(LOG_DEBUG, LOG_ROOM, __VA_ARGS__)

/* ---- panic ---- */
/*
 * The one panic path. Prints the text and a backtrace on every sink, then calls the reporters (the hypervisor's
 * crash report) newest first, then stops or restarts the machine. Uses no heap, takes no lock; a panic inside a
 * panic prints one line and halts.
 */
struct panic_report {
    uint64_t params[5];       /* P0 class (0x43414E44xx), P1 guest OS id (filled by hv), P2 ip, P3 detail, P4 sp */
    const char *text;         /* message and backtrace as printed, then the newest lines of the log before it */
    size_t text_bytes;
};
struct panic_reporter {
    void (*report)(struct panic_report *report);
    struct panic_reporter *next;
};
void panic_add_reporter(struct panic_reporter *reporter);
/* What of the machine a panic needs: nothing here may fail, allocate or wait. The architecture fills it before anything
 * else of its own; until then a panic prints and stands still. */
struct panic_machine {
    void (*irq_disable)(void);
    unsigned (*backtrace)(uint64_t frame, uint64_t *pcs, unsigned max);   /* arch_backtrace */
    /* Where the function at ip returns to, when it has no frame of its own; 0: it has one, or that can't be told. */
    uint64_t (*frameless_caller)(uint64_t ip, uint64_t sp);
    void (*halt)(void);                                                   /* does not return */
};
void panic_set_machine(const struct panic_machine *machine);
/* What happens after the report: called last; must not return. Default: the machine's halt. */
void panic_set_end(void (*end)(void));
NORETURN void panic(const char *fmt, ...) PRINTF_LIKE(1, 2);
/* For exceptions: the registers were printed already; ip/sp/detail go into the report, the trace starts at frame. */
NORETURN void panic_at(uint64_t ip, uint64_t sp, uint64_t frame, uint64_t detail, const char *fmt, ...)
    PRINTF_LIKE(5, 6);

#define KASSERT(c) \
    do { if (__builtin_expect(!(c), 0)) panic("assertion failed: %s (%s:%d)", #c, __FILE__, __LINE__); } while (0)

/* ---- symbols: the table that the link step puts into the image; empty in a first-stage link and hosted ---- */
/* Name of the function that holds addr, or NULL; *offset is the distance from its start. */
const char *symbol_find(uint64_t addr, uint64_t *offset);
