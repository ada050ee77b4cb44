/* SPDX-License-Identifier: BSD-2-Clause */
/* Firmware mode: the lab was slipped below running firmware by LAB.EFI. See firmware.c. */
#pragma once
#include "tests/lab/machine.h"

/* PCI's configuration space, as LAB.EFI found it; unchanged when it did not start us. */
void firmware_ecam(const struct boot_info *boot, uint64_t *start, uint64_t *bytes);
/* Accesses of the guest to what is hidden; false: nothing of that is there. */
bool firmware_access(uint64_t gpa, bool write, unsigned bytes, uint64_t *value);
