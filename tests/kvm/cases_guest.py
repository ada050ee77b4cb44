# SPDX-License-Identifier: BSD-2-Clause
"""A whole session with all that the interface has: discovery, clocks, the bus, several processors, firmware."""
import os
import re

import witness
from guest import FLAGS, counter_khz
from harness import case

POST_MESSAGE = 0x5C
GUEST_OS_ID, HYPERCALL, TIME_REF_COUNT, REFERENCE_TSC = 0x40000000, 0x40000001, 0x40000020, 0x40000021
SCONTROL, SIEFP, SIMP, EOM, SINT2 = 0x40000080, 0x40000082, 0x40000083, 0x40000084, 0x40000092
STIMER0_CONFIG, STIMER0_COUNT = 0x400000B0, 0x400000B1
STIMER_DIRECT, STIMER_ENABLE = 1 << 12, 1
SINT_MASKED = 1 << 16
ENABLED = 1
CONTACTS = ["4.1", "4.0"]                             # what reaches connection 1; newer ones go to connection 4


def stable_clock():
    with open("/sys/devices/system/clocksource/clocksource0/current_clocksource", encoding="ascii") as f:
        return f.read().strip() == "tsc"


def session(t, vm, loader="PVH"):
    witness.wait_and_end(t, vm, loader)
    t.check(re.search(r"hv: Hyper-V \d+\.\d+\.\d+, privileges ", vm.console), "Hyper-V is found")
    t.check("hv: time: reference TSC page; timer: synthetic, direct" in vm.console, "the best clock and timer are used")
    t.check("reference TSC page is invalid" not in vm.console or not stable_clock(), "the reference TSC page is valid")
    witness.negotiated(t, vm, "4.0", CONTACTS)
    witness.empty_bus(t, vm)
    witness.messages_taken(t, vm)
    witness.unloaded(t, vm)
    t.check(not re.search(r"(warning|error): ", vm.console), "no warning")


@case(limit_s=60)
def guest_session(t):
    """Boot, VMBus 4.0 by connection 1, an empty list of offers, 5 s by clock and timer, unload, power-off."""
    session(t, t.guest())


@case(limit_s=60)
def guest_cpus_2(t):
    """The same with two virtual processors."""
    session(t, t.guest(cpus=2))


@case(limit_s=60)
def guest_cpus_4(t):
    """The same with four virtual processors."""
    session(t, t.guest(cpus=4))


@case(limit_s=60)
def guest_enforced(t):
    """hv-enforce-cpuid: KVM refuses every register and call that its CPUID leaves do not grant."""
    vm = t.guest(flags=FLAGS + ("enforce-cpuid",), watch="if possible")
    session(t, vm)
    witness.nothing_refused(t, vm)


@case(limit_s=60)
def guest_seen_by_kvm(t):
    """KVM's own trace: guest OS id, hypercall page, reference TSC, SynIC, direct timer; all put back at the end."""
    vm = t.guest(watch=True)
    session(t, vm)
    kvm = witness.Kvm(vm.kernel_text())
    ids = kvm.written(GUEST_OS_ID)
    t.check(len(ids) == 2 and ids[0] >> 63 and ids[0] >> 56 & 0x7F == 0 and ids[1] == 0,
            f"an open-source guest OS id of our own, given back at the end: {[hex(i) for i in ids]}")
    for name, msr in (("hypercall page", HYPERCALL), ("reference TSC page", REFERENCE_TSC), ("event page", SIEFP),
                      ("message page", SIMP), ("SynIC", SCONTROL)):
        states = [value & ENABLED for value in kvm.written(msr)]
        t.check(states and states[0] == 1 and states[-1] == 0, f"{name}: enabled first, disabled last: {states}")
    t.check(any(not value & SINT_MASKED for value in kvm.written(SINT2)), "SINT2 is unmasked")
    t.check(kvm.written(SINT2)[-1] & SINT_MASKED, "SINT2 is masked at the end")
    t.check(POST_MESSAGE in kvm.hypercalls, f"messages are posted by hypercall: {kvm.hypercalls}")
    t.equal(kvm.results.count(witness.HV_STATUS_INVALID_CONNECTION_ID) >= 1, True,
            "connection 4, which QEMU does not know, was tried first")
    if stable_clock():
        t.check(kvm.reads(TIME_REF_COUNT) < 10,
                f"time by the page: {kvm.reads(TIME_REF_COUNT)} reads of the counter register")
    configs = kvm.written(STIMER0_CONFIG)
    t.check(any(value & STIMER_DIRECT for value in configs), f"the timer is direct: {[hex(v) for v in configs]}")
    t.check(kvm.written(STIMER0_COUNT), "deadlines are set")
    t.check((1, 0) in kvm.expirations, f"direct timers expired: {kvm.expirations[:20]}")
    t.equal(kvm.refused(), [], "accesses to synthetic registers that KVM refused")


@case(limit_s=60)
def guest_older_versions(t):
    """vmbus.version= makes the guest begin lower; QEMU takes any version up to 4.0."""
    for version in ("3.0", "2.4"):
        vm = t.guest(cmdline=f"loglevel=debug vmbus.version={version}")
        witness.wait_and_end(t, vm)
        witness.negotiated(t, vm, version, [version])
        witness.empty_bus(t, vm)
        witness.unloaded(t, vm)


@case(limit_s=60)
def guest_without_bridge(t):
    """The whole interface but no VMBus: two clear lines, and the application runs."""
    vm = t.guest(bridge=False)
    witness.wait_and_end(t, vm)
    t.check("vmbus: error: the host knows neither message connection: no VMBus here" in vm.console, "what is missing")
    t.equal(vm.console.count("no disks, no network"), 1, "lines that say what that means")
    t.equal(witness.received(vm), [], "messages sent")


@case(limit_s=60)
def guest_without_hyperv(t):
    """KVM without its Hyper-V interface: one clear line, time and timer all the same."""
    vm = t.guest(flags=(), bridge=False)
    witness.wait_and_end(t, vm)
    t.equal(vm.console.count("no Hyper-V underneath"), 1, "lines that say there is no Hyper-V")
    found = re.search(r"hv: time: CPU counter, (\d+\.\d+) MHz; timer: local", vm.console)
    t.check(found, "clock and timer")
    ours = counter_khz() / 1000
    t.check(abs(float(found[1]) - ours) < ours / 50, f"the counter runs at {found[1]} MHz by the guest, {ours} by us")


@case(limit_s=60)
def guest_nbd(t):
    """The disk server here: says clearly that there is no disk and no network, and powers off."""
    vm = t.guest(app="nbd")
    vm.expect(r"nbd: warning: no disk: ", witness.START_S)
    vm.expect(r"nbd: error: no network interface: nobody can be served", witness.END_S)
    witness.power_off(t, vm)
    witness.unloaded(t, vm)


@case(limit_s=200)
def guest_ovmf(t):
    """The disk image of `make image`, booted by OVMF."""
    image = os.path.join(os.path.dirname(t.work), "hello.img")
    session(t, t.guest(boot=image), "UEFI")
