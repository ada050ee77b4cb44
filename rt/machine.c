/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The machine as applications see it: boot phases, metrics, version. Its end is in shutdown.c.
 */
#define LOG_ROOM "rt"
#include "rt/candela.h"
#include "rt/internal.h"
#include "rt/services.h"

#define MAX_PHASES 32

static struct boot_phase phases[MAX_PHASES];
static unsigned phase_count;
static const char *loader = "unknown";
static struct metric *metrics, **metrics_end = &metrics;

/* ---- boot phases ---- */

void boot_phase_mark(const char *name)
{
    if (phase_count == MAX_PHASES) {
        log_warn("more than %u boot phases, %s is not recorded", MAX_PHASES, name);
        return;
    }
    phases[phase_count++] = (struct boot_phase){name, rt_now_100ns(), arch_counter()};
}

void boot_phases_begin(uint64_t counter)
{
    KASSERT(phase_count == 0);
    phases[phase_count++] = (struct boot_phase){"entry", 0, counter};
}

/* Early phases have the cycle counter only: their time follows from two later phases that have both. */
static void compute_early_times(void)
{
    unsigned known = 0;
    while (known < phase_count && phases[known].at_100ns == 0)
        known++;
    if (known + 1 >= phase_count)
        return;
    const struct boot_phase *a = &phases[known], *b = &phases[phase_count - 1];
    uint64_t time = b->at_100ns - a->at_100ns, cycles = b->counter - a->counter;
    uint64_t cycles_per_ms = time ? cycles * 10000 / time : 0;
    for (unsigned i = 0; i < known && cycles_per_ms; i++) {
        uint64_t before = (a->counter - phases[i].counter) * 10000 / cycles_per_ms;
        phases[i].at_100ns = before < a->at_100ns ? a->at_100ns - before : 0;
    }
}

unsigned boot_phases(const struct boot_phase **list)
{
    compute_early_times();
    *list = phases;
    return phase_count;
}

const char *candela_version(void) { return CANDELA_VERSION; }
const char *candela_loader(void) { return loader; }
void candela_set_loader(const char *name) { loader = name; }

/* ---- metrics ---- */

void metric_register(struct metric *m)
{
    m->next = NULL;
    *metrics_end = m;
    metrics_end = &m->next;
}

uint64_t metric_read_u64(void *value) { return *(const uint64_t *)value; }

const struct metric *metric_first(void) { return metrics; }

static uint64_t read_memory(void *field)
{
    struct mm_stats stats;
    mm_get_stats(&stats);
    return *(const uint64_t *)((const char *)&stats + (uintptr_t)field);
}

static uint64_t read_uptime(void *arg)
{
    (void)arg;
    return rt_now_ms();
}

#define MM_METRIC(n, h, f) \
    {.name = (n), .help = (h), .read = read_memory, .arg = (void *)offsetof(struct mm_stats, f), .gauge = true}
static struct metric own_metrics[] = {
    {.name = "candela_uptime_milliseconds", .help = "Time since boot", .read = read_uptime, .gauge = true},
    MM_METRIC("candela_memory_ram_pages", "Usable RAM, in 4 KiB pages", ram_pages),
    MM_METRIC("candela_memory_free_pages", "Free pages, those not yet online included", free_pages),
    MM_METRIC("candela_memory_given_pages", "Pages that the host took by its balloon", given_pages),
    MM_METRIC("candela_memory_online_pages", "Pages that came online", online_pages),
    MM_METRIC("candela_memory_table_pages", "Pages that hold kernel page tables", table_pages),
    MM_METRIC("candela_memory_heap_bytes", "Bytes in heap objects", heap_bytes),
    MM_METRIC("candela_memory_vmap_bytes", "Reserved bytes of the vmap region", vmap_bytes),
};

void machine_init(void)
{
    for (unsigned i = 0; i < ARRAY_SIZE(own_metrics); i++)
        metric_register(&own_metrics[i]);
    wall_init();
    keys_init();
}
