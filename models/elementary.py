"""Elementary functions, written in the operators that every runtime has in every element type.

Runtimes have float64 kernels for arithmetic, `Exp`, `Log`, `Sqrt`, `Tanh` and `Sin`, not for the
functions here. Each function takes an abstract ``op``, as the records' decompositions do. Results
are within a few ULP where those operators are, and exact at 0, the infinities and NaN. Both
branches of a `Where` are computed: the branch that is not selected may overflow or be NaN.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from gatewave.models.activation import FLOAT32_BITS, FLOAT64_BITS
from gatewave.models.normal import erfcx

ATAN_SPLIT = math.sqrt(2.0) - 1
"""``tan(π/8)``: the polynomial holds up to here; larger arguments are first reduced."""

ERF_SPLIT = 1.0
"""The polynomial holds up to here; above, ``1 - erfc`` loses no digits."""

SMALL = 1.0
"""Up to here `sinh` is computed from tanh, as the difference of two exponentials would cancel."""

# Largest relative errors of the polynomials, in units of 2^-24 and 2^-53: 0.001 and 0.03 of atan,
# 0.02 and 0.14 of erf. They interpolate at Chebyshev's points; the highest power comes first.
# The numbers are not computed here, because mpmath takes a quarter of a second to import.
# fmt: off
ATAN: Mapping[int, tuple[float, ...]] = MappingProxyType({
    FLOAT32_BITS: (
        0.05048138512079743, -0.08624676145249494, 0.11071365021884794, -0.14284151193628614,
        0.19999977258688387, -0.333333332792548,
    ),
    FLOAT64_BITS: (
        0.01628575685522102, -0.03457056198142774, 0.045515932206265486, -0.05230454270650244,
        0.05878928997834775, -0.06666424885738255, 0.07692296375032143, -0.09090908753500877,
        0.11111111105155447, -0.14285714285659828, 0.19999999999999804, -0.3333333333333333,
    ),
})
"""Coefficients of ``(atan(√z)/√z - 1) / z`` up to `ATAN_SPLIT` squared, by bits of precision."""

ERF: Mapping[int, tuple[float, ...]] = MappingProxyType({
    FLOAT32_BITS: (
        7.875875062685488e-05, -0.000801686428716587, 0.005189087423433974, -0.026854212010626412,
        0.11283594715160218, -0.37612626666720334, 1.1283791658483509,
    ),
    FLOAT64_BITS: (
        5.957176147748911e-11, -1.1372848856791674e-09, 1.4659775274047436e-08,
        -1.6350312701054695e-07, 1.6461000484121368e-06, -1.4925595266831182e-05,
        0.0001205533111164271, -0.000854832698083379, 0.0052239776248180145,
        -0.026866170645076792, 0.11283791670954879, -0.3761263890318375,
        1.1283791670955126,
    ),
})
"""Coefficients of ``erf(√z)/√z`` up to `ERF_SPLIT` squared, by bits of precision."""
# fmt: on

PI: Mapping[int, tuple[float, float]] = MappingProxyType(
    {
        FLOAT32_BITS: (3.1415927410125732, -8.742278000372467e-08),
        FLOAT64_BITS: (3.141592653589793, 1.2246467991473532e-16),
    }
)
"""π rounded to float32 or float64, and the remainder, by bits of precision."""


def expm1(op: Any, x: Any) -> Any:
    """``eˣ - 1`` for ``x <= 0``, as ``2t / (1 - t)`` with ``t = tanh(x/2)``: no cancellation."""
    t = op.Tanh(op.Mul(x, 0.5))
    return op.Div(op.Mul(t, 2.0), op.Sub(1.0, t))


def log1p(op: Any, x: Any) -> Any:
    """``log(1 + x)``, by ``x · log(w) / (w - 1)`` with ``w = 1 + x`` as it is rounded.

    Where ``w`` is 1, this is ``x``; where 1 is lost in ``x``, it is the logarithm.

    Source: Kahan's, in Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., 1.14.1.
    """
    w = op.Add(x, 1.0)
    lost = op.Sub(w, 1.0)
    # 1 is lost in a larger x, and in infinity the ratio would be ∞/∞.
    is_plain = op.Less(2.0**op.precision_bits, x)
    is_tiny = op.Equal(lost, 0.0)
    ratio = op.Div(x, op.Where(is_tiny, 1.0, lost))
    rounded = op.Mul(op.Log(w), op.Where(is_plain, 1.0, ratio))
    return op.Where(is_tiny, x, rounded)


def softplus(op: Any, x: Any) -> Any:
    """``log(1 + eˣ)``, as ``max(x, 0) + log(1 + e⁻|ˣ|)``, in which no term overflows."""
    return op.Add(op.Max(x, 0.0), log1p(op, op.Exp(op.Neg(op.Abs(x)))))


def tan(op: Any, x: Any) -> Any:
    return op.Div(op.Sin(x), op.Cos(x))


def sinh(op: Any, x: Any) -> Any:
    """``2t / (1 - t²)`` with ``t = tanh(x/2)`` near 0, else half the difference of exponentials.

    The exponentials are those of ``x/2``, squared, since ``eˣ`` overflows before sinh does.
    """
    a = op.Abs(x)
    t = op.Tanh(op.Mul(a, 0.5))
    near = op.Div(op.Mul(t, 2.0), op.Mul(op.Sub(1.0, t), op.Add(t, 1.0)))
    half = op.Exp(op.Mul(a, 0.5))
    far = op.Sub(op.Mul(op.Mul(half, 0.5), half), op.Div(op.Div(0.5, half), half))
    return _signed(op, x, op.Where(op.Less(a, SMALL), near, far))


def cosh(op: Any, x: Any) -> Any:
    # Between 709.79 and 710.47 cosh is a float64, and eˣ is not.
    half = op.Exp(op.Abs(op.Mul(x, 0.5)))
    return op.Add(op.Mul(op.Mul(half, 0.5), half), op.Div(op.Div(0.5, half), half))


def asinh(op: Any, x: Any) -> Any:
    """``±log(1 + a + a² / (1 + √(1 + a²)))`` with ``a = |x|``, or ``log 2a`` if a² may overflow."""
    a = op.Abs(x)
    # Beyond it asinh a - log 2a, about 1/(4a²), is far below the last bit.
    is_far = op.Less(2.0**op.precision_bits, a)
    within = op.Where(is_far, 1.0, a)
    square = op.Mul(within, within)
    root = op.Sqrt(op.Add(square, 1.0))
    near = log1p(op, op.Add(within, op.Div(square, op.Add(root, 1.0))))
    return _signed(op, x, op.Where(is_far, op.Add(op.Log(a), math.log(2.0)), near))


def acosh(op: Any, x: Any) -> Any:
    """``log(1 + t + √t · √(t + 2))`` with ``t = x - 1``; NaN below 1, as a root is."""
    is_far = op.Less(2.0**op.precision_bits, x)
    t = op.Sub(op.Where(is_far, 1.0, x), 1.0)
    near = log1p(op, op.Add(op.Mul(op.Sqrt(t), op.Sqrt(op.Add(t, 2.0))), t))
    return op.Where(is_far, op.Add(op.Log(x), math.log(2.0)), near)


def atanh(op: Any, x: Any) -> Any:
    """``±½ log(1 + 2a / (1 - a))`` with ``a = |x|``; NaN beyond ±1."""
    a = op.Abs(x)
    ratio = op.Div(op.Mul(a, 2.0), op.Sub(1.0, a))
    return _signed(op, x, op.Mul(log1p(op, ratio), 0.5))


def atan(op: Any, x: Any) -> Any:
    """Arc tangent: a polynomial in ``a``, ``(a - 1) / (a + 1)`` or ``-1/a``, with ``a = |x|``.

    For the last two, π/4 or π/2 is added.
    """
    a = op.Abs(x)
    is_far, is_near = op.Less(1 / ATAN_SPLIT, a), op.Less(a, ATAN_SPLIT)
    denominator = op.Where(is_far, a, op.Add(a, 1.0))
    turned = op.Div(op.Where(is_far, -1.0, op.Sub(a, 1.0)), denominator)
    reduced = op.Where(is_near, a, turned)
    z = op.Mul(reduced, reduced)
    correction = op.Mul(op.Mul(reduced, z), _horner(op, z, ATAN[op.precision_bits]))
    # The rounding errors of π/2 and π/4 are added to the small part.
    high, low = PI[op.precision_bits]
    rest = op.Add(correction, op.Where(is_near, 0.0, op.Where(is_far, low / 2, low / 4)))
    base = op.Where(is_near, 0.0, op.Where(is_far, high / 2, high / 4))
    return _signed(op, x, op.Add(base, op.Add(reduced, rest)))


def asin(op: Any, x: Any) -> Any:
    """``atan(x / √((1 - x)(1 + x)))``; NaN beyond ±1, as the root is."""
    return atan(op, op.Div(x, op.Sqrt(op.Mul(op.Sub(1.0, x), op.Add(x, 1.0)))))


def acos(op: Any, x: Any) -> Any:
    """``2 · atan(√((1 - x) / (1 + x)))``; NaN beyond ±1, as the root is."""
    return op.Mul(atan(op, op.Sqrt(op.Div(op.Sub(1.0, x), op.Add(x, 1.0)))), 2.0)


def erf(op: Any, x: Any) -> Any:
    """Error function: a polynomial near 0, else ``±(1 - e^(-x²) · erfcx|x|)``."""
    a = op.Abs(x)
    is_near = op.Less(a, ERF_SPLIT)
    z = op.Mul(x, x)
    near = op.Mul(a, _horner(op, op.Where(is_near, z, 0.0), ERF[op.precision_bits]))
    far = op.Sub(1.0, op.Mul(op.Exp(op.Neg(z)), erfcx(op, a)))
    return _signed(op, x, op.Where(is_near, near, far))


def _signed(op: Any, x: Any, size: Any) -> Any:
    """``size`` with the sign of ``x``, -0 as well.

    The reciprocal of -0 is negative. ONNX Runtime's `Where` gives 0 for -0, `Mul` keeps the sign.
    """
    is_negative = op.Less(op.Div(1.0, op.Max(x, -1.0)), 0.0)
    return op.Mul(size, op.Where(is_negative, -1.0, 1.0))


def _horner(op: Any, x: Any, coefficients: Sequence[float]) -> Any:
    """The polynomial in ``x`` with these coefficients, that of the highest power first."""
    first, second, *rest = coefficients
    value = op.Add(op.Mul(x, first), second)
    for coefficient in rest:
        value = op.Add(op.Mul(value, x), coefficient)
    return value
