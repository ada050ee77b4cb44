# SPDX-License-Identifier: BSD-2-Clause
"""Every way in, every size of machine, and machines that lack something."""
import os
import re
import signal
import subprocess
import sys
import time

import labvm
import nbdclient as nbd
from boards import ARCH, BOARDS
from cases_nbd import uri
from harness import Failure, case, sha256
from labvm import ROOT, Disk

BUILD = os.path.join(ROOT, "build", ARCH)
HELLO = os.path.join(BUILD, "candela-hello" + BOARDS[ARCH].guest)
DIRECT = {"x86_64": "pvh", "arm64": "image"}[ARCH]      # what QEMU's -kernel is on this architecture


def script(t, name, out, app="hello", **environment):
    done = subprocess.run(["sh", os.path.join(ROOT, "scripts", name), ARCH, app], capture_output=True, text=True,
                          check=False, env=dict(os.environ, OUT=out, **environment))
    if done.returncode:
        raise Failure(f"scripts/{name}: {done.stderr.strip()}")


def reaches_application(t, vm, loader, limit_s=60):
    """No Hyper-V is one clear line; the application runs; the machine powers itself off."""
    vm.expect(r"Hello from \S+, loaded by " + re.escape(loader), limit_s)
    code = vm.wait(30)
    t.equal(code, 0, "QEMU's exit code after power-off")
    lines = re.findall(r"^.*no Hyper-V underneath.*$", vm.console, re.M)
    t.equal(len(lines), 1, "lines that say there is no Hyper-V")
    t.check(not re.search(r"^(\[[^]]*\] )?panic: ", vm.console, re.M), "no panic")


@case(limit_s=60, arch="x86_64")
def boot_pvh(t):
    """qemu -kernel (PVH) reaches the application; without Hyper-V it says so and powers off."""
    vm = t.plain("pvh", HELLO, cmdline="args=x foo=1 nonsense loglevel=debug")
    reaches_application(t, vm, "PVH")
    for word in ("foo", "nonsense"):
        t.equal(len(re.findall(rf'^.*"{word}".*ignored', vm.console, re.M)), 1, f"lines about the bad word {word}")


@case(limit_s=60, arch="x86_64")
def boot_linux64(t):
    """The Linux 64-bit protocol with OpenVMM's entry state: SSE off, no stack, RSDP at 0xE0000 only, bare chipset."""
    stub = os.path.join(BUILD, "linux64.elf")
    if not os.path.exists(stub):
        t.skip("build/x86_64/linux64.elf is not built")
    vm = t.plain("linux64", stub, payload=HELLO)
    reaches_application(t, vm, "Linux")


@case(limit_s=60, arch="x86_64")
def boot_iso_bios(t):
    """GRUB's rescue ISO by BIOS (Multiboot2)."""
    script(t, "iso.sh", t.path("hello.iso"))
    reaches_application(t, t.plain("iso", t.path("hello.iso")), "Multiboot2")


@case(limit_s=90, arch="x86_64")
def boot_iso_efi(t):
    """GRUB's rescue ISO by UEFI (Multiboot2)."""
    script(t, "iso.sh", t.path("hello.iso"))
    reaches_application(t, t.plain("iso-efi", t.path("hello.iso")), "Multiboot2")


@case(limit_s=90)
def boot_uefi(t):
    """The disk image of make image under OVMF, with settings from its candela.conf."""
    with open(t.path("conf"), "w", encoding="utf-8") as f:
        f.write("# a comment\nargs=from conf\nloglevel=debug\n")
    script(t, "image.sh", t.path("hello"), CONF=t.path("conf"))
    vm = t.plain("uefi", t.path("hello.img"))
    reaches_application(t, vm, "UEFI")
    t.check("for from" in vm.console, "args= of candela.conf reach the application")


@case(limit_s=90)
def boot_uefi_bad_conf(t):
    """A candela.conf that can't be used is one line on the firmware's console, and the firmware goes on."""
    with open(t.path("conf"), "w", encoding="utf-8") as f:
        f.write("loglevel=info\nthis is not a setting\n")
    script(t, "image.sh", t.path("hello"), CONF=t.path("conf"))
    vm = t.plain("uefi", t.path("hello.img"))
    vm.expect(r"Candela: candela\.conf, line 2: .*not booting", 60)
    vm.expect(r"BdsDxe: .*(failed|No bootable|Not Found|Aborted|loading)", 30, start=vm.console.index("Candela:"))
    t.check("Hello" not in vm.console, "the application was not started")


@case(limit_s=120)
def boot_vhdx(t):
    """The VHDX of make image as Generation 2 boots it: firmware, UEFI entry, the lab as Hyper-V, disks, NIC."""
    if not os.path.exists(os.path.join(BUILD, "LAB.EFI")):
        t.skip("build/x86_64/LAB.EFI is not built")
    with open(t.path("conf"), "w", encoding="utf-8") as f:
        f.write("loglevel=debug\n")
    script(t, "image.sh", t.path("nbd"), app="nbd", CONF=t.path("conf"))
    data = t.random_disk("data.img", 8)
    vm = t.firmware(Disk(t.path("nbd.vhdx"), "vhdx"), disks=[Disk(data)])
    vm.expect(r"started by UEFI", 1)
    for export, path in (("disk0", t.path("nbd.img")), ("disk1", data)):
        t.run("nbdcopy", uri(vm, export), t.path("copy.img"))
        t.equal(sha256(t.path("copy.img")), sha256(path), f"SHA-256 of {export}")


@case(limit_s=60)
def image_formats(t):
    """The VHDX and the VHD hold the same bytes as the raw image; sizes are what Hyper-V and Azure ask for."""
    script(t, "image.sh", t.path("hello"))
    for suffix, fmt in ((".vhdx", "vhdx"), (".vhd", "vpc")):
        t.run("qemu-img", "compare", "-f", "raw", "-F", fmt, t.path("hello.img"), t.path("hello" + suffix))
    t.equal(os.path.getsize(t.path("hello.vhd")) % (1 << 20), 512, "a fixed VHD is whole MiB and a footer of 512 bytes")
    t.run("sgdisk", "-v", t.path("hello.img"))


@case(limit_s=90)
def mem_32m(t):
    """32 MiB of RAM are enough to serve a disk."""
    path = t.random_disk("disk.img", 16)
    vm = t.lab(disks=[Disk(path)], mem="32M")
    t.run("nbdcopy", uri(vm), t.path("copy.img"))
    t.equal(sha256(t.path("copy.img")), sha256(path), "SHA-256 of the copy")


@case(limit_s=90)
def mem_large(t):
    """64 GiB and 700 GiB of RAM (not reserved, hardly touched) boot as a small machine does."""
    path = t.random_disk("disk.img", 4)
    for mem in ("64G", "700G"):               # scripts/run.py, MAX_MEM
        vm = t.lab(disks=[Disk(path)], mem=mem)
        with nbd.Client(vm.ports["nbd"]).go("disk0") as client:
            t.equal(client.read(0, 4096), open(path, "rb").read(4096), f"{mem}: a read")
        with open(f"/proc/{vm.process.pid}/status", encoding="utf-8") as f:
            resident = int(re.search(r"VmRSS:\s+(\d+) kB", f.read())[1]) >> 10
        t.check(resident < 1024, f"{mem}: QEMU's resident memory is {resident} MiB: bring-up touches what it need not")
        t.end(vm)


@case(limit_s=60)
def no_disk(t):
    """Without any disk: one clear line, an empty list of exports."""
    vm = t.lab(disks=[])
    with nbd.Client(vm.ports["nbd"]) as client:
        t.equal(client.list(), [], "LIST")
    t.equal(len(re.findall(r"^.*\bno disks?\b.*$", vm.console, re.M | re.I)), 1, "lines that say there is no disk")


@case(limit_s=60)
def no_nic(t):
    """Without any NIC: one clear line, no panic."""
    vm = t.lab(ready=None, disks=[Disk(t.random_disk("disk.img", 1))], net=[])
    vm.expect(r"\bno (NIC|network)\b", 40)
    lines = re.findall(r"^.*\bno (?:NIC|network)\b.*$", vm.console, re.M | re.I)
    t.equal(len(lines), 1, "lines that say there is no NIC")


@case(limit_s=120)
def two_cpus(t):
    """Two virtual processors: both come up, the disk is served."""
    path = t.random_disk("disk.img", 8)
    vm = t.lab(disks=[Disk(path)], cpus=2)
    t.run("nbdcopy", uri(vm), t.path("copy.img"))
    t.equal(sha256(t.path("copy.img")), sha256(path), "SHA-256 of the copy")


class Run:
    """scripts/run.py as a user starts it; `address` and `web` are what it printed."""

    def __init__(self, t, *arguments):
        self.t, self.started = t, time.monotonic()
        self.process = t.background(sys.executable, "-u", os.path.join(ROOT, "scripts", "run.py"), "--work",
                                    t.path("run"), *arguments, start_new_session=True)
        self.address = self.web = None
        for line in self.process.stdout:
            t.note(line.rstrip())
            if found := re.search(r"nbd://127\.0\.0\.1:\d+/disk0", line):
                self.address = found[0]
            if found := re.search(r"http://127\.0\.0\.1:\d+/", line):
                self.web = found[0]
            if self.address and self.web:
                break
        t.check(self.address and self.web, "both addresses are printed")
        self.took = time.monotonic() - self.started

    def interrupt(self):
        self.process.send_signal(signal.SIGINT)
        output, _ = self.process.communicate(timeout=60)
        self.t.equal(self.process.returncode, 0, f"exit code after Ctrl-C: {output[-500:]}")


@case(limit_s=90)
def make_run(t):
    """scripts/run.py: addresses within seconds, they work, Ctrl-C ends it, nothing is left; mistakes are one line."""
    run = Run(t)
    t.note(f"addresses after {run.took:.1f} s")
    t.run("nbdinfo", run.address)
    t.run("curl", "-sSf", run.web)
    run.interrupt()
    with open(t.path("run/command.txt"), encoding="utf-8") as f:
        pipes = os.path.dirname(re.search(r"path=(/\S*/console)", f.read())[1])
    t.check(not os.path.exists(pipes), "nothing is left in the folder for temporary files")

    mistakes = ((["--disk", "/nonexistent"], "there is no /nonexistent"), (["--mem", "1M"], "MEM"),
                (["--mem", "2T"], "MEM"), (["--args", "http.port=65536"], "http.port"),
                (["--cpus", "0"], "CPUS"), (["--args", "nbd.write=disk7"], "disk7"), (["--app", "nope"], "nope"))
    for arguments, complaint in mistakes:
        done = subprocess.run([sys.executable, os.path.join(ROOT, "scripts", "run.py"), *arguments],
                              capture_output=True, text=True, check=False)
        t.check(done.returncode == 2 and complaint in done.stderr and len(done.stderr.splitlines()) == 1,
                f"one clear line for {arguments}: {done.stderr}")
    t.check(labvm.parse_size("64G") == 64 << 30, "sizes")


@case(limit_s=90)
def make_run_disks(t):
    """DISK=: a qcow2 written to and a VHDX that is not: after Ctrl-C one has the data, the other is as it was."""
    t.run("qemu-img", "create", "-q", "-f", "qcow2", t.path("a.qcow2"), "64M")
    t.run("qemu-img", "create", "-q", "-f", "vhdx", t.path("b.vhdx"), "64M")
    before = sha256(t.path("b.vhdx"))
    disks = ",".join(os.path.relpath(t.path(name)) for name in ("a.qcow2", "b.vhdx"))
    run = Run(t, "--disk", disks, "--args", "nbd.write=disk0", "--mem", "64M")
    t.run("qemu-io", "-f", "raw", "-c", "write -P 0x42 1M 2M", run.address)
    t.run("qemu-io", "-f", "raw", "-c", "write 0 4k", run.address.replace("disk0", "disk1"), expect=1)
    run.interrupt()
    t.run("qemu-img", "check", "-q", t.path("a.qcow2"))
    t.run("qemu-io", "-r", "-f", "qcow2", "-c", "read -P 0x42 1M 2M", "-c", "read -P 0 3M 1M", t.path("a.qcow2"))
    t.equal(sha256(t.path("b.vhdx")), before, "SHA-256 of the VHDX")
