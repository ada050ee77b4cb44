/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Firmware mode: LAB.EFI (tests/lab/efi) puts the lab's image under the running firmware. This is what it hands over on
 * every architecture; the state in which its own caller goes on as the guest follows in struct lab_handoff of the
 * architecture's uefi.h, which begins with this.
 *
 * Built twice, into the EFI application and into the lab: plain numbers only. The lab finds it as the boot module of
 * this name.
 */
#pragma once
#define LAB_CAPTURED       1056     /* offset of the processor's state, for capture.S */

#ifndef __ASSEMBLER__
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LAB_HANDOFF_NAME   "lab-handoff"
#define LAB_HANDOFF_MAGIC  0x3242414C4C444E43ull   /* "CNDLLAB2" */
#define LAB_HANDOFF_BYTES  4096u                   /* room for it, at the end of the lab's memory */
#define LAB_HANDOFF_RANGES 64

struct lab_range { uint64_t start, bytes; };

struct lab_handoff_common {
    uint64_t magic;
    uint64_t block_start, block_bytes;              /* the lab's memory */
    uint32_t range_count, reserved;
    struct lab_range ranges[LAB_HANDOFF_RANGES];    /* RAM that the guest has */
};
_Static_assert(sizeof(struct lab_handoff_common) == LAB_CAPTURED, "capture.S");

/* ---- in the lab: handoff.c ---- */
struct boot_info;
/* Copies the handoff, a struct lab_handoff of so many bytes, and sets lab_firmware; false: direct mode. */
bool handoff_find(const struct boot_info *boot, void *handoff, size_t bytes);
/* The guest's RAM, at its own addresses; panics where that fails. */
void handoff_guest_ram(const struct lab_handoff_common *handoff);
#endif
