/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * mark_at= by a hardware breakpoint, and the guest's virtual addresses.
 *
 * Debug exceptions come to EL2 while a mark is wanted (TDE), and the guest's own debug registers read as zero and
 * ignore writes. At the breakpoint it is switched off, the one instruction executed as a single step, and it is
 * switched on again. What else comes then (BRK) goes back to the guest.
 *
 * Source: Arm ARM (DDI 0487), D2.9 (breakpoints), D2.12 (software step), C6.2.20 (address translation instructions).
 */
#define LOG_ROOM "lab"
#include "tests/lab/arm64/el2.h"
#include "tests/lab/arm64/vcpu.h"

#define BCR_ENABLE_EL1  (1u << 0 | 1u << 1 | 0xFu << 5)   /* enabled, EL1 only, four bytes */
#define MDSCR_STEP      (1ull << 0)
#define MDSCR_MDE       (1ull << 15)
#define PSTATE_SS       (1ull << 21)
#define EC_BREAKPOINT_LOWER 0x30u
#define EC_STEP_LOWER       0x32u
#define PAR_FAILED      1ull
#define PAR_ADDRESS     0x0000FFFFFFFFF000ull

void machine_watch(struct vcpu *v, uint64_t address)
{
    (void)v;
    sysreg_write(mdcr_el2, sysreg_read(mdcr_el2) | MDCR_TDE | MDCR_TDA | MDCR_TDOSA | MDCR_TDRA);
    sysreg_write(oslar_el1, 0);
    sysreg_write(dbgbvr0_el1, address);
    sysreg_write(dbgbcr0_el1, BCR_ENABLE_EL1);
    sysreg_write(mdscr_el1, MDSCR_MDE);
    arm64_isb();
}

bool debug_exit(struct vcpu *v, unsigned class)
{
    switch (class) {
    case EC_BREAKPOINT_LOWER:
        watch_hit(v);
        sysreg_write(dbgbcr0_el1, 0);
        sysreg_write(mdscr_el1, MDSCR_MDE | MDSCR_STEP);
        v->pstate |= PSTATE_SS;
        v->stepping = true;
        break;
    case EC_STEP_LOWER:
        if (!v->stepping)
            return false;
        v->stepping = false;
        v->pstate &= ~PSTATE_SS;
        sysreg_write(mdscr_el1, MDSCR_MDE);
        sysreg_write(dbgbcr0_el1, BCR_ENABLE_EL1);
        break;
    case ESR_EC_BRK:
        vcpu_inject(v, v->esr);
        break;
    default:
        return false;
    }
    arm64_isb();
    return true;
}

/* By the processor, with the guest's tables, and the second stage for these: to a guest-physical address. */
static bool translate(const struct vcpu *v, uint64_t address, uint64_t *gpa)
{
    uint64_t hcr = sysreg_read(hcr_el2), kept = sysreg_read(par_el1);
    sysreg_write(hcr_el2, v->hcr);
    arm64_isb();
    __asm__ volatile("at s1e1r, %0\n isb" : : "r"(address) : "memory");
    uint64_t par = sysreg_read(par_el1);
    sysreg_write(par_el1, kept);
    sysreg_write(hcr_el2, hcr);
    arm64_isb();
    *gpa = (par & PAR_ADDRESS) | (address & PAGE_MASK);
    return !(par & PAR_FAILED);
}

size_t guest_fetch(const struct vcpu *v, uint64_t address, void *to, size_t n)
{
    uint8_t *out = to;
    size_t done = 0;
    uint64_t gpa = 0;
    if (!vcpu_is_here(v))
        return 0;
    for (; done < n; done++, gpa++) {
        const uint8_t *p;
        if ((done == 0 || ((address + done) & PAGE_MASK) == 0) && !translate(v, address + done, &gpa))
            break;
        if (!(p = guest_ptr(gpa, 1)))
            break;
        out[done] = *p;
    }
    return done;
}
