/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The room drivers/: one story per file, each the guest's half of a protocol with a device of the host's, or a console.
 *
 * Promises: boot/main.c calls a driver's register function before the bus is connected; from then on disks and NICs
 * appear in rt/blk.h and rt/nic.h when the host offers them, and go when it takes them away. Nobody else names one.
 * What a host answers is copied, checked, then used; a host that breaks its protocol costs one line and the device,
 * never the machine.
 *
 * Assumes: vmbus/ for channels, hv/shmem.h and hv/dma.h for memory that the host may see, tasks of rt/. The consoles
 * need nothing but arch/ (serial) and mm/ (frame buffer), because they come up first.
 */
#pragma once
#include "lib/lib.h"

void storvsc_register(void);                        /* SCSI controllers -> rt/blk.h */
void netvsc_register(void);                         /* NICs -> rt/nic.h */
void ic_register(void);                             /* shutdown, heartbeat, time, keys -> rt/services.h */
void balloon_register(void);                        /* dynamic memory: the host takes, returns and adds RAM */

/* A linear frame buffer as firmware left it: 32 bits per pixel; address 0 = none. */
struct framebuffer { paddr_t address; uint32_t width, height, stride_pixels; bool bgr; };
void console_uart_init(void);                       /* 16550 or PL011 when arch_console_init found one */
void console_framebuffer_init(const struct framebuffer *fb);
