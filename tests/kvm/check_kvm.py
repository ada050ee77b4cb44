#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""`make check-kvm`: Candela as guest of a Hyper-V interface that somebody else wrote, QEMU's and KVM's.

    tests/kvm/check_kvm.py                       all cases
    tests/kvm/check_kvm.py balloon_ panic_       those whose names begin so
    tests/kvm/check_kvm.py --list
    tests/kvm/check_kvm.py --way nested          not on this machine's own KVM, even if it would do

Uses the machine's own KVM when it has the whole interface, else KVM inside an emulated machine (nested.py); the cases
are the same. Files stay under build/kvm/CASE/: console.txt (the guest's), qemu.txt (QEMU's trace of the VMBus) and
kvm.txt (the kernel's trace, where one was taken); l1-*/console.txt are of the emulated Linux.
"""
import argparse
import json
import os
import shutil
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(os.path.dirname(HERE), "e2e")]
import harness                                                # noqa: E402
import inside                                                 # noqa: E402,F401   registers the cases
import labvm                                                  # noqa: E402
import nested                                                 # noqa: E402
from linuximage import Unavailable                            # noqa: E402

WORK = os.path.join(labvm.ROOT, "build", "kvm")
ALL_LIMIT_S = 1500                                    # nothing comes near it but what hangs
TAIL_LINES = 25


def prepare(names):
    """An empty folder of results, and the disk image for the firmware."""
    shutil.rmtree(WORK, ignore_errors=True)
    for name in ("claims", "results"):
        os.makedirs(os.path.join(WORK, name))
    if any("ovmf" in name for name in names):
        conf = os.path.join(WORK, "candela.conf")
        with open(conf, "w", encoding="utf-8") as f:
            f.write("loglevel=debug\n")
        done = subprocess.run(["sh", os.path.join(labvm.ROOT, "scripts", "image.sh"), "x86_64", "hello"],
                              capture_output=True, text=True, check=False,
                              env=dict(os.environ, OUT=os.path.join(WORK, "hello"), CONF=conf))
        if done.returncode:
            raise Unavailable(f"scripts/image.sh: {done.stderr.strip()}")


def results(seen):
    """The verdicts that came since the last call."""
    folder = os.path.join(WORK, "results")
    for name in sorted(os.listdir(folder)):
        with open(os.path.join(folder, name), encoding="utf-8") as f:
            f.seek(seen.get(name, 0))
            while (line := f.readline()).endswith("\n"):
                seen[name] = f.tell()
                yield json.loads(line)


def details(name):
    """The ends of what a case that failed has left."""
    text = ""
    for folder, _, files in sorted(os.walk(os.path.join(WORK, name))):
        for file in sorted(set(files) & {"qemu.txt", "console.txt"}):
            path = os.path.join(folder, file)
            with open(path, encoding="utf-8", errors="replace") as f:
                tail = [line.rstrip("\r\n") for line in f][-TAIL_LINES:]
            text += "\n    ".join(["", f"--- {os.path.relpath(path, labvm.ROOT)}"] + tail)
    return text


def tell(counts, name, verdict, seconds, text):
    counts[verdict] += 1
    if verdict == "FAIL":
        text += details(name)
    print(f"{verdict}: {name} ({seconds:.1f} s)" + (f": {text}" if text else ""), flush=True)


def execute(way, names, counts):
    """Runs all; prints each verdict when it comes. Cases without one failed with whatever ran them."""
    seen, left, started = {}, list(names), time.monotonic()
    while left:
        ended = way.poll() is not None or time.monotonic() - started > ALL_LIMIT_S
        for name, verdict, seconds, text in results(seen):
            left.remove(name)
            tell(counts, name, verdict, seconds, text)
        if ended:
            break
        time.sleep(0.3)
    words = way.words() if left else None
    for name in left:
        if why := way.hopeless(name):
            tell(counts, name, "SKIP", time.monotonic() - started, why)
            continue
        tell(counts, name, "FAIL", time.monotonic() - started, f"no verdict: {words}")
        words = "see above"


def main():
    parser = argparse.ArgumentParser(description="Runs the cases named, or all.")
    parser.add_argument("cases", nargs="*", help="names, or beginnings of names")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--way", choices=("direct", "nested"))
    options = parser.parse_args()
    if options.list:
        for name, (function, _) in harness.CASES.items():
            print(f"{name:24} {function.__doc__.strip().splitlines()[0]}")
        return 0
    unknown = [c for c in options.cases if not any(name.startswith(c) for name in harness.CASES)]
    if unknown:
        sys.exit(f"no case begins with {unknown[0]!r}; --list names them")
    names = [n for n in harness.CASES if not options.cases or any(n.startswith(c) for c in options.cases)]
    names.sort(key=lambda name: -harness.CASES[name][1])          # the longest first

    counts = {"PASS": 0, "FAIL": 0, "SKIP": 0}
    lacking = nested.lacking()
    kind = options.way or ("nested" if lacking else "direct")
    way = None
    try:
        prepare(names)
        qemu = nested.Qemu(WORK)
        if not qemu.path:
            raise Unavailable("qemu-system-x86_64 is not installed: scripts/packages.sh check")
        print(f"check-kvm: {kind}" + (f" ({lacking})" if lacking else ""), flush=True)
        if qemu.without_balloon:
            with open(os.path.join(WORK, "without-balloon"), "w", encoding="utf-8") as f:
                f.write(qemu.without_balloon)
        way = (nested.Direct if kind == "direct" else nested.Nested)(WORK, qemu, names)
        execute(way, names, counts)
    except Unavailable as why:
        for name in names:
            tell(counts, name, "SKIP", 0, str(why))
    finally:
        if way:
            way.stop()
    print(f"{counts['PASS']} passed, {counts['FAIL']} failed, {counts['SKIP']} skipped")
    return 1 if counts["FAIL"] else 0


if __name__ == "__main__":
    sys.exit(main())
