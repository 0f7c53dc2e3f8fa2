"""SwiGLU: the Swish of one half, gated by the other.

Two functions have this name, and must not be confused. The default, `gate="sigmoid"`,
puts the second input through a sigmoid. What language models such as Llama mean, and ONNX's
`SwiGLU`-28, is `gate="linear"`: the second input enters as it is.
"""

from __future__ import annotations

from typing import Any

from gatewave.models import swish
from gatewave.models.activation import Activation, Operator, Parameter
from gatewave.models.bounds import GATED, TAILS


def sigmoid_value(op: Any, a: Any, b: Any) -> Any:
    return op.Mul(op.Mul(a, op.Sigmoid(a)), op.Sigmoid(b))


def sigmoid_partials(op: Any, a: Any, b: Any) -> tuple[Any, Any]:
    gate = op.Sigmoid(b)
    gate_slope = op.Mul(gate, op.Sigmoid(op.Neg(b)))
    return (
        op.Mul(swish.slope(op, a), gate),
        op.Mul(op.Mul(a, op.Sigmoid(a)), gate_slope),
    )


def linear_value(op: Any, a: Any, b: Any, alpha: Any = 1.0) -> Any:
    return op.Mul(swish.value(op, a, alpha), b)


def linear_partials(op: Any, a: Any, b: Any, alpha: Any = 1.0) -> tuple[Any, Any]:
    (slope,) = swish.partials(op, a, alpha)
    return op.Mul(slope, b), swish.value(op, a, alpha)


SWIGLU = Activation(
    name="swiglu",
    title="SwiGLU",
    summary="The Swish of one input, gated by another: through a sigmoid, or linearly.",
    inputs=("a", "b"),
    parameters=(
        Parameter(
            "gate",
            "sigmoid",
            "How b enters: as σ(b), or as it is, which is what language models mean by SwiGLU.",
            choices=("sigmoid", "linear"),
        ),
        swish.ALPHA,
    ),
    operators=(
        Operator(
            op_type="SwiGLUSigmoid",
            choice={"gate": "sigmoid"},
            formula="a*sigmoid(a)*sigmoid(b)",
            module="gatewave.models.torch.swiglu:SwiGLU",
            value=sigmoid_value,
            partials=sigmoid_partials,
            tolerances=GATED,
            derivative_tolerances=GATED,
            scale=("a",),
        ),
        Operator(
            op_type="SwiGLULinear",
            choice={"gate": "linear"},
            formula="a*sigmoid(alpha*a)*b",
            module="gatewave.models.torch.swiglu:SwiGLU",
            value=linear_value,
            partials=linear_partials,
            tolerances=GATED,
            derivative_tolerances=GATED,
            scale=("a", "b"),
            reals=("alpha",),
        ),
    ),
    source="https://arxiv.org/abs/2002.05202",
    example={"a": (0.5, -1.0, 2.0, -2.0), "b": (1.0, -1.0, 0.0, 2.0)},
    plot_range=(-6.0, 6.0),
    properties=(
        "Smooth, and zero where a is zero.",
        "With the sigmoid gate |y| is at most |a|; with the linear gate y is linear in b.",
    ),
    uses=(
        "Linear gate: the feed-forward blocks of Llama, PaLM and their kin.",
        "Sigmoid gate: a bounded gate, where b is a learnt switch rather than a value.",
    ),
    limits=(
        TAILS,
        "Two formulas share the name: read the formula that comes with each answer.",
        "ONNX's SwiGLU (opset 28) is the linear form; ONNX Runtime 1.32 refuses it on CPU.",
        "At a = -∞ the product -∞ · 0 is NaN, as in Torch.",
    ),
)
