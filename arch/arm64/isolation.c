/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Isolated machines. Where the hypervisor guards the memory itself (VBS), registers, hypercalls and page changes go the
 * ordinary ways; nobody else is between us and the host. Realms (Arm CCA) would take calls to the realm's monitor for
 * every page, and page tables that say which memory is private: they are refused. Source: TLFS, isolation.
 */
#include "arch/arm64/arm64.h"
#include "hv/hv_wire.h"

const char *arch_isolation_init(const struct arch_isolation *kind, struct arch_isolation_rules *rules)
{
    *rules = (struct arch_isolation_rules){0};
    switch (kind->type) {
    case HV_ISOLATION_VBS:
        return NULL;
    case HV_ISOLATION_CCA:
        return "as a realm, which would take calls to the realm management monitor";
    case HV_ISOLATION_SNP:
    case HV_ISOLATION_TDX:
        return "in a way that this processor does not have";
    default:
        return "of which nothing is known here";
    }
}

/* Nothing follows from the one kind that is lived in. */
void arch_isolation_message_page(void *memory, gpa_t gpa) { (void)memory, (void)gpa; }
bool arch_isolation_page(paddr_t page, bool shared) { return (void)page, (void)shared, false; }

bool arch_host_reg_read(uint32_t reg, uint64_t *value) { return arch_hv_reg_read(reg, value); }
bool arch_host_reg_write(uint32_t reg, uint64_t value) { return arch_hv_reg_write(reg, value); }
uint64_t arch_host_hypercall(uint64_t control, gpa_t input) { return arch_hypercall(control, input, (gpa_t){0}); }
