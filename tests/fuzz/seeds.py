#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Seeds for the fuzzers from real traffic: `make && tests/fuzz/seeds.py` writes tests/fuzz/corpus/TARGET/lab-*.

Three machines run in the lab with trace=bytes (everything that the host tells the guest, tests/host/host_report.c): a
current one that is used by NBD and HTTP clients, asked for keys, memory and its end; one on an old host; one whose devices
come and go. What their hosts said becomes orders of tests/fuzz/lies.h: "say this instead". What clients said is taken by a
proxy between them and the guest. Loaders' structures are put together here from what the guest printed of them.
"""
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
from labvm import Disk, LabVM, PlainVM, VMError  # noqa: E402

CORPUS = "tests/fuzz/corpus"
INPUT_BYTES = 4096                            # run.py gives libFuzzer no longer ones
REPLACE, BEFORE = 2, 7                        # orders of lies.h
COMPLETION = 11                               # the type of a packet
OFFER, RESCIND = struct.pack("<I", 1), struct.pack("<I", 2)
IC_KINDS = ["shutdown", "heartbeat", "timesync", "kvp"]


def put(target, name, data):
    folder = f"{CORPUS}/{target}"
    os.makedirs(folder, exist_ok=True)
    with open(f"{folder}/lab-{name}", "wb") as f:
        f.write(data)


def order(number, payload):
    return struct.pack("<BH", number, len(payload)) + payload


def put_orders(target, name, first, orders):
    """As many of the orders, from the first on, as one input holds."""
    data = first
    for o in orders:
        if len(data) + len(o) <= INPUT_BYTES:
            data += o
    put(target, name, data)
    if target in ("ring", "storvsc", "nvsp", "balloon"):       # the same to a device that is up, and stays
        put(target, name + "-up", bytes([data[0] | 128]) + data[1:])


class Proxy:
    """Listens on a free port, forwards to another, and keeps what the clients said."""

    def __init__(self, port):
        self.to, self.said = port, []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self.to))
            kept = bytearray()
            self.said.append(kept)
            threading.Thread(target=self.pump, args=(client, server, kept), daemon=True).start()
            threading.Thread(target=self.pump, args=(server, client, bytearray()), daemon=True).start()

    @staticmethod
    def pump(source, target, kept):
        try:
            while data := source.recv(65536):
                kept += data
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass


def client(*command):
    subprocess.run(command, check=True, timeout=60, stdout=subprocess.DEVNULL)


def told(vm):
    """What the host said: [what, bytes] in order; what: "message", "netvsp 11 0" (device, type, bytes of header), ..."""
    everything = []
    for what, data in re.findall(r"bytes: (\+|[a-z ]+?(?: \d+ \d+)?) ((?:[0-9a-f]{2})*)\r?$", vm.lines["lab"].text,
                                 re.MULTILINE):
        if what != "+":
            everything.append([what, b""])
        if everything:
            everything[-1][1] += bytes.fromhex(data)
    return everything


def current_host(work):
    """A machine of today, its clients and its administrator; returns (trace, NBD clients, HTTP clients)."""
    disks = []
    for name, size in (("a.img", 4), ("b.img", 8)):
        path = os.path.join(work, name)
        with open(path, "wb") as f:
            f.truncate(size << 20)
        disks.append(Disk(path, writable=True))
    with LabVM(work, disks=disks, forward={"nbd": 10809, "http": 80}, cmdline="nbd.write=disk1",
               lab={"trace": "bytes", "ic.heartbeat_ms": 500}) as vm:
        vm.expect(r"serving nbd", 120)
        nbd, http = Proxy(vm.ports["nbd"]), Proxy(vm.ports["http"])
        uri = f"nbd://127.0.0.1:{nbd.port}/"
        client("nbdinfo", "--list", uri)
        client("qemu-img", "info", uri + "disk0")
        client("qemu-io", "-f", "raw", "-c", "write -P 7 0 4k", "-c", "discard 8k 8k", "-c", "write -z 64k 4k",
               "-c", "flush", "-c", "read 0 8k", uri + "disk1")
        for path in ("/", "/metrics", "/nothing"):
            subprocess.run(["curl", "-s", "-o", "/dev/null", f"http://127.0.0.1:{http.port}{path}"], timeout=30, check=True)
        client("curl", "-s", "-o", "/dev/null", "-I", f"http://127.0.0.1:{http.port}/")
        for words in ("kvp-set key value", "kvp-get 0 key", "kvp-enum 2", "kvp-ip mac", "kvp-delete key", "time-sync 3",
                      "balloon 500", "unballoon 500", "renegotiate kvp"):
            vm.command(words, r"lab-command: .*: (done|refused)")
            time.sleep(1)
        vm.command("shutdown off the end of the seeds")
        vm.wait(60)
        return told(vm), nbd.said, http.said


def old_host(work):
    with LabVM(work, forward={"nbd": 10809}, lab={"trace": "bytes", "vmbus.version": "4.0", "netvsp.version": "5.0",
                                                  "storvsp.version": "5.1", "balloon.version": "1.0"}) as vm:
        vm.expect(r"serving nbd|10\.0\.2\.15", 120)
        vm.command("balloon 100", r"lab-command: .*: (done|refused)")
        time.sleep(2)
        return told(vm)


def coming_and_going(work):
    path = os.path.join(work, "c.img")
    with open(path, "wb") as f:
        f.truncate(4 << 20)
    with LabVM(work, disks=[Disk(path)], forward={"nbd": 10809}, lab={"trace": "bytes"}) as vm:
        vm.expect(r"serving nbd", 120)
        for words in ("link 0 down", "link 0 up", "lun-remove 0", "lun-add 0", "nic-remove 0", "nic-add 0",
                      "balloon-remove", "balloon-add"):
            vm.command(words, r"lab-command: .*: (done|refused)")
            time.sleep(2)
        return told(vm)


def machine_seeds(name, trace):
    """The orders that repeat what this host said, for each target that it concerns."""
    messages = [data for what, data in trace if what == "message"]
    put_orders("bus", name, b"\x20", [order(REPLACE, m) for m in messages])
    told_offers = [m for m in messages if m[:4] in (OFFER, RESCIND)]
    put_orders("offers", name, b"\0", [struct.pack("<BH", 15, len(m)) + m for m in told_offers])
    packets = {}
    for what, data in trace:
        found = re.fullmatch(r"(?:ic )?([a-z]+) (\d+) \d+", what)
        if found:
            packets.setdefault(found[1], []).append((int(found[2]), data))
    data_in = [data for what, data in trace if what == "scsi data"]
    rndis = [data for what, data in trace if what == "rndis"]

    def replies(service, kind=None):
        return [d for t, d in packets.get(service, []) if kind is None or t == kind]

    put_orders("storvsc", name, b"\x04", [order(REPLACE, d) for d in replies("storvsp", COMPLETION)])
    put_orders("storvsc", name + "-data", b"\x0c", [order(REPLACE, d) for d in data_in])
    put_orders("nvsp", name, b"\x40", [order(REPLACE, d[:256]) for d in replies("netvsp", COMPLETION)[:20]])
    put_orders("rndis", name, b"\x01", [order(REPLACE, d) for d in rndis[:20]])
    for n, message in enumerate(sorted({m for m in rndis if len(m) <= 700}, key=len)[:6]):
        put("rndis", f"{name}-{n}", b"\x40\x02\x00" + struct.pack("<H", len(message)) + message)
    kinds = {k: v for k, v in packets.items() if k in IC_KINDS}
    for kind, said in kinds.items():
        step = bytes([IC_KINDS.index(kind)])
        put_orders("ic", f"{name}-{kind}", b"\x02", [step + order(BEFORE, d[:700]) for _, d in said[:8]])
    put_orders("balloon", name, b"\x00", [b"\0" + order(BEFORE, d[:300]) for _, d in packets.get("balloon", [])[:12]])
    for service in ("netvsp", "storvsp"):      # in place, and an interrupt
        put_orders("ring", f"{name}-{service}", b"\0",
                   [struct.pack("<BHBBH", 2 | 64, t, 0, n % 2, len(d)) + d
                    for n, (t, d) in enumerate(packets.get(service, [])[:12])])
    return len(messages), {k: len(v) for k, v in packets.items()}, len(data_in), len(rndis)


def client_seeds(nbd, http):
    for n, said in enumerate(sorted(map(bytes, nbd), key=len)[:8]):
        body = b"".join(b"\x00" + struct.pack("<H", len(said[i:i + 512])) + said[i:i + 512]
                        for i in range(0, min(len(said), 2048), 512))
        put("nbd", f"client-{n}", b"\x07" + body)
    for n, said in enumerate(map(bytes, http)):
        put("http", f"client-{n}", said)


def acpi_seeds(work):
    """The tables of QEMU's firmware, read from the memory of a machine that has booted."""
    monitor = os.path.join(work, "monitor")
    extra = ["-monitor", f"unix:{monitor},server=on,wait=off", "-no-shutdown"]
    with PlainVM(work, "pvh", "build/x86_64/candela-hello.elf", mem="128M", extra=extra) as vm:
        vm.expect(r"RSDP at", 60)
        rsdp = int(re.search(r"RSDP at (0x[0-9a-f]+)", vm.console)[1], 16)
        s = socket.socket(socket.AF_UNIX)
        s.connect(monitor)

        def memory(address, count):
            path = os.path.join(work, "piece")
            s.sendall(f"pmemsave {address} {count} {path}\n".encode())
            for _ in range(100):
                time.sleep(0.05)
                if os.path.exists(path) and os.path.getsize(path) == count:
                    break
            with open(path, "rb") as f:
                data = f.read()
            os.remove(path)
            return data

        def table(address):
            return memory(address, struct.unpack("<I", memory(address, 8)[4:8])[0])

        root = table(struct.unpack("<I", memory(rsdp, 20)[16:20])[0])
        entries = [table(a) for a in struct.unpack(f"<{(len(root) - 36) // 4}I", root[36:])]
        fadt = next(t for t in entries if t[:4] == b"FACP")
        dsdt = table(struct.unpack("<I", fadt[40:44])[0])
        s.close()
    at = dsdt.find(b"_S5_")
    dsdt = bytearray(dsdt[:36] + dsdt[at - 1:at + 24])
    dsdt[4:8] = struct.pack("<I", len(dsdt))
    area = 0x80000

    def page(n, data, offset=0):
        return struct.pack("<BBH", n, offset // 4, len(data)) + data

    new_fadt = bytearray(fadt)
    new_fadt[40:44] = struct.pack("<I", area + 0x3000)
    if len(new_fadt) >= 148:
        new_fadt[140:148] = bytes(8)
    oem = b"OEM0" + struct.pack("<IBB6s8s", 100, 1, 0, b"VRTUAL", b"MICROSFT") + bytes(12) + bytes(range(64))
    for extended in (False, True):
        step = "<3Q" if extended else "<3I"
        body = struct.pack(step, area + 0x2000, area + 0x4000, area + 0x5000)
        head = (b"XSDT" if extended else b"RSDT") + struct.pack("<I", 36 + len(body)) + root[8:36]
        r = b"RSD PTR \0BOCHS " + struct.pack("<BIIQI", 2 if extended else 0, area + 0x1000, 36,
                                              area + 0x1000 if extended else 0, 0)
        ssdt = b"SSDT" + struct.pack("<I", len(dsdt)) + bytes(dsdt[8:])
        pieces = (page(0, r) + page(1, head + body) + page(2, bytes(new_fadt)) + page(3, bytes(dsdt)) + page(4, oem) +
                  page(5, ssdt))
        put("acpi", "qemu-xsdt" if extended else "qemu-rsdt", b"\x01" + pieces)
        put("acpi", "searched" if extended else "searched-rsdt", b"\x03" + pieces)


def aml_name(name, value):
    return b"\x08" + name + value


def aml_device(name, body):
    rest = name + body
    n = len(rest) + 2                              # PkgLength of two bytes
    return b"\x5b\x82" + bytes((0x40 | n & 15, n >> 4)) + rest


def acpi_arm_seed():
    """What an arm64 machine of Hyper-V's kind is told; VMBus in the DSDT, a second one in an SSDT."""
    area = 0x80000

    def table(name, body):
        return name + struct.pack("<I", 36 + len(body)) + bytes(28) + body

    def crs(*irqs):
        r = b"\x89" + struct.pack("<HBB", 2 + 4 * len(irqs), 3, len(irqs)) + struct.pack(f"<{len(irqs)}I", *irqs) + b"\x79\0"
        return b"\x11" + bytes((3 + len(r), 0x0A, len(r))) + r

    fadt = bytearray(276)
    fadt[40:44] = struct.pack("<I", area + 0x3000)
    fadt[129:131] = b"\x03\x00"
    fadt[268:276] = b"MsHyperV"
    gicc = b"".join(struct.pack("<BBHIIIIIQQQQIQQI", 11, 80, 0, n, n, 1, 0, 0, 0, 0, 0, 0, 0,
                                0xEFFEE000 + n * 0x20000, n, 0) for n in range(2))
    gicd = struct.pack("<BBHIQIBBH", 12, 24, 0, 0, 0xFFFF0000, 0, 3, 0, 0)
    gicr = struct.pack("<BBHQI", 14, 16, 0, 0x80A0000, 0xF60000)
    bus = aml_device(b"VMBS", aml_name(b"_HID", b"\x0dVMBus\0") + aml_name(b"_CRS", crs(18)))
    other = aml_device(b"VMB8", aml_name(b"_CID", b"\x0dMSFT1000\0") + b"\x14\x20_CRS\x00" + crs(22, 23))
    tables = {
        1: table(b"XSDT", struct.pack("<5Q", *(area + n * 0x1000 for n in (2, 4, 5, 6, 7)))),
        2: table(b"FACP", bytes(fadt[36:])),
        3: table(b"DSDT", aml_device(b"VMOD", aml_name(b"_HID", b"\x0dACPI0004\0") + bus)),
        4: table(b"APIC", bytes(8) + gicc + gicd + gicr),
        5: table(b"GTDT", bytes(28) + struct.pack("<IIIII", 20, 0, 26, 0, 0) + bytes(20)),
        6: table(b"SPCR", b"\x03" + bytes(7) + struct.pack("<Q", 0xEFFEC000) + bytes(28)),
        7: table(b"SSDT", other),
    }
    r = b"RSD PTR \0VRTUAL" + struct.pack("<BIIQI", 2, 0, 36, area + 0x1000, 0)
    put("acpi", "arm64", b"\x01" + struct.pack("<BBH", 0, 0, len(r)) + r +
        b"".join(struct.pack("<BBH", n, 0, len(t)) + t for n, t in tables.items()))


def boot_seeds():
    """As QEMU (PVH), OpenVMM (Linux) and GRUB (Multiboot2) leave them; addresses as fuzz_boot.c has them."""
    base = 0x10000
    e820 = [(0, 0x9FC00, 1), (0x9FC00, 0x400, 2), (0xF0000, 0x10000, 2), (0x100000, 0x7EE0000, 1),
            (0x7FE0000, 0x20000, 3), (0xB0000000, 0x10000000, 2), (0x100000000, 0x40000000, 1)]
    line = b"loglevel=debug net.address=10.0.2.15/24\0"
    regions = b"".join(struct.pack("<QQII", a, n, t, 0) for a, n, t in e820)
    module = struct.pack("<QQQQ", 0x8000000, 0x1234, base + 0x100, 0)
    pvh = struct.pack("<IIIIQQQQII", 0x336EC578, 1, 0, 1, base + 0x80, base + 0x100, 0xF5A60, base + 0x200, len(e820), 0)
    put("boot", "pvh", b"\x06" + (pvh.ljust(0x80, b"\0") + module).ljust(0x100, b"\0") + line.ljust(0x100, b"\0") + regions)
    zero = bytearray(4096)
    zero[0x0F] = 0x70
    zero[0x12:0x18] = struct.pack("<HHH", 1024, 768, 32)
    zero[0x18:0x1C] = struct.pack("<I", 0xF8000000)
    zero[0x24:0x28] = struct.pack("<HBB", 4096, 8, 16)
    zero[0x36:0x3E] = struct.pack("<II", 2, 1)
    zero[0x70:0x78] = struct.pack("<Q", 0xE0000)
    zero[0x1E8] = len(e820)
    zero[0x202:0x206] = b"HdrS"
    zero[0x218:0x220] = struct.pack("<II", 0x8000000, 0x1234)
    zero[0x228:0x22C] = struct.pack("<I", base + 0xF00)
    zero[0x2D0:0x2D0 + 20 * len(e820)] = b"".join(struct.pack("<QQI", *e) for e in e820)
    zero[0xF00:0xF00 + len(line)] = line
    put("boot", "linux", b"\x04" + bytes(zero))

    def tag(number, payload):
        return (struct.pack("<II", number, 8 + len(payload)) + payload).ljust(-(-(8 + len(payload)) // 8) * 8, b"\0")

    descriptors = b"".join(struct.pack("<IIQQQQ", t, 0, a, 0, n, 0xF) + bytes(8)
                           for t, a, n in ((7, 0, 0x9F), (7, 0x100000, 0x700), (4, 0x800000, 8), (9, 0x900000, 4),
                                           (11, 0xFFC00000, 0x400), (0, 0xB0000000, 16)))
    tags = (tag(1, line) + tag(2, b"GRUB 2.06\0") + tag(3, struct.pack("<II", 0x8000000, 0x8001234) + b"disk\0") +
            tag(6, struct.pack("<II", 24, 0) + regions) + tag(14, b"RSD PTR \0BOCHS \0" + bytes(4)) +
            tag(15, b"RSD PTR \0BOCHS \2" + bytes(20)) + tag(12, struct.pack("<Q", 0x7FE0000)) + tag(18, b"") +
            tag(8, struct.pack("<QIIIBBH", 0xFD000000, 4096, 1024, 768, 32, 1, 0) + bytes([16, 8, 8, 8, 0, 8])))
    for name, extra in (("bios", b""), ("efi", tag(17, struct.pack("<II", 48, 1) + descriptors))):
        whole = tags + extra + tag(0, b"")
        put("boot", "multiboot2-" + name, b"\x05" + struct.pack("<II", 8 + len(whole), 0) + whole)
    put("efi", "map", b"\x00\x01" + descriptors)
    put("efi", "many", b"\x00\x00" + b"".join(struct.pack("<IIQQQQ", 7 if n % 2 else 0, 0, n << 20, 0, 4, 0xF)
                                              for n in range(300)))      # more than fit
    put("efi", "options", b"\x01\x05\x00" + "BOOTX64.EFI loglevel=debug args=\"a b\"".encode("utf-16-le"))
    put("efi", "time", b"\x02" + struct.pack("<HBBBBBBIhBB", 2026, 11, 20, 10, 45, 1, 0, 0, -60, 0, 0))


def frame_seeds():
    """What the lab's wire never brings: per-packet information, and each status."""
    def ppi(kind, value):
        return struct.pack("<IIII", 16, kind, 12, value)

    def raw(message):
        return b"\x02\x00" + struct.pack("<H", len(message)) + message

    frame = bytes(range(100))
    for name, infos in (("checksum", [ppi(0, 0x14)]), ("vlan", [ppi(6, 0x50), ppi(0, 1 << 4)]), ("odd", [ppi(9, 7), ppi(6, 1)])):
        body = b"".join(infos)
        message = struct.pack("<11I", 1, 44 + len(body) + len(frame), 36 + len(body), len(frame), 0, 0, 0, 36, len(body), 0, 0)
        put("rndis", "made-" + name, b"\x40" + raw(message + body + frame))
    statuses = b"".join(raw(struct.pack("<6I", 7, 24, status, 4, 12, 10_000_000))
                        for status in (0x4001000B, 0x4001000C, 0x40010013, 0x40010018))
    put("rndis", "made-status", b"\x40" + statuses)


def config_seeds():
    with open("boot/efi/candela.conf", "rb") as f:
        sample = f.read()
    words = b"# a machine\r\nnet.address=10.0.0.2/24\nargs=one two\nnbd.allow=\"10.0.0.0/8\" # why\nhv.bounce=64M\nloglevel=info\n"
    put("config", "sample", b"\x00" + sample)
    put("config", "words", b"\x00" + words)
    put("config", "utf16", b"\x00\xff\xfe" + words.decode().encode("utf-16-le"))
    put("config", "line", b"\x01" + b"loglevel=debug net.mtu=9000 hv.bounce=0x200K memory.floor=2M nbd.allow=\"a b\" a=yes b=off x")


def main():
    os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
    os.makedirs("build", exist_ok=True)
    work = tempfile.mkdtemp(dir="build", prefix="seeds-")
    try:
        trace, nbd, http = current_host(work)
        print("current host:", machine_seeds("now", trace))
        client_seeds(nbd, http)
        print("old host:", machine_seeds("old", old_host(work)))
        print("devices that come and go:", machine_seeds("changes", coming_and_going(work)))
        acpi_seeds(work)
        acpi_arm_seed()
        boot_seeds()
        frame_seeds()
        config_seeds()
    except VMError as error:
        sys.exit(f"seeds.py: {error}")
    finally:
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
