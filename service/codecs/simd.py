"""Fast reader of JSON by simdjson: arrays become tensors without a Python object for each number.

Only plain, valid requests are read here. For all others `NotPlain` is raised, and the complete and
slower reader takes over, which also describes errors.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import numpy as np
import simdjson
from numpy.typing import NDArray

from gatewave.service.codecs.count_limits import MAX_FIELDS, MAX_TENSORS
from gatewave.service.codecs.datatypes import NUMPY, Array, DType
from gatewave.service.codecs.rounding import narrowed

KEPT_BYTES = 1 << 18
"""Longest document for the kept parser, in bytes. A parser keeps memory for ten times its longest
document; longer documents get a new parser."""

MAX_ARRAYS = 4096
"""Arrays of one document that are read with proxies, at 0.3 µs each. For more arrays, the complete
reader is as fast, and moves to a thread of the pool sooner."""

BRACKET = ord("[")
INTEGER = frozenset({int})
LONG = 4096
"""Length in bytes from which on NumPy counts faster than `bytes.count`, despite its call."""

_kept = threading.local()


class NotPlain(Exception):  # noqa: N818 - no error: the complete reader takes over
    """The document needs the complete reader."""


def parse(body: bytes) -> simdjson.Object:
    """Return the object in ``body``; its proxies must be dropped before the next call.

    A kept parser reuses its memory, and refuses to do so while proxies of it exist.

    Raises:
        NotPlain: The body is not JSON, or not an object.
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
    """Return the fields of an object, with proxies for objects and arrays.

    Raises:
        NotPlain: The value is not an object, has a field that is not ``known``, or a field twice.
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


class ArrayReader:
    """Reader of the arrays of numbers in one document, one after the other.

    simdjson flattens nested arrays of any depth, also ragged ones: ``[[1], 2]`` and ``[1, [2]]``
    have the same flat numbers. Therefore `take` compares the lengths of rows, and `finish` compares
    the number of arrays that were read with the number of brackets in the text. Arrays are taken
    within the block of this context, in which NumPy raises on overflow.
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
        """Check that the document has no arrays but those taken and ``other`` ones.

        Raises:
            NotPlain: There are others, or a string contains a bracket.
        """
        if _brackets(self.body) != self.arrays + other:
            raise NotPlain


def _brackets(body: bytes) -> int:
    """Return the number of opening brackets in ``body``, also of those in strings."""
    if len(body) < LONG:
        return body.count(b"[")
    return int(np.count_nonzero(np.frombuffer(body, np.uint8) == BRACKET))


def _common_length(rows: Sequence[Any]) -> int:
    lengths = {len(row) if type(row) is simdjson.Array else -1 for row in rows}
    if len(lengths) != 1:
        raise NotPlain
    return lengths.pop()


def _rounded(exact: NDArray[np.float64], dtype: DType) -> Array:
    """Return ``exact``, rounded to ``dtype``.

    Raises:
        NotPlain: A number is out of range.
    """
    if dtype == "float64":
        return exact
    if dtype == "bfloat16":
        array, lost = narrowed(exact, dtype)
        if lost is not None:
            raise NotPlain
        return array
    # JSON has no infinities, so each overflow is an error; NumPy's own flag saves a pass over the
    # results. bfloat16 is rounded by `narrowed`, because ml_dtypes rounds float64 twice.
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
    """Return ``flat`` in ``shape``.

    Raises:
        NotPlain: The shape has another number of elements, or a negative size.
    """
    if min(shape, default=1) < 0:
        raise NotPlain
    try:
        return flat.reshape(shape)
    except (ValueError, OverflowError) as error:
        raise NotPlain from error
