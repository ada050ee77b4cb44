# SPDX-License-Identifier: BSD-2-Clause
"""Where the cases run: on this machine's KVM, or under a stock Linux with KVM that QEMU emulates.

QEMU's emulator does AMD's SVM with nested paging, so the distribution's own kernel with kvm_amd works in it (called L1
here) and offers KVM's whole Hyper-V interface to its guests (L2), which no processor without virtualisation does:

    qemu (emulator) -> Debian or Ubuntu kernel, kvm_amd -> QEMU with KVM, hv-* flags, VMBus -> Candela

L1 has an initramfs and no disk. The host's root is its root by 9p, read-only, so that the QEMU and the Python that run
in it are those of this machine; the folder of the results is a second, writable share.

What L1 must have, found by trying:
- clocksource=tsc tsc=reliable. KVM gives its guests a valid reference TSC page only while the time-stamp counter is
  the kernel's own clock, and the emulator's processor does not promise that it never stops.
- tsc_early_khz. The emulated counter is this machine's own, and its rate is measured here. Left to itself L1 measures
  it against an emulated timer, on a busy machine several times wrong, and nothing corrects a clock called reliable.
- One processor. Two of L1 are twice the speed, but the emulator updates a processor's pending interrupts without its
  lock when a guest exits (do_vmexit), so that one sent at that instant by the other processor is lost. Several L1 side
  by side are as fast and share nothing.
- A periodic tick (nohz=off highres=off): an interrupt of the machine lost like that is found at the next tick.
- For the firmware, an L1 of its own with kvm.min_timer_period_us=1000000. QEMU up to 10 aborts when a guest of L1
  lowers its task priority (CR8) while KVM has an interrupt waiting for it: that path sets an interrupt without the
  emulator's lock. Candela never writes CR8; OVMF does at the end of each tick of its periodic 10 ms timer, and when a
  busy machine runs that a period late, the next tick waits already. KVM is therefore told not to tick faster than once
  a second, and no other guest is there to make it late.
"""
import fcntl
import os
import re
import shlex
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
TESTS = os.path.dirname(HERE)
sys.path[:0] = [HERE, os.path.join(TESTS, "e2e"), os.path.join(TESTS, "linux")]
import labvm                                                  # noqa: E402
import linuximage                                             # noqa: E402
from guest import counter_khz                                 # noqa: E402

KVM_CHECK_EXTENSION, KVM_GET_API_VERSION = 0xAE03, 0xAE00
# Linux, include/uapi/linux/kvm.h
CAPABILITIES = {"KVM_CAP_HYPERV": 44, "KVM_CAP_HYPERV_SYNIC2": 148, "KVM_CAP_HYPERV_VP_INDEX": 149,
                "KVM_CAP_HYPERV_TLBFLUSH": 155, "KVM_CAP_HYPERV_SEND_IPI": 161, "KVM_CAP_HYPERV_CPUID": 167,
                "KVM_CAP_HYPERV_ENFORCE_CPUID": 199}
ALONE = ("guest_ovmf",)
L1_BYTES = 2 << 30
L1_JOBS = 3                                           # guests at a time: they wait more than they compute
L1_MODULES = ("virtio_pci", "9pnet_virtio", "9p", "kvm_amd")
L1_WORDS = "console=ttyS0 quiet panic=-1 mitigations=off clocksource=tsc tsc=reliable nohz=off highres=off"
CALM_US = 1000000
L1_INIT = """
mkdir -p /mnt
mount -t 9p -o trans=virtio,version=9p2000.L,ro,msize=262144,cache=loose host /mnt || poweroff -f
mount -t tmpfs tmpfs /mnt/run && mkdir -p /mnt/run/work /mnt/run/tmp
mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144,cache=none work /mnt/run/work || poweroff -f
mount -t proc proc /mnt/proc
mount --bind /dev /mnt/dev
mount -t sysfs sysfs /mnt/sys
mount -t tracefs tracefs /mnt/sys/kernel/tracing
echo "L1 up after $(cut -d' ' -f1 /proc/uptime) s, clock $(cat /sys/devices/system/clocksource/*/current_clocksource)"
@BEFORE@
echo advise > /sys/kernel/mm/transparent_hugepage/shmem_enabled
[ -c /dev/kvm ] || echo "L1 has no /dev/kvm"
chroot /mnt /usr/bin/env TMPDIR=/run/tmp PYTHONDONTWRITEBYTECODE=1 @COMMAND@
echo "L1 done after $(cut -d' ' -f1 /proc/uptime) s"
poweroff -f
"""


def lacking():
    """Why this machine's own KVM will not do, in a few words; None when it will."""
    try:
        kvm = os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        return f"/dev/kvm: {error.strerror}"
    try:
        if fcntl.ioctl(kvm, KVM_GET_API_VERSION) != 12:
            return "/dev/kvm is not KVM's API 12"
        without = [name for name, number in CAPABILITIES.items() if not fcntl.ioctl(kvm, KVM_CHECK_EXTENSION, number)]
        return f"this machine's KVM lacks {', '.join(without)}" if without else None
    except OSError as error:
        return f"/dev/kvm: {error.strerror}"
    finally:
        os.close(kvm)


def has_balloon(qemu):
    """Asked for this device alone: for a list of all, the fetched one would load every module it can find."""
    try:
        done = subprocess.run([qemu, "-device", "hv-balloon,help"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, text=True, timeout=60, check=False)
        return done.returncode == 0 and "status-report" in done.stdout
    except (OSError, subprocess.TimeoutExpired):
        return False


def own_qemu():
    return shutil.which("qemu-system-x86_64")


class Qemu:
    """The QEMU for the guests: the machine's own when it has VMBus devices, else a fetched one.

    path              of the program, None when there is none; in folder/qemu if the fetched one needs options
    without_balloon   None, or why there is no hv-balloon
    """

    def __init__(self, folder):
        self.path, self.without_balloon = own_qemu(), None
        if not self.path or has_balloon(self.path):
            return
        done = subprocess.run(["sh", os.path.join(labvm.ROOT, "scripts", "fetch-qemu.sh")], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace", check=False)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["scripts/fetch-qemu.sh failed"])[-1]
            self.without_balloon = f"the installed QEMU has no hv-balloon (8.2 and later do): {reason}"
            return
        usr = os.path.join(done.stdout.strip(), "usr")
        libraries = os.path.join(usr, "lib", "x86_64-linux-gnu")
        words = [os.path.join(usr, "bin", "qemu-system-x86_64")]
        for share in (usr + "/share", "/usr/share"):
            for name in ("qemu", "seabios"):
                if os.path.isdir(os.path.join(share, name)):
                    words += ["-L", os.path.join(share, name)]
        fetched = os.path.join(folder, "qemu")
        with open(fetched, "w", encoding="utf-8") as f:
            # Without a folder of its own it would try the modules of the installed version.
            f.write(f"#!/bin/sh\nexport QEMU_MODULE_DIR={shlex.quote(os.path.join(libraries, 'qemu'))} "
                    f"LD_LIBRARY_PATH={shlex.quote(libraries)}\nexec {shlex.join(words)} \"$@\"\n")
        os.chmod(fetched, 0o755)
        if has_balloon(fetched):
            self.path = fetched
        else:
            self.without_balloon = f"{words[0]} does not start here, or has no hv-balloon"


class Direct:
    """The cases on this machine's own KVM."""

    def __init__(self, folder, qemu, names):
        log = open(os.path.join(folder, "direct.txt"), "w", encoding="utf-8")
        jobs = max(1, min(4, (os.cpu_count() or 1) // 2))
        self.process = subprocess.Popen(
            [sys.executable, os.path.join(HERE, "inside.py"), folder, qemu.path, "direct", str(jobs), *names],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=labvm.die_with_parent)
        self.log = log

    def poll(self):
        return self.process.poll()

    def stop(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.log.close()

    def hopeless(self, _):
        return None

    def words(self):
        """What is to be read when it ended early."""
        with open(self.log.name, encoding="utf-8", errors="replace") as f:
            return f"the cases' program ended with {self.process.returncode}\n" + f.read()[-3000:]


class L1(labvm.Machine):
    """A Linux with KVM in emulation, in which inside.py runs the cases."""

    def __init__(self, folder, label, linux, qemu, names, jobs, before=""):
        work = os.path.join(folder, f"l1-{label}")
        os.makedirs(work, exist_ok=True)
        # Inside, the folder of the results has another name; everything else lies where it does here.
        program = "/run/work/qemu" if qemu.path.startswith(folder + os.sep) else qemu.path
        command = [sys.executable, os.path.join(HERE, "inside.py"), "/run/work", program, "nested", str(jobs), *names]
        init = L1_INIT.replace("@BEFORE@", before).replace("@COMMAND@", shlex.join(command))
        initramfs = linux.initramfs(os.path.join(work, "initramfs"), L1_MODULES, init)
        khz = counter_khz()
        words = L1_WORDS + (f" tsc_early_khz={khz}" if khz else "")
        share = "security_model=none,multidevs=remap"
        super().__init__(work, [
            "-machine", "q35,memory-backend=ram", "-accel", "tcg,thread=multi", "-cpu", "EPYC,+svm,+npt", "-smp", "1",
            *labvm.memory(L1_BYTES), "-nodefaults", "-vga", "none",
            "-kernel", linux.kernel, "-initrd", initramfs, "-append", words,
            "-virtfs", f"local,path=/,mount_tag=host,readonly=on,{share}",
            "-virtfs", f"local,path={labvm.option_path(folder)},mount_tag=work,{share}"])

    def words(self):
        """What is to be read when it ended early."""
        return f"L1: {labvm.exit_text(self.poll())} {self.qemu_errors()}\n{self.console[-3000:]}"

    def hopeless(self):
        """Why the cases of this one can't be run here, if that is so."""
        return "the emulator died of its own mistake (nested.py tells of it): " + found[0] \
            if (found := re.search(r"tcg_handle_interrupt: assertion failed.*", self.qemu_errors())) else None


class Nested:
    """The cases under two L1 (one, where there is only one processor), the ones for firmware under one more."""

    def __init__(self, folder, qemu, names):
        linux = linuximage.Linux()
        others = [name for name in names if name not in ALONE]
        alone = [name for name in names if name in ALONE]
        self.alone, self.machines = None, []
        try:
            if alone:
                calm = f"echo {CALM_US} > /sys/module/kvm/parameters/min_timer_period_us"
                self.alone = self.start(L1(folder, "firmware", linux, qemu, alone, 1, calm))
            for number in range(min(len(others), os.cpu_count() or 1, 2)):
                self.start(L1(folder, number, linux, qemu, others, L1_JOBS))
        except BaseException:
            self.stop()
            raise

    def start(self, machine):
        self.machines.append(machine)
        return machine.start()

    def poll(self):
        codes = [machine.poll() for machine in self.machines]
        return None if None in codes else max(codes, key=abs)

    def stop(self):
        for machine in self.machines:
            machine.stop()

    def hopeless(self, name):
        return self.alone.hopeless() if name in ALONE and self.alone else None

    def words(self):
        ended_badly = [machine for machine in self.machines if machine.poll()]
        return "\n".join(machine.words() for machine in ended_badly or self.machines)
