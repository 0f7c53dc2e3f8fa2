"""Unit in the last place: distance between neighbouring numbers of a float type."""

from __future__ import annotations

import functools
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray


def unit_in_the_last_place(numbers: NDArray[Any], dtype: str) -> NDArray[Any]:
    """Return the distance between neighbouring floats of ``dtype`` around ``numbers``.

    Args:
        numbers: Numbers in float64; they need not be numbers of ``dtype``. Beyond its largest
            number the distance is that at the largest number, and near 0 that of subnormals.
        dtype: Name of an IEEE type or of a type of ml_dtypes.

    Returns:
        The distances, in float64, with the shape of ``numbers``.
    """
    limits = float_limits(dtype)
    _, exponent = np.frexp(np.clip(np.abs(numbers), limits.smallest_normal, limits.max))
    # frexp gives a mantissa in [0.5, 1), and eps is the distance in [1, 2): hence the exponent - 1.
    return np.asarray(np.ldexp(float(limits.eps), exponent - 1))


@functools.cache
def float_limits(dtype: str) -> Any:
    """Return the limits of a float type, those of ml_dtypes too; ``np.finfo`` lacks these."""
    return ml_dtypes.finfo(dtype)  # type: ignore[no-untyped-call]
