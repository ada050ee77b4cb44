/* SPDX-License-Identifier: BSD-2-Clause */
/* UTF-16, little-endian and unaligned, as hosts write text, to and from UTF-8. */
#pragma once
#include <stddef.h>
#include <stdint.h>

/*
 * Reads at most bytes (of which an odd last one is not looked at), up to a zero word when there is one, and writes
 * UTF-8 with its zero. Returns the bytes written without the zero, or -E_INVAL: half of a pair stands alone;
 * -E_RANGE: it doesn't fit in room.
 */
int utf8_from_utf16(char *to, size_t room, const uint8_t *from, size_t bytes);
/* Writes UTF-16 with its zero word. Returns the bytes written, the zero word included, or -E_INVAL: not UTF-8;
 * -E_RANGE. */
int utf16_from_utf8(uint8_t *to, size_t room, const char *from);
/* How many bytes that would write, or -E_INVAL. */
int utf16_bytes(const char *from);
