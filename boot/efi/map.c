/* SPDX-License-Identifier: BSD-2-Clause */
/* The firmware's memory map -> struct boot_info's regions: sorted, neighbours joined, the most useful of too many. */
#include "boot/efi/boot_efi.h"
#include "boot/efi/region.h"

static struct efi_memory_descriptor *descriptor(void *map, size_t i, size_t descriptor_bytes)
{
    return (void *)((char *)map + i * descriptor_bytes);
}

/* The firmware's order is not defined. A few hundred entries, nearly in order: insertion is enough. */
static void sort(void *map, size_t n, size_t descriptor_bytes)
{
    for (size_t i = 1; i < n; i++) {
        struct efi_memory_descriptor moving = *descriptor(map, i, descriptor_bytes);
        size_t j = i;
        for (; j > 0; j--) {
            struct efi_memory_descriptor *before = descriptor(map, j - 1, descriptor_bytes);
            if (before->physical_start <= moving.physical_start)
                break;
            *descriptor(map, j, descriptor_bytes) = *before;
        }
        *descriptor(map, j, descriptor_bytes) = moving;
    }
}

/* No room for another region: the smallest RAM region gives way to a larger one. Returns the bytes of RAM lost. */
static uint64_t replace_smallest(struct boot_info *info, struct mm_region region)
{
    struct mm_region *smallest = NULL;
    if (region.type != MM_RAM)
        return 0;
    for (unsigned i = 0; i < info->region_count; i++) {
        struct mm_region *r = &info->regions[i];
        if (r->type == MM_RAM && (!smallest || r->bytes < smallest->bytes))
            smallest = r;
    }
    if (!smallest || smallest->bytes >= region.bytes)
        return region.bytes;
    uint64_t lost = smallest->bytes;
    *smallest = region;
    return lost;
}

/* Returns the number of regions there would be, given room; leaving out what is not RAM or ACPI when `only_used`. */
static unsigned convert(struct boot_info *info, void *map, size_t n, size_t descriptor_bytes, bool only_used,
                        uint64_t *lost_bytes)
{
    unsigned wanted = 0;
    struct mm_region *last = NULL;
    info->region_count = 0;
    *lost_bytes = 0;
    for (size_t i = 0; i < n; i++) {
        const struct efi_memory_descriptor *d = descriptor(map, i, descriptor_bytes);
        struct mm_region r = efi_region(d);
        if (only_used && (r.type == MM_RESERVED || r.type == MM_MMIO))
            continue;
        if (efi_region_join(last, &r))
            continue;
        wanted++;
        if (info->region_count < BOOT_MAX_REGIONS) {
            last = &info->regions[info->region_count++];
            *last = r;
        } else {
            last = NULL;
            *lost_bytes += replace_smallest(info, r);
        }
    }
    return wanted;
}

void map_convert(struct boot_info *info, void *map, size_t bytes, size_t descriptor_bytes)
{
    size_t n = bytes / descriptor_bytes;
    uint64_t lost_bytes;
    sort(map, n, descriptor_bytes);
    if (convert(info, map, n, descriptor_bytes, false, &lost_bytes) <= BOOT_MAX_REGIONS)
        return;
    unsigned wanted = convert(info, map, n, descriptor_bytes, true, &lost_bytes);
    if (wanted > BOOT_MAX_REGIONS)
        ksnprintf(info->note, sizeof(info->note), "memory map has %u regions, %u fit: %llu KiB of RAM left out",
                  wanted, (unsigned)BOOT_MAX_REGIONS, (unsigned long long)(lost_bytes >> 10));
}
