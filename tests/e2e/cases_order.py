# SPDX-License-Identifier: BSD-2-Clause
"""Order of memory between guest and host, in earnest: the model of the host works on one processor while another one
runs the guest (the lab's aside=1), each a thread of its own in QEMU. A signal that is lost, an index or a flag that is
seen too early ends in a request that never ends, in wrong bytes or in a complaint of the model's.

CANDELA_ORDER_S in the environment is how long each case works; 600 for the ten minutes of a release.
"""
import os
import time

from cases_nbd import uri
from harness import case, sha256
from labvm import POWER_OFF, Disk

WORK_S = float(os.environ.get("CANDELA_ORDER_S") or 25)
ROUND_S = 60


def write_and_compare(t, vm, source):
    """The whole disk written and read again by QEMU's NBD client, several requests at a time."""
    t.run("qemu-img", "convert", "-n", "-W", "-m", "16", "-f", "raw", source, "-O", "raw", uri(vm), limit_s=ROUND_S)
    t.run("qemu-img", "compare", "-f", "raw", "-F", "raw", source, uri(vm), limit_s=ROUND_S)


def counters(vm):
    vm.command("counters", r"^lab-command: counters.*: done")
    return vm.counters()


def work(t, lab):
    sources = [t.random_disk(f"source{n}.img", 16, seed=n) for n in range(2)]
    target = t.random_disk("target.img", 16, seed=9)
    vm = t.lab(disks=[Disk(target, writable=True)], cmdline="nbd.write=disk0", lab={"aside": 1, **lab})
    began = counters(vm)
    rounds, until = 0, time.monotonic() + WORK_S
    while time.monotonic() < until or rounds < 2:
        write_and_compare(t, vm, sources[rounds % 2])
        rounds += 1
    ended = counters(vm)
    vm.command("shutdown", r"^lab-command: shutdown.*: done")
    t.equal(vm.wait(30), POWER_OFF, "the lab's end: no rule of the host was broken")
    vm.ended = POWER_OFF
    t.equal(sha256(target), sha256(sources[(rounds - 1) % 2]), "what the host has in the end")
    for complaint in ("timed out", "does not answer", "lost"):
        t.check(complaint not in vm.console, f"the guest waited in vain: {complaint}")
    done = {name: ended["host_" + name] - began["host_" + name]
            for name in ("signals", "monitor_signals", "interrupts", "srbs", "tx_frames")}
    t.check(min(done["signals"] + done["monitor_signals"], done["interrupts"]) > 100 * rounds, f"there was traffic: {done}")
    t.note(f"{rounds} rounds, {done}")


@case(limit_s=int(WORK_S) + 120)
def order_direct(t):
    """Disk and network with the host on a processor of its own: every byte, no signal lost."""
    work(t, {})


@case(limit_s=int(WORK_S) + 120)
def order_isolated(t):
    """The same in an isolated machine, where pages change hands meanwhile, with slow and fast requests."""
    work(t, {"isolation": "vbs"})


@case(limit_s=int(WORK_S) + 120)
def order_monitor(t):
    """The same with monitor pages: the host polls bits in shared memory instead of being called."""
    work(t, {"vmbus.monitor": 1})
