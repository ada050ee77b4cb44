/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The UEFI entry: an application that firmware starts (\EFI\BOOT\BOOTX64.EFI, BOOTAA64.EFI), with the kernel's flat
 * image in its pocket. While boot services last it collects what struct boot_info asks for, then leaves them and jumps.
 *
 * The story is in main.c; conf.c and map.c are plain functions on memory, so that they can be tested without firmware.
 */
#pragma once
#include "boot/boot_info.h"
#include "boot/efi/efi.h"
#include "boot/image_header.h"

struct efi_context {
    efi_handle_t image;
    struct efi_system_table *system;
    struct efi_boot_services *boot;
    struct efi_loaded_image *loaded;
};

/* ---- say.c ---- */
/* One line "Candela: text" on the firmware's console. Only before boot services end. */
void efi_say(const struct efi_context *efi, const char *format, ...) PRINTF_LIKE(2, 3);
/* The specification's name of a status, "EFI_NOT_FOUND"; "an error" for the rare ones. */
const char *efi_status_name(efi_status_t status);

/* ---- allocate.c ---- */
/* Whole pages below limit, aligned to IMAGE_ALIGN_BYTES. */
efi_status_t efi_allocate_aligned(const struct efi_context *efi, enum efi_memory_type type, uint64_t limit,
                                  uint64_t bytes, uint64_t *start);

/* ---- conf.c ---- */
#define CONF_MAX_BYTES 16384
/*
 * Turns the text of candela.conf into command line words, appended to cmdline (NUL-terminated, `size` bytes in all):
 * UTF-8, or UTF-16 with a byte order mark as Windows editors write it; a key=value per line; empty lines and what
 * follows a # at the start of a word are skipped; a value with blanks is put in double quotes.
 * Returns NULL, or why the text can't be used, with the number of the line in *line.
 */
const char *conf_append(char *cmdline, size_t size, const uint8_t *text, size_t bytes, unsigned *line);
/*
 * Load options are whatever the creator of the boot entry liked: taken when they are printable UTF-16 with at least one
 * key=value word (the first word is left out when it names a program, as the UEFI shell passes it), else ignored.
 * False when there was no room for them.
 */
bool conf_append_load_options(char *cmdline, size_t size, const void *options, size_t bytes);

/* ---- map.c ---- */
/* Sorts the firmware's map in place, writes it as merged regions into info; what has no room is told in info->note. */
void map_convert(struct boot_info *info, void *map, size_t bytes, size_t descriptor_bytes);

/* ---- time.c ---- */
/* Seconds since 1970-01-01 UTC; 0: it is no time, or one before that. */
uint64_t efi_unix_seconds(const struct efi_time *time);

/* ---- isolation_<arch>.c ---- */
/* Why the kernel can't live in this machine, which it could not say itself; NULL: it can. */
const char *efi_unlivable(void);

/* ---- handoff_<arch>.S ---- */
uint64_t efi_cycle_counter(void);
/* To the kernel's entry, in the state that boot/image_header.h promises; the image is at start. */
NORETURN void efi_handoff(uint64_t entry, uint64_t start, uint64_t bytes);

/* ---- payload.S ---- */
#define EFI_HERE __attribute__((visibility("hidden")))     /* in this image: needs no table of addresses */
extern const char kernel_payload[] EFI_HERE;               /* byte 0 of the flat image */
extern const struct image_header kernel_image EFI_HERE;    /* its header, there or a little later */
