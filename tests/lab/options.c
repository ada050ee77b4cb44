/* SPDX-License-Identifier: BSD-2-Clause */
/* The lab's command line: key=value words, "--", then the guest's own, untouched. Bad words are named and ignored. */
#define LOG_ROOM "lab"
#include <string.h>
#include "tests/lab/lab.h"

struct lab_options lab_options = {.cpus = 1, .tick_ms = 10};

static bool parse_number(const char *text, uint64_t *value)
{
    uint64_t n = 0;
    if (*text < '0' || *text > '9')
        return false;
    for (; *text >= '0' && *text <= '9'; text++)
        n = n * 10 + (uint64_t)(*text - '0');
    switch (*text) {
    case 'K': n <<= 10; text++; break;
    case 'M': n <<= 20; text++; break;
    case 'G': n <<= 30; text++; break;
    case 'T': n <<= 40; text++; break;
    }
    *value = n;
    return *text == '\0';
}

static void append_word(char *list, size_t size, const char *word)
{
    size_t used = strlen(list);
    if ((size_t)ksnprintf(list + used, size - used, "%s%s", used ? " " : "", word) >= size - used)
        log_warn("too many words of the model, \"%s\" is cut", word);
}

static void parse_word(char *word)
{
    char *value = strchr(word, '=');
    uint64_t n = 0;
    if (!value) {
        log_warn("option \"%s\" has no value", word);
        return;
    }
    *value++ = '\0';
    bool number = parse_number(value, &n);
    if (!strcmp(word, "trace"))
        ksnprintf(lab_options.trace, sizeof(lab_options.trace), "%s", value);
    else if (strchr(word, '.') || !strcmp(word, "isolation") || !strcmp(word, "malice")) {
        value[-1] = '=';
        append_word(lab_options.host_words, sizeof(lab_options.host_words), word);
    } else if (!number)
        log_warn("option %s=%s: not a number", word, value);
    else if (!strcmp(word, "guest_mem"))
        lab_options.guest_mem_bytes = n;
    else if (!strcmp(word, "cpus"))
        lab_options.cpus = n == 0 ? 1 : (unsigned)MIN(n, (uint64_t)LAB_MAX_VCPUS);
    else if (!strcmp(word, "aside"))
        lab_options.aside = n != 0;
    else if (!strcmp(word, "acpi"))
        lab_options.acpi = n != 0;
    else if (!strcmp(word, "measure"))
        lab_options.measure = n != 0;
    else if (!strcmp(word, "profile"))
        lab_options.profile_us = (unsigned)n;
    else if (!strcmp(word, "mark_at"))
        lab_options.mark_at = n;
    else if (!strcmp(word, "tick"))
        lab_options.tick_ms = (unsigned)n;
    else if (!strcmp(word, "ramdisk"))
        lab_options.ramdisk_bytes = n;
    else if (!strcmp(word, "latency"))
        lab_options.latency_us = (unsigned)n;
    else
        log_warn("option %s is unknown", word);
}

void options_parse(const char *cmdline)
{
    char word[256];
    for (;;) {
        while (*cmdline == ' ')
            cmdline++;
        size_t n = 0;
        while (cmdline[n] != '\0' && cmdline[n] != ' ')
            n++;
        if (n == 0)
            return;
        if (n == 2 && cmdline[0] == '-' && cmdline[1] == '-') {
            cmdline += 2;
            while (*cmdline == ' ')
                cmdline++;
            ksnprintf(lab_options.guest_cmdline, sizeof(lab_options.guest_cmdline), "%s", cmdline);
            return;
        }
        ksnprintf(word, MIN(sizeof(word), n + 1), "%s", cmdline);
        parse_word(word);
        cmdline += n;
    }
}
