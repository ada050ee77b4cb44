/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Misdeeds of an arm64 guest: the level above it, the interrupt controller's lines that are the lab's, accesses that no
 * lab can carry out, translation tables where nothing is. And two things that are allowed, but no guest in its right
 * mind does: more interrupts at once than the processor can show, the older form of hypercalls. What concerns the
 * processor alone is in processor.c.
 */
#define LOG_ROOM "badguest"
#include "arch/arm64/arm64.h"
#include "arch/arm64/gic.h"
#include "hv/hv_wire.h"
#include "rt/candela.h"
#include "tests/lab/arm64/badguest/processor.h"
#include "tests/lab/badguest/badguest.h"

#define GIC_DISTRIBUTOR   0x08000000ull
#define GIC_REDISTRIBUTOR 0x080A0000ull
#define LAB_PPIS          0x06000000u      /* 25, 26: maintenance, EL2's timer */
#define NOT_SUPPORTED     UINT64_MAX
#define LEVEL_PPI         20u

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
        __asm__ volatile("1: mrs %1, " #name "\n mov %0, #1\n2:\n" ARCH_FIXUP("1b", "2b")               \
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

/* Nothing enabled, SGIs of different priorities, everything let in but taken by hand alone. */
static volatile uint8_t *prepare_storm(void)
{
    volatile uint8_t *r = mm_map_phys(pa(GIC_REDISTRIBUTOR), 2 * GICR_FRAME_BYTES, MAP_READ | MAP_WRITE | MAP_DEVICE);
    if (!r)
        panic("no memory");
    volatile uint8_t *sgi = r + GICR_SGI_FRAME;
    arch_irq_disable();
    arm64_write32(sgi + GICD_ICENABLER, UINT32_MAX);
    arm64_write32(sgi + GICD_IGROUPR, UINT32_MAX);
    for (unsigned i = 0; i < GIC_SGIS; i++)
        arm64_write8(sgi + GICD_IPRIORITYR + i, (uint8_t)(0xF0 - 8 * i));      /* 15 is the most urgent */
    sysreg_write_as(SYSREG_ICC_PMR, 0xFF);
    sysreg_write_as(SYSREG_ICC_BPR1, 0);
    arm64_isb();
    return sgi;
}

/*
 * All SGIs at once, more than there are list registers: they come in the order of their priorities. Then each from
 * inside the one before, more urgent every time, so that as many are active; they are ended from the last to the first,
 * and none may come a second time.
 */
static void storm(void)
{
    volatile uint8_t *sgi = prepare_storm();
    unsigned bad = 0, seen = 0;
    for (unsigned i = 0; i < GIC_SGIS; i++)
        gic_raise(i);
    arm64_write32(sgi + GICD_ISENABLER, 0xFFFF);
    for (unsigned i = GIC_SGIS; i-- > 0; seen++) {
        uint64_t got = sysreg_read_as(SYSREG_ICC_IAR1);
        bad += got != i;
        sysreg_write_as(SYSREG_ICC_EOIR1, got);
        arm64_isb();
    }
    for (unsigned i = 0; i < GIC_SGIS; i++, seen++) {
        gic_raise(i);
        arm64_isb();
        bad += sysreg_read_as(SYSREG_ICC_IAR1) != i;
    }
    for (unsigned i = GIC_SGIS; i-- > 0;) {
        sysreg_write_as(SYSREG_ICC_EOIR1, i);
        arm64_isb();
        (void)arm64_read32(sgi + GICD_ISENABLER);             /* leaves the guest: active ones move */
    }
    bad += arm64_read32(sgi + GICD_ISACTIVER) != 0;
    bad += sysreg_read_as(SYSREG_ICC_IAR1) < GIC_SPURIOUS_FIRST;
    kprintf("badguest: %u interrupts, %u of them wrong\n", seen, bad);
    arch_power_off();
}

/*
 * Ends in two steps (EOImode): all are taken one inside the other, and their priorities dropped, so that more are active
 * than list registers; then they are deactivated in the order in which they came, which is not that of the priorities.
 */
static void end_in_two_steps(void)
{
    volatile uint8_t *sgi = prepare_storm();
    unsigned bad = 0;
    sysreg_write_as(SYSREG_ICC_CTLR, sysreg_read_as(SYSREG_ICC_CTLR) | ICC_CTLR_EOIMODE);
    arm64_isb();
    arm64_write32(sgi + GICD_ISENABLER, 0xFFFF);
    for (unsigned i = 0; i < GIC_SGIS; i++) {
        gic_raise(i);
        arm64_isb();
        bad += sysreg_read_as(SYSREG_ICC_IAR1) != i;
    }
    for (unsigned i = GIC_SGIS; i-- > 0;)
        sysreg_write_as(SYSREG_ICC_EOIR1, i);
    arm64_isb();
    for (unsigned i = 0; i < GIC_SGIS; i++) {
        bad += arm64_read32(sgi + GICD_ISACTIVER) != (0xFFFFu << i & 0xFFFF);
        sysreg_write_as(SYSREG_ICC_DIR, i);
        arm64_isb();
    }
    bad += arm64_read32(sgi + GICD_ISACTIVER) != 0;
    bad += sysreg_read_as(SYSREG_ICC_IAR1) < GIC_SPURIOUS_FIRST;
    kprintf("badguest: %u of them wrong in two steps\n", bad);
    arch_power_off();
}

/* What software makes pending stays so until it is taken, on a line of level type too, however often the guest leaves. */
static void keep_latch(void)
{
    volatile uint8_t *sgi = prepare_storm();
    arm64_write32(sgi + GICD_ICFGR + 4, 0);                   /* PPIs: levels */
    arm64_write32(sgi + GICD_ISPENDR, 1u << LEVEL_PPI);
    arm64_write32(sgi + GICD_ISENABLER, 1u << LEVEL_PPI);
    for (unsigned i = 0; i < 3; i++)
        (void)arm64_read32(sgi + GICD_ISENABLER);
    uint64_t first = sysreg_read_as(SYSREG_ICC_IAR1);
    sysreg_write_as(SYSREG_ICC_EOIR1, first);
    arm64_isb();
    uint64_t second = sysreg_read_as(SYSREG_ICC_IAR1);
    kprintf("badguest: interrupt %llu came, then %s\n", (unsigned long long)first,
            second < GIC_SPURIOUS_FIRST ? "another" : "none");
    arch_power_off();
}

/* The same register by both forms of a hypercall; what each leaves alone is alone. */
static void call_forms(void)
{
    register uint64_t x0 __asm__("x0") = HV_CONTROL_FAST | 1ull << HV_CONTROL_REP_COUNT_SHIFT | HVCALL_GET_VP_REGISTERS;
    register uint64_t x1 __asm__("x1") = HV_PARTITION_ID_SELF;
    register uint64_t x2 __asm__("x2") = HV_VP_INDEX_SELF;
    register uint64_t x3 __asm__("x3") = HV_REGISTER_HYPERVISOR_VERSION;
    register uint64_t x14 __asm__("x14") = 0x1414;
    register uint64_t x15 __asm__("x15") = 0;
    register uint64_t x16 __asm__("x16") = 0;
    struct arch_hv_features f;
    __asm__ volatile("hvc #1" : "+r"(x0), "+r"(x1), "+r"(x2), "+r"(x3), "+r"(x14), "+r"(x15), "+r"(x16)
                     : : "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x17", "memory");
    uint64_t result = x0, kept = x14, low = x15, high = x16;
    arch_hv_discover(&f);
    bool same = low == (f.version[0] | (uint64_t)f.version[1] << 32) &&
                high == (f.version[2] | (uint64_t)f.version[3] << 32);
    kprintf("badguest: result %#llx, %s, x14 %#llx\n", (unsigned long long)result,
            same && low ? "the same version" : "another version", (unsigned long long)kept);
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
    {"el2", touch_el2}, {"silence", silence_interrupts}, {"pair", load_pair}, {"walk", walk_outside}, {"storm", storm},
    {"two-steps", end_in_two_steps}, {"latch", keep_latch}, {"forms", call_forms}, {"emulator", call_emulator},
    {"psci", call_psci}, {"off", stop_last}, {"thumb", run_thumb}, {"devices", miss_devices}, {"watch", watch_lab}, {"extensions", stream},
    {"", NULL},
};
