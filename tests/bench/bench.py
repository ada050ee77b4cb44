#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""`make bench`: Candela's figures and, beside them, those of stock Linux; one JSON object a line, then a table.

Instructions are the guest's own, counted by the lab under -icount (its own are subtracted at every exit and entry, and
time in HLT is not counted), so they do not depend on the machine. A figure "per something" is the difference of two
runs that differ in how often they do it, so boot, DHCP and shutdown cancel out. Nanoseconds (ring_*) are this
machine's.

    bench.py [--arch x86_64] [figure ...]       figures: boot disk net nbd isolated memory ring size linux

linux_column.py has the Linux half, for x86_64. After a whole run comparison.py writes docs/bench.md and docs/bench.svg,
or docs/bench-arm64.md.
"""
import argparse
import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path[:0] = [os.path.join(ROOT, "tests", "e2e"), os.path.join(ROOT, "tests", "linux")]
import comparison                                             # noqa: E402
import labvm                                                  # noqa: E402
import linux_column                                           # noqa: E402
import linuximage                                             # noqa: E402
import measure                                                # noqa: E402
import nbdclient                                              # noqa: E402
import peers                                                  # noqa: E402
from measure import RUN_LIMIT_S, WORK                         # noqa: E402

arch = "x86_64"
isolation = {}                                        # the lab's words for an isolated machine, while one is measured


def show(figure, value, unit):
    if not isolation:
        measure.show(figure, value, unit, arch=arch)
        return
    normal = next((one["value"] for one in measure.shown if one["figure"] == figure and one["system"] == "candela"), None)
    measure.show(figure + "_isolated", value, unit, arch=arch, normal=normal)


class Run:
    """One machine from start to power-off, with the lab's counters as attributes of .counters."""

    def __init__(self, name, args, mem="256M", app="bench", forward=None, drive=None, lab=None, cmdline="",
                 extra=()):
        self.work = os.path.join(WORK, name + ("-isolated" if isolation else ""))
        vm = labvm.LabVM(self.work, app=app, forward=forward or {}, mem=mem, icount=True, arch=arch,
                         cmdline=(f"args={args} " if args else "") + cmdline, lab={**measure.LAB, **isolation, **(lab or {})},
                         extra=extra)
        with vm:
            if drive:
                drive(vm)
            code = vm.wait(RUN_LIMIT_S)
            self.console, text = vm.console, vm.lines["lab"].text
        if code not in (labvm.POWER_OFF, labvm.QUIT):
            raise labvm.VMError(f"{name}: {labvm.exit_text(code)} (see {os.path.relpath(self.work, ROOT)}/)")
        self.counters, self.marks = measure.counters(text), dict(measure.marks(text))


def per(first, second, counter, difference):
    return (second.counters[counter] - first.counters[counter]) / difference


# ---- boot ----


def symbol(app, name):
    """Address of a function of the image, from the symbol file its link wrote."""
    with open(os.path.join(ROOT, "build", arch, f"candela-{app}.sym"), encoding="utf-8") as f:
        for line in f:
            address, _, found = line.split()
            if found == name:
                return int(address, 16)
    raise KeyError(f"candela-{app}.sym has no {name}")


def boot():
    """From the first instruction to an application that has its disk and an address by DHCP; then a line per phase."""
    run = Run("boot", "boot", lab={"mark_at": symbol("bench", "boot_phase_mark")})
    phases = [(name[6:], mark["guest_instructions"]) for name, mark in run.marks.items() if name.startswith("phase-")]
    show("boot_instructions", dict(phases)["ready"], "instructions")
    before = 0
    for name, at in phases:
        show(f"boot_instructions_{name}", at - before, "instructions")
        before = at


def memory():
    small, large = Run("boot-1g", "boot", mem="1G"), Run("boot-64g", "boot", mem="64G")
    ratio = large.counters["guest_instructions"] / small.counters["guest_instructions"]
    show("boot_instructions_64gib_over_1gib", ratio, "ratio")
    for mib in (4, 5, 6, 7, 8, 10, 12, 16, 20, 24, 28, 32):
        try:
            Run(f"serve-{mib}m", "", app="nbd", mem=f"{mib}M", forward={"nbd": 10809}, drive=serve(200, limit_s=20))
        except (labvm.VMError, nbdclient.NBDError, nbdclient.ProtocolError, OSError):
            continue
        show("min_ram_mib", mib, "MiB")
        return
    show("min_ram_mib", None, "MiB")


# ---- disk ----

# Nothing but the disk: what a network brings comes when it likes, and the host's services speak up at the start. So
# these figures repeat to the instruction.
ALONE = {"nic.absent": "0", "ic.all": 0}


def disk():
    for depth in (1, 32):
        few, many = 1000, 5000
        runs = [Run(f"disk-{depth}-{n}", f"disk:depth={depth},count={n}", lab=ALONE) for n in (few, many)]
        more = many - few
        show(f"disk_read_4k_qd{depth}_instructions", per(*runs, "guest_instructions", more), "instructions")
        show(f"disk_read_4k_qd{depth}_signals_per_1000", 1000 * per(*runs, "host_signals", more), "signals")
        show(f"disk_read_4k_qd{depth}_interrupts_per_1000", 1000 * per(*runs, "host_interrupts", more), "interrupts")


# ---- network ----

def net():
    few, many = 500, 2500
    runs = [Run(f"udp-rx-{n}", f"udp-rx:port=7000,count={n}", forward={"udp": 7000}, drive=peers.send_datagrams)
            for n in (few, many)]
    # Frames that came while the application was done already count for neither.
    frames = runs[1].counters["host_rx_frames"] - runs[0].counters["host_rx_frames"]
    show("udp_rx_instructions_per_packet", per(*runs, "guest_instructions", frames), "instructions")
    with peers.datagram_sink() as sink:
        port = sink.getsockname()[1]
        runs = [Run(f"udp-tx-{n}", f"udp-tx:host=10.0.2.2,port={port},count={n},bytes={peers.UDP_BYTES}")
                for n in (few, many)]
    show("udp_tx_instructions_per_packet", per(*runs, "guest_instructions", many - few), "instructions")
    few, many = 4, 20
    runs = [Run(f"tcp-rx-{n}", f"tcp-rx:port=7001,count={n}", forward={"tcp": 7001}, drive=peers.feed_guest)
            for n in (few, many)]
    show("tcp_rx_instructions_per_mib", per(*runs, "guest_instructions", many - few), "instructions")
    port = peers.stream_sink()
    runs = [Run(f"tcp-tx-{n}", f"tcp-tx:host=10.0.2.2,port={port},count={n}") for n in (few, many)]
    show("tcp_tx_instructions_per_mib", per(*runs, "guest_instructions", many - few), "instructions")


# ---- the appliance ----

def serve(count, limit_s=RUN_LIMIT_S):
    def drive(vm):
        peers.nbd_reads(vm, count, limit_s=limit_s)
        vm.command("quit")
    return drive


def nbd():
    few, many = 500, 2500
    runs = [Run(f"nbd-{n}", "", app="nbd", forward={"nbd": 10809}, drive=serve(n)) for n in (few, many)]
    show("nbd_read_4k_qd32_instructions", per(*runs, "guest_instructions", many - few), "instructions")


# ---- where the host sees no more than it must ----

def isolated():
    """The costs of data again, in an isolated machine, with those of the normal one beside them."""
    if not any(one["figure"].startswith("disk_read") for one in measure.shown):
        disk(), net(), nbd()
    isolation.update({"isolation": "vbs", "isolation.boundary": 38})
    try:
        disk(), net(), nbd()
    finally:
        isolation.clear()


# ---- without the lab ----

def ring():
    program = os.path.join(WORK, "ring_bench")
    os.makedirs(WORK, exist_ok=True)
    subprocess.run(["gcc", "-std=gnu11", "-O2", "-I.", "-Itests/fake_arch", "tests/bench/ring_bench.c", "vmbus/ring.c",
                    "-o", program], cwd=ROOT, check=True)
    print(subprocess.run([program], check=True, capture_output=True, text=True).stdout, end="", flush=True)


def size():
    build = os.path.join(ROOT, "build", arch)
    show("image_bytes", os.path.getsize(os.path.join(build, "candela-nbd.bin")), "bytes")
    show("efi_image_bytes", os.path.getsize(os.path.join(build, "BOOT-nbd.EFI")), "bytes")


FIGURES = {"size": size, "ring": ring, "boot": boot, "disk": disk, "net": net, "nbd": nbd, "isolated": isolated,
           "memory": memory, "linux": linux_column.figures}


def main():
    global arch
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arch", default=labvm.ARCH)
    parser.add_argument("figures", nargs="*", help=" ".join(FIGURES))
    options = parser.parse_args()
    arch = options.arch
    unknown = [name for name in options.figures if name not in FIGURES]
    if unknown:
        sys.exit(f"bench: there is no figure {unknown[0]!r}; there are {', '.join(FIGURES)}")
    failed = False
    for name in options.figures or FIGURES:
        try:
            FIGURES[name]()
        except (labvm.VMError, linuximage.Unavailable, nbdclient.NBDError, nbdclient.ProtocolError, OSError, KeyError,
                ValueError) as why:
            print(f"bench: {name}: {type(why).__name__}: {why}", file=sys.stderr)
            failed = True
    rows = comparison.rows(measure.shown)
    comparison.show_ratios(rows, arch)
    print(comparison.table(rows), file=sys.stderr, end="")
    if not failed and not options.figures:
        if arch == "arm64":
            comparison.write_arm64(measure.shown)
        else:
            comparison.write_documents(rows)
    sys.exit(failed)


if __name__ == "__main__":
    main()
