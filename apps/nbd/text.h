/* SPDX-License-Identifier: BSD-2-Clause */
/* A growing piece of text, for answers that are written as they go. */
#pragma once
#include "lib/lib.h"

struct text { char *p; size_t bytes, room; bool failed; };    /* failed: out of memory, what was added since is lost */

void text_add(struct text *t, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* With &, <, >, quotes written as HTML wants them; also for what a host or client named. */
void text_add_html(struct text *t, const char *s);
/* With backslash, quote and newline escaped, as in a label's value of the Prometheus text format. */
void text_add_label(struct text *t, const char *s);
void text_free(struct text *t);
