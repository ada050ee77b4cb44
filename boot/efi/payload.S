/* SPDX-License-Identifier: BSD-2-Clause */
/* The kernel's flat image, as data. KERNEL_BIN is the file's path, HEADER_OFFSET where its header is, from efi.mk. */
    .section .payload, "a"
    .balign 4096
    .globl kernel_payload, kernel_image
kernel_payload:
    .incbin KERNEL_BIN
    .balign 8
    .set kernel_image, kernel_payload + HEADER_OFFSET

    .section .note.GNU-stack, "", @progbits
