# SPDX-License-Identifier: BSD-2-Clause
"""Hosts of every age and kind: each must be good enough to boot from and to serve a disk on."""
import re

import nbdclient as nbd
from harness import Failure, READY_S, case
from labvm import Disk, VMError

# Leaf 0x40000003 EAX: without reference TSC, without synthetic timers, with neither clock nor timer.
ALL_ACCESS = 0xA6F
REFERENCE_TSC, STIMER, FREQUENCY, REFERENCE_COUNTER = 1 << 9, 1 << 3, 1 << 11, 1 << 1


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
        "no offloads": {"netvsp.checksum": 0, "netvsp.lso": 0},
        "monitor pages": {"vmbus.monitor": 1},
        "no connection 4": {"vmbus.multi_client": 0},
        "small transfers": {"storvsp.max_transfer": 65536},
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
