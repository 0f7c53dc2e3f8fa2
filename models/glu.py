"""The gated linear unit, and its forms with no gate, a ReLU gate and a GELU gate.

Shazeer 2020 (https://arxiv.org/abs/2002.05202) names the family. The inputs are the two halves,
already apart; `torch.nn.functional.glu` takes them packed, in the same order.
"""

from __future__ import annotations

import math
from typing import Any

from gatewave.models.activation import Activation, Operator, Parameter
from gatewave.models.bounds import GATED, PRODUCT, SLOPE, TAILS
from gatewave.models.normal import normal_cdf

SHAZEER = "https://arxiv.org/abs/2002.05202"
EXAMPLE = {"a": (0.5, -1.0, 2.0, -2.0), "b": (1.0, -1.0, 0.5, 2.0)}

GELU_SLOPE = math.sqrt(2 / math.pi)
GELU_CUBIC = 0.044715
GELU_SATURATED = 30.0
"""Bound beyond which the tanh form's gate is 0 or 1 in every dtype, and its slope 0.

The argument of the sigmoid is 1974 there, and e^-1974 underflows in float64.
"""


def glu_value(op: Any, a: Any, b: Any) -> Any:
    return op.Mul(a, op.Sigmoid(b))


def glu_partials(op: Any, a: Any, b: Any) -> tuple[Any, Any]:
    gate = op.Sigmoid(b)
    return gate, op.Mul(a, op.Mul(gate, op.Sigmoid(op.Neg(b))))


def bilinear_value(op: Any, a: Any, b: Any) -> Any:
    return op.Mul(a, b)


def bilinear_partials(_: Any, a: Any, b: Any) -> tuple[Any, Any]:
    return b, a


def reglu_value(op: Any, a: Any, b: Any) -> Any:
    return op.Mul(op.Relu(a), b)


def reglu_partials(op: Any, a: Any, b: Any) -> tuple[Any, Any]:
    # A product with 0 or 1 would be NaN where b is infinite. The inner Where keeps a NaN of a.
    slope = op.Where(op.LessOrEqual(a, 0.0), 0.0, op.Where(op.Greater(a, 0.0), b, a))
    return slope, op.Relu(a)


def erf_value(op: Any, a: Any, b: Any) -> Any:
    return op.Mul(op.Mul(a, normal_cdf(op, a)), b)


def erf_partials(op: Any, a: Any, b: Any) -> tuple[Any, Any]:
    gate = normal_cdf(op, a)
    density = op.Mul(op.Exp(op.Mul(op.Mul(a, a), -0.5)), 1 / math.sqrt(2 * math.pi))
    return op.Mul(op.Add(gate, op.Mul(a, density)), b), op.Mul(a, gate)


def tanh_value(op: Any, a: Any, b: Any) -> Any:
    return op.Mul(op.Mul(a, op.Sigmoid(tanh_argument(op, a))), b)


def tanh_partials(op: Any, a: Any, b: Any) -> tuple[Any, Any]:
    argument = tanh_argument(op, a)
    gate = op.Sigmoid(argument)
    # Where the gate is flat its slope is 0, and a³ would overflow: 0 · ∞.
    clamped = op.Where(op.Greater(op.Abs(a), GELU_SATURATED), 0.0, a)
    rate = op.Add(op.Mul(op.Mul(clamped, clamped), 6 * GELU_SLOPE * GELU_CUBIC), 2 * GELU_SLOPE)
    gate_slope = op.Mul(op.Mul(gate, op.Sigmoid(op.Neg(argument))), rate)
    return op.Mul(op.Add(gate, op.Mul(clamped, gate_slope)), b), op.Mul(a, gate)


def tanh_argument(op: Any, a: Any) -> Any:
    """``2√(2/π)·(a + 0.044715a³)``: its sigmoid is ``(1 + tanh)/2``, without cancellation."""
    cubic = op.Mul(op.Mul(a, a), 2 * GELU_SLOPE * GELU_CUBIC)
    return op.Mul(a, op.Add(cubic, 2 * GELU_SLOPE))


def _operator(op_type: str, **rest: Any) -> Operator:
    bounds = {"tolerances": GATED, "derivative_tolerances": GATED}
    return Operator(op_type=op_type, **{**bounds, **rest})


PLAIN_GLU = Activation(
    name="glu",
    title="GLU",
    summary="A value, gated by the sigmoid of another.",
    inputs=("a", "b"),
    operators=(
        _operator(
            "GLU",
            formula="a*sigmoid(b)",
            module="gatewave.models.torch.glu:GLU",
            value=glu_value,
            partials=glu_partials,
            scale=("a",),
        ),
    ),
    source="https://arxiv.org/abs/1612.08083",
    example=EXAMPLE,
    plot_range=(-6.0, 6.0),
    properties=("Linear in the value a; the gate σ(b) is between 0 and 1.",),
    uses=("Gated convolutions: Dauphin's language models, the Conformer for speech.",),
    limits=(
        TAILS,
        "The value comes first and the gate second, as in Torch; in SwiGLU the gate is first.",
    ),
)

BILINEAR = Activation(
    name="bilinear",
    title="Bilinear",
    summary="The product of two values: a gated unit with no activation on its gate.",
    inputs=("a", "b"),
    operators=(
        _operator(
            "Bilinear",
            formula="a*b",
            module="gatewave.models.torch.glu:Bilinear",
            value=bilinear_value,
            partials=bilinear_partials,
            tolerances=PRODUCT,
            derivative_tolerances=PRODUCT,
        ),
    ),
    source=SHAZEER,
    example=EXAMPLE,
    plot_range=(-6.0, 6.0),
    properties=("Linear in each input; symmetric in both.",),
    uses=("A baseline for the gated family.",),
    limits=("Unbounded in both inputs: 16-bit floats overflow early.",),
)

REGLU = Activation(
    name="reglu",
    title="ReGLU",
    summary="A value, gated by the ReLU of another.",
    inputs=("a", "b"),
    operators=(
        _operator(
            "ReGLU",
            formula="relu(a)*b",
            module="gatewave.models.torch.glu:ReGLU",
            value=reglu_value,
            partials=reglu_partials,
            tolerances=PRODUCT,
            derivative_tolerances=PRODUCT,
        ),
    ),
    source=SHAZEER,
    example=EXAMPLE,
    plot_range=(-6.0, 6.0),
    properties=(
        "Exactly 0 where a ≤ 0 and b is finite: sparse.",
        "The derivative for a is taken as 0 at a = 0, as in Torch.",
    ),
    uses=("Feed-forward blocks whose sparsity is exploited at inference.",),
    limits=("Units whose a stays negative stop learning.",),
)

GEGLU = Activation(
    name="geglu",
    title="GeGLU",
    summary="A value, gated by the GELU of another.",
    inputs=("a", "b"),
    parameters=(
        Parameter(
            "approximate",
            "none",
            "The GELU's form: exact, with erf, or the tanh approximation.",
            choices=("none", "tanh"),
        ),
    ),
    operators=(
        _operator(
            "GeGLU",
            choice={"approximate": "none"},
            formula="a/2*(1 + erf(a/sqrt(2)))*b",
            module="gatewave.models.torch.glu:GeGLU",
            value=erf_value,
            partials=erf_partials,
            scale=("a", "b"),
        ),
        _operator(
            "GeGLUTanh",
            choice={"approximate": "tanh"},
            formula="a/2*(1 + tanh(sqrt(2/pi)*(a + Rational(44715, 1000000)*a**3)))*b",
            module="gatewave.models.torch.glu:GeGLU",
            value=tanh_value,
            partials=tanh_partials,
            derivative_tolerances=SLOPE,
            scale=("a", "b"),
        ),
    ),
    source=SHAZEER,
    example=EXAMPLE,
    plot_range=(-6.0, 6.0),
    properties=("Smooth; GELU(a) is a times the normal distribution function.",),
    uses=("The feed-forward blocks of T5 v1.1 and Gemma.",),
    limits=(
        TAILS,
        (
            "The two forms differ by up to 5e-4 · |b|: a model must be run with the one it was "
            "trained with."
        ),
    ),
)
