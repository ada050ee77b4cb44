/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guest's interrupt controller between the banks of its state and the processor's list registers.
 *
 * vgic_load takes the most urgent lines, active or pending: so whatever may interrupt the guest now is among them. When
 * not all fit, the processor says when all but one of them are done (underflow), and the rest follows. vgic_save takes
 * everything back. An active line that found no list register is ended by the guest all the same: the processor counts
 * such ends, and the most urgent active line outside was meant (the guest ends what it took last, which was the most
 * urgent). Who ends in two steps (ICC_CTLR.EOImode) says which: that leaves the guest as long as lines are outside.
 *
 * Source: Arm GIC Architecture Specification v3/v4 (IHI 0069), chapters 4.8 (affinity routing), 6 (virtual interrupts).
 */
#define LOG_ROOM "lab"
#include <string.h>
#include "arch/arm64/gic.h"
#include "tests/lab/arm64/el2.h"
#include "tests/lab/arm64/vcpu.h"

#define TIMER_VIRTUAL_PPI  27u
#define TIMER_PHYSICAL_PPI 30u
#define SGIS               0x0000FFFFu
#define SGI_LINE(v)        ((unsigned)((v) >> 24) & 15)
#define SGI_ALL_OTHERS     (1ull << 40)

uint32_t vgic_control;
uint8_t vgic_spi_target[VGIC_LINES];
uint64_t vgic_spi_route[VGIC_LINES];
static struct vgic_bank spi_bank[VGIC_BANKS];        /* 0 is not used */
static unsigned lr_total = 4;

/* ---- list registers ---- */
#define LR_CASES(do) do(0) do(1) do(2) do(3) do(4) do(5) do(6) do(7) \
                     do(8) do(9) do(10) do(11) do(12) do(13) do(14) do(15)
#define LR_NAME_0  s3_4_c12_c12_0
#define LR_NAME_1  s3_4_c12_c12_1
#define LR_NAME_2  s3_4_c12_c12_2
#define LR_NAME_3  s3_4_c12_c12_3
#define LR_NAME_4  s3_4_c12_c12_4
#define LR_NAME_5  s3_4_c12_c12_5
#define LR_NAME_6  s3_4_c12_c12_6
#define LR_NAME_7  s3_4_c12_c12_7
#define LR_NAME_8  s3_4_c12_c13_0
#define LR_NAME_9  s3_4_c12_c13_1
#define LR_NAME_10 s3_4_c12_c13_2
#define LR_NAME_11 s3_4_c12_c13_3
#define LR_NAME_12 s3_4_c12_c13_4
#define LR_NAME_13 s3_4_c12_c13_5
#define LR_NAME_14 s3_4_c12_c13_6
#define LR_NAME_15 s3_4_c12_c13_7

static uint64_t lr_read(unsigned n)
{
    switch (n) {
#define CASE(i) case i: return sysreg_read_as(LR_NAME_##i);
        LR_CASES(CASE)
#undef CASE
    }
    return 0;
}

static void lr_write(unsigned n, uint64_t value)
{
    switch (n) {
#define CASE(i) case i: sysreg_write_as(LR_NAME_##i, value); break;
        LR_CASES(CASE)
#undef CASE
    }
}

/* ---- banks ---- */
struct vgic_bank *vgic_bank(struct vcpu *v, unsigned bank) { return bank == 0 ? &v->vgic.bank : &spi_bank[bank]; }

static bool is_mine(const struct vcpu *v, unsigned line)
{
    return line < GIC_SPI_FIRST || vgic_spi_target[line] == v->index;
}

static uint32_t pending(const struct vgic_bank *b)
{
    return b->pending & b->enabled & b->group1 & ~b->active;
}

void vgic_init(void)
{
    memset(vgic_spi_target, 0, sizeof(vgic_spi_target));
    lr_total = ICH_VTR_LRS(sysreg_read_as(SYSREG_ICH_VTR));
    for (unsigned i = 0; i < LAB_MAX_VCPUS; i++) {
        lab_vcpus[i].vgic.bank.passed = 1u << TIMER_VIRTUAL_PPI | 1u << TIMER_PHYSICAL_PPI;
        lab_vcpus[i].vgic.bank.edge = SGIS;
    }
}

void vgic_cpu_reset(struct vcpu *v)
{
    struct vgic_bank *b = &v->vgic.bank;
    for (unsigned line = 0; line < 32; line++) {
        if (!(b->passed >> line & 1))
            continue;
        if ((b->pending | b->active) >> line & 1)
            lab_gic_deactivate(line);
        if (b->enabled >> line & 1)
            lab_gic_guest_line(v, line, false);
    }
    *b = (struct vgic_bank){.passed = b->passed, .edge = SGIS};
    sysreg_write_as(SYSREG_ICH_HCR, ICH_HCR_EN);
    sysreg_write_as(SYSREG_ICH_VMCR, 0);
    sysreg_write_as(SYSREG_ICH_AP0R0, 0);
    sysreg_write_as(SYSREG_ICH_AP1R0, 0);
    for (unsigned i = 0; i < lr_total; i++)
        lr_write(i, 0);
    v->vgic.lr_count = 0;
    arm64_isb();
}

/* ---- around a run ---- */

/* Moves a line into the next list register. */
static void load_line(struct vcpu *v, unsigned line)
{
    struct vgic_bank *b = vgic_bank(v, line / 32);
    uint32_t bit = 1u << line % 32;
    bool passed = (b->passed & bit) != 0;
    uint64_t lr = line | LR_GROUP1 | (uint64_t)b->priority[line % 32] << LR_PRIORITY_SHIFT;
    if (b->active & bit)
        lr |= LR_ACTIVE;
    if (b->pending & bit)
        lr |= LR_PENDING;
    if (passed)
        lr = (lr & LR_ACTIVE ? lr & ~LR_PENDING : lr) | LR_HW | (uint64_t)line << LR_PHYSICAL_SHIFT;
    b->pending &= ~bit;
    b->active &= ~bit;
    v->vgic.lr_line[v->vgic.lr_count] = (uint16_t)line;
    lr_write(v->vgic.lr_count++, lr);
}

/* The most urgent line of those that `which` gives for a bank; VGIC_LINES: none. */
static unsigned most_urgent(struct vcpu *v, uint32_t (*which)(const struct vgic_bank *b))
{
    unsigned best = VGIC_LINES, best_priority = 256;
    for (unsigned bank = 0; bank < VGIC_BANKS; bank++) {
        const struct vgic_bank *b = vgic_bank(v, bank);
        for (uint32_t set = which(b); set; set &= set - 1) {
            unsigned bit = (unsigned)__builtin_ctz(set);
            if (b->priority[bit] < best_priority && is_mine(v, bank * 32 + bit)) {
                best_priority = b->priority[bit];
                best = bank * 32 + bit;
            }
        }
    }
    return best;
}

static uint32_t active(const struct vgic_bank *b) { return b->active; }
static uint32_t wanted(const struct vgic_bank *b)
{
    return b->active | (vgic_control & GICD_CTLR_ENABLE_GROUP1A ? pending(b) : 0);
}

void vgic_load(struct vcpu *v)
{
    unsigned line = VGIC_LINES;
    while (v->vgic.lr_count < lr_total && (line = most_urgent(v, wanted)) < VGIC_LINES)
        load_line(v, line);
    if (v->vgic.lr_count == 0)
        return;
    bool more = v->vgic.lr_count == lr_total && most_urgent(v, wanted) < VGIC_LINES;
    sysreg_write_as(SYSREG_ICH_HCR, ICH_HCR_EN | (more ? ICH_HCR_UIE | ICH_HCR_LRENPIE | ICH_HCR_TDIR : 0));
}

/* It is no longer active, neither for the guest nor in the machine. */
static void end_line(struct vcpu *v, unsigned line)
{
    struct vgic_bank *b = vgic_bank(v, line / 32);
    b->active &= ~(1u << line % 32);
    if (b->passed >> line % 32 & 1)
        lab_gic_deactivate(line);
}

static void end_outside(struct vcpu *v)
{
    unsigned line = most_urgent(v, active);
    if (line < VGIC_LINES)
        end_line(v, line);
}

/* Between two runs all that is active is in the banks. */
void vgic_deactivate(struct vcpu *v, uint64_t value)
{
    unsigned line = (unsigned)value & ICC_INTID_MASK;
    if (line < VGIC_LINES && vgic_bank(v, line / 32)->active >> line % 32 & 1)
        end_line(v, line);
}

void vgic_save(struct vcpu *v)
{
    if (v->vgic.lr_count == 0)
        return;
    unsigned ended = ICH_HCR_EOICOUNT(sysreg_read_as(SYSREG_ICH_HCR));
    if (ended > 0 && sysreg_read_as(SYSREG_ICH_VMCR) & ICH_VMCR_EOIM)
        ended = 0;                      /* QEMU counts priority drops, too */
    for (; ended > 0; ended--)
        end_outside(v);
    for (unsigned i = 0; i < v->vgic.lr_count; i++) {
        uint64_t lr = lr_read(i);
        struct vgic_bank *b = vgic_bank(v, v->vgic.lr_line[i] / 32);
        uint32_t bit = 1u << v->vgic.lr_line[i] % 32;
        if (lr & LR_ACTIVE)
            b->active |= bit;
        if (lr & LR_PENDING)
            b->pending |= bit;
        lr_write(i, 0);
    }
    v->vgic.lr_count = 0;
    sysreg_write_as(SYSREG_ICH_HCR, ICH_HCR_EN);
    arm64_isb();
}

bool vgic_deliverable(struct vcpu *v)
{
    return (vgic_control & GICD_CTLR_ENABLE_GROUP1A) && most_urgent(v, pending) < VGIC_LINES;
}

/* ---- where interrupts come from ---- */
static void look_again(struct vcpu *v)
{
    if (!vcpu_is_here(v))
        lab_gic_kick(v);
}

static struct vcpu *owner(struct vcpu *v, unsigned intid)
{
    if (intid < GIC_SPI_FIRST)
        return v;
    return vgic_spi_target[intid] < lab_vcpu_count ? &lab_vcpus[vgic_spi_target[intid]] : NULL;
}

void vgic_raise(struct vcpu *v, unsigned intid)
{
    KASSERT(intid < VGIC_LINES);
    struct vcpu *to = owner(v, intid);
    vgic_bank(v, intid / 32)->pending |= 1u << intid % 32;
    if (to)
        look_again(to);
}

void vgic_pass(unsigned intid)
{
    KASSERT(intid >= GIC_SPI_FIRST && intid < VGIC_LINES);
    spi_bank[intid / 32].passed |= 1u << intid % 32;
}

void vgic_physical(struct vcpu *v, unsigned intid)
{
    if (intid >= VGIC_LINES || !(vgic_bank(v, intid / 32)->passed >> intid % 32 & 1)) {
        log_warn("interrupt %u belongs to nobody", intid);
        lab_gic_deactivate(intid);
        return;
    }
    vgic_raise(v, intid);
}

void vgic_sgi(struct vcpu *from, uint64_t value)
{
    uint64_t cluster = (value >> 48 & 0xFF) << 32 | (value >> 32 & 0xFF) << 16 | (value >> 16 & 0xFF) << 8;
    unsigned first = (unsigned)(value >> 44 & 15) * 16;
    for (unsigned i = 0; i < lab_vcpu_count; i++) {
        struct vcpu *to = &lab_vcpus[i];
        unsigned place = (unsigned)(to->mpidr & 0xFF) - first;
        bool addressed = value & SGI_ALL_OTHERS ? to != from
                         : (to->mpidr & 0xFF00FFFF00ull) == cluster && place < 16 && (value >> place & 1);
        if (addressed)
            vgic_raise(to, SGI_LINE(value));
    }
}

/* ---- the guest's settings ---- */
void vgic_enabled_changed(struct vcpu *v, unsigned bank, uint32_t before)
{
    struct vgic_bank *b = vgic_bank(v, bank);
    for (uint32_t set = (before ^ b->enabled); set; set &= set - 1) {
        unsigned bit = (unsigned)__builtin_ctz(set), line = bank * 32 + bit;
        struct vcpu *to = owner(v, line);
        if (to && (b->passed >> bit & 1))
            lab_gic_guest_line(to, line, b->enabled >> bit & 1);
        if (to)
            look_again(to);
    }
}

void vgic_route_changed(unsigned intid)
{
    uint64_t route = vgic_spi_route[intid];
    struct vcpu *to = route & 1ull << 31 ? &lab_vcpus[0] : vcpu_of_mpidr(route & 0xFF00FFFFFFull);
    vgic_spi_target[intid] = to ? (uint8_t)to->index : VGIC_NO_TARGET;
    const struct vgic_bank *b = &spi_bank[intid / 32];
    if (to && (b->passed & b->enabled) >> intid % 32 & 1)
        lab_gic_guest_line(to, intid, true);
    if (to)
        look_again(to);
}
