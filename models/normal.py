"""The standard normal distribution function Φ, which the exact GELU is made of."""

from __future__ import annotations

import functools
import itertools
import math
from typing import Any

import mpmath

TERMS = 40
"""Chebyshev terms that carry erfcx to the last bit of float64."""

_TERMS_OF = {24: 16, 53: TERMS}
"""Number of terms that matter, by the digits of the working precision."""


def normal_cdf(op: Any, a: Any) -> Any:
    """``Φ(a) = (1 + erf(a/√2)) / 2``, to an absolute error of a few units in the last place of 1.

    In float64 without the operator Erf: ONNX Runtime has it for float32 only.
    """
    scaled = op.Mul(a, math.sqrt(0.5))
    if op.precision_bits == 24:  # noqa: PLR2004 - bits of float32
        return op.Mul(op.Add(op.Erf(scaled), 1.0), 0.5)
    distance = op.Abs(scaled)
    tail = op.Mul(op.Mul(op.Exp(op.Neg(op.Mul(scaled, scaled))), erfcx(op, distance)), 0.5)
    return op.Where(op.Less(a, 0.0), tail, op.Sub(1.0, tail))


def erfcx(op: Any, distance: Any) -> Any:
    """``exp(x²) · erfc(x)`` for ``x >= 0``, by Clenshaw's rule in ``t = (2 - x) / (2 + x)``."""
    t = op.Div(op.Sub(2.0, distance), op.Add(2.0, distance))
    # At infinity the quotient is ∞/∞; what it multiplies is 0 there.
    t = op.Where(op.Greater(distance, _FAR[op.precision_bits]), -1.0, t)
    double_t = op.Mul(t, 2.0)
    first, *rest = _chebyshev_coefficients()[: _TERMS_OF[op.precision_bits]]
    later: Any = op.Mul(t, 0.0)
    last: Any = later
    for coefficient in reversed(rest):
        # The coefficient comes first: Torch's exporter drops additions of less than 1e-8.
        last, later = op.Add(op.Mul(double_t, last), op.Sub(coefficient, later)), last
    return op.Add(op.Mul(t, last), op.Sub(first, later))


_FAR = {24: 1e30, 53: 1e100}


@functools.cache
def _chebyshev_coefficients() -> tuple[float, ...]:
    """Interpolation at Chebyshev's points, in 40 digits."""
    with mpmath.workdps(40):
        angles = [mpmath.pi * (k + mpmath.mpf(1) / 2) / TERMS for k in range(TERMS)]
        values = [_erfcx_exactly(mpmath.cos(angle)) for angle in angles]
        sums = [
            mpmath.fsum(v * mpmath.cos(n * angle) for v, angle in zip(values, angles, strict=True))
            for n in range(TERMS)
        ]
        return tuple(
            float(factor * total / TERMS)
            for factor, total in zip(itertools.chain([1], itertools.repeat(2)), sums, strict=False)
        )


def _erfcx_exactly(t: mpmath.mpf) -> mpmath.mpf:
    x = 2 * (1 - t) / (1 + t)
    return mpmath.exp(x * x) * mpmath.erfc(x)
