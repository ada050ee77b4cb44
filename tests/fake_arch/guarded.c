/* SPDX-License-Identifier: BSD-2-Clause */
/* See guarded.h. Counts who has a page open, for reading and for writing; the protection follows. */
#define _GNU_SOURCE
#include "tests/fake_arch/guarded.h"
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#define VIEW_BASE  0x380000000000ull
#define PAGE       4096ull
#define NO_RESERVE (MAP_NORESERVE | MAP_FIXED_NOREPLACE)

struct users { uint16_t readers, writers; };

static struct users *users;
static uint64_t view_bytes, open_pages;
static bool relaxed, off;

static void die(const char *what)
{
    perror(what);
    abort();
}

void guarded_reset(int file, uint64_t bytes)
{
    if (users) {
        munmap((void *)VIEW_BASE, view_bytes);
        munmap(users, view_bytes / PAGE * sizeof(*users));
    }
    view_bytes = bytes;
    open_pages = 0;
    relaxed = off = false;
    if (mmap((void *)VIEW_BASE, bytes, PROT_NONE, MAP_SHARED | NO_RESERVE, file, 0) == MAP_FAILED)
        die("mmap of the model's view");
    users = mmap(NULL, bytes / PAGE * sizeof(*users), PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (users == MAP_FAILED)
        die("mmap of the users of pages");
}

static int protection(const struct users *u)
{
    return u->writers ? PROT_READ | PROT_WRITE : u->readers ? PROT_READ : PROT_NONE;
}

static void change(uint64_t at, bool write, int by)
{
    struct users *u = &users[at / PAGE];
    int before = protection(u), after;
    uint16_t *count = write ? &u->writers : &u->readers;

    if (at >= view_bytes || (by < 0 && *count == 0)) {
        fprintf(stderr, "guarded memory: %#llx is closed more often than opened\n", (unsigned long long)at);
        abort();
    }
    *count = (uint16_t)(*count + by);
    after = protection(u);
    if (after == before)
        return;
    if (before == PROT_NONE)
        open_pages++;
    else if (after == PROT_NONE)
        open_pages--;
    if (!relaxed && mprotect((void *)(VIEW_BASE + at / PAGE * PAGE), PAGE, after) != 0)
        die("mprotect of a guarded page");
}

void guarded_relax(void)
{
    if (mprotect((void *)VIEW_BASE, view_bytes, PROT_READ | PROT_WRITE) != 0)
        die("mprotect of the model's view");
    relaxed = true;
}

void guarded_off(void)
{
    guarded_relax();
    off = true;
}

void *guarded_open(uint64_t at, bool write)
{
    if (!off)
        change(at, write, 1);
    return (void *)(VIEW_BASE + at);
}

void guarded_close(uint64_t at, bool write)
{
    if (!off)
        change(at, write, -1);
}
bool guarded_is_open(uint64_t at) { return at < view_bytes && protection(&users[at / PAGE]) != PROT_NONE; }
uint64_t guarded_pages(void) { return open_pages; }
