#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""`make run`: an application in the lab, with disks and a network, until Ctrl-C.

Disks are opened read-only, so that nothing can happen to them, except those that nbd.write=... in ARGS names.
"""
import argparse
import atexit
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests", "e2e"))
import labvm                                                  # noqa: E402
import nbdclient                                              # noqa: E402

MIN_MEM, MAX_CPUS, MAX_DISKS = 32 << 20, 8, 16
MAX_MEM = 700 << 30     # of the emulated processor's 1 TiB, QEMU 10's firmware keeps the upper quarter for devices
FORMATS = ("raw", "qcow2", "vhdx", "vpc", "vmdk", "qed", "vdi")
READY_LIMIT_S = 120
# application -> {name of the address: guest port}
PORTS = {"nbd": {"nbd": 10809, "http": 80}, "iperf": {"iperf": 5001}}
PREFERRED = {"nbd": 10809, "http": 8080, "iperf": 5001}
SAMPLE_TEXT = """This disk is an example, made by `make run` because no DISK= was named.
Candela serves it from a virtual machine in which nothing else runs: no operating system, just the application,
the drivers for Hyper-V's disks and networks, and TCP/IP.
"""


def fail(text):
    print(f"run: {text}", file=sys.stderr)
    sys.exit(2)


def sample_disk():
    """A 64 MiB ext4 file system with a README in it, under build/."""
    path = os.path.join(ROOT, "build", "sample", "disk0.img")
    if os.path.exists(path):
        return path
    tree = os.path.join(ROOT, "build", "sample", "tree")
    os.makedirs(tree, exist_ok=True)
    with open(os.path.join(tree, "README"), "w", encoding="utf-8") as f:
        f.write(SAMPLE_TEXT)
    mke2fs = shutil.which("mke2fs", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if not mke2fs:
        fail("no DISK= named, and no mke2fs here to make a sample (scripts/packages.sh run)")
    made = subprocess.run([mke2fs, "-q", "-F", "-t", "ext4", "-L", "sample", "-d", tree, path + ".new", "64M"],
                          capture_output=True, text=True, check=False)
    if made.returncode:
        fail(f"mke2fs: {made.stderr.strip()}")
    os.replace(path + ".new", path)
    return path


def written_disks(args):
    """The disks that ARGS makes writable, by name."""
    names = set()
    for value in re.findall(r"(?:^|\s)nbd\.write=(\S*)", args):
        names |= set(value.strip('"').split(","))
    return names


def open_disks(paths, args):
    writable, disks = written_disks(args), []
    for n, path in enumerate(paths):
        if not os.path.exists(path):
            fail(f"DISK: there is no {path}")
        if os.path.isdir(path):
            fail(f"DISK: {path} is a directory")
        write = f"disk{n}" in writable
        if not os.access(path, os.R_OK):
            fail(f"DISK: {path} may not be read by you")
        if write and not os.access(path, os.W_OK):
            fail(f"DISK: {path} may not be written by you, but nbd.write= names disk{n}")
        info = subprocess.run(["qemu-img", "info", "-U", "--output=json", path], capture_output=True, text=True,
                              check=False)
        if info.returncode:
            fail(f"DISK: {info.stderr.strip() or path}")
        info = json.loads(info.stdout)
        if info["format"] not in FORMATS:
            fail(f"DISK: {path} is {info['format']}; known are {', '.join(FORMATS)}")
        if info["virtual-size"] < 512:
            fail(f"DISK: {path} is smaller than one sector")
        disks.append(labvm.Disk(path, info["format"], writable=write))
    unknown = {name for name in writable if name} - {f"disk{n}" for n in range(len(disks))}
    if unknown:
        fail(f"ARGS: nbd.write names {', '.join(sorted(unknown))}, but the disks are "
             f"{', '.join(f'disk{n}' for n in range(len(disks)))}")
    return disks


def size_text(n):
    for unit in ("bytes", "KiB", "MiB", "GiB", "TiB"):
        if n < 10240 or unit == "TiB":
            return f"{n} {unit}"
        n //= 1024


def nbd_addresses(port):
    """What the server at this port offers, asked in its own protocol; None while it does not answer."""
    try:
        with nbdclient.Client(port, timeout=3) as client:
            names = client.list()
        lines = []
        for name in names:
            with nbdclient.Client(port, timeout=3) as client:
                client.go(name)
                kind = "read-only" if client.flags & nbdclient.T_READ_ONLY else "writable"
                lines.append(f"nbd://127.0.0.1:{port}/{name}    {size_text(client.size)}, {kind}")
                client.disconnect()
        return lines or [f"nbd://127.0.0.1:{port}/    no disk"]
    except (OSError, nbdclient.ProtocolError, nbdclient.NBDError):
        return None


def http_answers(port):
    try:
        with socket.create_connection(("127.0.0.1", port), 3) as s:
            s.settimeout(3)
            s.sendall(b"HEAD / HTTP/1.0\r\n\r\n")
            return s.recv(5) == b"HTTP/"
    except OSError:
        return False


def announce(vm, app, stopping):
    """Waits until the services answer, then prints where they are."""
    deadline = time.monotonic() + READY_LIMIT_S
    waiting, found = dict(vm.ports), []
    try:                                          # a connection before the guest listens is answered late
        vm.expect(r"serving nbd:|iperf 2 at port|no address yet", 10)
    except labvm.VMError:
        pass
    while waiting and time.monotonic() < deadline and vm.poll() is None and not stopping.is_set():
        for name, port in list(waiting.items()):
            if name == "nbd":
                lines = nbd_addresses(port)
            elif name == "http":
                lines = [f"http://127.0.0.1:{port}/"] if http_answers(port) else None
            elif re.search(r"\b" + re.escape(app), vm.console):
                lines = [f"127.0.0.1:{port} ({name})"]
            else:
                lines = None
            if lines:
                found += lines
                del waiting[name]
        time.sleep(0.1)
    if stopping.is_set() or vm.poll() is not None:
        return
    if found:
        print("\n  Candela serves:", *("    " + line for line in found), "  Ctrl-C ends it.\n", sep="\n", flush=True)
    for name in waiting:
        print(f"run: {name} did not answer within {READY_LIMIT_S} s", flush=True)


def take_terminal():
    """Ctrl-C is meant for this program, not for the make that started it and would call it an error."""
    try:
        terminal = os.open("/dev/tty", os.O_RDWR)
        before = os.tcgetpgrp(terminal)
        if before != os.getpgrp() or before == os.getpid():
            return
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        signal.signal(signal.SIGTSTP, signal.SIG_IGN)
        os.setpgid(0, 0)
        os.tcsetpgrp(terminal, os.getpid())
        atexit.register(lambda: os.tcsetpgrp(terminal, before))
    except OSError:
        pass                                      # no terminal


def main():
    parser = argparse.ArgumentParser(description="Boots an application in the lab.")
    parser.add_argument("--arch", default=labvm.ARCH)
    parser.add_argument("--app", default="nbd")
    parser.add_argument("--disk", default="", help="files, separated by commas; a sample when none is named")
    parser.add_argument("--mem", default="")
    parser.add_argument("--cpus", default="")
    parser.add_argument("--args", default="", help="key=value words for the guest")
    parser.add_argument("--work", default=os.path.join(ROOT, "build", "run"), help="folder of the logs")
    options = parser.parse_args()

    try:
        mem = labvm.parse_size(options.mem or "256M")
    except ValueError as error:
        fail(f"MEM: {error}")
    if mem < MIN_MEM:
        fail(f"MEM: {options.mem} is too little, the least is {size_text(MIN_MEM)}")
    if mem > MAX_MEM:
        fail(f"MEM: {options.mem} is too much, the most is {size_text(MAX_MEM)}")
    cpus = options.cpus or "1"
    if not cpus.isdigit() or not 1 <= int(cpus) <= MAX_CPUS:
        fail(f"CPUS: {cpus} is not a number from 1 to {MAX_CPUS}")
    paths = [path for path in options.disk.split(",") if path] or [sample_disk()]
    if len(paths) > MAX_DISKS:
        fail(f"DISK: {len(paths)} disks, at most {MAX_DISKS}")
    disks = open_disks(paths, options.args)

    forward = dict(PORTS.get(options.app, {}))
    for name in list(forward):
        if found := re.search(rf"(?:^|\s){name}\.port=(\d+)", options.args):
            forward[name] = int(found[1])
            if forward[name] > 65535:
                fail(f"ARGS: {name}.port={found[1]} is not a port")
            if not forward[name]:
                del forward[name]
    # Ports of an application of one's own: FORWARD=8080,9000
    for port in filter(None, os.environ.get("FORWARD", "").split(",")):
        if not port.isdigit() or not 0 < int(port) < 65536:
            fail(f"FORWARD: {port} is not a port")
        forward["port " + port] = int(port)
    net = labvm.UserNet(forward, PREFERRED)

    stopping = threading.Event()

    def stop(*_):
        stopping.set()

    take_terminal()
    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)

    def echo(text):
        sys.stdout.write(text)
        sys.stdout.flush()

    try:
        vm = labvm.LabVM(options.work, options.app, disks, net=[net], mem=f"{mem >> 20}M", cpus=int(cpus),
                         cmdline=options.args, echo=echo, arch=options.arch)
        with vm:
            threading.Thread(target=announce, args=(vm, options.app, stopping), daemon=True).start()
            while vm.poll() is None and not stopping.wait(0.1):
                pass
            if stopping.is_set():
                print("\nrun: ended")
                return 0
            code = vm.wait(5)
    except labvm.VMError as error:
        fail(error)
    if code in (labvm.POWER_OFF, labvm.QUIT):
        print(f"run: {labvm.exit_text(code)}")
        return 0
    print(f"run: {labvm.exit_text(code)} (see {os.path.relpath(options.work)})", file=sys.stderr)
    tail = [vm.qemu_errors()] + vm.lines["lab"].text.splitlines()[-20:]
    print(*(line for line in tail if line), sep="\n", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
