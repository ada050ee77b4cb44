/* SPDX-License-Identifier: BSD-2-Clause */
/* Growing text and its escapes; text.h. */
#include "apps/nbd/text.h"
#include <string.h>
#include "rt/rt.h"

#define TEXT_STEP_BYTES 4096
#define TEXT_MAX_BYTES  (256u << 10)

static bool grow(struct text *t, size_t more)
{
    if (t->failed)
        return false;
    if (more < t->room - t->bytes)
        return true;
    size_t room = ALIGN_UP(t->bytes + more + 1, TEXT_STEP_BYTES) + t->room;
    char *p = room <= TEXT_MAX_BYTES ? kmalloc(room) : NULL;
    if (!p) {
        t->failed = true;
        return false;
    }
    if (t->bytes)
        memcpy(p, t->p, t->bytes);
    kfree(t->p);
    t->p = p;
    t->room = room;
    return true;
}

void text_add(struct text *t, const char *fmt, ...)
{
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = kvsnprintf(NULL, 0, fmt, ap);
    if (n > 0 && grow(t, (size_t)n)) {
        kvsnprintf(t->p + t->bytes, t->room - t->bytes, fmt, again);
        t->bytes += (size_t)n;
    }
    va_end(again);
    va_end(ap);
}

void text_add_html(struct text *t, const char *s)
{
    for (; *s; s++) {
        switch (*s) {
        case '&':  text_add(t, "&amp;"); break;
        case '<':  text_add(t, "&lt;"); break;
        case '>':  text_add(t, "&gt;"); break;
        case '"':  text_add(t, "&quot;"); break;
        case '\'': text_add(t, "&#39;"); break;
        default:   text_add(t, "%c", *s >= ' ' && *s < 127 ? *s : '?'); break;
        }
    }
}

void text_add_label(struct text *t, const char *s)
{
    for (; *s; s++) {
        if (*s == '\\' || *s == '"')
            text_add(t, "\\%c", *s);
        else if (*s == '\n')
            text_add(t, "\\n");
        else
            text_add(t, "%c", *s >= ' ' && *s < 127 ? *s : '?');
    }
}

void text_free(struct text *t)
{
    kfree(t->p);
    *t = (struct text){0};
}
