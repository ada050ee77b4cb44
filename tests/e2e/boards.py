# SPDX-License-Identifier: BSD-2-Clause
"""What QEMU's command line says differently on each architecture. labvm.py puts the rest around it.

    ARCH            the architecture that make was asked for (environment), or the first
    BOARDS[ARCH]    its board
"""
import os

FIRMWARE_PAIRS = {
    "x86_64": [("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
               ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd")],
    "arm64": [("/usr/share/AAVMF/AAVMF_CODE.fd", "/usr/share/AAVMF/AAVMF_VARS.fd")],
}


class Board:
    """Each field is one word or a list of words of the command line; functions take what decides them."""
    name = qemu = ""
    machine = ""                   # -machine, for the lab
    plain_machine = ""             # and for a machine without hypervisor
    plain_processor = ""
    kernel, guest = ".elf", ".elf"             # what QEMU starts, what the lab starts
    boot_file = ""                 # the name that firmware looks for on a volume
    lab_words = []                 # what the lab's own part of the machine needs
    disk, nic = "", ""             # devices of the lab
    lab_place = ["", ""]           # where a disk, a NIC of the lab goes below firmware: with its number
    own_disk = ""                  # a disk that the firmware reads itself
    first_disk = 0
    display = "VGA"
    plain_words = []
    firmware_words = []            # what the firmware needs besides
    lab_tells_code = False         # QEMU ends with 0, the code is in the lab's last line

    def processor(self, options):
        """-cpu for these options of the lab."""
        raise NotImplementedError

    def lab_line(self, chardev):
        """The lab's own serial port."""
        return ["-serial", f"chardev:{chardev}"]


class X86(Board):
    name, qemu = "x86_64", "qemu-system-x86_64"
    machine = plain_machine = "q35"
    plain_processor = "EPYC"
    boot_file = "BOOTX64.EFI"
    plain_words = ["-device", "isa-debug-exit,iobase=0xf4"]
    lab_words = ["-global", "hpet.msi=on", *plain_words]
    own_disk = "ide-hd,bus=ide.{n}"
    disk, nic = "virtio-blk-pci,disable-legacy=on", "virtio-net-pci,disable-legacy=on,romfile="
    # tests/lab/x86_64/uefi.h: devices 0x10 to 0x1a of bus 0 are the lab's, hidden from firmware and guest.
    lab_place = [",addr={0:#x}", ",addr=0x1a"]
    first_disk = 0x10
    physical_bits = 40             # of addresses, unless QEMU is told otherwise

    def processor(self, options):
        boundary = int(options.get("isolation.boundary", 0))
        return "EPYC,+svm,+npt" + (f",phys-bits={boundary + 1}" if boundary >= self.physical_bits else "")


class Arm64(Board):
    name, qemu = "arm64", "qemu-system-aarch64"
    machine = "virt,virtualization=on,gic-version=3,its=off"
    plain_machine = "virt,gic-version=3"
    plain_processor = "neoverse-n1"
    kernel = guest = ".bin"
    boot_file = "BOOTAA64.EFI"
    lab_words = ["-global", "virtio-mmio.force-legacy=false"]
    lab_tells_code = True
    disk, nic = "virtio-blk-device", "virtio-net-device"       # tests/lab/arm64: all of virtio-mmio is the lab's
    own_disk = "virtio-blk-pci,romfile="
    display = "ramfb"
    firmware_words = ["-device", "virtio-rng-pci,romfile="]        # the processor has no random numbers

    def processor(self, options):
        return "neoverse-n1"

    def lab_line(self, chardev):
        return ["-device", f"pci-serial,chardev={chardev}"]


BOARDS = {board.name: board for board in (X86(), Arm64())}
ARCH = os.environ.get("ARCH") or "x86_64"
