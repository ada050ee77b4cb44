/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * LAB.EFI on arm64: what it asks of the processor, takes from the firmware (AAVMF on QEMU's machine "virt"), and shows
 * in ACPI: the FADT says that Hyper-V is beneath, and VMBus is a device with its interrupt.
 *
 * Source of the tables: ACPI 6.3, 5.2.9 (FADT), 5.2.12 (MADT); PCI Firmware Specification 3.2, 4.1.2 (MCFG); UEFI 2.9.
 */
#include <string.h>
#include "arch/arm64/arm64.h"
#include "arch/arm64/gic.h"
#include "tests/lab/arm64/uefi.h"
#include "tests/lab/efi/lab_efi.h"

#define FADT_HYPERVISOR     268u
#define FADT_HYPERVISOR_ID  "MsHyperV"
#define MADT_ENTRIES        44u
#define MADT_GICD           0x0C
#define MADT_GICR           0x0E
#define MCFG_ENTRY          44u
#define MCFG_ENTRY_BYTES    16u
#define BUS_BYTES           (1ull << 20)
#define SERIAL_ID           0x00021B36u         /* pci-serial */

/* edk2: VIRTIO_DEVICE_PROTOCOL, on every virtio device whatever it is attached to */
#define EFI_VIRTIO_GUID {0xfa920010, 0x6785, 0x4941, {0xb6, 0xec, 0x49, 0x8c, 0x57, 0x9f, 0x16, 0x0a}}

const char *lab_unfit(void)
{
    if (arm64_el() != 2)
        return "the firmware does not run at EL2 (QEMU: -machine virt,virtualization=on), or the lab runs already";
    if (arm64_field(sysreg_read(id_aa64mmfr1_el1), 8) == 0)
        return "this CPU has no virtualization host extensions (QEMU: -cpu neoverse-n1)";
    return NULL;
}

/* ---- devices: all of virtio-mmio, and the serial port; afterwards they are invisible to it ---- */
static struct efi_pci_io *pci_of(const struct efi_context *efi, efi_handle_t handle)
{
    static const struct efi_guid pci_guid = EFI_PCI_IO_GUID;
    struct efi_pci_io *io;
    return efi->boot->handle_protocol(handle, &pci_guid, (void **)&io) == EFI_SUCCESS ? io : NULL;
}

static bool is_lab_virtio(const struct efi_context *efi, efi_handle_t handle) { return pci_of(efi, handle) == NULL; }

static bool is_lab_serial(const struct efi_context *efi, efi_handle_t handle)
{
    struct efi_pci_io *io = pci_of(efi, handle);
    uint32_t id;
    return io && io->read_config(io, EFI_PCI_WIDTH_32, 0, 1, &id) == EFI_SUCCESS && id == SERIAL_ID;
}

void lab_take_devices(const struct efi_context *efi)
{
    static const struct efi_guid pci_guid = EFI_PCI_IO_GUID, virtio_guid = EFI_VIRTIO_GUID;
    lab_disconnect(efi, &virtio_guid, is_lab_virtio);
    lab_disconnect(efi, &pci_guid, is_lab_serial);
}

/* ---- ACPI ---- */
/*
 * Scope (\_SB) { Device (VMOD) { _HID "ACPI0004", _UID 0, _STA 15
 *     Device (VMBS) { _HID "VMBus", _UID 0, _STA 15, _CCA 1 (coherent), _CRS: extended interrupt
 *     18, edge, active high } } }
 */
static const uint8_t ssdt_body[] = {
    0x10, 0x45, 0x06, '\\', '_', 'S', 'B', '_',
    0x5B, 0x82, 0x4C, 0x05, 'V', 'M', 'O', 'D',
    0x08, '_', 'H', 'I', 'D', 0x0D, 'A', 'C', 'P', 'I', '0', '0', '0', '4', 0,
    0x08, '_', 'U', 'I', 'D', 0x00,
    0x08, '_', 'S', 'T', 'A', 0x0A, 0x0F,
    0x5B, 0x82, 0x38, 'V', 'M', 'B', 'S',
    0x08, '_', 'H', 'I', 'D', 0x0D, 'V', 'M', 'B', 'u', 's', 0,
    0x08, '_', 'U', 'I', 'D', 0x00,
    0x08, '_', 'S', 'T', 'A', 0x0A, 0x0F,
    0x08, '_', 'C', 'C', 'A', 0x01,
    0x08, '_', 'C', 'R', 'S', 0x11, 0x0E, 0x0A, 0x0B, 0x89, 0x06, 0x00, 0x03, 0x01, 18, 0, 0, 0, 0x79, 0x00,
};

void lab_patch_acpi(const struct efi_context *efi)
{
    struct acpi_header *fadt = lab_find_table(efi, "FACP");
    if (fadt && fadt->length >= FADT_HYPERVISOR + sizeof(FADT_HYPERVISOR_ID) - 1) {
        memcpy((uint8_t *)fadt + FADT_HYPERVISOR, FADT_HYPERVISOR_ID, sizeof(FADT_HYPERVISOR_ID) - 1);
        fadt->checksum = 0;
        fadt->checksum = acpi_checksum(fadt, fadt->length);
    } else {
        efi_say(efi, "lab: the FADT has no place for the hypervisor's name");
    }
    lab_change_tables(efi, NULL, ssdt_body, sizeof(ssdt_body));
}

/* ---- the machine ---- */
static uint64_t get64(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof(v));
    return v;
}

static void take_gic(const uint8_t *madt, uint32_t bytes, struct arch_platform *p)
{
    for (uint32_t at = MADT_ENTRIES; bytes - at >= 16 && madt[at + 1] >= 2 && madt[at + 1] <= bytes - at; at += madt[at + 1]) {
        if (madt[at] == MADT_GICD) {
            p->gic_distributor = get64(madt + at + 8);
            p->gic_version = 3;
        } else if (madt[at] == MADT_GICR && p->gic_ranges == 0) {
            uint32_t range;
            memcpy(&range, madt + at + 12, sizeof(range));
            p->gic_redistributors[p->gic_ranges++] = (struct arch_gic_range){get64(madt + at + 4), range, false};
        }
    }
}

static uint32_t read32(uint64_t address) { return arm64_read32((const volatile void *)address); }

bool lab_take_machine(const struct efi_context *efi, struct lab_handoff_common *handoff, struct boot_info *info)
{
    struct lab_handoff *h = (void *)handoff;
    struct arch_platform *p = &info->platform;
    const struct acpi_header *madt = lab_find_table(efi, "APIC"), *mcfg = lab_find_table(efi, "MCFG");
    if (madt)
        take_gic((const uint8_t *)madt, madt->length, p);
    if (p->gic_distributor == 0 || p->gic_ranges == 0) {
        efi_say(efi, "lab: no GICv3 in the firmware's tables (QEMU: -machine virt,gic-version=3)");
        return false;
    }
    p->psci = ARCH_PSCI_SMC;
    if (mcfg && mcfg->length >= MCFG_ENTRY + MCFG_ENTRY_BYTES) {
        const uint8_t *e = (const uint8_t *)mcfg + MCFG_ENTRY;
        h->ecam = get64(e);
        h->ecam_bytes = (e[11] + 1u) * BUS_BYTES;
    }
    h->gicd_ctlr = read32(p->gic_distributor + GICD_CTLR);
    uint64_t lines = p->gic_redistributors[0].start + GICR_SGI_FRAME;
    h->gicr_enabled = read32(lines + GICD_ISENABLER);
    h->gicr_group = read32(lines + GICD_IGROUPR);
    for (unsigned i = 0; i < ARRAY_SIZE(h->gicr_priority); i++)
        h->gicr_priority[i] = read32(lines + GICD_IPRIORITYR + 4 * i);
    h->icc_pmr = sysreg_read_as(SYSREG_ICC_PMR);
    h->icc_bpr1 = sysreg_read_as(SYSREG_ICC_BPR1);
    h->icc_igrpen1 = sysreg_read_as(SYSREG_ICC_IGRPEN1);
    return true;
}
