/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Formatted printing into a buffer. No floating point, no %n. An unknown conversion is printed as it stands, so that
 * the mistake shows. The returned length is the one the whole text would have had.
 */
#include <limits.h>
#include <string.h>
#include "lib/lib.h"

struct output { char *buf; size_t size; size_t length; };

static void put(struct output *out, char c)
{
    if (out->length + 1 < out->size)
        out->buf[out->length] = c;
    out->length++;
}

static void put_repeated(struct output *out, char c, int n)
{
    for (; n > 0; n--)
        put(out, c);
}

enum flag { LEFT = 1, PLUS = 2, SPACE = 4, ALTERNATE = 8, ZERO = 16 };

struct spec { unsigned flags; int width; int precision; /* -1: none */ };

static void put_text(struct output *out, const struct spec *s, const char *text, size_t n)
{
    int pad = s->width > (int)n ? s->width - (int)n : 0;
    if (!(s->flags & LEFT))
        put_repeated(out, ' ', pad);
    for (size_t i = 0; i < n; i++)
        put(out, text[i]);
    if (s->flags & LEFT)
        put_repeated(out, ' ', pad);
}

/* prefix: sign or "0x"; its letters count in the width and come before padding zeros. */
static void put_number(struct output *out, const struct spec *s, uint64_t value, unsigned base, bool upper,
                       const char *prefix)
{
    const char *digits = upper ? "0123456789ABCDEF" : "0123456789abcdef";
    char text[24];
    int n = 0, zeros, pad, prefix_length = (int)strlen(prefix);
    while (value != 0) {
        text[n++] = digits[value % base];
        value /= base;
    }
    if (n == 0 && s->precision != 0)
        text[n++] = '0';
    zeros = s->precision > n ? s->precision - n : 0;
    pad = s->width - n - zeros - prefix_length;
    if (s->precision < 0 && (s->flags & ZERO) && !(s->flags & LEFT) && pad > 0) {
        zeros = pad;
        pad = 0;
    }
    if (!(s->flags & LEFT))
        put_repeated(out, ' ', pad);
    for (int i = 0; i < prefix_length; i++)
        put(out, prefix[i]);
    put_repeated(out, '0', zeros);
    while (n > 0)
        put(out, text[--n]);
    if (s->flags & LEFT)
        put_repeated(out, ' ', pad);
}

enum length { LENGTH_CHAR, LENGTH_SHORT, LENGTH_INT, LENGTH_LONG };   /* long, long long, size_t ...: all 64 bits */

static enum length parse_length(const char **fmt)
{
    enum length length = LENGTH_INT;
    for (;; (*fmt)++) {
        switch (**fmt) {
        case 'h':
            length = length == LENGTH_SHORT ? LENGTH_CHAR : LENGTH_SHORT;
            break;
        case 'l': case 'z': case 't': case 'j':
            length = LENGTH_LONG;
            break;
        default:
            return length;
        }
    }
}

static unsigned parse_flags(const char **fmt)
{
    static const char letters[] = "-+ #0";
    unsigned flags = 0;
    for (const char *found; **fmt != '\0' && (found = strchr(letters, **fmt)) != NULL; (*fmt)++)
        flags |= 1u << (found - letters);
    return flags;
}

static int parse_decimal(const char **fmt)
{
    int value = 0;
    for (; **fmt >= '0' && **fmt <= '9'; (*fmt)++)
        value = value > INT_MAX / 16 ? value : value * 10 + (**fmt - '0');
    return value;
}

static const char *sign_of(const struct spec *s, bool negative)
{
    if (negative)
        return "-";
    return s->flags & PLUS ? "+" : s->flags & SPACE ? " " : "";
}

int kvsnprintf(char *buf, size_t size, const char *fmt, va_list args)
{
    struct output out = {buf, size, 0};
    va_list ap;
    va_copy(ap, args);
    while (*fmt != '\0') {
        const char *start = fmt;
        struct spec s = {0, 0, -1};
        enum length length;
        if (*fmt != '%') {
            put(&out, *fmt++);
            continue;
        }
        fmt++;
        s.flags = parse_flags(&fmt);
        if (*fmt == '*') {
            fmt++;
            s.width = va_arg(ap, int);
            if (s.width < 0) {
                s.flags |= LEFT;
                s.width = s.width == INT_MIN ? 0 : -s.width;
            }
        } else {
            s.width = parse_decimal(&fmt);
        }
        if (*fmt == '.') {
            fmt++;
            if (*fmt == '*') {
                fmt++;
                s.precision = va_arg(ap, int);
            } else {
                s.precision = parse_decimal(&fmt);
            }
        }
        length = parse_length(&fmt);
        switch (*fmt++) {
        case '%':
            put(&out, '%');
            break;
        case 'c': {
            char c = (char)va_arg(ap, int);
            put_text(&out, &s, &c, 1);
            break;
        }
        case 's': {
            const char *text = va_arg(ap, const char *);
            if (text == NULL)
                text = "(null)";
            put_text(&out, &s, text, s.precision >= 0 ? strnlen(text, (size_t)s.precision) : strlen(text));
            break;
        }
        case 'd': case 'i': {
            int64_t v = length == LENGTH_LONG ? va_arg(ap, int64_t) : va_arg(ap, int);
            v = length == LENGTH_CHAR ? (signed char)v : length == LENGTH_SHORT ? (short)v : v;
            put_number(&out, &s, v < 0 ? 0 - (uint64_t)v : (uint64_t)v, 10, false, sign_of(&s, v < 0));
            break;
        }
        case 'u': case 'x': case 'X': {
            uint64_t v = length == LENGTH_LONG ? va_arg(ap, uint64_t) : va_arg(ap, unsigned);
            bool hex = fmt[-1] != 'u', upper = fmt[-1] == 'X';
            v = length == LENGTH_CHAR ? (uint8_t)v : length == LENGTH_SHORT ? (uint16_t)v : v;
            put_number(&out, &s, v, hex ? 16 : 10, upper,
                       hex && (s.flags & ALTERNATE) && v != 0 ? (upper ? "0X" : "0x") : "");
            break;
        }
        case 'p':
            put_number(&out, &s, (uint64_t)(uintptr_t)va_arg(ap, void *), 16, false, "0x");
            break;
        default:
            if (fmt[-1] == '\0')
                fmt--;
            for (; start < fmt; start++)
                put(&out, *start);
            break;
        }
    }
    va_end(ap);
    if (size > 0)
        buf[MIN(out.length, size - 1)] = '\0';
    return out.length > INT_MAX ? INT_MAX : (int)out.length;
}

int ksnprintf(char *buf, size_t size, const char *fmt, ...)
{
    va_list ap;
    int length;
    va_start(ap, fmt);
    length = kvsnprintf(buf, size, fmt, ap);
    va_end(ap);
    return length;
}
