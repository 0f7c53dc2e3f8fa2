"""JSON read by simdjson: arrays of numbers become tensors without a Python object for each number.

What is plain and right is read here. Anything else, whatever may be wrong with it, is left to the
complete and slower reading, which also says what it is: `NotPlain` is no error, but a way on.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import numpy as np
import simdjson
from numpy.typing import NDArray

from gatewave.service.codecs.datatypes import NUMPY, Array, DType
from gatewave.service.codecs.limits import MAX_FIELDS, MAX_TENSORS
from gatewave.service.codecs.rounding import narrowed

KEPT_BYTES = 1 << 18
"""A parser keeps memory for ten times its longest document; longer ones get one of their own."""

MAX_ARRAYS = 4096
"""Arrays of one document that are read with proxies, at 0.3 µs each. For more arrays, the complete
reader is as fast, and moves to a lane sooner."""

BRACKET = ord("[")
INTEGER = frozenset({int})
LONG = 4096
"""In bytes: from about here on, what NumPy takes to begin is worth it."""

_kept = threading.local()


class NotPlain(Exception):  # noqa: N818 - no error: read it the other way
    pass


def parse(body: bytes) -> simdjson.Object:
    """The document in ``body``, an object; its proxies must be dropped before the next one is read.

    Raises:
        NotPlain: It is not JSON, or no object.
    """
    try:
        document = _parser(len(body)).parse(body)
    except (ValueError, RuntimeError) as error:
        raise NotPlain from error
    if type(document) is not simdjson.Object:
        raise NotPlain
    return document


def _parser(length: int) -> simdjson.Parser:
    if length > KEPT_BYTES:
        return simdjson.Parser()
    parser: simdjson.Parser | None = getattr(_kept, "parser", None)
    if parser is None:
        parser = _kept.parser = simdjson.Parser()
    return parser


def fields(value: Any, known: frozenset[str]) -> dict[str, Any]:
    """The fields of an object, the objects and arrays among them as proxies.

    Raises:
        NotPlain: It is no object, or has a field that is not ``known``, or one twice.
    """
    found = members(value)
    if not known.issuperset(found):
        raise NotPlain
    return found


def members(value: Any) -> dict[str, Any]:
    """Return the fields of an object, with any names.

    Raises:
        NotPlain: The value is not an object, has a field twice, or more than `MAX_FIELDS` fields.
    """
    # The library searches each name from the start: n names take n² steps.
    if type(value) is not simdjson.Object or len(value) > MAX_FIELDS:
        raise NotPlain
    try:
        found = {name: value[name] for name in value.keys()}  # noqa: SIM118 - it is no dict
    except KeyError as error:  # a name with U+0000, which the library looks up only as far as that
        raise NotPlain from error
    if len(found) != len(value):
        raise NotPlain
    return found


def words(value: Any) -> tuple[str, ...]:
    """Return the strings of an array.

    Raises:
        NotPlain: The value is not an array of strings, or is longer than `MAX_FIELDS`.
    """
    if type(value) is not simdjson.Array or len(value) > MAX_FIELDS:
        raise NotPlain
    found: tuple[Any, ...] = tuple(value)
    if not all(type(word) is str for word in found):
        raise NotPlain
    return found


class Numbers:
    """Arrays of numbers, taken from a document one after the other.

    simdjson flattens arrays within arrays, however deep and uneven. What is read here are rows of
    equal length; that nothing else was in them, the document's count of brackets tells in the end.
    They are taken within its block, where numbers beyond a dtype's range are found.
    """

    __slots__ = ("_overflow", "arrays", "body")

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.arrays = 0
        self._overflow = np.errstate(over="raise")

    def __enter__(self) -> Self:
        self._overflow.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._overflow.__exit__(kind, error, trace)

    def take(self, value: Any, dtype: DType, max_rank: int) -> Array:
        """Return the tensor of ``value``.

        Raises:
            NotPlain: The value is not an array of numbers, is uneven, empty, too deep or of more
                than `MAX_ARRAYS` arrays, or holds a number beyond the range of ``dtype``.
        """
        if type(value) is not simdjson.Array:
            raise NotPlain
        shape: tuple[int, ...] = (len(value),)
        self.arrays += 1
        rows: Sequence[Any] = (value,)
        while shape[-1] and type(rows[0][0]) is simdjson.Array:
            if len(shape) == max_rank or self.arrays + len(rows) * shape[-1] > MAX_ARRAYS:
                raise NotPlain
            rows = [row for each in rows for row in each]
            shape = (*shape, _common_length(rows))
            self.arrays += len(rows)
        try:
            flat = np.frombuffer(value.as_buffer(of_type="d"), np.float64)
        except (TypeError, ValueError) as error:
            raise NotPlain from error
        if not flat.size or flat.size != len(rows) * shape[-1]:
            raise NotPlain
        array = _rounded(flat, dtype)
        return array if len(shape) == 1 else array.reshape(shape)

    def finish(self, other: int) -> None:
        """See that the document holds the arrays taken, and ``other`` ones, and no more.

        Raises:
            NotPlain: It holds others.
        """
        if _brackets(self.body) != self.arrays + other:
            raise NotPlain


def _brackets(body: bytes) -> int:
    """How many brackets open in ``body``: a long one NumPy counts in a quarter of the time."""
    if len(body) < LONG:
        return body.count(b"[")
    return int(np.count_nonzero(np.frombuffer(body, np.uint8) == BRACKET))


def _common_length(rows: Sequence[Any]) -> int:
    lengths = {len(row) if type(row) is simdjson.Array else -1 for row in rows}
    if len(lengths) != 1:
        raise NotPlain
    return lengths.pop()


def _rounded(exact: NDArray[np.float64], dtype: DType) -> Array:
    """``exact`` in ``dtype``.

    Raises:
        NotPlain: A number is beyond its range.
    """
    if dtype == "float64":
        return exact
    if dtype == "bfloat16":
        array, lost = narrowed(exact, dtype)
        if lost is not None:
            raise NotPlain
        return array
    try:
        return exact.astype(NUMPY[dtype])
    except FloatingPointError as error:
        raise NotPlain from error


def elements(value: Any) -> list[Any]:
    """Return the elements of an array.

    Raises:
        NotPlain: The value is not an array, or is longer than `MAX_TENSORS`.
    """
    if type(value) is not simdjson.Array or len(value) > MAX_TENSORS:
        raise NotPlain
    return list(value)


def sizes(value: Any) -> tuple[int, ...]:
    """Return the integers of an array: a shape.

    Raises:
        NotPlain: The value is not an array of integers, or is longer than `MAX_FIELDS`.
    """
    if type(value) is not simdjson.Array or len(value) > MAX_FIELDS:
        raise NotPlain
    # Not `as_list`, which also converts all nested values.
    found: list[Any] = list(value)
    if not INTEGER.issuperset(map(type, found)):
        raise NotPlain
    return tuple(found)


def reshaped(flat: Array, shape: tuple[int, ...]) -> Array:
    """``flat`` in ``shape``.

    Raises:
        NotPlain: It has not so many elements.
    """
    if min(shape, default=1) < 0:
        raise NotPlain
    try:
        return flat.reshape(shape)
    except (ValueError, OverflowError) as error:
        raise NotPlain from error
