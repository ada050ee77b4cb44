/* SPDX-License-Identifier: BSD-2-Clause */
/* Misdeeds of an x86_64 guest: ports that are not its own, the processor's virtualisation, MSRs, a triple fault. */
#define LOG_ROOM "badguest"
#include "rt/candela.h"
#include "arch/arch.h"
#include "tests/lab/badguest/badguest.h"

#define MSR_EFER       0xC0000080u
#define MSR_VM_CR      0xC0010114u
#define MSR_VM_HSAVE   0xC0010117u
#define EFER_SVME      (1ull << 12)
#define UNKNOWN_MSR    0x400001F0u
#define PORT_PCI       0xCF8
#define PORT_DATA      0xCFC
#define PORT_FWCFG     0x510
#define PORT_COM2      0x2F8
#define PORT_DEBUG     0xF4

const uint64_t machine_ram_start;
const uint64_t machine_devices[] = {
    0xB0000000, 0xB0080000, 0xE0000000, 0xFD000000, 0xFE000000, 0xFEB00000, 0xFEBF0000, 0xFED00000, 0xFED1C000,
    0xFFFFF000, 1ull << 32, 1ull << 38, 0,
};

static inline void out8(uint16_t port, uint8_t v) { __asm__ volatile("outb %0, %1" : : "a"(v), "Nd"(port)); }
static inline void out32(uint16_t port, uint32_t v) { __asm__ volatile("outl %0, %1" : : "a"(v), "Nd"(port)); }
static inline uint8_t in8(uint16_t port)
{
    uint8_t v;
    __asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port));
    return v;
}
static inline uint32_t in32(uint16_t port)
{
    uint32_t v;
    __asm__ volatile("inl %1, %0" : "=a"(v) : "Nd"(port));
    return v;
}

static void touch_ports(void)
{
    unsigned bad = 0;
    for (unsigned device = 0; device < 32; device++) {
        out32(PORT_PCI, 0x80000000u | device << 11);
        bad += in32(PORT_DATA) != UINT32_MAX || in32(PORT_PCI) != UINT32_MAX;
    }
    for (uint16_t port = PORT_COM2; port < PORT_COM2 + 8; port++)
        bad += in8(port) != 0xFF;
    bad += in8(PORT_FWCFG + 1) != 0xFF;
    bad += in8(PORT_DEBUG) != 0xFF;
    for (const char *c = "badguest was here\n"; *c; c++)
        out8(PORT_COM2, (uint8_t)*c);
    out8(PORT_DEBUG, 0x33);
    kprintf("badguest: %u ports answer\n", bad);
}

static void touch_svm(void)
{
    uint64_t value = 0;
    uint32_t a = 0x80000001, b, c, d;
    unsigned bad = 0;
    __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "=c"(c), "=d"(d));
    bad += (c >> 2) & 1;
    bad += arch_hv_reg_read(MSR_EFER, &value) && (value & EFER_SVME);
    bad += arch_hv_reg_write(MSR_EFER, value | EFER_SVME);
    bad += arch_hv_reg_write(MSR_VM_HSAVE, 0);
    bad += arch_hv_reg_read(MSR_VM_HSAVE, &value);
    bad += arch_hv_reg_write(MSR_VM_CR, 0);
    kprintf("badguest: %u ways to SVM\n", bad);
}

static void unknown_register(void)
{
    uint64_t value;
    kprintf("badguest: %s\n", arch_hv_reg_read(UNKNOWN_MSR, &value) ? "it reads" : "#GP");
}

static void triple_fault(void)
{
    struct { uint16_t limit; uint64_t base; } __attribute__((packed)) nothing = {0, 0};
    __asm__ volatile("lidt %0; ud2" : : "m"(nothing));
}

void machine_sleep(void) { __asm__ volatile("cli; hlt"); }

const struct bad_way machine_ways[] = {
    {"ports", touch_ports}, {"svm", touch_svm}, {"register", unknown_register}, {"triple", triple_fault}, {"", NULL},
};
