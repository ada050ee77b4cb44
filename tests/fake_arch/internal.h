/* SPDX-License-Identifier: BSD-2-Clause */
/* What the fake architecture's files say to one another. */
#pragma once
#include "tests/fake_arch/fake_arch.h"

void fake_memory_reset(uint64_t ram_bytes);
int fake_memory_file(void);                  /* descriptor of physical memory, ARCH_DIRECT_BYTES long */
void fake_withdrawn_reset(void);
void fake_close_withdrawn(uint64_t start, uint64_t bytes, uint64_t phys);   /* what of a mapping is withdrawn */
void fake_irq_reset(void);
void fake_log_reset(void);
void fake_log_dump(void);
