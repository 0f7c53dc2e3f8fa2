"""Messages between the serving process and a computing process: a header and raw tensors.

A frame is two lengths, a header in JSON, and the bytes of its tensors in the header's order.
Numbers are sent as they are in memory, strings as their lengths and then their bytes. A graph may
have damaged the memory of the sending process, so each frame is checked before memory is allocated.
"""

from __future__ import annotations

import math
import socket
import struct
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import orjson

from gatewave.service.codecs.datatypes import BYTES, DATATYPES, Array, datatype_of

LENGTHS = struct.Struct("<IQ")
MAX_HEADER = 1 << 20
MAX_RANK = 64
SMALL_FRAME_BYTES = 1 << 16
"""Bytes up to which a frame is sent in one piece: a copy costs less than a second system call."""
CHECK_SECONDS = 0.05
"""Seconds between two checks of a waiting side whether it should continue to wait."""

Tensors = Mapping[str, Array]
WaitCheck = Callable[[], None]


class FrameError(Exception):
    """The connection is closed, or a frame is invalid."""


class Frames:
    """One end of a connection; for at most one reader and one writer at a time.

    Args:
        connection: A stream socket; it is closed with this object.
        max_bytes: Limit on the bytes of the tensors of a received frame.
        check_wait: Called every `CHECK_SECONDS` while reading or writing is blocked; its exceptions
            end the wait. Without it, a wait has no limit.
    """

    def __init__(
        self, connection: socket.socket, max_bytes: int, check_wait: WaitCheck | None = None
    ) -> None:
        self.max_bytes = max_bytes
        self.check_wait = check_wait
        self._connection = connection
        connection.settimeout(CHECK_SECONDS if check_wait is not None else None)

    def close(self) -> None:
        self._connection.close()

    def send(self, header: Mapping[str, Any], tensors: Tensors | None = None) -> None:
        """Send a frame.

        Raises:
            FrameError: The connection is closed.
        """
        pieces = [(name, array, _raw(array)) for name, array in (tensors or {}).items()]
        described = [
            {
                "name": name,
                "datatype": datatype_of(array).name,
                "shape": list(array.shape),
                "size": len(raw),
            }
            for name, array, raw in pieces
        ]
        text = orjson.dumps({**header, "tensors": described})
        size = sum(len(raw) for _, _, raw in pieces)
        parts: list[bytes | memoryview] = [LENGTHS.pack(len(text), size) + text]
        parts += [raw for _, _, raw in pieces]
        if size <= SMALL_FRAME_BYTES:
            # One system call, and one wake-up of the other side.
            parts = [b"".join(parts)]
        for part in parts:
            self._send(part)

    def receive(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """Return the next frame: its header and its tensors; strings are ``bytes``.

        Raises:
            FrameError: The connection is closed, or the frame is invalid.
        """
        length, size = LENGTHS.unpack(self._exactly(LENGTHS.size))
        if length > MAX_HEADER or size > self.max_bytes:
            raise FrameError(f"a frame of {length} and {size} bytes is too large")
        header = _header(self._exactly(length))
        described = [_described(tensor) for tensor in header.pop("tensors", ())]
        if sum(each[3] for each in described) != size:
            raise FrameError("the size of a frame is not that of its tensors")
        return header, {each[0]: self._tensor(*each[1:]) for each in described}

    def _tensor(self, datatype: str, shape: list[int], size: int) -> Array:
        if datatype == BYTES:
            return _strings(self._exactly(size), shape)
        array: Array = np.empty(shape, DATATYPES[datatype].numpy)
        if array.nbytes:
            self._fill(array.reshape(-1).view(np.uint8).data)
        return array

    def _exactly(self, count: int) -> bytearray:
        data = bytearray(count)
        self._fill(memoryview(data))
        return data

    def _fill(self, buffer: memoryview) -> None:
        while buffer:
            buffer = buffer[self._retry(lambda rest=buffer: self._connection.recv_into(rest)) :]  # type: ignore[misc]

    def _send(self, data: bytes | memoryview) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[self._retry(lambda part=rest: self._connection.send(part)) :]  # type: ignore[misc]

    def _retry(self, transfer: Callable[[], int]) -> int:
        """Return the number of bytes that ``transfer`` moved, after as many waits as it takes."""
        while True:
            try:
                count = transfer()
            except TimeoutError:
                if self.check_wait is not None:
                    self.check_wait()
            except OSError as error:
                raise FrameError(f"the connection is closed: {error.strerror}") from error
            else:
                if not count:
                    raise FrameError("the connection is closed")
                return count


def _header(text: bytes | bytearray) -> dict[str, Any]:
    try:
        header: Any = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise FrameError("the header of a frame is not JSON") from error
    if not isinstance(header, dict) or not isinstance(header.get("tensors", []), list):
        raise FrameError("the header of a frame is not an object")
    return dict(header)


def _described(tensor: Any) -> tuple[str, str, list[int], int]:
    """Return the checked description of one tensor from a header."""
    try:
        name, datatype = tensor["name"], tensor["datatype"]
        shape, size = tensor["shape"], tensor["size"]
        sizes = [*shape, size]
        # Products of such sizes are exact: Python's integers do not overflow.
        is_valid = len(shape) <= MAX_RANK and all(
            type(n) is int and 0 <= n < 1 << 62 for n in sizes
        )
        width = DATATYPES[datatype].numpy.itemsize if datatype != BYTES else 0
        least = 4 * math.prod(shape) if datatype == BYTES else math.prod(shape) * width
    except (KeyError, TypeError) as error:
        raise FrameError("the header of a frame does not describe tensors") from error
    if not is_valid or size < least or (datatype != BYTES and size != least):
        raise FrameError("the header of a frame describes impossible tensors")
    return str(name), datatype, shape, size


def _raw(array: Array) -> memoryview | bytes:
    if array.dtype != np.object_:
        return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
    texts = [text if isinstance(text, bytes) else text.encode() for text in array.reshape(-1)]
    lengths: Array = np.fromiter(map(len, texts), np.uint32, len(texts))
    return lengths.tobytes() + b"".join(texts)


def _strings(data: bytearray, shape: list[int]) -> Array:
    count = math.prod(shape)
    ends = 4 * count + np.cumsum(np.frombuffer(data, np.uint32, count), dtype=np.uint64)
    if (int(ends[-1]) if count else 0) != len(data):
        raise FrameError("the size of strings is not the sum of their lengths")
    texts: Array = np.empty(count, np.object_)
    begin = 4 * count
    for index, end in enumerate(ends.tolist()):
        texts[index] = bytes(data[begin:end])
        begin = end
    return texts.reshape(shape)
