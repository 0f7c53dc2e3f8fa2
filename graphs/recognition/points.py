"""Points at which expressions and formulas are compared."""

from __future__ import annotations

from typing import Any

import numpy as np

POINTS = np.array(
    sorted(
        {
            sign * x
            for sign in (-1.0, 1.0)
            for x in (
                0.0, 1e-12, 1e-6, 1e-3, 0.05, 0.11, 0.25, 0.3, 0.47, 0.5, 0.7, 0.86, 1.0, 1.23, 1.5,
                1.78, 2.0, 2.37, 2.9, 3.0, 3.3, 3.9, 4.0, 4.6, 5.3, 5.9, 6.4, 7.7, 8.3, 9.2, 11.7,
                16.1, 20.3, 33.3, 60.7,
            )
        }
    )
)  # fmt: skip
"""The 69 usual points: denser where activations are curved, with the bends of piecewise ones.

They are not evenly spaced, so a sine of a wrong period cannot agree at all of them.
"""

OVERFLOW_POINTS = (-600.3, -350.7, -100.9, 100.9, 350.7, 600.3)
"""Points at which most spellings overflow, and decaying functions reach their smallest values."""

RANGE_POINTS = np.array([sign * 10.0**power for sign in (-1, 1) for power in range(2, 39)])
"""Powers of ten up to the range of float32: a function without branches may differ there, too."""

SCREEN = np.flatnonzero(np.isin(POINTS, (-2.37, -0.86, 0.7, 1.78)))
"""Indices of the points that decide whether an expression is compared closely."""


def at(values: Any, point: float) -> float:
    """Return the one of ``values``, given at `POINTS`, that belongs to ``point``."""
    return float(values[np.searchsorted(POINTS, point)])
