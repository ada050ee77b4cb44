# SPDX-License-Identifier: BSD-2-Clause
"""Dynamic memory: the host takes memory while the server works, gives it back, and adds some.

The lab unmaps what the guest gives: a guest that still used a page of it would end the case as a violation.
"""
import re
import time

from cases_ic import metric, page
from harness import Failure, case, sha256
from labvm import Disk

MIB_PAGES = 256


def memory(vm):
    """The lab's report: word -> value."""
    found = vm.command("memory", r"^lab-memory: (.*)$")
    return {k: v if k == "version" else int(v) for k, v in (word.split("=") for word in found[1].split())}


def wait_memory(vm, what, condition, limit_s=60):
    """The first report for which condition holds."""
    deadline = time.monotonic() + limit_s
    while True:
        seen = memory(vm)
        if condition(seen):
            return seen
        if time.monotonic() > deadline:
            raise Failure(f"not within {limit_s} s: {what}: {seen}")
        time.sleep(0.1)


def ready(vm):
    return wait_memory(vm, "the handshake", lambda m: m["ready"])


def request(vm, command):
    """One request, until it is answered; the report after it."""
    before = memory(vm)["exchanges"]
    vm.command(command, rf"lab-command: {command}.*: done")
    return wait_memory(vm, f"an answer to {command}", lambda m: m["exchanges"] > before and not m["busy"])


@case(limit_s=150)
def memory_balloon_during_copy(t):
    """The host takes half of the memory, more, and returns it in pieces while nbdcopy reads: every byte is right."""
    path = t.random_disk("disk.img", 192)
    vm = t.lab(disks=[Disk(path)])
    start = ready(vm)
    t.equal(start["version"], "2.0", "version")
    copy = t.background("nbdcopy", f"nbd://127.0.0.1:{vm.ports['nbd']}/disk0", t.path("copy.img"))
    taken = request(vm, f"balloon {128 * MIB_PAGES}")
    t.equal(taken["moved"], 128 * MIB_PAGES, "pages that the host got")
    t.check(taken["ranges"] <= 8, f"in few large ranges: {taken['ranges']}")
    rounds = 0
    while copy.poll() is None or rounds < 4:
        back = request(vm, f"unballoon {40 * MIB_PAGES + rounds}")
        t.equal(back["ballooned"], taken["ballooned"] - 40 * MIB_PAGES - rounds, "what is left of it")
        taken = request(vm, f"balloon {40 * MIB_PAGES + rounds}")
        rounds += 1
    t.equal(copy.wait(), 0, "nbdcopy")
    t.equal(sha256(t.path("copy.img")), sha256(path), "SHA-256 of the copy")

    most = request(vm, f"balloon {1 << 20}")
    t.check(0 < most["moved"] < 128 * MIB_PAGES, f"not below the floor: {most['moved']} pages more")
    t.equal(request(vm, "balloon 512")["moved"], 0, "at the floor")
    t.run("nbdcopy", f"nbd://127.0.0.1:{vm.ports['nbd']}/disk0", t.path("copy.img"), limit_s=60)
    t.equal(sha256(t.path("copy.img")), sha256(path), "SHA-256 of the copy made at the floor")
    t.equal(metric(vm, "candela_memory_given_pages"), memory(vm)["ballooned"], "given pages by /metrics")
    taken_mib = memory(vm)["ballooned"] // MIB_PAGES
    t.check(f"taken by the host</th><td>{taken_mib} MiB" in page(vm, "/"), f"{taken_mib} MiB on the status page")
    all_back = request(vm, f"unballoon {1 << 20}")
    t.equal(all_back["ballooned"], 0, "after all came back")
    t.equal(metric(vm, "candela_memory_given_pages"), 0, "given pages by /metrics")
    t.check(metric(vm, "candela_balloon_reports_total") > 2, "reports were sent")
    t.equal(metric(vm, "candela_balloon_lies_total"), 0, "lies")


@case(limit_s=60)
def memory_hot_add(t):
    """Memory added while the machine runs is on the status page, can be ballooned away and comes back."""
    vm = t.lab(disks=[Disk(t.random_disk("disk.img", 8))], mem="640M", lab={"guest_mem": "256M", "balloon.max_mib": 640})
    ready(vm)
    before = metric(vm, "candela_memory_ram_pages")
    vm.expect(r"may give up to 640 MiB", 20)
    for mib in (128, 200):
        added = request(vm, f"hot-add {mib}")
        t.equal((added["moved"], added["result"]), (mib * MIB_PAGES, 1), f"{mib} MiB added")
    t.equal(metric(vm, "candela_memory_ram_pages"), before + 328 * MIB_PAGES, "RAM by /metrics")
    t.equal(metric(vm, "candela_balloon_hot_added_pages_total"), 328 * MIB_PAGES, "added pages by /metrics")
    total = re.search(r"of (\d+) MiB free", page(vm, "/"))
    t.equal(int(total[1]), (before + 328 * MIB_PAGES) >> 8, "MiB of RAM on the status page")
    t.check(request(vm, f"balloon {400 * MIB_PAGES}")["moved"] == 400 * MIB_PAGES, "more than there was can be given")
    t.equal(request(vm, f"unballoon {400 * MIB_PAGES}")["ballooned"], 0, "all came back")
    vm.command("hot-add 300", "lab-command: hot-add.*refused")          # the lab has kept back no more
    # A host that lies: there is nothing where it says, and nothing is added.
    t.equal(request(vm, "hot-add 64 nowhere")["moved"], 0, "of memory that does not exist")
    vm.expect(r"don't hold what is written", 10)
    t.equal(metric(vm, "candela_memory_ram_pages"), before + 328 * MIB_PAGES, "RAM by /metrics")


@case(limit_s=60)
def memory_device_goes_and_comes(t):
    """The device is taken away with memory out, and offered again: it gives back what the old one took."""
    vm = t.lab(disks=[Disk(t.random_disk("disk.img", 8))])
    ready(vm)
    request(vm, f"balloon {64 * MIB_PAGES}")
    vm.command("balloon-remove", "lab-command: balloon-remove.*done")
    vm.expect(r"balloon: .* 64 MiB stay with the host", 20)
    t.run("nbdinfo", "--size", f"nbd://127.0.0.1:{vm.ports['nbd']}/disk0")
    deadline = time.monotonic() + 60
    while vm.command("balloon-add", r"lab-command: balloon-add.*: (\w+)")[1] != "done":
        t.check(time.monotonic() < deadline, "the device can be offered again")
        time.sleep(0.1)
    ready(vm)
    t.equal(request(vm, f"unballoon {64 * MIB_PAGES}")["ballooned"], 0, "after all came back")
    t.equal(metric(vm, "candela_memory_given_pages"), 0, "given pages by /metrics")


@case(limit_s=90)
def memory_versions(t):
    """Hosts of every version of the protocol, one that wants no reports, one without the device, and the setting."""
    for words, version in (({"balloon.version": "1.0"}, "1.0"), ({"balloon.version": "0.3"}, "0.3"),
                           ({"balloon.reports": 0}, "2.0")):
        vm = t.lab(disks=[Disk(t.random_disk("disk.img", 1))], lab=words)
        t.equal(ready(vm)["version"], version, "version")
        t.equal(request(vm, "balloon 5000")["moved"], 5000, "pages that the host got")
        t.equal(request(vm, "unballoon 5000")["ballooned"], 0, "after all came back")
        t.kill(vm)
    for words, cmdline in (({"balloon.present": 0}, ""), ({}, "memory.balloon=no")):
        vm = t.lab(disks=[Disk(t.random_disk("disk.img", 1))], lab=words, cmdline=cmdline)
        t.run("nbdinfo", "--size", f"nbd://127.0.0.1:{vm.ports['nbd']}/disk0")
        t.check("dynamic memory 2.0" not in vm.console, "no handshake")
        t.kill(vm)


@case(limit_s=60)
def memory_blocks(t):
    """Second-stage tables: 1 GiB of RAM or of a device's registers costs one entry, not 512 tables, to map and unmap."""
    vm = t.lab(disks=[])
    vm.command("nested-cost 1024", r"^lab-command: nested-cost 1024.*: done")
    lines = re.findall(r"^lab-nested: 1024 MiB of (\w+): blocks map=(\d+) unmap=(\d+) tables=(\d+), "
                       r"pages map=(\d+) unmap=(\d+) tables=(\d+)$", vm.lines["lab"].text, re.M)
    t.equal([line[0] for line in lines], ["RAM", "device"], "what was measured")
    for kind, *numbers in lines:
        block_map, block_unmap, block_tables, page_map, page_unmap, page_tables = map(int, numbers)
        t.equal((block_tables, page_tables), (1, 514), f"{kind}: tables")
        t.check(block_map * 50 < page_map and block_unmap * 50 < page_unmap, f"{kind}: nanoseconds {numbers}")
    vm.command("nested-cost 0", r"^lab-command: nested-cost 0.*: refused")
