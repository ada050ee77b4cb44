/* SPDX-License-Identifier: BSD-2-Clause */
/* The fake architecture's hypervisor: whatever transport the test installs; NULL functions mean bare metal. */
#pragma once
#include "arch/arch.h"

struct fake_hv_ops {
    bool (*discover)(struct arch_hv_features *features);
    bool (*reg_read)(uint32_t reg, uint64_t *value);
    bool (*reg_write)(uint32_t reg, uint64_t value);
    uint64_t (*hypercall)(uint64_t control, uint64_t input, uint64_t output);
    uint64_t (*hypercall_fast)(uint64_t control, uint64_t in0, uint64_t in1);
};
extern struct fake_hv_ops fake_hv_ops;
