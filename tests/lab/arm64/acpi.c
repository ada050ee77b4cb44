/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ACPI in direct mode: the tables of a Hyper-V guest on arm64, handed over as loaders without firmware do it (OpenVMM):
 * /chosen names an UEFI system table that has nothing but the list of configuration tables, and UEFI's memory map. There
 * are no runtime services: the page of the system table wants to be mapped nowhere, at which Linux gives them up.
 *
 * The FADT says that Hyper-V is beneath, and PSCI by HVC; the MADT names each processor's redistributor; the DSDT has
 * VMBus with its interrupt and the UART. Sources: ACPI 6.3, chapters 5 and 20; UEFI 2.10, 4.3 and 7.2; Microsoft's
 * SPCR; Linux documentation, arch/arm/uefi.
 */
#define LOG_ROOM "lab"
#include <string.h>
#include "boot/efi/efi.h"
#include "tests/lab/acpi_wire.h"
#include "tests/lab/arm64/acpi.h"
#include "tests/lab/arm64/board.h"
#include "tests/lab/arm64/tree.h"
#include "tests/lab/arm64/vcpu.h"
#include "tests/lab/direct.h"

#define EFI_SYSTEM_SIGNATURE 0x5453595320494249ull
#define EFI_REVISION         0x0002000Au          /* 2.10 */
#define EFI_MEMORY_RUNTIME   (1ull << 63)
#define MEMORY_MAP_VERSION   1u
#define SECURE_BOOT_OFF      2u                   /* Debian's kernel takes no UEFI without this property */
#define MAX_RANGES           12u

#define FADT_BYTES           276u
#define FADT_FLAGS           112u
#define FADT_ARM_BOOT        129u
#define FADT_MINOR           131u
#define FADT_X_DSDT          140u
#define FADT_HYPERVISOR      268u
#define FADT_HW_REDUCED      (1u << 20)
#define FADT_PSCI_BY_HVC     3u
#define MADT_GICC            0x0B
#define MADT_GICD            0x0C
#define GICC_ENABLED         1u
#define GTDT_BYTES           96u
#define GTDT_NO_ADDRESS      UINT64_MAX
#define GTDT_LEVEL_ALWAYS_ON 4u
#define TIMER_SECURE         29u
#define TIMER_EL1            30u
#define TIMER_VIRTUAL        27u
#define TIMER_EL2            26u
#define SPCR_BYTES           80u
#define SPCR_PL011           3u
#define SPCR_BY_GIC          8u

/*
 *  Scope (\_SB) {
 *    Device (VMOD) { _HID "ACPI0004", _UID 0, _STA 15, _CRS: producer of 10000000-2FFFFFFF, below
 *      RAM (Linux wants room there for a frame buffer)
 *      Device (VMBS) { _HID "VMBus", _UID 0, _STA 15, _CRS: interrupt 18, edge } }
 *    Device (COM0) { _HID "ARMH0011", _UID 0, _CRS: memory 9000000, 4 KiB; interrupt 33, level } }
 */
static const uint8_t dsdt_body[] = {
    0x10, 0x43, 0x0D, '_', 'S', 'B', '_',
    0x5B, 0x82, 0x4F, 0x08, 'V', 'M', 'O', 'D',
    0x08, '_', 'H', 'I', 'D', 0x0D, 'A', 'C', 'P', 'I', '0', '0', '0', '4', 0,
    0x08, '_', 'U', 'I', 'D', 0x00,
    0x08, '_', 'S', 'T', 'A', 0x0A, 0x0F,
    0x08, '_', 'C', 'R', 'S', 0x11, 0x33, 0x0A, 0x30,
    0x8A, 0x2B, 0x00, 0x00, 0x0C, 0x03, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x10, 0x00, 0x00, 0x00, 0x00, 0xFF, 0xFF, 0xFF, 0x2F, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x20, 0x00, 0x00, 0x00, 0x00, 0x79, 0x00,
    0x5B, 0x82, 0x32, 'V', 'M', 'B', 'S',
    0x08, '_', 'H', 'I', 'D', 0x0D, 'V', 'M', 'B', 'u', 's', 0,
    0x08, '_', 'U', 'I', 'D', 0x00,
    0x08, '_', 'S', 'T', 'A', 0x0A, 0x0F,
    0x08, '_', 'C', 'R', 'S', 0x11, 0x0E, 0x0A, 0x0B, 0x89, 0x06, 0x00, 0x03, 0x01, 18, 0, 0, 0, 0x79, 0x00,
    0x5B, 0x82, 0x3A, 'C', 'O', 'M', '0',
    0x08, '_', 'H', 'I', 'D', 0x0D, 'A', 'R', 'M', 'H', '0', '0', '1', '1', 0,
    0x08, '_', 'U', 'I', 'D', 0x00,
    0x08, '_', 'C', 'R', 'S', 0x11, 0x1A, 0x0A, 0x17, 0x86, 0x09, 0x00, 0x01, 0x00, 0x00, 0x00, 0x09,
    0x00, 0x10, 0x00, 0x00, 0x89, 0x06, 0x00, 0x01, 0x01, 33, 0, 0, 0, 0x79, 0x00,
};
_Static_assert(sizeof(dsdt_body) == 212, "as long as its scope says");

/* ---- tables, byte by byte at the specification's offsets ---- */
static void put(uint8_t *at, uint64_t value, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++)
        at[i] = (uint8_t)(value >> 8 * i);
}

static size_t build_dsdt(uint8_t *t)
{
    memcpy(t + sizeof(struct acpi_header), dsdt_body, sizeof(dsdt_body));
    acpi_finish(t, "DSDT", sizeof(struct acpi_header) + sizeof(dsdt_body), 2);
    return sizeof(struct acpi_header) + sizeof(dsdt_body);
}

static size_t build_fadt(uint8_t *t, uint64_t dsdt)
{
    put(t + FADT_FLAGS, FADT_HW_REDUCED, 4);
    put(t + FADT_ARM_BOOT, FADT_PSCI_BY_HVC, 2);
    t[FADT_MINOR] = 3;
    put(t + FADT_X_DSDT, dsdt, 8);
    memcpy(t + FADT_HYPERVISOR, "MsHyperV", 8);
    acpi_finish(t, "FACP", FADT_BYTES, 6);
    return FADT_BYTES;
}

static size_t build_madt(uint8_t *t)
{
    uint8_t *e = t + sizeof(struct acpi_header) + 8;         /* address and flags of other machines: none */
    for (unsigned i = 0; i < lab_vcpu_count; i++, e += 80) {
        e[0] = MADT_GICC;
        e[1] = 80;
        put(e + 4, i, 4);                                    /* number of the CPU interface, and of the processor */
        put(e + 8, i, 4);
        put(e + 12, GICC_ENABLED, 4);
        put(e + 60, lab_gic_frames.redistributors + i * VGIC_REDISTRIBUTOR_BYTES, 8);
        put(e + 68, lab_vcpus[i].mpidr, 8);
    }
    e[0] = MADT_GICD;
    e[1] = 24;
    put(e + 8, lab_gic_frames.distributor, 8);
    e[20] = 3;
    e += 24;
    acpi_finish(t, "APIC", (size_t)(e - t), 5);
    return (size_t)(e - t);
}

static size_t build_gtdt(uint8_t *t)
{
    static const uint8_t lines[] = {TIMER_SECURE, TIMER_EL1, TIMER_VIRTUAL, TIMER_EL2};
    put(t + 36, GTDT_NO_ADDRESS, 8);
    for (unsigned i = 0; i < ARRAY_SIZE(lines); i++) {
        put(t + 48 + 8 * i, lines[i], 4);
        put(t + 52 + 8 * i, GTDT_LEVEL_ALWAYS_ON, 4);
    }
    put(t + 80, GTDT_NO_ADDRESS, 8);
    acpi_finish(t, "GTDT", GTDT_BYTES, 2);
    return GTDT_BYTES;
}

static size_t build_spcr(uint8_t *t)
{
    static const uint8_t address[] = {0, 32, 0, 3};          /* in memory, 32 bits, accessed so */
    t[36] = SPCR_PL011;
    memcpy(t + 40, address, sizeof(address));
    put(t + 44, BOARD_UART, 8);
    t[52] = SPCR_BY_GIC;
    put(t + 54, BOARD_UART_IRQ, 4);
    t[58] = 7;                                               /* 115200 */
    t[60] = 1;                                               /* one stop bit */
    put(t + 64, 0xFFFFFFFF, 4);                              /* not on PCI */
    acpi_finish(t, "SPCR", SPCR_BYTES, 2);
    return SPCR_BYTES;
}

static uint64_t build_tables(uint64_t gpa)
{
    uint64_t at = gpa, xsdt[4];
    uint8_t *p = guest_ptr(gpa, LAB_ACPI_BYTES / 2);
    memset(p, 0, LAB_ACPI_BYTES / 2);
#define PLACE (p + (at - gpa))
    uint64_t dsdt = at;
    at = ALIGN_UP(at + build_dsdt(PLACE), 64u);
    xsdt[0] = at;
    at = ALIGN_UP(at + build_fadt(PLACE, dsdt), 64u);
    xsdt[1] = at;
    at = ALIGN_UP(at + build_madt(PLACE), 64u);
    xsdt[2] = at;
    at = ALIGN_UP(at + build_gtdt(PLACE), 64u);
    xsdt[3] = at;
    at = ALIGN_UP(at + build_spcr(PLACE), 64u);
    struct acpi_rsdp rsdp = {.revision = 2, .length = sizeof(rsdp), .xsdt = at};
    memcpy(PLACE + sizeof(struct acpi_header), xsdt, sizeof(xsdt));
    acpi_finish(PLACE, "XSDT", sizeof(struct acpi_header) + sizeof(xsdt), 1);
    at = ALIGN_UP(at + sizeof(struct acpi_header) + sizeof(xsdt), 64u);
    memcpy(rsdp.signature, "RSD PTR ", 8);
    memcpy(rsdp.oem_id, ACPI_OEM_ID, sizeof(rsdp.oem_id));
    rsdp.checksum = acpi_checksum(&rsdp, 20);
    rsdp.checksum2 = acpi_checksum(&rsdp, sizeof(rsdp));
    memcpy(PLACE, &rsdp, sizeof(rsdp));
#undef PLACE
    return at;
}

/* ---- UEFI's part ---- */
struct efi_page {
    struct efi_system_table table;
    struct efi_configuration_table acpi;
    efi_char16_t vendor[12];
};

static void build_system_table(uint64_t gpa, uint64_t rsdp)
{
    static const efi_char16_t vendor[12] = u"Candela lab";
    struct efi_page *page = guest_ptr(gpa, PAGE_BYTES);
    memset(page, 0, PAGE_BYTES);
    page->table.header = (struct efi_table_header){.signature = EFI_SYSTEM_SIGNATURE, .revision = EFI_REVISION,
                                                   .header_size = sizeof(page->table)};
    page->table.firmware_vendor = (efi_char16_t *)(uintptr_t)(gpa + offsetof(struct efi_page, vendor));
    page->table.number_of_table_entries = 1;
    page->table.configuration_table = (void *)(uintptr_t)(gpa + offsetof(struct efi_page, acpi));
    page->acpi = (struct efi_configuration_table){EFI_ACPI_20_TABLE_GUID, (void *)(uintptr_t)rsdp};
    memcpy(page->vendor, vendor, sizeof(vendor));
}

struct memory_map { struct efi_memory_descriptor ranges[MAX_RANGES]; unsigned count; };

static void add_range(struct memory_map *m, uint32_t type, uint64_t start, uint64_t end)
{
    KASSERT(m->count < MAX_RANGES);
    m->ranges[m->count++] = (struct efi_memory_descriptor){
        .type = type, .physical_start = start, .number_of_pages = (end - start) >> PAGE_SHIFT,
        .virtual_start = type == EFI_RUNTIME_SERVICES_DATA ? UINT64_MAX : 0,
        .attribute = EFI_MEMORY_WB | (type == EFI_RUNTIME_SERVICES_DATA ? EFI_MEMORY_RUNTIME : 0),
    };
}

/* The device tree lies below, the system table at gpa, the map itself behind it, the tables in the second half. */
void acpi_hand_over(struct tree *t, uint64_t gpa)
{
    const struct direct_range *high;
    unsigned high_count = direct_high_ranges(&high);
    uint64_t ram = machine_layout.ram, map_at = gpa + PAGE_BYTES, tables = gpa + LAB_ACPI_BYTES / 2;
    uint64_t rsdp = build_tables(tables);
    struct memory_map map = {.count = 0};
    build_system_table(gpa, rsdp);
    add_range(&map, EFI_LOADER_DATA, ram, gpa);
    add_range(&map, EFI_RUNTIME_SERVICES_DATA, gpa, map_at);
    add_range(&map, EFI_LOADER_DATA, map_at, tables);
    add_range(&map, EFI_ACPI_RECLAIM_MEMORY, tables, gpa + LAB_ACPI_BYTES);
    add_range(&map, EFI_CONVENTIONAL_MEMORY, gpa + LAB_ACPI_BYTES, ram + direct_low_bytes());
    for (unsigned i = 0; i < high_count; i++)
        add_range(&map, EFI_CONVENTIONAL_MEMORY, high[i].start, high[i].start + high[i].bytes);
    uint32_t bytes = map.count * (uint32_t)sizeof(map.ranges[0]);
    memcpy(guest_ptr(map_at, PAGE_BYTES), map.ranges, bytes);
    tree_wide(t, "linux,uefi-system-table", &gpa, 1);
    tree_wide(t, "linux,uefi-mmap-start", &map_at, 1);
    tree_cell(t, "linux,uefi-mmap-size", bytes);
    tree_cell(t, "linux,uefi-mmap-desc-size", sizeof(map.ranges[0]));
    tree_cell(t, "linux,uefi-mmap-desc-ver", MEMORY_MAP_VERSION);
    tree_cell(t, "linux,uefi-secure-boot", SECURE_BOOT_OFF);
}
