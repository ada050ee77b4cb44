/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ic_text.c: UTF-8 of the tests and the lab to the UTF-16 of the protocol and back. Both directions refuse what
 * is malformed instead of repairing it.
 */
#include "tests/host/ic.h"

#define SURROGATE_HIGH 0xD800u
#define SURROGATE_LOW  0xDC00u
#define SURROGATE_END  0xE000u

/* One character; 0: the end; -1: malformed. */
static int32_t next_utf8(const char **text)
{
    const uint8_t *t = (const uint8_t *)*text;
    static const uint32_t least[4] = {0, 0x80, 0x800, 0x10000};
    uint32_t more = t[0] < 0x80 ? 0 : t[0] >> 5 == 6 ? 1 : t[0] >> 4 == 14 ? 2 : t[0] >> 3 == 30 ? 3 : 4;
    uint32_t c;

    if (more == 4)
        return -1;
    c = more == 0 ? t[0] : t[0] & (0x3Fu >> more);
    for (uint32_t i = 1; i <= more; i++) {
        if ((t[i] & 0xC0) != 0x80)
            return -1;
        c = c << 6 | (t[i] & 0x3F);
    }
    if (c < least[more] || c > 0x10FFFF || (c >= SURROGATE_HIGH && c < SURROGATE_END))
        return -1;
    *text += 1 + more;
    return (int32_t)c;
}

uint32_t ic_to_utf16(const char *text, uint8_t *to, uint32_t max)
{
    uint32_t at = 0;
    int32_t c;

    do {
        uint16_t unit[2];
        uint32_t units = 1;
        c = next_utf8(&text);
        if (c < 0)
            return 0;
        unit[0] = (uint16_t)c;
        if (c >= 0x10000) {
            unit[0] = (uint16_t)(SURROGATE_HIGH + (((uint32_t)c - 0x10000) >> 10));
            unit[1] = (uint16_t)(SURROGATE_LOW + ((uint32_t)c & 0x3FF));
            units = 2;
        }
        if (units * 2 > max - at)
            return 0;
        memcpy(to + at, unit, units * 2);
        at += units * 2;
    } while (c != 0);
    return at;
}

static uint32_t put_utf8(uint8_t *to, uint32_t c)
{
    if (c < 0x80) {
        to[0] = (uint8_t)c;
        return 1;
    }
    if (c < 0x800) {
        to[0] = (uint8_t)(0xC0 | c >> 6);
        to[1] = (uint8_t)(0x80 | (c & 0x3F));
        return 2;
    }
    if (c < 0x10000) {
        to[0] = (uint8_t)(0xE0 | c >> 12);
        to[1] = (uint8_t)(0x80 | (c >> 6 & 0x3F));
        to[2] = (uint8_t)(0x80 | (c & 0x3F));
        return 3;
    }
    to[0] = (uint8_t)(0xF0 | c >> 18);
    to[1] = (uint8_t)(0x80 | (c >> 12 & 0x3F));
    to[2] = (uint8_t)(0x80 | (c >> 6 & 0x3F));
    to[3] = (uint8_t)(0x80 | (c & 0x3F));
    return 4;
}

bool ic_from_utf16(const uint8_t *from, uint32_t bytes, char *to, uint32_t size)
{
    uint32_t at = 0;

    if (bytes < 2 || bytes % 2 != 0)
        return false;
    for (uint32_t i = 0; i < bytes; i += 2) {
        uint8_t out[4];
        uint16_t unit, low = 0;
        uint32_t c, length;
        memcpy(&unit, from + i, 2);
        if ((unit == 0) != (i + 2 == bytes))
            return false;
        c = unit;
        if (unit >= SURROGATE_HIGH && unit < SURROGATE_END) {
            i += 2;
            if (i < bytes)
                memcpy(&low, from + i, 2);
            if (unit >= SURROGATE_LOW || low < SURROGATE_LOW || low >= SURROGATE_END)
                return false;
            c = 0x10000 + ((c - SURROGATE_HIGH) << 10) + (low - SURROGATE_LOW);
        }
        length = put_utf8(out, c);
        if (length > size - at)
            return false;
        memcpy(to + at, out, length);
        at += length;
    }
    return true;
}

bool ic_from_utf16_field(const uint8_t *from, uint32_t max, char *to, uint32_t size)
{
    for (uint32_t bytes = 2; bytes <= max; bytes += 2) {
        if (from[bytes - 2] == 0 && from[bytes - 1] == 0)
            return ic_from_utf16(from, bytes, to, size);
    }
    return false;
}
