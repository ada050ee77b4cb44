# SPDX-License-Identifier: BSD-2-Clause
"""The other end of an Ethernet wire, in Python: an oracle for the guest's network that shares no code with it.

Frames come and go as datagrams on Unix sockets (QEMU's -netdev dgram). The peer is 10.77.0.1 and fe80::1; it answers
ARP, neighbour solicitations and pings over IPv4, hands out addresses by DHCP, and asks: ping over IPv4 and IPv6, frames
of any content. Every checksum of a received IPv4, ICMP, UDP and TCP packet is verified; wrong ones are counted in `bad`.
"""
import socket
import struct
import threading
import time

PEER_MAC = bytes.fromhex("525400feed01")
PEER_IP = socket.inet_aton("10.77.0.1")
GUEST_IP = socket.inet_aton("10.77.0.15")
PEER_IP6 = socket.inet_pton(socket.AF_INET6, "fe80::1")
BROADCAST = b"\xff" * 6


def checksum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ipv4(source, destination, protocol, payload, ttl=64, ident=0):
    header = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), ident, 0, ttl, protocol, 0, source, destination)
    return header[:10] + struct.pack(">H", checksum(header)) + header[12:] + payload


def udp(source, destination, source_port, destination_port, payload):
    head = struct.pack(">HHHH", source_port, destination_port, 8 + len(payload), 0)
    pseudo = source + destination + struct.pack(">BBH", 0, 17, len(head) + len(payload))
    return head[:6] + struct.pack(">H", checksum(pseudo + head + payload) or 0xFFFF) + payload


def ipv6(source, destination, next_header, payload, hops=255):
    return struct.pack(">IHBB", 6 << 28, len(payload), next_header, hops) + source + destination + payload


def icmp6(source, destination, kind, code, body):
    packet = struct.pack(">BBH", kind, code, 0) + body
    pseudo = source + destination + struct.pack(">II", len(packet), 58)
    return packet[:2] + struct.pack(">H", checksum(pseudo + packet)) + packet[4:]


class Peer:
    """Runs in its own thread from start() to stop(). seen counts what came: "arp", "dhcp discover", "icmp reply" ..."""

    def __init__(self, guest_path, peer_path):
        self.path, self.guest_path = peer_path, guest_path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        self.socket.settimeout(0.2)
        self.seen, self.bad, self.frames = {}, [], 0
        self.guest_mac = None
        self.guest_ip6 = None
        self.leased = False
        self.echoes = {}
        self.changed = threading.Condition()
        self.running = True
        self.thread = threading.Thread(target=self._run, daemon=True)

    def start(self):
        self.thread.start()
        return self

    def stop(self):
        self.running = False
        self.thread.join(5)
        self.socket.close()

    def count(self, what):
        with self.changed:
            self.seen[what] = self.seen.get(what, 0) + 1
            self.changed.notify_all()

    def wait(self, condition, limit_s):
        with self.changed:
            return self.changed.wait_for(condition, limit_s)

    def send(self, destination, ethertype, payload):
        frame = destination + PEER_MAC + struct.pack(">H", ethertype) + payload
        self.send_raw(frame.ljust(60, b"\0"))

    def send_raw(self, frame):
        try:
            self.socket.sendto(frame, self.guest_path)
        except (FileNotFoundError, ConnectionRefusedError):
            pass

    # ---- what is asked of the guest ----
    def ping(self, size=56, ident=1, sequence=1, limit_s=20.0, fragment=None):
        """Echo request to the guest's IPv4 address: the round trip in seconds, or None."""
        data = bytes((i * 7 + sequence) & 255 for i in range(size))
        packet = struct.pack(">BBHHH", 8, 0, 0, ident, sequence) + data
        packet = packet[:2] + struct.pack(">H", checksum(packet)) + packet[4:]
        started = time.monotonic()
        if fragment:
            for offset in range(0, len(packet), fragment):
                piece = packet[offset:offset + fragment]
                more = 0x2000 if offset + fragment < len(packet) else 0
                header = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(piece), 1000 + sequence, more | offset // 8,
                                     64, 1, 0, PEER_IP, GUEST_IP)
                header = header[:10] + struct.pack(">H", checksum(header)) + header[12:]
                self.send(self.guest_mac, 0x0800, header + piece)
        else:
            self.send(self.guest_mac, 0x0800, ipv4(PEER_IP, GUEST_IP, 1, packet))
        key = (4, ident, sequence)
        if not self.wait(lambda: key in self.echoes, limit_s):
            return None
        return time.monotonic() - started if self.echoes.pop(key) == data else None

    def ping6(self, sequence=1, size=56, limit_s=20.0):
        data = bytes((i * 5 + sequence) & 255 for i in range(size))
        self.send(self.guest_mac, 0x86DD, ipv6(PEER_IP6, self.guest_ip6, 58, icmp6(
            PEER_IP6, self.guest_ip6, 128, 0, struct.pack(">HH", 9, sequence) + data)))
        key = (6, 9, sequence)
        return self.wait(lambda: key in self.echoes, limit_s) and self.echoes.pop(key) == data

    # ---- what comes ----
    def _run(self):
        while self.running:
            try:
                frame = self.socket.recv(70000)
            except socket.timeout:
                continue
            except OSError:
                return
            self.frames += 1
            if len(frame) < 14:
                self.bad.append("runt frame")
                continue
            source, ethertype, payload = frame[6:12], struct.unpack(">H", frame[12:14])[0], frame[14:]
            try:
                if ethertype == 0x0806:
                    self._arp(source, payload)
                elif ethertype == 0x0800:
                    self._ipv4(source, payload)
                elif ethertype == 0x86DD:
                    self._ipv6(source, payload)
            except struct.error:
                self.bad.append(f"truncated packet of type {ethertype:#06x}")

    def _arp(self, source, p):
        operation, sender_ip, target_ip = struct.unpack(">H", p[6:8])[0], p[14:18], p[24:28]
        self.count("arp")
        if operation == 1 and target_ip == PEER_IP:
            self.send(source, 0x0806, p[:6] + b"\0\2" + PEER_MAC + PEER_IP + source + sender_ip)

    def _ipv4(self, source, p):
        length = struct.unpack(">H", p[2:4])[0]
        header_bytes = (p[0] & 15) * 4
        if checksum(p[:header_bytes]):
            self.bad.append("IPv4 header checksum")
            return
        sender, target, protocol = p[12:16], p[16:20], p[9]
        body = p[header_bytes:length]
        fragmented = struct.unpack(">H", p[6:8])[0] & 0x3FFF
        self.guest_mac = source
        if fragmented:
            self._fragment(sender, p, body)
            return
        self._transport(sender, target, protocol, body)

    fragments = None

    def _fragment(self, sender, p, body):
        """Echo replies that the guest had to split: put together when the last piece has come."""
        ident, flags = struct.unpack(">HH", p[4:8])
        pieces = self.fragments = self.fragments or {}
        parts = pieces.setdefault(ident, {})
        parts[(flags & 0x1FFF) * 8] = (body, bool(flags & 0x2000))
        at, whole = 0, b""
        while at in parts:
            piece, more = parts[at]
            whole += piece
            at += len(piece)
            if not more:
                del pieces[ident]
                self._transport(sender, p[16:20], p[9], whole)
                return

    def _transport(self, sender, target, protocol, body):
        pseudo = sender + target + struct.pack(">BBH", 0, protocol, len(body))
        if protocol == 1:
            if checksum(body):
                self.bad.append("ICMP checksum")
            elif body[0] == 0:
                ident, sequence = struct.unpack(">HH", body[4:8])
                with self.changed:
                    self.echoes[(4, ident, sequence)] = body[8:]
                self.count("icmp reply")
            elif body[0] == 8 and target == PEER_IP:
                self.count("icmp request")
                reply = b"\0\0\0\0" + body[4:]
                reply = reply[:2] + struct.pack(">H", checksum(reply)) + reply[4:]
                self.send(self.guest_mac, 0x0800, ipv4(PEER_IP, sender, 1, reply))
        elif protocol == 17:
            if struct.unpack(">H", body[6:8])[0] and checksum(pseudo + body):
                self.bad.append("UDP checksum")
                return
            if struct.unpack(">HH", body[:4]) == (68, 67):
                self._dhcp(body[8:])
            else:
                self.count("udp")
        elif protocol == 6:
            self.count("tcp")
            if checksum(pseudo + body):
                self.bad.append("TCP checksum")

    def _dhcp(self, p):
        options, at = {}, 240
        while at < len(p) and p[at] != 255:
            if p[at] == 0:
                at += 1
                continue
            options[p[at]] = p[at + 2:at + 2 + p[at + 1]]
            at += 2 + p[at + 1]
        kind = options.get(53, b"\0")[0]
        self.count({1: "dhcp discover", 3: "dhcp request"}.get(kind, f"dhcp {kind}"))
        if kind not in (1, 3):
            return
        flags = struct.unpack(">H", p[10:12])[0]
        reply = struct.pack(">BBBB4sHH4s4s4s4s16s64s128s4s", 2, 1, 6, 0, p[4:8], 0, flags, b"", GUEST_IP, PEER_IP,
                            b"", p[28:44], b"", b"", b"\x63\x82\x53\x63")
        reply += bytes((53, 1, 2 if kind == 1 else 5, 54, 4)) + PEER_IP
        reply += bytes((51, 4, 0, 0, 14, 16, 1, 4, 255, 255, 255, 0))
        reply += bytes((3, 4)) + PEER_IP + bytes((6, 4)) + PEER_IP + b"\xff"
        self.send(BROADCAST, 0x0800, ipv4(PEER_IP, b"\xff" * 4, 17, udp(PEER_IP, b"\xff" * 4, 67, 68, reply)))
        if kind == 3:
            self.leased = True
            self.count("dhcp lease")

    def _ipv6(self, source, p):
        length, next_header = struct.unpack(">HB", p[4:7])
        sender, target, body = p[8:24], p[24:40], p[40:40 + length]
        if next_header != 58:
            return
        if checksum(sender + target + struct.pack(">II", len(body), 58) + body):
            self.bad.append("ICMPv6 checksum")
            return
        self.guest_mac = source
        if any(sender) and sender[0] == 0xFE:
            self.guest_ip6 = sender
        kind = body[0]
        if kind == 135 and body[8:24] == PEER_IP6 and any(sender):
            self.count("neighbour solicitation")
            advert = struct.pack(">I", 0x60000000) + PEER_IP6 + b"\2\1" + PEER_MAC
            self.send(source, 0x86DD, ipv6(PEER_IP6, sender, 58, icmp6(PEER_IP6, sender, 136, 0, advert)))
        elif kind == 129:
            ident, sequence = struct.unpack(">HH", body[4:8])
            with self.changed:
                self.echoes[(6, ident, sequence)] = body[8:]
            self.count("icmpv6 reply")
        else:
            self.count(f"icmpv6 {kind}")
