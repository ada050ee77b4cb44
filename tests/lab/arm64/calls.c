/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * HVC and SMC. HVC #0 and SMC #0 follow the SMC Calling Convention (Arm DEN 0028): PSCI, the hypervisor's identity,
 * hypercalls by function 0x46000001. HVC #1 is the older form of a hypercall, with its control word in X0. Everything
 * else gives "not supported".
 *
 * The model takes a hypercall's registers as one block, in and out; where the two forms put it is TLFS, "hypercall
 * interface" of arm64, and 02 of the reference.
 */
#define LOG_ROOM "lab"
#include <string.h>
#include "tests/lab/arm64/el2.h"
#include "tests/lab/arm64/vcpu.h"
#include "tests/lab/glue.h"
#include "tests/lab/isolation.h"
#include "hv/hv_wire.h"

#define SMCCC_VERSION        0x80000000u
#define SMCCC_ARCH_FEATURES  0x80000001u
#define SMCCC_VENDOR_UID     0x8600FF01u
#define SMCCC_HYPERCALL      0x46000001u
#define SMCCC_1_1            0x10001u
#define SMCCC_64BIT          0x40000000u
#define NOT_SUPPORTED        UINT64_MAX

/* Registers from `first` on are the model's block. Returns false when the call goes on: the instruction is executed
 * again with the new control word. */
static bool hypercall(struct vcpu *v, unsigned control_at, unsigned first)
{
    uint64_t regs[HOST_HCALL_REGS], control = v->x[control_at], before = control;
    lab_count(CNT_EXIT_HYPERCALL);
    memcpy(regs, v->x + first, sizeof(regs));
    uint64_t result = host_hypercall(lab_host, v->index, &control, regs);
    glue_model_called();
    isolation_sync(v);
    if (lab_aside)
        lab_gic_kick(lab_aside);
    memcpy(v->x + first, regs, sizeof(regs));
    if (control != before) {
        v->x[control_at] = control;
        v->pc -= 4;
        return false;
    }
    v->x[0] = result;
    return true;
}

/* The older form puts fast output into the last registers up to X16, where the SMCCC form, and so the model, puts it
 * behind the input. The one call with such output that guests make is "get VP registers". */
static void old_hypercall(struct vcpu *v)
{
    uint64_t control = v->x[0], kept[16];
    unsigned count = (unsigned)(control >> HV_CONTROL_REP_COUNT_SHIFT) & 0xFFF;
    bool moves = (control & HV_CONTROL_FAST) && (uint16_t)control == HVCALL_GET_VP_REGISTERS;
    unsigned in_words = (16 + 4 * count + 15) / 16 * 2, out_words = 2 * count;
    memcpy(kept, v->x + 1, sizeof(kept));
    if (!hypercall(v, 0, 1) || !moves || in_words + out_words > HOST_HCALL_REGS)
        return;
    memcpy(kept + 16 - out_words, v->x + 1 + in_words, out_words * sizeof(uint64_t));
    memcpy(v->x + 1, kept, sizeof(kept));
}

static uint64_t arch_feature(uint64_t function)
{
    return function == SMCCC_VERSION || function == SMCCC_ARCH_FEATURES ? 0 : NOT_SUPPORTED;
}

static void smccc(struct vcpu *v)
{
    uint32_t function = (uint32_t)v->x[0];
    if (function == SMCCC_HYPERCALL)
        hypercall(v, 1, 2);
    else if (function == SMCCC_VERSION)
        v->x[0] = SMCCC_1_1;
    else if (function == SMCCC_ARCH_FEATURES)
        v->x[0] = arch_feature((uint32_t)v->x[1]);
    else if ((function & ~SMCCC_64BIT) == (SMCCC_VENDOR_UID & ~SMCCC_64BIT)) {
        v->x[0] = 0x4D32BA58;
        v->x[1] = 0xCD244764;
        v->x[2] = 0x8EEF6C75;
        v->x[3] = 0x16597024;
    } else if (!psci_call(v))
        v->x[0] = NOT_SUPPORTED;
}

void exit_hvc(struct vcpu *v)
{
    switch (ESR_ISS(v->esr) & ISS_HVC_IMM) {
    case 0:
        smccc(v);
        break;
    case 1:
        old_hypercall(v);
        break;
    default:
        v->x[0] = NOT_SUPPORTED;
    }
}

/* The PC is still at the instruction; the hypervisor's own functions answer by HVC alone. */
void exit_smc(struct vcpu *v)
{
    vcpu_advance(v);
    if ((ESR_ISS(v->esr) & ISS_HVC_IMM) != 0 || !psci_call(v))
        v->x[0] = NOT_SUPPORTED;
}
