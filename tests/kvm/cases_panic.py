# SPDX-License-Identifier: BSD-2-Clause
"""A panic as QEMU reports it: the event GUEST_PANICKED with the five parameters, and how the machine ends."""
import os
import re

import witness
from guest import BUILD, FLAGS, flags_without
from harness import case

CLASS_OURS, CLASS_TRAP = 0x43414E4401, 0x43414E4402   # lib/panic.c
GUEST_OS_ID = 0x8043 << 48 | 1 << 16                  # open source, vendor's own id 'C', version 0.1
NULL_ADDRESS = 16                                     # boot/selftest.c: nowhere


def function_at(app, address):
    """Name of the function that holds an address, by the symbol table of the image."""
    best = (0, "")
    with open(os.path.join(BUILD, f"candela-{app}.sym"), encoding="ascii") as f:
        for line in f:
            value, _, name = line.split()[:3]
            if best[0] <= int(value, 16) <= address:
                best = (int(value, 16), name)
    return best[1]


def panicked(t, vm):
    """The five parameters of the event; everything above 64 bits or of another type would be QEMU's mistake."""
    data = vm.qmp.event("GUEST_PANICKED", witness.START_S)
    info = data["info"]
    t.equal(info["type"], "hyper-v", "who reports the panic")
    t.check(re.search(witness.PANIC + ".*\nbacktrace:\n", vm.console, re.M), "the panic is on the console")
    return [info[f"arg{n}"] for n in range(1, 6)]


@case(limit_s=60)
def panic_assertion(t):
    """A failed assertion: class, guest OS id, address in the function that failed, no detail, stack pointer."""
    vm = t.guest(cmdline="loglevel=debug selftest=assert")
    kind, os_id, address, detail, stack = panicked(t, vm)
    t.equal(hex(kind), hex(CLASS_OURS), "P0")
    t.equal(hex(os_id), hex(GUEST_OS_ID), "P1")
    t.equal(function_at("hello", address), "assertion", "the function of P2")
    t.equal(detail, 0, "P3")
    t.check(stack >> 47 == 0x1FFFF, f"P4 is a kernel address: {stack:#x}")
    # QEMU's default is to power the machine off then.
    t.equal(vm.qmp.event("SHUTDOWN", witness.END_S)["reason"], "guest-panic", "why QEMU ends")
    t.equal(vm.wait(witness.END_S), 0, "QEMU's exit code")


@case(limit_s=60)
def panic_fault(t):
    """A page fault: P3 is the address that was touched. panic=off powers off afterwards, with the bus unloaded."""
    vm = t.guest(cmdline="loglevel=debug selftest=null panic=off", extra=["-action", "panic=none"])
    kind, os_id, address, detail, _ = panicked(t, vm)
    t.equal((hex(kind), hex(os_id)), (hex(CLASS_TRAP), hex(GUEST_OS_ID)), "P0 and P1")
    t.equal(function_at("hello", address), "null_read", "the function of P2")
    t.equal(detail, NULL_ADDRESS, "P3")
    t.equal(vm.qmp.event("SHUTDOWN", witness.END_S)["reason"], "guest-shutdown", "why QEMU ends")
    t.equal(vm.wait(witness.END_S), 0, "QEMU's exit code")
    witness.unloaded(t, vm)


@case(limit_s=60)
def panic_stack_overflow(t):
    """A task's stack overflows (double fault): reported all the same, also with registers and calls enforced."""
    vm = t.guest(flags=FLAGS + ("enforce-cpuid",), cmdline="loglevel=debug selftest=task-stack")
    kind, _, address, _, _ = panicked(t, vm)
    t.equal(hex(kind), hex(CLASS_TRAP), "P0")
    t.equal(function_at("hello", address), "deeper", "the function of P2")
    t.check("stack overflow in task selftest" in vm.console, "the console says what it was")


@case(limit_s=60)
def panic_reboot_without_reset(t):
    """panic=reboot restarts by ACPI where hv-reset is missing."""
    vm = t.guest(flags=flags_without("reset") + ("enforce-cpuid",), cmdline="selftest=assert panic=reboot",
                 extra=["-action", "panic=none"])
    panicked(t, vm)
    t.equal(vm.qmp.event("SHUTDOWN", witness.END_S)["reason"], "guest-reset", "why QEMU ends (-no-reboot)")
    t.equal(vm.wait(witness.END_S), 0, "QEMU's exit code")
    witness.unloaded(t, vm)


@case(limit_s=60)
def panic_without_crash(t):
    """Without hv-crash the report is on the console alone."""
    vm = t.guest(flags=flags_without("crash") + ("enforce-cpuid",), cmdline="selftest=assert panic=off")
    t.equal(vm.qmp.event("SHUTDOWN", witness.START_S)["reason"], "guest-shutdown", "why QEMU ends")
    vm.wait(witness.END_S)
    t.check(not any(e["event"] == "GUEST_PANICKED" for e in vm.qmp.events), "no event")
    t.check(re.search(witness.PANIC + "assertion failed", vm.console, re.M), "the panic is on the console")
