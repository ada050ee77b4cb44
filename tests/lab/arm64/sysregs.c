/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * System registers that trap: ID registers (TID3), software-generated interrupts, and those that the guest has not.
 *
 * The guest sees its processor without EL2, EL3, AArch32 at EL1, performance monitors, trace and statistical
 * profiling, SVE, SME, memory tagging, activity monitors, partitioning, and without whatever HCRX_EL2 would have to
 * switch on: what the lab does not switch is not there. Physical addresses end where its second-stage tables do.
 *
 * Source: Arm ARM (DDI 0487), chapter D13 (registers), D13.2.37 (syndrome of a trapped access).
 */
#define LOG_ROOM "lab"
#include "tests/lab/arm64/el2.h"
#include "tests/lab/arm64/vcpu.h"

/* The fields of four bits, by their first bit, that a register shows as zero. */
#define FIELD(at) (15ull << (at))
/* EL2, EL3, SVE, MPAM, AMU, RME */
#define PFR0_HIDDEN   (FIELD(8) | FIELD(12) | FIELD(32) | FIELD(40) | FIELD(44) | FIELD(52))
/* MTE, MPAM fraction, SME, interrupts that can't be masked, guarded control stack, THE, MTEX */
#define PFR1_HIDDEN   (FIELD(8) | FIELD(16) | FIELD(24) | FIELD(36) | FIELD(44) | FIELD(48) | FIELD(52))
#define ISAR1_HIDDEN  FIELD(60)                                            /* 64-byte accesses */
#define DFR0_HIDDEN   (FIELD(4) | FIELD(8) | FIELD(32) | FIELD(40) | FIELD(44) | FIELD(48) | FIELD(52))
#define MMFR1_HIDDEN  (FIELD(8) | FIELD(40) | FIELD(56))                   /* VHE, HCRX, CMOW */
#define MMFR2_HIDDEN  (FIELD(24) | FIELD(40))                              /* nested virtualisation, FWB */
#define MMFR0_HIDDEN  (FIELD(56) | FIELD(60))                              /* fine-grained traps, counter offset */
#define PARANGE_48    5u
#define EL_AARCH64    1ull                                                 /* EL1, EL2: AArch64 only */

#define ID_REGISTERS(do)                                                                                        \
    do(1, 0) do(1, 1) do(1, 2) do(1, 3) do(1, 4) do(1, 5) do(1, 6) do(1, 7)                                      \
    do(2, 0) do(2, 1) do(2, 2) do(2, 3) do(2, 4) do(2, 5) do(2, 6) do(2, 7)                                      \
    do(3, 0) do(3, 1) do(3, 2) do(3, 3) do(3, 4) do(3, 5) do(3, 6) do(3, 7)                                      \
    do(4, 0) do(4, 1) do(4, 2) do(4, 3) do(4, 4) do(4, 5) do(4, 6) do(4, 7)                                      \
    do(5, 0) do(5, 1) do(5, 2) do(5, 3) do(5, 4) do(5, 5) do(5, 6) do(5, 7)                                      \
    do(6, 0) do(6, 1) do(6, 2) do(6, 3) do(6, 4) do(6, 5) do(6, 6) do(6, 7)                                      \
    do(7, 0) do(7, 1) do(7, 2) do(7, 3) do(7, 4) do(7, 5) do(7, 6) do(7, 7)

static uint64_t own_id_register(unsigned crm, unsigned op2)
{
    switch (crm * 8 + op2) {
#define CASE(m, p) case m * 8 + p: return sysreg_read(s3_0_c0_c##m##_##p);
        ID_REGISTERS(CASE)
#undef CASE
    }
    return 0;
}

static uint64_t id_register(unsigned crm, unsigned op2)
{
    uint64_t value = own_id_register(crm, op2);
    switch (crm * 8 + op2) {
    case 4 * 8 + 0:                     /* ID_AA64PFR0_EL1 */
        value = (value & ~(PFR0_HIDDEN | FIELD(4))) | EL_AARCH64 << 4;
        break;
    case 4 * 8 + 1:                     /* ID_AA64PFR1_EL1 */
        value &= ~PFR1_HIDDEN;
        break;
    case 4 * 8 + 4:                     /* ID_AA64ZFR0_EL1 */
    case 4 * 8 + 5:                     /* ID_AA64SMFR0_EL1 */
    case 5 * 8 + 4:                     /* ID_AA64AFR0_EL1 and 1 */
    case 5 * 8 + 5:
        value = 0;
        break;
    case 5 * 8 + 0:                     /* ID_AA64DFR0_EL1 */
        value &= ~DFR0_HIDDEN;
        break;
    case 1 * 8 + 2:                     /* ID_DFR0_EL1: performance monitors */
        value &= ~FIELD(24);
        break;
    case 7 * 8 + 0:                     /* ID_AA64MMFR0_EL1 */
        value &= ~MMFR0_HIDDEN;
        if ((value & 15) > PARANGE_48)
            value = (value & ~15ull) | PARANGE_48;
        break;
    case 7 * 8 + 1:
        value &= ~MMFR1_HIDDEN;
        break;
    case 7 * 8 + 2:
        value &= ~MMFR2_HIDDEN;
        break;
    case 7 * 8 + 3:                     /* ID_AA64MMFR3_EL1 and 4: more translation registers, nested virtualisation */
    case 7 * 8 + 4:
        value = 0;
        break;
    case 6 * 8 + 1:
        value &= ~ISAR1_HIDDEN;
        break;
    }
    return value;
}

void exit_sysreg(struct vcpu *v)
{
    uint32_t iss = ESR_ISS(v->esr), reg = iss & ISS_SYSREG_MASK;
    unsigned op0 = reg >> 20 & 3, op1 = reg >> 14 & 7, crn = reg >> 10 & 15, crm = reg >> 1 & 15, op2 = reg >> 17 & 7;
    bool read = iss & ISS_SYSREG_READ;
    if (op0 == 3 && op1 == 0 && crn == 0 && crm >= 1 && crm <= 7 && read) {
        lab_count(CNT_EXIT_ID);
        vcpu_set_x(v, ISS_SYSREG_RT(iss), id_register(crm, op2));
    } else {
        lab_count(CNT_EXIT_REGISTER);
        switch (reg) {
        case ISS_SYSREG(3, 0, 12, 11, 5):       /* ICC_SGI1R_EL1 */
            if (!read)
                vgic_sgi(v, vcpu_x(v, ISS_SYSREG_RT(iss)));
            break;
        case ISS_SYSREG(3, 0, 12, 11, 6):       /* ICC_ASGI1R_EL1, ICC_SGI0R_EL1: groups that the guest has not */
        case ISS_SYSREG(3, 0, 12, 11, 7):
            break;
        case ISS_SYSREG(3, 0, 12, 11, 1):       /* ICC_DIR_EL1 */
            if (!read)
                vgic_deactivate(v, vcpu_x(v, ISS_SYSREG_RT(iss)));
            break;
        default:
            if (op0 == 2) {                     /* debug registers, while the lab uses them: watch.c */
                if (read)
                    vcpu_set_x(v, ISS_SYSREG_RT(iss), 0);
                break;
            }
            log_warn("the guest %s the register s%u_%u_c%u_c%u_%u, which it has not (pc %#llx)",
                     read ? "reads" : "writes", op0, op1, crn, crm, op2, (unsigned long long)v->pc);
            vcpu_undefined(v);
            return;
        }
    }
    vcpu_advance(v);
}
