/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Conversion between UTF-16 and UTF-8. Strict both ways: lone surrogates, overlong forms and values beyond U+10FFFF are
 * refused, so that what was converted converts back to the same bytes. Source: RFC 2781, RFC 3629.
 */
#include "lib/utf16.h"
#include "lib/errno.h"

#define HIGH_FIRST 0xD800u
#define LOW_FIRST  0xDC00u
#define LOW_LAST   0xDFFFu
#define BEYOND     0x10000u          /* first value that needs a pair */
#define LAST       0x10FFFFu

static uint32_t word_at(const uint8_t *p) { return p[0] | (uint32_t)p[1] << 8; }

static size_t utf8_length(uint32_t c) { return c < 0x80 ? 1 : c < 0x800 ? 2 : c < BEYOND ? 3 : 4; }

int utf8_from_utf16(char *to, size_t room, const uint8_t *from, size_t bytes)
{
    size_t used = 0, at = 0;
    while (bytes - at >= 2) {
        uint32_t c = word_at(from + at);
        at += 2;
        if (c == 0)
            break;
        if (c >= HIGH_FIRST && c <= LOW_LAST) {
            uint32_t low = bytes - at >= 2 ? word_at(from + at) : 0;
            if (c >= LOW_FIRST || low < LOW_FIRST || low > LOW_LAST)
                return -E_INVAL;
            at += 2;
            c = BEYOND + ((c - HIGH_FIRST) << 10) + (low - LOW_FIRST);
        }
        size_t n = utf8_length(c);
        if (n >= room - used)
            return -E_RANGE;
        static const uint8_t lead[] = {0, 0x00, 0xC0, 0xE0, 0xF0};
        for (size_t i = n; i-- > 1; c >>= 6)
            to[used + i] = (char)(0x80 | (c & 0x3F));
        to[used] = (char)(lead[n] | c);
        used += n;
    }
    if (room == 0)
        return -E_RANGE;
    to[used] = '\0';
    return (int)used;
}

/* The next character and how many bytes it has, 0: this is not UTF-8. */
static size_t utf8_next(const char *from, uint32_t *value)
{
    const uint8_t *p = (const uint8_t *)from;
    size_t n = p[0] < 0x80 ? 1 : p[0] >> 5 == 6 ? 2 : p[0] >> 4 == 14 ? 3 : p[0] >> 3 == 30 ? 4 : 0;
    if (n == 0)
        return 0;
    uint32_t c = n == 1 ? p[0] : p[0] & (0x7Fu >> n);
    for (size_t i = 1; i < n; i++) {
        if ((p[i] & 0xC0) != 0x80)
            return 0;                /* the end of the text is such a byte, too */
        c = c << 6 | (p[i] & 0x3Fu);
    }
    if (c > LAST || (c >= HIGH_FIRST && c <= LOW_LAST) || utf8_length(c) != n)
        return 0;
    *value = c;
    return n;
}

static void put_word(uint8_t *to, uint32_t word)
{
    to[0] = (uint8_t)word;
    to[1] = (uint8_t)(word >> 8);
}

int utf16_from_utf8(uint8_t *to, size_t room, const char *from)
{
    size_t used = 0;
    for (;;) {
        uint32_t c;
        size_t n = utf8_next(from, &c);
        if (n == 0)
            return -E_INVAL;
        size_t out = c >= BEYOND ? 4 : 2;
        if (out > room - used)
            return -E_RANGE;
        if (c >= BEYOND) {
            put_word(to + used, HIGH_FIRST + ((c - BEYOND) >> 10));
            put_word(to + used + 2, LOW_FIRST + ((c - BEYOND) & 0x3FF));
        } else {
            put_word(to + used, c);
        }
        used += out;
        if (c == 0)
            return (int)used;
        from += n;
    }
}

int utf16_bytes(const char *from)
{
    int bytes = 0;
    for (;;) {
        uint32_t c;
        size_t n = utf8_next(from, &c);
        if (n == 0)
            return -E_INVAL;
        bytes += c >= BEYOND ? 4 : 2;
        if (c == 0)
            return bytes;
        from += n;
    }
}
