/* SPDX-License-Identifier: BSD-2-Clause */
/* Hypervisor and bus counters for the status page: see figures.c. */
#pragma once

/* Once, when there is a hypervisor. */
void figures_register(void);
