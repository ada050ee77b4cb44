/* SPDX-License-Identifier: BSD-2-Clause */
/* Between the files of the guest that misbehaves. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

struct bad_way { const char *word; void (*act)(void); };

/* What only an isolated machine forbids (isolated.c). False: no such way. */
bool isolated_way(const char *word);
/* The first address behind the guest's memory (badguest.mib=). */
uint64_t ram_end(void);

/* ---- tests/lab/ARCH/badguest/machine.c ---- */
extern const struct bad_way machine_ways[];              /* ends with an empty word */
extern const uint64_t machine_ram_start;
extern const uint64_t machine_devices[];                 /* of the machine, not of the guest; ends with 0 */
void machine_sleep(void);                                /* until an interrupt, of which none is let in */
