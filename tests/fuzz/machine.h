/* SPDX-License-Identifier: BSD-2-Clause */
/* A machine on the model of the host, for targets whose input is what a host says: started, looked at, counted. */
#pragma once
#include "drivers/drivers.h"
#include "hv/hv.h"
#include "tests/fake_arch/hv_host.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/lies.h"
#include "vmbus/vmbus_internal.h"

extern struct host *machine_host;
extern struct host_config machine_config;      /* between machine_boot and machine_start */

void machine_boot(uint64_t ram_bytes, const char *settings);
void machine_start(void);                      /* the host is there, the guest knows its hypervisor */
void machine_connect(void);                    /* and its bus */
/* Before machine_book in a machine whose devices have tasks already. */
void machine_fill_stack_cache(void);

/* Lets the guest run for so long. */
static inline void machine_run_us(uint64_t us) { task_sleep_us(us); }
#define RUN_UNTIL(cond, limit_s)                                                        \
    ({                                                                                  \
        uint64_t end_ = rt_now_100ns() + S_100NS(limit_s);                              \
        while (!(cond) && rt_now_100ns() < end_)                                        \
            task_sleep_us((limit_s) * 1000);                                            \
        (cond);                                                                         \
    })

/* All that the host has queued for the guest has been taken. */
static inline void machine_drain(void) { FUZZ_CHECK(RUN_UNTIL(!machine_host->vmbus.first, 10)); machine_run_us(1000); }

/* What must be the same when everything an input brought is gone. Pages that the host did not let go of are leaked
 * knowingly and counted by hv/shmem.c: they count as there. */
struct machine_book { uint64_t pages, heap_bytes, vmap_bytes, shared_pages, tasks; unsigned channels; };
struct machine_book machine_book(void);
bool machine_same(const struct machine_book *before, bool say);   /* say: on stderr what is not */
/* It is all the same again within the limit. */
bool machine_same_within(const struct machine_book *before, unsigned limit_s);
