/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The ACPI tables of direct mode: what OpenVMM's --kernel machine has and no more. RSDP (found by scan at 0xE0000),
 * XSDT, FADT with the power management block that exits.c emulates, MADT, DSDT with the VMBus device.
 *
 * Layouts: ACPI specification 6.3, chapters 5 and 20 (AML).
 */
#define LOG_ROOM "lab"
#include <string.h>
#include "tests/lab/acpi_wire.h"
#include "tests/lab/x86_64/load.h"

struct acpi_address { uint8_t space, bits, offset, access; uint64_t address; } __attribute__((packed));

struct acpi_fadt {
    struct acpi_header header;
    uint32_t facs, dsdt;
    uint8_t model, profile;
    uint16_t sci_irq;
    uint32_t smi_command;
    uint8_t acpi_enable, acpi_disable, s4bios, pstate;
    uint32_t pm1a_event, pm1b_event, pm1a_control, pm1b_control, pm2_control, pm_timer, gpe0, gpe1;
    uint8_t pm1_event_bytes, pm1_control_bytes, pm2_control_bytes, pm_timer_bytes;
    uint8_t gpe0_bytes, gpe1_bytes, gpe1_base, cst;
    uint16_t c2_latency, c3_latency, flush_size, flush_stride;
    uint8_t duty_offset, duty_width, day_alarm, month_alarm, century;
    uint16_t boot_arch;
    uint8_t reserved_6f;
    uint32_t flags;
    struct acpi_address reset;
    uint8_t reset_value;
    uint16_t arm_boot_arch;
    uint8_t minor_revision;
    uint64_t x_facs, x_dsdt;
    struct acpi_address x_pm1a_event, x_pm1b_event, x_pm1a_control, x_pm1b_control, x_pm2_control, x_pm_timer;
    struct acpi_address x_gpe0, x_gpe1;
    struct acpi_address sleep_control, sleep_status;
    char hypervisor[8];
} __attribute__((packed));
_Static_assert(sizeof(struct acpi_fadt) == 276, "FADT of revision 6");
_Static_assert(offsetof(struct acpi_fadt, flags) == 112, "FADT layout");
_Static_assert(offsetof(struct acpi_fadt, x_dsdt) == 140, "FADT layout");

#define FADT_WBINVD        (1u << 0)
#define FADT_PROC_C1       (1u << 2)
#define FADT_NO_POWER_BUTTON (1u << 4)
#define FADT_NO_SLEEP_BUTTON (1u << 5)
#define FADT_TIMER_32BIT   (1u << 8)
#define FADT_RESET         (1u << 10)
#define BOOT_NO_VGA        (1u << 2)
#define SPACE_IO           1
#define SCI_IRQ            9

#define IO_APIC_ADDRESS    0xFEC00000u

/*
 *  Name (\_S0, Package { 0, 0 })   Name (\_S5, Package { 0, 0 })
 *  Scope (\_SB) {
 *    Device (VMOD) { _HID "ACPI0004", _UID 0, _CRS: producer of F8000000-FEBFFFFF and F000000000-FFFFFFFFFF
 *      Device (VMBS) { _HID "VMBus", _UID 0, _STA 15, _CRS: IRQ 5, edge } }
 *    Device (UAR1) { _HID PNP0501, _UID 1, _CRS: I/O 3F8, 8 bytes; IRQ 4, edge }
 *    Device (RTC0) { _HID PNP0B00, _CRS: I/O 70, 2 bytes } }
 */
static const uint8_t dsdt_body[] = {
    0x08, '_', 'S', '0', '_', 0x12, 0x04, 0x02, 0x00, 0x00,
    0x08, '_', 'S', '5', '_', 0x12, 0x04, 0x02, 0x00, 0x00,
    0x10, 0x48, 0x0F, '_', 'S', 'B', '_',
    0x5B, 0x82, 0x4E, 0x09, 'V', 'M', 'O', 'D',
    0x08, '_', 'H', 'I', 'D', 0x0D, 'A', 'C', 'P', 'I', '0', '0', '0', '4', 0,
    0x08, '_', 'U', 'I', 'D', 0x00,
    0x08, '_', 'C', 'R', 'S', 0x11, 0x4E, 0x04, 0x0A, 0x4A,
    0x87, 0x17, 0x00, 0x00, 0x0C, 0x03, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xF8, 0xFF, 0xFF, 0xBF, 0xFE,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xC0, 0x06,
    0x8A, 0x2B, 0x00, 0x00, 0x0C, 0x03, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0xF0, 0x00, 0x00, 0x00, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x10, 0x00, 0x00, 0x00, 0x79, 0x00,
    0x5B, 0x82, 0x2D, 'V', 'M', 'B', 'S',
    0x08, '_', 'H', 'I', 'D', 0x0D, 'V', 'M', 'B', 'u', 's', 0,
    0x08, '_', 'U', 'I', 'D', 0x00,
    0x08, '_', 'S', 'T', 'A', 0x0A, 0x0F,
    0x08, '_', 'C', 'R', 'S', 0x11, 0x09, 0x0A, 0x06, 0x23, 0x20, 0x00, 0x01, 0x79, 0x00,
    0x5B, 0x82, 0x2C, 'U', 'A', 'R', '1',
    0x08, '_', 'H', 'I', 'D', 0x0C, 0x41, 0xD0, 0x05, 0x01,
    0x08, '_', 'U', 'I', 'D', 0x01,
    0x08, '_', 'C', 'R', 'S', 0x11, 0x11, 0x0A, 0x0E, 0x47, 0x01, 0xF8, 0x03, 0xF8, 0x03, 0x01, 0x08,
    0x23, 0x10, 0x00, 0x01, 0x79, 0x00,
    0x5B, 0x82, 0x22, 'R', 'T', 'C', '0',
    0x08, '_', 'H', 'I', 'D', 0x0C, 0x41, 0xD0, 0x0B, 0x00,
    0x08, '_', 'C', 'R', 'S', 0x11, 0x0D, 0x0A, 0x0A, 0x47, 0x01, 0x70, 0x00, 0x70, 0x00, 0x00, 0x02, 0x79, 0x00,
};

static struct acpi_address io_register(uint16_t port, uint8_t bits)
{
    uint8_t access = bits == 8 ? 1 : bits == 16 ? 2 : 3;
    return (struct acpi_address){.space = SPACE_IO, .bits = bits, .access = access, .address = port};
}

static size_t build_fadt(struct acpi_fadt *f, uint64_t dsdt)
{
    *f = (struct acpi_fadt){
        .dsdt = (uint32_t)dsdt, .x_dsdt = dsdt, .sci_irq = SCI_IRQ,
        .pm1a_event = LAB_PORT_PM, .pm1a_control = LAB_PORT_PM_CONTROL, .pm_timer = LAB_PORT_PM_TIMER,
        .pm1_event_bytes = 4, .pm1_control_bytes = 2, .pm_timer_bytes = 4,
        .c2_latency = 0xFFF, .c3_latency = 0xFFF, .boot_arch = BOOT_NO_VGA,
        .flags = FADT_WBINVD | FADT_PROC_C1 | FADT_NO_POWER_BUTTON | FADT_NO_SLEEP_BUTTON | FADT_TIMER_32BIT |
                 FADT_RESET,
        .reset = io_register(LAB_PORT_PM_RESET, 8), .reset_value = 1, .minor_revision = 3,
        .x_pm1a_event = io_register(LAB_PORT_PM, 32), .x_pm1a_control = io_register(LAB_PORT_PM_CONTROL, 16),
        .x_pm_timer = io_register(LAB_PORT_PM_TIMER, 32), .hypervisor = "MsHyperV",
    };
    acpi_finish(f, "FACP", sizeof(*f), 6);
    return sizeof(*f);
}

static size_t build_madt(uint8_t *t, unsigned cpus)
{
    size_t at = sizeof(struct acpi_header);
    const uint32_t fixed[] = {(uint32_t)APIC_BASE_GPA, 0};      /* flags 0: no PIC pair */
    memset(t, 0, at);
    memcpy(t + at, fixed, sizeof(fixed));
    at += sizeof(fixed);
    for (unsigned i = 0; i < cpus; i++) {
        const uint8_t lapic[8] = {0, 8, (uint8_t)i, (uint8_t)lab_vcpus[i].apic_id, 1};
        memcpy(t + at, lapic, sizeof(lapic));
        at += sizeof(lapic);
    }
    const uint8_t ioapic[12] = {1, 12, 0, 0, 0x00, 0x00, 0xC0, 0xFE};
    _Static_assert(IO_APIC_ADDRESS == 0xFEC00000u, "as in the bytes above");
    memcpy(t + at, ioapic, sizeof(ioapic));
    at += sizeof(ioapic);
    acpi_finish(t, "APIC", at, 4);
    return at;
}

uint64_t acpi_build(uint64_t gpa, uint64_t rsdp_gpa, unsigned cpus)
{
    uint64_t at = gpa, tables[2], dsdt;
    uint8_t *p = guest_ptr(gpa, LAB_ACPI_BYTES);

    memset(p, 0, LAB_ACPI_BYTES);
    dsdt = at;
    memcpy(p + sizeof(struct acpi_header), dsdt_body, sizeof(dsdt_body));
    acpi_finish(p, "DSDT", sizeof(struct acpi_header) + sizeof(dsdt_body), 2);
    at = ALIGN_UP(at + sizeof(struct acpi_header) + sizeof(dsdt_body), 64u);
    tables[0] = at;
    at = ALIGN_UP(at + build_fadt((struct acpi_fadt *)(void *)(p + (at - gpa)), dsdt), 64u);
    tables[1] = at;
    at = ALIGN_UP(at + build_madt(p + (at - gpa), cpus), 64u);
    uint64_t xsdt = at;
    memcpy(p + (at - gpa) + sizeof(struct acpi_header), tables, sizeof(tables));
    acpi_finish(p + (at - gpa), "XSDT", sizeof(struct acpi_header) + sizeof(tables), 1);
    at += sizeof(struct acpi_header) + sizeof(tables);

    struct acpi_rsdp rsdp = {.revision = 2, .length = sizeof(rsdp), .xsdt = xsdt};
    memcpy(rsdp.signature, "RSD PTR ", 8);
    memcpy(rsdp.oem_id, ACPI_OEM_ID, sizeof(rsdp.oem_id));
    rsdp.checksum = acpi_checksum(&rsdp, 20);
    rsdp.checksum2 = acpi_checksum(&rsdp, sizeof(rsdp));
    memcpy(guest_ptr(rsdp_gpa, sizeof(rsdp)), &rsdp, sizeof(rsdp));
    return at;
}
