"""Allowed difference between the floats of two tensors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from gatewave.graphs.ops.ulp import float_limits
from gatewave.graphs.processes.messages import Array
from gatewave.graphs.verify.thresholds import COARSE, MIN_SLICE, RELATIVE, ROUNDINGS, TIGHT


@dataclass(frozen=True)
class Allowance:
    """Allowed difference of a float from the original's: the largest of three bounds.

    The bounds are relative to the number, relative to the scale of the tensor or of its slice
    (sums cancel, so that small numbers have the errors of large ones), and in units in the last
    place. The module `thresholds` has the defaults and their evidence.

    Attributes:
        rtol: Bound relative to the original number; `RELATIVE` by default.
        atol: Bound relative to the scale of the original tensor or slice; `rtol` by default.
        ulp: Bound in units in the last place of the number, in the dtype of the output; strict
            together with ``rtol=0`` and ``atol=0``.
        coarse: True if the default for float64 is `COARSE`.
        sliced: True if slices have their own scales, as columns of an output do. Values within a
            network have the scale of the whole: its channels differ without a meaning.
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
        """Return the largest error at each element of ``want``, which is float64 and finite."""
        rtol = self._default(dtype) if self.rtol is None else self.rtol
        atol = rtol if self.atol is None else self.atol
        floor = np.maximum(self._of_scale(want, atol, dtype), self.ulp * units)
        return np.asarray(np.maximum(rtol * np.abs(want), floor))

    def words(self, dtype: str) -> str:
        """Describe the bounds on floats of ``dtype``."""
        rtol = self._default(dtype) if self.rtol is None else self.rtol
        atol = rtol if self.atol is None else self.atol
        ulp = f", or {self.ulp:g} units in the last place" if self.ulp else ""
        return f"{rtol:.2g} of the number, or {atol:.2g} of the scale around it{ulp}"

    def _of_scale(self, want: Array, atol: float, dtype: str) -> Array:
        """Return ``atol`` of the scale, and at least some roundings of the scale of the whole.

        Numbers that cancel leave such roundings. ONNX Runtime's Sigmoid, too, is off by as much of
        1 where a slice of scores may be a millionth.
        """
        whole = _scale(want)
        least = min(atol, ROUNDINGS * float(float_limits(dtype).eps)) * whole
        scales = _slice_scales(want) if self.sliced else np.asarray(whole)
        return np.clip(atol * scales, least, atol * whole)

    def _default(self, dtype: str) -> float:
        if self.coarse and dtype in ("float64", "complex128"):
            return COARSE
        if self.tight and dtype in ("float32", "complex64"):
            return TIGHT
        return RELATIVE.get(dtype) or ROUNDINGS * float(float_limits(dtype).eps)


def _slice_scales(want: Array) -> Array:
    """Return the root mean square of the slice that each element is in.

    The tensor is cut along the axis whose slices differ most in scale. Otherwise a large column
    hides the others: with boxes in pixels beside scores from 0 to 1, scores could be off by 1 %.
    """
    largest = float(np.abs(want).max())
    if not largest:
        return np.zeros(())
    squares = np.square(want / largest)
    whole = np.sqrt(np.mean(squares))
    return np.asarray(largest * max(_sliced(squares), key=_spread, default=whole))


def _scale(want: Array) -> float:
    """Return the root mean square of numbers whose squares may be out of range."""
    largest = float(np.abs(want).max())
    return largest * float(np.sqrt(np.mean(np.square(want / largest)))) if largest else 0.0


def _sliced(squares: Array) -> Iterator[Array]:
    """Yield the scales of the slices along each axis, if slices have `MIN_SLICE` elements."""
    for axis, count in enumerate(squares.shape):
        if count > 1 and squares.size // count >= MIN_SLICE:
            others = tuple(other for other in range(squares.ndim) if other != axis)
            yield np.sqrt(np.mean(squares, axis=others, keepdims=True))


def _spread(scales: Array) -> float:
    least = float(scales.min())
    return float(scales.max()) / least if least else np.inf
