/* SPDX-License-Identifier: BSD-2-Clause */
/* The hypervisor interface of the fake architecture: the functions of fake_hv_ops behind the names of arch.h. */
#include "tests/fake_arch/fake_hv.h"
#include <string.h>
#include "hv/hv_wire.h"

struct fake_hv_ops fake_hv_ops;
static bool hypercalls_on;

bool arch_hv_discover(struct arch_hv_features *features)
{
    memset(features, 0, sizeof(*features));
    return fake_hv_ops.discover && fake_hv_ops.discover(features);
}

bool arch_hv_reg_read(uint32_t reg, uint64_t *value)
{
    return fake_hv_ops.reg_read && fake_hv_ops.reg_read(reg, value);
}
bool arch_hv_reg_write(uint32_t reg, uint64_t value)
{
    return fake_hv_ops.reg_write && fake_hv_ops.reg_write(reg, value);
}

/* As on x86_64: through the hypercall register, so that the host's rules for it are tested. */
bool arch_hv_hypercall_enable(paddr_t page, vaddr_t mapped)
{
    uint64_t value;
    (void)mapped;
    if (!arch_hv_reg_read(HV_X64_MSR_HYPERCALL, &value))
        return false;
    value = (value & HV_MSR_PAGE_PRESERVE_MASK) | page.v | HV_MSR_PAGE_ENABLE;
    if (!arch_hv_reg_write(HV_X64_MSR_HYPERCALL, value) || !arch_hv_reg_read(HV_X64_MSR_HYPERCALL, &value))
        return false;
    hypercalls_on = (value & HV_MSR_PAGE_ENABLE) && (value & HV_MSR_PAGE_GPA_MASK) == page.v;
    return hypercalls_on;
}

void arch_hv_hypercall_disable(void)
{
    uint64_t value;
    if (hypercalls_on && arch_hv_reg_read(HV_X64_MSR_HYPERCALL, &value))
        arch_hv_reg_write(HV_X64_MSR_HYPERCALL, value & HV_MSR_PAGE_PRESERVE_MASK);
    hypercalls_on = false;
}

uint64_t arch_hypercall(uint64_t control, gpa_t input, gpa_t output)
{
    return hypercalls_on && fake_hv_ops.hypercall ? fake_hv_ops.hypercall(control, input.v, output.v)
                                                  : HV_STATUS_INVALID_HYPERCALL_CODE;
}

static uint64_t hypercall_fast(uint64_t control, uint64_t in0, uint64_t in1)
{
    return hypercalls_on && fake_hv_ops.hypercall_fast
               ? fake_hv_ops.hypercall_fast(control | HV_CONTROL_FAST, in0, in1) : HV_STATUS_INVALID_HYPERCALL_CODE;
}

/* ---- isolated machines ---- */

const char *arch_isolation_init(const struct arch_isolation *kind, struct arch_isolation_rules *rules)
{
    *rules = (struct arch_isolation_rules){0};
    if (fake_hv_ops.isolation_init)
        return fake_hv_ops.isolation_init(kind, rules);
    return kind->type == HV_ISOLATION_VBS ? NULL : "of which the fake machine knows nothing";
}

void arch_isolation_message_page(void *memory, gpa_t gpa)
{
    if (fake_hv_ops.message_page)
        fake_hv_ops.message_page(memory, gpa);
}

bool arch_isolation_page(paddr_t page, bool shared) { return fake_hv_ops.page && fake_hv_ops.page(page, shared); }

bool arch_host_reg_read(uint32_t reg, uint64_t *value)
{
    return fake_hv_ops.host_reg_read ? fake_hv_ops.host_reg_read(reg, value) : arch_hv_reg_read(reg, value);
}

bool arch_host_reg_write(uint32_t reg, uint64_t value)
{
    return fake_hv_ops.host_reg_write ? fake_hv_ops.host_reg_write(reg, value) : arch_hv_reg_write(reg, value);
}

uint64_t arch_host_hypercall(uint64_t control, gpa_t input)
{
    return fake_hv_ops.host_hypercall ? fake_hv_ops.host_hypercall(control, input.v, 0)
                                      : arch_hypercall(control, input, (gpa_t){0});
}

uint64_t arch_host_hypercall_fast(uint64_t control, uint64_t in0, uint64_t in1)
{
    return fake_hv_ops.host_hypercall ? fake_hv_ops.host_hypercall(control | HV_CONTROL_FAST, in0, in1)
                                      : hypercall_fast(control, in0, in1);
}
