# SPDX-License-Identifier: BSD-2-Clause
"""Runs named cases, each in a process of its own with a time limit, two at a time.

    @case(limit_s=60)
    def nbd_read_only(t):
        "What the case shows, in a sentence."
        vm = t.lab(disks=[...])
        ...
        t.check(condition, "what was expected")

A case passes when it returns; t.skip(why) skips it; anything raised fails it. Every machine it made is ended for it by
the lab's "quit", and a protocol violation that the lab saw fails the case then. Files stay under build/e2e/CASE/, those
of another architecture than x86_64 under build/e2e-ARCH/.

A case is about every architecture, or about the one that it names: @case(limit_s=60, arch="x86_64").
"""
import argparse
import concurrent.futures
import hashlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback

import labvm
import nbdclient

WORK = os.path.join(labvm.ROOT, "build", "e2e" if labvm.ARCH == "x86_64" else "e2e-" + labvm.ARCH)
CASES = {}
ELSEWHERE = {}                                        # name -> the architecture that the case is about
SKIPPED = 77
# tests/lab/x86_64/vcpu.c: what QEMU, and nobody else, has got wrong.
EMULATOR_ERROR = r"^lab-end: lab-fault exit=41: the processor found no translation where the guest's tables have one"
TAIL_LINES = 40
NOISE = r".*TCG doesn't support|lab-counter: "
READY_S = 60
SLOW_MACHINE = 3                                      # the limits of cases are for a quiet one
SBIN = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
NBD_PORTS = {"nbd": 10809, "http": 80}


class Skip(Exception):
    pass


class Failure(Exception):
    pass


def case(limit_s, arch=None):
    def register(function):
        if arch in (None, labvm.ARCH):
            CASES[function.__name__] = (function, limit_s)
        else:
            ELSEWHERE[function.__name__] = arch
        return function
    return register


class Test:
    """What a case works with."""

    def __init__(self, name):
        self.work = os.path.join(WORK, name)
        self.machines = []
        self.running = []
        self.sockets = None
        self.lab_options, self.guest_words = {}, ""    # of every machine of this case
        shutil.rmtree(self.work, ignore_errors=True)
        os.makedirs(self.work)

    def path(self, name):
        return os.path.join(self.work, name)

    def socket_path(self, name):
        """For Unix sockets, whose paths have 107 characters at most."""
        if not self.sockets:
            self.sockets = tempfile.mkdtemp(prefix="candela-")
        return os.path.join(self.sockets, name)

    # ---- verdicts ----
    def skip(self, why):
        raise Skip(why)

    def check(self, condition, what):
        if not condition:
            raise Failure(what)

    def equal(self, got, expected, what):
        if got != expected:
            raise Failure(f"{what}: got {got!r}, expected {expected!r}")

    def note(self, text):
        print(text, flush=True)

    # ---- machines ----
    def lab(self, ready="nbd", **options):
        """The lab with Candela; returns when the service named by `ready` answers (None: at once)."""
        options.setdefault("forward", NBD_PORTS)
        options["lab"] = {**self.lab_options, **(options.get("lab") or {})}
        options["cmdline"] = f"{options.get('cmdline', '')} {self.guest_words}".strip()
        vm = labvm.LabVM(self._machine_folder(), **options)
        return self._start(vm, ready)

    def firmware(self, boot, ready="nbd", **options):
        """A disk image booted by OVMF with the lab below."""
        options.setdefault("forward", NBD_PORTS)
        options["lab"] = {**self.lab_options, **(options.get("lab") or {})}
        return self._start(labvm.LabFirmwareVM(self._machine_folder(), boot, **options), ready)

    def plain(self, loader, image, **options):
        return self._start(labvm.PlainVM(self._machine_folder(), loader, image, **options), None)

    def _machine_folder(self):
        # One machine is the usual number; its files then lie beside the others of the case.
        return self.path(f"vm{len(self.machines)}" if self.machines else "")

    def _start(self, vm, ready):
        self.machines.append(vm)
        vm.ended = None
        vm.start()
        if ready == "nbd":
            vm.expect(r"nbd: serving nbd://|no address yet", READY_S)
            self.wait_nbd(vm)
        return vm

    def wait_nbd(self, vm, limit_s=READY_S):
        limit_s *= labvm.PATIENCE
        deadline = time.monotonic() + limit_s
        while True:
            try:
                with nbdclient.Client(vm.ports["nbd"], timeout=3):
                    return
            except (OSError, nbdclient.ProtocolError):
                pass
            if vm.panicked():
                raise Failure(vm.panicked())
            if vm.poll() is not None:
                raise Failure(f"{labvm.exit_text(vm.wait(5))} before the NBD server answered {vm.qemu_errors()}")
            if time.monotonic() > deadline:
                raise Failure(f"the NBD server did not answer within {limit_s} s")
            time.sleep(0.1)

    def end(self, vm, expected=(labvm.QUIT, labvm.POWER_OFF)):
        """Ends the machine in order; the exit code must be an expected one."""
        if vm.ended is not None:
            return vm.ended
        if vm.poll() is None and isinstance(vm, labvm.LabVM):
            vm.command("quit")
        vm.ended = vm.wait(60)
        if vm.ended not in expected:
            raise Failure(f"{labvm.exit_text(vm.ended)}, expected: "
                          f"{' or '.join(labvm.exit_text(code) for code in expected)} {vm.qemu_errors()}")
        vm.stop()                              # its pipes count against a limit per user
        return vm.ended

    def kill(self, vm):
        vm.kill()
        vm.ended = vm.poll()

    def close(self, passed):
        """Ends what is left; in a case that passed so far the orderly end counts too, cleaning up behind it does not."""
        try:
            if passed:
                for vm in self.machines:
                    if isinstance(vm, labvm.LabVM):
                        self.end(vm)
        finally:
            for process in self.running:
                if process.poll() is None:
                    process.kill()
                    process.wait()
            for vm in self.machines:
                try:
                    vm.stop()
                except OSError as error:
                    self.note(f"cleaning up: {error}")
            if self.sockets:
                shutil.rmtree(self.sockets, ignore_errors=True)

    # ---- other people's programs ----
    def run(self, *command, limit_s=60, expect=0, **options):
        """Runs a program; its exit code must be `expect` (None: any). Returns its output (stdout)."""
        limit_s *= labvm.PATIENCE
        try:
            done = subprocess.run([str(c) for c in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, timeout=limit_s, check=False, env=dict(os.environ, PATH=SBIN),
                                  text=True, errors="replace", **options)
        except FileNotFoundError:
            raise Skip(f"{command[0]} is not installed") from None
        except subprocess.TimeoutExpired:
            raise Failure(f"{command[0]} was still running after {limit_s} s") from None
        words = " ".join(str(c) for c in command)
        self.note(f"$ {words} -> {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        if expect is not None and done.returncode != expect:
            raise Failure(f"{command[0]} ended with {done.returncode}: {done.stderr.strip()[-500:]}")
        return done.stdout

    def background(self, *command, **options):
        process = subprocess.Popen([str(c) for c in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT, text=True, errors="replace",
                                   preexec_fn=labvm.die_with_parent, env=dict(os.environ, PATH=SBIN), **options)
        self.running.append(process)
        return process

    # ---- disks ----
    def ext4_disk(self, name, mib, tail_mib, seed=1):
        """A file system of mke2fs -d with real files in it, then random bytes to the end."""
        tree, path = self.path(name + ".tree"), self.path(name)
        os.makedirs(tree)
        source = random.Random(seed)
        for n in range(20):
            with open(os.path.join(tree, f"file{n}"), "wb") as f:
                f.write(source.randbytes(source.randrange(1, 1 << 20)))
        self.run("mke2fs", "-q", "-F", "-t", "ext4", "-d", tree, path, f"{mib - tail_mib}M")
        with open(path, "r+b") as f:
            f.seek((mib - tail_mib) << 20)
            for n in range(tail_mib):
                f.write(source.randbytes(1 << 20))
        shutil.rmtree(tree)
        return path

    def random_disk(self, name, mib, seed=1):
        source, path = random.Random(seed), self.path(name)
        with open(path, "wb") as f:
            for n in range(mib):
                f.write(source.randbytes(1 << 20))
        return path

    def blank_disk(self, name, bytes_):
        path = self.path(name)
        with open(path, "wb") as f:
            f.truncate(bytes_)
        return path


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as f:
        while block := f.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def run_case(name):
    """In the child: runs one case; exit code 0, 1 or SKIPPED."""
    t = Test(name)
    code = 1
    try:
        CASES[name][0](t)
        t.close(True)
        code = 0
    except Skip as why:
        print(f"verdict: {why}", flush=True)
        code = SKIPPED
    except (Failure, labvm.VMError, nbdclient.NBDError, nbdclient.ProtocolError, OSError) as why:
        kind = "" if isinstance(why, (Failure, labvm.VMError)) else type(why).__name__ + ": "
        print(f"verdict: {kind}{why}", flush=True)
        traceback.print_exc()
    except Exception as why:
        print(f"verdict: {type(why).__name__}: {why}", flush=True)
        traceback.print_exc()
    if code:
        try:
            t.close(False)
        except Exception:
            traceback.print_exc()
    # Big files of a case that passed are of no use to anybody.
    for folder, _, files in os.walk(t.work):
        for file in files:
            path = os.path.join(folder, file)
            try:
                if code == 0 and os.lstat(path).st_size > 4 << 20:
                    os.unlink(path)
            except OSError as why:
                print(f"cleaning up: {why}", flush=True)
    return code


def tail(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as f:
            lines = [line for line in f.read().splitlines() if not re.match(NOISE, line)][-TAIL_LINES:]
    except OSError:
        return []
    return [f"--- {os.path.relpath(path, labvm.ROOT)}"] + lines


def end_group(child):
    """A child that leads a session of its own, and whatever of that is still there."""
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    child.wait()


def supervise(script, name):
    """As run_child. A case in which the emulator went wrong, by the lab's own evidence, is run once more, and says so.
    The first run's files stay in NAME-emulator."""
    _, verdict, text, seconds = run_child(script, name)
    folder = os.path.join(WORK, name)
    if verdict != "FAIL" or not any(emulator_error(os.path.join(place, "lab.txt")) for place, _, _ in os.walk(folder)):
        return name, verdict, text, seconds
    shutil.rmtree(folder + "-emulator", ignore_errors=True)
    os.rename(folder, folder + "-emulator")
    _, verdict, again, more = run_child(script, name)
    return name, verdict, "second run, QEMU went wrong in the first" + (f": {again}" if again else ""), seconds + more


def emulator_error(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as f:
            return re.search(EMULATOR_ERROR, f.read(), re.M) is not None
    except OSError:
        return False


def run_child(script, name):
    """In the parent: one case as a child process. Returns (name, verdict, text, seconds)."""
    limit_s = CASES[name][1] * SLOW_MACHINE
    os.makedirs(WORK, exist_ok=True)
    log = os.path.join(WORK, name + ".log")
    started = time.monotonic()
    with open(log, "w", encoding="utf-8") as out, tempfile.TemporaryDirectory(prefix="candela-",
                                                                              ignore_cleanup_errors=True) as folder:
        child = subprocess.Popen([sys.executable, script, "--child", name], stdin=subprocess.DEVNULL, stdout=out,
                                 stderr=subprocess.STDOUT, start_new_session=True, preexec_fn=labvm.die_with_parent,
                                 env=dict(os.environ, TMPDIR=folder))
        try:
            code = child.wait(limit_s)
        except subprocess.TimeoutExpired:
            code = None
        end_group(child)                       # and its QEMUs, which die with it
    with open(log, encoding="utf-8", errors="replace") as f:
        verdicts = [line[9:].strip() for line in f if line.startswith("verdict: ")]
    text = f"still running after {limit_s} s" if code is None else verdicts[-1] if verdicts else ""
    verdict = {0: "PASS", SKIPPED: "SKIP"}.get(code, "FAIL")
    if verdict == "FAIL":
        details = tail(log)
        # The machine started last is the one to look at.
        commands = [os.path.join(folder, "command.txt") for folder, _, files in os.walk(os.path.join(WORK, name))
                    if "command.txt" in files]
        for newest in sorted(commands, key=os.path.getmtime)[-1:]:
            for file in ("qemu.txt", "lab.txt", "console.txt"):
                details += tail(os.path.join(os.path.dirname(newest), file))
        text = "\n    ".join([text] + details)
    return name, verdict, text, time.monotonic() - started


def main(script):
    parser = argparse.ArgumentParser(description="Runs the cases named, or all.")
    parser.add_argument("cases", nargs="*", help="names, or beginnings of names")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("-j", "--jobs", type=int, default=2)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        sys.exit(run_case(options.child))
    if options.list:
        for name, (function, limit_s) in CASES.items():
            print(f"{name:24} {function.__doc__.strip().splitlines()[0]}")
        sys.exit(0)
    unknown = [c for c in options.cases if not any(name.startswith(c) for name in CASES)]
    if unknown:
        there = [f"{name} is about {arch}" for name, arch in ELSEWHERE.items() if name.startswith(unknown[0])]
        sys.exit(there[0] if there else f"no case begins with {unknown[0]!r}; --list names them")
    chosen = [name for name in CASES if not options.cases or any(name.startswith(c) for c in options.cases)]

    for arch in sorted(set(ELSEWHERE.values())) if not options.cases else ():
        print(f"about {arch} alone: {', '.join(n for n, a in ELSEWHERE.items() if a == arch)}", flush=True)
    counts = {"PASS": 0, "FAIL": 0, "SKIP": 0}
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        for done in concurrent.futures.as_completed([pool.submit(supervise, script, name) for name in chosen]):
            name, verdict, text, seconds = done.result()
            counts[verdict] += 1
            print(f"{verdict}: {name} ({seconds:.1f} s)" + (f": {text}" if text else ""), flush=True)
    print(f"{counts['PASS']} passed, {counts['FAIL']} failed, {counts['SKIP']} skipped")
    sys.exit(1 if counts["FAIL"] else 0)
