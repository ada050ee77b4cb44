/* SPDX-License-Identifier: BSD-2-Clause */
/* What a further processor loads before it can run C: smp.c fills it, start.S reads it. */
#pragma once
#define AP_HCR          0
#define AP_MAIR         8
#define AP_TCR          16
#define AP_TTBR1        24
#define AP_START_TABLES 32
#define AP_SCTLR        40
#define AP_VBAR         48
#define AP_STACK        56
#define AP_ENTRY        64
#define AP_ARGUMENT     72

#ifndef __ASSEMBLER__
#include <stdint.h>
struct ap_registers { uint64_t hcr, mair, tcr, ttbr1, start_tables, sctlr, vbar, stack, entry, argument; };
_Static_assert(sizeof(struct ap_registers) == AP_ARGUMENT + 8, "start.S");
extern const char lab_ap_start[];
#endif
