"""SwiGLU: the Swish of one half, gated by the other.

Two functions go by this name, and never may one pass for the other. The default, `gate="sigmoid"`,
puts the second input through a sigmoid. What language models such as Llama mean, and ONNX's
`SwiGLU`-28, is `gate="linear"`: the second input enters as it is.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from gatewave.models import swish
from gatewave.models.activation import Activation, Operator, Parameter
from gatewave.models.bounds import GATED, TAILS
from gatewave.models.symbols import Sigma, a, alpha, b
from gatewave.models.torch_ops import rounded_once


class SwiGLU(nn.Module):
    """``a·σ(a)·σ(b)``, or ``a·σ(αa)·b`` with ``gate="linear"``; equal shapes, any floating dtype.

    NaN at a = -∞, as in Torch: the limit is 0.

    Args:
        gate: Use of ``b``: through a sigmoid, or as it is.
        alpha: The slope of the linear form's sigmoid; the other form refuses it.

    Raises:
        ValueError: ``gate`` is another word, or ``alpha`` is set where there is none.

    Source: Shazeer 2020, https://arxiv.org/abs/2002.05202, for the linear form.
    """

    def __init__(self, gate: Literal["sigmoid", "linear"] = "sigmoid", alpha: float = 1.0) -> None:
        super().__init__()
        if gate not in ("sigmoid", "linear"):
            raise ValueError(f"gate must be 'sigmoid' or 'linear', not {gate!r}")
        if gate == "sigmoid" and alpha != 1.0:
            raise ValueError("alpha belongs to gate='linear': a·σ(a)·σ(b) has none")
        self.gate = gate
        self.alpha = alpha

    @rounded_once
    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        if self.gate == "sigmoid":
            return a * torch.sigmoid(a) * torch.sigmoid(b)
        return a * torch.sigmoid(self.alpha * a) * b


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
            formula=a * Sigma(a) * Sigma(b),
            module=SwiGLU,
            value=sigmoid_value,
            partials=sigmoid_partials,
            tolerances=GATED,
            derivative_tolerances=GATED,
            scale=("a",),
        ),
        Operator(
            op_type="SwiGLULinear",
            choice={"gate": "linear"},
            formula=a * Sigma(alpha * a) * b,
            module=SwiGLU,
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
