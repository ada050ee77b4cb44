/* SPDX-License-Identifier: BSD-2-Clause */
/* See machine.h. The model reports what a lied-to guest does wrong; that is no finding here. */
#include "tests/fuzz/machine.h"
#include <stdio.h>
#include "hv/shmem.h"
#include "mm/internal.h"
#include "tests/fake_arch/guarded.h"
#include "tests/fuzz/snapshot.h"

struct host *machine_host;
struct host_config machine_config;

void machine_boot(uint64_t ram_bytes, const char *settings)
{
    fake_mappings_keep();
    fake_arch_boot(ram_bytes);
    config_parse(settings);
    host_config_default(&machine_config);
    hv_host_calloc = arena_calloc;
    hv_host_free = arena_free;
}

/* The stacks that rt/task.c keeps for the next tasks: all of them, so that what is counted does not depend on how many
 * tasks there were at once. */
#define STACKS_KEPT 8u

/* All of the stack but its lowest page, where rt/task.c chains it. */
static void say_stack(void *arg UNUSED)
{
    char *lowest = (char *)ALIGN_DOWN((uint64_t)__builtin_frame_address(0), PAGE_BYTES), *end = lowest;

    while (map_lookup(&kernel_space, va_of(lowest - PAGE_BYTES), NULL, NULL, NULL))
        lowest -= PAGE_BYTES;
    while (map_lookup(&kernel_space, va_of(end), NULL, NULL, NULL))
        end += PAGE_BYTES;
    snapshot_unused(lowest + PAGE_BYTES, (size_t)(end - lowest) - PAGE_BYTES);
}

void machine_fill_stack_cache(void)
{
    for (unsigned i = 0; i < STACKS_KEPT; i++)
        FUZZ_CHECK(task_spawn("stack", say_stack, NULL, 0));
    task_sleep_us(10);
}

void machine_start(void)
{
    machine_host = hv_host_start(&machine_config);
    hv_host.violations_expected = hv_host.no_audit = true;
    guarded_off();
    FUZZ_CHECK(hv_init());
    hv_clock_init();
    FUZZ_CHECK(hv_synic_init() == 0);
}

void machine_connect(void)
{
    FUZZ_CHECK(vmbus_connect() == 0);
    machine_fill_stack_cache();
    snapshot_prepare = machine_fill_stack_cache;
}

/* Pages of the heap's slabs: how many hold the same objects depends on which were freed in what order. The magic number
 * is the one of mm/heap.c, after list node and bitmap; it may be an old one, but then nothing in the page is marked. */
void *__asan_region_is_poisoned(void *start, size_t bytes);
static uint64_t slab_pages(void)
{
    uint64_t slabs = 0, first = MM_LOW_BYTES >> PAGE_SHIFT, count;
    const uint8_t *states = page_states(first, &count);

    for (uint64_t i = 0; states && i < count; i++) {
        const uint32_t *words = fake_phys((first + i) << PAGE_SHIFT);
        slabs += states[i] == USED && words[12] == 0x534c4142 &&
                 __asan_region_is_poisoned(arch_phys_to_virt(pa((first + i) << PAGE_SHIFT)), PAGE_BYTES);
    }
    return slabs;
}

struct machine_book machine_book(void)
{
    struct mm_stats s;

    heap_trim();
    mm_get_stats(&s);
    return (struct machine_book){s.free_pages + slab_pages() + s.table_pages + shmem_stats.pages_leaked, s.heap_bytes, s.vmap_bytes,
                                 shmem_stats.pages_shared, bus.device_tasks, bus.channel_count};
}

bool machine_same(const struct machine_book *b, bool say)
{
    struct machine_book now = machine_book();
    const struct { const char *what; uint64_t before, now; } items[] = {
        {"pages", b->pages, now.pages}, {"bytes of heap", b->heap_bytes, now.heap_bytes},
        {"bytes of virtual memory", b->vmap_bytes, now.vmap_bytes},
        {"shared pages", b->shared_pages, now.shared_pages}, {"device tasks", b->tasks, now.tasks},
        {"channels", b->channels, now.channels},
    };
    bool same = true;

    for (unsigned i = 0; i < ARRAY_SIZE(items); i++) {
        if (items[i].before == items[i].now)
            continue;
        if (say)
            fprintf(stderr, "fuzz: %s: %llu before, %llu now\n", items[i].what, (unsigned long long)items[i].before,
                    (unsigned long long)items[i].now);
        same = false;
    }
    return same;
}

bool machine_same_within(const struct machine_book *b, unsigned limit_s)
{
    return RUN_UNTIL(bus.channel_count == b->channels && machine_same(b, false), limit_s) || machine_same(b, true);
}
