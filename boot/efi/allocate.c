/* SPDX-License-Identifier: BSD-2-Clause */
/* Aligned memory from a firmware that aligns to pages only: more than needed is taken and both ends given back. */
#include "boot/efi/boot_efi.h"

efi_status_t efi_allocate_aligned(const struct efi_context *efi, enum efi_memory_type type, uint64_t limit,
                                  uint64_t bytes, uint64_t *start)
{
    size_t slack = IMAGE_ALIGN_BYTES / PAGE_BYTES, pages = bytes / PAGE_BYTES;
    uint64_t got = limit - 1;
    efi_status_t status = efi->boot->allocate_pages(EFI_ALLOCATE_MAX_ADDRESS, type, pages + slack, &got);
    if (status != EFI_SUCCESS)
        return status;
    *start = ALIGN_UP(got, IMAGE_ALIGN_BYTES);
    size_t head = (*start - got) / PAGE_BYTES;
    if (head)
        efi->boot->free_pages(got, head);
    if (slack > head)
        efi->boot->free_pages(*start + bytes, slack - head);
    return EFI_SUCCESS;
}
