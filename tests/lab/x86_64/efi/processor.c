/* SPDX-License-Identifier: BSD-2-Clause */
/* LAB.EFI on x86_64: what it asks of the processor, takes from the firmware, and shows in ACPI. */
#include <string.h>
#include "tests/lab/efi/lab_efi.h"
#include "tests/lab/x86_64/svm.h"
#include "tests/lab/x86_64/uefi.h"

static uint64_t read_msr(uint32_t msr)
{
    uint32_t low, high;
    __asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr));
    return (uint64_t)high << 32 | low;
}

const char *lab_unfit(void)
{
    static const char none[] = "this CPU has no SVM, or the lab runs already";
    uint32_t a = 0x80000000, b, c = 0, d;
    __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    if (a < 0x8000000A)
        return none;
    a = 0x80000001;
    c = 0;
    __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    return c & 1u << 2 ? NULL : none;
}

/* ---- devices: afterwards they are invisible to it ---- */
static bool is_lab_function(const struct efi_context *efi, efi_handle_t handle)
{
    static const struct efi_guid pci_guid = EFI_PCI_IO_GUID;
    size_t segment, bus, device, function;
    struct efi_pci_io *io;
    return efi->boot->handle_protocol(handle, &pci_guid, (void **)&io) == EFI_SUCCESS &&
           io->get_location(io, &segment, &bus, &device, &function) == EFI_SUCCESS && bus == 0 &&
           device >= LAB_PCI_FIRST && device <= LAB_PCI_LAST;
}

void lab_take_devices(const struct efi_context *efi)
{
    static const struct efi_guid pci_guid = EFI_PCI_IO_GUID;
    lab_disconnect(efi, &pci_guid, is_lab_function);
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

/* Without the HPET, which is the lab's, and with the device behind which guests seek VMBus. */
void lab_patch_acpi(const struct efi_context *efi) { lab_change_tables(efi, "HPET", ssdt_body, sizeof(ssdt_body)); }

/* ---- the state the guest begins with, beside what capture.S takes ---- */
bool lab_take_machine(const struct efi_context *efi, struct lab_handoff_common *handoff, struct boot_info *info)
{
    struct lab_handoff *h = (void *)handoff;
    (void)efi;
    (void)info;
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
    return true;
}
