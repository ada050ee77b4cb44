/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * selftest=NAME: failures on demand (assert null write-constant undefined execute-data boot-stack task-stack far-edge
 * interrupt reporter interrupt-stack console), and three that only look: memory, interrupts, copies.
 */
#pragma once

void selftest_run(const char *name);
/* selftest_memory.c: checks the tables in force and logs one line with the number of faults found. */
void selftest_memory(void);
/* selftest_interrupts.c: raises interrupts and waits, and logs the same. */
void selftest_interrupts(void);
/* selftest_copies.c: tries memcpy, memmove and memset, and logs the same. */
void selftest_copies(void);
