# SPDX-License-Identifier: BSD-2-Clause
"""The NBD server: what ordinary clients see, what is refused, and what must survive a refusal."""
import hashlib
import json
import os
import struct
import subprocess
import time

import nbdclient as nbd
from harness import Failure, case, sha256
from labvm import Disk


def uri(vm, export="disk0"):
    return f"nbd://127.0.0.1:{vm.ports['nbd']}/{export}"


def refused(action, *numbers):
    """The errno with which the server refuses, which must be one of `numbers`."""
    try:
        action()
    except nbd.NBDError as error:
        if error.number in numbers:
            return error.number
        raise Failure(f"refused with {error.number}, expected one of {numbers}") from None
    raise Failure(f"was not refused (expected error {numbers})")


@case(limit_s=150)
def nbd_copy(t):
    """A 256 MiB disk read by nbdcopy is the file byte for byte; qemu-img and nbdinfo read it."""
    path = t.ext4_disk("disk.img", 256, tail_mib=64)
    vm = t.lab(disks=[Disk(path)])
    t.run("nbdcopy", uri(vm), t.path("copy.img"), limit_s=100)
    t.equal(os.path.getsize(t.path("copy.img")), 256 << 20, "size of the copy")
    t.equal(sha256(t.path("copy.img")), sha256(path), "SHA-256 of the copy")
    t.run("e2fsck", "-fn", t.path("copy.img"), expect=None)

    info = json.loads(t.run("qemu-img", "info", "--output=json", uri(vm)))
    t.equal((info["virtual-size"], info["format"]), (256 << 20, "raw"), "qemu-img info")
    listed = json.loads(t.run("nbdinfo", "--list", "--json", uri(vm, "")))
    t.equal([e["export-name"] for e in listed["exports"]], ["disk0"], "nbdinfo --list")
    one = json.loads(t.run("nbdinfo", "--json", uri(vm)))
    export = one["exports"][0]
    t.equal(one["protocol"], "newstyle-fixed", "protocol")
    seen = (export["export-size"], export["is_read_only"], export["can_multi_conn"])
    t.equal(seen, (256 << 20, True, True), "nbdinfo")
    t.check(one["structured"], "structured replies are negotiated")


@case(limit_s=120)
def nbd_eight_clients(t):
    """Eight clients read the whole disk at the same time, each gets every byte."""
    path = t.random_disk("disk.img", 32)
    expected = sha256(path)
    vm = t.lab(disks=[Disk(path)])
    clients = []
    for n in range(8):
        # QEMU's NAT listens with a backlog of one, so clients come one after the other; then all are busy at once.
        mark = len(vm.console)
        clients.append(t.background("nbdcopy", "--connections=1", "--requests=16", uri(vm), t.path(f"copy{n}.img")))
        vm.expect("serving disk0", 10, start=mark)
    for n, client in enumerate(clients):
        output, _ = client.communicate(timeout=100)
        t.equal(client.returncode, 0, f"client {n}: {output}")
        t.equal(sha256(t.path(f"copy{n}.img")), expected, f"SHA-256 of client {n}")


@case(limit_s=60)
def nbd_read_only(t):
    """Without nbd.write= every way to change a disk is refused, and the file stays as it was."""
    path = t.random_disk("disk.img", 4)
    before = sha256(path)
    # Writable for QEMU, so that it is the appliance that refuses.
    vm = t.lab(disks=[Disk(path, writable=True)])
    with nbd.Client(vm.ports["nbd"]) as client:
        client.go("disk0")
        t.check(client.flags & nbd.T_READ_ONLY, "the export says that it is read-only")
        refused(lambda: client.write(0, b"x" * 4096), nbd.EPERM)
        refused(lambda: client.trim(0, 4096), nbd.EPERM, nbd.EINVAL)
        refused(lambda: client.write_zeroes(0, 4096), nbd.EPERM, nbd.EINVAL)
        t.equal(client.read(0, 4096), open(path, "rb").read(4096), "reads go on")
    t.run("qemu-io", "-f", "raw", "-c", "write 0 4k", uri(vm), expect=1)
    t.end(vm)
    t.equal(sha256(path), before, "SHA-256 of the file")


@case(limit_s=90)
def nbd_write_flush_kill(t):
    """What was written and flushed is in the image file although QEMU is killed the moment the reply is there."""
    path = t.blank_disk("disk.img", 64 << 20)
    for kind in ("flush", "fua"):
        vm = t.lab(disks=[Disk(path, writable=True)], cmdline="nbd.write=disk0")
        data = {offset: hashlib.sha256(f"{kind}{offset}".encode()).digest() * 2048
                for offset in (0, 65536 * 7, (64 << 20) - 65536)}
        with nbd.Client(vm.ports["nbd"]) as client:
            client.go("disk0")
            t.check(not client.flags & nbd.T_READ_ONLY, "nbd.write=disk0 makes it writable")
            t.check(client.flags & nbd.T_SEND_FLUSH and client.flags & nbd.T_SEND_FUA, "flush and FUA are offered")
            for offset, block in data.items():
                client.write(offset, block, nbd.FLAG_FUA if kind == "fua" else 0)
            if kind == "flush":
                client.flush()
            t.kill(vm)
        with open(path, "rb") as f:
            for offset, block in data.items():
                f.seek(offset)
                t.check(f.read(len(block)) == block, f"{kind}: the data at {offset} is in the file")


@case(limit_s=90)
def nbd_qemu_io(t):
    """qemu-io patterns; TRIM and WRITE_ZEROES read back as zeroes and give the space back."""
    path = t.blank_disk("disk.img", 64 << 20)
    vm = t.lab(disks=[Disk(path, writable=True)], cmdline="nbd.write=disk0")

    def io(*commands, expect=0):
        words = [w for c in commands for w in ("-c", c)]
        output = t.run("qemu-io", "-f", "raw", "-d", "unmap", *words, uri(vm), expect=expect)
        t.check("Pattern verification failed" not in output, "qemu-io: " + output)
        return output

    io("write -P 0x5a 0 16M", "write -P 0xa5 1M 512k", "write -P 0x11 512 512", "write -P 0x22 33554432 3M", "flush")
    io("read -P 0x5a 2M 14M", "read -P 0xa5 1M 512k", "read -P 0x11 512 512", "read -P 0x5a 1024 64k",
       "read -P 0 16M 16M", "read -P 0x22 32M 3M")
    allocated = os.stat(path).st_blocks
    io("discard 0 8M", "flush")
    io("write -z 8M 4M", "flush", "read -P 0 8M 4M", "read -P 0x5a 12M 4M")
    io("write -z -u 32M 3M", "flush", "read -P 0 32M 3M")
    t.check(os.stat(path).st_blocks < allocated - (8 << 11), "TRIM gave 8 MiB back to the host's file system")
    io("aio_write -P 0x77 20M 1M", "aio_write -P 0x78 21M 1M", "aio_flush",
       "read -P 0x77 20M 1M", "read -P 0x78 21M 1M")
    t.end(vm)
    with open(path, "rb") as f:
        f.seek(12 << 20)
        t.check(f.read(4 << 20) == b"\x5a" * (4 << 20), "untouched pattern in the file")
        t.check(f.read(4 << 20) == bytes(4 << 20), "never written part of the file")


@case(limit_s=60)
def nbd_bad_requests(t):
    """Out of range, unaligned, unknown and oversized requests get the protocol's error; the connection survives."""
    path = t.random_disk("disk.img", 4)
    content = open(path, "rb").read()
    vm = t.lab(disks=[Disk(path, writable=True)], cmdline="nbd.write=disk0")
    for structured in (False, True):
        with nbd.Client(vm.ports["nbd"]) as client:
            t.equal(not structured or client.negotiate_structured(), True, "structured replies")
            client.go("disk0")
            size = client.size
            minimum, _, maximum = client.block_sizes
            t.check(minimum in (1, 512), f"smallest block of a 512-byte-sector disk: {minimum}")

            def alive(where):
                t.check(client.read(size - 4096, 4096) == content[-4096:], f"the connection survives: {where}")

            refused(lambda: client.read(size, 512), nbd.EINVAL)
            refused(lambda: client.read(size - 512, 1024), nbd.EINVAL)
            refused(lambda: client.read((1 << 64) - 512, 1024), nbd.EINVAL)
            alive("reads out of range")
            refused(lambda: client.write(size, b"w" * 512), nbd.ENOSPC, nbd.EINVAL)
            refused(lambda: client.write(size - 512, b"w" * 1024), nbd.ENOSPC, nbd.EINVAL)
            alive("writes out of range, payload taken off the wire")
            refused(lambda: client.trim(size - 512, 4096), nbd.EINVAL, nbd.ENOSPC)
            refused(lambda: client.write_zeroes(size, 4096), nbd.ENOSPC, nbd.EINVAL)
            alive("trim out of range")
            if minimum == 512:
                refused(lambda: client.read(1, 512), nbd.EINVAL)
                refused(lambda: client.read(0, 100), nbd.EINVAL)
                refused(lambda: client.write(100, b"w" * 100), nbd.EINVAL)
                alive("unaligned requests")
            else:
                t.check(client.read(1, 1000) == content[1:1001], "unaligned read")
            refused(lambda: client.request(99, 0, 0), nbd.EINVAL, nbd.ENOTSUP)
            refused(lambda: client.request(nbd.CMD_READ, 0, 512, flags=0x8000), nbd.EINVAL)
            alive("unknown command and flag")
            if maximum < 0xFFFFFFFF and size > maximum:
                refused(lambda: client.read(0, maximum + 512), nbd.EINVAL, nbd.EOVERFLOW)
            refused(lambda: client.read(0, 0xFFFFFE00), nbd.EINVAL, nbd.EOVERFLOW, nbd.ENOMEM)
            alive("oversized read")
    t.equal(open(path, "rb").read(), content, "nothing was written")


@case(limit_s=60)
def nbd_handshake(t):
    """Options: unknown ones, unknown exports, old EXPORT_NAME, garbage; others' connections go on."""
    path = t.random_disk("disk.img", 1)
    content = open(path, "rb").read()
    vm = t.lab(disks=[Disk(path)])
    port = vm.ports["nbd"]
    good = nbd.Client(port).go("disk0")

    with nbd.Client(port) as c:
        t.equal(c.list(), ["disk0"], "LIST")
        t.equal(c.option(77, b"what")[-1][0], nbd.REP_ERR_UNSUP, "unknown option")
        t.check(c.option(nbd.OPT_STARTTLS)[-1][0] & nbd.REP_ERR, "STARTTLS is refused")
        refused(lambda: c.go("nonsense"), nbd.REP_ERR_UNKNOWN)
        refused(lambda: c.go("x" * 200), nbd.REP_ERR_UNKNOWN, nbd.REP_ERR_INVALID)
        t.check(c.option(nbd.OPT_GO, b"\0")[-1][0] & nbd.REP_ERR, "truncated GO is refused")
        lying = struct.pack(">I", 1 << 31) + b"disk0\0\0"
        t.check(c.option(nbd.OPT_GO, lying)[-1][0] & nbd.REP_ERR, "lying GO is refused")
        t.equal(c.go("disk0", option=nbd.OPT_INFO).size, 1 << 20, "INFO, without leaving the handshake")
        t.equal(c.go("disk0").size, 1 << 20, "GO after all that")
        t.equal(c.read(0, 4096), content[:4096], "READ")
        c.disconnect()
    for flags in (1, 3):
        with nbd.Client(port, client_flags=flags) as c:
            c.export_name("disk0") if flags == 3 else old_export_name(c)
            t.equal((c.size, c.read(512, 512)), (1 << 20, content[512:1024]), f"EXPORT_NAME, client flags {flags}")
    with nbd.Client(port) as c:
        t.equal(c.option(nbd.OPT_ABORT)[-1][0], nbd.REP_ACK, "ABORT is acknowledged")

    # Garbage ends that connection only.
    for garbage in (b"GET / HTTP/1.0\r\n\r\n" * 4, b"\xff" * 64, b""):
        with nbd.Client(port) as c:
            c.socket.sendall(garbage)
    with nbd.Client(port).go("disk0") as c:
        c.send(nbd.CMD_READ, 0, 512, magic=0x12345678)
        try:
            c.receive(1)
            raise Failure("a request with a bad magic number was answered")
        except nbd.ProtocolError:
            pass
    t.equal(good.read(1024, 512), content[1024:1536], "the first connection all the while")
    good.close()


def old_export_name(client):
    client.send_option(nbd.OPT_EXPORT_NAME, b"disk0")
    client.size, client.flags = struct.unpack(">QH", client.receive(10))
    client.receive(124)


@case(limit_s=90)
def nbd_allow(t):
    """nbd.allow= lets those in whom it names (QEMU's NAT is 10.0.2.2 to the guest) and nobody else."""
    path = t.random_disk("disk.img", 1)
    vm = t.lab(disks=[Disk(path)], cmdline="nbd.allow=10.0.2.2")
    with nbd.Client(vm.ports["nbd"]) as client:
        t.equal(client.go("disk0").size, 1 << 20, "the allowed client")
    t.end(vm)
    vm = t.lab(ready=None, disks=[Disk(path)], cmdline="nbd.allow=192.168.7.0/24,10.0.2.3")
    wait_http(t, vm)
    try:
        nbd.Client(vm.ports["nbd"], timeout=5)
        raise Failure("a client that nbd.allow does not name got a greeting")
    except (nbd.ProtocolError, OSError):
        pass
    t.check(vm.expect(r"10\.0\.2\.2", 5), "the refusal is in the log")


def wait_http(t, vm):
    """Waits for the status page; returns its text."""
    for _ in range(300):
        done = subprocess.run(["curl", "-sS", "-m", "3", f"http://127.0.0.1:{vm.ports['http']}/"], capture_output=True,
                              text=True, check=False)
        if done.returncode == 0:
            return done.stdout
        if vm.poll() is not None:
            break
        time.sleep(0.2)
    raise Failure("the status page did not answer")
