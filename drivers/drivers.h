/* SPDX-License-Identifier: BSD-2-Clause */
/* What boot/main.c calls to bring the drivers' room in. */
#pragma once
#include "lib/lib.h"

void storvsc_register(void);                        /* SCSI controllers -> rt/blk.h */
void netvsc_register(void);                         /* NICs -> rt/nic.h */

/* A linear frame buffer as firmware left it: 32 bits per pixel; address 0 = none. */
struct framebuffer { paddr_t address; uint32_t width, height, stride_pixels; bool bgr; };
void console_uart_init(void);                       /* 16550 or PL011 when arch_console_init found one */
void console_framebuffer_init(const struct framebuffer *fb);
