#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Where a workload of the bench spends its instructions, by function of the image; needs a built tree.

    profile.py disk-32 5000           samples: the lab looks at the guest's instruction pointer while it runs
    profile.py udp-tx 100 300         exact: instructions per datagram (read, MiB), as the difference of two runs
Workloads: disk-DEPTH udp-rx udp-tx tcp-rx tcp-tx nbd.

Samples are quick, and show at once what is large; a workload that repeats in step with them deceives. The exact way has
QEMU log every block of code it executes, which costs a minute for some million instructions, so the counts should be
small. It counts a block's instructions by the disassembly, up to its first branch.
"""
import bisect
import os
import re
import subprocess
import sys
from collections import Counter

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import bench                                                  # noqa: E402
import peers                                                  # noqa: E402

PERIOD_US = 7        # of virtual time: under -icount one microsecond is 1000 instructions
SHOWN = 40
SVM_GUEST = 1 << 21  # in the flags of QEMU's log: the guest of the lab, not the lab
# What ends a block of translated code.
ENDS_BLOCK = re.compile(r"(j|call|ret|loop|iret|hlt|sys|vmmcall|sti|cli|int|ud2|rep|pause|rdtsc|wrmsr|cpuid|out|in$|"
                        r"lidt|lgdt)")


def app_of(work):
    return "nbd" if work == "nbd" else "bench"


def run(work, count, **options):
    """One machine that does the work `count` times."""
    kind, _, depth = work.partition("-")
    if work == "nbd":
        return bench.Run("profile", "", app="nbd", forward={"nbd": 10809}, drive=bench.serve(count), **options)
    if kind == "disk":
        return bench.Run("profile", f"disk:depth={depth},count={count}", **options)
    if work == "udp-rx":
        return bench.Run("profile", f"udp-rx:port=7000,count={count}", forward={"udp": 7000},
                         drive=peers.send_datagrams, **options)
    if work == "tcp-rx":
        return bench.Run("profile", f"tcp-rx:port=7001,count={count}", forward={"tcp": 7001}, drive=peers.feed_guest,
                         **options)
    with peers.datagram_sink() as sink:
        port = sink.getsockname()[1] if work == "udp-tx" else peers.stream_sink()
        more = f",bytes={peers.UDP_BYTES}" if work == "udp-tx" else ""
        return bench.Run("profile", f"{work}:host=10.0.2.2,port={port},count={count}{more}", **options)


def image(app, ending):
    return os.path.join(bench.ROOT, "build", bench.arch, f"candela-{app}{ending}")


def show(counts, unit):
    total = sum(counts.values())
    for name, count in counts.most_common(SHOWN):
        print(f"{100 * count / total:6.2f} % {count:{unit}}  {name}")


# ---- samples ----

def sampled(work, count):
    done, table = run(work, count, lab={"profile": PERIOD_US}), []
    with open(image(app_of(work), ".sym"), encoding="utf-8") as f:
        for line in f:
            address, kind, name = line.split()
            if kind in "tT":
                table.append((int(address, 16), name))
    table.sort()
    addresses, counts = [address for address, _ in table], Counter()
    with open(os.path.join(done.work, "lab.txt"), encoding="utf-8") as f:
        for line in f:
            if found := re.match(r"lab-profile: 0x([0-9a-f]+) (\d+)", line):
                at = bisect.bisect(addresses, int(found[1], 16)) - 1
                counts[table[at][1] if at >= 0 else "?"] += int(found[2])
    print(f"{done.counters['guest_instructions']} instructions, {sum(counts.values())} samples")
    show(counts, "7d")


# ---- exact ----

def disassemble(app):
    """[(address, mnemonic, function)] in order, and the place of each address in it."""
    text = subprocess.run(["objdump", "-d", "--no-show-raw-insn", image(app, ".elf")], check=True, text=True,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE).stdout
    listing, function = [], ""
    for line in text.splitlines():
        if found := re.match(r"^[0-9a-f]+ <(.*)>:$", line):
            function = found[1]
        elif found := re.match(r"^\s*([0-9a-f]+):\s+(\S+)", line):
            listing.append((int(found[1], 16), found[2], function))
    return listing, {address: n for n, (address, _, _) in enumerate(listing)}


def executed(work, count, listing, places):
    """Instructions by function."""
    log = os.path.join(bench.WORK, "profile.log")
    done, blocks, counts = run(work, count, extra=["-d", "exec,nochain", "-D", log]), Counter(), Counter()
    with open(log, encoding="utf-8", errors="replace") as f:
        for line in f:
            found = re.match(r"Trace \d+: 0x[0-9a-f]+ \[[0-9a-f]+/([0-9a-f]+)/([0-9a-f]+)/", line)
            if found and int(found[2], 16) & SVM_GUEST:
                blocks[int(found[1], 16)] += 1
    os.unlink(log)
    for start, times in blocks.items():
        place = places.get(start)
        while place is not None and place < len(listing):
            address, mnemonic, function = listing[place]
            if address >> 12 != start >> 12:
                break                            # a block does not cross a page
            counts[function] += times
            if ENDS_BLOCK.match(mnemonic):
                break
            place += 1
    return counts, done.counters["guest_instructions"]


def exact(work, few, many):
    listing, places = disassemble(app_of(work))
    (small, first), (large, second) = (executed(work, n, listing, places) for n in (few, many))
    each = Counter({name: (large[name] - small[name]) / (many - few) for name in large})
    print(f"{(second - first) / (many - few):.1f} instructions each; found again: {sum(each.values()):.1f}")
    show(each, "10.1f")


def main():
    words = sys.argv[1:]
    if len(words) not in (2, 3) or not re.fullmatch(r"disk-\d+|(udp|tcp)-(rx|tx)|nbd", words[0]):
        sys.exit(__doc__)
    if len(words) == 2:
        sampled(words[0], int(words[1]))
    else:
        exact(words[0], int(words[1]), int(words[2]))


if __name__ == "__main__":
    main()
