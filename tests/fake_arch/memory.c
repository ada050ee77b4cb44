/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Fake physical memory and page tables in the format of x86_64.
 *
 * One sparse file is physical memory. It is mapped three times: for the host (always open), as the direct map (memory
 * below 4 GiB open until the guest installs its tables, then what they say), and in pieces in the vmap region. Entries are
 * realised when the guest announces or flushes them.
 *
 * In an isolated machine each page has a private and a shared side, of which one at a time may be touched. An address
 * on the wrong side is mapped closed, so that the access itself is the fault. What is mapped already when a page
 * changes hands is the direct map's (closed or opened then) and must not be the vmap region's: fake_wrong_sides tells.
 */
#define _GNU_SOURCE
#include "tests/fake_arch/fake_arch.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "mm/poison.h"
#include "tests/fake_arch/internal.h"
#include "tests/fake_arch/space.h"

#define PTE_PRESENT (1ull << 0)
#define PTE_WRITE   (1ull << 1)
#define PTE_DEVICE  (1ull << 4)
#define PTE_WC      (1ull << 3)
#define PTE_LARGE   (1ull << 7)
#define PTE_GLOBAL  (1ull << 8)
#define PTE_NX      (1ull << 63)
#define PTE_ADDRESS 0x000ffffffffff000ull

#define MAX_MAP_ENTRIES 1024

#define PAGES           (ARCH_DIRECT_BYTES / PAGE_BYTES)

uint64_t fake_shared_gpa_boundary, fake_alias_at, fake_alias_of;
static bool sides_closed = true;             /* see fake_sides_closed */
static uint64_t *visible;                    /* isolated: bit n of word w, page 64w+n is the host's to see, too */
static int memory_file = -1;
static paddr_t root;
static struct mm_region regions[MAX_MAP_ENTRIES];
static unsigned region_count;

static void die(const char *what)
{
    perror(what);
    abort();
}

void fake_memory_reset(uint64_t ram_bytes)
{
    memory_file = memfd_create("fake physical memory", MFD_CLOEXEC);
    if (memory_file < 0 || ftruncate(memory_file, (off_t)ARCH_DIRECT_BYTES) != 0)
        die("memory file");
    space_reset();
    space_file(memory_file);
    space_window(ARCH_DIRECT_BASE, ARCH_DIRECT_BYTES);
    space_window(FAKE_HOST_BASE, ARCH_DIRECT_BYTES);
    space_region(ARCH_VMAP_BASE, ARCH_VMAP_BYTES);
    fake_withdrawn_reset();
    root = PADDR_NONE;
    fake_shared_gpa_boundary = 0;
    const struct mm_region map[] = {{pa(0), 0xa0000, MM_RAM}, {pa(0x100000), ram_bytes, MM_RAM}};
    fake_set_memory_map(map, ARRAY_SIZE(map));
}

/* What there is of a region, for the host always, and for the guest as far as boot maps it. */
static void open_region(const struct mm_region *r)
{
    uint64_t start = ALIGN_DOWN(MIN(r->start.v, ARCH_DIRECT_BYTES), PAGE_BYTES);
    uint64_t end = start + ALIGN_UP(MIN(r->bytes + r->start.v % PAGE_BYTES, ARCH_DIRECT_BYTES - start), PAGE_BYTES);

    if (end == start)
        return;
    space_protect(FAKE_HOST_BASE, start, end - start, PROT_READ | PROT_WRITE);
    if (pa_is_none(root) && start < ARCH_BOOT_MAPPED_END)
        space_protect(ARCH_DIRECT_BASE, start, MIN(end, ARCH_BOOT_MAPPED_END) - start, PROT_READ | PROT_WRITE);
}

void fake_set_memory_map(const struct mm_region *map, unsigned entries)
{
    KASSERT(entries <= MAX_MAP_ENTRIES);
    memcpy(regions, map, entries * sizeof(*map));
    region_count = entries;
    for (unsigned i = 0; i < entries; i++)
        open_region(&map[i]);
}

const struct mm_region *fake_memory_map(unsigned *entries)
{
    *entries = region_count;
    return regions;
}

bool fake_memory_add(paddr_t start, uint64_t bytes)
{
    if (region_count == MAX_MAP_ENTRIES || start.v >= ARCH_DIRECT_BYTES || bytes > ARCH_DIRECT_BYTES - start.v)
        return false;
    regions[region_count] = (struct mm_region){start, bytes, MM_RAM};
    open_region(&regions[region_count++]);
    return true;
}

int fake_memory_file(void) { return memory_file; }

void *fake_phys(uint64_t gpa)
{
    gpa &= ~fake_shared_gpa_boundary;
    return gpa < ARCH_DIRECT_BYTES ? (void *)(FAKE_HOST_BASE + gpa) : NULL;
}

/* ---- the format ---- */

static uint64_t leaf_bytes(unsigned level) { return PAGE_BYTES << (9 * level); }

static uint64_t pte_leaf(paddr_t p, unsigned level, unsigned attr)
{
    KASSERT(!((attr & MAP_WRITE) && (attr & MAP_EXEC)));
    KASSERT((attr & MAP_READ) && level <= 2 && IS_ALIGNED(p.v, leaf_bytes(level)) && (p.v & ~PTE_ADDRESS) == 0);
    return p.v | PTE_PRESENT | (attr & MAP_WRITE ? PTE_WRITE : 0) | (attr & MAP_EXEC ? 0 : PTE_NX) |
           (attr & MAP_DEVICE ? PTE_DEVICE : 0) | (attr & MAP_WC ? PTE_WC : 0) | (attr & MAP_GLOBAL ? PTE_GLOBAL : 0) |
           (level ? PTE_LARGE : 0);
}

static uint64_t pte_table(paddr_t p) { return p.v | PTE_PRESENT | PTE_WRITE; }
static bool pte_is_present(uint64_t pte) { return pte & PTE_PRESENT; }
static bool pte_is_leaf(uint64_t pte, unsigned level) { return level == 0 || (pte & PTE_LARGE); }
static paddr_t pte_address(uint64_t pte, unsigned level)
{
    return pa(pte & PTE_ADDRESS & (pte_is_leaf(pte, level) ? ~(leaf_bytes(level) - 1) : ~0ull));
}
static unsigned pte_attributes(uint64_t pte)
{
    return (pte & PTE_PRESENT ? (unsigned)MAP_READ : 0u) | (pte & PTE_WRITE ? MAP_WRITE : 0) |
           (pte & PTE_NX ? 0 : MAP_EXEC) | (pte & PTE_DEVICE ? MAP_DEVICE : 0) | (pte & PTE_WC ? MAP_WC : 0) |
           (pte & PTE_GLOBAL ? MAP_GLOBAL : 0);
}

struct pt_format fake_pt_format = {
    .top_level = 3, .max_leaf_level = 2, .leaf = pte_leaf, .table = pte_table, .is_present = pte_is_present,
    .is_leaf = pte_is_leaf, .address = pte_address, .attributes = pte_attributes,
};
const struct pt_format *arch_pt_format(void) { return &fake_pt_format; }

/* ---- isolation ---- */

static bool is_visible(uint64_t page) { return visible[page / 64] & (1ull << (page % 64)); }

/* The end of the pages from page on that are all visible or all not, at most end. */
static uint64_t same_until(uint64_t page, uint64_t end)
{
    bool first = is_visible(page);
    uint64_t same = first ? UINT64_MAX : 0;
    for (page++; page < end; page++) {
        while (page % 64 == 0 && end - page >= 64 && visible[page / 64] == same)
            page += 64;
        if (page < end && is_visible(page) != first)
            break;
    }
    return page < end ? page : end;
}

/* Closes what of a mapping lies on the wrong side. */
static void close_wrong_side(uint64_t start, uint64_t bytes, uint64_t phys, bool shared)
{
    if (!visible || !fake_shared_gpa_boundary || !sides_closed)
        return;
    for (uint64_t page = phys / PAGE_BYTES, end = page + bytes / PAGE_BYTES, next; page < end; page = next) {
        next = same_until(page, end);
        if (is_visible(page) != shared &&
            mprotect((void *)(start + (page * PAGE_BYTES - phys)), (next - page) * PAGE_BYTES, PROT_NONE) != 0)
            die("mprotect of the wrong side");
    }
}

void fake_isolate(uint64_t boundary)
{
    if (visible)
        munmap(visible, PAGES / 8);
    visible = mmap(NULL, PAGES / 8, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (visible == MAP_FAILED)
        die("mmap of the visible pages");
    fake_shared_gpa_boundary = boundary;
}

void fake_sides_closed(bool on) { sides_closed = on; }

static void realise(uint64_t start, uint64_t end);

void fake_page_visible(uint64_t page, bool to_host)
{
    KASSERT(visible && page < PAGES && is_visible(page) != to_host);
    visible[page / 64] ^= 1ull << (page % 64);
    if (fake_shared_gpa_boundary && sides_closed)
        realise(ARCH_DIRECT_BASE + page * PAGE_BYTES, ARCH_DIRECT_BASE + (page + 1) * PAGE_BYTES);
}

/* Leaves of the table for the addresses from `at` on that show a page from the wrong side in the vmap region. */
static unsigned wrong_leaves(const uint64_t *table, unsigned level, uint64_t at)
{
    unsigned wrong = 0;
    for (unsigned i = 0; i < 512; i++, at += leaf_bytes(level)) {
        if (!pte_is_present(table[i]) || at + leaf_bytes(level) <= ARCH_VMAP_BASE || at >= ARCH_VMAP_BASE + ARCH_VMAP_BYTES)
            continue;
        uint64_t phys = pte_address(table[i], level).v;
        if (!pte_is_leaf(table[i], level)) {
            wrong += wrong_leaves(fake_phys(phys), level - 1, at);
            continue;
        }
        bool shared = phys & fake_shared_gpa_boundary;
        uint64_t page = (phys & ~fake_shared_gpa_boundary) / PAGE_BYTES, end = page + leaf_bytes(level) / PAGE_BYTES;
        for (; page < end; page++)
            wrong += is_visible(page) != shared;
    }
    return wrong;
}

unsigned fake_wrong_sides(void)
{
    return visible && fake_shared_gpa_boundary ? wrong_leaves(fake_phys(root.v), 3, 0) : 0;
}

/* ---- mappings that are kept ---- */

/* One word per page of the vmap region: what is really mapped there, page frame << 2 | protection (1 read, 2 write), and
 * whether it changed since fake_mappings_changed was asked last. */
#define KEPT_PAGES   (1ull << 18)
#define KEPT_CHANGED (1ull << 63)
static uint64_t *kept_pages;
static uint32_t *changed_pages;
static unsigned changed_count;

void fake_mappings_keep(void)
{
    size_t bytes = KEPT_PAGES * (sizeof(*kept_pages) + sizeof(*changed_pages));
    KASSERT(!kept_pages && pa_is_none(root));
    kept_pages = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (kept_pages == MAP_FAILED)
        die("mmap of the kept mappings");
    changed_pages = (uint32_t *)(kept_pages + KEPT_PAGES);
}

static uint64_t kept_word(uint64_t phys, int prot) { return phys >> PAGE_SHIFT << 2 | (prot & PROT_WRITE ? 3 : 1); }

static void note_changed(uint64_t page)
{
    if (!(kept_pages[page] & KEPT_CHANGED))
        changed_pages[changed_count++] = (uint32_t)page;
    kept_pages[page] |= KEPT_CHANGED;
}

/* An unmapped page is closed by the sanitizer's marks alone, so that mapping the same page again is no system call. What
 * was never mapped is closed by the reservation. */
static void close_kept(uint64_t page, uint64_t end)
{
    for (; page < MIN(end, KEPT_PAGES); page++) {
        if (!kept_pages[page])
            continue;
        note_changed(page);
        mem_poison((void *)(ARCH_VMAP_BASE + (page << PAGE_SHIFT)), PAGE_BYTES);
    }
}

/* Pages next to each other that show others than before are one system call. */
static void open_kept(uint64_t first, uint64_t end, uint64_t phys, int prot)
{
    for (uint64_t page = first, other = first; page < end; page++) {
        uint64_t wanted = kept_word(phys + ((page - first) << PAGE_SHIFT), prot);
        bool same = (kept_pages[page] & ~KEPT_CHANGED) == wanted;
        kept_pages[page] = wanted | (kept_pages[page] & KEPT_CHANGED);
        note_changed(page);
        uint64_t others_end = same ? page : page + 1;
        if (other < others_end && (same || others_end == end))
            space_map(ARCH_VMAP_BASE + (other << PAGE_SHIFT), (others_end - other) << PAGE_SHIFT,
                      phys + ((other - first) << PAGE_SHIFT), prot);
        if (same)
            other = page + 1;
    }
    mem_unpoison((void *)(ARCH_VMAP_BASE + (first << PAGE_SHIFT)), (end - first) << PAGE_SHIFT);
}

static void apply_kept(uint64_t start, uint64_t bytes, uint64_t phys, int prot)
{
    uint64_t first = (start - ARCH_VMAP_BASE) >> PAGE_SHIFT, end = first + (bytes >> PAGE_SHIFT);
    if (prot != PROT_NONE && end > KEPT_PAGES)
        panic("fake_arch: %#llx is beyond the mappings that are kept", (unsigned long long)start);
    if (prot == PROT_NONE)
        close_kept(first, end);
    else
        open_kept(first, end, phys, prot);
}

unsigned fake_mappings_changed(const uint32_t **pages)
{
    unsigned count = changed_count;
    for (unsigned i = 0; i < count; i++)
        kept_pages[changed_pages[i]] &= ~KEPT_CHANGED;
    changed_count = 0;
    *pages = changed_pages;
    return count;
}

/* ---- realising entries ---- */

struct piece { uint64_t start, end, phys; bool mapped, writable; };

/* What the tables say about an address, and up to where it holds for sure. */
static struct piece look(uint64_t address)
{
    const uint64_t *table = fake_phys(root.v);
    for (unsigned level = 3;; level--) {
        uint64_t pte = table[(address >> (12 + 9 * level)) & 511], span = leaf_bytes(level);
        uint64_t end = ALIGN_DOWN(address, span) + span;
        if (!pte_is_present(pte))
            return (struct piece){.start = address, .end = end};
        uint64_t phys = pte_address(pte, level).v + (address & (span - 1));
        if (pte_is_leaf(pte, level))
            return (struct piece){address, end, phys, true, pte & PTE_WRITE};
        table = fake_phys(pte_address(pte, level).v);
    }
}

static void apply(const struct piece *p)
{
    uint64_t bytes = p->end - p->start, phys = p->phys & ~fake_shared_gpa_boundary;
    int prot = !p->mapped ? PROT_NONE : p->writable ? PROT_READ | PROT_WRITE : PROT_READ;
    if (p->start - ARCH_DIRECT_BASE < ARCH_DIRECT_BYTES) {
        KASSERT(!p->mapped || p->phys == p->start - ARCH_DIRECT_BASE);
        space_protect(ARCH_DIRECT_BASE, p->start - ARCH_DIRECT_BASE, bytes, prot);
        if (p->mapped)
            close_wrong_side(p->start, bytes, p->phys, false);
        if (p->mapped)
            fake_close_withdrawn(p->start, bytes, p->phys);
        return;
    }
    KASSERT(p->start - ARCH_VMAP_BASE < ARCH_VMAP_BYTES && p->end - ARCH_VMAP_BASE <= ARCH_VMAP_BYTES);
    if (p->mapped && (phys >= ARCH_DIRECT_BYTES || bytes > ARCH_DIRECT_BYTES - phys))
        panic("fake_arch: %#llx is beyond physical memory", (unsigned long long)p->phys);
    if (kept_pages) {
        apply_kept(p->start, bytes, phys, prot);
        return;
    }
    if (!p->mapped) {
        space_close(p->start, bytes);
        return;
    }
    mem_unpoison((void *)p->start, bytes);     /* of what was here before */
    space_map(p->start, bytes, fake_alias_at && phys == fake_alias_at ? fake_alias_of : phys, prot);
    close_wrong_side(p->start, bytes, phys, p->phys != phys);
    fake_close_withdrawn(p->start, bytes, phys);
}

static void realise(uint64_t start, uint64_t end)
{
    struct piece run = {.start = start, .end = start};
    if (pa_is_none(root))
        return;
    for (uint64_t at = start; at < end;) {
        struct piece p = look(at);
        p.end = MIN(p.end, end);
        bool joins = run.end > run.start && p.mapped == run.mapped && p.writable == run.writable &&
                     (!p.mapped || p.phys == run.phys + (p.start - run.start));
        if (joins) {
            run.end = p.end;
        } else {
            if (run.end > run.start)
                apply(&run);
            run = p;
        }
        at = p.end;
    }
    if (run.end > run.start)
        apply(&run);
}

paddr_t arch_pt_root(void) { return root; }

void arch_pt_set_root(paddr_t new_root)
{
    root = new_root;
    realise(ARCH_DIRECT_BASE, ARCH_DIRECT_BASE + ARCH_DIRECT_BYTES);
    realise(ARCH_VMAP_BASE, ARCH_VMAP_BASE + ARCH_VMAP_BYTES);
}

void arch_pt_sync(vaddr_t start, uint64_t bytes) { realise(start.v, start.v + bytes); }
void arch_tlb_flush(vaddr_t start, uint64_t bytes) { realise(start.v, start.v + bytes); }
void arch_tlb_flush_all(void) { realise(ARCH_VMAP_BASE, ARCH_VMAP_BASE + ARCH_VMAP_BYTES); }

unsigned arch_image_sections(const struct arch_image_section **sections)
{
    *sections = NULL;
    return 0;
}
