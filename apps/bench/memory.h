/* SPDX-License-Identifier: BSD-2-Clause */
/* Memory as a workload: see memory.c. */
#pragma once
#include <stdint.h>

/* Runs for so many seconds; the exit code: 0, or 1 when memory did not hold what was written to it. */
int run_memory(uint64_t seconds);
