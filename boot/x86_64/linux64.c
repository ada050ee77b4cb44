/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The Linux 64-bit boot protocol: what RSI points at, the "zero page". Source: Linux documentation, arch/x86/boot and
 * arch/x86/zero-page (offsets below). OpenVMM fills it with type_of_loader 0xFF, version 0 and no RSDP address: then
 * the RSDP is found by looking through 0xE0000..0xFFFFF (boot/acpi.c).
 */
#include "boot/x86_64/entry.h"
#include <string.h>

#define ZERO_PAGE_BYTES          4096
#define ZP_SCREEN_INFO           0x000   /* lfb fields below */
#define ZP_ACPI_RSDP             0x070   /* u64; 0: search */
#define ZP_EXT_RAMDISK_IMAGE     0x0C0   /* u32: upper halves */
#define ZP_EXT_RAMDISK_SIZE      0x0C4
#define ZP_EXT_CMDLINE           0x0C8
#define ZP_E820_ENTRIES          0x1E8   /* u8 */
#define ZP_HEADER_MAGIC          0x202   /* "HdrS" */
#define ZP_RAMDISK_IMAGE         0x218   /* u32 */
#define ZP_RAMDISK_SIZE          0x21C
#define ZP_CMDLINE               0x228   /* u32 */
#define ZP_E820_TABLE            0x2D0   /* 128 entries of 20 bytes */
#define ZP_E820_MAX              128
#define ZP_E820_BYTES            20
#define HEADER_MAGIC             0x53726448u

#define SCREEN_TYPE              0x0F    /* u8: VIDEO_TYPE_* */
#define SCREEN_WIDTH             0x12    /* u16 */
#define SCREEN_HEIGHT            0x14
#define SCREEN_DEPTH             0x16
#define SCREEN_BASE              0x18    /* u32 */
#define SCREEN_LINE_BYTES        0x24    /* u16 */
#define SCREEN_RED_POSITION      0x27    /* u8 */
#define SCREEN_EXT_BASE          0x3A    /* u32, with capability bit 1 of the u32 at 0x36 */
#define SCREEN_CAPABILITIES      0x36
#define SCREEN_TYPE_VESA_LFB     0x23
#define SCREEN_TYPE_EFI          0x70

static uint64_t zp_read(const uint8_t *page, unsigned offset, unsigned bytes)
{
    uint64_t value = 0;
    memcpy(&value, page + offset, bytes);
    return value;
}

static void linux64_screen(struct boot_info *boot, const uint8_t *page)
{
    const uint8_t *screen = page + ZP_SCREEN_INFO;
    uint64_t type = zp_read(screen, SCREEN_TYPE, 1), base = zp_read(screen, SCREEN_BASE, 4);
    if ((type != SCREEN_TYPE_VESA_LFB && type != SCREEN_TYPE_EFI) || zp_read(screen, SCREEN_DEPTH, 2) != 32)
        return;
    if (zp_read(screen, SCREEN_CAPABILITIES, 4) & 2)
        base |= zp_read(screen, SCREEN_EXT_BASE, 4) << 32;
    boot->framebuffer = (struct framebuffer){
        .address = pa(base),
        .width = (uint32_t)zp_read(screen, SCREEN_WIDTH, 2),
        .height = (uint32_t)zp_read(screen, SCREEN_HEIGHT, 2),
        .stride_pixels = (uint32_t)zp_read(screen, SCREEN_LINE_BYTES, 2) / 4,
        .bgr = zp_read(screen, SCREEN_RED_POSITION, 1) == 16,
    };
}

void boot_from_linux64(struct boot_info *boot, uint64_t params)
{
    const uint8_t *page = boot_phys(params, ZERO_PAGE_BYTES);
    uint64_t start, bytes;
    const char *text;
    size_t length;
    unsigned entries;
    if (page == NULL || zp_read(page, ZP_HEADER_MAGIC, 4) != HEADER_MAGIC) {
        boot_note(boot, "no Linux boot parameters at 0x%llx", (unsigned long long)params);
        return;
    }
    boot->acpi_rsdp = pa(zp_read(page, ZP_ACPI_RSDP, 8));
    start = zp_read(page, ZP_CMDLINE, 4) | zp_read(page, ZP_EXT_CMDLINE, 4) << 32;
    length = boot_text(&text, start);
    boot_set_cmdline(boot, text, length);

    entries = (unsigned)MIN(zp_read(page, ZP_E820_ENTRIES, 1), (uint64_t)ZP_E820_MAX);
    for (unsigned i = 0; i < entries; i++) {
        const uint8_t *entry = page + ZP_E820_TABLE + i * ZP_E820_BYTES;
        uint32_t type = (uint32_t)zp_read(entry, 16, 4);
        boot_add_region(boot, zp_read(entry, 0, 8), zp_read(entry, 8, 8), boot_e820_type(type));
    }
    start = zp_read(page, ZP_RAMDISK_IMAGE, 4) | zp_read(page, ZP_EXT_RAMDISK_IMAGE, 4) << 32;
    bytes = zp_read(page, ZP_RAMDISK_SIZE, 4) | zp_read(page, ZP_EXT_RAMDISK_SIZE, 4) << 32;
    if (bytes != 0)
        boot_add_module(boot, start, bytes, "initrd", sizeof "initrd");
    linux64_screen(boot, page);
}
