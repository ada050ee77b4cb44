/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * selftest=copies tries memcpy, memmove and memset, which each architecture writes itself, with every small length at
 * every alignment, and some large ones: all bytes that should change did, none around them, and the result is the
 * target. One line tells the result; then the boot goes on.
 */
#define LOG_ROOM "boot"
#include <string.h>
#include "boot/selftest.h"
#include "lib/lib.h"

#define ARENA_BYTES 4096
#define MARGIN      64              /* looked at on both sides of a target */
#define OFFSETS     16
#define MOVE_MOST   80              /* distance between source and target that overlap */

static const size_t large[] = {255, 256, 257, 320, 511, 512, 513, 767, 1000, 1024, 2047};
#define SMALL_MOST  200
#define LENGTHS     (SMALL_MOST + 1 + ARRAY_SIZE(large))

static uint8_t source[ARENA_BYTES], target[ARENA_BYTES];
static unsigned faults, tried;

static size_t length(unsigned i) { return i <= SMALL_MOST ? i : large[i - SMALL_MOST - 1]; }

/* Byte by byte, which no compiler may turn into the very function. */
static uint8_t look(const uint8_t *p) { return *(const volatile uint8_t *)p; }
static void put(uint8_t *p, uint8_t v) { *(volatile uint8_t *)p = v; }

static uint8_t pattern(size_t i) { return (uint8_t)(i * 7 + (i >> 8) * 13 + 1); }

static void wrong(const char *what, size_t n, size_t to, size_t from)
{
    if (faults++ < 8)
        log_err("self test copies: %s of %zu bytes to offset %zu from %zu", what, n, to, from);
}

static void fill(uint8_t *arena, uint8_t (*value)(size_t), size_t start, size_t end)
{
    for (size_t i = start; i < end; i++)
        put(arena + i, value(i));
}
static uint8_t background(size_t i) { return (uint8_t)(0xC3 ^ i); }

static void try_copy(size_t n, size_t to, size_t from)
{
    uint8_t *at = target + MARGIN + to;
    bool right;
    tried++;
    fill(target, background, to, 2 * MARGIN + to + n);
    right = memcpy(at, source + from, n) == at;
    for (size_t i = to; i < 2 * MARGIN + to + n; i++) {
        bool inside = i >= MARGIN + to && i < MARGIN + to + n;
        right = right && look(target + i) == (inside ? pattern(from + i - MARGIN - to) : background(i));
    }
    if (!right)
        wrong("memcpy", n, to, from);
}

static void try_move(size_t n, size_t to, size_t from)
{
    size_t first = MIN(to, from) - MARGIN, last = MAX(to, from) + n + MARGIN;
    bool right;
    tried++;
    fill(target, pattern, first, last);
    right = memmove(target + to, target + from, n) == target + to;
    for (size_t i = first; i < last; i++)
        right = right && look(target + i) == pattern(i >= to && i < to + n ? i - to + from : i);
    if (!right)
        wrong("memmove", n, to, from);
}

static void try_set(size_t n, size_t to, uint8_t value)
{
    uint8_t *at = target + MARGIN + to;
    bool right;
    tried++;
    fill(target, background, to, 2 * MARGIN + to + n);
    right = memset(at, 0x100 | value, n) == at;      /* only the lowest byte counts */
    for (size_t i = to; i < 2 * MARGIN + to + n; i++) {
        bool inside = i >= MARGIN + to && i < MARGIN + to + n;
        right = right && look(target + i) == (inside ? value : background(i));
    }
    if (!right)
        wrong("memset", n, to, value);
}

void selftest_copies(void)
{
    fill(source, pattern, 0, sizeof source);
    for (unsigned i = 0; i < LENGTHS; i++) {
        for (size_t to = 0; to < OFFSETS; to++) {
            try_copy(length(i), to, (to * 5 + i) % OFFSETS);
            try_copy(length(i), to, to);
            try_set(length(i), to * 4 + i % 4, 0);
            try_set(length(i), to, 0xA5);
        }
        for (size_t apart = 0; apart < MOVE_MOST; apart += 1 + apart / 20) {
            try_move(length(i), 2 * MARGIN + i % OFFSETS + apart, 2 * MARGIN + i % OFFSETS);
            try_move(length(i), 2 * MARGIN + i % OFFSETS, 2 * MARGIN + i % OFFSETS + apart);
        }
    }
    log_info("self test copies: %u faults, %u tried", faults, tried);
}
