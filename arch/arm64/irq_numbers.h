/* SPDX-License-Identifier: BSD-2-Clause */
/* Two uses of one interrupt number would be our end: a level that nobody silences. So whatever the tables tell, each
 * use gets a PPI of its own. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

struct arm64_irq_numbers { uint32_t timer, vmbus, stimer; };
/* timer: a PPI. vmbus_told: what the tables tell, 0 nothing. False: they tell what can't be, another one is taken. */
bool arm64_irq_choose(uint32_t timer, uint32_t vmbus_told, struct arm64_irq_numbers *numbers);
