#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Runs the parts of `make check` named on the command line and adds up their results.

A part is about the architecture that ARCH= in the environment names, x86_64 where nothing does, or about that before
its name: arm64/lab.

A part prints PASS:/FAIL:/SKIP: lines and ends in "N passed, N failed[, N skipped]"; the last line here is the sum.
A program that dies, hangs or prints no such line counts as one failure, with what it printed.
"""
import concurrent.futures
import glob
import os
import platform
import re
import signal
import subprocess
import sys
import threading
import time

SUMMARY = re.compile(r"^(\d+) passed, (\d+) failed(?:, (\d+) skipped)?$")
HOSTED_LIMIT_S = 1800                             # by the clock; each test has its limit of processor time
LAB_LIMIT_S = 3600
LINUX_LIMIT_S = 2400
FUZZ_LIMIT_S = 1800
KVM_LIMIT_S = 1800
CBMC_LIMIT_S = 3600      # minutes on a machine that has nothing else to do
HOSTED_JOBS = 2
ARCHS = ("x86_64", "arm64")
MACHINE = {"aarch64": "arm64"}.get(platform.machine(), platform.machine())
arch = os.environ.get("ARCH") or ARCHS[0]
# Programs for the other architecture run several times slower: fewer of what is only more of the same.
EMULATED = {"MALICE_SEEDS": "1"}
# One that allocates without end is a failed test, not a machine out of memory.
ENVIRONMENT = dict(os.environ, ASAN_OPTIONS="hard_rss_limit_mb=6144:" + os.environ.get("ASAN_OPTIONS", ""))
running = set()


def end(process):
    """With whatever it started: a grandchild that lives on would keep the pipe open, and the processor busy."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def run(command, limit_s, quiet):
    """Runs one program; returns (passed, failed, skipped)."""
    words = (word for word in command if word != sys.executable and not word.startswith(("qemu-", "-")))
    name = ("" if arch == ARCHS[0] else arch + "/") + os.path.basename(next(words))
    counts = None
    lines = []
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                               stdin=subprocess.DEVNULL, start_new_session=True,
                               env={**(EMULATED if command[0].startswith("qemu-") else {}), **ENVIRONMENT, "ARCH": arch})
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
        if not quiet:
            print(lines[-1], flush=True)
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


def about_x86_64():
    """The hosted tests that unit.mk builds for no other architecture."""
    with open("tests/unit/unit.mk", encoding="utf-8") as f:
        return re.search(r"^UNIT_x86_64 := (.*)$", f.read(), re.M)[1].split()


def hosted(word=""):
    """Those with that word in their names; programs for another architecture than this machine's by QEMU."""
    names = sorted(os.path.basename(source)[:-2] for source in glob.glob(f"tests/unit/test_*{word}*.c"))
    if arch != ARCHS[0]:
        print(f"about {ARCHS[0]} alone: {', '.join(name for name in names if name in about_x86_64())}", flush=True)
        names = [name for name in names if name not in about_x86_64()]
    if not names:
        print("FAIL: there is no hosted test")
        return [(0, 1, 0)]
    emulated = arch != MACHINE
    folder = "build/hosted-" + arch if emulated else "build/hosted"
    command = ["qemu-" + {"arm64": "aarch64"}.get(arch, arch)] if emulated else []
    with concurrent.futures.ThreadPoolExecutor(HOSTED_JOBS) as pool:
        return list(pool.map(lambda name: run([*command, f"{folder}/{name}"], HOSTED_LIMIT_S, True), names))


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


def cbmc():
    """Proofs about rings, GPADLs, bounced data and flush lists, each of which fails for a room that is a bit wrong."""
    return [run([sys.executable, "tests/cbmc/run.py"], CBMC_LIMIT_S, False)]


def kvm():
    """Candela as guest of QEMU's and KVM's Hyper-V interface."""
    return [run([sys.executable, "tests/kvm/check_kvm.py"], KVM_LIMIT_S, False)]


def isolation():
    """What of the other parts is about isolated machines."""
    return hosted("isolat") + hosted("bounce") + lab("iso_", "bad_isolated") + linux("linux_isolated")


def order():
    """Host and guest on processors of their own: order of memory. CANDELA_ORDER_S seconds each."""
    return hosted("ring_order") + (lab("order_") if arch == "arm64" else [])


def malice():
    """A host that lies: some hundred seeds of each class where `make check` takes thirty, then the lab's cases."""
    ENVIRONMENT.setdefault("MALICE_SEEDS", "300")
    return hosted("malice") + lab("malice_", "iso_malice_")


PARTS = {"house": house, "hosted": hosted, "fuzz": fuzz, "cbmc": cbmc, "lab": lab, "linux": linux, "kvm": kvm,
         "isolation": isolation, "malice": malice, "order": order}


def main():
    global arch
    total, asked = [0, 0, 0], arch
    for word in sys.argv[1:]:
        arch, part = word.split("/", 1) if "/" in word else (asked, word)
        if part not in PARTS or arch not in ARCHS:
            sys.exit(f"check.py: no part {word!r}; there are: {', '.join(PARTS)}, of {', '.join(ARCHS)}")
        started = time.monotonic()
        subtotal = [sum(column) for column in zip(*PARTS[part]())]
        if len(sys.argv) > 2:
            print(f"check-{part}{f' ARCH={arch}' if '/' in word else ''}: {subtotal[0]} passed, {subtotal[1]} failed, "
                  f"{subtotal[2]} skipped in {time.monotonic() - started:.0f} s", flush=True)
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
