"""HTTP/2 frame by frame, for streams that gRPC clients never send."""

import contextlib
import socket
import struct
from typing import NamedTuple

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY = 0, 1, 3, 4, 6, 7
ACK, END_STREAM, END_HEADERS = 1, 1, 4
MAX_CONCURRENT_STREAMS = 3
ENHANCE_YOUR_CALM = 11


class Frame(NamedTuple):
    kind: int
    flags: int
    stream: int
    payload: bytes


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def headers(stream, path, *more, end=False):
    """Return a HEADERS frame of a new gRPC call: HPACK literals, without table or Huffman codes."""
    fields = [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", path),
        (b":authority", b"x"),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
        *more,
    ]
    block = b"".join(b"\x10" + _string(name) + _string(value) for name, value in fields)
    return frame(HEADERS, END_HEADERS | (END_STREAM if end else 0), stream, block)


def _string(text):
    length = len(text)
    if length < 127:
        return bytes([length]) + text
    length -= 127
    coded = b"\x7f"
    while length >= 128:
        coded += bytes([length % 128 | 128])
        length //= 128
    return coded + bytes([length]) + text


def message(stream, data=b"", *, end=True):
    """Return a DATA frame with one gRPC message."""
    return frame(DATA, END_STREAM if end else 0, stream, struct.pack(">BI", 0, len(data)) + data)


def reset(stream):
    return frame(RST_STREAM, 0, stream, struct.pack(">I", 8))


class Connection:
    """Client that has sent its preface and settings, and answers pings while it reads."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self._read = b""
        self.send(PREFACE + frame(SETTINGS, 0, 0))

    def send(self, *frames):
        self.socket.sendall(b"".join(frames))

    def frames(self):
        """Yield the frames that arrive until the server closes the connection."""
        while (got := self._next()) is not None:
            if got.kind in {PING, SETTINGS} and not got.flags & ACK:
                with contextlib.suppress(OSError):  # The connection may be closed by now.
                    self.send(frame(got.kind, ACK, 0, got.payload if got.kind == PING else b""))
            yield got

    def _next(self):
        head = self._exactly(9)
        if head is None:
            return None
        kind, flags, stream = struct.unpack(">BBI", head[3:])
        payload = self._exactly(int.from_bytes(head[:3]))
        return None if payload is None else Frame(kind, flags, stream, payload)

    def _exactly(self, count):
        while len(self._read) < count:
            try:
                more = self.socket.recv(1 << 16)
            except OSError:
                return None
            if not more:
                return None
            self._read += more
        wanted, self._read = self._read[:count], self._read[count:]
        return wanted


@contextlib.contextmanager
def connected(port):
    connection = Connection(port)
    with connection.socket:
        yield connection
