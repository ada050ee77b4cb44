/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tlfs_cpuid.c: the hypervisor's CPUID leaves, as the configuration wants them (TLFS: feature discovery).
 *
 * regs come in as the processor answers: leaves that are not the hypervisor's keep that, except the
 * "hypervisor present" bit and the invariant TSC, which a guest sees only after it has asked for it.
 */
#include "tests/host/host_internal.h"

#define LEAF_STANDARD_FEATURES  1u
#define LEAF_POWER              0x80000007u
#define POWER_INVARIANT_TSC     (1u << 8)
#define LEAF_FIRST              0x40000000u
#define LEAF_LAST               0x400000FFu

static void set(uint32_t regs[4], uint32_t a, uint32_t b, uint32_t c, uint32_t d)
{
    regs[0] = a;
    regs[1] = b;
    regs[2] = c;
    regs[3] = d;
}

static void isolation_leaf(const struct host *h, uint32_t regs[4])
{
    uint32_t ebx = h->cfg.isolation_type & HV_ISOLATION_EBX_TYPE_MASK, bit;

    if (h->cfg.isolation_type == HV_ISOLATION_NONE)
        return;
    if (h->cfg.boundary_bit != 0) {
        bit = h->cfg.boundary_bit & HV_ISOLATION_EBX_BOUNDARY_MASK;
        ebx |= HV_ISOLATION_EBX_BOUNDARY_ACTIVE | bit << HV_ISOLATION_EBX_BOUNDARY_SHIFT;
    }
    set(regs, h->cfg.paravisor ? HV_ISOLATION_EAX_PARAVISOR : 0, ebx, 0, 0);
}

void host_cpuid(struct host *h, uint32_t vp, uint32_t leaf, uint32_t subleaf, uint32_t regs[4])
{
    bool isolated = h->cfg.isolation_type != HV_ISOLATION_NONE;

    (void)vp;
    (void)subleaf;
    if (leaf == LEAF_STANDARD_FEATURES)
        regs[2] |= HV_CPUID_FEATURES_ECX_PRESENT;
    if (leaf == LEAF_POWER && (h->cfg.access & HV_ACCESS_TSC_INVARIANT) && !(h->tsc_invariant & 1))
        regs[3] &= ~POWER_INVARIANT_TSC;
    if (leaf < LEAF_FIRST || leaf > LEAF_LAST)
        return;

    set(regs, 0, 0, 0, 0);
    switch (leaf) {
    case HV_CPUID_VENDOR:
        set(regs, isolated ? HV_CPUID_ISOLATION : 0x40000006u, HV_CPUID_VENDOR_EBX, HV_CPUID_VENDOR_ECX,
            HV_CPUID_VENDOR_EDX);
        break;
    case HV_CPUID_INTERFACE:
        regs[0] = HV_CPUID_INTERFACE_HV1;
        break;
    case HV_CPUID_VERSION:
        memcpy(regs, h->cfg.version_words, 16);
        break;
    case HV_CPUID_FEATURES:
        set(regs, h->cfg.access, h->cfg.privileges | (isolated ? HV_PRIV_ISOLATION : 0), 0, h->cfg.features);
        break;
    case HV_CPUID_RECOMMENDATIONS:
        set(regs, h->cfg.recommendations, HV_SPIN_RETRY_NEVER, 0, 0);
        break;
    case HV_CPUID_LIMITS:
        set(regs, h->cfg.vps, h->cfg.vps, 0, 0);
        break;
    case HV_CPUID_ISOLATION:
        isolation_leaf(h, regs);
        break;
    default:
        break;
    }
}
