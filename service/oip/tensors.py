"""Tensors in the protocol: raw bytes, little-endian, or values in row-major order.

The length of each raw ``BYTES`` element precedes it in four bytes. The elements must be UTF-8, as
strings are in ONNX.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from contextlib import suppress
from itertools import chain
from typing import Any

import numpy as np

from gatewave.service.codecs.datatypes import BYTES, DATATYPES, DTYPES, NUMPY, Array, Datatype
from gatewave.service.codecs.nested import flatten
from gatewave.service.codecs.nonfinite import EXPECTED, WORDS
from gatewave.service.codecs.rounding import narrowed
from gatewave.service.errors import RequestInvalid
from gatewave.service.quoting import Words
from gatewave.service.system import cancellation

LENGTH_BYTES = 4
LENGTH = struct.Struct("<I")
PIECE = 1 << 14
"""Number of strings read between two checks for cancellation: some milliseconds of work."""
MAX_AXES = 64
"""Greatest rank in the settings. The product of a million sizes would take minutes."""
STRING_BYTES = 80
"""Bytes of a string besides its characters: the object, and pointers in a list and an array."""
WIDEST = 4
"""Bytes of each character of a string, if one of them is beyond U+FFFF."""
Raw = bytes | bytearray | memoryview


def checked_shape(shape: object, field: str, max_rank: int) -> tuple[int, ...]:
    """Return ``shape`` as a tuple.

    Raises:
        RequestInvalid: It is not a list of whole numbers, or has too many axes.
    """
    if isinstance(shape, list) and len(shape) > max_rank:
        raise RequestInvalid.at(field, f"at most {max_rank} axes", len(shape))
    if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape):
        raise RequestInvalid.at(field, "a list of whole numbers, none negative", shape)
    return tuple(shape)


def claimed(shape: object) -> int:
    """Return the number of elements of ``shape``; 0 for an invalid one, which is refused later."""
    if not isinstance(shape, list) or len(shape) > MAX_AXES:
        return 0
    return math.prod(shape) if all(type(size) is int and size >= 0 for size in shape) else 0


def memory_of_strings(count: int, size: int) -> int:
    """Return the memory of ``count`` strings in ``size`` raw bytes, or of as many as fit."""
    return min(count, size // LENGTH_BYTES) * STRING_BYTES + WIDEST * size if count else 0


def checked_datatype(name: object, field: str) -> Datatype:
    """Return the datatype called ``name``.

    Raises:
        RequestInvalid: The protocol has no such datatype.
    """
    if not isinstance(name, str) or name not in DATATYPES:
        raise RequestInvalid.at(field, f"one of {', '.join(DATATYPES)}", name)
    return DATATYPES[name]


def from_raw(datatype: Datatype, shape: Sequence[int], raw: Raw, field: str) -> Array:
    """Return the tensor in ``raw``, as a view unless it has strings.

    Raises:
        RequestInvalid: The bytes are too few or too many for the shape.
    """
    count = math.prod(shape)
    if datatype.name == BYTES:
        return _shaped(_strings_array(_strings(memoryview(raw), count, field)), shape, field)
    wanted = count * datatype.numpy.itemsize
    if len(raw) != wanted:
        expected = f"{wanted} bytes, for {datatype.name} of shape {list(shape)}"
        raise RequestInvalid.at(field, expected, Words(f"{len(raw)} bytes"))
    if datatype.name == "BOOL":
        # Kernels have undefined behaviour for bytes other than 0 and 1.
        return _shaped(np.frombuffer(raw, np.uint8) != 0, shape, field)
    return _shaped(np.frombuffer(raw, datatype.numpy), shape, field)


def from_string(text: bytes, shape: Sequence[int], field: str) -> Array:
    """Return the tensor of one string, the whole ``text``.

    Raises:
        RequestInvalid: ``shape`` has other than one element, or the text is not UTF-8.
    """
    if math.prod(shape) != 1:
        raise RequestInvalid.at(field, f"JSON: {math.prod(shape)} BYTES", Words("one string"))
    return _shaped(_strings_array([_text(text, field)]), shape, field)


def to_raw(array: Array) -> Raw:
    """Return the bytes of a tensor, as a view unless it has strings."""
    if array.dtype == np.object_:
        strings = [_encoded(item) for item in array.reshape(-1).tolist()]
        return b"".join(chain.from_iterable((len(s).to_bytes(4, "little"), s) for s in strings))
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def from_values(
    datatype: Datatype, shape: Sequence[int], values: Any, field: str, max_rank: int = MAX_AXES
) -> Array:
    """Return the tensor of ``values``: a list, flat or nested, in row-major order.

    As in Triton, nested lists may have another shape than the tensor; they must be even.

    Raises:
        RequestInvalid: The number of values is wrong, a value is not of the datatype, or lists are
            ragged.
        LimitExceeded: Lists nest deeper than ``max_rank``.
    """
    _, flat = flatten(values if isinstance(values, list) else [values], field, max_rank)
    if len(flat) != math.prod(shape):
        expected = f"{math.prod(shape)} values, for shape {list(shape)}"
        raise RequestInvalid.at(field, expected, Words(f"{len(flat)}"))
    return _shaped(_array(datatype, flat, field), shape, field)


def to_values(array: Array) -> list[Any]:
    """Return the values of a tensor in a flat list."""
    flat = array.reshape(-1).tolist()
    if array.dtype == np.object_:
        return [_encoded(item).decode("utf-8", "replace") for item in flat]
    return flat


def _array(datatype: Datatype, flat: list[Any], field: str) -> Array:
    if datatype.name == BYTES:
        return _strings_array(_texts(flat, field))
    kinds = set(map(type, flat))
    if datatype.name == "BOOL":
        _refuse_other_kinds(flat, kinds, {bool}, "true or false", field)
        return np.array(flat, np.bool_)
    if datatype.is_float:
        if str in kinds:
            flat = [WORDS.get(item, item) if type(item) is str else item for item in flat]
            kinds = set(map(type, flat))
        _refuse_other_kinds(flat, kinds, {int, float}, EXPECTED, field)
        return _floats(datatype, flat, field)
    _refuse_other_kinds(flat, kinds, {int}, "a whole number", field)
    bounds = np.iinfo(datatype.numpy)
    if flat and not bounds.min <= min(flat) <= max(flat) <= bounds.max:
        index = next(i for i, item in enumerate(flat) if not bounds.min <= item <= bounds.max)
        expected = f"a number within {datatype.name}"
        raise RequestInvalid.at(f"{field}[{index}]", expected, flat[index])
    return np.array(flat, datatype.numpy)


def _floats(datatype: Datatype, flat: list[Any], field: str) -> Array:
    dtype = next(name for name in DTYPES if NUMPY[name] == datatype.numpy)
    try:
        exact = np.array(flat, np.float64)
    except OverflowError as error:
        raise RequestInvalid.at(field, "numbers within the range of FP64", Words(error)) from error
    array, lost = narrowed(exact, dtype)
    if lost is not None:
        index = int(lost.argmax())
        expected = f"a number within the range of {datatype.name}"
        raise RequestInvalid.at(f"{field}[{index}]", expected, flat[index])
    return array


def _refuse_other_kinds(
    flat: list[Any], kinds: set[type], allowed: set[type], expected: str, field: str
) -> None:
    if kinds <= allowed:
        return
    for index, item in enumerate(flat):
        if type(item) not in allowed:
            raise RequestInvalid.at(f"{field}[{index}]", expected, item)


def _strings(raw: memoryview, count: int, field: str) -> list[str]:
    """Return the ``count`` strings in ``raw``."""
    if count * LENGTH_BYTES > len(raw):
        expected = f"{count} BYTES, each after its length"
        raise RequestInvalid.at(field, expected, Words(f"{len(raw)} bytes"))
    strings: list[str] = []
    position, size, length_at = 0, len(raw), LENGTH.unpack_from
    while len(strings) < count:
        cancellation.check()
        for _ in range(min(count - len(strings), PIECE)):
            begin = position + LENGTH_BYTES
            if begin > size or (position := begin + length_at(raw, position)[0]) > size:
                raise RequestInvalid.at(field, "a length before each of the BYTES", Words("less"))
            try:
                strings.append(str(raw[begin:position], "utf-8"))
            except UnicodeError as error:
                raise RequestInvalid.at(field, "BYTES that are UTF-8", Words(error)) from error
    if position < size:
        left = Words(f"{size - position} bytes more")
        raise RequestInvalid.at(field, f"{count} BYTES, for the shape", left)
    return strings


def _texts(items: list[Any], field: str) -> list[str]:
    """Return ``items`` as strings; the error names the first that is not a string."""
    kinds = set(map(type, items))
    with suppress(UnicodeError):
        if kinds <= {str}:
            "".join(items).encode()  # Fails for a lone surrogate, as `_text` does.
            return items
        if kinds <= {bytes}:
            return [item.decode() for item in items]
    return [_text(item, f"{field}[{index}]") for index, item in enumerate(items)]


def _text(item: object, field: str) -> str:
    """Return ``item`` as a string without lone surrogates, which could not be written again."""
    if not isinstance(item, str | bytes):
        raise RequestInvalid.at(field, "a string", item)
    try:
        return (item.encode() if isinstance(item, str) else item).decode()
    except UnicodeError as error:
        raise RequestInvalid.at(field, "BYTES that are UTF-8", Words(error)) from error


def _encoded(item: object) -> bytes:
    return item if isinstance(item, bytes) else str(item).encode("utf-8", "surrogateescape")


def _strings_array(strings: list[str]) -> Array:
    array = np.empty(len(strings), np.object_)
    array[:] = strings
    return array


def _shaped(flat: Array, shape: Sequence[int], field: str) -> Array:
    try:
        return flat.reshape(shape)
    except (ValueError, OverflowError) as error:
        expected = f"{math.prod(shape)} values, for shape {list(shape)}"
        raise RequestInvalid.at(field, expected, Words(f"{flat.size}")) from error
