/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The runner behind test.h. Each test runs in its own process: the rooms' state is static, so each begins with a machine
 * that nobody used, and one that crashes or hangs fails alone. TEST_NOFORK=1 runs them in one process, for a debugger
 * and one test at a time.
 *
 * Their limit is processor time, which a busy machine does not use up for them; children of their own inherit it. Who
 * sleeps and never wakes uses none, hence another limit, by the clock.
 */
#define _GNU_SOURCE
#include "tests/unit/test.h"
#include <stdarg.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define TEST_LIMIT_S       120                    /* of processor time */
#define TEST_CLOCK_TIMES   10                     /* as long by the clock */

struct test *test_first, **test_last = &test_first;
const char *test_current;
const char *const *test_left_out;
unsigned test_failures_here;

void test_fail(const char *file, int line, const char *fmt, ...)
{
    va_list ap;
    test_failures_here++;
    printf("FAIL: %s: %s:%d: ", test_current, file, line);
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    printf("\n");
}

void test_limit_s(unsigned seconds)
{
    struct rlimit limit;

    getrlimit(RLIMIT_CPU, &limit);
    limit.rlim_cur = seconds;
    setrlimit(RLIMIT_CPU, &limit);
    alarm(seconds * TEST_CLOCK_TIMES);
}

/* True when the test passed. */
static bool run_one(const struct test *t)
{
    int status = 0;
    test_failures_here = 0;
    if (getenv("TEST_NOFORK")) {
        t->fn();
        return test_failures_here == 0;
    }
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        test_limit_s(TEST_LIMIT_S);
        t->fn();
        exit(test_failures_here != 0);
    }
    if (child < 0 || waitpid(child, &status, 0) != child) {
        printf("FAIL: %s: cannot run it in a process\n", t->name);
        return false;
    }
    if (WIFSIGNALED(status))
        printf("FAIL: %s: ended by signal %d (%s)\n", t->name, WTERMSIG(status), strsignal(WTERMSIG(status)));
    else if (WEXITSTATUS(status) > 1)
        printf("FAIL: %s: ended with status %d\n", t->name, WEXITSTATUS(status));
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* A name that no test has would leave out nothing, and nobody would notice. */
static bool left_out(const char *name)
{
    for (const char *const *n = test_left_out; n && *n; n++)
        if (strcmp(*n, name) == 0)
            return true;
    return false;
}

static bool left_out_exist(void)
{
    for (const char *const *n = test_left_out; n && *n; n++) {
        const struct test *t = test_first;
        while (t && strcmp(t->name, *n) != 0)
            t = t->next;
        if (!t) {
            printf("FAIL: no test %s to leave out\n", *n);
            return false;
        }
    }
    return true;
}

int test_run_all(int argc, char **argv)
{
    unsigned passed = 0, failed = 0;
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (struct test *t = test_first; t; t = t->next) {
        if ((argc > 1 && !strstr(t->name, argv[1])) || left_out(t->name))
            continue;
        test_current = t->name;
        if (!run_one(t)) {
            failed++;
            printf("FAIL: %s\n", t->name);
        } else {
            passed++;
            printf("PASS: %s\n", t->name);
        }
    }
    if (!left_out_exist())
        failed++;
    printf("%u passed, %u failed\n", passed, failed);
    return failed != 0 || passed == 0;
}
