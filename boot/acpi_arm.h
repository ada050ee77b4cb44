/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ACPI's tables of Arm machines: interrupt controller, timers, firmware interface, console. On other machines they are
 * absent, or say nothing of this. Source: ACPI Specification 6.5, sections 5.2.9 (FADT), 5.2.12 (MADT), 5.2.25 (GTDT);
 * Microsoft's Serial Port Console Redirection Table.
 *
 * Each takes a whole table, header included, whose checksum was right; lengths inside are checked here.
 */
#pragma once
#include "arch/arch.h"

void acpi_arm_fadt(const uint8_t *table, uint32_t bytes, struct arch_platform *platform);
void acpi_arm_madt(const uint8_t *table, uint32_t bytes, struct arch_platform *platform);
void acpi_arm_gtdt(const uint8_t *table, uint32_t bytes, struct arch_platform *platform);
void acpi_arm_spcr(const uint8_t *table, uint32_t bytes, struct arch_platform *platform);
