# SPDX-License-Identifier: BSD-2-Clause
"""Hosts of every age and kind: each must be good enough to boot from and to serve a disk on."""
import re

import nbdclient as nbd
from harness import Failure, READY_S, case
from labvm import Disk, VMError

# Leaf 0x40000003 EAX: without reference TSC, without synthetic timers, with neither clock nor timer.
ALL_ACCESS = 0xA6F
REFERENCE_TSC, STIMER, FREQUENCY, REFERENCE_COUNTER = 1 << 9, 1 << 3, 1 << 11, 1 << 1
# Leaf 0x40000003 EDX, leaf 0x40000004 EAX.
FREQUENCY_MSRS, CRASH_MSRS, STIMER_DIRECT = 1 << 8, 1 << 10, 1 << 19
REMOTE_FLUSH, RELAXED, NO_AUTO_EOI = 1 << 2, 1 << 5, 1 << 9


def serves(t, disk, name, options, cmdline="", says=()):
    """Boots on such a host, reads 1 MiB over NBD and compares; the console must say `says`."""
    with open(disk, "rb") as f:
        content = f.read(1 << 20)
    try:
        vm = t.lab(disks=[Disk(disk)], lab=options, cmdline=cmdline)
        with nbd.Client(vm.ports["nbd"]).go("disk0") as client:
            t.check(client.read(0, 1 << 20) == content, "1 MiB is read right")
        for pattern in says:
            t.check(re.search(pattern, vm.console), f"the console says {pattern!r}")
        t.end(vm)
    except (Failure, VMError, nbd.NBDError, nbd.ProtocolError, OSError) as why:
        raise Failure(f"{name}: {why}") from why


@case(limit_s=150)
def host_versions(t):
    """Every version of VMBus, storage and network protocol a host may be limited to."""
    disk = t.random_disk("disk.img", 1)
    for version in ("2.4", "3.0", "4.0", "4.1", "5.0", "5.1", "5.2"):
        serves(t, disk, f"VMBus {version}", {"vmbus.version": version}, says=[rf"vmbus: version {re.escape(version)}"])
    for version in ("2.0", "4.2", "5.1", "6.0"):
        serves(t, disk, f"storvsp {version}", {"storvsp.version": version})
    for version in ("1.0", "2.0", "4.0", "5.0", "6.0"):
        serves(t, disk, f"netvsp {version}", {"netvsp.version": version})


@case(limit_s=120)
def host_poor(t):
    """Hosts that lack something optional: reference TSC, synthetic timers, frequencies, offloads, MNF, connection 4."""
    disk = t.random_disk("disk.img", 1)
    hosts = {
        "no reference TSC": {"hv.access": ALL_ACCESS & ~REFERENCE_TSC},
        "no synthetic timers": {"hv.access": ALL_ACCESS & ~STIMER},
        "no frequency MSRs": {"hv.access": ALL_ACCESS & ~FREQUENCY},
        "no clock of its own": {"hv.access": ALL_ACCESS & ~(REFERENCE_TSC | REFERENCE_COUNTER)},
        "nothing recommended": {"hv.hints": 0},
        "no features": {"hv.features": 0},
        "no direct timers": {"hv.features": FREQUENCY_MSRS | CRASH_MSRS},
        "no crash registers": {"hv.features": FREQUENCY_MSRS | STIMER_DIRECT},
        "auto-EOI wanted": {"hv.hints": RELAXED},
        "no offloads": {"netvsp.checksum": 0, "netvsp.lso": 0},
        "monitor pages": {"vmbus.monitor": 1},
        "no connection 4": {"vmbus.multi_client": 0},
        "answers of 12 bytes": {"vmbus.version": "4.1", "vmbus.response_bytes": 12},
        "messages by connection 1": {"vmbus.message_connection": 1},
        "transfers of 64 KiB": {"storvsp.max_transfer": 65536},
        "transfers of 4 KiB": {"storvsp.max_transfer": 4096},
        "continued calls": {"hv.rep_batch": 1, "hv.hints": NO_AUTO_EOI | REMOTE_FLUSH},
        "one frame a packet": {"netvsp.rx_batch": 1},
        "jumbo frames": {"netvsp.mtu": 9000},
        # What OpenVMM on KVM shows: no post and signal privileges, no reference TSC, no crash registers.
        "like OpenVMM on KVM": {"hv.access": 0x87F, "hv.privileges": 0, "hv.features": 0x100, "hv.hints": 0x200,
                                "hv.enforce": 0, "vmbus.multi_client": 1, "storvsp.version": "6.0",
                                "netvsp.rx_batch": 375},
    }
    for name, options in hosts.items():
        serves(t, disk, name, options)


@case(limit_s=60)
def host_without_vmbus(t):
    """A hypervisor that grants no SynIC: one clear line, no disks, no network, a clean end."""
    vm = t.lab(ready=None, app="hello", disks=[], lab={"hv.access": ALL_ACCESS & ~(1 << 2)})
    vm.expect(r"Hello from", READY_S)
    lines = re.findall(r"^.*no VMBus devices.*$", vm.console, re.M)
    t.equal(len(lines), 1, f"lines about VMBus: {lines}")
    t.equal(vm.wait(30), 33, "the application ends and the machine powers off")
    vm.ended = 33


def says_once(t, vm, pattern, what):
    lines = re.findall(rf"^.*{pattern}.*$", vm.console, re.M)
    t.equal(len(lines), 1, f"{what}: lines that say so: {lines}")


@case(limit_s=60)
def host_offers_nothing(t):
    """A bus without a device: the machine comes up, says what it has not, and goes on."""
    vm = t.lab(ready=None, disks=[], net=[], lab={"storvsp.present": 0, "ic.all": 0, "balloon.present": 0})
    vm.expect(r"\bno (NIC|network)\b", READY_S)
    vm.expect(r"\bno disks?\b", READY_S)
    says_once(t, vm, r"vmbus: 0 offers", "no offers")
    says_once(t, vm, r"\bno (NIC|network)\b", "no NIC")
    says_once(t, vm, r"\bno disks?\b", "no disk")


@case(limit_s=60)
def host_without_privileges(t):
    """A partition that may not post messages or signal events: one clear line, and no attempt to do so."""
    vm = t.lab(ready=None, app="hello", disks=[], lab={"hv.privileges": 0})
    vm.expect(r"Hello from", READY_S)
    t.equal(vm.wait(READY_S), 33, "the application ends and the machine powers off; no rule was broken")
    vm.ended = 33
    says_once(t, vm, r"no VMBus", "no privileges")
    t.check("access denied" in vm.console, "why")


@case(limit_s=90)
def host_of_many_channels(t):
    """A host with several channels for each device: the first is enough, no other is asked for; one processor and two."""
    disk = t.random_disk("disk.img", 4)
    with open(disk, "rb") as f:
        content = f.read()
    for cpus in (1, 2):
        vm = t.lab(disks=[Disk(disk)], cpus=cpus, lab={"storvsp.channels": 4, "netvsp.queues": 4, "trace": "vmbus"})
        with nbd.Client(vm.ports["nbd"]).go("disk0") as client:
            t.check(client.read(0, len(content)) == content, "the disk is read right")
        t.end(vm)
        offers = re.findall(r"offer (\w+): channel \d+\.(\d+)", vm.lines["lab"].text)
        t.equal(sorted(o for o in offers if o[0] in ("storvsp", "netvsp")), [("netvsp", "0"), ("storvsp", "0")], "offers")
