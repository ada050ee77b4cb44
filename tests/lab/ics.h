/* SPDX-License-Identifier: BSD-2-Clause */
/* The integration components in the lab: options, commands, reports. ics.c lists them. */
#pragma once
#include "tests/host/host.h"

/* key behind "ic.". false: unknown or malformed */
bool ics_setting(struct host_ic_config *cfg, const char *key, const char *text);
/* Since 1970; t: year, month, day, hour, minute, second. */
uint64_t unix_seconds(const uint64_t t[6]);
bool ics_start(struct host_ic_config *cfg);          /* offers them; false: no memory */
/* false: not one of its commands. *done: it was carried out. */
bool ics_command(const char *verb, const char *what, const char *more, bool *done);
void ics_poll(void);                                 /* prints results that have come; cheap when there are none */
void ics_report(void);                               /* "lab-ic: ..." for each */
