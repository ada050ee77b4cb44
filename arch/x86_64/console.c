/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The first serial port, a 16550 or what a hypervisor makes of it. It may be absent: it must remember a scratch byte
 * and echo its modem lines in loop-back before it is believed. A port that stops taking bytes is given up, text is
 * dropped.
 */
#include "arch/x86_64/x86.h"

#define COM1           0x3F8
#define REG_DATA       0
#define REG_IER        1
#define REG_FCR        2
#define REG_LCR        3
#define REG_MCR        4
#define REG_LSR        5
#define REG_MSR        6
#define REG_SCRATCH    7
#define LCR_8N1        0x03
#define LCR_DLAB       0x80
#define MCR_DTR_RTS    0x03
#define MCR_LOOP_TEST  0x1A      /* loop-back with RTS and OUT2, which come back as CTS and DCD */
#define MSR_LINES      0xF0
#define MSR_LOOP_LINES 0x90
#define LSR_EMPTY      0x20
#define FCR_ENABLE     0x07      /* on, both queues cleared */
#define IIR_FIFO       0xC0
#define DIVISOR_115200 1
#define FIFO_BYTES     16
#define POLLS_MAX      200000u   /* sixteen bytes at 115200 baud need 1.4 ms */

static bool present;
static unsigned burst;           /* bytes that an empty transmitter takes */

static uint8_t get(unsigned reg) { return x86_in8((uint16_t)(COM1 + reg)); }
static void set(unsigned reg, uint8_t v) { x86_out8((uint16_t)(COM1 + reg), v); }

static bool probe(void)
{
    static const uint8_t patterns[] = {0x5A, 0xA5};
    uint8_t lines;
    for (unsigned i = 0; i < ARRAY_SIZE(patterns); i++) {
        set(REG_SCRATCH, patterns[i]);
        if (get(REG_SCRATCH) != patterns[i])
            return false;
    }
    set(REG_MCR, MCR_LOOP_TEST);
    lines = get(REG_MSR) & MSR_LINES;
    set(REG_MCR, MCR_DTR_RTS);
    return lines == MSR_LOOP_LINES;
}

bool arch_console_init(void)
{
    if (present)
        return true;
    if (!probe())
        return false;
    set(REG_IER, 0);
    set(REG_LCR, LCR_DLAB);
    set(REG_DATA, DIVISOR_115200 & 0xFF);
    set(REG_IER, DIVISOR_115200 >> 8);
    set(REG_LCR, LCR_8N1);
    set(REG_FCR, FCR_ENABLE);
    burst = (get(REG_FCR) & IIR_FIFO) == IIR_FIFO ? FIFO_BYTES : 1;
    present = true;
    return true;
}

static void put(char c)
{
    static unsigned room;
    if (room == 0) {
        unsigned polls = 0;
        while (!(get(REG_LSR) & LSR_EMPTY)) {
            if (++polls > POLLS_MAX) {
                present = false;
                return;
            }
        }
        room = burst;
    }
    room--;
    set(REG_DATA, (uint8_t)c);
}

void arch_console_write(const char *text, size_t bytes)
{
    for (size_t i = 0; i < bytes && present; i++) {
        if (text[i] == '\n')
            put('\r');
        put(text[i]);
    }
}
