/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Firmware mode: the machine the lab was started on, virtualised. The guest keeps everything at its own address and
 * port, except what is the lab's: its memory, the HPET, COM2, and PCI functions of bus 0 with device numbers
 * LAB_PCI_FIRST to LAB_PCI_LAST (registers, configuration by ports and by ECAM). Power-off and reset go through the
 * lab, so that they are reported and end QEMU with its exit codes.
 */
#define LOG_ROOM "lab"
#include <string.h>
#include "tests/lab/x86_64/firmware.h"
#include "tests/lab/x86_64/pci.h"

#define HPET_GPA          0xFED00000ull
#define CONFIG_ADDRESS    0xCF8
#define CONFIG_DATA       0xCFC
#define RESET_CONTROL     0xCF9
#define RESET_NOW         0x04
#define I8042_COMMAND     0x64
#define I8042_RESET       0xFE
#define COM2              0x2F8
#define COM2_LSR          5
#define LSR_IDLE          0x60     /* nothing comes, all has gone out: for the firmware's driver, bound to it */
#define DEBUG_EXIT        0xF4

#define BRIDGE_Q35        0x29C08086u   /* host bridge 0:0.0, its ECAM base register */
#define BRIDGE_PCIEXBAR   0x60
#define LPC_DEVICE        0x1F
#define LPC_PMBASE        0x40
#define PM1_CONTROL       4
#define PM_SLP_EN         (1u << 13)

static struct lab_handoff handoff;
static uint32_t config_address;         /* as the guest wrote it last */
static uint16_t pm_control_port;

bool firmware_handoff(const struct boot_info *boot) { return handoff_find(boot, &handoff, sizeof(handoff)); }

bool lab_owns_pci(unsigned bus, unsigned device)
{
    return bus == 0 && device >= LAB_PCI_FIRST && device <= LAB_PCI_LAST;
}

/* ---- memory ---- */
static void hide_memory(uint64_t start, uint64_t bytes)
{
    start = ALIGN_DOWN(start, PAGE_BYTES);
    nested_unmap(start, ALIGN_UP(bytes, PAGE_BYTES));
}

static void hide_function(struct pci_function f, void *ecam)
{
    if (!lab_owns_pci(0, f.device))
        return;
    for (unsigned bar = 0; bar < 6; bar++) {
        uint64_t bytes, start = pci_bar(f, bar, &bytes);
        if (start == 0)
            continue;
        hide_memory(start, bytes);
        if (pci_bar_is_wide(f, bar))
            bar++;
    }
    if (*(uint64_t *)ecam)
        hide_memory(*(uint64_t *)ecam + ((uint64_t)f.device << 15 | (uint64_t)f.function << 12), PAGE_BYTES);
}

void firmware_memory(void)
{
    struct pci_function bridge = {0, 0}, lpc = {LPC_DEVICE, 0};
    uint64_t ecam = 0;
    uint32_t r[4];
    lab_cpuid(0x80000008, 0, r);
    uint64_t top = BIT(MIN(r[0] & 0xFF, 46u));
    int error = nested_map(0, 0, top, MAP_READ | MAP_WRITE | MAP_EXEC);
    if (error)
        panic("nested tables: %s", error_name(error));
    nested_unmap(handoff.common.block_start, handoff.common.block_bytes);
    if (nested_protect(APIC_BASE_GPA, PAGE_BYTES, apic_guest_rights()))
        panic("local APIC");
    hide_memory(HPET_GPA, PAGE_BYTES);
    if (pci_read32(bridge, 0) == BRIDGE_Q35 && (pci_read32(bridge, BRIDGE_PCIEXBAR) & 1))
        ecam = pci_read32(bridge, BRIDGE_PCIEXBAR) & 0xF0000000u;
    pci_for_each(hide_function, &ecam);
    pm_control_port = (uint16_t)((pci_read32(lpc, LPC_PMBASE) & 0xFF80) + PM1_CONTROL);
    handoff_guest_ram(&handoff.common);
}

/* ---- ports ---- */
void firmware_ports(uint8_t *map)
{
    memset(map, 0, 3 * PAGE_BYTES);
    io_deny(map, CONFIG_ADDRESS, 8);
    io_deny(map, I8042_COMMAND, 1);
    io_deny(map, COM2, 8);
    io_deny(map, DEBUG_EXIT, 1);
    struct pci_function lpc = {LPC_DEVICE, 0};
    io_deny(map, (pci_read32(lpc, LPC_PMBASE) & 0xFF80u) + PM1_CONTROL, 2);
}

static uint32_t port_read(unsigned port, unsigned bytes)
{
    return bytes == 1 ? x86_in8((uint16_t)port) : bytes == 2 ? x86_in16((uint16_t)port) : x86_in32((uint16_t)port);
}

static void port_write(unsigned port, unsigned bytes, uint32_t value)
{
    if (bytes == 1)
        x86_out8((uint16_t)port, (uint8_t)value);
    else if (bytes == 2)
        x86_out16((uint16_t)port, (uint16_t)value);
    else
        x86_out32((uint16_t)port, value);
}

static bool config_hidden(void)
{
    return (config_address >> 31) && lab_owns_pci(config_address >> 16 & 0xFF, config_address >> 11 & 0x1F);
}

uint32_t firmware_port_read(unsigned port, unsigned bytes)
{
    if (port >= CONFIG_DATA && port < CONFIG_DATA + 4) {
        if (config_hidden())
            return 0xFFFFFFFF;
        x86_out32(CONFIG_ADDRESS, config_address);   /* the lab uses the same pair of ports */
        return port_read(port, bytes);
    }
    if (port == CONFIG_ADDRESS && bytes == 4)
        return config_address;
    if (port >= COM2 && port < COM2 + 8)
        return port == COM2 + COM2_LSR ? LSR_IDLE : 0;
    if (port == DEBUG_EXIT)
        return 0xFFFFFFFF;
    return port_read(port, bytes);
}

void firmware_port_write(unsigned port, unsigned bytes, uint32_t value)
{
    if (port >= CONFIG_DATA && port < CONFIG_DATA + 4) {
        if (config_hidden())
            return;
        x86_out32(CONFIG_ADDRESS, config_address);
        port_write(port, bytes, value);
        return;
    }
    if (port == CONFIG_ADDRESS && bytes == 4) {
        config_address = value;
        return;
    }
    if ((port >= COM2 && port < COM2 + 8) || port == DEBUG_EXIT)
        return;
    if ((port == RESET_CONTROL && (value & RESET_NOW)) || (port == I8042_COMMAND && value == I8042_RESET))
        lab_end(LAB_END_REBOOT, "the guest reset the machine");
    if (port == pm_control_port && (value & PM_SLP_EN))
        lab_end(LAB_END_POWER_OFF, "the guest powered off");
    port_write(port, bytes, value);
}

/* ---- the first vcpu: where LAB.EFI captured itself ---- */
static struct svm_segment segment(uint64_t selector, bool system)
{
    struct svm_segment s = {.selector = (uint16_t)selector};
    uint64_t offset = selector & 0xFFF8;
    const uint64_t *d = offset && offset + (system ? 16 : 8) <= handoff.captured.gdtr.limit + 1ull
                        ? guest_ptr(handoff.captured.gdtr.base + offset, system ? 16 : 8) : NULL;
    if (!d) {
        s.attributes = system ? SVM_SEG_TSS : 0;
        s.limit = system ? 0xFFFF : 0;
        return s;
    }
    s.attributes = (uint16_t)((*d >> 40 & 0xFF) | (*d >> 52 & 0xF) << 8);
    s.limit = (uint32_t)((*d & 0xFFFF) | (*d >> 32 & 0xF0000));
    if (s.attributes & 1u << 11)
        s.limit = s.limit << 12 | 0xFFF;
    s.base = (*d >> 16 & 0xFFFFFF) | (*d >> 32 & 0xFF000000);
    if (system)
        s.base |= d[1] << 32;
    return s;
}

void firmware_start(struct vcpu *v)
{
    const struct lab_handoff *h = &handoff;
    const struct lab_captured *c = &handoff.captured;
    struct svm_save *s = &v->vmcb->save;
    s->es = segment(c->es, false);
    s->cs = segment(c->cs, false);
    s->ss = segment(c->ss, false);
    s->ds = segment(c->ds, false);
    s->fs = segment(c->fs, false);
    s->gs = segment(c->gs, false);
    s->tr = segment(c->tr, true);
    s->ldtr = segment(c->ldtr, true);
    if ((c->ldtr & 0xFFF8) == 0)
        s->ldtr.attributes = SVM_SEG_LDT;
    s->fs.base = h->fs_base;
    s->gs.base = h->gs_base;
    s->gdtr.base = c->gdtr.base;
    s->gdtr.limit = c->gdtr.limit;
    s->idtr.base = c->idtr.base;
    s->idtr.limit = c->idtr.limit;
    s->cr0 = c->cr0;
    s->cr3 = c->cr3;
    s->cr4 = c->cr4;
    s->efer = h->efer | EFER_SVME;
    s->kernel_gs_base = h->kernel_gs_base;
    s->star = h->star;
    s->lstar = h->lstar;
    s->cstar = h->cstar;
    s->sfmask = h->sfmask;
    s->sysenter_cs = h->sysenter_cs;
    s->sysenter_esp = h->sysenter_esp;
    s->sysenter_eip = h->sysenter_eip;
    s->g_pat = h->pat;
    x86_wrmsr(0x277, h->pat);
    s->rip = c->rip;
    s->rsp = c->rsp;
    s->rflags = c->rflags;
    s->rax = 1;                         /* lab_capture's second return */
    v->gprs[GPR_RBX] = c->rbx;
    v->gprs[GPR_RBP] = c->rbp;
    v->gprs[12] = c->r12;
    v->gprs[13] = c->r13;
    v->gprs[14] = c->r14;
    v->gprs[15] = c->r15;
    v->state = VCPU_RUNNING;
}
