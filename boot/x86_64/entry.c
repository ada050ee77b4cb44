/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The first C code: fills the one struct boot_info with the help of the loader's own file, then kernel_main().
 *
 * Runs on the boot stack and boot tables (entry.h), with no console yet: what is odd goes into the note, which
 * kernel_main logs. Loader data is checked against its own lengths before use, as an operator's input would be.
 */
#include "boot/x86_64/entry.h"
#include <string.h>

#define BOOT_MAP_BYTES (4ull << 30)      /* what the boot tables reach */
#define BOOT_TEXT_MAX  65536u            /* a loader's text without an end is cut here */

extern char image_end[];

const void *boot_phys(uint64_t address, uint64_t bytes)
{
    if (address == 0 || address >= BOOT_MAP_BYTES || bytes > BOOT_MAP_BYTES - address)
        return NULL;
    return arch_phys_to_virt(pa(address));
}

size_t boot_text(const char **text, uint64_t address)
{
    uint64_t room = address < BOOT_MAP_BYTES ? BOOT_MAP_BYTES - address : 0;
    *text = boot_phys(address, 1);
    return *text == NULL ? 0 : strnlen(*text, MIN(room, (uint64_t)BOOT_TEXT_MAX));
}

enum mm_region_type boot_e820_type(uint32_t type)
{
    switch (type) {
    case 1:
        return MM_RAM;
    case 3:      /* tables the kernel may reclaim, */
    case 4:      /* and those it must keep */
        return MM_ACPI;
    default:
        return MM_RESERVED;
    }
}

void boot_enter(unsigned kind, uint64_t parameter, uint64_t image_phys, uint64_t counter)
{
    struct boot_info *boot = &boot_info;
    image_phys_base = image_phys;
    if (boot->entry_counter == 0)        /* else the UEFI loader has stamped its own beginning */
        boot->entry_counter = counter;
    switch (kind) {
    case BOOT_KIND_PVH:
        boot->loader = "PVH";
        boot_from_pvh(boot, parameter);
        break;
    case BOOT_KIND_LINUX64:
        boot->loader = "Linux boot protocol";
        boot_from_linux64(boot, parameter);
        break;
    case BOOT_KIND_MULTIBOOT2:
        boot->loader = "Multiboot2";
        boot_from_multiboot2(boot, parameter);
        break;
    default:
        boot->loader = "UEFI";
        boot->cmdline[sizeof boot->cmdline - 1] = '\0';
        boot->note[sizeof boot->note - 1] = '\0';
        break;
    }
    boot_add_region(boot, image_phys, (uint64_t)image_end - IMAGE_VIRT_BASE, MM_KERNEL);
    kernel_main(boot);
}
