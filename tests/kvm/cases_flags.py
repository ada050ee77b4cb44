# SPDX-License-Identifier: BSD-2-Clause
"""Each optional part of the interface taken away in turn, and all at once: one clear line, and the best that is left.

hv-enforce-cpuid is on in all of them, so that using a part that is not offered would be refused; where the kernel's
trace can be read, it shows that nothing was.
"""
import re

import witness
from guest import flags_without
from harness import case

PAGE, COUNTER, PLAIN = "reference TSC page", r"reference counter, \d+\.\d+ MHz", r"CPU counter, \d+\.\d+ MHz"
DIRECT, LOCAL = "synthetic, direct", "local"
NO_BUS = "the host grants no synthetic interrupts"
SYNIC_AND_TIMERS = ("synthetic interrupts", "synthetic timers", "direct timers")


def without(t, removed, missing, clock=PAGE, timer=DIRECT, bus=True, lines=(), only=None):
    """`missing`: what the guest's line must name, all and nothing else."""
    flags = (only or flags_without(*removed)) + ("enforce-cpuid",)
    vm = t.guest(flags=flags, bridge=bus, watch="if possible")
    witness.wait_and_end(t, vm)
    named = re.findall(r"hv: not offered: (.*)$", vm.console, re.M)
    t.equal([sorted(line.strip().split(", ")) for line in named], [sorted(missing)] if missing else [],
            "the services said not to be offered")
    t.check(re.search(rf"hv: time: {clock}; timer: {timer}$", vm.console, re.M), f"time by {clock}, timer {timer}")
    for line in lines:
        t.equal(vm.console.count(line), 1, f"lines that say {line!r}")
    if bus:
        witness.negotiated(t, vm, "4.0", ["4.1", "4.0"])
        witness.messages_taken(t, vm)
        witness.unloaded(t, vm)
    else:
        t.equal(vm.console.count(NO_BUS), 1, "lines that say there is no bus")
    t.check(bus or "vmbus:" not in vm.console, "nothing is said of a bus that can't be")
    witness.nothing_refused(t, vm)
    return vm


@case(limit_s=60)
def without_time(t):
    """No hv-time, and no hv-stimer, which needs it: the processor's counter by the host's frequency, local timer."""
    without(t, ["time"], ["reference counter", "reference TSC page", "synthetic timers", "direct timers"], PLAIN, LOCAL)


@case(limit_s=60)
def without_time_and_frequencies(t):
    """Neither: the counter is measured by the ACPI timer."""
    without(t, ["time", "frequencies"],
            ["reference counter", "reference TSC page", "frequencies", "synthetic timers", "direct timers"],
            PLAIN, LOCAL)


@case(limit_s=60)
def without_frequencies(t):
    """No hv-frequencies: nothing is lost while there is a reference clock."""
    without(t, ["frequencies"], ["frequencies"])


@case(limit_s=60)
def without_stimer(t):
    """No hv-stimer: the local timer, measured by the reference clock or told by the host."""
    without(t, ["stimer"], ["synthetic timers", "direct timers"], timer=LOCAL)


@case(limit_s=60)
def without_stimer_direct(t):
    """No hv-stimer-direct: timer expirations come as messages; KVM's trace shows that they were delivered."""
    vm = without(t, ["stimer-direct"], ["direct timers"], timer=LOCAL, lines=["hv: timer: synthetic, by message"])
    if vm.kernel_seen:
        expired = vm.kernel_seen.expirations
        t.check((0, 0) in expired and not any(direct for direct, _ in expired), f"messages of timers: {expired[:20]}")


@case(limit_s=60)
def without_synic(t):
    """No hv-synic: no bus and no synthetic timer, one line about each."""
    without(t, ["synic"], SYNIC_AND_TIMERS, timer=LOCAL, bus=False)


@case(limit_s=60)
def without_vpindex(t):
    """No hv-vpindex, and nothing that needs it."""
    without(t, ["vpindex"], [*SYNIC_AND_TIMERS, "processor index", "TLB flush"], timer=LOCAL, bus=False)


@case(limit_s=60)
def without_vapic(t):
    """No hv-vapic: the local APIC in the processor's own ways."""
    without(t, ["vapic"], ["interrupt controller registers"], lines=["apic: local APIC 0 by "])


@case(limit_s=60)
def without_tlbflush(t):
    """No hv-tlbflush: the processor's own way."""
    without(t, ["tlbflush"], ["TLB flush"])


@case(limit_s=60)
def without_ipi(t):
    """No hv-ipi: nothing is lost."""
    without(t, ["ipi"], [])


@case(limit_s=60)
def without_runtime(t):
    """No hv-runtime: nothing is lost."""
    without(t, ["runtime"], [])


@case(limit_s=60)
def without_relaxed(t):
    """No hv-relaxed: nothing is lost."""
    without(t, ["relaxed"], [])


@case(limit_s=60)
def without_reset(t):
    """No hv-reset: restart is ACPI's (panic_reboot_without_reset)."""
    without(t, ["reset"], ["reset"])


@case(limit_s=60)
def without_crash(t):
    """No hv-crash: one line that no crash will be reported."""
    without(t, ["crash"], ["crash reports"], lines=["hv: the host takes no crash reports"])


@case(limit_s=60)
def without_all(t):
    """Hyper-V in name only (hv-relaxed alone)."""
    without(t, [], ["reference counter", "reference TSC page", "frequencies", *SYNIC_AND_TIMERS, "processor index",
                    "interrupt controller registers", "TLB flush", "reset", "crash reports"],
            PLAIN, LOCAL, bus=False, only=("relaxed",))
