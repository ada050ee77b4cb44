/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The configuration file: candela.conf in either encoding, and the key=value words of a command line. Whoever can write
 * the file owns the machine; but a slip must never be worse than a line in the log, and no setting may be lost unseen.
 *
 * Must hold: a file is taken whole or refused with a line number that exists; what is taken fits the command line; its
 * words are found again by the kernel's parser, with the same values; numbers and switches come out within their bounds,
 * whatever the words.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "boot/efi/conf.c"
#include "mm/mm.h"
#include "rt/rt.h"
#include "tests/fake_arch/fake_arch.h"
#include "tests/fuzz/fuzz.h"

static void setup(void) { fake_mappings_keep(); fake_arch_boot(8 << 20); }

static const char *const keys[] = {"loglevel", "net.mtu", "nbd.allow", "hv.bounce", "a", "b", "memory.floor"};

static void look_at_settings(void)
{
    for (unsigned i = 0; i < ARRAY_SIZE(keys); i++) {
        const char *s = config_string(keys[i], NULL);
        uint64_t n = config_number(keys[i], 42, 10, 1u << 20);
        FUZZ_CHECK(!s || strlen(s) < BOOT_CMDLINE_BYTES);
        FUZZ_CHECK(n == 42 || (n >= 10 && n <= 1u << 20));
        config_bool(keys[i], true);
    }
    config_report_unknown();
}

/* Key of the last line of the file that has one, when the file is plain enough to tell: the same key must be found. */
static void check_last_word(const char *cmdline)
{
    const char *space = strrchr(cmdline, ' '), *word = space ? space + 1 : cmdline;
    const char *equals = strchr(word, '=');
    char key[64];

    if (strchr(cmdline, '"') || strchr(cmdline, '#') || !equals || (size_t)(equals - word) >= sizeof(key))
        return;
    snprintf(key, sizeof(key), "%.*s", (int)(equals - word), word);
    const char *value = config_string(key, NULL);
    FUZZ_CHECK(value && strcmp(value, equals + 1) == 0);
}

static void run(struct input *in)
{
    static char cmdline[BOOT_CMDLINE_BYTES];
    uint8_t what = in_u8(in);
    size_t bytes = in->left;
    char *copy = malloc(bytes + 1);
    unsigned line = 0, lines = 1;

    memcpy(copy, in->at, bytes);
    copy[bytes] = 0;
    cmdline[0] = 0;
    if (what & 1) {                            /* a command line as loaders give it, in two parts */
        char *half = copy + bytes / 2;
        config_parse(half);
        *half = 0;
        config_parse(copy);
    } else {
        for (size_t i = 0; i < bytes; i++)
            lines += copy[i] == '\n';
        uint8_t *exact = malloc(bytes + !bytes);
        memcpy(exact, copy, bytes);
        const char *why = conf_append(cmdline, sizeof(cmdline), exact, bytes, &line);
        free(exact);
        FUZZ_CHECK(memchr(cmdline, 0, sizeof(cmdline)));
        FUZZ_CHECK(!why || (line >= 1 && line <= lines));
        config_parse(cmdline);
        if (!why && cmdline[0])
            check_last_word(cmdline);
    }
    look_at_settings();
    free(copy);
}

const struct fuzz_target fuzz_target = {.setup = setup, .run = run, .limit_s = 10};
