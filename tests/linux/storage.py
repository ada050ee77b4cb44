# SPDX-License-Identifier: BSD-2-Clause
"""What a Linux guest does with its disks, and what is seen from outside afterwards."""
import os
import random

from harness import sha256

MIB = 1 << 20
BLOCKS = (512, 4096, 65536, 262144)


def check_whole(t, guest, device, path):
    """SHA-256 of the whole disk, read through the page cache."""
    t.equal(guest.run(f"sha256sum {device}").split()[0], sha256(path), f"SHA-256 of {device}")


def check_parallel(t, guest, device, path, readers=4):
    """Parts of the disk, read at the same time past the page cache: more than one request in flight."""
    part = os.path.getsize(path) // readers
    with open(path, "rb") as f:
        t.check(part % MIB == 0 and len(f.read()) == part * readers, "whole MiB")
    output = guest.run("; ".join(f"dd if={device} bs=256k skip={n * part >> 18} count={part >> 18} iflag=direct "
                                 f"status=none of=/tmp/part{n} &" for n in range(readers)).replace("&;", "&") +
                       " wait; cat " + " ".join(f"/tmp/part{n}" for n in range(readers)) +
                       " | sha256sum; rm /tmp/part*")
    t.equal(output.split()[0], sha256(path), f"SHA-256 of {device}, read in {readers} parts at once")


class Writes:
    """Copies from places of one disk to places of another, each made durable: a shell script, and what must come out.

    The places are the same in every run. One half goes through the page cache and fsync, the other around it.
    """

    def __init__(self, count, source_bytes, target_bytes, seed=1):
        choose, self.steps = random.Random(seed), []
        for _ in range(count):
            block = choose.choice(BLOCKS)
            length = choose.randrange(1, 5)
            self.steps.append((block, choose.randrange(source_bytes // block - length),
                               choose.randrange(target_bytes // block - length), length, choose.random() < 0.5))

    def script(self):
        """Its arguments: the source's device and the target's."""
        lines = [f"dd if=$1 of=$2 bs={block} skip={skip} seek={seek} count={count} "
                 f"{'oflag=direct iflag=direct ' if direct else ''}conv=notrunc,fsync status=none || exit 1"
                 for block, skip, seek, count, direct in self.steps]
        return ("#!/bin/busybox sh\n" + "\n".join(lines) + "\n").encode()

    def run(self, t, guest, source_path, target_path):
        """From LUN 0 to LUN 1; the script is the guest's /etc/writes."""
        with open(source_path, "rb") as f:
            source = f.read()
        with open(target_path, "rb") as f:
            wanted = bytearray(f.read())
        guest.run(f"sh /etc/writes {guest.disk(0)} {guest.disk(1)}")
        for block, skip, seek, count, _ in self.steps:
            wanted[seek * block:(seek + count) * block] = source[skip * block:(skip + count) * block]
        with open(target_path, "rb") as f:
            found = f.read()
        t.equal(len(found), len(wanted), "size of the disk written to")
        wrong = [n for n in range(0, len(found), 512) if found[n:n + 512] != wanted[n:n + 512]]
        t.equal(wrong[:10], [], f"places of {len(wrong)} sectors that are not as written")


def check_discard(t, guest, device, path, offset, length):
    """A discarded range reads as zeros in the guest and is a hole in the file; its neighbours are as they were."""
    guest.run(f"dd if=/dev/urandom of={device} bs=1M seek={offset // MIB - 1} count={length // MIB + 2} "
              "conv=notrunc,fsync status=none")
    with open(path, "rb") as f:
        f.seek(offset - MIB)
        before = f.read(length + 2 * MIB)
        blocks = os.fstat(f.fileno()).st_blocks
    t.check(before.count(0) < len(before) // 64, "what is discarded was data before")
    guest.run(f"blkdiscard -o {offset} -l {length} {device}")
    with open(path, "rb") as f:
        f.seek(offset - MIB)
        t.check(f.read(length + 2 * MIB) == before[:MIB] + bytes(length) + before[MIB + length:],
                "zeros where it was discarded, and only there")
        freed = (blocks - os.fstat(f.fileno()).st_blocks) * 512
        t.check(freed >= length // 2, f"the file has become smaller by {freed} of {length} bytes")
        t.equal(os.lseek(f.fileno(), offset, os.SEEK_HOLE), offset, "the hole begins there")
        t.equal(os.lseek(f.fileno(), offset, os.SEEK_DATA), offset + length, "and ends there")
    guest.run(f"dd if={device} bs=1M skip={offset // MIB} count={length // MIB} iflag=direct status=none | "
              f"tr -d '\\0' | wc -c | grep -qx 0")


def check_hotplug(t, guest, lun, path):
    """A LUN that comes, goes and comes again while the machine runs."""
    for turn in range(2):
        guest.vm.command(f"lun-add {lun}", rf"^lab-command: lun-add {lun}.*: done")
        device = guest.disk(lun)
        check_whole(t, guest, device, path)
        if turn == 0:
            guest.vm.command(f"lun-remove {lun}", rf"^lab-command: lun-remove {lun}.*: done")
            guest.wait_for(f"! [ -b {device} ]", f"{device} goes")
