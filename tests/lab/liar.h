/* SPDX-License-Identifier: BSD-2-Clause */
/* A host that lies, in the lab: options, who lies and who is honest. liar.c lists the words. */
#pragma once
#include "tests/host/host.h"

struct lab_liar_settings {
    struct host_malice malice;           /* classes 0: the host is honest */
    uint64_t luns, nics;                 /* bit per number: the liar's; none of both: everybody lies */
};
/* key: what follows "malice", a dot included. false: unknown or malformed */
bool liar_setting(struct lab_liar_settings *s, const char *key, const char *text);
/* "CLASS+CLASS,SEED,RATE" of the option, or of the command with blanks at the commas; "off". */
bool liar_parse(struct host_malice *m, const char *text);
/* Lies from now on, but not about these; NULL ends the list. */
void liar_start(const struct host_malice *m, const void *const *honest, unsigned count);
void liar_report(void);                                          /* "lab-malice: lies=3 ..." */
