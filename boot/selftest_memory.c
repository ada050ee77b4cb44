/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * selftest=memory looks at the tables the processor is using and at what they promise: nothing writable and executable
 * at once, neither by one mapping nor by the direct map's of the same page; nothing left of the loader's identity
 * mapping; guard pages unmapped; what was unmapped can't be read any more. One line tells the result; then the boot
 * goes on.
 */
#define LOG_ROOM "boot"
#include "boot/selftest.h"
#include "mm/mm.h"

#define ENTRIES    512
#define LEVELS_MAX 4
#define TRIAL_BYTES 16384

static struct { uint64_t leaves[LEVELS_MAX]; unsigned executable, wrong; } seen;

static void wrong(uint64_t address, const char *what)
{
    if (seen.wrong++ < 8)
        log_err("self test memory: 0x%llx is %s", (unsigned long long)address, what);
}

static bool in_image(uint64_t address)
{
    const struct arch_image_section *sections;
    unsigned n = arch_image_sections(&sections);
    for (unsigned i = 0; i < n; i++)
        if (address - sections[i].start.v < sections[i].bytes)
            return true;
    return false;
}

static void look_at_leaf(uint64_t virt, paddr_t phys, uint64_t bytes, unsigned attr)
{
    unsigned alias;
    if (!(virt >> 63))
        wrong(virt, "mapped in the lower half");
    if (!(attr & MAP_EXEC))
        return;
    seen.executable++;
    if (attr & MAP_WRITE)
        wrong(virt, "writable and executable");
    /* Code of the host's, the hypercall page, lies over a page of ours that only the host protects. */
    for (uint64_t at = 0; at < bytes && in_image(virt); at += PAGE_BYTES)
        if (map_lookup(&kernel_space, va_of(arch_phys_to_virt(pa_add(phys, at))), NULL, &alias, NULL) &&
            (alias & MAP_WRITE))
            wrong(virt + at, "code that the direct map can write");
}

static void walk(const struct pt_format *format, paddr_t table, unsigned level, uint64_t virt)
{
    const uint64_t *entries = arch_phys_to_virt(table);
    uint64_t span = PAGE_BYTES << (9 * level);
    for (unsigned i = 0; i < ENTRIES; i++) {
        uint64_t entry = entries[i], at = virt + i * span;
        if (!format->is_present(entry))
            continue;
        if (level == format->top_level && i >= ENTRIES / 2)
            at |= ~0ull << (PAGE_SHIFT + 9 * (level + 1));      /* addresses are sign extended */
        if (!format->is_leaf(entry, level)) {
            walk(format, format->address(entry, level), level - 1, at);
            continue;
        }
        seen.leaves[level]++;
        look_at_leaf(at, format->address(entry, level), span, format->attributes(entry));
    }
}

static void look_at_image(void)
{
    const struct arch_image_section *sections;
    unsigned n = arch_image_sections(&sections), attr;
    for (unsigned i = 0; i < n; i++) {
        uint64_t start = sections[i].start.v, end = start + ALIGN_UP(sections[i].bytes, PAGE_BYTES);
        if (!in_image(start - 1) && map_lookup(&kernel_space, va(start - 1), NULL, NULL, NULL))
            wrong(start - 1, "mapped, though it guards a section of the image");
        for (uint64_t at = start; at < end; at += PAGE_BYTES)
            if (!map_lookup(&kernel_space, va(at), NULL, &attr, NULL) ||
                ((attr ^ sections[i].attr) & (MAP_WRITE | MAP_EXEC)) != 0)
                wrong(at, "not mapped as its section wants");
    }
}

/* The checked backtrace reads two words at an address and survives when it can't. */
static bool readable(const uint64_t *words)
{
    uint64_t pc;
    return arch_backtrace(va_of(words).v, &pc, 1) == 1;
}

static void look_at_a_stack(void)
{
    uint64_t *stack = stack_alloc(TRIAL_BYTES);
    if (stack == NULL) {
        log_err("self test memory: no memory for a stack");
        seen.wrong++;
        return;
    }
    uint64_t *last = stack + TRIAL_BYTES / sizeof(*stack) - 2;
    stack[0] = stack[1] = last[0] = last[1] = 1;
    if (!readable(stack) || !readable(last))
        wrong(va_of(stack).v, "a stack that can't be read");
    if (readable(stack - 2) || readable(last + 2) || !mm_is_guard(va_of(stack - 2)) || !mm_is_guard(va_of(last + 2)))
        wrong(va_of(stack).v, "a stack without guard pages");
    stack_free(stack, TRIAL_BYTES);
    if (readable(stack) || readable(last))
        wrong(va_of(stack).v, "readable after it was unmapped");
}

void selftest_memory(void)
{
    const struct pt_format *format = arch_pt_format();
    KASSERT(format->top_level < LEVELS_MAX);
    if (arch_pt_root().v != kernel_space.root.v)
        wrong(arch_pt_root().v, "the root of other tables");
    walk(format, kernel_space.root, format->top_level, 0);
    look_at_image();
    look_at_a_stack();
    log_info("self test memory: %u faults; image at 0x%llx; leaves: %llu of 4 KiB, %llu of 2 MiB, %llu of 1 GiB, "
             "%u executable", seen.wrong, (unsigned long long)mm_virt_to_phys(&seen).v,
             (unsigned long long)seen.leaves[0], (unsigned long long)seen.leaves[1],
             (unsigned long long)seen.leaves[2], seen.executable);
}
