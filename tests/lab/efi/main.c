/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * LAB.EFI: slips the lab below the running firmware. The story: memory that no one else will use, the lab's image
 * into it, ACPI tables that fit what the guest will see, the lab's devices taken from the firmware's drivers, the
 * processor's state captured, jump. The lab then runs this very program as its guest from the captured state on, and
 * it returns to the firmware.
 *
 * It returns an error status on purpose: a boot manager treats success as "a system ran and ended" and stops; after an
 * error it goes on with the next boot entry, the guest's disk.
 */
#include <string.h>
#include "tests/lab/efi/lab_efi.h"

#define LAB_BYTES       (64ull << 20)
#define FOUR_GIB        (4ull << 30)
#define EFI_ABORTED     (EFI_ERROR_BIT | 21)
#define BY_PROTOCOL     2u
#define MAP_SLACK       16

typedef efi_status_t (EFIAPI *efi_disconnect_t)(efi_handle_t controller, efi_handle_t driver, efi_handle_t child);

EFIAPI efi_status_t efi_main(efi_handle_t image, struct efi_system_table *system);

/* ---- memory ---- */
static bool is_ram(uint32_t type)
{
    return type != EFI_RESERVED_MEMORY && type != EFI_UNUSABLE_MEMORY && type < EFI_MMIO;
}

static efi_status_t take_ranges(const struct efi_context *efi, struct lab_handoff_common *h)
{
    size_t bytes = 0, key, step = 0;
    uint32_t version;
    uint8_t *map;
    efi_status_t status = efi->boot->get_memory_map(&bytes, NULL, &key, &step, &version);
    if (status != EFI_BUFFER_TOO_SMALL)
        return EFI_LOAD_ERROR;
    bytes += MAP_SLACK * step;
    status = efi->boot->allocate_pool(EFI_BOOT_SERVICES_DATA, bytes, (void **)&map);
    if (status == EFI_SUCCESS)
        status = efi->boot->get_memory_map(&bytes, (void *)map, &key, &step, &version);
    for (size_t at = 0; status == EFI_SUCCESS && at < bytes; at += step) {
        const struct efi_memory_descriptor *d = (const void *)(map + at);
        uint64_t size = d->number_of_pages * PAGE_BYTES;
        if (!is_ram(d->type) || size == 0)
            continue;
        bool joined = false;
        for (uint32_t i = 0; i < h->range_count && !joined; i++) {
            joined = true;
            if (h->ranges[i].start + h->ranges[i].bytes == d->physical_start)
                h->ranges[i].bytes += size;
            else if (d->physical_start + size == h->ranges[i].start) {
                h->ranges[i].start = d->physical_start;
                h->ranges[i].bytes += size;
            } else
                joined = false;
        }
        if (joined)
            continue;
        if (h->range_count == LAB_HANDOFF_RANGES)
            return EFI_BUFFER_TOO_SMALL;
        h->ranges[h->range_count].start = d->physical_start;
        h->ranges[h->range_count++].bytes = size;
    }
    return status;
}

/* ---- devices ---- */
void lab_disconnect(const struct efi_context *efi, const struct efi_guid *protocol,
                    bool (*choose)(const struct efi_context *efi, efi_handle_t handle))
{
    efi_disconnect_t disconnect = (efi_disconnect_t)efi->boot->disconnect_controller;
    size_t bytes = 0;
    efi_handle_t *handles;
    if (efi->boot->locate_handle(BY_PROTOCOL, protocol, NULL, &bytes, NULL) != EFI_BUFFER_TOO_SMALL ||
        efi->boot->allocate_pool(EFI_BOOT_SERVICES_DATA, bytes, (void **)&handles) != EFI_SUCCESS)
        return;
    if (efi->boot->locate_handle(BY_PROTOCOL, protocol, NULL, &bytes, handles) == EFI_SUCCESS)
        for (size_t i = 0; i < bytes / sizeof(*handles); i++)
            if (choose(efi, handles[i]))
                disconnect(handles[i], NULL, NULL);
    efi->boot->free_pool(handles);
}

static void fill_boot_info(struct boot_info *info, const struct lab_handoff_common *h)
{
    info->regions[info->region_count++] = (struct mm_region){pa(h->block_start), LAB_BYTES - LAB_HANDOFF_BYTES, MM_RAM};
    struct boot_module *m = &info->modules[info->module_count++];
    m->start = pa((uint64_t)h);
    m->bytes = LAB_HANDOFF_BYTES;
    memcpy(m->name, LAB_HANDOFF_NAME, sizeof(LAB_HANDOFF_NAME));
    info->acpi_rsdp = PADDR_NONE;
    info->device_tree = PADDR_NONE;
}

EFIAPI efi_status_t efi_main(efi_handle_t image, struct efi_system_table *system)
{
    static const struct efi_guid loaded_guid = EFI_LOADED_IMAGE_GUID;
    struct efi_context efi = {.image = image, .system = system, .boot = system->boot_services};
    const struct image_header *k = &kernel_image;
    uint64_t start;

    efi_status_t status = efi.boot->handle_protocol(image, &loaded_guid, (void **)&efi.loaded);
    if (status != EFI_SUCCESS)
        return status;
    const char *unfit = lab_unfit();
    if (unfit) {
        efi_say(&efi, "lab: %s", unfit);
        return EFI_UNSUPPORTED;
    }
    if (k->magic != IMAGE_MAGIC || k->boot_info_bytes != sizeof(struct boot_info) || k->memory_bytes > LAB_BYTES / 2)
        return EFI_LOAD_ERROR;
    status = efi_allocate_aligned(&efi, EFI_RESERVED_MEMORY, FOUR_GIB, LAB_BYTES, &start);
    if (status != EFI_SUCCESS) {
        efi_say(&efi, "lab: no memory: %s", efi_status_name(status));
        return status;
    }
    memcpy((void *)start, kernel_payload, k->file_bytes);
    memset((char *)start + k->file_bytes, 0, k->memory_bytes - k->file_bytes);
    struct lab_handoff_common *h = (void *)(start + LAB_BYTES - LAB_HANDOFF_BYTES);
    memset(h, 0, LAB_HANDOFF_BYTES);
    h->magic = LAB_HANDOFF_MAGIC;
    h->block_start = start;
    h->block_bytes = LAB_BYTES;

    lab_take_devices(&efi);
    lab_patch_acpi(&efi);
    status = take_ranges(&efi, h);
    if (status != EFI_SUCCESS) {
        efi_say(&efi, "lab: no memory map: %s", efi_status_name(status));
        return status;
    }
    struct boot_info *info = (void *)(start + k->boot_info_offset);
    fill_boot_info(info, h);
    if (!lab_take_machine(&efi, h, info))
        return EFI_UNSUPPORTED;
    if (lab_capture(h) == 0)
        efi_handoff(start + k->entry_offset, start, k->memory_bytes);
    efi_say(&efi, "lab: the firmware is a guest now");
    return EFI_ABORTED;
}
