/* SPDX-License-Identifier: BSD-2-Clause */
/* See guarded.h. Counts who has a page open, for reading and for writing; the protection follows. */
#define _GNU_SOURCE
#include "tests/fake_arch/guarded.h"
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include "arch_inline.h"
#include "tests/fake_arch/space.h"

#define PAGE 4096ull

struct users { uint16_t readers, writers; };

static struct users *users;
static uint64_t view_bytes, open_pages;
static bool relaxed, off;

void guarded_reset(int file, uint64_t bytes)
{
    if (users)
        munmap(users, view_bytes / PAGE * sizeof(*users));
    view_bytes = bytes;
    open_pages = 0;
    relaxed = off = false;
    space_file(file);
    space_window(FAKE_VIEW_BASE, bytes);
    users = mmap(NULL, bytes / PAGE * sizeof(*users), PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (users == MAP_FAILED) {
        perror("mmap of the users of pages");
        abort();
    }
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
    if (!relaxed)
        space_protect(FAKE_VIEW_BASE, at / PAGE * PAGE, PAGE, after);
}

void guarded_relax(void)
{
    space_protect(FAKE_VIEW_BASE, 0, view_bytes, PROT_READ | PROT_WRITE);
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
    return (void *)(FAKE_VIEW_BASE + at);
}

void guarded_close(uint64_t at, bool write)
{
    if (!off)
        change(at, write, -1);
}
bool guarded_is_open(uint64_t at) { return at < view_bytes && protection(&users[at / PAGE]) != PROT_NONE; }
uint64_t guarded_pages(void) { return open_pages; }
uint64_t guarded_bytes(void) { return view_bytes; }
