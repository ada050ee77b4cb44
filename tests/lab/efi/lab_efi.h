/* SPDX-License-Identifier: BSD-2-Clause */
/* LAB.EFI, between its own files: main.c is the story, tables.c ACPI; tests/lab/<arch>/efi/ gives the rest. */
#pragma once
#include "boot/efi/boot_efi.h"
#include "tests/lab/acpi_wire.h"
#include "tests/lab/handoff.h"

#define EFI_PCI_IO_GUID {0x4cf5b200, 0x68b8, 0x4ca5, {0x9e, 0xec, 0xb2, 0x3e, 0x3f, 0x50, 0x02, 0x9a}}
struct efi_pci_io {                         /* UEFI 14.4; only these two functions are used */
    void *before[6];
    efi_status_t (EFIAPI *read_config)(struct efi_pci_io *self, unsigned width, uint32_t offset, size_t count, void *to);
    void *between[7];
    efi_status_t (EFIAPI *get_location)(struct efi_pci_io *self, size_t *segment, size_t *bus, size_t *device,
                                        size_t *function);
};
#define EFI_PCI_WIDTH_32 2u

/* ---- main.c ---- */
/* No driver of the firmware may use those devices any more: the handles with this protocol that are chosen. */
void lab_disconnect(const struct efi_context *efi, const struct efi_guid *protocol,
                    bool (*choose)(const struct efi_context *efi, efi_handle_t handle));

/* ---- tables.c ---- */
struct acpi_header *lab_find_table(const struct efi_context *efi, const char *signature);
/* A new list of tables: without the one of that signature (NULL: with all), and with an SSDT of this body. */
void lab_change_tables(const struct efi_context *efi, const char *drop, const uint8_t *ssdt_body, size_t bytes);

/* ---- the architecture ---- */
/* Why the lab can't run below this firmware; NULL: it can. */
const char *lab_unfit(void);
void lab_take_devices(const struct efi_context *efi);
void lab_patch_acpi(const struct efi_context *efi);
/* Registers and the machine's description, for the lab; false: it said why not. */
bool lab_take_machine(const struct efi_context *efi, struct lab_handoff_common *handoff, struct boot_info *info);
/*
 * Returns twice, like setjmp: 0 now, and 1 when the guest starts, which begins life by returning from this call.
 * Interrupts are off after the first return and as they were before the call after the second.
 */
uint64_t lab_capture(struct lab_handoff_common *handoff);
