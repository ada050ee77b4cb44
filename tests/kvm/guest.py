# SPDX-License-Identifier: BSD-2-Clause
"""Candela as guest of QEMU with KVM's Hyper-V interface, and what the other side lets us see of it.

Three witnesses, all foreign: QEMU's trace of every VMBus message (`trace`, the file qemu.txt), its QMP commands and
events (`qmp`), and the Linux kernel's own trace of hypercalls and synthetic registers (KernelTrace). The guest's
console is the fourth.

This module runs where KVM is: on the machine itself, or inside the Linux that nested.py starts.
"""
import ctypes
import errno
import glob
import json
import mmap
import os
import re
import socket
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "e2e"))
import labvm                                                  # noqa: E402

BUILD = os.path.join(labvm.ROOT, "build", "x86_64")
# Everything of the interface that QEMU has for AMD and Intel alike, in the order of QEMU's documentation.
FLAGS = ("relaxed", "vapic", "time", "vpindex", "runtime", "crash", "reset", "synic", "stimer", "stimer-direct",
         "tlbflush", "ipi", "frequencies")
# What QEMU refuses to offer without something else.
NEEDS = {"synic": ("vpindex",), "stimer": ("synic", "time"), "stimer-direct": ("stimer",), "tlbflush": ("vpindex",),
         "ipi": ("vpindex",)}
TRACES = ("vmbus_*", "hv_balloon_*")
QMP_LIMIT_S = 60
TRACING = "/sys/kernel/tracing"
REMOVE_LIMIT_S = 20
PREFIX = "candela-"
KERNEL_EVENTS = ("kvm_msr", "kvm_hv_*", "kvm_inj_exception")


def flags_without(*removed):
    """The flags left when these, and all that need them, are taken away."""
    gone = set(removed)
    while more := {flag for flag, needs in NEEDS.items() if flag not in gone and gone & set(needs)}:
        gone |= more
    return tuple(flag for flag in FLAGS if flag not in gone)


def counter_khz():
    """Rate of this machine's time-stamp counter, which is the emulator's too; 0 on other processors."""
    if os.uname().machine != "x86_64":
        return 0
    page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(bytes.fromhex("0f31 48c1e220 4809d0 c3"))      # rdtsc; shl $32,%rdx; or %rdx,%rax; ret
    counter = ctypes.CFUNCTYPE(ctypes.c_uint64)(ctypes.addressof(ctypes.c_char.from_buffer(page)))

    def look():
        """(ns, counter) of the closest of some pairs of readings."""
        pairs = []
        for _ in range(20):
            before, ticks = time.monotonic_ns(), counter()
            pairs.append((time.monotonic_ns() - before, before, ticks))
        width, before, ticks = min(pairs)
        return before + width // 2, ticks

    begin = look()
    time.sleep(0.2)
    end = look()
    return (end[1] - begin[1]) * 1000000 // (end[0] - begin[0])


class Qmp:
    """QEMU's machine protocol on a Unix socket: commands, and the events that came."""

    def __init__(self, path):
        deadline = time.monotonic() + QMP_LIMIT_S
        self.socket = socket.socket(socket.AF_UNIX)
        while True:
            try:
                self.socket.connect(path)
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise labvm.VMError("QEMU does not listen for QMP") from None
                time.sleep(0.1)
        self.lines = self.socket.makefile("r", encoding="utf-8", errors="replace")
        self.changed = threading.Condition()
        self.events, self.answers, self.closed = [], [], False
        if "QMP" not in json.loads(self.lines.readline()):
            raise labvm.VMError("this is not QMP")
        threading.Thread(target=self._read, daemon=True).start()
        self.command("qmp_capabilities")

    def _read(self):
        try:
            for line in self.lines:
                message = json.loads(line)
                with self.changed:
                    (self.events if "event" in message else self.answers).append(message)
                    self.changed.notify_all()
        except (OSError, ValueError):
            pass
        with self.changed:
            self.closed = True
            self.changed.notify_all()

    def answer(self, name, **arguments):
        """QEMU's whole answer: {"return": ...} or {"error": ...}."""
        try:
            self.socket.sendall((json.dumps({"execute": name, "arguments": arguments}) + "\n").encode())
        except OSError:
            raise labvm.VMError(f"QEMU has ended and can't be asked for {name}") from None
        with self.changed:
            if not self.changed.wait_for(lambda: self.answers or self.closed, QMP_LIMIT_S) or not self.answers:
                raise labvm.VMError(f"QEMU does not answer {name}")
            return self.answers.pop(0)

    def command(self, name, **arguments):
        answer = self.answer(name, **arguments)
        if "return" not in answer:
            raise labvm.VMError(f"{name}: {answer.get('error', {}).get('desc', answer)}")
        return answer["return"]

    def event(self, name, limit_s):
        """The data of the first event of that name, waited for."""
        def found():
            return [e for e in self.events if e["event"] == name]
        with self.changed:
            self.changed.wait_for(lambda: found() or self.closed, limit_s)
            if not found():
                raise labvm.VMError(f"no event {name} {'before QEMU ended' if self.closed else f'within {limit_s} s'}")
            return found()[0].get("data", {})

    def close(self):
        self.socket.close()


class KernelTrace:
    """What KVM itself records of some of its virtual processors' threads. Needs root and a mounted tracefs.

    A folder of its own in tracefs ("instance"), which the kernel removes only while none of its files is open anywhere
    (__remove_instance: EBUSY while the instance has references, one for each open file).

    - A program that is being started holds copies of all our open files from fork to exec, and other cases start
      programs at any time. So the removal is tried again, for REMOVE_LIMIT_S; `left_over` says when it was in vain.
    - What had to stay is removed by the next one of this kind: each folder has its process's number in its name, and
      those of processes that are gone, or of this one and not in use, go.
    """
    in_use, guard = set(), threading.Lock()           # this process's folders

    def __init__(self, threads, tracing=TRACING, remove_limit_s=REMOVE_LIMIT_S):
        self.remove_limit_s, self.left_over = remove_limit_s, None
        instances = os.path.join(tracing, "instances")
        with self.guard:
            self.remove_left_overs(instances)
            self.folder = tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=instances)
            self.in_use.add(self.folder)
        try:
            self._write("buffer_size_kb", "4096")
            self._write("set_event_pid", " ".join(str(thread) for thread in threads))
            for event in KERNEL_EVENTS:
                for enable in glob.glob(os.path.join(self.folder, "events", "kvm", event, "enable")):
                    self._write(os.path.relpath(enable, self.folder), "1")
        except OSError:
            self.remove()
            raise

    @staticmethod
    def possible():
        return os.access(os.path.join(TRACING, "instances"), os.W_OK) and os.geteuid() == 0

    def remove_left_overs(self, instances):
        for folder in glob.glob(os.path.join(glob.escape(instances), PREFIX + "*")):
            owner = re.match(PREFIX + r"(\d+)-", os.path.basename(folder))
            if not owner or folder in self.in_use or \
                    (int(owner[1]) != os.getpid() and os.path.exists(f"/proc/{owner[1]}")):
                continue
            try:
                os.rmdir(folder)
            except OSError:                           # still open somewhere, or another was quicker
                pass

    def _write(self, name, text):
        with open(os.path.join(self.folder, name), "w", encoding="utf-8") as f:
            f.write(text)

    def finish(self, path):
        """Writes it to a file and returns the text."""
        try:
            self._write("tracing_on", "0")
            with open(os.path.join(self.folder, "trace"), encoding="utf-8", errors="replace") as f:
                text = f.read()
            with open(path, "w", encoding="utf-8") as f:
                f.write(text)
        finally:
            self.remove()
        return text

    def remove(self):
        """The folder; if it can't be, a line about it is in left_over, and that is all."""
        deadline = time.monotonic() + self.remove_limit_s
        while True:
            try:
                os.rmdir(self.folder)
                break
            except OSError as error:
                if error.errno != errno.EBUSY or time.monotonic() > deadline:
                    self.left_over = f"{self.folder} stays: {error.strerror}"
                    break
            time.sleep(0.05)
        with self.guard:
            self.in_use.discard(self.folder)


class KvmGuest(labvm.Machine):
    """QEMU with KVM, the flags given (without "hv-") and a VMBus, and a Candela image.

    boot      None: the ELF file of the application by PVH; else the path of a disk image, booted by OVMF
    bridge    whether there is a VMBus
    watch     record KVM's own trace
    """

    def __init__(self, work, qemu, app="hello", flags=FLAGS, cpus=1, mem="256M", cmdline="loglevel=debug", bridge=True,
                 boot=None, watch=False, extra=()):
        hyperv = ",".join("hv-" + flag for flag in flags)
        # What firmware would only wait for is left out.
        arguments = ["-machine", "q35" + (",sata=off,smbus=off,i8042=off" if boot else ""), "-accel", "kvm",
                     "-cpu", "host,kvm=off" + ("," + hyperv if hyperv else ""), "-smp", str(cpus), "-m", mem,
                     "-nodefaults", "-vga", "none", "-S"]
        if boot:
            arguments += [*labvm.firmware(work), "-drive", f"if=none,id=boot,format=raw,readonly=on,file={boot}",
                          "-device", "virtio-blk-pci,drive=boot,bootindex=0", "-boot", "menu=off"]
        else:
            arguments += ["-kernel", os.path.join(BUILD, f"candela-{app}.elf"), "-append", cmdline]
        if bridge:
            arguments += ["-device", "vmbus-bridge"]
        for trace in TRACES:
            arguments += ["-trace", trace]
        super().__init__(work, arguments + list(extra))
        self.qemu, self.watch = qemu, watch
        socket_path = os.path.join(self.pipes, "qmp")
        self.arguments += ["-qmp", f"unix:{socket_path},server=on,wait=off"]
        self.socket_path, self.qmp, self.kernel_trace, self.kernel_seen = socket_path, None, None, None
        self.left_over = None                         # a line about what could not be removed
        self.began = None                             # when the guest's clock stood at 0, or before

    def start(self):
        self.began = time.monotonic()
        super().start()
        try:
            self.qmp = Qmp(self.socket_path)
        except labvm.VMError as error:
            raise labvm.VMError(f"{error}: {labvm.exit_text(self.poll())} {self.qemu_errors()}") from None
        if self.watch:
            threads = [cpu["thread-id"] for cpu in self.qmp.command("query-cpus-fast")]
            self.kernel_trace = KernelTrace(threads)
        self.qmp.command("cont")
        return self

    def stop(self):
        try:
            if self.kernel_trace:
                self.kernel_text()
        finally:
            if self.qmp:
                self.qmp.close()
            super().stop()

    def kernel_text(self):
        trace, self.kernel_trace = self.kernel_trace, None
        try:
            return trace.finish(os.path.join(self.work, "kvm.txt"))
        finally:
            self.left_over = trace.left_over

    # ---- what it says ----
    @property
    def trace(self):
        return self.qemu_errors()

    def traced(self, pattern, limit_s, begin=0):
        """Waits for a line of QEMU's trace behind offset `begin`; returns the match."""
        deadline = time.monotonic() + limit_s
        while not (found := re.search(pattern, self.trace[begin:], re.M)):
            if self.poll() is not None or time.monotonic() > deadline:
                raise labvm.VMError(f"no {pattern!r} in QEMU's trace within {limit_s} s "
                                    f"({labvm.exit_text(self.poll())})")
            time.sleep(0.2)
        return found

    def guest_time(self, pattern):
        """Seconds of the guest's clock in front of the log line that matches."""
        found = re.search(r"^\[ *(\d+\.\d+)\] (?:" + pattern + ")", self.console, re.M)
        if not found:
            raise labvm.VMError(f"no line {pattern!r} with a time on the console")
        return float(found[1])
