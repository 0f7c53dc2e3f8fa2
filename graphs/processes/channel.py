"""Messages between our process and one that runs a model: JSON, followed by arrays.

A message is the length of its JSON, the JSON, and the arrays' bytes. Reading executes no part of
it, unlike a pickle: the answering process has run an untrusted model.

A value is an array, a list of values (a sequence), or ``None`` (an optional that is empty).
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from typing import IO, Any

import ml_dtypes  # noqa: F401 - NumPy knows bfloat16 and its kin by name from here on
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Value = Any
"""An array, a list of values, or None."""

LENGTH = struct.Struct("<Q")
STRINGS = "string"


class Refused(Exception):  # noqa: N818 - an answer, not a fault of ours
    """A runtime does not load a model, or does not run it; the message is its reason."""


class Lost(Refused):
    """The process crashed, or was ended because it took too long; a new one is needed."""


def send(stream: IO[bytes], message: Mapping[str, Any], values: Mapping[str, Value]) -> None:
    described = {name: _described(value) for name, value in values.items()}
    header = json.dumps({**message, "values": described}).encode()
    stream.write(LENGTH.pack(len(header)) + header)
    for value in values.values():
        stream.writelines(array.tobytes() for array in _plain(value))
    stream.flush()


def receive(stream: IO[bytes]) -> tuple[dict[str, Any], dict[str, Value]]:
    """The next message, and the values that came with it.

    Raises:
        EOFError: The other side is gone.
    """
    (length,) = LENGTH.unpack(_exactly(stream, LENGTH.size))
    message: dict[str, Any] = json.loads(_exactly(stream, length))
    described = message.pop("values")
    return message, {name: _read(stream, what) for name, what in described.items()}


def _described(value: Value) -> Any:
    if value is None:
        return None
    if isinstance(value, list):
        return [_described(item) for item in value]
    if value.dtype == object:
        return {"dtype": STRINGS, "shape": value.shape, "strings": [str(s) for s in value.flat]}
    return {"dtype": value.dtype.name, "shape": value.shape}


def _plain(value: Value) -> Iterator[Array]:
    """The arrays of a value whose bytes follow the JSON."""
    if isinstance(value, list):
        for item in value:
            yield from _plain(item)
    elif value is not None and value.dtype != object:
        yield value


def _read(stream: IO[bytes], what: Any) -> Value:
    if what is None:
        return None
    if isinstance(what, list):
        return [_read(stream, item) for item in what]
    shape = tuple(what["shape"])
    if what["dtype"] == STRINGS:
        return np.array(what["strings"], object).reshape(shape)
    dtype = np.dtype(what["dtype"])
    content = _exactly(stream, dtype.itemsize * int(np.prod(shape, dtype=object)))
    return np.frombuffer(content, dtype).reshape(shape)


def _exactly(stream: IO[bytes], count: int) -> bytes:
    content = stream.read(count)
    if len(content) != count:
        raise EOFError("the other process ended in the middle of a message")
    return content
