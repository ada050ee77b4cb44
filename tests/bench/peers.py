# SPDX-License-Identifier: BSD-2-Clause
"""The other end of the bench's network workloads, behind QEMU's user network; the same for every guest.

Those that take `vm` drive one workload of the guest, which says "ready" on its console (the text that came before
`start` does not count), and return when its part is done.
"""
import socket
import threading
import time

import nbdclient
from measure import RUN_LIMIT_S

UDP_BYTES = 1024
BURST = 8
BURST_PAUSE_S = 0.002


def send_datagrams(vm, start=0):
    """Keeps a few datagrams on their way until the guest has had enough: what is lost is sent again."""
    vm.expect("ready", RUN_LIMIT_S, start=start)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        deadline = time.monotonic() + RUN_LIMIT_S
        while vm.poll() is None and time.monotonic() < deadline and "datagrams" not in vm.console[start:]:
            for _ in range(BURST):
                s.sendto(bytes(UDP_BYTES), ("127.0.0.1", vm.ports["udp"]))
            time.sleep(BURST_PAUSE_S)


def datagram_sink():
    """A socket that datagrams may be sent to; nobody reads them."""
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind(("127.0.0.1", 0))
    return s


def stream_sink():
    """The port of a listener that reads whatever its connections send."""
    server = socket.socket()
    server.bind(("127.0.0.1", 0))
    server.listen(1)

    def serve():
        while True:
            connection, _ = server.accept()
            with connection:
                try:
                    while connection.recv(1 << 16):
                        pass
                except OSError:
                    pass
    threading.Thread(target=serve, daemon=True).start()
    return server.getsockname()[1]


def feed_guest(vm, start=0):
    """One connection into which this side writes until the guest closes it."""
    vm.expect("ready", RUN_LIMIT_S, start=start)
    with socket.create_connection(("127.0.0.1", vm.ports["tcp"]), 10) as s:
        try:
            while True:
                s.sendall(bytes(1 << 16))
        except OSError:
            pass


def read_pipelined(client, offsets, depth):
    """4 KiB reads with `depth` of them on their way."""
    lengths, client.base, left = {}, {}, list(reversed(offsets))
    while lengths or left:
        while left and len(lengths) < depth:
            offset = left.pop()
            cookie = client.send(nbdclient.CMD_READ, offset, 4096)
            lengths[cookie], client.base[cookie] = 4096, offset
        cookie, error, data = client.reply(lengths)
        if error or len(data) != 4096:
            raise nbdclient.NBDError(error, f"{len(data)} bytes")
        del lengths[cookie], client.base[cookie]


def nbd_reads(vm, count, depth=32, start=0, limit_s=RUN_LIMIT_S):
    """One NBD connection that reads `count` different blocks of disk0; the guest says "serving" before."""
    vm.expect("serving", limit_s, start=start)
    with nbdclient.Client(vm.ports["nbd"], timeout=60) as client:
        client.go("disk0")
        blocks = client.size // 4096
        read_pipelined(client, [(n * 2654435761 % blocks) * 4096 for n in range(count)], depth)
        client.disconnect()
