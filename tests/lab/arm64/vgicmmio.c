/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The registers of the guest's distributor and redistributors, at the addresses of the machine's own. Reserved ones
 * read as zero and ignore writes.
 *
 * What another vcpu has in its list registers at that moment is neither seen nor changed by way of its frame: no guest
 * has been met that meddles with the interrupts of a processor that runs.
 *
 * Everything is read and written in words of 32 bits; of wider registers each half is one, of narrower accesses
 * (allowed to priorities only) the word is made up. Source: Arm GIC Architecture Specification v3/v4 (IHI 0069),
 * chapter 12.
 */
#define LOG_ROOM "lab"
#include "arch/arm64/gic.h"
#include "tests/lab/arm64/vcpu.h"

#define GICR_IIDR       0x0004
#define PIDR2_GICV3     0x3Bu
#define IIDR_ARM        0x43Bu
#define CTLR_WRITABLE   3u                             /* groups 0 and 1 */
#define CTLR_FIXED      (1u << 6 | 1u << 4)            /* one security state, affinity routing */
#define TYPER_VALUE     ((VGIC_LINES / 32 - 1) | 9u << 19 | 1u << 24 | 1u << 25)    /* 10 bits of INTID, A3V, No1N */
#define WAKER_BITS      (GICR_WAKER_PROCESSOR_SLEEP | GICR_WAKER_CHILDREN_ASLEEP)

/* One of the bit registers of a bank: which, and what a write does. */
static uint32_t *bits_of(struct vgic_bank *b, uint32_t base)
{
    switch (base) {
    case GICD_IGROUPR:
        return &b->group1;
    case GICD_ISENABLER:
    case GICD_ICENABLER:
        return &b->enabled;
    case GICD_ISPENDR:
    case GICD_ICPENDR:
        return &b->pending;
    default:
        return &b->active;
    }
}

static void write_bits(struct vcpu *v, unsigned bank, uint32_t base, uint32_t value)
{
    struct vgic_bank *b = vgic_bank(v, bank);
    uint32_t *bits = bits_of(b, base), before = b->enabled, old = *bits;
    *bits = base == GICD_IGROUPR ? value : base & 0x80 ? old & ~value : old | value;
    uint32_t ended = b->passed & old & ~*bits;
    for (; (base == GICD_ICACTIVER || base == GICD_ICPENDR) && ended; ended &= ended - 1)
        lab_gic_deactivate_of(v, bank * 32 + (unsigned)__builtin_ctz(ended));
    if (before != b->enabled)
        vgic_enabled_changed(v, bank, before);
    else if (base == GICD_ISPENDR && !vcpu_is_here(v))
        lab_gic_kick(v);
}

static uint32_t read_config(const struct vgic_bank *b, unsigned half)
{
    uint32_t value = 0;
    for (unsigned i = 0; i < 16; i++)
        value |= (b->edge >> (half * 16 + i) & 1) << (2 * i + 1);
    return value;
}

static void write_config(struct vgic_bank *b, unsigned first, uint32_t value)
{
    for (unsigned i = 0; i < 16; i++) {
        unsigned line = first + i;
        uint32_t bit = 1u << line % 32;
        bool edge = value >> (2 * i + 1) & 1;
        if (line < 16 || ((b->edge & bit) != 0) == edge)
            continue;
        b->edge ^= bit;
        if (b->passed & bit)
            lab_gic_guest_edge(line, edge);
    }
}

/* Registers that distributor and redistributors have in common; lines of `bank` on. False: not one of them. */
static bool bank_word(struct vcpu *v, unsigned first_bank, unsigned banks, uint32_t offset, bool write, uint32_t *value)
{
    unsigned bank;
    if (offset >= GICD_IGROUPR && offset < GICD_IPRIORITYR) {
        uint32_t base = offset & ~0x7Fu;
        bank = (offset & 0x7F) / 4;
        if (bank < first_bank || bank >= first_bank + banks)
            return false;
        if (write)
            write_bits(v, bank, base, *value);
        else
            *value = *bits_of(vgic_bank(v, bank), base);
        return true;
    }
    if (offset >= GICD_IPRIORITYR && offset < GICD_IPRIORITYR + VGIC_LINES) {
        unsigned line = offset - GICD_IPRIORITYR;
        bank = line / 32;
        if (bank < first_bank || bank >= first_bank + banks)
            return false;
        uint8_t *priority = vgic_bank(v, bank)->priority + line % 32;
        if (!write)
            *value = 0;
        for (unsigned i = 0; i < 4; i++) {
            if (write)
                priority[i] = (uint8_t)(*value >> 8 * i) & 0xF8;
            else
                *value |= (uint32_t)priority[i] << 8 * i;
        }
        return true;
    }
    if (offset >= GICD_ICFGR && offset < GICD_ICFGR + VGIC_LINES / 4) {
        unsigned first = (offset - GICD_ICFGR) * 4;
        bank = first / 32;
        if (bank < first_bank || bank >= first_bank + banks)
            return false;
        if (write)
            write_config(vgic_bank(v, bank), first, *value);
        else
            *value = read_config(vgic_bank(v, bank), first / 16 % 2);
        return true;
    }
    return false;
}

static void distributor_word(struct vcpu *v, uint32_t offset, bool write, uint32_t *value)
{
    if (bank_word(v, 1, VGIC_BANKS - 1, offset, write, value))
        return;
    if (offset == GICD_CTLR) {
        if (write)
            vgic_control = *value & CTLR_WRITABLE;
        else
            *value = vgic_control | CTLR_FIXED;
    } else if (offset >= GICD_IROUTER + 8 * GIC_SPI_FIRST && offset < GICD_IROUTER + 8 * VGIC_LINES) {
        unsigned line = (offset - GICD_IROUTER) / 8, shift = offset & 4 ? 32 : 0;
        if (!write) {
            *value = (uint32_t)(vgic_spi_route[line] >> shift);
        } else {
            vgic_spi_route[line] = (vgic_spi_route[line] & ~(0xFFFFFFFFull << shift)) | (uint64_t)*value << shift;
            vgic_route_changed(line);
        }
    } else if (!write) {
        *value = offset == GICD_TYPER ? TYPER_VALUE : offset == GICD_IIDR ? IIDR_ARM
                 : offset == GICD_PIDR2 ? PIDR2_GICV3 : 0;
    }
}

static void redistributor_word(struct vcpu *owner, uint32_t offset, bool write, uint32_t *value)
{
    static uint32_t waker[LAB_MAX_VCPUS];
    if (offset >= GICR_SGI_FRAME) {
        if (!bank_word(owner, 0, 1, offset - GICR_SGI_FRAME, write, value) && !write)
            *value = 0;
        return;
    }
    if (offset == GICR_WAKER && write)
        waker[owner->index] = *value & GICR_WAKER_PROCESSOR_SLEEP ? WAKER_BITS : 0;
    else if (!write) {
        uint64_t typer = (uint64_t)gic_affinity(owner->mpidr) << 32 | (uint64_t)owner->index << 8;
        if (owner->index == lab_vcpu_count - 1)
            typer |= GICR_TYPER_LAST;
        *value = offset == GICR_WAKER ? waker[owner->index] : offset == GICR_TYPER ? (uint32_t)typer
                 : offset == GICR_TYPER + 4 ? (uint32_t)(typer >> 32) : offset == GICR_IIDR ? IIDR_ARM
                 : offset == GICD_PIDR2 ? PIDR2_GICV3 : 0;
    }
}

bool vgic_access(struct vcpu *v, uint64_t gpa, bool write, unsigned bytes, uint64_t *value)
{
    uint64_t off = gpa - lab_gic_frames.distributor, r = gpa - lab_gic_frames.redistributors;
    struct vcpu *owner = NULL;
    if (off >= VGIC_DISTRIBUTOR_BYTES) {
        if (r >= VGIC_REDISTRIBUTOR_BYTES * lab_vcpu_count)
            return false;
        owner = &lab_vcpus[r / VGIC_REDISTRIBUTOR_BYTES];
        off = r % VGIC_REDISTRIBUTOR_BYTES;
    }
    uint64_t result = 0;
    for (unsigned done = 0; done < bytes; done += 4) {
        uint32_t at = (uint32_t)(off + done) & ~3u, shift = (uint32_t)(off & 3) * 8, word = 0;
        uint32_t mask = bytes >= 4 ? 0xFFFFFFFF : ((1u << 8 * bytes) - 1) << shift;
        if (write && mask != 0xFFFFFFFF) {      /* the rest stays */
            if (owner)
                redistributor_word(owner, at, false, &word);
            else
                distributor_word(v, at, false, &word);
        }
        if (write)
            word = (word & ~mask) | ((uint32_t)(*value >> 8 * done) << shift & mask);
        if (owner)
            redistributor_word(owner, at, write, &word);
        else
            distributor_word(v, at, write, &word);
        result |= (uint64_t)((word & mask) >> shift) << 8 * done;
    }
    if (!write)
        *value = result;
    return true;
}
