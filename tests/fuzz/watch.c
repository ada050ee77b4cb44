/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What is set back only from the first time on that it was written. It is closed when the snapshot is taken; the first
 * write to a page faults, opens that page for good and puts it on the list of what every execution sets back.
 *
 * A page of the machine's memory is seen through several windows: the host's two, the direct map, mappings in the vmap
 * region. All are closed, and a fault in any puts the page on the list. A mapping that is made anew or whose protection
 * changes is no longer ours (fake_space_changed): what can be written through it is on the list from then on, and a fault
 * there is the guest's.
 */
#define _GNU_SOURCE
#include "tests/fuzz/watch.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include "mm/internal.h"
#include "tests/fake_arch/guarded.h"
#include "tests/fake_arch/internal.h"
#include "tests/fake_arch/space.h"

#define RAM_PAGES (RAM_LOOKED >> PAGE_SHIFT)

struct written { char *page, *saved; };

static struct variables { char *at, *end, *saved; } variables[4];
static unsigned variables_count;
static struct written *written;
static size_t written_count, written_room;

enum window { HOST, VIEW, DIRECT, VMAP, WINDOWS };
static const struct { uint64_t base, pages; } windows[WINDOWS] = {
    [HOST] = {FAKE_HOST_BASE, RAM_PAGES}, [VIEW] = {FAKE_VIEW_BASE, RAM_PAGES},
    [DIRECT] = {ARCH_DIRECT_BASE, RAM_PAGES}, [VMAP] = {ARCH_VMAP_BASE, VMAP_LOOKED},
};
static uint8_t *closed[WINDOWS];               /* of each page of a window: by us */
static uint32_t vmap_shows[VMAP_LOOKED];       /* which page a closed one of the vmap region shows */
static char *saved[RAM_PAGES];                 /* what a page held; NULL: not watched */
static uint8_t on_list[RAM_PAGES];
static struct sigaction handler_before;

void watch_variables(char *at, size_t bytes)
{
    /* Whole pages; what lies in the first and last one only partly is set back every time. */
    char *first = (char *)ALIGN_UP((uintptr_t)at, PAGE_BYTES), *end = (char *)ALIGN_DOWN((uintptr_t)at + bytes, PAGE_BYTES);
    size_t whole = (size_t)(end - first);

    snapshot_remember(at, (size_t)(first - at));
    snapshot_remember(end, (size_t)(at + bytes - end));
    variables[variables_count] = (struct variables){first, end, snapshot_fresh(whole)};
    snapshot_copy(variables[variables_count++].saved, first, whole);
    written_room += whole >> PAGE_SHIFT;
}

void watch_page(uint64_t page)
{
    saved[page] = snapshot_fresh(PAGE_BYTES);
    snapshot_copy(saved[page], fake_phys(page << PAGE_SHIFT), PAGE_BYTES);
    written_room++;
}

static void page_written(uint64_t page)
{
    if (page >= RAM_PAGES || !saved[page] || on_list[page])
        return;
    written[written_count++] = (struct written){fake_phys(page << PAGE_SHIFT), saved[page]};
    on_list[page] = 1;
}

static void reopen(char *page)
{
    if (mprotect(page, PAGE_BYTES, PROT_READ | PROT_WRITE) != 0)
        abort();
}

static bool variable_written(char *page)
{
    for (unsigned i = 0; i < variables_count; i++) {
        struct variables *v = &variables[i];
        if (page < v->at || page >= v->end)
            continue;
        written[written_count++] = (struct written){page, v->saved + (page - v->at)};
        return true;
    }
    return false;
}

static bool memory_written(uint64_t address)
{
    for (unsigned w = 0; w < WINDOWS; w++) {
        uint64_t page = (address - windows[w].base) >> PAGE_SHIFT;
        if (address < windows[w].base || page >= windows[w].pages || !closed[w][page])
            continue;
        closed[w][page] = 0;
        page_written(w == VMAP ? vmap_shows[page] : page);
        return true;
    }
    return false;
}

static void on_fault(int number, siginfo_t *info, void *context)
{
    char *page = (char *)ALIGN_DOWN((uintptr_t)info->si_addr, PAGE_BYTES);

    if (variable_written(page) || memory_written((uintptr_t)page))
        reopen(page);
    else
        handler_before.sa_sigaction(number, info, context);
}

static void space_changed(uint64_t at, uint64_t bytes, uint64_t offset, int prot)
{
    for (uint64_t done = 0; done < bytes; done += PAGE_BYTES) {
        for (unsigned w = 0; w < WINDOWS; w++) {
            uint64_t page = (at + done - windows[w].base) >> PAGE_SHIFT;
            if (at + done >= windows[w].base && page < windows[w].pages)
                closed[w][page] = 0;
        }
        if (prot & PROT_WRITE)
            page_written((offset + done) >> PAGE_SHIFT);
    }
}

static bool to_be_closed(enum window w, uint64_t page)
{
    uint64_t address = windows[w].base + (page << PAGE_SHIFT), shows = page;
    unsigned attr = MAP_WRITE;
    paddr_t p;

    if (w == VIEW && page >= guarded_bytes() >> PAGE_SHIFT)
        return false;
    if (w == DIRECT || w == VMAP) {
        if (!map_lookup(&kernel_space, va(address), &p, &attr, NULL))
            return false;
        shows = p.v >> PAGE_SHIFT;
    }
    if (!(attr & MAP_WRITE) || shows >= RAM_PAGES || !saved[shows])
        return false;
    if (w == VMAP)
        vmap_shows[page] = (uint32_t)shows;
    return true;
}

static void close_window(enum window w)
{
    uint64_t pages = windows[w].pages, first = 0;

    for (uint64_t page = 0; page < pages; page++)
        closed[w][page] = to_be_closed(w, page);
    for (uint64_t page = 0; page < pages; page++) {
        if (!closed[w][page])
            continue;
        for (first = page; page < pages && closed[w][page]; page++)
            ;
        if (mprotect((void *)(windows[w].base + (first << PAGE_SHIFT)), (page - first) << PAGE_SHIFT, PROT_READ) != 0)
            abort();
    }
}

/* The hook is a variable that is set back, too: as it is now. */
void watch_begin(void)
{
    for (unsigned w = 0; w < WINDOWS; w++)
        closed[w] = snapshot_fresh(windows[w].pages);
    fake_space_changed = space_changed;
}

void watch_close(void)
{
    struct sigaction ours = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};

    written = snapshot_fresh(written_room * sizeof(*written));
    if (sigaction(SIGSEGV, &ours, &handler_before) != 0)
        abort();
    for (unsigned w = 0; w < WINDOWS; w++)
        close_window(w);
    for (unsigned i = 0; i < variables_count; i++)
        if (mprotect(variables[i].at, (size_t)(variables[i].end - variables[i].at), PROT_READ) != 0)
            abort();
}

size_t watch_bytes(void) { return written_room << PAGE_SHIFT; }

void watch_set_back(void)
{
    for (size_t i = 0; i < written_count; i++)
        snapshot_copy(written[i].page, written[i].saved, PAGE_BYTES);
}

static void same(const char *now, const char *before, size_t bytes, const char *what)
{
    size_t i = 0;

    while (i < bytes && now[i] == before[i])
        i++;
    if (i == bytes)
        return;
    fprintf(stderr, "fuzz: %s at %p is not as it was: something writes past the watch\n", what, (const void *)(now + i));
    abort();
}

void watch_check(void)
{
    for (unsigned i = 0; i < variables_count; i++)
        same(variables[i].at, variables[i].saved, (size_t)(variables[i].end - variables[i].at), "a variable");
    for (uint64_t page = 0; page < RAM_PAGES; page++)
        if (saved[page])
            same(fake_phys(page << PAGE_SHIFT), saved[page], PAGE_BYTES, "memory");
}
