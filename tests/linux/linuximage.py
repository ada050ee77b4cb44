# SPDX-License-Identifier: BSD-2-Clause
"""A stock Linux to start under QEMU or the lab: the distribution's own kernel and an initramfs made here.

    linux = linuximage.Linux()                      # fetched by scripts/fetch-linux.sh, or from its cache
    linux.kernel                                    # path of the bzImage
    linux.release                                   # "6.1.0-56-amd64"
    linux.modules(["hv_storvsc", "sd_mod"])         # [(name, path)]: all that these need, in the order to load them
    linux.program("hv_kvp_daemon")                  # path here of a program that belongs to this kernel, or None
    linux.initramfs(path, ["hv_storvsc", "sd_mod"], "echo hello; poweroff -f",
                    files={"/bin/helper": "build/helper", "/etc/text": b"bytes", "/tmp/link": Symlink("/bin")},
                    load=["hv_storvsc"])

The initramfs is a newc cpio archive, gzipped. Its /init is INIT_START, which mounts proc, sysfs and devtmpfs, makes
the console the shell's and loads the modules named by `load` (None: all; [] none; later: `load_modules NAME...`),
followed by the text given, run by busybox ash; all applets are at hand by their names (links that /init makes).
Modules lie uncompressed as /lib/modules/NAME.ko; /lib/modules/NAME.order lists what NAME needs, and itself last. What
a dynamically linked program needs to run goes into `files` by with_libraries(["/usr/bin/fio"]).

Nothing is taken from the machine's own kernel, and neither depmod nor cpio is needed. Unavailable is raised, with one
line that says what is missing, when the kernel can't be had or busybox-static is not installed.
"""
import glob
import gzip
import lzma
import os
import re
import shutil
import stat
import struct
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "e2e"))
from boards import ARCH                                       # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
FETCH_LIMIT_S = 900
PROGRAMS = "/usr/bin:/bin:/usr/sbin:/sbin:/usr/local/bin"
DEBIAN_NAMES = {"x86_64": "amd64", "arm64": "arm64"}
BUSYBOX = ("/bin/busybox", "/usr/bin/busybox")

INIT_START = """#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /tmp /run /root /var /sbin
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
[ -c /dev/kmsg ] || /bin/busybox mount -t devtmpfs devtmpfs /dev
/bin/busybox --install -s /bin
for given in /sbin/*; do [ ! -e "$given" ] || /bin/busybox rm -f "/bin/${given##*/}"; done
export PATH=/bin:/sbin:/usr/bin:/usr/sbin HOME=/root
# One line for each module that is not loaded yet; 1 if any could not be.
load_modules() {
    local name needed status=0
    for name in "$@"; do
        for needed in $(cat /lib/modules/$name.order); do
            [ -d /sys/module/$needed ] || insmod /lib/modules/$needed.ko || { echo "insmod $needed failed"; status=1; }
        done
    done
    return $status
}
"""


class Unavailable(Exception):
    """What is missing, in one line: a reason to skip a test."""


class Symlink(str):
    """A value in `files`: a link to that path."""


def machine_name():
    """This machine's architecture, as Debian calls it."""
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)


def normal(name):
    """The kernel takes - and _ in module names as the same."""
    return name.replace("-", "_")


def module_bytes(path):
    """An uncompressed module. Its signature, appended to the ELF file, stays."""
    if path.endswith(".ko.xz"):
        return lzma.open(path).read()
    if path.endswith(".ko.gz"):
        return gzip.open(path).read()
    if path.endswith(".ko.zst"):
        try:
            return subprocess.run(["zstd", "-dcq", path], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                  check=True).stdout
        except FileNotFoundError:
            raise Unavailable("zstd is not installed: scripts/packages.sh check") from None
    with open(path, "rb") as f:
        return f.read()


def elf_section(elf, wanted):
    """The content of a section of a 64-bit little-endian ELF file, or b""."""
    if elf[:6] != b"\x7fELF\x02\x01":
        raise ValueError("not a 64-bit little-endian ELF file")
    at, = struct.unpack_from("<Q", elf, 0x28)
    size, count, names = struct.unpack_from("<HHH", elf, 0x3A)

    def header(n):
        name, _, _, _, offset, length = struct.unpack_from("<IIQQQQ", elf, at + n * size)
        return name, elf[offset:offset + length]

    strings = header(names)[1]
    for n in range(count):
        name, content = header(n)
        if strings[name:strings.index(b"\0", name)] == wanted.encode():
            return content
    return b""


def module_needs(elf):
    """Names of the modules to load before this one: what it links with, and with a "?" what it asks for beside that."""
    needs = []
    for field in elf_section(elf, ".modinfo").split(b"\0"):
        key, _, value = field.decode(errors="replace").partition("=")
        if key == "depends":
            needs += [normal(name) for name in value.split(",") if name]
        elif key == "softdep" and (found := re.search(r"\bpre:\s*([^:]*?)(\s+post:.*)?$", value)):
            needs += ["?" + normal(name) for name in found[1].split()]
    return needs


def fetch(backport=False, arch=ARCH):
    """The folder with the kernel, fetched now if the cache has none. backport: the newer one of the backports."""
    environment = {**os.environ, "LINUX_ARCH": DEBIAN_NAMES[arch]}
    if backport:
        environment["LINUX_BACKPORT"] = "1"
    try:
        done = subprocess.run(["sh", os.path.join(ROOT, "scripts", "fetch-linux.sh")], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace",
                              timeout=FETCH_LIMIT_S, check=False,
                              env=environment)
    except subprocess.TimeoutExpired:
        raise Unavailable(f"the Linux kernel was not downloaded within {FETCH_LIMIT_S} s") from None
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines()] or ["scripts/fetch-linux.sh failed"]
        words = [line for line in lines if re.match(r"(E|W|Err): ?", line)][:1]
        raise Unavailable(": ".join([lines[-1].replace(" (its words above)", "")] + words))
    return done.stdout.strip()


class Linux:
    """A kernel and its modules, below `folder` (default: as fetched)."""

    def __init__(self, folder=None, arch=ARCH):
        self.folder = folder or fetch(arch=arch)
        self.busybox = [os.path.join(self.folder, "bin", "busybox"), os.path.join(self.folder, "usr/bin/busybox"),
                        *(BUSYBOX if DEBIAN_NAMES[arch] == machine_name() else ())]
        kernels = sorted(name for name in os.listdir(os.path.join(self.folder, "boot")) if name.startswith("vmlinuz-"))
        if not kernels:
            raise Unavailable(f"{self.folder} holds no boot/vmlinuz")
        self.kernel = os.path.join(self.folder, "boot", kernels[-1])
        self.release = kernels[-1][len("vmlinuz-"):]
        self.paths, self.builtin, self.known = {}, set(), {}
        for top in ("lib", "usr/lib"):
            tree = os.path.join(self.folder, top, "modules", self.release)
            for place, _, names in os.walk(tree):
                for name in names:
                    if re.search(r"\.ko(\.(xz|zst|gz))?$", name):
                        self.paths.setdefault(normal(name[:name.index(".ko")]), os.path.join(place, name))
            try:
                with open(os.path.join(tree, "modules.builtin"), encoding="utf-8") as f:
                    self.builtin |= {normal(os.path.basename(line.strip())[:-3]) for line in f}
            except FileNotFoundError:
                pass

    def module(self, name):
        """(content, names needed) of one module."""
        if name not in self.known:
            elf = module_bytes(self.paths[name])
            self.known[name] = elf, module_needs(elf)
        return self.known[name]

    def modules(self, names):
        """[(name, path)] of these and all they need, in the order to load them; without what is built in."""
        order, done = [], set()

        def visit(name, wanted_by):
            optional, name = name.startswith("?"), normal(name.lstrip("?"))
            if name in done or name in self.builtin:
                return
            if name not in self.paths:
                if optional:
                    return
                raise Unavailable(f"Linux {self.release} has no module {name}{wanted_by}")
            done.add(name)
            for need in self.module(name)[1]:
                visit(need, f" (needed by {name})")
            order.append((name, self.paths[name]))

        for name in names:
            visit(name, "")
        return order

    def program(self, name):
        """The path of a Hyper-V daemon of this kernel, or None."""
        for top in ("usr/sbin", "usr/lib/linux-tools-" + self.release.removesuffix("-generic"), "usr/bin"):
            path = os.path.join(self.folder, top, name)
            if os.path.isfile(path):
                return path
        return None

    def initramfs(self, path, modules, init_text, files=None, load=None):
        """Writes the archive described at the top to `path`; returns path."""
        archive = Archive()
        busybox = next((one for one in self.busybox if os.path.exists(one)), None)
        if not busybox or b"\0/lib64/ld-linux" in open(busybox, "rb").read(4096):
            raise Unavailable("busybox-static is not installed: scripts/packages.sh check")
        archive.file("/bin/busybox", busybox)
        archive.device("/dev/console", 5, 1)
        archive.device("/dev/null", 1, 3)
        given = dict(files or {})
        for name, _ in self.modules(modules):
            archive.data(f"/lib/modules/{name}.ko", self.module(name)[0], 0o644)
        for name in {normal(name) for name in modules} | {name for name, _ in self.modules(modules)}:
            order = "".join(one + "\n" for one, _ in self.modules([name]))
            archive.data(f"/lib/modules/{name}.order", order.encode(), 0o644)
        start = INIT_START
        if wanted := [normal(name) for name in (modules if load is None else load)]:
            start += f"load_modules {' '.join(wanted)}\n"
        archive.data("/init", (start + init_text + "\n").encode(), 0o755)
        for name, content in given.items():
            if isinstance(content, Symlink):
                archive.link(name, content)
            elif isinstance(content, bytes):
                archive.data(name, content, 0o755 if content.startswith(b"#!") else 0o644)
            else:
                archive.file(name, content)
        with open(path, "wb") as f:
            f.write(gzip.compress(archive.finish(), 1, mtime=0))
        return path


class Archive:
    """A cpio archive in the "new ASCII" format that the kernel unpacks (Documentation/driver-api/early-userspace)."""

    def __init__(self):
        self.parts, self.names, self.length = [], set(), 0

    def add(self, name, mode, content=b"", major=0, minor=0):
        name = name.strip("/")
        parent = os.path.dirname(name)
        if parent and parent not in self.names:
            self.add(parent, stat.S_IFDIR | 0o755)
        if name in self.names:
            return
        self.names.add(name)
        self._entry(name, mode, content, major, minor)

    def _entry(self, name, mode, content, major=0, minor=0):
        encoded = name.encode() + b"\0"
        numbers = (len(self.names), mode, 0, 0, 1, 0, len(content), 0, 0, major, minor, len(encoded), 0)
        head = b"070701" + b"".join(b"%08X" % n for n in numbers) + encoded
        self.parts += [head, b"\0" * (-len(head) % 4), content, b"\0" * (-len(content) % 4)]

    def data(self, name, content, mode):
        self.add(name, stat.S_IFREG | mode, content)

    def file(self, name, path):
        with open(path, "rb") as f:
            self.data(name, f.read(), stat.S_IMODE(os.stat(path).st_mode))

    def link(self, name, target):
        self.add(name, stat.S_IFLNK | 0o777, target.encode())

    def device(self, name, major, minor):
        self.add(name, stat.S_IFCHR | 0o600, b"", major, minor)

    def finish(self):
        self._entry("TRAILER!!!", 0, b"")
        return b"".join(self.parts)


def linked_with(path):
    """What a dynamically linked program or library names: (its loader's path or "", [libraries])."""
    with open(path, "rb") as f:
        elf = f.read()
    dynamic, strings = elf_section(elf, ".dynamic"), elf_section(elf, ".dynstr")
    needed = [value for tag, value in struct.iter_unpack("<QQ", dynamic) if tag == 1]
    return (elf_section(elf, ".interp").rstrip(b"\0").decode(),
            [strings[at:strings.index(b"\0", at)].decode() for at in needed])


def fetched_with_libraries(programs, folder=None):
    """with_libraries() of another architecture's programs: those in the folder, by default the one of its kernel."""
    folder = folder or fetch()
    # Some keep private libraries in a folder of their own below.
    tops = glob.glob(folder + "/lib/*-linux-gnu") + glob.glob(folder + "/usr/lib/*-linux-gnu")
    places = [(place.removeprefix(folder), place) for top in tops for place in [top, *sorted(glob.glob(top + "/*/"))]]
    files, todo = {}, []

    def add(name, candidates, wanted_by=""):
        found = next(((path, here) for path, here in candidates if os.path.isfile(here)), None)
        if not found:
            raise Unavailable(f"{name}{wanted_by} is not among what was fetched for {ARCH}: {folder}")
        if found[0] not in files:
            files[found[0]] = found[1]
            todo.append(found)
        return found[1]

    for program in programs:
        add(program, [(program.removeprefix(folder), program)] if "/" in program else
            [(f"/{top}/{program}", f"{folder}/{top}/{program}") for top in ("usr/sbin", "sbin", "usr/bin", "bin")])
    while todo:
        path, here = todo.pop()
        loader, libraries = linked_with(here)
        for name in libraries + ([os.path.basename(loader)] if loader else []):
            found = [(os.path.join(guest, name), os.path.join(there, name)) for guest, there in places]
            library = add(name, found, f", for {path},")
            if name == os.path.basename(loader):
                files[loader] = library
    return files


def with_libraries(programs):
    """{path in the guest: path here} of dynamically linked programs and all libraries these are linked with.

    What a program opens by itself later (plug-ins, data) is for the caller to add.
    """
    files = {}
    if DEBIAN_NAMES[ARCH] != machine_name():
        return fetched_with_libraries(programs)
    for program in programs:
        where = program if "/" in program else shutil.which(program, path=PROGRAMS)
        if not where or not os.path.exists(where):
            raise Unavailable(f"{program} is not installed: scripts/packages.sh check")
        files[where] = os.path.realpath(where)
        done = subprocess.run(["ldd", where], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              text=True, check=False)
        for line in done.stdout.splitlines():
            if found := re.match(r"\s*(?:\S+ => )?(/\S+) \(0x", line):
                files[found[1]] = os.path.realpath(found[1])
            elif "not found" in line:
                raise Unavailable(f"{program} needs a library that is not here: {line.strip()}")
    return files
