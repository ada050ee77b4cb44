/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * See space.h. An ordinary program reserves windows and region whole, which costs nothing. Under QEMU's user-mode
 * emulation (FAKE_LOW_ADDRESSES) up to version 7.2 every page that is reserved, or given back, costs time and memory;
 * there only chunks that were ever used are known to it.
 */
#define _GNU_SOURCE
#include "tests/fake_arch/space.h"
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "lib/lib.h"
#include "arch_inline.h"

static int file;
void (*fake_space_changed)(uint64_t at, uint64_t bytes, uint64_t offset, int prot);

void space_file(int memory_file) { file = memory_file; }

static void die(const char *what)
{
    perror(what);
    abort();
}

static void map(uint64_t at, uint64_t bytes, uint64_t offset, int prot)
{
    void *p = mmap((void *)at, bytes, prot, MAP_SHARED | MAP_NORESERVE | MAP_FIXED, file, (off_t)offset);
    if (p == MAP_FAILED)
        die("mmap of fake physical memory");
    if (fake_space_changed)
        fake_space_changed(at, bytes, offset, prot);
}

static void protect(uint64_t at, uint64_t bytes, uint64_t offset, int prot)
{
    if (mprotect((void *)at, bytes, prot) != 0)
        die("mprotect of fake physical memory");
    if (fake_space_changed)
        fake_space_changed(at, bytes, offset, prot);
}

#ifndef FAKE_LOW_ADDRESSES

void space_reset(void) {}                        /* windows and regions are reserved anew */
void space_window(uint64_t window, uint64_t bytes) { map(window, bytes, 0, PROT_NONE); }
void space_protect(uint64_t window, uint64_t offset, uint64_t bytes, int prot) { protect(window + offset, bytes, offset, prot); }
void space_region(uint64_t base, uint64_t bytes) { space_close(base, bytes); }
void space_map(uint64_t at, uint64_t bytes, uint64_t offset, int prot) { map(at, bytes, offset, prot); }
void space_close(uint64_t at, uint64_t bytes)
{
    void *p = mmap((void *)at, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    if (p == MAP_FAILED)
        die("mmap of a reservation");
}

#else

#define CHUNK  (2ull << 20)
#define CHUNKS (4 * FAKE_STEP / CHUNK)

static bool used[CHUNKS];                        /* something is mapped there: all of it in a window */

static uint64_t chunk_of(uint64_t at) { return (at - FAKE_BASE) / CHUNK; }

/* The next run of chunks of that kind in *at .. end, cut to them; false: there is none. */
static bool next_run(bool kind, uint64_t *at, uint64_t end, uint64_t *run_end)
{
    uint64_t chunk = chunk_of(*at), last = chunk_of(end - 1);

    while (chunk <= last && used[chunk] != kind)
        chunk++;
    if (*at >= end || chunk > last)
        return false;
    *at = MAX(*at, FAKE_BASE + chunk * CHUNK);
    while (chunk <= last && used[chunk] == kind)
        chunk++;
    *run_end = MIN(end, FAKE_BASE + chunk * CHUNK);
    return true;
}

static void mark(uint64_t at, uint64_t bytes) { memset(&used[chunk_of(at)], 1, chunk_of(at + bytes - 1) - chunk_of(at) + 1); }

void space_reset(void) { space_close(FAKE_BASE, 4 * FAKE_STEP); }

void space_window(uint64_t window, uint64_t bytes) { space_close(window, bytes); }
void space_region(uint64_t base, uint64_t bytes) { space_close(base, bytes); }

void space_protect(uint64_t window, uint64_t offset, uint64_t bytes, int prot)
{
    uint64_t at = window + offset, end = at + bytes, run_end;

    for (; prot != PROT_NONE && next_run(false, &at, end, &run_end); at = run_end) {
        uint64_t first = ALIGN_DOWN(at, CHUNK), whole = ALIGN_UP(run_end, CHUNK) - first;
        map(first, whole, first - window, PROT_NONE);
        mark(first, whole);
    }
    for (at = window + offset; next_run(true, &at, end, &run_end); at = run_end)
        protect(at, run_end - at, at - window, prot);
}

void space_map(uint64_t at, uint64_t bytes, uint64_t offset, int prot)
{
    map(at, bytes, offset, prot);
    mark(at, bytes);
}

void space_close(uint64_t at, uint64_t bytes)
{
    for (uint64_t end = at + bytes, run_end; next_run(true, &at, end, &run_end); at = run_end) {
        munmap((void *)at, run_end - at);
        for (uint64_t c = chunk_of(at); c <= chunk_of(run_end - 1); c++)
            used[c] = FAKE_BASE + c * CHUNK < at || FAKE_BASE + (c + 1) * CHUNK > run_end;
    }
}

#endif
