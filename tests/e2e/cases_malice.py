# SPDX-License-Identifier: BSD-2-Clause
"""A host that lies to the real image: about one disk and one NIC while others are honest, and from the first contact on.

What a client of the NBD server may never see is a wrong byte that is said to be right. Beside that: no panic (which is
what a touched guard page ends in), nothing that the host calls a broken rule, no wait without end, a log that stays
short, and the honest host's disk and network go on. The same classes of lies, by many more seeds, under sanitizers and
with time that jumps: tests/unit/test_malice*.c. Lies and their seeds: lab/liar.c.
"""
import random
import re
import threading
import time

import nbdclient as nbd
from cases_disk import Reader, wait_for
from cases_fault import ENDS_IN, boot_disk
from cases_ic import components
from cases_memory import ready, request, wait_memory
from harness import READY_S, Failure, case
from labvm import POWER_OFF, Disk, UserNet, VMError

# Rates: of so many occasions one is used; a busy machine has many occasions of some classes.
CLASSES = {"ring": 6, "frame": 6, "id": 3, "swap": 4, "length": 4, "status": 4, "handshake": 3, "offer": 60,
           "rescind": 20, "silence": 12, "message": 3, "refuse": 4, "rndis": 1, "storm": 40, "gpadl": 2, "wiring": 2, "visibility": 600}
# While the guest connects; everything is lied about, the whole machine may come to nothing.
CONNECT = (("connect", 2), ("connect", 1), ("refuse", 3), ("silence", 6), ("message", 4), ("gpadl", 2), ("wiring", 2),
           ("status", 4), ("handshake", 4), ("rescind", 6))
WORK_S = 1.5
RENEW_S = 8
FIRST_LIE_S = 6                                       # for an occasion, on a busy machine
BACK_S = 80                                           # for new devices, after the lies
LINES = 120                                           # of the console, for one class
LIMIT_S = 1200                                        # of the guest's time, for a whole life among lies


class Liar(threading.Thread):
    """A client of the liar's disk: reads what was there, writes each place once; begins anew when the server ends it."""

    def __init__(self, vm, path, seed):
        super().__init__(daemon=True)
        self.vm, self.places = vm, random.Random(seed)
        with open(path, "rb") as f:
            self.content = f.read()
        self.half = len(self.content) // 2            # reads below, writes above
        self.good, self.bad, self.wrong, self.stopping = 0, 0, None, False
        self.next_write, self.written = self.half, {}

    def one(self, client):
        if self.places.randrange(4) == 0 and self.next_write + 4096 <= len(self.content):
            at, data = self.next_write, self.places.randbytes(4096)
            self.next_write += 4096
            client.write(at, data, nbd.FLAG_FUA)
            self.written[at] = data
            return
        length = 512 * self.places.randrange(1, 128)
        at = 512 * self.places.randrange((self.half - length) // 512)
        if client.read(at, length) != self.content[at:at + length]:
            self.wrong = f"{length} bytes read at {at:#x}"

    def run(self):
        while not self.stopping:
            try:
                with nbd.Client(self.vm.ports["nbd"], timeout=3).go("disk1") as client:
                    while not self.stopping:
                        try:
                            self.one(client)
                            self.good += 1
                        except nbd.NBDError:          # failed, and said so
                            self.bad += 1
            except (nbd.NBDError, nbd.ProtocolError, OSError):
                self.bad += 1
                time.sleep(0.1)

    def check_written(self, t, path):
        """What was said to be on the disk is."""
        with open(path, "rb") as f:
            for at, data in self.written.items():
                f.seek(at)
                t.check(f.read(len(data)) == data, f"the write at {at:#x} was called done, and is not on the disk")


def back(vm):
    """The liar's devices are there again, and right."""
    deadline, again = time.monotonic() + BACK_S, 0
    while True:
        # A disk that comes while a client still holds the last one is not disk1; once more, then.
        if time.monotonic() > again:
            vm.command("malice renew", r"^lab-command: malice renew.*: done")
            again = time.monotonic() + RENEW_S
        try:
            with nbd.Client(vm.ports["nbd"], timeout=5).go("disk1") as client:
                client.read(0, 4096)
                return
        except (nbd.NBDError, nbd.ProtocolError, OSError) as why:
            if vm.panicked() or vm.poll() is not None:
                raise Failure(vm.panicked() or "the machine ended") from why
            if time.monotonic() > deadline:
                raise Failure(f"disk1 does not come back: {why}") from why
            time.sleep(0.2)


def lie_for_a_while(t, vm, honest, name, seed, rate, path):
    client, mark, before = Liar(vm, path, seed), len(vm.console), honest.reads
    client.start()
    vm.command(f"malice {name},{seed},{rate}", rf"^lab-command: malice {name},.*: done")
    vm.command("malice renew", r"^lab-command: malice renew.*: done")       # the first steps are lied about, too
    time.sleep(WORK_S)
    deadline = time.monotonic() + FIRST_LIE_S
    while not (told := int(vm.command("malice", r"^lab-malice: .*lies=(\d+)")[1])) and time.monotonic() < deadline:
        time.sleep(0.2)
    vm.command("malice off", r"^lab-command: malice off.*: done")
    t.check(wait_for(lambda: honest.reads > before + 20 or honest.error, BACK_S), f"the honest disk: {honest.reads - before}")
    back(vm)
    client.stopping = True
    client.join(60)
    t.check(not client.is_alive(), "a client waits for ever")
    t.check(not re.search(r"panic: ", vm.console), "no panic")
    t.check(client.wrong is None, f"a wrong byte was good: {client.wrong}")
    t.check(honest.error is None and not honest.wrong, f"the honest disk: {honest.error}, wrong: {honest.wrong}")
    client.check_written(t, path)
    lines = vm.console.count("\n", mark)
    t.check(lines <= LINES * (3 if name == "offer" else 1), f"{lines} lines on the console")
    t.note(f"{name}: {told} lies; {client.good} requests good, {client.bad} failed; {lines} lines")
    return told


def devices(t, classes, seed, monitor=0):
    paths = [t.random_disk(f"disk{n}.img", 4, seed=n) for n in range(2)]
    vm = t.lab(disks=[Disk(paths[0]), Disk(paths[1], writable=True)], cmdline="nbd.write=disk1",
               net=[UserNet({"nbd": 10809, "http": 80}), UserNet({})],
               lab={"malice.luns": 1, "malice.nics": 1, "vmbus.monitor": monitor})
    vm.expect(r"nic1: .*up", READY_S)
    honest = Reader(vm.ports["nbd"], "disk0", paths[0], seed)
    honest.start()
    t.check(wait_for(lambda: honest.reads > 20, READY_S), "the honest disk is read")
    told = 0
    for name in classes:
        try:
            told += lie_for_a_while(t, vm, honest, name, seed, CLASSES[name], paths[1]) > 0
        except (Failure, VMError) as why:
            raise Failure(f"{name}, seed {seed}: {why}") from why
    honest.stopping = True
    honest.join(60)
    t.check(told >= len(classes) - 2, f"only {told} of {len(classes)} classes were told")


@case(limit_s=150)
def malice_rings_and_packets(t):
    """Lies in rings, packets, ids and answers of one disk and one NIC: no wrong byte is good, the others go on."""
    devices(t, ("ring", "frame", "id", "swap", "length", "status", "rndis"), 1)


@case(limit_s=150)
def malice_bus(t):
    """Lies in messages, offers, page lists and handshakes, silence and storms, with monitor pages: the same."""
    devices(t, ("handshake", "offer", "rescind", "silence", "message", "refuse", "storm", "gpadl", "wiring"), 2,
            monitor=1)


@case(limit_s=150)
def malice_services(t):
    """Lies of integration components and dynamic memory: the disk goes on, and with the truth so do all of them."""
    path = t.random_disk("disk.img", 4, seed=5)
    vm = t.lab(disks=[Disk(path)])
    ready(vm)
    honest = Reader(vm.ports["nbd"], "disk0", path, 5)
    honest.start()
    mark = len(vm.console)
    for seed in range(1, 4):
        vm.command(f"malice service,{seed},9", r"^lab-command: malice service.*: done")
        for _ in range(4):
            # Each is done or refused, whichever way the last lie has left things.
            for command in ("renegotiate", "kvp-set key value", "kvp-enum 2", "kvp-ip", "time-sync", "balloon 3000",
                            "unballoon 2000"):
                vm.command(command, rf"^lab-command: {command}.*: (done|refused)")
            time.sleep(WORK_S / 4)
    vm.command("malice", r"^lab-malice: ")
    told = int(re.findall(r"^lab-malice: .*lies=(\d+)", vm.lines["lab"].text, re.M)[-1])
    vm.command("malice off", r"^lab-command: malice off.*: done")
    vm.command("renegotiate", r"^lab-command: renegotiate.*: done")
    before, reads = components(vm), honest.reads
    t.check(told > 10, f"only {told} lies")
    t.check(wait_for(lambda: all(int(components(vm)[name]["answers"]) > int(before[name]["answers"]) + 1
                                 for name in ("heartbeat", "timesync")), BACK_S), f"answers: {before}")
    wait_memory(vm, "an end of the last request", lambda m: not m["busy"])
    t.equal(request(vm, "unballoon 1000000")["ballooned"], 0, "pages that are still the host's")
    t.equal(request(vm, "balloon 3000")["moved"], 3000, "pages that the host got")
    t.check(wait_for(lambda: honest.reads > reads + 20 or honest.error, BACK_S), "the disk goes on")
    honest.stopping = True
    honest.join(60)
    t.check(honest.error is None and not honest.wrong, f"the disk: {honest.error}, wrong: {honest.wrong}")
    t.check(not re.search(r"panic: ", vm.console), "no panic")
    lines = vm.console.count("\n", mark)
    t.check(lines <= 2 * LINES, f"{lines} lines on the console")
    t.note(f"{told} lies of the last seed; {lines} lines")


def connects(t, disk, name, seed, rate):
    vm = t.lab(ready=None, app="hello", disks=[Disk(disk)], icount=True,
               lab={"malice": f"{name},{seed},{rate}", "tick": 1000})
    t.equal(vm.wait(4 * READY_S), POWER_OFF, "QEMU's exit code")
    vm.ended = POWER_OFF
    t.check(not re.search(r"panic: ", vm.console), "no panic")
    t.check("Hello from" in vm.console, "the application runs")
    found = re.search(r"sector of disk0 ends in (\w\w) (\w\w)", vm.console)
    if found:
        t.equal((int(found[1], 16), int(found[2], 16)), ENDS_IN, "the end of the first sector")
    else:
        t.check(re.search(r"(warning|error): |: the host removes it", vm.console), "no disk, and no word about it")
    took = vm.counters()["time_us"] / 1e6
    t.check(took < LIMIT_S, f"it took {took:.0f} s")
    t.check(vm.console.count("\n") < 2 * LINES, f"{vm.console.count(chr(10))} lines on the console")
    t.note(f"{name},{seed},{rate}: {took:.0f} s, {'the disk is read' if found else 'no disk'}")


@case(limit_s=300)
def malice_connect(t):
    """Lies from the first contact on, about everything: the application runs, and what it reads is right."""
    disk = boot_disk(t)
    for seed, (name, rate) in enumerate(CONNECT, 1):
        try:
            connects(t, disk, name, seed, rate)
        except (Failure, VMError) as why:
            raise Failure(f"{name},{seed},{rate}: {why}") from why


@case(limit_s=60)
def malice_words(t):
    """The lab's words about malice are checked; `malice` tells how many lies there were."""
    vm = t.lab(ready=None, app="hello", disks=[], net=[], cmdline="args=halt",
               lab={"malice": "truth,1,1", "malice.luns": "x", "tick": 10})
    for text in ("malice=truth,1,1", r"malice\.luns=x"):
        vm.expect(rf"option {text} is unknown or malformed", 10, "lab")
    for words in ("ring", "ring,1", "ring,1,0", "ring,x,1", "ring+lie,1,1", "ring,1,1,1"):
        vm.command("malice " + words, r"^lab-command: malice .*: refused")
    vm.command("malice ring+frame,0x10,3", r"^lab-command: malice .*: done")
    vm.command("malice", r"^lab-malice: occasions=\d+ lies=\d+ excused=\d+")
