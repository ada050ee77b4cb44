/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * QEMU's machine "virt": what of it the lab uses, and what the guest gets. Source: base_memmap and a15irqmap of
 * hw/arm/virt.c, which no release has changed; the configuration space's place depends on options and is looked up.
 */
#pragma once
#include "tests/lab/machine.h"

#define BOARD_UART        0x09000000ull      /* PL011: the guest's console */
#define BOARD_UART_IRQ    33u
#define BOARD_RTC         0x09010000ull      /* PL031 */
#define BOARD_ITS         0x08080000ull      /* the interrupt translation service; QEMU: its=off leaves it out */
#define BOARD_ITS_BYTES   0x20000u
#define BOARD_FW_CFG      0x09020000ull
#define BOARD_MARK        0x09F00000ull      /* nothing there; the lab's: a byte written makes the mark "port-BYTE" */
#define BOARD_VIRTIO      0x0A000000ull      /* 32 places, all of them the lab's */
#define BOARD_VIRTIO_STEP 0x200u
#define BOARD_VIRTIOS     32u
#define BOARD_VIRTIO_IRQ  48u
#define BOARD_PIO         0x3EFF0000ull      /* PCI's I/O ports */
#define BOARD_PIO_BYTES   0x10000u
#define BOARD_RAM         0x40000000ull
#define BOARD_VMBUS_IRQ   18u                /* as Hyper-V's: a PPI that the machine leaves free */

/* PCI's device number of the lab's serial port, and its first I/O port: for who hides them. */
unsigned board_serial_device(void);
unsigned board_serial_port(void);
volatile uint8_t *board_ports(void);         /* all I/O ports, mapped */
/* Accesses of the guest to what the lab emulates of the board; false: nothing of that is there. */
bool board_access(uint64_t gpa, bool write, unsigned bytes, uint64_t *value);
