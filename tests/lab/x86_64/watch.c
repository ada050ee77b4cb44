/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * mark_at=ADDRESS: a mark each time the guest comes to that instruction, named by the text its first argument points
 * to.
 *
 * For boot phases: the address is that of boot_phase_mark(const char *name). The guest is not changed and does not
 * notice: a debug register of this CPU matches, the exception is intercepted, and the instruction is resumed with RF
 * set. Assumes that the guest leaves DR0 and DR7 alone, which holds for kernels without a debugger.
 */
#include <string.h>
#include "tests/lab/x86_64/lab.h"

#define VECTOR_DB      1
#define DR7_GLOBAL_0   (1ull << 1)    /* execution, one byte: the other fields are 0 */
#define RFLAGS_RF      (1ull << 16)

void watch_arm(struct vcpu *v)
{
    uint64_t address = lab_options.mark_at;
    if (!address)
        return;
    /* QEMU's VMRUN takes DR7 over without arming what it says, so the lab's own is armed, too: lab_debug_entry. */
    __asm__ volatile("mov %0, %%dr0; mov %1, %%dr7" : : "r"(address), "r"(v->vmcb->save.dr7 | DR7_GLOBAL_0));
    v->vmcb->save.dr7 |= DR7_GLOBAL_0;
    v->vmcb->control.intercept_exceptions |= 1u << VECTOR_DB;
}

void exit_debug(struct vcpu *v)
{
    char name[48];
    size_t n = guest_fetch(v, v->gprs[GPR_RDI], name, sizeof(name) - 1);
    name[n] = '\0';
    for (char *c = name; *c; c++)
        if (*c <= ' ' || *c > '~')
            *c = '_';
    char mark[64];
    ksnprintf(mark, sizeof(mark), "phase-%s", name);
    report_mark(mark);
    v->vmcb->save.rflags |= RFLAGS_RF;
}
