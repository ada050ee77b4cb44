# SPDX-License-Identifier: BSD-2-Clause
"""Machines of other kinds: processors, memory, chipsets without what a PC has, consoles that fail, absurd settings."""
import os
import re
import socket
import time

from cases_boot import BUILD, DIRECT, HELLO, script
from harness import case
from labvm import Machine, PlainVM, memory

PROCESSORS = ("qemu64", "max", "EPYC,-pdpe1gb", "EPYC,-rdrand,-rdseed", "EPYC,+x2apic", "EPYC,-pat,-mtrr",
              "Icelake-Server")
TABLE_LINE = re.compile(r"^([0-9a-f]{16}): ([0-9a-f]{16}) ([X-])([G-])([P-])([D-])([A-])([C-])([T-])([U-])([W-])", re.M)


def runs(t, vm, what, loader="PVH", limit_s=60):
    """The application starts; with selftest=memory the tables are sound. Not waited for: its end."""
    vm.expect(r"Hello from \S+, loaded by " + loader, limit_s)
    t.check(re.search(r"self test memory: 0 faults", vm.console), f"{what}: the tables")
    t.kill(vm)


@case(limit_s=120, arch="x86_64")
def processors(t):
    """Processors without 1 GiB pages, RDRAND or a page attribute table, with x2APIC or five levels of tables."""
    for cpu in PROCESSORS:
        vm = t.plain("pvh", HELLO, mem="64M", cmdline="selftest=memory", extra=["-cpu", cpu])
        runs(t, vm, cpu)
        lacks = "rdrand" in cpu or cpu == "qemu64"
        t.equal("no source of random numbers" in vm.console, lacks, f"{cpu}: says that it has no random numbers")
    runs(t, t.plain("pvh", HELLO, mem="64M", cpus=4, cmdline="selftest=memory"), "four processors")


@case(limit_s=120, arch="x86_64")
def memory_sizes(t):
    """From 16 MiB to 512 GiB on plain QEMU."""
    for mem in ("16M", "24M", "32M", "2G", "5G", "512G"):
        vm = t.plain("pvh", HELLO, mem=mem, cmdline="selftest=memory")
        runs(t, vm, mem)


@case(limit_s=120, arch="x86_64")
def image_anywhere(t):
    """The image at places that only firmware would choose: across a GiB, above 4 GiB, above 512 GiB."""
    stub = os.path.join(BUILD, "linux64.elf")
    for place, mem in ((0x3fe00000, "6G"), (0x13fe00000, "6G"), (0x140000000, "6G"), (0x8040000000, "520G")):
        vm = t.plain("linux64", stub, payload=HELLO, mem=mem, cmdline=f"linux64.at={place:#x} selftest=memory")
        runs(t, vm, f"{place:#x}", "Linux boot protocol")
        image = int(re.search(r"image at (0x[0-9a-f]+)", vm.console)[1], 16)
        t.check(place <= image < place + (4 << 20), f"the image lies at {image:#x}, not at {place:#x}")


@case(limit_s=120, arch="x86_64")
def uefi_firmware(t):
    """Under firmware of a large machine, and of one that runs on five levels of tables."""
    script(t, "image.sh", t.path("hello"), CONF=settings(t, b"selftest=memory\n"))
    for cpu, mem in (("EPYC", "6G"), ("max", "6G"), ("max", "256M")):
        vm = t.plain("uefi", t.path("hello.img"), mem=mem, extra=["-cpu", cpu])
        runs(t, vm, f"{cpu}, {mem}", "UEFI")


@case(limit_s=60, arch="x86_64")
def copies(t):
    """memcpy, memmove and memset, written for the processor: every small length at every alignment."""
    vm = t.plain("pvh", HELLO, mem="64M", cmdline="selftest=copies")
    vm.expect(r"self test copies: 0 faults, \d+ tried", 30)
    t.kill(vm)


def settings(t, content):
    with open(t.path("conf"), "wb") as f:
        f.write(content)
    return t.path("conf")


@case(limit_s=120)
def uefi_settings(t):
    """candela.conf as Windows writes it is read; one of 64 KiB or with an open quote is refused by name."""
    text = "# Grüße\r\nargs=\"from windows\"\r\n\r\nloglevel=debug\r\nselftest=memory\r\n"
    for encoding, mark in (("utf-16-le", b"\xff\xfe"), ("utf-8", b"\xef\xbb\xbf")):
        script(t, "image.sh", t.path("hello"), CONF=settings(t, mark + text.encode(encoding)))
        vm = t.plain("uefi", t.path("hello.img"))
        runs(t, vm, encoding, "UEFI")
        t.check("for from" in vm.console and "phase memory" in vm.console, f"{encoding}: both settings")
    for content, complaint in ((b"a=1\n" * 16384, r"larger than 16384 bytes"), (b'a=1\nb="x\n', r"line 2: .*quote")):
        script(t, "image.sh", t.path("hello"), CONF=settings(t, content))
        vm = t.plain("uefi", t.path("hello.img"))
        vm.expect(r"Candela: candela\.conf.*" + complaint, 60)


@case(limit_s=120)
def command_lines(t):
    """Absurd command lines cost a few lines of log, never the boot."""
    absurd = {"no assignment": "x" * 4000, "one quote": 'a="' + "b " * 1900, "many words": "k " * 2000,
              "many settings": " ".join(f"k{n}={n}" for n in range(400)), "too long": "a=1 " * 1025,
              "bytes": "\x01\x02\x1b[2J=\xff \x7f=\x80 loglevel=\xfe args"}
    for name, words in absurd.items():
        vm = t.plain(DIRECT, HELLO, mem="64M", cmdline=words)
        vm.expect(r"Hello from ", 20)
        t.kill(vm)
        t.check(len(vm.console.splitlines()) < 60, f"{name}: {len(vm.console.splitlines())} lines on the console")
        t.check("\x1b" not in vm.console, f"{name}: no control character on the console")
        t.equal("command line is cut at 4095 bytes" in vm.console, name == "too long", f"{name}: says that it was cut")


@case(limit_s=60, arch="x86_64")
def microvm(t):
    """No PCI, PIT, PIC, RTC or PM timer; power-off and restart by registers in memory."""
    machine = ["-M", "microvm,acpi=on,pit=off,pic=off,rtc=off,isa-serial=on,memory-backend=ram", "-cpu", "EPYC"]
    for words, expected in (("selftest=memory", r"self test memory: 0 faults"),
                            ("selftest=assert panic=reboot", r"^panic: ")):
        vm = Machine(t.path(words.split("=")[1][:6]), machine + memory(64 << 20) + ["-kernel", HELLO, "-append", words])
        t._start(vm, None)
        vm.expect(expected, 20)
        t.equal(vm.wait(20), 0, f"{words}: the machine ends")


@case(limit_s=60)
def no_console(t):
    """Without a serial port the machine boots, runs and powers off."""
    vm = PlainVM(t.path("none"), DIRECT, HELLO, mem="64M")
    line = vm.lines.pop("console")
    vm.panicked = lambda: None
    t._start(vm, None)
    t.equal(vm.wait(20), 0, "no serial port: QEMU's exit code after power-off")
    vm.lines["console"] = line


@case(limit_s=60, arch="x86_64")                      # QEMU's PL011 makes the whole machine wait until a byte is taken
def stuck_console(t):
    """With a serial port that never takes a byte the machine boots, runs and powers off."""
    # A listener that never reads, behind a socket with the smallest buffer: the port soon stops taking bytes.
    path = t.socket_path("stuck")
    with socket.socket(socket.AF_UNIX) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        server.bind(path)
        server.listen(1)
        vm = PlainVM(t.path("stuck-vm"), DIRECT, HELLO, mem="64M", cmdline="loglevel=debug " + "k " * 300,
                     extra=["-chardev", f"socket,id=stuck,path={path}", "-serial", "chardev:stuck"])
        line = vm.lines.pop("console")
        vm.panicked = lambda: None
        t._start(vm, None)
        t.equal(vm.wait(40), 0, "a stuck serial port: QEMU's exit code after power-off")
        vm.lines["console"] = line


@case(limit_s=60, arch="x86_64")
def page_tables(t):
    """The tables of the running image, as QEMU reads them: no page is writable and executable, guards are not mapped."""
    monitor = t.socket_path("monitor")
    vm = t.plain("pvh", HELLO, cmdline="selftest=assert",         # a panic halts: the tables stay for us to look at
                 extra=["-chardev", f"socket,id=monitor,path={monitor},server=on,wait=off",
                        "-mon", "chardev=monitor,mode=readline"])
    vm.ended = 0
    for _ in range(600):
        if "task main" in vm.console:
            break
        time.sleep(0.1)
    text = ask(monitor, "info tlb")
    with open(t.path("tlb.txt"), "w", encoding="utf-8") as f:
        f.write(text)
    rows = [(int(v, 16), int(p, 16), nx == "X", large == "P", write == "W")
            for v, p, nx, _, large, _, _, _, _, _, write in TABLE_LINE.findall(text)]
    t.check(len(rows) > 50, f"{len(rows)} mappings")
    symbols = {}
    with open(HELLO[:-4] + ".sym", encoding="utf-8") as f:
        for row in f:
            address, _, name = row.split()
            symbols[name] = int(address, 16)
    code = range(symbols["image_text_start"], symbols["image_text_end"])
    executable_frames = {p for _, p, nx, _, _ in rows if not nx}
    for virt, phys, nx, large, write in rows:
        t.check(nx or not write, f"{virt:#x} is writable and executable")
        t.check(nx or virt in code, f"{virt:#x} is executable, and not code")
        t.check(virt >> 47, f"{virt:#x} is in the lower half")
        span = 2 << 20 if large else 4096
        if write:
            t.check(not any(phys <= p < phys + span for p in executable_frames), f"{virt:#x} makes code writable")
    mapped = {virt for virt, *_ in rows}
    stack = symbols["interrupt_stacks_start"]
    for guard in (symbols["boot_stack_guard"], *(stack + n * 0x5000 for n in range(3))):
        t.check(guard not in mapped and guard + 4096 in mapped, f"the guard page {guard:#x}")


def ask(path, command):
    """One command to QEMU's monitor; its whole answer."""
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(path)
        s.settimeout(10)
        text = b""
        while not text.endswith(b"(qemu) "):
            text += s.recv(1 << 16)
        s.sendall(command.encode() + b"\n")
        text = b""
        while text.count(b"(qemu) ") < 1 or not text.endswith(b"(qemu) "):
            text += s.recv(1 << 16)
    return text.decode(errors="replace").replace("\r", "")
