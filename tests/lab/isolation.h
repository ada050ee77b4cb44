/* SPDX-License-Identifier: BSD-2-Clause */
/* Isolated machines in the lab: options, the two sides of memory, reports. isolation.c lists them. */
#pragma once
#include "tests/host/host.h"
#include "tests/lab/lab.h"

struct lab_access;
struct lab_isolation_settings { bool lenient; uint8_t boundary_bit; bool boundary_given; };
/* key: what follows "isolation", a dot included. false: unknown or malformed */
bool isolation_setting(struct lab_isolation_settings *s, struct host_config *host, const char *key, const char *text);
/* Before host_create, with all of the guest's memory in place; ends the lab when it can't be done. */
void isolation_start(const struct lab_isolation_settings *s, struct host_config *host);
/* The model's callback of that name. */
void isolation_visibility(void *ctx, uint64_t gpn, uint32_t visibility);
/* The host may see all of this; so it always is where nothing is isolated. */
bool isolation_any_visible(uint64_t gpa, uint64_t bytes);
/* Behind a hypercall of that vcpu: the others learn of pages that changed hands. */
void isolation_sync(const struct vcpu *v);
/* An access that second-stage tables refused: true when it was a race that is over, and may be made again. Ends the
 * lab when the guest touched a page on its wrong side. */
bool isolation_fault(const struct vcpu *v, const struct lab_access *access);
void isolation_report(void);                                    /* "lab-isolation: ..." */
