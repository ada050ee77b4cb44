/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Hosted tests: one program per room. Each TEST prints "PASS: name" or "FAIL: name: ..."; the program ends in
 * "N passed, N failed" and exits 1 when anything failed.
 *
 *     TEST(pages_come_back) { ... CHECK(free == before); }
 *     TEST_MAIN()
 */
#pragma once
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct test { const char *name; void (*fn)(void); struct test *next; };
extern struct test *test_first, **test_last;
extern const char *test_current;
extern unsigned test_failures_here;
void test_fail(const char *file, int line, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* More processor time for the test that calls this: at least two minutes. */
void test_limit_s(unsigned seconds);
/* Runs all, or those whose names contain argv[1]. */
int test_run_all(int argc, char **argv);

#define TEST(n)                                                                                      \
    static void test_##n(void);                                                                      \
    __attribute__((constructor)) static void test_register_##n(void)                                 \
    {                                                                                                \
        static struct test t = {#n, test_##n, NULL};                                                 \
        *test_last = &t;                                                                             \
        test_last = &t.next;                                                                         \
    }                                                                                                \
    static void test_##n(void)
/* For a program that includes another's tests: those that do not apply to its machines. */
extern const char *const *test_left_out;
#define TESTS_LEFT_OUT(...)                                                                          \
    __attribute__((constructor)) static void tests_leave_out(void)                                   \
    {                                                                                                \
        static const char *const names[] = {__VA_ARGS__, NULL};                                      \
        test_left_out = names;                                                                       \
    }
#define CHECK(c) do { if (!(c)) { test_fail(__FILE__, __LINE__, "%s", #c); return; } } while (0)
#define CHECK_EQ(a, b)                                                                               \
    do {                                                                                             \
        long long a_ = (long long)(a), b_ = (long long)(b);                                          \
        if (a_ != b_) { test_fail(__FILE__, __LINE__, "%s is %lld, expected %lld", #a, a_, b_); return; } \
    } while (0)
#define TEST_MAIN() int main(int argc, char **argv) { return test_run_all(argc, argv); }
