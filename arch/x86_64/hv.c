/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * How x86_64 reaches the hypervisor: CPUID for discovery, synthetic MSRs for registers, the hypercall page for calls
 * (never VMMCALL or VMCALL directly: the page knows which). Source: TLFS, "Feature discovery" and "Hypercall
 * interface".
 */
#define LOG_ROOM "hv"
#include <string.h>
#include "arch/x86_64/isolation.h"
#include "hv/hv_wire.h"

static const void *hypercall_page;
static const void *host_page;       /* the same page; NULL where a paravisor owns it and the host is behind */

static void read_leaf(uint32_t leaf, uint32_t words[4])
{
    struct x86_cpuid r = x86_cpuid(leaf, 0);
    words[0] = r.eax, words[1] = r.ebx, words[2] = r.ecx, words[3] = r.edx;
}

bool arch_hv_discover(struct arch_hv_features *f)
{
    struct x86_cpuid vendor;
    memset(f, 0, sizeof *f);
    if (!(x86_cpuid(1, 0).ecx & HV_CPUID_FEATURES_ECX_PRESENT))
        return false;
    vendor = x86_cpuid(HV_CPUID_VENDOR, 0);
    memcpy(f->vendor, &vendor.ebx, 4);
    memcpy(f->vendor + 4, &vendor.ecx, 4);
    memcpy(f->vendor + 8, &vendor.edx, 4);
    if (vendor.ebx != HV_CPUID_VENDOR_EBX || vendor.ecx != HV_CPUID_VENDOR_ECX || vendor.edx != HV_CPUID_VENDOR_EDX ||
        vendor.eax < HV_CPUID_MIN_LEAF || vendor.eax > 0x4000FFFFu)
        return false;
    if (x86_cpuid(HV_CPUID_VENDOR + 1, 0).eax != HV_CPUID_INTERFACE_HV1)
        return false;
    f->max_leaf = vendor.eax;
    read_leaf(HV_CPUID_VERSION, f->version);
    read_leaf(HV_CPUID_FEATURES, f->features);
    read_leaf(HV_CPUID_RECOMMENDATIONS, f->hints);
    read_leaf(HV_CPUID_LIMITS, f->limits);
    if ((f->features[1] & HV_PRIV_ISOLATION) && vendor.eax >= HV_CPUID_ISOLATION)
        read_leaf(HV_CPUID_ISOLATION, f->isolation);
    return true;
}

bool arch_hv_reg_read(uint32_t reg, uint64_t *value) { return x86_rdmsr_safe(reg, value); }
bool arch_hv_reg_write(uint32_t reg, uint64_t value) { return x86_wrmsr_safe(reg, value); }

bool arch_hv_hypercall_enable(paddr_t page, vaddr_t mapped)
{
    uint64_t value, wanted;
    if (x86_isolation_without_page())
        return true;
    if (!x86_rdmsr_safe(HV_X64_MSR_HYPERCALL, &value))
        return false;
    wanted = (value & HV_MSR_PAGE_PRESERVE_MASK) | page.v | HV_MSR_PAGE_ENABLE;
    if (!x86_wrmsr_safe(HV_X64_MSR_HYPERCALL, wanted) || !x86_rdmsr_safe(HV_X64_MSR_HYPERCALL, &value))
        return false;
    /* Not enabled (no guest OS id was registered), or locked at someone else's page. */
    if (!(value & HV_MSR_PAGE_ENABLE) || (value & HV_MSR_PAGE_GPA_MASK) != page.v)
        return false;
    hypercall_page = va_ptr(mapped);
    if (!x86_isolation_owns_host())
        host_page = hypercall_page;
    return true;
}

void arch_hv_hypercall_disable(void)
{
    uint64_t value;
    if (hypercall_page == NULL)
        return;
    hypercall_page = host_page = NULL;
    if (x86_rdmsr_safe(HV_X64_MSR_HYPERCALL, &value))
        x86_wrmsr_safe(HV_X64_MSR_HYPERCALL, value & HV_MSR_PAGE_PRESERVE_MASK);
}

/* RCX, RDX, R8 carry the arguments; the hypervisor may change those and R9 to R11. Without a page: isolation.c, where
 * an ordinary machine gets the status of a call that nobody knows. */
static inline uint64_t call_page(const void *const *page, uint64_t control, uint64_t rdx, uint64_t r8_value)
{
    register uint64_t r8 __asm__("r8") = r8_value;
    uint64_t result;
    if (*page == NULL)
        return x86_isolation_call(page == &host_page, control, rdx, r8_value);
    __asm__ volatile("call *%[page]"
                     : "=a"(result), "+c"(control), "+d"(rdx), "+r"(r8)
                     : [page] "m"(*page)
                     : "r9", "r10", "r11", "memory", "cc");
    return result;
}

uint64_t arch_hypercall(uint64_t control, gpa_t input, gpa_t output)
{
    return call_page(&hypercall_page, control, input.v, output.v);
}

uint64_t arch_host_hypercall(uint64_t control, gpa_t input) { return call_page(&host_page, control, input.v, 0); }

uint64_t arch_host_hypercall_fast(uint64_t control, uint64_t in0, uint64_t in1)
{
    return call_page(&host_page, control | HV_CONTROL_FAST, in0, in1);
}
