# SPDX-License-Identifier: BSD-2-Clause
"""Runs cases where KVM is: on the machine itself, or inside the Linux that nested.py starts.

    inside.py FOLDER QEMU WAY JOBS NAME...      WAY: direct or nested

Several of these may share FOLDER, even from different machines: a case belongs to the one that could make the folder
FOLDER/claims/NAME. Each writes its verdicts to the file results-PID in FOLDER/results, one JSON object a line; what a
case leaves behind lies in FOLDER/NAME.
"""
import json
import os
import shutil
import sys
import threading
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(os.path.dirname(HERE), "e2e")]
import harness                                                # noqa: E402
import labvm                                                  # noqa: E402
from guest import KernelTrace, KvmGuest                       # noqa: E402
import cases_balloon                                          # noqa: E402,F401
import cases_flags                                            # noqa: E402,F401
import cases_guest                                            # noqa: E402,F401
import cases_panic                                            # noqa: E402,F401
import cases_trace                                            # noqa: E402,F401


class KvmTest(harness.Test):
    """What a case works with: t.guest(...), t.check, t.equal, t.skip and the rest of harness.Test."""

    def __init__(self, name, folder, qemu, way):
        self.work = os.path.join(folder, name)
        self.name, self.qemu, self.way = name, qemu, way
        self.machines, self.running, self.sockets, self.notes, self.expired = [], [], None, [], False
        os.makedirs(self.work, exist_ok=True)

    def note(self, text):
        self.notes.append(text)

    def guest(self, **options):
        if options.get("watch") == "if possible":
            options["watch"] = KernelTrace.possible()
        elif options.get("watch") and not KernelTrace.possible():
            self.skip("the kernel's trace of KVM is for root only (/sys/kernel/tracing)")
        folder = self.path(f"vm{len(self.machines)}" if self.machines else "vm")
        vm = KvmGuest(folder, self.qemu, **options)
        self.machines.append(vm)
        return vm.start()

    def expire(self):
        self.expired = True
        for vm in self.machines:
            vm.kill()


def run(name, folder, qemu, way):
    """One case; returns (verdict, text)."""
    function, limit_s = harness.CASES[name]
    limit_s *= harness.SLOW_MACHINE
    t = KvmTest(name, folder, qemu, way)
    timer = threading.Timer(limit_s, t.expire)
    timer.start()
    verdict, text = "FAIL", ""
    try:
        function(t)
        t.close(True)
        verdict, text = "PASS", "; ".join(t.notes)
    except harness.Skip as why:
        verdict, text = "SKIP", str(why)
    except (harness.Failure, labvm.VMError) as why:
        text = str(why)
    except Exception as why:                        # pylint: disable=broad-except
        text = f"{type(why).__name__}: {why}\n{traceback.format_exc()}"
    finally:
        timer.cancel()
    if t.expired:
        verdict, text = "FAIL", f"still running after {limit_s} s; {text}"
    if verdict != "PASS":
        t.close(False)
    left = [vm.left_over for vm in t.machines if vm.left_over]
    return verdict, "; ".join(([text] if text else []) + left)


def run_believed(name, folder, qemu, way):
    """As run. Nested in emulation, a case that hangs is run once more, and says so when that ends otherwise: the
    emulator loses an interrupt now and then (its helper for leaving a guest takes requests off without the lock under
    which devices make them), and a machine that waits for nothing else then sleeps for ever. The first run stays in
    NAME-hung."""
    verdict, text = run(name, folder, qemu, way)
    if way != "nested" or verdict != "FAIL" or not text.startswith("still running"):
        return verdict, text
    hung = os.path.join(folder, name + "-hung")
    shutil.rmtree(hung, ignore_errors=True)
    os.rename(os.path.join(folder, name), hung)
    verdict, again = run(name, folder, qemu, way)
    return verdict, f"second run{': ' if again else ''}{again} (the first: {text})"


def claim(folder, name):
    try:
        os.mkdir(os.path.join(folder, "claims", name))
        return True
    except FileExistsError:
        return False


def main():
    folder, qemu, way, jobs, *names = sys.argv[1:]
    lock = threading.Lock()
    left = list(names)
    results = open(os.path.join(folder, "results", f"{os.uname().nodename}-{os.getpid()}-{time.monotonic_ns()}"), "a",
                   encoding="utf-8")

    def worker():
        while True:
            with lock:
                name = next((n for n in left if claim(folder, n)), None)
                if name is None:
                    return
                del left[:left.index(name) + 1]
            started = time.monotonic()
            try:
                verdict, text = run_believed(name, folder, qemu, way)
            except Exception:                       # pylint: disable=broad-except
                verdict, text = "FAIL", traceback.format_exc()     # the other cases go on
            with lock:
                results.write(json.dumps([name, verdict, round(time.monotonic() - started, 1), text]) + "\n")
                results.flush()

    threads = [threading.Thread(target=worker) for _ in range(int(jobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    results.close()


if __name__ == "__main__":
    main()
