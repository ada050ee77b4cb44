/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The fake machine on top of the model of the host: what the lab does with a real processor, in one program.
 *
 *     fake_arch_boot(64 << 20);
 *     host_config_default(&cfg);  ... what the test is about ...
 *     struct host *h = hv_host_start(&cfg);
 *     host_add_scsi(h, ...);
 *     hv_init(); hv_clock_init(); hv_synic_init(); vmbus_connect(); ...
 *     hv_host_stop();
 *
 * The model sees the guest's memory through guarded.h: pages that it has not mapped for a purpose are closed to it.
 * The guest's counter is the fake one (FAKE_COUNTER_HZ), so cfg->tsc_hz is ignored. A violation of the host's rules
 * aborts the test unless it is expected (hv_host.violations_expected), and is counted then.
 */
#pragma once
#include "tests/fake_arch/fake_arch.h"
#include "tests/fake_arch/fake_hv.h"
#include "tests/host/host.h"

struct hv_host {
    struct host *host;
    bool violations_expected;
    unsigned violations;
    char violation[512];               /* the last one */
    bool no_audit;                     /* what the guest forgot is not looked for */
    bool pages_stay;                   /* what the host takes (balloon) can still be touched, and keeps its content */
    bool crashed;
    uint64_t crash_params[5];
    char crash_text[4097];
    bool powered;                      /* the guest asked for power off or reset by register */
    uint64_t flushes;                  /* TLB flushes by hypercall */
    uint64_t flushed_pages;            /* in their lists */
    uint64_t flush_vps[8];             /* processors of the last one */
    uint64_t reg_writes;
    uint64_t reg_reads;
    /* Optional: decides about replies when host_set_fault was given number 0. */
    enum host_fault_kind (*fault)(enum host_fault_point point, uint64_t number);
    /* Optional: told of every page of an isolated machine that changed hands. */
    void (*visibility)(uint64_t page, bool to_host);
    /* Optional: sees every hypercall before the host does; true and *result: the host does not see it. */
    bool (*intercept)(uint64_t control, uint64_t in, uint64_t out, uint64_t *result);
};
extern struct hv_host hv_host;

/* The model's memory; the C library's unless set before the start. */
extern void *(*hv_host_calloc)(size_t count, size_t bytes);
extern void (*hv_host_free)(void *p);

struct host *hv_host_start(const struct host_config *cfg);
/* Forgets the host; the guest must be done with it. */
void hv_host_stop(void);
/* The host's turn, outside of the guest's idling. */
void hv_host_run(void);
