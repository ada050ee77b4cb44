# SPDX-License-Identifier: BSD-2-Clause
"""arm64 on plain QEMU: every way to die at both levels, machines of all sizes, kernels in both formats, odd trees."""
import re
import struct
import subprocess

from cases_arm64 import GREETING, HELLO, machine
from harness import case

LEVELS = (("virtualization=off", "cortex-a72", 1), ("virtualization=on", "neoverse-n1", 2))
# selftest= -> what the report must say; and what of the backtrace
WAYS = {
    "assert": (r"panic: assertion failed: .*selftest\.c:\d+", r" assertion\+.*\n.* selftest_run\+"),
    "null": (r"panic: page fault: read of unmapped address 0x10: null pointer", r" null_read\+.*\n.* selftest_run\+"),
    "write-constant": (r"panic: page fault: write of protected address 0x", r" write_constant\+.*\n.* selftest_run\+"),
    "undefined": (r"panic: exception class 0x3c \(BRK instruction\)", r" undefined\+0x0\n.* selftest_run\+"),
    "execute-data": (r"panic: page fault: execution of protected address 0x", r"[0-9a-f]{16}\n.* selftest_run\+"),
    "boot-stack": (r"panic: page fault: write of unmapped address .*: stack overflow in the boot task",
                   r" deeper\+.*\n(?s:.*)the same \d+ times more\n.* overflow\+"),
    "task-stack": (r"panic: page fault: write of unmapped address .*: stack overflow in task selftest",
                   r" deeper\+.*\n(?s:.*) overflow\+.*\n.* task_main\+"),
    "far-edge": (r"panic: page fault: write of unmapped address .*: stack overflow in the boot task",
                 r" far_edge\+.*\n.* selftest_run\+"),
    "interrupt": (r"panic: an interrupt handler gives up",
                  r" in_an_interrupt\+(?s:.*) save_and_interrupt\+(?s:.*) selftest_run\+"),
    "reporter": (r"panic: a reporter that fails comes next(?s:.*)panic: again, inside the panic: assertion failed",
                 r" bad_reporter\+"),
    # the emergency stack overflows in its turn: its guard page holds
    "interrupt-stack": (r"panic: page fault: .*overflow in the boot task(?s:.*)panic: again, inside the panic: page f",
                        r" deeper\+(?s:.*) overflow\+"),
}
NO_REGISTERS = ("assert", "interrupt", "reporter")


@case(limit_s=180, arch="arm64")
def arm64_deaths(t):
    """Each way to fail: what it was, registers, a backtrace with symbols, and the end that panic= asks for."""
    for options, cpu, el in LEVELS:
        for name, (words, trace) in WAYS.items():
            vm = t.plain("image", HELLO, mem="64M", cmdline=f"selftest={name} panic=off", extra=machine(options, cpu))
            t.equal(vm.wait(30), 0, f"{name}: panic=off powers off")
            text = vm.console.replace("\r", "")
            t.check(re.search(words, text), f"{name} at EL{el}: the console says {words!r}")
            t.check(re.search(r"backtrace:\n +" + trace.lstrip(), text) or re.search(r"backtrace:\n.*" + trace, text),
                    f"{name} at EL{el}: the backtrace has {trace!r}")
            if name not in NO_REGISTERS:
                head = rf"^exception class 0x[0-9a-f]+ \(.*\), synchronous, syndrome 0x[0-9a-f]+ at EL{el}$"
                t.check(re.search(head, text, re.M), f"{name}: the exception's head")
                t.check(re.search(r"^pc  [0-9a-f]{16} .* pstate ", text, re.M) and "x29 " in text, f"{name}: registers")


@case(limit_s=180, arch="arm64")
def arm64_sizes(t):
    """From the least memory to 64 GiB: the boot is the same; below the least it ends with a reason."""
    seen = {}
    for size, el2 in (("8M", False), ("8M", True), ("32M", False), ("1G", True), ("4G", False), ("64G", True)):
        options, cpu, el = LEVELS[el2]
        vm = t.plain("image", HELLO, mem=size, cmdline="selftest=memory", extra=machine(options, cpu))
        vm.expect(GREETING + "Linux boot protocol", 40)
        t.check("self test memory: 0 faults" in vm.console, f"{size} at EL{el}: the tables")
        found = re.search(r"mm: (\d+) MiB of RAM in \d+ ranges", vm.console)
        seen[size] = int(found[1])
        t.kill(vm)
    t.check(seen["64G"] > 65000 and seen["4G"] > 4000 and 4 <= seen["8M"] < 8, f"what is seen of it: {seen}")
    vm = t.plain("image", HELLO, mem="5M", extra=machine(*LEVELS[0][:2]))
    vm.panicked = lambda: None
    vm.expect(r"panic: the memory map has \d+ KiB of usable RAM, at least 4096 are needed", 30)


@case(limit_s=60, arch="arm64")
def arm64_elf(t):
    """The ELF file starts like the flat image: QEMU leaves the tree at the start of RAM then, and says so to nobody."""
    for options, cpu, el in LEVELS:
        vm = t.plain("image", HELLO.replace(".bin", ".elf"), mem="64M", cmdline="selftest=memory",
                     extra=machine(options, cpu))
        vm.expect(GREETING + "Linux boot protocol", 30)
        t.check("self test memory: 0 faults" in vm.console and f", EL{el}" in vm.console, f"EL{el}: tables and level")
        t.kill(vm)


@case(limit_s=60)
def arm64_copies(t):
    """memcpy, memmove and memset, written for the processor: every small length at every alignment."""
    for options, cpu, _ in LEVELS:
        vm = t.plain("image", HELLO, mem="64M", cmdline="selftest=copies", extra=machine(options, cpu))
        vm.expect(r"self test copies: 0 faults, \d+ tried", 30)
        t.kill(vm)


def tree_of(t, options, cpu):
    """The tree that QEMU makes for a machine; it is patched in place, so nothing may change its length."""
    path = t.path("virt.dtb")
    subprocess.run(["qemu-system-aarch64", "-machine", f"virt,gic-version=3,{options},dumpdtb={path}", "-cpu", cpu,
                    "-m", "64M", "-nographic", "-nodefaults"], check=True, capture_output=True, timeout=30)
    with open(path, "rb") as f:
        return f.read()


def with_property(tree, name, value):
    """The tree with one more property of /chosen."""
    words = list(struct.unpack_from(">10I", tree))
    structs, strings, string_bytes = words[2], words[3], words[8]
    at = tree.index(b"\0\0\0\1chosen\0\0", structs) + 12
    added = struct.pack(">3I", 3, len(value), string_bytes) + value + bytes(-len(value) % 4)
    text = name.encode() + b"\0"
    words[1] = len(tree) + len(added) + len(text)
    words[3], words[8], words[9] = strings + len(added), string_bytes + len(text), words[9] + len(added)
    end = strings + string_bytes
    return struct.pack(">10I", *words) + tree[40:at] + added + tree[at:end] + text + tree[end:]


def by_stub(t, options, cpu, name, tree, dtb, image, memory="64M", extra=()):
    """A loader of four instructions: image and tree lie wherever they are told to."""
    patched, code = t.path(f"{name}.dtb"), t.path("start.bin")
    with open(patched, "wb") as f:
        f.write(tree)
    with open(code, "wb") as f:                # ldr x0, tree; ldr x4, image; br x4; nop
        f.write(struct.pack("<4I2Q", 0x58000080, 0x580000A4, 0xD61F0080, 0xD503201F, dtb, image))
    return t.plain("image", HELLO, mem=memory, extra=[
        *machine(options, cpu), "-bios", code, *extra, "-device", f"loader,file={HELLO},addr={image:#x},force-raw=on",
        "-device", f"loader,file={patched},addr={dtb:#x},force-raw=on"])


@case(limit_s=120, arch="arm64")
def arm64_odd_places(t):
    """Tree and RAM disk at odd addresses, the image in the middle of a block, in two, at the end of one: each boots."""
    base, odd = 1 << 30, struct.pack(">Q", (1 << 30) + 0x2000003)
    for options, cpu, el in LEVELS:
        tree = with_property(tree_of(t, options, cpu), "bootargs", b"selftest=memory\0")
        initrd = with_property(with_property(tree, "linux,initrd-start", odd), "linux,initrd-end",
                               struct.pack(">Q", (1 << 30) + 0x2012345))
        for what, given, dtb, image in (("tree + 4", tree, 0x3000004, 0x200000),
                                        ("tree + 1", tree, 0x3000001, 0x200000),
                                        ("RAM disk", initrd, 0x3000000, 0x200000),
                                        ("image + 4 KiB", tree, 0x3000000, 0x201000),
                                        ("image + 1.5 MiB", tree, 0x3000000, 0x580000),
                                        ("image + 2 MiB - 4 KiB", tree, 0x3000000, 0x7FF000)):
            vm = by_stub(t, options, cpu, what.replace(" ", "-"), given, base + dtb, base + image)
            vm.expect(GREETING + "Linux boot protocol", 30)
            t.check("self test memory: 0 faults" in vm.console and f", EL{el}" in vm.console, f"{what}: tables, level")
            t.kill(vm)


@case(limit_s=90, arch="arm64")
def arm64_early_faults(t):
    """A tree whose system table of UEFI lies where nothing answers: said on the console that the same tree names."""
    for options, cpu, el in LEVELS:
        nowhere = struct.pack(">Q", 0x3FFFFFF000)
        tree = with_property(tree_of(t, options, cpu), "linux,uefi-system-table", nowhere)
        vm = by_stub(t, options, cpu, "nowhere", tree, 0x43000000, 0x40200000)
        vm.panicked = lambda: None
        vm.expect(r"^panic: page fault: read of not answering \(external abort\) address", 30)
        vm.expect(r"boot_efi_acpi\+", 10)
        t.check(f"at EL{el}" in vm.console, "the report says at which level")
        t.kill(vm)


@case(limit_s=90, arch="arm64")
def arm64_high_memory(t):
    """All memory above 4 GiB, or above 512 GiB: the kernel, the tree and its first pages lie there. QEMU's own memory
    stays where it is, and the tree is silent about it."""
    for cpu, base in (("cortex-a72", 5 << 30), ("neoverse-n1", 513 << 30)):
        image, dtb, size = base + (2 << 20), base + (128 << 20), 256 << 20
        tree, old = tree_of(t, "virtualization=off", cpu), struct.pack(">QQ", 1 << 30, 64 << 20)
        t.equal(tree.count(old), 1, "the tree has one range of memory")
        new = struct.pack(">QQ", base, size)
        vm = by_stub(t, "virtualization=off", cpu, "high", tree.replace(old, new), dtb, image, extra=[
            "-m", f"slots=1,maxmem={(base + size >> 20) + 1024}M",
            "-object", f"memory-backend-ram,id=high,size={size}", "-device", f"pc-dimm,memdev=high,addr={base:#x}"])
        vm.expect(GREETING + "Linux boot protocol", 30)
        t.check("mm: 254 MiB of RAM" in vm.console, f"memory at {base >> 30} GiB: all of it")
        t.kill(vm)


@case(limit_s=120, arch="arm64")
def arm64_trees(t):
    """Trees that lack the console, the timer, the interrupt controller, PSCI: each boots, or says what is missing."""
    options, cpu, _ = LEVELS[0]
    tree = tree_of(t, options, cpu)

    def start(name, *changes, words="panic=off"):
        patched = tree
        for old, new in changes:
            t.check(old in patched and len(old) == len(new), f"{name}: the tree has {old!r}")
            patched = patched.replace(old, new)
        path = t.path(f"{name}.dtb")
        with open(path, "wb") as f:
            f.write(patched)
        return t.plain("image", HELLO, mem="64M", cmdline=words, extra=machine(options, cpu) + ["-dtb", path])

    vm = start("silent", (b"arm,pl011\0", b"arm,xx011\0"), words="selftest=assert panic=off")
    t.equal(vm.wait(40), 0, "no console: it runs, and powers off at its end")
    t.equal(vm.console, "", "and is silent")
    vm = start("no-timer", (b"arm,armv8-timer\0", b"arm,xxxxx-timer\0"))
    vm.expect(GREETING, 30)
    t.check("timer: local" in vm.console, "no timer's node: the architecture's usual number")
    t.kill(vm)
    vm = start("no-gic", (b"arm,gic-v3\0", b"arm,xxx-v3\0"))
    vm.expect(r"no interrupt controller", 30)
    t.kill(vm)
    vm = start("no-psci", (b"arm,psci-1.0\0", b"arm,xxxx-1.0\0"), (b"arm,psci-0.2\0", b"arm,xxxx-0.2\0"),
               words="selftest=assert panic=off")
    t.equal(vm.wait(30), 0, "nobody names PSCI: it is tried")
