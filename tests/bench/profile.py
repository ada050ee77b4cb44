#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Where a workload of the bench spends its instructions: the lab samples the guest's instruction pointer.

    profile.py disk:depth=32,count=5000            any args= of apps/bench
    profile.py nbd                                 the appliance, 2500 reads of 4 KiB at depth 32
Prints functions by share of samples; needs a built tree.
"""
import bisect
import os
import re
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import bench                                                  # noqa: E402
import peers                                                  # noqa: E402

PERIOD_US = 7        # of virtual time: under -icount one microsecond is 1000 instructions
SHOWN = 40


def symbols(app):
    found = []
    with open(os.path.join(bench.ROOT, "build", bench.arch, f"candela-{app}.sym"), encoding="utf-8") as f:
        for line in f:
            address, kind, name = line.split()
            if kind in "tT":
                found.append((int(address, 16), name))
    return sorted(found)


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    work, options = sys.argv[1], {"profile": PERIOD_US}
    if work == "nbd":
        app, run = "nbd", bench.Run("profile", "", app="nbd", forward={"nbd": 10809}, drive=bench.serve(2500), lab=options)
    elif work.startswith("udp-rx"):
        app, run = "bench", bench.Run("profile", work, forward={"udp": 7000}, drive=peers.send_datagrams, lab=options)
    elif work.startswith("tcp-rx"):
        app, run = "bench", bench.Run("profile", work, forward={"tcp": 7001}, drive=peers.feed_guest, lab=options)
    else:
        work = work.replace("PORT", str(peers.stream_sink()))
        app, run = "bench", bench.Run("profile", work, lab=options)
    table = symbols(app)
    addresses = [address for address, _ in table]
    counts, total = {}, 0
    with open(os.path.join(run.work, "lab.txt"), encoding="utf-8") as f:
        for line in f:
            found = re.match(r"lab-profile: 0x([0-9a-f]+) (\d+)", line)
            if found:
                at = bisect.bisect(addresses, int(found[1], 16)) - 1
                name = table[at][1] if at >= 0 else "?"
                counts[name] = counts.get(name, 0) + int(found[2])
                total += int(found[2])
    print(f"{run.counters['guest_instructions']} instructions, {total} samples")
    for name, count in sorted(counts.items(), key=lambda c: -c[1])[:SHOWN]:
        print(f"{100 * count / total:6.2f} %  {name}")


if __name__ == "__main__":
    main()
