/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a run tells its harness, all on the lab's port:
 *   lab-counter: NAME=VALUE                     every counter, at the end or on command
 *   lab-mark: NAME guest_instructions=... ...   one line at an event the lab sees, or on the command "mark NAME"
 *   lab-profile: ADDRESS COUNT                  profile=N: the guest's most frequent PCs
 *   lab-ic: NAME ...                            the integration components (ics.c)
 *   lab-memory: ..., lab-isolation: ...         dynamic and isolated memory (balloon.c, isolation.c)
 *   lab-end: WORD exit=N: why                   last line; QEMU exits with N
 */
#define LOG_ROOM "lab"
#include <string.h>
#include "tests/lab/glue.h"
#include "tests/lab/balloon.h"
#include "tests/lab/ics.h"
#include "tests/lab/isolation.h"
#include "tests/lab/machine.h"

#define PROFILE_SLOTS   8192u
#define PROFILE_TOP     200u
#define PROFILE_GRAIN   16u           /* bytes of code that count as one place */

uint64_t lab_counters[CNT_COUNT];
static uint64_t violations;

static const char *const counter_names[CNT_COUNT] = {
    "exits", "exits_id", "exits_register", "exits_hypercall", "exits_port", "exits_memory", "exits_interrupt", "exits_idle",
    "interrupts", "block_requests", "block_bytes", "block_notifies", "frames_tx", "frames_rx", "frames_dropped",
    "net_notifies",
};

/* Fields of the model's counters that a harness looks at. */
static const struct { const char *name; size_t offset; } model_counters[] = {
#define MODEL(field) {"host_" #field, offsetof(struct host_counters, field)}
    MODEL(hypercalls), MODEL(messages_in), MODEL(messages_out), MODEL(messages_delayed), MODEL(eoms), MODEL(signals),
    MODEL(signals_unneeded), MODEL(monitor_signals), MODEL(interrupts), MODEL(events), MODEL(events_lost),
    MODEL(packets_in), MODEL(packets_out), MODEL(ring_full), MODEL(srbs), MODEL(srb_bytes), MODEL(tx_frames),
    MODEL(tx_bytes), MODEL(tx_packets), MODEL(rx_frames), MODEL(rx_bytes), MODEL(rx_packets), MODEL(rx_dropped),
    MODEL(tx_referenced), MODEL(tlb_flushes), MODEL(ipis), MODEL(timer_messages), MODEL(timer_interrupts),
    MODEL(violations),
#undef MODEL
};

static uint64_t guest_instructions(void)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < lab_vcpu_count; i++)
        sum += vcpu_guest_instructions(vcpu_at(i));
    return sum;
}

static uint64_t model_counter(unsigned i)
{
    return *(const uint64_t *)((const char *)host_counters(lab_host) + model_counters[i].offset);
}

void report_counters(void)
{
    for (unsigned i = 0; i < CNT_COUNT; i++)
        kprintf("lab-counter: %s=%llu\n", counter_names[i], (unsigned long long)lab_counters[i]);
    if (lab_host)
        for (unsigned i = 0; i < ARRAY_SIZE(model_counters); i++)
            kprintf("lab-counter: %s=%llu\n", model_counters[i].name, (unsigned long long)model_counter(i));
    kprintf("lab-counter: guest_instructions=%llu\n", (unsigned long long)guest_instructions());
    kprintf("lab-counter: time_us=%llu\n", (unsigned long long)clock_now_us());
}

void report_mark(const char *name)
{
    const struct host_counters *h = host_counters(lab_host);
    kprintf("lab-mark: %s guest_instructions=%llu signals=%llu interrupts=%llu srbs=%llu tx_frames=%llu rx_frames=%llu "
            "tx_bytes=%llu rx_bytes=%llu exits=%llu time_us=%llu\n", name, (unsigned long long)guest_instructions(),
            (unsigned long long)h->signals, (unsigned long long)h->interrupts, (unsigned long long)h->srbs,
            (unsigned long long)h->tx_frames, (unsigned long long)h->rx_frames, (unsigned long long)h->tx_bytes,
            (unsigned long long)h->rx_bytes, (unsigned long long)lab_counters[CNT_EXITS],
            (unsigned long long)clock_now_us());
}

void report_once(unsigned event, const char *name)
{
    static bool seen[EVENTS];
    if (!seen[event]) {
        seen[event] = true;
        report_mark(name);
    }
}

/* ---- profile ---- */
static struct { uint64_t place, count; } *profile;
static uint64_t profile_total, profile_lost;

void profile_sample(const struct vcpu *v)
{
    if (!profile && !(profile = kcalloc(PROFILE_SLOTS, sizeof(*profile)))) {
        lab_options.profile_us = 0;
        return;
    }
    uint64_t place = vcpu_pc(v) / PROFILE_GRAIN;
    profile_total++;
    for (unsigned i = 0; i < 32; i++) {
        unsigned slot = (unsigned)((place * 0x9E3779B97F4A7C15ull >> 40) + i) % PROFILE_SLOTS;
        if (profile[slot].count == 0)
            profile[slot].place = place;
        if (profile[slot].place == place) {
            profile[slot].count++;
            return;
        }
    }
    profile_lost++;
}

static void profile_print(void)
{
    if (!profile)
        return;
    kprintf("lab-profile-total: %llu samples, %llu lost\n", (unsigned long long)profile_total,
            (unsigned long long)profile_lost);
    for (unsigned n = 0; n < PROFILE_TOP; n++) {
        unsigned best = 0;
        for (unsigned i = 1; i < PROFILE_SLOTS; i++)
            if (profile[i].count > profile[best].count)
                best = i;
        if (profile[best].count == 0)
            return;
        kprintf("lab-profile: %#llx %llu\n", (unsigned long long)profile[best].place * PROFILE_GRAIN,
                (unsigned long long)profile[best].count);
        profile[best].count = 0;
    }
}

/* ---- the end ---- */
void report_violation(const char *text)
{
    violations++;
    log_err("VIOLATION: %s", text);
}

NORETURN void lab_end(enum lab_end how, const char *why)
{
    static const char *const words[] = {"power-off", "crash", "triple-fault", "violation", "lab-fault", "reboot",
                                        "quit"};
    static bool ending;
    if (!ending) {
        ending = true;
        report_counters();
        if (lab_host) {
            ics_report();
            balloon_report();
            isolation_report();
        }
        profile_print();
    }
    if (violations && (how == LAB_END_POWER_OFF || how == LAB_END_REBOOT || how == LAB_END_QUIT)) {
        how = LAB_END_VIOLATION;
        why = "the guest broke the host's rules";
    }
    kprintf("lab-end: %s exit=%u: %s\n", words[how - LAB_END_POWER_OFF], (unsigned)how << 1 | 1, why);
    machine_exit(how);
}
