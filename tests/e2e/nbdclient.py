# SPDX-License-Identifier: BSD-2-Clause
"""A small NBD client for tests: says exactly what it is told to, right or wrong, and shows every reply.

The protocol is that of doc/proto.md of the NBD project (fixed newstyle). Ordinary traffic is tested with other people's
clients (nbdcopy, nbdinfo, qemu-img); this one is for what they never send.
"""
import socket
import struct

NBDMAGIC, IHAVEOPT, REPLY_MAGIC_OPT = 0x4E42444D41474943, 0x49484156454F5054, 0x3E889045565A9
REQUEST_MAGIC, SIMPLE_REPLY_MAGIC, STRUCTURED_REPLY_MAGIC = 0x25609513, 0x67446698, 0x668E33EF
OPT_EXPORT_NAME, OPT_ABORT, OPT_LIST, OPT_STARTTLS, OPT_INFO, OPT_GO, OPT_STRUCTURED_REPLY = 1, 2, 3, 5, 6, 7, 8
REP_ACK, REP_SERVER, REP_INFO = 1, 2, 3
REP_ERR = 1 << 31
REP_ERR_UNSUP, REP_ERR_POLICY, REP_ERR_INVALID, REP_ERR_UNKNOWN = REP_ERR | 1, REP_ERR | 2, REP_ERR | 3, REP_ERR | 6
INFO_EXPORT, INFO_BLOCK_SIZE = 0, 3
CMD_READ, CMD_WRITE, CMD_DISC, CMD_FLUSH, CMD_TRIM, CMD_WRITE_ZEROES = 0, 1, 2, 3, 4, 6
FLAG_FUA, FLAG_NO_HOLE, FLAG_DF = 1, 2, 4
T_HAS_FLAGS, T_READ_ONLY, T_SEND_FLUSH, T_SEND_FUA = 1, 2, 4, 8
T_ROTATIONAL, T_SEND_TRIM, T_SEND_WRITE_ZEROES = 16, 32, 64
T_CAN_MULTI_CONN = 1 << 8
REPLY_NONE, REPLY_OFFSET_DATA, REPLY_OFFSET_HOLE, REPLY_ERROR = 0, 1, 2, 0x8001
EPERM, EIO, ENOMEM, EINVAL, ENOSPC, EOVERFLOW, ENOTSUP, ESHUTDOWN = 1, 5, 12, 22, 28, 75, 95, 108


class NBDError(Exception):
    """The server answered a request with an error."""

    def __init__(self, number, text=""):
        super().__init__(f"NBD error {number}" + (f" ({text})" if text else ""))
        self.number = number


class ProtocolError(Exception):
    """The server said what the protocol does not allow, or hung up."""


class Client:
    def __init__(self, port, host="127.0.0.1", timeout=60, client_flags=3):
        self.socket = socket.create_connection((host, port), timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.structured = False
        self.cookie = 0
        self.base = {}                                # cookie -> offset of a request, which structured replies repeat
        magic, option_magic, self.server_flags = struct.unpack(">QQH", self.receive(18))
        if magic != NBDMAGIC or option_magic != IHAVEOPT:
            raise ProtocolError("not a newstyle NBD server")
        if not self.server_flags & 1:
            raise ProtocolError("not fixed newstyle")
        self.socket.sendall(struct.pack(">I", client_flags & self.server_flags))

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def receive(self, n):
        data = bytearray()
        while len(data) < n:
            piece = self.socket.recv(min(n - len(data), 1 << 20))
            if not piece:
                raise ProtocolError(f"hung up after {len(data)} of {n} bytes")
            data += piece
        return bytes(data)

    # ---- options ----
    def send_option(self, option, data=b""):
        self.socket.sendall(struct.pack(">QII", IHAVEOPT, option, len(data)) + data)

    def option_reply(self):
        magic, option, kind, length = struct.unpack(">QIII", self.receive(20))
        if magic != REPLY_MAGIC_OPT:
            raise ProtocolError(f"bad option reply magic {magic:#x}")
        return option, kind, self.receive(length)

    def option(self, option, data=b""):
        """Sends an option; returns every reply up to the ACK or error as (kind, data)."""
        self.send_option(option, data)
        replies = []
        while True:
            answered, kind, payload = self.option_reply()
            if answered != option:
                raise ProtocolError(f"reply to option {answered}, asked {option}")
            replies.append((kind, payload))
            if kind == REP_ACK or kind & REP_ERR:
                return replies

    def list(self):
        names = []
        for kind, data in self.option(OPT_LIST):
            if kind == REP_SERVER:
                length = struct.unpack(">I", data[:4])[0]
                names.append(data[4:4 + length].decode())
        return names

    def negotiate_structured(self):
        self.structured = self.option(OPT_STRUCTURED_REPLY)[-1][0] == REP_ACK
        return self.structured

    def go(self, name, option=OPT_GO, infos=(INFO_BLOCK_SIZE,)):
        """Enters the transmission phase; sets size, flags and block sizes (minimum, preferred, maximum)."""
        raw = name.encode()
        replies = self.option(option, struct.pack(">I", len(raw)) + raw + struct.pack(">H", len(infos)) +
                              b"".join(struct.pack(">H", i) for i in infos))
        if replies[-1][0] != REP_ACK:
            raise NBDError(replies[-1][0], replies[-1][1].decode("utf-8", "replace"))
        self.block_sizes = None
        for kind, data in replies:
            if kind == REP_INFO:
                info = struct.unpack(">H", data[:2])[0]
                if info == INFO_EXPORT:
                    self.size, self.flags = struct.unpack(">QH", data[2:12])
                elif info == INFO_BLOCK_SIZE:
                    self.block_sizes = struct.unpack(">III", data[2:14])
        return self

    def export_name(self, name):
        self.send_option(OPT_EXPORT_NAME, name.encode())
        self.size, self.flags = struct.unpack(">QH", self.receive(10))
        if not self.server_flags & 2:
            self.receive(124)
        return self

    # ---- requests ----
    def send(self, command, offset=0, length=0, data=b"", flags=0, magic=REQUEST_MAGIC):
        """Sends one request and returns its cookie."""
        self.cookie += 1
        self.base[self.cookie] = offset
        self.socket.sendall(struct.pack(">IHHQQI", magic, flags, command, self.cookie, offset, length) + data)
        return self.cookie

    def reply(self, lengths):
        """The next complete reply: (cookie, error, data). lengths: cookie -> bytes of a READ, else 0."""
        magic = struct.unpack(">I", self.receive(4))[0]
        if magic == SIMPLE_REPLY_MAGIC:
            error, cookie = struct.unpack(">IQ", self.receive(12))
            if cookie not in lengths:
                raise ProtocolError(f"reply to a request never made: {cookie}")
            return cookie, error, b"" if error else self.receive(lengths[cookie])
        if magic != STRUCTURED_REPLY_MAGIC:
            raise ProtocolError(f"bad reply magic {magic:#x}")
        if not self.structured:
            raise ProtocolError("structured reply that was not negotiated")
        return self._structured(lengths)

    def _structured(self, lengths):
        pieces, error, first = {}, 0, None
        while True:
            flags, kind, cookie, length = struct.unpack(">HHQI", self.receive(16))
            if cookie not in lengths:
                raise ProtocolError(f"reply to a request never made: {cookie}")
            first = first or cookie
            if cookie != first:
                raise ProtocolError("interleaved chunks: this client reads one request at a time")
            payload = self.receive(length)
            if kind == REPLY_OFFSET_DATA:
                offset = struct.unpack(">Q", payload[:8])[0] - self.base[cookie]
                if not 0 <= offset <= lengths[cookie] - (length - 8):
                    raise ProtocolError("data outside the request")
                pieces[offset] = payload[8:]
            elif kind == REPLY_OFFSET_HOLE:
                pass
            elif kind & 0x8000:
                error = struct.unpack(">I", payload[:4])[0]
            elif kind != REPLY_NONE:
                raise ProtocolError(f"unknown chunk type {kind}")
            if flags & 1:
                if error:
                    return cookie, error, b""
                data = bytearray(lengths[cookie])     # holes are zeroes
                for offset, piece in pieces.items():
                    data[offset:offset + len(piece)] = piece
                return cookie, 0, bytes(data)
            magic = struct.unpack(">I", self.receive(4))[0]
            if magic != STRUCTURED_REPLY_MAGIC:
                raise ProtocolError(f"bad chunk magic {magic:#x}")

    def request(self, command, offset=0, length=0, data=b"", flags=0):
        """One request and its reply; NBDError when the server refuses."""
        cookie = self.send(command, offset, length, data, flags)
        answered, error, got = self.reply({cookie: length if command == CMD_READ else 0})
        if answered != cookie:
            raise ProtocolError("reply to another request")
        if error:
            raise NBDError(error)
        return got

    def read(self, offset, length):
        return self.request(CMD_READ, offset, length)

    def write(self, offset, data, flags=0):
        self.request(CMD_WRITE, offset, len(data), data, flags)

    def flush(self):
        self.request(CMD_FLUSH)

    def trim(self, offset, length, flags=0):
        self.request(CMD_TRIM, offset, length, flags=flags)

    def write_zeroes(self, offset, length, flags=0):
        self.request(CMD_WRITE_ZEROES, offset, length, flags=flags)

    def disconnect(self):
        self.send(CMD_DISC)
        self.close()
