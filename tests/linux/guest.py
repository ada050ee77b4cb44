# SPDX-License-Identifier: BSD-2-Clause
"""A stock Linux as guest of the lab, with a shell on its console that the test types into.

    guest = Guest(t, disks=[Disk(path)], cpus=2)     # started; returns when the shell answers
    guest.run("cat /proc/partitions")                # what it printed; a status other than 0 fails the case
    guest.check_log()                                # the kernel's log has no complaint
    guest.power_off()

The lab runs strict: a rule of the protocol that Linux is seen to break ends the machine with another code than the case
expects, and fails it. Once the shell is there the kernel's console shows errors alone, so that the shell's output stays
whole; LINUX="loglevel=7 ..." in the environment adds words to the kernel's command line.
"""
import os
import re
import time

import labvm
import linuximage
from boards import ARCH
from harness import Failure, Skip

MODULES = ["hv_storvsc", "hv_netvsc", "hv_utils", "hv_balloon", "sd_mod"]
BOOT_S = 180                                          # of a machine with several others; the case has its own limit
COMMAND_S = 120
# Facilities of Hyper-V that Linux uses when the host recommends them: relaxed timing, no auto-EOI, remote flush,
# IPIs by hypercall, sparse sets of processors.
HINTS = 1 << 5 | 1 << 9 | 1 << 2 | 1 << 10 | 1 << 11
OPTIONS = {"x86_64": {"hv.hints": hex(HINTS)}, "arm64": {}}       # arm64: it uses none of them
DIRECT_OPTIONS = {"x86_64": {}, "arm64": {"acpi": 1}}
# Without firmware it would take the device tree, in which it does not find Hyper-V.
CONSOLE = {"x86_64": "console=ttyS0", "arm64": "console=ttyAMA0 acpi=force"}

INIT = """
mkdir -p /root /var/run
echo /sbin/poweroff > /proc/sys/kernel/poweroff_cmd
stty -echo -onlcr
dmesg -n 4
echo "shell: ready"
while read -r number line; do
    eval "$line"
    echo "shell: $number $?"
done
"""
# The kernel starts them when the host asks for a shutdown or a restart.
LAST_WORDS = """#!/bin/busybox sh
echo "init: {0}" > /dev/console
sync
exec /bin/busybox {1} -f
"""
POWEROFF, REBOOT = LAST_WORDS.format("power off", "poweroff").encode(), LAST_WORDS.format("restart", "reboot").encode()
DHCP = b"""#!/bin/busybox sh
case "$1" in
bound|renew)
    ip address replace "$ip/$mask" dev "$interface"
    [ -z "$router" ] || ip route replace default via "$router" dev "$interface"
    echo "dhcp: $interface $ip/$mask router $router" ;;
esac
"""
# What of the kernel's log fails a case: trouble of any kind, and whatever a part that speaks to the host warns of.
TROUBLE = re.compile(r"BUG[: ]|WARNING: |Oops|Call Trace|general protection|segfault|blocked for more than|"
                     r"detected stall|soft lockup|Kernel panic|sysfs: cannot")
OURS = re.compile(r"hv_|hyper-?v|vmbus|storvsc|netvsc|hv-|\bsd \d|scsi|\beth\d|clocksource|tsc|sched_clock|\bsd[a-z]\b|"
                  r"I/O error|[Tt]imed? ?out|APIC|mtrr", re.I)


class Guest:
    """`firmware`: OVMF and GRUB (arm64: AAVMF and its shell) start it, with the lab below; else the lab itself does."""

    def __init__(self, t, disks=(), cpus=1, lab=None, firmware=False, mem="384M", files=None, modules=MODULES,
                 forward=None, net=None, cmdline="", linux=None):
        try:
            self.linux = linux or linuximage.Linux()
            ramdisk = self.linux.initramfs(t.path("initramfs.gz"), modules, INIT, files={
                "/sbin/poweroff": POWEROFF, "/sbin/reboot": REBOOT, "/etc/dhcp": DHCP, **(files or {})})
        except linuximage.Unavailable as why:
            raise Skip(str(why)) from None
        words = f"{CONSOLE[ARCH]} loglevel=5 panic=-1 {cmdline} {os.environ.get('LINUX', '')}"
        options = {**OPTIONS[ARCH], **(lab or {})}
        self.t, self.number = t, 0
        forward = forward or {"http": 80}
        if firmware:
            boot = BOOT_DISK[ARCH](t, self.linux.kernel, ramdisk, words)
            self.vm = t.firmware(labvm.Disk(boot), ready=None, disks=disks, cpus=cpus, lab=options, mem=mem,
                                 forward=forward)
        else:
            options = {**DIRECT_OPTIONS[ARCH], **options}
            self.vm = t.lab(ready=None, image=self.linux.kernel, disks=disks, cpus=cpus, lab=options, mem=mem,
                            forward=forward, net=net, cmdline=words,
                            extra=["-fw_cfg", f"name=opt/lab/initrd,file={labvm.option_path(ramdisk)}"])
        started = time.monotonic()
        self.vm.expect(r"^shell: ready", BOOT_S)
        t.note(f"shell after {time.monotonic() - started:.1f} s")

    def run(self, command, limit_s=COMMAND_S, expect=0):
        """What a shell command of one line printed; its status must be `expect` (None: any)."""
        self.number += 1
        start, began = len(self.vm.console), time.monotonic()
        self.vm.lines["console"].send(f"{self.number} {command}\n")
        done = self.vm.expect(rf"^shell: {self.number} (\d+)$", limit_s, start=start)
        output = self.vm.console[start:done.start()]
        self.t.note(f"guest# {command} -> {done[1]} in {time.monotonic() - began:.1f} s\n{output[-2000:]}".rstrip())
        if expect is not None and int(done[1]) != expect:
            raise Failure(f"in the guest: {command}: status {done[1]}: {output.strip()[-500:]}")
        return output

    def wait_for(self, condition, what, limit_s=60):
        """Until a shell command succeeds."""
        command = (f"n=0; until {{ {condition}; }} 2> /dev/null; do [ $n -lt {limit_s * 10} ] || break; "
                   f"n=$((n + 1)); sleep 0.1; done; [ $n -lt {limit_s * 10} ]")
        try:
            self.run(command, limit_s * 2 + COMMAND_S)
        except Failure:
            raise Failure(f"not within {limit_s} s: {what}") from None

    def disk(self, lun, limit_s=60):
        """The device of a LUN, "/dev/sda": names are given in the order in which disks answer."""
        place = f"/sys/bus/scsi/devices/*:{lun}/block"
        self.wait_for(f"[ -b /dev/$(ls {place}) ]", f"LUN {lun} has a device", limit_s)
        return "/dev/" + self.run(f"ls {place}").strip()

    def log(self):
        """The kernel's log: [(level, text)]."""
        lines = []
        for line in self.run("dmesg -r").splitlines():
            if found := re.match(r"<(\d+)>\[ *[\d.]+\] (.*)", line):
                lines.append((int(found[1]) & 7, found[2]))
        return lines

    def check_log(self, allowed=()):
        """No complaint in the kernel's log but lines that match one of `allowed`. Returns the log as text."""
        log = self.log()
        self.t.check(len(log) > 100, f"the log is whole: {len(log)} lines")
        bad = [text for level, text in log
               if (TROUBLE.search(text) or (level <= 4 and OURS.search(text)))
               and not any(re.search(pattern, text) for pattern in KNOWN + tuple(allowed))]
        self.t.equal(bad, [], "complaints in the kernel's log")
        return "\n".join(text for _, text in log)

    def dhcp(self, interface="eth0"):
        """An address by DHCP; returns what the server gave, "10.0.2.15"."""
        self.run(f"ip link set {interface} up")
        text = self.run(f"udhcpc -i {interface} -n -q -f -t 20 -T 2 -s /etc/dhcp")
        found = re.search(rf"^dhcp: {interface} ([\d.]+)/", text, re.M)
        self.t.check(found, f"{interface} has an address by DHCP: {text}")
        return found[1]

    def power_off(self):
        """By the guest's own will."""
        self.number += 1
        self.vm.lines["console"].send(f"{self.number} /sbin/poweroff\n")
        self._expect_end(labvm.POWER_OFF)

    def crash(self):
        """A panic: its text must reach the host. Returns it."""
        self.number += 1
        self.vm.lines["console"].send(f"{self.number} echo c > /proc/sysrq-trigger\n")
        self._expect_end(labvm.CRASH)
        return self.vm.lines["lab"].text.partition("lab-crash: ")[2]

    def end_by_host(self, how, said, code):
        """Shutdown or restart by hv_utils: the host asks, Linux tells its init, which says so and does it."""
        self.vm.command(f"shutdown {how}", r"^lab-command: shutdown.*: done")
        self.vm.expect(rf"^init: {said}$", 30)
        self._expect_end(code)

    def _expect_end(self, code):
        self.t.equal(self.vm.wait(60), code, "the lab's end")
        self.vm.ended = code
        self.vm.stop()


# Said on every virtual machine of this kind, about the processor that QEMU shows.
KNOWN = (
    r"^Speculative Return Stack Overflow",
)


def grub_disk(t, kernel, ramdisk, words):
    """A disk with an EFI system partition: GRUB as EFI/BOOT/BOOTX64.EFI, the kernel and its initramfs. Its path."""
    config, grub = t.path("grub.cfg"), t.path("grub.efi")
    with open(config, "w", encoding="utf-8") as f:
        f.write(f"search --no-floppy --file --set=root /vmlinuz\nlinux /vmlinuz {words}\ninitrd /initramfs.gz\nboot\n")
    t.run("grub-mkimage", "-O", "x86_64-efi", "-o", grub, "-c", config, "-p", "/",
          "part_gpt", "fat", "search", "linux", "boot", "normal", "all_video")
    return system_partition(t, {"EFI/BOOT/BOOTX64.EFI": grub, "vmlinuz": kernel, "initramfs.gz": ramdisk})


def shell_disk(t, kernel, ramdisk, words):
    """A disk from which the firmware's shell starts the kernel by its EFI stub. Its path."""
    script = t.path("startup.nsh")
    with open(script, "w", encoding="utf-8", newline="\r\n") as f:
        f.write("for %i in FS0 FS1 FS2 FS3\n  if exist %i:\\vmlinuz.efi then\n    %i:\n"
                f"    vmlinuz.efi initrd=\\initramfs.gz {words}\n  endif\nendfor\n")
    return system_partition(t, {"startup.nsh": script, "vmlinuz.efi": kernel, "initramfs.gz": ramdisk})


def system_partition(t, files):
    image, mib = t.path("boot.img"), 64
    with open(image, "wb") as f:
        f.truncate(mib << 20)
    t.run("sgdisk", "--clear", "--new=1:2048:0", "--typecode=1:EF00", image)
    t.run("mkfs.vfat", "-F", "32", "-s", "1", "--offset", "2048", image, str((mib * 2048 - 2048 - 34) // 2))
    volume = image + "@@1M"
    t.run("mmd", "-i", volume, "::EFI", "::EFI/BOOT")
    for name, source in files.items():
        t.run("mcopy", "-i", volume, source, "::" + name)
    return image


BOOT_DISK = {"x86_64": grub_disk, "arm64": shell_disk}
