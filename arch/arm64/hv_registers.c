/* SPDX-License-Identifier: BSD-2-Clause */
/* Names, images and feature words of the hypervisor interface of arm64; the contract is in hv_registers.h. */
#include <string.h>
#include "arch/arm64/hv_registers.h"

/* Pairs of ranges in the same order; single registers are ranges of one. */
static const struct { uint32_t msr, name, count; } names[] = {
    {HV_X64_MSR_GUEST_OS_ID, HV_REGISTER_GUEST_OS_ID, 1},
    {HV_X64_MSR_VP_INDEX, HV_REGISTER_VP_INDEX, 1},
    {HV_X64_MSR_VP_RUNTIME, HV_REGISTER_VP_RUNTIME, 1},
    {HV_X64_MSR_TIME_REF_COUNT, HV_REGISTER_TIME_REF_COUNT, 1},
    {HV_X64_MSR_REFERENCE_TSC, HV_REGISTER_REFERENCE_TSC, 1},
    {HV_X64_MSR_VP_ASSIST_PAGE, HV_REGISTER_VP_ASSIST_PAGE, 1},
    {HV_X64_MSR_SCONTROL, HV_REGISTER_SCONTROL, 1},
    {HV_X64_MSR_SVERSION, HV_REGISTER_SVERSION, 1},
    {HV_X64_MSR_SIEFP, HV_REGISTER_SIEFP, 1},
    {HV_X64_MSR_SIMP, HV_REGISTER_SIMP, 1},
    {HV_X64_MSR_EOM, HV_REGISTER_EOM, 1},
    {HV_X64_MSR_SINT0, HV_REGISTER_SINT0, HV_SYNIC_SINT_COUNT},
    {HV_X64_MSR_STIMER0_CONFIG, HV_REGISTER_STIMER0_CONFIG, 2 * HV_STIMER_COUNT},
    {HV_X64_MSR_GUEST_IDLE, HV_REGISTER_GUEST_IDLE, 1},
    {HV_X64_MSR_CRASH_P0, HV_REGISTER_CRASH_P0, HV_CRASH_PARAMETERS + 1},      /* and CRASH_CTL */
};
_Static_assert(HV_X64_MSR_CRASH_CTL == HV_X64_MSR_CRASH_P0 + 5 && HV_REGISTER_CRASH_CTL == HV_REGISTER_CRASH_P0 + 5,
               "the control register follows the parameters in both");

uint32_t arm64_hv_register(uint32_t msr)
{
    for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
        if (msr - names[i].msr < names[i].count)
            return names[i].name + (msr - names[i].msr);
    return 0;
}

/* ---- calls ---- */

static struct arm64_call registers_call(uint16_t code, uint32_t name, uint64_t value)
{
    return (struct arm64_call){{
        HV_SMCCC_FUNCTION, hv_control(code, 0, 1, 0) | HV_CONTROL_FAST,
        HV_PARTITION_ID_SELF, HV_VP_INDEX_SELF,          /* the trust level, 0: the current one, is in the high half */
        name, 0, value, 0,
    }};
}

struct arm64_call arm64_hv_get_call(uint32_t name) { return registers_call(HVCALL_GET_VP_REGISTERS, name, 0); }

struct arm64_call arm64_hv_set_call(uint32_t name, uint64_t value)
{
    return registers_call(HVCALL_SET_VP_REGISTERS, name, value);
}

struct hv_register_value arm64_hv_got(const struct arm64_call *call)
{
    return (struct hv_register_value){.low = call->x[6], .high = call->x[7]};
}

bool arm64_hv_succeeded(const struct arm64_call *call) { return hv_result_status(call->x[0]) == HV_STATUS_SUCCESS; }

/* ---- who is it ---- */

static bool answered(const struct arm64_call *answer, uint32_t a, uint32_t b, uint32_t c, uint32_t d)
{
    return (uint32_t)answer->x[0] == a && (uint32_t)answer->x[1] == b && (uint32_t)answer->x[2] == c &&
           (uint32_t)answer->x[3] == d;
}

bool arm64_hv_is_microsoft(const struct arm64_call *answer)
{
    return answered(answer, 0x4D32BA58, 0xCD244764, 0x8EEF6C75, 0x16597024);
}

const char *arm64_hv_other(const struct arm64_call *answer)
{
    if (answered(answer, 0xB66FB428, 0xE911C52E, 0x564BCAA9, 0x743A004D))
        return "KVMKVMKVM";
    return (uint32_t)answer->x[0] == UINT32_MAX ? "" : "unknown";
}

/* ---- feature words ---- */

void arm64_hv_words(uint32_t words[4], struct hv_register_value value)
{
    words[0] = (uint32_t)value.low, words[1] = (uint32_t)(value.low >> 32);
    words[2] = (uint32_t)value.high, words[3] = (uint32_t)(value.high >> 32);
}

static uint32_t move_bits(uint32_t word, const uint32_t (*moves)[2], size_t count)
{
    uint32_t moved = 0;
    for (size_t i = 0; i < count; i++)
        moved |= word & moves[i][0] ? moves[i][1] : 0;
    return moved;
}

/* There are no hints for TLB flushes, as the processors' own instruction reaches all of them, and no automatic end of
 * interrupt. */
void arm64_hv_features(struct arch_hv_features *f, struct hv_register_value privileges,
                       struct hv_register_value recommendations)
{
    static const uint32_t features[][2] = {
        {HV_ARM64_FEATURE_FREQUENCY, HV_FEATURE_FREQUENCY_MSRS},
        {HV_ARM64_FEATURE_CRASH, HV_FEATURE_CRASH_MSRS},
        {HV_ARM64_FEATURE_SINT_POLLING, HV_FEATURE_SINT_POLLING},
        {HV_ARM64_FEATURE_STIMER_DIRECT, HV_FEATURE_STIMER_DIRECT},
    }, hints[][2] = {
        {HV_ARM64_RECOMMEND_RELAXED_TIMING, HV_RECOMMEND_RELAXED_TIMING},
        {HV_ARM64_RECOMMEND_CLUSTER_IPI, HV_RECOMMEND_CLUSTER_IPI},
        {HV_ARM64_RECOMMEND_EX_PROCESSOR_MASKS, HV_RECOMMEND_EX_PROCESSOR_MASKS},
        {HV_ARM64_RECOMMEND_NESTED, HV_RECOMMEND_NESTED},
    };
    uint32_t words[4];

    arm64_hv_words(words, privileges);
    f->features[0] = words[0], f->features[1] = words[1], f->features[2] = 0;
    f->features[3] = move_bits(words[2], features, ARRAY_SIZE(features));
    arm64_hv_words(words, recommendations);
    f->hints[0] = move_bits(words[0], hints, ARRAY_SIZE(hints)) | HV_RECOMMEND_NO_AUTO_EOI;
    f->hints[1] = words[1], f->hints[2] = f->hints[3] = 0;
}
