/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Pages that the host has taken from the guest (balloon): closed in the direct map, whatever the guest's tables say, so
 * that an access to one is a fault at that instruction; and their content is lost, as on a host.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include "tests/fake_arch/internal.h"
#include "tests/fake_arch/space.h"

#define PAGES (ARCH_DIRECT_BYTES / PAGE_BYTES)

static uint64_t *withdrawn;                      /* bit n of word w: page 64w+n */
static uint64_t withdrawn_count;

void fake_withdrawn_reset(void)
{
    if (withdrawn)
        munmap(withdrawn, PAGES / 8);
    withdrawn = mmap(NULL, PAGES / 8, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (withdrawn == MAP_FAILED) {
        perror("mmap of the withdrawn pages");
        abort();
    }
    withdrawn_count = 0;
}

bool fake_page_withdrawn(uint64_t page) { return withdrawn[page / 64] & (1ull << (page % 64)); }

static void close_mapped(uint64_t at, uint64_t count)
{
    if (mprotect((void *)at, count * PAGE_BYTES, PROT_NONE) != 0) {
        perror("mprotect of withdrawn pages");
        abort();
    }
}

void fake_close_withdrawn(uint64_t start, uint64_t bytes, uint64_t phys)
{
    uint64_t first = phys / PAGE_BYTES, end = first + bytes / PAGE_BYTES;
    for (uint64_t page = first; withdrawn_count && page < end;) {
        uint64_t from = page;
        if (page % 64 == 0 && withdrawn[page / 64] == 0) {
            page += 64;
            continue;
        }
        while (page < end && fake_page_withdrawn(page))
            page++;
        if (page > from)
            close_mapped(start + (from - first) * PAGE_BYTES, page - from);
        else
            page++;
    }
}

void fake_withdraw(uint64_t first, uint64_t count)
{
    for (uint64_t page = first; page < first + count; page++) {
        KASSERT(!fake_page_withdrawn(page));
        withdrawn[page / 64] |= 1ull << (page % 64);
    }
    withdrawn_count += count;
    space_protect(ARCH_DIRECT_BASE, first * PAGE_BYTES, count * PAGE_BYTES, PROT_NONE);
    fallocate(fake_memory_file(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)(first * PAGE_BYTES),
              (off_t)(count * PAGE_BYTES));
}

void fake_restore(uint64_t first, uint64_t count)
{
    for (uint64_t page = first; page < first + count; page++) {
        KASSERT(fake_page_withdrawn(page));
        withdrawn[page / 64] &= ~(1ull << (page % 64));
    }
    withdrawn_count -= count;
    /* Opens what the guest's tables show. */
    arch_tlb_flush(va(ARCH_DIRECT_BASE + first * PAGE_BYTES), count * PAGE_BYTES);
}

uint64_t fake_withdrawn_pages(void) { return withdrawn_count; }
