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
#include "boot/efi/boot_efi.h"
#include "tests/lab/x86_64/acpi_wire.h"
#include "tests/lab/x86_64/svm.h"
#include "tests/lab/x86_64/uefi.h"

#define LAB_BYTES       (64ull << 20)
#define HANDOFF_BYTES   ALIGN_UP(sizeof(struct lab_handoff), PAGE_BYTES)
#define FOUR_GIB        (4ull << 30)
#define EFI_ABORTED     (EFI_ERROR_BIT | 21)
#define BY_PROTOCOL     2u
#define MAP_SLACK       16

#define EFI_PCI_IO_GUID {0x4cf5b200, 0x68b8, 0x4ca5, {0x9e, 0xec, 0xb2, 0x3e, 0x3f, 0x50, 0x02, 0x9a}}
struct efi_pci_io {                         /* UEFI 14.4; only the one function is used */
    void *before[14];
    efi_status_t (EFIAPI *get_location)(struct efi_pci_io *self, size_t *segment, size_t *bus, size_t *device,
                                        size_t *function);
};
typedef efi_status_t (EFIAPI *efi_disconnect_t)(efi_handle_t controller, efi_handle_t driver, efi_handle_t child);

uint64_t lab_capture(struct lab_handoff *h);
EFIAPI efi_status_t efi_main(efi_handle_t image, struct efi_system_table *system);

static uint64_t read_msr(uint32_t msr)
{
    uint32_t low, high;
    __asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr));
    return (uint64_t)high << 32 | low;
}

static bool has_svm(void)
{
    uint32_t a = 0x80000000, b, c = 0, d;
    __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    if (a < 0x8000000A)
        return false;
    a = 0x80000001;
    c = 0;
    __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    return (c & 1u << 2) != 0;
}

/* ---- memory ---- */
static bool is_ram(uint32_t type)
{
    return type != EFI_RESERVED_MEMORY && type != EFI_UNUSABLE_MEMORY && type < EFI_MMIO;
}

static efi_status_t take_ranges(const struct efi_context *efi, struct lab_handoff *h)
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

/* No driver of the firmware may use the lab's devices any more; afterwards they are invisible to it. */
static void take_devices(const struct efi_context *efi)
{
    static const struct efi_guid pci_guid = EFI_PCI_IO_GUID;
    efi_disconnect_t disconnect = (efi_disconnect_t)efi->boot->disconnect_controller;
    size_t bytes = 0, segment, bus, device, function;
    efi_handle_t *handles;
    if (efi->boot->locate_handle(BY_PROTOCOL, &pci_guid, NULL, &bytes, NULL) != EFI_BUFFER_TOO_SMALL ||
        efi->boot->allocate_pool(EFI_BOOT_SERVICES_DATA, bytes, (void **)&handles) != EFI_SUCCESS)
        return;
    if (efi->boot->locate_handle(BY_PROTOCOL, &pci_guid, NULL, &bytes, handles) == EFI_SUCCESS)
        for (size_t i = 0; i < bytes / sizeof(*handles); i++) {
            struct efi_pci_io *io;
            if (efi->boot->handle_protocol(handles[i], &pci_guid, (void **)&io) == EFI_SUCCESS &&
                io->get_location(io, &segment, &bus, &device, &function) == EFI_SUCCESS && bus == 0 &&
                device >= LAB_PCI_FIRST && device <= LAB_PCI_LAST)
                disconnect(handles[i], NULL, NULL);
        }
    efi->boot->free_pool(handles);
}

/* ---- ACPI ---- */
/*
 * Scope (\_SB) { Device (VMOD) { _HID "ACPI0004", _UID 0
 *     Device (VMBS) { _HID "VMBus", _UID 0, _STA 15, _CRS: IRQ 5, edge } } }
 */
static const uint8_t ssdt_body[] = {
    0x10, 0x4A, 0x05, '\\', '_', 'S', 'B', '_',
    0x5B, 0x82, 0x41, 0x05, 'V', 'M', 'O', 'D',
    0x08, '_', 'H', 'I', 'D', 0x0D, 'A', 'C', 'P', 'I', '0', '0', '0', '4', 0,
    0x08, '_', 'U', 'I', 'D', 0x00,
    0x08, '_', 'S', 'T', 'A', 0x0A, 0x0F,
    0x5B, 0x82, 0x2D, 'V', 'M', 'B', 'S',
    0x08, '_', 'H', 'I', 'D', 0x0D, 'V', 'M', 'B', 'u', 's', 0,
    0x08, '_', 'U', 'I', 'D', 0x00,
    0x08, '_', 'S', 'T', 'A', 0x0A, 0x0F,
    0x08, '_', 'C', 'R', 'S', 0x11, 0x09, 0x0A, 0x06, 0x23, 0x20, 0x00, 0x01, 0x79, 0x00,
};

static struct acpi_rsdp *find_rsdp(const struct efi_context *efi)
{
    static const struct efi_guid guid = EFI_ACPI_20_TABLE_GUID;
    for (size_t i = 0; i < efi->system->number_of_table_entries; i++)
        if (!memcmp(&efi->system->configuration_table[i].guid, &guid, sizeof(guid)))
            return efi->system->configuration_table[i].table;
    return NULL;
}

/* A new list of tables: without the HPET, which is the lab's, and with the device behind which guests seek VMBus. */
static void patch_acpi(const struct efi_context *efi)
{
    struct acpi_rsdp *rsdp = find_rsdp(efi);
    struct acpi_header *old = rsdp ? (void *)rsdp->xsdt : NULL;
    void *memory;
    if (!old || efi->boot->allocate_pool(EFI_ACPI_RECLAIM_MEMORY, old->length + 64 + sizeof(*old) + sizeof(ssdt_body),
                                         &memory) != EFI_SUCCESS) {
        efi_say(efi, "no ACPI tables to change");
        return;
    }
    size_t entries = (old->length - sizeof(*old)) / 8, kept = 0;
    struct acpi_header *xsdt = memory;
    for (size_t i = 0; i < entries; i++) {
        uint64_t table;
        memcpy(&table, (const uint8_t *)(old + 1) + 8 * i, sizeof(table));
        if (memcmp((const void *)table, "HPET", 4) != 0)
            memcpy((uint8_t *)(xsdt + 1) + 8 * kept++, &table, sizeof(table));
    }
    struct acpi_header *ssdt = (void *)ALIGN_UP((uint64_t)(xsdt + 1) + 8 * (kept + 1), 16ull);
    memcpy(ssdt + 1, ssdt_body, sizeof(ssdt_body));
    acpi_finish(ssdt, "SSDT", sizeof(*ssdt) + sizeof(ssdt_body), 2);
    uint64_t address = (uint64_t)ssdt;
    memcpy((uint8_t *)(xsdt + 1) + 8 * kept++, &address, sizeof(address));
    acpi_finish(xsdt, "XSDT", sizeof(*xsdt) + 8 * kept, 1);
    rsdp->xsdt = (uint64_t)xsdt;
    rsdp->checksum2 = 0;
    rsdp->checksum2 = acpi_checksum(rsdp, rsdp->length);
}

/* ---- the state the guest begins with, beside what capture.S takes ---- */
static void take_registers(struct lab_handoff *h)
{
    h->efer = read_msr(MSR_EFER);
    h->fs_base = read_msr(0xC0000100);
    h->gs_base = read_msr(0xC0000101);
    h->kernel_gs_base = read_msr(0xC0000102);
    h->star = read_msr(0xC0000081);
    h->lstar = read_msr(0xC0000082);
    h->cstar = read_msr(0xC0000083);
    h->sfmask = read_msr(0xC0000084);
    h->sysenter_cs = read_msr(0x174);
    h->sysenter_esp = read_msr(0x175);
    h->sysenter_eip = read_msr(0x176);
    h->pat = read_msr(0x277);
}

static void fill_boot_info(struct boot_info *info, const struct lab_handoff *h)
{
    info->regions[info->region_count++] = (struct mm_region){pa(h->block_start), LAB_BYTES - HANDOFF_BYTES, MM_RAM};
    struct boot_module *m = &info->modules[info->module_count++];
    m->start = pa((uint64_t)h);
    m->bytes = sizeof(*h);
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
    if (!has_svm()) {
        efi_say(&efi, "lab: this CPU has no SVM, or the lab runs already");
        return EFI_UNSUPPORTED;
    }
    if (k->magic != IMAGE_MAGIC || k->boot_info_bytes != sizeof(struct boot_info) || k->memory_bytes > LAB_BYTES / 2)
        return EFI_LOAD_ERROR;
    status = efi_allocate_aligned(&efi, EFI_RESERVED_MEMORY, FOUR_GIB, LAB_BYTES, &start);
    if (status != EFI_SUCCESS) {
        efi_say(&efi, "lab: no memory: %s", efi_status_name(status));
        return status;
    }
    memcpy((void *)start, k, k->file_bytes);
    memset((char *)start + k->file_bytes, 0, k->memory_bytes - k->file_bytes);
    struct lab_handoff *h = (void *)(start + LAB_BYTES - HANDOFF_BYTES);
    memset(h, 0, sizeof(*h));
    h->magic = LAB_HANDOFF_MAGIC;
    h->block_start = start;
    h->block_bytes = LAB_BYTES;

    take_devices(&efi);
    patch_acpi(&efi);
    status = take_ranges(&efi, h);
    if (status != EFI_SUCCESS) {
        efi_say(&efi, "lab: no memory map: %s", efi_status_name(status));
        return status;
    }
    fill_boot_info((void *)(start + k->boot_info_offset), h);
    take_registers(h);
    if (lab_capture(h) == 0)
        efi_handoff(start + k->entry_offset, start, k->memory_bytes);
    efi_say(&efi, "lab: the firmware is a guest now");
    return EFI_ABORTED;
}
