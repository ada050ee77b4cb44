/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * COM2: the lab's log, reports and the model's trace go out; command lines come in. The guest's console is COM1, so
 * the two never mix.
 */
#define LOG_ROOM "lab"
#include "tests/lab/x86_64/lab.h"

#define COM2        0x2F8
#define UART_DATA   (COM2 + 0)
#define UART_IER    (COM2 + 1)
#define UART_FCR    (COM2 + 2)
#define UART_LCR    (COM2 + 3)
#define UART_MCR    (COM2 + 4)
#define UART_LSR    (COM2 + 5)
#define LSR_DATA    0x01
#define LSR_THRE    0x20
#define THRE_SPINS  100000u   /* then the byte is written anyway: a stuck reader must not stop the lab */

static void com2_write(struct log_sink *sink, const char *text, size_t bytes)
{
    (void)sink;
    for (size_t i = 0; i < bytes; i++) {
        for (unsigned spin = 0; spin < THRE_SPINS && !(x86_in8(UART_LSR) & LSR_THRE); spin++)
            ;
        x86_out8(UART_DATA, (uint8_t)text[i]);
    }
}

static struct log_sink com2_sink = {.write = com2_write};

void serial_init(void)
{
    x86_out8(UART_IER, 0);
    x86_out8(UART_LCR, 0x80);
    x86_out8(UART_DATA, 1);
    x86_out8(UART_IER, 0);
    x86_out8(UART_LCR, 0x03);
    x86_out8(UART_FCR, 0x07);
    x86_out8(UART_MCR, 0x03);
    log_add_sink(&com2_sink);
}

bool serial_poll_line(char *line, size_t size)
{
    static char input[256];
    static size_t used;
    while (x86_in8(UART_LSR) & LSR_DATA) {
        char c = (char)x86_in8(UART_DATA);
        if (c == '\r')
            continue;
        if (c != '\n') {
            if (used < sizeof(input) - 1)
                input[used++] = c;
            continue;
        }
        input[used] = '\0';
        ksnprintf(line, size, "%s", input);
        used = 0;
        return true;
    }
    return false;
}
