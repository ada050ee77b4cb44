/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Configuration: key=value words of the command line or of candela.conf.
 *
 * Words are separated by blanks and line ends; "#" at the start of a word comments out the rest of its line; a value
 * may be "quoted" to hold blanks. The last of several equal keys wins. What is wrong is reported by name and ignored:
 * an operator's slip must not keep a machine from booting.
 */
#define LOG_ROOM "config"
#include <string.h>
#include "rt/rt.h"

#define TEXT_BYTES  4096
#define MAX_ENTRIES 128
#define REFUSED_MAX 16             /* named, so that a line of nonsense does not drown the log */
#define SHOWN_BYTES 80

static char text[TEXT_BYTES];
static size_t text_used;
static struct entry { const char *key, *value; bool asked; } entries[MAX_ENTRIES];
static unsigned entry_count, refused;

static bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

static bool is_key_char(char c)
{
    bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    return letter || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
}

static struct entry *find(const char *key)
{
    for (unsigned i = 0; i < entry_count; i++)
        if (strcmp(entries[i].key, key) == 0)
            return &entries[i];
    return NULL;
}

/* A word as a log line can show it: its beginning, and no byte that a terminal might obey. */
static const char *printable(const char *word)
{
    static char shown[SHOWN_BYTES];
    size_t n = 0;
    for (; word[n] != '\0' && n < sizeof shown - 1; n++)
        shown[n] = word[n] >= ' ' && word[n] <= '~' ? word[n] : '?';
    if (word[n] != '\0')
        memcpy(shown + n - 3, "...", 3);
    shown[n] = '\0';
    return shown;
}

/* The first few are named; config_report_unknown tells the number of the others. */
static void refuse(const char *word, const char *why)
{
    if (refused++ < REFUSED_MAX)
        log_warn("\"%s\" %s, ignored", printable(word), why);
}

static void add_word(char *key, char *equals, char *value)
{
    bool valid = equals != NULL && equals != key;
    for (const char *c = key; valid && c < equals; c++)
        valid = is_key_char(*c);
    if (!valid) {
        refuse(key, "is not of the form key=value");
        return;
    }
    *equals = '\0';
    struct entry *e = find(key);
    if (!e && entry_count == MAX_ENTRIES) {
        refuse(key, "is one setting too many");
        return;
    }
    if (!e)
        e = &entries[entry_count++];
    *e = (struct entry){key, value, false};
}

/* Parses one word in place; returns what follows it. */
static char *parse_word(char *word)
{
    char *in = word, *out = word, *equals = NULL;
    bool quoted = false;
    for (; *in && (quoted || !is_blank(*in)); in++) {
        if (*in == '"' && equals) {
            quoted = !quoted;
            continue;
        }
        if (*in == '=' && !equals)
            equals = out;
        *out++ = *in;
    }
    char *rest = *in ? in + 1 : in;
    *out = '\0';
    if (quoted)
        refuse(word, "lacks its closing quote");
    else
        add_word(word, equals, equals ? equals + 1 : NULL);
    return rest;
}

void config_parse(const char *given)
{
    size_t bytes = strlen(given), room = TEXT_BYTES - text_used;
    if (bytes >= room) {
        log_warn("configuration is longer than %u bytes, the end is ignored", TEXT_BYTES - 1);
        if (room == 0)
            return;
        bytes = room - 1;
        /* Half a word would be a wrong word. */
        while (bytes > 0 && !is_blank(given[bytes]) && !is_blank(given[bytes - 1]))
            bytes--;
    }
    char *at = text + text_used;
    memcpy(at, given, bytes);
    at[bytes] = '\0';
    text_used += bytes + 1;
    while (*at) {
        if (is_blank(*at))
            at++;
        else if (*at == '#')
            while (*at && *at != '\n')
                at++;
        else
            at = parse_word(at);
    }
}

const char *config_string(const char *key, const char *fallback)
{
    struct entry *e = find(key);
    if (!e)
        return fallback;
    e->asked = true;
    return e->value;
}

static unsigned digit_value(char c)
{
    if (c >= '0' && c <= '9')
        return (unsigned)(c - '0');
    if (c >= 'a' && c <= 'f')
        return (unsigned)(c - 'a') + 10;
    if (c >= 'A' && c <= 'F')
        return (unsigned)(c - 'A') + 10;
    return 99;
}

static bool parse_number(const char *s, uint64_t *value)
{
    unsigned base = s[0] == '0' && (s[1] == 'x' || s[1] == 'X') ? 16 : 10;
    uint64_t v = 0;
    if (base == 16)
        s += 2;
    if (digit_value(*s) >= base)
        return false;
    for (; digit_value(*s) < base; s++)
        if (__builtin_mul_overflow(v, base, &v) || __builtin_add_overflow(v, digit_value(*s), &v))
            return false;
    unsigned shift = *s == 'K' || *s == 'k' ? 10 : *s == 'M' || *s == 'm' ? 20 : *s == 'G' || *s == 'g' ? 30 : 0;
    if (shift)
        s++;
    if (*s || v > UINT64_MAX >> shift)
        return false;
    *value = v << shift;
    return true;
}

uint64_t config_number(const char *key, uint64_t fallback, uint64_t min, uint64_t max)
{
    const char *s = config_string(key, NULL);
    uint64_t value;
    if (!s)
        return fallback;
    if (!parse_number(s, &value)) {
        log_warn("%s=%s is not a number, using %llu", key, s, (unsigned long long)fallback);
        return fallback;
    }
    if (value < min || value > max) {
        log_warn("%s=%s is not in %llu..%llu, using %llu", key, s, (unsigned long long)min, (unsigned long long)max,
                 (unsigned long long)fallback);
        return fallback;
    }
    return value;
}

bool config_bool(const char *key, bool fallback)
{
    static const char *const words[2][4] = {{"0", "no", "off", "false"}, {"1", "yes", "on", "true"}};
    const char *s = config_string(key, NULL);
    if (!s)
        return fallback;
    for (unsigned i = 0; i < 8; i++)
        if (strcmp(s, words[i / 4][i % 4]) == 0)
            return i / 4;
    log_warn("%s=%s is neither yes nor no, using %s", key, s, fallback ? "yes" : "no");
    return fallback;
}

void config_report_unknown(void)
{
    for (unsigned i = 0; i < entry_count; i++)
        if (!entries[i].asked)
            refuse(entries[i].key, "is an unknown setting");
    if (refused > REFUSED_MAX)
        log_warn("%u more words ignored", refused - REFUSED_MAX);
}
