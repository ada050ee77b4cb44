/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One test per rule of the host: a guest that kept all rules so far breaks one, and the violation that names it must
 * be reported. A rule that nobody enforces is a test that fails.
 *
 *     RULE(name, how far the guest has come, "text of the violation", { what it does wrong })
 */
#pragma once
#include "tests/unit/played_guest.h"

static uint32_t relid;                  /* of the device, for those who have come so far */

#define RULE(name, prepare, text, ...)                                                                       \
    static void name##_breaks(void) __VA_ARGS__                                                              \
    TEST(name) { must_be_reported(prepare, name##_breaks, text); }

static void must_be_reported(bool (*prepare)(void), void (*breaks)(void), const char *text)
{
    CHECK(prepare());
    poll_all();
    CHECK_EQ(violations, 0);
    if (violations)
        printf("already: %s\n", all_violations);
    all_violations[0] = 0;
    breaks();
    poll_all();
    CHECK(violations > 0);
    if (strstr(all_violations, text) == NULL)
        test_fail(__FILE__, __LINE__, "no violation says \"%s\"; reported:\n%s", text, all_violations);
    CHECK_EQ(host_counters(host)->violations, violations);
    host_destroy(host);
}

static bool at_start(void)
{
    start();
    return true;
}

static bool connected(void)
{
    start();
    return connect(VMBUS_VERSION_WIN10_5_3);
}
