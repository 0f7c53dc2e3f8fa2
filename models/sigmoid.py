"""The logistic sigmoid, which the gated activations are made of."""

from __future__ import annotations

from typing import Any

from gatewave.models.activation import Activation, Operator
from gatewave.models.bounds import GATED, TAILS


def value(op: Any, x: Any) -> Any:
    return op.Sigmoid(x)


def partials(op: Any, x: Any) -> tuple[Any]:
    """``σ(x) · σ(-x)``; ``σ(x) · (1 - σ(x))`` would cancel on the right."""
    return (op.Mul(op.Sigmoid(x), op.Sigmoid(op.Neg(x))),)


SIGMOID = Activation(
    name="sigmoid",
    title="Sigmoid",
    summary="The logistic function: from 0 to 1, and 1/2 at zero.",
    inputs=("x",),
    operators=(
        Operator(
            op_type="Sigmoid",
            formula="sigmoid(x)",
            module="gatewave.models.torch.sigmoid:Sigmoid",
            value=value,
            partials=partials,
            tolerances=GATED,
            derivative_tolerances=GATED,
        ),
    ),
    source="https://en.wikipedia.org/wiki/Logistic_function",
    example={"x": (-4.0, -1.0, 0.0, 0.5, 2.0)},
    plot_range=(-8.0, 8.0),
    properties=(
        "Rises everywhere, and σ(-x) = 1 - σ(x).",
        "0 at -∞ and 1 at +∞; its derivative is at most 1/4.",
    ),
    uses=("Gates in GLU, LSTM and attention; probabilities of independent labels.",),
    limits=(
        TAILS,
        "Saturates: float32 rounds it to 1 beyond x = 17.33, and gradients vanish on both sides.",
    ),
)
