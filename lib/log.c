/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The log: finished lines go into a ring and to every sink at once; a sink that comes late gets the ring first.
 *
 * No lock: one CPU runs at a time, and an interrupt handler that logs between two instructions of a task's line may mix
 * the two lines in the ring but can break nothing, because every index is reduced when used.
 */
#include <string.h>
#include "lib/lib.h"

#define LOG_RING_BYTES 16384
#define LOG_LINE_BYTES 512

static char ring[LOG_RING_BYTES];
static uint64_t ring_end;                     /* bytes ever written */
static struct log_sink *sinks;
static enum log_level threshold = LOG_INFO;
static uint64_t (*clock_us)(void);

void log_raw(const char *text, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        ring[ring_end++ % LOG_RING_BYTES] = text[i];
    for (struct log_sink *s = sinks; s != NULL; s = s->next)
        s->write(s, text, bytes);
}

/* Where the oldest whole line among the newest max bytes begins. */
static uint64_t tail_start(uint64_t max)
{
    uint64_t start = ring_end > max ? ring_end - max : 0;
    if (start == 0)
        return 0;
    while (start < ring_end && ring[start % LOG_RING_BYTES] != '\n')
        start++;
    return MIN(start + 1, ring_end);
}

size_t log_tail(char *buf, size_t max)
{
    size_t n = 0;
    for (uint64_t at = tail_start(MIN(max, (size_t)LOG_RING_BYTES)); at < ring_end; at++)
        buf[n++] = ring[at % LOG_RING_BYTES];
    return n;
}

void log_add_sink(struct log_sink *sink)
{
    uint64_t start = tail_start(LOG_RING_BYTES);
    while (start < ring_end) {
        uint64_t at = start % LOG_RING_BYTES, n = MIN(ring_end - start, LOG_RING_BYTES - at);
        sink->write(sink, ring + at, n);
        start += n;
    }
    sink->next = sinks;
    sinks = sink;
}

void log_remove_sink(struct log_sink *sink)
{
    for (struct log_sink **p = &sinks; *p != NULL; p = &(*p)->next) {
        if (*p == sink) {
            *p = sink->next;
            return;
        }
    }
}

void log_set_level(enum log_level level) { threshold = level; }
enum log_level log_get_level(void) { return threshold; }
void log_set_clock(uint64_t (*now_us)(void)) { clock_us = now_us; }

bool log_parse_level(const char *word, enum log_level *level)
{
    static const char *const names[] = {"err", "warn", "info", "debug", "trace"};
    for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
        if (strcmp(word, names[i]) == 0 || (word[0] == (char)('0' + i) && word[1] == '\0')) {
            *level = (enum log_level)i;
            return true;
        }
    }
    return false;
}

void log_line(enum log_level level, const char *room, const char *fmt, ...)
{
    static const char *const marks[] = {"error: ", "warning: ", "", "", ""};
    char line[LOG_LINE_BYTES];
    size_t n = 0;
    va_list ap;
    if (level > threshold)
        return;
    if (clock_us != NULL) {
        uint64_t us = clock_us();
        n = (size_t)ksnprintf(line, sizeof line, "[%5u.%06u] ", (unsigned)(us / 1000000), (unsigned)(us % 1000000));
    }
    n += (size_t)ksnprintf(line + n, sizeof line - n, "%.32s: %s", room, level <= LOG_TRACE ? marks[level] : "");
    va_start(ap, fmt);
    n += (size_t)kvsnprintf(line + n, sizeof line - n, fmt, ap);
    va_end(ap);
    if (n > sizeof line - 2) {      /* longer than a line: end it visibly */
        n = sizeof line - 2;
        memcpy(line + n - 3, "...", 3);
    }
    line[n++] = '\n';
    log_raw(line, n);
}

void kprintf(const char *fmt, ...)
{
    char text[LOG_LINE_BYTES];
    va_list ap;
    int n;
    va_start(ap, fmt);
    n = kvsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    log_raw(text, MIN((size_t)n, sizeof text - 1));
}
