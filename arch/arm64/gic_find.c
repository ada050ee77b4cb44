/* SPDX-License-Identifier: BSD-2-Clause */
/* Which redistributor is whose: the walk from frame to frame, on numbers alone (tests/unit/test_arm64.c). */
#include "arch/arm64/gic.h"

bool gic_find_redistributor(uint32_t affinity, uint64_t bytes, bool one_by_one,
                            uint64_t (*typer)(void *context, uint64_t offset), void *context, uint64_t *offset)
{
    uint64_t step;
    for (uint64_t at = 0; at < bytes && bytes - at >= 2 * GICR_FRAME_BYTES; at += step) {
        uint64_t found = typer(context, at);
        step = found & GICR_TYPER_VLPIS && !one_by_one ? 4 * GICR_FRAME_BYTES : 2 * GICR_FRAME_BYTES;
        if (GICR_TYPER_AFFINITY(found) == affinity) {
            *offset = at;
            return true;
        }
        if (found & GICR_TYPER_LAST && !one_by_one)
            return false;
    }
    return false;
}
