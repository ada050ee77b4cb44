/* SPDX-License-Identifier: BSD-2-Clause */
/* The kernel's table format (pt_format.c), for pt.c and for tests on any processor. */
#pragma once
#include "arch/arch.h"

/* Indices of MAIR, as entries name them; cpu's register has the meaning (MAIR_VALUE in arm64.h). */
#define MAIR_NORMAL 0        /* write back */
#define MAIR_DEVICE 1        /* nGnRE: in order, not merged; writes may be acknowledged early */
#define MAIR_WC     2        /* normal, not cached: writes may be merged */
#define MAIR_STRONG 3        /* nGnRnE */

/* pa_range: field PARange of ID_AA64MMFR0. Addresses of 52 bits want another format; they count as 48. */
unsigned arm64_phys_bits(unsigned pa_range);
void arm64_pt_format_init(struct pt_format *format, unsigned pa_range);
