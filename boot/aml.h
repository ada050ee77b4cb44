/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The two things that are wanted of ACPI's machine language, found by their encoding: there is no interpreter. Bytes
 * come from firmware or from the host that made it; any of them may be wrong. Source: ACPI Specification 6.5, chapter
 * 20 (encoding), section 6.4 (resource descriptors).
 */
#pragma once
#include "lib/lib.h"

/* \_S5: the values that switch the machine off. */
bool aml_find_s5(const uint8_t *aml, size_t bytes, uint8_t *type_a, uint8_t *type_b);
/* The first interrupt in the current resources (_CRS) of Hyper-V's bus, the device whose _HID or _CID is "VMBus" or
 * "MSFT1000"; 0: there is no such device, or it has none. */
uint32_t aml_find_vmbus_interrupt(const uint8_t *aml, size_t bytes);
