# SPDX-License-Identifier: BSD-2-Clause
"""A host that answers wrongly: at every point, in every way, while the guest boots and while it works."""
import re

import nbdclient as nbd
from cases_bad import IMAGE
from cases_disk import Reader, wait_for
from harness import READY_S, Failure, case
from labvm import POWER_OFF, Disk, VMError

POINTS = ("post", "vmbus", "storvsp-handshake", "storvsp-io", "netvsp-handshake", "netvsp-tx", "rndis", "register")
KINDS = ("drop", "error", "short", "wrong-id", "twice", "garbage")
# The longest that a guest may wait for a host: a request of a disk (240 s), then a reset of it, then to say goodbye.
LIMIT_S = 700
ENDS_IN = (0x5A, 0xA5)


def boots(t, disk, point, kind, number, icount=True):
    """Boots with that fault; icount: time without work is skipped (sleep=off), so that limits cost nothing."""
    name = f"{point}, reply {number}: {kind}"
    try:
        vm = t.lab(ready=None, app="hello", disks=[Disk(disk)], icount=icount,
                   lab={f"fault.{point}": f"{kind},{number}", "tick": 1000})
        t.equal(vm.wait(READY_S), POWER_OFF, "QEMU's exit code")
        vm.ended = POWER_OFF
        happened = re.search(r"fault \d at reply", vm.lines["lab"].text) is not None
        t.check(not re.search(r"panic: ", vm.console), "no panic")
        t.check("Hello from" in vm.console, "the application runs")
        found = re.search(r"sector of disk0 ends in (\w\w) (\w\w)", vm.console)
        complaint = re.search(r"(warning|error): ", vm.console) or re.search(r"\b(again|retr\w+)\b", vm.console)
        t.check(found or complaint, "no disk, and no word about it")
        if found:
            t.equal((int(found[1], 16), int(found[2], 16)), ENDS_IN, "the end of the first sector")
        took = vm.counters()["time_us"] / 1e6
        t.check(took < LIMIT_S, f"it took {took:.0f} s")
        return happened, took
    except (Failure, VMError) as why:
        raise Failure(f"{name}: {why}") from why


def boot_disk(t):
    path = t.blank_disk("disk.img", 1 << 20)
    with open(path, "r+b") as f:
        f.seek(510)
        f.write(bytes(ENDS_IN))
    return path


@case(limit_s=400)
def fault_at_boot(t):
    """One reply of the host goes wrong while the guest boots: every point, every kind, numbers taken in turn."""
    disk, number, happened = boot_disk(t), 0, 0
    for point in POINTS:
        for kind in KINDS:
            if point in ("post", "register") and kind not in ("drop", "error"):
                continue                              # these have no reply that could be cut or doubled
            number = number % 6 + 1
            happened += boots(t, disk, point, kind, number)[0]
    t.note(f"{happened} faults happened")
    t.check(happened > 25, f"only {happened} faults happened")


def busy_machine(t):
    """Four clients, two on each of two disks, all reading."""
    paths = [t.random_disk(f"disk{n}.img", 2, seed=n) for n in range(2)]
    vm = t.lab(disks=[Disk(p) for p in paths])
    readers = [Reader(vm.ports["nbd"], f"disk{n % 2}", paths[n % 2], n) for n in range(4)]
    for reader in readers:
        reader.start()
    t.check(wait_for(lambda: all(r.reads > 20 for r in readers), READY_S), "all clients read")
    return vm, readers


def inject(vm, point, kind, number):
    """That reply from now on goes wrong; waits until it did."""
    vm.command(f"fault {point} {kind},{number}", rf"^lab-command: fault {point} .*: done")
    vm.expect(r"fault \d at reply", READY_S, "lab", vm.lines["lab"].text.rindex(f"fault {point} {kind},{number}"))


@case(limit_s=240)
def fault_under_load(t):
    """A completion of a disk or of the network goes wrong under load: one client at most suffers, no byte is wrong."""
    for point in ("storvsp-io", "netvsp-tx"):
        for kind in KINDS:
            name = f"{point}: {kind}"
            try:
                vm, readers = busy_machine(t)
                inject(vm, point, kind, 7)
                before = [r.reads for r in readers]
                t.check(wait_for(lambda: sum(r.reads > n + 20 for r, n in zip(readers, before)) >= 3, READY_S),
                        f"others go on: {[(r.reads - n, str(r.error)) for r, n in zip(readers, before)]}")
                t.check(not any(r.wrong for r in readers), "every byte read is right")
                t.check(not re.search(r"panic: ", vm.console), "no panic")
                for reader in readers:
                    reader.stopping = True
                with nbd.Client(vm.ports["nbd"]) as client:
                    t.check(client.list(), "the server lists its disks")
                t.end(vm)
            except (Failure, VMError) as why:
                raise Failure(f"{name}: {why}") from why


@case(limit_s=60)
def fault_commands(t):
    """The lab's commands check what they are given."""
    vm = t.lab(ready=None, image=IMAGE, disks=[], net=[], cmdline="args=halt",
               lab={"fault.nowhere": "drop", "fault.rndis": "bend,1"})
    for words in ("fault", "fault storvsp-io", "fault storvsp-io drop,0", "fault storvsp-io drop,x", "fault x drop"):
        vm.command(words, r"^lab-command: fault.*: refused")
    vm.expect(r"option fault\.nowhere=drop is unknown or malformed", 5, "lab")
    vm.expect(r"option fault\.rndis=bend,1 is unknown or malformed", 5, "lab")
