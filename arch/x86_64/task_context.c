/* SPDX-License-Identifier: BSD-2-Clause */
/* A new task's stack, in the shape that arch_context_switch (context.S) takes its registers from. */
#include "arch/x86_64/x86.h"

void x86_context_start(void);

struct initial_frame { uint64_t r15, r14, r13, r12, rbx, rbp, rip, pad; };

void arch_context_init(struct arch_context *ctx, void *stack_top, void (*entry)(void *), void *arg)
{
    struct initial_frame *frame = (struct initial_frame *)((uintptr_t)stack_top & ~15ull) - 1;
    *frame = (struct initial_frame){.r12 = (uint64_t)entry, .r13 = (uint64_t)arg, .rip = (uint64_t)x86_context_start};
    ctx->sp = (uint64_t)frame;
}
