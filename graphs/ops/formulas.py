"""The activations that ONNX has operators for, written in older and simpler ones.

`recognition` knows them by these formulas, and `lower` writes them. Each is a function of an
abstract ``op``, as the records' decompositions are, and computes in the precision of ``op``: 16-bit
tensors are cast to float32 before, and back after. Where a runtime fuses a form, the formula has
that form.
"""

from __future__ import annotations

import math
from typing import Any

from gatewave.models import glu, sinc, swish
from gatewave.models.activation import FLOAT32_BITS
from gatewave.models.elementary import expm1
from gatewave.models.normal import normal_cdf

SELU_ALPHA = 1.67326319217681884765625
SELU_GAMMA = 1.05070102214813232421875
"""Defaults of the attributes of `Selu`: the nearest float32, by ONNX's text."""
"""Default attributes of ONNX's `Selu`, which are float32."""

MISH_SATURATED = 20.0
"""Bound from which ``tanh(softplus(x))`` is 1 to the last bit of float64: it is 1 - 8.5e-18."""


def sigmoid(op: Any, x: Any) -> Any:
    """``1 / (1 + e⁻ˣ)``: where the exponential overflows, this is 0, as it should be."""
    return op.Div(1.0, op.Add(op.Exp(op.Neg(x)), 1.0))


def silu(op: Any, x: Any, alpha: float = 1.0) -> Any:
    """``x · σ(αx)``: ONNX's `Swish`, and QuickGelu by another name."""
    return op.Mul(x, op.Sigmoid(x)) if alpha == 1.0 else swish.value(op, x, alpha)


def unfused(op: Any, x: Any, gate: Any) -> Any:
    """``-(-x · gate)``: bitwise equal to ``x · gate``, since changing signs does not round.

    A runtime that looks for ``x · σ(αx)`` in order to fuse it does not find it.
    """
    return op.Neg(op.Mul(op.Neg(x), gate))


def cardinal_sine(op: Any, angle: Any, one: Any = 1.0) -> Any:
    """``sin(t) / t``, and 1 where ``t`` is next to 0: elsewhere that quotient, to the bit."""
    near = op.Less(op.Abs(angle), sinc.NEGLIGIBLE)
    return op.Where(near, one, op.Div(op.Sin(angle), op.Where(near, 1.0, angle)))


def swiglu(op: Any, a: Any, b: Any, alpha: float = 1.0) -> Any:
    """``a · σ(αa) · b``: ONNX's `SwiGLU`, the gate first."""
    return op.Mul(silu(op, a, alpha), b)


def gelu(op: Any, x: Any) -> Any:
    """``x · Φ(x)``, in float32 as ``½x(1 + erf(x/√2))``, the spelling that runtimes fuse."""
    if op.precision_bits == FLOAT32_BITS:
        gate = op.Add(op.Erf(op.Div(x, math.sqrt(2.0))), 1.0)
        return op.Mul(op.Mul(x, gate), 0.5)
    return op.Mul(x, normal_cdf(op, x))


def gelu_tanh(op: Any, x: Any) -> Any:
    """``½x(1 + tanh(√(2/π)(x + 0.044715x³)))`` by a sigmoid, without cancellation."""
    return op.Mul(x, op.Sigmoid(glu.tanh_argument(op, x)))


def mish(op: Any, x: Any) -> Any:
    """``x · tanh(softplus(x))``, which is ``x · n / (n + 2)`` with ``n = eˣ(eˣ + 2)``.

    The exponential is taken of numbers that do not overflow; beyond them the quotient is 1.
    """
    exp = op.Exp(op.Min(x, MISH_SATURATED))
    n = op.Mul(exp, op.Add(exp, 2.0))
    return op.Mul(x, op.Div(n, op.Add(n, 2.0)))


def hardsigmoid(op: Any, x: Any, alpha: float = 0.2, beta: float = 0.5) -> Any:
    """``max(0, min(1, αx + β))``."""
    line = op.Add(op.Mul(x, alpha), beta)
    return op.Max(op.Min(line, 1.0), 0.0)


def hardswish(op: Any, x: Any) -> Any:
    """``x · max(0, min(1, x/6 + ½))``."""
    return op.Mul(x, hardsigmoid(op, x, 1 / 6, 0.5))


def elu(op: Any, x: Any, alpha: float = 1.0) -> Any:
    """``α(eˣ - 1)`` below 0, ``x`` from 0 on."""
    grown = expm1(op, x)
    return op.Where(op.Less(x, 0.0), grown if alpha == 1.0 else op.Mul(grown, alpha), x)


def selu(op: Any, x: Any, alpha: float = SELU_ALPHA, gamma: float = SELU_GAMMA) -> Any:
    return op.Mul(elu(op, x, alpha), gamma)


def celu(op: Any, x: Any, alpha: float = 1.0) -> Any:
    """``max(0, x) + min(0, α(e^(x/α) - 1))``."""
    grown = op.Mul(expm1(op, op.Div(x, alpha)), alpha)
    return op.Add(op.Max(x, 0.0), op.Min(grown, 0.0))


def leaky_relu(op: Any, x: Any, alpha: Any = 0.01) -> Any:
    """``αx`` below 0, ``x`` from 0 on; α may be a tensor, as of PRelu."""
    return op.Where(op.Less(x, 0.0), op.Mul(x, alpha), x)


def thresholded_relu(op: Any, x: Any, alpha: Any = 1.0) -> Any:
    """``x`` where it is greater than α; 0 elsewhere, and for NaN.

    Source: Konda et al. 2014, arXiv 1402.3337.
    """
    return op.Where(op.Less(alpha, x), x, 0.0)


def softsign(op: Any, x: Any) -> Any:
    return op.Div(x, op.Add(op.Abs(x), 1.0))


def shrink(op: Any, x: Any, bias: float, lambd: float) -> Any:
    """``x + bias`` below -λ, ``x - bias`` above λ, 0 between, and for NaN."""
    raised, lowered = (op.Add(x, bias), op.Sub(x, bias)) if bias else (x, x)
    above = op.Where(op.Less(lambd, x), lowered, 0.0)
    return op.Where(op.Less(x, -lambd), raised, above)


def swiglu_clamped(
    op: Any, gate: Any, up: Any, *, alpha: float = 1.0, beta: float = 0.0, limit: float = 0.0
) -> Any:
    """``g · σ(αg) · (l + β)`` with ``g = min(gate, limit)``, ``l = max(-limit, min(up, limit))``.

    This is `com.microsoft::SwiGLU`; a limit of 0 or less is no limit.
    """
    if limit > 0:
        gate, up = op.Min(gate, limit), op.Max(op.Min(up, limit), -limit)
    return op.Mul(silu(op, gate, alpha), op.Add(up, beta) if beta else up)


def cosine(op: Any, x: Any) -> Any:
    """``1 − 2 sin²(x/2)``, to an absolute error of a few units in the last place of 1."""
    half = op.Sin(op.Mul(x, 0.5))
    return op.Sub(1.0, op.Mul(op.Mul(half, half), 2.0))


def erfc(op: Any, z: Any) -> Any:
    """``1 - erf(z)``, to an absolute error of a few units in the last place of 1.

    tf2onnx writes TensorFlow's GELU with an operator `Erfc`, which ONNX does not have.
    """
    if op.precision_bits == FLOAT32_BITS:
        return op.Sub(1.0, op.Erf(z))
    return op.Mul(normal_cdf(op, op.Mul(z, -math.sqrt(2.0))), 2.0)


def floor(op: Any, x: Any) -> Any:
    return op.Neg(op.Ceil(op.Neg(x)))


def nearest(op: Any, x: Any) -> Any:
    """The nearest integer, and the even one of two: ONNX's `Round`.

    From 2²³ on, all numbers of float32 are integers, and ``x - 0.5`` is not representable.
    """
    low = op.Ceil(op.Sub(x, 0.5))
    half = op.Mul(low, 0.5)
    is_odd = op.Sub(op.Ceil(half), half)  # a half, or 0
    is_tie = op.Equal(op.Sub(x, low), 0.5)
    even = op.Where(is_tie, op.Add(low, op.Mul(is_odd, 2.0)), low)
    return op.Where(op.Less(op.Abs(x), 2.0 ** (op.precision_bits - 1)), even, x)


def sign(op: Any, x: Any) -> Any:
    """1, -1, or, if it is 0 or NaN, ``x`` itself."""
    return op.Where(op.Less(x, 0.0), -1.0, op.Where(op.Less(0.0, x), 1.0, x))
