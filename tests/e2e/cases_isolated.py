# SPDX-License-Identifier: BSD-2-Clause
"""The isolated machine: memory is private, and what the host may see is reached above a boundary.

The NBD server's whole check runs there too, with what else moves data or memory, each case on another kind of isolated
machine. The lab ends a machine that touches a page on the wrong side or names a private one to the host, so every case
is also one about that. The other cases are about isolation itself: lab/isolation.c.
"""
import re

import cases_boot
import cases_disk
import cases_host
import cases_malice
import cases_nbd
import cases_net
import nbdclient as nbd
from boards import ARCH
from cases_bad import ends
from cases_fault import boot_disk, boots
from harness import CASES, READY_S, Failure, case
from labvm import CRASH, LAB_FAULT, POWER_OFF, REBOOT, Disk, UserNet

ISOLATED = {"isolation": "vbs"}
# The topmost bit of guest-physical addresses, at most 47; and a boundary on a processor that has not so many: (bit,
# memory, QEMU's words, what the lab says).
TOPMOST = {"x86_64": 39, "arm64": 47}[ARCH]
NARROW = {"x86_64": (38, "64M", ["-cpu", "EPYC,+svm,+npt,phys-bits=36"],
                     r"boundary=38: .* addresses have 36 bits \(.*phys-bits=39\)"),
          "arm64": (44, "64M", ["-cpu", "cortex-a76"], r"boundary=44: .* addresses have 39 bits")}[ARCH]
SMALL_POOL = "hv.bounce=2M"                           # of one chunk: whoever finds no room waits


def isolated(**words):
    return {**ISOLATED, **{f"isolation.{key}": value for key, value in words.items()}}


def again(function, cmdline="", **words):
    """The same case in an isolated machine."""
    def run(t):
        t.lab_options, t.guest_words = isolated(**words), cmdline
        function(t)
    kind = ", ".join([f"{key} {value}" for key, value in words.items()] + [cmdline] * bool(cmdline)) or "as it comes"
    run.__name__ = "iso_" + function.__name__
    run.__doc__ = f"Isolated ({kind}): {function.__doc__}"
    case(CASES[function.__name__][1])(run)


again(cases_nbd.nbd_copy, boundary=38)
again(cases_nbd.nbd_eight_clients, SMALL_POOL, boundary=37)
again(cases_nbd.nbd_read_only, boundary=45)
again(cases_nbd.nbd_write_flush_kill)
again(cases_nbd.nbd_qemu_io, boundary=45, scramble=1)
again(cases_nbd.nbd_bad_requests, SMALL_POOL, batch=1)
again(cases_nbd.nbd_handshake, boundary=0)
again(cases_nbd.nbd_allow, batch=100)
again(cases_disk.disk_4096, boundary=37, scramble=1)
again(cases_disk.disk_add_remove, SMALL_POOL, boundary=38, scramble=1)
again(cases_disk.disk_controller_removed, boundary=38)
again(cases_disk.disk_errors, boundary=45)
again(cases_net.dhcp_and_ping, boundary=45, scramble=1)
again(cases_net.nic_add_remove, boundary=38, batch=7)
again(cases_net.udp_echo, boundary=37)
again(cases_net.http_status, boundary=0, scramble=1)
again(cases_host.host_of_many_channels, boundary=37)  # on two processors, too
again(cases_boot.boot_vhdx, boundary=38)

again(cases_malice.malice_rings_and_packets, boundary=38)
again(cases_malice.malice_bus, boundary=38, batch=16)
again(cases_malice.malice_connect, boundary=38)


@case(limit_s=100)
def iso_malice_visibility(t):
    """Calls that make pages visible or private half succeed, again and again, while devices come and go."""
    t.lab_options = isolated(boundary=38)
    cases_malice.devices(t, ("visibility",) * 3, 3)


@case(limit_s=90)
def iso_tcp_bulk(t):
    """20 MiB through TCP each way, CRC-32 compared at both ends, by a bounce pool of one chunk."""
    t.lab_options, t.guest_words = isolated(boundary=38), SMALL_POOL
    cases_net.bulk(t, 20 << 20)


def report(vm):
    """The last lab-isolation line: word -> number."""
    found = re.findall(r"^lab-isolation: (.*)$", vm.lines["lab"].text, re.M)
    if not found:
        raise Failure("the lab prints no report about isolation")
    return {key: int(value) for key, value in re.findall(r"(\w+)=(\d+)", found[-1])}


def visible_now(vm):
    vm.command("isolation", r"^lab-command: isolation.*: done")
    return report(vm)["visible"]


@case(limit_s=120)
def iso_boundaries(t):
    """Boundaries from 36 to 47 bits and none; what is shared is taken back at the end; a host with monitor pages."""
    disk = boot_disk(t)
    for bit, more in ((None, {}), (36, {"batch": 1}), (37, {}), (38, {"scramble": 1}), (45, {"batch": 16}),
                      (47, {}), (0, {"scramble": 1})):
        words = more if bit is None else {"boundary": bit, **more}
        bit = TOPMOST if bit is None else bit
        vm = t.lab(ready=None, app="hello", disks=[Disk(disk)], lab={"vmbus.monitor": 1, **isolated(**words)})
        t.equal(vm.wait(READY_S), POWER_OFF, f"boundary {bit}: QEMU's exit code")
        vm.ended = POWER_OFF
        t.check("The first sector of disk0 ends in 5a a5" in vm.console, f"boundary {bit}: the disk is read")
        t.check("The network is up: 10.0.2.15" in vm.console, f"boundary {bit}: the network is up")
        where = f"above {1 << bit:#x}" if bit else "at their own addresses"
        t.check(f"isolated by VBS: shared pages {where}" in vm.console, f"boundary {bit}: the guest says so")
        seen = report(vm)
        t.equal((seen["boundary"], seen["visible"]), (bit, 0), "boundary, pages that stay visible")
        t.equal(seen["changes"], 2 * seen["most"], "pages that changed hands: each once, and back")


@case(limit_s=60)
def iso_impossible(t):
    """A boundary that the processor can't express, or with memory above it: the lab says so and does not start."""
    for bit, mem, extra, complaint in ((36, "70G", [], r"boundary=36: the guest's memory ends at 0x1[12]"),
                                       NARROW,
                                       (50, "64M", [], r"option isolation\.boundary=50 is unknown or malformed")):
        vm = t.lab(ready=None, app="hello", disks=[], net=[], mem=mem, lab=isolated(boundary=bit), extra=extra)
        if bit == 50:
            vm.expect(complaint, READY_S, "lab")
            t.end(vm)
            continue
        t.check(re.search(complaint, ends(t, vm, f"boundary {bit}", LAB_FAULT, "lab-fault")), "the lab says why")


@case(limit_s=120)
def iso_memory(t):
    """From 16 MiB to 64 GiB, memory on both sides of 4 GiB."""
    path = t.random_disk("disk.img", 1)
    with open(path, "rb") as f:
        content = f.read()
    for mem in ("16M", "32M", "64M", "6G", "64G"):
        vm = t.lab(disks=[Disk(path)], mem=mem, lab=isolated(boundary=37))
        with nbd.Client(vm.ports["nbd"]).go("disk0") as client:
            t.check(b"".join(client.read(n << 16, 1 << 16) for n in range(16)) == content, f"{mem}: the disk is read")
        t.end(vm)


# What goes wrong when a page is to change hands, and which page.
FAULTS = (("error", 1), ("error", 600), ("error", 7000), ("drop", 5000), ("drop", 7000), ("short", 1), ("short", 3000),
          ("garbage", 3000), ("garbage", 7000))


@case(limit_s=150)
def iso_faults(t):
    """One call that makes pages visible or private fails, half succeeds or lies: no panic, and a word about it."""
    disk, happened = boot_disk(t), 0
    t.lab_options = isolated(boundary=38)
    for kind, number in FAULTS:
        happened += boots(t, disk, "visibility", kind, number, icount=False)[0]
        t.check(report(t.machines[-1])["visible"] <= 1, f"{kind}, page {number}: what stays visible")
    t.equal(happened, len(FAULTS), "faults that happened")


@case(limit_s=90)
def iso_nic_cycles(t):
    """The NIC goes and comes 15 times while a client reads: the same number of pages is visible each time."""
    path = t.random_disk("disk.img", 2)
    nets = [UserNet({"nbd": 10809, "http": 80}), UserNet({})]
    vm = t.lab(disks=[Disk(path)], net=nets, lab=isolated(boundary=38, scramble=1))
    vm.expect(r"nic1: .*up", READY_S)
    reader = cases_disk.Reader(vm.ports["nbd"], "disk0", path, 1)
    reader.start()
    t.check(cases_disk.wait_for(lambda: reader.reads > 20, 30), "the client reads")
    seen = []
    for _ in range(15):
        for verb, word in (("nic-remove", "removed"), ("nic-add", "up")):
            mark = len(vm.console)
            vm.command(f"{verb} 1", rf"^lab-command: {verb} 1.*: done")
            vm.expect(rf"nic1: .*{word}", 20, start=mark)
        seen.append(visible_now(vm))
    reader.stopping = True
    reader.join(60)
    t.check(reader.error is None and not reader.wrong, f"the client: {reader.error}")
    t.equal(len(set(seen[1:])), 1, f"numbers of visible pages: {set(seen)}")


@case(limit_s=60)
def iso_ends(t):
    """Power-off and restart by the host, power-off by the application, quit: nothing stays visible after an orderly end."""
    path = t.random_disk("disk.img", 1)
    for how, code in (("off", POWER_OFF), ("restart", REBOOT)):
        vm = t.lab(disks=[Disk(path)], lab=isolated(boundary=38))
        t.check(visible_now(vm) > 4000, f"pages are shared: {report(vm)}")
        vm.expect(r"host: ic shutdown: framework", 30, "lab")       # the services come up after the application
        vm.command(f"shutdown {how}", r"^lab-command: shutdown.*: done")
        t.equal(vm.wait(30), code, f"{how}: QEMU's exit code")
        vm.ended = code
        t.equal(report(vm)["visible"], 0, f"{how}: pages that stay visible")


@case(limit_s=60)
def iso_crash(t):
    """A panic: the host gets its numbers, and its text only where hv.crash_text= gives it."""
    for words, told in (("", False), (" hv.crash_text=yes", True)):
        vm = t.lab(ready=None, app="hello", disks=[], net=[], cmdline="selftest=assert" + words, lab=isolated(boundary=38))
        lab = ends(t, vm, "assert", CRASH, "crash")
        t.check(re.search(r"the guest crashed: P0 0x43414e44", lab, re.I), "crash parameters")
        t.equal("lab-crash: " in lab, told, "the host gets the text")
        t.check(re.search(r"panic: .*assert", vm.console), "the console has it all the same")
