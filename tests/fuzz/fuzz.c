/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Between libFuzzer and a target: one machine, set back after each execution, and the ends that an execution can have.
 *
 * A guest that is told to may power off or restart; that is an orderly end, from whatever task it comes. Everything else
 * that does not return ends the process.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include "mm/poison.h"
#include "tests/fake_arch/fake_arch.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/snapshot.h"
#include "tests/fuzz/watch.h"

#define STACK_CLEARED (1u << 20)               /* no execution goes deeper into the main stack */

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);
void __sanitizer_start_switch_fiber(void **save, const void *bottom, size_t bytes);
void __sanitizer_finish_switch_fiber(void *save, const void **bottom, size_t *bytes);

bool fuzz_thorough;

static bool always_thorough;
static void *back[5];                          /* __builtin_setjmp's */
static const struct task *main_task;

void fuzz_fail(const char *file, int line, const char *what)
{
    fprintf(stderr, "%s\nfuzz: %s:%d: not so: %s\n", fake_log_text(), file, line, what);
    abort();
}

static void orderly_end(enum fake_exit how UNUSED)
{
    if (task_self() != main_task) {
        pthread_attr_t attr;
        void *bottom;
        size_t bytes;
        pthread_getattr_np(pthread_self(), &attr);
        pthread_attr_getstack(&attr, &bottom, &bytes);
        pthread_attr_destroy(&attr);
        __sanitizer_start_switch_fiber(NULL, bottom, bytes);
    }
    __builtin_longjmp(back, 1);
}

int LLVMFuzzerInitialize(int *argc UNUSED, char ***argv UNUSED)
{
    if (!fuzz_target.setup)
        return 0;
    always_thorough = getenv("FUZZ_THOROUGH") != NULL;
    fuzz_target.setup();
    main_task = task_self();
    fake_end_hook = orderly_end;
    fake_log_clear();
    snapshot_take();
    return 0;
}

static __attribute__((noinline)) void run(struct input *in)
{
    uint64_t end = fake_now_100ns + S_100NS(fuzz_target.limit_s);

    if (__builtin_setjmp(back) == 0) {
        fuzz_target.run(in);
    } else {
        if (task_self() != main_task)
            __sanitizer_finish_switch_fiber(NULL, NULL, NULL);
        char *here = __builtin_frame_address(0);
        mem_unpoison(here - STACK_CLEARED, STACK_CLEARED);
    }
    if (fake_now_100ns > end)
        fuzz_fail(__FILE__, __LINE__, "one execution takes no longer than the target's limit");
}

/* FNV-1a, of 32 bits. */
static bool is_thorough(const uint8_t *data, size_t bytes)
{
    uint32_t hash = 0x811C9DC5;

    for (size_t i = 0; i < bytes; i++)
        hash = (hash ^ data[i]) * 0x01000193;
    return hash >> 30 == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct input in = {data, bytes};

    if (!fuzz_target.setup) {
        fuzz_target.run(&in);
        return 0;
    }
    fuzz_thorough = always_thorough || is_thorough(data, bytes);
    run(&in);
    snapshot_restore();
    if (always_thorough)
        watch_check();
    return 0;
}
