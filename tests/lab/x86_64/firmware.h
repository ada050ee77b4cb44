/* SPDX-License-Identifier: BSD-2-Clause */
/* Firmware mode: the lab was slipped below running firmware by LAB.EFI. See firmware.c. */
#pragma once
#include "boot/boot_info.h"
#include "tests/lab/x86_64/vcpu.h"
#include "tests/lab/x86_64/uefi.h"

bool lab_owns_pci(unsigned bus, unsigned device);

/* Ports of the permission map that leave the guest, and what happens then. */
void firmware_ports(uint8_t *map);
uint32_t firmware_port_read(unsigned port, unsigned bytes);
void firmware_port_write(unsigned port, unsigned bytes, uint32_t value);
