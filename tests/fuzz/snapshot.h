/* SPDX-License-Identifier: BSD-2-Clause */
/* A machine of the fake architecture, remembered and set back; see snapshot.c. */
#pragma once
#include <stddef.h>

/* Once, in a quiet machine: the main task runs, all others wait. */
void snapshot_take(void);
/* From the main task's stack. What other tasks were doing is forgotten. */
void snapshot_restore(void);
/* Called at the beginning of taking. */
extern void (*snapshot_prepare)(void);
/* Mapped memory whose content is nobody's business, although it isn't free: stacks that wait for the next task. */
void snapshot_unused(const void *start, size_t bytes);
