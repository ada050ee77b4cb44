/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The runner behind test.h. Each test runs in its own process: the rooms' state is static, so each begins with a machine
 * that nobody used, and one that crashes or hangs fails alone. TEST_NOFORK=1 runs them in one process, for a debugger
 * and one test at a time.
 */
#define _GNU_SOURCE
#include "tests/unit/test.h"
#include <stdarg.h>
#include <sys/wait.h>
#include <unistd.h>

#define TEST_LIMIT_S 120

struct test *test_first, **test_last = &test_first;
const char *test_current;
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
        alarm(TEST_LIMIT_S);
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

int test_run_all(int argc, char **argv)
{
    unsigned passed = 0, failed = 0;
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (struct test *t = test_first; t; t = t->next) {
        if (argc > 1 && !strstr(t->name, argv[1]))
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
    printf("%u passed, %u failed\n", passed, failed);
    return failed != 0 || passed == 0;
}
