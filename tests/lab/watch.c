/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * mark_at=ADDRESS: a mark each time the guest comes to that instruction, named by the text its first argument points
 * to.
 *
 * For boot phases: the address is that of boot_phase_mark(const char *name). The guest is not changed and does not
 * notice. Assumes that the guest leaves the processor's debug registers alone, which holds for kernels without a
 * debugger.
 */
#include "tests/lab/machine.h"

void watch_arm(struct vcpu *v)
{
    if (lab_options.mark_at)
        machine_watch(v, lab_options.mark_at);
}

void watch_hit(const struct vcpu *v)
{
    char name[48], mark[64];
    size_t n = guest_fetch(v, vcpu_argument(v), name, sizeof(name) - 1);
    name[n] = '\0';
    for (char *c = name; *c; c++)
        if (*c <= ' ' || *c > '~')
            *c = '_';
    ksnprintf(mark, sizeof(mark), "phase-%s", name);
    report_mark(mark);
}
