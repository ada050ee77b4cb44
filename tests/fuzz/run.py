#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Runs the fuzzers that fuzz.mk builds.

  run.py check              every saved finding, every seed, then a few seconds of fuzzing; PASS/FAIL lines and their sum
  run.py fuzz SECONDS [T]   so many seconds for each target (or T), going on from where the last run ended; one line each
  run.py coverage [T]       which lines of the rooms all known inputs reach (fuzzers built with COVERAGE=1)
  run.py keep T             what the runs have learned of T becomes its seeds in tests/fuzz/corpus, as few as possible

Seeds are in tests/fuzz/corpus/TARGET, inputs that once broke something in tests/fuzz/findings/TARGET; both are source.
What runs learn is kept in build/fuzz/corpus/TARGET, what they find in build/fuzz/found/TARGET.
"""
import concurrent.futures
import glob
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

CHECK_SECONDS = 5
LIMIT_S = 60                  # of real time for one execution: the guest hangs (or the machine is very busy)
WANTED = 10_000_000           # executions of each target
INPUT_BYTES = {"boot": 8192, "efi": 16384}    # the longest input; 4096 for others
SEEDS_KEPT = 40               # of a target, the smallest first; and their bytes
SEEDS_BYTES = 13_000
FZ = "build/fuzz"
COVERAGE = "build/fuzz-coverage"
TARGETS = sorted(os.path.basename(s)[5:-2] for s in glob.glob("tests/fuzz/fuzz_*.c"))
ENVIRONMENT = dict(os.environ, ASAN_OPTIONS="detect_leaks=0:detect_stack_use_after_return=0:allocator_may_return_null=1",
                   UBSAN_OPTIONS="print_stacktrace=1")

# What reads bytes that somebody else chose.
PARSERS = """vmbus/message.c vmbus/offer.c vmbus/channel.c vmbus/gpadl.c vmbus/connection.c vmbus/ring.c vmbus/packet.c
    drivers/storvsc.c drivers/storvsc_channel.c drivers/storvsc_answer.c drivers/storvsc_io.c drivers/storvsc_scan.c
    drivers/storvsc_inquire.c drivers/scsi.c drivers/netvsc.c drivers/netvsc_buffers.c drivers/netvsc_control.c
    drivers/netvsc_message.c drivers/netvsc_rx.c drivers/netvsc_tx.c drivers/netvsc_setup.c drivers/rndis.c
    drivers/ic.c drivers/ic_heartbeat.c drivers/ic_kvp.c drivers/ic_kvp_ip.c drivers/ic_shutdown.c
    drivers/ic_timesync.c drivers/balloon.c drivers/balloon_move.c apps/nbd/session.c apps/nbd/negotiate.c
    apps/nbd/transmit.c apps/nbd/issue.c apps/nbd/pieces.c apps/nbd/replies.c apps/nbd/buffers.c
    apps/nbd/http_parse.c boot/acpi.c boot/acpi_arm.c boot/aml.c boot/x86_64/linux64.c
    boot/x86_64/multiboot2.c boot/x86_64/pvh.c boot/arm64/fdt.c boot/arm64/fdt_boot.c boot/arm64/efi_tables.c
    boot/efi/conf.c boot/efi/map.c boot/efi/time.c rt/config.c mm/memory_map.c mm/given.c""".split()


def files_of(*folders):
    return [f for d in folders for f in sorted(glob.glob(d + "/*")) if os.path.isfile(f)]


def known(target):
    return files_of(f"tests/fuzz/findings/{target}", f"tests/fuzz/corpus/{target}")


def run(target, arguments, limit_s, folder=FZ, **environment):
    """Runs one fuzzer; returns its exit status and what it said."""
    try:
        done = subprocess.run([f"{folder}/{target}", f"-timeout={LIMIT_S}", "-rss_limit_mb=2048", *arguments],
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              errors="replace", timeout=limit_s, env=dict(ENVIRONMENT, **environment))
        return done.returncode, done.stdout
    except subprocess.TimeoutExpired as e:
        return -1, (e.stdout or b"").decode(errors="replace") + f"\nstill running after {limit_s} s"


def the_point(output):
    """The lines that tell what broke."""
    wanted = re.compile(r"fuzz: |panic: |runtime error|ERROR: |SUMMARY|Test unit written|still running|ALARM|#\d+ .* in ")
    lines = [line for line in output.splitlines() if wanted.search(line) and "fuzzer::" not in line]
    return "\n".join(lines[:30] or output.splitlines()[-30:])


def number(name, output):
    found = re.findall(rf"stat::{name}:\s+(\d+)", output)
    return int(found[-1]) if found else 0


def fuzz_one(target, seconds, learned):
    """One run that keeps what it learns in the folder. Returns executions, edges reached and the new findings."""
    found = f"{FZ}/found/{target}"
    os.makedirs(learned, exist_ok=True)
    os.makedirs(found, exist_ok=True)
    before = set(files_of(found))
    folders = [d for d in (f"tests/fuzz/corpus/{target}", f"tests/fuzz/findings/{target}") if os.path.isdir(d)]
    status, output = run(target, [f"-max_total_time={seconds}", f"-max_len={INPUT_BYTES.get(target, 4096)}",
                                  "-print_final_stats=1", "-reload=0", f"-artifact_prefix={found}/",
                                  "-entropic_scale_per_exec_time=1",
                                  learned, *folders], seconds + 120)
    edges = re.findall(r"cov: (\d+)", output)
    new = sorted(set(files_of(found)) - before)
    if status != 0 and not new:
        new = ["(nothing written)"]
    return number("number_of_executed_units", output), int(edges[-1]) if edges else 0, new, output


def check_target(target):
    lines, failed = [], 0
    inputs = known(target)
    status, output = run(target, ["-runs=0", *inputs], 120, FUZZ_THOROUGH="1") if inputs else (0, "")
    if status != 0:
        failed += 1
        lines.append(f"FAIL: fuzz_{target}_known: one of {len(inputs)} known inputs:\n{the_point(output)}")
    else:
        lines.append(f"PASS: fuzz_{target}_known: {len(inputs)} seeds and former findings")
    with tempfile.TemporaryDirectory(dir=FZ) as learned:
        executions, edges, new, output = fuzz_one(target, CHECK_SECONDS, learned)
    if new or executions == 0:
        failed += 1
        lines.append(f"FAIL: fuzz_{target}: after {executions} executions: {' '.join(new)}\n{the_point(output)}")
    else:
        lines.append(f"PASS: fuzz_{target}: {executions} executions, {edges} edges")
    return lines, failed


def check():
    passed = failures = 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for lines, failed in pool.map(check_target, TARGETS):
            print("\n".join(lines), flush=True)
            failures += failed
            passed += 2 - failed
    print(f"{passed} passed, {failures} failed")
    return failures != 0


def totals():
    try:
        with open(f"{FZ}/executions.json", encoding="utf-8") as f:
            return json.load(f)
    except (OSError, ValueError):
        return {}


def fuzz(seconds, targets):
    any_found = False
    print(f"{'target':10}{'executions':>12}{'a second':>10}{'of all runs':>14}{'edges':>8}  findings")
    for target in targets:
        started = time.monotonic()
        executions, edges, new, output = fuzz_one(target, seconds, f"{FZ}/corpus/{target}")
        took = time.monotonic() - started
        all_runs = totals()
        all_runs[target] = all_runs.get(target, 0) + executions
        with open(f"{FZ}/executions.json", "w", encoding="utf-8") as f:
            json.dump(all_runs, f)
        print(f"{target:10}{executions:12}{executions / took:10.0f}{all_runs[target]:14}{edges:8}  "
              f"{' '.join(new) or 'none'}", flush=True)
        if new:
            any_found = True
            print(the_point(output))
    if any_found:
        print("A finding that is mended belongs into tests/fuzz/findings/TARGET; repeat it by build/fuzz/TARGET FILE.")
    left = [t for t in targets if totals().get(t, 0) < WANTED]
    if left:
        print(f"Less than {WANTED} executions so far: {' '.join(left)}")
    return any_found


def coverage(targets):
    profiles = []
    for target in targets:
        profile = f"{COVERAGE}/{target}.profraw"
        inputs = known(target) + files_of(f"{FZ}/corpus/{target}")
        status, output = run(target, ["-runs=0", *inputs], 1200, COVERAGE, LLVM_PROFILE_FILE=profile)
        if status != 0:
            print(the_point(output))
            return True
        profiles.append(profile)
    subprocess.run(["llvm-profdata", "merge", "-sparse", "-o", f"{COVERAGE}/all.profdata", *profiles], check=True)
    objects = [w for t in targets for w in ("-object", f"{COVERAGE}/{t}")][1:]
    report = subprocess.run(["llvm-cov", "export", "-summary-only", f"-instr-profile={COVERAGE}/all.profdata", *objects],
                            check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
    here = os.getcwd() + "/"
    found = {}
    for file in json.loads(report)["data"][0]["files"]:
        name = os.path.normpath(os.path.join(here, file["filename"])).removeprefix(here)
        found[name] = file["summary"]
    covered = lines = 0
    print(f"{'file':34}{'lines':>7}{'reached':>9}{'branches':>10}")
    for name in PARSERS:
        if name not in found:
            continue
        s = found[name]
        covered += s["lines"]["covered"]
        lines += s["lines"]["count"]
        print(f"{name:34}{s['lines']['count']:7}{s['lines']['percent']:8.1f}%{s['branches']['percent']:9.1f}%")
    print(f"{'all of these':34}{lines:7}{100 * covered / max(lines, 1):8.1f}%")
    return False


def keep(target):
    """The smallest of a minimised corpus, within the sizes above."""
    seeds = f"tests/fuzz/corpus/{target}"
    os.makedirs(seeds, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=FZ) as merged:
        status, output = run(target, ["-merge=1", "-max_len=1024", merged, seeds, f"{FZ}/corpus/{target}"], 3600)
        if status != 0:
            print(the_point(output))
            return True
        old = [f for f in files_of(seeds) if not re.fullmatch(r"[0-9a-f]{12}", os.path.basename(f))]
        left, count = SEEDS_BYTES - sum(map(os.path.getsize, old)), SEEDS_KEPT - len(old)
        for f in files_of(seeds):
            if f not in old:
                os.remove(f)
        # The one that reaches most per byte can't be told cheaply; among a minimised corpus each reaches something.
        for f in sorted(files_of(merged), key=os.path.getsize)[-4 * SEEDS_KEPT::4]:
            if count > 0 and os.path.getsize(f) <= left:
                count -= 1
                left -= os.path.getsize(f)
                shutil.copyfile(f, f"{seeds}/{os.path.basename(f)[:12]}")
    print(f"{target}: {len(files_of(seeds))} seeds, {sum(map(os.path.getsize, files_of(seeds)))} bytes")
    return False


def main():
    command, *rest = sys.argv[1:] or ["check"]
    wanted = [t for t in rest if t and not t.isdigit()]
    for target in wanted:
        if target not in TARGETS:
            sys.exit(f"run.py: no target {target!r}; there are: {' '.join(TARGETS)}")
    if command == "check":
        return check()
    if command == "fuzz":
        return fuzz(int(next((n for n in rest if n.isdigit()), "60")), wanted or TARGETS)
    if command == "coverage":
        return coverage(wanted or TARGETS)
    if command == "keep":
        return any([keep(t) for t in wanted or TARGETS])
    sys.exit(__doc__)


if __name__ == "__main__":
    sys.exit(1 if main() else 0)
