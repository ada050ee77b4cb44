/* SPDX-License-Identifier: BSD-2-Clause */
/* More than one vcpu: see smp.c. Shared with smp_start.S, hence the guard around C. */
#pragma once
#define LAB_AP_PAGE     0x8000       /* where a starting processor begins, in real mode */
#define LAB_AP_CR3      0xF00        /* offsets in that page, filled by C */
#define LAB_AP_STACK    0xF08
#define LAB_AP_ARGUMENT 0xF10
#define LAB_AP_ENTRY    0xF18

#ifndef __ASSEMBLER__
#include "tests/lab/x86_64/vcpu.h"
/* Starts processors 1 to count - 1; returns how many vcpus there are then. */
unsigned smp_start(unsigned count);
extern const char lab_ap_start[], lab_ap_end[];

#endif
