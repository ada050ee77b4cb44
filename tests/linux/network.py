# SPDX-License-Identifier: BSD-2-Clause
"""What a Linux guest does with its network: the other end is QEMU's NAT, or an Ethernet peer in Python."""
import hashlib
import http.server
import random
import threading
import time
import urllib.request

MIB = 1 << 20
PEER = "10.77.0.1"                                    # tests/e2e/etherpeer.py


class Server:
    """An HTTP server on 127.0.0.1 with one file of random bytes; the guest reaches it as 10.0.2.2."""

    def __init__(self, size):
        self.content = content = random.Random(size).randbytes(size)

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):                         # noqa: N802, the name that the library calls
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://10.0.2.2:{self.server.server_address[1]}/data"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def check_http(t, guest, size, limit_s=120):
    """So many bytes to the guest by HTTP, and the same back from a server in the guest; compared with what was sent."""
    with Server(size) as server:
        guest.run(f"wget -q -O /tmp/data {server.url}", limit_s)
        started = time.monotonic()
        guest.run("httpd -h /tmp -p 80; :")
        with urllib.request.urlopen(f"http://127.0.0.1:{guest.vm.ports['http']}/data", timeout=limit_s) as reply:
            back = reply.read()
        t.note(f"{len(back)} bytes back in {time.monotonic() - started:.1f} s")
        if back != server.content:
            here = hashlib.sha256(server.content).hexdigest()
            there = guest.run("sha256sum /tmp/data").split()[0]
            t.check(False, f"{len(back)} of {size} bytes came back, or others; on the way to the guest they "
                           f"{'stayed the same' if here == there else 'changed'}")
    guest.run("rm /tmp/data")


def check_ping(t, guest, address="10.0.2.2", count=5, size=56):
    output = guest.run(f"ping -c {count} -A -w 30 -s {size} {address}", expect=None)
    t.check(f"{count} packets received, 0% packet loss" in output,
            f"{count} pings of {size} bytes to {address}: {output}")


def check_peer(t, guest, interface, peer):
    """Another adapter, whose wire ends in a program that verifies every checksum: pings both ways, UDP, TCP."""
    guest.dhcp(interface)
    t.check(any(peer.ping(sequence=n, limit_s=4) for n in range(1, 6)), "the first ping is answered")
    for sequence, size in enumerate((0, 1, 56, 1000, 1472), 10):
        t.check(peer.ping(size, sequence=sequence) is not None, f"ping of {size} bytes from the host")
    t.check(peer.ping(4000, sequence=30, fragment=1480) is not None, "ping of 4000 bytes in fragments from the host")
    for size in (0, 56, 1472):
        check_ping(t, guest, PEER, 3, size)
    for kind, command in (("udp", f"timeout 2 tftp -g -r any -l /tmp/any {PEER}"),
                          ("tcp", f"nc -w 2 {PEER} 9 < /dev/null")):
        for _ in range(5):                            # a busy machine may end the program before it has sent anything
            guest.run(command, expect=None)
            if peer.wait(lambda kind=kind: peer.seen.get(kind), 2):
                break
    t.check(peer.seen.get("udp") and peer.seen.get("tcp"), f"a datagram and a connection attempt: {peer.seen}")
    t.equal(peer.bad, [], "bad packets from the guest")
