#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""`make bench`: Candela's figures, one JSON object a line.

Instructions are the guest's own, counted by the lab under -icount (its own are subtracted at every exit and entry, and
time in HLT is not counted), so they repeat exactly on any machine. A figure "per something" is the difference of two
runs that differ in how often they do it, so boot, DHCP and shutdown cancel out. Nanoseconds (ring_*) are this machine's.

    bench.py [--arch x86_64] [figure ...]       figures: boot disk net nbd memory ring size
"""
import argparse
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "e2e"))
import labvm                                                  # noqa: E402
import nbdclient                                              # noqa: E402

WORK = os.path.join(ROOT, "build", "bench")
RUN_LIMIT_S = 300
SECTORS_MIB = 64
UDP_BYTES = 1024
arch = "x86_64"


def show(figure, value, unit):
    if isinstance(value, float):
        value = round(value, 3)
    print(json.dumps({"figure": figure, "system": "candela", "arch": arch, "value": value, "unit": unit}), flush=True)


def sample_disk():
    """Random content: reads of holes would be another path in the back end."""
    path = os.path.join(WORK, "disk.img")
    if not os.path.exists(path):
        os.makedirs(WORK, exist_ok=True)
        with open(path + ".new", "wb") as f:
            for _ in range(SECTORS_MIB):
                f.write(os.urandom(1 << 20))
        os.rename(path + ".new", path)
    return labvm.Disk(path)


class Run:
    """One machine from start to power-off, with the lab's counters as attributes of .counters."""

    def __init__(self, name, args, mem="256M", app="bench", forward=None, drive=None, lab=None, cmdline=""):
        self.work = os.path.join(WORK, name)
        options = {"measure": 1}
        options.update(lab or {})
        vm = labvm.LabVM(self.work, app=app, disks=[sample_disk()], forward=forward or {}, mem=mem, icount=True, arch=arch,
                         cmdline=(f"args={args} " if args else "") + cmdline, lab=options)
        with vm:
            if drive:
                drive(vm)
            code = vm.wait(RUN_LIMIT_S)
            self.console, text = vm.console, vm.lines["lab"].text
        if code not in (labvm.POWER_OFF, labvm.QUIT):
            raise labvm.VMError(f"{name}: {labvm.exit_text(code)} (see {os.path.relpath(self.work, ROOT)}/)")
        self.counters = {m[1]: int(m[2]) for m in re.finditer(r"^lab-counter: (\w+)=(\d+)$", text, re.M)}
        self.marks = {m[1]: {w.split("=")[0]: int(w.split("=")[1]) for w in m[2].split()}
                      for m in re.finditer(r"^lab-mark: (\S+) (.*)$", text, re.M)}


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
            Run(f"serve-{mib}m", "", app="nbd", mem=f"{mib}M", forward={"nbd": 10809}, drive=nbd_reads(200, 32, 20))
        except (labvm.VMError, nbdclient.NBDError, nbdclient.ProtocolError, OSError):
            continue
        show("min_ram_mib", mib, "MiB")
        return
    show("min_ram_mib", None, "MiB")


# ---- disk ----

def disk():
    for depth in (1, 32):
        few, many = 1000, 5000
        runs = [Run(f"disk-{depth}-{n}", f"disk:depth={depth},count={n}") for n in (few, many)]
        more = many - few
        show(f"disk_read_4k_qd{depth}_instructions", per(*runs, "guest_instructions", more), "instructions")
        if depth == 32:
            show("disk_read_4k_qd32_signals_per_1000", 1000 * per(*runs, "host_signals", more), "signals")
            show("disk_read_4k_qd32_interrupts_per_1000", 1000 * per(*runs, "host_interrupts", more), "interrupts")


# ---- network: the other end is this program, behind QEMU's user network ----

def send_datagrams(count):
    """Keeps a few datagrams on their way until the guest has had enough: what is lost is sent again."""
    def drive(vm):
        vm.expect("ready", RUN_LIMIT_S)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            deadline = time.monotonic() + RUN_LIMIT_S
            while vm.poll() is None and time.monotonic() < deadline and "datagrams" not in vm.console:
                for _ in range(8):
                    s.sendto(bytes(UDP_BYTES), ("127.0.0.1", vm.ports["udp"]))
                time.sleep(0.002)
    return drive


def tcp_peer(receive):
    """A listener on this side; drains or feeds one connection."""
    server = socket.socket()
    server.bind(("127.0.0.1", 0))
    server.listen(1)

    def serve():
        connection, _ = server.accept()
        with connection:
            try:
                while connection.recv(1 << 16) if receive else True:
                    if not receive:
                        connection.sendall(bytes(1 << 16))
            except OSError:
                pass
    threading.Thread(target=serve, daemon=True).start()
    return server.getsockname()[1]


def feed_guest(vm):
    vm.expect("ready", RUN_LIMIT_S)
    with socket.create_connection(("127.0.0.1", vm.ports["tcp"]), 10) as s:
        try:
            while True:
                s.sendall(bytes(1 << 16))
        except OSError:
            pass


def net():
    few, many = 500, 2500
    sink = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sink.bind(("127.0.0.1", 0))
    runs = [Run(f"udp-rx-{n}", f"udp-rx:port=7000,count={n}", forward={"udp": 7000}, drive=send_datagrams(n))
            for n in (few, many)]
    # Frames that came while the application was done already count for neither.
    frames = runs[1].counters["host_rx_frames"] - runs[0].counters["host_rx_frames"]
    show("udp_rx_instructions_per_packet", per(*runs, "guest_instructions", frames), "instructions")
    runs = [Run(f"udp-tx-{n}", f"udp-tx:host=10.0.2.2,port={sink.getsockname()[1]},count={n},bytes={UDP_BYTES}")
            for n in (few, many)]
    show("udp_tx_instructions_per_packet", per(*runs, "guest_instructions", many - few), "instructions")
    few, many = 4, 20
    runs = [Run(f"tcp-rx-{n}", f"tcp-rx:port=7001,count={n}", forward={"tcp": 7001}, drive=feed_guest) for n in (few, many)]
    show("tcp_rx_instructions_per_mib", per(*runs, "guest_instructions", many - few), "instructions")
    runs = [Run(f"tcp-tx-{n}", f"tcp-tx:host=10.0.2.2,port={tcp_peer(True)},count={n}") for n in (few, many)]
    show("tcp_tx_instructions_per_mib", per(*runs, "guest_instructions", many - few), "instructions")


# ---- the appliance ----

def read_pipelined(client, offsets, depth):
    """4 KiB reads with `depth` of them on their way."""
    lengths, client.base, left = {}, {}, list(reversed(offsets))
    while lengths or left:
        while left and len(lengths) < depth:
            offset = left.pop()
            cookie = client.send(nbdclient.CMD_READ, offset, 4096)
            lengths[cookie], client.base[cookie] = 4096, offset
        cookie, error, data = client.reply(lengths)
        if error or len(data) != 4096:
            raise nbdclient.NBDError(error, f"{len(data)} bytes")
        del lengths[cookie], client.base[cookie]


def nbd_reads(count, depth, limit_s=RUN_LIMIT_S):
    def drive(vm):
        vm.expect("serving", limit_s)
        with nbdclient.Client(vm.ports["nbd"], timeout=60) as client:
            client.go("disk0")
            blocks = client.size // 4096
            wanted = [(n * 2654435761 % blocks) * 4096 for n in range(count)]
            read_pipelined(client, wanted, depth)
            client.disconnect()
        vm.command("quit")
    return drive


def nbd():
    few, many = 500, 2500
    runs = [Run(f"nbd-{n}", "", app="nbd", forward={"nbd": 10809}, drive=nbd_reads(n, 32)) for n in (few, many)]
    show("nbd_read_4k_qd32_instructions", per(*runs, "guest_instructions", many - few), "instructions")


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
    boot_file = {"x86_64": "BOOT-nbd.EFI", "arm64": "BOOT-nbd.EFI"}[arch]
    show("efi_image_bytes", os.path.getsize(os.path.join(build, boot_file)), "bytes")


FIGURES = {"size": size, "ring": ring, "boot": boot, "disk": disk, "net": net, "nbd": nbd, "memory": memory}


def main():
    global arch
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arch", default="x86_64")
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
        except (labvm.VMError, nbdclient.NBDError, nbdclient.ProtocolError, OSError, KeyError, ValueError) as why:
            print(f"bench: {name}: {type(why).__name__}: {why}", file=sys.stderr)
            failed = True
    sys.exit(failed)


if __name__ == "__main__":
    main()
