/* SPDX-License-Identifier: BSD-2-Clause */
/* The log on the machine's serial port, which the architecture knows and drives by polling. */
#include "arch/arch.h"
#include "drivers/drivers.h"

static void write_text(struct log_sink *sink, const char *text, size_t bytes)
{
    (void)sink;
    arch_console_write(text, bytes);
}

void console_uart_init(void)
{
    static struct log_sink sink = {.write = write_text};
    static bool done;
    if (!done && arch_console_init()) {
        done = true;
        log_add_sink(&sink);
    }
}
