/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * HTTP requests: whoever reaches the status page's port sends any bytes, in pieces of any size.
 *
 * Must hold: a request is complete, incomplete or refused, and stays what it was when the same bytes come with more behind
 * them; what is incomplete at the longest length is refused; a path taken over has an end and no NUL inside; and page
 * text (apps/nbd/text.c) made of it never leaves its limit.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include "apps/nbd/http_parse.h"
#include "tests/fuzz/fuzz.h"

static bool known(int status)
{
    return status == 0 || status == 200 || status == 400 || status == 405 || status == 414 || status == 431 ||
           status == 505;
}

static void run(struct input *in)
{
    size_t bytes = MIN(in->left, (size_t)HTTP_REQUEST_MAX), part = bytes ? in->at[bytes - 1] % (bytes + 1) : 0;
    struct http_request whole, early;
    char *text = malloc(bytes + !bytes);               /* exactly as long: a read beyond it is seen */

    memcpy(text, in->at, bytes);
    memset(&whole, 0xEE, sizeof(whole));
    int status = http_parse(text, bytes, &whole);
    FUZZ_CHECK(known(status) && http_reason(status));
    FUZZ_CHECK(status != 0 || bytes < HTTP_REQUEST_MAX);
    if (status == 200) {
        size_t n = strnlen(whole.path, sizeof(whole.path));
        FUZZ_CHECK(whole.path[0] == '/' && n < sizeof(whole.path));
        FUZZ_CHECK(memmem(text, bytes, whole.path, n));
    }
    char *first = malloc(part + !part);
    memcpy(first, text, part);
    int before = http_parse(first, part, &early);
    FUZZ_CHECK(before == 0 || before == status);
    FUZZ_CHECK(before != 200 || strcmp(early.path, whole.path) == 0);
    free(first);
    free(text);
}

const struct fuzz_target fuzz_target = {.run = run};
