"""Format of the messages between a client and its worker: a JSON header, then arrays.

A message is the length of its header (8 bytes, little-endian), the header, and the bytes of its
arrays in the order of the header's `values`. Reading a message executes no part of it, unlike a
pickle: the worker has run an untrusted model, which may have taken it over.

A value is an array, a list of values (a sequence), or ``None`` (an empty optional).

This file imports only NumPy, and ml_dtypes where it is installed: workers load it by its path in
environments that lack this package. `worker.mjs` has the same format for Node.
"""

from __future__ import annotations

import contextlib
import json
import math
import struct
from collections.abc import Iterator, Mapping
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

# An environment of ONNX Runtime and NumPy alone has no ml_dtypes, and exchanges no such arrays.
with contextlib.suppress(ImportError):
    import ml_dtypes  # noqa: F401 - its import registers bfloat16, float8 and int4 with NumPy

Array = NDArray[Any]
Value = Any
"""An array, a list of values, or None."""

LENGTH = struct.Struct("<Q")
STRINGS = "string"

MAX_HEADER = 1 << 28
"""Longest header in bytes. Strings of tensors are in the header, so it may be long."""

MAX_BYTES = 1 << 31
"""Largest arrays of a response together, in bytes.

Without this limit a damaged worker could announce a tensor of 2⁴⁰ elements, and its client would
allocate that before the first byte arrives.
"""


MALFORMED = (
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,  # JSON may be a list of lists, a hundred thousand deep
    TypeError,
    ValueError,
)
"""Errors of reading a header that is not what `send` writes."""


class InvalidMessageError(Exception):
    """Bytes that are not a message: the other process is damaged, or is no worker."""


def send(stream: IO[bytes], message: Mapping[str, Any], values: Mapping[str, Value]) -> None:
    """Write a message and its ``values``; nothing is written if they cannot be described.

    Raises:
        TypeError: A value is neither an array nor a list of values nor None, or an array has
            objects that are neither text nor bytes.
        ValueError: Bytes in an array are no UTF-8.
    """
    described = {name: _described(value) for name, value in values.items()}
    header = json.dumps({**message, "values": described}).encode()
    contents = [_content(array) for value in values.values() for array in _numeric(value)]
    stream.write(LENGTH.pack(len(header)) + header)
    stream.writelines(contents)
    stream.flush()


def receive(
    stream: IO[bytes], max_bytes: int | None = MAX_BYTES
) -> tuple[dict[str, Any], dict[str, Value]]:
    """Read the next message and its values.

    Args:
        stream: Where the message comes from.
        max_bytes: Largest arrays together; None if the sender is trusted, as a client is.

    Raises:
        EOFError: The stream ended before the message did.
        InvalidMessageError: The bytes are not a message, or it is too large.
    """
    (length,) = LENGTH.unpack(_exactly(stream, LENGTH.size))
    if length > MAX_HEADER:
        raise InvalidMessageError(
            f"the header has {length:,} bytes, more than {MAX_HEADER:,}: this is no message"
        )
    header = _exactly(stream, length)
    try:
        message: dict[str, Any] = json.loads(header)
        described = message.pop("values")
        size = sum(_size(value) for value in described.values())
        if max_bytes is not None and size > max_bytes:
            raise InvalidMessageError(f"the arrays have {size:,} bytes, more than {max_bytes:,}")
        return message, {name: _read(stream, value) for name, value in described.items()}
    except MALFORMED as e:
        raise InvalidMessageError(f"invalid header: {type(e).__name__}: {e}") from e


def size_of(value: Value) -> int:
    """Return the number of bytes that a value takes after the header."""
    return sum(array.nbytes for array in _numeric(value))


def _described(value: Value) -> Any:
    if value is None:
        return None
    if isinstance(value, (list, tuple)):
        return [_described(item) for item in value]
    if not isinstance(value, (np.ndarray, np.generic)):
        raise TypeError(f"a value is {type(value).__name__}, and no tensor")
    if value.dtype.kind in "OUS":
        strings = [_string(item) for item in np.asarray(value).flat]
        return {"dtype": STRINGS, "shape": value.shape, "strings": strings}
    return {"dtype": value.dtype.name, "shape": value.shape}


def _string(item: Any) -> str:
    """Return an element of a string tensor as text; ONNX has such tensors as bytes in UTF-8."""
    if isinstance(item, bytes):
        return item.decode()
    if not isinstance(item, str):
        raise TypeError(f"an element is {type(item).__name__}, and neither text nor bytes")
    return str(item)


def _numeric(value: Value) -> Iterator[Array]:
    """Yield the arrays of a value whose bytes follow the header."""
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from _numeric(item)
    elif value is not None and value.dtype.kind not in "OUS":
        yield value


def _content(array: Array) -> memoryview:
    """Return the bytes of ``array``, without a copy where its memory is in order."""
    # The name of a dtype does not tell its byte order: `>f4` is "float32", too.
    ordered = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return np.ascontiguousarray(ordered).reshape(-1).view(np.uint8).data


def _size(described: Any) -> int:
    if described is None:
        return 0
    if isinstance(described, list):
        return sum(map(_size, described))
    shape = described["shape"]
    if not all(type(axis) is int and axis >= 0 for axis in shape):
        raise ValueError(f"{shape} is no shape")
    if described["dtype"] == STRINGS:
        return 0
    dtype = np.dtype(described["dtype"])
    if dtype.hasobject:  # its bytes would be pointers
        raise TypeError(f"{dtype} is no element type of tensors")
    size: int = dtype.itemsize * math.prod(shape)
    return size


def _read(stream: IO[bytes], described: Any) -> Value:
    if described is None:
        return None
    if isinstance(described, list):
        return [_read(stream, item) for item in described]
    shape = tuple(described["shape"])
    if described["dtype"] == STRINGS:
        return np.array(described["strings"], object).reshape(shape)
    dtype = np.dtype(described["dtype"])
    return np.frombuffer(_exactly(stream, _size(described)), dtype).reshape(shape)


def _exactly(stream: IO[bytes], count: int) -> bytes:
    content = stream.read(count)
    if len(content) != count:
        raise EOFError("the other process ended in the middle of a message")
    return content
