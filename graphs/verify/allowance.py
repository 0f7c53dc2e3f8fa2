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
        if count > 1 and squares.size // count >= MIN_SLICE:
            others = tuple(other for other in range(squares.ndim) if other != axis)
            yield np.sqrt(np.mean(squares, axis=others, keepdims=True))


def _spread(scales: Array) -> float:
    least = float(scales.min())
    return float(scales.max()) / least if least else np.inf
