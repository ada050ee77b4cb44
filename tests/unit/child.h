/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Tests that need many machines: each lives in a child process, and what failed in there fails here. For tests that make
 * the n-th of something fail, n = 1, 2, 3 ... until a life in which nothing was left to fail.
 */
#pragma once
#include <unistd.h>
#include "tests/fake_arch/fake_arch.h"
#include "tests/unit/test.h"

struct child { void (*fn)(void *arg); void *arg; };
#define NOTHING_LEFT 42                          /* exit of a child whose fault did not come any more */

static inline void child_main(void *arg)
{
    struct child *c = arg;

    test_failures_here = 0;
    c->fn(c->arg);
    fflush(NULL);
    _exit(test_failures_here != 0);
}

static inline int in_child(void (*fn)(void *arg), void *arg)
{
    struct child c = {fn, arg};

    return fake_run_child(child_main, &c);
}

static inline void nothing_left(void)
{
    fflush(NULL);
    if (!test_failures_here)
        _exit(NOTHING_LEFT);
}

/* live(n), in a child, makes the n-th allocation fail and calls nothing_left when there was none. */
static inline void each_allocation(void (*live)(void *n))
{
    unsigned n;

    for (n = 1; n < 400; n++) {
        int end = in_child(live, (void *)(uintptr_t)n);
        if (end == NOTHING_LEFT)
            break;
        if (end != FAKE_RETURNED)
            test_fail(__FILE__, __LINE__, "allocation %u failing ends with %d", n, end);
        if (test_failures_here > 5)
            return;
    }
    CHECK(n > 10 && n < 400);
}
