# SPDX-License-Identifier: BSD-2-Clause
"""What both columns of `make bench` share: how figures are shown and kept, and how the lab is told to measure.

The disk is the lab's own memory with a fixed latency: nothing outside decides when a read completes, so the figures of
the disk repeat to the instruction, and the guest sleeps while it waits, as it does with a real disk.
"""
import json
import os
import re

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
WORK = os.path.join(ROOT, "build", "bench")
LAB = {"measure": 1, "ramdisk": "64M", "latency": 100}
RUN_LIMIT_S = 300

shown = []


def show(figure, value, unit, system="candela", arch="x86_64", **more):
    """One JSON object on a line of standard output."""
    if isinstance(value, float):
        value = round(value, 3)
    shown.append({"figure": figure, "system": system, "arch": arch, "value": value, "unit": unit, **more})
    print(json.dumps(shown[-1]), flush=True)


def counters(text):
    """The lab's last counters: name -> number."""
    return {m[1]: int(m[2]) for m in re.finditer(r"^lab-counter: (\w+)=(\d+)$", text, re.M)}


def marks(text):
    """[(name, {counter: number})] in the order of their coming."""
    return [(m[1], {w.split("=")[0]: int(w.split("=")[1]) for w in m[2].split()})
            for m in re.finditer(r"^lab-mark: (\S+) (.*)$", text, re.M)]
