/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * How a test drives the fake machine.
 *
 * One machine per process: the rooms' own state is static. The test runner gives each test its own process, so each
 * test begins with fake_arch_boot (or fake_arch_reset and its own order). Nothing here sleeps: time is a number that moves
 * when the counter is read, when the test says so, and when the guest idles until a deadline.
 *
 * What it doesn't model: other processors, the TLB (a flush takes effect at once, a missing one too when the same
 * address is mapped again), execute permission, memory types.
 */
#pragma once
#include "mm/mm.h"
#include "rt/rt.h"

#define FAKE_COUNTER_HZ 1000000000ull

/* ---- life ---- */
/* Fresh memory of the default map: RAM 0-640 KiB and ram_bytes from 1 MiB on. Interrupts disabled, time 1 ms. */
void fake_arch_reset(uint64_t ram_bytes);
/* Another map for this machine, before mm_init. */
void fake_set_memory_map(const struct mm_region *map, unsigned entries);
const struct mm_region *fake_memory_map(unsigned *entries);
bool fake_memory_add(paddr_t start, uint64_t bytes);   /* RAM that comes while the machine runs; false: no room */
/* fake_arch_reset, mm_init, rt_init, fake_clock registered, interrupts enabled. */
void fake_arch_boot(uint64_t ram_bytes);
/* Runs fn in a child process with a copy of the machine as it is; for ends that a test expects. */
enum fake_exit {
    FAKE_RETURNED = 0, FAKE_FAILED = 1, FAKE_REBOOTED = 75, FAKE_POWERED_OFF = 76, FAKE_PANICKED = 77, FAKE_SIGNAL = 128
};
/* Set: an end that is not a panic calls it instead of leaving the process; it must not return. */
extern void (*fake_end_hook)(enum fake_exit how);
int fake_run_child(void (*fn)(void *arg), void *arg);   /* enum fake_exit, FAKE_SIGNAL + number */
#define CHECK_FAULTS(fn, arg) CHECK_EQ(fake_run_child((fn), (arg)), FAKE_SIGNAL + 11)
#define CHECK_PANICS(fn, arg) CHECK_EQ(fake_run_child((fn), (arg)), FAKE_PANICKED)

/* ---- memory, as the host sees it: never unmapped, never poisoned ---- */
void *fake_phys(uint64_t gpa);               /* NULL: beyond physical memory */
extern uint64_t fake_shared_gpa_boundary;    /* this bit of a physical address selects the shared alias; 0 none */
/* From now on memory is isolated, all of it private; the guest touches a page at the side that is in force, or faults.
 * Without a boundary both sides are the same. */
void fake_isolate(uint64_t boundary);
void fake_page_visible(uint64_t page, bool to_host);
/* Off: only the book is kept, for tests in which millions of pages change hands. */
void fake_sides_closed(bool on);
unsigned fake_wrong_sides(void);             /* mappings in the vmap region that show a page from the wrong side */
/*
 * For machines that are set back thousands of times a second (tests/fuzz): between reset and boot, sanitized builds only.
 * What the guest unmaps in the vmap region stays mapped, closed by the sanitizer's marks. fake_mappings_changed: the
 * pages of the region (numbers from its beginning) whose mapping changed since it was last called.
 */
void fake_mappings_keep(void);
unsigned fake_mappings_changed(const uint32_t **pages);
extern struct pt_format fake_pt_format;      /* a test may change max_leaf_level and break_before_make */

/* Pages that the host takes: an access by the guest faults from now on, and their content is lost. */
void fake_withdraw(uint64_t first, uint64_t count);
void fake_restore(uint64_t first, uint64_t count);
bool fake_page_withdrawn(uint64_t page);
/* An address that is not decoded fully: mappings in the vmap region of this page show the other one. 0: none. */
extern uint64_t fake_alias_at, fake_alias_of;
uint64_t fake_withdrawn_pages(void);

/* ---- interrupts and time ---- */
/* Delivered at once when interrupts are enabled, else when they are. */
void fake_irq_raise(enum arch_irq_use use);
bool fake_irq_raise_number(unsigned number); /* by arch_irq_number; false: nobody's */
/* Called when the guest has nothing to do: the host's turn. True when it did something (then asked again). */
extern bool (*fake_arch_idle_hook)(void);
/* Time at which the host will have something to do by itself; RT_FOREVER: never. */
extern uint64_t (*fake_arch_deadline_hook)(void);
extern uint64_t fake_now_100ns;
extern uint64_t fake_counter_step;           /* counter units that each read of the counter takes */
uint64_t fake_counter(void);                 /* the counter without advancing it: the host's view */
void fake_time_advance(uint64_t delta_100ns);/* timers that come due interrupt */
extern const struct rt_clock fake_clock;
extern uint64_t fake_idle_count, fake_clock_arm_count, fake_switch_count;

/* ---- the processor's random source ---- */
extern bool fake_random_available;

/* ---- the log: kept, and shown on stderr when TEST_VERBOSE is set or when the machine ends unexpectedly ---- */
const char *fake_log_text(void);
bool fake_log_contains(const char *text);
void fake_log_clear(void);
