/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The serial port that the machine's tables name: Arm's PL011 (or the SBSA subset of it), or a 16550 with registers in
 * memory. A port that stops taking bytes is given up, text is dropped. Sources: Arm DDI 0183, chapter 3; SBSA, appendix
 * B (which registers a subset has: no line control, no baud rate).
 *
 * Its registers are seen twice in life: boot maps them in a block of their own (EARLY_DEVICE_BASE), and the final
 * tables have the page at the same address, as one of the image's sections. A port that ACPI names later is mapped by
 * mm.
 */
#include "arch/arm64/arm64.h"

#define PL011_DATA       0x00
#define PL011_FLAGS      0x18
#define PL011_CONTROL    0x30
#define PL011_MASK       0x38
#define FLAGS_FULL       (1u << 5)
#define CONTROL_ON       0x301           /* UART, transmitter and receiver enabled */

#define UART_DATA        0
#define UART_IER         1
#define UART_FCR         2
#define UART_LSR         5
#define LSR_EMPTY        0x20
#define FCR_ENABLE       0x07

#define POLLS_MAX        200000u         /* a queue of 32 bytes at 115200 baud needs 2.8 ms */
#define BLOCK_MASK       ((2ull << 20) - 1)

static enum arm64_uart kind;
static paddr_t early_page;               /* PADDR_NONE: not mapped by boot */
static volatile uint8_t *base;
static unsigned shift, width;
static bool present;

void arm64_console_set(enum arm64_uart uart, paddr_t registers, unsigned reg_shift, unsigned reg_width)
{
    volatile uint8_t *mapped = arm64_map_device(registers, PAGE_BYTES);
    if (mapped == NULL) {
        early_page = pa(ALIGN_DOWN(registers.v, PAGE_BYTES));
        mapped = va_ptr(va(EARLY_DEVICE_BASE + (registers.v & BLOCK_MASK)));
    }
    kind = uart;
    base = mapped;
    shift = reg_shift;
    width = reg_width;
    present = false;
}

bool arm64_console_section(struct arch_image_section *section)
{
    if (pa_is_none(early_page))
        return false;
    *section = (struct arch_image_section){
        .start = va(EARLY_DEVICE_BASE + (early_page.v & BLOCK_MASK)), .bytes = PAGE_BYTES, .phys = early_page,
        .attr = MAP_READ | MAP_WRITE | MAP_DEVICE | MAP_GLOBAL,
    };
    return true;
}

static uint32_t get(unsigned reg)
{
    volatile uint8_t *at = base + ((uint64_t)reg << shift);
    return width == 4 ? arm64_read32(at) : arm64_read8(at);
}

static void set(unsigned reg, uint32_t v)
{
    volatile uint8_t *at = base + ((uint64_t)reg << shift);
    if (width == 4)
        arm64_write32(at, v);
    else
        arm64_write8(at, (uint8_t)v);
}

/* Firmware has set speed and format; a machine without firmware has none to set. */
bool arch_console_init(void)
{
    if (present || kind == ARM64_UART_NONE)
        return present;
    if (kind == ARM64_UART_PL011)
        arm64_write32(base + PL011_CONTROL, arm64_read32(base + PL011_CONTROL) | CONTROL_ON);
    if (kind != ARM64_UART_16550) {
        arm64_write32(base + PL011_MASK, 0);
    } else {
        set(UART_IER, 0);
        set(UART_FCR, FCR_ENABLE);
    }
    present = true;
    return true;
}

static bool full(void)
{
    return kind != ARM64_UART_16550 ? (arm64_read32(base + PL011_FLAGS) & FLAGS_FULL) != 0 :
                                      !(get(UART_LSR) & LSR_EMPTY);
}

static void put(char c)
{
    for (unsigned polls = 0; full(); polls++) {
        if (polls > POLLS_MAX) {
            present = false;
            return;
        }
    }
    if (kind != ARM64_UART_16550)
        arm64_write32(base + PL011_DATA, (uint8_t)c);
    else
        set(UART_DATA, (uint8_t)c);
}

void arch_console_write(const char *text, size_t bytes)
{
    for (size_t i = 0; i < bytes && present; i++) {
        if (text[i] == '\n')
            put('\r');
        put(text[i]);
    }
}
