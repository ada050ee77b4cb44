/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Machines in which the kernel's first instructions would be its last: isolated by the processor, without a paravisor
 * that answers for it when it executes CPUID or touches a port. Here firmware's own handlers still do, so here it can
 * be said. Source: TLFS, isolation configuration.
 */
#include "arch/x86_64/x86.h"
#include "boot/efi/boot_efi.h"
#include "hv/hv_wire.h"

const char *efi_unlivable(void)
{
    struct x86_cpuid vendor, isolation;

    if (!(x86_cpuid(1, 0).ecx & HV_CPUID_FEATURES_ECX_PRESENT))
        return NULL;
    vendor = x86_cpuid(HV_CPUID_VENDOR, 0);
    if (vendor.ebx != HV_CPUID_VENDOR_EBX || vendor.ecx != HV_CPUID_VENDOR_ECX || vendor.edx != HV_CPUID_VENDOR_EDX ||
        vendor.eax < HV_CPUID_ISOLATION || !(x86_cpuid(HV_CPUID_FEATURES, 0).ebx & HV_PRIV_ISOLATION))
        return NULL;
    isolation = x86_cpuid(HV_CPUID_ISOLATION, 0);
    if (isolation.eax & HV_ISOLATION_EAX_PARAVISOR)
        return NULL;
    switch (isolation.ebx & HV_ISOLATION_EBX_TYPE_MASK) {
    case HV_ISOLATION_SNP:
        return "this machine is isolated by SNP without a paravisor, where the kernel can't start: no C-bit, no #VC";
    case HV_ISOLATION_TDX:
        return "this machine is isolated by TDX without a paravisor, where the kernel can't start: no #VE";
    default:
        return NULL;
    }
}
