/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Between the architectures' folders and what both of them use, arch/unwind.c. Nobody else includes it; the fake
 * architecture has ways of its own.
 */
#pragma once
#include "arch/arch.h"

/* An instruction at `at` that may fault goes on at `resume` instead: an entry of the section .fixup. Both labels are
 * local to the asm statement. */
#define ARCH_FIXUP(at, resume) ".pushsection .fixup, \"a\"\n.balign 8\n.quad " at ", " resume "\n.popsection\n"

/* Moves the program counter of an exception to where it goes on; false when that instruction may not fault. */
bool arch_resume_at_fixup(uint64_t *pc);

/* Of the architecture: false when the address is not readable. */
bool arch_read64_safe(uint64_t address, uint64_t *value);
