/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What is the same on both architectures: frame records, of which each points to its caller's with the return address
 * behind, and the table of instructions that may fault.
 */
#include "arch/shared.h"

#define FRAME_STEP_MAX (1u << 20)    /* two frames of one stack are not farther apart */

/* Bounds of .fixup, from the linker script. */
struct fixup { uint64_t at, resume; };
extern const struct fixup exception_fixups_start[], exception_fixups_end[];

unsigned arch_backtrace(uint64_t frame, uint64_t *pcs, unsigned max)
{
    unsigned n = 0;
    if (frame == 0)
        frame = arch_frame_pointer();
    while (n < max) {
        uint64_t next, pc;
        if (frame < ARCH_DIRECT_BASE || !IS_ALIGNED(frame, 8ull) || !arch_read64_safe(frame, &next) ||
            !arch_read64_safe(frame + 8, &pc) || pc == 0)
            break;
        pcs[n++] = pc;
        if (next <= frame || next - frame > FRAME_STEP_MAX)
            break;
        frame = next;
    }
    return n;
}

bool arch_resume_at_fixup(uint64_t *pc)
{
    for (const struct fixup *x = exception_fixups_start; x < exception_fixups_end; x++) {
        if (x->at == *pc) {
            *pc = x->resume;
            return true;
        }
    }
    return false;
}
