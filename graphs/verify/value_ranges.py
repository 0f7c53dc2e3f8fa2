"""Ranges of values for the floats and integers of a case, ordinary ones and the edges.

NaN, infinities, and numbers so large that a graph overflows have cases of their own: one NaN among
the pixels of an image makes all outputs NaN and hides other errors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gatewave.graphs.processes.messages import Array
from gatewave.graphs.verify.thresholds import LARGE, SPECIAL_SHARE

Source = np.random.Generator
DrawFloats = Callable[[Source, tuple[int, ...], Any], Array]


@dataclass(frozen=True)
class ValueRange:
    """A range of values.

    Attributes:
        name: Name for display.
        draw: Floats, as float64, given the limits of their type.
        integers: Range of integers without a known meaning.
        extreme: True if the original may overflow on them, or gets infinities.
        thresholds: True if half of the numbers are at a threshold of the model, or next to it.
        limits: True if half of the integers are the least and the greatest of their type.
    """

    name: str
    draw: DrawFloats
    integers: tuple[int, int] = (0, 5)
    extreme: bool = False
    thresholds: bool = False
    limits: bool = False


def _normal(source: Source, shape: tuple[int, ...], _: Any) -> Array:
    return source.standard_normal(shape)


def _unit(source: Source, shape: tuple[int, ...], _: Any) -> Array:
    return source.random(shape)


def _bytes(source: Source, shape: tuple[int, ...], _: Any) -> Array:
    return source.integers(0, 256, shape).astype(np.float64)


def _large(source: Source, shape: tuple[int, ...], _: Any) -> Array:
    return source.standard_normal(shape) * LARGE


def _among(special: Callable[[Any, Source, int], Array]) -> DrawFloats:
    """Return a range of normal numbers with `SPECIAL_SHARE` special ones, at least one."""

    def draw(source: Source, shape: tuple[int, ...], limits: Any) -> Array:
        numbers = source.standard_normal(shape)
        chosen = source.random(shape) < SPECIAL_SHARE
        if numbers.size and not chosen.any():
            chosen.flat[source.integers(numbers.size)] = True
        numbers[chosen] = special(limits, source, int(chosen.sum()))
        return numbers

    return draw


def _signed(source: Source, numbers: Array) -> Array:
    return np.where(source.random(numbers.shape) < 0.5, numbers, -numbers)  # noqa: PLR2004


def _tiny(limits: Any, source: Source, count: int) -> Array:
    """Return ±0, subnormal numbers, and magnitudes up to 1, spread over all exponents."""
    least, normal = float(limits.smallest_subnormal), float(limits.smallest_normal)
    fixed = source.choice([0.0, least, 3 * least, normal / 2, normal, 1.0], count)
    spread = normal ** source.random(count)
    return _signed(source, np.where(source.random(count) < 0.5, fixed, spread))  # noqa: PLR2004


def _huge(limits: Any, source: Source, count: int) -> Array:
    """Return magnitudes from 1 to the largest number, spread over all exponents."""
    greatest = float(limits.max)
    fixed = source.choice([greatest, greatest / 2, greatest**0.5, 1e4, 100.0], count)
    spread = greatest ** source.random(count)
    return _signed(source, np.where(source.random(count) < 0.5, fixed, spread))  # noqa: PLR2004


def _infinite(_: Any, source: Source, count: int) -> Array:
    return _signed(source, np.full(count, np.inf))


def _nan(_: Any, __: Source, count: int) -> Array:
    return np.full(count, np.nan)


NORMAL = ValueRange("normal", _normal)
THRESHOLDS = ValueRange("thresholds", _normal, thresholds=True)
VALUE_RANGES = (
    ValueRange("0 to 1", _unit, (0, 2)),
    ValueRange("0 to 255", _bytes, (0, 256), extreme=True),
    ValueRange("large", _large, (-100, 101), extreme=True),
    ValueRange("zeros and subnormals", _among(_tiny), (-1, 2)),
    ValueRange("huge", _among(_huge), (-(2**62), 2**62), extreme=True, limits=True),
    ValueRange("infinities", _among(_infinite), extreme=True),
    ValueRange("NaN", _among(_nan)),
)
"""After `NORMAL`, which every shape is tried with; in this order, as time may run out."""
