/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The UEFI entry's story: settings, framebuffer, random seed, time, ACPI, memory for the kernel, memory map, goodbye
 * to boot services, jump. Until then every refusal is one line on the firmware's console and a status returned to
 * firmware, which goes on with the next boot entry.
 *
 * Assumes what UEFI promises an application: 64-bit mode, identity mapping, 128 KiB of stack.
 */
#include <string.h>
#include "boot/efi/boot_efi.h"

#define MAP_SLACK_DESCRIPTORS 32      /* the map grows by the buffer for it and by what firmware does meanwhile */
#define EXIT_ATTEMPTS         8
#define KERNEL_LIMIT          (64ull << 40)
#define PML4_ENTRY_BYTES      (512ull << 30)

static bool guid_equal(const struct efi_guid *a, const struct efi_guid *b)
{
    return memcmp(a, b, sizeof(*a)) == 0;
}

/* ---- memory for the kernel ---- */

static efi_status_t allocate_kernel(const struct efi_context *efi, uint64_t bytes, uint64_t *start)
{
    efi_status_t status = efi_allocate_aligned(efi, EFI_LOADER_CODE, KERNEL_LIMIT, bytes, start);
    if (status == EFI_SUCCESS && *start / PML4_ENTRY_BYTES != (*start + bytes - 1) / PML4_ENTRY_BYTES) {
        uint64_t boundary = ALIGN_UP(*start, PML4_ENTRY_BYTES);
        efi->boot->free_pages(*start, bytes / PAGE_BYTES);
        status = efi_allocate_aligned(efi, EFI_LOADER_CODE, boundary, bytes, start);
    }
    if (status != EFI_SUCCESS)
        return status;

    /* Firmware that protects pages must be told that this is code which writes to itself, until it has own tables. */
    static const struct efi_guid attribute_guid = EFI_MEMORY_ATTRIBUTE_GUID;
    struct efi_memory_attribute *attribute;
    if (efi->boot->locate_protocol(&attribute_guid, NULL, (void **)&attribute) == EFI_SUCCESS)
        return attribute->clear(attribute, *start, bytes, EFI_MEMORY_XP | EFI_MEMORY_RO);
    return EFI_SUCCESS;
}

/* Copies the kernel to memory of its own; *info is its struct boot_info there, all zero. */
static efi_status_t load_kernel(const struct efi_context *efi, struct boot_info **info, uint64_t *entry)
{
    const struct image_header *h = &kernel_image;
    if (h->magic != IMAGE_MAGIC || h->version != IMAGE_VERSION || h->boot_info_bytes != sizeof(struct boot_info) ||
        h->boot_info_offset > h->memory_bytes - sizeof(struct boot_info) || h->file_bytes > h->memory_bytes) {
        efi_say(efi, "the kernel in this file is not one that this entry can start (built from different sources?)");
        return EFI_LOAD_ERROR;
    }
    uint64_t start;
    efi_status_t status = allocate_kernel(efi, h->memory_bytes, &start);
    if (status != EFI_SUCCESS) {
        efi_say(efi, "no memory for the kernel: %llu KiB wanted, firmware answers %s",
                (unsigned long long)(h->memory_bytes >> 10), efi_status_name(status));
        return status;
    }
    memcpy((void *)start, kernel_payload, h->file_bytes);
    memset((char *)start + h->file_bytes, 0, h->memory_bytes - h->file_bytes);
    *info = (void *)(start + h->boot_info_offset);
    *entry = start + h->entry_offset;
    return EFI_SUCCESS;
}

/* ---- settings ---- */

/* Reads \candela.conf of the volume this program came from; *bytes = 0 when there is no such file or volume. */
static efi_status_t read_conf(const struct efi_context *efi, uint8_t *buffer, size_t *bytes)
{
    static const struct efi_guid fs_guid = EFI_SIMPLE_FS_GUID;
    static const efi_char16_t name[] = u"\\candela.conf";
    struct efi_simple_file_system *fs;
    struct efi_file *root, *file;
    size_t room = *bytes;

    *bytes = 0;
    if (!efi->loaded->device_handle ||
        efi->boot->handle_protocol(efi->loaded->device_handle, &fs_guid, (void **)&fs) != EFI_SUCCESS)
        return EFI_SUCCESS;                 /* started from the network or from memory */
    efi_status_t status = fs->open_volume(fs, &root);
    if (status == EFI_SUCCESS) {
        status = root->open(root, &file, name, EFI_FILE_MODE_READ, 0);
        root->close(root);
    }
    if (status == EFI_NOT_FOUND)
        return EFI_SUCCESS;
    if (status == EFI_SUCCESS) {
        *bytes = room;
        status = file->read(file, bytes, buffer);
        file->close(file);
    }
    if (status != EFI_SUCCESS)
        efi_say(efi, "candela.conf can't be read: %s", efi_status_name(status));
    return status;
}

/* A file that is there but can't be used stops the boot: to go on without its settings might open what they close. */
static efi_status_t take_settings(const struct efi_context *efi, char *cmdline)
{
    void *buffer;
    efi_status_t status = efi->boot->allocate_pool(EFI_LOADER_DATA, CONF_MAX_BYTES + 1, &buffer);
    if (status != EFI_SUCCESS) {
        efi_say(efi, "no memory to read candela.conf: %s", efi_status_name(status));
        return status;
    }
    size_t bytes = CONF_MAX_BYTES + 1;
    unsigned line;
    status = read_conf(efi, buffer, &bytes);
    if (status == EFI_SUCCESS && bytes > CONF_MAX_BYTES) {
        efi_say(efi, "candela.conf is larger than %u bytes; not booting without it", (unsigned)CONF_MAX_BYTES);
        status = EFI_BAD_BUFFER_SIZE;
    }
    if (status == EFI_SUCCESS) {
        const char *why = conf_append(cmdline, BOOT_CMDLINE_BYTES, buffer, bytes, &line);
        if (why) {
            efi_say(efi, "candela.conf, line %u: %s; not booting without it", line, why);
            status = EFI_LOAD_ERROR;
        }
    }
    efi->boot->free_pool(buffer);
    if (status == EFI_SUCCESS && !conf_append_load_options(cmdline, BOOT_CMDLINE_BYTES, efi->loaded->load_options,
                                                           efi->loaded->load_options_bytes)) {
        efi_say(efi, "the load options do not fit behind candela.conf: %u bytes in all",
                (unsigned)BOOT_CMDLINE_BYTES - 1);
        status = EFI_BAD_BUFFER_SIZE;
    }
    return status;
}

/* ---- what firmware knows ---- */

static void take_framebuffer(const struct efi_context *efi, struct framebuffer *fb)
{
    static const struct efi_guid gop_guid = EFI_GRAPHICS_OUTPUT_GUID;
    struct efi_graphics_output *gop;
    if (efi->boot->locate_protocol(&gop_guid, NULL, (void **)&gop) != EFI_SUCCESS || !gop->mode || !gop->mode->info)
        return;
    const struct efi_graphics_mode_info *info = gop->mode->info;
    bool bgr = info->format == EFI_PIXEL_BGR8;
    if (info->format == EFI_PIXEL_BIT_MASK) {
        bgr = info->red_mask == 0xff0000 && info->green_mask == 0xff00 && info->blue_mask == 0xff;
        if (!bgr && !(info->red_mask == 0xff && info->green_mask == 0xff00 && info->blue_mask == 0xff0000))
            return;
    } else if (info->format != EFI_PIXEL_RGB8 && !bgr) {
        return;
    }
    if ((uint64_t)info->pixels_per_scan_line * info->height * 4 > gop->mode->framebuffer_bytes)
        return;
    *fb = (struct framebuffer){pa(gop->mode->framebuffer_base), info->width, info->height,
                               info->pixels_per_scan_line, bgr};
}

static void take_random(const struct efi_context *efi, struct boot_info *info)
{
    static const struct efi_guid rng_guid = EFI_RNG_GUID;
    struct efi_rng *rng;
    if (efi->boot->locate_protocol(&rng_guid, NULL, (void **)&rng) == EFI_SUCCESS &&
        rng->get_rng(rng, NULL, sizeof(info->random_seed), info->random_seed) == EFI_SUCCESS)
        info->random_seed_bytes = sizeof(info->random_seed);
}

static void take_time(const struct efi_context *efi, struct boot_info *info)
{
    struct efi_time time;
    if (efi->system->runtime_services->get_time(&time, NULL) == EFI_SUCCESS)
        info->firmware_unix_s = efi_unix_seconds(&time);
}

static void take_tables(const struct efi_context *efi, struct boot_info *info)
{
    static const struct efi_guid acpi_guid = EFI_ACPI_20_TABLE_GUID, dtb_guid = EFI_DTB_TABLE_GUID;
    info->efi_system_table = (uintptr_t)efi->system;
    info->acpi_rsdp = PADDR_NONE;
    info->device_tree = PADDR_NONE;
    for (size_t i = 0; i < efi->system->number_of_table_entries; i++) {
        const struct efi_configuration_table *entry = &efi->system->configuration_table[i];
        if (guid_equal(&entry->guid, &acpi_guid))
            info->acpi_rsdp = pa((uintptr_t)entry->table);
        if (guid_equal(&entry->guid, &dtb_guid))
            info->device_tree = pa((uintptr_t)entry->table);
    }
}

/* ---- goodbye ---- */

/*
 * The map must be the newest when boot services end, and to end them may change it: ask again and retry. The buffer
 * is allocated once, since after the first attempt nothing but the map may be asked for.
 */
static efi_status_t leave_boot_services(const struct efi_context *efi, struct boot_info *info)
{
    size_t bytes = 0, key, descriptor_bytes = 0;
    uint32_t version;
    void *map;
    efi_status_t status = efi->boot->get_memory_map(&bytes, NULL, &key, &descriptor_bytes, &version);
    if (status != EFI_BUFFER_TOO_SMALL || descriptor_bytes < sizeof(struct efi_memory_descriptor)) {
        efi_say(efi, "firmware gives no memory map: %s", efi_status_name(status));
        return EFI_LOAD_ERROR;
    }
    size_t room = bytes + MAP_SLACK_DESCRIPTORS * descriptor_bytes;
    status = efi->boot->allocate_pool(EFI_LOADER_DATA, room, &map);
    if (status != EFI_SUCCESS) {
        efi_say(efi, "no memory for the memory map: %s", efi_status_name(status));
        return status;
    }
    for (unsigned attempt = 0; attempt < EXIT_ATTEMPTS; attempt++) {
        bytes = room;
        status = efi->boot->get_memory_map(&bytes, map, &key, &descriptor_bytes, &version);
        if (status == EFI_SUCCESS)
            status = efi->boot->exit_boot_services(efi->image, key);
        if (status == EFI_SUCCESS) {
            map_convert(info, map, bytes, descriptor_bytes);
            return EFI_SUCCESS;
        }
    }
    efi_say(efi, "boot services do not end: %s after %u attempts", efi_status_name(status), EXIT_ATTEMPTS);
    return status;
}

EFIAPI efi_status_t efi_main(efi_handle_t image, struct efi_system_table *system);

EFIAPI efi_status_t efi_main(efi_handle_t image, struct efi_system_table *system)
{
    static const struct efi_guid loaded_guid = EFI_LOADED_IMAGE_GUID;
    uint64_t entry_counter = efi_cycle_counter();
    struct efi_context efi = {.image = image, .system = system, .boot = system->boot_services};
    struct boot_info *info;
    uint64_t entry;

    efi_status_t status = efi.boot->handle_protocol(image, &loaded_guid, (void **)&efi.loaded);
    if (status != EFI_SUCCESS) {
        efi_say(&efi, "firmware does not know its own image: %s", efi_status_name(status));
        return status;
    }
    const char *unlivable = efi_unlivable();
    if (unlivable) {
        efi_say(&efi, "%s", unlivable);
        return EFI_UNSUPPORTED;
    }
    status = load_kernel(&efi, &info, &entry);
    if (status != EFI_SUCCESS)
        return status;
    uint64_t kernel = entry - kernel_image.entry_offset;

    status = take_settings(&efi, info->cmdline);
    if (status == EFI_SUCCESS) {
        info->entry_counter = entry_counter;
        take_framebuffer(&efi, &info->framebuffer);
        take_random(&efi, info);
        take_time(&efi, info);
        take_tables(&efi, info);
        efi_say(&efi, "starting");
        status = leave_boot_services(&efi, info);
    }
    if (status != EFI_SUCCESS) {
        efi.boot->free_pages(kernel, kernel_image.memory_bytes / PAGE_BYTES);
        return status;
    }
    efi_handoff(entry, kernel, kernel_image.memory_bytes);
}
