/* SPDX-License-Identifier: BSD-2-Clause */
/* The kernel's flat image, as data. KERNEL_BIN is the file's path, from the Makefile. */
    .section .payload, "a"
    .balign 4096
    .globl kernel_image
kernel_image:
    .incbin KERNEL_BIN
    .balign 8

    .section .note.GNU-stack, "", @progbits
