/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * TDX calls: see tdx.h. Sources: GHCI; TDX module specification; Hyper-V's hypercalls after what its guests do.
 *
 * Two parties answer: the module in RAX (trusted), the host in the registers it was shown (not trusted).
 */
#include "arch/x86_64/tdx.h"

#define MAP_RETRIES 3        /* answers "retry" without progress, before a host is taken to refuse */

struct tdx_registers tdx_put_msr(uint32_t msr, bool write, uint64_t value)
{
    return (struct tdx_registers){
        .rax = TDX_LEAF_VP_VMCALL, .rcx = TDX_EXPOSE_R10_TO_R15, .r10 = TDX_CALL_STANDARD,
        .r11 = write ? TDX_CALL_MSR_WRITE : TDX_CALL_MSR_READ, .r12 = msr, .r13 = value,
    };
}

struct tdx_registers tdx_put_hypercall(uint64_t control, uint64_t in0, uint64_t in1)
{
    return (struct tdx_registers){
        .rax = TDX_LEAF_VP_VMCALL, .rcx = TDX_EXPOSE_RDX | TDX_EXPOSE_R8 | TDX_EXPOSE_R10 | TDX_EXPOSE_R11,
        .r10 = control, .rdx = in0, .r8 = in1,
    };
}

struct tdx_registers tdx_put_map(uint64_t address, uint64_t bytes)
{
    return (struct tdx_registers){
        .rax = TDX_LEAF_VP_VMCALL, .rcx = TDX_EXPOSE_R10_TO_R15, .r10 = TDX_CALL_STANDARD, .r11 = TDX_CALL_MAP_GPA,
        .r12 = address, .r13 = bytes,
    };
}

struct tdx_registers tdx_put_accept(paddr_t page)
{
    return (struct tdx_registers){.rax = TDX_LEAF_MEM_PAGE_ACCEPT, .rcx = page.v};
}

/* A call that GHCI defines: did the host serve it? */
static bool standard(tdx_call_fn call, struct tdx_registers *r)
{
    return call(r) && r->rax == 0 && r->r10 == TDX_RESULT_SUCCESS;
}

bool tdx_msr_read(tdx_call_fn call, uint32_t msr, uint64_t *value)
{
    struct tdx_registers r = tdx_put_msr(msr, false, 0);

    if (!standard(call, &r))
        return false;
    *value = r.r11;
    return true;
}

bool tdx_msr_write(tdx_call_fn call, uint32_t msr, uint64_t value)
{
    struct tdx_registers r = tdx_put_msr(msr, true, value);

    return standard(call, &r);
}

uint64_t tdx_hypercall(tdx_call_fn call, uint64_t control, uint64_t in0, uint64_t in1)
{
    struct tdx_registers r = tdx_put_hypercall(control, in0, in1);

    if (!call(&r) || r.rax != 0)
        return HV_STATUS_OPERATION_FAILED;
    return r.r11 & (HV_RESULT_STATUS_MASK | HV_CONTROL_REP_MASK << HV_RESULT_REPS_SHIFT);
}

/* One page is mapped whole or not at all: "retry" can only mean the same address again. */
static bool map_page(tdx_call_fn call, uint64_t address)
{
    for (unsigned i = 0; i <= MAP_RETRIES; i++) {
        struct tdx_registers r = tdx_put_map(address, PAGE_BYTES);
        if (!call(&r) || r.rax != 0)
            return false;
        if (r.r10 != TDX_RESULT_RETRY)
            return r.r10 == TDX_RESULT_SUCCESS;
        if (r.r11 != address)
            return false;
    }
    return false;
}

bool tdx_page_share(tdx_call_fn call, paddr_t page, uint64_t shared_bit)
{
    return map_page(call, page.v | shared_bit);
}

/* A page that was accepted before is one that the host put in place of ours: not taken for success. */
bool tdx_page_unshare(tdx_call_fn call, paddr_t page)
{
    struct tdx_registers accept = tdx_put_accept(page);

    return map_page(call, page.v) && call(&accept) && accept.rax == 0;
}
