/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The PE32+ header of an EFI application (PE/COFF specification, revision 11; UEFI 2.1.1), written by hand so that
 * no second toolchain is needed: the image is linked as ELF at address 0 by image.lds and flattened by objcopy, so
 * file offset, link address and RVA are one and the same number.
 *
 * The code is position independent and image.lds refuses any relocation, so the base relocation table holds nothing
 * but one empty block: some firmware refuses an image without the table. Sections are page aligned, never writable
 * and executable at once, and the image says so (NX_COMPAT), which firmware with strict page protection asks for.
 *
 * The entry is efi_main(image handle, system table), in the convention of firmware (EFIAPI). PE_MACHINE is the
 * machine's number, from efi.mk.
 */
#define SUBSYSTEM_EFI_APP    10
#define CHARACTERISTICS      0x022e      /* executable, large addresses, line numbers, symbols, debug data stripped */
#define DLL_NX_COMPAT        0x0100
#define PAGE                 0x1000

/* Both are distances from the header, which is at 0, so that no relocation remains. image.lds computes the sizes. */
#define RVA(symbol)          .long symbol - header
#define SIZE(symbol)         .long symbol - header

    .section .header, "a"
    .globl header
header:
    .ascii "MZ"
    .org header + 0x3c
    .long pe - header

pe:
    .ascii "PE\0\0"
    .short PE_MACHINE
    .short 4                            /* sections */
    .long 0, 0, 0                       /* time stamp, symbol table, symbols: builds are reproducible */
    .short section_table - optional
    .short CHARACTERISTICS

optional:
    .short 0x20b                        /* PE32+ */
    .byte 1, 0                          /* linker version */
    SIZE(text_bytes)
    SIZE(initialised_bytes)
    SIZE(bss_bytes)
    RVA(efi_main)
    RVA(text_start)
    .quad 0                             /* preferred base: none */
    .long PAGE, PAGE                    /* section and file alignment */
    .short 0, 0, 0, 0, 0, 0             /* OS, image, subsystem versions */
    .long 0
    RVA(image_end)
    RVA(text_start)                     /* size of headers */
    .long 0                             /* checksum: not looked at */
    .short SUBSYSTEM_EFI_APP
    .short DLL_NX_COMPAT
    .quad 0, 0, 0, 0                    /* stack and heap: the firmware's */
    .long 0
    .long 16                            /* data directories: export, import, resource, exception, certificate ... */
    .quad 0, 0, 0, 0, 0
    RVA(reloc_start)                    /* ... base relocation */
    SIZE(reloc_bytes)
    .quad 0, 0, 0, 0, 0, 0, 0, 0, 0, 0

section_table:
    .ascii ".text\0\0\0"
    SIZE(text_bytes)
    RVA(text_start)
    SIZE(text_file_bytes)
    RVA(text_start)
    .long 0, 0, 0
    .long 0x60000020                    /* code, read, execute */

    .ascii ".rdata\0\0"
    SIZE(rdata_bytes)
    RVA(rdata_start)
    SIZE(rdata_file_bytes)
    RVA(rdata_start)
    .long 0, 0, 0
    .long 0x40000040                    /* initialised data, read */

    .ascii ".reloc\0\0"
    SIZE(reloc_bytes)
    RVA(reloc_start)
    SIZE(reloc_file_bytes)
    RVA(reloc_start)
    .long 0, 0, 0
    .long 0x42000040                    /* initialised data, discardable, read */

    .ascii ".data\0\0\0"
    SIZE(data_bytes)
    RVA(data_start)
    SIZE(data_file_bytes)
    RVA(data_start)
    .long 0, 0, 0
    .long 0xc0000040                    /* initialised data, read, write */

    .section .reloc, "a"
    .long 0, 12                         /* page RVA, block size */
    .short 0, 0                         /* IMAGE_REL_BASED_ABSOLUTE: padding, changes nothing */

    .section .note.GNU-stack, "", @progbits
