/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * How arm64 reaches the hypervisor: HVC #0 by the SMC calling convention for everything; virtual processor registers
 * take the place of MSRs and CPUID. Source: TLFS, hypercall interface of arm64 and feature discovery.
 *
 * A Hyper-V host is recognised by either of two signs: its answer to the call that asks whose hypervisor services there
 * are, or its name in ACPI's FADT (older guests know this one alone, and hosts exist that give only one of the two).
 * Nobody is asked at EL2, where nobody is beneath; and where the processor does not know HVC the question costs a
 * caught exception.
 *
 * The hypervisor repeats a hypercall that it could not finish by itself: it steps back to the instruction with the new
 * control word in x1. So control goes in and out.
 */
#define LOG_ROOM "hv"
#include <string.h>
#include "arch/arm64/arm64.h"
#include "arch/arm64/hv_registers.h"

static bool present;     /* somebody takes HVC and is Hyper-V: registers exist */
static bool callable;    /* between hypercall_enable and _disable, as with x86_64's page */

static bool register_value(uint32_t name, struct hv_register_value *value)
{
    struct arm64_call call = arm64_hv_get_call(name);
    bool ok = arm64_hvc(&call) && arm64_hv_succeeded(&call);

    *value = ok ? arm64_hv_got(&call) : (struct hv_register_value){0, 0};
    return ok;
}

static void register_words(uint32_t name, uint32_t words[4])
{
    struct hv_register_value value;

    register_value(name, &value);
    arm64_hv_words(words, value);
}

/* Hosts exist that answer zero here and serve VMBus all the same; other guests do not ask at all. */
static void assume_privileges(struct arch_hv_features *f)
{
    struct hv_register_value value;

    f->features[0] = HV_ACCESS_HYPERCALL | HV_ACCESS_SYNIC | HV_ACCESS_VP_INDEX;
    if (register_value(HV_REGISTER_TIME_REF_COUNT, &value) && value.low != 0)
        f->features[0] |= HV_ACCESS_REFERENCE_COUNTER;
    log_info("the host announces no privileges: taking those that VMBus needs for granted");
}

/* An isolated machine whose host does not say how must not be taken for an ordinary one. */
static void read_isolation(struct arch_hv_features *f)
{
    struct hv_register_value value;

    if (register_value(HV_REGISTER_ISOLATION_CONFIG, &value))
        arm64_hv_words(f->isolation, value);
    else
        f->isolation[1] = HV_ISOLATION_EBX_TYPE_MASK;
}

bool arch_hv_discover(struct arch_hv_features *f)
{
    struct arm64_call who = {{SMCCC_VENDOR_HYP_UID}};
    struct hv_register_value privileges, recommendations;

    memset(f, 0, sizeof(*f));
    present = false;
    if (!arm64_has_hypervisor())
        return false;
    if (!arm64_hvc(&who)) {
        if (arm64_platform.hyperv)
            log_warn("ACPI names Hyper-V, but there is nobody to be called");
        return false;
    }
    present = arm64_platform.hyperv || arm64_hv_is_microsoft(&who);
    ksnprintf(f->vendor, sizeof(f->vendor), "%s", present ? "Microsoft Hv" : arm64_hv_other(&who));
    if (!present)
        return false;
    register_words(HV_REGISTER_HYPERVISOR_VERSION, f->version);
    register_value(HV_REGISTER_PRIVILEGES, &privileges);
    register_value(HV_REGISTER_FEATURES, &recommendations);
    arm64_hv_features(f, privileges, recommendations);
    register_words(HV_REGISTER_LIMITS, f->limits);
    f->max_leaf = HV_CPUID_ISOLATION;
    if (f->features[1] & HV_PRIV_ISOLATION)
        read_isolation(f);
    if (f->features[0] == 0)
        assume_privileges(f);
    return true;
}

bool arch_hv_reg_read(uint32_t reg, uint64_t *value)
{
    struct hv_register_value got = {0, 0};
    uint32_t name = arm64_hv_register(reg);
    bool ok = present && name != 0 && register_value(name, &got);

    *value = got.low;
    return ok;
}

bool arch_hv_reg_write(uint32_t reg, uint64_t value)
{
    uint32_t name = arm64_hv_register(reg);
    struct arm64_call call = arm64_hv_set_call(name, value);

    return present && name != 0 && arm64_hvc(&call) && arm64_hv_succeeded(&call);
}

bool arch_hv_hypercall_enable(paddr_t page, vaddr_t mapped)
{
    (void)page, (void)mapped;
    callable = present;
    return callable;
}

void arch_hv_hypercall_disable(void) { callable = false; }

/* By the convention x4 to x17 may come back changed. */
static inline uint64_t call(uint64_t control, uint64_t in0, uint64_t in1)
{
    register uint64_t x0 __asm__("x0") = HV_SMCCC_FUNCTION;
    register uint64_t x1 __asm__("x1") = control;
    register uint64_t x2 __asm__("x2") = in0;
    register uint64_t x3 __asm__("x3") = in1;

    if (!callable)
        return HV_STATUS_INVALID_HYPERCALL_CODE;
    __asm__ volatile("hvc #0"
                     : "+r"(x0), "+r"(x1), "+r"(x2), "+r"(x3)
                     : : "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x14", "x15", "x16", "x17",
                         "memory", "cc");
    return x0;
}

uint64_t arch_hypercall(uint64_t control, gpa_t input, gpa_t output) { return call(control, input.v, output.v); }

uint64_t arch_host_hypercall_fast(uint64_t control, uint64_t in0, uint64_t in1)
{
    return call(control | HV_CONTROL_FAST, in0, in1);
}
