/* SPDX-License-Identifier: BSD-2-Clause */
/* Dynamic memory in the lab: options, commands, reports. balloon.c lists them. */
#pragma once
#include "tests/host/host.h"

struct lab_balloon_settings { struct host_balloon_config host; bool absent; };
void balloon_defaults(struct lab_balloon_settings *s);
/* key behind "balloon.". false: unknown or malformed */
bool balloon_setting(struct lab_balloon_settings *s, const char *key, const char *text);
bool balloon_start(const struct lab_balloon_settings *s);       /* offers the device; false: no memory */
/* false: not one of its commands. *done: it was carried out. */
bool balloon_command(const char *verb, const char *what, const char *more, bool *done);
void balloon_report(void);                                      /* "lab-memory: ..." */
/* The model's callback of that name. */
bool balloon_pages(void *ctx, uint64_t gpn, uint64_t count, enum host_pages what);
/* The guest has given this page to the host and may not use it. */
bool balloon_gone(uint64_t gpa);
