"""Sample rows for the check of batching."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gatewave.service.codecs.datatypes import BYTES, DATATYPES, Array
from gatewave.service.serving.model import Port

Shapes = Mapping[str, tuple[int, ...]]
Tensors = dict[str, Array]

SCALES = (0.0, 1e-3, 1.0, 255.0, 1e4)
"""Largest magnitudes of rows. A model may scale pixels (255) or branch on the largest element; rows
of one scale do not show that (ADR 21)."""
SIGNS = (0, 1, -1)
"""Signs of the elements of a row: mixed, positive, negative."""
SPECIAL = (np.inf, -np.inf, np.nan)
TEXTS = ("", "0", "-1", "3.5e10", "a text", "é")


@dataclass(frozen=True, slots=True)
class SampleRange:
    """Range from which mixed rows are drawn.

    Attributes:
        largest: The largest integer; None for the largest of the type.
        lowest: The lowest integer, as a multiple of the largest: -1 or 0.
        special: Whether rows with infinities and NaN are included.
        texts: Whether texts include others than the digits 0 and 1.
    """

    largest: int | None
    lowest: int = 0
    special: bool = False
    texts: bool = False


SAMPLE_RANGES = (
    SampleRange(None, -1, special=True, texts=True),
    SampleRange(100, -1, special=True),
    SampleRange(9),
    SampleRange(1),
)
"""Ranges, the widest first: a model that takes indices or codes cannot compute the wide ones."""


def plain(port: Port, shape: tuple[int, ...], source: np.random.Generator) -> Array:
    """Draw numbers that every model should accept: small, and of both signs in floating point."""
    datatype = DATATYPES[port.datatype]
    if datatype.is_float:
        return source.uniform(-1, 1, shape).astype(datatype.numpy)
    bits = source.integers(0, 2, shape)
    return _texts(bits.astype(str)) if port.datatype == BYTES else bits.astype(datatype.numpy)


def mixed(
    ports: tuple[Port, ...], shapes: Shapes, source: np.random.Generator, sample_range: SampleRange
) -> Tensors:
    """Draw rows of different scale and sign, so that effects of a row on another are visible."""
    return {port.name: _mixed(port, shapes[port.name], source, sample_range) for port in ports}


def special_rows(count: int, sample_range: SampleRange) -> frozenset[int]:
    """Return which rows contain infinities or NaN; they are computed beside the others.

    They are not compared: the order of a sum decides between infinity and NaN, and that order may
    depend on the number of rows.
    """
    return frozenset(range(3, count, 4)) if sample_range.special else frozenset()


def _mixed(
    port: Port, shape: tuple[int, ...], source: np.random.Generator, sample_range: SampleRange
) -> Array:
    if port.datatype == BYTES:
        choices = TEXTS if sample_range.texts else ("0", "1")
        return _texts(source.choice(choices, shape))
    datatype = DATATYPES[port.datatype]
    if datatype.is_float:
        return _floats(shape, source, sample_range).astype(datatype.numpy)
    if datatype.numpy == np.bool_:
        return source.integers(0, 2, shape).astype(np.bool_)
    return _integers(shape, source, sample_range, np.dtype(datatype.numpy))


def _floats(
    shape: tuple[int, ...], source: np.random.Generator, sample_range: SampleRange
) -> Array:
    kinds = [(scale, sign) for scale in SCALES for sign in SIGNS]
    order = source.permutation(len(kinds))
    values = source.uniform(-1, 1, shape)
    for row in range(shape[0]):
        scale, sign = kinds[order[row % len(kinds)]]
        values[row] = (np.abs(values[row]) * sign if sign else values[row]) * scale
    for row in special_rows(shape[0], sample_range):
        flat = values[row : row + 1].reshape(-1)
        flat[:: len(SPECIAL) + 1] = SPECIAL[row % len(SPECIAL)]
        values[row : row + 1] = flat.reshape((1, *shape[1:]))
    return values


def _integers(
    shape: tuple[int, ...],
    source: np.random.Generator,
    sample_range: SampleRange,
    kind: np.dtype[Any],
) -> Array:
    most = int(np.iinfo(kind).max)
    most = most if sample_range.largest is None else min(most, sample_range.largest)
    least = most * sample_range.lowest if kind.kind == "i" else 0
    values = source.integers(least, most, shape, dtype=kind, endpoint=True)
    # Every second row has small numbers; the others have numbers of all sizes.
    values[::2] = np.clip(values[::2], max(least, -1), 1)
    return values


def _texts(words: Array) -> Array:
    return words.astype(np.object_)
