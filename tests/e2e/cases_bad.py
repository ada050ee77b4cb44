# SPDX-License-Identifier: BSD-2-Clause
"""Guests that misbehave (tests/lab/badguest): the lab notices, says so, ends as documented and stays whole."""
import os
import re
import struct

from boards import ARCH, BOARDS
from harness import READY_S, case
from labvm import CRASH, LAB_FAULT, POWER_OFF, QUIT, REBOOT, ROOT, TRIPLE_FAULT, VIOLATION, Disk, UserNet

MEM_MIB = 64
ISOLATED = {"isolation": "vbs", "isolation.boundary": 38}
IMAGE = os.path.join(ROOT, "build", ARCH, "badguest" + BOARDS[ARCH].guest)
RAM = {"x86_64": 0, "arm64": 1 << 30}[ARCH]          # the first address of the guest's memory
END = RAM + (MEM_MIB << 20)
# What a processor of that architecture alone can do.
X86 = ARCH == "x86_64"

# args= -> the violation that must be reported
BROKEN_RULES = {
    "hypercall": r"hypercall 0x7777 is unknown",
    "input": r"post message: input outside of memory",
    "gpadl": rf"GPADL 0x7777: page {END >> 12:#x} is not visible memory",
    "pages": rf"channel 1: page {END >> 12:#x} is not visible memory",
    "message": r"vmbus: message 99 unknown",
    "ring": r"channel 1: write index 0x12345677 of a ring",
}
if X86:
    BROKEN_RULES["register"] = r"rdmsr 0x400001f0"


# In an isolated machine: args= -> what is reported. Memory used on its wrong side ends the run there and then.
WRONG_SIDES = {
    "read-private-side": r"reads physical address 0x[0-9a-f]{6,8}, the private side of a page that it shares",
    "write-private-side": r"writes physical address 0x[0-9a-f]{6,8}, the private side of a page that it shares",
    "copy-private-side": r"reads physical address 0x[0-9a-f]{6,8}, the private side of a page that it shares",
    "read-shared-side": r"reads physical address 0x40[0-9a-f]{8}, the shared side of a private page",
    "write-shared-side": r"writes physical address 0x40[0-9a-f]{8}, the shared side of a private page",
    "execute-shared": r"executes physical address 0x40[0-9a-f]{8}, which is shared memory",
}
NAMED_OR_TAKEN_BACK = {
    "name-ring": r"GPADL 0x7777: page 0x[0-9a-f]+ is not visible memory",
    "name-buffer": r"GPADL 0x7777: page 0x[0-9a-f]+ is not visible memory",
    "name-monitor-pages": r"contact: monitor pages: both, aligned and visible, or none",
    "name-data": r"channel 1: page 0x[0-9a-f]+ is not visible memory",
    "take-back-ring": r"page made private while a GPADL or the monitor uses it",
    "take-back-data": r"page made private while a packet uses it",
}


def bad_guest(t, way, disk=None, **options):
    return t.lab(ready=None, image=IMAGE, mem=f"{MEM_MIB}M", disks=[Disk(disk)] if disk else [],
                 cmdline=f"args={way} badguest.mib={MEM_MIB}", **{"net": [], **options})


def ends(t, vm, way, expected, word):
    t.equal(vm.wait(READY_S), expected, f"{way}: QEMU's exit code")
    vm.ended = expected
    lab = vm.lines["lab"].text
    t.check(re.search(rf"^lab-end: {word} exit={expected}: ", lab, re.M), f"{way}: the last line of the lab's report")
    t.check(re.search(r"^lab-counter: exits=\d+", lab, re.M), f"{way}: counters are reported")
    return lab


@case(limit_s=120)
def bad_broken_rules(t):
    """Each rule that is broken is reported with its bytes; the run ends with 39, however well the guest goes on."""
    disk = t.random_disk("disk.img", 1)
    for way, violation in BROKEN_RULES.items():
        lab = ends(t, bad_guest(t, way, disk), way, VIOLATION, "violation")
        reported = re.findall(r"^.*VIOLATION: (.*)$", lab, re.M)
        t.check(any(re.search(violation, line, re.I) for line in reported), f"{way}: reported: {reported}")
    ends(t, bad_guest(t, "nothing", disk), "nothing", POWER_OFF, "power-off")


def reported(t, lab, way, violation):
    lines = re.findall(r"^.*VIOLATION: (.*)$", lab, re.M)
    t.check(any(re.search(violation, line) for line in lines), f"{way}: reported: {lines}")


@case(limit_s=120)
def bad_isolated_sides(t):
    """Isolated memory touched, copied or executed on its wrong side: one line with the address, the side and the RIP."""
    disk = t.random_disk("disk.img", 1)
    for way, violation in WRONG_SIDES.items():
        vm = bad_guest(t, way, disk, lab=ISOLATED)
        lab = ends(t, vm, way, VIOLATION, "violation")
        reported(t, lab, way, violation + r" \(rip 0x[0-9a-f]+\)$")
        t.check("badguest: " not in vm.console, f"{way}: the guest went no further")


@case(limit_s=120)
def bad_isolated_pages(t):
    """Private pages named to the host in each of the four places, and pages in use made private: all refused, and told."""
    for way, violation in NAMED_OR_TAKEN_BACK.items():
        lab = {**ISOLATED, "ramdisk": "1M", "latency": 2000000 if way == "take-back-data" else 0}
        vm = bad_guest(t, way, lab=lab, net=[UserNet({})])
        vm.expect("VIOLATION", READY_S, "lab")
        if way.startswith("take-back"):
            vm.expect("badguest: 1 pages stay with the host", READY_S)
        else:
            vm.command("quit")                        # where the host has hung up, the guest's goodbye is a long one
        reported(t, ends(t, vm, way, VIOLATION, "violation"), way, violation)


@case(limit_s=120)
def bad_ends(t):
    """Triple fault, a jump to nowhere, a crash, a reset: an exit code and a report of their own each."""
    nowhere = {"jump": "code"}
    if X86:
        lab = ends(t, bad_guest(t, "triple"), "triple", TRIPLE_FAULT, "triple-fault")
        t.check(re.search(r"rip [0-9a-f]{16} rsp", lab), "triple: registers are shown")
    else:
        nowhere.update(pair="an access the lab can't decode", walk="its page tables")
    for way, use in nowhere.items():
        lab = ends(t, bad_guest(t, way), way, TRIPLE_FAULT, "triple-fault")
        place = r"0x[0-9a-f]+" if way == "walk" else f"{END:#x}"       # a table: at some entry of it
        t.check(re.search(rf"physical address {place}, which is not memory, for {use}", lab), f"{way}: what happened")
    lab = ends(t, bad_guest(t, "crash"), "crash", CRASH, "crash")
    t.check("badguest was told to" in lab, "crash: its text")
    ends(t, bad_guest(t, "reset"), "reset", REBOOT, "reboot")


@case(limit_s=60)
def bad_hangs(t):
    """A guest that hangs with interrupts off, or halts for ever: the lab still obeys its commands."""
    ways = {"hang": "badguest: hangs", "halt": "badguest: halts"}
    if not X86:
        ways["silence"] = "badguest: has silenced everything, 0 of it answers"
    for way, said in ways.items():
        vm = bad_guest(t, way)
        vm.expect(said, READY_S)
        vm.command("counters", r"^lab-command: counters.*: done")
        vm.command("mark still-there", r"^lab-mark: still-there guest_instructions=\d+")
        vm.command("nonsense 5", r"^lab-command: nonsense 5.*: refused")
        vm.command("quit")
        ends(t, vm, way, QUIT, "quit")


@case(limit_s=60)
def bad_reach(t):
    """Outside of its memory the guest finds nothing: not the lab's memory, its devices, its ports, its processor."""
    vm = bad_guest(t, "memory")
    found = vm.expect(r"badguest: (\d+) places outside, (\d+) of them answer", READY_S)
    t.check(int(found[1]) > 100 and found[2] == "0", found[0])
    lab = ends(t, vm, "memory", POWER_OFF, "power-off")
    t.check("where nothing is" in lab, "the lab says where the guest went")
    if not X86:
        vm = bad_guest(t, "el2")
        vm.expect(r"badguest: 0 ways to EL2", READY_S)
        ends(t, vm, "el2", POWER_OFF, "power-off")
        return
    vm = bad_guest(t, "ports")
    vm.expect(r"badguest: 0 ports answer", READY_S)
    lab = ends(t, vm, "ports", POWER_OFF, "power-off")
    t.check("badguest was here" not in lab, "the lab's serial line is not the guest's")
    vm = bad_guest(t, "svm")
    vm.expect(r"badguest: 0 ways to SVM", READY_S)
    ends(t, vm, "svm", POWER_OFF, "power-off")


if not X86:
    @case(limit_s=90)
    def bad_interrupts(t):
        """More interrupts at once than list registers, pending and active, ended in one step or two; a latch that stays;
        and the older form of hypercalls."""
        said = {"storm": r"badguest: 32 interrupts, 0 of them wrong",
                "two-steps": r"badguest: 0 of them wrong in two steps",
                "latch": r"badguest: interrupt 20 came, then none",
                "forms": r"badguest: result 0x100000000, the same version, x14 0x1414"}
        for way, text in said.items():
            vm = bad_guest(t, way)
            vm.expect(text, READY_S)
            ends(t, vm, way, POWER_OFF, "power-off")

    @case(limit_s=120)
    def bad_processor(t):
        """The emulator's own calls reach nobody; PSCI's answers; the last processor off; extensions, 32-bit programs."""
        said = {"emulator": r"badguest: the emulator is not to be called",
                "psci": r"badguest: 0 answers of PSCI are wrong",
                "devices": r"badguest: goes on after ", "watch": r"badguest: watches the lab"}
        for way, text in said.items():
            vm = bad_guest(t, way)
            vm.expect(text, READY_S)
            ends(t, vm, way, POWER_OFF, "power-off")
        lab = ends(t, bad_guest(t, "off"), "off", TRIPLE_FAULT, "triple-fault")
        t.check("has switched its last processor off" in lab, "off: why it ended")
        for extra in ([], ["-cpu", "max"]):
            vm = bad_guest(t, "extensions", extra=extra)
            vm.expect(r"badguest: 0 extensions more than its registers show", READY_S)
            ends(t, vm, "extensions", POWER_OFF, "power-off")
        vm = bad_guest(t, "thumb")
        ends(t, vm, "thumb", CRASH, "crash")
        t.check(re.search(r"^x0  0{8}f{8}  x1  \S+  x2  0{14}43  x3  0{8}f{8}$", vm.console, re.M),
                "thumb: loads of two bytes, and one under a condition, go on behind themselves")

    # A change of Linux's header (offset, format, value) -> what the lab says of the image
    HEADERS = {
        "offset": (8, "<Q", 0x80004, "wants to lie in the middle of a page"),
        "far": (8, "<Q", 1 << 40, "does not fit its memory"),
        "wraps": (8, "<Q", (1 << 64) - 4096, "does not fit its memory"),
        "large": (16, "<Q", 1 << 30, "does not fit its memory"),
        "big-endian": (24, "<Q", 0xB, "big endian byte order, or wants other pages"),
        "pages": (24, "<Q", 0xC, "big endian byte order, or wants other pages"),
        "magic": (56, "<I", 0, "no flat arm64 image"),
    }

    @case(limit_s=90)
    def bad_images(t):
        """Images that break the rules of Linux's header are refused, each with its line; so is what is too short."""
        with open(IMAGE, "rb") as f:
            good = f.read()
        bad = {"short": (good[:63], "no flat arm64 image")}
        for way, (at, form, value, text) in HEADERS.items():
            bad[way] = (good[:at] + struct.pack(form, value) + good[at + struct.calcsize(form):], text)
        for way, (image, text) in bad.items():
            with open(t.path(way), "wb") as f:
                f.write(image)
            vm = t.lab(ready=None, image=t.path(way), mem=f"{MEM_MIB}M", disks=[], net=[])
            lab = ends(t, vm, way, LAB_FAULT, "lab-fault")
            t.check(re.search(rf"^lab-end: .*{text}", lab, re.M), f"{way}: {text}")
