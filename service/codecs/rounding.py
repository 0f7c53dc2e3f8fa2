"""Rounding of numbers to the element type of a tensor: once, to the nearest value, ties to even."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gatewave.service.codecs.datatypes import NUMPY, Array, DType


def narrowed(exact: Array, dtype: DType) -> tuple[Array, NDArray[np.bool_] | None]:
    """Round ``exact``, an array of any numeric type, to ``dtype``.

    Returns:
        The rounded array; and a mask of the finite numbers that became infinite, or None if there
        are none.
    """
    # Overflow is reported by the mask. The other floating-point exceptions are expected: numbers
    # below the smallest subnormal become zero, and a NaN stays a NaN.
    with np.errstate(all="ignore"):
        nearest = _to_odd(exact) if dtype == "bfloat16" else exact
        array = nearest.astype(NUMPY[dtype], copy=False)
    if np.isfinite(array).all():
        return array, None
    # An infinity that was given is a valid input.
    lost = np.isinf(array) & np.isfinite(exact)
    return array, lost if lost.any() else None


def _to_odd(values: Array) -> NDArray[np.float32]:
    """Round ``values`` to float32, inexact ones to the neighbour with an odd last bit.

    ml_dtypes converts float64 to bfloat16 by way of the nearest float32, which rounds twice:
    1 + 2^-8 + 2^-40 would become the float32 1 + 2^-8, a tie, and then 1 instead of 1 + 2^-7.
    Rounding to odd first keeps the information on which side of a tie a number lies. With at least
    two more bits than the final type, the second rounding is then the correct one (Boldo and
    Melquiond, "Emulation of FMA and correctly rounded sums", 2008).
    """
    near = values.astype(np.float32)
    exact = values.astype(np.float64)
    odd = near.view(np.uint32) & 1 == 1
    outward = np.copysign(np.float32(np.inf), exact - near).astype(np.float32)
    return np.where((near == exact) | odd, near, np.nextafter(near, outward))
