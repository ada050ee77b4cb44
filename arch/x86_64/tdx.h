/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Speaking with the host of a TDX machine, register by register. What goes into the registers is a function of memory
 * alone; the one instruction behind it is given, so that ordinary programs can play the other side. Only the registers
 * that a call needs are shown to the host.
 */
#pragma once
#include "arch/arch.h"
#include "arch/x86_64/tdx_wire.h"

/* In the order of isolation_calls.S. */
struct tdx_registers { uint64_t rax, rcx, rdx, r8, r9, r10, r11, r12, r13, r14, r15; };
_Static_assert(sizeof(struct tdx_registers) == 11 * 8, "isolation_calls.S loads and stores it");

/* TDCALL; false when the processor does not know it. */
typedef bool (*tdx_call_fn)(struct tdx_registers *r);

/* ---- what goes into the registers ---- */
struct tdx_registers tdx_put_msr(uint32_t msr, bool write, uint64_t value);
struct tdx_registers tdx_put_hypercall(uint64_t control, uint64_t in0, uint64_t in1);
struct tdx_registers tdx_put_map(uint64_t address, uint64_t bytes);
struct tdx_registers tdx_put_accept(paddr_t page);

/* ---- the exchange ---- */
bool tdx_msr_read(tdx_call_fn call, uint32_t msr, uint64_t *value);
bool tdx_msr_write(tdx_call_fn call, uint32_t msr, uint64_t value);
/* in0, in1: addresses of input and output, or the input itself where the control word has HV_CONTROL_FAST. */
uint64_t tdx_hypercall(tdx_call_fn call, uint64_t control, uint64_t in0, uint64_t in1);
/*
 * One page changes hands where no paravisor does it; shared_bit: the address bit that means "shared". True when all of
 * it was done. When not, the page is in a state that only the host knows and must not be used again by anyone.
 */
bool tdx_page_share(tdx_call_fn call, paddr_t page, uint64_t shared_bit);
bool tdx_page_unshare(tdx_call_fn call, paddr_t page);
