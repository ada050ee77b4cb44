/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * host_report.c: what the model says: log lines, traces, and violations with the bytes that were wrong.
 *
 * Everything is built in the one text buffer of struct host; entries are serialised, so it is never shared.
 */
#include "tests/host/host_internal.h"

#define BYTES_SHOWN    64u
#define BYTES_PER_LINE 160u

void host_log(struct host *h, enum host_log_level level, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    kvsnprintf(h->text, sizeof(h->text), fmt, ap);
    va_end(ap);
    h->ops.log(h->ctx, level, h->text);
}

void host_trace_text(struct host *h, enum host_trace category, const char *fmt, ...)
{
    va_list ap;

    if (h->ops.trace == NULL)
        return;
    va_start(ap, fmt);
    kvsnprintf(h->text, sizeof(h->text), fmt, ap);
    va_end(ap);
    h->ops.trace(h->ctx, category, h->text);
}

void host_trace_bytes(struct host *h, const char *what, const void *bytes, uint32_t len)
{
    static const char hex[] = "0123456789abcdef";
    const uint8_t *p = bytes;

    if (!(h->cfg.trace & HOST_TRACE_BYTES) || h->ops.trace == NULL)
        return;
    do {
        size_t at = (size_t)ksnprintf(h->text, sizeof(h->text), "bytes: %s ", what);
        for (unsigned n = 0; n < BYTES_PER_LINE && len > 0; n++, len--, p++) {
            h->text[at++] = hex[*p >> 4];
            h->text[at++] = hex[*p & 15];
        }
        h->text[at] = 0;
        h->ops.trace(h->ctx, HOST_TRACE_BYTES, h->text);
        what = "+";
    } while (len > 0);
}

/* Adds " [01 02 ...]" to the text, as much as fits and is useful. */
static void append_bytes(struct host *h, const uint8_t *bytes, size_t len)
{
    size_t at = strlen(h->text);
    size_t shown = len < BYTES_SHOWN ? len : BYTES_SHOWN;
    const char *hex = "0123456789abcdef";

    if (bytes == NULL || len == 0 || at + 3 * shown + 8 > sizeof(h->text))
        return;
    h->text[at++] = ' ';
    for (size_t i = 0; i < shown; i++) {
        h->text[at++] = i == 0 ? '[' : ' ';
        h->text[at++] = hex[bytes[i] >> 4];
        h->text[at++] = hex[bytes[i] & 15];
    }
    if (shown < len) {
        memcpy(&h->text[at], " ..", 3);
        at += 3;
    }
    h->text[at++] = ']';
    h->text[at] = 0;
}

void host_violation(struct host *h, const void *bytes, size_t len, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    kvsnprintf(h->text, sizeof(h->text), fmt, ap);
    va_end(ap);
    append_bytes(h, bytes, len);
    h->counters.violations++;
    h->ops.violation(h->ctx, h->text);
}

void host_strict(struct host *h, const void *bytes, size_t len, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    kvsnprintf(h->text, sizeof(h->text), fmt, ap);
    va_end(ap);
    append_bytes(h, bytes, len);
    if (h->cfg.strict) {
        h->counters.violations++;
        h->ops.violation(h->ctx, h->text);
    } else {
        h->ops.log(h->ctx, HOST_LOG_WARN, h->text);
    }
}
