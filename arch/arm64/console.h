/* SPDX-License-Identifier: BSD-2-Clause */
/* Which serial port is the console: boot says it, and platform.c where ACPI alone knows one. */
#pragma once
#include "arch/arch.h"

enum arm64_uart {
    ARM64_UART_NONE, ARM64_UART_PL011, ARM64_UART_16550,
    ARM64_UART_SBSA,             /* PL011 without the registers that set it up */
};
static inline enum arm64_uart arm64_uart_of(enum arch_serial serial)
{
    return serial == ARCH_SERIAL_PL011 ? ARM64_UART_PL011 : serial == ARCH_SERIAL_SBSA ? ARM64_UART_SBSA :
           serial == ARCH_SERIAL_16550 ? ARM64_UART_16550 : ARM64_UART_NONE;
}
/* Before arch_console_init. Registers lie 1 << shift bytes apart and are width bytes wide (a PL011's are what they
 * are). */
void arm64_console_set(enum arm64_uart kind, paddr_t registers, unsigned shift, unsigned width);
/* Where boot mapped it, as a section of the image for the final tables; false: it did not. */
bool arm64_console_section(struct arch_image_section *section);
