/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tlfs_regs.c: HVCALL_GET_VP_REGISTERS and HVCALL_SET_VP_REGISTERS (TLFS: HV_REGISTER_NAME).
 *
 * On arm64 this is the only way to the registers that x86_64 has as MSRs; the two share one implementation,
 * so most names are translated to their MSR here. Only the caller's own processor in its own partition is
 * served.
 */
#include "tests/host/host_internal.h"

/* The MSR of a register name; 0: there is none. */
static uint32_t msr_of(uint32_t name)
{
    if (name >= HV_REGISTER_SINT0 && name <= HV_REGISTER_SINT15)
        return HV_X64_MSR_SINT0 + (name - HV_REGISTER_SINT0);
    if (name >= HV_REGISTER_STIMER0_CONFIG && name <= HV_REGISTER_STIMER3_COUNT)
        return HV_X64_MSR_STIMER0_CONFIG + (name - HV_REGISTER_STIMER0_CONFIG);
    if (name >= HV_REGISTER_CRASH_P0 && name <= HV_REGISTER_CRASH_CTL)
        return HV_X64_MSR_CRASH_P0 + (name - HV_REGISTER_CRASH_P0);
    switch (name) {
    case HV_REGISTER_PROCESSOR_FREQUENCY:
        return HV_X64_MSR_TSC_FREQUENCY;
    case HV_REGISTER_INTERRUPT_FREQUENCY:
        return HV_X64_MSR_APIC_FREQUENCY;
    case HV_REGISTER_GUEST_IDLE:
        return HV_X64_MSR_GUEST_IDLE;
    case HV_REGISTER_VP_RUNTIME:
        return HV_X64_MSR_VP_RUNTIME;
    case HV_REGISTER_GUEST_OS_ID:
        return HV_X64_MSR_GUEST_OS_ID;
    case HV_REGISTER_VP_INDEX:
        return HV_X64_MSR_VP_INDEX;
    case HV_REGISTER_TIME_REF_COUNT:
        return HV_X64_MSR_TIME_REF_COUNT;
    case HV_REGISTER_VP_ASSIST_PAGE:
        return HV_X64_MSR_VP_ASSIST_PAGE;
    case HV_REGISTER_REFERENCE_TSC:
        return HV_X64_MSR_REFERENCE_TSC;
    case HV_REGISTER_SCONTROL:
        return HV_X64_MSR_SCONTROL;
    case HV_REGISTER_SVERSION:
        return HV_X64_MSR_SVERSION;
    case HV_REGISTER_SIEFP:
        return HV_X64_MSR_SIEFP;
    case HV_REGISTER_SIMP:
        return HV_X64_MSR_SIMP;
    case HV_REGISTER_EOM:
        return HV_X64_MSR_EOM;
    default:
        return 0;
    }
}

static void from_cpuid(struct host *h, uint32_t vp, uint32_t leaf, struct hv_register_value *out)
{
    uint32_t regs[4] = {0, 0, 0, 0};

    host_cpuid(h, vp, leaf, 0, regs);
    out->low = regs[0] | (uint64_t)regs[1] << 32;
    out->high = regs[2] | (uint64_t)regs[3] << 32;
}

/* arm64 keeps its features in word 2, at bits of their own. */
static void arm64_privileges(struct host *h, struct hv_register_value *out)
{
    uint32_t word = 0;

    if (h->cfg.features & HV_FEATURE_FREQUENCY_MSRS)
        word |= HV_ARM64_FEATURE_FREQUENCY;
    if (h->cfg.features & HV_FEATURE_CRASH_MSRS)
        word |= HV_ARM64_FEATURE_CRASH;
    if (h->cfg.features & HV_FEATURE_STIMER_DIRECT)
        word |= HV_ARM64_FEATURE_STIMER_DIRECT;
    out->high = word;
}

/* Hints too, and those that make no sense there are absent: its TLBs are flushed by an instruction. */
static void arm64_recommendations(struct hv_register_value *out)
{
    uint32_t leaf = (uint32_t)out->low, word = 0;

    if (leaf & HV_RECOMMEND_RELAXED_TIMING)
        word |= HV_ARM64_RECOMMEND_RELAXED_TIMING;
    if (leaf & HV_RECOMMEND_CLUSTER_IPI)
        word |= HV_ARM64_RECOMMEND_CLUSTER_IPI;
    if (leaf & HV_RECOMMEND_EX_PROCESSOR_MASKS)
        word |= HV_ARM64_RECOMMEND_EX_PROCESSOR_MASKS;
    if (leaf & HV_RECOMMEND_NESTED)
        word |= HV_ARM64_RECOMMEND_NESTED;
    out->low = (out->low & ~(uint64_t)UINT32_MAX) | word;
}

static uint16_t read_one(struct host *h, uint32_t vp, uint32_t name, struct hv_register_value *out)
{
    uint64_t value = 0;

    out->low = out->high = 0;
    switch (name) {
    case HV_REGISTER_HYPERVISOR_VERSION:
        from_cpuid(h, vp, HV_CPUID_VERSION, out);
        return HV_STATUS_SUCCESS;
    case HV_REGISTER_PRIVILEGES:
        from_cpuid(h, vp, HV_CPUID_FEATURES, out);
        if (h->cfg.arm64)
            arm64_privileges(h, out);
        return HV_STATUS_SUCCESS;
    case HV_REGISTER_FEATURES:
        from_cpuid(h, vp, HV_CPUID_RECOMMENDATIONS, out);
        if (h->cfg.arm64)
            arm64_recommendations(out);
        return HV_STATUS_SUCCESS;
    case HV_REGISTER_LIMITS:
        from_cpuid(h, vp, HV_CPUID_LIMITS, out);
        return HV_STATUS_SUCCESS;
    case HV_REGISTER_HARDWARE:
        from_cpuid(h, vp, HV_CPUID_HARDWARE, out);
        return HV_STATUS_SUCCESS;
    case HV_REGISTER_ISOLATION_CONFIG:
        from_cpuid(h, vp, HV_CPUID_ISOLATION, out);
        return HV_STATUS_SUCCESS;
    case HV_REGISTER_VSM_VP_STATUS:
    case HV_REGISTER_VSM_PARTITION_STATUS:
        return h->cfg.privileges & HV_PRIV_ACCESS_VSM ? HV_STATUS_SUCCESS : HV_STATUS_ACCESS_DENIED;
    default:
        break;
    }
    if (msr_of(name) == 0 || !host_rdmsr(h, vp, msr_of(name), &value))
        return HV_STATUS_INVALID_PARAMETER;
    out->low = value;
    return HV_STATUS_SUCCESS;
}

static uint16_t check_header(struct host *h, uint32_t vp, const struct hv_vp_registers *in)
{
    if (in->partition_id != HV_PARTITION_ID_SELF)
        return HV_STATUS_ACCESS_DENIED;
    if (in->vp_index != HV_VP_INDEX_SELF && in->vp_index != vp)
        return HV_STATUS_INVALID_VP_INDEX;
    if (in->reserved[0] || in->reserved[1] || in->reserved[2]) {
        host_strict(h, in, sizeof(*in), "VP registers: reserved bytes set");
        return HV_STATUS_INVALID_PARAMETER;
    }
    if ((in->target_vtl & HV_INPUT_VTL_USE) && (in->target_vtl & HV_INPUT_VTL_MASK))
        return HV_STATUS_INVALID_VTL_STATE;
    return HV_STATUS_SUCCESS;
}

uint64_t host_get_vp_registers(struct host *h, uint32_t vp, const uint8_t *in, const uint32_t *names,
                               uint32_t start, uint32_t count, struct hv_register_value *out)
{
    struct hv_vp_registers header;
    uint16_t status;

    memcpy(&header, in, sizeof(header));
    status = check_header(h, vp, &header);
    for (uint32_t i = start; status == HV_STATUS_SUCCESS && i < count; i++) {
        status = read_one(h, vp, names[i], &out[i]);
        if (status != HV_STATUS_SUCCESS)
            return hv_result(status, (uint16_t)i);
    }
    return hv_result(status, (uint16_t)(status == HV_STATUS_SUCCESS ? count : start));
}

uint64_t host_set_vp_registers(struct host *h, uint32_t vp, const uint8_t *in,
                               const struct hv_register_assignment *list, uint32_t start, uint32_t count)
{
    struct hv_vp_registers header;
    uint16_t status;

    memcpy(&header, in, sizeof(header));
    status = check_header(h, vp, &header);
    if (status != HV_STATUS_SUCCESS)
        return hv_result(status, (uint16_t)start);
    for (uint32_t i = start; i < count; i++) {
        uint32_t msr = msr_of(list[i].name);
        if (msr == 0 || !host_wrmsr(h, vp, msr, list[i].value.low))
            return hv_result(HV_STATUS_INVALID_PARAMETER, (uint16_t)i);
    }
    return hv_result(HV_STATUS_SUCCESS, (uint16_t)count);
}
