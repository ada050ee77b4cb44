# SPDX-License-Identifier: BSD-2-Clause
"""How the kernel dies: the report on the console, the crash message to the hypervisor, the way the machine ends."""
import re

from cases_boot import HELLO
from harness import case
from labvm import CRASH, VMError

# selftest= -> what the report must say
WAYS = {
    "assert": r"panic: .*selftest\.c:\d+|panic: .*assert",
    "null": r"panic: .*page fault.*null pointer\nbacktrace:\n.* null_read\+.*\n.* selftest_run\+",
    "write-constant": r"panic: .*page fault",
    "undefined": r"panic: .*(invalid|undefined) opcode|panic: .*BRK instruction",
    "execute-data": r"panic: .*page fault",
    "boot-stack": r"panic: .*(stack overflow|double fault|guard)",
    "task-stack": r"panic: .*stack overflow in task",
    "interrupt": r"panic: an interrupt handler gives up(?s:.*)in_an_interrupt\+(?s:.*)"
                 r"(trap_common|save_and_interrupt)\+(?s:.*)selftest_run\+",
    # what fails while it reports is told, and the other reporters get their turn
    "reporter": r"panic: a reporter that fails(?s:.*)panic: again, inside the panic: assertion failed: report == NULL",
    # the stack for such exceptions overflows in its turn: its guard page holds, a fresh exception goes on
    "interrupt-stack": r"panic: .*stack overflow(?s:.*)panic: again, inside the panic: (double|page) fault",
}
NO_REGISTERS = ("assert", "interrupt", "reporter")


@case(limit_s=120)
def crash_reports(t):
    """Each way to fail ends in a panic with symbols, told to the hypervisor with its text; exit code of a crash."""
    for name, pattern in WAYS.items():
        vm = t.lab(ready=None, app="hello", disks=[], net=[], cmdline=f"selftest={name}")
        t.equal(vm.wait(30), CRASH, f"{name}: end of the machine")
        vm.ended = CRASH
        t.check(re.search(pattern, vm.console, re.I), f"{name}: the console says {pattern!r}")
        if name not in NO_REGISTERS:
            t.check(re.search(r"^(rip|pc) +[0-9a-f:]{16}", vm.console, re.I | re.M), f"{name}: registers are shown")
        t.check(re.search(r"^ +[0-9a-f]{16} \w+\+0x", vm.console, re.M), f"{name}: a backtrace with symbols")
        lab = vm.lines["lab"].text
        t.check(re.search(r"the guest crashed: P0 0x43414e44", lab, re.I), f"{name}: crash parameters")
        t.check("lab-crash: " in lab, f"{name}: the text of the crash reaches the hypervisor")


@case(limit_s=60)
def crash_of_the_console(t):
    """A console that faults whenever something is said: the hypervisor hears of it all the same, and the machine ends."""
    vm = t.lab(ready=None, app="hello", disks=[], net=[], cmdline="selftest=console")
    t.equal(vm.wait(30), CRASH, "end of the machine")
    vm.ended = CRASH
    lab = vm.lines["lab"].text
    t.check(re.search(r"the guest crashed: P0 0x43414e44", lab, re.I), "crash parameters")
    t.check(re.search(r"lab-crash: .*page fault: read of unmapped address 0x10: null pointer", lab), "the text of the crash")


@case(limit_s=60, arch="x86_64")
def crash_without_hypervisor(t):
    """Without Hyper-V a panic is on the console and ends as panic= says."""
    vm = t.plain("pvh", HELLO, cmdline="selftest=null panic=off")
    t.equal(vm.wait(20), 0, "panic=off powers off")
    t.check(re.search(WAYS["null"], vm.console, re.I), "the report")
    vm = t.plain("pvh", HELLO, cmdline="selftest=assert panic=reboot")
    t.equal(vm.wait(20), 0, "panic=reboot resets (QEMU ends by -no-reboot)")


@case(limit_s=60, arch="x86_64")
def crash_before_everything(t):
    """What ends the boot before there is memory or configuration is on the console all the same."""
    for cpu, mem, words in (("qemu64,-nx", "64M", "no no-execute bit"), ("EPYC", "4M", "KiB of usable RAM")):
        vm = t.plain("pvh", HELLO, mem=mem, extra=["-cpu", cpu])
        vm.ended = 0
        try:
            vm.expect(r"^panic: .*" + words + r"(?s:.*)backtrace:(?s:.*)kernel_main\+", 20)
        except VMError as error:                      # the machine halts: that it panicked is what is expected
            t.check(words in str(error), f"{cpu}, {mem}: {error}")
        t.check(re.search(r"^ +[0-9a-f]{16} kernel_main\+", vm.console, re.M), f"{cpu}, {mem}: a backtrace")
