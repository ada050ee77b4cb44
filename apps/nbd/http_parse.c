/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Parsing of an HTTP request (RFC 9112). The request line is checked; headers are only required to have an end, for
 * none of them changes what a status page answers.
 */
#include "apps/nbd/http_parse.h"
#include <string.h>

const char *http_reason(int status)
{
    switch (status) {
    case 200: return "OK";
    case 400: return "Bad Request";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 414: return "URI Too Long";
    case 431: return "Request Header Fields Too Large";
    case 505: return "HTTP Version Not Supported";
    default:  return "Internal Server Error";
    }
}

/* Offset behind the empty line that ends the headers, 0 while it is not there. A bare LF ends a line, too. */
static size_t end_of_headers(const char *text, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        if (text[i] != '\n')
            continue;
        if (i + 1 < bytes && text[i + 1] == '\n')
            return i + 2;
        if (i + 2 < bytes && text[i + 1] == '\r' && text[i + 2] == '\n')
            return i + 3;
    }
    return 0;
}

static bool is_token(const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!((p[i] >= 'A' && p[i] <= 'Z') || (p[i] >= 'a' && p[i] <= 'z') || p[i] == '-' || p[i] == '_'))
            return false;
    return n > 0;
}

static bool is(const char *p, size_t n, const char *word) { return strlen(word) == n && memcmp(p, word, n) == 0; }

int http_parse(const char *text, size_t bytes, struct http_request *request)
{
    /* What can't become a request is refused before its end: a client that speaks something else may wait for us. */
    if (bytes && !is_token(text, 1))
        return 400;
    if (!end_of_headers(text, bytes))
        return bytes >= HTTP_REQUEST_MAX ? 431 : 0;
    const char *line_end = memchr(text, '\n', bytes);
    size_t n = (size_t)(line_end - text);
    if (n > 0 && text[n - 1] == '\r')
        n--;
    const char *target = memchr(text, ' ', n);
    if (!target || !is_token(text, (size_t)(target - text)))
        return 400;
    size_t method_bytes = (size_t)(target - text);
    target++;
    size_t left = n - method_bytes - 1;
    const char *version = memchr(target, ' ', left);
    if (!version)
        return 400;                     /* HTTP/0.9 had no version */
    size_t target_bytes = (size_t)(version - target);
    version++;
    size_t version_bytes = left - target_bytes - 1;
    if (version_bytes != 8 || memcmp(version, "HTTP/", 5) != 0 || version[6] != '.')
        return 400;
    if (version[5] != '1')
        return 505;
    if (!is(text, method_bytes, "GET") && !is(text, method_bytes, "HEAD"))
        return 405;
    if (target_bytes == 0 || target[0] != '/')
        return 400;
    const char *query = memchr(target, '?', target_bytes);
    if (query)
        target_bytes = (size_t)(query - target);
    if (target_bytes >= sizeof(request->path))
        return 414;
    if (memchr(target, 0, target_bytes))
        return 400;
    memcpy(request->path, target, target_bytes);
    request->path[target_bytes] = 0;
    request->head = is(text, method_bytes, "HEAD");
    return 200;
}
