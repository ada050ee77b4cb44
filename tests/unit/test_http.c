/* SPDX-License-Identifier: BSD-2-Clause */
/* ROOMS: lib mm rt fake_arch apps/nbd */
/* The status server's parser of requests, and the text its pages are written into. */
#include "apps/nbd/http_parse.h"
#include "apps/nbd/text.h"
#include "mm/mm.h"
#include "tests/fake_arch/fake_arch.h"
#include "tests/unit/test.h"

static struct http_request request;
static int parse(const char *text) { return http_parse(text, strlen(text), &request); }

TEST(good_requests)
{
    CHECK_EQ(parse("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), 200);
    CHECK(strcmp(request.path, "/") == 0 && !request.head);
    CHECK_EQ(parse("HEAD /metrics?x=1 HTTP/1.0\r\n\r\n"), 200);
    CHECK(strcmp(request.path, "/metrics") == 0 && request.head);
    CHECK_EQ(parse("GET /a HTTP/1.1\n\n"), 200);
    CHECK(strcmp(request.path, "/a") == 0);
}

TEST(incomplete_requests_wait)
{
    static const char whole[] = "GET /metrics HTTP/1.1\r\nHost: a\r\nAccept: */*\r\n\r\n";
    for (size_t n = 0; n < sizeof(whole) - 1; n++)
        CHECK_EQ(http_parse(whole, n, &request), 0);
    CHECK_EQ(http_parse(whole, sizeof(whole) - 1, &request), 200);
}

TEST(bad_requests_have_their_status)
{
    static char text[HTTP_REQUEST_MAX + 1];
    CHECK_EQ(parse("POST / HTTP/1.1\r\n\r\n"), 405);
    CHECK_EQ(parse("BREW /pot HTTP/1.1\r\n\r\n"), 405);
    CHECK_EQ(parse("GET / HTTP/2.0\r\n\r\n"), 505);
    CHECK_EQ(parse("GET /\r\n\r\n"), 400);
    CHECK_EQ(parse("GET x HTTP/1.1\r\n\r\n"), 400);
    CHECK_EQ(parse("GET  HTTP/1.1\r\n\r\n"), 400);
    CHECK_EQ(parse("GET / JUNK/1.1\r\n\r\n"), 400);
    CHECK_EQ(parse("\r\n\r\n"), 400);
    CHECK_EQ(parse(" GET / HTTP/1.1\r\n\r\n"), 400);
    CHECK_EQ(http_parse("\0\1\2", 3, &request), 400);
    CHECK_EQ(http_parse("GET /\0x HTTP/1.1\r\n\r\n", 21, &request), 400);
    memset(text, 'x', sizeof(text));
    CHECK_EQ(http_parse(text, HTTP_REQUEST_MAX - 1, &request), 0);
    CHECK_EQ(http_parse(text, HTTP_REQUEST_MAX, &request), 431);
    memcpy(text, "GET /", 5);
    memcpy(text + 100, " HTTP/1.1\r\n\r\n", 13);
    CHECK_EQ(http_parse(text, 113, &request), 414);
}

TEST(any_bytes_are_taken)
{
    static const char whole[] = "GET /metrics?a=b HTTP/1.1\r\nHost: a\r\n\r\n";
    uint64_t seed = 1;
    for (unsigned round = 0; round < 20000; round++) {
        size_t n = sizeof(whole) - 1;
        char *text = malloc(n);                 /* exactly as long, so that a read beyond is seen */
        memcpy(text, whole, n);
        for (unsigned i = 0; i < 3; i++) {
            seed = seed * 6364136223846793005ull + 1442695040888963407ull;
            text[(seed >> 33) % n] = "\r\n \0/HTP?1.a"[(seed >> 20) % 12];
        }
        int status = http_parse(text, n - (seed >> 50) % 4, &request);
        CHECK(status == 0 || status == 200 || http_reason(status)[0]);
        free(text);
    }
}

TEST(text_grows_and_escapes)
{
    struct text t = {0};
    fake_arch_boot(16u << 20);
    for (unsigned i = 0; i < 10000; i++)
        text_add(&t, "%u,", i % 10);
    CHECK(!t.failed && t.bytes == 20000 && memcmp(t.p + 19990, "5,6,7,8,9,", 10) == 0);
    text_free(&t);
    text_add_html(&t, "a<b>&\"'\x01");
    CHECK(strcmp(t.p, "a&lt;b&gt;&amp;&quot;&#39;?") == 0);
    text_free(&t);
    text_add_label(&t, "a\\b\"c\nd");
    CHECK(strcmp(t.p, "a\\\\b\\\"c\\nd") == 0);
    text_free(&t);
}

TEST(text_without_memory_says_so)
{
    struct text t = {0};
    fake_arch_boot(16u << 20);
    mm_fail_nth(1);
    text_add(&t, "x");
    CHECK(t.failed && t.bytes == 0);
    text_free(&t);
    mm_fail_nth(0);
    text_add(&t, "x");
    for (unsigned i = 0; i < 300; i++)
        text_add(&t, "%1024s", "");             /* beyond the limit of a page */
    CHECK(t.failed);
    text_free(&t);
    CHECK(!t.p && !t.failed);
}

TEST_MAIN()
