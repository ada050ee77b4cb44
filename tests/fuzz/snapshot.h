/* SPDX-License-Identifier: BSD-2-Clause */
/* A machine of the fake architecture, remembered and set back; see snapshot.c. */
#pragma once

/* Once, in a quiet machine: the main task runs, all others wait. */
void snapshot_take(void);
/* From the main task's stack. What other tasks were doing is forgotten. */
void snapshot_restore(void);
