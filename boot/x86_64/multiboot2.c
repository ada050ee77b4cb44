/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Multiboot2: what EBX points at, a list of tags. Source: Multiboot2 Specification 2.0, section 3.
 *
 * Started through BIOS the memory map is the e820 tag. Started through EFI that tag may be missing or be made from the
 * firmware's map, so the EFI memory map wins where there is one: boot services are over when GRUB jumps here (we do not
 * ask to keep them), hence their memory is free.
 */
#include "boot/x86_64/entry.h"
#include <string.h>
#include "boot/efi/region.h"

enum {
    TAG_END = 0, TAG_CMDLINE = 1, TAG_MODULE = 3, TAG_MEMORY_MAP = 6, TAG_FRAMEBUFFER = 8, TAG_EFI64_SYSTEM_TABLE = 12,
    TAG_ACPI_OLD = 14, TAG_ACPI_NEW = 15, TAG_EFI_MEMORY_MAP = 17, TAG_EFI_BOOT_SERVICES = 18,
};
struct tag { uint32_t type, bytes; };

struct tag_module { struct tag tag; uint32_t start, end; char text[]; };
struct tag_memory_map { struct tag tag; uint32_t entry_bytes, entry_version; };
struct e820_entry { uint64_t address, bytes; uint32_t type, reserved; };
struct tag_framebuffer {
    struct tag tag;
    uint64_t address;
    uint32_t pitch_bytes, width, height;
    uint8_t bits_per_pixel, type, reserved[2];
    uint8_t red_position, red_bits, green_position, green_bits, blue_position, blue_bits;
} __attribute__((packed));
#define FRAMEBUFFER_RGB 1
struct tag_efi_map { struct tag tag; uint32_t descriptor_bytes, descriptor_version; };
struct tag_address { struct tag tag; uint64_t address; };

static void add_bios_map(struct boot_info *boot, const struct tag_memory_map *map)
{
    uint32_t end = map->tag.bytes, step = end < sizeof *map ? 0 : map->entry_bytes;
    if (step < sizeof(struct e820_entry))
        return;
    for (uint32_t at = sizeof *map; at <= end && end - at >= step; at += step) {
        struct e820_entry entry;
        memcpy(&entry, (const char *)map + at, sizeof entry);
        boot_add_region(boot, entry.address, entry.bytes, boot_e820_type(entry.type));
    }
}

static void add_efi_map(struct boot_info *boot, const struct tag_efi_map *map)
{
    uint32_t end = map->tag.bytes, step = end < sizeof *map ? 0 : map->descriptor_bytes;
    if (step < sizeof(struct efi_memory_descriptor))
        return;
    for (uint32_t at = sizeof *map; at <= end && end - at >= step; at += step) {
        struct efi_memory_descriptor d;
        struct mm_region *last = boot->region_count == 0 ? NULL : &boot->regions[boot->region_count - 1], next;
        memcpy(&d, (const char *)map + at, sizeof d);
        next = efi_region(&d);
        if (!efi_region_join(last, &next))
            boot_add_region(boot, next.start.v, next.bytes, next.type);
    }
}

static void set_framebuffer(struct boot_info *boot, const struct tag_framebuffer *fb)
{
    if (fb->tag.bytes < sizeof *fb || fb->type != FRAMEBUFFER_RGB || fb->bits_per_pixel != 32)
        return;
    boot->framebuffer = (struct framebuffer){
        .address = pa(fb->address), .width = fb->width, .height = fb->height,
        .stride_pixels = fb->pitch_bytes / 4, .bgr = fb->red_position == 16,
    };
}

/* The RSDP tags hold a copy of the structure, inside memory that is about to be ours: copied on into the image. */
static void set_rsdp(struct boot_info *boot, const struct tag *tag)
{
    static uint8_t copy[64] __attribute__((aligned(16)));
    uint32_t bytes = tag->bytes - (uint32_t)sizeof *tag;
    if (bytes > sizeof copy)
        return;
    memcpy(copy, tag + 1, bytes);
    boot->acpi_rsdp = pa((uint64_t)copy - IMAGE_VIRT_BASE + image_phys_base);
}

static void read_tag(struct boot_info *boot, const struct tag *tag, bool efi)
{
    uint32_t payload = tag->bytes - (uint32_t)sizeof *tag;
    switch (tag->type) {
    case TAG_CMDLINE:
        boot_set_cmdline(boot, (const char *)(tag + 1), payload);
        break;
    case TAG_MODULE: {
        const struct tag_module *module = (const void *)tag;
        if (tag->bytes >= sizeof *module && module->end > module->start)
            boot_add_module(boot, module->start, module->end - module->start, module->text,
                            tag->bytes - sizeof *module);
        break;
    }
    case TAG_MEMORY_MAP:
        if (!efi)
            add_bios_map(boot, (const void *)tag);
        break;
    case TAG_EFI_MEMORY_MAP:
        add_efi_map(boot, (const void *)tag);
        break;
    case TAG_FRAMEBUFFER:
        set_framebuffer(boot, (const void *)tag);
        break;
    case TAG_ACPI_OLD:
        if (pa_is_none(boot->acpi_rsdp))
            set_rsdp(boot, tag);
        break;
    case TAG_ACPI_NEW:
        set_rsdp(boot, tag);
        break;
    case TAG_EFI64_SYSTEM_TABLE:
        if (payload >= 8)
            boot->efi_system_table = ((const struct tag_address *)(const void *)tag)->address;
        break;
    case TAG_EFI_BOOT_SERVICES:
        boot_note(boot, "the loader left EFI boot services running, though not asked to");
        break;
    }
}

/* The next tag after one that starts at offset `at`, or NULL at the end of the list or of sense. */
static const struct tag *tag_at(const uint8_t *info, uint32_t total, uint32_t at)
{
    const struct tag *tag = (const void *)(info + at);
    if (at > total || total - at < sizeof *tag || tag->type == TAG_END)
        return NULL;
    return tag->bytes < sizeof *tag || tag->bytes > total - at ? NULL : tag;
}

void boot_from_multiboot2(struct boot_info *boot, uint64_t address)
{
    const uint32_t *head = boot_phys(address, 8);
    const uint8_t *info = head == NULL ? NULL : boot_phys(address, head[0]);
    const struct tag *tag;
    bool efi = false;
    if (info == NULL || head[0] < 8) {
        boot_note(boot, "no Multiboot2 information at 0x%llx", (unsigned long long)address);
        return;
    }
    for (uint32_t at = 8; (tag = tag_at(info, head[0], at)) != NULL; at += ALIGN_UP(tag->bytes, 8u))
        efi = efi || tag->type == TAG_EFI_MEMORY_MAP;
    for (uint32_t at = 8; (tag = tag_at(info, head[0], at)) != NULL; at += ALIGN_UP(tag->bytes, 8u))
        read_tag(boot, tag, efi);
}
