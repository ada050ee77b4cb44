/* SPDX-License-Identifier: BSD-2-Clause */
/* A new task's stack, in the shape that arch_context_switch (context.S) takes its registers from. */
#include "arch/arm64/arm64.h"

void arm64_context_start(void);

struct initial_frame { uint64_t x29, x30, x19, x20, x21, x22, x23, x24, x25, x26, x27, x28; };
_Static_assert(sizeof(struct initial_frame) == 96, "context.S takes it off");

void arch_context_init(struct arch_context *ctx, void *stack_top, void (*entry)(void *), void *arg)
{
    struct initial_frame *frame = (struct initial_frame *)((uintptr_t)stack_top & ~15ull) - 1;
    *frame = (struct initial_frame){.x19 = (uint64_t)entry, .x20 = (uint64_t)arg,
                                    .x30 = (uint64_t)arm64_context_start};
    ctx->sp = (uint64_t)frame;
}
