# SPDX-License-Identifier: BSD-2-Clause
"""Stock Linux in the isolated machine, as a judge of the lab: what it shares, what it takes back, what it refuses.

Since 6.4 Linux reaches shared pages above the boundary everywhere, so it runs where each page has one side only. Before,
it did so for monitor pages and for data (by its bounce pool) and used rings and network buffers at their private
addresses, unless the isolation is by SEV-SNP: it needs isolation.lenient=1. Debian 12's own kernel, 6.1, is of the second
kind and that of its backports of the first. Both drop the offers of key-value pairs and of dynamic memory.
"""
import re

import linuximage
import network
import storage
from cases_linux import check_bound
from guest import Guest
from harness import Skip, case
from labvm import POWER_OFF, Disk

MIB = 1 << 20
FIRST_WITH_SIDES = (6, 4)
PAGES_OF_A_NIC = 17 * MIB >> 12                       # the least that its buffers take


def isolated(boundary, **words):
    return {"isolation": "vbs", "isolation.boundary": boundary, **{f"isolation.{key}": n for key, n in words.items()}}


def kernel(newer):
    """The distribution's own kernel, or that of its backports, whichever keeps the two sides apart, or does not."""
    found = []
    for backport in (False, True):
        try:
            linux = linuximage.Linux(linuximage.fetch(backport=backport))
        except linuximage.Unavailable as why:
            raise Skip(str(why)) from None
        version = tuple(int(n) for n in re.match(r"(\d+)\.(\d+)", linux.release).groups())
        if (version >= FIRST_WITH_SIDES) == newer:
            return linux
        found.append(linux.release)
    raise Skip(f"no Linux {'from' if newer else 'before'} 6.4 among {', '.join(found)}")


def report(guest):
    """The lab's own book: word -> number."""
    found = guest.vm.command("isolation", r"^lab-isolation: (.*)$")
    return {key: int(value) for key, value in re.findall(r"(\w+)=(\d+)", found[1])}


def check_isolated(t, guest, bit):
    """Linux knows what it is in. Its log has no other complaint than those about the offers it drops."""
    log = guest.check_log(allowed=[r"^hv_vmbus: Invalid offer \d+ from the host supporting isolation"])
    t.check(re.search(rf"^Hyper-V: Isolation Config: Group A 0x0, Group B {1 | 1 << 5 | bit << 6:#x}$", log, re.M),
            "the isolation leaf")
    t.check(re.search(r"^software IO TLB: mapped", log, re.M), "there is a pool by which data goes")
    t.equal(len(re.findall(r"Invalid offer \d+ from the host supporting isolation", log)), 2, "offers dropped")
    t.equal(report(guest)["boundary"], bit, "the lab's boundary")


@case(limit_s=180, arch="x86_64")
def linux_isolated(t):
    """Each page on one side only, two processors: disk and network; buffers that go and come; the host's request to end."""
    source, target = t.random_disk("source.img", 32), t.random_disk("target.img", 32, seed=2)
    plugged = t.random_disk("plugged.img", 4, seed=3)
    writes = storage.Writes(60, 32 * MIB, 16 * MIB)
    guest = Guest(t, cpus=2, linux=kernel(newer=True), disks=[Disk(source), Disk(target, writable=True), Disk(plugged)],
                  lab={"lun.absent": "2", **isolated(38)}, files={"/etc/writes": writes.script()})
    check_bound(t, guest, channels=2)
    storage.check_whole(t, guest, guest.disk(0), source)
    storage.check_parallel(t, guest, guest.disk(0), source)
    writes.run(t, guest, source, target)
    storage.check_discard(t, guest, guest.disk(1), target, 20 * MIB, 4 * MIB)
    storage.check_hotplug(t, guest, 2, plugged)
    t.equal(guest.dhcp(), "10.0.2.15", "the address")
    network.check_ping(t, guest)
    network.check_http(t, guest, 16 * MIB)

    before = report(guest)["visible"]
    guest.run("rmmod hv_netvsc; ! [ -d /sys/class/net/eth0 ]")
    given_back = before - report(guest)["visible"]
    t.check(given_back >= PAGES_OF_A_NIC, f"without its driver the NIC's pages are private again: {given_back}")
    guest.run("load_modules hv_netvsc")
    guest.dhcp()
    network.check_http(t, guest, 4 * MIB)
    t.check(abs(before - report(guest)["visible"]) < 64, f"with it they are shared again: {report(guest)}, {before}")

    check_isolated(t, guest, 38)
    guest.end_by_host("off", "power off", POWER_OFF)


@case(limit_s=120, arch="x86_64")
def linux_isolated_old(t):
    """A kernel that uses shared pages at their private addresses, on a host that lets it: disk and network."""
    source, target = t.random_disk("source.img", 8), t.random_disk("target.img", 8, seed=2)
    writes = storage.Writes(10, 8 * MIB, 8 * MIB, seed=3)
    guest = Guest(t, linux=kernel(newer=False), lab=isolated(37, lenient=1),
                  disks=[Disk(source), Disk(target, writable=True)], files={"/etc/writes": writes.script()})
    storage.check_whole(t, guest, guest.disk(0), source)
    writes.run(t, guest, source, target)
    t.equal(guest.dhcp(), "10.0.2.15", "the address")
    network.check_http(t, guest, 4 * MIB)
    check_isolated(t, guest, 37)
    guest.power_off()
