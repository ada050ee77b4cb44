# SPDX-License-Identifier: BSD-2-Clause
"""Dynamic memory by Linux's own hv_balloon: what it gives is really unmapped, so it must not touch it."""
import re
import time

from boards import ARCH
from guest import Guest
from harness import Failure, case
from labvm import Disk

LARGE = 512                                            # pages; Linux warns of requests that are no multiple


def memory(vm):
    """The lab's report: word -> value."""
    found = vm.command("memory", r"^lab-memory: (.*)$")
    return {k: v if k == "version" else int(v) for k, v in (word.split("=") for word in found[1].split())}


def request(vm, command, limit_s=60):
    """One request, until it is answered; the report after it."""
    before, deadline = memory(vm)["exchanges"], time.monotonic() + limit_s
    vm.command(command, rf"lab-command: {command}.*: done")
    while time.monotonic() < deadline:
        seen = memory(vm)
        if seen["exchanges"] > before and not seen["busy"]:
            return seen
        time.sleep(0.1)
    raise Failure(f"{command}: not answered within {limit_s} s: {seen}")


def pages(guest, name):
    return int(re.search(rf"^{name}: +(\d+) kB", guest.run("cat /proc/meminfo"), re.M)[1]) // 4


def bound(t, guest, version):
    guest.wait_for(f"dmesg | grep -q 'Using Dynamic Memory protocol version {version}'", "hv_balloon has its version")
    t.equal(memory(guest.vm)["version"], version, "version")


@case(limit_s=180)
def linux_memory(t):
    """hv_balloon gives memory and gets it back in pieces while a disk is read; memory is added and used."""
    source = t.random_disk("source.img", 64)
    guest = Guest(t, disks=[Disk(source)], mem="768M", lab={"guest_mem": "512M"}, cmdline="memhp_default_state=online")
    bound(t, guest, "2.0")
    free = pages(guest, "MemFree")
    taken = request(guest.vm, f"balloon {100 * LARGE}")
    t.equal(taken["moved"], 100 * LARGE, "pages that the host got")
    t.check(pages(guest, "MemFree") < free - 90 * LARGE, "and that Linux does not have")
    disk = guest.disk(0)
    for n in range(4):
        guest.run(f"sha256sum {disk} > /sum{n} &")
        t.equal(request(guest.vm, f"unballoon {30 * LARGE + n}")["ballooned"], 70 * LARGE - n, "what is left")
        guest.run("wait")
        request(guest.vm, f"unballoon {1 << 20}")
        request(guest.vm, f"balloon {100 * LARGE}")
    t.equal(len(set(guest.run("cat /sum*").split()) - {disk}), 1, "different sums of one disk")
    t.equal(request(guest.vm, f"unballoon {1 << 20}")["ballooned"], 0, "after all came back")
    if ARCH == "arm64":
        guest.check_log(allowed=[r"Balloon request will be partially fulfilled"])
        guest.power_off()
        return                                        # Linux adds no memory there
    total = pages(guest, "MemTotal")
    added = request(guest.vm, "hot-add 128")
    t.equal((added["moved"], added["result"]), (32768, 1), "pages added")
    guest.wait_for(f"[ $(awk '/MemTotal/ {{print $2}}' /proc/meminfo) -gt {(total + 30000) * 4} ]",
                   "Linux uses the new memory")
    guest.check_log(allowed=[r"Balloon request will be partially fulfilled"])
    guest.power_off()


@case(limit_s=120)
def linux_memory_versions(t):
    """Hosts of version 1.0 and 0.3 of the protocol, and one that gives back a few ranges in a message."""
    for words, version in (({"balloon.version": "1.0", "balloon.ranges": 2}, "1.0"), ({"balloon.version": "0.3"}, "0.3")):
        guest = Guest(t, lab=words)
        bound(t, guest, version)
        request(guest.vm, f"balloon {40 * LARGE}")
        for _ in range(3):
            request(guest.vm, f"unballoon {7 * LARGE}")
        t.equal(request(guest.vm, f"unballoon {40 * LARGE}")["ballooned"], 0, "after all came back")
        guest.check_log()
        guest.power_off()
