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
    /* Machines isolated by the processor: NULL for those that know no other kind than VBS, and whose host is not behind
     * anybody. */
    const char *(*isolation_init)(const struct arch_isolation *kind, struct arch_isolation_rules *rules);
    void (*message_page)(void *memory, gpa_t gpa);
    bool (*page)(paddr_t page, bool shared);
    bool (*host_reg_read)(uint32_t reg, uint64_t *value);
    bool (*host_reg_write)(uint32_t reg, uint64_t value);
    uint64_t (*host_hypercall)(uint64_t control, uint64_t in0, uint64_t in1);      /* both forms */
};
extern struct fake_hv_ops fake_hv_ops;
