"""Difference between two tensors, and the tolerance for it."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import ml_dtypes
import numpy as np

from gatewave.graphs.processes.channel import STRINGS, Array

RELATIVE: Mapping[str, float] = MappingProxyType(
    {"complex128": 1e-10, "float64": 1e-10, "complex64": 1e-4, "float32": 1e-4, "float16": 1e-2}
)
"""Default of `Allowance.rtol` by dtype; bfloat16 and shorter floats get four roundings."""

COARSE = 1e-6
"""Default for float64 if an operator computes with float32 constants; see `coarse`."""

TIGHT = 2e-5
"""Default for one activation in float32: kernels and bodies differ by up to 1e-6 of the scale."""

ROUNDINGS = 4

TELLING = 8
"""Least number of elements with a scale; fewer may all be near zero by chance."""

EDGE = 1e-3
"""Share of the greatest number beyond which infinity counts as overflow, not as an error."""


@dataclass(frozen=True)
class Allowance:
    """Allowed difference of a float from the original's: the largest of three bounds.

    A rewrite may round otherwise at each activation, and what comes after carries that on: it does
    not compute the same bits. In float32, networks of a hundred layers whose SiLUs were fused and
    run by the kernels differ by up to 6e-6 of the scale of their output. An
    activation that is mistaken for its neighbour, GELU for its tanh form (5e-4) or α = 1.702 for
    1.7, differs by more than 1e-4. So that is the default: of the number itself, and, as sums
    cancel, of the scale of the tensor or of its slice, see `_slice_scales`. float64 has
    1e-10, which still tells a π of float32 from one of float64; 16 bits have some roundings, as
    each operator makes one.

    Attributes:
        rtol: Bound relative to the original number; `RELATIVE` by default.
        atol: Bound relative to the scale of the original tensor or slice; `rtol` by default.
        ulp: Bound in units in the last place of the number, in the dtype of the output; strict
            together with ``rtol=0`` and ``atol=0``.
        coarse: True if the default for float64 is `COARSE`.
        sliced: True if slices of different scale have their own scales, as columns of an output
            do; channels within a network differ too, and mean nothing by themselves.
        tight: True if the default for float32 is `TIGHT`: for a changed part on equal inputs.
    """

    rtol: float | None = None
    atol: float | None = None
    ulp: float = 0.0
    coarse: bool = False
    sliced: bool = True
    tight: bool = False

    @property
    def is_given(self) -> bool:
        """Return true if the caller has set bounds."""
        return self.rtol is not None or self.atol is not None

    def allowed(self, want: Array, units: Array, dtype: str) -> Array:
        """The largest error at each element of ``want``, of which all are float64 and finite."""
        rtol = self._default(dtype) if self.rtol is None else self.rtol
        atol = rtol if self.atol is None else self.atol
        floor = np.maximum(self._of_scale(want, atol, dtype), self.ulp * units)
        return np.asarray(np.maximum(rtol * np.abs(want), floor))

    def words(self, dtype: str) -> str:
        """The bounds on floats of ``dtype``, for people."""
        rtol = self._default(dtype) if self.rtol is None else self.rtol
        atol = rtol if self.atol is None else self.atol
        ulp = f", or {self.ulp:g} units in the last place" if self.ulp else ""
        return f"{rtol:.2g} of the number, or {atol:.2g} of the scale around it{ulp}"

    def _of_scale(self, want: Array, atol: float, dtype: str) -> Array:
        """``atol`` of the scale, but no less than some roundings of the whole's.

        What should cancel to nothing leaves that, and ONNX Runtime's own Sigmoid is off by as much
        of 1, where a slice of scores may be a millionth.
        """
        whole = _scale(want)
        least = min(atol, ROUNDINGS * float(_limits(dtype).eps)) * whole
        scales = _slice_scales(want) if self.sliced else np.asarray(whole)
        return np.clip(atol * scales, least, atol * whole)

    def _default(self, dtype: str) -> float:
        if self.coarse and dtype in ("float64", "complex128"):
            return COARSE
        if self.tight and dtype in ("float32", "complex64"):
            return TIGHT
        return RELATIVE.get(dtype) or ROUNDINGS * float(_limits(dtype).eps)


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
    """Between two tensors that should be equal.

    Attributes:
        used: Largest error as a share of the tolerance; infinite if that is zero.
        absolute: The largest difference of finite numbers.
        relative: Largest share of the original; both this and `ulp` only where the original is
            larger than the allowance, as at zero they say nothing.
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
    same = (high == low) | (np.isnan(high) & np.isnan(low))
    excused_overflows = ~same & (_overflown(high, low) | _about_to(high, low, dtype)) & lenient
    known = np.where(np.isfinite(high), high, 0.0)
    units = unit_in_the_last_place(known, dtype)
    allowed = tolerance.allowed(known, units, dtype)
    allowed = allowed if slack is None else np.maximum(allowed, slack)
    with np.errstate(all="ignore"):
        error = np.where(finite, np.abs(known - low), 0.0)
        share = np.where(finite, np.where(error == 0, 0.0, error / allowed), np.inf)
        share[same | excused_overflows] = 0.0
        telling = finite & (np.abs(known) > allowed)
        relative = np.where(telling, error / np.abs(known), 0.0)
        ulp = np.where(telling, error / units, 0.0)
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


def _overflown(want: Array, got: Array) -> Array:
    """Return the mask where the original is NaN, or infinite and the other is not."""
    return np.asarray(np.isnan(want) | (np.isinf(want) & np.isfinite(got)))


def _about_to(want: Array, got: Array, dtype: str) -> Array:
    """Return the mask where the original is large enough for a reordered sum to overflow."""
    edge = np.isfinite(want) & (np.abs(want) > EDGE * float(_limits(dtype).max))
    return np.asarray(edge & np.isinf(got) & (np.sign(got) == np.sign(want)))


def _slice_scales(want: Array) -> Array:
    """The root of the mean square of the slice that each element is in.

    One large column would hide the others: boxes in pixels beside scores from 0 to 1. So the tensor
    is cut along the axis whose slices differ most in scale.
    """
    largest = float(np.abs(want).max())
    if not largest:
        return np.zeros(())
    squares = np.square(want / largest)
    whole = np.sqrt(np.mean(squares))
    return np.asarray(largest * max(_sliced(squares), key=_spread, default=whole))


def _scale(want: Array) -> float:
    """The root of the mean square, of numbers whose squares may be out of range."""
    largest = float(np.abs(want).max())
    return largest * float(np.sqrt(np.mean(np.square(want / largest)))) if largest else 0.0


def _sliced(squares: Array) -> Iterator[Array]:
    """The scales along each axis whose slices have elements enough to tell; they broadcast."""
    for axis, count in enumerate(squares.shape):
        if count > 1 and squares.size // count >= TELLING:
            others = tuple(other for other in range(squares.ndim) if other != axis)
            yield np.sqrt(np.mean(squares, axis=others, keepdims=True))


def _spread(scales: Array) -> float:
    least = float(scales.min())
    return float(scales.max()) / least if least else np.inf


def unit_in_the_last_place(numbers: Array, dtype: str) -> Array:
    """The distance between neighbouring floats of ``dtype`` around ``numbers``, in float64."""
    limits = _limits(dtype)
    _, exponent = np.frexp(np.clip(np.abs(numbers), limits.smallest_normal, limits.max))
    least = float(limits.smallest_subnormal)
    return np.asarray(np.maximum(np.ldexp(float(limits.eps), exponent - 1), least))


@functools.cache
def _limits(dtype: str) -> Any:
    return ml_dtypes.finfo(dtype)  # type: ignore[no-untyped-call]


def _first(places: Array) -> tuple[int, ...]:
    found = np.unravel_index(int(np.argmax(places)), places.shape)
    return tuple(int(axis) for axis in found)


def _shown(value: Any) -> Any:
    """A number as Python has it, as JSON and people read it."""
    if isinstance(value, np.generic):
        kind = value.dtype
        return value.item() if kind.kind in "biuf" else float(value) if kind.kind == "V" else value
    return value
