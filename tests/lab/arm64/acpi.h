/* SPDX-License-Identifier: BSD-2-Clause */
/* acpi=1: ACPI handed over without firmware; see acpi.c. */
#pragma once
#include <stdint.h>
struct tree;

#define LAB_ACPI_BYTES (32u << 10)
/* Builds everything at gpa, where the guest has so much memory, and writes what names it into the open node /chosen. */
void acpi_hand_over(struct tree *t, uint64_t gpa);
