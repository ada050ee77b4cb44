#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Runs the parts of `make check` named on the command line and adds up their results.

A part prints PASS:/FAIL:/SKIP: lines and ends in "N passed, N failed[, N skipped]"; the last line here is the sum.
A program that dies, hangs or prints no such line counts as one failure, with what it printed.
"""
import concurrent.futures
import glob
import os
import re
import signal
import subprocess
import sys
import threading
import time

SUMMARY = re.compile(r"^(\d+) passed, (\d+) failed(?:, (\d+) skipped)?$")
HOSTED_LIMIT_S = 1800                             # by the clock; each test has its limit of processor time
LAB_LIMIT_S = 2400
LINUX_LIMIT_S = 1500
FUZZ_LIMIT_S = 900
KVM_LIMIT_S = 1200
HOSTED_JOBS = 2
# One that allocates without end is a failed test, not a machine out of memory.
HOSTED_ENVIRONMENT = dict(os.environ, ASAN_OPTIONS="hard_rss_limit_mb=6144:" + os.environ.get("ASAN_OPTIONS", ""))
running = set()


def end(process):
    """With whatever it started: a grandchild that lives on would keep the pipe open, and the processor busy."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def run(command, limit_s, quiet):
    """Runs one program; returns (passed, failed, skipped)."""
    name = os.path.basename(next(word for word in command if word != sys.executable))
    counts = None
    lines = []
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                               stdin=subprocess.DEVNULL, start_new_session=True,
                               env=HOSTED_ENVIRONMENT)
    running.add(process)
    limit = threading.Timer(limit_s, end, [process])
    limit.start()
    try:
        for line in process.stdout:
            line = line.rstrip("\n")
            lines.append(line)
            if not quiet and not SUMMARY.match(line):
                print(line, flush=True)
        process.wait()
    finally:
        limit.cancel()
        end(process)
        running.discard(process)
    if time.monotonic() - started >= limit_s:
        lines.append(f"FAIL: {name}: still running after {limit_s} s")
    for line in lines:
        match = SUMMARY.match(line)
        if match:
            counts = tuple(int(n or 0) for n in match.groups())
    took = time.monotonic() - started
    clean = counts is not None and process.returncode == 0 and counts[1] == 0
    if quiet:
        if clean:
            print(f"{name}: {counts[0]} passed in {took:.1f} s", flush=True)
        else:
            print(f"--- {name}, exit {process.returncode}:", *lines[-200:], sep="\n", flush=True)
    if counts is None:
        return 0, 1, 0
    if process.returncode != 0 and counts[1] == 0:
        print(f"FAIL: {name}: exit {process.returncode} although no test failed", flush=True)
        return counts[0], 1, counts[2]
    return counts


def hosted(word=""):
    """Those with that word in their names."""
    sources = sorted(glob.glob(f"tests/unit/test_*{word}*.c"))
    if not sources:
        print("FAIL: there is no hosted test")
        return [(0, 1, 0)]
    with concurrent.futures.ThreadPoolExecutor(HOSTED_JOBS) as pool:
        return list(pool.map(lambda s: run(["build/hosted/" + os.path.basename(s)[:-2]], HOSTED_LIMIT_S, True), sources))


def lab(*cases):
    return [run([sys.executable, "tests/e2e/check_lab.py", *cases], LAB_LIMIT_S, False)]


def house():
    return [run([sys.executable, "tests/house.py"], HOSTED_LIMIT_S, False)]


def linux(*cases):
    """Stock Linux as guest of the lab."""
    return [run([sys.executable, "tests/linux/check_linux.py", *cases], LINUX_LIMIT_S, False)]


def fuzz():
    """What fuzzing found once, its seeds, and a short run of each target."""
    return [run([sys.executable, "tests/fuzz/run.py", "check"], FUZZ_LIMIT_S, False)]


def kvm():
    """Candela as guest of QEMU's and KVM's Hyper-V interface."""
    return [run([sys.executable, "tests/kvm/check_kvm.py"], KVM_LIMIT_S, False)]


def isolation():
    """What of the other parts is about isolated machines."""
    return hosted("isolat") + lab("iso_", "bad_isolated") + linux("linux_isolated")


PARTS = {"house": house, "hosted": hosted, "fuzz": fuzz, "lab": lab, "linux": linux, "kvm": kvm,
         "isolation": isolation}


def main():
    total = [0, 0, 0]
    for part in sys.argv[1:]:
        if part not in PARTS:
            sys.exit(f"check.py: no part {part!r}; there are: {', '.join(PARTS)}")
        started = time.monotonic()
        subtotal = [sum(column) for column in zip(*PARTS[part]())]
        if len(sys.argv) > 2:
            print(f"check-{part}: {subtotal[0]} passed, {subtotal[1]} failed, {subtotal[2]} skipped in "
                  f"{time.monotonic() - started:.0f} s", flush=True)
        total = [a + b for a, b in zip(total, subtotal)]
    print(f"{total[0]} passed, {total[1]} failed, {total[2]} skipped")
    return 1 if total[1] or not total[0] + total[2] else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        for process in list(running):
            end(process)
        os._exit(130)
