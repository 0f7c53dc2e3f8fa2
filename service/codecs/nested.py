"""Tensors as nested lists of JSON numbers, with strings for NaN and the infinities."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatewave.service.codecs.datatypes import NUMPY, Array, DType
from gatewave.service.codecs.nonfinite import EXPECTED, WORDS, dumps
from gatewave.service.codecs.rounding import narrowed
from gatewave.service.errors import LimitExceeded, RequestInvalid
from gatewave.service.quoting import Words
from gatewave.service.system import cancellation

NUMBERS = {int, float}

Nested = Any
"""A number, one of `WORDS`, or a list of these, to any depth."""


def decode(
    value: Nested, dtype: DType, field: str, max_rank: int, max_elements: int = sys.maxsize
) -> Array:
    """Return the tensor of ``value``: a number has no axes, a list of numbers has one.

    Raises:
        RequestInvalid: Lists are ragged, an element is not a number, or a number is out of the
            dtype's range; the error names the element.
        LimitExceeded: Lists nest deeper than ``max_rank``, or hold more than ``max_elements``.
    """
    shape, leaves = flatten(value, field, max_rank, max_elements)
    exact = _numbers(leaves, shape, field)
    # All numbers are read as float64 and rounded once to the dtype. Integers above 2^53 are rounded
    # twice, as in any JSON reader with float64; -0.0 keeps its sign, and the integer -0 is 0.
    array, lost = narrowed(exact, dtype)
    if lost is not None:
        index = int(lost.argmax())
        where = field + _subscript(index, shape)
        raise RequestInvalid.at(where, f"a number within the range of {dtype}", leaves[index])
    return array.reshape(shape)


def encode(array: Array) -> bytes:
    """Return a tensor in JSON, with the fewest digits that give each number back.

    The digits of bfloat16 are those of float32.
    """
    return dumps(array.astype(np.float32) if array.dtype == NUMPY["bfloat16"] else array)


def flatten(
    value: Nested, field: str, max_rank: int, max_elements: int = sys.maxsize
) -> tuple[tuple[int, ...], list[Any]]:
    """Return the shape of nested lists, and their innermost elements in row-major order.

    Each step runs in C, in time proportional to the lists that it reads. Only the place of an error
    is searched in Python.

    Raises:
        RequestInvalid: The lists are ragged; the error names the first ragged list.
        LimitExceeded: They nest deeper than ``max_rank``, or hold more than ``max_elements``.
    """
    shape: list[int] = []
    level = [value]
    while level and type(level[0]) is list:
        if len(shape) == max_rank:
            raise LimitExceeded.at(field, f"at most {max_rank} nested lists", Words("more"))
        # Empty lists count too: a million of them take much memory.
        _check_count(len(level), field, max_elements)
        width = len(level[0])
        if set(map(type, level)) != {list} or set(map(len, level)) != {width}:
            _refuse_ragged(level, width, field, tuple(shape))
        _check_count(len(level) * max(width, 1), field, max_elements)
        shape.append(width)
        level = list(chain.from_iterable(level))
        cancellation.check()
    return tuple(shape), level


def memory_of_lists(text: bytes) -> int:
    """Return an upper bound of the bytes of all lists and objects in ``text``, once it is parsed.

    Two bytes of text become a list of 56 bytes and an element of another list. Brackets in strings
    count too.
    """
    if len(text) < PIECE:
        return 0
    letters = np.frombuffer(text, np.uint8)
    pieces = (letters[at : at + PIECE] for at in range(0, len(text), PIECE))
    # An opening bracket with this bit set is an opening brace.
    return LIST_BYTES * sum(int(np.count_nonzero((p | 0x20) == ord("{"))) for p in pieces)


PIECE = 1 << 16
"""Bytes of text from which on lists are counted; about the size of a processor's cache."""
LIST_BYTES = 72


def _check_count(count: int, field: str, most: int) -> None:
    if count > most:
        raise LimitExceeded.at(field, f"at most {most} numbers", count)


def _refuse_ragged(level: list[Any], width: int, field: str, shape: tuple[int, ...]) -> None:
    for index, part in enumerate(level):
        if type(part) is not list or len(part) != width:
            where = field + _subscript(index, shape)
            raise RequestInvalid.at(where, f"a list of {width}, as its neighbours", part)


def _numbers(leaves: Sequence[Any], shape: tuple[int, ...], field: str) -> NDArray[np.float64]:
    # Types, not `isinstance`: a bool is an int in Python, and is no number in JSON.
    if set(map(type, leaves)) <= NUMBERS:
        return np.array(leaves, np.float64)
    return np.fromiter(_each_number(leaves, shape, field), np.float64, len(leaves))


def _each_number(leaves: Sequence[Any], shape: tuple[int, ...], field: str) -> Iterator[float]:
    for index, leaf in enumerate(leaves):
        if type(leaf) in NUMBERS:
            yield leaf
        elif type(leaf) is str and leaf in WORDS:
            yield WORDS[leaf]
        else:
            where = field + _subscript(index, shape)
            raise RequestInvalid.at(where, EXPECTED, leaf)


def _subscript(index: int, shape: tuple[int, ...]) -> str:
    """Return the subscript of element number ``index`` in a tensor of ``shape``: ``[1][0]``."""
    return "".join(f"[{i}]" for i in np.unravel_index(index, shape)) if shape else ""
