/* SPDX-License-Identifier: BSD-2-Clause */
/* Firmware mode: the lab was slipped below running firmware by LAB.EFI. See firmware.c. */
#pragma once
#include "boot/boot_info.h"
#include "tests/lab/x86_64/lab.h"
#include "tests/lab/x86_64/uefi.h"

extern bool lab_firmware;                       /* false: direct mode */
/* True when LAB.EFI started us; then the options are in boot->cmdline. */
bool firmware_handoff(struct boot_info *boot);
void firmware_memory(void);
void firmware_start(struct vcpu *v);
bool lab_owns_pci(unsigned bus, unsigned device);

/* Ports of the permission map that leave the guest, and what happens then. */
void firmware_ports(uint8_t *map);
uint32_t firmware_port_read(unsigned port, unsigned bytes);
void firmware_port_write(unsigned port, unsigned bytes, uint32_t value);
