/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The interrupt controller (GICv3) as this one processor needs it: its own SGIs and PPIs, nothing shared, no ITS. The
 * distributor's registers are touched once, to switch it on and everything else off; afterwards the processor's own
 * redistributor and the system registers do.
 *
 * At EL1 and at EL2 the code is the same: the processor interface has the same names, and interrupts come to the level
 * that runs, since nobody routes them elsewhere.
 */
#define LOG_ROOM "gic"
#include "arch/arm64/arm64.h"
#include "arch/arm64/gic.h"

#define PATIENCE_MS      100         /* for writes to take effect: a microsecond on hardware */
#define PRIORITY_MASK    0xF0        /* below this all come through */
#define GIC_VERSION_3    3
#define GIC_VERSION_4    4
#define ID_PFR0_GIC_SHIFT 24

static volatile uint8_t *distributor, *redistributor;
static bool ready;

bool gic_ready(void) { return ready; }

static uint32_t d_read(unsigned reg) { return arm64_read32(distributor + reg); }
static void d_write(unsigned reg, uint32_t v) { arm64_write32(distributor + reg, v); }
static uint32_t r_read(unsigned reg) { return arm64_read32(redistributor + reg); }
static void r_write(unsigned reg, uint32_t v) { arm64_write32(redistributor + reg, v); }
static uint32_t sgi_read(unsigned reg) { return r_read(GICR_SGI_FRAME + reg); }
static void sgi_write(unsigned reg, uint32_t v) { r_write(GICR_SGI_FRAME + reg, v); }

/* False, after one line, when the bit does not become clear. */
static bool await_clear(volatile uint8_t *reg, uint32_t bit, const char *what)
{
    uint64_t hz = sysreg_read(cntfrq_el0), begin = arch_counter(), limit = hz / 1000 * PATIENCE_MS + 1000;
    while (arm64_read32(reg) & bit) {
        if (arch_counter() - begin > limit) {
            log_err("%s: 0x%x after %u ms", what, arm64_read32(reg), PATIENCE_MS);
            return false;
        }
        arch_cpu_relax();
    }
    return true;
}

static bool distributor_settled(void) { return await_clear(distributor + GICD_CTLR, GICD_CTLR_RWP, "GICD_CTLR.RWP"); }

static bool redistributor_settled(void)
{
    return await_clear(redistributor + GICR_CTLR, GICR_CTLR_RWP, "GICR_CTLR.RWP");
}

/* ---- finding them ---- */

static uint64_t typer_at(void *range, uint64_t offset)
{
    return arm64_read64((volatile uint8_t *)range + offset + GICR_TYPER);
}

static volatile uint8_t *map_redistributor(uint32_t affinity)
{
    for (unsigned i = 0; i < arm64_platform.gic_ranges; i++) {
        const struct arch_gic_range *r = &arm64_platform.gic_redistributors[i];
        uint64_t bytes = MIN(r->bytes, (uint64_t)GIC_RANGE_BYTES_MAX), offset;
        volatile uint8_t *mapped = bytes == 0 ? NULL : arm64_map_device(pa(r->start), bytes);
        if (mapped == NULL)
            log_warn("redistributors at 0x%llx can't be mapped", (unsigned long long)r->start);
        else if (gic_find_redistributor(affinity, bytes, r->one_by_one, typer_at, (void *)mapped, &offset))
            return mapped + offset;
    }
    return NULL;
}

static int find(void)
{
    const struct arch_platform *p = &arm64_platform;
    uint32_t affinity = gic_affinity(sysreg_read(mpidr_el1));
    unsigned version;

    if (p->gic_version != 0 && p->gic_version != GIC_VERSION_3 && p->gic_version != GIC_VERSION_4) {
        log_err("the interrupt controller is a GICv%u; version 3 is needed", p->gic_version);
        return -E_NOTSUP;
    }
    if (p->gic_distributor == 0 || p->gic_ranges == 0) {
        log_err("neither ACPI nor a device tree names a GICv3");
        return -E_NOTSUP;
    }
    if (arm64_field(sysreg_read(id_aa64pfr0_el1), ID_PFR0_GIC_SHIFT) == 0) {
        log_err("the processor has no registers of a GICv3");
        return -E_NOTSUP;
    }
    distributor = arm64_map_device(pa(p->gic_distributor), GICD_FRAME_BYTES);
    if (distributor == NULL)
        return -E_NOMEM;
    version = GIC_PIDR2_VERSION(d_read(GICD_PIDR2));
    if (version != GIC_VERSION_3 && version != GIC_VERSION_4) {
        log_err("the distributor at 0x%llx is a GICv%u", (unsigned long long)p->gic_distributor, version);
        return -E_NOTSUP;
    }
    redistributor = map_redistributor(affinity);
    if (redistributor == NULL) {
        log_err("no redistributor of the processor with affinity 0x%x", affinity);
        return -E_NOENT;
    }
    return 0;
}

/* ---- switching on ---- */

/* All shared interrupts off: firmware's devices would go on interrupting. */
static bool start_distributor(void)
{
    unsigned words = GICD_TYPER_LINES(d_read(GICD_TYPER));
    d_write(GICD_CTLR, 0);
    if (!distributor_settled())
        return false;
    for (unsigned i = 1; i < words; i++)
        d_write(GICD_ICENABLER + 4 * i, UINT32_MAX);
    d_write(GICD_CTLR, GICD_CTLR_ARE | GICD_CTLR_ENABLE_GROUP1A | GICD_CTLR_ENABLE_GROUP1);
    return distributor_settled();
}

static bool start_redistributor(void)
{
    r_write(GICR_WAKER, r_read(GICR_WAKER) & ~GICR_WAKER_PROCESSOR_SLEEP);
    if (!await_clear(redistributor + GICR_WAKER, GICR_WAKER_CHILDREN_ASLEEP, "GICR_WAKER.ChildrenAsleep"))
        return false;
    sgi_write(GICD_ICENABLER, UINT32_MAX);
    if (!redistributor_settled())
        return false;
    sgi_write(GICD_ICACTIVER, UINT32_MAX);       /* what firmware left in service would block others for ever */
    sgi_write(GICD_IGROUPR, UINT32_MAX);
    return true;
}

static bool start_interface(void)
{
    sysreg_write_as(SYSREG_ICC_SRE, sysreg_read_as(SYSREG_ICC_SRE) | ICC_SRE_ENABLE);
    arm64_isb();
    if (!(sysreg_read_as(SYSREG_ICC_SRE) & ICC_SRE_ENABLE)) {
        log_err("the GIC's system registers are switched off by a higher level");
        return false;
    }
    sysreg_write_as(SYSREG_ICC_PMR, PRIORITY_MASK);
    sysreg_write_as(SYSREG_ICC_BPR1, 0);
    sysreg_write_as(SYSREG_ICC_CTLR, sysreg_read_as(SYSREG_ICC_CTLR) & ~(ICC_CTLR_CBPR | ICC_CTLR_EOIMODE));
    sysreg_write(s3_0_c12_c9_0, 0);              /* ICC_AP1R0: nothing in service */
    sysreg_write_as(SYSREG_ICC_IGRPEN1, 1);
    arm64_isb();
    return true;
}

int gic_init(void)
{
    int error;
    if (ready)
        return 0;
    error = find();
    if (error != 0)
        return error;
    if (!start_distributor() || !start_redistributor() || !start_interface())
        return -E_IO;
    ready = true;
    log_debug("GICv3 at 0x%llx, redistributor of affinity 0x%x", (unsigned long long)arm64_platform.gic_distributor,
              gic_affinity(sysreg_read(mpidr_el1)));
    return 0;
}

/* ---- single interrupts ---- */

static void set_priority(uint32_t intid, uint8_t priority)
{
    unsigned reg = GICD_IPRIORITYR + (intid & ~3u), shift = intid % 4 * 8;
    sgi_write(reg, (sgi_read(reg) & ~(0xFFu << shift)) | (uint32_t)priority << shift);
}

/* The trigger of SGIs is fixed; that of PPIs may be. */
static void set_trigger(uint32_t intid, bool edge)
{
    unsigned reg = GICD_ICFGR + intid / 16 * 4;
    uint32_t bit = 2u << intid % 16 * 2, old = sgi_read(reg), wanted = edge ? old | bit : old & ~bit;
    if (intid < GIC_PPI_FIRST || wanted == old)
        return;
    sgi_write(reg, wanted);
    if (sgi_read(reg) != wanted)
        log_debug("the trigger of interrupt %u is fixed: %s", intid, edge ? "level" : "edge");
}

void gic_enable(uint32_t intid, bool edge, uint8_t priority)
{
    KASSERT(ready && intid < GIC_SPI_FIRST);
    gic_disable(intid);
    set_priority(intid, priority);
    set_trigger(intid, edge);
    sgi_write(GICD_ICPENDR, 1u << intid);
    sgi_write(GICD_ISENABLER, 1u << intid);
}

void gic_disable(uint32_t intid)
{
    KASSERT(ready && intid < GIC_SPI_FIRST);
    sgi_write(GICD_ICENABLER, 1u << intid);
    redistributor_settled();
}

void gic_raise(uint32_t intid)
{
    KASSERT(ready && intid < GIC_SPI_FIRST);
    sgi_write(GICD_ISPENDR, 1u << intid);
}
