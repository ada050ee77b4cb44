/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The little of ACPI that a machine without a bus driver needs: how to power off and restart, the power management
 * timer, what Arm machines are made of, the interrupt of VMBus, and Hyper-V's table of random bytes. No interpreter:
 * what is wanted of DSDT and SSDTs is found by its encoding (aml.h).
 *
 * Tables come from firmware and are treated as an operator's input: every length is bounded, every checksum checked,
 * and what is wrong costs one line and the facility.
 */
#pragma once
#include "arch/arch.h"

/* Reads the tables from rsdp (PADDR_NONE: searched for) and tells the architecture (arch_platform_set). After mm_init.
 * False, after one line, when there is no ACPI. */
bool acpi_init(paddr_t rsdp);
/* Copies the random bytes of the host's table "OEM0" (Hyper-V Generation 2), at most max; 0 when there are none. */
size_t acpi_random_bytes(uint8_t *buf, size_t max);
