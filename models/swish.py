"""Swish, also called SiLU where α = 1: a value, gated by its own sigmoid."""

from __future__ import annotations

from typing import Any

from gatewave.models.activation import Activation, Operator, Parameter
from gatewave.models.bounds import GATED, TAILS

ALPHA = Parameter("alpha", 1.0, "The slope of the gate's sigmoid, α.")


def value(op: Any, x: Any, alpha: Any = 1.0) -> Any:
    return op.Mul(x, op.Sigmoid(op.Mul(x, alpha)))


def partials(op: Any, x: Any, alpha: Any = 1.0) -> tuple[Any]:
    argument = op.Mul(x, alpha)
    return (op.Add(op.Sigmoid(argument), op.Mul(gate_slope_times(op, x, argument), alpha)),)


def slope(op: Any, x: Any) -> Any:
    """The derivative of ``x · σ(x)``."""
    return op.Add(op.Sigmoid(x), gate_slope_times(op, x, x))


def gate_slope_times(op: Any, x: Any, argument: Any) -> Any:
    """``x · σ(u) · σ(-u)``, where the last two factors are the slope of the gate at ``u = αx``."""
    # The gates are multiplied first: they are 0 long before u overflows, and ∞ · 0 would be NaN.
    return op.Mul(x, op.Mul(op.Sigmoid(argument), op.Sigmoid(op.Neg(argument))))


SWISH = Activation(
    name="swish",
    title="Swish",
    summary="A value gated by its own sigmoid; SiLU where α = 1.",
    inputs=("x",),
    parameters=(ALPHA,),
    operators=(
        Operator(
            op_type="Swish",
            formula="x*sigmoid(alpha*x)",
            module="gatewave.models.torch.swish:Swish",
            value=value,
            partials=partials,
            tolerances=GATED,
            derivative_tolerances=GATED,
            scale=("x",),
            reals=("alpha",),
        ),
    ),
    source="https://arxiv.org/abs/1710.05941",
    example={"x": (-4.0, -1.0, 0.0, 0.5, 2.0)},
    plot_range=(-6.0, 6.0),
    properties=(
        "For α > 0: smooth, not monotonic; its least value is -0.278/α, at x = -1.278/α.",
        "For α > 0: tends to 0 on the left and to x on the right; the larger α, the nearer ReLU.",
        "For α = 0: x/2.",
    ),
    uses=("Convolutional networks such as EfficientNet and YOLO, where it replaces ReLU.",),
    limits=(
        TAILS,
        "At x = -∞ the product -∞ · 0 is NaN, as in Torch and ONNX; the limit is 0.",
        "ONNX has Swish since opset 24 only, and few runtimes run it; this graph needs opset 17.",
    ),
)
