/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * PSCI 1.0 (Arm DEN 0022) for the guest, by HVC or SMC: processors on and off, the end of the machine.
 *
 * A suspended processor waits for an interrupt and goes on behind the call, which is what a standby state does.
 */
#define LOG_ROOM "lab"
#include "tests/lab/arm64/vcpu.h"

#define PSCI_64BIT            0x40000000u
#define PSCI_VERSION          0x84000000u
#define PSCI_CPU_SUSPEND      0x84000001u
#define PSCI_CPU_OFF          0x84000002u
#define PSCI_CPU_ON           0x84000003u
#define PSCI_AFFINITY_INFO    0x84000004u
#define PSCI_MIGRATE_TYPE     0x84000006u
#define PSCI_SYSTEM_OFF       0x84000008u
#define PSCI_SYSTEM_RESET     0x84000009u
#define PSCI_FEATURES         0x8400000Au
#define PSCI_SYSTEM_RESET2    0x84000012u
#define SMCCC_VERSION         0x80000000u
#define PSCI_1_0              0x10000u
#define MIGRATE_NOT_NEEDED    2
#define AFFINITY_ON           0
#define AFFINITY_OFF          1
#define AFFINITY_ON_PENDING   2

#define PSCI_SUCCESS          0
#define PSCI_NOT_SUPPORTED    (-1)
#define PSCI_INVALID          (-2)
#define PSCI_ALREADY_ON       (-4)
#define PSCI_ON_PENDING       (-5)
#define PSCI_INVALID_ADDRESS  (-9)

static int64_t cpu_on(uint64_t mpidr, uint64_t entry, uint64_t context)
{
    struct vcpu *to = vcpu_of_mpidr(mpidr);
    if (!to)
        return PSCI_INVALID;
    if (entry % 4 || !nested_mapped(entry))
        return PSCI_INVALID_ADDRESS;
    if (to->state != VCPU_OFF)
        return to->state == VCPU_RUNNING ? PSCI_ALREADY_ON : PSCI_ON_PENDING;
    vcpu_start(to, entry, context);
    return PSCI_SUCCESS;
}

static int64_t affinity_info(uint64_t mpidr, uint64_t level)
{
    const struct vcpu *of = vcpu_of_mpidr(mpidr);
    if (!of || level != 0)
        return PSCI_INVALID;
    return of->state == VCPU_RUNNING ? AFFINITY_ON : of->state == VCPU_OFF ? AFFINITY_OFF : AFFINITY_ON_PENDING;
}

static bool all_off(void)
{
    for (unsigned i = 0; i < lab_vcpu_count; i++)
        if (lab_vcpus[i].state != VCPU_OFF)
            return false;
    return true;
}

static bool has_64bit_form(uint32_t function)
{
    return function == PSCI_CPU_SUSPEND || function == PSCI_CPU_ON || function == PSCI_AFFINITY_INFO ||
           function == PSCI_SYSTEM_RESET2;
}

static bool known(uint32_t function)
{
    switch (function) {
    case PSCI_VERSION:
    case PSCI_CPU_SUSPEND:
    case PSCI_CPU_OFF:
    case PSCI_CPU_ON:
    case PSCI_AFFINITY_INFO:
    case PSCI_MIGRATE_TYPE:
    case PSCI_SYSTEM_OFF:
    case PSCI_SYSTEM_RESET:
    case PSCI_FEATURES:
    case PSCI_SYSTEM_RESET2:
        return true;
    }
    return false;
}

/* The function without its bit for 64-bit arguments; 0: not one of these. */
static uint32_t plain(uint32_t function)
{
    uint32_t low = function & ~PSCI_64BIT;
    return known(low) && (low == function || has_64bit_form(low)) ? low : 0;
}

bool psci_call(struct vcpu *v)
{
    uint32_t function = plain((uint32_t)v->x[0]);
    bool wide = (uint32_t)v->x[0] & PSCI_64BIT;
    uint64_t a1 = wide ? v->x[1] : (uint32_t)v->x[1], a2 = wide ? v->x[2] : (uint32_t)v->x[2];
    uint64_t a3 = wide ? v->x[3] : (uint32_t)v->x[3];
    switch (function) {
    case PSCI_VERSION:
        v->x[0] = PSCI_1_0;
        return true;
    case PSCI_CPU_SUSPEND:
        wait_for_interrupt(v);
        v->x[0] = PSCI_SUCCESS;
        return true;
    case PSCI_CPU_OFF:
        v->state = VCPU_OFF;
        vgic_cpu_reset(v);
        if (all_off())
            lab_end(LAB_END_TRIPLE, "the guest has switched its last processor off: nobody can switch one on again");
        return true;
    case PSCI_CPU_ON:
        v->x[0] = (uint64_t)cpu_on(a1, a2, a3);
        return true;
    case PSCI_AFFINITY_INFO:
        v->x[0] = (uint64_t)affinity_info(a1, a2);
        return true;
    case PSCI_MIGRATE_TYPE:
        v->x[0] = MIGRATE_NOT_NEEDED;
        return true;
    case PSCI_SYSTEM_OFF:
        lab_end(LAB_END_POWER_OFF, "the guest powered off");
    case PSCI_SYSTEM_RESET:
    case PSCI_SYSTEM_RESET2:
        lab_end(LAB_END_REBOOT, "the guest reset the machine");
    case PSCI_FEATURES:
        v->x[0] = (uint32_t)a1 == SMCCC_VERSION || plain((uint32_t)a1) ? 0 : (uint64_t)PSCI_NOT_SUPPORTED;
        return true;
    }
    return false;
}
