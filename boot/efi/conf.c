/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * candela.conf and load options -> the command line. Generation 2 machines pass none, so this is where an operator's
 * settings come from. Works on memory only; strict, because a setting that is silently lost (nbd.allow=...) opens
 * doors.
 */
#include <string.h>
#include "boot/efi/boot_efi.h"

/* A text of either encoding, read one byte of UTF-8 at a time. */
struct reader {
    const uint8_t *at, *end;
    bool utf16;
    uint8_t pending[2];          /* the rest of a character that takes several bytes */
    unsigned pending_count;
};

/* The next byte, or -1 at the end. A surrogate pair comes out as two question marks: no setting needs one. */
static int next_byte(struct reader *r)
{
    if (r->pending_count)
        return r->pending[--r->pending_count];
    if (r->at == r->end)
        return -1;
    if (!r->utf16)
        return *r->at++;
    if (r->end - r->at < 2) {
        r->at = r->end;
        return -1;
    }
    unsigned c = r->at[0] | r->at[1] << 8;
    r->at += 2;
    if (c < 0x80)
        return (int)c;
    if (c >= 0xd800 && c <= 0xdfff)
        return '?';
    r->pending[0] = (uint8_t)(0x80 | (c & 0x3f));
    r->pending_count = 1;
    if (c < 0x800)
        return (int)(0xc0 | c >> 6);
    r->pending[1] = (uint8_t)(0x80 | (c >> 6 & 0x3f));
    r->pending_count = 2;
    return (int)(0xe0 | c >> 12);
}

static bool is_blank(int c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

/* Appends a space (between words) and the text; false when it does not fit. */
static bool append(char *cmdline, size_t size, const char *text, size_t bytes)
{
    size_t used = strlen(cmdline);
    size_t gap = used ? 1 : 0;
    if (bytes + gap >= size - used)
        return false;
    if (gap)
        cmdline[used++] = ' ';
    memcpy(cmdline + used, text, bytes);
    cmdline[used + bytes] = '\0';
    return true;
}

/* As rt/config.c takes them. */
static bool is_key_char(char c)
{
    bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    return letter || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
}

/* One line without its blanks at both ends; key=value, quoted when the value has blanks and no quotes of its own. */
static const char *append_line(char *cmdline, size_t size, char *line, size_t bytes)
{
    size_t equals = 0;
    while (equals < bytes && line[equals] != '=' && !is_blank(line[equals]))
        equals++;
    if (equals == 0)
        return "begins with '='";
    if (equals == bytes || line[equals] != '=')
        return "not of the form key=value (without blanks around '=')";

    for (size_t i = 0; i < equals; i++)
        if (!is_key_char(line[i]))
            return "has a key with a character that no key has";

    bool blanks = false;
    unsigned quotes = 0;
    for (size_t i = equals + 1; i < bytes; i++) {
        blanks |= is_blank(line[i]);
        quotes += line[i] == '"';
    }
    if (quotes % 2 != 0)      /* it would swallow the settings that follow */
        return "lacks a closing quote";
    if (blanks && quotes == 0) {
        memmove(line + equals + 2, line + equals + 1, bytes - equals - 1);
        line[equals + 1] = '"';
        line[bytes + 1] = '"';
        bytes += 2;
    }
    return append(cmdline, size, line, bytes) ? NULL : "too long: the settings are limited to 4095 bytes in all";
}

const char *conf_append(char *cmdline, size_t size, const uint8_t *text, size_t bytes, unsigned *line)
{
    static const uint8_t utf8_mark[3] = {0xef, 0xbb, 0xbf};
    struct reader r = {.at = text, .end = text + bytes};
    *line = 1;
    if (bytes >= 3 && memcmp(text, utf8_mark, 3) == 0)
        r.at += 3;
    if (bytes >= 2 && text[0] == 0xfe && text[1] == 0xff)
        return "big-endian UTF-16; save it as UTF-8";
    if (bytes >= 2 && text[0] == 0xff && text[1] == 0xfe) {
        r.at += 2;
        r.utf16 = true;
    }

    char words[BOOT_CMDLINE_BYTES + 2];    /* two more for the quotes */
    for (int c = 0; c >= 0; (*line)++) {
        size_t n = 0, end = 0;             /* end: behind the last character that is not blank */
        bool comment = false, quoted = false;
        while ((c = next_byte(&r)) >= 0 && c != '\n') {
            if (n == 0 && is_blank(c))
                continue;
            comment |= c == '#' && !quoted && (n == 0 || words[n - 1] == ' ');
            if (comment)
                continue;
            quoted ^= c == '"';
            if (c < ' ' && !is_blank(c))
                return "has a control character; is this a text file?";
            if (n == BOOT_CMDLINE_BYTES)
                return "too long";
            words[n++] = (char)(is_blank(c) ? ' ' : c);
            if (!is_blank(c))
                end = n;
        }
        if (end == 0)
            continue;
        const char *why = append_line(cmdline, size, words, end);
        if (why)
            return why;
    }
    return NULL;
}

bool conf_append_load_options(char *cmdline, size_t size, const void *options, size_t bytes)
{
    const uint8_t *wide = options;
    char text[BOOT_CMDLINE_BYTES];
    size_t n = 0;
    bool assignment = false;
    if (!options || bytes % 2 != 0)
        return true;
    for (size_t i = 0; i < bytes; i += 2) {
        unsigned c = wide[i] | wide[i + 1] << 8;
        if (c == 0)
            break;
        if (c == '\t')
            c = ' ';
        if (c < ' ' || c > '~')
            return true;
        if (n == sizeof(text))
            return false;
        assignment |= c == '=';
        text[n++] = (char)c;
    }
    if (!assignment)
        return true;

    size_t first = 0;
    while (first < n && text[first] != ' ' && text[first] != '=')
        first++;
    size_t skip = first < n && text[first] == ' ' ? first + 1 : 0;
    while (skip < n && text[skip] == ' ')
        skip++;
    return skip == n || append(cmdline, size, text + skip, n - skip);
}
