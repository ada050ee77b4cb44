/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Misdeeds of an arm64 guest: the level above it, the interrupt controller's lines that are the lab's, accesses that no
 * lab can carry out, translation tables where nothing is.
 */
#define LOG_ROOM "badguest"
#include "arch/arm64/arm64.h"
#include "arch/arm64/gic.h"
#include "rt/candela.h"
#include "tests/lab/badguest/badguest.h"

#define GIC_DISTRIBUTOR   0x08000000ull
#define GIC_REDISTRIBUTOR 0x080A0000ull
#define LAB_PPIS          0x06000000u      /* 25, 26: maintenance, EL2's timer */
#define NOT_SUPPORTED     UINT64_MAX

const uint64_t machine_ram_start = 0x40000000;
/* The lab's own memory is none of the guest's addresses; fw_cfg, the clock, virtio-mmio, PCI's registers, ports and
 * windows are. */
const uint64_t machine_devices[] = {
    0x1000, 0x04000000, 0x08040000, 0x08080000, 0x09010000, 0x09020000, 0x09030000, 0x0A000000, 0x0A003000, 0x0C000000,
    0x10000000, 0x3EFF0000, 0x3F000000, 0x4010000000, 0x8000000000, 0,
};

/* False: the register is undefined, as it should be. */
#define REGISTER_READS(name)                                                                            \
    ({                                                                                                  \
        uint64_t ok_ = 0, value_;                                                                       \
        __asm__ volatile("1: mrs %1, " #name "\n mov %0, #1\n2:\n" ARM64_FIXUP("1b", "2b")              \
                         : "+&r"(ok_), "=&r"(value_) : : "memory");                                     \
        ok_ != 0;                                                                                       \
    })

static uint64_t call(bool secure, uint64_t function)
{
    register uint64_t x0 __asm__("x0") = function;
    register uint64_t x1 __asm__("x1") = 0;
    if (secure)
        __asm__ volatile("smc #0" : "+r"(x0), "+r"(x1) : : "x2", "x3", "x4", "x5", "x6", "x7", "memory");
    else
        __asm__ volatile("hvc #0x1234" : "+r"(x0), "+r"(x1) : : "x2", "x3", "x4", "x5", "x6", "x7", "memory");
    return x0;
}

static void touch_el2(void)
{
    unsigned bad = 0;
    bad += arm64_field(sysreg_read(id_aa64pfr0_el1), 8) != 0;      /* EL2 */
    bad += arm64_field(sysreg_read(id_aa64mmfr1_el1), 8) != 0;     /* its host extensions */
    bad += arm64_field(sysreg_read(id_aa64dfr0_el1), 8) != 0;      /* performance monitors */
    bad += REGISTER_READS(hcr_el2);
    bad += REGISTER_READS(vttbr_el2);
    bad += REGISTER_READS(pmcr_el0);
    bad += REGISTER_READS(pmccntr_el0);
    bad += call(false, 0) != NOT_SUPPORTED;
    bad += call(true, 0x46000001) != NOT_SUPPORTED;
    bad += call(true, 0xC2000000) != NOT_SUPPORTED;
    kprintf("badguest: %u ways to EL2\n", bad);
}

/* Everything off that can be switched off, as a guest's first deed. The lab goes on, and so do its ticks. */
static void silence_interrupts(void)
{
    volatile uint8_t *d = mm_map_phys(pa(GIC_DISTRIBUTOR), GICD_FRAME_BYTES, MAP_READ | MAP_WRITE | MAP_DEVICE);
    volatile uint8_t *r = mm_map_phys(pa(GIC_REDISTRIBUTOR), 2 * GICR_FRAME_BYTES, MAP_READ | MAP_WRITE | MAP_DEVICE);
    unsigned bad = 0;
    if (!d || !r)
        panic("no memory");
    arch_irq_disable();
    arm64_write32(r + GICR_SGI_FRAME + GICD_ISENABLER, LAB_PPIS);
    arm64_write32(r + GICR_SGI_FRAME + GICD_ICENABLER, UINT32_MAX);
    arm64_write32(r + GICR_SGI_FRAME + GICD_ICACTIVER, UINT32_MAX);
    arm64_write32(r + GICR_SGI_FRAME + GICD_IGROUPR, 0);
    bad += arm64_read32(r + GICR_SGI_FRAME + GICD_ISENABLER) != 0;
    arm64_write32(d + GICD_CTLR, 0);
    for (unsigned i = GIC_SPI_FIRST; i < 288; i++) {
        arm64_write32(d + GICD_ICENABLER + i / 32 * 4, 1u << i % 32);
        arm64_write64(d + GICD_IROUTER + i * 8, UINT64_MAX);
    }
    sysreg_write_as(SYSREG_ICC_IGRPEN1, 0);
    arm64_isb();
    kprintf("badguest: has silenced everything, %u of it answers\n", bad);
    for (;;)
        machine_sleep();
}

/* Two registers at once: the processor does not say which. */
static void load_pair(void)
{
    const volatile void *p = mm_map_phys(pa(ram_end()), PAGE_BYTES, MAP_READ | MAP_DEVICE);
    uint64_t a, b;
    __asm__ volatile("ldp %0, %1, [%2]" : "=r"(a), "=r"(b) : "r"(p) : "memory");
    kprintf("badguest: reads %#llx\n", (unsigned long long)(a + b));
}

static void walk_outside(void)
{
    sysreg_write(ttbr1_el1, ram_end());
    __asm__ volatile("isb\n tlbi vmalle1\n dsb sy\n isb" : : : "memory");
}

void machine_sleep(void) { arm64_wfi(); }

const struct bad_way machine_ways[] = {
    {"el2", touch_el2}, {"silence", silence_interrupts}, {"pair", load_pair}, {"walk", walk_outside}, {"", NULL},
};
