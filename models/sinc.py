"""Sinc, normalised: 1 at zero, 0 at every other integer."""

from __future__ import annotations

import math
from typing import Any

from gatewave.models.activation import (
    FLOAT32_BITS,
    FLOAT64_BITS,
    Activation,
    Operator,
    Tolerance,
)

SERIES_RADIUS = 0.5
"""Bound below which the derivative is its Taylor series: the closed form cancels near 0."""

# At the radius the first omitted term is 1e-10 of the derivative, and 5e-22 of it in float64.
SERIES_TERMS = {FLOAT32_BITS: 7, FLOAT64_BITS: 12}
"""Number of terms that reach full precision at the radius, by significant bits."""

NEGLIGIBLE = 1e-9
"""Bound below which sinc is 1 to the last bit of float64: (π · 1e-9)² / 6 is 1.6e-18."""


def value(op: Any, x: Any) -> Any:
    """``sin(πr) · (-1)^n / (πx)`` with ``n = round(|x|)`` and ``r = |x| - n``, which is exact."""
    distance = op.Abs(x)
    sign, angle = reduced(op, distance)
    # Not a comparison with 0: a runtime that flushes subnormal numbers would divide 0 by 0.
    near = op.Less(distance, NEGLIGIBLE)
    pi_x = op.Where(near, 1.0, op.Mul(distance, math.pi))
    return op.Where(near, 1.0, op.Div(op.Mul(sign, op.Sin(angle)), pi_x))


def partials(op: Any, x: Any) -> tuple[Any]:
    r"""``(cos πx - sinc x) / x``, and 0 at 0; within `SERIES_RADIUS` its Taylor series.

    That is ``(πx cos πx - sin πx) / (πx²)``. A widely copied form has ``(πx)²`` for denominator
    and is too small by a factor of π: the derivative at 1/2 is -4/π = -1.273, not -0.405.
    """
    distance = op.Abs(x)
    sign, angle = reduced(op, distance)
    near = op.Less(distance, SERIES_RADIUS)
    safe_x = op.Where(near, 1.0, x)
    sinc = op.Div(op.Mul(sign, op.Sin(angle)), op.Mul(op.Abs(safe_x), math.pi))
    closed = op.Div(op.Sub(op.Mul(sign, op.Cos(angle)), sinc), safe_x)
    return (op.Where(near, _series(op, op.Where(near, x, 0.0)), closed),)


def reduced(op: Any, distance: Any) -> tuple[Any, Any]:
    """The sign and the angle, within ±π/2, that give the sine and cosine of ``π · distance``.

    For ``distance >= 0``; the angle is exactly 0 at integers.
    """
    # From here on every float is an even integer. Infinity minus its nearest integer would be NaN.
    last_fraction = 2.0**op.precision_bits
    bounded = op.Where(op.Greater(distance, last_fraction), last_fraction, distance)
    nearest = op.Round(bounded)
    # The difference is exact (Sterbenz's lemma), so that the angle has one rounding error.
    angle = op.Mul(op.Sub(bounded, nearest), math.pi)
    # (-1)^n: half of n has the fraction 0 or 1/2.
    half = op.Mul(nearest, 0.5)
    sign = op.Sub(1.0, op.Mul(op.Sub(half, op.Floor(half)), 4.0))
    return sign, angle


def _series(op: Any, x: Any) -> Any:
    r"""The derivative of `even_series`, term by term."""
    terms = [2 * k * c for k, c in enumerate(_coefficients(op.precision_bits))]
    return op.Mul(x, _polynomial(op, op.Mul(x, x), terms[1:]))


def even_series(op: Any, x: Any) -> Any:
    r"""``Σ (-1)^k (πx)^(2k) / (2k+1)!``, the Taylor series of sinc."""
    return _polynomial(op, op.Mul(x, x), _coefficients(op.precision_bits))


def _coefficients(precision_bits: int) -> list[float]:
    terms = range(SERIES_TERMS[precision_bits] + 1)
    return [(-1) ** k * math.pi ** (2 * k) / math.factorial(2 * k + 1) for k in terms]


def _polynomial(op: Any, z: Any, coefficients: list[float]) -> Any:
    """``Σ c[k] z^k``, by Horner's rule."""
    *lower, last, highest = coefficients
    total = op.Add(op.Mul(z, highest), last)
    for coefficient in reversed(lower):
        total = op.Add(op.Mul(z, total), coefficient)
    return total


SINC = Activation(
    name="sinc",
    title="Sinc",
    summary="The normalised cardinal sine: 1 at zero, 0 at every other integer.",
    inputs=("x",),
    operators=(
        Operator(
            op_type="Sinc",
            formula="Piecewise((1, Eq(x, 0)), (sin(pi*x)/(pi*x), True))",
            module="gatewave.models.torch.sinc:Sinc",
            value=value,
            partials=partials,
            tolerances={
                "float16": Tolerance(ulp=1, atol=0),
                "bfloat16": Tolerance(ulp=1, atol=0),
                "float32": Tolerance(ulp=4, atol=0),
                "float64": Tolerance(ulp=6, atol=0),
            },
            derivative_tolerances={
                "float16": Tolerance(ulp=1, atol=1e-7),
                "bfloat16": Tolerance(ulp=1, atol=1e-7),
                "float32": Tolerance(ulp=4, atol=2e-7),
                "float64": Tolerance(ulp=4, atol=4e-16),
            },
        ),
    ),
    source="https://numpy.org/doc/stable/reference/generated/numpy.sinc.html",
    example={"x": (-1.5, -1.0, 0.0, 0.5, 2.0)},
    plot_range=(-10.0, 10.0),
    properties=(
        "Even, bounded by 1, and smooth everywhere; its derivative is odd.",
        "Exactly 0 at every non-zero integer, 1 at ±0, and 0, its limit, at ±∞; NaN stays NaN.",
        "The Fourier transform of a rectangle: an ideal low-pass filter's impulse response.",
    ),
    uses=(
        "Learnable band-pass filters on raw audio, as in SincNet.",
        "Implicit neural representations and band-limited interpolation.",
    ),
    limits=(
        (
            "Not monotonic: its derivative changes sign once between neighbouring zeros, and its "
            "size falls as 1/|x|, so units far out learn slowly."
        ),
        (
            "The graph that torch.sinc exports is wrong in float64 (π is rounded to float32) and "
            "answers NaN at ±∞, as torch.sinc does."
        ),
    ),
)
