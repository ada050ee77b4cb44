/* SPDX-License-Identifier: BSD-2-Clause */
/* Machines isolated by the processor: between isolation.c and hv.c. */
#pragma once
#include "arch/x86_64/x86.h"

/* Has somebody else than the hypercall page the way to the host? (A paravisor owns that page.) */
bool x86_isolation_owns_host(void);
/* Is there no hypercall page at all? */
bool x86_isolation_without_page(void);
/* A hypercall for which there is no page: past a paravisor to the host, or the status of an unknown call. */
uint64_t x86_isolation_call(bool to_host, uint64_t control, uint64_t rdx, uint64_t r8);
