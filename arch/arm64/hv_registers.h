/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the hypervisor interface of arm64 puts into which register, and how its words translate into those that hv/
 * knows from x86_64. Plain functions on numbers, so that they are tested without the processor
 * (tests/unit/test_arm64.c). Source: TLFS, hypercall interface of arm64 and feature discovery; what OpenVMM and Linux
 * make of it where they differ.
 */
#pragma once
#include "arch/arch.h"
#include "arch/arm64/smccc.h"
#include "hv/hv_wire.h"

#define HV_SMCCC_FUNCTION 0x46000001u     /* yielding, 64 bits, vendor's hypervisor service 1; the control word in x1 */

/* The virtual processor register behind an MSR number of hv_wire.h; 0: arm64 has none. */
uint32_t arm64_hv_register(uint32_t msr);

/* HVCALL_GET_VP_REGISTERS and HVCALL_SET_VP_REGISTERS for one register of this processor, fast, by HVC #0. Sixteen
 * bytes of header and four of name are rounded up to a pair of registers, so the value comes back in x6 and x7. */
struct arm64_call arm64_hv_get_call(uint32_t name);
struct arm64_call arm64_hv_set_call(uint32_t name, uint64_t value);
struct hv_register_value arm64_hv_got(const struct arm64_call *call);
/* Did the one repetition succeed? */
bool arm64_hv_succeeded(const struct arm64_call *call);

/* The answer to SMCCC_VENDOR_HYP_UID. */
bool arm64_hv_is_microsoft(const struct arm64_call *answer);
/* A name for the others: "KVMKVMKVM", "another hypervisor", or "" when nobody answered. */
const char *arm64_hv_other(const struct arm64_call *answer);

/* HV_REGISTER_PRIVILEGES and HV_REGISTER_FEATURES as leaves 3 and 4: what sits at other bits is moved. */
void arm64_hv_features(struct arch_hv_features *f, struct hv_register_value privileges,
                       struct hv_register_value recommendations);
/* The four words of a register that has the layout of a leaf. */
void arm64_hv_words(uint32_t words[4], struct hv_register_value value);
