/* SPDX-License-Identifier: BSD-2-Clause */
/* Memory as it is after a long life: for tests that want pages which lie nowhere together. */
#pragma once
#include "lib/list.h"
#include "mm/mm.h"
#include "tests/unit/test.h"

/* No four free pages lie together from now on; a quarter of what was free is kept for good. */
static inline void fragment_memory(void)
{
    struct list given = LIST_INIT(given), *node;
    paddr_t p;

    while (!pa_is_none(p = page_alloc(0)))
        if (p.v & (3 * PAGE_BYTES))
            list_push_back(&given, arch_phys_to_virt(p));
    while ((node = list_pop_front(&given)))
        page_free(arch_direct_to_phys(va_of(node)), 0);
    CHECK(pa_is_none(page_alloc(2)));
}
