/* SPDX-License-Identifier: BSD-2-Clause */
/* The runner behind test.h. */
#include "tests/unit/test.h"
#include <stdarg.h>

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

int test_run_all(int argc, char **argv)
{
    unsigned passed = 0, failed = 0;
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (struct test *t = test_first; t; t = t->next) {
        if (argc > 1 && !strstr(t->name, argv[1]))
            continue;
        test_current = t->name;
        test_failures_here = 0;
        t->fn();
        if (test_failures_here) {
            failed++;
        } else {
            passed++;
            printf("PASS: %s\n", t->name);
        }
    }
    printf("%u passed, %u failed\n", passed, failed);
    return failed != 0 || passed == 0;
}
