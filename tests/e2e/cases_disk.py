# SPDX-License-Identifier: BSD-2-Clause
"""Disks of every kind, and disks that come and go while clients are busy."""
import hashlib
import os
import random
import re
import threading
import time

import nbdclient as nbd
from cases_nbd import uri
from harness import case, sha256
from labvm import PATIENCE, Disk

TIB = 1 << 40


@case(limit_s=90)
def disk_4096(t):
    """A disk with 4096-byte sectors: announced so, read whole, written and flushed."""
    path = t.random_disk("disk.img", 16)
    vm = t.lab(disks=[Disk(path, sector=4096, writable=True)], cmdline="nbd.write=disk0")
    t.run("nbdcopy", uri(vm), t.path("copy.img"))
    t.equal(sha256(t.path("copy.img")), sha256(path), "SHA-256 of the copy")
    with nbd.Client(vm.ports["nbd"]).go("disk0") as client:
        minimum, preferred, _ = client.block_sizes
        t.check(minimum in (1, 4096) and preferred % 4096 == 0, f"block sizes: {client.block_sizes}")
        client.write(4096 * 5, b"Q" * 4096, nbd.FLAG_FUA)
        t.check(client.read(4096 * 4, 4096 * 3)[4096:8192] == b"Q" * 4096, "the block written is read back")
        if minimum == 4096:
            try:
                client.read(512, 512)
                t.check(False, "a request of 512 bytes is refused")
            except nbd.NBDError as error:
                t.equal(error.number, nbd.EINVAL, "error of a request of 512 bytes")
        client.flush()
    with open(path, "rb") as f:
        f.seek(4096 * 5)
        t.check(f.read(4096) == b"Q" * 4096, "the block is in the file")


@case(limit_s=60)
def disk_4tib(t):
    """A sparse disk of 4 TiB: its last sector, and both sides of 2 TiB, written and read."""
    try:
        path, fmt = t.blank_disk("disk.img", 4 * TIB), "raw"
    except OSError:                                   # a file system without such files
        path, fmt = t.path("disk.qcow2"), "qcow2"
        t.run("qemu-img", "create", "-q", "-f", "qcow2", path, "4T")
    vm = t.lab(disks=[Disk(path, fmt, writable=True)], cmdline="nbd.write=disk0")
    with nbd.Client(vm.ports["nbd"]).go("disk0") as client:
        t.equal(client.size, 4 * TIB, "size")
        places = (0, 2 * TIB - 512, 2 * TIB, 4 * TIB - 512)
        for n, offset in enumerate(places):
            client.write(offset, bytes([n + 1]) * 512)
        client.flush()
        for n, offset in enumerate(places):
            t.check(client.read(offset, 512) == bytes([n + 1]) * 512, f"the sector at {offset:#x}")
        t.check(client.read(4 * TIB - 65536, 65536) == bytes(65024) + b"\4" * 512, "the last 64 KiB")
    t.end(vm)
    if fmt == "raw":
        with open(path, "rb") as f:
            f.seek(-512, os.SEEK_END)
            t.check(f.read() == b"\4" * 512, "the last sector of the file")
    os.unlink(path)


@case(limit_s=90)
def disk_zeroes_by_kind(t):
    """Zeroes and trims over data, at places that fill no cluster of any kind: what was there never comes back."""
    kinds = (("raw", True), ("raw", False), ("qcow2", True), ("qcow2", False), ("vhdx", False))
    paths = [t.path(f"disk{n}.{kind}") for n, (kind, _) in enumerate(kinds)]
    for path, (kind, _) in zip(paths, kinds):
        t.run("qemu-img", "create", "-q", "-f", kind, path, "16M")
    names = [f"disk{n}" for n in range(len(kinds))]
    vm = t.lab(disks=[Disk(path, kind, writable=True, discard=discard) for path, (kind, discard) in zip(paths, kinds)],
               cmdline=f"nbd.write={','.join(names)}")
    for name in names:
        commands = ["write -P 0x42 0 8M", "write -z -u 4k 4k", "write -z 1M 12k", "write -z -u 2044k 200k", "discard 4100k 68k",
                    "flush", "read -P 0x42 0 4k", "read -P 0 4k 4k", "read -P 0x42 8k 100k", "read -P 0 1M 12k",
                    "read -P 0x42 2040k 4k", "read -P 0 2044k 200k", "read -P 0x42 2244k 4k", "read -P 0 4100k 68k",
                    "read -P 0x42 4168k 1M"]
        t.run("qemu-io", "-d", "unmap", "-f", "raw", *(a for c in commands for a in ("-c", c)), uri(vm, name))
    t.end(vm)
    for path, (kind, _) in zip(paths, kinds):
        t.run("qemu-io", "-r", "-f", kind, "-c", "read -P 0 4k 4k", "-c", "read -P 0 2044k 200k", "-c", "read -P 0x42 2244k 4k",
              path)


@case(limit_s=90)
def disk_three(t):
    """Three disks of three kinds, copied at the same time."""
    paths = [t.random_disk(f"disk{n}.img", 16, seed=n) for n in range(3)]
    t.run("qemu-img", "convert", "-f", "raw", "-O", "vhdx", paths[1], t.path("disk1.vhdx"))
    vm = t.lab(disks=[Disk(paths[0]), Disk(t.path("disk1.vhdx"), "vhdx"), Disk(paths[2], sector=4096)])
    copies = []
    for n in range(3):
        mark = len(vm.console)
        copies.append(t.background("nbdcopy", "--connections=1", uri(vm, f"disk{n}"), t.path(f"copy{n}.img")))
        vm.expect(f"serving disk{n}", 10, start=mark)
    for n, copy in enumerate(copies):
        output, _ = copy.communicate(timeout=60)
        t.equal(copy.returncode, 0, f"nbdcopy of disk{n}: {output}")
        t.equal(sha256(t.path(f"copy{n}.img")), sha256(paths[n]), f"SHA-256 of disk{n}")


class Reader(threading.Thread):
    """A client that reads random places and compares, several requests in flight, until it is told to stop or fails."""

    def __init__(self, port, export, path, seed):
        super().__init__(daemon=True)
        self.port, self.export, self.seed = port, export, seed
        with open(path, "rb") as f:
            self.content = f.read()
        self.reads, self.error, self.wrong, self.stopping = 0, None, False, False

    def run(self):
        places = random.Random(self.seed)
        try:
            with nbd.Client(self.port, timeout=60).go(self.export) as client:
                while not self.stopping:
                    flying = {}
                    for _ in range(8):
                        length = 512 * places.randrange(1, 128)
                        offset = 512 * places.randrange((len(self.content) - length) // 512)
                        flying[client.send(nbd.CMD_READ, offset, length)] = (offset, length)
                    lengths = {cookie: length for cookie, (_, length) in flying.items()}
                    for _ in range(len(flying)):
                        cookie, error, data = client.reply(lengths)
                        if error:
                            raise nbd.NBDError(error)
                        offset, length = flying[cookie]
                        self.wrong |= data != self.content[offset:offset + length]
                        self.reads += 1
        except (nbd.NBDError, nbd.ProtocolError, OSError) as error:
            self.error = error


def wait_for(condition, limit_s):
    deadline = time.monotonic() + limit_s * PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def exports(vm):
    with nbd.Client(vm.ports["nbd"]) as client:
        return client.list()


@case(limit_s=120)
def disk_add_remove(t):
    """One disk goes and one comes while clients read: the others go on, those of the removed disk get an error."""
    paths = [t.random_disk(f"disk{n}.img", 4, seed=n) for n in range(3)]
    vm = t.lab(disks=[Disk(p) for p in paths], lab={"lun.absent": "2"})
    t.equal(exports(vm), ["disk0", "disk1"], "exports at the start")
    keeping = [Reader(vm.ports["nbd"], "disk0", paths[0], seed) for seed in range(2)]
    losing = [Reader(vm.ports["nbd"], "disk1", paths[1], seed) for seed in range(2)]
    for reader in keeping + losing:
        reader.start()
        t.check(wait_for(lambda: reader.reads, 10), "a client reads")      # QEMU's NAT listens with a backlog of one
    t.check(wait_for(lambda: all(r.reads > 50 for r in keeping + losing), 30), "all clients read")

    vm.command("lun-add 2", r"^lab-command: lun-add 2.*: done")
    t.check(wait_for(lambda: len(exports(vm)) == 3, 15), "the added disk is exported")
    added = next(name for name in exports(vm) if name not in ("disk0", "disk1"))
    t.run("nbdcopy", uri(vm, added), t.path("copy.img"))
    t.equal(sha256(t.path("copy.img")), sha256(paths[2]), "SHA-256 of the added disk")

    before = [r.reads for r in keeping]
    vm.command("lun-remove 1", r"^lab-command: lun-remove 1.*: done")
    t.check(wait_for(lambda: all(r.error for r in losing), 20), "clients of the removed disk get an error")
    t.note("errors: " + ", ".join(str(r.error) for r in losing))
    t.check(wait_for(lambda: exports(vm) == ["disk0", added], 15), "the removed disk is not exported any more")
    t.check(wait_for(lambda: all(r.reads > n + 100 for r, n in zip(keeping, before)), 30), "the others go on reading")

    vm.command("lun-add 1", r"^lab-command: lun-add 1.*: done")
    t.check(wait_for(lambda: len(exports(vm)) == 3, 15), "the disk can come back")
    name = next(n for n in exports(vm) if n not in ("disk0", added))
    with nbd.Client(vm.ports["nbd"]).go(name) as client:
        t.check(hashlib.sha256(client.read(0, 4 << 20)).hexdigest() == sha256(paths[1]), "and is read")
    for reader in keeping:
        reader.stopping = True
        reader.join(60)
        t.check(reader.error is None, f"a client of disk0 failed: {reader.error}")
    t.check(not any(r.wrong for r in keeping + losing), "every byte read was right")


@case(limit_s=90)
def disk_controller_removed(t):
    """The whole controller is taken away (rescind) while clients read: errors, an empty list, a machine that lives."""
    path = t.random_disk("disk.img", 4)
    vm = t.lab(disks=[Disk(path)])
    reader = Reader(vm.ports["nbd"], "disk0", path, 1)
    reader.start()
    t.check(wait_for(lambda: reader.reads > 50, 30), "the client reads")
    vm.command("rescind 1", r"^lab-command: rescind 1.*: done")     # the first offer
    t.check(wait_for(lambda: reader.error, 20), "the client gets an error")
    t.check(wait_for(lambda: exports(vm) == [], 15), "nothing is exported")


@case(limit_s=60)
def disk_of_the_lab(t):
    """The lab's own disk: its pattern, what was written, the time a read takes, its removal with reads on their way."""
    vm = t.lab(lab={"ramdisk": "16M", "latency": 20000}, cmdline="nbd.write=disk0")
    with nbd.Client(vm.ports["nbd"]).go("disk0") as client:
        t.equal(client.size, 16 << 20, "size")
        started = time.monotonic()
        for block in (0, 1, 4095):
            pattern = block.to_bytes(8, "little") * 512
            t.check(client.read(block * 4096, 4096) == pattern, f"block {block} is its number")
        t.check(time.monotonic() - started >= 0.05, "three reads, one after the other, take 20 ms each")
        client.write(4096 * 7 + 512, b"W" * 1024)
        expected = (7).to_bytes(8, "little") * 512
        expected = expected[:512] + b"W" * 1024 + expected[1536:]
        t.check(client.read(4096 * 7, 4096) == expected, "what was written, within what was there")
        for n in range(64):
            client.send(nbd.CMD_READ, n * 4096, 4096)
        vm.command("rescind 1", r"^lab-command: rescind 1.*: done")
    t.check(wait_for(lambda: exports(vm) == [], 15), "nothing is exported")


@case(limit_s=60)
def disk_errors(t):
    """A disk with bad sectors: those requests get EIO, a line says why in words, everything else goes on."""
    path = t.random_disk("disk.img", 4)
    with open(path, "rb") as f:
        content = f.read()
    with open(t.path("faults"), "w", encoding="ascii") as f:
        for event, sector in (("read_aio", 2048), ("write_aio", 4096)):
            f.write(f'[inject-error]\nevent = "{event}"\nerrno = "5"\nsector = "{sector}"\nonce = "off"\n\n')
    vm = t.lab(disks=[Disk(f"blkdebug:{t.path('faults')}:{path}", writable=True)], cmdline="nbd.write=disk0")
    with nbd.Client(vm.ports["nbd"]).go("disk0") as client:
        for action in (lambda: client.read(2048 * 512, 4096), lambda: client.read(2040 * 512, 65536),
                       lambda: client.write(4096 * 512, b"w" * 4096)):
            try:
                action()
                t.check(False, "a request for a bad sector fails")
            except nbd.NBDError as error:
                t.equal(error.number, nbd.EIO, "error of a bad sector")
        t.check(client.read(0, 1 << 20) == content[:1 << 20], "what lies before is read")
        client.write(8000 * 512, b"w" * 512, nbd.FLAG_FUA)
        t.check(client.read(8000 * 512, 512) == b"w" * 512, "other sectors are written")
    t.check(re.search(r"storvsc: .*(medium|error)", vm.console), "the console says what the disk reported")
