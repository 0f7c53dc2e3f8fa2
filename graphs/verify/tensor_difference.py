"""Difference between two tensors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from gatewave.graphs.ops.ulp import float_limits, unit_in_the_last_place
from gatewave.graphs.processes.messages import STRINGS, Array
from gatewave.graphs.verify.allowance import Allowance
from gatewave.graphs.verify.thresholds import OVERFLOW_SHARE


@dataclass(frozen=True)
class Place:
    """Element at which two tensors differ most.

    Attributes:
        index: Index of the element; ``None`` if shapes or types differ, which the values show.
        original: The original's value there.
        rewritten: The other one.
    """

    index: tuple[int, ...] | None
    original: Any
    rewritten: Any


@dataclass(frozen=True)
class Difference:
    """Difference between two tensors that should be equal.

    Attributes:
        used: Largest error as a share of the tolerance; infinite if that is zero.
        absolute: The largest difference of finite numbers.
        relative: Largest share of the original. Like `ulp`, it counts only where the original is
            larger than the allowed error: near zero both would be huge without a meaning.
        ulp: Largest difference in units in the last place of the original.
        excused_overflows: Number of excused elements that overflow in one of the two only: the
            original is NaN, infinite, or close to overflow there.
        wrong: Number of elements beyond the tolerance.
        place: Element with the largest `used`.
    """

    used: float = 0.0
    absolute: float = 0.0
    relative: float = 0.0
    ulp: float = 0.0
    excused_overflows: int = 0
    wrong: int = 0
    place: Place | None = None


SAME = Difference()


def between(
    want: Array | None,
    got: Array | None,
    tolerance: Allowance,
    *,
    lenient: bool,
    slack: Array | None = None,
) -> Difference:
    """Return the difference of ``got`` from ``want``.

    Args:
        want: The original's.
        got: The rewritten model's.
        tolerance: Allowed difference between floats; other values must be equal.
        lenient: True if NaN in the original may have become a number, and infinity a finite one:
            where the original overflows, a rewrite that does not is no worse.
        slack: Least allowed difference at each element, in float64.
    """
    if described(want) != described(got):
        return Difference(used=np.inf, place=Place(None, described(want), described(got)))
    if want is None or got is None or not want.size:
        return SAME
    if want.dtype.kind == "c":
        parts = [(want.real, got.real), (want.imag, got.imag)]
        found = [_floats(*part, tolerance, lenient=lenient) for part in parts]
        return max(found, key=lambda difference: difference.used)
    if is_float(want):
        return _floats(want, got, tolerance, lenient=lenient, slack=slack)
    return _exactly(want, got)


def is_float(array: Array) -> bool:
    """Return true for floats, including those of ml_dtypes."""
    return array.dtype.kind == "f" or (array.dtype.kind == "V" and "float" in array.dtype.name)


def dtype_of(array: Array) -> str:
    """Return the name of the element type; ``string`` for NumPy's objects."""
    return STRINGS if array.dtype == object else array.dtype.name


def described(array: Array | None) -> str:
    """Describe dtype and shape in words."""
    return "nothing" if array is None else f"{dtype_of(array)} of shape {list(array.shape)}"


def _exactly(want: Array, got: Array) -> Difference:
    unequal = np.asarray(want != got)
    if not unequal.any():
        return SAME
    index = _first(unequal)
    place = Place(index, _shown(want[index]), _shown(got[index]))
    wrong = int(unequal.sum())
    return Difference(used=np.inf, absolute=_distance(want, got), wrong=wrong, place=place)


def _distance(want: Array, got: Array) -> float:
    if want.dtype.kind in "Ob":
        return 0.0
    return float(np.abs(want.astype(np.float64) - got.astype(np.float64)).max())


def _floats(
    want: Array, got: Array, tolerance: Allowance, *, lenient: bool, slack: Array | None = None
) -> Difference:
    dtype = want.dtype.name
    high, low = want.astype(np.float64), got.astype(np.float64)
    finite = np.isfinite(high) & np.isfinite(low)
    # Zeros of both signs are equal, and so is each NaN to any other.
    same = (high == low) | (np.isnan(high) & np.isnan(low))
    excused_overflows = (
        ~same & (_has_overflowed(high, low) | _is_near_overflow(high, low, dtype)) & lenient
    )
    known = np.where(np.isfinite(high), high, 0.0)
    units = unit_in_the_last_place(known, dtype)
    allowed = tolerance.allowed(known, units, dtype)
    allowed = allowed if slack is None else np.maximum(allowed, slack)
    with np.errstate(all="ignore"):
        error = np.where(finite, np.abs(known - low), 0.0)
        share = np.where(finite, np.where(error == 0, 0.0, error / allowed), np.inf)
        share[same | excused_overflows] = 0.0
        large_enough = finite & (np.abs(known) > allowed)
        relative = np.where(large_enough, error / np.abs(known), 0.0)
        ulp = np.where(large_enough, error / units, 0.0)
    index = _first(share == share.max())
    return Difference(
        used=float(share.max()),
        absolute=float(error.max()),
        relative=float(relative.max()),
        ulp=float(ulp.max()),
        excused_overflows=int(excused_overflows.sum()),
        wrong=int((share > 1).sum()),
        place=Place(index, _shown(want[index]), _shown(got[index])),
    )


def _has_overflowed(want: Array, got: Array) -> Array:
    """Return the mask where the original is NaN, or infinite and the other is not."""
    return np.asarray(np.isnan(want) | (np.isinf(want) & np.isfinite(got)))


def _is_near_overflow(want: Array, got: Array, dtype: str) -> Array:
    """Return the mask where the original is large enough for a reordered sum to overflow."""
    near = np.isfinite(want) & (np.abs(want) > OVERFLOW_SHARE * float(float_limits(dtype).max))
    return np.asarray(near & np.isinf(got) & (np.sign(got) == np.sign(want)))


def _first(places: Array) -> tuple[int, ...]:
    found = np.unravel_index(int(np.argmax(places)), places.shape)
    return tuple(int(axis) for axis in found)


def _shown(value: Any) -> Any:
    """Return a number of Python, which JSON can write."""
    if isinstance(value, np.generic):
        kind = value.dtype
        return value.item() if kind.kind in "biuf" else float(value) if kind.kind == "V" else value
    return value
