/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The numbers of a TDX machine's calls: TDCALL to the module that guards it, and through that TDG.VP.VMCALL to the
 * host. Sources: Intel TDX module base architecture specification, and the guest-hypervisor communication interface
 * (GHCI, 344426); for hypercalls what Hyper-V's guests do.
 */
#pragma once
#include "hv/hv_wire.h"

/* TDCALL: RAX the leaf; back comes its status, zero for success. */
#define TDX_LEAF_VP_VMCALL            0ull
#define TDX_LEAF_MEM_PAGE_ACCEPT      6ull       /* RCX: page | level; level 0: 4 KiB */

/* TDG.VP.VMCALL: RCX names the registers that the host gets to see and to change, by their number in encodings. */
#define TDX_EXPOSE_RDX                (1ull << 2)
#define TDX_EXPOSE_R8                 (1ull << 8)
#define TDX_EXPOSE_R10                (1ull << 10)
#define TDX_EXPOSE_R11                (1ull << 11)
#define TDX_EXPOSE_R10_TO_R15         0xFC00ull

/* R10: 0 for what GHCI defines (R11 is then which); Hyper-V reads anything else as its control word. */
#define TDX_CALL_STANDARD             0ull
#define TDX_CALL_MSR_READ             31ull      /* R12: which; back: R11 */
#define TDX_CALL_MSR_WRITE            32ull      /* R12: which, R13: value */
#define TDX_CALL_MAP_GPA              0x10001ull /* R12: address, with the shared bit or without; R13: bytes */
/* R10 when it comes back. */
#define TDX_RESULT_SUCCESS            0ull
#define TDX_RESULT_RETRY              1ull       /* TDX_CALL_MAP_GPA: go on from the address in R11 */
