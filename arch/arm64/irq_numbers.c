/* SPDX-License-Identifier: BSD-2-Clause */
/* Which interrupt is whose, on numbers alone (tests/unit/test_arm64.c); the contract is in irq_numbers.h. */
#include "arch/arm64/irq_numbers.h"
#include "arch/arm64/gic.h"

#define VMBUS_DEFAULT  18        /* what Hyper-V's firmware and OpenVMM use; PPI 2 */
#define STIMER_DEFAULT 17        /* PPI 1: Hyper-V's firmware has its own synthetic timer there */

/* The number wanted, or the next PPI that neither of the others has. */
static uint32_t free_number(uint32_t wanted, uint32_t a, uint32_t b)
{
    while (wanted == a || wanted == b)
        wanted = wanted + 1 == GIC_SPI_FIRST ? GIC_PPI_FIRST : wanted + 1;
    return wanted;
}

bool arm64_irq_choose(uint32_t timer, uint32_t vmbus_told, struct arm64_irq_numbers *numbers)
{
    bool usable = gic_is_ppi(vmbus_told) && vmbus_told != timer;
    numbers->timer = timer;
    numbers->vmbus = usable ? vmbus_told : free_number(VMBUS_DEFAULT, timer, timer);
    numbers->stimer = free_number(STIMER_DEFAULT, timer, numbers->vmbus);
    return usable || vmbus_told == 0;
}
