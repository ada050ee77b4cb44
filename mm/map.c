/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Page tables: one walker for every format and every mapping.
 *
 * map_range works in two passes: prepare finds conflicts and allocates every table (and may fail, undoing itself by
 * pruning empty tables); commit writes the leaves and can't fail. Invariant between calls: no table but the root is
 * empty, so a table standing where a block would fit always means that something is mapped there.
 *
 * A live entry is replaced in replace_entry and replace_group only, which do break-before-make for the formats that
 * need it; while it is broken nothing may touch what it maps, so the kernel's own stacks and tables must not lie in a
 * block that is split. Neighbours that are marked as one (pt_format, contiguous) change together or are parted first.
 * Tables leave the tree first, then translations are flushed, then their pages are freed: a processor may hold a
 * pointer to a table until the flush. Meanwhile they hang on a chain whose links, page addresses with bit 0 clear, read
 * as entries that are not present in every format.
 */
#define LOG_ROOM "mm"
#include "mm/internal.h"

#define ENTRIES 512u

struct address_space kernel_space;
static void (*tlb_flush)(vaddr_t start, uint64_t bytes) = arch_tlb_flush;
static uint64_t table_pages;

/* What stays the same during one call. */
struct walk {
    const struct address_space *space;
    const struct pt_format *format;
    unsigned attr;
    paddr_t unlinked;          /* chain of tables to free after the flush */
};

static uint64_t level_span(unsigned level) { return PAGE_BYTES << (9 * level); }
static unsigned level_index(uint64_t address, unsigned level)
{
    return (address >> (PAGE_SHIFT + 9 * level)) & (ENTRIES - 1);
}
static uint64_t *table_of(paddr_t table) { return arch_phys_to_virt(table); }
/* What of [address, address + bytes) lies in the entry of this level that holds address. */
static uint64_t piece(uint64_t address, uint64_t bytes, unsigned level)
{
    uint64_t left = level_span(level) - (address & (level_span(level) - 1));
    return MIN(left, bytes);
}

void mm_set_tlb_flush(void (*flush)(vaddr_t start, uint64_t bytes)) { tlb_flush = flush ? flush : arch_tlb_flush; }
uint64_t map_table_pages(void) { return table_pages; }

void map_init(paddr_t root)
{
    kernel_space = (struct address_space){.root = root, .format = arch_pt_format(), .kernel = true};
    table_pages = 1;
}

unsigned largest_block(const struct pt_format *format, uint64_t virt, uint64_t phys, uint64_t bytes_left)
{
    unsigned level = format->max_leaf_level;
    while (level > 0 && (((virt | phys) & (level_span(level) - 1)) != 0 || bytes_left < level_span(level)))
        level--;
    return level;
}

/* The walker and the processor (or the lab's guest) read entries while they are written: one store each. */
static void write_entry(uint64_t *entry, uint64_t value) { __atomic_store_n(entry, value, __ATOMIC_RELEASE); }

static void flush(const struct walk *w, vaddr_t start, uint64_t bytes)
{
    if (w->space->kernel)
        tlb_flush(start, bytes);
    else if (w->space->flush)
        w->space->flush(start, bytes);
}

static void replace_entry(const struct walk *w, uint64_t *entry, uint64_t value, uint64_t virt, unsigned level)
{
    if (w->format->break_before_make && w->format->is_present(*entry)) {
        write_entry(entry, 0);
        flush(w, va(virt), level_span(level));
    }
    write_entry(entry, value);
}

/* ---- groups of leaves that share a TLB entry ---- */

static uint64_t group_span(const struct pt_format *format, unsigned level)
{
    return format->contiguous * level_span(level);
}

static bool in_group(const struct pt_format *format, uint64_t entry, unsigned level)
{
    return format->contiguous != 0 && level <= 1 && format->is_leaf(entry, level) &&
           (entry & format->contiguous_mark) != 0;
}

/* All leaves of the group at once: the processor may know any of them by any other. attr only counts with keep: the
 * group stays one, with other attributes; else its leaves go on alone as they are. */
static void replace_group(const struct walk *w, uint64_t *entry, uint64_t virt, unsigned level, bool keep)
{
    const struct pt_format *format = w->format;
    uint64_t values[PT_CONTIGUOUS_MAX], span = group_span(format, level);
    uint64_t *first = (uint64_t *)ALIGN_DOWN((uintptr_t)entry, format->contiguous * sizeof *entry);
    KASSERT(format->contiguous <= PT_CONTIGUOUS_MAX);
    for (unsigned i = 0; i < format->contiguous; i++) {
        values[i] = first[i] & ~format->contiguous_mark;
        if (keep)
            values[i] = format->leaf(format->address(first[i], level), level, w->attr) | format->contiguous_mark;
        write_entry(&first[i], 0);
    }
    flush(w, va(ALIGN_DOWN(virt, span)), span);
    for (unsigned i = 0; i < format->contiguous; i++)
        write_entry(&first[i], values[i]);
}

static paddr_t table_alloc(bool must)
{
    paddr_t table = page_alloc_table(must);
    if (!pa_is_none(table))
        table_pages++;
    return table;
}

/* What is not present is 0: nothing else is ever written to an entry. */
static bool table_empty(const uint64_t *table)
{
    for (unsigned i = 0; i < ENTRIES; i++)
        if (table[i] != 0)
            return false;
    return true;
}

static void table_unlink(struct walk *w, uint64_t *entry, unsigned level)
{
    paddr_t table = w->format->address(*entry, level);
    write_entry(entry, 0);
    write_entry(table_of(table), w->unlinked.v);
    w->unlinked = table;
}

/* Ends a walk that took something away. */
static void flush_and_free(struct walk *w, vaddr_t start, uint64_t bytes)
{
    flush(w, start, bytes);
    while (!pa_is_none(w->unlinked)) {
        paddr_t table = w->unlinked;
        w->unlinked = pa(*table_of(table));
        page_free(table, 0);
        table_pages--;
    }
}

/* Clears the leaves (or, without leaves, nothing) of a range and unlinks every table that is empty then. Blocks are
 * whole inside the range. */
static void prune(struct walk *w, uint64_t *table, unsigned level, uint64_t virt, uint64_t bytes, bool leaves)
{
    for (uint64_t step; bytes; virt += step, bytes -= step) {
        uint64_t *entry = &table[level_index(virt, level)];
        step = piece(virt, bytes, level);
        if (!w->format->is_present(*entry))
            continue;
        if (w->format->is_leaf(*entry, level)) {
            if (leaves)
                write_entry(entry, 0);
            continue;
        }
        uint64_t *child = table_of(w->format->address(*entry, level));
        prune(w, child, level - 1, virt, step, leaves);
        if (table_empty(child))
            table_unlink(w, entry, level);
    }
}

static int prepare(const struct walk *w, uint64_t *table, unsigned level, uint64_t virt, uint64_t phys, uint64_t bytes)
{
    for (uint64_t step; bytes; virt += step, phys += step, bytes -= step) {
        uint64_t *entry = &table[level_index(virt, level)];
        bool present = w->format->is_present(*entry);
        step = piece(virt, bytes, level);
        if (largest_block(w->format, virt, phys, bytes) >= level) {
            if (present)
                return -E_EXIST;
            continue;
        }
        if (present && w->format->is_leaf(*entry, level))
            return -E_EXIST;
        if (!present) {
            paddr_t fresh = table_alloc(false);
            if (pa_is_none(fresh))
                return -E_NOMEM;
            write_entry(entry, w->format->table(fresh));
            if (level == 1)
                continue;       /* pages only, and a new table has nothing in their way */
        }
        int error = prepare(w, table_of(w->format->address(*entry, level)), level - 1, virt, phys, step);
        if (error)
            return error;
    }
    return 0;
}

/* Where one leaf of a level is possible, the others up to the end of range or table are too, and they differ in the
 * address only, which every format keeps in place: so the entry is built once. Returns the bytes they map. */
static uint64_t commit_leaves(const struct walk *w, uint64_t *table, unsigned level, uint64_t virt, uint64_t phys,
                              uint64_t bytes)
{
    unsigned first = level_index(virt, level), group = w->format->contiguous, from = ENTRIES, to = ENTRIES;
    uint64_t left = bytes / level_span(level), span = level_span(level);
    unsigned end = left < ENTRIES - first ? first + (unsigned)left : ENTRIES;
    uint64_t value = w->format->leaf(pa(phys), level, w->attr);
    if (group != 0 && level <= 1 && IS_ALIGNED(virt ^ phys, group_span(w->format, level))) {
        from = ALIGN_UP(first, group);
        to = ALIGN_DOWN(end, group);
    }
    for (unsigned i = first; i < end; i++, value += span)
        write_entry(&table[i], i >= from && i < to ? value | w->format->contiguous_mark : value);
    return (end - first) * span;
}

static void commit(const struct walk *w, uint64_t *table, unsigned level, uint64_t virt, uint64_t phys, uint64_t bytes)
{
    for (uint64_t step; bytes; virt += step, phys += step, bytes -= step) {
        uint64_t *entry = &table[level_index(virt, level)];
        step = piece(virt, bytes, level);
        if (largest_block(w->format, virt, phys, bytes) >= level)
            step = commit_leaves(w, table, level, virt, phys, bytes);
        else
            commit(w, table_of(w->format->address(*entry, level)), level - 1, virt, phys, step);
    }
}

/* The range is sane for this space: aligned, not empty, not beyond what the format translates. */
static bool range_valid(const struct address_space *space, uint64_t virt, uint64_t bytes)
{
    if (bytes == 0 || !IS_ALIGNED(virt | bytes, PAGE_BYTES) || virt + (bytes - 1) < virt)
        return false;
    /* A kernel address is sign extended; the first and the last byte must agree above the table's own bits. */
    unsigned bits = PAGE_SHIFT + 9 * (space->format->top_level + 1);
    return virt >> bits == (virt + (bytes - 1)) >> bits;
}

int map_range(struct address_space *space, vaddr_t virt, paddr_t phys, uint64_t bytes, unsigned attr)
{
    struct walk w = {.space = space, .format = space->format, .attr = attr};
    if (!range_valid(space, virt.v, bytes) || !IS_ALIGNED(phys.v, PAGE_BYTES) || phys.v + (bytes - 1) < phys.v)
        return -E_INVAL;
    if (space->format->phys_bits != 0 && (phys.v + (bytes - 1)) >> space->format->phys_bits != 0)
        return -E_INVAL;
    if (space->kernel && (attr & MAP_WRITE) && (attr & MAP_EXEC))
        return -E_INVAL;
    int error = prepare(&w, table_of(space->root), space->format->top_level, virt.v, phys.v, bytes);
    if (error) {
        prune(&w, table_of(space->root), space->format->top_level, virt.v, bytes, false);
        flush_and_free(&w, virt, bytes);
        return error;
    }
    commit(&w, table_of(space->root), space->format->top_level, virt.v, phys.v, bytes);
    if (space->kernel)
        arch_pt_sync(virt, bytes);
    return 0;
}

/* Replaces the block around virt by a table of smaller ones that say the same. */
static bool split_block(const struct walk *w, uint64_t *entry, unsigned level, uint64_t virt, bool must)
{
    paddr_t fresh = table_alloc(must);
    if (pa_is_none(fresh))
        return false;
    uint64_t phys = w->format->address(*entry, level).v;
    unsigned attr = w->format->attributes(*entry);
    for (unsigned i = 0; i < ENTRIES; i++)
        table_of(fresh)[i] = w->format->leaf(pa(phys + i * level_span(level - 1)), level - 1, attr);
    replace_entry(w, entry, w->format->table(fresh), ALIGN_DOWN(virt, level_span(level)), level);
    return true;
}

/* Makes address the border of an entry: parts the group and splits the block that it lies inside of, if any. */
static bool split_at(const struct walk *w, uint64_t address, bool must)
{
    uint64_t *table = table_of(w->space->root);
    for (unsigned level = w->format->top_level;; level--) {
        uint64_t *entry = &table[level_index(address, level)];
        if (!w->format->is_present(*entry))
            return true;
        if (in_group(w->format, *entry, level) && !IS_ALIGNED(address, group_span(w->format, level)))
            replace_group(w, entry, address, level, false);
        if (IS_ALIGNED(address, level_span(level)))
            return true;
        if (w->format->is_leaf(*entry, level) && !split_block(w, entry, level, address, must))
            return false;
        table = table_of(w->format->address(*entry, level));
    }
}

void unmap_range(struct address_space *space, vaddr_t virt, uint64_t bytes)
{
    struct walk w = {.space = space, .format = space->format};
    KASSERT(range_valid(space, virt.v, bytes));
    if (!split_at(&w, virt.v, true) || !split_at(&w, virt.v + bytes, true))
        panic("unmap_range: no page to split the block at %#llx", (unsigned long long)virt.v);
    prune(&w, table_of(space->root), space->format->top_level, virt.v, bytes, true);
    flush_and_free(&w, virt, bytes);
}

/* Rewrites every leaf of the range, or (write false) tells whether all of it is mapped. */
static bool rewrite(const struct walk *w, uint64_t *table, unsigned level, uint64_t virt, uint64_t bytes, bool write)
{
    for (uint64_t step; bytes; virt += step, bytes -= step) {
        uint64_t *entry = &table[level_index(virt, level)];
        step = piece(virt, bytes, level);
        if (!w->format->is_present(*entry))
            return false;
        if (!w->format->is_leaf(*entry, level)) {
            if (!rewrite(w, table_of(w->format->address(*entry, level)), level - 1, virt, step, write))
                return false;
        } else if (write && in_group(w->format, *entry, level)) {
            KASSERT(IS_ALIGNED(virt, group_span(w->format, level)) && bytes >= group_span(w->format, level));
            replace_group(w, entry, virt, level, true);
            step = group_span(w->format, level);
        } else if (write) {
            uint64_t leaf = w->format->leaf(w->format->address(*entry, level), level, w->attr);
            replace_entry(w, entry, leaf, virt, level);
        }
    }
    return true;
}

int protect_range(struct address_space *space, vaddr_t virt, uint64_t bytes, unsigned attr)
{
    struct walk w = {.space = space, .format = space->format, .attr = attr};
    if (!range_valid(space, virt.v, bytes) || (space->kernel && (attr & MAP_WRITE) && (attr & MAP_EXEC)))
        return -E_INVAL;
    if (!rewrite(&w, table_of(space->root), space->format->top_level, virt.v, bytes, false))
        return -E_INVAL;
    if (!split_at(&w, virt.v, false) || !split_at(&w, virt.v + bytes, false))
        return -E_NOMEM;        /* a block that was split says the same as before */
    rewrite(&w, table_of(space->root), space->format->top_level, virt.v, bytes, true);
    flush_and_free(&w, virt, bytes);
    return 0;
}

bool map_lookup(const struct address_space *space, vaddr_t virt, paddr_t *phys, unsigned *attr, unsigned *level)
{
    const struct pt_format *format = space->format;
    const uint64_t *table = table_of(space->root);
    for (unsigned l = format->top_level;; l--) {
        uint64_t entry = __atomic_load_n(&table[level_index(virt.v, l)], __ATOMIC_RELAXED);
        if (!format->is_present(entry))
            return false;
        if (format->is_leaf(entry, l)) {
            if (phys)
                *phys = pa(format->address(entry, l).v + (virt.v & (level_span(l) - 1)));
            if (attr)
                *attr = format->attributes(entry);
            if (level)
                *level = l;
            return true;
        }
        table = table_of(format->address(entry, l));
    }
}
