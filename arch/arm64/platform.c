/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the machine is made of, as ACPI or the device tree told; calls to firmware and hypervisor; power-off and restart
 * by PSCI.
 *
 * The way to PSCI is first the one that the tables name, then the other: hosts have been seen whose firmware names SMC
 * and which answer HVC. At EL2 only SMC leads anywhere, whatever they say: HVC would come back to ourselves. Where
 * nobody knows it, an instruction is undefined and costs nothing.
 */
#define LOG_ROOM "platform"
#include "arch/arm64/arm64.h"
#include "arch/arm64/smccc.h"

struct arch_platform arm64_platform;

/* A console that the entry found stays; else the one that ACPI names, whose registers can be mapped by now. */
void arch_platform_set(const struct arch_platform *platform)
{
    arm64_platform = *platform;
    if (platform->serial != ARCH_SERIAL_NONE && !arch_console_init())
        arm64_console_set(arm64_uart_of(platform->serial), pa(platform->serial_address), platform->serial_shift,
                          platform->serial_width);
}

#define CALL(instruction)                                                                                            \
    register uint64_t x0 __asm__("x0") = call->x[0];                                                                 \
    register uint64_t x1 __asm__("x1") = call->x[1];                                                                 \
    register uint64_t x2 __asm__("x2") = call->x[2];                                                                 \
    register uint64_t x3 __asm__("x3") = call->x[3];                                                                 \
    register uint64_t x4 __asm__("x4") = call->x[4];                                                                 \
    register uint64_t x5 __asm__("x5") = call->x[5];                                                                 \
    register uint64_t x6 __asm__("x6") = call->x[6];                                                                 \
    register uint64_t x7 __asm__("x7") = call->x[7];                                                                 \
    uint64_t ok = 0;                                                                                                 \
    __asm__ volatile("1: " instruction "\n mov %[ok], #1\n2:\n" ARCH_FIXUP("1b", "2b")                               \
                     : "+r"(x0), "+r"(x1), "+r"(x2), "+r"(x3), "+r"(x4), "+r"(x5), "+r"(x6), "+r"(x7), [ok] "+&r"(ok) \
                     : : "x8", "x9", "x10", "x11", "x12", "x13", "x14", "x15", "x16", "x17", "memory", "cc");        \
    *call = (struct arm64_call){{x0, x1, x2, x3, x4, x5, x6, x7}};                                                   \
    return ok != 0

bool arm64_hvc(struct arm64_call *call) { CALL("hvc #0"); }
bool arm64_smc(struct arm64_call *call) { CALL("smc #0"); }

static void psci_by(enum arch_psci way, uint32_t function)
{
    struct arm64_call call = {{function}};
    if (way == ARCH_PSCI_SMC)
        arm64_smc(&call);
    else if (arm64_has_hypervisor())
        arm64_hvc(&call);
}

/* Returns only where no way leads to it. */
static void psci(uint32_t function)
{
    enum arch_psci first = arm64_platform.psci == ARCH_PSCI_SMC ? ARCH_PSCI_SMC : ARCH_PSCI_HVC;
    psci_by(first, function);
    psci_by(first == ARCH_PSCI_SMC ? ARCH_PSCI_HVC : ARCH_PSCI_SMC, function);
}

void arch_power_off(void)
{
    arch_irq_disable();
    psci(PSCI_SYSTEM_OFF);
    log_info("the machine did not power off; halted");
    arch_halt();
}

void arch_reboot(void)
{
    arch_irq_disable();
    psci(PSCI_SYSTEM_RESET);
    log_info("the machine did not restart; halted");
    arch_halt();
}
