/* SPDX-License-Identifier: BSD-2-Clause */
/* Requests of HTTP/1.x, as much as a status page needs; http_parse.c. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

#define HTTP_REQUEST_MAX 2048           /* bytes of request line and headers; more is answered 431 */

struct http_request {
    bool head;                          /* HEAD: the answer has no body */
    char path[64];                      /* without query */
};

/* 0: incomplete; 200: *request is valid; else the status to answer with (400, 405, 414, 431, 505). */
int http_parse(const char *text, size_t bytes, struct http_request *request);
const char *http_reason(int status);
