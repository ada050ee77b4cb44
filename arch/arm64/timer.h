/* SPDX-License-Identifier: BSD-2-Clause */
/* The generic timer, for irq.c: which interrupt it has, and how it is silenced before its handler runs. */
#pragma once
#include <stdint.h>

uint32_t arm64_timer_intid(void);
void arm64_timer_quiet(void);
