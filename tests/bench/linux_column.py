# SPDX-License-Identifier: BSD-2-Clause
"""The Linux column of `make bench`: the distribution's own kernel in the same lab, doing what Candela's bench does.

One machine boots once and goes through all workloads. It marks each beginning and end itself, by a byte to where the lab
listens for marks, and the counters are read there; each workload is done three times, to warm it up, with a small and with
a large count, and the figure is the difference of the last two. docs/bench.md says what was done in favour of Linux.

The boot is that of an initramfs with nothing but busybox and the drivers. The programs of the workloads come later, as
a cpio archive on a disk that is plugged in when the boot has been counted.
"""
import contextlib
import glob
import os
import subprocess
import sys
import time

import measure
import peers
from measure import RUN_LIMIT_S, ROOT, WORK, show

sys.path[:0] = [os.path.join(ROOT, "tests", "e2e"), os.path.join(ROOT, "tests", "linux")]
import labvm                                                  # noqa: E402
import linuximage                                             # noqa: E402
from boards import ARCH                                       # noqa: E402

PACKAGES = ["fio", "nbdkit"]
PLUGIN = "nbdkit/plugins/nbdkit-file-plugin.so"
SECTOR_BYTES = 512
MEM = "384M"
TOOLS_LUN = 1                        # behind the lab's own disk
# What marks: x86_64's by an I/O port (tests/lab/x86_64/load.h), arm64's by an address (tests/lab/arm64/board.h).
MARK = {"x86_64": r'printf "\\$(printf %o $1)" | dd of=/dev/port bs=1 seek=1536 conv=notrunc 2>/dev/null',
        "arm64": "devmem 0x09F00000 8 $1"}[ARCH]
# nokaslr: the kernel lies where it was linked to, so that its first instruction can be marked and runs repeat. arm64's is
# not compressed, and begins with that instruction.
KERNEL_ENTRY = {"x86_64": 0x1000000, "arm64": None}[ARCH]
LAB = {"x86_64": {"mark_at": KERNEL_ENTRY}, "arm64": {"acpi": 1}}[ARCH]    # not by device tree, which leads to no Hyper-V
CONSOLE = {"x86_64": "console=ttyS0", "arm64": "console=ttyAMA0 acpi=force"}[ARCH]
CMDLINE = CONSOLE + " quiet mitigations=off nokaslr cryptomgr.notests"

# The drivers of disk and network come up side by side. The lease is what DHCP gives, written down by the usual script.
INIT = """
mark() { MARK; }
cd /lib/modules
load() { for name in "$@"; do insmod $name.ko; done; }
load VMBUS
load NETWORK && ip link set eth0 up && udhcpc -i eth0 -q -n -f -s /etc/dhcp >/dev/null 2>&1 &
load STORAGE
until [ -b /dev/sda ]; do sleep 0.01; done
wait
mark 1
echo "bench: up"
until [ -b /dev/sdb ]; do sleep 0.05; done
cd /
cpio -i -m -d -u < /dev/sdb 2>/dev/null
. /workloads
poweroff -f
"""
DHCP = b"""#!/bin/busybox sh
[ "$1" = bound ] && ip address replace "$ip/$mask" dev "$interface" && ip route replace default via "$router"
exit 0
"""
# Whoever counts must not find the disk's blocks in memory, as Candela does not keep them either.
START = """
ip link set lo up
echo none > /sys/block/sda/queue/scheduler
number=1
bench() {
    echo 3 > /proc/sys/vm/drop_caches
    echo "bench: $1"
    shift
    number=$((number + 1))
    mark $number
    eval "$@"
}
"""
END = "mark $((number + 1))\necho 'bench: end'\n"

FIO = ("fio --name=bench --filename=/dev/sda --rw=randread --bs=4k --direct=1 --size=64m --io_size=1g "
       "--norandommap=1 --gtod_reduce=1 --thread --output=/dev/null")
# The cheapest ways of fio's: at depth 1 that is pread, cheaper than io_uring and libaio.
FIO_1 = FIO + " --iodepth=1 --ioengine=psync"
FIO_32 = (FIO + " --iodepth=32 --ioengine=io_uring --fixedbufs=1 --registerfiles=1 --iodepth_batch_submit=32 "
          "--iodepth_batch_complete_min=1 --iodepth_batch_complete_max=32")
NBD_SERVER = "nbdkit -f -r -p 10809 file file=/dev/sda >/dev/null 2>&1 &\n"
NBD_WAIT = "until netstat -ltn | grep -q :10809; do sleep 0.1; done\n"


class Workload:
    """`command` is what the guest's shell does, COUNT times; `drive` this side's part: drive(vm, count, start)."""

    def __init__(self, name, few, many, command, drive=None, before=""):
        self.name, self.few, self.many, self.command, self.drive, self.before = name, few, many, command, drive, before

    def counts(self):
        return self.few, self.few, self.many

    def shell(self):
        return self.before + "".join(f"bench '{self.name} {n}' '{self.command.replace('COUNT', str(n))}'\n"
                                     for n in self.counts())


def nbd_drive(vm, count, start):
    peers.nbd_reads(vm, count, start=start)
    vm.lines["console"].send("\n")


def workloads(udp_port, tcp_port):
    load = "/bin/linux_load "
    return [
        Workload("disk-1", 1000, 5000, f"{FIO_1} --number_ios=COUNT"),
        Workload("disk-32", 1000, 5000, f"{FIO_32} --number_ios=COUNT"),
        Workload("udp-rx", 500, 2500, load + "udp-rx 7000 COUNT", lambda vm, n, start: peers.send_datagrams(vm, start)),
        Workload("udp-tx", 500, 2500, load + f"udp-tx 10.0.2.2 {udp_port} COUNT"),
        Workload("tcp-rx", 4, 20, load + "tcp-rx 7001 COUNT", lambda vm, n, start: peers.feed_guest(vm, start)),
        Workload("tcp-tx", 4, 20, load + f"tcp-tx 10.0.2.2 {tcp_port} COUNT"),
        Workload("nbd", 500, 2500, 'echo serving; read -r line', nbd_drive, before=NBD_SERVER + NBD_WAIT),
    ]


# ---- what the guest is started with ----

@contextlib.contextmanager
def library_path(folders):
    """For ldd: libraries there are found before the machine's own."""
    before = os.environ.get("LD_LIBRARY_PATH")
    os.environ["LD_LIBRARY_PATH"] = ":".join(folders)
    try:
        yield
    finally:
        if before is None:
            del os.environ["LD_LIBRARY_PATH"]
        else:
            os.environ["LD_LIBRARY_PATH"] = before


def programs():
    """{path in the guest: path here} of the packages' programs and all they need."""
    name = linuximage.DEBIAN_NAMES[ARCH]
    own = name == linuximage.machine_name()
    done = subprocess.run(["sh", os.path.join(ROOT, "scripts", "fetch-programs.sh"), *PACKAGES], text=True,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False,
                          env={**os.environ, "PROGRAMS_ARCH": "" if own else name})
    if done.returncode:
        raise linuximage.Unavailable((done.stderr.strip().splitlines() or ["fetch-programs.sh failed"])[-1])
    folder = done.stdout.strip()
    wanted, libraries = list(PACKAGES), set()
    places = [folder] + glob.glob("/usr/lib/*-linux-gnu/nbdkit") * own
    for place, _, names in [found for top in places for found in os.walk(top)]:
        if place.startswith(folder) and any(".so" in name for name in names):
            libraries.add(place)
        for name in names:
            path = os.path.join(place, name)
            if place.endswith("bin") and name in PACKAGES:
                wanted[wanted.index(name)] = path
            elif path.endswith(PLUGIN):
                wanted.append(path)
    if own:
        with library_path(sorted(libraries)):
            files = linuximage.with_libraries(wanted)
    else:
        files = linuximage.fetched_with_libraries(wanted, folder)
    return {path[len(folder):] if path.startswith(folder) else path: here for path, here in files.items()}


def tools_disk(path, script):
    """A disk that is a cpio archive: programs, libraries, the load generator and the script."""
    load = os.path.join(WORK, "linux_load")
    compiler = {"x86_64": "x86_64-linux-gnu-gcc", "arm64": "aarch64-linux-gnu-gcc"}[ARCH]
    subprocess.run([compiler, "-std=gnu11", "-O2", "-Wall", "-Wextra", "-static", "tests/bench/linux_load.c", "-o", load],
                   cwd=ROOT, check=True)
    archive = linuximage.Archive()
    for name, here in programs().items():
        archive.file(name, here)
    archive.file("/bin/linux_load", load)
    archive.data("/workloads", script.encode(), 0o644)
    content = archive.finish()
    with open(path, "wb") as f:
        f.write(content + b"\0" * (-len(content) % SECTOR_BYTES))
    return labvm.Disk(path)


def initramfs(linux, path):
    """Not compressed: unpacking is not what is measured."""
    parts = {"VMBUS": ["hv_vmbus"], "NETWORK": ["hv_netvsc"], "STORAGE": ["hv_storvsc", "sd_mod"]}
    text, loaded = INIT.replace("MARK", MARK), []
    for word, names in parts.items():
        needed = [name for name, _ in linux.modules(names) if name not in loaded]
        loaded += needed
        text = text.replace(word, " ".join(needed))
    linux.initramfs(path, loaded, text, files={"/etc/dhcp": DHCP}, load=[])
    return path


# ---- the run ----

class Figures:
    """The counters between two marks of a workload with many, less those with few repetitions."""

    def __init__(self, marks, works):
        at = {name: counters for name, counters in marks}
        self.entry = next((counters for name, counters in marks if name.startswith("phase-")), None)
        self.up = at["port-1"]
        self.more = {}
        for n, work in enumerate(works):
            small, large, end = (at[f"port-{3 * n + k}"] for k in (3, 4, 5))
            self.more[work.name] = {key: (end[key] - large[key]) - (large[key] - small[key]) for key in end}
            self.more[work.name]["count"] = work.many - work.few

    def per(self, work, counter="guest_instructions", unit="count"):
        return self.more[work][counter] / self.more[work][unit]


def run():
    linux = linuximage.Linux()
    work = os.path.join(WORK, "linux")
    os.makedirs(work, exist_ok=True)
    udp_sink = peers.datagram_sink()
    works = workloads(udp_sink.getsockname()[1], peers.stream_sink())
    script = START + "".join(one.shell() for one in works) + END
    ramdisk = initramfs(linux, os.path.join(work, "initramfs"))
    lab = {**measure.LAB, "lun.absent": TOOLS_LUN}
    lab.update(LAB)
    vm = labvm.LabVM(work, image=linux.kernel, disks=[tools_disk(os.path.join(work, "tools.cpio"), script)], mem=MEM,
                     forward={"udp": 7000, "tcp": 7001, "nbd": 10809}, cmdline=CMDLINE, lab=lab, icount=True,
                     extra=["-fw_cfg", f"name=opt/lab/initrd,file={labvm.option_path(ramdisk)}"])
    with vm, udp_sink:
        vm.expect("^bench: up", RUN_LIMIT_S)
        vm.command(f"lun-add {TOOLS_LUN}")
        at = 0
        for one in works:
            for count in one.counts():
                at = vm.expect(f"^bench: {one.name} {count}\r?$", RUN_LIMIT_S, start=at).end()
                if one.drive:
                    one.drive(vm, count, at)
        vm.expect("^bench: end", RUN_LIMIT_S, start=at)
        code = vm.wait(RUN_LIMIT_S)
    if code != labvm.POWER_OFF:
        raise labvm.VMError(f"linux: {labvm.exit_text(code)} (see {os.path.relpath(work, ROOT)}/)")
    return linux.release, Figures(measure.marks(vm.lines["lab"].text), works)


def figures():
    """Shows the column; the figures have the names of Candela's."""
    started = time.monotonic()
    release, found = run()

    def out(figure, value, unit="instructions"):
        show(figure, value, unit, system="linux", arch=ARCH, release=release)

    if KERNEL_ENTRY:
        out("boot_instructions_decompression", found.entry["guest_instructions"])
    out("boot_instructions", found.up["guest_instructions"] - (found.entry["guest_instructions"] if KERNEL_ENTRY else 0))
    for depth in (1, 32):
        work = f"disk-{depth}"
        out(f"disk_read_4k_qd{depth}_instructions", found.per(work))
        out(f"disk_read_4k_qd{depth}_signals_per_1000", 1000 * found.per(work, "signals"), "signals")
        out(f"disk_read_4k_qd{depth}_interrupts_per_1000", 1000 * found.per(work, "interrupts"), "interrupts")
    out("udp_rx_instructions_per_packet", found.per("udp-rx", unit="rx_frames"))
    out("udp_tx_instructions_per_packet", found.per("udp-tx"))
    out("tcp_rx_instructions_per_mib", found.per("tcp-rx"))
    out("tcp_tx_instructions_per_mib", found.per("tcp-tx"))
    out("nbd_read_4k_qd32_instructions", found.per("nbd"))
    print(f"bench: linux {release} took {time.monotonic() - started:.0f} s", file=sys.stderr)
