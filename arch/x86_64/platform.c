/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Power-off and restart, by what ACPI's tables said (boot/acpi.c), then by the old ways. Each way gets a moment to
 * act; a machine that ignores all of them is halted.
 */
#define LOG_ROOM "platform"
#include "arch/x86_64/x86.h"

#define MOMENT_POLLS 100000u     /* port 0x80 writes, about 1 us each; a machine that obeys is gone before */
#define PM1_SLEEP_ENABLE (1u << 13)
#define PM1_TYPE_SHIFT 10
#define PM1_TYPE_MASK (7u << PM1_TYPE_SHIFT)
#define SLEEP_CONTROL_ENABLE (1u << 5)
#define SLEEP_CONTROL_TYPE_SHIFT 2

struct arch_platform x86_platform;
static volatile uint8_t *sleep_register, *reset_register;    /* where they lie in memory: mapped while that can fail */

static volatile uint8_t *map_register(const struct arch_register *r)
{
    return r->address != 0 && r->space == ARCH_SPACE_MEMORY ? x86_map_device(pa(r->address), 1) : NULL;
}

void arch_platform_set(const struct arch_platform *platform)
{
    x86_platform = *platform;
    sleep_register = map_register(&platform->sleep_control);
    reset_register = map_register(&platform->reset);
}

static void moment(void)
{
    for (unsigned i = 0; i < MOMENT_POLLS; i++)
        x86_out8(0x80, 0);
}

/* False when there is no such register. */
static bool write_register(const struct arch_register *r, volatile uint8_t *mapped, uint8_t value)
{
    if (mapped != NULL)
        *mapped = value;
    else if (r->space == ARCH_SPACE_IO && r->address != 0 && r->address <= 0xFFFF)
        x86_out8((uint16_t)r->address, value);
    else
        return false;
    moment();
    return true;
}

static void pm1_sleep(uint16_t port, uint8_t type)
{
    unsigned value = (unsigned)(type & 7) << PM1_TYPE_SHIFT | PM1_SLEEP_ENABLE;
    if (port != 0)
        x86_out16(port, (uint16_t)((x86_in16(port) & ~PM1_TYPE_MASK) | value));
}

void arch_power_off(void)
{
    const struct arch_platform *p = &x86_platform;
    arch_irq_disable();
    if (p->has_s5) {
        unsigned value = (unsigned)(p->s5_type_a & 7) << SLEEP_CONTROL_TYPE_SHIFT | SLEEP_CONTROL_ENABLE;
        write_register(&p->sleep_control, sleep_register, (uint8_t)value);
    }
    if (p->has_s5 && p->pm1a_control_port != 0) {
        pm1_sleep(p->pm1a_control_port, p->s5_type_a);
        pm1_sleep(p->pm1b_control_port, p->s5_type_b);
        moment();
    }
    log_info("%s; halted", p->has_s5 ? "the machine did not power off" : "no way to power off is known");
    arch_halt();
}

void arch_reboot(void)
{
    const struct { uint16_t limit; uint64_t base; } __attribute__((packed)) no_idt = {0, 0};
    const struct arch_platform *p = &x86_platform;
    arch_irq_disable();
    write_register(&p->reset, reset_register, p->reset_value);
    x86_out8(0x64, 0xFE);        /* keyboard controller: pulse the reset line */
    moment();
    __asm__ volatile("lidt %0; int3" : : "m"(no_idt));    /* no handler for the fault, nor for that fault: reset */
    arch_halt();
}
