# SPDX-License-Identifier: BSD-2-Clause
"""Machines that say they are isolated by the processor, on one that is not: the guest tries the instructions that there
should be, finds that there are none, says so in one line and goes on without devices. (Real ones: nobody had any.)
"""
import os

from cases_boot import BUILD, script
from harness import READY_S, case
from labvm import POWER_OFF, Disk

SAYS = (("snp", 1, 38, "isolated by SNP (type 2) with no GHCB page where the paravisor should have put one: no VMBus"),
        ("snp", 0, 38, "isolated by SNP (type 2) without a paravisor, which would take page tables with the C-bit"),
        ("snp", 1, 0, "isolated by SNP (type 2) with a paravisor and no boundary above which memory is shared"),
        ("tdx", 1, 38, "the host refused the guest OS id: no VMBus devices"),
        ("tdx", 0, 38, "isolated by TDX (type 3) without a paravisor, which would take a handler of #VE"))


@case(limit_s=90, arch="x86_64")
def processor_isolation(t):
    """SNP and TDX by name alone: one clear line, no devices, no panic, the application runs."""
    for kind, paravisor, boundary, line in SAYS:
        vm = t.lab(ready=None, app="hello", disks=[], net=[], icount=True,
                   lab={"isolation": kind, "isolation.paravisor": paravisor, "isolation.boundary": boundary})
        t.equal(vm.wait(READY_S), POWER_OFF, f"{kind}: QEMU's exit code")
        vm.ended = POWER_OFF
        t.check(line in vm.console, f"{kind}, paravisor {paravisor}: {line}")
        t.check("hello returned 0" in vm.console, f"{kind}: the application runs")


@case(limit_s=90, arch="x86_64")
def processor_isolation_efi(t):
    """Without a paravisor a real one would stop the kernel unheard: the UEFI entry refuses, and firmware goes on."""
    if not os.path.exists(os.path.join(BUILD, "LAB.EFI")):
        t.skip("build/x86_64/LAB.EFI is not built")
    script(t, "image.sh", t.path("hello"))
    vm = t.firmware(Disk(t.path("hello.img")), ready=None, lab={"isolation": "snp", "isolation.boundary": 38})
    vm.expect("Candela: this machine is isolated by SNP without a paravisor", READY_S)
    t.check("Hello" not in vm.console, "the application was not started")
    t.end(vm)
