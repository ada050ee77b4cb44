/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The lab's own serial port, a 16550: its log, reports and the model's trace go out; command lines come in. The guest's
 * console is another port, so the two never mix.
 */
#define LOG_ROOM "lab"
#include "tests/lab/machine.h"

#define UART_DATA   0
#define UART_IER    1
#define UART_FCR    2
#define UART_LCR    3
#define UART_MCR    4
#define UART_LSR    5
#define LSR_DATA    0x01
#define LSR_THRE    0x20
#define THRE_SPINS  100000u   /* then the byte is written anyway: a stuck reader must not stop the lab */

static void port_write(struct log_sink *sink, const char *text, size_t bytes)
{
    (void)sink;
    for (size_t i = 0; i < bytes; i++) {
        for (unsigned spin = 0; spin < THRE_SPINS && !(machine_serial_read(UART_LSR) & LSR_THRE); spin++)
            ;
        machine_serial_write(UART_DATA, (uint8_t)text[i]);
    }
}

static struct log_sink port_sink = {.write = port_write};

void serial_init(void)
{
    machine_serial_write(UART_IER, 0);
    machine_serial_write(UART_LCR, 0x80);
    machine_serial_write(UART_DATA, 1);
    machine_serial_write(UART_IER, 0);
    machine_serial_write(UART_LCR, 0x03);
    machine_serial_write(UART_FCR, 0x07);
    machine_serial_write(UART_MCR, 0x03);
    log_add_sink(&port_sink);
}

bool serial_poll_line(char *line, size_t size)
{
    static char input[256];
    static size_t used;
    while (machine_serial_read(UART_LSR) & LSR_DATA) {
        char c = (char)machine_serial_read(UART_DATA);
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
