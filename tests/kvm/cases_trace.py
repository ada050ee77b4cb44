# SPDX-License-Identifier: BSD-2-Clause
"""The kernel's trace itself (guest.KernelTrace): what another process holds open costs neither the text nor a case.

A program that another case is just starting is such a process: between fork and exec it has all our files.
"""
import os
import subprocess
import threading

import labvm
from guest import KernelTrace
from harness import case

HELD_S = 1
MANY = 5


def held(trace):
    """A process that has the file `trace` of a trace's folder open; returns once it has."""
    process = subprocess.Popen(["sh", "-c", "exec 3< trace && echo open && exec sleep 3600"], cwd=trace.folder,
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, preexec_fn=labvm.die_with_parent)
    if process.stdout.readline() != b"open\n":
        raise OSError("the process that should hold the file has ended")
    return process


def let_go(process):
    process.kill()
    process.communicate()


def skip_unless_possible(t):
    if not KernelTrace.possible():
        t.skip("the kernel's trace is for root only (/sys/kernel/tracing)")


@case(limit_s=60)
def trace_held_for_a_while(t):
    """A file of the trace is open elsewhere when it is finished, and no longer soon after: nothing is left."""
    skip_unless_possible(t)
    trace = KernelTrace([os.getpid()])
    holder = held(trace)
    soon = threading.Timer(HELD_S, let_go, [holder])
    soon.start()
    text = trace.finish(t.path("kvm.txt"))
    soon.join()
    t.check("tracer: nop" in text, f"the text: {text[:200]!r}")
    t.equal(trace.left_over, None, "a word about what is left")
    t.check(not os.path.exists(trace.folder), "the folder is gone")


@case(limit_s=60)
def trace_many_at_once(t):
    """Traces that are made at the same time, each of which removes left-overs first, do not remove each other."""
    skip_unless_possible(t)
    wrong = []

    def make():
        try:
            for _ in range(MANY):
                trace = KernelTrace([os.getpid()])
                text = trace.finish(os.devnull)
                if "tracer: nop" not in text or trace.left_over:
                    wrong.append(trace.left_over or text[:200])
        except OSError as error:
            wrong.append(str(error))

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    t.equal(wrong, [], "what went wrong")


@case(limit_s=60)
def trace_held_for_ever(t):
    """It stays open: the text is there all the same, one line tells, and the next trace removes what was left."""
    skip_unless_possible(t)
    trace = KernelTrace([os.getpid()], remove_limit_s=HELD_S)
    holder = held(trace)
    try:
        text = trace.finish(t.path("kvm.txt"))
    finally:
        let_go(holder)
    t.check("tracer: nop" in text, f"the text: {text[:200]!r}")
    t.check(trace.left_over and trace.folder in trace.left_over, f"the line: {trace.left_over!r}")
    t.check(os.path.exists(trace.folder), "the folder is still there")
    in_use = KernelTrace([os.getpid()])
    after = KernelTrace([os.getpid()])
    t.check(not os.path.exists(trace.folder), "the next trace has removed it")
    t.check(os.path.exists(in_use.folder), "but none that is in use")
    for one in (in_use, after):
        one.finish(t.path("kvm.txt"))
        t.equal(one.left_over, None, "a word about what is left")
