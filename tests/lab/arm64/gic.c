/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The machine's interrupt controller, which is the lab's: all lines come to EL2. What is acknowledged is either the
 * lab's (kick, alarm, maintenance, its devices), handled and deactivated here, or a line that the guest has: then it
 * stays active until the guest ends it by its own CPU interface.
 *
 * Source: Arm GIC Architecture Specification v3/v4 (IHI 0069), chapters 4.4 (EOI modes), 12.9 to 12.11 (registers).
 * One security state, as QEMU's machine without EL3 has it: lines are put into group 1.
 */
#define LOG_ROOM "lab"
#include "arch/arm64/gic.h"
#include "tests/lab/arm64/el2.h"
#include "tests/lab/arm64/vcpu.h"

#define SPIN_LIMIT       1000000u
#define PRIORITY_LAB     0x40u
#define PRIORITY_GUEST   0x80u
#define MAX_LAB_LINES    32u          /* one for each place of virtio-mmio */

struct lab_gic_frames lab_gic_frames;
static volatile uint8_t *distributor;
static uint64_t redistributor_bytes;
static volatile uint8_t *redistributors, *redistributor[LAB_MAX_VCPUS];
static unsigned lines;
static struct { unsigned intid; void (*quiet)(unsigned intid); } lab_lines[MAX_LAB_LINES];
static unsigned lab_line_count;

/* The frame that has this line's registers. */
static volatile uint8_t *frame_of(unsigned cpu, unsigned intid)
{
    return intid < GIC_SPI_FIRST ? redistributor[cpu] + GICR_SGI_FRAME : distributor;
}

static void wait_written(void)
{
    for (unsigned spin = 0; spin < SPIN_LIMIT && (arm64_read32(distributor + GICD_CTLR) & GICD_CTLR_RWP); spin++)
        ;
}

static void set_priority(unsigned cpu, unsigned intid, unsigned priority)
{
    arm64_write8(frame_of(cpu, intid) + GICD_IPRIORITYR + intid, (uint8_t)priority);
}

static void set_edge(unsigned cpu, unsigned intid, bool edge)
{
    volatile uint8_t *at = frame_of(cpu, intid) + GICD_ICFGR + intid / 16 * 4;
    uint32_t bit = 2u << intid % 16 * 2, old = arm64_read32(at);
    arm64_write32(at, edge ? old | bit : old & ~bit);
}

static void set_enabled(unsigned cpu, unsigned intid, bool on)
{
    arm64_write32(frame_of(cpu, intid) + (on ? GICD_ISENABLER : GICD_ICENABLER) + intid / 32 * 4, 1u << intid % 32);
}

int lab_gic_init(const struct boot_info *boot)
{
    const struct arch_platform *p = &boot->platform;
    if (p->gic_distributor == 0 || p->gic_ranges == 0 || p->gic_version < 3) {
        log_err("no GICv3 in the device tree: QEMU needs -machine virt,virtualization=on,gic-version=3");
        return -E_NOTSUP;
    }
    lab_gic_frames.distributor = p->gic_distributor;
    lab_gic_frames.redistributors = p->gic_redistributors[0].start;
    redistributor_bytes = p->gic_redistributors[0].bytes;
    distributor = mm_map_phys(pa(lab_gic_frames.distributor), GICD_FRAME_BYTES, MAP_READ | MAP_WRITE | MAP_DEVICE);
    redistributors = mm_map_phys(pa(lab_gic_frames.redistributors), redistributor_bytes,
                                 MAP_READ | MAP_WRITE | MAP_DEVICE);
    if (!distributor || !redistributors)
        return -E_NOMEM;
    lines = 32 * GICD_TYPER_LINES(arm64_read32(distributor + GICD_TYPER));
    arm64_write32(distributor + GICD_CTLR, 0);
    wait_written();
    for (unsigned i = GIC_SPI_FIRST; i < lines; i += 32) {
        arm64_write32(distributor + GICD_ICENABLER + i / 8, 0xFFFFFFFF);
        arm64_write32(distributor + GICD_ICPENDR + i / 8, 0xFFFFFFFF);
        arm64_write32(distributor + GICD_ICACTIVER + i / 8, 0xFFFFFFFF);
        arm64_write32(distributor + GICD_IGROUPR + i / 8, 0xFFFFFFFF);
    }
    wait_written();
    arm64_write32(distributor + GICD_CTLR, GICD_CTLR_ARE | GICD_CTLR_ENABLE_GROUP1A);
    wait_written();
    return 0;
}

static uint64_t read_typer(void *context, uint64_t offset)
{
    (void)context;
    return arm64_read64(redistributors + offset + GICR_TYPER);
}

static volatile uint8_t *find_redistributor(uint64_t mpidr)
{
    uint64_t offset;
    if (!gic_find_redistributor(gic_affinity(mpidr), redistributor_bytes, false, read_typer, NULL, &offset))
        panic("processor %#llx has no redistributor", (unsigned long long)mpidr);
    return redistributors + offset;
}

void lab_gic_cpu_init(struct vcpu *v)
{
    volatile uint8_t *r = redistributor[v->index] = find_redistributor(v->mpidr), *sgi = r + GICR_SGI_FRAME;
    arm64_write32(r + GICR_WAKER, arm64_read32(r + GICR_WAKER) & ~GICR_WAKER_PROCESSOR_SLEEP);
    for (unsigned spin = 0; spin < SPIN_LIMIT && (arm64_read32(r + GICR_WAKER) & GICR_WAKER_CHILDREN_ASLEEP); spin++)
        ;
    arm64_write32(sgi + GICD_ICENABLER, 0xFFFFFFFF);
    arm64_write32(sgi + GICD_ICPENDR, 0xFFFFFFFF);
    arm64_write32(sgi + GICD_ICACTIVER, 0xFFFFFFFF);
    arm64_write32(sgi + GICD_IGROUPR, 0xFFFFFFFF);
    static const unsigned own[] = {GIC_KICK_SGI, GIC_MAINTENANCE_PPI, GIC_ALARM_PPI};
    for (unsigned i = 0; i < ARRAY_SIZE(own); i++) {
        set_priority(v->index, own[i], PRIORITY_LAB);
        set_enabled(v->index, own[i], true);
    }
    sysreg_write_as(SYSREG_ICC_SRE_EL2, ICC_SRE_ALL);
    arm64_isb();
    sysreg_write_as(SYSREG_ICC_PMR, 0xFF);
    sysreg_write_as(SYSREG_ICC_BPR1, 0);
    sysreg_write_as(SYSREG_ICC_CTLR, ICC_CTLR_EOIMODE);
    sysreg_write_as(SYSREG_ICC_IGRPEN1, 1);
    arm64_isb();
}

void lab_gic_kick(const struct vcpu *target)
{
    uint64_t m = target->mpidr;
    arm64_dsb_ishst();
    sysreg_write_as(SYSREG_ICC_SGI1R, (m >> 32 & 0xFF) << 48 | (m >> 16 & 0xFF) << 32 | (m >> 8 & 0xFF) << 16 |
                                          (uint64_t)GIC_KICK_SGI << 24 | (m >> 4 & 15) << 44 | 1ull << (m & 15));
    arm64_isb();
}

void lab_gic_own_line(unsigned intid, bool edge, void (*quiet)(unsigned intid))
{
    KASSERT(intid >= GIC_SPI_FIRST && intid < lines && lab_line_count < MAX_LAB_LINES);
    lab_lines[lab_line_count].intid = intid;
    lab_lines[lab_line_count++].quiet = quiet;
    set_edge(0, intid, edge);
    set_priority(0, intid, PRIORITY_LAB);
    arm64_write64(distributor + GICD_IROUTER + intid * 8ull, (lab_aside ? lab_aside : &lab_vcpus[0])->mpidr);
    set_enabled(0, intid, true);
}

bool lab_gic_is_own(unsigned intid)
{
    for (unsigned i = 0; i < lab_line_count; i++)
        if (lab_lines[i].intid == intid)
            return true;
    return false;
}

void lab_gic_guest_line(const struct vcpu *target, unsigned intid, bool on)
{
    if (on) {
        set_priority(target->index, intid, PRIORITY_GUEST);
        if (intid >= GIC_SPI_FIRST)
            arm64_write64(distributor + GICD_IROUTER + intid * 8ull, target->mpidr);
    }
    set_enabled(target->index, intid, on);
}

void lab_gic_guest_edge(unsigned intid, bool edge)
{
    if (intid >= GIC_SPI_FIRST)
        set_edge(0, intid, edge);
}

void lab_gic_deactivate_of(const struct vcpu *owner, unsigned intid)
{
    arm64_write32(frame_of(owner->index, intid) + GICD_ICACTIVER + intid / 32 * 4, 1u << intid % 32);
}

void lab_gic_deactivate(unsigned intid)
{
    sysreg_write_as(SYSREG_ICC_DIR, intid);
    arm64_isb();
}

/* Returns whether the line is the lab's. */
static bool own_line(unsigned intid)
{
    if (intid == GIC_KICK_SGI || intid == GIC_MAINTENANCE_PPI)
        return true;        /* they only bring the guest out; vgic_save has taken the cause of the second back */
    if (intid == GIC_ALARM_PPI) {
        timer_alarm_taken();
        return true;
    }
    bool own = false;
    for (unsigned i = 0; i < lab_line_count; i++) {     /* devices may share a line */
        if (lab_lines[i].intid != intid)
            continue;
        if (lab_lines[i].quiet)
            lab_lines[i].quiet(intid);
        own = true;
    }
    return own;
}

bool lab_gic_take(struct vcpu *v)
{
    for (bool alarm = false;;) {
        unsigned intid = (unsigned)sysreg_read_as(SYSREG_ICC_IAR1) & ICC_INTID_MASK;
        if (intid >= GIC_SPURIOUS_FIRST && intid <= GIC_SPURIOUS_LAST)
            return alarm;
        alarm |= intid == GIC_ALARM_PPI;
        sysreg_write_as(SYSREG_ICC_EOIR1, intid);      /* lower ones may come again; it stays active */
        if (own_line(intid))
            lab_gic_deactivate(intid);
        else
            vgic_physical(v, intid);
    }
}
