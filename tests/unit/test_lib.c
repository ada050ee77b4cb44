/* SPDX-License-Identifier: BSD-2-Clause */
/* ROOMS: lib fake_arch */
/*
 * The ground floor: formatted printing against the C library's, the log's ring and sinks, names of errors, symbols.
 */
#include <limits.h>
#include "lib/list.h"
#include "lib/lib.h"
#include "tests/unit/test.h"

#pragma GCC diagnostic ignored "-Wformat"
#pragma GCC diagnostic ignored "-Wformat-security"
#pragma GCC diagnostic ignored "-Wformat-nonliteral"

static bool same_as_libc(const char *fmt, long long v)
{
    char ours[128], theirs[128];
    int n = ksnprintf(ours, sizeof ours, fmt, v), m = snprintf(theirs, sizeof theirs, fmt, v);
    if (n == m && strcmp(ours, theirs) == 0)
        return true;
    fprintf(stderr, "%s of %lld: \"%s\" (%d), expected \"%s\" (%d)\n", fmt, v, ours, n, theirs, m);
    return false;
}

TEST(numbers_print_as_in_the_c_library)
{
    static const long long values[] = {0, 1, -1, 9, 10, 255, -128, 32768, INT_MAX, INT_MIN, LLONG_MAX, LLONG_MIN,
                                       0xDEADBEEF};
    static const char *const flags[] = {"", "-", "0", "+", " ", "#", "-#", "+0", " 0", "#0", "-+"};
    static const char *const sizes[] = {"", "1", "12", ".0", ".1", ".5", "9.5", "3.7"};
    static const char *const lengths[] = {"hh", "h", "", "l", "ll", "z", "j", "t"};
    for (size_t f = 0; f < ARRAY_SIZE(flags); f++)
        for (size_t s = 0; s < ARRAY_SIZE(sizes); s++)
            for (size_t l = 0; l < ARRAY_SIZE(lengths); l++)
                for (const char *c = "diuxX"; *c; c++)
                    for (size_t v = 0; v < ARRAY_SIZE(values); v++) {
                        char fmt[32];
                        snprintf(fmt, sizeof fmt, "<%%%s%s%s%c>", flags[f], sizes[s], lengths[l], *c);
                        CHECK(same_as_libc(fmt, values[v]));
                    }
}

#define SAME(...)                                                       \
    do {                                                                \
        char ours_[128], theirs_[128];                                  \
        int n_ = ksnprintf(ours_, sizeof ours_, __VA_ARGS__);           \
        int m_ = snprintf(theirs_, sizeof theirs_, __VA_ARGS__);        \
        CHECK_EQ(n_, m_);                                               \
        CHECK(strcmp(ours_, theirs_) == 0);                             \
    } while (0)

TEST(text_prints_as_in_the_c_library)
{
    SAME("%s|%10s|%-10s|%.2s|%10.2s|%-10.2s|", "abc", "abc", "abc", "abc", "abc", "abc");
    SAME("%c|%5c|%-5c|%%", 'a', 'b', 'c');
    SAME("%*d|%-*d|%*d", 7, 1, 7, 2, -7, 3);
    SAME("%.*s|%.*s", 2, "abcdef", -1, "abc");
    SAME("%.3s", (const char[3]){'x', 'y', 'z'});
    SAME("%p", (void *)0x1234);
}

TEST(printing_is_cut_and_terminated)
{
    const char *volatile nothing = NULL;
    char buf[8];
    memset(buf, 'z', sizeof buf);
    CHECK_EQ(ksnprintf(buf, 4, "123456"), 6);
    CHECK(memcmp(buf, "123\0zzzz", 8) == 0);
    CHECK_EQ(ksnprintf(buf, 1, "123456"), 6);
    CHECK_EQ(buf[0], 0);
    CHECK_EQ(ksnprintf(NULL, 0, "%d", 12345), 5);
    ksnprintf(buf, sizeof buf, "%s", nothing);
    CHECK(strcmp(buf, "(null)") == 0);
    ksnprintf(buf, sizeof buf, "%q %");
    CHECK(strcmp(buf, "%q %") == 0);
}

static char seen[65536];
static size_t seen_bytes;
static void keep(struct log_sink *sink, const char *text, size_t bytes)
{
    (void)sink;
    if (bytes > sizeof seen - 1 - seen_bytes)
        bytes = sizeof seen - 1 - seen_bytes;
    memcpy(seen + seen_bytes, text, bytes);
    seen_bytes += bytes;
    seen[seen_bytes] = '\0';
}

static uint64_t noon(void) { return 1234567; }

TEST(log_lines_have_room_level_and_stamp)
{
    struct log_sink sink = {.write = keep};
    log_add_sink(&sink);
    log_line(LOG_INFO, "here", "a %d", 1);
    log_line(LOG_WARN, "here", "b");
    log_line(LOG_DEBUG, "here", "not shown");
    log_set_clock(noon);
    log_line(LOG_ERR, "here", "c");
    log_set_clock(NULL);
    log_remove_sink(&sink);
    log_line(LOG_INFO, "here", "after removal");
    CHECK(strcmp(seen, "here: a 1\nhere: warning: b\n[    1.234567] here: error: c\n") == 0);
}

TEST(late_sinks_get_whole_old_lines)
{
    struct log_sink sink = {.write = keep};
    for (int i = 0; i < 4000; i++)
        log_line(LOG_INFO, "n", "%d", i);
    log_add_sink(&sink);
    log_remove_sink(&sink);
    CHECK(seen_bytes > 16000 && seen_bytes <= 16384);
    CHECK(strncmp(seen, "n: ", 3) == 0);
    CHECK(strcmp(seen + seen_bytes - 8, "n: 3999\n") == 0);
}

TEST(the_tail_has_whole_lines)
{
    char tail[64];
    CHECK_EQ(log_tail(tail, sizeof tail), 0);
    log_line(LOG_INFO, "n", "first");
    log_line(LOG_INFO, "n", "second");
    CHECK_EQ(log_tail(tail, sizeof tail), 19);
    CHECK(memcmp(tail, "n: first\nn: second\n", 19) == 0);
    CHECK_EQ(log_tail(tail, 18), 10);
    CHECK(memcmp(tail, "n: second\n", 10) == 0);
    CHECK_EQ(log_tail(tail, 5), 0);
    CHECK_EQ(log_tail(tail, 0), 0);
}

TEST(long_lines_are_cut_visibly)
{
    struct log_sink sink = {.write = keep};
    char text[2000];
    memset(text, 'x', sizeof text);
    text[sizeof text - 1] = '\0';
    log_add_sink(&sink);
    log_line(LOG_INFO, "n", "%s", text);
    log_remove_sink(&sink);
    CHECK_EQ(seen_bytes, 511);
    CHECK(strcmp(seen + seen_bytes - 5, "x...\n") == 0);
}

TEST(levels_have_names_and_numbers)
{
    enum log_level level;
    CHECK(log_parse_level("err", &level) && level == LOG_ERR);
    CHECK(log_parse_level("debug", &level) && level == LOG_DEBUG);
    CHECK(log_parse_level("4", &level) && level == LOG_TRACE);
    CHECK(!log_parse_level("5", &level) && !log_parse_level("", &level) && !log_parse_level("errr", &level));
}

TEST(errors_have_names)
{
    CHECK(strcmp(error_name(-E_TIMEOUT), error_name(E_TIMEOUT)) == 0);
    CHECK(strcmp(error_name(0), "success") == 0 && strcmp(error_name(999), "unknown error") == 0);
}

/* A table as scripts/symbols.py makes it: three functions, end of code. */
static const struct {
    uint64_t base;
    uint32_t count, bytes;
    struct { uint32_t address, name; } entries[4];
    char names[16];
} chunk __attribute__((section("candela_symbols"), aligned(16), used)) = {
    0x10000, 4, 64, {{0, 48}, {0x10, 50}, {0x40, 53}, {0x80, 57}}, "a\0bb\0ccc\0",
};

TEST(symbols_are_found_by_any_address_inside)
{
    uint64_t offset = 99;
    CHECK_EQ(sizeof chunk, 64);
    CHECK(symbol_find(0xFFFF, &offset) == NULL);
    CHECK(strcmp(symbol_find(0x10000, &offset), "a") == 0 && offset == 0);
    CHECK(strcmp(symbol_find(0x1000F, &offset), "a") == 0 && offset == 15);
    CHECK(strcmp(symbol_find(0x10010, NULL), "bb") == 0);
    CHECK(strcmp(symbol_find(0x1007F, &offset), "ccc") == 0 && offset == 0x3F);
    CHECK(symbol_find(0x10080, &offset) == NULL);
    CHECK(symbol_find(UINT64_MAX, &offset) == NULL);
}

TEST_MAIN()
