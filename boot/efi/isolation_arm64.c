/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Machines in which the kernel's first instructions would be its last. On arm64 none is known before the kernel runs:
 * to ask takes HVC or SMC, which where nobody is beneath would end in firmware's own exception handler, and the kernel
 * catches it (arch/arm64/hv.c). Isolation by the hypervisor lets it come that far.
 */
#include "boot/efi/boot_efi.h"

const char *efi_unlivable(void) { return NULL; }
