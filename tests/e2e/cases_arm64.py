# SPDX-License-Identifier: BSD-2-Clause
"""arm64 on plain QEMU, by Linux's Image header with a device tree and by firmware with ACPI, at EL1 and at EL2."""
import os
import re
import struct
import subprocess

from harness import Failure, case
from labvm import Machine

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
HELLO = os.path.join(ROOT, "build", "arm64", "candela-hello.bin")
# -machine, -cpu, the level at which the kernel lives: EL2 where the processor has the host extensions
MACHINES = (("virtualization=off", "cortex-a72", 1), ("virtualization=off", "max", 1),
            ("virtualization=on", "cortex-a72", 1), ("virtualization=on", "neoverse-n1", 2),
            ("virtualization=on", "max", 2))
GREETING = r"Hello from \S+, loaded by "


def machine(options, cpu):
    return ["-machine", options, "-cpu", cpu]


def level(t, vm, what, expected):
    found = re.search(r"started by .*, EL(\d)", vm.console)
    t.equal(found and int(found[1]), expected, f"{what}: the level it runs at")


def timer_number(t, vm, what, el):
    found = re.search(r"self test interrupts: .*numbers \d+, (\d+), (\d+);", vm.console)
    t.equal(found and (found[1], found[2]), ("18", "26" if el == 2 else "27"), f"{what}: numbers of VMBus and timer")


@case(limit_s=120, arch="arm64")
def arm64_interrupts(t):
    """Interrupts are raised, wake and wait their turn, the timer is in time; SGI, edge PPI, the level's own timer."""
    for options, cpu, el in MACHINES:
        what = f"{options}, {cpu}"
        vm = t.plain("image", HELLO, cmdline="selftest=interrupts", extra=machine(options, cpu))
        vm.expect(r"self test interrupts: 0 faults", 30)
        level(t, vm, what, el)
        timer_number(t, vm, what, el)
        t.check("no Hyper-V underneath (no hypervisor)" in vm.console, f"{what}: nobody is beneath")
        t.kill(vm)
    vm = t.plain("image", HELLO, cpus=4, cmdline="selftest=interrupts")
    vm.expect(r"self test interrupts: 0 faults", 30)


@case(limit_s=120, arch="arm64")
def arm64_tables(t):
    """The page tables are sound at both levels."""
    for options, cpu, el in MACHINES:
        vm = t.plain("image", HELLO, mem="64M", cmdline="selftest=memory", extra=machine(options, cpu))
        vm.expect(GREETING + "Linux boot protocol", 30)
        level(t, vm, f"{options}, {cpu}", el)
        t.check("self test memory: 0 faults" in vm.console, f"{options}, {cpu}: the tables")
        t.kill(vm)


@case(limit_s=180, arch="arm64")
def arm64_firmware(t):
    """BOOTAA64.EFI below AAVMF, at EL1 and at EL2, with ACPI or a device tree: no Hyper-V there, and a clean end."""
    with open(t.path("conf"), "w", encoding="utf-8") as f:
        f.write("selftest=interrupts\nargs=\"from the volume\"\n")
    made = subprocess.run(["sh", os.path.join(ROOT, "scripts", "image.sh"), "arm64", "hello"], capture_output=True,
                          text=True, check=False, env=dict(os.environ, OUT=t.path("hello"), CONF=t.path("conf")))
    if made.returncode:
        raise Failure(f"scripts/image.sh: {made.stderr.strip()}")
    for options, cpu, el in MACHINES + (("acpi=off", "neoverse-n1", 1),):
        what = f"{options}, {cpu}"
        vm = t.plain("uefi", t.path("hello.img"), extra=machine(options, cpu))
        vm.expect(GREETING + "UEFI", 60)
        level(t, vm, what, el)
        for text in ("no Hyper-V underneath (no hypervisor)", "self test interrupts: 0 faults", "for from"):
            t.check(text in vm.console, f"{what}: {text}")
        way = "no ACPI" if "acpi" in options else "PSCI (SMC)" if "=on" in options else "PSCI (HVC)"
        t.check(way in vm.console, f"{what}: {way}")
        t.kill(vm)


@case(limit_s=120, arch="arm64")
def arm64_ends(t):
    """Power-off and restart by PSCI, through HVC and through SMC."""
    for options, cpu, el in MACHINES:
        leaves = [("", GREETING)] if (options, el) in (("virtualization=off", 1), ("virtualization=on", 2)) else []
        for words, expected in leaves + [("selftest=assert panic=reboot", r"^panic: "),
                                         ("selftest=undefined panic=off", r"^panic: ")]:
            vm = t.plain("image", HELLO, mem="64M", cmdline=words, extra=machine(options, cpu))
            vm.panicked = lambda: None
            vm.expect(expected, 30)
            t.equal(vm.wait(30), 0, f"{options}, {cpu}, {words}: QEMU's exit code")


@case(limit_s=60, arch="arm64")
def arm64_other_controllers(t):
    """A GICv2 is refused by name."""
    vm = t.plain("image", HELLO, extra=["-machine", "gic-version=2", "-cpu", "cortex-a72"])
    vm.expect(r"gic: error: the interrupt controller is a GICv2; version 3 is needed", 30)


# Firmware at EL3 that starts the kernel at EL1 without HVC (SCR_EL3.HCE = 0) and takes no SMC.
EL3_STUB = (
    0xD2808620, 0xD51E1100,                # mov x0, #0x431; msr scr_el3, x0
    0xD28001E0, 0xD51ECCA0, 0xD51CC9A0,    # mov x0, #15; msr icc_sre_el3, x0; msr icc_sre_el2, x0
    0xD5033FDF,                            # isb
    0xD2A10000, 0x52800A01, 0xB9000001,    # GICD_CTLR at 0x8000000: one security state
    0xD28078A0, 0xD51E4000,                # mov x0, #0x3c5; msr spsr_el3, x0
    0xD2A80400, 0xD51E4020,                # mov x0, #0x40200000; msr elr_el3, x0
    0xD2A80000, 0xD69F03E0,                # mov x0, #0x40000000: the device tree; eret
)


@case(limit_s=60, arch="arm64")
def arm64_nobody_beneath(t):
    """On a machine where HVC is an undefined instruction the question for a hypervisor costs nothing."""
    with open(t.path("el3.bin"), "wb") as f:
        f.write(struct.pack(f"<{len(EL3_STUB)}I", *EL3_STUB))
    vm = Machine(t.path("machine"), ["-machine", "virt,gic-version=3,secure=on", "-cpu", "cortex-a72", "-m", "128M",
                                     "-nodefaults", "-bios", t.path("el3.bin"),
                                     "-device", f"loader,file={HELLO},addr=0x40200000,force-raw=on"])
    t._start(vm, None)
    vm.expect(r"no Hyper-V underneath \(no hypervisor\)", 20)
    vm.expect(GREETING, 20)


@case(limit_s=120, arch="arm64")
def arm64_time(t):
    """Every clock and timer that the host may leave out or offer; the processor's own timer is the first choice."""
    ways = {"": ("reference TSC page", "local"), "hv.stimer=1": ("reference TSC page", "synthetic, direct"),
            "hv.stimer=1 hv.stimer_direct=0": ("reference TSC page", "synthetic, by message"),
            "hv.tsc_page=0": ("reference counter, 62.500 MHz", "local"),
            "hv.tsc_page=0 hv.reference_counter=0": ("CPU counter, 62.500 MHz", "local")}
    for words, (clock, timer) in ways.items():
        vm = t.lab(ready=None, app="hello", disks=[], net=[], cmdline="selftest=interrupts " + words)
        vm.expect(r"Hello from ", 30)
        for text in (f"time: {clock};", f"timer: {timer}", "self test interrupts: 0 faults"):
            t.check(text in vm.console, f"{words}: {text}")
        t.kill(vm)


@case(limit_s=60, arch="arm64")
def arm64_no_privileges(t):
    """A host that announces nothing and serves VMBus all the same, as OpenVMM on macOS."""
    host = {"hv.access": "0", "hv.privileges": "0", "hv.features": "0", "hv.hints": "0", "hv.enforce": "0"}
    vm = t.lab(lab=host)
    vm.expect(r"hv: the host announces no privileges", 5)
    t.check("reference counter, 62.500 MHz; timer: local" in vm.console, "clock and timer")


@case(limit_s=60, arch="arm64")
def arm64_isolated(t):
    """Isolation by the hypervisor is lived in; what this processor does not have is refused in one line."""
    vm = t.lab(lab={"isolation": "vbs"})
    vm.expect(r"hv: isolated by VBS: shared pages above 0x", 5)
    t.kill(vm)
    for kind in ("snp", "tdx"):
        vm = t.lab(ready=None, app="hello", disks=[], net=[], lab={"isolation": kind})
        vm.expect(rf"hv: error: isolated by {kind.upper()} .*in a way that this processor does not have", 30)
        vm.expect(r"Hello from ", 30)
        t.kill(vm)
