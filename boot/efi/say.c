/* SPDX-License-Identifier: BSD-2-Clause */
/* What the UEFI entry tells the operator: one line at a time on the firmware's console. */
#include "boot/efi/boot_efi.h"

void efi_say(const struct efi_context *efi, const char *format, ...)
{
    if (!efi->system->con_out)
        return;
    char text[256];
    int head = ksnprintf(text, sizeof(text), "Candela: ");
    va_list ap;
    va_start(ap, format);
    kvsnprintf(text + head, sizeof(text) - (size_t)head, format, ap);
    va_end(ap);

    efi_char16_t wide[sizeof(text) + 2];
    size_t n = 0;
    while (text[n]) {
        wide[n] = (uint8_t)text[n];
        n++;
    }
    wide[n++] = '\r';
    wide[n++] = '\n';
    wide[n] = 0;
    efi->system->con_out->output_string(efi->system->con_out, wide);
}

const char *efi_status_name(efi_status_t status)
{
    switch (status) {
    case EFI_SUCCESS:           return "success";
    case EFI_LOAD_ERROR:        return "EFI_LOAD_ERROR";
    case EFI_INVALID_PARAMETER: return "EFI_INVALID_PARAMETER";
    case EFI_UNSUPPORTED:       return "EFI_UNSUPPORTED";
    case EFI_BAD_BUFFER_SIZE:   return "EFI_BAD_BUFFER_SIZE";
    case EFI_BUFFER_TOO_SMALL:  return "EFI_BUFFER_TOO_SMALL";
    case EFI_OUT_OF_RESOURCES:  return "EFI_OUT_OF_RESOURCES";
    case EFI_NOT_FOUND:         return "EFI_NOT_FOUND";
    case EFI_ERROR_BIT | 7:     return "EFI_DEVICE_ERROR";
    case EFI_ERROR_BIT | 10:    return "EFI_VOLUME_CORRUPTED";
    case EFI_ERROR_BIT | 12:    return "EFI_NO_MEDIA";
    case EFI_ERROR_BIT | 15:    return "EFI_ACCESS_DENIED";
    default:                    return "an error";
    }
}
