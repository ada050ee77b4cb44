/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What brought the guest out, and what becomes of it.
 *
 * Policy: addresses where nothing is read as ones and ignore writes, one log line for each page in a row; whatever the
 * lab can't carry out there (code, page tables, pairs and vectors of registers, which the processor does not decode)
 * ends the run.
 */
#define LOG_ROOM "lab"
#include "tests/lab/arm64/board.h"
#include "tests/lab/arm64/el2.h"
#include "tests/lab/arm64/vcpu.h"
#include "tests/lab/balloon.h"
#include "tests/lab/glue.h"
#include "tests/lab/isolation.h"

#define ISS_WFX_KIND 3u             /* 0: WFI; 1: WFE; 2 and 3: those with a time limit, which may end at any time */

/*
 * measure=1: the guest's WFI leaves it, and the lab waits instead, uncounted. What ends a real WFI ends this one: an
 * interrupt that pends for the guest.
 */
void wait_for_interrupt(struct vcpu *v)
{
    while (!vgic_deliverable(v)) {
        lab_poll(v);
        if (vgic_deliverable(v))
            break;
        lab_unlock();
        arm64_wfi();
        lab_lock();
        lab_gic_take(v);
    }
}

/* ---- addresses that are not memory ---- */
static void touch_nothing(const struct vcpu *v, uint64_t gpa, bool write)
{
    static uint64_t last_page;
    if (lab_firmware || last_page == gpa >> PAGE_SHIFT)
        return;
    last_page = gpa >> PAGE_SHIFT;
    log_warn("the guest %s physical address %#llx, where nothing is (pc %#llx)", write ? "writes" : "reads",
             (unsigned long long)gpa, (unsigned long long)v->pc);
}

static NORETURN void end_outside(const struct vcpu *v, const struct lab_access *a)
{
    log_err("the guest used physical address %#llx, which is not memory, for %s", (unsigned long long)a->gpa,
            a->walk ? "its page tables" : a->fetch ? "code" : "an access the lab can't decode");
    vcpu_dump(v);
    lab_end(LAB_END_TRIPLE, "the guest went where nothing is");
}

static void exit_abort(struct vcpu *v, unsigned class)
{
    uint32_t iss = ESR_ISS(v->esr), type = ESR_FSC_TYPE(iss);
    uint64_t value = UINT64_MAX;
    struct lab_access a = {
        .gpa = HPFAR_IPA(v->hpfar) | (iss & ESR_ISS_S1PTW ? 0 : v->far & PAGE_MASK),
        .fetch = class == ESR_EC_IABT_LOWER,
        .write = class == ESR_EC_DABT_LOWER && (iss & ESR_ISS_WNR),
        .walk = (iss & ESR_ISS_S1PTW) != 0,
        .present = type == ESR_FSC_PERMISSION,
    };
    if (type != ESR_FSC_TRANSLATION && type != ESR_FSC_PERMISSION && type != ESR_FSC_ADDRESS) {
        vcpu_dump(v);
        lab_end(LAB_END_FAULT, "an abort that second-stage tables do not make");
    }
    if (!a.present && nested_mapped(a.gpa))
        return;                         /* another processor was about to replace the entry */
    if (!balloon_gone(a.gpa) && isolation_fault(v, &a))
        return;
    if (a.fetch || a.walk || !(iss & ESR_ISS_ISV))
        end_outside(v, &a);

    unsigned bytes = ISS_ABORT_BYTES(iss), reg = ISS_ABORT_REG(iss);
    uint64_t mask = bytes == 8 ? UINT64_MAX : BIT(8 * bytes) - 1;
    if (a.write)
        value = vcpu_x(v, reg) & mask;
    if (balloon_gone(a.gpa)) {
        char text[128];
        ksnprintf(text, sizeof(text), "the guest %s physical address %#llx, which it has given to the host (pc %#llx)",
                  a.write ? "writes" : "reads", (unsigned long long)a.gpa, (unsigned long long)v->pc);
        report_violation(text);
    } else if (!vgic_access(v, a.gpa, a.write, bytes, &value) && !board_access(a.gpa, a.write, bytes, &value)) {
        touch_nothing(v, a.gpa, a.write);
    }
    if (!a.write) {
        value &= mask;
        if ((iss & ISS_ABORT_SIGNED) && (value >> (8 * bytes - 1) & 1))
            value |= ~mask;
        vcpu_set_x(v, reg, iss & ISS_ABORT_WIDE ? value : (uint32_t)value);
    }
    vcpu_advance(v);
}

/* ---- dispatch ---- */
static void exit_sync(struct vcpu *v)
{
    unsigned class = ESR_EC(v->esr);
    switch (class) {
    case ESR_EC_WFX:
        lab_count(CNT_EXIT_IDLE);
        if (!(ESR_ISS(v->esr) & ISS_WFX_KIND))
            wait_for_interrupt(v);
        vcpu_advance(v);
        return;
    case ESR_EC_HVC64:
        exit_hvc(v);
        return;
    case ESR_EC_SMC64:
        exit_smc(v);
        return;
    case ESR_EC_SYSREG:
        exit_sysreg(v);
        return;
    case ESR_EC_IABT_LOWER:
    case ESR_EC_DABT_LOWER:
        lab_count(CNT_EXIT_MEMORY);
        exit_abort(v, class);
        return;
    case ESR_EC_SVE:                    /* its ID registers show none of these */
    case ESR_EC_SME:
    case ESR_EC_LS64:
        vcpu_undefined(v);
        return;
    }
    if (debug_exit(v, class))
        return;
    vcpu_dump(v);
    lab_end(LAB_END_FAULT, "unexpected exit");
}

void exit_handle(struct vcpu *v, unsigned kind)
{
    switch (kind) {
    case EXIT_SYNC:
        exit_sync(v);
        break;
    case EXIT_SERROR:
        vcpu_dump(v);
        lab_end(LAB_END_FAULT, "a system error while the guest ran");
    default:
        lab_count(CNT_EXIT_INTERRUPT);
        if (lab_gic_take(v) && lab_options.profile_us)
            profile_sample(v);
        break;
    }
}
