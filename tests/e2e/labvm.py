# SPDX-License-Identifier: BSD-2-Clause
"""One place that knows how QEMU is started: the lab with Candela as its guest, and Candela on plain QEMU.

Used by scripts/run.py, the end-to-end tests and the benchmarks. Standard library only.

    with LabVM(work, disks=[Disk("disk.img", writable=True)], forward={"nbd": 10809}) as vm:
        vm.expect("serving", 30)            # the guest's console (COM1)
        vm.command("stats", "lab-counter")  # the lab's command line (COM2)
        connect(("127.0.0.1", vm.ports["nbd"]))

The guest's console is kept in work/console.txt, the lab's own output in work/lab.txt, QEMU's in work/qemu.txt. A QEMU
never outlives the Python program that started it.
"""
import codecs
import ctypes
import fcntl
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

from boards import ARCH, BOARDS, FIRMWARE_PAIRS

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
MIB = 1 << 20
PANIC_REPORT_S = 5
LAST_WORDS_S = 60                                   # from QEMU's end until a busy machine has read what it said
PATIENCE = 2                                        # limits of waits are for a quiet machine; they only end what hangs
LAB_START_S = 60
F_SETPIPE_SZ = 1031
# tests/lab/lab.h: LAB_DIRECT_BYTES, what the lab keeps for itself when it loads the guest.
LAB_OWN_BYTES = 64 * MIB

# tests/lab/lab.h, enum lab_end: the exit code is value << 1 | 1.
LAB_ENDS = {
    33: "the guest powered off",
    35: "the guest reported a crash",
    37: "the guest's CPU shut down (triple fault)",
    39: "the guest broke the protocol",
    41: "the lab itself failed",
    43: "the guest reset the machine",
    45: "ended by the quit command",
}
POWER_OFF, CRASH, TRIPLE_FAULT, VIOLATION, LAB_FAULT, REBOOT, QUIT = sorted(LAB_ENDS)


class VMError(Exception):
    """What a user should read: QEMU did not start, ended early, or did not say what was expected."""


def parse_size(text):
    """'512M', '64G', '1T' -> bytes; plain numbers are MiB, as QEMU's -m takes them."""
    found = re.fullmatch(r"(\d+)\s*([kKmMgGtT]?)(i?[bB])?", str(text).strip())
    if not found:
        raise ValueError(f"not a size: {text!r} (examples: 256M, 4G)")
    return int(found[1]) << {"k": 10, "": 20, "m": 20, "g": 30, "t": 40}[found[2].lower()]


def reserved_port(preferred=0, kind=socket.SOCK_STREAM):
    """A socket bound to that port of 127.0.0.1 where nobody listens on it just now, else to any (0: any).

    While a TCP one is open the kernel gives its port to nobody who asks for any, as a listener or for a connection;
    QEMU may listen on it all the same, as both set SO_REUSEADDR and this one does not listen. A UDP one would be given
    what comes for QEMU, and can't stay open.
    """
    s = socket.socket(type=kind)
    if kind == socket.SOCK_STREAM:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        s.bind(("127.0.0.1", preferred))
    except OSError:
        s.bind(("127.0.0.1", 0))
    return s


def exit_text(code):
    if code is None:
        return "still running"
    if code < 0:
        return f"QEMU was ended by {signal.Signals(-code).name}"
    return LAB_ENDS.get(code, f"QEMU ended with code {code}")


def option_path(path):
    """A file's name inside one of QEMU's comma-separated options."""
    return path.replace(",", ",,")


class Disk:
    """A disk of the machine. Read-only unless said otherwise: QEMU itself then refuses to write the file."""

    def __init__(self, path, fmt="raw", writable=False, sector=512, discard=True, serial=None):
        self.path, self.fmt, self.writable = path, fmt, writable
        self.sector, self.discard, self.serial = sector, discard, serial

    def arguments(self, n, board, address=""):
        drive = (f"if=none,id=disk{n},file={option_path(self.path)},format={self.fmt},"
                 f"readonly={'off' if self.writable else 'on'},discard={'unmap' if self.discard else 'ignore'}")
        device = (f"{board.disk},drive=disk{n}{address},logical_block_size={self.sector},"
                  f"physical_block_size={max(self.sector, 512)}")
        if self.serial:
            device += f",serial={self.serial}"
        return ["-drive", drive, "-device", device]


class UserNet:
    """QEMU's own NAT and DHCP server: 10.0.2.0/24, ports of 127.0.0.1 forwarded to the guest."""

    def __init__(self, forward, preferred=()):
        self.forward = forward                      # name -> guest port
        preferred, self.sockets, self.ports = dict(preferred), [], {}
        for name in forward:
            kind = socket.SOCK_DGRAM if name.startswith("udp") else socket.SOCK_STREAM
            s = reserved_port(preferred.get(name, 0), kind)
            self.ports[name] = s.getsockname()[1]
            if kind == socket.SOCK_DGRAM:
                s.close()
            else:
                self.sockets.append(s)              # until the machine has ended

    def release(self):
        for s in self.sockets:
            s.close()

    def arguments(self, n, mac, board, address=""):
        netdev = f"user,id=nic{n}"
        for name, guest_port in self.forward.items():
            kind = "udp" if name.startswith("udp") else "tcp"
            netdev += f",hostfwd={kind}:127.0.0.1:{self.ports[name]}-:{guest_port}"
        return ["-netdev", netdev, "-device", f"{board.nic},netdev=nic{n},mac={mac}{address}"]


class WireNet:
    """A wire to a program: every Ethernet frame is a datagram on a Unix socket (etherpeer.py holds the other end)."""

    def __init__(self, guest_path, peer_path):
        self.guest_path, self.peer_path, self.ports = guest_path, peer_path, {}

    def release(self):
        pass

    def arguments(self, n, mac, board, address=""):
        return ["-netdev", f"dgram,id=nic{n},local.type=unix,local.path={option_path(self.guest_path)},"
                           f"remote.type=unix,remote.path={option_path(self.peer_path)}",
                "-device", f"{board.nic},netdev=nic{n},mac={mac}{address}"]


class Line:
    """One serial line: everything received, kept and written to a file; threads may wait for text.

    A pair of named pipes, as QEMU's -chardev pipe wants them. Not a socket: QEMU writes single bytes, a few hundred of
    them fill a socket's buffer, and a guest whose port takes no more bytes rightly gives up on it.
    """

    def __init__(self, path, log_path, echo=None):
        self.text = ""
        self.closed = self.stopping = False
        self.changed = threading.Condition()
        self.path, self.echo = path, echo
        self.log = open(log_path, "w", encoding="utf-8", newline="\n")
        for end in (".in", ".out"):
            os.mkfifo(path + end)
        self.to_guest = os.open(path + ".in", os.O_RDWR)
        self.from_guest = os.open(path + ".out", os.O_RDONLY | os.O_NONBLOCK)
        try:
            fcntl.fcntl(self.from_guest, F_SETPIPE_SZ, MIB)
        except PermissionError:                       # the user has many pipes already: the usual size must do
            pass
        self.thread = threading.Thread(target=self._read, daemon=True)

    def _read(self):
        decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        poll = select.poll()
        poll.register(self.from_guest, select.POLLIN)
        while True:
            events = dict(poll.poll(200)).get(self.from_guest, 0)
            if not events and not self.stopping:
                continue
            data = os.read(self.from_guest, 65536) if events & select.POLLIN else b""
            if not data:                              # QEMU has closed its end, or never came
                break
            text = decode(data).replace("\r", "")
            self.log.write(text)
            self.log.flush()
            if self.echo:
                self.echo(text)
            with self.changed:
                self.text += text
                self.changed.notify_all()
        with self.changed:
            self.closed = True
            self.changed.notify_all()

    def send(self, text):
        os.write(self.to_guest, text.encode())

    def close(self):
        """After QEMU has ended; the text stays. A second call does nothing."""
        if self.log.closed:
            return
        self.stopping = True
        if self.thread.ident is not None:
            self.thread.join(5)
        os.close(self.to_guest)
        os.close(self.from_guest)
        self.log.close()


def die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)      # PR_SET_PDEATHSIG


class Machine:
    """A QEMU process with its serial lines. `arguments` is everything but the serial lines and displays."""

    def __init__(self, work, arguments, lines=("console",), echo=None, arch=ARCH):
        os.makedirs(work, exist_ok=True)
        self.work = work
        self.process = None
        self.board = BOARDS[arch]
        self.qemu = self.board.qemu
        self.arguments = list(arguments)
        self.pipes = tempfile.mkdtemp(prefix="candela-")
        self.lines = {}
        for name in lines:
            self.lines[name] = Line(os.path.join(self.pipes, name), os.path.join(work, name + ".txt"),
                                    echo if name == "console" else None)

    # ---- life ----
    def start(self):
        command = [self.qemu] + self.arguments + ["-display", "none", "-monitor", "none", "-no-reboot"]
        for name, line in self.lines.items():
            command += ["-chardev", f"pipe,id={name},path={line.path}"]
            command += self.board.lab_line(name) if name == "lab" else ["-serial", f"chardev:{name}"]
            line.thread.start()
        with open(os.path.join(self.work, "command.txt"), "w", encoding="utf-8") as f:
            f.write(" ".join(f"'{c}'" if re.search(r"[^\w@%+=:,./-]", c) or not c else c for c in command) + "\n")
        self.errors = open(os.path.join(self.work, "qemu.txt"), "w+", encoding="utf-8")
        try:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.errors, stderr=self.errors,
                                            start_new_session=True, preexec_fn=die_with_parent)
        except FileNotFoundError:
            raise VMError(f"{self.qemu} is not installed (scripts/packages.sh run)") from None
        return self

    def __enter__(self):
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(self, *exc):
        self.stop()

    def poll(self):
        """The exit code, None as long as QEMU runs."""
        code = self.process.poll() if self.process else None
        if code == 0 and self.board.lab_tells_code and "lab" in self.lines:
            told = re.findall(r"^lab-end: \S+ exit=(\d+): ", self.lines["lab"].text, re.M)
            code = int(told[-1]) if told else 0
        return code

    def wait(self, limit_s):
        """The exit code; VMError when QEMU is still running after the limit, or a while after a panic."""
        limit_s *= PATIENCE
        deadline = time.monotonic() + limit_s
        while self.poll() is None:
            if time.monotonic() > deadline or self.panicked():
                raise VMError(self.panicked() or f"the machine did not end within {limit_s} s")
            time.sleep(0.05)
        self._read_all()
        return self.poll()

    def _read_all(self):
        """QEMU has ended: what it said is all there."""
        for line in self.lines.values():
            with line.changed:
                line.changed.wait_for(lambda: line.closed, LAST_WORDS_S)

    def panicked(self):
        """The line of a panic that left the machine halted (no hypervisor it is reported to), else None."""
        line = self.lines["console"]
        found = re.search(r"^(?:\[ *[\d.]+\] )?panic: .*\n", line.text, re.M)
        if not found or self.poll() is not None:
            return None
        size = len(line.text)
        deadline = time.monotonic() + PANIC_REPORT_S  # for the rest of the report, and for the lab to end the machine
        while self.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        return found[0].strip() if self.poll() is None and len(line.text) == size else None

    def kill(self):
        """SIGKILL: nothing in QEMU gets a chance to write anything."""
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def stop(self):
        """Lets QEMU close its images, then makes sure it is gone."""
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.kill()
        for line in self.lines.values():
            line.close()
        shutil.rmtree(self.pipes, ignore_errors=True)
        if getattr(self, "errors", None):
            self.errors.close()

    # ---- what it says ----
    @property
    def console(self):
        return self.lines["console"].text

    def qemu_errors(self):
        with open(os.path.join(self.work, "qemu.txt"), encoding="utf-8", errors="replace") as f:
            return "\n".join(line for line in f.read().splitlines() if "TCG doesn't support" not in line)

    def expect(self, pattern, limit_s, line="console", start=0):
        """Waits for a regular expression in the complete lines that came since offset `start`; returns the match."""
        limit_s *= PATIENCE
        wanted, source = re.compile(pattern, re.M), self.lines[line]
        deadline = time.monotonic() + limit_s
        while True:
            with source.changed:
                end = len(source.text) if source.closed else source.text.rfind("\n") + 1
                found = wanted.search(source.text, start, max(end, start))
                if found:
                    return found
                if source.closed:
                    break
                source.changed.wait(min(max(deadline - time.monotonic(), 0), 0.5))
            if self.poll() is not None:
                with source.changed:
                    source.changed.wait_for(lambda: source.closed, LAST_WORDS_S)
            elif time.monotonic() > deadline or self.panicked():
                raise VMError(self.panicked() or f"no {pattern!r} on the {line} within {limit_s} s")
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            pass
        self._read_all()
        errors = self.qemu_errors()
        raise VMError(f"{exit_text(self.poll())} before {pattern!r} came on the {line}{': ' if errors else ''}{errors}")


def acceleration(icount, cpus):
    if not icount:
        return ["-accel", "tcg,thread=multi"]
    if cpus != 1:
        raise VMError("-icount works with one CPU only")
    return ["-accel", "tcg,thread=single", "-icount", "shift=0,sleep=off", "-rtc", "base=2026-01-01,clock=vm"]


def memory(bytes_, reserve=False):
    """RAM that costs the build machine nothing until it is touched."""
    return ["-m", str(bytes_ // MIB), "-object",
            f"memory-backend-ram,id=ram,size={bytes_ // MIB}M,reserve={'on' if reserve else 'off'}"]


def lab_environment():
    """LAB_TRACE=vmbus,storvsp: the model's trace in lab.txt; LAB="vmbus.version=4.0 ...": any lab option."""
    words = os.environ.get("LAB", "").split()
    if os.environ.get("LAB_TRACE"):
        words.append("trace=" + os.environ["LAB_TRACE"])
    bad = [word for word in words if "=" not in word]
    if bad:
        raise VMError(f"LAB: {bad[0]} is not of the form key=value")
    return dict(word.split("=", 1) for word in words)


class LabVM(Machine):
    """The lab (a Hyper-V for tests) with a Candela image as its guest.

    disks     list of Disk          mem       the guest's RAM, "256M"
    forward   name -> guest port, forwarded from vm.ports[name]; a name that begins with "udp" is UDP
    net       list of nets instead of the one that `forward` makes; [] = no NIC
    cmdline   the guest's own words  lab      dict of lab options (tests/lab/lab.h)
    image     the guest; default build/ARCH/candela-APP.elf
    """

    def __init__(self, work, app="nbd", disks=(), forward=None, net=None, mem="256M", cpus=1, cmdline="", lab=None,
                 icount=False, image=None, echo=None, arch=ARCH, build=None, extra=()):
        board = BOARDS[arch]
        build = build or os.path.join(ROOT, "build", arch)
        image = image or os.path.join(build, f"candela-{app}{board.guest}")
        kernel = os.path.join(build, "lab" + board.kernel)
        for path in (image, kernel):
            if not os.path.exists(path):
                raise VMError(f"{os.path.relpath(path)} is not built: run make")
        guest_bytes = parse_size(mem)
        nets = net if net is not None else [UserNet(forward or {})]
        options = {"guest_mem": f"{guest_bytes // MIB}M", "cpus": cpus, **lab_environment(), **(lab or {})}
        words = " ".join(f"{k}={v}" for k, v in options.items()) + (" -- " + cmdline if cmdline else "")
        processors = cpus + int(options.get("aside", 0))      # one more for the model
        arguments = ["-machine", board.machine + ",memory-backend=ram", "-cpu", board.processor(options),
                     "-smp", str(processors), *acceleration(icount, processors), *memory(LAB_OWN_BYTES + guest_bytes),
                     *board.lab_words, "-nodefaults",
                     "-kernel", kernel, "-initrd", image, "-append", words]
        for n, disk in enumerate(disks):
            arguments += disk.arguments(n, board)
        for n, one in enumerate(nets):
            arguments += one.arguments(n, f"52:54:00:ca:de:{n:02x}", board)
        arguments += list(extra)
        self.nets, self.ports = nets, {name: port for one in nets for name, port in one.ports.items()}
        super().__init__(work, arguments, ("console", "lab"), echo, arch)

    def stop(self):
        super().stop()
        for net in self.nets:
            net.release()

    def command(self, text, pattern=None, limit_s=30):
        """A line to the lab; with a pattern, waits for the answer and returns the match."""
        line = self.lines["lab"]
        try:
            self.expect(r"the guest starts", LAB_START_S, "lab")      # before that nobody reads the port
        except VMError:
            if self.poll() is None or pattern:
                raise
            return None
        start = len(line.text)
        line.send(text + "\n")
        return self.expect(pattern, limit_s, "lab", start) if pattern else None

    def counters(self):
        """The lab's counters, printed at the end of a run and on the command "counters": name -> number."""
        return {name: int(value) for name, value in re.findall(r"lab-counter: (\S+)=(\d+)", self.lines["lab"].text)}


class LabFirmwareVM(LabVM):
    """The lab slipped below OVMF or AAVMF, then a disk image of `make image` booted by that firmware: a Generation 2 machine.

    boot      the image, which is also the first disk the lab offers, as on Hyper-V
    """

    def __init__(self, work, boot, disks=(), forward=None, mem="512M", cpus=1, lab=None, arch=ARCH):
        board = BOARDS[arch]
        build = os.path.join(ROOT, "build", arch)
        lab_efi = os.path.join(build, "LAB.EFI")
        if not os.path.exists(lab_efi):
            raise VMError(f"{os.path.relpath(lab_efi)} is not built: run make")
        folder = os.path.join(work, "lab-volume", "EFI", "BOOT")
        os.makedirs(folder, exist_ok=True)
        shutil.copyfile(lab_efi, os.path.join(folder, board.boot_file))
        options = {"cpus": cpus, **lab_environment(), **(lab or {})}
        words = " ".join(f"{k}={v}" for k, v in options.items())
        arguments = ["-machine", board.machine + ",memory-backend=ram", "-cpu", board.processor(options),
                     "-smp", str(cpus), *acceleration(False, cpus), *memory(parse_size(mem)), *firmware(work, board),
                     *board.lab_words, "-nodefaults",
                     "-fw_cfg", f"name=opt/lab/options,string={words}",
                     "-drive", f"if=none,id=lab,format=raw,file=fat:rw:{option_path(os.path.join(work, 'lab-volume'))}",
                     "-device", f"{board.own_disk.format(n=0)},drive=lab,bootindex=0",
                     "-drive", f"if=none,id=boot,format={boot.fmt},snapshot=on,file={option_path(boot.path)}",
                     "-device", f"{board.own_disk.format(n=1)},drive=boot,bootindex=1"]
        for n, disk in enumerate([boot, *disks]):
            arguments += disk.arguments(n, board, board.lab_place[0].format(board.first_disk + n))
        net = UserNet(forward or {})
        arguments += net.arguments(0, "52:54:00:ca:de:00", board, board.lab_place[1])
        self.nets, self.ports = [net], dict(net.ports)
        Machine.__init__(self, work, arguments, ("console", "lab"), None, arch)


class PlainVM(Machine):
    """Candela on QEMU without any Hyper-V underneath, by the loader named: pvh, iso, iso-efi, uefi, linux64; image (arm64)."""

    def __init__(self, work, loader, image, disks=(), mem="256M", cpus=1, cmdline="", echo=None, extra=(),
                 payload=None, arch=ARCH):
        board = BOARDS[arch]
        arguments = ["-machine", board.plain_machine + ",memory-backend=ram", "-cpu", board.plain_processor,
                     "-smp", str(cpus), *acceleration(False, cpus), *memory(parse_size(mem)), "-nodefaults",
                     *board.plain_words]
        if loader in ("pvh", "image"):
            arguments += ["-kernel", image, "-append", cmdline]
        elif loader == "linux64":              # tests/linux64: makes that entry state; the image is its module
            arguments += ["-kernel", image, "-initrd", payload, "-append", cmdline]
        elif loader == "iso":
            arguments += ["-drive", f"if=ide,media=cdrom,readonly=on,format=raw,file={option_path(image)}"]
        elif loader in ("iso-efi", "uefi"):
            arguments += firmware(work, board)
            media = "ide-cd,bus=ide.0" if loader == "iso-efi" else board.own_disk.format(n=0)
            arguments += ["-drive", f"if=none,id=boot,file={option_path(image)},snapshot=on,format=raw",
                          "-device", f"{media},drive=boot", "-device", board.display]
        else:
            raise VMError(f"no such loader: {loader}")
        for n, disk in enumerate(disks):
            arguments += disk.arguments(n, board)
        super().__init__(work, arguments + list(extra), ("console",), echo, arch)


def firmware(work, board=BOARDS[ARCH]):
    """OVMF or AAVMF with its own copy of the variables."""
    code, variables = next((pair for pair in FIRMWARE_PAIRS[board.name] if os.path.exists(pair[0])), (None, None))
    if not code:
        raise VMError("the UEFI firmware for QEMU is not installed (scripts/packages.sh check)")
    os.makedirs(work, exist_ok=True)
    copy = os.path.join(work, "vars.fd")
    shutil.copyfile(variables, copy)
    return ["-drive", f"if=pflash,format=raw,readonly=on,file={code}",
            "-drive", f"if=pflash,format=raw,file={option_path(copy)}", *board.firmware_words]
