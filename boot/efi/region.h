/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One entry of the firmware's memory map as a region of ours, for those who meet that map: the UEFI entry, and
 * Multiboot2 loaders that pass it on. Source: UEFI Specification 2.10, section 7.2, table 7.10 (memory usage after
 * ExitBootServices).
 */
#pragma once
#include "boot/efi/efi.h"
#include "mm/mm.h"

/* Loader and boot services memory is RAM again once boot services have ended. Memory that is not write-back cacheable,
 * kept for a special purpose or not yet accepted is not. A length beyond all addresses stays one: mm reports it. */
static inline struct mm_region efi_region(const struct efi_memory_descriptor *d)
{
    struct mm_region r = {pa(d->physical_start), UINT64_MAX, MM_RESERVED};
    if (d->number_of_pages <= UINT64_MAX >> PAGE_SHIFT)
        r.bytes = d->number_of_pages << PAGE_SHIFT;
    switch (d->type) {
    case EFI_LOADER_CODE:
    case EFI_LOADER_DATA:
    case EFI_BOOT_SERVICES_CODE:
    case EFI_BOOT_SERVICES_DATA:
    case EFI_CONVENTIONAL_MEMORY:
        if ((d->attribute & EFI_MEMORY_WB) && !(d->attribute & EFI_MEMORY_SP))
            r.type = MM_RAM;
        break;
    case EFI_ACPI_RECLAIM_MEMORY:
    case EFI_ACPI_NVS:
        r.type = MM_ACPI;
        break;
    case EFI_MMIO:
    case EFI_MMIO_PORT_SPACE:
        r.type = MM_MMIO;
        break;
    }
    return r;
}

/* Firmware maps have a hundred small neighbours of one kind: true when next was joined to last (NULL: none). */
static inline bool efi_region_join(struct mm_region *last, const struct mm_region *next)
{
    if (last == NULL || last->type != next->type || last->type == MM_KERNEL ||
        last->start.v + last->bytes != next->start.v || next->bytes > UINT64_MAX - next->start.v)
        return false;
    last->bytes += next->bytes;
    return true;
}
