# SPDX-License-Identifier: BSD-2-Clause
"""The network: the status page, DHCP and ICMP as an independent program on the wire sees them, TCP in bulk, iperf."""
import random
import re
import socket
import time
import zlib

import nbdclient as nbd
from etherpeer import Peer
from harness import case
from labvm import Disk, WireNet


@case(limit_s=60)
def http_status(t):
    """curl reads the status page and /metrics; the numbers move; unknown pages are 404; a bad request harms nobody."""
    path = t.random_disk("disk.img", 1)
    vm = t.lab(disks=[Disk(path)])
    base = f"http://127.0.0.1:{vm.ports['http']}"
    page = t.run("curl", "-sSf", "-m", "10", base + "/")
    for word in ("<html", "</html>", "disk0", "nic0", "10.0.2.15", "Boot", "application", "Version"):
        t.check(word in page, f"the status page has {word!r}")
    first = metrics(t, base)
    t.check(len(first) > 5, f"{len(first)} metrics")
    with nbd.Client(vm.ports["nbd"]).go("disk0") as client:
        for n in range(10):
            client.read(4096 * n, 4096)
    second = metrics(t, base)
    moved = [name for name, value in first.items() if second.get(name, 0) > value]
    for name in ('candela_disk_reads_total{disk="disk0"}', "candela_hv_signals_total", "candela_hv_interrupts_total",
                 "candela_channel_packets_out", "candela_netvsc_rx_packets_total"):
        t.check(name in moved, f"{name} moves with reads; what moved: {moved}")
    t.equal(t.run("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", base + "/nonsense"), "404", "an unknown page")
    for garbage in (b"\0" * 100, b"GET " + b"x" * 20000, b"POST / HTTP/1.1\r\n\r\n", b""):
        with socket.create_connection(("127.0.0.1", vm.ports["http"]), 5) as s:
            try:
                s.sendall(garbage)
            except OSError:
                pass
    t.run("curl", "-sSf", "-m", "10", base + "/")


def metrics(t, base):
    """The Prometheus text, every line of it checked: name -> value."""
    values = {}
    for line in t.run("curl", "-sSf", "-m", "10", base + "/metrics").splitlines():
        if line.startswith("# HELP ") or line.startswith("# TYPE ") or not line:
            continue
        found = re.fullmatch(r'([a-zA-Z_:][a-zA-Z0-9_:]*(?:\{[^}]*\})?) (-?[0-9.e+]+)', line)
        t.check(found, f"not Prometheus text: {line!r}")
        values[found[1]] = float(found[2])
    return values


@case(limit_s=90)
def dhcp_and_ping(t):
    """DHCP, ARP, ping of several sizes (with fragments) and IPv6 ping, as an Ethernet peer in Python sees them."""
    vm_net = WireNet(t.socket_path("guest"), t.socket_path("peer"))
    peer = Peer(vm_net.guest_path, vm_net.peer_path).start()
    try:
        vm = t.lab(ready=None, disks=[], net=[vm_net])
        t.check(peer.wait(lambda: peer.leased, 40), f"an address is asked for and taken by DHCP; seen {peer.seen}")
        vm.expect(r"10\.77\.0\.15", 20)
        t.check(any(peer.ping(sequence=n, limit_s=4) for n in range(1, 6)), "the first ping is answered")
        for sequence, size in enumerate((0, 1, 56, 57, 1000, 1472), 10):
            t.check(peer.ping(size, sequence=sequence) is not None, f"ping of {size} bytes is answered unchanged")
        t.check(peer.ping(4000, sequence=30, fragment=1480) is not None, "ping of 4000 bytes in fragments")
        lost = sum(peer.ping(sequence=100 + n) is None for n in range(100))
        t.equal(lost, 0, "lost of 100 pings")
        if peer.wait(lambda: peer.guest_ip6, 10):
            t.check(any(peer.ping6(sequence=n) for n in range(1, 4)), "IPv6 ping is answered")
        else:
            t.check(False, f"the guest has a link-local IPv6 address; seen {peer.seen}")
        # Frames that lie about themselves must neither be answered nor do harm.
        junk = random.Random(1)
        for n in range(300):
            ethertype = junk.choice((b"\x08\x00", b"\x86\xdd", b"\x08\x06", junk.randbytes(2)))
            peer.send_raw(peer.guest_mac + b"\x52\x54\0\0\0\1" + ethertype + junk.randbytes(junk.randrange(0, 1500)))
        t.check(any(peer.ping(sequence=n, limit_s=4) for n in range(300, 305)), "alive after 300 frames of garbage")
        t.equal(peer.bad, [], "bad packets from the guest")
    finally:
        peer.stop()


@case(limit_s=90)
def nic_add_remove(t):
    """The NIC is unplugged and plugged in again: the address comes back, clients can connect again."""
    path = t.random_disk("disk.img", 1)
    vm = t.lab(disks=[Disk(path)])
    vm.command("link 0 down", r"^lab-command: link 0 down: done")
    vm.expect(r"link down", 10)
    vm.command("link 0 up", r"^lab-command: link 0 up: done")
    t.wait_nbd(vm)
    mark = len(vm.console)
    vm.command("nic-remove 0", r"^lab-command: nic-remove 0.*: done")
    vm.expect(r"removed|gone", 20, start=mark)
    mark = len(vm.console)
    vm.command("nic-add 0", r"^lab-command: nic-add 0.*: done")
    t.wait_nbd(vm)
    with nbd.Client(vm.ports["nbd"]).go("disk0") as client:
        t.equal(client.read(0, 512), open(path, "rb").read(512), "a read afterwards")


IPERF_PORTS = {"iperf": 5001, "source": 5002, "sink": 5003, "udp echo": 5004}
PATTERN = bytes((j * j + 7 * j) % 256 for j in range(65521)) * 18      # apps/iperf: the period, then enough for slices


def iperf_machine(t):
    vm = t.lab(ready=None, app="iperf", disks=[], forward=IPERF_PORTS)
    vm.expect(r"10\.0\.2\.15", 40)
    return vm


@case(limit_s=150)
def tcp_bulk(t):
    """200 MiB through TCP each way, CRC-32 compared at both ends."""
    bulk(t, 200 << 20)


def bulk(t, total):
    vm, period = iperf_machine(t), 65521
    with socket.create_connection(("127.0.0.1", vm.ports["source"]), 30) as s:
        s.sendall(b"%d\n" % total)
        got, crc, started = 0, 0, time.monotonic()
        while data := s.recv(1 << 20):
            at = got % period
            t.check(data == PATTERN[at:at + len(data)], f"the bytes from {got} on are the pattern")
            got += len(data)
            crc = zlib.crc32(data, crc)
        t.equal(got, total, "bytes from the guest")
        t.note(f"from the guest: {(total >> 20) / (time.monotonic() - started):.0f} MiB/s")
    with socket.create_connection(("127.0.0.1", vm.ports["sink"]), 60) as s:
        sent, started = 0, time.monotonic()
        while sent < total:
            at = sent % period
            piece = PATTERN[at:at + min(1 << 20, total - sent)]
            s.sendall(piece)
            sent += len(piece)
        s.shutdown(socket.SHUT_WR)
        answer = b""
        while data := s.recv(1000):
            answer += data
        t.note(f"to the guest: {(total >> 20) / (time.monotonic() - started):.0f} MiB/s: {answer.decode()}")
    expected = f"{total} bytes, crc32 {crc:08x}"
    t.check(answer.decode().lower().startswith(expected), f"the guest says {answer!r}, expected {expected!r}")


@case(limit_s=60)
def udp_echo(t):
    """UDP datagrams of every size come back unchanged."""
    vm = iperf_machine(t)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(3)
        sent, answered = {}, set()
        for size in list(range(1, 1473, 37)) + [1472]:
            sent[size] = random.Random(size).randbytes(size)
            for _ in range(5):
                s.sendto(sent[size], ("127.0.0.1", vm.ports["udp echo"]))
                try:
                    while size not in answered:       # a late answer to an earlier one may come first
                        data = s.recv(65536)
                        t.check(data == sent.get(len(data)), f"a datagram of {len(data)} bytes")
                        answered.add(len(data))
                    break
                except socket.timeout:
                    pass
        t.equal(len(answered), 41, "sizes answered")


@case(limit_s=90)
def iperf(t):
    """iperf 2 against the iperf application: one stream, then two at once."""
    vm = iperf_machine(t)
    for streams in (1, 2):
        output = t.run("iperf", "-c", "127.0.0.1", "-p", vm.ports["iperf"], "-t", "2", "-f", "m", "-P", streams,
                       limit_s=30)
        rates = [float(r) for r in re.findall(r"([\d.]+) Mbits/sec", output)]
        t.check(rates and max(rates) > 1, f"iperf reports a rate: {output}")
