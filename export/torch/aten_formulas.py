"""Torch's elementwise functions as formulas of ONNX operators.

Each is a function of an abstract ``op``, as the records' decompositions are, and computes in the
precision of ``op``. Torch's exporter writes some of them in forms that overflow or cancel, and some
as operators with float32 attributes, which make float64 graphs inexact. The forms here avoid both.
The names, the parameters and their defaults are those of ATen.
"""

from __future__ import annotations

import math
from typing import Any

from gatewave.models.activation import FLOAT32_BITS
from gatewave.models.elementary import log1p
from gatewave.models.normal import erfcx as erfcx_of_positive
from gatewave.models.normal import normal_cdf

# The digits of ATen/native/Activation.cpp.
SELU_ALPHA = 1.6732632423543772848170429916717
SELU_SCALE = 1.0507009873554804934193349852946

ERF_NEAR_ZERO = 0.5
"""Bound below which ``erf(x)`` is its Taylor series: ``1 - erfc(x)`` would cancel."""

ERF_TERMS = 14
"""Highest term of that series; the next one is 2e-23 of the first at `ERF_NEAR_ZERO`."""

ERFCX_FAR = 1e8
"""Bound from which ``erfcx(x)`` is ``1 / (x√π)``: the next term is 1/(2x²), 5e-17, of it."""


def expm1(op: Any, x: Any) -> Any:
    """``eˣ − 1`` as ``tanh(x/2) · (eˣ + 1)``, which does not cancel near 0."""
    return op.Mul(op.Tanh(op.Mul(x, 0.5)), op.Add(op.Exp(x), 1.0))


def softplus(op: Any, x: Any, beta: float = 1.0, threshold: float = 20.0) -> Any:
    """``log(1 + e^(βx)) / β``, and ``x`` where ``βx`` is beyond the threshold."""
    scaled = x if beta == 1 else op.Mul(x, float(beta))
    smooth = op.Add(op.Max(scaled, 0.0), _log1p_exp_of_minus(op, op.Abs(scaled)))
    smooth = smooth if beta == 1 else op.Div(smooth, float(beta))
    return op.Where(op.Greater(scaled, float(threshold)), x, smooth)


def log_sigmoid(op: Any, x: Any) -> Any:
    """``log σ(x)``: the sigmoid underflows long before its logarithm is large."""
    return op.Sub(op.Min(x, 0.0), _log1p_exp_of_minus(op, op.Abs(x)))


def logaddexp(op: Any, a: Any, b: Any) -> Any:
    """``log(eᵃ + eᵇ)`` from the larger of the two, so that no exponential overflows."""
    return op.Add(op.Max(a, b), _log1p_exp_of_minus(op, _distance(op, a, b)))


def logaddexp2(op: Any, a: Any, b: Any) -> Any:
    """``log₂(2ᵃ + 2ᵇ)``, as `logaddexp`."""
    ratio = op.Exp(op.Mul(_distance(op, a, b), -math.log(2.0)))
    return op.Add(op.Max(a, b), op.Div(log1p(op, ratio), math.log(2.0)))


def _log1p_exp_of_minus(op: Any, distance: Any) -> Any:
    return log1p(op, op.Exp(op.Neg(distance)))


def _distance(op: Any, a: Any, b: Any) -> Any:
    """``|a − b|``, and 0 between equal infinities."""
    return op.Where(op.Equal(a, b), 0.0, op.Abs(op.Sub(a, b)))


def erf(op: Any, x: Any) -> Any:
    """The error function; float64 avoids the operator Erf, for which ONNX Runtime has no kernel."""
    if op.precision_bits == FLOAT32_BITS:
        return op.Erf(x)
    square = op.Mul(x, x)
    # The constants come first: Torch's exporter drops additions of less than 1e-8.
    series = op.Sub(_erf_coefficient(ERF_TERMS - 1), op.Mul(square, _erf_coefficient(ERF_TERMS)))
    for n in reversed(range(ERF_TERMS - 1)):
        series = op.Sub(_erf_coefficient(n), op.Mul(square, series))
    distance = op.Abs(x)
    far = op.Sub(1.0, _erfc_of_positive(op, distance))
    signed = op.Where(op.Less(x, 0.0), op.Neg(far), far)
    return op.Where(op.Less(distance, ERF_NEAR_ZERO), op.Mul(x, series), signed)


def _erf_coefficient(n: int) -> float:
    """The size of the coefficient of ``x^(2n + 1)``; the signs alternate."""
    return 2 / math.sqrt(math.pi) / (math.factorial(n) * (2 * n + 1))


def erfc(op: Any, x: Any) -> Any:
    """``1 − erf(x)``, without that difference: it would lose all digits from 4 on in float32."""
    tail = _erfc_of_positive(op, op.Abs(x))
    return op.Where(op.Less(x, 0.0), op.Sub(2.0, tail), tail)


def _erfc_of_positive(op: Any, distance: Any) -> Any:
    return op.Mul(op.Exp(op.Neg(op.Mul(distance, distance))), erfcx_of_positive(op, distance))


def erfcx(op: Any, x: Any) -> Any:
    """``e^(x²) · erfc(x)``; for positive x neither factor is computed."""
    scaled = _erfcx_of_positive(op, op.Abs(x))
    reflected = op.Sub(op.Mul(op.Exp(op.Mul(x, x)), 2.0), scaled)
    return op.Where(op.Less(x, 0.0), reflected, scaled)


def _erfcx_of_positive(op: Any, distance: Any) -> Any:
    """``e^(x²) · erfc(x)``; for large x ``1 / (x√π)``, where the other form loses digits."""
    far = op.Div(1 / math.sqrt(math.pi), distance)
    return op.Where(op.Greater(distance, ERFCX_FAR), far, erfcx_of_positive(op, distance))


def ndtr(op: Any, x: Any) -> Any:
    """The normal distribution function, ``erfc(−x/√2) / 2``."""
    return op.Mul(erfc(op, op.Mul(x, -math.sqrt(0.5))), 0.5)


def log_ndtr(op: Any, x: Any) -> Any:
    """``log Φ(x)``; left of −1 by `erfcx`, whose logarithm does not underflow."""
    scaled = op.Mul(x, math.sqrt(0.5))
    left = op.Sub(
        op.Log(op.Mul(_erfcx_of_positive(op, op.Abs(scaled)), 0.5)), op.Mul(scaled, scaled)
    )
    right = log1p(op, op.Mul(erfc(op, scaled), -0.5))
    return op.Where(op.Less(x, -1.0), left, right)


def gelu(op: Any, x: Any, approximate: str = "none") -> Any:
    """``x · Φ(x)``: Φ by `ndtr`, or by a sigmoid in the tanh form; neither cancels on the left."""
    if approximate == "tanh":
        return op.Mul(x, op.Sigmoid(_doubled_tanh_argument(op, x)))
    # In float64, Φ is computed as in the records.
    return op.Mul(x, (ndtr if op.precision_bits == FLOAT32_BITS else normal_cdf)(op, x))


def _doubled_tanh_argument(op: Any, x: Any) -> Any:
    slope = 2 * math.sqrt(2 / math.pi)
    return op.Mul(x, op.Add(op.Mul(op.Mul(x, x), slope * 0.044715), slope))


def elu(op: Any, x: Any, alpha: float = 1.0, scale: float = 1.0, input_scale: float = 1.0) -> Any:
    """``scale · x``, and ``scale · α · (e^(x · input_scale) − 1)`` where x is not positive."""
    argument = op.Min(x, 0.0)
    argument = argument if input_scale == 1 else op.Mul(argument, float(input_scale))
    curved = expm1(op, argument)
    factor = alpha * scale
    curved = curved if factor == 1 else op.Mul(curved, float(factor))
    straight = x if scale == 1 else op.Mul(x, float(scale))
    return op.Where(op.Greater(x, 0.0), straight, curved)


def celu(op: Any, x: Any, alpha: float = 1.0) -> Any:
    """``x``, and ``α · (e^(x/α) − 1)`` where x is not positive."""
    return elu(op, x, alpha, 1.0, 1.0 / alpha)


def selu(op: Any, x: Any) -> Any:
    return elu(op, x, SELU_ALPHA, SELU_SCALE)


def leaky_relu(op: Any, x: Any, negative_slope: float = 0.01) -> Any:
    return op.Where(op.Greater(x, 0.0), x, op.Mul(x, float(negative_slope)))


def rrelu(op: Any, x: Any, lower: float = 1 / 8, upper: float = 1 / 3) -> Any:
    """Leaky ReLU with the mean slope: the randomised one in evaluation mode."""
    return leaky_relu(op, x, (lower + upper) / 2)


def hardtanh(op: Any, x: Any, min_val: float = -1.0, max_val: float = 1.0) -> Any:
    """``max(min_val, min(max_val, x))``.

    Torch's exporter merges Max and Min into a Clip, and gives the bounds of two Clips on one tensor
    the same name (onnxscript 0.7): the model is then invalid.
    """
    return op.Clip(x, float(min_val), float(max_val))


def hardsigmoid(op: Any, x: Any) -> Any:
    """``max(0, min(6, x + 3)) / 6``."""
    return op.Div(hardtanh(op, op.Add(x, 3.0), 0.0, 6.0), 6.0)


def hardswish(op: Any, x: Any) -> Any:
    return op.Mul(x, hardsigmoid(op, x))


def hardshrink(op: Any, x: Any, lambd: float = 0.5) -> Any:
    return op.Where(op.LessOrEqual(op.Abs(x), float(lambd)), 0.0, x)


def softshrink(op: Any, x: Any, lambd: float = 0.5) -> Any:
    """``x ∓ λ`` outside ``[−λ, λ]``, and 0 inside; NaN stays NaN."""
    left = op.Where(op.Less(x, -float(lambd)), op.Add(x, float(lambd)), op.Mul(x, 0.0))
    return op.Where(op.Greater(x, float(lambd)), op.Sub(x, float(lambd)), left)


def threshold(op: Any, x: Any, threshold: float, value: float) -> Any:
    return op.Where(op.LessOrEqual(x, float(threshold)), float(value), x)


def logit(op: Any, x: Any, eps: float | None = None) -> Any:
    """``log(x / (1 − x))``, of x clamped to ``[ε, 1 − ε]``; NaN stays NaN."""
    if eps is not None:
        least, greatest = float(eps), 1.0 - float(eps)
        below = op.Where(op.Greater(x, greatest), greatest, x)
        x = op.Where(op.Less(x, least), least, below)
    return op.Log(op.Div(x, op.Sub(1.0, x)))


def log2(op: Any, x: Any) -> Any:
    return op.Div(op.Log(x), math.log(2.0))


def log10(op: Any, x: Any) -> Any:
    return op.Div(op.Log(x), math.log(10.0))


def deg2rad(op: Any, x: Any) -> Any:
    return op.Mul(x, math.pi / 180)


def rad2deg(op: Any, x: Any) -> Any:
    return op.Mul(x, 180 / math.pi)
